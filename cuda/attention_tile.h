/* attention_tile.h - the steps of attention on tensor cores, for 16-bit types.
 *
 * A block takes a tile of queries and walks the keys, VALLEY_KEY_BLOCK at a time: while scores are
 * made from the keys the values arrive, and while those are mixed the next keys do.  A warp has 16
 * queries' sums in registers; scores never leave them.  A query that sees none of a step's keys
 * gets factors of exactly 1 and probabilities of exactly 0, so that its bits do not depend on how
 * far others see.
 *
 * In shared memory a tile's rows lie DIM + 8 elements apart, an odd number of 16-byte pieces: the
 * eight rows of a fragment are in different banks.  Heads are padded with zeros up to DIM.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attention.h"
#include "mma.h"

#define VALLEY_TILE_WARPS 4u
#define VALLEY_TILE_THREADS (VALLEY_TILE_WARPS * VALLEY_WARP)
#define VALLEY_WARP_QUERIES 16u
#define VALLEY_TILE_ROW(DIM) ((DIM) + 8u)
/* The keys' tile, and behind it the values', which holds the queries before. */
#define VALLEY_VALUES_TILE(DIM) (VALLEY_KEY_BLOCK * VALLEY_TILE_ROW (DIM))
#define VALLEY_TILES(DIM) (2u * VALLEY_VALUES_TILE (DIM))

/* ---- into shared memory ---- */

/* Which 8 elements of a tile a thread copies: always of the same column, every ROWS_AT_ONCE rows,
 * so that addresses are sums. */
template <unsigned DIM> struct ValleyPiece {
  static constexpr unsigned PIECES = DIM / 8, ROWS_AT_ONCE = VALLEY_TILE_THREADS / PIECES;
  unsigned row = threadIdx.x / PIECES, column = threadIdx.x % PIECES * 8;
};

/* Keys or values: the first @n rows are there, the rest are zeros. */
template <unsigned DIM, typename T>
static __device__ __forceinline__ void
valley_load_keys (ValleyShared<T> tiles, unsigned offset, const T *rows, size_t stride,
                  unsigned dim, unsigned n)
{
  constexpr unsigned STEP = ValleyPiece<DIM>::ROWS_AT_ONCE;
  ValleyPiece<DIM> piece;
  const T *from = rows + piece.row * stride + piece.column;

  VALLEY_UNROLL
  for (unsigned i = 0; i < VALLEY_KEY_BLOCK; i += STEP, from += STEP * stride)
    if (piece.row < STEP && (VALLEY_KEY_BLOCK % STEP == 0 || piece.row + i < VALLEY_KEY_BLOCK))
      valley_copy_async (tiles, offset + (piece.row + i) * VALLEY_TILE_ROW (DIM) + piece.column,
                         from, piece.row + i < n && piece.column < dim);
}

/* ROWS queries of a head from @first on, where the values will be. */
template <unsigned DIM, unsigned ROWS, typename T>
static __device__ __forceinline__ void
valley_load_queries (ValleyShared<T> tiles, const ValleyQueries<T> &queries, unsigned sequence,
                     unsigned kv_head, unsigned first)
{
  ValleyPiece<DIM> piece;

  for (unsigned row = piece.row; piece.row < piece.ROWS_AT_ONCE && row < ROWS;
       row += piece.ROWS_AT_ONCE) {
    const T *from
        = queries.q
          + valley_query_offset (queries, sequence, kv_head, first + row, queries.q_stride)
          + piece.column;

    valley_copy_async (tiles, VALLEY_VALUES_TILE (DIM) + row * VALLEY_TILE_ROW (DIM) + piece.column,
                       from,
                       first + row < valley_n_queries (queries) && piece.column < queries.dim);
  }
}

/* ---- a warp's fragments ---- */

/* Where in a tile a lane finds its row of four 8 x 8 matrices: two below each other, then two to
 * the right (queries; values, which are transposed), or two beside each other, then two below
 * (keys). */
template <unsigned DIM>
static __device__ __forceinline__ unsigned
valley_column_first (void)
{
  unsigned lane = threadIdx.x % VALLEY_WARP;

  return lane % 16 * VALLEY_TILE_ROW (DIM) + lane / 16 * 8;
}

template <unsigned DIM>
static __device__ __forceinline__ unsigned
valley_row_first (void)
{
  unsigned lane = threadIdx.x % VALLEY_WARP;

  return (lane / 16 * 8 + lane % 8) * VALLEY_TILE_ROW (DIM) + lane / 8 % 2 * 8;
}

/* A warp's 16 queries, which begin at @offset. */
template <unsigned DIM, typename T>
static __device__ __forceinline__ void
valley_take_queries (unsigned q[DIM / 16][4], ValleyShared<T> tiles, unsigned offset)
{
  VALLEY_UNROLL
  for (unsigned i = 0; i < DIM / 16; i++)
    valley_load_matrices<false> (q[i], tiles, offset + valley_column_first<DIM> () + i * 16);
}

/* What a warp knows of its 16 queries; a lane has part of two of them, g and g + 8. */
template <unsigned DIM> struct ValleySums {
  float o[DIM / 8][4];
  float max[2]; /* scaled */
  float sum[2]; /* of this lane's keys */
};

template <unsigned DIM>
static __device__ __forceinline__ void
valley_sums_init (ValleySums<DIM> *sums)
{
  VALLEY_UNROLL
  for (unsigned i = 0; i < DIM / 8; i++)
    sums->o[i][0] = sums->o[i][1] = sums->o[i][2] = sums->o[i][3] = 0;
  sums->max[0] = sums->max[1] = -INFINITY;
  sums->sum[0] = sums->sum[1] = 0;
}

/* ---- a step: N * 8 keys of the tile that begins at @offset ---- */

template <unsigned DIM, unsigned N, typename T>
static __device__ __forceinline__ void
valley_make_scores (float s[N][4], const unsigned q[DIM / 16][4], ValleyShared<T> tiles,
                    unsigned offset)
{
  VALLEY_UNROLL
  for (unsigned i = 0; i < N; i++)
    s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0;
  VALLEY_UNROLL
  for (unsigned k = 0; k < DIM / 16; k++) {
    VALLEY_UNROLL
    for (unsigned i = 0; i < N; i += 2) {
      unsigned b[4];

      valley_load_matrices<false> (
          b, tiles, offset + valley_row_first<DIM> () + i * 8 * VALLEY_TILE_ROW (DIM) + k * 16);
      valley_mma<T> (s[i], q[k], b);
      valley_mma<T> (s[i + 1], q[k], b + 2);
    }
  }
}

/* Keys from @seen on are not this query's.  @key: the first score's */
template <unsigned N>
static __device__ __forceinline__ void
valley_mask_scores (float s[N][4], unsigned key, const unsigned seen[2])
{
  VALLEY_UNROLL
  for (unsigned i = 0; i < N; i++) {
    VALLEY_UNROLL
    for (unsigned j = 0; j < 4; j++)
      if (key + i * 8 + threadIdx.x % 4 * 2 + j % 2 >= seen[j / 2])
        s[i][j] = -INFINITY;
  }
}

/* The largest of a query's numbers, or their sum, over the four lanes that have some of them. */
static __device__ __forceinline__ float
valley_row_max (float x)
{
  x = fmaxf (x, valley_shuffle_xor (VALLEY_FULL_WARP, x, 1));
  return fmaxf (x, valley_shuffle_xor (VALLEY_FULL_WARP, x, 2));
}

static __device__ __forceinline__ float
valley_row_sum (float x)
{
  x += valley_shuffle_xor (VALLEY_FULL_WARP, x, 1);
  return x + valley_shuffle_xor (VALLEY_FULL_WARP, x, 2);
}

/* Scores become probabilities, but for the factor that the sums have as well. */
template <unsigned DIM, unsigned N>
static __device__ __forceinline__ void
valley_softmax_step (float s[N][4], float scale, ValleySums<DIM> *sums)
{
  VALLEY_UNROLL
  for (unsigned r = 0; r < 2; r++) {
    float max = fmaxf (s[0][2 * r], s[0][2 * r + 1]), own = 0, base, factor;

    VALLEY_UNROLL
    for (unsigned i = 1; i < N; i++)
      max = fmaxf (max, fmaxf (s[i][2 * r], s[i][2 * r + 1]));
    max = fmaxf (sums->max[r], valley_row_max (max) * scale);
    base = max == -INFINITY ? 0 : max; /* nothing seen so far */
    factor = valley_exp2 (sums->max[r] - base);
    VALLEY_UNROLL
    for (unsigned i = 0; i < N; i++) {
      s[i][2 * r] = valley_exp2 (fmaf (s[i][2 * r], scale, -base));
      s[i][2 * r + 1] = valley_exp2 (fmaf (s[i][2 * r + 1], scale, -base));
      own += s[i][2 * r] + s[i][2 * r + 1];
    }
    sums->sum[r] = sums->sum[r] * factor + own;
    sums->max[r] = max;
    VALLEY_UNROLL
    for (unsigned i = 0; i < DIM / 8; i++) {
      sums->o[i][2 * r] *= factor;
      sums->o[i][2 * r + 1] *= factor;
    }
  }
}

/* Scores lie as the product's left operand must: two of their tiles are 16 keys. */
template <unsigned DIM, unsigned N, typename T>
static __device__ __forceinline__ void
valley_mix_values (ValleySums<DIM> *sums, const float s[N][4], ValleyShared<T> tiles,
                   unsigned offset)
{
  VALLEY_UNROLL
  for (unsigned k = 0; k < N; k += 2) {
    unsigned p[4]
        = { valley_pack<T> (s[k][0], s[k][1]), valley_pack<T> (s[k][2], s[k][3]),
            valley_pack<T> (s[k + 1][0], s[k + 1][1]), valley_pack<T> (s[k + 1][2], s[k + 1][3]) };

    VALLEY_UNROLL
    for (unsigned i = 0; i < DIM / 8; i += 2) {
      unsigned b[4];

      valley_load_matrices<true> (
          b, tiles, offset + valley_column_first<DIM> () + k * 8 * VALLEY_TILE_ROW (DIM) + i * 8);
      valley_mma<T> (sums->o[i], p, b);
      valley_mma<T> (sums->o[i + 1], p, b + 2);
    }
  }
}

/* ---- all queries over all their keys: towers and prompts ---- */

/* Queries g and g + 8 of the warp that has those from @first on. */
template <unsigned DIM, typename T>
static __device__ __forceinline__ void
valley_store_queries (const ValleyQueries<T> &queries, unsigned first, ValleySums<DIM> *sums)
{
  unsigned lane = threadIdx.x % VALLEY_WARP;

  VALLEY_UNROLL
  for (unsigned r = 0; r < 2; r++) {
    unsigned query = first + lane / 4 + 8 * r;
    float total = valley_row_sum (sums->sum[r]), factor = total != 0 ? 1 / total : 0;

    if (query < valley_n_queries (queries)) {
      T *out = queries.out
               + valley_query_offset (queries, blockIdx.z, blockIdx.y, query, queries.out_stride)
               + lane % 4 * 2;

      VALLEY_UNROLL
      for (unsigned i = 0; i < DIM / 8; i++)
        if (i * 8 < queries.dim)
          valley_store_vector (out + i * 8, valley_pack<T> (sums->o[i][2 * r] * factor,
                                                            sums->o[i][2 * r + 1] * factor));
    }
  }
}

/* x: queries, y: key/value heads, z: sequences */
template <unsigned DIM, typename T, typename Keys>
static __global__ void
__launch_bounds__ (VALLEY_TILE_THREADS, DIM == 128  ? 2
                                        : DIM == 32 ? 4
                                                    : 3)
    tile_attention (ValleyQueries<T> queries, Keys keys)
{
  VALLEY_SHARED (T, tiles, VALLEY_TILES (DIM));
  constexpr unsigned N = VALLEY_KEY_BLOCK / 8, V = VALLEY_VALUES_TILE (DIM);
  constexpr unsigned QUERIES = VALLEY_TILE_WARPS * VALLEY_WARP_QUERIES;
  /* the last ones first: with pages they see most and take longest */
  unsigned first_query = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  unsigned of_warp = threadIdx.x / VALLEY_WARP * VALLEY_WARP_QUERIES;
  unsigned own_query = first_query + of_warp + threadIdx.x % VALLEY_WARP / 4;
  unsigned seen[2] = { valley_keys_seen (queries, keys, own_query),
                       valley_keys_seen (queries, keys, own_query + 8) };
  unsigned seen_by_all = valley_keys_seen (queries, keys, first_query);
  unsigned n_keys = valley_most_keys_seen (queries, keys, first_query, QUERIES);
  size_t column = (size_t) blockIdx.y * queries.dim;
  ValleyKeyBlock<T> block = {};
  unsigned q[DIM / 16][4];
  ValleySums<DIM> sums;

  valley_load_queries<DIM, QUERIES> (tiles, queries, blockIdx.z, blockIdx.y, first_query);
  valley_copy_commit ();
  if (n_keys > 0) {
    block = keys.block (blockIdx.z, 0);
    valley_load_keys<DIM> (tiles, 0, block.k + column, keys.k_stride, queries.dim, n_keys);
  }
  valley_copy_commit ();
  valley_sums_init (&sums);
  valley_copy_wait<1> ();
  valley_sync_block ();
  valley_take_queries<DIM> (q, tiles, V + of_warp * VALLEY_TILE_ROW (DIM));

  for (unsigned first = 0; first < n_keys; first += VALLEY_KEY_BLOCK) {
    unsigned next = first + VALLEY_KEY_BLOCK;
    float s[N][4];

    valley_copy_wait<0> ();
    valley_sync_block (); /* the keys are there, the values' place is free */
    valley_load_keys<DIM> (tiles, V, block.v + column, keys.v_stride, queries.dim, n_keys - first);
    valley_copy_commit ();
    valley_make_scores<DIM, N> (s, q, tiles, 0);
    valley_copy_wait<0> ();
    valley_sync_block (); /* and the other way round */
    if (next < n_keys) {
      block = keys.block (blockIdx.z, next);
      valley_load_keys<DIM> (tiles, 0, block.k + column, keys.k_stride, queries.dim, n_keys - next);
    }
    valley_copy_commit ();
    if (next > seen_by_all)
      valley_mask_scores<N> (s, first, seen);
    valley_softmax_step<DIM, N> (s, queries.scale, &sums);
    valley_mix_values<DIM, N> (&sums, s, tiles, V);
  }
  valley_copy_wait<0> (); /* without keys, too */
  valley_store_queries<DIM> (queries, first_query + of_warp, &sums);
}

template <unsigned DIM, typename T, typename Keys>
static void
valley_launch_tiles (const ValleyQueries<T> &queries, const Keys &keys, unsigned n_kv_heads,
                     unsigned n_sequences, cudaStream_t stream)
{
  constexpr unsigned QUERIES = VALLEY_TILE_WARPS * VALLEY_WARP_QUERIES;
  unsigned n = (valley_n_queries (queries) + QUERIES - 1) / QUERIES;

  VALLEY_LAUNCH ((tile_attention<DIM, T, Keys>), dim3 (n, n_kv_heads, n_sequences),
                 VALLEY_TILE_THREADS, 0, stream, queries, keys);
}

/* Calls @function<DIM> (arguments) for the smallest DIM that head size @dim fits. */
#define VALLEY_BY_HEAD(dim, function, ...)                                                         \
  do {                                                                                             \
    if ((dim) <= 32)                                                                               \
      function<32> (__VA_ARGS__);                                                                  \
    else if ((dim) <= 64)                                                                          \
      function<64> (__VA_ARGS__);                                                                  \
    else if ((dim) <= 80)                                                                          \
      function<80> (__VA_ARGS__);                                                                  \
    else                                                                                           \
      function<128> (__VA_ARGS__);                                                                 \
  } while (0)
