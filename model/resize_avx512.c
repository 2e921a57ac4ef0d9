/* resize_avx512.c - the resize's inner loops for AVX-512 with VNNI.  A coefficient is split
 * into three signed bytes, so that three dot products of bytes give the exact sum.
 * SPDX-License-Identifier: Apache-2.0 */
#include "resize_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512 __attribute__ ((target ("avx512f,avx512bw,avx512vl,avx512vnni")))
#define AVX512_INLINE                                                                              \
  static inline __attribute__ ((target ("avx512f,avx512bw,avx512vl,avx512vnni"), always_inline))

enum { ROWS = VALLEY_RESIZE_ROWS };

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

AVX512 static void
horizontal (const guint8 *tiles, gsize plane_bytes, const ValleyResizeTable *table, guint channels,
            guint8 *columns)
{
  for (guint x = 0; x < table->out; x++) {
    const guint32 *packed = table->packed + x * table->stride;

    for (guint c = 0; c < channels; c++, columns += ROWS) {
      const guint8 *tile = tiles + c * plane_bytes + (gsize) table->first[x] / 4 * (4 * ROWS);
      Sum sum = zero_sum ();
      __m512i rounded;

      for (guint q = 0; q < table->n_quads[x]; q++)
        accumulate (&sum, _mm512_loadu_si512 (tile + q * (4 * ROWS)), packed + 4 * q);
      rounded = _mm512_max_epi32 (finish (sum), _mm512_setzero_si512 ());
      _mm_storeu_si128 ((__m128i *) columns, _mm512_cvtusepi32_epi8 (rounded));
    }
  }
}

/* Up to 64 samples, those of @mask: four rows are interleaved into tiles. */
AVX512_INLINE __m512i
vertical_samples (const guint8 *src, gsize stride, const ValleyResizeTable *table, guint y,
                  gsize from, __mmask64 mask)
{
  const guint32 *packed = table->packed + y * table->stride;
  Sum sums[4] = { zero_sum (), zero_sum (), zero_sum (), zero_sum () };

  for (guint i = 0; i < 4 * table->n_quads[y]; i += 4, packed += 4) {
    __m512i row[4], low01, low23, high01, high23;

    for (guint r = 0; r < 4; r++)
      row[r]
          = _mm512_maskz_loadu_epi8 (mask, valley_resize_row (src, stride, table, y, i + r) + from);
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
vertical (const guint8 *src, gsize stride, const ValleyResizeTable *table, guint y, gsize n,
          guint8 *dst)
{
  for (gsize from = 0; from < n; from += 64) {
    __mmask64 mask = n - from >= 64 ? ~(__mmask64) 0 : ((__mmask64) 1 << (n - from)) - 1;

    _mm512_mask_storeu_epi8 (dst + from, mask,
                             vertical_samples (src, stride, table, y, from, mask));
  }
}

const ValleyResizeKernels valley_resize_kernels_avx512 = { "avx512",
                                                           pack,
                                                           valley_resize_tile_avx2,
                                                           horizontal,
                                                           valley_resize_untile_avx2,
                                                           vertical,
                                                           &valley_video_kernels_avx512 };

#endif
