/* qwen2vit.h - the Eagle branch: Qwen2-VL's vision transformer and its patch merger.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "dump.h"
#include "visionblock.h"

typedef struct {
  ValleyEagleConfig config;
  ValleyTensor patch;
  ValleyVisionBlock *blocks;
  gsize merge_rows; /* tokens that go through the merger at a time; changes no bits */
  ValleyTensor merge_norm, merge_norm_bias, merge1, merge1_bias, merge2, merge2_bias;
} ValleyEagle;

void valley_eagle_init (ValleyEagle *eagle, const ValleyEagleConfig *config,
                        ValleyWeights *weights);
void valley_eagle_clear (ValleyEagle *eagle);
/* @patches [n, 3*temporal*patch^2] in merge-block order, @positions n (row, column) pairs ->
 * @out, a fresh tensor [n / merge^2, hidden_size]. */
void valley_eagle_encode (const ValleyEagle *eagle, ValleyStream *stream,
                          const ValleyTensor *patches, const gint32 *positions, ValleyTensor *out,
                          const ValleyDump *dump);
