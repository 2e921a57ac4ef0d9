/* video_avx512.c - the inner loops of video.c for AVX-512.
 * SPDX-License-Identifier: Apache-2.0 */
#include "video_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__ ((target ("avx512f,avx512bw")))
#define INLINE static inline __attribute__ ((target ("avx512f,avx512bw"), always_inline))

typedef __m512i Vec;
#define v_zero _mm512_setzero_si512
#define v_set1 _mm512_set1_epi32
#define v_load(p) _mm512_loadu_si512 (p)
#define v_store(p, v) _mm512_storeu_si512 (p, v)
#define v_add _mm512_add_epi32
#define v_or _mm512_or_si512
#define v_madd _mm512_madd_epi16
#define v_packs _mm512_packs_epi32
#define v_unpacklo8 _mm512_unpacklo_epi8
#define v_unpackhi8 _mm512_unpackhi_epi8
#define v_unpacklo16 _mm512_unpacklo_epi16
#define v_unpackhi16 _mm512_unpackhi_epi16
#define v_sra(v, n) _mm512_sra_epi32 (v, _mm_cvtsi32_si128 ((int) (n)))
#define v_sll16(v, n) _mm512_sll_epi16 (v, _mm_cvtsi32_si128 ((int) (n)))
#define v_srl16(v, n) _mm512_srli_epi16 (v, n)
#define v_low16(v) _mm512_and_si512 (v, _mm512_set1_epi32 (0xFFFF))
#define v_high16(v) _mm512_slli_epi32 (v, 16)

/* What the packing of unpacked lanes left: eight samples in turn from @even and @odd. */
INLINE void
v_store_mixed (gint16 *dst, __m512i even, __m512i odd)
{
  const __m512i first = _mm512_setr_epi64 (0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i second = _mm512_setr_epi64 (4, 5, 12, 13, 6, 7, 14, 15);

  v_store (dst, _mm512_permutex2var_epi64 (even, first, odd));
  v_store (dst + 32, _mm512_permutex2var_epi64 (even, second, odd));
}

/* Sixteen integers, clipped. */
INLINE void
v_store_bytes (guint8 *dst, const __m512i part[1])
{
  __m512i positive = _mm512_max_epi32 (part[0], _mm512_setzero_si512 ());

  _mm_storeu_si128 ((__m128i *) dst, _mm512_cvtusepi32_epi8 (positive));
}

#include "video_simd.h"

const ValleyVideoKernels valley_video_kernels_avx512
    = { vertical, valley_video_pick_avx2, valley_video_tile_avx2, horizontal };

#endif
