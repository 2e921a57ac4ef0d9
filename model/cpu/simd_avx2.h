/* simd_avx2.h - the vector vocabulary of kernels_simd.h in AVX2, FMA and F16C.  What each
 * word means is said in simd_avx512.h.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>
#include <immintrin.h>
#include <string.h>

#define VL 8
#define SCORE_VECTORS 2
#define VALUE_ROWS 2

typedef __m256 vf;
typedef __m256 vm;

#define INLINE static inline __attribute__ ((always_inline, unused))

INLINE __m256i
first_lanes (gsize n)
{
  static const gint32 lanes[16] = { -1, -1, -1, -1, -1, -1, -1, -1 };

  return _mm256_loadu_si256 ((const __m256i *) (lanes + 8 - MIN (n, 8)));
}

/* A word a line: */
/* clang-format off */
INLINE vf vf_set1 (float x) { return _mm256_set1_ps (x); }
INLINE vf vf_zero (void) { return _mm256_setzero_ps (); }
INLINE vf vf_load (const float *p) { return _mm256_loadu_ps (p); }
INLINE void vf_store (float *p, vf x) { _mm256_storeu_ps (p, x); }
INLINE vf
vf_load_n (const float *p, gsize n)
{
  return n >= VL ? _mm256_loadu_ps (p) : _mm256_maskload_ps (p, first_lanes (n));
}
INLINE void
vf_store_n (float *p, vf x, gsize n)
{
  if (n >= VL)
    _mm256_storeu_ps (p, x);
  else
    _mm256_maskstore_ps (p, first_lanes (n), x);
}
INLINE vf vf_add (vf a, vf b) { return _mm256_add_ps (a, b); }
INLINE vf vf_sub (vf a, vf b) { return _mm256_sub_ps (a, b); }
INLINE vf vf_mul (vf a, vf b) { return _mm256_mul_ps (a, b); }
INLINE vf vf_div (vf a, vf b) { return _mm256_div_ps (a, b); }
INLINE vf vf_fma (vf a, vf b, vf c) { return _mm256_fmadd_ps (a, b, c); }
INLINE vf vf_fnma (vf a, vf b, vf c) { return _mm256_fnmadd_ps (a, b, c); }
INLINE vf vf_max (vf a, vf b) { return _mm256_max_ps (a, b); }
INLINE vf vf_min (vf a, vf b) { return _mm256_min_ps (a, b); }
INLINE vf vf_abs (vf x) { return _mm256_andnot_ps (_mm256_set1_ps (-0.0f), x); }
INLINE vf
vf_with_sign (vf x, vf sign)
{
  return _mm256_or_ps (_mm256_and_ps (sign, _mm256_set1_ps (-0.0f)), x);
}
INLINE vf
vf_round (vf x)
{
  return _mm256_round_ps (x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* |n| up to 252: in two factors, as 2^n itself may be no normal number */
INLINE vf
vf_scale (vf x, vf n)
{
  __m256i whole = _mm256_cvtps_epi32 (n), half = _mm256_srai_epi32 (whole, 1);
  __m256i rest = _mm256_sub_epi32 (whole, half), bias = _mm256_set1_epi32 (127);
  vf a = _mm256_castsi256_ps (_mm256_slli_epi32 (_mm256_add_epi32 (half, bias), 23));
  vf b = _mm256_castsi256_ps (_mm256_slli_epi32 (_mm256_add_epi32 (rest, bias), 23));

  return vf_mul (vf_mul (x, a), b);
}
INLINE vm vf_less (vf a, vf b) { return _mm256_cmp_ps (a, b, _CMP_LT_OQ); }
INLINE vf vf_select (vm mask, vf yes, vf no) { return _mm256_blendv_ps (no, yes, mask); }
INLINE vf
vf_fill_from (vf a, gsize n, float x)
{
  return vf_select (_mm256_castsi256_ps (first_lanes (n)), a, vf_set1 (x));
}

INLINE float
vf_sum (vf x)
{
  __m128 b = _mm_add_ps (_mm256_castps256_ps128 (x), _mm256_extractf128_ps (x, 1));

  b = _mm_add_ps (b, _mm_movehl_ps (b, b));
  return _mm_cvtss_f32 (_mm_add_ss (b, _mm_movehdup_ps (b)));
}
INLINE float
vf_largest (vf x)
{
  __m128 b = _mm_max_ps (_mm256_castps256_ps128 (x), _mm256_extractf128_ps (x, 1));

  b = _mm_max_ps (b, _mm_movehl_ps (b, b));
  return _mm_cvtss_f32 (_mm_max_ss (b, _mm_movehdup_ps (b)));
}

INLINE __m128i
load_halves (const guint16 *p, gsize n)
{
  guint16 part[8] = { 0 };

  if (n >= VL)
    return _mm_loadu_si128 ((const __m128i *) p);
  memcpy (part, p, n * sizeof *p);
  return _mm_loadu_si128 ((const __m128i *) part);
}
INLINE void
store_halves (guint16 *p, __m128i x, gsize n)
{
  guint16 part[8];

  if (n >= VL) {
    _mm_storeu_si128 ((__m128i *) p, x);
  } else {
    _mm_storeu_si128 ((__m128i *) part, x);
    memcpy (p, part, n * sizeof *p);
  }
}
INLINE vf
vf_load_bf16 (const guint16 *p, gsize n)
{
  return _mm256_castsi256_ps (_mm256_slli_epi32 (_mm256_cvtepu16_epi32 (load_halves (p, n)), 16));
}
INLINE vf vf_load_f16 (const guint16 *p, gsize n) { return _mm256_cvtph_ps (load_halves (p, n)); }
INLINE void
vf_store_bf16 (guint16 *p, vf x, gsize n)
{
  __m256i bits = _mm256_castps_si256 (x), high = _mm256_srli_epi32 (bits, 16);
  __m256i odd = _mm256_and_si256 (high, _mm256_set1_epi32 (1));
  __m256i up = _mm256_add_epi32 (_mm256_add_epi32 (bits, _mm256_set1_epi32 (0x7fff)), odd);
  vf nan = _mm256_cmp_ps (x, x, _CMP_UNORD_Q);
  __m256i quiet = _mm256_or_si256 (high, _mm256_set1_epi32 (0x40));
  __m256i rounded = _mm256_blendv_epi8 (_mm256_srli_epi32 (up, 16), quiet, _mm256_castps_si256 (nan));

  store_halves (p, _mm_packus_epi32 (_mm256_castsi256_si128 (rounded),
                                     _mm256_extracti128_si256 (rounded, 1)), n);
}
INLINE void
vf_store_f16 (guint16 *p, vf x, gsize n)
{
  store_halves (p, _mm256_cvtps_ph (x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n);
}

INLINE void
vf_transpose (vf x[8])
{
  vf t[8];

  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps (x[i], x[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps (x[i], x[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; j++) {
      __m256d a = _mm256_castps_pd (t[i + j]), b = _mm256_castps_pd (t[i + j + 2]);

      x[i + 2 * j] = _mm256_castpd_ps (_mm256_unpacklo_pd (a, b));
      x[i + 2 * j + 1] = _mm256_castpd_ps (_mm256_unpackhi_pd (a, b));
    }
  /* x[4 g + c] now holds columns c and c + 4 of rows 4 g ... 4 g + 3 */
  for (int c = 0; c < 4; c++) {
    t[c] = _mm256_permute2f128_ps (x[c], x[c + 4], 0x20);
    t[c + 4] = _mm256_permute2f128_ps (x[c], x[c + 4], 0x31);
  }
  for (int i = 0; i < 8; i++)
    x[i] = t[i];
}
