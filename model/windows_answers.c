/* windows_answers.c - the prompts of answers: what the asked sequence still lacks, the question
 * behind it, and the answer's own fork; or a prompt by itself where no sequence has its frames.
 * SPDX-License-Identifier: Apache-2.0 */
#include "windows_parts.h"

static gboolean
ask (ValleyWindows *windows, ValleyScheduleAnswer *answer)
{
  if (!valley_schedule_ask (windows->schedule, windows->window_first, answer))
    return FALSE;
  if (answer->drifted != 0)
    windows->drifted = answer->drifted;
  return TRUE;
}

void
valley_windows_contents (ValleyWindows *windows, gboolean window_only, GArray *frames)
{
  guint64 first = windows->window_first;
  ValleyScheduleAnswer answer;

  if (valley_windows_n_frames (windows) == 0)
    return;
  if (!window_only && ask (windows, &answer) && !answer.given_up)
    first = answer.first;
  valley_windows_forget_ended (windows);
  for (guint i = 0; i < windows->frames->len; i++) {
    const ValleyWindowFrame *frame = &g_array_index (windows->frames, ValleyWindowFrame, i);

    if (frame->number >= first)
      g_array_append_val (frames, *frame);
  }
}

/* How many ids @n frames are. */
static gsize
n_frame_ids (const ValleyWindows *windows, gsize n)
{
  g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (gint32));

  if (n == 0)
    return 0;
  valley_prompt_frame (windows->model->prompt, TRUE, ids);
  return ids->len + (n - 1) * (valley_prompt_slot_text (windows->model->prompt) + 1);
}

/* The frames of @prompt but the first @n, to free. */
static ValleyFrame **
frames_behind (const ValleyWindowPrompt *prompt, gsize n)
{
  ValleyFrame **frames = g_new (ValleyFrame *, MAX (prompt->frames->len - n, 1));

  for (gsize i = n; i < prompt->frames->len; i++)
    frames[i - n] = g_array_index (prompt->frames, ValleyWindowFrame, i).frame;
  return frames;
}

/* The prompt in a cache of its own, behind the header if it may be shared. */
static gboolean
prefill_alone (ValleyWindows *windows, const ValleyWindowPrompt *prompt, ValleyRows *rows,
               ValleyWindowCounts *counts, GError **error)
{
  ValleyRedundancy redundancy = { 0 };
  gsize n_header
      = prompt->frames->len > 0 && windows->prefill.dump_dir == NULL ? prompt->n_header : 0;
  g_autofree ValleyFrame **frames = frames_behind (prompt, 0);
  gboolean ok, parked;

  counts->n_reused = n_header > 0 ? windows->n_header_known : 0;
  if (n_header > 0
      && (!valley_windows_make_header (windows, error)
          || !valley_windows_fork (windows, &windows->answer, &windows->header, error)))
    return FALSE;
  ok = valley_rows_init (rows, &windows->prefill, prompt->ids + n_header, prompt->n_ids - n_header,
                         frames, &redundancy, error);
  valley_redundancy_clear (&redundancy, windows->model->backend);
  if (!ok)
    return FALSE;
  counts->n_frame_rows = rows->n_frame_rows;
  if (valley_windows_append (windows, &windows->answer, 0, rows, &parked, error))
    return TRUE;
  valley_rows_clear (rows, &windows->prefill);
  return FALSE;
}

/* What the sequence lacks (@unit, or nothing) and the question go through the model together;
 * then the answer forks off and the sequence goes back to its last frame. */
static gboolean
prefill_fork (ValleyWindows *windows, const ValleyWindowPrompt *prompt, ValleySequence *sequence,
              const ValleyScheduleUnit *unit, ValleyRows *rows, GError **error)
{
  gsize held = valley_windows_n_held (windows, sequence->id), n = prompt->frames->len;
  gsize n_tail = prompt->n_ids - prompt->n_header - n_frame_ids (windows, n);
  g_autofree ValleyFrame **frames = frames_behind (prompt, held);
  gboolean parked, ok;

  if (!valley_rows_init (rows, &windows->prefill,
                         prompt->ids + prompt->n_header + n_frame_ids (windows, held),
                         prompt->n_ids - prompt->n_header - n_frame_ids (windows, held), frames,
                         &sequence->redundancy, error)) {
    valley_windows_start_over (windows, sequence);
    return FALSE;
  }
  if (!valley_windows_append (windows, &sequence->cache, sequence->id, rows, &parked, error)) {
    valley_rows_clear (rows, &windows->prefill);
    valley_windows_start_over (windows, sequence);
    return FALSE;
  }
  ok = valley_windows_fork (windows, &windows->answer, &sequence->cache, error);
  valley_sequence_note (sequence, rows, n_tail);
  if (unit != NULL)
    valley_schedule_done (windows->schedule, unit);
  if (!ok)
    valley_rows_clear (rows, &windows->prefill);
  return ok;
}

/* From the sequence @id, whose frames the prompt shows. */
static gboolean
prefill_sequence (ValleyWindows *windows, const ValleyWindowPrompt *prompt, guint64 id,
                  ValleyRows *rows, ValleyWindowCounts *counts, GError **error)
{
  const ValleyWindowFrame *last
      = &g_array_index (prompt->frames, ValleyWindowFrame, prompt->frames->len - 1);
  ValleySequence *sequence;
  ValleyScheduleUnit unit;
  gboolean lacks;

  /* All but the last piece, if the sequence cannot take everything at once. */
  while ((lacks = valley_schedule_sequence_unit (windows->schedule, id, &unit))
         && unit.frame + unit.n_frames <= last->number)
    if (!valley_windows_run_unit (windows, &unit, error))
      return FALSE;
  if (lacks && !valley_windows_evict_frames (windows, &unit, error))
    return FALSE;
  sequence = valley_windows_get_sequence (windows, id, error);
  if (sequence == NULL)
    return FALSE;
  counts->n_reused = sequence->n_known;
  if (!prefill_fork (windows, prompt, sequence, lacks ? &unit : NULL, rows, error))
    return FALSE;
  counts->n_frame_rows = sequence->n_frame_rows;
  return TRUE;
}

static void
note_known (ValleyWindows *windows)
{
  windows->n_header_known = windows->header.length;
  for (guint i = 0; i < windows->sequences->len; i++) {
    ValleySequence *sequence = g_ptr_array_index (windows->sequences, i);

    sequence->n_known = sequence->cache.length;
  }
}

/* The sequence that the asked one replaced is kept aside, to be compared with it later. */
static void
take_drifted (ValleyWindows *windows, const ValleyWindowPrompt *prompt)
{
  const ValleyScheduleSequence *drifted
      = valley_schedule_find (windows->schedule, windows->drifted);
  ValleySequence *sequence = valley_windows_find_sequence (windows, windows->drifted);
  g_autofree ValleyFrame **frames = NULL;
  gsize n_text = prompt->n_header + n_frame_ids (windows, prompt->frames->len);
  const ValleyWindowFrame *last
      = &g_array_index (prompt->frames, ValleyWindowFrame, prompt->frames->len - 1);
  guint n = 0, place = 0;

  windows->drifted = 0;
  if (drifted == NULL || sequence == NULL || windows->probe != NULL)
    return;
  frames = g_new (ValleyFrame *, prompt->frames->len);
  for (guint64 i = drifted->next; i <= last->number; i++)
    frames[n++] = valley_windows_frame_at (windows, i)->frame;
  g_ptr_array_find (windows->sequences, sequence, &place);
  g_ptr_array_steal_index_fast (windows->sequences, place);
  windows->probe
      = valley_drift_probe_new (windows->model, sequence, windows->windowing.window_frames, frames,
                                n, prompt->ids + n_text, prompt->n_ids - n_text);
}

/* @answer: from its sequence, or NULL: alone. */
static gboolean
prefill_once (ValleyWindows *windows, const ValleyWindowPrompt *prompt,
              const ValleyScheduleAnswer *answer, ValleyRows *rows, ValleyWindowCounts *counts,
              GError **error)
{
  if (answer != NULL ? prefill_sequence (windows, prompt, answer->sequence, rows, counts, error)
                     : prefill_alone (windows, prompt, rows, counts, error))
    return TRUE;
  valley_windows_end_answer (windows);
  return FALSE;
}

gboolean
valley_windows_prefill (ValleyWindows *windows, const ValleyWindowPrompt *prompt, ValleyRows *rows,
                        ValleyWindowCounts *counts, GError **error)
{
  ValleyScheduleAnswer answer;
  gboolean shared = prompt->is_contents && windows->prefill.dump_dir == NULL
                    && ask (windows, &answer) && !answer.given_up;
  GError *reason = NULL;

  windows->is_resting = FALSE;
  valley_windows_forget_ended (windows);
  if (windows->probe != NULL && !valley_drift_probe_is_ready (windows->probe))
    g_clear_pointer (&windows->probe, valley_drift_probe_free); /* its answer never came */
  if (!prefill_once (windows, prompt, shared ? &answer : NULL, rows, counts, &reason)) {
    if (!valley_windows_give_up_all (windows, reason)) {
      g_propagate_error (error, reason);
      return FALSE;
    }
    g_clear_error (&reason);
    if (!prefill_once (windows, prompt, shared ? &answer : NULL, rows, counts, error))
      return FALSE;
  }
  if (shared)
    take_drifted (windows, prompt);
  windows->has_prefilled |= shared;
  windows->is_in_vain = !windows->has_prefilled && prompt->frames->len > 0;
  valley_windows_keep_within_bound (windows);
  note_known (windows);
  windows->stats.hops++;
  return TRUE;
}

ValleyDriftProbe *
valley_windows_probe (ValleyWindows *windows)
{
  return windows->probe;
}

ValleyPrefill *
valley_windows_prefiller (ValleyWindows *windows)
{
  return &windows->prefill;
}

ValleyKvCache *
valley_windows_answer_cache (ValleyWindows *windows)
{
  return &windows->answer;
}

void
valley_windows_make_room (ValleyWindows *windows, gsize n)
{
  gsize length = windows->answer.length;

  if (length > 0 && !valley_windows_reserve (windows, &windows->answer, length + n, NULL))
    valley_windows_reserve (windows, &windows->answer, length + 1, NULL);
}

void
valley_windows_end_answer (ValleyWindows *windows)
{
  valley_kv_cache_clear (&windows->answer);
}
