/* product_plain.cu - matrix products that nothing else takes: mixed types, odd strides, shapes
 * without an algorithm that suits.  Each sum goes from the first product to the last.
 * SPDX-License-Identifier: Apache-2.0 */
#include "epilogue.h"
#include "row.h"

#define SIDE 16 /* a block has SIDE x SIDE threads, */
#define EACH 4  /* each of which sums up EACH x EACH elements */
#define TILE (SIDE * EACH)
#define DEPTH 16         /* products between two barriers */
#define PITCH (TILE + 1) /* columns of a tile lie in different banks */

struct Operand {
  const void *data;
  ValleyCudaType type;
  size_t lines, stride, step; /* sums run along lines; elements from one to the next */
};

/* Whoever comes here can bear a branch for each element. */
static __device__ __forceinline__ float
element (const Operand *from, size_t i)
{
  if (from->type == VALLEY_CUDA_F32)
    return ((const float *) from->data)[i];
  if (from->type == VALLEY_CUDA_BF16)
    return valley_to_f32 (((const ValleyBf16 *) from->data)[i]);
  return valley_to_f32 (((const ValleyF16 *) from->data)[i]);
}

/* Elements @first ... of TILE lines, DEPTH of each, as [DEPTH][PITCH]; zeros beyond the ends. */
static __device__ __forceinline__ void
load_tile (ValleyShared<float> tile, const Operand *from, size_t line, size_t first, size_t k)
{
  for (unsigned i = threadIdx.x; i < TILE * DEPTH; i += SIDE * SIDE) {
    /* neighbours in memory go to neighbouring threads, whichever way they lie */
    unsigned at = from->step == 1 ? i % DEPTH : i / TILE;
    unsigned of = from->step == 1 ? i / DEPTH : i % TILE;
    float value = 0;

    if (line + of < from->lines && first + at < k)
      value = element (from, (line + of) * from->stride + (first + at) * from->step);
    tile[at * PITCH + of] = value;
  }
}

static __device__ __forceinline__ void
add_products (float sums[EACH][EACH], ValleyShared<float> x_tile, ValleyShared<float> w_tile,
              unsigned row, unsigned column)
{
  for (unsigned k = 0; k < DEPTH; k++)
    VALLEY_UNROLL
  for (unsigned i = 0; i < EACH; i++)
    VALLEY_UNROLL
  for (unsigned j = 0; j < EACH; j++)
    sums[i][j] = fmaf (x_tile[k * PITCH + row + i * SIDE], w_tile[k * PITCH + column + j * SIDE],
                       sums[i][j]);
}

template <typename Y>
static __global__ void
__launch_bounds__ (SIDE *SIDE)
    plain_product (Y *y, size_t y_stride, Operand x, Operand w, size_t k, ValleyEpilogue epilogue)
{
  VALLEY_SHARED (float, x_tile, DEPTH *PITCH);
  VALLEY_SHARED (float, w_tile, DEPTH *PITCH);
  size_t first_row = (size_t) blockIdx.y * TILE, first_column = (size_t) blockIdx.x * TILE;
  unsigned row = threadIdx.x / SIDE, column = threadIdx.x % SIDE;
  float sums[EACH][EACH] = {};

  for (size_t first = 0; first < k; first += DEPTH) {
    load_tile (x_tile, &x, first_row, first, k);
    load_tile (w_tile, &w, first_column, first, k);
    valley_sync_block ();
    add_products (sums, x_tile, w_tile, row, column);
    valley_sync_block ();
  }
  VALLEY_UNROLL
  for (unsigned i = 0; i < EACH; i++)
    VALLEY_UNROLL
  for (unsigned j = 0; j < EACH; j++) {
    size_t of = first_row + row + i * SIDE, at = first_column + column + j * SIDE;

    if (of < x.lines && at < w.lines)
      valley_from_f32 (y + of * y_stride + at, valley_finish_sum (epilogue, at, sums[i][j]));
  }
}

template <typename Y>
static void
launch (const ValleyCudaProduct *p, cudaStream_t stream)
{
  Y *y = (Y *) p->y->data;
  size_t y_stride = p->y->stride, k = p->x->cols;
  Operand x = { p->x->data, p->x->type, p->y->rows, p->x->stride, 1 };
  Operand w = { p->w->data, p->w->type, p->y->cols, p->w->stride, 1 };
  ValleyEpilogue epilogue = valley_epilogue (p->bias, p->act);
  dim3 grid ((unsigned) ((w.lines - 1) / TILE + 1), (unsigned) ((x.lines - 1) / TILE + 1));

  if (p->mixed) {
    w.stride = 1;
    w.step = p->w->stride;
  }
  VALLEY_LAUNCH (plain_product, grid, SIDE * SIDE, 0, stream, y, y_stride, x, w, k, epilogue);
}

int
valley_cuda_plain_product (const ValleyCudaProduct *product, cudaStream_t stream)
{
  VALLEY_BY_TYPE (product->y->type, launch, product, stream);
  return cudaGetLastError ();
}
