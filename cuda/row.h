/* row.h - one block of threads for one row: how many threads, and sums over all of them.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "ops.h"
#include "number.h"

#define VALLEY_MAX_WARPS 32
#define VALLEY_MAX_THREADS (VALLEY_MAX_WARPS * VALLEY_WARP)

/* From the row's length alone: the number of threads is part of a sum's order. */
static inline unsigned
valley_row_threads (size_t cols)
{
  size_t warps = cols / 256 + (cols % 256 != 0);

  return VALLEY_WARP * (unsigned) (warps < VALLEY_MAX_WARPS ? warps : VALLEY_MAX_WARPS);
}

/* The sum of every thread's @value, the same in each of them and always in the same order.
 * @partial: VALLEY_MAX_WARPS elements, free again on return. */
template <typename V>
static __device__ V
valley_block_sum (ValleyShared<V> partial, V value)
{
  V sum = 0;

  for (int bits = VALLEY_WARP / 2; bits > 0; bits /= 2)
    value += valley_shuffle_xor (VALLEY_FULL_WARP, value, bits);
  if (threadIdx.x % VALLEY_WARP == 0)
    partial[threadIdx.x / VALLEY_WARP] = value;
  valley_sync_block ();
  for (unsigned i = 0; i < blockDim.x / VALLEY_WARP; i++)
    sum += partial[i];
  valley_sync_block ();
  return sum;
}

/* Calls @function<type> (arguments) for the type that @tag names. */
#define VALLEY_BY_TYPE(tag, function, ...)                                                         \
  do {                                                                                             \
    if ((tag) == VALLEY_CUDA_F32)                                                                  \
      function<float> (__VA_ARGS__);                                                               \
    else if ((tag) == VALLEY_CUDA_BF16)                                                            \
      function<ValleyBf16> (__VA_ARGS__);                                                          \
    else                                                                                           \
      function<ValleyF16> (__VA_ARGS__);                                                           \
  } while (0)

static inline bool
valley_is_empty (const ValleyCudaMatrix *x)
{
  return x->rows == 0 || x->cols == 0;
}
