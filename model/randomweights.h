/* randomweights.h - a checkpoint's tensors without a checkpoint: for measuring models whose
 * weights are not at hand.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "safetensors.h"

/* The tensors that were made, in the place of files. */
typedef struct _ValleyRandomWeights ValleyRandomWeights;

ValleyRandomWeights *valley_random_weights_new (guint64 seed);
void valley_random_weights_free (ValleyRandomWeights *weights); /* NULL is fine */
/* Tensor @name in bf16, which lives as long as @weights.  What it holds follows from seed, name
 * and shape alone.  NULL when there is no room. */
const ValleySafetensor *valley_random_weights_make (ValleyRandomWeights *weights, const char *name,
                                                    const gsize *shape, gsize n_dims);
