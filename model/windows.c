/* windows.c - the frames of a stream, and the policy that they are put into sequences by.
 * SPDX-License-Identifier: Apache-2.0 */
#include "windows_parts.h"

/* Rows that go through a layer at a time: enough to keep the matrix units busy, few enough
 * that a cancellation is noticed soon and scratch memory stays small. */
#define PREFILL_ROWS 512

static void
frame_clear (gpointer data)
{
  valley_frame_unref (((ValleyWindowFrame *) data)->frame);
}

ValleyWindows *
valley_windows_new (ValleyModel *model, ValleyStream *stream, const ValleySessionOptions *options,
                    GError **error)
{
  const ValleyLlmConfig *llm = &model->config->llm;
  ValleyKvPool *pool
      = valley_kv_pool_new (model->backend, llm->n_layers, llm->n_kv_heads * llm->head_dim, 0);
  ValleyWindows *windows;

  if (pool == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "not enough memory for a KV cache of %" G_GSIZE_FORMAT " layers", llm->n_layers);
    return NULL;
  }
  windows = g_new0 (ValleyWindows, 1);
  windows->model = model;
  windows->stream = stream;
  windows->pool = pool;
  windows->prefill = (ValleyPrefill){ .llm = &model->stages.llm,
                                      .stream = stream,
                                      .rows_at_once = PREFILL_ROWS,
                                      .dump_dir = options != NULL ? options->dump_dir : NULL };
  valley_decoder_run_init (&windows->prefill.run, model->backend, llm,
                           model->stages.llm.frequencies);
  windows->cache = valley_frame_cache_new (model, stream, windows->prefill.dump_dir,
                                           options != NULL ? options->change_threshold : 0);
  windows->schedule = valley_schedule_new (&windows->windowing);
  windows->frames = g_array_new (FALSE, TRUE, sizeof (ValleyWindowFrame));
  g_array_set_clear_func (windows->frames, frame_clear);
  windows->header_ids = g_array_new (FALSE, TRUE, sizeof (gint32));
  windows->sequences = g_ptr_array_new ();
  valley_kv_cache_init (&windows->header, pool);
  valley_kv_cache_init (&windows->answer, pool);
  return windows;
}

void
valley_windows_free (ValleyWindows *windows)
{
  if (windows == NULL)
    return;
  valley_drift_probe_free (windows->probe);
  for (guint i = 0; i < windows->sequences->len; i++)
    valley_sequence_free (g_ptr_array_index (windows->sequences, i), windows->model->backend);
  g_ptr_array_unref (windows->sequences);
  g_array_unref (windows->frames);
  valley_frame_cache_free (windows->cache);
  valley_kv_cache_clear (&windows->header);
  valley_kv_cache_clear (&windows->answer);
  valley_kv_pool_free (windows->pool);
  valley_decoder_run_clear (&windows->prefill.run);
  valley_schedule_free (windows->schedule);
  g_array_unref (windows->header_ids);
  g_free (windows);
}

/* ---- policies ---- */

static void
change_windowing (ValleyWindows *windows, const ValleyWindowing *windowing)
{
  gboolean streams = windowing->policy == VALLEY_WINDOWS_STREAMING;

  windows->windowing = *windowing;
  valley_schedule_set_windowing (windows->schedule, windowing);
  valley_windows_forget_ended (windows);
  if (streams != valley_kv_pool_keeps_unrotated (windows->pool)) {
    valley_windows_restart_all (windows);
    valley_windows_end_answer (windows);
    valley_kv_pool_set_unrotated (windows->pool, streams);
  }
  valley_kv_pool_trim (windows->pool); /* the next policy may need less */
  valley_windows_keep_within_bound (windows);
}

static gboolean
same_windowing (const ValleyWindowing *a, const ValleyWindowing *b)
{
  return a->policy == b->policy && a->window_frames == b->window_frames
         && a->hop_frames == b->hop_frames && a->cache_max_bytes == b->cache_max_bytes
         && a->reanchor_hops == b->reanchor_hops && a->max_drift == b->max_drift;
}

void
valley_windows_set_windowing (ValleyWindows *windows, const ValleyWindowing *windowing)
{
  if (same_windowing (&windows->requested, windowing))
    return; /* also where it was fallen back from */
  windows->is_in_vain = FALSE;
  windows->requested = *windowing;
  windows->drift = (ValleyDrift){ 0 };
  windows->stats.fallen_back = FALSE;
  change_windowing (windows, windowing);
}

void
valley_windows_set_change_threshold (ValleyWindows *windows, double change_threshold)
{
  valley_frame_cache_set_change_threshold (windows->cache, change_threshold);
}

/* ---- drift ---- */

/* To the exact policy with the same windows that memory and context allow. */
static void
fall_back (ValleyWindows *windows)
{
  ValleyWindowing exact = windows->windowing;
  const ValleyWindowFrame *last
      = &g_array_index (windows->frames, ValleyWindowFrame, windows->frames->len - 1);
  guint64 bytes;

  exact.policy = VALLEY_WINDOWS_ANCHORED;
  if (!valley_model_admits (windows->model, &exact, &last->frame->picture->sizes, &bytes, NULL))
    exact.policy = VALLEY_WINDOWS_TUMBLING;
  windows->stats.fallen_back = TRUE;
  change_windowing (windows, &exact);
}

/* FALSE: none waits.  One that memory is too short for is left out. */
static gboolean
run_probe (ValleyWindows *windows)
{
  g_autoptr (GError) error = NULL;

  /* It may change the policy, which an answer in progress would not survive. */
  if (windows->probe == NULL || !valley_drift_probe_is_ready (windows->probe)
      || windows->answer.length > 0)
    return FALSE;
  if (!valley_drift_probe_run (windows->probe, &windows->prefill, &windows->drift,
                               &windows->stats.frame_rows, &windows->stats.text_rows, &error))
    g_debug ("no comparison with the exact answer: %s", error->message);
  valley_windows_note_bytes (windows);
  g_clear_pointer (&windows->probe, valley_drift_probe_free);
  if (windows->frames->len > 0
      && valley_drift_is_over (&windows->drift, windows->windowing.max_drift))
    fall_back (windows);
  return TRUE;
}

/* ---- idle moments ---- */

gboolean
valley_windows_work (ValleyWindows *windows, gboolean *more, GError **error)
{
  ValleyScheduleUnit unit;

  *more = FALSE;
  if (windows->prefill.dump_dir != NULL /* a dump shows whole prompts */
      || windows->is_resting || windows->is_in_vain)
    return TRUE;
  *more = valley_schedule_next_unit (windows->schedule, &unit);
  valley_windows_forget_ended (windows);
  if (!*more) {
    *more = run_probe (windows);
    return TRUE;
  }
  if (valley_windows_run_unit (windows, &unit, error))
    return TRUE;
  *more = FALSE;
  return FALSE;
}

/* ---- frames ---- */

void
valley_windows_rest (ValleyWindows *windows)
{
  windows->is_resting = !windows->has_prefilled;
}

void
valley_windows_set_prefill_rows (ValleyWindows *windows, gsize rows)
{
  windows->prefill.rows_at_once = rows;
}

guint
valley_windows_n_frames (const ValleyWindows *windows)
{
  const GArray *frames = windows->frames;

  if (frames->len == 0)
    return 0;
  return (guint) (g_array_index (frames, ValleyWindowFrame, frames->len - 1).number + 1
                  - windows->window_first);
}

static void
forget_all_frames (ValleyWindows *windows)
{
  valley_schedule_reset (windows->schedule);
  valley_windows_forget_ended (windows);
  g_array_set_size (windows->frames, 0);
}

static gboolean
check_push (ValleyWindows *windows, const ValleyPicture *picture, GError **error)
{
  const ValleyWindowFrame *last
      = windows->frames->len > 0
            ? &g_array_index (windows->frames, ValleyWindowFrame, windows->frames->len - 1)
            : NULL;

  if (!valley_picture_fits (picture, windows->model, error))
    return FALSE;
  if (last == NULL)
    return TRUE;
  if (valley_windows_n_frames (windows) == 0) {
    /* What only a policy would have kept goes where it could not share a window. */
    if (picture->is_tiled || last->frame->picture->is_tiled || picture->pts_ns < last->pts_ns)
      forget_all_frames (windows);
    return TRUE;
  }
  if (last->frame->picture->is_tiled || picture->is_tiled) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "a tiled picture cannot share a window; expected it alone");
    return FALSE;
  }
  if (picture->pts_ns < last->pts_ns) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "a frame at %" G_GUINT64_FORMAT " ns came after one at %" G_GUINT64_FORMAT
                 " ns; expected times that do not decrease",
                 picture->pts_ns, last->pts_ns);
    return FALSE;
  }
  return TRUE;
}

/* Encoded, if need be in the room of what is needed later. */
static ValleyFrame *
add_frame (ValleyWindows *windows, ValleyPicture *picture, GError **error)
{
  ValleyFrame *frame;
  GError *reason = NULL;

  while ((frame = valley_frame_cache_add (windows->cache, picture, windows->n_pushed, &reason))
             == NULL
         && valley_windows_find_memory (windows, reason))
    g_clear_error (&reason);
  if (frame == NULL)
    g_propagate_error (error, reason);
  return frame;
}

gboolean
valley_windows_push (ValleyWindows *windows, ValleyPicture *picture, gboolean begins_window,
                     GError **error)
{
  ValleyWindowFrame frame = { .pts_ns = picture->pts_ns };
  gboolean is_first;

  if (!check_push (windows, picture, error))
    return FALSE;
  run_probe (windows);
  frame.frame = add_frame (windows, picture, error);
  if (frame.frame == NULL)
    return FALSE;
  is_first = valley_windows_n_frames (windows) == 0;
  frame.number = valley_schedule_push (windows->schedule, begins_window);
  valley_windows_forget_ended (windows);
  if (is_first)
    windows->window_first = frame.number;
  windows->has_prefilled = FALSE;
  windows->is_resting
      = windows->is_resting && windows->frames->len > 0
        && g_array_index (windows->frames, ValleyWindowFrame, windows->frames->len - 1).frame
               == frame.frame;
  g_array_append_val (windows->frames, frame);
  windows->n_pushed++;
  windows->stats.frames_pushed++;
  valley_windows_note_bytes (windows);
  valley_windows_keep_within_bound (windows);
  return TRUE;
}

void
valley_windows_drop_before (ValleyWindows *windows, guint64 pts_ns)
{
  guint64 keep_from;
  guint n = 0;

  for (guint i = 0; i < windows->frames->len; i++) {
    const ValleyWindowFrame *frame = &g_array_index (windows->frames, ValleyWindowFrame, i);

    if (frame->pts_ns < pts_ns)
      windows->window_first = MAX (windows->window_first, frame->number + 1);
  }
  valley_schedule_drop_before (windows->schedule, windows->window_first);
  valley_windows_forget_ended (windows);
  keep_from = MIN (valley_schedule_keep_from (windows->schedule), windows->window_first);
  while (n < windows->frames->len
         && g_array_index (windows->frames, ValleyWindowFrame, n).number < keep_from)
    n++;
  if (n > 0)
    g_array_remove_range (windows->frames, 0, n);
}

void
valley_windows_reset (ValleyWindows *windows)
{
  forget_all_frames (windows);
  g_clear_pointer (&windows->probe, valley_drift_probe_free);
  valley_frame_cache_reset (windows->cache);
  valley_windows_end_answer (windows);
  windows->n_pushed = 0;
  windows->has_prefilled = windows->is_resting = windows->is_in_vain = FALSE;
}

ValleyWindowPolicy
valley_windows_policy (const ValleyWindows *windows)
{
  return windows->windowing.policy;
}

void
valley_windows_stats (const ValleyWindows *windows, ValleySessionStats *stats)
{
  const ValleyFrameCounts *counts = valley_frame_cache_counts (windows->cache);

  *stats = windows->stats;
  stats->policy = windows->windowing.policy;
  stats->frames_encoded = counts->encoded;
  stats->frames_reencoded = counts->reencoded;
  stats->frames_unchanged = counts->unchanged;
  stats->encodings_evicted = counts->evicted;
  stats->encoding_bytes = valley_windows_encoding_bytes (windows);
  stats->kv_bytes = valley_kv_pool_bytes_used (windows->pool);
  stats->drift_samples = windows->drift.n_samples;
  stats->drift_agreements = windows->drift.n_agreements;
  stats->drift_last = windows->drift.last;
  stats->drift_mean = windows->drift.mean;
  stats->drift_max = windows->drift.max;
}
