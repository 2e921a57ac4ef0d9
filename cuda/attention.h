/* attention.h - what the attention kernels share: where queries and keys lie, and who sees what.
 *
 * A key/value head's queries are numbered row by row, the heads that share it side by side, so
 * that one load of a key serves them all.  Keys are taken in blocks of VALLEY_KEY_BLOCK from key 0
 * on: what a query gets depends on its own keys alone, not on who else is computed with it.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "number.h"
#include "ops.h"

#define VALLEY_KEY_BLOCK 64u

/* Results and queries of a launch. */
template <typename T> struct ValleyQueries {
  T *out;
  const T *q;
  size_t out_stride, q_stride;
  unsigned rows;  /* of one sequence */
  unsigned group; /* query heads to a key/value head */
  unsigned dim;
  float scale; /* with log2 e in it: probabilities are powers of 2 */
};

/* How many queries a sequence has for each key/value head. */
template <typename T>
static __host__ __device__ __forceinline__ unsigned
valley_n_queries (const ValleyQueries<T> &queries)
{
  return queries.rows * queries.group;
}

/* Where query @i of a head has its elements, in q or out. */
template <typename T>
static __device__ __forceinline__ size_t
valley_query_offset (const ValleyQueries<T> &queries, unsigned sequence, unsigned kv_head,
                     unsigned i, size_t stride)
{
  size_t row = (size_t) sequence * queries.rows + i / queries.group;

  return row * stride + (size_t) (kv_head * queries.group + i % queries.group) * queries.dim;
}

/* The first of a block's keys, and of their values. */
template <typename T> struct ValleyKeyBlock {
  const T *k, *v;
};

/* Keys in one matrix, seen by all. */
template <typename T> struct ValleyFlatKeys {
  const T *k, *v;
  size_t k_stride, v_stride;
  unsigned n; /* of one sequence */

  __device__ __forceinline__ ValleyKeyBlock<T>
  block (unsigned sequence, unsigned first) const
  {
    size_t row = (size_t) sequence * n + first;

    return { k + row * k_stride, v + row * v_stride };
  }

  __device__ __forceinline__ unsigned
  seen_by (unsigned row) const
  {
    return n;
  }
};

/* Keys in pages, seen by their own row and later ones. */
template <typename T> struct ValleyPagedKeys {
  T *const *table;
  size_t keys, values; /* offsets inside a page */
  size_t k_stride, v_stride;
  unsigned page_rows, n_skipped;
  const int32_t *first;

  __device__ __forceinline__ ValleyKeyBlock<T>
  block (unsigned sequence, unsigned first_key) const
  {
    const T *page = table[first_key / page_rows];
    size_t row = first_key % page_rows;

    return { page + keys + row * k_stride, page + values + row * v_stride };
  }

  __device__ __forceinline__ unsigned
  seen_by (unsigned row) const
  {
    return (unsigned) *first + n_skipped + row + 1;
  }
};

/* How many keys query @i sees; none where there is no such query. */
template <typename T, typename Keys>
static __device__ __forceinline__ unsigned
valley_keys_seen (const ValleyQueries<T> &queries, const Keys &keys, unsigned i)
{
  return i < valley_n_queries (queries) ? keys.seen_by (i / queries.group) : 0;
}

/* What the last of @n queries from @i on sees, which is what any of them sees. */
template <typename T, typename Keys>
static __device__ __forceinline__ unsigned
valley_most_keys_seen (const ValleyQueries<T> &queries, const Keys &keys, unsigned i, unsigned n)
{
  unsigned end = valley_n_queries (queries);

  return valley_keys_seen (queries, keys, (i + n < end ? i + n : end) - 1);
}

template <typename T>
static inline ValleyQueries<T>
valley_queries (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q,
                const ValleyCudaAttention *a, size_t n_sequences)
{
  return { (T *) out->data,
           (const T *) q->data,
           out->stride,
           q->stride,
           (unsigned) (q->rows / n_sequences),
           (unsigned) (a->n_heads / a->n_kv_heads),
           (unsigned) a->head_dim,
           a->scale * 1.44269504088896341f };
}

template <typename T>
static inline ValleyFlatKeys<T>
valley_flat_keys (const ValleyCudaMatrix *k, const ValleyCudaMatrix *v,
                  const ValleyCudaAttention *a)
{
  return { (const T *) k->data, (const T *) v->data, k->stride, v->stride,
           (unsigned) (k->rows / a->n_sequences) };
}

template <typename T>
static inline ValleyPagedKeys<T>
valley_paged_keys (const ValleyCudaKv *kv, const ValleyCudaAttention *a)
{
  return {
    (T *const *) kv->table,  kv->keys, kv->values, kv->cols, kv->cols, (unsigned) kv->page_rows,
    (unsigned) a->n_skipped, kv->first
  };
}

/* ---- attention_plain.cu: any head size up to VALLEY_MOST_HEAD_DIM, no tensor cores ---- */

#define VALLEY_MOST_HEAD_DIM 256u

template <typename T, typename Keys>
void valley_plain_attention (const ValleyQueries<T> &queries, const Keys &keys, unsigned n_kv_heads,
                             unsigned n_sequences, cudaStream_t stream);

/* ---- 16-bit types, head sizes that are multiples of 8 up to VALLEY_MOST_TILE_DIM ---- */

#define VALLEY_MOST_TILE_DIM 128u

/* attention_towers.cu */
template <typename T>
void valley_tower_attention (const ValleyQueries<T> &queries, const ValleyFlatKeys<T> &keys,
                             unsigned n_kv_heads, unsigned n_sequences, cudaStream_t stream);
/* attention_prompt.cu */
template <typename T>
void valley_prompt_attention (const ValleyQueries<T> &queries, const ValleyPagedKeys<T> &keys,
                              unsigned n_kv_heads, cudaStream_t stream);
/* attention_decode.cu; @workspace: valley_decode_attention_floats of device memory */
template <typename T>
void valley_decode_attention (const ValleyQueries<T> &queries, const ValleyPagedKeys<T> &keys,
                              unsigned n_kv_heads, size_t most_rows, float *workspace,
                              cudaStream_t stream);
size_t valley_decode_attention_floats (size_t rows, size_t n_heads, size_t dim, size_t most_rows);
