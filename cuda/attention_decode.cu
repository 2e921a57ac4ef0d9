/* attention_decode.cu - attention of a few generated rows over pages on tensor cores.
 *
 * Few queries do not fill a GPU, so their keys are split, SPLIT_KEYS to a block, whatever
 * their number; what blocks found is combined in the order of keys by a second kernel.  In a block
 * each warp has a quarter of every VALLEY_KEY_BLOCK keys.
 * SPDX-License-Identifier: Apache-2.0 */
#include "attention_tile.h"

#define SPLIT_KEYS 128u
#define WARP_KEYS (VALLEY_KEY_BLOCK / VALLEY_TILE_WARPS)

/* What a block leaves of a query: its largest score, the sum of its probabilities, the values mixed
 * by them. */
static __host__ __device__ __forceinline__ size_t
partial_floats (size_t dim)
{
  return dim + 2;
}

template <typename T>
static __device__ __forceinline__ float *
partial (const ValleyQueries<T> &queries, float *workspace, unsigned split, unsigned kv_head,
         unsigned n_kv_heads, unsigned query)
{
  size_t i = ((size_t) split * n_kv_heads + kv_head) * valley_n_queries (queries) + query;

  return workspace + i * partial_floats (queries.dim);
}

/* ---- a block's keys ---- */

/* Each warp's sums, where the tiles were; and their largest scores and sums of probabilities. */
template <unsigned DIM>
static __device__ __forceinline__ void
leave_sums (ValleyShared<float> o, ValleyShared<float> stats, const ValleySums<DIM> &sums)
{
  unsigned lane = threadIdx.x % VALLEY_WARP, warp = threadIdx.x / VALLEY_WARP;

  VALLEY_UNROLL
  for (unsigned r = 0; r < 2; r++) {
    unsigned row = warp * VALLEY_WARP_QUERIES + lane / 4 + 8 * r;
    float total = valley_row_sum (sums.sum[r]);

    if (lane % 4 == 0) {
      stats[2 * row] = sums.max[r];
      stats[2 * row + 1] = total;
    }
    VALLEY_UNROLL
    for (unsigned i = 0; i < DIM / 8; i++) {
      unsigned at = row * VALLEY_TILE_ROW (DIM) + i * 8 + lane % 4 * 2;

      o[at] = sums.o[i][2 * r];
      o[at + 1] = sums.o[i][2 * r + 1];
    }
  }
}

/* All warps' sums of query @row, in the order of warps; with the largest score they are. */
template <unsigned DIM, typename T>
static __device__ __forceinline__ void
join_warps (const ValleyQueries<T> &queries, ValleyShared<float> o, ValleyShared<float> stats,
            unsigned row, float *to)
{
  float max = -INFINITY, base, total = 0, weight[VALLEY_TILE_WARPS];

  VALLEY_UNROLL
  for (unsigned w = 0; w < VALLEY_TILE_WARPS; w++)
    max = fmaxf (max, stats[2 * (w * VALLEY_WARP_QUERIES + row)]);
  base = max == -INFINITY ? 0 : max;
  VALLEY_UNROLL
  for (unsigned w = 0; w < VALLEY_TILE_WARPS; w++) {
    weight[w] = valley_exp2 (stats[2 * (w * VALLEY_WARP_QUERIES + row)] - base);
    total = fmaf (weight[w], stats[2 * (w * VALLEY_WARP_QUERIES + row) + 1], total);
  }
  for (unsigned d = threadIdx.x % VALLEY_WARP; d < queries.dim; d += VALLEY_WARP) {
    float sum = 0;

    VALLEY_UNROLL
    for (unsigned w = 0; w < VALLEY_TILE_WARPS; w++)
      sum = fmaf (weight[w], o[(w * VALLEY_WARP_QUERIES + row) * VALLEY_TILE_ROW (DIM) + d], sum);
    to[2 + d] = sum;
  }
  if (threadIdx.x % VALLEY_WARP == 0) {
    to[0] = max;
    to[1] = total;
  }
}

/* x: splits, y: key/value heads, z: queries */
template <unsigned DIM, typename T>
static __global__ void
__launch_bounds__ (VALLEY_TILE_THREADS, DIM == 128 ? 3 : 4)
    split_attention (ValleyQueries<T> queries, ValleyPagedKeys<T> keys, float *workspace)
{
  VALLEY_SHARED (T, tiles, VALLEY_TILES (DIM));
  VALLEY_SHARED (float, stats, 2 * VALLEY_TILE_WARPS * VALLEY_WARP_QUERIES);
  constexpr unsigned N = WARP_KEYS / 8, V = VALLEY_VALUES_TILE (DIM);
  unsigned first_query = blockIdx.z * VALLEY_WARP_QUERIES, begin = blockIdx.x * SPLIT_KEYS;
  unsigned warp = threadIdx.x / VALLEY_WARP, of_warp = warp * WARP_KEYS;
  unsigned own_query = first_query + threadIdx.x % VALLEY_WARP / 4;
  unsigned seen[2] = { valley_keys_seen (queries, keys, own_query),
                       valley_keys_seen (queries, keys, own_query + 8) };
  unsigned seen_by_all = valley_keys_seen (queries, keys, first_query);
  unsigned n_keys = valley_most_keys_seen (queries, keys, first_query, VALLEY_WARP_QUERIES);
  unsigned end = n_keys < begin + SPLIT_KEYS ? n_keys : begin + SPLIT_KEYS;
  size_t column = (size_t) blockIdx.y * queries.dim;
  ValleyShared<float> o = valley_shared_as<float> (tiles);
  ValleyKeyBlock<T> block;
  unsigned q[DIM / 16][4];
  ValleySums<DIM> sums;

  if (begin >= n_keys)
    return;
  valley_load_queries<DIM, VALLEY_WARP_QUERIES> (tiles, queries, 0, blockIdx.y, first_query);
  valley_copy_commit ();
  block = keys.block (0, begin);
  valley_load_keys<DIM> (tiles, 0, block.k + column, keys.k_stride, queries.dim, end - begin);
  valley_copy_commit ();
  valley_sums_init (&sums);
  valley_copy_wait<1> ();
  valley_sync_block ();
  valley_take_queries<DIM> (q, tiles, V);

  for (unsigned first = begin; first < end; first += VALLEY_KEY_BLOCK) {
    unsigned next = first + VALLEY_KEY_BLOCK;
    float s[N][4];

    valley_copy_wait<0> ();
    valley_sync_block (); /* the keys are there, the values' place is free */
    valley_load_keys<DIM> (tiles, V, block.v + column, keys.v_stride, queries.dim, end - first);
    valley_copy_commit ();
    valley_make_scores<DIM, N> (s, q, tiles, of_warp * VALLEY_TILE_ROW (DIM));
    valley_copy_wait<0> ();
    valley_sync_block (); /* and the other way round */
    if (next < end) {
      block = keys.block (0, next);
      valley_load_keys<DIM> (tiles, 0, block.k + column, keys.k_stride, queries.dim, end - next);
    }
    valley_copy_commit ();
    if (next > seen_by_all)
      valley_mask_scores<N> (s, first + of_warp, seen);
    valley_softmax_step<DIM, N> (s, queries.scale, &sums);
    valley_mix_values<DIM, N> (&sums, s, tiles, V + of_warp * VALLEY_TILE_ROW (DIM));
  }
  valley_copy_wait<0> ();
  valley_sync_block ();
  leave_sums<DIM> (o, stats, sums);
  valley_sync_block ();
  for (unsigned row = warp; row < VALLEY_WARP_QUERIES; row += VALLEY_TILE_WARPS)
    if (first_query + row < valley_n_queries (queries))
      join_warps<DIM> (
          queries, o, stats, row,
          partial (queries, workspace, blockIdx.x, blockIdx.y, gridDim.y, first_query + row));
}

/* ---- all blocks' ---- */

/* x: queries, y: key/value heads; a thread for each column */
template <typename T>
static __global__ void
__launch_bounds__ (VALLEY_TILE_THREADS)
    join_splits (ValleyQueries<T> queries, ValleyPagedKeys<T> keys, float *workspace)
{
  unsigned query = blockIdx.x, d = threadIdx.x;
  unsigned n = (valley_keys_seen (queries, keys, query) + SPLIT_KEYS - 1) / SPLIT_KEYS;
  const float *first = partial (queries, workspace, 0, blockIdx.y, gridDim.y, query);
  size_t stride = (size_t) gridDim.y * valley_n_queries (queries) * partial_floats (queries.dim);
  float max = -INFINITY, base, total = 0, sum = 0;

  if (d >= queries.dim)
    return;
  for (unsigned i = 0; i < n; i++)
    max = fmaxf (max, first[i * stride]);
  base = max == -INFINITY ? 0 : max;
  for (unsigned i = 0; i < n; i++) {
    const float *part = first + i * stride;
    float weight = valley_exp2 (part[0] - base);

    total = fmaf (weight, part[1], total);
    sum = fmaf (weight, part[2 + d], sum);
  }
  valley_from_f32 (
      &queries.out[valley_query_offset (queries, 0, blockIdx.y, query, queries.out_stride) + d],
      total != 0 ? sum / total : 0);
}

/* ---- from the host ---- */

static size_t
n_splits (size_t most_rows)
{
  return (most_rows + SPLIT_KEYS - 1) / SPLIT_KEYS;
}

size_t
valley_decode_attention_floats (size_t rows, size_t n_heads, size_t dim, size_t most_rows)
{
  return n_splits (most_rows) * rows * n_heads * partial_floats (dim);
}

template <unsigned DIM, typename T>
static void
launch_splits (const ValleyQueries<T> &queries, const ValleyPagedKeys<T> &keys, unsigned n_kv_heads,
               unsigned splits, float *workspace, cudaStream_t stream)
{
  unsigned n = (valley_n_queries (queries) + VALLEY_WARP_QUERIES - 1) / VALLEY_WARP_QUERIES;

  VALLEY_LAUNCH ((split_attention<DIM, T>), dim3 (splits, n_kv_heads, n), VALLEY_TILE_THREADS, 0,
                 stream, queries, keys, workspace);
}

template <typename T>
void
valley_decode_attention (const ValleyQueries<T> &queries, const ValleyPagedKeys<T> &keys,
                         unsigned n_kv_heads, size_t most_rows, float *workspace,
                         cudaStream_t stream)
{
  VALLEY_BY_HEAD (queries.dim, launch_splits, queries, keys, n_kv_heads,
                  (unsigned) n_splits (most_rows), workspace, stream);
  VALLEY_LAUNCH (join_splits<T>, dim3 (valley_n_queries (queries), n_kv_heads), VALLEY_TILE_THREADS,
                 0, stream, queries, keys, workspace);
}

template void valley_decode_attention (const ValleyQueries<ValleyBf16> &,
                                       const ValleyPagedKeys<ValleyBf16> &, unsigned, size_t,
                                       float *, cudaStream_t);
template void valley_decode_attention (const ValleyQueries<ValleyF16> &,
                                       const ValleyPagedKeys<ValleyF16> &, unsigned, size_t,
                                       float *, cudaStream_t);
