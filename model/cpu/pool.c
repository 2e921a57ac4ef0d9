/* pool.c - see pool.h.
 *
 * A call publishes a job, wakes the workers it wants and takes tasks itself until none are
 * left.  Who has nothing to do looks for a moment before it sleeps: a decoder layer is a dozen
 * short jobs in a row, and waking a thread costs more than some of them.
 *
 * fork: the child has the parent's memory but none of its workers, so a pool that another
 * process made is left behind and a new one begun.
 *
 * The locks are pthread's: ThreadSanitizer does not see what GLib's do inside the library.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* sched_getaffinity */
#include "pool.h"

#include "alloc.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define SPINS 2000 /* some tens of microseconds */

typedef struct _Pool Pool;
struct _Pool {
  pid_t pid;
  Pool *inherited;          /* the parent process's, useless here; kept so that it is no leak */
  pthread_mutex_t run_lock; /* held by the one call that is running */
  pthread_mutex_t lock;     /* guards the fields down to the blank line */
  pthread_cond_t wake, done;
  GPtrArray *threads;
  guint wanted; /* workers that may still join the current job */
  gint busy;    /* atomic: workers inside it; changes with the lock held */
  gboolean quit;

  gint generation; /* atomic: grows with every job that wants workers */

  /* the current job */
  gsize n_tasks;
  gsize next; /* atomic */
  const gint *cancelled;
  ValleyTaskFunc func;
  gpointer data;
};

static Pool *the_pool; /* atomic */

static inline void
pause_briefly (void)
{
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause ();
#endif
}

static void
run_tasks (Pool *pool)
{
  for (;;) {
    gsize task;

    if (pool->cancelled != NULL && g_atomic_int_get (pool->cancelled))
      return;
    task = __atomic_fetch_add (&pool->next, 1, __ATOMIC_RELAXED);
    if (task >= pool->n_tasks)
      return;
    pool->func (task, pool->data);
  }
}

static void
spin_for_job (Pool *pool, gint seen)
{
  for (guint i = 0; i < SPINS && g_atomic_int_get (&pool->generation) == seen; i++)
    pause_briefly ();
}

/* The last tasks end at about the same time, as they are taken one by one. */
static void
spin_for_workers (Pool *pool)
{
  for (guint i = 0; i < SPINS && g_atomic_int_get (&pool->busy) > 0; i++)
    pause_briefly ();
}

static gpointer
worker (gpointer data)
{
  Pool *pool = data;

  pthread_mutex_lock (&pool->lock);
  while (!pool->quit) {
    if (pool->wanted > 0) {
      pool->wanted--;
      g_atomic_int_inc (&pool->busy);
      pthread_mutex_unlock (&pool->lock);
      run_tasks (pool);
      pthread_mutex_lock (&pool->lock);
      if (g_atomic_int_dec_and_test (&pool->busy))
        pthread_cond_signal (&pool->done);
    } else {
      gint seen = g_atomic_int_get (&pool->generation);

      pthread_mutex_unlock (&pool->lock);
      spin_for_job (pool, seen);
      pthread_mutex_lock (&pool->lock);
      while (!pool->quit && pool->wanted == 0 && g_atomic_int_get (&pool->generation) == seen)
        pthread_cond_wait (&pool->wake, &pool->lock);
    }
  }
  pthread_mutex_unlock (&pool->lock);
  return NULL;
}

static Pool *
get_pool (void)
{
  pid_t pid = getpid ();
  Pool *pool = __atomic_load_n (&the_pool, __ATOMIC_ACQUIRE);
  Pool *fresh;

  if (pool != NULL && pool->pid == pid)
    return pool;
  fresh = g_new0 (Pool, 1);
  fresh->pid = pid;
  fresh->inherited = pool;
  fresh->threads = g_ptr_array_new ();
  pthread_mutex_init (&fresh->run_lock, NULL);
  pthread_mutex_init (&fresh->lock, NULL);
  pthread_cond_init (&fresh->wake, NULL);
  pthread_cond_init (&fresh->done, NULL);
  if (__atomic_compare_exchange_n (&the_pool, &pool, fresh, FALSE, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE))
    return fresh;
  g_ptr_array_unref (fresh->threads); /* another thread was first */
  g_free (fresh);
  return pool;
}

/* With pool->lock held.  Fewer threads than asked for is no error: the caller works too. */
static void
grow (Pool *pool, guint n_workers)
{
  while (!pool->quit && pool->threads->len < n_workers) {
    GThread *thread = g_thread_try_new ("valley-pool", worker, pool, NULL);

    if (thread == NULL)
      return;
    g_ptr_array_add (pool->threads, thread);
  }
}

void
valley_pool_run (guint n_threads, gsize n_tasks, const gint *cancelled, ValleyTaskFunc func,
                 gpointer data)
{
  gsize threads = CLAMP (n_threads, 1, VALLEY_POOL_MAX_THREADS);
  guint helpers = (guint) MIN (threads, MAX (n_tasks, 1)) - 1;
  Pool *pool;

  if (helpers == 0) {
    for (gsize i = 0; i < n_tasks && (cancelled == NULL || !g_atomic_int_get (cancelled)); i++)
      func (i, data);
    return;
  }

  pool = get_pool ();
  pthread_mutex_lock (&pool->run_lock);
  pthread_mutex_lock (&pool->lock);
  grow (pool, helpers);
  pool->n_tasks = n_tasks;
  __atomic_store_n (&pool->next, 0, __ATOMIC_RELAXED);
  pool->cancelled = cancelled;
  pool->func = func;
  pool->data = data;
  pool->wanted = MIN (helpers, pool->threads->len);
  g_atomic_int_inc (&pool->generation);
  pthread_cond_broadcast (&pool->wake);
  pthread_mutex_unlock (&pool->lock);

  run_tasks (pool);
  spin_for_workers (pool);

  pthread_mutex_lock (&pool->lock);
  pool->wanted = 0; /* whoever has not come by now need not */
  while (g_atomic_int_get (&pool->busy) > 0)
    pthread_cond_wait (&pool->done, &pool->lock);
  pthread_mutex_unlock (&pool->lock);
  pthread_mutex_unlock (&pool->run_lock);
}

/* Workers end before the process does, so that checkers see every thread joined. */
static void __attribute__ ((destructor)) join_workers (void)
{
  Pool *pool = __atomic_load_n (&the_pool, __ATOMIC_ACQUIRE);

  if (pool == NULL || pool->pid != getpid ())
    return;
  pthread_mutex_lock (&pool->lock);
  pool->quit = TRUE;
  g_atomic_int_inc (&pool->generation);
  pthread_cond_broadcast (&pool->wake);
  pthread_mutex_unlock (&pool->lock);
  for (guint i = 0; i < pool->threads->len; i++)
    g_thread_join (g_ptr_array_index (pool->threads, i));
  g_ptr_array_set_size (pool->threads, 0);
}

typedef struct {
  gpointer memory;
  gsize bytes;
} Scratch;

static void
scratch_free (gpointer data)
{
  Scratch *scratch = data;

  free (scratch->memory);
  g_free (scratch);
}

gpointer
valley_pool_scratch (gsize bytes)
{
  static GPrivate key = G_PRIVATE_INIT (scratch_free);
  Scratch *scratch = g_private_get (&key);

  if (scratch == NULL) {
    scratch = g_new0 (Scratch, 1);
    g_private_set (&key, scratch);
  }
  if (bytes > scratch->bytes) {
    free (scratch->memory);
    *scratch = (Scratch){ 0 };
    scratch->memory = valley_alloc_aligned (bytes);
    if (scratch->memory == NULL)
      return NULL;
    scratch->bytes = bytes;
  }
  return scratch->memory;
}

guint
valley_pool_default_threads (void)
{
  cpu_set_t set;

  if (sched_getaffinity (0, sizeof set, &set) == 0)
    return MAX (1, (guint) CPU_COUNT (&set));
  return MAX (1, g_get_num_processors ());
}
