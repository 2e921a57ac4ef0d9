/* attention.cu - checks shapes and chooses the kernel, by type, head size and role alone: where
 * matrices lie or how many rows come must not change a row's bits.
 * SPDX-License-Identifier: Apache-2.0 */
#include "attention.h"
#include "row.h"

/* Grids count queries and keys in 32 bits, heads and sequences in 16. */
static bool
heads_fit (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q, const ValleyCudaAttention *a)
{
  return a->n_kv_heads > 0 && a->n_kv_heads < 65536 && a->n_heads % a->n_kv_heads == 0
         && a->head_dim > 0 && a->head_dim <= VALLEY_MOST_HEAD_DIM && a->scale > 0
         && q->cols == a->n_heads * a->head_dim && out->cols == q->cols && out->rows == q->rows
         && out->type == q->type && q->rows <= INT32_MAX / a->n_heads;
}

static bool
flat_keys_fit (const ValleyCudaMatrix *q, const ValleyCudaMatrix *k, const ValleyCudaMatrix *v,
               const ValleyCudaAttention *a)
{
  return a->n_sequences > 0 && a->n_sequences < 65536 && q->rows % a->n_sequences == 0
         && k->rows % a->n_sequences == 0 && v->rows == k->rows && k->rows <= INT32_MAX
         && k->cols == a->n_kv_heads * a->head_dim && v->cols == k->cols && k->type == q->type
         && v->type == q->type;
}

static bool
paged_keys_fit (const ValleyCudaMatrix *q, const ValleyCudaKv *kv, const ValleyCudaAttention *a)
{
  return kv->page_rows > 0 && kv->page_rows % VALLEY_KEY_BLOCK == 0 && kv->page_rows <= INT32_MAX
         && kv->most_rows <= INT32_MAX && kv->most_rows >= a->n_skipped + q->rows
         && kv->cols == a->n_kv_heads * a->head_dim && kv->type == q->type;
}

/* Generated rows' queries are counted in 16 bits as well, 16 at a time. */
static bool
is_few (const ValleyCudaMatrix *q, const ValleyCudaAttention *a)
{
  return q->rows * (a->n_heads / a->n_kv_heads) <= (size_t) 65535 * 16;
}

/* Whether tensor cores do it. */
static bool
is_for_tiles (ValleyCudaType type, const ValleyCudaAttention *a)
{
  return type != VALLEY_CUDA_F32 && a->head_dim % 8 == 0 && a->head_dim <= VALLEY_MOST_TILE_DIM;
}

static bool
is_aligned (const ValleyCudaMatrix *m)
{
  return (uintptr_t) m->data % 16 == 0 && m->stride % 8 == 0;
}

/* ---- keys in one matrix ---- */

template <typename T>
static void
attention (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q, const ValleyCudaMatrix *k,
           const ValleyCudaMatrix *v, const ValleyCudaAttention *a, cudaStream_t stream)
{
  valley_plain_attention (valley_queries<T> (out, q, a, a->n_sequences),
                          valley_flat_keys<T> (k, v, a), (unsigned) a->n_kv_heads,
                          (unsigned) a->n_sequences, stream);
}

template <typename T>
static void
attention_by_tiles (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q,
                    const ValleyCudaMatrix *k, const ValleyCudaMatrix *v,
                    const ValleyCudaAttention *a, cudaStream_t stream)
{
  valley_tower_attention (valley_queries<T> (out, q, a, a->n_sequences),
                          valley_flat_keys<T> (k, v, a), (unsigned) a->n_kv_heads,
                          (unsigned) a->n_sequences, stream);
}

int
valley_cuda_attention (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q,
                       const ValleyCudaMatrix *k, const ValleyCudaMatrix *v,
                       const ValleyCudaAttention *a, cudaStream_t stream)
{
  if (valley_is_empty (q))
    return cudaGetLastError ();
  if (!heads_fit (out, q, a) || !flat_keys_fit (q, k, v, a))
    return cudaErrorInvalidValue;
  if (!is_for_tiles (q->type, a))
    VALLEY_BY_TYPE (q->type, attention, out, q, k, v, a, stream);
  else if (!is_aligned (out) || !is_aligned (q) || !is_aligned (k) || !is_aligned (v))
    return cudaErrorInvalidValue;
  else if (q->type == VALLEY_CUDA_BF16)
    attention_by_tiles<ValleyBf16> (out, q, k, v, a, stream);
  else
    attention_by_tiles<ValleyF16> (out, q, k, v, a, stream);
  return cudaGetLastError ();
}

/* ---- keys in pages ---- */

template <typename T>
static void
attend (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q, const ValleyCudaKv *kv,
        const ValleyCudaAttention *a, cudaStream_t stream)
{
  valley_plain_attention (valley_queries<T> (out, q, a, 1), valley_paged_keys<T> (kv, a),
                          (unsigned) a->n_kv_heads, 1, stream);
}

template <typename T>
static void
attend_by_tiles (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q, const ValleyCudaKv *kv,
                 const ValleyCudaAttention *a, ValleyCudaRole role, float *workspace,
                 cudaStream_t stream)
{
  ValleyQueries<T> queries = valley_queries<T> (out, q, a, 1);
  ValleyPagedKeys<T> keys = valley_paged_keys<T> (kv, a);

  if (role == VALLEY_CUDA_PROMPT)
    valley_prompt_attention (queries, keys, (unsigned) a->n_kv_heads, stream);
  else
    valley_decode_attention (queries, keys, (unsigned) a->n_kv_heads, kv->most_rows, workspace,
                             stream);
}

int
valley_cuda_attend (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q, const ValleyCudaKv *kv,
                    const ValleyCudaAttention *a, ValleyCudaRole role, void *workspace,
                    cudaStream_t stream)
{
  if (valley_is_empty (q))
    return cudaGetLastError ();
  if (!heads_fit (out, q, a) || !paged_keys_fit (q, kv, a))
    return cudaErrorInvalidValue;
  if (!is_for_tiles (q->type, a))
    VALLEY_BY_TYPE (q->type, attend, out, q, kv, a, stream);
  else if (!is_aligned (out) || !is_aligned (q) || kv->keys % 8 != 0 || kv->values % 8 != 0
           || (role == VALLEY_CUDA_GENERATED && !is_few (q, a)))
    return cudaErrorInvalidValue;
  else if (q->type == VALLEY_CUDA_BF16)
    attend_by_tiles<ValleyBf16> (out, q, kv, a, role, (float *) workspace, stream);
  else
    attend_by_tiles<ValleyF16> (out, q, kv, a, role, (float *) workspace, stream);
  return cudaGetLastError ();
}

size_t
valley_cuda_attend_bytes (const ValleyCudaMatrix *q, const ValleyCudaKv *kv,
                          const ValleyCudaAttention *a, ValleyCudaRole role)
{
  if (role == VALLEY_CUDA_PROMPT || !is_for_tiles (q->type, a))
    return 0;
  return sizeof (float)
         * valley_decode_attention_floats (q->rows, a->n_heads, a->head_dim, kv->most_rows);
}
