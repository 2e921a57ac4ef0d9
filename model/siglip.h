/* siglip.h - the SigLIP vision tower: patches of one tile to patch features.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "dump.h"
#include "visionblock.h"

typedef struct {
  ValleySiglipConfig config;
  ValleyTensor patch, patch_bias, position, post_norm, post_norm_bias;
  ValleyVisionBlock *blocks;
} ValleySiglip;

/* Asks @weights for every tensor of the tower. */
void valley_siglip_init (ValleySiglip *siglip, const ValleySiglipConfig *config,
                         ValleyWeights *weights);
void valley_siglip_clear (ValleySiglip *siglip);
/* @patches [side^2, 3*patch^2] -> @out, a fresh tensor [side^2, hidden_size]: the last hidden
 * state after the final norm. */
void valley_siglip_encode (const ValleySiglip *siglip, ValleyStream *stream,
                           const ValleyTensor *patches, ValleyTensor *out, const ValleyDump *dump);
