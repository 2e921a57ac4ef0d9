/* windows.c - see windows.h.
 *
 * Memory: KV pages and encodings stay within one bound.  Whoever needs a page first gives up the
 * rows of the sequence that is needed last, then encodings, and at worst fails; what was given
 * up is computed again, to the same bits, when it is needed.
 * SPDX-License-Identifier: Apache-2.0 */
#include "windows.h"

#include <string.h>

/* Rows that go through a layer at a time: enough to keep the matrix units busy, few enough
 * that a cancellation is noticed soon and scratch memory stays small. */
#define PREFILL_ROWS 512

struct _ValleyWindows {
  ValleyModel *model;
  ValleyStream *stream;
  ValleyKvPool *pool;
  ValleyPrefill prefill;
  ValleyFrameCache *cache;
  ValleySchedule *schedule;
  ValleyWindowing windowing;

  GArray *frames;       /* of ValleyWindowFrame: all that some sequence may still need */
  guint64 window_first; /* number of the first frame that is not dropped */
  guint n_pushed;       /* since the last reset */
  gboolean has_prefilled, is_resting; /* since the last push; see valley_windows_rest */

  GArray *header_ids;
  ValleyKvCache header; /* their rows, or empty */
  gsize n_header_known; /* as ValleySequence.n_known */
  GPtrArray *sequences;
  ValleyKvCache answer;
  ValleySessionStats stats;

  /* streaming */
  guint64 drifted; /* the sequence that the asked one replaced, while it is not compared */
  ValleyDriftProbe *probe;
  ValleyDrift drift;
  ValleyWindowing requested; /* `windowing`, unless that was fallen back from */
};

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
  valley_rotary_init (&windows->prefill.rotary, model->backend, model->stages.llm.frequencies,
                      llm->head_dim / 2);
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
  valley_rotary_clear (&windows->prefill.rotary);
  valley_schedule_free (windows->schedule);
  g_array_unref (windows->header_ids);
  g_free (windows);
}

/* ---- memory ---- */

static ValleySequence *
find_sequence (ValleyWindows *windows, guint64 id)
{
  for (guint i = 0; i < windows->sequences->len; i++) {
    ValleySequence *sequence = g_ptr_array_index (windows->sequences, i);

    if (sequence->id == id)
      return sequence;
  }
  return NULL;
}

static void
forget_sequence (ValleyWindows *windows, guint64 id)
{
  ValleySequence *sequence = find_sequence (windows, id);

  if (sequence == NULL)
    return;
  g_ptr_array_remove_fast (windows->sequences, sequence);
  valley_sequence_free (sequence, windows->model->backend);
}

static void
forget_ended (ValleyWindows *windows)
{
  guint64 id;

  while ((id = valley_schedule_take_ended (windows->schedule)) != 0)
    forget_sequence (windows, id);
}

/* The pool may have what the encodings leave of the bound. */
static void
share_bound (ValleyWindows *windows)
{
  guint64 max = windows->windowing.cache_max_bytes;
  guint64 encodings = valley_frame_cache_counts (windows->cache)->bytes;

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
    forget_sequence (windows, victim);
    valley_schedule_park (windows->schedule, victim);
    windows->stats.sequences_evicted++;
  } else if (!valley_frame_cache_evict (windows->cache)) {
    return FALSE;
  }
  share_bound (windows);
  return TRUE;
}

static void
keep_within_bound (ValleyWindows *windows)
{
  guint64 max = windows->windowing.cache_max_bytes;

  while (max > 0
         && valley_kv_pool_bytes_used (windows->pool)
                    + valley_frame_cache_counts (windows->cache)->bytes
                > max
         && evict (windows))
    ;
  share_bound (windows);
}

static void
note_bytes (ValleyWindows *windows)
{
  windows->stats.kv_bytes = valley_kv_pool_bytes_used (windows->pool);
  windows->stats.kv_bytes_peak = MAX (windows->stats.kv_bytes_peak, windows->stats.kv_bytes);
}

/* Whether the stream is well; *again: it was not, for want of memory, but some was found since. */
static gboolean
check_memory (ValleyWindows *windows, gboolean *again, GError **error)
{
  g_autoptr (GError) reason = NULL;

  note_bytes (windows);
  *again = FALSE;
  if (windows->stream->ops->stream_wait (windows->stream, &reason))
    return TRUE;
  *again = g_error_matches (reason, VALLEY_ERROR, VALLEY_ERROR_MEMORY) && evict (windows);
  if (!*again)
    g_propagate_error (error, g_steal_pointer (&reason));
  return FALSE;
}

static gboolean
reserve (ValleyWindows *windows, ValleyKvCache *cache, gsize rows, GError **error)
{
  gboolean ok, again;

  do {
    valley_kv_cache_reserve (cache, windows->stream, rows);
    ok = check_memory (windows, &again, error);
  } while (again);
  return ok;
}

static gboolean
fork_cache (ValleyWindows *windows, ValleyKvCache *to, ValleyKvCache *from, GError **error)
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

/* ---- sequences ---- */

/* Appends @rows to @cache, which is the sequence @id's if that is not 0.  *parked: the sequence
 * itself was the one to be given up, and nothing is left to append to. */
static gboolean
append (ValleyWindows *windows, ValleyKvCache *cache, guint64 id, ValleyRows *rows,
        gboolean *parked, GError **error)
{
  gsize n = rows->x.rows;
  gboolean ok, again;

  do {
    valley_kv_cache_reserve (cache, windows->stream, cache->length + n);
    ok = check_memory (windows, &again, error);
    *parked = again && id != 0 && find_sequence (windows, id) == NULL;
  } while (again && !*parked);
  if (!ok)
    return *parked;
  if (!valley_rows_append (rows, &windows->prefill, cache, error))
    return FALSE;
  windows->stats.frame_rows += rows->n_frame_rows;
  windows->stats.text_rows += n - rows->n_frame_rows;
  return TRUE;
}

static gboolean
make_header (ValleyWindows *windows, GError **error)
{
  const GArray *ids = windows->header_ids;
  ValleyRows rows;
  gboolean ok, parked;

  if (windows->header.length > 0)
    return TRUE;
  if (!valley_rows_init (&rows, &windows->prefill, (const gint32 *) ids->data, ids->len, NULL, NULL,
                         error))
    return FALSE;
  ok = append (windows, &windows->header, 0, &rows, &parked, error);
  valley_rows_clear (&rows, &windows->prefill);
  return ok;
}

/* The sequence @id, which begins as the header. */
static ValleySequence *
get_sequence (ValleyWindows *windows, guint64 id, GError **error)
{
  ValleySequence *sequence = find_sequence (windows, id);

  if (sequence != NULL)
    return sequence;
  if (!make_header (windows, error))
    return NULL;
  sequence = valley_sequence_new (id, windows->pool, windows->header_ids->len);
  if (!fork_cache (windows, &sequence->cache, &windows->header, error)) {
    valley_sequence_free (sequence, windows->model->backend);
    return NULL;
  }
  sequence->n_known = windows->n_header_known;
  g_ptr_array_add (windows->sequences, sequence);
  return sequence;
}

static const ValleyWindowFrame *
frame_at (const ValleyWindows *windows, guint64 number)
{
  guint64 first = g_array_index (windows->frames, ValleyWindowFrame, 0).number;

  return &g_array_index (windows->frames, ValleyWindowFrame, number - first);
}

/* Frames that the sequence holds. */
static guint64
n_held (const ValleyWindows *windows, guint64 id)
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

/* After a failure: what frames' tokens are compared with has gone ahead of the rows. */
static void
start_over (ValleyWindows *windows, ValleySequence *sequence)
{
  guint64 id = sequence->id;

  forget_sequence (windows, id);
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
    start_over (windows, sequence);
    return FALSE;
  }
  ok = append (windows, &sequence->cache, sequence->id, &rows, &parked, error);
  if (ok && !parked) {
    valley_sequence_note (sequence, &rows, 0);
    valley_schedule_done (windows->schedule, unit);
  }
  valley_rows_clear (&rows, &windows->prefill);
  if (!ok)
    start_over (windows, sequence);
  return ok;
}

/* What @unit evicts goes first, and is no part of it any more. */
static gboolean
evict_frames (ValleyWindows *windows, ValleyScheduleUnit *unit, GError **error)
{
  ValleySequence *sequence = find_sequence (windows, unit->sequence);
  ValleyScheduleUnit evicted = *unit;

  unit->n_evict = 0;
  if (evicted.n_evict == 0)
    return TRUE;
  if (!valley_sequence_evict (sequence, &windows->prefill, evicted.n_evict,
                              valley_prompt_slot_text (windows->model->prompt), error)) {
    forget_sequence (windows, evicted.sequence);
    valley_schedule_restart (windows->schedule, evicted.sequence);
    return FALSE;
  }
  evicted.n_frames = 0;
  valley_schedule_done (windows->schedule, &evicted);
  return TRUE;
}

static gboolean
run_unit (ValleyWindows *windows, ValleyScheduleUnit *unit, GError **error)
{
  g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (gint32));
  g_autofree ValleyFrame **frames = g_new (ValleyFrame *, unit->n_frames);
  ValleySequence *sequence;
  gsize n_rows = 0;

  if (!evict_frames (windows, unit, error))
    return FALSE;
  sequence = get_sequence (windows, unit->sequence, error);
  if (sequence == NULL)
    return FALSE;
  for (guint i = 0; i < unit->n_frames; i++) {
    frames[i] = frame_at (windows, unit->frame + i)->frame;
    n_rows += frames[i]->n_rows;
    valley_prompt_frame (windows->model->prompt, i == 0 && n_held (windows, unit->sequence) == 0,
                         ids);
  }
  if (!fits_model (windows, sequence, n_rows + ids->len - unit->n_frames)) {
    forget_sequence (windows, unit->sequence);
    valley_schedule_give_up (windows->schedule, unit->sequence);
    return TRUE;
  }
  if (!append_frames (windows, unit, sequence, ids, frames, error))
    return FALSE;
  keep_within_bound (windows); /* encodings may have come back */
  return TRUE;
}

/* Every sequence is computed anew, when and if it is needed. */
static void
restart_all (ValleyWindows *windows)
{
  g_clear_pointer (&windows->probe, valley_drift_probe_free);
  valley_kv_cache_clear (&windows->header);
  windows->n_header_known = 0;
  while (windows->sequences->len > 0) {
    guint64 id = ((ValleySequence *) g_ptr_array_index (windows->sequences, 0))->id;

    forget_sequence (windows, id);
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
  restart_all (windows);
}

static void
change_windowing (ValleyWindows *windows, const ValleyWindowing *windowing)
{
  gboolean streams = windowing->policy == VALLEY_WINDOWS_STREAMING;

  windows->windowing = *windowing;
  valley_schedule_set_windowing (windows->schedule, windowing);
  forget_ended (windows);
  if (streams != valley_kv_pool_keeps_unrotated (windows->pool)) {
    restart_all (windows);
    valley_windows_end_answer (windows);
    valley_kv_pool_set_unrotated (windows->pool, streams);
  }
  keep_within_bound (windows);
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
  note_bytes (windows);
  g_clear_pointer (&windows->probe, valley_drift_probe_free);
  if (windows->frames->len > 0
      && valley_drift_is_over (&windows->drift, windows->windowing.max_drift))
    fall_back (windows);
  return TRUE;
}

gboolean
valley_windows_work (ValleyWindows *windows, gboolean *more, GError **error)
{
  ValleyScheduleUnit unit;

  *more = FALSE;
  if (windows->prefill.dump_dir != NULL /* a dump shows whole prompts */
      || windows->is_resting)
    return TRUE;
  *more = valley_schedule_next_unit (windows->schedule, &unit);
  forget_ended (windows);
  if (!*more) {
    *more = run_probe (windows);
    return TRUE;
  }
  if (run_unit (windows, &unit, error))
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
  forget_ended (windows);
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

gboolean
valley_windows_push (ValleyWindows *windows, ValleyPicture *picture, gboolean begins_window,
                     GError **error)
{
  ValleyWindowFrame frame = { .pts_ns = picture->pts_ns };
  gboolean is_first;

  if (!check_push (windows, picture, error))
    return FALSE;
  run_probe (windows);
  frame.frame = valley_frame_cache_add (windows->cache, picture, windows->n_pushed, error);
  if (frame.frame == NULL)
    return FALSE;
  is_first = valley_windows_n_frames (windows) == 0;
  frame.number = valley_schedule_push (windows->schedule, begins_window);
  forget_ended (windows);
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
  keep_within_bound (windows);
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
  forget_ended (windows);
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
  windows->has_prefilled = windows->is_resting = FALSE;
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
  stats->encoding_bytes = counts->bytes;
  stats->encoding_bytes_peak = counts->bytes_peak;
  stats->kv_bytes = valley_kv_pool_bytes_used (windows->pool);
  stats->drift_samples = windows->drift.n_samples;
  stats->drift_agreements = windows->drift.n_agreements;
  stats->drift_last = windows->drift.last;
  stats->drift_mean = windows->drift.mean;
  stats->drift_max = windows->drift.max;
}

/* ---- answers ---- */

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
  forget_ended (windows);
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
      && (!make_header (windows, error)
          || !fork_cache (windows, &windows->answer, &windows->header, error)))
    return FALSE;
  ok = valley_rows_init (rows, &windows->prefill, prompt->ids + n_header, prompt->n_ids - n_header,
                         frames, &redundancy, error);
  valley_redundancy_clear (&redundancy, windows->model->backend);
  if (!ok)
    return FALSE;
  counts->n_frame_rows = rows->n_frame_rows;
  if (append (windows, &windows->answer, 0, rows, &parked, error))
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
  gsize held = n_held (windows, sequence->id), n = prompt->frames->len;
  gsize n_tail = prompt->n_ids - prompt->n_header - n_frame_ids (windows, n);
  g_autofree ValleyFrame **frames = frames_behind (prompt, held);
  gboolean parked, ok;

  if (!valley_rows_init (rows, &windows->prefill,
                         prompt->ids + prompt->n_header + n_frame_ids (windows, held),
                         prompt->n_ids - prompt->n_header - n_frame_ids (windows, held), frames,
                         &sequence->redundancy, error)) {
    start_over (windows, sequence);
    return FALSE;
  }
  if (!append (windows, &sequence->cache, sequence->id, rows, &parked, error)) {
    valley_rows_clear (rows, &windows->prefill);
    start_over (windows, sequence);
    return FALSE;
  }
  ok = fork_cache (windows, &windows->answer, &sequence->cache, error);
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
    if (!run_unit (windows, &unit, error))
      return FALSE;
  if (lacks && !evict_frames (windows, &unit, error))
    return FALSE;
  sequence = get_sequence (windows, id, error);
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
  ValleySequence *sequence = find_sequence (windows, windows->drifted);
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
    frames[n++] = frame_at (windows, i)->frame;
  g_ptr_array_find (windows->sequences, sequence, &place);
  g_ptr_array_steal_index_fast (windows->sequences, place);
  windows->probe
      = valley_drift_probe_new (windows->model, sequence, windows->windowing.window_frames, frames,
                                n, prompt->ids + n_text, prompt->n_ids - n_text);
}

gboolean
valley_windows_prefill (ValleyWindows *windows, const ValleyWindowPrompt *prompt, ValleyRows *rows,
                        ValleyWindowCounts *counts, GError **error)
{
  ValleyScheduleAnswer answer;
  gboolean shared = prompt->is_contents && windows->prefill.dump_dir == NULL
                    && ask (windows, &answer) && !answer.given_up;

  windows->has_prefilled = TRUE;
  windows->is_resting = FALSE;
  forget_ended (windows);
  if (windows->probe != NULL && !valley_drift_probe_is_ready (windows->probe))
    g_clear_pointer (&windows->probe, valley_drift_probe_free); /* its answer never came */
  if (shared ? !prefill_sequence (windows, prompt, answer.sequence, rows, counts, error)
             : !prefill_alone (windows, prompt, rows, counts, error)) {
    valley_windows_end_answer (windows);
    return FALSE;
  }
  if (shared)
    take_drifted (windows, prompt);
  keep_within_bound (windows);
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

  if (length > 0 && !reserve (windows, &windows->answer, length + n, NULL))
    reserve (windows, &windows->answer, length + 1, NULL);
}

void
valley_windows_end_answer (ValleyWindows *windows)
{
  valley_kv_cache_clear (&windows->answer);
}
