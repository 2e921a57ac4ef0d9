/* image.c - what the two towers see: sizes and normalised patch rows.  Tiling is in tiling.c,
 * the resize in resize.c.
 * SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <math.h>
#include <string.h>

#define MAX_SIDE 65535
#define MAX_ASPECT 200 /* the reference refuses more */

/* ---- sizes ---------------------------------------------------------------- */

/* A long thin picture under a low maximum: the reference's answer has no pixels, or more than
 * the maximum.  Ours is one block thin and as long as fits.  Where no whole blocks lie between
 * the minimum and the maximum, the maximum counts.  Under a huge minimum the picture would be
 * longer than the resize can make it: then it stays below the minimum. */
static void
keep_within (double block, double max_pixels, double *wide, double *high)
{
  double *longer = *wide > *high ? wide : high, *shorter = *wide > *high ? high : wide;

  *wide = MAX (*wide, block);
  *high = MAX (*high, block);
  if (*wide * *high > max_pixels)
    *longer = MAX (floor (max_pixels / *shorter / block) * block, block);
  if (*wide * *high > max_pixels)
    *shorter = MAX (floor (max_pixels / *longer / block) * block, block);
  *longer = MIN (*longer, floor (MAX_SIDE / block) * block);
}

gboolean
valley_smart_resize (const ValleyEagleConfig *eagle, guint width, guint height, gsize max_pixels,
                     guint *out_width, guint *out_height, GError **error)
{
  double factor = (double) (eagle->patch_size * eagle->spatial_merge_size);
  double w, h, wide, high;

  if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "a picture of %u x %u pixels: expected sides from 1 to %d", width, height,
                 MAX_SIDE);
    return FALSE;
  }
  w = MIN (width, (double) MAX_ASPECT * height);
  h = MIN (height, (double) MAX_ASPECT * width);
  wide = MAX (nearbyint (w / factor), 1) * factor; /* halves to even, as Python rounds */
  high = MAX (nearbyint (h / factor), 1) * factor;
  if (wide * high > (double) max_pixels) {
    double beta = sqrt (h * w / (double) max_pixels);

    wide = floor (w / beta / factor) * factor;
    high = floor (h / beta / factor) * factor;
  } else if (wide * high < (double) eagle->min_pixels) {
    double beta = sqrt ((double) eagle->min_pixels / (h * w));

    wide = ceil (w * beta / factor) * factor;
    high = ceil (h * beta / factor) * factor;
  }
  keep_within (factor, (double) max_pixels, &wide, &high);
  *out_width = (guint) wide;
  *out_height = (guint) high;
  return TRUE;
}

/* ---- patches -------------------------------------------------------------- */

/* A byte's value for a tower, rounded to f32 at the points where the reference rounds. */
static void
fill_table (float table[256], float mean, float deviation)
{
  for (guint v = 0; v < 256; v++)
    table[v] = ((float) (v * (1 / 255.0)) - mean) / deviation;
}

/* One patch of one channel, @size rows of @size values. */
static float *
write_patch (const guint8 *rgb, gsize stride, gsize size, const float table[256], float *out)
{
  for (gsize y = 0; y < size; y++)
    for (gsize x = 0; x < size; x++)
      *out++ = table[rgb[y * stride + 3 * x]];
  return out;
}

void
valley_siglip_patches (const ValleySiglipConfig *siglip, const guint8 *rgb, float *out)
{
  gsize size = siglip->patch_size, stride = 3 * siglip->image_size;
  float table[256];

  fill_table (table, 0.5f, 0.5f);
  for (gsize row = 0; row < siglip->side; row++)
    for (gsize col = 0; col < siglip->side; col++)
      for (gsize c = 0; c < 3; c++)
        out = write_patch (rgb + row * size * stride + 3 * col * size + c, stride, size, table,
                           out);
}

static float *
write_eagle_patch (const ValleyEagleConfig *eagle, const guint8 *rgb, gsize stride,
                   const float tables[3][256], float *out)
{
  gsize size = eagle->patch_size;

  for (gsize c = 0; c < 3; c++) {
    const float *first = out;

    out = write_patch (rgb + c, stride, size, tables[c], out);
    for (gsize t = 1; t < eagle->temporal_patch_size; t++, out += size * size)
      memcpy (out, first, size * size * sizeof *out);
  }
  return out;
}

/* Where patch @i lies: blocks of merge x merge are row-major, and so is what is in each. */
static void
patch_place (const ValleyEagleConfig *eagle, gsize cols, gsize i, gsize *row, gsize *col)
{
  gsize merge = eagle->spatial_merge_size, block = i / (merge * merge), in = i % (merge * merge);

  *row = block / (cols / merge) * merge + in / merge;
  *col = block % (cols / merge) * merge + in % merge;
}

void
valley_eagle_patches (const ValleyEagleConfig *eagle, const guint8 *rgb, guint width, guint height,
                      float *out)
{
  const float mean[3] = VALLEY_CLIP_MEAN, deviation[3] = VALLEY_CLIP_DEVIATION;
  gsize size = eagle->patch_size, stride = 3 * (gsize) width, cols = width / size, row, col;
  float tables[3][256];

  for (guint c = 0; c < 3; c++)
    fill_table (tables[c], mean[c], deviation[c]);
  for (gsize i = 0; i < cols * (height / size); i++) {
    patch_place (eagle, cols, i, &row, &col);
    out = write_eagle_patch (eagle, rgb + row * size * stride + 3 * col * size, stride,
                             (const float (*)[256]) tables, out);
  }
}

void
valley_eagle_positions (const ValleyEagleConfig *eagle, guint width, guint height,
                        gint32 *positions)
{
  gsize cols = width / eagle->patch_size, row, col;

  for (gsize i = 0; i < cols * (height / eagle->patch_size); i++) {
    patch_place (eagle, cols, i, &row, &col);
    *positions++ = (gint32) row;
    *positions++ = (gint32) col;
  }
}
