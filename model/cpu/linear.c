/* linear.c - products with weight matrices, cut into tasks.
 *
 * Rows of a prompt go through valley_gemm in blocks of weight rows whose size depends on the
 * matrix alone, so that neither the number of rows nor the number of threads can change a
 * bit.  Generated rows go through a matrix-vector kernel that reads each weight once.  Either
 * way bias and activation are applied while the block is in cache.
 *
 * Precision f32: weights of any type, widened to f32 block by block.  Precision bf16: both
 * factors rounded to bf16, sums in f32; without instructions for that the same rounded
 * factors are multiplied in f32.  Weights in f16 stay as they are in the file: they are
 * rounded block by block, and only where that is faster, for rows of a prompt on a machine
 * with such instructions.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gemm.h"
#include "internal.h"
#include "pool.h"

#include <string.h>

/* Weight rows that a task takes: twice as many where they are no longer than SHORT_ROW, as a
 * call of the library must be worth its overhead. */
#define COLUMN_BLOCK 64
#define SHORT_ROW 512
#define ROW_CHUNK 1024       /* activation rows a task takes */
#define ROW_TILE 256         /* activation rows in one call of the library */
#define CONVERT_BLOCK 2048   /* weights of a row that are converted at a time */
#define SMALL_WORK (1 << 19) /* multiplications that are not worth waking a thread for */

typedef struct {
  ValleyStream *stream;
  const ValleyKernels *kernels;
  const ValleyTensor *y, *w;
  const float *bias;
  ValleyActivation act;
  ValleyRole role;
  gboolean transposed; /* w is [N,K], as linear has it; else [K,N], as mix has it */

  gsize m, n, k;
  ValleyDType x_type;
  const guint8 *x; /* [padded, k], rounded to bf16 where the precision asks for it */
  gsize x_stride;
  gsize tile, padding; /* rows of a library call: at most tile, a multiple of padding */
  gsize column_block, row_chunk;
  gint failed; /* atomic: a ValleyError */
} Job;

static gboolean
rounds_to_bf16 (const Job *job)
{
  if (job->stream->backend->precision != VALLEY_PRECISION_BF16)
    return FALSE;
  return job->w->dtype == VALLEY_BF16
         || (job->w->dtype == VALLEY_F16 && job->role == VALLEY_ROWS_PROMPT
             && valley_gemm_has_bf16 ());
}

/* ---- the activations ---- */

typedef struct {
  const ValleyKernels *kernels;
  const ValleyTensor *x;
  guint8 *out;
  ValleyDType type;
  gboolean round; /* f32 that holds bf16 values */
} Prepare;

static void
prepare_rows (gsize first, gsize n, gpointer data)
{
  const Prepare *job = data;
  gsize k = job->x->cols, bytes = k * valley_dtype_bytes (job->type);
  guint16 rounded[512];

  for (gsize i = first; i < first + n; i++) {
    const float *x = valley_cpu_row (job->x, i);
    guint8 *out = job->out + i * bytes;

    if (!job->round)
      valley_cpu_convert (job->kernels, out, job->type, x, VALLEY_F32, k);
    for (gsize j = 0; job->round && j < k; j += G_N_ELEMENTS (rounded)) {
      gsize part = MIN (k - j, G_N_ELEMENTS (rounded));

      job->kernels->bf16_from_f32 (rounded, x + j, part);
      job->kernels->f32_from_bf16 ((float *) out + j, rounded, part);
    }
  }
}

/* Puts x where the products can read whole tiles of it, in the type they want and with rows
 * k apart: the library's choice of blocking, and so the last bits, depend on the stride too. */
static gboolean
prepare (Job *job, const ValleyTensor *x, gsize padding)
{
  gboolean round = rounds_to_bf16 (job);
  gboolean native = round && valley_gemm_has_bf16 ();
  Prepare prepare = { job->kernels, x, NULL, native ? VALLEY_BF16 : VALLEY_F32, round && !native };
  gsize rows, bytes;

  job->x_type = prepare.type;
  job->x_stride = job->k;
  job->padding = padding;
  if (!round && x->rows % padding == 0 && x->stride == job->k) {
    job->x = valley_cpu_row (x, 0);
    return TRUE;
  }
  rows = x->rows + (padding - x->rows % padding) % padding;
  if (!g_size_checked_mul (&bytes, rows, job->k * valley_dtype_bytes (prepare.type))) {
    valley_stream_fail (job->stream, VALLEY_ERROR_MEMORY, "a product of impossible size");
    return FALSE;
  }
  prepare.out = valley_cpu_stream_scratch (job->stream, bytes);
  if (prepare.out == NULL)
    return FALSE;
  valley_cpu_run_rows (job->stream, x->rows, job->k, prepare_rows, &prepare);
  bytes = job->k * valley_dtype_bytes (prepare.type);
  memset (prepare.out + x->rows * bytes, 0, (rows - x->rows) * bytes);
  job->x = prepare.out;
  return TRUE;
}

/* ---- prompt rows ---- */

static const guint8 *
weight_at (const Job *job, gsize column, gsize k)
{
  return (const guint8 *) valley_cpu_row (job->w, job->transposed ? column : k)
         + (job->transposed ? k : column) * valley_dtype_bytes (job->w->dtype);
}

/* Weights of @n columns from @k on, in the type of x and the layout of w; returns its stride. */
static gsize
convert_block (const Job *job, guint8 *out, gsize column, gsize n, gsize k, gsize n_k)
{
  gsize lines = job->transposed ? n : n_k, length = job->transposed ? n_k : n;
  gsize bytes = length * valley_dtype_bytes (job->x_type);

  for (gsize i = 0; i < lines; i++)
    valley_cpu_convert (job->kernels, out + i * bytes, job->x_type,
                        job->transposed ? weight_at (job, column + i, k)
                                        : weight_at (job, column, k + i),
                        job->w->dtype, length);
  return length;
}

/* c[rows, n] (+)= x[from row on] w, in tiles. */
static gboolean
multiply (const Job *job, ValleyGemmShape *shape, gsize first_row, gsize rows, gsize k,
          const void *w, float *c)
{
  gsize bytes = valley_dtype_bytes (job->x_type);

  for (gsize row = 0; row < rows; row += job->tile) {
    gsize left = MIN (job->tile, rows - row);

    shape->m = left + (job->padding - left % job->padding) % job->padding;
    if (!valley_gemm (shape, job->x + ((first_row + row) * job->x_stride + k) * bytes, w,
                      c + row * shape->c_stride))
      return FALSE;
  }
  return TRUE;
}

static gboolean
product_block (const Job *job, gsize first_row, gsize rows, gsize column, gsize n, float *c,
               gpointer converted)
{
  gboolean direct = job->w->dtype == job->x_type;
  gsize step = direct ? job->k : CONVERT_BLOCK;
  ValleyGemmShape shape = { .dtype = job->x_type,
                            .b_transposed = job->transposed,
                            .n = n,
                            .a_stride = job->x_stride,
                            .b_stride = job->w->stride,
                            .c_stride = job->column_block };

  for (gsize k = 0; k < job->k; k += step) {
    const void *w = converted;

    shape.k = MIN (step, job->k - k);
    if (direct)
      w = weight_at (job, column, k);
    else
      shape.b_stride = convert_block (job, converted, column, n, k, shape.k);
    if (!multiply (job, &shape, first_row, rows, k, w, c))
      return FALSE;
    shape.accumulate = TRUE;
  }
  return TRUE;
}

static void
prompt_task (gsize task, gpointer data)
{
  Job *job = data;
  gsize n_chunks = (job->m + job->row_chunk - 1) / job->row_chunk;
  gsize first_row = task % n_chunks * job->row_chunk, column = task / n_chunks * job->column_block;
  gsize rows = MIN (job->row_chunk, job->m - first_row);
  gsize n = MIN (job->column_block, job->n - column);
  gsize c_elements = (job->row_chunk + job->padding) * job->column_block;
  float *c = valley_pool_scratch ((c_elements + CONVERT_BLOCK * job->column_block) * sizeof *c);

  if (c == NULL || !product_block (job, first_row, rows, column, n, c, c + c_elements)) {
    g_atomic_int_set (&job->failed, c == NULL || valley_gemm_lacked_memory ()
                                        ? VALLEY_ERROR_MEMORY
                                        : VALLEY_ERROR_DEVICE);
    return;
  }
  for (gsize i = 0; i < rows; i++)
    job->kernels->bias_act ((float *) valley_cpu_row (job->y, first_row + i) + column,
                            c + i * job->column_block,
                            job->bias != NULL ? job->bias + column : NULL, n, job->act);
}

static guint
worthwhile_threads (const Job *job)
{
  return (double) job->m * job->n * job->k < SMALL_WORK
             ? 1
             : valley_cpu_backend (job->stream)->n_threads;
}

/* A function of the weights alone: the library's blocking may depend on it. */
static gsize
column_block (gsize k)
{
  return k <= SHORT_ROW ? 2 * COLUMN_BLOCK : COLUMN_BLOCK;
}

static void
run_prompt (Job *job, const ValleyTensor *x)
{
  gboolean any = valley_gemm_takes_any_rows ();

  job->tile = any ? ROW_TILE : VALLEY_GEMM_TILE;
  job->column_block = column_block (job->k);
  job->row_chunk = ROW_CHUNK;
  if (!prepare (job, x, any ? 16 : VALLEY_GEMM_TILE))
    return;
  valley_pool_run (worthwhile_threads (job),
                   ((job->n + job->column_block - 1) / job->column_block)
                       * ((job->m + ROW_CHUNK - 1) / ROW_CHUNK),
                   &job->stream->cancelled, prompt_task, job);
  if (job->failed)
    valley_stream_fail (job->stream, job->failed,
                        "%s the CPU's matrix product of %" G_GSIZE_FORMAT " x %" G_GSIZE_FORMAT
                        " x %" G_GSIZE_FORMAT,
                        job->failed == VALLEY_ERROR_MEMORY ? "not enough memory for"
                                                           : "oneDNN refused",
                        job->m, job->n, job->k);
}

/* ---- generated rows ---- */

static void
generated_task (gsize task, gpointer data)
{
  Job *job = data;
  gsize column = task * job->column_block, n = MIN (job->column_block, job->n - column);
  float *y = (float *) valley_cpu_row (job->y, 0) + column;
  const void *w = weight_at (job, column, 0);
  gsize y_stride = job->y->stride, w_stride = job->w->stride;

  if (job->x_type == VALLEY_BF16)
    job->kernels->gemv_bf16_bf16 (y, y_stride, (const guint16 *) job->x, job->x_stride, job->m, w,
                                  w_stride, n, job->k);
  else if (job->w->dtype == VALLEY_BF16)
    job->kernels->gemv_bf16 (y, y_stride, (const float *) job->x, job->x_stride, job->m, w,
                             w_stride, n, job->k);
  else if (job->w->dtype == VALLEY_F16)
    job->kernels->gemv_f16 (y, y_stride, (const float *) job->x, job->x_stride, job->m, w, w_stride,
                            n, job->k);
  else
    job->kernels->gemv_f32 (y, y_stride, (const float *) job->x, job->x_stride, job->m, w, w_stride,
                            n, job->k);
  if (job->bias != NULL || job->act != VALLEY_ACT_NONE)
    for (gsize i = 0; i < job->m; i++)
      job->kernels->bias_act (y + i * y_stride, y + i * y_stride,
                              job->bias != NULL ? job->bias + column : NULL, n, job->act);
}

static void
run_generated (Job *job, const ValleyTensor *x)
{
  job->column_block = COLUMN_BLOCK;
  if (prepare (job, x, 1))
    valley_pool_run (worthwhile_threads (job), (job->n + COLUMN_BLOCK - 1) / COLUMN_BLOCK,
                     &job->stream->cancelled, generated_task, job);
}

/* ---- entries of the table ---- */

void
valley_cpu_linear (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                   const ValleyTensor *w, const ValleyTensor *bias, ValleyActivation act,
                   ValleyRole role)
{
  Job job = { .stream = stream,
              .kernels = valley_cpu_kernels (stream),
              .y = y,
              .w = w,
              .act = act,
              .role = role,
              .transposed = TRUE,
              .m = x->rows,
              .n = w->rows,
              .k = x->cols };

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && x->dtype == VALLEY_F32 && w->cols == x->cols
                                  && y->rows == x->rows && y->cols == w->rows
                                  && y->memory != x->memory);
  if (valley_cpu_given (bias)) {
    VALLEY_CPU_REQUIRE (stream, bias->dtype == VALLEY_F32 && bias->cols == y->cols);
    job.bias = valley_cpu_row (bias, 0);
  }
  if (role == VALLEY_ROWS_PROMPT)
    run_prompt (&job, x);
  else
    run_generated (&job, x);
}

void
valley_cpu_mix (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                const ValleyTensor *w)
{
  Job job = { .stream = stream,
              .kernels = valley_cpu_kernels (stream),
              .y = y,
              .w = w,
              .role = VALLEY_ROWS_PROMPT,
              .m = x->rows,
              .n = w->cols,
              .k = x->cols };

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && x->dtype == VALLEY_F32 && w->rows == x->cols
                                  && y->rows == x->rows && y->cols == w->cols
                                  && y->memory != x->memory);
  run_prompt (&job, x);
}
