/* sampler.h - from logits to the next token.
 * The order and the edges are Hugging Face's: repetition penalty, temperature, top-k, top-p.
 * Deterministic for a seed.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef struct {
  double temperature;        /* 0: greedy */
  gsize top_k;               /* 0: off */
  double top_p;              /* 1: off */
  double repetition_penalty; /* 1: off */
  guint64 seed;
} ValleySamplerOptions;

typedef struct _ValleySampler ValleySampler;

/* NULL when an option is out of range. */
ValleySampler *valley_sampler_new (const ValleySamplerOptions *options, gsize n_vocabulary,
                                   GError **error);
void valley_sampler_free (ValleySampler *sampler);
/* @id counts for the repetition penalty; others than vocabulary ids (an image slot) do not. */
void valley_sampler_see (ValleySampler *sampler, gint32 id);
/* Picks a token, which is then seen.  @log_probability is the token's under the softmax of
 * @logits as they came.  Logits that hold a NaN, or nothing finite, are an error. */
gboolean valley_sampler_pick (ValleySampler *sampler, const float *logits, gint32 *id,
                              double *log_probability, GError **error);
