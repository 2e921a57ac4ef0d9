/* windows_memory.c - KV pages and encodings within one bound.  Whoever needs a page first gives up
 * the rows of the sequence that is needed last, then encodings, and at worst fails; what was given
 * up is computed again, to the same bits, when it is needed.
 * SPDX-License-Identifier: Apache-2.0 */
#include "windows_parts.h"

ValleySequence *
valley_windows_find_sequence (ValleyWindows *windows, guint64 id)
{
  for (guint i = 0; i < windows->sequences->len; i++) {
    ValleySequence *sequence = g_ptr_array_index (windows->sequences, i);

    if (sequence->id == id)
      return sequence;
  }
  return NULL;
}

void
valley_windows_forget_sequence (ValleyWindows *windows, guint64 id)
{
  ValleySequence *sequence = valley_windows_find_sequence (windows, id);

  if (sequence == NULL)
    return;
  g_ptr_array_remove_fast (windows->sequences, sequence);
  valley_sequence_free (sequence, windows->model->backend);
}

void
valley_windows_forget_ended (ValleyWindows *windows)
{
  guint64 id;

  while ((id = valley_schedule_take_ended (windows->schedule)) != 0)
    valley_windows_forget_sequence (windows, id);
}

guint64
valley_windows_encoding_bytes (const ValleyWindows *windows)
{
  guint64 n = valley_frame_cache_counts (windows->cache)->bytes;

  for (guint i = 0; i < windows->sequences->len; i++) {
    const ValleySequence *sequence = g_ptr_array_index (windows->sequences, i);
    const ValleyTensor *kept = &sequence->redundancy.kept;

    n += (guint64) kept->rows * kept->cols * valley_dtype_bytes (kept->dtype);
  }
  return n;
}

/* The pool may have what the encodings leave of the bound. */
static void
share_bound (ValleyWindows *windows)
{
  guint64 max = windows->windowing.cache_max_bytes;
  guint64 encodings = valley_windows_encoding_bytes (windows);

  if (max > 0)
    max = max > encodings ? max - encodings : 1;
  valley_kv_pool_set_max_bytes (windows->pool, max);
}

/* Gives up what is needed last; FALSE: nothing is left that can be. */
static gboolean
evict (ValleyWindows *windows)
{
  guint64 victim = valley_schedule_next_victim (windows->schedule);

  if (windows->probe != NULL) {
    g_clear_pointer (&windows->probe, valley_drift_probe_free);
  } else if (victim != 0) {
    valley_windows_forget_sequence (windows, victim);
    valley_schedule_park (windows->schedule, victim);
    windows->stats.sequences_evicted++;
  } else if (!valley_frame_cache_evict (windows->cache)) {
    return FALSE;
  }
  share_bound (windows);
  return TRUE;
}

gboolean
valley_windows_find_memory (ValleyWindows *windows, const GError *reason)
{
  if (!g_error_matches (reason, VALLEY_ERROR, VALLEY_ERROR_MEMORY) || !evict (windows))
    return FALSE;
  valley_kv_pool_trim (windows->pool); /* pages that wait are of no use to anybody else */
  return TRUE;
}

gboolean
valley_windows_give_up_all (ValleyWindows *windows, const GError *reason)
{
  const ValleyFrameCounts *encodings = valley_frame_cache_counts (windows->cache);
  guint64 before = windows->stats.sequences_evicted + encodings->evicted;

  if (!g_error_matches (reason, VALLEY_ERROR, VALLEY_ERROR_MEMORY))
    return FALSE;
  windows->stats.sequences_evicted += windows->sequences->len;
  valley_windows_restart_all (windows);
  while (valley_frame_cache_evict (windows->cache))
    ;
  valley_kv_pool_trim (windows->pool);
  share_bound (windows);
  return windows->stats.sequences_evicted + encodings->evicted > before;
}

static gboolean
is_over_bound (const ValleyWindows *windows)
{
  guint64 max = windows->windowing.cache_max_bytes;

  return max > 0
         && valley_kv_pool_bytes_used (windows->pool) + valley_windows_encoding_bytes (windows)
                > max;
}

void
valley_windows_keep_within_bound (ValleyWindows *windows)
{
  while (is_over_bound (windows) && evict (windows))
    ;
  if (is_over_bound (windows)) /* it was lowered below what is needed first */
    valley_windows_restart_all (windows);
  share_bound (windows);
}

void
valley_windows_note_bytes (ValleyWindows *windows)
{
  windows->stats.kv_bytes = valley_kv_pool_bytes_used (windows->pool);
  windows->stats.kv_bytes_peak = MAX (windows->stats.kv_bytes_peak, windows->stats.kv_bytes);
  windows->stats.encoding_bytes = valley_windows_encoding_bytes (windows);
  windows->stats.encoding_bytes_peak
      = MAX (windows->stats.encoding_bytes_peak, windows->stats.encoding_bytes);
}

/* Whether the stream is well; *again: it was not, for want of memory, but some was found since. */
static gboolean
check_memory (ValleyWindows *windows, gboolean *again, GError **error)
{
  g_autoptr (GError) reason = NULL;

  valley_windows_note_bytes (windows);
  *again = FALSE;
  if (windows->stream->ops->stream_wait (windows->stream, &reason))
    return TRUE;
  *again = g_error_matches (reason, VALLEY_ERROR, VALLEY_ERROR_MEMORY) && evict (windows);
  if (!*again)
    g_propagate_error (error, g_steal_pointer (&reason));
  return FALSE;
}

gboolean
valley_windows_reserve (ValleyWindows *windows, ValleyKvCache *cache, gsize rows, GError **error)
{
  gboolean ok, again;

  do {
    valley_kv_cache_reserve (cache, windows->stream, rows);
    ok = check_memory (windows, &again, error);
  } while (again);
  return ok;
}

gboolean
valley_windows_fork (ValleyWindows *windows, ValleyKvCache *to, ValleyKvCache *from, GError **error)
{
  gboolean ok, again;

  do {
    valley_kv_cache_fork (to, from, windows->stream);
    ok = check_memory (windows, &again, error);
    if (!ok)
      valley_kv_cache_clear (to);
  } while (again);
  return ok;
}

gboolean
valley_windows_reserve_more (ValleyWindows *windows, ValleyKvCache *cache, guint64 id, gsize n,
                             gboolean *parked, GError **error)
{
  gboolean ok, again;

  do {
    valley_kv_cache_reserve (cache, windows->stream, cache->length + n);
    ok = check_memory (windows, &again, error);
    *parked = again && id != 0 && valley_windows_find_sequence (windows, id) == NULL;
  } while (again && !*parked);
  return ok || *parked;
}
