/* memory.c - the CPU's tensors live here: aligned blocks, kept for the next taker.
 *
 * A forward pass allocates the same few sizes over and over; fresh pages from the kernel
 * would cost more than many of the operations on them.  Sizes are rounded up to a quarter of
 * their power of two, so that nearly equal ones share blocks.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "internal.h"

#include <stdlib.h>

#define MAX_IDLE_BLOCKS 64
#define MAX_IDLE_BYTES ((gsize) 256 << 20)

static gsize
round_up_size (gsize bytes)
{
  gsize step = 4096;

  while (step < bytes / 8)
    step *= 2;
  return bytes > G_MAXSIZE - step ? 0 : MAX (1, (bytes + step - 1) / step) * step;
}

static ValleyMemory *
take_idle (ValleyCpuBackend *cpu, gsize capacity)
{
  ValleyMemory *found = NULL;

  g_mutex_lock (&cpu->lock);
  for (GList *l = cpu->idle.head; l != NULL; l = l->next)
    if (((ValleyMemory *) l->data)->capacity == capacity) {
      found = l->data;
      cpu->idle_bytes -= capacity;
      g_queue_delete_link (&cpu->idle, l);
      break; /* the link is gone */
    }
  g_mutex_unlock (&cpu->lock);
  return found;
}

ValleyMemory *
valley_cpu_memory_new (ValleyBackend *backend, gsize bytes)
{
  gsize capacity = round_up_size (bytes);
  ValleyMemory *memory;
  gpointer data;

  if (capacity == 0)
    return NULL;
  memory = take_idle ((ValleyCpuBackend *) backend, capacity);
  if (memory == NULL) {
    data = valley_alloc_aligned (capacity);
    if (data == NULL)
      return NULL;
    memory = g_new0 (ValleyMemory, 1);
    memory->data = data;
    memory->capacity = capacity;
  }
  memory->bytes = bytes;
  return memory;
}

ValleyMemory *
valley_cpu_memory_borrow (gconstpointer data, gsize bytes)
{
  ValleyMemory *memory = g_new0 (ValleyMemory, 1);

  memory->data = (guint8 *) data;
  memory->bytes = bytes;
  return memory;
}

/* Frees the oldest idle blocks until @keep_bytes are left. */
void
valley_cpu_memory_trim (ValleyCpuBackend *cpu, gsize keep_bytes)
{
  g_mutex_lock (&cpu->lock);
  while (cpu->idle_bytes > keep_bytes || cpu->idle.length > MAX_IDLE_BLOCKS) {
    ValleyMemory *memory = g_queue_pop_tail (&cpu->idle);

    cpu->idle_bytes -= memory->capacity;
    free (memory->data);
    g_free (memory);
  }
  g_mutex_unlock (&cpu->lock);
}

void
valley_cpu_memory_free (ValleyBackend *backend, ValleyMemory *memory)
{
  ValleyCpuBackend *cpu = (ValleyCpuBackend *) backend;

  if (memory == NULL)
    return;
  if (memory->capacity == 0) {
    g_free (memory);
    return;
  }
  g_mutex_lock (&cpu->lock);
  g_queue_push_head (&cpu->idle, memory);
  cpu->idle_bytes += memory->capacity;
  g_mutex_unlock (&cpu->lock);
  valley_cpu_memory_trim (cpu, MAX_IDLE_BYTES);
}

gpointer
valley_cpu_stream_scratch (ValleyStream *stream, gsize bytes)
{
  ValleyCpuStream *cpu = (ValleyCpuStream *) stream;
  gpointer fresh;

  if (bytes <= cpu->scratch_bytes)
    return cpu->scratch;
  free (cpu->scratch);
  cpu->scratch = NULL;
  cpu->scratch_bytes = 0;
  fresh = valley_alloc_aligned (bytes);
  if (fresh == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY,
                        "not enough memory for %" G_GSIZE_FORMAT " bytes of scratch", bytes);
    return NULL;
  }
  cpu->scratch = fresh;
  cpu->scratch_bytes = bytes;
  return fresh;
}
