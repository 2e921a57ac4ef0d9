/* norm.cu - LayerNorm and RMSNorm: a block for each row.
 *
 * The mean is taken before the squares, as the CPU does: where a row's numbers lie close
 * together, a single pass would lose what is left of them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "row.h"

/* The sum over the row of (x - centre)^2. */
template <typename T>
static __device__ __forceinline__ float
sum_of_squares (const T *row, size_t n, float centre, ValleyShared<float> partial)
{
  float sum = 0;

  for (size_t i = 4 * threadIdx.x; i < n; i += 4 * blockDim.x) {
    ValleyQuad x = valley_load_quad (row, i, n);

    for (int j = 0; j < 4; j++)
      if (i + j < n)
        sum += (x.at[j] - centre) * (x.at[j] - centre);
  }
  return valley_block_sum (partial, sum);
}

/* y = (x - centre) factor weight + bias */
template <typename T>
static __device__ __forceinline__ void
scale_row (T *y, const T *row, size_t n, float centre, float factor, const float *weight,
           const float *bias)
{
  for (size_t i = 4 * threadIdx.x; i < n; i += 4 * blockDim.x) {
    ValleyQuad x = valley_load_quad (row, i, n), w = valley_load_quad (weight, i, n);
    ValleyQuad b = { { 0, 0, 0, 0 } };

    if (bias != NULL)
      b = valley_load_quad (bias, i, n);
    for (int j = 0; j < 4; j++)
      x.at[j] = (x.at[j] - centre) * factor * w.at[j] + b.at[j];
    valley_store_quad (y, i, n, x);
  }
}

template <typename T>
static __global__ void
__launch_bounds__ (VALLEY_MAX_THREADS)
    layer_norm_rows (T *y, size_t y_stride, const T *x, size_t x_stride, const float *weight,
                     const float *bias, size_t n, float eps)
{
  VALLEY_SHARED (float, partial, VALLEY_MAX_WARPS);
  const T *row = x + blockIdx.x * x_stride;
  float sum = 0, mean, variance;

  for (size_t i = 4 * threadIdx.x; i < n; i += 4 * blockDim.x) {
    ValleyQuad quad = valley_load_quad (row, i, n);

    sum += quad.at[0] + quad.at[1] + (quad.at[2] + quad.at[3]);
  }
  mean = valley_block_sum (partial, sum) / (float) n;
  variance = sum_of_squares (row, n, mean, partial) / (float) n;
  scale_row (y + blockIdx.x * y_stride, row, n, mean, 1 / sqrtf (variance + eps), weight, bias);
}

template <typename T>
static __global__ void
__launch_bounds__ (VALLEY_MAX_THREADS)
    rms_norm_rows (T *y, size_t y_stride, const T *x, size_t x_stride, const float *weight,
                   size_t n, float eps)
{
  VALLEY_SHARED (float, partial, VALLEY_MAX_WARPS);
  const T *row = x + blockIdx.x * x_stride;
  float mean_square = sum_of_squares (row, n, 0, partial) / (float) n;

  scale_row (y + blockIdx.x * y_stride, row, n, 0, 1 / sqrtf (mean_square + eps), weight, NULL);
}

template <typename T>
static void
launch_layer_norm (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const float *weight,
                   const float *bias, float eps, cudaStream_t stream)
{
  T *to = (T *) y->data;
  const T *from = (const T *) x->data;
  size_t n = x->cols, y_stride = y->stride, x_stride = x->stride;

  VALLEY_LAUNCH (layer_norm_rows, (unsigned) x->rows, valley_row_threads (n), 0, stream, to,
                 y_stride, from, x_stride, weight, bias, n, eps);
}

int
valley_cuda_layer_norm (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const float *weight,
                        const float *bias, float eps, cudaStream_t stream)
{
  if (!valley_is_empty (x))
    VALLEY_BY_TYPE (x->type, launch_layer_norm, y, x, weight, bias, eps, stream);
  return cudaGetLastError ();
}

template <typename T>
static void
launch_rms_norm (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const float *weight,
                 float eps, cudaStream_t stream)
{
  T *to = (T *) y->data;
  const T *from = (const T *) x->data;
  size_t n = x->cols, y_stride = y->stride, x_stride = x->stride;

  VALLEY_LAUNCH (rms_norm_rows, (unsigned) x->rows, valley_row_threads (n), 0, stream, to, y_stride,
                 from, x_stride, weight, n, eps);
}

int
valley_cuda_rms_norm (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const float *weight,
                      float eps, cudaStream_t stream)
{
  if (!valley_is_empty (x))
    VALLEY_BY_TYPE (x->type, launch_rms_norm, y, x, weight, eps, stream);
  return cudaGetLastError ();
}
