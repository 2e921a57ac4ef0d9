/* session.c - one stream: the window's encoded pictures and the prefill.  The answer
 * itself is generation.c's.  Only valley_session_cancel may be called from another thread.
 * SPDX-License-Identifier: Apache-2.0 */
#include "admission.h"
#include "alloc.h"
#include "context.h"
#include "engine.h"
#include "generation.h"
#include "redundancy.h"

/* Rows that go through a layer at a time: enough to keep the matrix units busy, few enough
 * that a cancellation is noticed soon and scratch memory stays small. */
#define PREFILL_ROWS 512
#define DEFAULT_NEW_TOKENS 100
/* Room for this much of an answer is made with the prompt's; longer ones grow the cache. */
#define RESERVED_NEW_TOKENS 256

typedef struct {
  guint64 pts_ns;
  ValleyInputSizes sizes;
  ValleyTensor rows; /* its image slot's contents */
  gint32 *chosen;    /* which of them are shown in the prompt in progress */
  gsize n_chosen;
  gboolean is_tiled;
  gboolean left_out; /* of the prompt in progress, for want of room */
} Frame;

struct _ValleySession {
  ValleyModel *model;
  ValleyStream *stream;
  char *dump_dir;
  gsize prefill_rows;

  GArray *frames;
  GArray *shown_pts; /* of those in the prompt in progress */
  guint n_pushed;    /* since the last reset: numbers the dumps */
  double encode_ms;  /* of frames that no answer has accounted for yet */
  ValleyWindowing windowing;
  ValleySessionStats stats;

  ValleyKvPool *pool;
  ValleyKvCache cache;
  ValleyRotary rotary;
  guint max_new_tokens; /* of the prompt in progress */
  GArray *input_ids;
  ValleyGeneration *generation;
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
  g_free (frame->chosen);
}

static guint64
frame_bytes (const Frame *frame)
{
  return (guint64) frame->rows.rows * frame->rows.cols * sizeof (float);
}

static void
drop_frames (ValleySession *session, guint n)
{
  for (guint i = 0; i < n; i++) {
    Frame *frame = &g_array_index (session->frames, Frame, i);

    session->stats.encoding_bytes -= frame_bytes (frame);
    frame_clear (frame, session->model->backend);
  }
  if (n > 0)
    g_array_remove_range (session->frames, 0, n);
}

/* Forgets the answer; the frames stay. */
static void
clear_answer (ValleySession *session)
{
  if (session->generation != NULL)
    valley_generation_reset (session->generation);
  g_array_set_size (session->input_ids, 0);
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
  if (options != NULL && options->change_threshold != 0) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "a change threshold of %g; this build has none, expected 0",
                 options->change_threshold);
    return NULL;
  }
  session = g_new0 (ValleySession, 1);
  session->model = valley_model_ref (model);
  session->frames = g_array_new (FALSE, TRUE, sizeof (Frame));
  session->shown_pts = g_array_new (FALSE, TRUE, sizeof (guint64));
  session->input_ids = g_array_new (FALSE, TRUE, sizeof (gint32));
  session->prefill_rows = PREFILL_ROWS;
  session->dump_dir = g_strdup (options != NULL ? options->dump_dir : NULL);
  session->pool
      = valley_kv_pool_new (model->backend, llm->n_layers, llm->n_kv_heads * llm->head_dim, 0);
  valley_kv_cache_init (&session->cache, session->pool);
  valley_rotary_init (&session->rotary, model->backend, model->stages.llm.frequencies,
                      llm->head_dim / 2);
  if (session->pool == NULL)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "not enough memory for a KV cache of %" G_GSIZE_FORMAT " layers", llm->n_layers);
  else
    session->stream = model->backend->ops->stream_new (model->backend, error);
  if (session->stream != NULL)
    session->generation = valley_generation_new (model, session->stream, options, error);
  if (session->generation == NULL) {
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
  valley_generation_free (session->generation);
  drop_frames (session, session->frames->len);
  valley_kv_cache_clear (&session->cache);
  valley_kv_pool_free (session->pool);
  valley_rotary_clear (&session->rotary);
  if (session->stream != NULL)
    session->stream->ops->stream_free (session->stream);
  g_array_unref (session->frames);
  g_array_unref (session->shown_pts);
  g_array_unref (session->input_ids);
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

void
valley_session_reset (ValleySession *session)
{
  clear_answer (session);
  valley_generation_forget (session->generation);
  drop_frames (session, session->frames->len);
  session->n_pushed = 0;
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
  if (windowing->policy != VALLEY_WINDOWS_TUMBLING || windowing->cache_max_bytes != 0) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "window policy %d with a cache of %" G_GUINT64_FORMAT
                 " bytes; expected tumbling and no bound in this build",
                 windowing->policy, windowing->cache_max_bytes);
    return FALSE;
  }
  session->windowing = *windowing;
  return TRUE;
}

/* Frames are encoded when they are pushed and prefilled when a question comes. */
gboolean
valley_session_work (ValleySession *session, gboolean *more, GError **error)
{
  *more = FALSE;
  return valley_stream_check_cancelled (session->stream, error);
}

void
valley_session_stats (ValleySession *session, ValleySessionStats *stats)
{
  *stats = session->stats;
  stats->policy = session->windowing.policy;
  valley_generation_count (session->generation, &stats->drafted, &stats->accepted);
}

/* ---- frames ---- */

static gboolean
check_push (ValleySession *session, const ValleyPicture *picture, GError **error)
{
  const Frame *last = session->frames->len > 0
                          ? &g_array_index (session->frames, Frame, session->frames->len - 1)
                          : NULL;

  if (!valley_stream_check_cancelled (session->stream, error)
      || !valley_picture_fits (picture, session->model, error))
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
valley_session_push (ValleySession *session, ValleyPicture *picture, gboolean begins_window,
                     GError **error)
{
  gint64 start = g_get_monotonic_time ();
  Frame frame
      = { .pts_ns = picture->pts_ns, .sizes = picture->sizes, .is_tiled = picture->is_tiled };

  if (!check_push (session, picture, error))
    return FALSE;
  valley_encode_picture (session->model, session->stream, picture, session->n_pushed,
                         session->dump_dir, &frame.rows);
  frame.chosen = VALLEY_NEW (gint32, MAX (frame.rows.rows, 1));
  if (frame.chosen == NULL)
    valley_stream_fail (session->stream, VALLEY_ERROR_MEMORY, "not enough memory for a frame");
  if (!session->stream->ops->stream_wait (session->stream, error)) {
    frame_clear (&frame, session->model->backend);
    return FALSE;
  }
  g_array_append_val (session->frames, frame);
  session->n_pushed++;
  session->stats.frames_pushed++;
  session->stats.frames_encoded++;
  session->stats.encoding_bytes += frame_bytes (&frame);
  session->stats.encoding_bytes_peak
      = MAX (session->stats.encoding_bytes_peak, session->stats.encoding_bytes);
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
  ValleyResult *result = valley_generation_result (session->generation);
  guint n_shown = 0;

  session->max_new_tokens
      = request->max_new_tokens != 0 ? request->max_new_tokens : DEFAULT_NEW_TOKENS;
  if (!fit_prompt (session, request, &n_shown, error))
    return FALSE;
  show_frames (session, n_shown);
  result->n_frames = n_shown;
  result->n_frames_dropped = session->frames->len - n_shown;
  result->max_new_tokens = session->max_new_tokens;
  return TRUE;
}

/* Which of the shown frames' tokens say something new, and how many that makes. */
static gboolean
choose_tokens (ValleySession *session, GError **error)
{
  ValleyResult *result = valley_generation_result (session->generation);
  ValleyRedundancy redundancy = { 0 };
  gsize n_vision = 0, n_before = 0;

  for (guint i = 0; i < session->frames->len; i++) {
    Frame *f = &g_array_index (session->frames, Frame, i);

    if (f->left_out)
      continue;
    f->n_chosen
        = valley_redundancy_choose (&redundancy, session->stream, &f->rows, &f->sizes, f->chosen);
    n_vision += f->n_chosen;
    /* Sizes that a caller made up do not tell. */
    n_before += MAX (f->sizes.n_tokens_before, f->rows.rows);
  }
  valley_redundancy_clear (&redundancy, session->model->backend);
  result->n_input_tokens = (guint) (session->input_ids->len - result->n_frames + n_vision);
  result->n_vision_tokens = (guint) n_vision;
  result->n_vision_tokens_before = (guint) n_before;
  return session->stream->ops->stream_wait (session->stream, error);
}

/* Text ids become rows of the embedding table, each image slot its frame's chosen rows.  Dropped
 * ones leave their positions behind, so that what stays is still where it was. */
static void
embed_prompt (ValleySession *session, const ValleyTensor *x, gint32 *positions)
{
  const ValleyOps *ops = session->stream->ops;
  const gint32 *ids = (const gint32 *) session->input_ids->data;
  guint n = session->input_ids->len, frame = 0;
  gsize row = 0, position = 0;

  for (guint i = 0; i < n;) {
    guint first = i;
    ValleyTensor part;

    if (ids[i] == VALLEY_IMAGE_SLOT) {
      const Frame *f;

      while ((f = &g_array_index (session->frames, Frame, frame++))->left_out)
        ;
      part = valley_tensor_rows (x, row, f->n_chosen);
      ops->gather (session->stream, &part, &f->rows, f->chosen);
      for (gsize j = 0; j < part.rows; j++)
        positions[row + j] = (gint32) position + f->chosen[j];
      position += f->rows.rows;
      i++;
    } else {
      while (i < n && ids[i] != VALLEY_IMAGE_SLOT)
        i++;
      part = valley_tensor_rows (x, row, i - first);
      ops->embed (session->stream, &part, &session->model->stages.llm.embeddings, ids + first);
      for (gsize j = 0; j < part.rows; j++)
        positions[row + j] = (gint32) position++;
    }
    row += part.rows;
  }
}

static gboolean
prefill (ValleySession *session, GError **error)
{
  const ValleyDecoder *llm = &session->model->stages.llm;
  const ValleyResult *result = valley_generation_result (session->generation);
  gsize n = result->n_input_tokens;
  ValleyDump dump = valley_dump_named (session->dump_dir, "llm");
  g_autofree gint32 *positions = VALLEY_NEW (gint32, n);
  ValleyForward forward = { .cache = &session->cache,
                            .rotary = &session->rotary,
                            .positions = positions,
                            .role = VALLEY_ROWS_PROMPT,
                            .rows_at_once = session->prefill_rows,
                            .dump = &dump };
  ValleyTensor x, last;
  gboolean ok;

  if (positions == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "not enough memory for a prompt of %" G_GSIZE_FORMAT " tokens", n);
    return FALSE;
  }
  valley_tensor_init (session->stream, &x, VALLEY_F32, n, llm->config.hidden_size);
  embed_prompt (session, &x, positions);
  valley_dump_tensor (&dump, session->stream, &x, "embeddings");
  valley_kv_cache_reserve (&session->cache, session->stream,
                           n + MIN (session->max_new_tokens, RESERVED_NEW_TOKENS));
  valley_decoder_forward (llm, session->stream, &forward, &x);
  last = valley_tensor_rows (&x, n - 1, 1);
  ok = valley_generation_start (session->generation, &session->cache, &session->rotary, &last,
                                error);
  valley_tensor_clear (session->model->backend, &x);
  session->stats.frame_rows += ok ? result->n_vision_tokens : 0;
  session->stats.text_rows += ok ? n - result->n_vision_tokens : 0;
  session->stats.hops += ok ? 1 : 0;
  return ok;
}

static void
describe_window (ValleySession *session)
{
  ValleyResult *result = valley_generation_result (session->generation);
  guint n = session->frames->len;

  g_array_set_size (session->shown_pts, 0);
  for (guint i = 0; i < n; i++) {
    const Frame *frame = &g_array_index (session->frames, Frame, i);

    if (!frame->left_out)
      g_array_append_val (session->shown_pts, frame->pts_ns);
  }
  result->frame_pts_ns = (const guint64 *) session->shown_pts->data;
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
  ok = valley_stream_check_cancelled (session->stream, error) && check_request (request, error)
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
  if (!valley_stream_check_cancelled (session->stream, error) || !check_request (request, error)
      || !build_prompt (session, request, error) || !choose_tokens (session, error)
      || !valley_generation_prepare (session->generation, request,
                                     (const gint32 *) session->input_ids->data,
                                     session->input_ids->len, session->max_new_tokens, error)
      || !prefill (session, error)) {
    clear_answer (session);
    return FALSE;
  }
  describe_window (session);
  valley_generation_result (session->generation)->prefill_ms = milliseconds_since (start);
  return TRUE;
}

/* ---- the answer ---- */

ValleyStep
valley_session_next (ValleySession *session, GError **error)
{
  return valley_generation_next (session->generation, error);
}

const ValleyResult *
valley_session_result (ValleySession *session)
{
  return valley_generation_result (session->generation);
}

const float *
valley_session_logits (ValleySession *session, gsize *n_steps, gsize *n_vocabulary)
{
  return valley_generation_logits (session->generation, n_steps, n_vocabulary);
}
