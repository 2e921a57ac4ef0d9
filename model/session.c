/* session.c - one stream: its windows and the prompts over them.  Frames and sequences are
 * windows.c's, the answer is generation.c's.  Only valley_session_cancel may be called from
 * another thread.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "admission.h"
#include "engine.h"
#include "generation.h"
#include "previous.h"
#include "session_prompt.h"

/* Rows that the answer's cache is kept ahead of its tokens. */
#define ANSWER_ROWS VALLEY_KV_PAGE_ROWS

struct _ValleySession {
  ValleyModel *model;
  ValleyStream *stream;
  ValleyWindows *windows;
  ValleyGeneration *generation;
  ValleyPrevious *previous;
  gboolean repeats;    /* the answer in progress is a previous one, and complete */
  guint64 n_unchanged; /* how often that was so */
  double encode_ms;    /* of frames that no answer has accounted for yet */

  ValleySessionPrompt prompt; /* in progress */
};

static double
milliseconds_since (gint64 start_us)
{
  return (double) (g_get_monotonic_time () - start_us) / 1000.0;
}

/* Forgets the answer; the frames stay. */
static void
clear_answer (ValleySession *session)
{
  valley_generation_reset (session->generation);
  valley_windows_end_answer (session->windows);
  session->repeats = FALSE;
  valley_session_prompt_forget (&session->prompt);
}

static gboolean
check_change_threshold (double threshold, GError **error)
{
  if (threshold >= 0 && threshold <= 1)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
               "a change threshold of %g; expected a number from 0 to 1", threshold);
  return FALSE;
}

ValleySession *
valley_session_new (ValleyModel *model, const ValleySessionOptions *options, GError **error)
{
  ValleySession *session;
  gboolean loaded;

  g_mutex_lock (&model->lock);
  loaded = model->state == VALLEY_LOAD_DONE;
  g_mutex_unlock (&model->lock);
  if (!loaded) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "%s: the model is not loaded; expected valley_model_load before a session",
                 model->config->dir);
    return NULL;
  }
  if (!check_change_threshold (options != NULL ? options->change_threshold : 0, error))
    return NULL;
  session = g_new0 (ValleySession, 1);
  session->model = valley_model_ref (model);
  valley_session_prompt_init (&session->prompt, model,
                              options != NULL ? options->system_prompt : NULL);
  session->previous = valley_previous_new ();
  session->stream = model->backend->ops->stream_new (model->backend, error);
  if (session->stream != NULL)
    session->windows = valley_windows_new (model, session->stream, options, error);
  if (session->windows == NULL) {
    valley_session_free (session);
    return NULL;
  }
  session->generation = valley_generation_new (model, session->stream, options);
  valley_windows_set_header (session->windows, (const gint32 *) session->prompt.header->data,
                             session->prompt.header->len);
  return session;
}

void
valley_session_free (ValleySession *session)
{
  if (session == NULL)
    return;
  if (session->stream != NULL)
    session->stream->ops->stream_wait (session->stream, NULL);
  valley_generation_free (session->generation);
  valley_previous_free (session->previous);
  valley_windows_free (session->windows);
  if (session->stream != NULL)
    session->stream->ops->stream_free (session->stream);
  valley_session_prompt_clear (&session->prompt);
  valley_model_unref (session->model);
  g_free (session);
}

void
valley_session_set_prefill_rows (ValleySession *session, gsize rows)
{
  valley_windows_set_prefill_rows (session->windows, rows);
}

void
valley_session_cancel (ValleySession *session)
{
  g_atomic_int_set (&session->stream->cancelled, TRUE);
}

gboolean
valley_session_wait (ValleySession *session, GError **error)
{
  return session->stream->ops->stream_wait (session->stream, error);
}

void
valley_session_reset (ValleySession *session)
{
  clear_answer (session);
  valley_generation_forget (session->generation);
  valley_previous_clear (session->previous);
  valley_windows_reset (session->windows);
  session->encode_ms = 0;
  /* Whatever the cancelled operations left behind belongs to what is forgotten here. */
  session->stream->ops->stream_wait (session->stream, NULL);
  g_atomic_int_set (&session->stream->cancelled, FALSE);
}

/* ---- windows ---- */

gboolean
valley_session_set_windowing (ValleySession *session, const ValleyWindowing *windowing,
                              GError **error)
{
  if (!valley_windowing_check (windowing, error))
    return FALSE;
  clear_answer (session);
  valley_windows_set_windowing (session->windows, windowing);
  return TRUE;
}

gboolean
valley_session_set_change_threshold (ValleySession *session, double change_threshold,
                                     GError **error)
{
  if (!check_change_threshold (change_threshold, error))
    return FALSE;
  valley_windows_set_change_threshold (session->windows, change_threshold);
  return TRUE;
}

gboolean
valley_session_push (ValleySession *session, ValleyPicture *picture, gboolean begins_window,
                     GError **error)
{
  gint64 start = g_get_monotonic_time ();

  if (!valley_stream_check_cancelled (session->stream, error)
      || !valley_windows_push (session->windows, picture, begins_window, error))
    return FALSE;
  session->encode_ms += milliseconds_since (start);
  return TRUE;
}

gboolean
valley_session_work (ValleySession *session, gboolean *more, GError **error)
{
  *more = FALSE;
  return valley_stream_check_cancelled (session->stream, error)
         && valley_windows_work (session->windows, more, error);
}

void
valley_session_drop_before (ValleySession *session, guint64 pts_ns)
{
  valley_windows_drop_before (session->windows, pts_ns);
}

guint
valley_session_n_pictures (ValleySession *session)
{
  return valley_windows_n_frames (session->windows);
}

void
valley_session_stats (ValleySession *session, ValleySessionStats *stats)
{
  valley_windows_stats (session->windows, stats);
  valley_generation_count (session->generation, &stats->drafted, &stats->accepted);
  stats->hops += session->n_unchanged;
  stats->hops_unchanged = session->n_unchanged;
}

/* ---- prompt ---- */

static gboolean
check_request (const ValleyRequest *request, GError **error)
{
  if (request->prompt == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT, "no prompt; expected a question");
    return FALSE;
  }
  for (gsize i = 0; request->stop != NULL && request->stop[i] != NULL; i++)
    if (!g_utf8_validate (request->stop[i], -1, NULL)) {
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                   "stop string %" G_GSIZE_FORMAT " is not valid UTF-8", i);
      return FALSE;
    }
  return TRUE;
}

static gboolean
build_prompt (ValleySession *session, const ValleyRequest *request, GError **error)
{
  if (!valley_session_prompt_build (&session->prompt, session->windows, request, error))
    return FALSE;
  valley_session_prompt_describe (&session->prompt, valley_generation_result (session->generation));
  return TRUE;
}

gboolean
valley_session_fit (ValleySession *session, const ValleyRequest *request, GArray *pts_ns,
                    GError **error)
{
  gboolean ok;

  clear_answer (session);
  ok = valley_stream_check_cancelled (session->stream, error) && check_request (request, error)
       && build_prompt (session, request, error);
  if (ok)
    g_array_append_vals (pts_ns, session->prompt.shown_pts->data, session->prompt.shown_pts->len);
  clear_answer (session);
  return ok;
}

static void
describe_rows (ValleySession *session, const ValleyWindowCounts *counts)
{
  ValleyResult *result = valley_generation_result (session->generation);

  result->n_vision_tokens = (guint) counts->n_frame_rows;
  result->n_reused_tokens = (guint) counts->n_reused;
  result->n_input_tokens
      = session->prompt.ids->len - session->prompt.shown->len + result->n_vision_tokens;
  for (guint i = 0; i < session->prompt.shown->len; i++) {
    const ValleyFrame *frame = g_array_index (session->prompt.shown, ValleyWindowFrame, i).frame;

    /* Sizes that a caller made up do not tell. */
    result->n_vision_tokens_before
        += (guint) MAX (frame->picture->sizes.n_tokens_before, frame->n_rows);
  }
}

/* Streaming: what the exact answer is compared with later starts out from the same. */
static void
begin_probe (ValleySession *session, const ValleyRequest *request, const ValleyTensor *last)
{
  ValleyDriftProbe *probe = valley_windows_probe (session->windows);
  ValleySampler *sampler;

  if (probe == NULL || valley_drift_probe_is_ready (probe))
    return;
  sampler = valley_generation_sampler (session->model, request,
                                       (const gint32 *) session->prompt.ids->data,
                                       session->prompt.ids->len, NULL);
  if (sampler == NULL)
    return; /* so it is left out */
  valley_drift_probe_begin (probe, valley_windows_prefiller (session->windows), last, sampler,
                            NULL);
}

static gboolean
prefill (ValleySession *session, const ValleyRequest *request, GError **error)
{
  ValleyWindowPrompt prompt
      = { .ids = (const gint32 *) session->prompt.ids->data,
          .n_ids = session->prompt.ids->len,
          .n_header = session->prompt.shown->len > 0 ? session->prompt.header->len : 0,
          .frames = session->prompt.shown,
          .is_contents = session->prompt.is_contents };
  ValleyPrefill *prefiller = valley_windows_prefiller (session->windows);
  ValleyRows rows;
  ValleyTensor last;
  ValleyWindowCounts counts;
  gboolean ok;

  valley_windows_set_header (session->windows, (const gint32 *) session->prompt.header->data,
                             session->prompt.header->len);
  if (!valley_windows_prefill (session->windows, &prompt, &rows, &counts, error))
    return FALSE;
  describe_rows (session, &counts);
  last = valley_tensor_rows (&rows.x, rows.x.rows - 1, 1);
  ok = valley_generation_start (session->generation, valley_windows_answer_cache (session->windows),
                                &prefiller->run, &last, error);
  if (ok)
    begin_probe (session, request, &last);
  valley_rows_clear (&rows, prefiller);
  return ok;
}

/* Whether the model need not be run: an earlier window looked the same, and was asked the same. */
static gboolean
repeat_previous (ValleySession *session, const ValleyRequest *request)
{
  guint n = session->prompt.shown->len;
  g_autofree guint64 *contents = g_new (guint64, n);
  ValleyPreviousKey key
      = { .request = request,
          .max_new_tokens = session->prompt.max_new_tokens,
          .ids = (const gint32 *) session->prompt.ids->data,
          .n_ids = session->prompt.ids->len,
          .contents = contents,
          .n_contents = n,
          .is_exact = valley_windows_policy (session->windows) != VALLEY_WINDOWS_STREAMING };

  for (guint i = 0; i < n; i++) {
    const ValleyWindowFrame *frame = &g_array_index (session->prompt.shown, ValleyWindowFrame, i);

    contents[i] = frame->frame->content;
    key.window = frame->number;
  }
  session->repeats = valley_previous_begin (session->previous, &key,
                                            valley_generation_result (session->generation));
  session->n_unchanged += session->repeats;
  if (session->repeats)
    valley_windows_rest (session->windows);
  return session->repeats;
}

gboolean
valley_session_begin (ValleySession *session, const ValleyRequest *request, GError **error)
{
  gint64 start = g_get_monotonic_time ();
  ValleyResult *result = valley_generation_result (session->generation);

  clear_answer (session);
  if (!valley_stream_check_cancelled (session->stream, error) || !check_request (request, error)
      || !build_prompt (session, request, error)
      || !valley_generation_prepare (
          session->generation, request, (const gint32 *) session->prompt.ids->data,
          session->prompt.ids->len, session->prompt.max_new_tokens, error)
      || !(repeat_previous (session, request) || prefill (session, request, error))) {
    clear_answer (session);
    return FALSE;
  }
  result->encode_ms = session->encode_ms;
  session->encode_ms = 0;
  result->prefill_ms = milliseconds_since (start);
  return TRUE;
}

/* ---- the answer ---- */

static void
keep_answer (ValleySession *session)
{
  gsize n_steps, n_vocabulary;
  const float *logits = valley_generation_logits (session->generation, &n_steps, &n_vocabulary);

  valley_previous_finish (session->previous, valley_generation_result (session->generation), logits,
                          n_steps * n_vocabulary);
}

ValleyStep
valley_session_next (ValleySession *session, GError **error)
{
  const ValleyResult *result = valley_generation_result (session->generation);
  ValleyDriftProbe *probe;
  ValleyStep step;

  if (session->repeats)
    return valley_stream_check_cancelled (session->stream, error) ? VALLEY_STEP_DONE
                                                                  : VALLEY_STEP_ERROR;
  valley_windows_make_room (session->windows, ANSWER_ROWS);
  step = valley_generation_next (session->generation, error);
  probe = valley_windows_probe (session->windows);
  if (step == VALLEY_STEP_DONE && probe != NULL)
    valley_drift_probe_end (probe, result->output_ids, result->n_output_tokens);
  if (step == VALLEY_STEP_DONE)
    keep_answer (session);
  if (step != VALLEY_STEP_TOKEN)
    valley_windows_end_answer (session->windows);
  return step;
}

const ValleyResult *
valley_session_result (ValleySession *session)
{
  return valley_generation_result (session->generation);
}

const float *
valley_session_logits (ValleySession *session, gsize *n_steps, gsize *n_vocabulary)
{
  const float *logits = valley_generation_logits (session->generation, n_steps, n_vocabulary);

  if (!session->repeats)
    return logits;
  logits = valley_previous_logits (session->previous, n_steps);
  *n_steps /= *n_vocabulary;
  return logits;
}
