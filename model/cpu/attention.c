/* attention.c - softmax (q k^T) v without ever holding the matrix of scores.
 *
 * A task takes some query rows of one key/value head, with all the query heads that share
 * it, and walks the keys in blocks that start at absolute position 0.  What a query gets
 * depends on its own visible keys alone: running maximum, sum and output are its own, and
 * keys it must not see are never multiplied, not even by zero.
 * SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"
#include "pool.h"

#include <math.h>
#include <string.h>

#define QUERIES 192 /* a task's queries: rows times heads of the group */

typedef struct {
  ValleyStream *stream;
  const ValleyKernels *kernels;
  const ValleyTensor *out, *q, *k, *v;
  const ValleyKv *kv; /* instead of k and v: causal, over pages */
  const ValleyAttention *a;
  gsize group; /* query heads to a key/value head */
  gsize dim, padded_dim;
  gsize q_rows, k_rows; /* of one sequence */
  gsize position;       /* with pages: of the first query */
  gsize row_block, n_row_blocks;
  gint failed; /* atomic */
} Job;

/* One task's share: what it works on, and its memory. */
typedef struct {
  gsize sequence, kv_head, first_row, n_rows, n_queries;
  float *q, *s, *o, *kt, *v, *max, *sum;
  gsize *limit; /* a query's keys are 0 ... limit - 1 */
} Share;

static gboolean
share_init (const Job *job, Share *share, gsize task)
{
  gsize n = job->row_block * job->group, block = VALLEY_KEY_BLOCK;
  gsize n_heads = job->a->n_kv_heads, rest = task / n_heads;
  gsize floats = n * (2 * job->padded_dim + block + 2) + 2 * block * job->padded_dim;
  gsize *memory = valley_pool_scratch (n * sizeof *memory + floats * sizeof (float));

  if (memory == NULL)
    return FALSE;
  share->kv_head = task % n_heads;
  /* the last rows first: with causal they see most and take longest */
  share->first_row = (job->n_row_blocks - 1 - rest % job->n_row_blocks) * job->row_block;
  share->sequence = rest / job->n_row_blocks;
  share->n_rows = MIN (job->row_block, job->q_rows - share->first_row);
  share->n_queries = share->n_rows * job->group;
  share->limit = memory;
  share->kt = (float *) (memory + n);
  share->v = share->kt + block * job->padded_dim;
  share->o = share->v + block * job->padded_dim;
  share->q = share->o + n * job->padded_dim;
  share->s = share->q + n * job->padded_dim;
  share->max = share->s + n * block;
  share->sum = share->max + n;
  return TRUE;
}

static gsize
tensor_row (const Job *job, const Share *share, gsize query)
{
  return share->sequence * job->q_rows + share->first_row + query / job->group;
}

static gsize
query_column (const Job *job, const Share *share, gsize query)
{
  return (share->kv_head * job->group + query % job->group) * job->dim;
}

static void
load_queries (const Job *job, Share *share)
{
  for (gsize i = 0; i < share->n_queries; i++) {
    const float *q = (const float *) valley_cpu_row (job->q, tensor_row (job, share, i))
                     + query_column (job, share, i);

    gsize last = job->position + share->first_row + i / job->group;

    job->kernels->scale (share->q + i * job->dim, q, job->a->scale, job->dim);
    share->limit[i] = job->kv != NULL ? last + 1 : job->k_rows;
    share->max[i] = -INFINITY;
    share->sum[i] = 0;
  }
  memset (share->o, 0, share->n_queries * job->padded_dim * sizeof *share->o);
}

/* The share's head of keys (or values): of a block of rows, all in one page where there are pages.
 */
typedef struct {
  const guint8 *data;
  ValleyDType dtype;
  gsize stride;
} Head;

static Head
head_of_pages (const Job *job, const Share *share, gsize plane, gsize first)
{
  const ValleyKv *kv = job->kv;
  const guint8 *row = valley_cpu_page_row (kv, plane, first);

  return (Head){ row + share->kv_head * job->dim * valley_dtype_bytes (kv->dtype), kv->dtype,
                 kv->cols };
}

static Head
head_of_tensor (const Job *job, const Share *share, const ValleyTensor *x, gsize first)
{
  const guint8 *row = valley_cpu_row (x, share->sequence * job->k_rows + first);

  return (Head){ row + share->kv_head * job->dim * valley_dtype_bytes (x->dtype), x->dtype,
                 x->stride };
}

static const guint8 *
head_row (const Head *head, gsize row)
{
  return head->data + row * head->stride * valley_dtype_bytes (head->dtype);
}

static void
load_keys (const Job *job, const Share *share, gsize first, gsize n)
{
  const ValleyKv *kv = job->kv;
  Head keys = kv != NULL ? head_of_pages (job, share, kv->keys, first)
                         : head_of_tensor (job, share, job->k, first);
  Head values = kv != NULL ? head_of_pages (job, share, kv->values, first)
                           : head_of_tensor (job, share, job->v, first);

  if (keys.dtype == VALLEY_F32) {
    job->kernels->transpose_keys (share->kt, (const float *) keys.data, keys.stride, n, job->dim);
  } else {
    for (gsize i = 0; i < n; i++) /* by way of v's place, which is filled below */
      valley_cpu_convert (job->kernels, share->v + i * job->dim, VALLEY_F32, head_row (&keys, i),
                          keys.dtype, job->dim);
    job->kernels->transpose_keys (share->kt, share->v, job->dim, n, job->dim);
  }
  for (gsize i = 0; i < n; i++) {
    float *v = share->v + i * job->padded_dim;

    valley_cpu_convert (job->kernels, v, VALLEY_F32, head_row (&values, i), values.dtype, job->dim);
    memset (v + job->dim, 0, (job->padded_dim - job->dim) * sizeof *v);
  }
}

/* How many of the keys first ... first + n - 1 */
static gsize
keys_seen (const Share *share, gsize query, gsize first, gsize n)
{
  return share->limit[query] > first ? MIN (n, share->limit[query] - first) : 0;
}

/* Takes keys first ... first + n - 1 into every query that sees them. */
static void
take_keys (const Job *job, const Share *share, gsize first, gsize n)
{
  gsize run;

  job->kernels->scores (share->s, share->q, share->n_queries, share->kt, job->dim);
  for (gsize i = 0; i < share->n_queries; i += run) {
    gsize visible = keys_seen (share, i, first, n);

    /* queries that see as many of these keys go together */
    for (run = 1; i + run < share->n_queries; run++)
      if (keys_seen (share, i + run, first, n) != visible)
        break;
    for (gsize j = i; visible > 0 && j < i + run; j++)
      job->kernels->softmax_step (share->s + j * VALLEY_KEY_BLOCK, visible, &share->max[j],
                                  &share->sum[j], share->o + j * job->padded_dim, job->padded_dim);
    if (visible > 0)
      job->kernels->values (share->o + i * job->padded_dim, share->s + i * VALLEY_KEY_BLOCK, run,
                            share->v, visible, job->padded_dim);
  }
}

static void
store (const Job *job, const Share *share)
{
  for (gsize i = 0; i < share->n_queries; i++) {
    float *out = (float *) valley_cpu_row (job->out, tensor_row (job, share, i))
                 + query_column (job, share, i);

    job->kernels->scale (out, share->o + i * job->padded_dim,
                         share->sum[i] != 0 ? 1 / share->sum[i] : 0, job->dim);
  }
}

static void
attention_task (gsize task, gpointer data)
{
  Job *job = data;
  Share share = { 0 };
  gsize n_keys;

  if (!share_init (job, &share, task)) {
    g_atomic_int_set (&job->failed, 1);
    return;
  }
  load_queries (job, &share);
  n_keys = share.limit[share.n_queries - 1];
  for (gsize first = 0; first < n_keys; first += VALLEY_KEY_BLOCK) {
    gsize n = MIN (VALLEY_KEY_BLOCK, n_keys - first);

    load_keys (job, &share, first, n);
    take_keys (job, &share, first, n);
  }
  store (job, &share);
}

static gboolean
heads_fit (const ValleyTensor *out, const ValleyTensor *q, const ValleyAttention *a)
{
  return out->dtype == VALLEY_F32 && q->dtype == VALLEY_F32 && a->n_kv_heads > 0
         && a->n_heads % a->n_kv_heads == 0 && a->head_dim > 0
         && q->cols == a->n_heads * a->head_dim && out->cols == q->cols && out->rows == q->rows;
}

static gboolean
tensors_fit (const ValleyTensor *q, const ValleyTensor *k, const ValleyTensor *v,
             const ValleyAttention *a)
{
  return a->n_sequences > 0 && k->cols == a->n_kv_heads * a->head_dim && v->cols == k->cols
         && v->rows == k->rows && k->rows % a->n_sequences == 0 && q->rows % a->n_sequences == 0;
}

static gboolean
pages_fit (const ValleyTensor *q, const ValleyKv *kv, const ValleyAttention *a)
{
  return kv->cols == a->n_kv_heads * a->head_dim && kv->page_rows > 0
         && kv->page_rows % VALLEY_KEY_BLOCK == 0
         && kv->first_row + a->n_skipped + q->rows <= kv->n_pages * kv->page_rows;
}

/* The rest of the job, and the run. */
static void
run (Job *job)
{
  ValleyStream *stream = job->stream;
  const ValleyAttention *a = job->a;
  gsize n_sequences = job->kv != NULL ? 1 : a->n_sequences, n_tasks;
  guint n_threads = valley_cpu_backend (stream)->n_threads;

  job->kernels = valley_cpu_kernels (stream);
  job->dim = a->head_dim;
  job->padded_dim = (a->head_dim + 15) / 16 * 16;
  job->group = a->n_heads / a->n_kv_heads;
  job->q_rows = job->q->rows / n_sequences;
  job->row_block = MAX (1, QUERIES / job->group);
  job->n_row_blocks = (job->q_rows + job->row_block - 1) / job->row_block;
  n_tasks = n_sequences * a->n_kv_heads * job->n_row_blocks;
  if ((double) job->q->rows * job->q->cols * job->k_rows < 1 << 18)
    n_threads = 1;
  valley_pool_run (n_threads, n_tasks, &stream->cancelled, attention_task, job);
  if (job->failed)
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory for attention");
}

void
valley_cpu_attention (ValleyStream *stream, const ValleyTensor *out, const ValleyTensor *q,
                      const ValleyTensor *k, const ValleyTensor *v, const ValleyAttention *a)
{
  Job job = { .stream = stream, .out = out, .q = q, .k = k, .v = v, .a = a };

  VALLEY_CPU_REQUIRE (stream, heads_fit (out, q, a) && tensors_fit (q, k, v, a));
  job.k_rows = k->rows / a->n_sequences;
  run (&job);
}

void
valley_cpu_attend (ValleyStream *stream, const ValleyTensor *out, const ValleyTensor *q,
                   const ValleyKv *kv, const ValleyAttention *a)
{
  Job job = { .stream = stream, .out = out, .q = q, .kv = kv, .a = a };

  VALLEY_CPU_REQUIRE (stream, heads_fit (out, q, a) && pages_fit (q, kv, a));
  job.position = kv->first_row + a->n_skipped;
  job.k_rows = job.position + q->rows;
  run (&job);
}
