/* rotary.c - positions: heads are turned, and keys enter the cache, or leave it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"

typedef struct {
  const ValleyKernels *kernels;
  const ValleyTensor *q, *k, *v; /* rope: k alone */
  const ValleyTensor *cos, *sin, *positions;
  gsize head_dim;
  const ValleyKv *kv;
} Job;

static void
turn_row (const Job *job, const ValleyTensor *x, gsize row, gsize index)
{
  gsize angle = valley_cpu_given (job->positions)
                    ? (gsize) * (const gint32 *) valley_cpu_row (job->positions, index)
                    : index;

  for (gsize head = 0; head < x->cols; head += job->head_dim)
    job->kernels->rope ((float *) valley_cpu_row (x, row) + head, valley_cpu_row (job->cos, angle),
                        valley_cpu_row (job->sin, angle), job->head_dim / 2);
}

static void
rope_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    turn_row (job, job->k, i, i);
}

/* Whether the tables have an angle for each of k's rows. */
static gboolean
tables_fit (const Job *job)
{
  const ValleyTensor *cos = job->cos, *sin = job->sin, *positions = job->positions;

  return job->head_dim > 0 && job->head_dim % 2 == 0 && cos->dtype == VALLEY_F32
         && sin->dtype == VALLEY_F32 && cos->cols == job->head_dim / 2 && sin->cols == cos->cols
         && sin->rows == cos->rows
         && (valley_cpu_given (positions) ? positions->dtype == VALLEY_I32 && positions->cols == 1
                                                && positions->rows == job->k->rows
                                                && valley_cpu_ids_within (positions, cos->rows)
                                          : job->k->rows <= cos->rows);
}

static gboolean
heads_fit (const Job *job, const ValleyTensor *x)
{
  return x->dtype == VALLEY_F32 && x->cols % job->head_dim == 0;
}

void
valley_cpu_rope (ValleyStream *stream, const ValleyTensor *x, const ValleyTensor *cos,
                 const ValleyTensor *sin, const ValleyTensor *positions, gsize head_dim)
{
  Job job = { .kernels = valley_cpu_kernels (stream),
              .k = x,
              .cos = cos,
              .sin = sin,
              .positions = positions,
              .head_dim = head_dim };

  VALLEY_CPU_REQUIRE (stream, tables_fit (&job) && heads_fit (&job, x));
  valley_cpu_run_rows (stream, x->rows, x->cols, rope_rows, &job);
}

static void
store (const Job *job, const ValleyTensor *x, gsize row, gsize plane)
{
  valley_cpu_convert (job->kernels, valley_cpu_page_row (job->kv, plane, job->kv->first_row + row),
                      job->kv->dtype, valley_cpu_row (x, row), x->dtype, x->cols);
}

static void
append_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;
  gsize skipped = job->k->rows - (valley_cpu_given (job->q) ? job->q->rows : 0);

  for (gsize i = first; i < first + n; i++) {
    if (job->kv->unrotated != G_MAXSIZE)
      store (job, job->k, i, job->kv->unrotated);
    turn_row (job, job->k, i, i);
    store (job, job->k, i, job->kv->keys);
    store (job, job->v, i, job->kv->values);
    if (i >= skipped)
      turn_row (job, job->q, i - skipped, i);
  }
}

static gboolean
append_fits (const Job *job)
{
  const ValleyTensor *k = job->k, *v = job->v;
  const ValleyKv *kv = job->kv;

  return tables_fit (job) && heads_fit (job, k) && v->dtype == VALLEY_F32 && v->rows == k->rows
         && k->cols == kv->cols && v->cols == kv->cols && kv->page_rows > 0
         && kv->first_row + k->rows <= kv->n_pages * kv->page_rows
         && (!valley_cpu_given (job->q) || (heads_fit (job, job->q) && job->q->rows <= k->rows));
}

void
valley_cpu_rotate_append (ValleyStream *stream, const ValleyTensor *q, const ValleyTensor *k,
                          const ValleyTensor *v, const ValleyTensor *cos, const ValleyTensor *sin,
                          const ValleyTensor *positions, gsize head_dim, const ValleyKv *kv)
{
  Job job = { valley_cpu_kernels (stream), q, k, v, cos, sin, positions, head_dim, kv };

  VALLEY_CPU_REQUIRE (stream, append_fits (&job));
  valley_cpu_run_rows (stream, k->rows, k->cols, append_rows, &job);
}

typedef struct {
  const ValleyKernels *kernels;
  const ValleyTensor *y;
  const ValleyKv *kv;
  gsize plane, first;
} ReadJob;

static void
read_rows (gsize first, gsize n, gpointer data)
{
  const ReadJob *job = data;

  for (gsize i = first; i < first + n; i++)
    valley_cpu_convert (job->kernels, valley_cpu_row (job->y, i), job->y->dtype,
                        valley_cpu_page_row (job->kv, job->plane, job->first + i), job->kv->dtype,
                        job->y->cols);
}

void
valley_cpu_read_pages (ValleyStream *stream, const ValleyTensor *y, const ValleyKv *kv, gsize plane,
                       gsize first)
{
  ReadJob job = { valley_cpu_kernels (stream), y, kv, plane, first };

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && y->cols == kv->cols && kv->page_rows > 0
                                  && plane != G_MAXSIZE
                                  && first + y->rows <= kv->n_pages * kv->page_rows);
  valley_cpu_run_rows (stream, y->rows, y->cols, read_rows, &job);
}
