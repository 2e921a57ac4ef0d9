/* attention_towers.cu - attention of pictures' patches on tensor cores: every row sees all.
 * SPDX-License-Identifier: Apache-2.0 */
#include "attention_tile.h"

template <typename T>
void
valley_tower_attention (const ValleyQueries<T> &queries, const ValleyFlatKeys<T> &keys,
                        unsigned n_kv_heads, unsigned n_sequences, cudaStream_t stream)
{
  VALLEY_BY_HEAD (queries.dim, valley_launch_tiles, queries, keys, n_kv_heads, n_sequences, stream);
}

template void valley_tower_attention (const ValleyQueries<ValleyBf16> &,
                                      const ValleyFlatKeys<ValleyBf16> &, unsigned, unsigned,
                                      cudaStream_t);
template void valley_tower_attention (const ValleyQueries<ValleyF16> &,
                                      const ValleyFlatKeys<ValleyF16> &, unsigned, unsigned,
                                      cudaStream_t);
