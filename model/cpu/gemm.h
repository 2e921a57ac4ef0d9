/* gemm.h - one block of a matrix product on the calling thread.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

/* c[m,n] = a[m,k] b (+ c when @accumulate); a and b are both f32 or both bf16, c is f32.
 * b is [k,n] row-major, or with @b_transposed [n,k]. */
typedef struct {
  ValleyDType dtype;
  gboolean b_transposed, accumulate;
  gsize m, n, k;
  gsize a_stride, b_stride, c_stride;
} ValleyGemmShape;

/* On the calling thread alone.  FALSE when the library refuses or memory is short. */
gboolean valley_gemm (const ValleyGemmShape *shape, const void *a, const void *b, float *c);
/* Whether it was memory of ours that the calling thread's last product lacked. */
gboolean valley_gemm_lacked_memory (void);

/* TRUE where the machine, our kernels and the library all multiply bf16 with instructions of
 * its own; elsewhere bf16 must not be asked for. */
gboolean valley_gemm_has_bf16 (void);

/* TRUE where a row's bits were found not to depend on @m; elsewhere rows must come in tiles of
 * exactly VALLEY_GEMM_TILE. */
gboolean valley_gemm_takes_any_rows (void);
#define VALLEY_GEMM_TILE 64
