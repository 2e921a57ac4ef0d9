/* norm.cu - LayerNorm and RMSNorm, and the sum before them: a block for each row.
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
template <typename Y, typename T>
static __device__ __forceinline__ void
scale_row (Y *y, const T *row, size_t n, float centre, float factor, const float *weight,
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

/* The row's sum; first adds @delta to it, where there is one.  A thread reads again only what it
 * wrote itself. */
template <typename T, typename D>
static __device__ __forceinline__ float
add_and_sum (T *row, const D *delta, size_t n, ValleyShared<float> partial)
{
  float sum = 0;

  for (size_t i = 4 * threadIdx.x; i < n; i += 4 * blockDim.x) {
    ValleyQuad x = valley_load_quad (row, i, n);

    if (delta != NULL) {
      ValleyQuad d = valley_load_quad (delta, i, n);

      for (int j = 0; j < 4; j++)
        x.at[j] += d.at[j];
      valley_store_quad (row, i, n, x);
      x = valley_load_quad (row, i, n); /* as it was rounded */
    }
    sum += x.at[0] + x.at[1] + (x.at[2] + x.at[3]);
  }
  return valley_block_sum (partial, sum);
}

/* What both kinds take: rows of Y, of X, and of Y's type for the delta. */
template <typename Y, typename X> struct Norm {
  Y *y;
  X *x;
  const Y *delta;
  size_t y_stride, x_stride, delta_stride;
  const float *weight, *bias;
  size_t n;
  float eps;
};

template <typename Y, typename X>
static __global__ void
__launch_bounds__ (VALLEY_MAX_THREADS) layer_norm_rows (Norm<Y, X> a)
{
  VALLEY_SHARED (float, partial, VALLEY_MAX_WARPS);
  X *row = a.x + blockIdx.x * a.x_stride;
  const Y *delta = a.delta != NULL ? a.delta + blockIdx.x * a.delta_stride : NULL;
  float mean = add_and_sum (row, delta, a.n, partial) / (float) a.n;
  float variance = sum_of_squares (row, a.n, mean, partial) / (float) a.n;

  scale_row (a.y + blockIdx.x * a.y_stride, row, a.n, mean, 1 / sqrtf (variance + a.eps), a.weight,
             a.bias);
}

template <typename Y, typename X>
static __global__ void
__launch_bounds__ (VALLEY_MAX_THREADS) rms_norm_rows (Norm<Y, X> a)
{
  VALLEY_SHARED (float, partial, VALLEY_MAX_WARPS);
  X *row = a.x + blockIdx.x * a.x_stride;
  float mean_square;

  if (a.delta != NULL)
    add_and_sum (row, a.delta + blockIdx.x * a.delta_stride, a.n, partial);
  mean_square = sum_of_squares (row, a.n, 0, partial) / (float) a.n;
  scale_row (a.y + blockIdx.x * a.y_stride, row, a.n, 0, 1 / sqrtf (mean_square + a.eps), a.weight,
             NULL);
}

/* ---- from the host ---- */

/* @is_layer tells which of the two. */
struct Call {
  const ValleyCudaMatrix *y, *x, *delta;
  const float *weight, *bias;
  float eps;
  bool is_layer;
};

template <typename Y, typename X>
static void
launch (const Call *c, cudaStream_t stream)
{
  Norm<Y, X> a = { (Y *) c->y->data,
                   (X *) c->x->data,
                   c->delta != NULL ? (const Y *) c->delta->data : NULL,
                   c->y->stride,
                   c->x->stride,
                   c->delta != NULL ? c->delta->stride : 0,
                   c->weight,
                   c->bias,
                   c->x->cols,
                   c->eps };
  unsigned rows = (unsigned) c->x->rows, n_threads = valley_row_threads (a.n);

  if (c->is_layer)
    VALLEY_LAUNCH (layer_norm_rows, rows, n_threads, 0, stream, a);
  else
    VALLEY_LAUNCH (rms_norm_rows, rows, n_threads, 0, stream, a);
}

template <typename Y>
static void
launch_to (const Call *c, cudaStream_t stream)
{
  if (c->x->type == c->y->type)
    launch<Y, Y> (c, stream);
  else
    launch<Y, float> (c, stream);
}

static int
run (const Call *c, cudaStream_t stream)
{
  if ((c->x->type != c->y->type && c->x->type != VALLEY_CUDA_F32)
      || (c->delta != NULL && c->delta->type != c->y->type))
    return cudaErrorInvalidValue;
  if (!valley_is_empty (c->x))
    VALLEY_BY_TYPE (c->y->type, launch_to, c, stream);
  return cudaGetLastError ();
}

int
valley_cuda_layer_norm (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                        const ValleyCudaMatrix *delta, const float *weight, const float *bias,
                        float eps, cudaStream_t stream)
{
  Call c = { y, x, delta, weight, bias, eps, true };

  return run (&c, stream);
}

int
valley_cuda_rms_norm (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                      const ValleyCudaMatrix *delta, const float *weight, float eps,
                      cudaStream_t stream)
{
  Call c = { y, x, delta, weight, NULL, eps, false };

  return run (&c, stream);
}
