/* rows.cu - what else works row by row: sums, gates, softmax, cosines.
 * SPDX-License-Identifier: Apache-2.0 */
#include "row.h"

#define THREADS 128

/* ---- element by element: a row is cut into pieces of 4 * THREADS ---- */

static dim3
quads_grid (const ValleyCudaMatrix *y)
{
  return dim3 ((unsigned) y->rows, (unsigned) ((y->cols - 1) / (4 * THREADS) + 1));
}

static __device__ __forceinline__ size_t
quad_index (void)
{
  return 4 * ((size_t) blockIdx.y * THREADS + threadIdx.x);
}

/* @x_stride 0: one row for all */
template <typename T, typename X>
static __global__ void
__launch_bounds__ (THREADS) add_rows (T *y, size_t y_stride, const X *x, size_t x_stride, size_t n)
{
  size_t i = quad_index ();
  T *row = y + blockIdx.x * y_stride;

  if (i < n) {
    ValleyQuad a = valley_load_quad (row, i, n);
    ValleyQuad b = valley_load_quad (x + blockIdx.x * x_stride, i, n);

    for (int j = 0; j < 4; j++)
      a.at[j] += b.at[j];
    valley_store_quad (row, i, n, a);
  }
}

template <typename T, typename X>
static void
launch_add_of (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, cudaStream_t stream)
{
  T *to = (T *) y->data;
  const X *from = (const X *) x->data;
  size_t n = y->cols, y_stride = y->stride, x_stride = x->rows == 1 ? 0 : x->stride;

  VALLEY_LAUNCH (add_rows, quads_grid (y), THREADS, 0, stream, to, y_stride, from, x_stride, n);
}

template <typename T>
static void
launch_add (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, cudaStream_t stream)
{
  if (x->type == VALLEY_CUDA_F32)
    launch_add_of<T, float> (y, x, stream);
  else if (x->type == VALLEY_CUDA_BF16)
    launch_add_of<T, ValleyBf16> (y, x, stream);
  else
    launch_add_of<T, ValleyF16> (y, x, stream);
}

int
valley_cuda_add (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, cudaStream_t stream)
{
  if (!valley_is_empty (y))
    VALLEY_BY_TYPE (y->type, launch_add, y, x, stream);
  return cudaGetLastError ();
}

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) swiglu_rows (T *y, size_t y_stride, const T *gate, size_t gate_stride,
                                         const T *up, size_t up_stride, size_t n)
{
  size_t i = quad_index ();

  if (i < n) {
    ValleyQuad g = valley_load_quad (gate + blockIdx.x * gate_stride, i, n);
    ValleyQuad u = valley_load_quad (up + blockIdx.x * up_stride, i, n);

    for (int j = 0; j < 4; j++)
      g.at[j] = g.at[j] / (1 + expf (-g.at[j])) * u.at[j];
    valley_store_quad (y + blockIdx.x * y_stride, i, n, g);
  }
}

template <typename T>
static void
launch_swiglu (const ValleyCudaMatrix *y, const ValleyCudaMatrix *gate, const ValleyCudaMatrix *up,
               cudaStream_t stream)
{
  T *to = (T *) y->data;
  const T *g = (const T *) gate->data, *u = (const T *) up->data;
  size_t n = y->cols, y_stride = y->stride, g_stride = gate->stride, u_stride = up->stride;

  VALLEY_LAUNCH (swiglu_rows, quads_grid (y), THREADS, 0, stream, to, y_stride, g, g_stride, u,
                 u_stride, n);
}

int
valley_cuda_swiglu (const ValleyCudaMatrix *y, const ValleyCudaMatrix *gate,
                    const ValleyCudaMatrix *up, cudaStream_t stream)
{
  if (!valley_is_empty (y))
    VALLEY_BY_TYPE (y->type, launch_swiglu, y, gate, up, stream);
  return cudaGetLastError ();
}

/* ---- a block for each row ---- */

/* launch_NAME launches the kernel NAME, which works in place, for a type. */
#define ROW_KERNEL(name)                                                                           \
  template <typename T> static void launch_##name (const ValleyCudaMatrix *x, cudaStream_t stream) \
  {                                                                                                \
    T *data = (T *) x->data;                                                                       \
    size_t stride = x->stride, n = x->cols;                                                        \
                                                                                                   \
    VALLEY_LAUNCH (name, (unsigned) x->rows, valley_row_threads (n), 0, stream, data, stride, n);  \
  }

/* The larger number, at equals the one further left. */
static __device__ __forceinline__ void
take_larger (float *value, unsigned *at, float other, unsigned other_at)
{
  if (other > *value || (other == *value && other_at < *at)) {
    *value = other;
    *at = other_at;
  }
}

/* The first maximum of a row, the same in every thread.  A NaN is no maximum; a row without
 * any number has -inf at 0.  Once in a kernel: no barrier guards the arrays for a second time. */
template <typename T>
static __device__ void
find_maximum (const T *row, size_t n, ValleyShared<float> values, ValleyShared<unsigned> places,
              float *value, unsigned *at)
{
  *value = -INFINITY;
  *at = 0xffffffffu;
  for (size_t i = threadIdx.x; i < n; i += blockDim.x)
    take_larger (value, at, valley_to_f32 (row[i]), (unsigned) i);
  for (int bits = VALLEY_WARP / 2; bits > 0; bits /= 2) {
    float other = valley_shuffle_xor (VALLEY_FULL_WARP, *value, bits);
    unsigned other_at = valley_shuffle_xor (VALLEY_FULL_WARP, *at, bits);

    take_larger (value, at, other, other_at);
  }
  if (threadIdx.x % VALLEY_WARP == 0) {
    values[threadIdx.x / VALLEY_WARP] = *value;
    places[threadIdx.x / VALLEY_WARP] = *at;
  }
  valley_sync_block ();
  for (unsigned i = 0; i < blockDim.x / VALLEY_WARP; i++)
    take_larger (value, at, values[i], places[i]);
  if (*at == 0xffffffffu)
    *at = 0;
}

/* Sums in double: rows are up to a vocabulary long, and it costs no more than their reading. */
template <typename T>
static __global__ void
__launch_bounds__ (VALLEY_MAX_THREADS) softmax_rows (T *x, size_t stride, size_t n)
{
  VALLEY_SHARED (float, values, VALLEY_MAX_WARPS);
  VALLEY_SHARED (unsigned, places, VALLEY_MAX_WARPS);
  VALLEY_SHARED (double, partial, VALLEY_MAX_WARPS);
  T *row = x + blockIdx.x * stride;
  float max, sum;
  double own = 0;
  unsigned at;

  find_maximum (row, n, values, places, &max, &at);
  for (size_t i = threadIdx.x; i < n; i += blockDim.x)
    own += expf (valley_to_f32 (row[i]) - max);
  sum = (float) valley_block_sum (partial, own);
  for (size_t i = threadIdx.x; i < n; i += blockDim.x)
    valley_from_f32 (row + i, expf (valley_to_f32 (row[i]) - max) / sum);
}

ROW_KERNEL (softmax_rows)

int
valley_cuda_softmax (const ValleyCudaMatrix *x, cudaStream_t stream)
{
  if (!valley_is_empty (x))
    VALLEY_BY_TYPE (x->type, launch_softmax_rows, x, stream);
  return cudaGetLastError ();
}

template <typename T>
static __global__ void
__launch_bounds__ (VALLEY_MAX_THREADS) one_hot_rows (T *x, size_t stride, size_t n)
{
  VALLEY_SHARED (float, values, VALLEY_MAX_WARPS);
  VALLEY_SHARED (unsigned, places, VALLEY_MAX_WARPS);
  T *row = x + blockIdx.x * stride;
  float first = valley_to_f32 (row[0]), max;
  unsigned at;

  find_maximum (row, n, values, places, &max, &at);
  if (first != first) /* nothing is larger than that, for the CPU */
    at = 0;
  for (size_t i = threadIdx.x; i < n; i += blockDim.x)
    valley_from_f32 (row + i, i == at);
}

ROW_KERNEL (one_hot_rows)

int
valley_cuda_one_hot (const ValleyCudaMatrix *x, cudaStream_t stream)
{
  if (!valley_is_empty (x))
    VALLEY_BY_TYPE (x->type, launch_one_hot_rows, x, stream);
  return cudaGetLastError ();
}

/* In double, so that rounding decides as little as can be about what is near a threshold. */
template <typename T>
static __global__ void
__launch_bounds__ (VALLEY_MAX_THREADS)
    cosine_rows (float *y, size_t y_stride, const T *x, size_t x_stride, const T *z,
                 size_t z_stride, size_t n)
{
  VALLEY_SHARED (double, partial, VALLEY_MAX_WARPS);
  const T *a = x + blockIdx.x * x_stride, *b = z + blockIdx.x * z_stride;
  double xz = 0, xx = 0, zz = 0, norms, cosine;

  for (size_t i = threadIdx.x; i < n; i += blockDim.x) {
    double p = valley_to_f32 (a[i]), q = valley_to_f32 (b[i]);

    xz += p * q;
    xx += p * p;
    zz += q * q;
  }
  xz = valley_block_sum (partial, xz);
  xx = valley_block_sum (partial, xx);
  zz = valley_block_sum (partial, zz);
  norms = sqrt (xx) * sqrt (zz);
  cosine = norms == 0 ? 0 : xz / norms;
  if (threadIdx.x == 0)
    y[blockIdx.x * y_stride] = (float) (cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
}

template <typename T>
static void
launch_cosine (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const ValleyCudaMatrix *z,
               cudaStream_t stream)
{
  float *to = (float *) y->data;
  const T *a = (const T *) x->data, *b = (const T *) z->data;
  size_t n = x->cols, y_stride = y->stride, x_stride = x->stride, z_stride = z->stride;

  VALLEY_LAUNCH (cosine_rows, (unsigned) x->rows, valley_row_threads (n), 0, stream, to, y_stride,
                 a, x_stride, b, z_stride, n);
}

int
valley_cuda_cosine (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const ValleyCudaMatrix *z,
                    cudaStream_t stream)
{
  if (!valley_is_empty (x))
    VALLEY_BY_TYPE (x->type, launch_cosine, y, x, z, stream);
  return cudaGetLastError ();
}
