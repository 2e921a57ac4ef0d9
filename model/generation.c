/* generation.c - one answer in progress: its tokens one by one, and what is told of them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "generation.h"

#include <math.h>
#include <string.h>

#include "alloc.h"
#include "answer.h"
#include "sampler.h"

typedef enum { ANSWER_NONE, ANSWER_RUNNING, ANSWER_OVER } AnswerState;

struct _ValleyGeneration {
  ValleyModel *model;
  ValleyStream *stream;
  char *dump_dir;
  gboolean keep_logits;

  ValleyKvCache *cache; /* the caller's, like the next */
  ValleyRotary *rotary;
  AnswerState state;
  guint max_new_tokens;
  ValleySampler *sampler;
  ValleyAnswer answer;
  GArray *output_ids;
  float *logits; /* of the next token */
  float *kept;   /* every step's, with keep_logits or a dump */
  gsize n_kept, kept_capacity;
  double log_probability; /* sum over `n_scored` tokens */
  guint n_scored;
  ValleyResult result;
};

ValleyGeneration *
valley_generation_new (ValleyModel *model, ValleyStream *stream,
                       const ValleySessionOptions *options, GError **error)
{
  ValleyGeneration *generation = g_new0 (ValleyGeneration, 1);
  gsize n = model->config->llm.vocab_size;

  generation->model = model;
  generation->stream = stream;
  generation->dump_dir = g_strdup (options != NULL ? options->dump_dir : NULL);
  generation->keep_logits = options != NULL && options->keep_logits;
  generation->output_ids = g_array_new (FALSE, TRUE, sizeof (gint32));
  generation->logits = VALLEY_NEW (float, n);
  generation->result.text = "";
  if (generation->logits != NULL)
    return generation;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
               "not enough memory for the logits of %" G_GSIZE_FORMAT " tokens", n);
  valley_generation_free (generation);
  return NULL;
}

void
valley_generation_free (ValleyGeneration *generation)
{
  if (generation == NULL)
    return;
  valley_generation_reset (generation);
  g_array_unref (generation->output_ids);
  g_free (generation->logits);
  g_free (generation->kept);
  g_free (generation->dump_dir);
  g_free (generation);
}

void
valley_generation_reset (ValleyGeneration *generation)
{
  generation->state = ANSWER_NONE;
  generation->cache = NULL;
  generation->rotary = NULL;
  g_clear_pointer (&generation->sampler, valley_sampler_free);
  valley_answer_clear (&generation->answer);
  g_array_set_size (generation->output_ids, 0);
  generation->n_kept = 0;
  generation->log_probability = 0;
  generation->n_scored = 0;
  generation->result = (ValleyResult){ .text = "" };
}

ValleyResult *
valley_generation_result (ValleyGeneration *generation)
{
  return &generation->result;
}

const float *
valley_generation_logits (ValleyGeneration *generation, gsize *n_steps, gsize *n_vocabulary)
{
  *n_steps = generation->keep_logits ? generation->n_kept : 0;
  *n_vocabulary = generation->model->config->llm.vocab_size;
  return *n_steps > 0 ? generation->kept : NULL;
}

gboolean
valley_generation_prepare (ValleyGeneration *generation, const ValleyRequest *request,
                           const gint32 *prompt_ids, gsize n_prompt_ids, guint max_new_tokens,
                           GError **error)
{
  const ValleyConfig *config = generation->model->config;
  ValleySamplerOptions options = { .temperature = request->temperature,
                                   .top_k = request->top_k,
                                   .top_p = request->top_p == 0 ? 1 : request->top_p,
                                   .repetition_penalty = request->repetition_penalty,
                                   .seed = request->seed };

  if (options.repetition_penalty == 0)
    options.repetition_penalty = config->repetition_penalty;
  generation->sampler = valley_sampler_new (&options, config->llm.vocab_size, error);
  if (generation->sampler == NULL)
    return FALSE;
  for (gsize i = 0; i < n_prompt_ids; i++)
    valley_sampler_see (generation->sampler, prompt_ids[i]);
  valley_answer_init (&generation->answer, request->stop, request->markers);
  valley_answer_describe (&generation->answer, &generation->result);
  generation->max_new_tokens = max_new_tokens;
  return TRUE;
}

gboolean
valley_generation_start (ValleyGeneration *generation, ValleyKvCache *cache, ValleyRotary *rotary,
                         const ValleyTensor *last, GError **error)
{
  if (!valley_decoder_logits (&generation->model->stages.llm, generation->stream, last,
                              generation->logits, error))
    return FALSE;
  generation->cache = cache;
  generation->rotary = rotary;
  generation->state = ANSWER_RUNNING;
  return TRUE;
}

/* ---- tokens ---- */

static gboolean
keep_logits (ValleyGeneration *generation, GError **error)
{
  gsize n = generation->model->config->llm.vocab_size;

  if (!generation->keep_logits && generation->dump_dir == NULL)
    return TRUE;
  if (generation->n_kept == generation->kept_capacity) {
    gsize capacity = MAX (16, 2 * generation->kept_capacity);
    float *larger = valley_alloc_resize (generation->kept, capacity, n * sizeof (float));

    if (larger == NULL) {
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                   "not enough memory to keep the logits of %" G_GSIZE_FORMAT " steps", capacity);
      return FALSE;
    }
    generation->kept = larger;
    generation->kept_capacity = capacity;
  }
  memcpy (generation->kept + generation->n_kept++ * n, generation->logits, n * sizeof (float));
  return TRUE;
}

/* The last token's row through the decoder: the logits of the next one. */
static gboolean
decode_last (ValleyGeneration *generation, GError **error)
{
  const ValleyDecoder *llm = &generation->model->stages.llm;
  const gint32 *id
      = &g_array_index (generation->output_ids, gint32, generation->output_ids->len - 1);
  ValleyForward forward = { .cache = generation->cache,
                            .rotary = generation->rotary,
                            .role = VALLEY_ROWS_GENERATED,
                            .rows_at_once = 1 };
  ValleyTensor x;
  gboolean ok;

  valley_tensor_init (generation->stream, &x, VALLEY_F32, 1, llm->config.hidden_size);
  generation->stream->ops->embed (generation->stream, &x, &llm->embeddings, id);
  valley_decoder_forward (llm, generation->stream, &forward, &x);
  ok = valley_decoder_logits (llm, generation->stream, &x, generation->logits, error);
  valley_tensor_clear (generation->model->backend, &x);
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
take_token (ValleyGeneration *generation, const char **reason, GError **error)
{
  gboolean stop;
  gint32 id = 0;
  double log_probability = 0;

  if (!valley_stream_check_cancelled (generation->stream, error)
      || (generation->output_ids->len > 0 && !decode_last (generation, error))
      || !keep_logits (generation, error)
      || !valley_sampler_pick (generation->sampler, generation->logits, &id, &log_probability,
                               error))
    return FALSE;
  g_array_append_val (generation->output_ids, id);
  stop = is_stop_id (generation->model->config, id);
  if (!stop) {
    generation->log_probability += log_probability;
    generation->n_scored++;
    stop = valley_answer_add (&generation->answer, generation->model->tokenizer, id);
  }
  *reason = stop                                                        ? "stop"
            : generation->output_ids->len >= generation->max_new_tokens ? "length"
                                                                        : NULL;
  return TRUE;
}

static void
update_result (ValleyGeneration *generation)
{
  ValleyResult *result = &generation->result;

  valley_answer_describe (&generation->answer, result);
  result->output_ids = (const gint32 *) generation->output_ids->data;
  result->n_output_tokens = generation->output_ids->len;
  if (generation->n_scored > 0)
    result->confidence = exp (generation->log_probability / generation->n_scored);
}

static gboolean
finish (ValleyGeneration *generation, const char *reason, GError **error)
{
  generation->state = ANSWER_OVER;
  generation->result.finish_reason = reason;
  valley_answer_finish (&generation->answer, g_strcmp0 (reason, "stop") != 0);
  update_result (generation);
  return generation->dump_dir == NULL
         || valley_npy_write (generation->dump_dir, "logits", generation->kept, generation->n_kept,
                              generation->model->config->llm.vocab_size, error);
}

ValleyStep
valley_generation_next (ValleyGeneration *generation, GError **error)
{
  gint64 start = g_get_monotonic_time ();
  g_autoptr (GError) reason_error = NULL;
  const char *reason = NULL;

  if (generation->state == ANSWER_OVER)
    return VALLEY_STEP_DONE;
  if (generation->state == ANSWER_NONE) {
    if (valley_stream_check_cancelled (generation->stream, error))
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                   "no answer is in progress; expected valley_session_begin before");
    return VALLEY_STEP_ERROR;
  }
  if (!take_token (generation, &reason, &reason_error)) {
    gboolean cancelled = g_error_matches (reason_error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);

    finish (generation, cancelled ? "cancelled" : NULL, NULL);
    generation->state = ANSWER_NONE; /* the next call must not call it complete */
    g_propagate_error (error, g_steal_pointer (&reason_error));
    return VALLEY_STEP_ERROR;
  }
  generation->result.decode_ms += (double) (g_get_monotonic_time () - start) / 1000.0;
  update_result (generation);
  if (reason == NULL)
    return VALLEY_STEP_TOKEN;
  return finish (generation, reason, error) ? VALLEY_STEP_DONE : VALLEY_STEP_ERROR;
}
