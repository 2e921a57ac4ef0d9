/* resampler.h - minicpm_resampler: learned queries that attend to a tile's patches.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "dump.h"
#include "weights.h"

typedef struct {
  gsize in_size, width, n_heads;
  ValleyTensor query, in_proj, in_proj_bias, out_proj, out_proj_bias, proj;
  ValleyTensor kv_proj; /* only where the widths differ */
  ValleyTensor ln_q, ln_q_bias, ln_kv, ln_kv_bias, ln_post, ln_post_bias;
} ValleyResampler;

/* From rows of @in_size to @n_queries rows of @width. */
void valley_resampler_init (ValleyResampler *resampler, gsize in_size, gsize width, gsize n_queries,
                            ValleyWeights *weights);
/* @x [side^2, in_size], a square grid -> @out, a fresh tensor [n_queries, width]. */
void valley_resampler_run (const ValleyResampler *resampler, ValleyStream *stream,
                           const ValleyTensor *x, ValleyTensor *out);
