/* sampler.h - the tokens of one answer, chosen where their logits are: what was seen, and the
 * random numbers.  How a token is chosen is the backend's (ValleyPick); the order and the edges
 * are Hugging Face's: repetition penalty, temperature, top-k, top-p.
 * Deterministic for a seed.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

typedef struct {
  double temperature;        /* 0: greedy */
  gsize top_k;               /* 0: off */
  double top_p;              /* 1: off */
  double repetition_penalty; /* 1: off */
  guint64 seed;
} ValleySamplerOptions;

typedef struct {
  gint32 id;             /* -1: see valley_token_check */
  float log_probability; /* by the logits as they came */
} ValleyToken;

typedef struct _ValleySampler ValleySampler;

/* NULL when an option is out of range. */
ValleySampler *valley_sampler_new (const ValleySamplerOptions *options, gsize n_vocabulary,
                                   GError **error);
void valley_sampler_free (ValleySampler *sampler);
/* @id counts for the repetition penalty; others than vocabulary ids (an image slot) do not.
 * Before the first token is picked. */
void valley_sampler_see (ValleySampler *sampler, gint32 id);
/* A token for each row of @logits.  Where the rows were computed together, row i for the guess
 * that @inputs[i] (I32; else NULL) follows those before it, those have been seen by it. */
gboolean valley_sampler_pick (ValleySampler *sampler, ValleyStream *stream,
                              const ValleyTensor *logits, const ValleyTensor *inputs,
                              ValleyToken *tokens, GError **error);
/* The first @n tokens picked last are the answer's: they have been seen from now on. */
void valley_sampler_keep (ValleySampler *sampler, ValleyStream *stream, gsize n);
/* FALSE, with an error, for what was picked from logits that were no numbers. */
gboolean valley_token_check (const ValleyToken *token, GError **error);
