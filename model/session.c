/* session.c - one stream: the window's encoded pictures, the prefill, the answer token by
 * token.  Only valley_session_cancel may be called from another thread.
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "alloc.h"
#include "answer.h"
#include "context.h"
#include "engine.h"
#include "sampler.h"

/* Rows that go through a layer at a time: enough to keep the matrix units busy, few enough
 * that a cancellation is noticed soon and scratch memory stays small. */
#define PREFILL_ROWS 512
#define DEFAULT_NEW_TOKENS 100
/* Room for this much of an answer is made with the prompt's; longer ones grow the cache. */
#define RESERVED_NEW_TOKENS 256

typedef struct {
  guint64 pts_ns;
  ValleyTensor rows; /* its image slot's contents */
  gboolean is_tiled;
  gboolean left_out; /* of the prompt in progress, for want of room */
} Frame;

typedef enum { ANSWER_NONE, ANSWER_RUNNING, ANSWER_OVER } AnswerState;

struct _ValleySession {
  ValleyModel *model;
  ValleyStream *stream;
  char *dump_dir;
  gboolean keep_logits;
  gsize prefill_rows;

  GArray *frames;
  guint n_pushed;   /* since the last reset: numbers the dumps */
  double encode_ms; /* of frames that no answer has accounted for yet */

  ValleyKvCache cache;
  AnswerState state;
  guint max_new_tokens;
  ValleySampler *sampler;
  ValleyAnswer answer;
  GArray *input_ids, *output_ids;
  float *logits; /* of the next token */
  float *kept;   /* every step's, with keep_logits or a dump */
  gsize n_kept, kept_capacity;
  double log_probability; /* sum over `n_scored` tokens */
  guint n_scored;
  ValleyResult result;
};

static double
milliseconds_since (gint64 start_us)
{
  return (double) (g_get_monotonic_time () - start_us) / 1000.0;
}

static void
frame_clear (gpointer data, ValleyBackend *backend)
{
  Frame *frame = data;

  valley_tensor_clear (backend, &frame->rows);
}

static void
drop_frames (ValleySession *session, guint n)
{
  for (guint i = 0; i < n; i++)
    frame_clear (&g_array_index (session->frames, Frame, i), session->model->backend);
  if (n > 0)
    g_array_remove_range (session->frames, 0, n);
}

/* Forgets the answer; the frames stay. */
static void
clear_answer (ValleySession *session)
{
  session->state = ANSWER_NONE;
  g_clear_pointer (&session->sampler, valley_sampler_free);
  valley_answer_clear (&session->answer);
  g_array_set_size (session->input_ids, 0);
  g_array_set_size (session->output_ids, 0);
  session->n_kept = 0;
  session->log_probability = 0;
  session->n_scored = 0;
  session->result = (ValleyResult){ .text = "" };
  valley_kv_cache_set_length (&session->cache, 0);
}

ValleySession *
valley_session_new (ValleyModel *model, const ValleySessionOptions *options, GError **error)
{
  const ValleyLlmConfig *llm = &model->config->llm;
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
  session = g_new0 (ValleySession, 1);
  session->model = valley_model_ref (model);
  session->frames = g_array_new (FALSE, TRUE, sizeof (Frame));
  session->input_ids = g_array_new (FALSE, TRUE, sizeof (gint32));
  session->output_ids = g_array_new (FALSE, TRUE, sizeof (gint32));
  session->prefill_rows = PREFILL_ROWS;
  session->logits = VALLEY_NEW (float, llm->vocab_size);
  session->dump_dir = g_strdup (options != NULL ? options->dump_dir : NULL);
  session->keep_logits = options != NULL && options->keep_logits;
  session->result.text = "";
  if (!valley_kv_cache_init (&session->cache, model->backend, llm->n_layers,
                             llm->n_kv_heads * llm->head_dim))
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "not enough memory for the KV caches of %" G_GSIZE_FORMAT " layers",
                 llm->n_layers);
  else if (session->logits == NULL)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "not enough memory for the logits of %" G_GSIZE_FORMAT " tokens", llm->vocab_size);
  else
    session->stream = model->backend->ops->stream_new (model->backend, error);
  if (session->stream == NULL) {
    valley_session_free (session);
    return NULL;
  }
  return session;
}

void
valley_session_free (ValleySession *session)
{
  if (session == NULL)
    return;
  if (session->stream != NULL)
    session->stream->ops->stream_wait (session->stream, NULL);
  clear_answer (session);
  drop_frames (session, session->frames->len);
  valley_kv_cache_clear (&session->cache, session->model->backend);
  if (session->stream != NULL)
    session->stream->ops->stream_free (session->stream);
  g_array_unref (session->frames);
  g_array_unref (session->input_ids);
  g_array_unref (session->output_ids);
  g_free (session->logits);
  g_free (session->kept);
  g_free (session->dump_dir);
  valley_model_unref (session->model);
  g_free (session);
}

void
valley_session_set_prefill_rows (ValleySession *session, gsize rows)
{
  session->prefill_rows = rows;
}

void
valley_session_cancel (ValleySession *session)
{
  g_atomic_int_set (&session->stream->cancelled, TRUE);
}

static gboolean
check_cancelled (ValleySession *session, GError **error)
{
  if (!g_atomic_int_get (&session->stream->cancelled))
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED, "the session was cancelled");
  return FALSE;
}

void
valley_session_reset (ValleySession *session)
{
  clear_answer (session);
  drop_frames (session, session->frames->len);
  session->n_pushed = 0;
  session->encode_ms = 0;
  /* Whatever the cancelled operations left behind belongs to what is forgotten here. */
  session->stream->ops->stream_wait (session->stream, NULL);
  g_atomic_int_set (&session->stream->cancelled, FALSE);
}

/* ---- frames ---- */

static gboolean
check_push (ValleySession *session, const ValleyPicture *picture, GError **error)
{
  const Frame *last = session->frames->len > 0
                          ? &g_array_index (session->frames, Frame, session->frames->len - 1)
                          : NULL;

  if (!check_cancelled (session, error) || !valley_picture_fits (picture, session->model, error))
    return FALSE;
  if (last != NULL && (last->is_tiled || picture->is_tiled)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "a tiled picture cannot share a window; expected it alone");
    return FALSE;
  }
  if (last != NULL && picture->pts_ns < last->pts_ns) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "a frame at %" G_GUINT64_FORMAT " ns came after one at %" G_GUINT64_FORMAT
                 " ns; expected times that do not decrease",
                 picture->pts_ns, last->pts_ns);
    return FALSE;
  }
  return TRUE;
}

gboolean
valley_session_push (ValleySession *session, ValleyPicture *picture, GError **error)
{
  gint64 start = g_get_monotonic_time ();
  Frame frame = { .pts_ns = picture->pts_ns, .is_tiled = picture->is_tiled };

  if (!check_push (session, picture, error))
    return FALSE;
  valley_encode_picture (session->model, session->stream, picture, session->n_pushed,
                         session->dump_dir, &frame.rows);
  if (!session->stream->ops->stream_wait (session->stream, error)) {
    frame_clear (&frame, session->model->backend);
    return FALSE;
  }
  g_array_append_val (session->frames, frame);
  session->n_pushed++;
  session->encode_ms += milliseconds_since (start);
  return TRUE;
}

void
valley_session_drop_before (ValleySession *session, guint64 pts_ns)
{
  guint n = 0;

  while (n < session->frames->len && g_array_index (session->frames, Frame, n).pts_ns < pts_ns)
    n++;
  drop_frames (session, n);
}

guint
valley_session_n_pictures (ValleySession *session)
{
  return session->frames->len;
}

/* ---- prefill ---- */

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
start_sampler (ValleySession *session, const ValleyRequest *request, GError **error)
{
  ValleySamplerOptions options = { .temperature = request->temperature,
                                   .top_k = request->top_k,
                                   .top_p = request->top_p == 0 ? 1 : request->top_p,
                                   .repetition_penalty = request->repetition_penalty,
                                   .seed = request->seed };

  if (options.repetition_penalty == 0)
    options.repetition_penalty = session->model->config->repetition_penalty;
  session->sampler = valley_sampler_new (&options, session->model->config->llm.vocab_size, error);
  if (session->sampler == NULL)
    return FALSE;
  for (guint i = 0; i < session->input_ids->len; i++)
    valley_sampler_see (session->sampler, g_array_index (session->input_ids, gint32, i));
  return TRUE;
}

static void
show_frames (ValleySession *session, guint n_shown)
{
  guint n = session->frames->len;

  for (guint i = 0; i < n; i++)
    g_array_index (session->frames, Frame, i).left_out = n_shown < n;
  for (guint i = 0; n_shown < n && i < n_shown; i++)
    g_array_index (session->frames, Frame, valley_context_nth_shown (i, n_shown, n)).left_out
        = FALSE;
}

/* The ids with @n_shown frames; returns the number of text tokens among them. */
static gsize
build_ids (ValleySession *session, const ValleyRequest *request, guint n_shown)
{
  g_array_unref (session->input_ids);
  session->input_ids = valley_prompt_build (session->model->prompt, request->system_prompt,
                                            request->prompt, n_shown);
  return session->input_ids->len - n_shown;
}

/* Builds the prompt with as many frames as leave room for an answer. */
static gboolean
fit_prompt (ValleySession *session, const ValleyRequest *request, guint *n_shown, GError **error)
{
  guint n = session->frames->len;
  g_autofree gsize *n_rows = g_new (gsize, n);
  ValleyContext context = { .max_positions = session->model->config->llm.max_position_embeddings,
                            .n_rows = n_rows,
                            .n_pictures = n,
                            .max_pictures = request->max_frames,
                            .n_text_more = valley_prompt_slot_text (session->model->prompt),
                            .max_new_tokens = session->max_new_tokens };
  gsize n_tokens;

  context.n_text = build_ids (session, request, n) - (n > 1 ? n - 1 : 0) * context.n_text_more;
  for (guint i = 0; i < n; i++)
    n_rows[i] = g_array_index (session->frames, Frame, i).rows.rows;
  if (!valley_context_fit (&context, n_shown, &session->max_new_tokens, &n_tokens)) {
    g_set_error (
        error, VALLEY_ERROR, VALLEY_ERROR_CONTEXT,
        "the prompt has %" G_GSIZE_FORMAT " tokens, %" G_GSIZE_FORMAT
        " of them text, and its answer needs room for %u; expected at most %" G_GSIZE_FORMAT
        " together (config.json: max_position_embeddings)",
        n_tokens, context.n_text,
        valley_context_reserve (context.max_positions, context.max_new_tokens),
        context.max_positions);
    return FALSE;
  }
  if (*n_shown < n)
    build_ids (session, request, *n_shown);
  return TRUE;
}

/* The prompt's ids and its length in rows. */
static gboolean
build_prompt (ValleySession *session, const ValleyRequest *request, GError **error)
{
  gsize n_vision = 0;
  guint n_shown = 0;

  session->max_new_tokens
      = request->max_new_tokens != 0 ? request->max_new_tokens : DEFAULT_NEW_TOKENS;
  if (!fit_prompt (session, request, &n_shown, error))
    return FALSE;
  show_frames (session, n_shown);
  for (guint i = 0; i < session->frames->len; i++) {
    const Frame *frame = &g_array_index (session->frames, Frame, i);

    n_vision += frame->left_out ? 0 : frame->rows.rows;
  }
  session->result.n_frames = n_shown;
  session->result.n_frames_dropped = session->frames->len - n_shown;
  session->result.max_new_tokens = session->max_new_tokens;
  session->result.n_input_tokens = (guint) (session->input_ids->len - n_shown + n_vision);
  session->result.n_vision_tokens = (guint) n_vision;
  return TRUE;
}

/* Text ids become rows of the embedding table, each image slot its frame's rows. */
static void
embed_prompt (ValleySession *session, const ValleyTensor *x)
{
  const ValleyOps *ops = session->stream->ops;
  const gint32 *ids = (const gint32 *) session->input_ids->data;
  guint n = session->input_ids->len, frame = 0;
  gsize row = 0;

  for (guint i = 0; i < n;) {
    guint first = i;
    ValleyTensor part;

    if (ids[i] == VALLEY_IMAGE_SLOT) {
      const Frame *f;

      while ((f = &g_array_index (session->frames, Frame, frame++))->left_out)
        ;
      part = valley_tensor_rows (x, row, f->rows.rows);
      ops->copy (session->stream, &part, &f->rows);
      i++;
    } else {
      while (i < n && ids[i] != VALLEY_IMAGE_SLOT)
        i++;
      part = valley_tensor_rows (x, row, i - first);
      ops->embed (session->stream, &part, &session->model->stages.llm.embeddings, ids + first);
    }
    row += part.rows;
  }
}

static gboolean
prefill (ValleySession *session, GError **error)
{
  const ValleyDecoder *llm = &session->model->stages.llm;
  gsize n = session->result.n_input_tokens;
  ValleyDump dump = valley_dump_named (session->dump_dir, "llm");
  ValleyTensor x, last;
  gboolean ok;

  valley_tensor_init (session->stream, &x, VALLEY_F32, n, llm->config.hidden_size);
  embed_prompt (session, &x);
  valley_dump_tensor (&dump, session->stream, &x, "embeddings");
  valley_kv_cache_reserve (&session->cache, session->stream,
                           n + MIN (session->max_new_tokens, RESERVED_NEW_TOKENS));
  valley_decoder_forward (llm, session->stream, &session->cache, &x, VALLEY_ROWS_PROMPT,
                          session->prefill_rows, &dump);
  last = valley_tensor_rows (&x, n - 1, 1);
  ok = valley_decoder_logits (llm, session->stream, &last, session->logits, error);
  valley_tensor_clear (session->model->backend, &x);
  return ok;
}

static void
describe_window (ValleySession *session)
{
  ValleyResult *result = &session->result;
  guint n = session->frames->len;

  result->start_ns = n > 0 ? g_array_index (session->frames, Frame, 0).pts_ns : 0;
  result->end_ns = n > 0 ? g_array_index (session->frames, Frame, n - 1).pts_ns : 0;
  result->input_ids = (const gint32 *) session->input_ids->data;
  result->n_input_ids = session->input_ids->len;
  result->encode_ms = session->encode_ms;
  session->encode_ms = 0;
}

gboolean
valley_session_fit (ValleySession *session, const ValleyRequest *request, GArray *pts_ns,
                    GError **error)
{
  gboolean ok;

  clear_answer (session);
  ok = check_cancelled (session, error) && check_request (request, error)
       && build_prompt (session, request, error);
  for (guint i = 0; ok && i < session->frames->len; i++) {
    const Frame *frame = &g_array_index (session->frames, Frame, i);

    if (!frame->left_out)
      g_array_append_val (pts_ns, frame->pts_ns);
  }
  clear_answer (session);
  return ok;
}

gboolean
valley_session_begin (ValleySession *session, const ValleyRequest *request, GError **error)
{
  gint64 start = g_get_monotonic_time ();

  clear_answer (session);
  if (!check_cancelled (session, error) || !check_request (request, error)
      || !build_prompt (session, request, error) || !start_sampler (session, request, error)
      || !prefill (session, error)) {
    clear_answer (session);
    return FALSE;
  }
  valley_answer_init (&session->answer, request->stop, request->markers);
  valley_answer_describe (&session->answer, &session->result);
  session->state = ANSWER_RUNNING;
  describe_window (session);
  session->result.prefill_ms = milliseconds_since (start);
  return TRUE;
}

/* ---- answer ---- */

static gboolean
keep_logits (ValleySession *session, GError **error)
{
  gsize n = session->model->config->llm.vocab_size;

  if (!session->keep_logits && session->dump_dir == NULL)
    return TRUE;
  if (session->n_kept == session->kept_capacity) {
    gsize capacity = MAX (16, 2 * session->kept_capacity);
    float *larger = valley_alloc_resize (session->kept, capacity, n * sizeof (float));

    if (larger == NULL) {
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                   "not enough memory to keep the logits of %" G_GSIZE_FORMAT " steps", capacity);
      return FALSE;
    }
    session->kept = larger;
    session->kept_capacity = capacity;
  }
  memcpy (session->kept + session->n_kept++ * n, session->logits, n * sizeof (float));
  return TRUE;
}

/* The last token's row through the decoder: the logits of the next one. */
static gboolean
decode_last (ValleySession *session, GError **error)
{
  const ValleyDecoder *llm = &session->model->stages.llm;
  const gint32 *id = &g_array_index (session->output_ids, gint32, session->output_ids->len - 1);
  ValleyTensor x;
  gboolean ok;

  valley_tensor_init (session->stream, &x, VALLEY_F32, 1, llm->config.hidden_size);
  session->stream->ops->embed (session->stream, &x, &llm->embeddings, id);
  valley_decoder_forward (llm, session->stream, &session->cache, &x, VALLEY_ROWS_GENERATED, 1,
                          NULL);
  ok = valley_decoder_logits (llm, session->stream, &x, session->logits, error);
  valley_tensor_clear (session->model->backend, &x);
  return ok;
}

static gboolean
is_stop_id (const ValleyConfig *config, gint32 id)
{
  for (gsize i = 0; i < config->n_stop_ids; i++)
    if (config->stop_ids[i] == id)
      return TRUE;
  return FALSE;
}

/* Computes and picks one token; @reason becomes why the answer ends with it, or NULL. */
static gboolean
take_token (ValleySession *session, const char **reason, GError **error)
{
  gboolean stop;
  gint32 id = 0;
  double log_probability = 0;

  if (!check_cancelled (session, error)
      || (session->output_ids->len > 0 && !decode_last (session, error))
      || !keep_logits (session, error)
      || !valley_sampler_pick (session->sampler, session->logits, &id, &log_probability, error))
    return FALSE;
  g_array_append_val (session->output_ids, id);
  stop = is_stop_id (session->model->config, id);
  if (!stop) {
    session->log_probability += log_probability;
    session->n_scored++;
    stop = valley_answer_add (&session->answer, session->model->tokenizer, id);
  }
  *reason = stop ? "stop" : session->output_ids->len >= session->max_new_tokens ? "length" : NULL;
  return TRUE;
}

static void
update_result (ValleySession *session)
{
  ValleyResult *result = &session->result;

  valley_answer_describe (&session->answer, result);
  result->output_ids = (const gint32 *) session->output_ids->data;
  result->n_output_tokens = session->output_ids->len;
  if (session->n_scored > 0)
    result->confidence = exp (session->log_probability / session->n_scored);
}

static gboolean
finish (ValleySession *session, const char *reason, GError **error)
{
  session->state = ANSWER_OVER;
  session->result.finish_reason = reason;
  valley_answer_finish (&session->answer, g_strcmp0 (reason, "stop") != 0);
  update_result (session);
  return session->dump_dir == NULL
         || valley_npy_write (session->dump_dir, "logits", session->kept, session->n_kept,
                              session->model->config->llm.vocab_size, error);
}

ValleyStep
valley_session_next (ValleySession *session, GError **error)
{
  gint64 start = g_get_monotonic_time ();
  g_autoptr (GError) reason_error = NULL;
  const char *reason = NULL;

  if (session->state == ANSWER_OVER)
    return VALLEY_STEP_DONE;
  if (session->state == ANSWER_NONE) {
    if (check_cancelled (session, error))
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                   "no answer is in progress; expected valley_session_begin before");
    return VALLEY_STEP_ERROR;
  }
  if (!take_token (session, &reason, &reason_error)) {
    gboolean cancelled = g_error_matches (reason_error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);

    finish (session, cancelled ? "cancelled" : NULL, NULL);
    session->state = ANSWER_NONE; /* the next call must not call it complete */
    g_propagate_error (error, g_steal_pointer (&reason_error));
    return VALLEY_STEP_ERROR;
  }
  session->result.decode_ms += milliseconds_since (start);
  update_result (session);
  if (reason == NULL)
    return VALLEY_STEP_TOKEN;
  return finish (session, reason, error) ? VALLEY_STEP_DONE : VALLEY_STEP_ERROR;
}

const ValleyResult *
valley_session_result (ValleySession *session)
{
  return &session->result;
}

const float *
valley_session_logits (ValleySession *session, gsize *n_steps, gsize *n_vocabulary)
{
  *n_steps = session->keep_logits ? session->n_kept : 0;
  *n_vocabulary = session->model->config->llm.vocab_size;
  return *n_steps > 0 ? session->kept : NULL;
}
