/* windows_sequences.c - the rows of frames in the policy's sequences: one unit of the schedule's
 * work at a time, behind a header that is computed once.
 * SPDX-License-Identifier: Apache-2.0 */
#include "windows_parts.h"

#include <string.h>

gboolean
valley_windows_append (ValleyWindows *windows, ValleyKvCache *cache, guint64 id, ValleyRows *rows,
                       gboolean *parked, GError **error)
{
  gsize n = rows->x.rows;

  if (!valley_windows_reserve_more (windows, cache, id, n, parked, error))
    return FALSE;
  if (*parked)
    return TRUE;
  if (!valley_rows_append (rows, &windows->prefill, cache, error))
    return FALSE;
  windows->stats.frame_rows += rows->n_frame_rows;
  windows->stats.text_rows += n - rows->n_frame_rows;
  return TRUE;
}

gboolean
valley_windows_make_header (ValleyWindows *windows, GError **error)
{
  const GArray *ids = windows->header_ids;
  ValleyRows rows;
  gboolean ok, parked;

  if (windows->header.length > 0)
    return TRUE;
  if (!valley_rows_init (&rows, &windows->prefill, (const gint32 *) ids->data, ids->len, NULL, NULL,
                         error))
    return FALSE;
  ok = valley_windows_append (windows, &windows->header, 0, &rows, &parked, error);
  valley_rows_clear (&rows, &windows->prefill);
  return ok;
}

ValleySequence *
valley_windows_get_sequence (ValleyWindows *windows, guint64 id, GError **error)
{
  ValleySequence *sequence = valley_windows_find_sequence (windows, id);

  if (sequence != NULL)
    return sequence;
  if (!valley_windows_make_header (windows, error))
    return NULL;
  sequence = valley_sequence_new (id, windows->pool, windows->header_ids->len);
  if (!valley_windows_fork (windows, &sequence->cache, &windows->header, error)) {
    valley_sequence_free (sequence, windows->model->backend);
    return NULL;
  }
  sequence->n_known = windows->n_header_known;
  g_ptr_array_add (windows->sequences, sequence);
  return sequence;
}

const ValleyWindowFrame *
valley_windows_frame_at (const ValleyWindows *windows, guint64 number)
{
  guint64 first = g_array_index (windows->frames, ValleyWindowFrame, 0).number;

  return &g_array_index (windows->frames, ValleyWindowFrame, number - first);
}

guint64
valley_windows_n_held (const ValleyWindows *windows, guint64 id)
{
  const ValleyScheduleSequence *s = valley_schedule_find (windows->schedule, id);

  return s->next - s->first;
}

static gboolean
fits_model (const ValleyWindows *windows, const ValleySequence *sequence, gsize n_rows)
{
  gsize max = windows->model->config->llm.max_position_embeddings;
  gsize used = sequence->cache.length + sequence->cache.gap;

  return used <= max && n_rows <= max - used;
}

void
valley_windows_start_over (ValleyWindows *windows, ValleySequence *sequence)
{
  guint64 id = sequence->id;

  valley_windows_forget_sequence (windows, id);
  valley_schedule_restart (windows->schedule, id);
}

static gboolean
append_frames (ValleyWindows *windows, const ValleyScheduleUnit *unit, ValleySequence *sequence,
               const GArray *ids, ValleyFrame *const *frames, GError **error)
{
  ValleyRows rows;
  gboolean ok, parked;

  if (!valley_rows_init (&rows, &windows->prefill, (const gint32 *) ids->data, ids->len, frames,
                         &sequence->redundancy, error)) {
    valley_windows_start_over (windows, sequence);
    return FALSE;
  }
  ok = valley_windows_append (windows, &sequence->cache, sequence->id, &rows, &parked, error);
  if (ok && !parked) {
    valley_sequence_note (sequence, &rows, 0);
    valley_schedule_done (windows->schedule, unit);
  }
  valley_rows_clear (&rows, &windows->prefill);
  if (!ok)
    valley_windows_start_over (windows, sequence);
  return ok;
}

gboolean
valley_windows_evict_frames (ValleyWindows *windows, ValleyScheduleUnit *unit, GError **error)
{
  ValleySequence *sequence = valley_windows_find_sequence (windows, unit->sequence);
  ValleyScheduleUnit evicted = *unit;

  unit->n_evict = 0;
  if (evicted.n_evict == 0)
    return TRUE;
  if (!valley_sequence_evict (sequence, &windows->prefill, evicted.n_evict,
                              valley_prompt_slot_text (windows->model->prompt), error)) {
    valley_windows_forget_sequence (windows, evicted.sequence);
    valley_schedule_restart (windows->schedule, evicted.sequence);
    return FALSE;
  }
  evicted.n_frames = 0;
  valley_schedule_done (windows->schedule, &evicted);
  return TRUE;
}

gboolean
valley_windows_run_unit (ValleyWindows *windows, ValleyScheduleUnit *unit, GError **error)
{
  g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (gint32));
  g_autofree ValleyFrame **frames = g_new (ValleyFrame *, unit->n_frames);
  ValleySequence *sequence;
  gsize n_rows = 0;

  if (!valley_windows_evict_frames (windows, unit, error))
    return FALSE;
  sequence = valley_windows_get_sequence (windows, unit->sequence, error);
  if (sequence == NULL)
    return FALSE;
  for (guint i = 0; i < unit->n_frames; i++) {
    frames[i] = valley_windows_frame_at (windows, unit->frame + i)->frame;
    n_rows += frames[i]->n_rows;
    valley_prompt_frame (windows->model->prompt,
                         i == 0 && valley_windows_n_held (windows, unit->sequence) == 0, ids);
  }
  if (!fits_model (windows, sequence, n_rows + ids->len - unit->n_frames)) {
    valley_windows_forget_sequence (windows, unit->sequence);
    valley_schedule_give_up (windows->schedule, unit->sequence);
    return TRUE;
  }
  if (!append_frames (windows, unit, sequence, ids, frames, error))
    return FALSE;
  valley_windows_keep_within_bound (windows); /* encodings may have come back */
  return TRUE;
}

void
valley_windows_restart_all (ValleyWindows *windows)
{
  g_clear_pointer (&windows->probe, valley_drift_probe_free);
  valley_kv_cache_clear (&windows->header);
  windows->n_header_known = 0;
  while (windows->sequences->len > 0) {
    guint64 id = ((ValleySequence *) g_ptr_array_index (windows->sequences, 0))->id;

    valley_windows_forget_sequence (windows, id);
    valley_schedule_restart (windows->schedule, id);
  }
}

void
valley_windows_set_header (ValleyWindows *windows, const gint32 *ids, gsize n_ids)
{
  GArray *known = windows->header_ids;

  if (known->len == n_ids && memcmp (known->data, ids, n_ids * sizeof *ids) == 0)
    return;
  g_array_set_size (known, 0);
  g_array_append_vals (known, ids, (guint) n_ids);
  valley_windows_restart_all (windows);
}
