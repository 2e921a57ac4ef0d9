/* reduction.h - how a frame's vision tokens are brought under a window's budget: the sizes are
 * chosen here, from numbers alone; encode.c and redundancy.c carry them out.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"

/* Where ValleyReduction leaves drop_threshold at 0; docs/reduction.md has the figures. */
#define VALLEY_DROP_THRESHOLD 0.95

/* FALSE when a value makes no sense.  @reduction may be NULL. */
gboolean valley_reduction_check (const ValleyReduction *reduction, GError **error);

/* The side of the square grid of tokens that the connector and the compressors make of a frame;
 * 0: they are no grid that could be pooled. */
gsize valley_reduction_grid_side (const ValleyConfig *config);
/* SigLIP tokens of a frame pooled to @side (0: not pooled). */
gsize valley_reduction_siglip_tokens (const ValleyConfig *config, gsize side);
/* Eagle tokens of a frame of this size. */
gsize valley_reduction_eagle_tokens (const ValleyConfig *config, guint width, guint height);

/* @sizes: of a frame of @width x @height without reduction; they become those that meet
 * @reduction (checked), or the least where none do. */
gboolean valley_reduction_apply (const ValleyConfig *config, const ValleyReduction *reduction,
                                 guint width, guint height, ValleyInputSizes *sizes,
                                 GError **error);
