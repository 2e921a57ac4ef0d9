/* compressor.h - the token compressors (token_compressor_config) after the connector.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "resampler.h"

typedef struct {
  ValleyCompressorConfig config;
  ValleyTensor norm, norm_bias, inner, inner_bias, score, score_bias; /* evo, lavit */
  ValleyResampler resampler;
} ValleyCompressor;

typedef struct {
  ValleyCompressor *list;
  gsize n;
} ValleyCompressors;

void valley_compressors_init (ValleyCompressors *compressors, const ValleyConfig *config,
                              ValleyWeights *weights);
void valley_compressors_clear (ValleyCompressors *compressors);
/* One tile of a picture of @n_tiles: replaces @x, a tensor of its own, by what is left of it.
 * Waits for the stream where the choice of tokens depends on them. */
void valley_compressors_run (const ValleyCompressors *compressors, ValleyStream *stream,
                             ValleyTensor *x, gsize n_tiles, const ValleyDump *dump);
