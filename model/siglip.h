/* siglip.h - the SigLIP vision tower: patches of one tile to patch features.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "dump.h"
#include "weights.h"

typedef struct {
  ValleyTensor norm1, norm1_bias, norm2, norm2_bias;
  ValleyTensor q, q_bias, k, k_bias, v, v_bias, out, out_bias;
  ValleyTensor fc1, fc1_bias, fc2, fc2_bias;
} ValleySiglipBlock;

typedef struct {
  ValleySiglipConfig config;
  ValleyTensor patch, patch_bias, position, post_norm, post_norm_bias;
  ValleySiglipBlock *blocks;
} ValleySiglip;

/* Asks @weights for every tensor of the tower. */
void valley_siglip_init (ValleySiglip *siglip, const ValleySiglipConfig *config,
                         ValleyWeights *weights);
void valley_siglip_clear (ValleySiglip *siglip);
/* @patches [side^2, 3*patch^2] -> @out, a fresh tensor [side^2, hidden_size]: the last hidden
 * state after the final norm. */
void valley_siglip_encode (const ValleySiglip *siglip, ValleyStream *stream,
                           const ValleyTensor *patches, ValleyTensor *out, const ValleyDump *dump);
