/* pick.cu - from logits to tokens: reads every row once, in pieces that many blocks share, and
 * knows then the likeliest token and every token's probability.  With a temperature draw.cu
 * goes on from there.
 *
 * Every result is the same whatever order blocks and warps run in: comparisons break ties by
 * the token's id, and sums have one order.
 * SPDX-License-Identifier: Apache-2.0 */
#include "pick.h"

#define MAX_COLUMNS ((size_t) 1 << 22) /* so that 2^40 for each still counts in 64 bits */

struct Piece {
  double best, sum; /* of exp (logit - max) */
  float max;        /* NaN: a logit is no number, or infinite */
  int32_t id;       /* of the best; -1: none */
};

static __global__ void
__launch_bounds__ (VALLEY_PICK_THREADS)
    see_ids (uint32_t *seen, size_t n_words, const int32_t *ids, size_t n, size_t stride)
{
  size_t i = (size_t) blockIdx.x * VALLEY_PICK_THREADS + threadIdx.x;

  if (i < n && ids[i * stride] >= 0 && (size_t) ids[i * stride] / 32 < n_words)
    valley_atomic_or (&seen[ids[i * stride] / 32], 1u << ids[i * stride] % 32);
}

int
valley_cuda_see (uint32_t *seen, size_t n_words, const int32_t *ids, size_t n, size_t stride,
                 cudaStream_t stream)
{
  if (n > 0)
    VALLEY_LAUNCH (see_ids, (unsigned) ((n - 1) / VALLEY_PICK_THREADS + 1), VALLEY_PICK_THREADS, 0,
                   stream, seen, n_words, ids, n, stride);
  return cudaGetLastError ();
}

/* ---- the best, and the largest, of a block ---- */

struct Best {
  double score;
  int32_t id;
  float max;
};

/* The larger score, of equal ones the lower id; and the larger logit, where NaN is largest. */
static __device__ __forceinline__ void
take_better (Best *best, double score, int32_t id, float max)
{
  if (score > best->score || (score == best->score && (unsigned) id < (unsigned) best->id)) {
    best->score = score;
    best->id = id;
  }
  if (max > best->max || max != max)
    best->max = max;
}

/* The same in every thread. */
static __device__ Best
best_of_block (Best own, ValleyShared<double> scores, ValleyShared<int32_t> ids,
               ValleyShared<float> largest)
{
  unsigned warp = threadIdx.x / VALLEY_WARP;

  for (int bits = VALLEY_WARP / 2; bits > 0; bits /= 2) {
    double score = valley_shuffle_xor (VALLEY_FULL_WARP, own.score, bits);
    int32_t id = valley_shuffle_xor (VALLEY_FULL_WARP, own.id, bits);
    float max = valley_shuffle_xor (VALLEY_FULL_WARP, own.max, bits);

    take_better (&own, score, id, max);
  }
  if (threadIdx.x % VALLEY_WARP == 0) {
    scores[warp] = own.score;
    ids[warp] = own.id;
    largest[warp] = own.max;
  }
  valley_sync_block ();
  for (unsigned i = 0; i < blockDim.x / VALLEY_WARP; i++)
    take_better (&own, scores[i], ids[i], largest[i]);
  valley_sync_block (); /* the arrays are free again */
  return own;
}

/* ---- reading the rows ---- */

static __global__ void
__launch_bounds__ (VALLEY_PICK_THREADS) read_pieces (Piece *pieces, const ValleyPickRows rows)
{
  enum { QUADS = VALLEY_PICK_PIECE / 4 / VALLEY_PICK_THREADS };
  VALLEY_SHARED (unsigned, seen, VALLEY_PICK_PIECE / 32);
  VALLEY_SHARED (double, scores, VALLEY_MAX_WARPS);
  VALLEY_SHARED (int32_t, ids, VALLEY_MAX_WARPS);
  VALLEY_SHARED (float, largest, VALLEY_MAX_WARPS);
  const float *row = rows.logits + blockIdx.y * rows.stride;
  size_t first = (size_t) blockIdx.x * VALLEY_PICK_PIECE;
  Best best = { -INFINITY, -1, -INFINITY };
  ValleyQuad x[QUADS];
  double sum = 0;

  valley_pick_load_seen (rows, seen);
  for (unsigned q = 0; q < QUADS; q++) {
    unsigned place = 4 * (q * VALLEY_PICK_THREADS + threadIdx.x);

    x[q] = valley_load_quad (row, first + place, rows.n);
    for (unsigned j = 0; j < 4; j++) {
      size_t i = first + place + j;
      float logit = x[q].at[j];
      bool is_seen;

      if (i >= rows.n)
        continue;
      is_seen = (seen[place / 32] >> (place + j) % 32 & 1) != 0;
      take_better (&best,
                   valley_pick_is_allowed (rows, i)
                       ? valley_pick_score (logit, is_seen, rows.penalty)
                       : -INFINITY,
                   (int32_t) i, logit == INFINITY ? NAN : logit);
    }
  }
  best = best_of_block (best, scores, ids, largest);
  for (unsigned q = 0; q < QUADS; q++)
    for (unsigned j = 0; j < 4; j++)
      if (first + 4 * (q * VALLEY_PICK_THREADS + threadIdx.x) + j < rows.n && best.max > -INFINITY)
        sum += expf (x[q].at[j] - best.max);
  sum = valley_block_sum (scores, sum);
  if (threadIdx.x == 0)
    pieces[blockIdx.y * gridDim.x + blockIdx.x] = { best.score, sum, best.max, best.id };
}

/* The rows' pieces together; a block for each row.  @picks: NULL when more is to come, for which
 * @bins are made ready. */
static __global__ void
__launch_bounds__ (VALLEY_PICK_THREADS)
    join_pieces (int32_t *picks, ValleyPickFound *found, ValleyPickBins *bins, const Piece *pieces,
                 unsigned n_pieces, const ValleyPickRows rows)
{
  VALLEY_SHARED (double, scores, VALLEY_MAX_WARPS);
  VALLEY_SHARED (int32_t, ids, VALLEY_MAX_WARPS);
  VALLEY_SHARED (float, largest, VALLEY_MAX_WARPS);
  const Piece *own = pieces + (size_t) blockIdx.x * n_pieces;
  Best best = { -INFINITY, -1, -INFINITY };
  double sum = 0;

  for (unsigned i = threadIdx.x; i < n_pieces; i += blockDim.x)
    take_better (&best, own[i].best, own[i].id, own[i].max);
  best = best_of_block (best, scores, ids, largest);
  for (unsigned i = threadIdx.x; i < n_pieces; i += blockDim.x)
    if (own[i].max > -INFINITY)
      sum += own[i].sum * exp ((double) own[i].max - best.max);
  sum = best.max + log (valley_block_sum (scores, sum));
  if (best.max != best.max || best.score == -INFINITY)
    best.id = -1;
  for (unsigned i = threadIdx.x; picks == NULL && i < VALLEY_PICK_BINS; i += blockDim.x) {
    bins[blockIdx.x].masses[i] = 0;
    bins[blockIdx.x].counts[i] = bins[blockIdx.x].filled[i] = 0;
  }
  if (threadIdx.x != 0)
    return;
  found[blockIdx.x] = { best.score, sum, best.id };
  if (picks != NULL)
    valley_pick_write (picks + 2 * (size_t) blockIdx.x, rows.logits + blockIdx.x * rows.stride,
                       best.id, sum);
}

/* ---- scratch memory: found, pieces, bins, lists ---- */

struct Layout {
  size_t pieces, bins, lists, end;
};

static size_t
round_up (size_t bytes)
{
  return (bytes + 15) / 16 * 16;
}

static Layout
lay_out (size_t rows, size_t cols, const ValleyCudaPick *pick)
{
  Layout at;

  at.pieces = round_up (rows * sizeof (ValleyPickFound));
  at.bins = at.pieces + round_up (rows * valley_pick_pieces (cols) * sizeof (Piece));
  at.lists = at.end = at.bins;
  if (pick->temperature > 0) {
    at.lists += rows * sizeof (ValleyPickBins);
    at.end = at.lists + valley_pick_list_bytes (rows, cols);
  }
  return at;
}

size_t
valley_cuda_pick_scratch (size_t rows, size_t cols, const ValleyCudaPick *pick)
{
  return rows == 0 || cols == 0 ? 0 : lay_out (rows, cols, pick).end;
}

int
valley_cuda_pick (int32_t *picks, const ValleyCudaMatrix *logits, const ValleyCudaPick *pick,
                  void *scratch, cudaStream_t stream)
{
  bool penalised = pick->repetition_penalty != 1, drawn = pick->temperature > 0;
  unsigned n_rows = (unsigned) logits->rows, n_pieces;
  ValleyPickRows rows = { (const float *) logits->data,
                          logits->stride,
                          logits->cols,
                          penalised ? pick->seen : NULL,
                          penalised ? pick->inputs : NULL,
                          pick->allowed,
                          pick->allowed_stride,
                          pick->repetition_penalty };
  ValleyPickFound *found = (ValleyPickFound *) scratch;
  int32_t *greedy = drawn ? NULL : picks;
  ValleyPickBins *bins;
  Piece *pieces;
  Layout at;

  if (logits->cols > MAX_COLUMNS)
    return cudaErrorInvalidValue;
  if (valley_is_empty (logits))
    return cudaGetLastError ();
  at = lay_out (logits->rows, logits->cols, pick);
  pieces = (Piece *) ((char *) scratch + at.pieces);
  bins = (ValleyPickBins *) ((char *) scratch + at.bins);
  n_pieces = (unsigned) valley_pick_pieces (logits->cols);
  VALLEY_LAUNCH (read_pieces, dim3 (n_pieces, n_rows), VALLEY_PICK_THREADS, 0, stream, pieces,
                 rows);
  VALLEY_LAUNCH (join_pieces, n_rows, VALLEY_PICK_THREADS, 0, stream, greedy, found, bins, pieces,
                 n_pieces, rows);
  if (drawn)
    valley_pick_draw (picks, rows, n_rows, pick, found, bins, (char *) scratch + at.lists, stream);
  return cudaGetLastError ();
}
