/* sampler.c - see sampler.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "sampler.h"

#include "alloc.h"

#include <string.h>

struct _ValleySampler {
  ValleySamplerOptions options;
  gsize n, n_words;
  guint64 state; /* of the generator */
  guint32 *bits; /* of the tokens seen before the first was picked */

  /* On the device, from the first pick on. */
  ValleyBackend *backend;
  ValleyTensor seen;         /* empty without a penalty */
  ValleyTensor picks, draws; /* for as many rows as were last needed */
  guint32 *words;            /* the same here, two a row: what is on its way up or down */
};

/* SplitMix64: a counter through a mixing function; tiny, and good enough for drawing words.
 * 53 bits. */
static guint64
draw_bits (ValleySampler *sampler)
{
  guint64 z = (sampler->state += G_GUINT64_CONSTANT (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * G_GUINT64_CONSTANT (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * G_GUINT64_CONSTANT (0x94d049bb133111eb);
  z ^= z >> 31;
  return z >> 11;
}

static gboolean
check (const char *name, double value, double min, double max, GError **error)
{
  if (value >= min && value <= max)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT, "%s is %g; expected %g to %g", name,
               value, min, max);
  return FALSE;
}

ValleySampler *
valley_sampler_new (const ValleySamplerOptions *options, gsize n_vocabulary, GError **error)
{
  ValleySampler *sampler;

  if (!check ("temperature", options->temperature, 0, 1000, error)
      || !check ("top-p", options->top_p, 0, 1, error)
      || !check ("repetition penalty", options->repetition_penalty, 1e-3, 1e3, error))
    return NULL;
  sampler = g_new0 (ValleySampler, 1);
  sampler->options = *options;
  sampler->n = n_vocabulary;
  sampler->n_words = n_vocabulary / 32 + (n_vocabulary % 32 != 0);
  sampler->state = options->seed;
  sampler->bits = VALLEY_NEW0 (guint32, sampler->n_words);
  if (sampler->bits != NULL)
    return sampler;
  valley_sampler_free (sampler);
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
               "not enough memory to sample from %" G_GSIZE_FORMAT " tokens", n_vocabulary);
  return NULL;
}

static void
clear_tensor (ValleySampler *sampler, ValleyTensor *tensor)
{
  if (tensor->memory != NULL)
    valley_tensor_clear (sampler->backend, tensor);
}

void
valley_sampler_free (ValleySampler *sampler)
{
  if (sampler == NULL)
    return;
  clear_tensor (sampler, &sampler->seen);
  clear_tensor (sampler, &sampler->picks);
  clear_tensor (sampler, &sampler->draws);
  g_free (sampler->words);
  g_free (sampler->bits);
  g_free (sampler);
}

void
valley_sampler_see (ValleySampler *sampler, gint32 id)
{
  if (id >= 0 && (gsize) id < sampler->n)
    sampler->bits[id / 32] |= 1u << id % 32;
}

/* ---- on the device ---- */

/* What is needed for @rows rows; on failure the stream's error is set. */
static void
reserve (ValleySampler *sampler, ValleyStream *stream, gsize rows)
{
  guint32 *words;

  sampler->backend = stream->backend;
  if (sampler->options.repetition_penalty != 1 && sampler->seen.memory == NULL)
    valley_tensor_init_ids (stream, &sampler->seen, (const gint32 *) sampler->bits,
                            sampler->n_words);
  if (rows <= sampler->picks.rows && sampler->picks.memory != NULL)
    return;
  words = valley_alloc_resize (sampler->words, rows, 2 * sizeof *words);
  if (words == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory to pick tokens");
    return;
  }
  sampler->words = words;
  clear_tensor (sampler, &sampler->picks);
  clear_tensor (sampler, &sampler->draws);
  valley_tensor_init (stream, &sampler->picks, VALLEY_I32, rows, 2);
  if (sampler->options.temperature > 0)
    valley_tensor_init (stream, &sampler->draws, VALLEY_I32, 2 * rows, 1);
}

static ValleyTensor
upload_draws (ValleySampler *sampler, ValleyStream *stream, gsize rows)
{
  ValleyTensor draws = valley_tensor_rows (&sampler->draws, 0, 2 * rows);

  for (gsize i = 0; i < rows; i++) {
    guint64 bits = draw_bits (sampler);

    sampler->words[2 * i] = (guint32) bits;
    sampler->words[2 * i + 1] = (guint32) (bits >> 32);
  }
  stream->ops->upload_ids (stream, &draws, (const gint32 *) sampler->words);
  return draws;
}

gboolean
valley_sampler_pick (ValleySampler *sampler, ValleyStream *stream, const ValleyTensor *logits,
                     const ValleyTensor *inputs, ValleyToken *tokens, GError **error)
{
  gsize rows = logits->rows;
  ValleyPick pick = { .temperature = sampler->options.temperature,
                      .top_k = sampler->options.top_k,
                      .top_p = sampler->options.top_p,
                      .repetition_penalty = sampler->options.repetition_penalty,
                      .inputs = inputs };
  ValleyTensor picks, draws;

  reserve (sampler, stream, rows);
  if (valley_stream_stopped (stream))
    return stream->ops->stream_wait (stream, error);
  pick.seen = &sampler->seen;
  if (pick.temperature > 0) {
    draws = upload_draws (sampler, stream, rows);
    pick.draws = &draws;
  }
  picks = valley_tensor_rows (&sampler->picks, 0, rows);
  stream->ops->pick (stream, &picks, logits, &pick);
  if (!stream->ops->download_ids (stream, &picks, (gint32 *) sampler->words, error))
    return FALSE;
  for (gsize i = 0; i < rows; i++) {
    tokens[i].id = (gint32) sampler->words[2 * i];
    memcpy (&tokens[i].log_probability, &sampler->words[2 * i + 1], sizeof tokens->log_probability);
  }
  return TRUE;
}

void
valley_sampler_keep (ValleySampler *sampler, ValleyStream *stream, gsize n)
{
  ValleyTensor ids;

  if (n == 0 || sampler->seen.memory == NULL || sampler->picks.memory == NULL)
    return;
  ids = valley_tensor_rows (&sampler->picks, 0, n);
  ids = valley_tensor_cols (&ids, 0, 1);
  stream->ops->see (stream, &sampler->seen, &ids);
}

gboolean
valley_token_check (const ValleyToken *token, GError **error)
{
  if (token->id >= 0)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
               "the model computed logits that are no numbers; expected finite ones (are the "
               "weights damaged?)");
  return FALSE;
}
