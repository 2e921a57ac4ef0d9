/* product_check.cu - what blas.c needs to see whether an algorithm keeps a row's bits: numbers
 * to multiply, and a comparison of bits.
 *
 * Every product comes once more with the other sign, half a row further, so that sums are 0 but
 * for their rounding.  That follows from the order alone, and a result of 16 bits shows it, too.
 * SPDX-License-Identifier: Apache-2.0 */
#include "product.h"
#include "row.h"

#define THREADS 128

/* Within -64 ... 64, a function of the place: neighbours have little in common. */
static __device__ __forceinline__ float
scattered (unsigned line, unsigned k)
{
  unsigned bits = line * 0x9e3779b1u + k * 0x85ebca6bu;

  bits = (bits ^ bits >> 15) * 0x2c1b3c6du;
  bits = (bits ^ bits >> 12) * 0x297a2d39u;
  return (float) (bits >> 8) / 131072.0f - 64;
}

template <typename T>
static __global__ void
__launch_bounds__ (THREADS)
    fill_rows (T *x, size_t stride, unsigned n, unsigned n_k, bool down, bool is_weight)
{
  unsigned i = blockIdx.y * THREADS + threadIdx.x, half = n_k / 2;
  unsigned k = down ? blockIdx.x : i, line = down ? i : blockIdx.x;
  float value = 0;

  if (i >= n)
    return;
  if (k < 2 * half)
    value = scattered (is_weight ? ~line : line, k % half);
  valley_from_f32 (x + blockIdx.x * stride + i, k >= half && !is_weight ? -value : value);
}

/* @T: unsigned or uint16_t, for the bits of an element */
template <typename T>
static __global__ void
__launch_bounds__ (THREADS) count_different_rows (const T *a, size_t a_stride, const T *b,
                                                  size_t b_stride, size_t n, uint32_t *different)
{
  unsigned i = blockIdx.y * THREADS + threadIdx.x;

  if (i < n && a[blockIdx.x * a_stride + i] != b[blockIdx.x * b_stride + i])
    valley_atomic_add (different, 1u);
}

static dim3
grid_of (const ValleyCudaMatrix *x)
{
  return dim3 ((unsigned) x->rows, (unsigned) ((x->cols - 1) / THREADS + 1));
}

template <typename T>
static void
launch_fill (const ValleyCudaMatrix *x, bool down, bool is_weight, cudaStream_t stream)
{
  T *data = (T *) x->data;
  size_t stride = x->stride;
  unsigned n = (unsigned) x->cols, n_k = down ? (unsigned) x->rows : n;

  VALLEY_LAUNCH (fill_rows, grid_of (x), THREADS, 0, stream, data, stride, n, n_k, down, is_weight);
}

int
valley_cuda_fill_factor (const ValleyCudaMatrix *x, int down, int is_weight, cudaStream_t stream)
{
  VALLEY_BY_TYPE (x->type, launch_fill, x, down != 0, is_weight != 0, stream);
  return cudaGetLastError ();
}

template <typename T>
static void
launch_count (const ValleyCudaMatrix *a, const ValleyCudaMatrix *b, uint32_t *different,
              cudaStream_t stream)
{
  const T *p = (const T *) a->data, *q = (const T *) b->data;
  size_t p_stride = a->stride, q_stride = b->stride, n = a->cols;

  VALLEY_LAUNCH (count_different_rows, grid_of (a), THREADS, 0, stream, p, p_stride, q, q_stride, n,
                 different);
}

int
valley_cuda_count_different (const ValleyCudaMatrix *a, const ValleyCudaMatrix *b,
                             uint32_t *different, cudaStream_t stream)
{
  if (a->type == VALLEY_CUDA_F32)
    launch_count<uint32_t> (a, b, different, stream);
  else
    launch_count<uint16_t> (a, b, different, stream);
  return cudaGetLastError ();
}
