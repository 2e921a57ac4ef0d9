/* streaming.c - eviction in place, page by page: each is filled from rows further back, so that
 * what is overwritten has been moved already.  Keys are turned from how they were before any
 * rotation, so that many evictions round no more often than one.
 * SPDX-License-Identifier: Apache-2.0 */
#include "streaming.h"

/* Rows @first ... of a layer's plane into @rows, from as many pages as they lie in. */
static void
read_rows (const ValleyKvCache *cache, ValleyStream *stream, gsize layer, ValleyKvPlane which,
           gsize first, const ValleyTensor *rows)
{
  for (gsize done = 0, n; done < rows->rows; done += n) {
    gsize row = (first + done) % VALLEY_KV_PAGE_ROWS;
    ValleyTensor from
        = valley_kv_cache_page (cache, (first + done) / VALLEY_KV_PAGE_ROWS, layer, which);
    ValleyTensor to;

    n = MIN (rows->rows - done, VALLEY_KV_PAGE_ROWS - row);
    from = valley_tensor_rows (&from, row, n);
    to = valley_tensor_rows (rows, done, n);
    stream->ops->copy (stream, &to, &from);
  }
}

/* One layer's rows from @first on become those that lie @n further back.  @scratch: a page's
 * rows in f32, which holds what a page holds without rounding. */
static void
move_layer (ValleyKvCache *cache, ValleyStream *stream, gsize layer, gsize head_dim, gsize first,
            gsize n, const ValleyRotary *rotary, const ValleyTensor *positions,
            const ValleyTensor *scratch)
{
  gsize end = cache->length - n, rows;

  for (gsize row = first; row < end && !valley_stream_stopped (stream); row += rows) {
    ValleyTensor part, p;

    rows = MIN (end - row, VALLEY_KV_PAGE_ROWS - row % VALLEY_KV_PAGE_ROWS);
    part = valley_tensor_rows (scratch, 0, rows);
    p = valley_tensor_rows (positions, row - first, rows);
    read_rows (cache, stream, layer, VALLEY_KV_VALUES, row + n, &part);
    valley_kv_cache_write (cache, stream, layer, VALLEY_KV_VALUES, row, &part);
    read_rows (cache, stream, layer, VALLEY_KV_UNROTATED, row + n, &part);
    valley_kv_cache_write (cache, stream, layer, VALLEY_KV_UNROTATED, row, &part);
    stream->ops->rope (stream, &part, &rotary->cos, &rotary->sin, &p, head_dim);
    valley_kv_cache_write (cache, stream, layer, VALLEY_KV_KEYS, row, &part);
  }
}

void
valley_streaming_evict (ValleyKvCache *cache, ValleyStream *stream, ValleyRotary *rotary,
                        const ValleyLlmConfig *llm, gsize first, gsize n, const gint32 *positions)
{
  gsize end = cache->length - n;
  ValleyTensor ids, scratch;

  if (!valley_kv_pool_keeps_unrotated (cache->pool) || n > cache->length || first > end) {
    valley_stream_fail (stream, VALLEY_ERROR_DEVICE,
                        "rows %" G_GSIZE_FORMAT " and %" G_GSIZE_FORMAT
                        " more cannot be taken out; expected %" G_GSIZE_FORMAT
                        " rows with unrotated keys",
                        first, n, cache->length);
    return;
  }
  valley_kv_cache_own (cache, stream, first);
  valley_rotary_positions (rotary, stream, positions, first, end - first, &ids);
  valley_tensor_init (stream, &scratch, VALLEY_F32, VALLEY_KV_PAGE_ROWS,
                      llm->n_kv_heads * llm->head_dim);
  for (gsize i = 0; i < llm->n_layers && !valley_stream_stopped (stream); i++)
    move_layer (cache, stream, i, llm->head_dim, first, n, rotary, &ids, &scratch);
  valley_tensor_clear (stream->backend, &scratch);
  valley_tensor_clear (stream->backend, &ids);
  if (valley_stream_stopped (stream)) {
    valley_kv_cache_set_length (cache, 0);
    return;
  }
  valley_kv_cache_set_length (cache, end);
  cache->gap = positions != NULL && end > first ? (gsize) positions[end - first - 1] + 1 - end : 0;
}
