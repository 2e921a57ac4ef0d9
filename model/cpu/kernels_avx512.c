/* kernels_avx512.c - the kernels for AVX-512; built twice, the second time with its bf16
 * instructions, which add one kernel.
 * SPDX-License-Identifier: Apache-2.0 */
#include "simd_avx512.h"

#include "kernels_simd.h"

#ifndef __AVX512BF16__

const ValleyKernels valley_kernels_avx512 = { .name = "avx512", SIMD_KERNELS };

#else

INLINE __m512bh
load_pairs (const guint16 *p, gsize n)
{
  __mmask32 lanes = n >= 32 ? 0xffffffff : (__mmask32) ((1u << n) - 1);

  return (__m512bh) _mm512_maskz_loadu_epi16 (lanes, p);
}

#define PREFETCH 512 /* weights ahead */

/* As gemv_tile, with 32 products to an instruction. */
INLINE void
gemv_bf16_tile (float *y, gsize y_stride, const guint16 *x, gsize x_stride, const int rows,
                const guint16 *w, gsize w_stride, const int cols, gsize k)
{
  vf sums[2][4][2];

  for (int r = 0; r < rows; r++)
    for (int c = 0; c < cols; c++)
      sums[r][c][0] = sums[r][c][1] = vf_zero ();
  for (gsize i = 0; i < k; i += 64) {
    gsize left = k - i, more = left > 32 ? left - 32 : 0;

    for (int c = 0; c < cols; c++) {
      const guint16 *column = w + c * w_stride + i;
      __m512bh w0 = load_pairs (column, left);
      __m512bh w1 = load_pairs (column + 32, more); /* no lanes, no access */

      /* The processor follows fewer streams than there are columns. */
      _mm_prefetch ((const char *) (column + PREFETCH), _MM_HINT_T0);
      _mm_prefetch ((const char *) (column + PREFETCH + 32), _MM_HINT_T0);

      for (int r = 0; r < rows; r++) {
        const guint16 *row = x + r * x_stride + i;

        sums[r][c][0] = _mm512_dpbf16_ps (sums[r][c][0], load_pairs (row, left), w0);
        if (more > 0)
          sums[r][c][1] = _mm512_dpbf16_ps (sums[r][c][1], load_pairs (row + 32, more), w1);
      }
    }
  }
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < cols; c++)
      y[r * y_stride + c] = vf_sum (vf_add (sums[r][c][0], sums[r][c][1]));
}

static void
gemv_bf16_bf16 (float *y, gsize y_stride, const guint16 *x, gsize x_stride, gsize rows,
                const guint16 *w, gsize w_stride, gsize cols, gsize k)
{
  for (gsize c = 0; c < cols;) {
    gsize wide = cols - c >= 4 ? 4 : 1, r = 0;
    const guint16 *columns = w + c * w_stride;

    for (; r + 2 <= rows; r += 2)
      if (wide == 4)
        gemv_bf16_tile (y + r * y_stride + c, y_stride, x + r * x_stride, x_stride, 2, columns,
                        w_stride, 4, k);
      else
        gemv_bf16_tile (y + r * y_stride + c, y_stride, x + r * x_stride, x_stride, 2, columns,
                        w_stride, 1, k);
    if (r < rows && wide == 4)
      gemv_bf16_tile (y + r * y_stride + c, y_stride, x + r * x_stride, x_stride, 1, columns,
                      w_stride, 4, k);
    else if (r < rows)
      gemv_bf16_tile (y + r * y_stride + c, y_stride, x + r * x_stride, x_stride, 1, columns,
                      w_stride, 1, k);
    c += wide;
  }
}

const ValleyKernels valley_kernels_avx512_bf16
    = { .name = "avx512_bf16", SIMD_KERNELS, .gemv_bf16_bf16 = gemv_bf16_bf16 };

#endif
