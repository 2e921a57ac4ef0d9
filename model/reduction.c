/* reduction.c - the arithmetic of max-vision-tokens.  A frame's share of the budget is fixed by
 * the window's greatest number of frames, so that no frame's tokens depend on how many others
 * there are.  The SigLIP tokens are pooled, step by step; after each step the Eagle picture may
 * become as small a part of itself as they are now, before they are pooled further, and after the
 * last as small as it must.  So neither is used up before the other: docs/reduction.md has the
 * figures that this rests on.
 * SPDX-License-Identifier: Apache-2.0 */
#include "reduction.h"

#include "image.h"

#include <math.h>

/* 14 -> 10 -> 7 -> 5 tokens a side in the release; the same proportions elsewhere. */
static const double levels[] = { 1, 10.0 / 14, 7.0 / 14, 5.0 / 14 };

gboolean
valley_reduction_check (const ValleyReduction *reduction, GError **error)
{
  if (reduction == NULL)
    return TRUE;
  if (!(reduction->drop_threshold >= 0 && reduction->drop_threshold <= 1)) {
    g_set_error (
        error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
        "a threshold of %g to drop tokens; expected a cosine from 0 (the default one) to 1",
        reduction->drop_threshold);
    return FALSE;
  }
  if (reduction->max_vision_tokens == 0 || reduction->max_frames > 0)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
               "a budget of %u vision tokens for a window of 0 frames; expected at least 1",
               reduction->max_vision_tokens);
  return FALSE;
}

gsize
valley_reduction_grid_side (const ValleyConfig *config)
{
  for (gsize i = 0; i < config->n_compressors; i++)
    if (config->compressors[i].type != VALLEY_COMPRESSOR_AVGPOOL
        && config->compressors[i].type != VALLEY_COMPRESSOR_ROIPOOL)
      return 0; /* what others leave may be as many, but lies in no grid */
  return config->has_siglip ? valley_config_tile_side (config, 1) : 0;
}

gsize
valley_reduction_siglip_tokens (const ValleyConfig *config, gsize side)
{
  if (!config->has_siglip)
    return 0;
  return side > 0 ? side * side : valley_config_tile_tokens (config, 1);
}

gsize
valley_reduction_eagle_tokens (const ValleyConfig *config, guint width, guint height)
{
  gsize unit;

  if (!config->has_eagle)
    return 0;
  unit = config->eagle.patch_size * config->eagle.spatial_merge_size;
  return width / unit * (height / unit);
}

/* Whether a grid of @side leaves the Eagle picture what it must: all of it where it cannot be made
 * smaller, else at least the share of its tokens that the grid keeps of its own @full ones. */
static gboolean
leaves_enough (const ValleyReduction *reduction, gsize budget, gsize side, gsize full,
               gsize n_eagle)
{
  double share = (double) (side * side) / (double) (full * full);

  return side * side <= budget
         && (double) (budget - side * side) >= (reduction->eagle ? share : 1) * (double) n_eagle;
}

/* The finest grid that leaves enough, else the coarsest. */
static void
pool (const ValleyConfig *config, const ValleyReduction *reduction, gsize budget, gsize n_eagle,
      ValleyInputSizes *sizes)
{
  gsize full = valley_reduction_grid_side (config), side = full;

  for (gsize i = 0; full > 0 && i < G_N_ELEMENTS (levels); i++) {
    side = (gsize) MAX (lround (levels[i] * (double) full), 1);
    if (leaves_enough (reduction, budget, side, full, n_eagle))
      break;
  }
  sizes->siglip_side = side < full ? (guint) side : 0;
}

/* The largest Eagle picture that fits beside @n_siglip tokens, at least one cell.  smart_resize
 * rounds both sides down, often well below the pixels it may use: so the most pixels are looked
 * for that still lead to few enough cells. */
static gboolean
shrink (const ValleyConfig *config, gsize budget, gsize n_siglip, guint width, guint height,
        ValleyInputSizes *sizes, GError **error)
{
  gsize unit = config->eagle.patch_size * config->eagle.spatial_merge_size;
  gsize cells = budget > n_siglip ? budget - n_siglip : 1;
  gsize n_eagle = valley_reduction_eagle_tokens (config, sizes->eagle_width, sizes->eagle_height);
  gsize fits = cells * unit * unit, too_many = n_eagle * unit * unit;

  if (n_eagle <= cells)
    return TRUE;
  while (too_many - fits > 1) {
    gsize pixels = fits + (too_many - fits) / 2;
    guint w, h;

    if (!valley_smart_resize (&config->eagle, width, height, pixels, &w, &h, error))
      return FALSE;
    if (valley_reduction_eagle_tokens (config, w, h) <= cells)
      fits = pixels;
    else
      too_many = pixels;
  }
  return valley_smart_resize (&config->eagle, width, height, fits, &sizes->eagle_width,
                              &sizes->eagle_height, error);
}

gboolean
valley_reduction_apply (const ValleyConfig *config, const ValleyReduction *reduction, guint width,
                        guint height, ValleyInputSizes *sizes, GError **error)
{
  gsize n_eagle = valley_reduction_eagle_tokens (config, sizes->eagle_width, sizes->eagle_height);
  gsize budget;

  sizes->n_tokens = sizes->n_tokens_before
      = (guint) (valley_reduction_siglip_tokens (config, 0) + n_eagle);
  if (reduction == NULL)
    return TRUE;
  sizes->closes_gaps = reduction->drop && reduction->close;
  if (reduction->drop)
    sizes->drop_threshold
        = reduction->drop_threshold > 0 ? reduction->drop_threshold : VALLEY_DROP_THRESHOLD;
  if (reduction->max_vision_tokens == 0)
    return TRUE;
  budget = reduction->max_vision_tokens / reduction->max_frames;
  if (reduction->pool)
    pool (config, reduction, budget, n_eagle, sizes);
  if (reduction->eagle
      && !shrink (config, budget, valley_reduction_siglip_tokens (config, sizes->siglip_side),
                  width, height, sizes, error))
    return FALSE;
  sizes->n_tokens
      = (guint) (valley_reduction_siglip_tokens (config, sizes->siglip_side)
                 + valley_reduction_eagle_tokens (config, sizes->eagle_width, sizes->eagle_height));
  return TRUE;
}
