/* resize_avx2.c - the resize's inner loops for AVX2.  A coefficient is split into
 * k = high * 2^16 + low, a signed byte and a signed word.  Multiply-adds of bytes and of words
 * give the exact sum.
 *
 * The bytes' sums stay in 16 bits, for which an output's positive ones may add up to 128, and its
 * negative ones: all of its coefficients add up to 64, and rounding adds most to an output of
 * many coefficients just above a half, 23 to a line of 87 pixels that becomes one.  (Beyond that
 * more and more are 0.)  What overflows on the way comes back.
 * SPDX-License-Identifier: Apache-2.0 */
#include "resize_simd.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__ ((target ("avx2")))
#define AVX2_INLINE static inline __attribute__ ((target ("avx2"), always_inline))

enum { ROWS = VALLEY_RESIZE_ROWS, STEP = VALLEY_RESIZE_STEP, LOW_BITS = 16 };

static guint32
pair (gint32 even, gint32 odd)
{
  return (guint16) even | (guint32) (guint16) odd << 16;
}

/* [0]: the high bytes; [1]: the low words that a tile's even bytes meet, [2]: its odd ones. */
static void
pack (const gint32 k[4], guint32 packed[4])
{
  gint32 low[4];

  packed[0] = packed[3] = 0;
  for (guint i = 0; i < 4; i++) {
    gint32 high = (k[i] + (1 << (LOW_BITS - 1))) >> LOW_BITS;

    packed[0] |= (guint32) (guint8) high << (8 * i);
    low[i] = k[i] - high * (1 << LOW_BITS);
  }
  packed[1] = pair (low[0], low[2]);
  packed[2] = pair (low[1], low[3]);
}

/* ---- tiles ---------------------------------------------------------------- */

/* Rows r and r + 4. */
AVX2_INLINE __m256i
load_two_rows (const guint8 *p, gsize stride)
{
  __m256i row = _mm256_castsi128_si256 (_mm_loadu_si128 ((const __m128i *) p));

  return _mm256_inserti128_si256 (row, _mm_loadu_si128 ((const __m128i *) (p + 4 * stride)), 1);
}

/* Eight rows' groups: out[i] holds group i of each, in the rows' order. */
AVX2_INLINE void
group_eight_rows (const guint8 *p, gsize stride, __m256i shuffle, __m256i out[4])
{
  __m256i in[4], low01, low23, high01, high23;

  for (guint r = 0; r < 4; r++)
    in[r] = _mm256_shuffle_epi8 (load_two_rows (p + r * stride, stride), shuffle);
  low01 = _mm256_unpacklo_epi32 (in[0], in[1]);
  low23 = _mm256_unpacklo_epi32 (in[2], in[3]);
  high01 = _mm256_unpackhi_epi32 (in[0], in[1]);
  high23 = _mm256_unpackhi_epi32 (in[2], in[3]);
  out[0] = _mm256_unpacklo_epi64 (low01, low23);
  out[1] = _mm256_unpackhi_epi64 (low01, low23);
  out[2] = _mm256_unpacklo_epi64 (high01, high23);
  out[3] = _mm256_unpackhi_epi64 (high01, high23);
}

/* One step of sixteen rows, whose first quad is @quad. */
AVX2_INLINE void
tile_step (const guint8 *p, gsize stride, guint channels, guint8 *const planes[4], gsize quad)
{
  const guint quads = valley_resize_quads_per_step (channels);
  __m256i shuffle = _mm256_broadcastsi128_si256 (
      _mm_loadu_si128 ((const __m128i *) valley_resize_groups[channels - 1]));

  for (guint half = 0; half < 2; half++) {
    __m256i groups[4];

    group_eight_rows (p + 8 * half * stride, stride, shuffle, groups);
    for (guint i = 0; i < channels * quads; i++)
      if (planes[i / quads] != NULL)
        _mm256_store_si256 (
            (__m256i *) (planes[i / quads] + (quad + i % quads) * (4 * ROWS) + 32 * half),
            groups[i]);
  }
}

#define VALLEY_TILE AVX2
#define VALLEY_TILE_INLINE AVX2_INLINE
#include "resize_tile.h"

/* ---- sums ----------------------------------------------------------------- */

typedef struct {
  __m256i high, low; /* two words, one double word for each tile */
} Sum;

/* Eight tiles' worth of four samples each, times four coefficients. */
AVX2_INLINE void
accumulate (Sum *sum, __m256i tile, const guint32 packed[4])
{
  __m256i even = _mm256_and_si256 (tile, _mm256_set1_epi16 (0xFF));
  __m256i odd = _mm256_srli_epi16 (tile, 8);
  __m256i k0 = _mm256_set1_epi32 ((int) packed[0]);
  __m256i k1 = _mm256_set1_epi32 ((int) packed[1]), k2 = _mm256_set1_epi32 ((int) packed[2]);

  sum->high = _mm256_add_epi16 (sum->high, _mm256_maddubs_epi16 (tile, k0));
  sum->low = _mm256_add_epi32 (sum->low, _mm256_madd_epi16 (even, k1));
  sum->low = _mm256_add_epi32 (sum->low, _mm256_madd_epi16 (odd, k2));
}

/* The rounded sum, not yet clipped. */
AVX2_INLINE __m256i
finish (Sum sum)
{
  __m256i high = _mm256_madd_epi16 (sum.high, _mm256_set1_epi16 (1));
  __m256i total = _mm256_add_epi32 (_mm256_slli_epi32 (high, LOW_BITS), sum.low);

  total = _mm256_add_epi32 (total, _mm256_set1_epi32 (1 << (VALLEY_RESIZE_BITS - 1)));
  return _mm256_srai_epi32 (total, VALLEY_RESIZE_BITS);
}

AVX2_INLINE Sum
zero_sum (void)
{
  return (Sum){ _mm256_setzero_si256 (), _mm256_setzero_si256 () };
}

/* ---- passes --------------------------------------------------------------- */

/* The channels of eight rows' pixel, together: they have the coefficients in common. */
AVX2_INLINE void
horizontal_half (const guint8 *tiles, gsize plane_bytes, const guint32 *packed, guint n_quads,
                 guint channels, __m256i rounded[4])
{
  Sum sums[4];

  for (guint c = 0; c < channels; c++)
    sums[c] = zero_sum ();
  for (guint q = 0; q < n_quads; q++, tiles += 4 * ROWS, packed += 4)
    for (guint c = 0; c < channels; c++)
      accumulate (&sums[c], _mm256_load_si256 ((const __m256i *) (tiles + c * plane_bytes)),
                  packed);
  for (guint c = 0; c < channels; c++)
    rounded[c] = finish (sums[c]);
}

AVX2_INLINE void
horizontal_channels (const guint8 *tiles, gsize plane_bytes, const ValleyResizeTable *table,
                     guint channels, guint8 *columns)
{
  for (guint x = 0; x < table->out; x++) {
    const guint8 *start = tiles + (gsize) table->first[x] / 4 * (4 * ROWS);
    const guint32 *packed = table->packed + x * table->stride;
    __m256i top[4], bottom[4];

    horizontal_half (start, plane_bytes, packed, table->n_quads[x], channels, top);
    horizontal_half (start + 32, plane_bytes, packed, table->n_quads[x], channels, bottom);
    for (guint c = 0; c < channels; c++, columns += ROWS) {
      __m256i words = _mm256_permute4x64_epi64 (_mm256_packs_epi32 (top[c], bottom[c]), 0xD8);

      _mm_store_si128 ((__m128i *) columns, _mm_packus_epi16 (_mm256_castsi256_si128 (words),
                                                              _mm256_extracti128_si256 (words, 1)));
    }
  }
}

AVX2 static void
horizontal (const guint8 *tiles, gsize plane_bytes, const ValleyResizeTable *table, guint channels,
            guint8 *columns)
{
  switch (channels) {
  case 1:
    horizontal_channels (tiles, plane_bytes, table, 1, columns);
    break;
  case 2:
    horizontal_channels (tiles, plane_bytes, table, 2, columns);
    break;
  case 3:
    horizontal_channels (tiles, plane_bytes, table, 3, columns);
    break;
  default:
    horizontal_channels (tiles, plane_bytes, table, 4, columns);
  }
}

/* Sixteen columns of sixteen bytes: each round pairs column i with column i + 8, and after
 * four of them the bits of the indices have changed places. */
AVX2_INLINE void
transpose_bytes (__m128i v[16])
{
  for (guint round = 0; round < 4; round++) {
    __m128i next[16];

    for (guint i = 0; i < 8; i++) {
      next[2 * i] = _mm_unpacklo_epi8 (v[i], v[i + 8]);
      next[2 * i + 1] = _mm_unpackhi_epi8 (v[i], v[i + 8]);
    }
    memcpy (v, next, sizeof next);
  }
}

AVX2 static void
untile (const guint8 *columns, gsize n, guint n_rows, guint8 *dst, gsize stride)
{
  for (gsize s = 0; s < n; s += 16) {
    __m128i v[16];

    for (guint i = 0; i < 16; i++)
      v[i] = _mm_loadu_si128 ((const __m128i *) (columns + (s + i) * ROWS));
    transpose_bytes (v);
    if (n - s >= 16 && n_rows == ROWS)
      for (guint row = 0; row < ROWS; row++)
        _mm_storeu_si128 ((__m128i *) (dst + row * stride + s), v[row]);
    else
      for (guint row = 0; row < n_rows; row++)
        memcpy (dst + row * stride + s, &v[row], MIN (n - s, 16));
  }
}

AVX2_INLINE __m256i
load_row (const guint8 *p, gsize n)
{
  guint8 bytes[32] = { 0 };

  if (n >= 32)
    return _mm256_loadu_si256 ((const __m256i *) p);
  memcpy (bytes, p, n);
  return _mm256_loadu_si256 ((const __m256i *) bytes);
}

/* Up to 32 samples of an output row: four rows are interleaved into tiles. */
AVX2_INLINE __m256i
vertical_samples (const guint8 *src, gsize stride, guint n_rows, const guint32 *packed,
                  guint n_quads, gsize n)
{
  Sum sums[4] = { zero_sum (), zero_sum (), zero_sum (), zero_sum () };

  for (guint i = 0; i < 4 * n_quads; i += 4, packed += 4) {
    __m256i row[4], low01, low23, high01, high23;

    for (guint r = 0; r < 4; r++)
      row[r] = load_row (valley_resize_row (src, stride, n_rows, i + r), n);
    low01 = _mm256_unpacklo_epi8 (row[0], row[1]);
    high01 = _mm256_unpackhi_epi8 (row[0], row[1]);
    low23 = _mm256_unpacklo_epi8 (row[2], row[3]);
    high23 = _mm256_unpackhi_epi8 (row[2], row[3]);
    accumulate (&sums[0], _mm256_unpacklo_epi16 (low01, low23), packed);
    accumulate (&sums[1], _mm256_unpackhi_epi16 (low01, low23), packed);
    accumulate (&sums[2], _mm256_unpacklo_epi16 (high01, high23), packed);
    accumulate (&sums[3], _mm256_unpackhi_epi16 (high01, high23), packed);
  }
  return _mm256_packus_epi16 (_mm256_packs_epi32 (finish (sums[0]), finish (sums[1])),
                              _mm256_packs_epi32 (finish (sums[2]), finish (sums[3])));
}

AVX2 static void
vertical (const guint8 *src, gsize stride, guint n_rows, const guint32 *packed, guint n_quads,
          gsize n, guint8 *dst)
{
  if (n < 32) {
    __m256i samples = vertical_samples (src, stride, n_rows, packed, n_quads, n);

    memcpy (dst, &samples, n);
    return;
  }
  for (gsize from = 0; from < n; from += 32) {
    gsize at = MIN (from, n - 32); /* the last block overlaps the one before */

    _mm256_storeu_si256 ((__m256i *) (dst + at),
                         vertical_samples (src + at, stride, n_rows, packed, n_quads, 32));
  }
}

const ValleyResizeKernels valley_resize_kernels_avx2
    = { "avx2", pack, tile, horizontal, untile, vertical, &valley_video_kernels_avx2 };

#endif
