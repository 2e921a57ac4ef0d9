/* image.h - the model's preprocessing of RGB pictures: sizes, tiling, normalisation.
 * The resize itself is public (valley_image_resize in valley.h).
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"

/* The released loader's smart_resize: multiples of patch_size * spatial_merge_size, area within
 * [min_pixels, max_pixels], one block where a side rounds to none.  The reference refuses an aspect over 200; here such a picture
 * is treated as if its longer side were 200 times its shorter one; and where its answer for a
 * thin picture would have no pixels or more than @max_pixels, the longer side gives way.
 * FALSE fills @error (a side of 0, or over 65535). */
gboolean valley_smart_resize (const ValleyEagleConfig *eagle, guint width, guint height,
                              gsize max_pixels, guint *out_width, guint *out_height,
                              GError **error);

/* How a lone still image is cut (anyres): tile 0 is the whole picture squashed, then the grid
 * row-major. */
typedef struct {
  guint rows, cols;                 /* the grid; rows * cols + 1 tiles in all */
  guint scaled_width, scaled_height; /* the picture inside the grid, padding centred around it */
  guint pad_left, pad_top;          /* in pixels */
} ValleyTiling;
void valley_tiling_choose (const ValleyConfig *config, guint width, guint height,
                           ValleyTiling *tiling);
/* @out: (rows * cols + 1) tiles of crop_size^2 RGB bytes, allocated; NULL when memory is
 * short.  Free with g_free. */
guint8 *valley_tiling_cut (const ValleyConfig *config, const ValleyTiling *tiling,
                           const guint8 *rgb, gsize stride_bytes, guint width, guint height);
/* The grid's tokens (valley_config_tile_side a tile) that are left after unpadding, and
 * the size they are pooled to where they exceed max_vision_token. */
typedef struct {
  guint first_row, n_rows, first_col, n_cols; /* on the grid of rows*side x cols*side tokens */
  guint pooled_rows, pooled_cols;             /* equal to n_rows, n_cols when not pooled */
} ValleyUnpad;
void valley_tiling_unpad (const ValleyConfig *config, const ValleyTiling *tiling, guint width,
                          guint height, ValleyUnpad *unpad);

/* Patch rows for the SigLIP tower: rgb [image_size^2] -> out [side^2, 3*patch^2], columns
 * (channel, y, x), (v/255 - 0.5)/0.5. */
void valley_siglip_patches (const ValleySiglipConfig *siglip, const guint8 *rgb, float *out);
/* Patch rows for the Eagle tower: rgb [height, width], both multiples of patch*merge ->
 * out [(h/patch)*(w/patch), 3*temporal*patch^2] in merge-block order, columns (channel, time,
 * y, x), the still frame repeated in time; CLIP's mean and deviation. */
#define VALLEY_CLIP_MEAN { 0.48145466f, 0.4578275f, 0.40821073f }
#define VALLEY_CLIP_DEVIATION { 0.26862954f, 0.26130258f, 0.27577711f }
void valley_eagle_patches (const ValleyEagleConfig *eagle, const guint8 *rgb, guint width,
                           guint height, float *out);
/* Each row's patch coordinates, as (row, column) pairs. */
void valley_eagle_positions (const ValleyEagleConfig *eagle, guint width, guint height,
                             gint32 *positions);
