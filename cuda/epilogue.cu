/* epilogue.cu - bias and activation as a pass of their own, for what cuBLASLt does not apply
 * while the sums are in registers.
 * SPDX-License-Identifier: Apache-2.0 */
#include "epilogue.h"
#include "row.h"

#define THREADS 128

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) finish_rows (T *y, size_t stride, size_t n, ValleyEpilogue epilogue)
{
  size_t i = 4 * ((size_t) blockIdx.y * THREADS + threadIdx.x);
  T *row = y + blockIdx.x * stride;

  if (i < n) {
    ValleyQuad x = valley_load_quad (row, i, n);

    for (size_t j = 0; j < 4; j++)
      if (i + j < n)
        x.at[j] = valley_finish_sum (epilogue, i + j, x.at[j]);
    valley_store_quad (row, i, n, x);
  }
}

template <typename T>
static void
launch_finish (const ValleyCudaMatrix *y, ValleyEpilogue epilogue, cudaStream_t stream)
{
  T *data = (T *) y->data;
  size_t stride = y->stride, n = y->cols;

  VALLEY_LAUNCH (finish_rows, dim3 ((unsigned) y->rows, (unsigned) ((n - 1) / (4 * THREADS) + 1)),
                 THREADS, 0, stream, data, stride, n, epilogue);
}

int
valley_cuda_finish (const ValleyCudaMatrix *y, const ValleyCudaMatrix *bias,
                    ValleyCudaActivation act, cudaStream_t stream)
{
  VALLEY_BY_TYPE (y->type, launch_finish, y, valley_epilogue (bias, act), stream);
  return cudaGetLastError ();
}
