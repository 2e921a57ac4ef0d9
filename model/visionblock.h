/* visionblock.h - the block that both vision towers are made of: attention and a two-layer
 * feed-forward, each behind a LayerNorm and added to its input.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "weights.h"

typedef struct {
  gsize width, n_heads, inner; /* inner: of the feed-forward */
  float norm_eps;
  ValleyActivation activation;
} ValleyVisionShape;

typedef struct {
  ValleyTensor norm1, norm1_bias, norm2, norm2_bias;
  ValleyTensor q, q_bias, k, k_bias, v, v_bias, out, out_bias; /* [width, width] */
  ValleyTensor fc1, fc1_bias, fc2, fc2_bias;
} ValleyVisionBlock;

/* Activations of one block, reused by every block of a tower. */
typedef struct {
  ValleyTensor normed, qkv, mixed, delta, inner;
  gboolean is_pending; /* delta is still to be added to the rows */
} ValleyVisionScratch;

void valley_vision_scratch_init (ValleyVisionScratch *scratch, ValleyStream *stream,
                                 const ValleyVisionShape *shape, gsize rows);
void valley_vision_scratch_clear (ValleyVisionScratch *scratch, ValleyBackend *backend);

/* @x [rows, width] in place, f32; every row sees every other.  What the block adds last may be left
 * pending for the next norm.  @cos and @sin [rows, head / 2] turn
 * queries and keys; NULL where positions are in @x already. */
void valley_vision_block_run (const ValleyVisionBlock *block, const ValleyVisionShape *shape,
                              ValleyStream *stream, const ValleyTensor *x, const ValleyTensor *cos,
                              const ValleyTensor *sin, ValleyVisionScratch *scratch);
/* Adds what is pending to @x. */
void valley_vision_settle (ValleyStream *stream, const ValleyTensor *x,
                           ValleyVisionScratch *scratch);
/* @y = the norm of @x, with what is pending. */
void valley_vision_norm (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                         const ValleyTensor *weight, const ValleyTensor *bias, float eps,
                         ValleyVisionScratch *scratch);
