/* resize_c.c - the resize's inner loops in plain C: the reference for the others.
 * Sums are unsigned: the true result fits 32 bits, and what wraps on the way comes back.
 * SPDX-License-Identifier: Apache-2.0 */
#include "resize_kernels.h"

#include <string.h>

enum { ROWS = VALLEY_RESIZE_ROWS };

static void
pack (const gint32 k[4], guint32 packed[4])
{
  memcpy (packed, k, 4 * sizeof *packed);
}

static void
tile (const guint8 *src, gsize stride, guint n_rows, guint width, guint channels,
      guint8 *const planes[4])
{
  for (guint row = 0; row < ROWS; row++) {
    const guint8 *samples = src + stride * MIN (row, n_rows - 1);

    for (guint c = 0; c < channels; c++)
      for (guint x = 0; planes[c] != NULL && x < (width + 3) / 4 * 4; x++)
        planes[c][x / 4 * (4 * ROWS) + 4 * row + x % 4] = x < width ? samples[x * channels + c] : 0;
  }
}

static void
horizontal (const guint8 *tiles, gsize plane_bytes, const ValleyResizeTable *table, guint channels,
            guint8 *columns)
{
  for (guint s = 0; s < table->out * channels; s++) {
    guint x = s / channels;
    const guint32 *k = table->packed + x * table->stride;
    const guint8 *quad
        = tiles + (s % channels) * plane_bytes + (gsize) table->first[x] / 4 * (4 * ROWS);
    guint32 sums[ROWS] = { 0 };

    for (guint i = 0; i < table->n_quads[x]; i++, quad += 4 * ROWS, k += 4)
      for (guint row = 0; row < ROWS; row++)
        sums[row] += quad[4 * row] * k[0] + quad[4 * row + 1] * k[1] + quad[4 * row + 2] * k[2]
                     + quad[4 * row + 3] * k[3];
    for (guint row = 0; row < ROWS; row++)
      columns[(gsize) s * ROWS + row] = valley_resize_round (sums[row]);
  }
}

static void
untile (const guint8 *columns, gsize n, guint n_rows, guint8 *dst, gsize stride)
{
  for (guint row = 0; row < n_rows; row++)
    for (gsize s = 0; s < n; s++)
      dst[row * stride + s] = columns[s * ROWS + row];
}

static void
vertical (const guint8 *src, gsize stride, guint n_rows, const guint32 *k, guint n_quads, gsize n,
          guint8 *dst)
{
  for (gsize from = 0; from < n; from += 64) {
    gsize count = MIN (n - from, 64);
    guint32 sums[64] = { 0 };

    for (guint i = 0; i < 4 * n_quads; i++) {
      const guint8 *row = valley_resize_row (src, stride, n_rows, i) + from;

      for (gsize s = 0; s < count; s++)
        sums[s] += row[s] * k[i];
    }
    for (gsize s = 0; s < count; s++)
      dst[from + s] = valley_resize_round (sums[s]);
  }
}

const ValleyResizeKernels valley_resize_kernels_c
    = { "c", pack, tile, horizontal, untile, vertical, &valley_video_kernels_c };
