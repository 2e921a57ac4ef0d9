/* product_few.cu - products for few rows: what they take is the reading of the weights, so each
 * weight is read once for up to eight rows.
 *
 * A block sums up COLUMNS elements of each row; its threads take 8 products at a time in turn,
 * by loads of 16 bytes of which several are under way at any time, and add up what they have in
 * one order.  How many threads there are follows from the sums' length alone.
 * SPDX-License-Identifier: Apache-2.0 */
#include "epilogue.h"
#include "row.h"

#define COLUMNS 4
#define VECTOR 8
#define MAX_WARPS 4 /* of a block: more would only wait for one another at its end */
#define MAX_ROWS 8

/* VECTOR elements as they lie in memory. */
template <typename T> struct Vector {
  uint4 words;
};

template <> struct Vector<float> {
  float4 low, high;
};

template <typename T>
static __device__ __forceinline__ Vector<T>
load_vector (const T *p, bool once)
{
  return { once ? valley_load_once<uint4> (p) : valley_load_vector<uint4> (p) };
}

static __device__ __forceinline__ Vector<float>
load_vector (const float *p, bool once)
{
  return { once ? valley_load_once<float4> (p) : valley_load_vector<float4> (p),
           once ? valley_load_once<float4> (p + 4) : valley_load_vector<float4> (p + 4) };
}

template <typename T>
static __device__ __forceinline__ void
unpack (float *out, Vector<T> v)
{
  unsigned words[4] = { v.words.x, v.words.y, v.words.z, v.words.w };

  VALLEY_UNROLL
  for (int j = 0; j < 4; j++) {
    T low = { (uint16_t) words[j] }, high = { (uint16_t) (words[j] >> 16) };

    out[2 * j] = valley_to_f32 (low);
    out[2 * j + 1] = valley_to_f32 (high);
  }
}

static __device__ __forceinline__ void
unpack (float *out, Vector<float> v)
{
  float all[VECTOR]
      = { v.low.x, v.low.y, v.low.z, v.low.w, v.high.x, v.high.y, v.high.z, v.high.w };

  VALLEY_UNROLL
  for (int j = 0; j < VECTOR; j++)
    out[j] = all[j];
}

/* The last elements of a row, zeros beyond them. */
template <typename T>
static __device__ __forceinline__ void
unpack_rest (float *out, const T *row, size_t i, size_t n)
{
  VALLEY_UNROLL
  for (int j = 0; j < VECTOR; j++)
    out[j] = i + j < n ? valley_to_f32 (row[i + j]) : 0;
}

template <int ROWS>
static __device__ __forceinline__ void
add_products (float sums[ROWS][COLUMNS], int row, int column, const float *x, const float *w)
{
  VALLEY_UNROLL
  for (int j = 0; j < VECTOR; j++)
    sums[row][column] = fmaf (w[j], x[j], sums[row][column]);
}

/* This thread's part of every sum. */
template <typename T, int ROWS>
static __device__ __forceinline__ void
sum_up (float sums[ROWS][COLUMNS], const T *const *x, const T *const *w, size_t k)
{
  size_t i = VECTOR * threadIdx.x;
  float a[VECTOR], b[VECTOR];

  VALLEY_UNROLL_BY (2)
  for (; i + VECTOR <= k; i += VECTOR * blockDim.x) {
    Vector<T> weights[COLUMNS];

    VALLEY_UNROLL
    for (int c = 0; c < COLUMNS; c++)
      weights[c] = load_vector (w[c] + i, true);
    VALLEY_UNROLL
    for (int r = 0; r < ROWS; r++) {
      unpack (a, load_vector (x[r] + i, false));
      VALLEY_UNROLL
      for (int c = 0; c < COLUMNS; c++) {
        unpack (b, weights[c]);
        add_products<ROWS> (sums, r, c, a, b);
      }
    }
  }
  if (i < k) {
    VALLEY_UNROLL
    for (int r = 0; r < ROWS; r++) {
      unpack_rest (a, x[r], i, k);
      VALLEY_UNROLL
      for (int c = 0; c < COLUMNS; c++) {
        unpack_rest (b, w[c], i, k);
        add_products<ROWS> (sums, r, c, a, b);
      }
    }
  }
}

/* Every lane's @n sums (a power of two), added up over the warp: lane l has sum l n / 32 then.
 * Each step halves how many a lane is in charge of; the order of additions is the same for any n.
 */
template <int N>
static __device__ __forceinline__ float
add_up_warp (float *sums)
{
  int bits = VALLEY_WARP / 2;

  VALLEY_UNROLL
  for (int n = N; n > 1; n /= 2) {
    bool is_upper = (threadIdx.x & bits) != 0;

    VALLEY_UNROLL
    for (int i = 0; i < n / 2; i++) {
      float kept = is_upper ? sums[i + n / 2] : sums[i];
      float given = is_upper ? sums[i] : sums[i + n / 2];

      sums[i] = kept + valley_shuffle_xor (VALLEY_FULL_WARP, given, bits);
    }
    bits /= 2;
  }
  for (; bits > 0; bits /= 2)
    sums[0] += valley_shuffle_xor (VALLEY_FULL_WARP, sums[0], bits);
  return sums[0];
}

/* One product's part of the grid. */
template <typename T, typename Y> struct FewPart {
  Y *y;
  const T *w;
  size_t y_stride, w_stride;
  unsigned n_columns, first_block; /* of the grid's x */
  ValleyEpilogue epilogue;
};

/* Those that are not used have no blocks: they begin behind the grid's end. */
template <typename T, typename Y> struct FewParts {
  FewPart<T, Y> part[VALLEY_CUDA_MAX_LINEARS];
};

template <typename T, typename Y>
static __device__ __forceinline__ FewPart<T, Y>
part_of_block (const FewParts<T, Y> &parts)
{
  FewPart<T, Y> mine = parts.part[0];

  VALLEY_UNROLL
  for (int i = 1; i < VALLEY_CUDA_MAX_LINEARS; i++)
    if (blockIdx.x >= parts.part[i].first_block)
      mine = parts.part[i];
  return mine;
}

/* How many blocks a multiprocessor must have room for: as many as need no register in memory, which
 * the compiler would else give up for one block more. */
template <typename T>
static constexpr int
least_blocks (int rows)
{
  return sizeof (T) == 4 ? 2 : rows <= 2 ? 8 : rows == 4 ? 5 : 3;
}

/* Rows and columns beyond the ends are the last ones once more, and not stored. */
template <typename T, typename Y, int ROWS>
static __global__ void
__launch_bounds__ (MAX_WARPS *VALLEY_WARP, least_blocks<T> (ROWS))
    few_product (FewParts<T, Y> parts, const T *x, size_t x_stride, unsigned n_rows, size_t k)
{
  VALLEY_SHARED (float, partial, MAX_WARPS *ROWS *COLUMNS);
  FewPart<T, Y> p = part_of_block (parts);
  unsigned first_row = blockIdx.y * ROWS, first_column = (blockIdx.x - p.first_block) * COLUMNS;
  unsigned n_warps = blockDim.x / VALLEY_WARP, n_columns = p.n_columns;
  float sums[ROWS][COLUMNS] = {}, sum;
  const T *x_rows[ROWS], *w_rows[COLUMNS];

  VALLEY_UNROLL
  for (unsigned r = 0; r < ROWS; r++)
    x_rows[r] = x + (first_row + r < n_rows ? first_row + r : n_rows - 1) * x_stride;
  VALLEY_UNROLL
  for (unsigned c = 0; c < COLUMNS; c++)
    w_rows[c]
        = p.w + (first_column + c < n_columns ? first_column + c : n_columns - 1) * p.w_stride;
  sum_up<T, ROWS> (sums, x_rows, w_rows, k);
  sum = add_up_warp<ROWS * COLUMNS> (&sums[0][0]);
  if (threadIdx.x % (VALLEY_WARP / (ROWS * COLUMNS)) == 0)
    partial[threadIdx.x / (VALLEY_WARP / (ROWS * COLUMNS))] = sum;
  valley_sync_block ();
  if (threadIdx.x < ROWS * COLUMNS) {
    unsigned row = first_row + threadIdx.x / COLUMNS, column = first_column + threadIdx.x % COLUMNS;

    sum = 0;
    for (unsigned i = 0; i < n_warps; i++)
      sum += partial[i * ROWS * COLUMNS + threadIdx.x];
    if (row < n_rows && column < n_columns)
      valley_from_f32 (p.y + row * p.y_stride + column,
                       valley_finish_sum (p.epilogue, column, sum));
  }
}

/* All products, one after the other over the grid's x, which becomes *@n_blocks long. */
template <typename T, typename Y>
static FewParts<T, Y>
parts_of (const ValleyCudaProduct *products, int n, unsigned *n_blocks)
{
  FewParts<T, Y> parts = {};

  *n_blocks = 0;
  for (int i = 0; i < n; i++) {
    const ValleyCudaProduct *p = &products[i];

    parts.part[i] = { (Y *) p->y->data,
                      (const T *) p->w->data,
                      p->y->stride,
                      p->w->stride,
                      (unsigned) p->y->cols,
                      *n_blocks,
                      valley_epilogue (p->bias, p->act) };
    *n_blocks += ((unsigned) p->y->cols - 1) / COLUMNS + 1;
  }
  for (int i = n; i < VALLEY_CUDA_MAX_LINEARS; i++)
    parts.part[i].first_block = *n_blocks;
  return parts;
}

template <typename T, typename Y, int ROWS>
static void
launch_rows (const ValleyCudaProduct *products, int n, cudaStream_t stream)
{
  const ValleyCudaMatrix *first = products[0].x;
  const T *x = (const T *) first->data;
  size_t x_stride = first->stride, k = first->cols;
  unsigned n_rows = (unsigned) first->rows, n_blocks;
  FewParts<T, Y> parts = parts_of<T, Y> (products, n, &n_blocks);
  size_t warps = (k - 1) / (VECTOR * VALLEY_WARP) + 1;
  unsigned n_threads = VALLEY_WARP * (unsigned) (warps < MAX_WARPS ? warps : MAX_WARPS);
  dim3 grid (n_blocks, (n_rows - 1) / ROWS + 1);

  VALLEY_LAUNCH ((few_product<T, Y, ROWS>), grid, n_threads, 0, stream, parts, x, x_stride, n_rows,
                 k);
}

template <typename T, typename Y>
static void
launch (const ValleyCudaProduct *products, int n, cudaStream_t stream)
{
  size_t rows = products[0].x->rows;

  if (rows == 1)
    launch_rows<T, Y, 1> (products, n, stream);
  else if (rows == 2)
    launch_rows<T, Y, 2> (products, n, stream);
  else if (rows <= 4)
    launch_rows<T, Y, 4> (products, n, stream);
  else
    launch_rows<T, Y, MAX_ROWS> (products, n, stream);
}

template <typename T>
static void
launch_type (const ValleyCudaProduct *products, int n, cudaStream_t stream)
{
  if (products[0].y->type == VALLEY_CUDA_F32)
    launch<T, float> (products, n, stream);
  else
    launch<T, T> (products, n, stream);
}

int
valley_cuda_few_products (const ValleyCudaProduct *products, int n, cudaStream_t stream)
{
  VALLEY_BY_TYPE (products[0].w->type, launch_type, products, n, stream);
  return cudaGetLastError ();
}
