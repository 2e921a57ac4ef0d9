/* video_avx2.c - the inner loops of video.c for AVX2.
 * SPDX-License-Identifier: Apache-2.0 */
#include "video_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__ ((target ("avx2")))
#define INLINE static inline __attribute__ ((target ("avx2"), always_inline))

typedef __m256i Vec;
#define v_zero _mm256_setzero_si256
#define v_set1 _mm256_set1_epi32
#define v_load(p) _mm256_loadu_si256 ((const __m256i *) (p))
#define v_store(p, v) _mm256_storeu_si256 ((__m256i *) (p), v)
#define v_add _mm256_add_epi32
#define v_or _mm256_or_si256
#define v_madd _mm256_madd_epi16
#define v_packs _mm256_packs_epi32
#define v_unpacklo8 _mm256_unpacklo_epi8
#define v_unpackhi8 _mm256_unpackhi_epi8
#define v_unpacklo16 _mm256_unpacklo_epi16
#define v_unpackhi16 _mm256_unpackhi_epi16
#define v_sra(v, n) _mm256_sra_epi32 (v, _mm_cvtsi32_si128 ((int) (n)))
#define v_sll16(v, n) _mm256_sll_epi16 (v, _mm_cvtsi32_si128 ((int) (n)))
#define v_srl16(v, n) _mm256_srli_epi16 (v, n)
#define v_low16(v) _mm256_and_si256 (v, _mm256_set1_epi32 (0xFFFF))
#define v_high16(v) _mm256_slli_epi32 (v, 16)

/* What the packing of unpacked lanes left: samples 0-7 and 16-23, 8-15 and 24-31. */
INLINE void
v_store_mixed (gint16 *dst, __m256i even, __m256i odd)
{
  v_store (dst, _mm256_permute2x128_si256 (even, odd, 0x20));
  v_store (dst + 16, _mm256_permute2x128_si256 (even, odd, 0x31));
}

/* Sixteen integers, clipped. */
INLINE void
v_store_bytes (guint8 *dst, const __m256i part[2])
{
  __m256i words = _mm256_permute4x64_epi64 (_mm256_packs_epi32 (part[0], part[1]), 0xD8);

  _mm_storeu_si128 ((__m128i *) dst, _mm_packus_epi16 (_mm256_castsi256_si128 (words),
                                                       _mm256_extracti128_si256 (words, 1)));
}

#include "video_simd.h"

/* ---- sorting -------------------------------------------------------------- */

TARGET void
valley_video_pick_avx2 (const gint16 *src, guint odd, gsize n, gint16 *dst)
{
  for (gsize i = 0; i < n; i += 16) {
    __m256i a = v_load (src + 2 * i), b = v_load (src + 2 * i + 16);

    if (!odd) {
      a = v_high16 (a);
      b = v_high16 (b);
    }
    a = _mm256_packs_epi32 (_mm256_srai_epi32 (a, 16), _mm256_srai_epi32 (b, 16));
    v_store (dst + i, _mm256_permute4x64_epi64 (a, 0xD8));
  }
}

/* Eight rows of eight pairs become eight columns. */
INLINE void
transpose (__m256i v[8])
{
  __m256i a[8], b[8];

  for (guint i = 0; i < 4; i++) {
    a[2 * i] = _mm256_unpacklo_epi32 (v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_epi32 (v[2 * i], v[2 * i + 1]);
  }
  for (guint i = 0; i < 2; i++)
    for (guint j = 0; j < 2; j++) {
      b[4 * i + 2 * j] = _mm256_unpacklo_epi64 (a[4 * i + j], a[4 * i + 2 + j]);
      b[4 * i + 2 * j + 1] = _mm256_unpackhi_epi64 (a[4 * i + j], a[4 * i + 2 + j]);
    }
  for (guint i = 0; i < 4; i++) {
    v[i] = _mm256_permute2x128_si256 (b[i], b[4 + i], 0x20);
    v[4 + i] = _mm256_permute2x128_si256 (b[i], b[4 + i], 0x31);
  }
}

TARGET void
valley_video_tile_avx2 (const gint16 *rows, gsize stride, guint n_rows, gsize n, gint16 *tiles)
{
  for (guint first = 0; first < ROWS; first += 8)
    for (gsize x = 0; x < n; x += 16) {
      __m256i v[8];

      for (guint i = 0; i < 8; i++)
        v[i] = v_load (rows + stride * MIN (first + i, n_rows - 1) + x);
      transpose (v);
      for (guint i = 0; i < 8; i++)
        v_store (tiles + (x / 2 + i) * (2 * ROWS) + 2 * first, v[i]);
    }
}

const ValleyVideoKernels valley_video_kernels_avx2
    = { vertical, valley_video_pick_avx2, valley_video_tile_avx2, horizontal };

#endif
