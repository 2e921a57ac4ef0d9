/* kvcache.c - one sequence's keys and values: growing, writing, rolling back.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kvcache.h"

#include "alloc.h"

#define MIN_ROWS ((gsize) 256)

gboolean
valley_kv_cache_init (ValleyKvCache *cache, ValleyBackend *backend, gsize n_layers, gsize cols)
{
  *cache = (ValleyKvCache){ .n_layers = n_layers, .cols = cols };
  cache->dtype = backend->precision == VALLEY_PRECISION_BF16 ? VALLEY_BF16 : VALLEY_F32;
  cache->k = VALLEY_NEW0 (ValleyTensor, n_layers);
  cache->v = VALLEY_NEW0 (ValleyTensor, n_layers);
  return cache->k != NULL && cache->v != NULL;
}

void
valley_kv_cache_clear (ValleyKvCache *cache, ValleyBackend *backend)
{
  for (gsize i = 0; cache->k != NULL && cache->v != NULL && i < cache->n_layers; i++) {
    valley_tensor_clear (backend, &cache->k[i]);
    valley_tensor_clear (backend, &cache->v[i]);
  }
  g_free (cache->k);
  g_free (cache->v);
  *cache = (ValleyKvCache){ 0 };
}

/* Replaces @tensor by a larger one with the same first rows.  A tensor that has been grown
 * before a later one failed is simply larger than the capacity says. */
static void
grow (ValleyKvCache *cache, ValleyStream *stream, ValleyTensor *tensor, gsize rows)
{
  ValleyTensor larger;

  if (tensor->rows >= rows)
    return;
  valley_tensor_init (stream, &larger, cache->dtype, rows, cache->cols);
  if (cache->length > 0) {
    ValleyTensor to = valley_tensor_rows (&larger, 0, cache->length);
    ValleyTensor from = valley_tensor_rows (tensor, 0, cache->length);

    stream->ops->copy (stream, &to, &from);
  }
  if (valley_stream_stopped (stream)) {
    valley_tensor_clear (stream->backend, &larger);
    return;
  }
  valley_tensor_clear (stream->backend, tensor);
  *tensor = larger;
}

void
valley_kv_cache_reserve (ValleyKvCache *cache, ValleyStream *stream, gsize rows)
{
  /* A prompt's rows are known and may be gigabytes; an answer grows a row at a time. */
  gsize capacity = MAX (cache->capacity + cache->capacity / 2, MAX (rows, MIN_ROWS));

  if (rows <= cache->capacity)
    return;
  for (gsize i = 0; i < cache->n_layers && !valley_stream_stopped (stream); i++) {
    grow (cache, stream, &cache->k[i], capacity);
    grow (cache, stream, &cache->v[i], capacity);
  }
  if (!valley_stream_stopped (stream))
    cache->capacity = capacity;
}

void
valley_kv_cache_write (ValleyKvCache *cache, ValleyStream *stream, gsize layer, gsize first,
                       const ValleyTensor *keys, const ValleyTensor *values)
{
  ValleyTensor k = valley_tensor_rows (&cache->k[layer], first, keys->rows);
  ValleyTensor v = valley_tensor_rows (&cache->v[layer], first, values->rows);

  stream->ops->copy (stream, &k, keys);
  stream->ops->copy (stream, &v, values);
}

void
valley_kv_cache_set_length (ValleyKvCache *cache, gsize length)
{
  cache->length = MIN (length, cache->capacity);
}
