/* resize_avx512.c - the resize's inner loops for AVX-512 with VNNI.  A coefficient is split
 * into three signed bytes, so that three dot products of bytes give the exact sum.
 * SPDX-License-Identifier: Apache-2.0 */
#include "resize_simd.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512 __attribute__ ((target ("avx512f,avx512bw,avx512vl,avx512vnni")))
#define AVX512_INLINE                                                                              \
  static inline __attribute__ ((target ("avx512f,avx512bw,avx512vl,avx512vnni"), always_inline))

enum { ROWS = VALLEY_RESIZE_ROWS, STEP = VALLEY_RESIZE_STEP };

/* packed[b] holds byte b of the four coefficients. */
static void
pack (const gint32 k[4], guint32 packed[4])
{
  packed[0] = packed[1] = packed[2] = packed[3] = 0;
  for (guint i = 0; i < 4; i++) {
    gint32 rest = k[i];

    for (guint b = 0; b < 3; b++) {
      gint8 byte = (gint8) rest;

      packed[b] |= (guint32) (guint8) byte << (8 * i);
      rest = (rest - byte) >> 8;
    }
  }
}

/* ---- tiles ---------------------------------------------------------------- */

/* Rows r, r + 4, r + 8 and r + 12.  Broadcasts from memory under a mask keep the shuffle units
 * free. */
AVX512_INLINE __m512i
load_four_rows (const guint8 *p, gsize stride)
{
  __m512i rows = _mm512_castsi128_si512 (_mm_loadu_si128 ((const __m128i *) p));

  rows = _mm512_mask_broadcast_i32x4 (rows, 0x00F0,
                                      _mm_loadu_si128 ((const __m128i *) (p + 4 * stride)));
  rows = _mm512_mask_broadcast_i32x4 (rows, 0x0F00,
                                      _mm_loadu_si128 ((const __m128i *) (p + 8 * stride)));
  return _mm512_mask_broadcast_i32x4 (rows, 0xF000,
                                      _mm_loadu_si128 ((const __m128i *) (p + 12 * stride)));
}

/* One step of sixteen rows, whose first quad is @quad. */
AVX512_INLINE void
tile_step (const guint8 *p, gsize stride, guint channels, guint8 *const planes[4], gsize quad)
{
  const guint quads = valley_resize_quads_per_step (channels);
  __m512i shuffle = _mm512_broadcast_i32x4 (
      _mm_loadu_si128 ((const __m128i *) valley_resize_groups[channels - 1]));
  __m512i in[4], groups[4], low01, low23, high01, high23;

  for (guint r = 0; r < 4; r++)
    in[r] = _mm512_shuffle_epi8 (load_four_rows (p + r * stride, stride), shuffle);
  low01 = _mm512_unpacklo_epi32 (in[0], in[1]);
  low23 = _mm512_unpacklo_epi32 (in[2], in[3]);
  high01 = _mm512_unpackhi_epi32 (in[0], in[1]);
  high23 = _mm512_unpackhi_epi32 (in[2], in[3]);
  groups[0] = _mm512_unpacklo_epi64 (low01, low23);
  groups[1] = _mm512_unpackhi_epi64 (low01, low23);
  groups[2] = _mm512_unpacklo_epi64 (high01, high23);
  groups[3] = _mm512_unpackhi_epi64 (high01, high23);
  for (guint i = 0; i < channels * quads; i++)
    if (planes[i / quads] != NULL)
      _mm512_store_si512 (planes[i / quads] + (quad + i % quads) * (4 * ROWS), groups[i]);
}

#define VALLEY_TILE AVX512
#define VALLEY_TILE_INLINE AVX512_INLINE
#include "resize_tile.h"

/* Sixteen columns of sixteen bytes in each lane: every round pairs vector i with vector i + 8,
 * and after four of them the bits of the indices have changed places. */
AVX512_INLINE void
transpose_bytes (__m512i v[16])
{
  for (guint round = 0; round < 4; round++) {
    __m512i next[16];

    for (guint i = 0; i < 8; i++) {
      next[2 * i] = _mm512_unpacklo_epi8 (v[i], v[i + 8]);
      next[2 * i + 1] = _mm512_unpackhi_epi8 (v[i], v[i + 8]);
    }
    memcpy (v, next, sizeof next);
  }
}

/* A row whose lane l has samples l, l + 4, l + 8 ..., as it was loaded, in order. */
AVX512_INLINE __m512i
order_row (__m512i row)
{
  const __m512i lanes = _mm512_setr_epi32 (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m128i bytes = _mm_setr_epi8 (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);

  return _mm512_shuffle_epi8 (_mm512_permutexvar_epi32 (lanes, row),
                              _mm512_broadcast_i32x4 (bytes));
}

AVX512 static void
untile (const guint8 *columns, gsize n, guint n_rows, guint8 *dst, gsize stride)
{
  for (gsize s = 0; s < n; s += 64) {
    __mmask64 mask = n - s >= 64 ? ~(__mmask64) 0 : ((__mmask64) 1 << (n - s)) - 1;
    __m512i v[16];

    for (guint i = 0; i < 16; i++)
      v[i] = _mm512_loadu_si512 (columns + s * ROWS + 64 * i);
    transpose_bytes (v);
    for (guint row = 0; row < n_rows; row++)
      _mm512_mask_storeu_epi8 (dst + row * stride + s, mask, order_row (v[row]));
  }
}

/* ---- sums ----------------------------------------------------------------- */

typedef struct {
  __m512i byte[3];
} Sum;

AVX512_INLINE Sum
zero_sum (void)
{
  return (Sum){ { _mm512_setzero_si512 (), _mm512_setzero_si512 (), _mm512_setzero_si512 () } };
}

AVX512_INLINE void
accumulate (Sum *sum, __m512i tile, const guint32 packed[4])
{
  for (guint b = 0; b < 3; b++)
    sum->byte[b] = _mm512_dpbusd_epi32 (sum->byte[b], tile, _mm512_set1_epi32 ((int) packed[b]));
}

/* The rounded sum, not yet clipped. */
AVX512_INLINE __m512i
finish (Sum sum)
{
  __m512i total = _mm512_add_epi32 (sum.byte[0], _mm512_slli_epi32 (sum.byte[1], 8));

  total = _mm512_add_epi32 (total, _mm512_slli_epi32 (sum.byte[2], 16));
  total = _mm512_add_epi32 (total, _mm512_set1_epi32 (1 << (VALLEY_RESIZE_BITS - 1)));
  return _mm512_srai_epi32 (total, VALLEY_RESIZE_BITS);
}

/* ---- passes --------------------------------------------------------------- */

/* The channels of sixteen rows' pixel, together: they have the coefficients in common. */
AVX512_INLINE void
horizontal_pixel (const guint8 *tiles, gsize plane_bytes, const guint32 *packed, guint n_quads,
                  guint channels, guint8 *columns)
{
  Sum sums[4];

  for (guint c = 0; c < channels; c++)
    sums[c] = zero_sum ();
  for (guint q = 0; q < n_quads; q++, tiles += 4 * ROWS, packed += 4)
    for (guint c = 0; c < channels; c++)
      accumulate (&sums[c], _mm512_load_si512 (tiles + c * plane_bytes), packed);
  for (guint c = 0; c < channels; c++, columns += ROWS) {
    __m512i rounded = _mm512_max_epi32 (finish (sums[c]), _mm512_setzero_si512 ());

    _mm_store_si128 ((__m128i *) columns, _mm512_cvtusepi32_epi8 (rounded));
  }
}

AVX512_INLINE void
horizontal_channels (const guint8 *tiles, gsize plane_bytes, const ValleyResizeTable *table,
                     guint channels, guint8 *columns)
{
  for (guint x = 0; x < table->out; x++)
    horizontal_pixel (tiles + (gsize) table->first[x] / 4 * (4 * ROWS), plane_bytes,
                      table->packed + x * table->stride, table->n_quads[x], channels,
                      columns + (gsize) x * channels * ROWS);
}

AVX512 static void
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

/* Up to 64 samples, those of @mask: four rows are interleaved into tiles. */
AVX512_INLINE __m512i
vertical_samples (const guint8 *src, gsize stride, guint n_rows, const guint32 *packed,
                  guint n_quads, __mmask64 mask)
{
  Sum sums[4] = { zero_sum (), zero_sum (), zero_sum (), zero_sum () };

  for (guint i = 0; i < 4 * n_quads; i += 4, packed += 4) {
    __m512i row[4], low01, low23, high01, high23;

    for (guint r = 0; r < 4; r++)
      row[r] = _mm512_maskz_loadu_epi8 (mask, valley_resize_row (src, stride, n_rows, i + r));
    low01 = _mm512_unpacklo_epi8 (row[0], row[1]);
    high01 = _mm512_unpackhi_epi8 (row[0], row[1]);
    low23 = _mm512_unpacklo_epi8 (row[2], row[3]);
    high23 = _mm512_unpackhi_epi8 (row[2], row[3]);
    accumulate (&sums[0], _mm512_unpacklo_epi16 (low01, low23), packed);
    accumulate (&sums[1], _mm512_unpackhi_epi16 (low01, low23), packed);
    accumulate (&sums[2], _mm512_unpacklo_epi16 (high01, high23), packed);
    accumulate (&sums[3], _mm512_unpackhi_epi16 (high01, high23), packed);
  }
  return _mm512_packus_epi16 (_mm512_packs_epi32 (finish (sums[0]), finish (sums[1])),
                              _mm512_packs_epi32 (finish (sums[2]), finish (sums[3])));
}

AVX512 static void
vertical (const guint8 *src, gsize stride, guint n_rows, const guint32 *packed, guint n_quads,
          gsize n, guint8 *dst)
{
  for (gsize from = 0; from < n; from += 64) {
    __mmask64 mask = n - from >= 64 ? ~(__mmask64) 0 : ((__mmask64) 1 << (n - from)) - 1;

    _mm512_mask_storeu_epi8 (dst + from, mask,
                             vertical_samples (src + from, stride, n_rows, packed, n_quads, mask));
  }
}

const ValleyResizeKernels valley_resize_kernels_avx512
    = { "avx512", pack, tile, horizontal, untile, vertical, &valley_video_kernels_avx512 };

#endif
