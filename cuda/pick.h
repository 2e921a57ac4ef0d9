/* pick.h - what choosing tokens has in common, greedy (pick.cu) or drawn (draw.cu): a row of
 * logits is read in pieces, a block for each, and every logit is scored as the CPU scores it, in
 * the same double operations, so that both rank alike to the last bit.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "row.h"

/* Logits of one block.  A constant: the order of sums depends on it. */
#define VALLEY_PICK_PIECE 2048
#define VALLEY_PICK_THREADS 256
#define VALLEY_PICK_BINS 1024

typedef unsigned long long ValleyMass;

/* The rows, as kernels want them: by value. */
struct ValleyPickRows {
  const float *logits;
  size_t stride, n;
  const uint32_t *seen;
  const int32_t *inputs;
  const uint32_t *allowed;
  size_t allowed_stride;
  double penalty;
};

/* What is known of a row once it was read. */
struct ValleyPickFound {
  double best; /* score */
  double log_sum;
  int32_t id; /* -1: no number, or nothing to choose from */
};

/* Candidates by their distance from the best, coarsely. */
struct ValleyPickBins {
  ValleyMass masses[VALLEY_PICK_BINS];
  uint32_t counts[VALLEY_PICK_BINS], filled[VALLEY_PICK_BINS];
};

static inline size_t
valley_pick_pieces (size_t n)
{
  return (n - 1) / VALLEY_PICK_PIECE + 1;
}

/* A bit for each word of the block's piece: whether the row has seen it.  @words: one for each
 * 32 words of a piece. */
static __device__ __forceinline__ void
valley_pick_load_seen (const ValleyPickRows &rows, ValleyShared<unsigned> words)
{
  size_t first = (size_t) blockIdx.x * VALLEY_PICK_PIECE, n_words = (rows.n + 31) / 32;

  for (unsigned i = threadIdx.x; i < VALLEY_PICK_PIECE / 32; i += blockDim.x)
    words[i] = rows.seen != NULL && first / 32 + i < n_words ? rows.seen[first / 32 + i] : 0;
  valley_sync_block ();
  for (unsigned i = threadIdx.x; rows.inputs != NULL && i <= blockIdx.y; i += blockDim.x) {
    size_t place = (size_t) (int64_t) rows.inputs[i] - first; /* huge when before it */

    if (place < VALLEY_PICK_PIECE)
      valley_atomic_or (&words[place / 32], 1u << place % 32);
  }
  valley_sync_block ();
}

static __device__ __forceinline__ bool
valley_pick_is_allowed (const ValleyPickRows &rows, size_t i)
{
  return rows.allowed == NULL
         || (rows.allowed[blockIdx.y * rows.allowed_stride + i / 32] >> i % 32 & 1) != 0;
}

static __device__ __forceinline__ double
valley_pick_score (float logit, bool seen, double penalty)
{
  double score = logit;

  if (!seen)
    return score;
  return score < 0 ? score * penalty : score / penalty;
}

/* A row's answer: the id, and the bits of its log-probability. */
static __device__ __forceinline__ void
valley_pick_write (int32_t *pick, const float *logits, int32_t id, double log_sum)
{
  pick[0] = id;
  pick[1] = id < 0 ? 0 : (int32_t) __float_as_uint ((float) (logits[id] - log_sum));
}

/* draw.cu: the rest of the way for rows whose @found is known and whose @bins are all zero. */
void valley_pick_draw (int32_t *picks, const ValleyPickRows &rows, unsigned n_rows,
                       const ValleyCudaPick *pick, const ValleyPickFound *found,
                       ValleyPickBins *bins, void *lists, cudaStream_t stream);
/* Bytes of @lists. */
size_t valley_pick_list_bytes (size_t rows, size_t cols);
