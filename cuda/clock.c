/* clock.c - how streams wait for one another.
 *
 * Nobody records events in advance: who takes over memory has one recorded in the stream that used
 * it last, unless that stream's thread has waited for everything since.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

ValleyGpuClock *
valley_gpu_clock_new (gboolean urgent, int *error)
{
  ValleyGpuClock *clock = g_new0 (ValleyGpuClock, 1);
  int least = 0, greatest = 0;

  clock->refs = 1;
  clock->urgent = urgent;
  g_mutex_init (&clock->lock);
  g_queue_init (&clock->spare);
  *error = cudaDeviceGetStreamPriorityRange (&least, &greatest);
  if (*error == cudaSuccess)
    *error = cudaStreamCreateWithPriority (&clock->stream, cudaStreamNonBlocking,
                                           urgent ? greatest : least);
  if (*error == cudaSuccess)
    *error = cudaEventCreateWithFlags (&clock->tail, VALLEY_GPU_EVENT);
  return clock;
}

ValleyGpuClock *
valley_gpu_clock_ref (ValleyGpuClock *clock)
{
  g_atomic_int_inc (&clock->refs);
  return clock;
}

void
valley_gpu_clock_unref (ValleyGpuClock *clock)
{
  if (clock == NULL || !g_atomic_int_dec_and_test (&clock->refs))
    return;
  g_mutex_clear (&clock->lock);
  g_free (clock);
}

void
valley_gpu_clock_stop (ValleyGpuClock *clock, gboolean lost)
{
  cudaStream_t stream;

  g_mutex_lock (&clock->lock);
  stream = clock->stream;
  clock->stream = NULL;
  g_mutex_unlock (&clock->lock);
  if (lost)
    return;
  if (stream != NULL)
    cudaStreamDestroy (stream);
  if (clock->tail != NULL)
    cudaEventDestroy (clock->tail);
}

/* ---- whose this thread is ---- */

static void
drop_current (gpointer clock)
{
  valley_gpu_clock_unref (clock);
}

static GPrivate current = G_PRIVATE_INIT (drop_current);

ValleyGpuClock *
valley_gpu_clock_current (void)
{
  return g_private_get (&current);
}

void
valley_gpu_clock_make_current (ValleyGpuClock *clock)
{
  if (g_private_get (&current) != clock)
    g_private_replace (&current, clock != NULL ? valley_gpu_clock_ref (clock) : NULL);
}

/* ---- waiting ---- */

int
valley_gpu_clock_wait (ValleyGpuClock *clock, ValleyGpuClock *other)
{
  int error = cudaSuccess;

  g_mutex_lock (&other->lock);
  if (other->stream != NULL && g_atomic_int_get (&other->busy)) {
    /* what is being recorded does not run; the event of when recording began covers the rest */
    if (!other->recording)
      error = cudaEventRecord (other->tail, other->stream);
    if (error == cudaSuccess) /* an event from outside cannot be recorded */
      error = clock == NULL || clock->recording
                  ? cudaEventSynchronize (other->tail)
                  : cudaStreamWaitEvent (clock->stream, other->tail, 0);
  }
  g_mutex_unlock (&other->lock);
  return error;
}

int
valley_gpu_clock_finish (ValleyGpuClock *clock)
{
  int error = cudaStreamSynchronize (clock->stream);

  if (error == cudaSuccess) {
    g_atomic_int_set (&clock->busy, FALSE);
    g_atomic_int_inc (&clock->n_finished);
  }
  return error;
}
