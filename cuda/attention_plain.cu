/* attention_plain.cu - attention in f32 arithmetic: f32 itself, and head sizes that the tensor
 * cores' tiles do not fit.
 *
 * A block takes a few queries of one key/value head over all their keys.  For each block of keys
 * a thread has one key while scores are made and one column of the values while they are mixed.
 * SPDX-License-Identifier: Apache-2.0 */
#include "attention.h"

#define QUERIES 8u
#define HALF (QUERIES / 2) /* two threads share a key */
#define THREADS (2 * VALLEY_KEY_BLOCK)
#define N_WARPS (THREADS / VALLEY_WARP)
#define COLUMNS (VALLEY_MOST_HEAD_DIM / THREADS) /* of the values, a thread's */

/* A block's shared memory: queries, scores (then probabilities), and what each query's sums so
 * far are to be multiplied with. */
struct Shared {
  ValleyShared<float> q, p, factor;
};

template <typename T>
static __device__ void
load_queries (const ValleyQueries<T> &queries, unsigned first, ValleyShared<float> q)
{
  for (unsigned i = threadIdx.x; i < QUERIES * queries.dim; i += THREADS) {
    unsigned query = first + i / queries.dim;
    float x = 0;

    if (query < valley_n_queries (queries))
      x = valley_to_f32 (
          queries.q[valley_query_offset (queries, blockIdx.z, blockIdx.y, query, queries.q_stride)
                    + i % queries.dim]);
    q[i] = x;
  }
}

/* Scores of one key; keys that are not there are not read. */
template <typename T>
static __device__ __forceinline__ void
make_scores (const T *k, bool is_there, unsigned dim, float scale, const Shared &shared)
{
  unsigned key = threadIdx.x % VALLEY_KEY_BLOCK, query = threadIdx.x / VALLEY_KEY_BLOCK * HALF;
  float sum[HALF] = {};

  for (unsigned d = 0; is_there && d < dim; d++) {
    float x = valley_to_f32 (k[d]);

    VALLEY_UNROLL
    for (unsigned i = 0; i < HALF; i++)
      sum[i] = fmaf (shared.q[(query + i) * dim + d], x, sum[i]);
  }
  VALLEY_UNROLL
  for (unsigned i = 0; i < HALF; i++)
    shared.p[(query + i) * VALLEY_KEY_BLOCK + key] = sum[i] * scale;
}

/* A warp's query: its scores become probabilities, but for a common factor.  Only the first
 * @visible count. */
static __device__ __forceinline__ void
softmax_step (unsigned query, unsigned visible, const Shared &shared, float *max, float *sum)
{
  unsigned lane = threadIdx.x % VALLEY_WARP;
  ValleyShared<float> row = shared.p;
  size_t low = query * VALLEY_KEY_BLOCK + lane, high = low + VALLEY_WARP;
  float a = lane < visible ? row[low] : -INFINITY;
  float b = lane + VALLEY_WARP < visible ? row[high] : -INFINITY;
  float now = fmaxf (a, b), own;

  for (int bits = VALLEY_WARP / 2; bits > 0; bits /= 2)
    now = fmaxf (now, valley_shuffle_xor (VALLEY_FULL_WARP, now, bits));
  now = fmaxf (now, *max);
  a = lane < visible ? exp2f (a - now) : 0;
  b = lane + VALLEY_WARP < visible ? exp2f (b - now) : 0;
  own = a + b;
  for (int bits = VALLEY_WARP / 2; bits > 0; bits /= 2)
    own += valley_shuffle_xor (VALLEY_FULL_WARP, own, bits);
  row[low] = a;
  row[high] = b;
  if (visible > 0) {
    float factor = exp2f (*max - now);

    *sum = *sum * factor + own;
    *max = now;
    if (lane == 0)
      shared.factor[query] = factor;
  } else if (lane == 0) {
    shared.factor[query] = 1;
  }
}

/* @sums: of each query, this thread's columns.  Probabilities of keys that a query must not see
 * are 0, and keys that no query sees are not read. */
template <typename T>
static __device__ __forceinline__ void
mix_values (const T *v, size_t stride, unsigned n, unsigned dim, const Shared &shared,
            float sums[QUERIES][COLUMNS])
{
  VALLEY_UNROLL
  for (unsigned c = 0; c < COLUMNS; c++) {
    unsigned d = threadIdx.x + c * THREADS;

    if (d >= dim)
      break;
    VALLEY_UNROLL
    for (unsigned i = 0; i < QUERIES; i++)
      sums[i][c] *= shared.factor[i];
    for (unsigned key = 0; key < n; key++) {
      float x = valley_to_f32 (v[key * stride + d]);

      VALLEY_UNROLL
      for (unsigned i = 0; i < QUERIES; i++)
        sums[i][c] = fmaf (shared.p[i * VALLEY_KEY_BLOCK + key], x, sums[i][c]);
    }
  }
}

template <typename T>
static __device__ __forceinline__ void
store (const ValleyQueries<T> &queries, unsigned first, ValleyShared<float> total,
       const float sums[QUERIES][COLUMNS])
{
  VALLEY_UNROLL
  for (unsigned i = 0; i < QUERIES; i++) {
    float factor;

    if (first + i >= valley_n_queries (queries))
      break;
    factor = total[i] != 0 ? 1 / total[i] : 0;
    VALLEY_UNROLL
    for (unsigned c = 0; c < COLUMNS; c++) {
      unsigned d = threadIdx.x + c * THREADS;

      if (d < queries.dim)
        valley_from_f32 (&queries.out[valley_query_offset (queries, blockIdx.z, blockIdx.y,
                                                           first + i, queries.out_stride)
                                      + d],
                         sums[i][c] * factor);
    }
  }
}

/* x: queries, y: key/value heads, z: sequences */
template <typename T, typename Keys>
static __global__ void
__launch_bounds__ (THREADS) plain_attention (ValleyQueries<T> queries, Keys keys)
{
  VALLEY_SHARED (float, q, QUERIES *VALLEY_MOST_HEAD_DIM);
  VALLEY_SHARED (float, p, QUERIES *VALLEY_KEY_BLOCK);
  VALLEY_SHARED (float, factor, QUERIES);
  Shared shared = { q, p, factor };
  /* the last ones first: with pages they see most and take longest */
  unsigned first_query = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  unsigned n_keys = valley_most_keys_seen (queries, keys, first_query, QUERIES);
  unsigned key = threadIdx.x % VALLEY_KEY_BLOCK, warp = threadIdx.x / VALLEY_WARP;
  float max[QUERIES / N_WARPS], sum[QUERIES / N_WARPS] = {}, sums[QUERIES][COLUMNS] = {};

  VALLEY_UNROLL
  for (unsigned i = 0; i < QUERIES / N_WARPS; i++)
    max[i] = -INFINITY;
  load_queries (queries, first_query, q);
  valley_sync_block ();
  for (unsigned first = 0; first < n_keys; first += VALLEY_KEY_BLOCK) {
    ValleyKeyBlock<T> block = keys.block (blockIdx.z, first);
    unsigned n = n_keys - first < VALLEY_KEY_BLOCK ? n_keys - first : VALLEY_KEY_BLOCK;
    size_t column = (size_t) blockIdx.y * queries.dim;

    make_scores (block.k + key * keys.k_stride + column, key < n, queries.dim, queries.scale,
                 shared);
    valley_sync_block ();
    VALLEY_UNROLL
    for (unsigned i = 0; i < QUERIES / N_WARPS; i++) {
      unsigned query = warp + i * N_WARPS;
      unsigned seen = valley_keys_seen (queries, keys, first_query + query);

      softmax_step (query, seen > first ? seen - first : 0, shared, &max[i], &sum[i]);
    }
    valley_sync_block ();
    mix_values (block.v + column, keys.v_stride, n, queries.dim, shared, sums);
    valley_sync_block ();
  }
  VALLEY_UNROLL
  for (unsigned i = 0; i < QUERIES / N_WARPS; i++)
    if (threadIdx.x % VALLEY_WARP == 0)
      factor[warp + i * N_WARPS] = sum[i];
  valley_sync_block ();
  store (queries, first_query, factor, sums);
}

template <typename T, typename Keys>
void
valley_plain_attention (const ValleyQueries<T> &queries, const Keys &keys, unsigned n_kv_heads,
                        unsigned n_sequences, cudaStream_t stream)
{
  unsigned n = (valley_n_queries (queries) + QUERIES - 1) / QUERIES;

  VALLEY_LAUNCH ((plain_attention<T, Keys>), dim3 (n, n_kv_heads, n_sequences), THREADS, 0, stream,
                 queries, keys);
}

#define INSTANTIATE(T, Keys)                                                                       \
  template void valley_plain_attention (const ValleyQueries<T> &, const Keys<T> &, unsigned,       \
                                        unsigned, cudaStream_t)

INSTANTIATE (float, ValleyFlatKeys);
INSTANTIATE (float, ValleyPagedKeys);
INSTANTIATE (ValleyBf16, ValleyFlatKeys);
INSTANTIATE (ValleyBf16, ValleyPagedKeys);
INSTANTIATE (ValleyF16, ValleyFlatKeys);
INSTANTIATE (ValleyF16, ValleyPagedKeys);
