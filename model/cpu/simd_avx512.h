/* simd_avx512.h - the vector vocabulary of kernels_simd.h in AVX-512 (F, BW, DQ, VL).
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>
#include <immintrin.h>

#define VL 16           /* floats in a vector */
#define SCORE_VECTORS 4 /* registers allow 6 rows of so many sums */
#define VALUE_ROWS 4    /* ... and so many rows of up to 5 */

typedef __m512 vf;
typedef __mmask16 vm;

#define INLINE static inline __attribute__ ((always_inline, unused))

INLINE vm
first_lanes (gsize n)
{
  return n >= VL ? 0xffff : (vm) ((1u << n) - 1);
}

/* A word a line: */
/* clang-format off */
INLINE vf vf_set1 (float x) { return _mm512_set1_ps (x); }
INLINE vf vf_zero (void) { return _mm512_setzero_ps (); }
INLINE vf vf_load (const float *p) { return _mm512_loadu_ps (p); }
INLINE void vf_store (float *p, vf x) { _mm512_storeu_ps (p, x); }
/* n may be above VL; lanes from n on are zero, and their memory is not touched */
INLINE vf vf_load_n (const float *p, gsize n) { return _mm512_maskz_loadu_ps (first_lanes (n), p); }
INLINE void vf_store_n (float *p, vf x, gsize n) { _mm512_mask_storeu_ps (p, first_lanes (n), x); }
INLINE vf vf_add (vf a, vf b) { return _mm512_add_ps (a, b); }
INLINE vf vf_sub (vf a, vf b) { return _mm512_sub_ps (a, b); }
INLINE vf vf_mul (vf a, vf b) { return _mm512_mul_ps (a, b); }
INLINE vf vf_div (vf a, vf b) { return _mm512_div_ps (a, b); }
INLINE vf vf_fma (vf a, vf b, vf c) { return _mm512_fmadd_ps (a, b, c); }
/* c - a b */
INLINE vf vf_fnma (vf a, vf b, vf c) { return _mm512_fnmadd_ps (a, b, c); }
/* b where either is NaN */
INLINE vf vf_max (vf a, vf b) { return _mm512_max_ps (a, b); }
INLINE vf vf_min (vf a, vf b) { return _mm512_min_ps (a, b); }
INLINE vf vf_abs (vf x) { return _mm512_abs_ps (x); }
/* |x| with the sign of @sign */
INLINE vf
vf_with_sign (vf x, vf sign)
{
  return _mm512_or_ps (_mm512_and_ps (sign, _mm512_set1_ps (-0.0f)), x);
}
INLINE vf
vf_round (vf x)
{
  return _mm512_roundscale_ps (x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x 2^n, n whole */
INLINE vf vf_scale (vf x, vf n) { return _mm512_scalef_ps (x, n); }
INLINE vm vf_less (vf a, vf b) { return _mm512_cmp_ps_mask (a, b, _CMP_LT_OQ); }
INLINE vf vf_select (vm mask, vf yes, vf no) { return _mm512_mask_blend_ps (mask, no, yes); }
/* lanes from n on become x */
INLINE vf
vf_fill_from (vf a, gsize n, float x)
{
  return vf_select (first_lanes (n), a, vf_set1 (x));
}

/* Across the lanes, in an order of their own that never changes. */
INLINE float
vf_sum (vf x)
{
  __m256 a = _mm256_add_ps (_mm512_castps512_ps256 (x), _mm512_extractf32x8_ps (x, 1));
  __m128 b = _mm_add_ps (_mm256_castps256_ps128 (a), _mm256_extractf128_ps (a, 1));

  b = _mm_add_ps (b, _mm_movehl_ps (b, b));
  return _mm_cvtss_f32 (_mm_add_ss (b, _mm_movehdup_ps (b)));
}
INLINE float
vf_largest (vf x)
{
  __m256 a = _mm256_max_ps (_mm512_castps512_ps256 (x), _mm512_extractf32x8_ps (x, 1));
  __m128 b = _mm_max_ps (_mm256_castps256_ps128 (a), _mm256_extractf128_ps (a, 1));

  b = _mm_max_ps (b, _mm_movehl_ps (b, b));
  return _mm_cvtss_f32 (_mm_max_ss (b, _mm_movehdup_ps (b)));
}

INLINE __m256i
load_halves (const guint16 *p, gsize n)
{
  return _mm256_maskz_loadu_epi16 (first_lanes (n), p);
}
INLINE vf
vf_load_bf16 (const guint16 *p, gsize n)
{
  return _mm512_castsi512_ps (_mm512_slli_epi32 (_mm512_cvtepu16_epi32 (load_halves (p, n)), 16));
}
INLINE vf vf_load_f16 (const guint16 *p, gsize n) { return _mm512_cvtph_ps (load_halves (p, n)); }
INLINE void
vf_store_bf16 (guint16 *p, vf x, gsize n)
{
  __m512i bits = _mm512_castps_si512 (x), high = _mm512_srli_epi32 (bits, 16);
  __m512i odd = _mm512_and_si512 (high, _mm512_set1_epi32 (1));
  __m512i up = _mm512_add_epi32 (_mm512_add_epi32 (bits, _mm512_set1_epi32 (0x7fff)), odd);
  vm nan = _mm512_cmp_ps_mask (x, x, _CMP_UNORD_Q);
  __m512i rounded = _mm512_mask_or_epi32 (_mm512_srli_epi32 (up, 16), nan, high,
                                          _mm512_set1_epi32 (0x40));

  _mm256_mask_storeu_epi16 (p, first_lanes (n), _mm512_cvtepi32_epi16 (rounded));
}
INLINE void
vf_store_f16 (guint16 *p, vf x, gsize n)
{
  _mm256_mask_storeu_epi16 (p, first_lanes (n),
                            _mm512_cvtps_ph (x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* in[16] rows -> their columns */
INLINE void
vf_transpose (vf x[16])
{
  vf t[16];

  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps (x[i], x[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps (x[i], x[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; j++) {
      __m512d a = _mm512_castps_pd (t[i + j]), b = _mm512_castps_pd (t[i + j + 2]);

      x[i + 2 * j] = _mm512_castpd_ps (_mm512_unpacklo_pd (a, b));
      x[i + 2 * j + 1] = _mm512_castpd_ps (_mm512_unpackhi_pd (a, b));
    }
  /* x[4 g + c] now holds columns c, c + 4, c + 8, c + 12 of rows 4 g ... 4 g + 3 */
  for (int c = 0; c < 4; c++) {
    vf low = _mm512_shuffle_f32x4 (x[c], x[c + 4], 0x88);
    vf high = _mm512_shuffle_f32x4 (x[c], x[c + 4], 0xdd);
    vf low2 = _mm512_shuffle_f32x4 (x[c + 8], x[c + 12], 0x88);
    vf high2 = _mm512_shuffle_f32x4 (x[c + 8], x[c + 12], 0xdd);

    t[c] = _mm512_shuffle_f32x4 (low, low2, 0x88);
    t[c + 4] = _mm512_shuffle_f32x4 (high, high2, 0x88);
    t[c + 8] = _mm512_shuffle_f32x4 (low, low2, 0xdd);
    t[c + 12] = _mm512_shuffle_f32x4 (high, high2, 0xdd);
  }
  for (int i = 0; i < 16; i++)
    x[i] = t[i];
}
