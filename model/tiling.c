/* tiling.c - how a lone still picture is cut into tiles ("anyres"), and which of the tiles'
 * tokens show the picture and not the padding around it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "image.h"

#include <math.h>
#include <string.h>

/* Every grid is tried, columns first; the one that keeps the most of the picture's pixels
 * wins, of equal ones that with the fewest wasted, of those the first. */
static void
choose_grid (const ValleyConfig *config, guint width, guint height, ValleyTiling *tiling)
{
  gint64 best_kept = -1, best_area = 0;

  for (guint cols = 1; cols <= config->grid_max_cols; cols++)
    for (guint rows = 1; rows <= config->grid_max_rows; rows++) {
      double across = (double) cols * (double) config->crop_size;
      double down = (double) rows * (double) config->crop_size;
      double scale = MIN (across / width, down / height);
      gint64 area = (gint64) across * (gint64) down;
      gint64 kept = (gint64) (width * scale) * (gint64) (height * scale);

      kept = MIN (kept, (gint64) width * height);
      if (kept < best_kept || (kept == best_kept && area >= best_area))
        continue;
      best_kept = kept;
      best_area = area;
      tiling->cols = cols;
      tiling->rows = rows;
    }
}

void
valley_tiling_choose (const ValleyConfig *config, guint width, guint height, ValleyTiling *tiling)
{
  double across, down;

  *tiling = (ValleyTiling){ 0 };
  choose_grid (config, width, height, tiling);
  across = (double) tiling->cols * (double) config->crop_size;
  down = (double) tiling->rows * (double) config->crop_size;
  if (across / width < down / height) {
    tiling->scaled_width = (guint) across;
    tiling->scaled_height = (guint) MIN (ceil (height * (across / width)), down);
  } else {
    tiling->scaled_width = (guint) MIN (ceil (width * (down / height)), across);
    tiling->scaled_height = (guint) down;
  }
  tiling->pad_left = ((guint) across - tiling->scaled_width) / 2;
  tiling->pad_top = ((guint) down - tiling->scaled_height) / 2;
}

/* Copies one tile out of the padded grid. */
static void
copy_tile (const guint8 *canvas, gsize canvas_stride, gsize crop, guint8 *tile)
{
  for (gsize y = 0; y < crop; y++)
    memcpy (tile + 3 * y * crop, canvas + y * canvas_stride, 3 * crop);
}

/* The picture in the middle of a black canvas of the grid's size; NULL when memory is short. */
static guint8 *
paint_canvas (const ValleyConfig *config, const ValleyTiling *tiling, const guint8 *rgb,
              gsize stride_bytes, guint width, guint height)
{
  gsize stride = 3 * tiling->cols * config->crop_size;
  g_autofree guint8 *canvas = NULL;
  gsize bytes;

  if (g_size_checked_mul (&bytes, stride, tiling->rows)
      && g_size_checked_mul (&bytes, bytes, config->crop_size))
    canvas = valley_alloc0 (1, bytes);
  if (canvas == NULL
      || !valley_image_resize (rgb, stride_bytes, width, height, 3,
                               canvas + tiling->pad_top * stride + 3 * (gsize) tiling->pad_left,
                               stride, tiling->scaled_width, tiling->scaled_height))
    return NULL;
  return g_steal_pointer (&canvas);
}

guint8 *
valley_tiling_cut (const ValleyConfig *config, const ValleyTiling *tiling, const guint8 *rgb,
                   gsize stride_bytes, guint width, guint height)
{
  gsize crop = config->crop_size, tile_bytes = 3 * crop * crop;
  gsize canvas_stride = 3 * tiling->cols * crop;
  g_autofree guint8 *canvas = paint_canvas (config, tiling, rgb, stride_bytes, width, height);
  g_autofree guint8 *tiles = valley_alloc ((gsize) tiling->rows * tiling->cols + 1, tile_bytes);
  guint8 *tile = tiles;

  if (canvas == NULL || tiles == NULL
      || !valley_image_resize (rgb, stride_bytes, width, height, 3, tile, 3 * crop, (guint) crop,
                               (guint) crop))
    return NULL;
  for (guint row = 0; row < tiling->rows; row++)
    for (guint col = 0; col < tiling->cols; col++)
      copy_tile (canvas + row * crop * canvas_stride + 3 * col * crop, canvas_stride, crop,
                 tile += tile_bytes);
  return g_steal_pointer (&tiles);
}

/* The same share of tokens is cut from both ends, none where the picture touches them.  Of a
 * picture thinner than a token nothing may be left: then tile 0 alone stands for it. */
static void
unpad_axis (guint tokens, double shown, guint *first, guint *n)
{
  *first = (tokens - MIN ((guint) shown, tokens)) / 2;
  *n = tokens - 2 * *first;
}

void
valley_tiling_unpad (const ValleyConfig *config, const ValleyTiling *tiling, guint width,
                     guint height, ValleyUnpad *unpad)
{
  gsize side = valley_config_tile_side (config, (gsize) tiling->rows * tiling->cols + 1);
  double across = (double) tiling->cols * (double) side,
         down = (double) tiling->rows * (double) side;
  double limit = (double) config->max_vision_token - (double) (side * side);
  double left;

  *unpad = (ValleyUnpad){ .n_rows = (guint) down, .n_cols = (guint) across };
  if ((double) width / height > across / down)
    unpad_axis ((guint) down, height * (across / width), &unpad->first_row, &unpad->n_rows);
  else
    unpad_axis ((guint) across, width * (down / height), &unpad->first_col, &unpad->n_cols);
  unpad->pooled_rows = unpad->n_rows;
  unpad->pooled_cols = unpad->n_cols;
  left = (double) unpad->n_rows * unpad->n_cols;
  if (left > 0 && left > limit) {
    double ratio = (double) unpad->n_rows / unpad->n_cols;
    double pooled_cols = sqrt (MAX (limit, 1.0) / ratio);

    unpad->pooled_rows = (guint) MAX (pooled_cols * ratio, 1.0);
    unpad->pooled_cols = (guint) MAX (pooled_cols, 1.0);
  }
}
