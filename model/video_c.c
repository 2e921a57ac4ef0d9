/* video_c.c - the inner loops of video.c in plain C: the reference for the others.
 * SPDX-License-Identifier: Apache-2.0 */
#include "video_kernels.h"

enum { ROWS = VALLEY_VIDEO_ROWS };

static gint32
coefficient (const ValleyTaps *taps, guint at, guint i)
{
  return (gint16) (taps->pairs[at * taps->stride + i / 2] >> (i % 2 * 16));
}

/* A word's value in 15 bits. */
static gint32
word_value (guint16 word, guint bits)
{
  return (guint16) (GUINT16_FROM_LE (word) << (16 - bits)) >> 1;
}

static void
vertical (const guint8 *src, gsize stride_bytes, guint bits, const ValleyTaps *taps, guint y,
          gsize n, gint16 *dst)
{
  guint shift = valley_video_vertical_shift (taps, bits);

  for (gsize from = 0; from < n; from += 64) {
    gsize count = MIN (n - from, 64);
    gint32 sums[64] = { 0 };

    for (guint i = 0; i < 2 * taps->n_pairs[y]; i++) {
      const guint8 *row = valley_video_row (src, stride_bytes, taps, y, i);
      const guint16 *words = (const guint16 *) (gconstpointer) row;
      gint32 k = coefficient (taps, y, i);

      for (gsize s = 0; s < count; s++)
        sums[s] += k * (bits == 8 ? row[from + s] : word_value (words[from + s], bits));
    }
    for (gsize s = 0; s < count; s++) {
      gint32 value = (sums[s] + (1 << (shift - 1))) >> shift;

      dst[from + s] = (gint16) CLAMP (value, G_MININT16, G_MAXINT16);
    }
  }
}

static void
pick (const gint16 *src, guint odd, gsize n, gint16 *dst)
{
  for (gsize i = 0; i < n; i++)
    dst[i] = src[2 * i + odd];
}

static void
tile (const gint16 *rows, gsize stride, guint n_rows, gsize n, gint16 *tiles)
{
  for (gsize x = 0; x < (n + 15) / 16 * 16; x++)
    for (guint row = 0; row < ROWS; row++)
      tiles[x / 2 * (2 * ROWS) + 2 * row + x % 2] = rows[stride * MIN (row, n_rows - 1) + x];
}

static gint32
sum_up (const gint16 *tiles, const ValleyTaps *taps, guint x, guint row)
{
  const gint16 *pair = tiles + taps->first[x] / 2 * (2 * ROWS) + 2 * row;
  gint32 sum = 1 << (taps->bits - 1);

  for (guint i = 0; i < 2 * taps->n_pairs[x]; i++)
    sum += coefficient (taps, x, i) * pair[i / 2 * (2 * ROWS) + i % 2];
  return sum >> taps->bits;
}

static void
horizontal (const gint16 *const tiles[3], const ValleyTaps *const taps[3],
            const ValleyVideoMatrix *matrix, guint8 *columns)
{
  for (guint x = 0; x < taps[0]->out; x++)
    for (guint row = 0; row < ROWS; row++) {
      gint32 value[3] = { 0 };

      for (guint i = 0; i < 3 && taps[i] != NULL; i++)
        value[i] = sum_up (tiles[i], taps[i], x, row);
      for (guint c = 0; c < 3; c++) {
        gint32 sum = matrix->offset[c];

        for (guint i = 0; i < 3; i++)
          sum += matrix->factor[c][i] * (gint16) value[i];
        sum >>= VALLEY_VIDEO_FRACTION + VALLEY_VIDEO_MATRIX_BITS;
        columns[(3 * (gsize) x + c) * ROWS + row] = (guint8) CLAMP (sum, 0, 255);
      }
    }
}

const ValleyVideoKernels valley_video_kernels_c = { vertical, pick, tile, horizontal };
