/* streaming.c - eviction in place, some rows at a time: they are filled from rows further back, so
 * that what is overwritten has been moved already.  Keys are turned from how they were before any
 * rotation, so that many evictions round no more often than one.
 * SPDX-License-Identifier: Apache-2.0 */
#include "streaming.h"

/* Few enough for little memory, many enough for few operations. */
#define ROWS_AT_ONCE ((gsize) 1024)

/* Rows @first ... of every layer become those @n further back. */
static void
move_rows (ValleyKvCache *cache, ValleyStream *stream, ValleyDecoderRun *run,
           const ValleyPassRows *rows, gsize n, const ValleyTensor *k, const ValleyTensor *v)
{
  const ValleyOps *ops = stream->ops;
  const ValleyLlmConfig *llm = &run->config;
  ValleyPassPlace place;

  valley_decoder_run_place (run, stream, rows, &place);
  for (gsize i = 0; i < llm->n_layers && !valley_stream_stopped (stream); i++) {
    valley_kv_pool_set_layer (cache->pool, i, &place.kv);
    ops->read_pages (stream, k, &place.kv, place.kv.unrotated, rows->first + n);
    ops->read_pages (stream, v, &place.kv, place.kv.values, rows->first + n);
    ops->rotate_append (stream, NULL, k, v, &run->rotary.cos, &run->rotary.sin, &place.positions,
                        llm->head_dim, &place.kv);
  }
}

/* Row @first takes position @positions[0], or @first; and so on. */
static void
move_all (ValleyKvCache *cache, ValleyStream *stream, ValleyDecoderRun *run, gsize first, gsize n,
          const gint32 *positions)
{
  gsize end = cache->length - n, at_once = MIN (ROWS_AT_ONCE, end - first);
  gsize cols = run->config.n_kv_heads * run->config.head_dim;
  ValleyTensor k, v;

  cache->gap = 0; /* positions are row numbers, where they are not given */
  valley_activations_init (stream, &k, at_once, cols);
  valley_activations_init (stream, &v, at_once, cols);
  for (gsize row = first; row < end && !valley_stream_stopped (stream); row += at_once) {
    ValleyPassRows rows = { .cache = cache,
                            .first = row,
                            .n = MIN (at_once, end - row),
                            .positions = positions != NULL ? positions + (row - first) : NULL };
    ValleyTensor some_k = valley_tensor_rows (&k, 0, rows.n);
    ValleyTensor some_v = valley_tensor_rows (&v, 0, rows.n);

    move_rows (cache, stream, run, &rows, n, &some_k, &some_v);
  }
  valley_tensor_clear (stream->backend, &k);
  valley_tensor_clear (stream->backend, &v);
}

void
valley_streaming_evict (ValleyKvCache *cache, ValleyStream *stream, ValleyDecoderRun *run,
                        gsize first, gsize n, const gint32 *positions)
{
  gsize end = cache->length - n;

  if (!valley_kv_pool_keeps_unrotated (cache->pool) || n > cache->length || first > end) {
    valley_stream_fail (stream, VALLEY_ERROR_DEVICE,
                        "rows %" G_GSIZE_FORMAT " and %" G_GSIZE_FORMAT
                        " more cannot be taken out; expected %" G_GSIZE_FORMAT
                        " rows with unrotated keys",
                        first, n, cache->length);
    return;
  }
  valley_kv_cache_own (cache, stream, first);
  if (first < end)
    move_all (cache, stream, run, first, n, positions);
  if (valley_stream_stopped (stream)) {
    valley_kv_cache_set_length (cache, 0);
    return;
  }
  valley_kv_cache_set_length (cache, end);
  cache->gap = positions != NULL && end > first ? (gsize) positions[end - first - 1] + 1 - end : 0;
}
