/* sequence.c - see sequence.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "sequence.h"

#include "alloc.h"
#include "streaming.h"

/* Of the rows, if no token is left out. */
static gsize
count_positions (const gint32 *ids, gsize n_ids, ValleyFrame *const *frames)
{
  gsize n = n_ids, slot = 0;

  for (gsize i = 0; i < n_ids; i++)
    if (ids[i] == VALLEY_IMAGE_SLOT)
      n += frames[slot++]->n_rows - 1;
  return n;
}

static void
add_text (ValleyRows *rows, const ValleyPrefill *prefill, const gint32 *ids, gsize n)
{
  ValleyTensor part = valley_tensor_rows (&rows->x, rows->x.rows, n), chosen;

  valley_tensor_init_ids (prefill->stream, &chosen, ids, n);
  prefill->stream->ops->gather (prefill->stream, &part, &prefill->llm->embeddings, &chosen);
  valley_tensor_clear (prefill->stream->backend, &chosen);
  for (gsize i = 0; i < n; i++)
    rows->positions[rows->x.rows + i] = (gint32) (rows->n_positions + i);
  rows->x.rows += n;
  rows->n_positions += n;
}

/* Tokens that are left out leave their positions behind, so that what stays is where it was;
 * unless gaps are to be closed. */
static gboolean
add_frame (ValleyRows *rows, const ValleyPrefill *prefill, ValleyFrame *frame,
           ValleyRedundancy *redundancy, GError **error)
{
  const ValleyTensor *encoding = valley_frame_rows (frame, error);
  gboolean closes_gaps = frame->picture->sizes.closes_gaps;
  gint32 *chosen = rows->positions + rows->x.rows;
  ValleyTensor part, ids;
  gsize n, span;

  if (encoding == NULL)
    return FALSE;
  n = valley_redundancy_choose (redundancy, prefill->stream, encoding, &frame->picture->sizes,
                                chosen);
  part = valley_tensor_rows (&rows->x, rows->x.rows, n);
  valley_tensor_init_ids (prefill->stream, &ids, chosen, n);
  prefill->stream->ops->gather (prefill->stream, &part, encoding, &ids);
  valley_tensor_clear (prefill->stream->backend, &ids);
  for (gsize i = 0; i < n; i++)
    chosen[i] = (gint32) rows->n_positions + (closes_gaps ? (gint32) i : chosen[i]);
  rows->x.rows += n;
  rows->n_frame_rows += n;
  span = closes_gaps ? n : frame->n_rows;
  rows->n_positions += span;
  g_array_append_val (rows->spans, span);
  return TRUE;
}

/* Text ids become rows of the embedding table, image slots their frames' encodings. */
static gboolean
embed (ValleyRows *rows, const ValleyPrefill *prefill, const gint32 *ids, gsize n_ids,
       ValleyFrame *const *frames, ValleyRedundancy *redundancy, GError **error)
{
  gsize first, slot = 0;

  for (gsize i = 0; i < n_ids;) {
    if (ids[i] == VALLEY_IMAGE_SLOT) {
      if (!add_frame (rows, prefill, frames[slot++], redundancy, error))
        return FALSE;
      i++;
    } else {
      for (first = i; i < n_ids && ids[i] != VALLEY_IMAGE_SLOT;)
        i++;
      add_text (rows, prefill, ids + first, i - first);
    }
  }
  return TRUE;
}

gboolean
valley_rows_init (ValleyRows *rows, const ValleyPrefill *prefill, const gint32 *ids, gsize n_ids,
                  ValleyFrame *const *frames, ValleyRedundancy *redundancy, GError **error)
{
  gsize n = count_positions (ids, n_ids, frames);

  *rows = (ValleyRows){ .positions = VALLEY_NEW (gint32, n) };
  if (rows->positions == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "not enough memory for a prompt of %" G_GSIZE_FORMAT " tokens", n);
    return FALSE;
  }
  rows->spans = g_array_new (FALSE, FALSE, sizeof (gsize));
  valley_tensor_init (prefill->stream, &rows->x, VALLEY_F32, n, prefill->llm->config.hidden_size);
  rows->x.rows = 0; /* that are filled */
  if (embed (rows, prefill, ids, n_ids, frames, redundancy, error)
      && prefill->stream->ops->stream_wait (prefill->stream, error))
    return TRUE;
  prefill->stream->ops->stream_wait (prefill->stream, NULL);
  valley_rows_clear (rows, prefill);
  return FALSE;
}

void
valley_rows_clear (ValleyRows *rows, const ValleyPrefill *prefill)
{
  valley_tensor_clear (prefill->stream->backend, &rows->x);
  g_clear_pointer (&rows->spans, g_array_unref);
  g_free (rows->positions);
  *rows = (ValleyRows){ 0 };
}

gboolean
valley_rows_append (ValleyRows *rows, ValleyPrefill *prefill, ValleyKvCache *cache, GError **error)
{
  ValleyDump dump = valley_dump_named (prefill->dump_dir, "llm");
  ValleyForward forward = { .cache = cache,
                            .run = &prefill->run,
                            .positions = rows->positions,
                            .role = VALLEY_ROWS_PROMPT,
                            .rows_at_once = prefill->rows_at_once,
                            .dump = &dump };
  gsize length = cache->length, gap = cache->gap, first = length + gap;

  for (gsize i = 0; i < rows->x.rows; i++)
    rows->positions[i] += (gint32) first;
  valley_dump_tensor (&dump, prefill->stream, &rows->x, "embeddings");
  valley_decoder_forward (prefill->llm, prefill->stream, &forward, &rows->x);
  if (prefill->stream->ops->stream_wait (prefill->stream, error)) {
    cache->gap = first + rows->n_positions - cache->length; /* the last ones may be left out */
    return TRUE;
  }
  valley_kv_cache_set_length (cache, length);
  cache->gap = gap;
  return FALSE;
}

ValleySequence *
valley_sequence_new (guint64 id, ValleyKvPool *pool, gsize n_header)
{
  ValleySequence *sequence = g_new0 (ValleySequence, 1);

  sequence->id = id;
  sequence->n_header = n_header;
  sequence->positions = g_array_new (FALSE, FALSE, sizeof (gint32));
  sequence->spans = g_array_new (FALSE, FALSE, sizeof (gsize));
  valley_kv_cache_init (&sequence->cache, pool);
  return sequence;
}

void
valley_sequence_free (ValleySequence *sequence, ValleyBackend *backend)
{
  valley_redundancy_clear (&sequence->redundancy, backend);
  valley_kv_cache_clear (&sequence->cache);
  g_array_unref (sequence->positions);
  g_array_unref (sequence->spans);
  g_free (sequence);
}

void
valley_sequence_note (ValleySequence *sequence, const ValleyRows *rows, gsize n_tail)
{
  valley_kv_cache_set_length (&sequence->cache, sequence->cache.length - n_tail);
  g_array_append_vals (sequence->positions, rows->positions, (guint) (rows->x.rows - n_tail));
  g_array_append_vals (sequence->spans, rows->spans->data, rows->spans->len);
  sequence->n_frame_rows += rows->n_frame_rows;
}

/* Back to the header. */
static void
empty (ValleySequence *sequence, ValleyPrefill *prefill)
{
  valley_kv_cache_set_length (&sequence->cache, sequence->n_header);
  sequence->cache.gap = 0;
  valley_redundancy_clear (&sequence->redundancy, prefill->stream->backend);
  g_array_set_size (sequence->positions, 0);
  g_array_set_size (sequence->spans, 0);
  sequence->n_frame_rows = 0;
  sequence->n_known = MIN (sequence->n_known, sequence->n_header);
}

/* Takes the rows that lie in the first @span positions behind the header out of what is noted,
 * moves the other positions up, and returns how many rows they were. */
static gsize
forget_positions (ValleySequence *sequence, gsize span)
{
  gint32 *positions = (gint32 *) sequence->positions->data;
  guint n = 0, len = sequence->positions->len;

  while (n < len && (gsize) positions[n] < sequence->n_header + span)
    n++;
  for (guint i = n; i < len; i++)
    positions[i] -= (gint32) span;
  g_array_remove_range (sequence->positions, 0, n);
  return n;
}

gboolean
valley_sequence_evict (ValleySequence *sequence, ValleyPrefill *prefill, guint n_frames,
                       gsize slot_text, GError **error)
{
  gsize span = n_frames * slot_text, n, header = sequence->n_header;

  if (n_frames >= sequence->spans->len) {
    empty (sequence, prefill);
    return TRUE;
  }
  /* The separator before the first frame that stays goes with them. */
  for (guint i = 0; i < n_frames; i++)
    span += g_array_index (sequence->spans, gsize, i);
  valley_redundancy_evict (&sequence->redundancy, n_frames);
  n = forget_positions (sequence, span);
  g_array_remove_range (sequence->spans, 0, n_frames);
  sequence->n_frame_rows -= n - n_frames * slot_text;
  if (sequence->n_known >= header + n)
    sequence->n_known -= n;
  else
    sequence->n_known = MIN (sequence->n_known, header);
  valley_streaming_evict (&sequence->cache, prefill->stream, &prefill->run, header, n,
                          (const gint32 *) sequence->positions->data);
  return prefill->stream->ops->stream_wait (prefill->stream, error);
}
