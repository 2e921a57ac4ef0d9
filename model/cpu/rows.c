/* rows.c - operations that work row by row: norms, gates, softmax.
 * SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"
#include "pool.h"

#include <math.h>

/* Elements that one thread gets through in about the time it takes to wake another. */
#define BLOCK_ELEMENTS 16384

typedef struct {
  ValleyRowsFunc func;
  gpointer data;
  gsize rows, block;
} RowsJob;

static void
run_block (gsize task, gpointer data)
{
  const RowsJob *job = data;
  gsize first = task * job->block;

  job->func (first, MIN (job->block, job->rows - first), job->data);
}

void
valley_cpu_run_rows (ValleyStream *stream, gsize rows, gsize cols, ValleyRowsFunc func,
                     gpointer data)
{
  RowsJob job = { func, data, rows, MAX (1, BLOCK_ELEMENTS / MAX (cols, 1)) };

  valley_pool_run (valley_cpu_backend (stream)->n_threads,
                   rows / job.block + (rows % job.block != 0), &stream->cancelled, run_block, &job);
}

static gboolean
same_shape (const ValleyTensor *a, const ValleyTensor *b)
{
  return a->rows == b->rows && a->cols == b->cols;
}

/* One row of f32, as wide as @x: a norm's weight or bias. */
static gboolean
is_vector_for (const ValleyTensor *vector, const ValleyTensor *x)
{
  return vector->dtype == VALLEY_F32 && vector->rows * vector->cols == x->cols
         && (vector->rows == 1 || vector->stride == vector->cols);
}

typedef struct {
  const ValleyKernels *kernels;
  const ValleyTensor *y, *x, *delta, *weight, *bias;
  float eps;
} Job;

static void
add_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    job->kernels->add (valley_cpu_row (job->y, i),
                       valley_cpu_row (job->x, job->x->rows == 1 ? 0 : i), job->y->cols);
}

void
valley_cpu_add (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x)
{
  Job job = { valley_cpu_kernels (stream), .y = y, .x = x };

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && x->dtype == VALLEY_F32 && x->cols == y->cols
                                  && (x->rows == y->rows || x->rows == 1));
  valley_cpu_run_rows (stream, y->rows, y->cols, add_rows, &job);
}

/* The row to be normed, with what is to be added to it. */
static const float *
summed_row (const Job *job, gsize i)
{
  float *x = valley_cpu_row (job->x, i);

  if (valley_cpu_given (job->delta))
    job->kernels->add (x, valley_cpu_row (job->delta, i), job->x->cols);
  return x;
}

static gboolean
norm_fits (const Job *job)
{
  return job->y->dtype == VALLEY_F32 && job->x->dtype == VALLEY_F32 && same_shape (job->y, job->x)
         && is_vector_for (job->weight, job->x)
         && (!valley_cpu_given (job->bias) || is_vector_for (job->bias, job->x))
         && (!valley_cpu_given (job->delta)
             || (job->delta->dtype == VALLEY_F32 && same_shape (job->delta, job->x)
                 && job->y->memory != job->x->memory));
}

static void
layer_norm_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    job->kernels->layer_norm (valley_cpu_row (job->y, i), summed_row (job, i),
                              valley_cpu_row (job->weight, 0),
                              valley_cpu_given (job->bias) ? valley_cpu_row (job->bias, 0) : NULL,
                              job->x->cols, job->eps);
}

void
valley_cpu_layer_norm (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                       const ValleyTensor *delta, const ValleyTensor *weight,
                       const ValleyTensor *bias, float eps)
{
  Job job = { valley_cpu_kernels (stream), y, x, delta, weight, bias, eps };

  VALLEY_CPU_REQUIRE (stream, norm_fits (&job));
  valley_cpu_run_rows (stream, x->rows, x->cols, layer_norm_rows, &job);
}

static void
rms_norm_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    job->kernels->rms_norm (valley_cpu_row (job->y, i), summed_row (job, i),
                            valley_cpu_row (job->weight, 0), job->x->cols, job->eps);
}

void
valley_cpu_rms_norm (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                     const ValleyTensor *delta, const ValleyTensor *weight, float eps)
{
  Job job = { valley_cpu_kernels (stream), y, x, delta, weight, .eps = eps };

  VALLEY_CPU_REQUIRE (stream, norm_fits (&job));
  valley_cpu_run_rows (stream, x->rows, x->cols, rms_norm_rows, &job);
}

static void
swiglu_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    job->kernels->swiglu (valley_cpu_row (job->y, i), valley_cpu_row (job->x, i),
                          valley_cpu_row (job->weight, i), job->x->cols);
}

void
valley_cpu_swiglu (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *gate,
                   const ValleyTensor *up)
{
  Job job = { valley_cpu_kernels (stream), .y = y, .x = gate, .weight = up };

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && gate->dtype == VALLEY_F32
                                  && up->dtype == VALLEY_F32 && same_shape (y, gate)
                                  && same_shape (up, gate));
  valley_cpu_run_rows (stream, y->rows, y->cols, swiglu_rows, &job);
}

static void
softmax_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    job->kernels->softmax (valley_cpu_row (job->x, i), job->x->cols);
}

void
valley_cpu_softmax (ValleyStream *stream, const ValleyTensor *x)
{
  Job job = { valley_cpu_kernels (stream), .x = x };

  VALLEY_CPU_REQUIRE (stream, x->dtype == VALLEY_F32);
  valley_cpu_run_rows (stream, x->rows, x->cols, softmax_rows, &job);
}

static void
one_hot_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++) {
    float *row = valley_cpu_row (job->x, i);
    gsize best = 0;

    for (gsize j = 1; j < job->x->cols; j++)
      if (row[j] > row[best])
        best = j;
    for (gsize j = 0; j < job->x->cols; j++)
      row[j] = j == best;
  }
}

void
valley_cpu_one_hot (ValleyStream *stream, const ValleyTensor *x)
{
  Job job = { valley_cpu_kernels (stream), .x = x };

  VALLEY_CPU_REQUIRE (stream, x->dtype == VALLEY_F32);
  valley_cpu_run_rows (stream, x->rows, x->cols, one_hot_rows, &job);
}

/* Sums in double, so that rounding decides as little as can be about what is near a threshold;
 * four of each, because additions wait for one another. */
static float
cosine (const float *x, const float *z, gsize n)
{
  double xz[4] = { 0 }, xx[4] = { 0 }, zz[4] = { 0 }, norms, product;

  for (gsize j = 0; j < n; j++) {
    xz[j % 4] += (double) x[j] * z[j];
    xx[j % 4] += (double) x[j] * x[j];
    zz[j % 4] += (double) z[j] * z[j];
  }
  product = xz[0] + xz[1] + (xz[2] + xz[3]);
  norms = sqrt (xx[0] + xx[1] + (xx[2] + xx[3])) * sqrt (zz[0] + zz[1] + (zz[2] + zz[3]));
  if (norms == 0)
    return 0;
  product /= norms;
  return (float) (product > 1 ? 1 : product < -1 ? -1 : product); /* NaN stays NaN */
}

static void
cosine_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    *(float *) valley_cpu_row (job->y, i)
        = cosine (valley_cpu_row (job->x, i), valley_cpu_row (job->weight, i), job->x->cols);
}

void
valley_cpu_cosine (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                   const ValleyTensor *z)
{
  Job job = { valley_cpu_kernels (stream), .y = y, .x = x, .weight = z };

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && x->dtype == VALLEY_F32
                                  && z->dtype == VALLEY_F32 && same_shape (x, z) && y->cols == 1
                                  && y->rows == x->rows);
  valley_cpu_run_rows (stream, x->rows, x->cols, cosine_rows, &job);
}
