/* video_simd.h - two of the inner loops of video.c, for any width of vector: included by
 * video_avx2.c and video_avx512.c, which define Vec, its operations (v_*), TARGET and INLINE.
 * SPDX-License-Identifier: Apache-2.0 */

enum { ROWS = VALLEY_VIDEO_ROWS, BYTES = sizeof (Vec), PARTS = 64 / sizeof (Vec) };

/* ---- rows ----------------------------------------------------------------- */

INLINE Vec
finish (Vec sum, guint shift)
{
  return v_sra (v_add (sum, v_set1 (1 << (shift - 1))), shift);
}

/* BYTES samples of one byte each, from @from on: two rows at a time are interleaved, so that
 * one multiply-add sees a sample of each. */
INLINE void
vertical_bytes (const guint8 *src, gsize stride, const ValleyTaps *taps, guint y, gsize from,
                gint16 *dst)
{
  const guint32 *pairs = taps->pairs + y * taps->stride;
  guint shift = valley_video_vertical_shift (taps, 8);
  Vec sums[4] = { v_zero (), v_zero (), v_zero (), v_zero () };

  for (guint p = 0; p < taps->n_pairs[y]; p++) {
    Vec a = v_load (valley_video_row (src, stride, taps, y, 2 * p) + from);
    Vec b = v_load (valley_video_row (src, stride, taps, y, 2 * p + 1) + from);
    Vec low = v_unpacklo8 (a, b), high = v_unpackhi8 (a, b), k = v_set1 ((gint32) pairs[p]);

    sums[0] = v_add (sums[0], v_madd (v_unpacklo8 (low, v_zero ()), k));
    sums[1] = v_add (sums[1], v_madd (v_unpackhi8 (low, v_zero ()), k));
    sums[2] = v_add (sums[2], v_madd (v_unpacklo8 (high, v_zero ()), k));
    sums[3] = v_add (sums[3], v_madd (v_unpackhi8 (high, v_zero ()), k));
  }
  v_store_mixed (dst + from, v_packs (finish (sums[0], shift), finish (sums[1], shift)),
                 v_packs (finish (sums[2], shift), finish (sums[3], shift)));
}

/* The same of words: half as many samples. */
INLINE void
vertical_words (const guint16 *src, gsize stride, guint bits, const ValleyTaps *taps, guint y,
                gsize from, gint16 *dst)
{
  const guint8 *bytes = (const guint8 *) (src + from);
  const guint32 *pairs = taps->pairs + y * taps->stride;
  guint shift = valley_video_vertical_shift (taps, bits);
  Vec sums[2] = { v_zero (), v_zero () };

  for (guint p = 0; p < taps->n_pairs[y]; p++) {
    Vec a = v_load (valley_video_row (bytes, stride, taps, y, 2 * p));
    Vec b = v_load (valley_video_row (bytes, stride, taps, y, 2 * p + 1));
    Vec k = v_set1 ((gint32) pairs[p]);

    a = v_srl16 (v_sll16 (a, 16 - bits), 1);
    b = v_srl16 (v_sll16 (b, 16 - bits), 1);
    sums[0] = v_add (sums[0], v_madd (v_unpacklo16 (a, b), k));
    sums[1] = v_add (sums[1], v_madd (v_unpackhi16 (a, b), k));
  }
  v_store (dst + from, v_packs (finish (sums[0], shift), finish (sums[1], shift)));
}

TARGET static void
vertical (const guint8 *src, gsize stride_bytes, guint bits, const ValleyTaps *taps, guint y,
          gsize n, gint16 *dst)
{
  gsize block = bits == 8 ? BYTES : BYTES / 2;

  if (n < block) {
    valley_video_kernels_c.vertical (src, stride_bytes, bits, taps, y, n, dst);
    return;
  }
  for (gsize from = 0; from < n; from += block) {
    gsize at = MIN (from, n - block); /* the last block overlaps the one before */

    if (bits == 8)
      vertical_bytes (src, stride_bytes, taps, y, at, dst);
    else
      vertical_words ((const guint16 *) (gconstpointer) src, stride_bytes, bits, taps, y, at, dst);
  }
}

/* ---- columns -------------------------------------------------------------- */

INLINE Vec
sum_up (const gint16 *tiles, const ValleyTaps *taps, guint x)
{
  const guint32 *pairs = taps->pairs + x * taps->stride;
  const gint16 *tile = tiles + (gsize) taps->first[x] / 2 * (2 * ROWS);
  Vec sum = v_set1 (1 << (taps->bits - 1));

  for (guint p = 0; p < taps->n_pairs[x]; p++, tile += 2 * ROWS)
    sum = v_add (sum, v_madd (v_load (tile), v_set1 ((gint32) pairs[p])));
  return v_sra (sum, taps->bits);
}

/* The two factors that meet a pair of 16-bit values. */
INLINE Vec
factors (const gint16 pair[2])
{
  return v_set1 ((gint32) ((guint32) (guint16) pair[0] | (guint32) (guint16) pair[1] << 16));
}

INLINE Vec
mix (const ValleyVideoMatrix *matrix, guint c, Vec yu, Vec v)
{
  Vec sum = v_add (v_madd (yu, factors (matrix->factor[c])),
                   v_madd (v, factors (matrix->factor[c] + 2)));

  return v_sra (v_add (sum, v_set1 (matrix->offset[c])),
                VALLEY_VIDEO_FRACTION + VALLEY_VIDEO_MATRIX_BITS);
}

TARGET static void
horizontal (const gint16 *const tiles[3], const ValleyTaps *const taps[3],
            const ValleyVideoMatrix *matrix, guint8 *columns)
{
  for (guint x = 0; x < taps[0]->out; x++, columns += 3 * ROWS) {
    Vec rgb[3][PARTS];

    for (guint part = 0; part < PARTS; part++) {
      gsize at = part * (BYTES / sizeof (gint16));
      Vec yu = v_low16 (sum_up (tiles[0] + at, taps[0], x)), v = v_zero ();

      if (taps[1] != NULL) {
        yu = v_or (yu, v_high16 (sum_up (tiles[1] + at, taps[1], x)));
        v = sum_up (tiles[2] + at, taps[2], x);
      }
      for (guint c = 0; c < 3; c++)
        rgb[c][part] = mix (matrix, c, yu, v);
    }
    for (guint c = 0; c < 3; c++)
      v_store_bytes (columns + c * ROWS, rgb[c]);
  }
}
