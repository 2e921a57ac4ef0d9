/* memory.c - the device's memory: plain allocations, kept for reuse.
 *
 * Freeing waits for nothing: a block remembers the stream that used it last, and the next user's
 * stream waits for that one.  Sizes are rounded, so that rows a few more or fewer find a block.
 * When the device has no more, what is idle goes back first.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#define LEAST_BYTES ((gsize) 512)
#define STEPS 8 /* sizes from one power of two to the next: at most an eighth is lost */

/* 0 when there is no such size. */
static gsize
rounded (gsize bytes)
{
  for (gsize octave = LEAST_BYTES; octave <= G_MAXSIZE / 4; octave *= 2)
    for (gsize step = 0; step < STEPS; step++)
      if (octave + step * (octave / STEPS) >= bytes)
        return octave + step * (octave / STEPS);
  return 0;
}

static void
free_queue (gpointer queue)
{
  g_queue_free (queue);
}

void
valley_gpu_pool_init (ValleyGpu *gpu)
{
  g_mutex_init (&gpu->pool.lock);
  gpu->pool.idle = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, free_queue);
}

static void
block_free (ValleyMemory *memory, gboolean lost)
{
  if (!lost)
    cudaFree (memory->data);
  valley_gpu_clock_unref (memory->clock);
  g_free (memory);
}

/* Under the lock. */
static GQueue *
queue_of (ValleyGpuPool *pool, gsize bytes)
{
  gint64 key = (gint64) bytes;
  GQueue *queue = g_hash_table_lookup (pool->idle, &key);

  if (queue == NULL) {
    queue = g_queue_new ();
    g_hash_table_insert (pool->idle, g_memdup2 (&key, sizeof key), queue);
  }
  return queue;
}

/* Everything that is idle. */
static GQueue
take_all (ValleyGpuPool *pool)
{
  GQueue all = G_QUEUE_INIT;
  GHashTableIter i;
  gpointer queue;

  g_mutex_lock (&pool->lock);
  g_hash_table_iter_init (&i, pool->idle);
  while (g_hash_table_iter_next (&i, NULL, &queue))
    while (!g_queue_is_empty (queue))
      g_queue_push_tail (&all, g_queue_pop_tail (queue));
  pool->idle_bytes = 0;
  g_mutex_unlock (&pool->lock);
  return all;
}

void
valley_gpu_pool_trim (ValleyGpu *gpu)
{
  gboolean lost = g_atomic_int_get (&gpu->parent.lost);
  GQueue all = take_all (&gpu->pool);
  ValleyMemory *memory;

  while ((memory = g_queue_pop_tail (&all)) != NULL) {
    if (!lost && memory->clock != NULL)
      lost = valley_gpu_check_lost (gpu, valley_gpu_clock_wait (NULL, memory->clock));
    block_free (memory, lost);
  }
}

gboolean
valley_gpu_make_room (ValleyGpu *gpu, int error)
{
  if (error != cudaErrorMemoryAllocation)
    return FALSE;
  cudaGetLastError ();
  valley_gpu_pool_trim (gpu);
  return TRUE;
}

void
valley_gpu_pool_clear (ValleyGpu *gpu)
{
  valley_gpu_pool_trim (gpu);
  g_hash_table_unref (gpu->pool.idle);
  g_mutex_clear (&gpu->pool.lock);
}

/* ---- taking ---- */

/* Whoever used it was waited for since. */
static gboolean
is_settled (const ValleyMemory *memory)
{
  return memory->clock == NULL
         || memory->given_back != g_atomic_int_get (&memory->clock->n_finished);
}

/* The block that this thread's stream used last needs no waiting, nor one that is settled; else
 * any, for whom waiting is no matter. */
static GList *
best_of (GQueue *queue, const ValleyGpuClock *current)
{
  GList *settled = NULL;

  for (GList *link = queue->tail; link != NULL; link = link->prev)
    if (((ValleyMemory *) link->data)->clock == current)
      return link;
    else if (settled == NULL && is_settled (link->data))
      settled = link;
  return settled != NULL || current == NULL || current->urgent ? settled : queue->tail;
}

static ValleyMemory *
take_idle (ValleyGpuPool *pool, gsize bytes, const ValleyGpuClock *current)
{
  ValleyMemory *memory = NULL;
  GQueue *queue;
  GList *link;

  g_mutex_lock (&pool->lock);
  queue = queue_of (pool, bytes);
  link = best_of (queue, current);
  if (link != NULL) {
    memory = link->data;
    g_queue_delete_link (queue, link);
    pool->idle_bytes -= memory->bytes;
  }
  g_mutex_unlock (&pool->lock);
  if (memory != NULL && memory->clock != current && is_settled (memory))
    g_clear_pointer (&memory->clock, valley_gpu_clock_unref);
  return memory;
}

/* What was freed earlier in the same recording. */
static ValleyMemory *
take_spare (ValleyGpuClock *clock, gsize bytes)
{
  for (GList *link = clock->spare.tail; link != NULL; link = link->prev) {
    ValleyMemory *memory = link->data;

    if (memory->bytes == bytes) {
      g_queue_delete_link (&clock->spare, link);
      return memory;
    }
  }
  return NULL;
}

static ValleyMemory *
allocate (ValleyGpu *gpu, gsize bytes)
{
  ValleyMemory *memory = NULL;
  void *data = NULL;
  int error;

  valley_gpu_enter (gpu);
  error = cudaMalloc (&data, bytes);
  if (valley_gpu_make_room (gpu, error))
    error = cudaMalloc (&data, bytes);
  if (error == cudaSuccess) {
    memory = g_new0 (ValleyMemory, 1);
    memory->data = data;
    memory->bytes = bytes;
  } else {
    valley_gpu_check_lost (gpu, error);
  }
  valley_gpu_leave (gpu);
  return memory;
}

ValleyMemory *
valley_gpu_memory_new (ValleyBackend *backend, gsize bytes)
{
  ValleyGpu *gpu = valley_gpu (backend);
  ValleyGpuClock *current = valley_gpu_clock_current ();
  ValleyMemory *memory = NULL;

  bytes = rounded (bytes);
  if (bytes == 0 || g_atomic_int_get (&backend->lost))
    return NULL;
  if (current != NULL && current->recording)
    memory = take_spare (current, bytes);
  if (memory == NULL)
    memory = take_idle (&gpu->pool, bytes, current);
  return memory != NULL ? memory : allocate (gpu, bytes);
}

ValleyMemory *
valley_gpu_memory_new_weight (ValleyGpu *gpu, gsize bytes)
{
  ValleyMemory *memory = allocate (gpu, MAX (bytes, 1));

  if (memory != NULL)
    memory->is_weight = TRUE;
  return memory;
}

/* ---- giving back ---- */

void
valley_gpu_memory_free (ValleyBackend *backend, ValleyMemory *memory)
{
  ValleyGpu *gpu = valley_gpu (backend);
  ValleyGpuClock *current = valley_gpu_clock_current ();

  if (memory == NULL)
    return;
  if (memory->is_weight || g_atomic_int_get (&backend->lost)) {
    valley_gpu_enter (gpu);
    if (!g_atomic_int_get (&backend->lost)) /* loading that was broken off may still be writing */
      valley_gpu_check_lost (gpu, valley_gpu_finish_loading (gpu));
    block_free (memory, g_atomic_int_get (&backend->lost));
    valley_gpu_leave (gpu);
  } else if (memory->clock != NULL && memory->clock == current && current->recording) {
    g_queue_push_tail (&current->spare, memory); /* its address may be in the graph */
  } else {
    if (memory->clock != NULL)
      memory->given_back = g_atomic_int_get (&memory->clock->n_finished);
    g_mutex_lock (&gpu->pool.lock);
    g_queue_push_tail (queue_of (&gpu->pool, memory->bytes), memory);
    gpu->pool.idle_bytes += memory->bytes;
    g_mutex_unlock (&gpu->pool.lock);
  }
}

/* ---- using ---- */

int
valley_gpu_memory_use (ValleyGpuStream *stream, ValleyMemory *memory)
{
  ValleyGpuClock *before = memory->clock;
  int error = cudaSuccess;

  if (memory->is_weight)
    return valley_gpu_finish_loading (valley_gpu (stream->parent.backend));
  if (before == stream->clock)
    return cudaSuccess;
  if (before != NULL)
    error = valley_gpu_clock_wait (stream->clock, before);
  memory->clock = valley_gpu_clock_ref (stream->clock);
  valley_gpu_clock_unref (before);
  return error;
}

gboolean
valley_gpu_memory_info (ValleyBackend *backend, gsize *available, gsize *total)
{
  ValleyGpu *gpu = valley_gpu (backend);
  int error;

  valley_gpu_enter (gpu);
  error = cudaMemGetInfo (available, total);
  valley_gpu_leave (gpu);
  if (error != cudaSuccess)
    return FALSE;
  g_mutex_lock (&gpu->pool.lock);
  *available += gpu->pool.idle_bytes;
  g_mutex_unlock (&gpu->pool.lock);
  return TRUE;
}
