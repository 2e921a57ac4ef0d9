/* move.cu - what only moves or pools rows: copies between types, tables, grids.
 * A thread writes one element, or four neighbours where they are just copied.
 * SPDX-License-Identifier: Apache-2.0 */
#include "row.h"

#define THREADS 128

/* ---- rows from anywhere ---- */

/* One type: the very bits, whatever they mean. */
template <typename T>
static __device__ __forceinline__ void
convert (T *to, T from)
{
  *to = from;
}

template <typename D, typename S>
static __device__ __forceinline__ void
convert (D *to, S from)
{
  valley_from_f32 (to, valley_to_f32 (from));
}

template <typename D, typename S>
static __global__ void
__launch_bounds__ (THREADS)
    copy_rows (D *y, size_t y_stride, const S *x, size_t x_stride, const int32_t *ids, size_t n)
{
  size_t from = ids != NULL ? (size_t) ids[blockIdx.x] : blockIdx.x;
  D *to = y + blockIdx.x * y_stride;
  const S *row = x + from * x_stride;

  /* a few elements a thread, each at the width of a warp from the next, so that accesses join */
  for (size_t i = (size_t) blockIdx.y * 4 * THREADS + threadIdx.x, k = 0; k < 4 && i < n;
       k++, i += THREADS)
    convert (to + i, row[i]);
}

template <typename D, typename S>
static void
launch_copy (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const int32_t *ids,
             cudaStream_t stream)
{
  D *to = (D *) y->data;
  const S *from = (const S *) x->data;
  size_t n = y->cols, y_stride = y->stride, x_stride = x->stride;

  VALLEY_LAUNCH (copy_rows, dim3 ((unsigned) y->rows, (unsigned) ((n - 1) / (4 * THREADS) + 1)),
                 THREADS, 0, stream, to, y_stride, from, x_stride, ids, n);
}

template <typename S>
static void
launch_copy_from (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const int32_t *ids,
                  cudaStream_t stream)
{
  if (y->type == VALLEY_CUDA_F32)
    launch_copy<float, S> (y, x, ids, stream);
  else if (y->type == VALLEY_CUDA_BF16)
    launch_copy<ValleyBf16, S> (y, x, ids, stream);
  else
    launch_copy<ValleyF16, S> (y, x, ids, stream);
}

int
valley_cuda_copy_rows (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const int32_t *ids,
                       cudaStream_t stream)
{
  if (!valley_is_empty (y))
    VALLEY_BY_TYPE (x->type, launch_copy_from, y, x, ids, stream);
  return cudaGetLastError ();
}

/* ---- grids of rows ---- */

/* Matrices of one type as kernels take them, and the grids' sizes in rows. */
template <typename T> struct Grids {
  T *y;
  const T *x;
  size_t y_stride, x_stride;
  unsigned y_cols, x_cols;
  unsigned in_height, in_width, out_height, out_width, ratio;
};

struct Sizes {
  size_t in_height, in_width, out_height, out_width, ratio;
};

template <typename T>
static Grids<T>
grids_of (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const Sizes *s)
{
  return { (T *) y->data,
           (const T *) x->data,
           y->stride,
           x->stride,
           (unsigned) y->cols,
           (unsigned) x->cols,
           (unsigned) s->in_height,
           (unsigned) s->in_width,
           (unsigned) s->out_height,
           (unsigned) s->out_width,
           (unsigned) s->ratio };
}

static __device__ __forceinline__ unsigned
column (void)
{
  return blockIdx.y * THREADS + threadIdx.x;
}

template <typename T>
static __device__ __forceinline__ const T *
cell (const Grids<T> *g, unsigned row, unsigned col)
{
  return g->x + ((size_t) row * g->in_width + col) * g->x_stride;
}

/* run_NAME launches the kernel NAME for the matrices' type. */
#define GRID_KERNEL(name)                                                                          \
  template <typename T>                                                                            \
  static void launch_##name (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,                 \
                             const Sizes *sizes, cudaStream_t stream)                              \
  {                                                                                                \
    Grids<T> g = grids_of<T> (y, x, sizes);                                                        \
    dim3 grid ((unsigned) y->rows, (unsigned) ((y->cols - 1) / THREADS + 1));                      \
                                                                                                   \
    VALLEY_LAUNCH (name, grid, THREADS, 0, stream, g);                                             \
  }                                                                                                \
                                                                                                   \
  static int run_##name (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, Sizes sizes,        \
                         cudaStream_t stream)                                                      \
  {                                                                                                \
    if (!valley_is_empty (y))                                                                      \
      VALLEY_BY_TYPE (y->type, launch_##name, y, x, &sizes, stream);                               \
    return cudaGetLastError ();                                                                    \
  }

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) im2col_cells (Grids<T> g)
{
  unsigned i = column (), channel = i / 9, tap = i % 9;
  /* one more than the input's row and column, for the padding */
  unsigned row = 2 * (blockIdx.x / g.out_width) + tap / 3;
  unsigned col = 2 * (blockIdx.x % g.out_width) + tap % 3;
  bool inside = row >= 1 && row <= g.in_height && col >= 1 && col <= g.in_width;

  if (i < g.y_cols)
    g.y[blockIdx.x * g.y_stride + i] = inside ? cell (&g, row - 1, col - 1)[channel] : T{};
}

GRID_KERNEL (im2col_cells)

int
valley_cuda_im2col (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, size_t side,
                    cudaStream_t stream)
{
  return run_im2col_cells (y, x, { side, side, (side + 1) / 2, (side + 1) / 2, 1 }, stream);
}

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) pixel_shuffle_cells (Grids<T> g)
{
  unsigned i = column (), part = i / g.x_cols;
  unsigned row = blockIdx.x / g.out_width * g.ratio + part / g.ratio;
  unsigned col = blockIdx.x % g.out_width * g.ratio + part % g.ratio;

  if (i < g.y_cols)
    g.y[blockIdx.x * g.y_stride + i] = cell (&g, row, col)[i % g.x_cols];
}

GRID_KERNEL (pixel_shuffle_cells)

int
valley_cuda_pixel_shuffle (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, size_t side,
                           size_t ratio, cudaStream_t stream)
{
  return run_pixel_shuffle_cells (y, x, { side, side, side / ratio, side / ratio, ratio }, stream);
}

/* The cells that are pooled into this block's row of y. */
struct Bin {
  unsigned top, bottom, left, right;
};

template <typename T>
static __device__ __forceinline__ Bin
pool_bin (const Grids<T> *g)
{
  unsigned row = blockIdx.x / g->out_width, col = blockIdx.x % g->out_width;

  return { row * g->in_height / g->out_height,
           ((row + 1) * g->in_height + g->out_height - 1) / g->out_height,
           col * g->in_width / g->out_width,
           ((col + 1) * g->in_width + g->out_width - 1) / g->out_width };
}

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) average_pool_cells (Grids<T> g)
{
  unsigned i = column ();
  Bin bin = pool_bin (&g);
  float sum = 0;

  if (i >= g.y_cols)
    return;
  for (unsigned r = bin.top; r < bin.bottom; r++)
    for (unsigned c = bin.left; c < bin.right; c++)
      sum += valley_to_f32 (cell (&g, r, c)[i]);
  valley_from_f32 (g.y + blockIdx.x * g.y_stride + i,
                   sum / (float) ((bin.bottom - bin.top) * (bin.right - bin.left)));
}

GRID_KERNEL (average_pool_cells)

int
valley_cuda_average_pool (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, size_t in_height,
                          size_t in_width, size_t out_height, size_t out_width, cudaStream_t stream)
{
  return run_average_pool_cells (y, x, { in_height, in_width, out_height, out_width, 1 }, stream);
}

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) max_pool_cells (Grids<T> g)
{
  unsigned i = column ();
  Bin bin = pool_bin (&g);
  float max;

  if (i >= g.y_cols)
    return;
  max = valley_to_f32 (cell (&g, bin.top, bin.left)[i]);
  for (unsigned r = bin.top; r < bin.bottom; r++)
    for (unsigned c = bin.left; c < bin.right; c++) {
      float x = valley_to_f32 (cell (&g, r, c)[i]);

      max = x <= max ? max : x; /* a NaN stays */
    }
  valley_from_f32 (g.y + blockIdx.x * g.y_stride + i, max);
}

GRID_KERNEL (max_pool_cells)

int
valley_cuda_max_pool (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, size_t in_height,
                      size_t in_width, size_t out_height, size_t out_width, cudaStream_t stream)
{
  return run_max_pool_cells (y, x, { in_height, in_width, out_height, out_width, 1 }, stream);
}
