/* test-pool.c - the thread pool: every task once, callers side by side, cancelling, fork.
 * SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "compare.h"

#include <sys/wait.h>
#include <unistd.h>

typedef struct {
  gsize n_tasks;
  gint *counts; /* atomic, one a task */
  gint started; /* atomic */
  gint cancel_at;
  gint cancelled; /* atomic */
  gint late;      /* atomic: tasks that began after that */
} Job;

static void
count (gsize task, gpointer data)
{
  Job *job = data;

  g_assert_cmpuint (task, <, job->n_tasks);
  if (g_atomic_int_get (&job->cancelled))
    g_atomic_int_inc (&job->late);
  g_atomic_int_inc (&job->counts[task]);
  if (g_atomic_int_add (&job->started, 1) + 1 == job->cancel_at)
    g_atomic_int_set (&job->cancelled, 1);
}

static void
check_run (guint threads, gsize n_tasks)
{
  g_autofree gint *counts = g_new0 (gint, n_tasks + 1);
  Job job = { .n_tasks = n_tasks, .counts = counts };

  valley_pool_run (threads, n_tasks, NULL, count, &job);
  for (gsize i = 0; i < n_tasks; i++)
    g_assert_cmpint (g_atomic_int_get (&counts[i]), ==, 1);
}

static void
test_every_task_once (void)
{
  for (guint i = 0; i < 3000; i++)
    check_run (g_rand_int_range (rng, 0, 6), g_rand_int_range (rng, 0, 40));
}

static gpointer
caller (gpointer data)
{
  for (guint i = 0; i < 1000; i++)
    check_run (1 + GPOINTER_TO_UINT (data) % 4, 1 + i % 17);
  return NULL;
}

static guint
count_threads (void)
{
  g_autoptr (GDir) tasks = g_dir_open ("/proc/self/task", 0, NULL);
  guint n = 0;

  while (tasks != NULL && g_dir_read_name (tasks) != NULL)
    n++;
  return n;
}

/* However many are asked for, by a slip or to harm. */
static void
test_most_threads (void)
{
  check_run (VALLEY_POOL_MAX_THREADS + 100, VALLEY_POOL_MAX_THREADS + 200);
  g_assert_cmpuint (count_threads (), <=, VALLEY_POOL_MAX_THREADS + 1); /* GLib may have one */
}

static void
test_many_callers (void)
{
  GThread *threads[5];

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("caller", caller, GUINT_TO_POINTER (i));
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
}

static void
test_cancel (void)
{
  enum { TASKS = 10000 };
  g_autofree gint *counts = g_new0 (gint, TASKS);

  for (guint threads = 1; threads <= 4; threads++) {
    Job job = { .n_tasks = TASKS, .counts = counts, .cancel_at = 10 };

    valley_pool_run (threads, TASKS, &job.cancelled, count, &job);
    g_assert_cmpint (job.started, >=, 10);
    g_assert_cmpint (job.late, <, (gint) threads); /* one a thread may be on its way */
    job.started = 0;
    valley_pool_run (threads, TASKS, &job.cancelled, count, &job); /* cancelled before it begins */
    g_assert_cmpint (job.started, ==, 0);
  }
}

/* A child has no workers until it makes its own. */
static void
test_fork (void)
{
  pid_t child;
  int status;

  if (SANITIZED) {
    g_test_skip ("ThreadSanitizer does not follow threads of a forked child");
    return;
  }
  check_run (3, 20);
  child = fork ();
  g_assert_cmpint (child, >=, 0);
  if (child == 0) {
    check_run (3, 20);
    check_run (2, 5);
    _exit (0);
  }
  g_assert_cmpint (waitpid (child, &status, 0), ==, child);
  g_assert_true (WIFEXITED (status) && WEXITSTATUS (status) == 0);
  check_run (3, 20);
}

static void
use_scratch (gsize task, gpointer data)
{
  gsize bytes = 1000 * (task % 7 + 1);
  guint8 *scratch = valley_pool_scratch (bytes);

  g_assert_nonnull (scratch);
  g_assert_cmpuint ((gsize) scratch % 64, ==, 0);
  memset (scratch, (int) task, bytes); /* another thread's would show here */
  g_usleep (50);
  for (gsize i = 0; i < bytes; i++)
    g_assert_cmpuint (scratch[i], ==, (guint8) task);
}

static void
test_scratch (void)
{
  valley_pool_run (3, 200, NULL, use_scratch, NULL);
  if (!SANITIZED)
    g_assert_null (valley_pool_scratch (G_MAXSSIZE)); /* more than there is: no crash */
  valley_pool_run (3, 10, NULL, use_scratch, NULL);
  g_assert_cmpuint (valley_pool_default_threads (), >=, 1);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init ("pool");
  g_test_add_func ("/pool/every-task-once", test_every_task_once);
  g_test_add_func ("/pool/many-callers", test_many_callers);
  g_test_add_func ("/pool/cancel", test_cancel);
  g_test_add_func ("/pool/fork", test_fork);
  g_test_add_func ("/pool/scratch", test_scratch);
  g_test_add_func ("/pool/most-threads", test_most_threads);
  return g_test_run ();
}
