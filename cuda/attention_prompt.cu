/* attention_prompt.cu - attention of many rows over pages on tensor cores: keys are walked from
 * position 0, so that a row's bits do not depend on which rows come with it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "attention_tile.h"

template <typename T>
void
valley_prompt_attention (const ValleyQueries<T> &queries, const ValleyPagedKeys<T> &keys,
                         unsigned n_kv_heads, cudaStream_t stream)
{
  VALLEY_BY_HEAD (queries.dim, valley_launch_tiles, queries, keys, n_kv_heads, 1, stream);
}

template void valley_prompt_attention (const ValleyQueries<ValleyBf16> &,
                                       const ValleyPagedKeys<ValleyBf16> &, unsigned, cudaStream_t);
template void valley_prompt_attention (const ValleyQueries<ValleyF16> &,
                                       const ValleyPagedKeys<ValleyF16> &, unsigned, cudaStream_t);
