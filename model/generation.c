/* generation.c - one answer in progress: its tokens one by one, and what is told of them.
 *
 * Under greedy decoding tokens that are likely to come (draft.c) go through the model together
 * with the last one.  Every row's logits are those of a row computed alone, and one after the
 * other is picked from as ever; at the first guess that is wrong the rest is thrown away.
 * SPDX-License-Identifier: Apache-2.0 */
#include "generation.h"

#include <math.h>
#include <string.h>

#include "alloc.h"
#include "answer.h"
#include "draft.h"

#define MAX_ROWS (1 + VALLEY_MAX_DRAFT)

typedef enum { ANSWER_NONE, ANSWER_RUNNING, ANSWER_OVER } AnswerState;

struct _ValleyGeneration {
  ValleyModel *model;
  ValleyStream *stream;
  char *dump_dir;
  gboolean keep_logits;

  ValleyKvCache *cache; /* the caller's, like the next */
  ValleyDecoderRun *run;
  AnswerState state;
  guint max_new_tokens;
  ValleySampler *sampler;
  ValleyAnswer answer;
  GArray *output_ids;

  GHashTable *drafts; /* a question's slot: its ValleyDraft; NULL: no drafting */
  ValleyDraft *draft; /* this question's, or NULL */
  gboolean greedy;
  gboolean no_draft;            /* this answer */
  gint32 row_ids[MAX_ROWS];     /* the last token, and guesses after it */
  gsize first_row;              /* their place in the cache */
  gsize n_rows, n_rows_used;    /* how many there are, and were picked from */
  ValleyToken tokens[MAX_ROWS]; /* that the model says follow each */
  float *logits;                /* of the rows, with keep_logits or a dump */
  guint64 drafted, accepted;    /* by all answers */

  float *kept; /* every step's, with keep_logits or a dump */
  gsize n_kept, kept_capacity;
  double log_probability; /* sum over `n_scored` tokens */
  guint n_scored;
  ValleyResult result;
};

ValleyGeneration *
valley_generation_new (ValleyModel *model, ValleyStream *stream,
                       const ValleySessionOptions *options)
{
  ValleyGeneration *generation = g_new0 (ValleyGeneration, 1);

  generation->model = model;
  generation->stream = stream;
  generation->dump_dir = g_strdup (options != NULL ? options->dump_dir : NULL);
  generation->keep_logits = options != NULL && options->keep_logits;
  generation->output_ids = g_array_new (FALSE, TRUE, sizeof (gint32));
  if (options == NULL || !options->no_draft)
    generation->drafts
        = g_hash_table_new_full (NULL, NULL, NULL, (GDestroyNotify) valley_draft_free);
  generation->result.text = "";
  return generation;
}

void
valley_generation_free (ValleyGeneration *generation)
{
  if (generation == NULL)
    return;
  valley_generation_reset (generation);
  g_clear_pointer (&generation->drafts, g_hash_table_unref);
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
  generation->run = NULL;
  generation->draft = NULL;
  generation->n_rows = generation->n_rows_used = 0;
  g_clear_pointer (&generation->sampler, valley_sampler_free);
  valley_answer_clear (&generation->answer);
  g_array_set_size (generation->output_ids, 0);
  generation->n_kept = 0;
  generation->log_probability = 0;
  generation->n_scored = 0;
  generation->result = (ValleyResult){ .text = "" };
}

void
valley_generation_forget (ValleyGeneration *generation)
{
  valley_generation_reset (generation);
  if (generation->drafts != NULL)
    g_hash_table_remove_all (generation->drafts);
}

void
valley_generation_count (ValleyGeneration *generation, guint64 *drafted, guint64 *accepted)
{
  *drafted = generation->drafted;
  *accepted = generation->accepted;
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

static void
start_draft (ValleyGeneration *generation, guint slot)
{
  gpointer key = GUINT_TO_POINTER (slot);

  if (generation->drafts == NULL)
    return;
  generation->draft = g_hash_table_lookup (generation->drafts, key);
  if (generation->draft == NULL) {
    generation->draft = valley_draft_new ();
    g_hash_table_insert (generation->drafts, key, generation->draft);
  }
  valley_draft_begin (generation->draft);
}

ValleySampler *
valley_generation_sampler (const ValleyModel *model, const ValleyRequest *request,
                           const gint32 *prompt_ids, gsize n_prompt_ids, GError **error)
{
  ValleySamplerOptions options = { .temperature = request->temperature,
                                   .top_k = request->top_k,
                                   .top_p = request->top_p == 0 ? 1 : request->top_p,
                                   .repetition_penalty = request->repetition_penalty,
                                   .seed = request->seed };
  ValleySampler *sampler;

  if (options.repetition_penalty == 0)
    options.repetition_penalty = model->config->repetition_penalty;
  sampler = valley_sampler_new (&options, model->config->llm.vocab_size, error);
  for (gsize i = 0; sampler != NULL && i < n_prompt_ids; i++)
    valley_sampler_see (sampler, prompt_ids[i]);
  return sampler;
}

gboolean
valley_generation_prepare (ValleyGeneration *generation, const ValleyRequest *request,
                           const gint32 *prompt_ids, gsize n_prompt_ids, guint max_new_tokens,
                           GError **error)
{
  generation->sampler
      = valley_generation_sampler (generation->model, request, prompt_ids, n_prompt_ids, error);
  if (generation->sampler == NULL)
    return FALSE;
  valley_answer_init (&generation->answer, request->stop, request->markers);
  valley_answer_describe (&generation->answer, &generation->result);
  generation->max_new_tokens = max_new_tokens;
  generation->greedy = request->temperature == 0;
  generation->no_draft = request->no_draft;
  start_draft (generation, request->slot);
  return TRUE;
}

/* ---- logits ---- */

static gboolean
wants_logits (const ValleyGeneration *generation)
{
  return generation->keep_logits || generation->dump_dir != NULL;
}

static gboolean
download_logits (ValleyGeneration *generation, const ValleyTensor *logits, GError **error)
{
  gsize n = generation->model->config->llm.vocab_size;

  if (generation->logits == NULL)
    generation->logits = valley_alloc (MAX_ROWS, n * sizeof (float));
  if (generation->logits != NULL)
    return generation->stream->ops->download (generation->stream, logits, generation->logits,
                                              error);
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
               "not enough memory for the logits of %d rows of %" G_GSIZE_FORMAT " tokens",
               MAX_ROWS, n);
  return FALSE;
}

/* What follows each row, which were computed for @inputs (NULL: the prompt's last).  Logits leave
 * the device only where somebody wants them. */
static gboolean
pick_tokens (ValleyGeneration *generation, const ValleyTensor *logits, const ValleyTensor *inputs,
             GError **error)
{
  return (!wants_logits (generation) || download_logits (generation, logits, error))
         && valley_sampler_pick (generation->sampler, generation->stream, logits, inputs,
                                 generation->tokens, error);
}

gboolean
valley_generation_start (ValleyGeneration *generation, ValleyKvCache *cache, ValleyDecoderRun *run,
                         const ValleyTensor *last, GError **error)
{
  ValleyTensor logits
      = valley_decoder_head (&generation->model->stages.llm, generation->stream, run, last);

  if (!pick_tokens (generation, &logits, NULL, error))
    return FALSE;
  generation->cache = cache;
  generation->run = run;
  generation->first_row = cache->length - 1; /* the prompt's last */
  generation->n_rows = 1;
  generation->state = ANSWER_RUNNING;
  return TRUE;
}

/* ---- rows ---- */

static gboolean
is_stop_id (const ValleyConfig *config, gint32 id)
{
  for (gsize i = 0; i < config->n_stop_ids; i++)
    if (config->stop_ids[i] == id)
      return TRUE;
  return FALSE;
}

/* The last token, and guesses of what follows it as far as they can be of use: not beyond the
 * answer's end, and only into the cache's own pages, so that no answer fails for its guesses. */
static gsize
choose_rows (ValleyGeneration *generation)
{
  const GArray *ids = generation->output_ids;
  gsize room = generation->cache->n_pages * VALLEY_KV_PAGE_ROWS;
  gsize most = generation->max_new_tokens - ids->len - 1, n = 0, n_useful = 0;

  generation->row_ids[0] = g_array_index (ids, gint32, ids->len - 1);
  most = MIN (most, MAX (room, generation->cache->length + 1) - generation->cache->length - 1);
  if (generation->draft != NULL && generation->greedy && !generation->no_draft)
    n = valley_draft_propose (generation->draft, generation->row_ids + 1, most);
  while (n_useful < n && !is_stop_id (generation->model->config, generation->row_ids[1 + n_useful]))
    n_useful++;
  return 1 + n_useful;
}

static gboolean
compute_rows (ValleyGeneration *generation, GError **error)
{
  ValleyStream *stream = generation->stream;
  gsize n = choose_rows (generation);
  ValleyTensor logits, inputs;

  valley_sampler_keep (generation->sampler, stream, generation->n_rows_used);
  generation->first_row = generation->cache->length;
  generation->n_rows_used = generation->n_rows = 0;
  logits = valley_decoder_step (&generation->model->stages.llm, stream, generation->run,
                                generation->cache, generation->row_ids, n, &inputs);
  if (!pick_tokens (generation, &logits, &inputs, error))
    return FALSE;
  generation->n_rows = n;
  generation->result.n_drafted += n - 1;
  generation->drafted += n - 1;
  return TRUE;
}

/* Throws away what was computed beyond the answer.  The cache's room stays its own. */
static void
drop_rows (ValleyGeneration *generation)
{
  gsize room;

  if (generation->n_rows_used == generation->n_rows)
    return;
  generation->n_rows = generation->n_rows_used;
  room = generation->cache->n_pages * VALLEY_KV_PAGE_ROWS;
  valley_kv_cache_set_length (generation->cache, generation->first_row + generation->n_rows);
  valley_kv_cache_reserve (generation->cache, generation->stream, room);
}

/* The next row was computed for the token that now follows, or is of no use. */
static void
check_guess (ValleyGeneration *generation, gint32 id)
{
  if (generation->n_rows_used == generation->n_rows)
    return;
  if (generation->row_ids[generation->n_rows_used] != id) {
    drop_rows (generation);
    return;
  }
  generation->result.n_accepted++;
  generation->accepted++;
}

/* ---- tokens ---- */

static gboolean
keep_logits (ValleyGeneration *generation, gsize row, GError **error)
{
  gsize n = generation->model->config->llm.vocab_size;

  if (!wants_logits (generation))
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
  memcpy (generation->kept + generation->n_kept++ * n, generation->logits + row * n,
          n * sizeof (float));
  return TRUE;
}

/* Computes, where needed, and takes one token; @reason becomes why the answer ends with it, or
 * NULL. */
static gboolean
take_token (ValleyGeneration *generation, const char **reason, GError **error)
{
  const ValleyToken *token;
  gboolean stop;
  gint32 id;

  if (!valley_stream_check_cancelled (generation->stream, error)
      || (generation->n_rows_used == generation->n_rows && !compute_rows (generation, error)))
    return FALSE;
  token = &generation->tokens[generation->n_rows_used];
  if (!keep_logits (generation, generation->n_rows_used, error)
      || !valley_token_check (token, error))
    return FALSE;
  id = token->id;
  generation->n_rows_used++;
  check_guess (generation, id);
  if (generation->draft != NULL)
    valley_draft_add (generation->draft, id);
  g_array_append_val (generation->output_ids, id);
  stop = is_stop_id (generation->model->config, id);
  if (!stop) {
    generation->log_probability += token->log_probability;
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
  drop_rows (generation);
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
  if (generation->draft != NULL)
    valley_draft_keep (generation->draft);
  return finish (generation, reason, error) ? VALLEY_STEP_DONE : VALLEY_STEP_ERROR;
}
