/* pool.h - the process's one thread pool: a parallel for over task numbers.
 *
 * Everything the CPU backend runs in parallel goes through here, so that GStreamer's
 * threads compete with one set of workers, whatever the number of models and sessions.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* A user may ask for any number of threads; each costs memory and is never given back. */
#define VALLEY_POOL_MAX_THREADS 256

typedef void (*ValleyTaskFunc) (gsize task, gpointer data);

/* Runs @func for every task in 0 ... n_tasks - 1 on the calling thread and up to
 * @n_threads - 1 workers (@n_threads above VALLEY_POOL_MAX_THREADS counts as that), and
 * returns when all are done.  Tasks are claimed in order, one at a time.  Once *@cancelled is
 * set (NULL: never) no further task starts.
 * One call runs at a time; others wait.  A task must not call it again. */
void valley_pool_run (guint n_threads, gsize n_tasks, const gint *cancelled, ValleyTaskFunc func,
                      gpointer data);

/* At least @bytes of 64-byte aligned memory that belongs to the calling thread until its
 * next call; contents are undefined.  NULL when memory is short. */
gpointer valley_pool_scratch (gsize bytes);

/* One a core that this process may run on. */
guint valley_pool_default_threads (void);
