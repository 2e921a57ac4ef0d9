/* move.c - operations that only move or pool rows: copies, tables, grids.
 * SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"

#include <string.h>

/* ---- conversion ---- */

static void
convert_from_f32 (const ValleyKernels *kernels, gpointer dst, ValleyDType type, const float *src,
                  gsize n)
{
  if (type == VALLEY_BF16)
    kernels->bf16_from_f32 (dst, src, n);
  else
    kernels->f16_from_f32 (dst, src, n);
}

static void
convert_to_f32 (const ValleyKernels *kernels, float *dst, gconstpointer src, ValleyDType type,
                gsize n)
{
  if (type == VALLEY_BF16)
    kernels->f32_from_bf16 (dst, src, n);
  else
    kernels->f32_from_f16 (dst, src, n);
}

void
valley_cpu_convert (const ValleyKernels *kernels, gpointer dst, ValleyDType dst_type,
                    gconstpointer src, ValleyDType src_type, gsize n)
{
  float block[1024];

  if (dst_type == src_type) {
    memmove (dst, src, n * valley_dtype_bytes (src_type));
  } else if (src_type == VALLEY_F32) {
    convert_from_f32 (kernels, dst, dst_type, src, n);
  } else if (dst_type == VALLEY_F32) {
    convert_to_f32 (kernels, dst, src, src_type, n);
  } else {
    for (gsize i = 0; i < n; i += G_N_ELEMENTS (block)) {
      gsize m = MIN (n - i, G_N_ELEMENTS (block));

      convert_to_f32 (kernels, block, (const guint16 *) src + i, src_type, m);
      convert_from_f32 (kernels, (guint16 *) dst + i, dst_type, block, m);
    }
  }
}

/* ---- rows from anywhere ---- */

typedef struct {
  const ValleyKernels *kernels;
  const ValleyTensor *y, *x;
  const ValleyTensor *ids; /* NULL: the row's own number */
  const float *host_in;
  float *host_out;
} Job;

static gsize
id_of (const ValleyTensor *ids, gsize i)
{
  return (gsize) * (const gint32 *) valley_cpu_row (ids, i);
}

static void
copy_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    valley_cpu_convert (job->kernels, valley_cpu_row (job->y, i), job->y->dtype,
                        valley_cpu_row (job->x, job->ids != NULL ? id_of (job->ids, i) : i),
                        job->x->dtype, job->y->cols);
}

void
valley_cpu_copy (ValleyStream *stream, const ValleyTensor *dst, const ValleyTensor *src)
{
  Job job = { valley_cpu_kernels (stream), dst, src, .ids = NULL };

  VALLEY_CPU_REQUIRE (stream, dst->rows == src->rows && dst->cols == src->cols
                                  && (dst->dtype == VALLEY_I32) == (src->dtype == VALLEY_I32));
  valley_cpu_run_rows (stream, dst->rows, dst->cols, copy_rows, &job);
}

gboolean
valley_cpu_ids_within (const ValleyTensor *ids, gsize limit)
{
  for (gsize i = 0; i < ids->rows; i++)
    if (id_of (ids, i) >= limit) /* a negative one is far beyond */
      return FALSE;
  return TRUE;
}

void
valley_cpu_gather (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                   const ValleyTensor *ids)
{
  Job job = { valley_cpu_kernels (stream), y, x, .ids = ids };

  VALLEY_CPU_REQUIRE (stream, y->cols == x->cols && y->dtype != VALLEY_I32 && x->dtype != VALLEY_I32
                                  && ids->dtype == VALLEY_I32 && ids->cols == 1
                                  && ids->rows == y->rows && valley_cpu_ids_within (ids, x->rows));
  valley_cpu_run_rows (stream, y->rows, y->cols, copy_rows, &job);
}

static void
upload_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    valley_cpu_convert (job->kernels, valley_cpu_row (job->y, i), job->y->dtype,
                        job->host_in + i * job->y->cols, VALLEY_F32, job->y->cols);
}

void
valley_cpu_upload (ValleyStream *stream, const ValleyTensor *dst, const float *src)
{
  Job job = { valley_cpu_kernels (stream), .y = dst, .host_in = src };

  VALLEY_CPU_REQUIRE (stream, valley_cpu_given (dst) && dst->dtype != VALLEY_I32);
  valley_cpu_run_rows (stream, dst->rows, dst->cols, upload_rows, &job);
}

void
valley_cpu_upload_ids (ValleyStream *stream, const ValleyTensor *dst, const gint32 *src)
{
  VALLEY_CPU_REQUIRE (stream, valley_cpu_given (dst) && dst->dtype == VALLEY_I32 && dst->cols == 1);
  for (gsize i = 0; i < dst->rows; i++)
    *(gint32 *) valley_cpu_row (dst, i) = src[i];
}

static void
download_rows (gsize first, gsize n, gpointer data)
{
  const Job *job = data;

  for (gsize i = first; i < first + n; i++)
    valley_cpu_convert (job->kernels, job->host_out + i * job->x->cols, VALLEY_F32,
                        valley_cpu_row (job->x, i), job->x->dtype, job->x->cols);
}

gboolean
valley_cpu_download (ValleyStream *stream, const ValleyTensor *src, float *dst, GError **error)
{
  Job job = { valley_cpu_kernels (stream), .x = src, .host_out = dst };

  if (!valley_stream_stopped (stream))
    valley_cpu_run_rows (stream, src->rows, src->cols, download_rows, &job);
  return stream->ops->stream_wait (stream, error);
}

gboolean
valley_cpu_download_ids (ValleyStream *stream, const ValleyTensor *src, gint32 *dst, GError **error)
{
  for (gsize i = 0; i < src->rows && !valley_stream_stopped (stream); i++)
    memcpy (dst + i * src->cols, valley_cpu_row (src, i), src->cols * sizeof *dst);
  return stream->ops->stream_wait (stream, error);
}

/* ---- grids of rows ---- */

typedef struct {
  const ValleyTensor *y, *x;
  gsize in_height, in_width, out_height, out_width, ratio;
} GridJob;

static const float *
grid_cell (const GridJob *job, gsize row, gsize col)
{
  return valley_cpu_row (job->x, row * job->in_width + col);
}

static void
im2col_rows (gsize first, gsize n, gpointer data)
{
  const GridJob *job = data;

  for (gsize i = first; i < first + n; i++) {
    float *y = valley_cpu_row (job->y, i);

    for (gsize tap = 0; tap < 9; tap++) {
      /* one more than the input's row and column, for the padding */
      gsize row = 2 * (i / job->out_width) + tap / 3, col = 2 * (i % job->out_width) + tap % 3;
      gboolean inside = row >= 1 && row <= job->in_height && col >= 1 && col <= job->in_width;
      const float *x = inside ? grid_cell (job, row - 1, col - 1) : NULL;

      for (gsize c = 0; c < job->x->cols; c++)
        y[c * 9 + tap] = inside ? x[c] : 0;
    }
  }
}

void
valley_cpu_im2col (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, gsize side)
{
  gsize out = (side + 1) / 2;
  GridJob job = { y, x, side, side, out, out, 0 };

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && x->dtype == VALLEY_F32
                                  && x->rows == side * side && y->rows == out * out
                                  && y->cols == x->cols * 9);
  valley_cpu_run_rows (stream, y->rows, y->cols, im2col_rows, &job);
}

static void
pixel_shuffle_rows (gsize first, gsize n, gpointer data)
{
  const GridJob *job = data;
  gsize r = job->ratio;

  for (gsize i = first; i < first + n; i++) {
    float *y = valley_cpu_row (job->y, i);

    for (gsize part = 0; part < r * r; part++)
      memcpy (y + part * job->x->cols,
              grid_cell (job, i / job->out_width * r + part / r, i % job->out_width * r + part % r),
              job->x->cols * sizeof *y);
  }
}

void
valley_cpu_pixel_shuffle (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                          gsize side, gsize ratio)
{
  gsize out = ratio > 0 ? side / ratio : 0;
  GridJob job = { y, x, side, side, out, out, ratio };

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && x->dtype == VALLEY_F32 && ratio > 0
                                  && side % ratio == 0 && x->rows == side * side
                                  && y->rows == out * out && y->cols == x->cols * ratio * ratio);
  valley_cpu_run_rows (stream, y->rows, y->cols, pixel_shuffle_rows, &job);
}

/* The cells that are pooled into row @i of y. */
typedef struct {
  gsize top, bottom, left, right;
} Bin;

static Bin
pool_bin (const GridJob *job, gsize i)
{
  gsize row = i / job->out_width, col = i % job->out_width;

  return (Bin){ row * job->in_height / job->out_height,
                ((row + 1) * job->in_height + job->out_height - 1) / job->out_height,
                col * job->in_width / job->out_width,
                ((col + 1) * job->in_width + job->out_width - 1) / job->out_width };
}

static void
average_pool_rows (gsize first, gsize n, gpointer data)
{
  const GridJob *job = data;

  for (gsize i = first; i < first + n; i++) {
    float *y = valley_cpu_row (job->y, i);
    Bin bin = pool_bin (job, i);
    float area = (float) ((bin.bottom - bin.top) * (bin.right - bin.left));

    memset (y, 0, job->y->cols * sizeof *y);
    for (gsize r = bin.top; r < bin.bottom; r++)
      for (gsize c = bin.left; c < bin.right; c++) {
        const float *x = grid_cell (job, r, c);

        for (gsize j = 0; j < job->y->cols; j++)
          y[j] += x[j];
      }
    for (gsize j = 0; j < job->y->cols; j++)
      y[j] /= area;
  }
}

static void
max_pool_rows (gsize first, gsize n, gpointer data)
{
  const GridJob *job = data;

  for (gsize i = first; i < first + n; i++) {
    float *y = valley_cpu_row (job->y, i);
    Bin bin = pool_bin (job, i);

    memcpy (y, grid_cell (job, bin.top, bin.left), job->y->cols * sizeof *y);
    for (gsize r = bin.top; r < bin.bottom; r++)
      for (gsize c = bin.left; c < bin.right; c++) {
        const float *x = grid_cell (job, r, c);

        for (gsize j = 0; j < job->y->cols; j++)
          y[j] = x[j] <= y[j] ? y[j] : x[j]; /* a NaN stays */
      }
  }
}

static void
pool (ValleyStream *stream, const GridJob *job, ValleyRowsFunc func)
{
  const ValleyTensor *y = job->y, *x = job->x;

  VALLEY_CPU_REQUIRE (stream, y->dtype == VALLEY_F32 && x->dtype == VALLEY_F32 && y->cols == x->cols
                                  && x->rows == job->in_height * job->in_width
                                  && y->rows == job->out_height * job->out_width && x->rows > 0);
  valley_cpu_run_rows (stream, y->rows, y->cols, func, (gpointer) job);
}

void
valley_cpu_average_pool (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                         gsize in_height, gsize in_width, gsize out_height, gsize out_width)
{
  GridJob job = { y, x, in_height, in_width, out_height, out_width, 0 };

  pool (stream, &job, average_pool_rows);
}

void
valley_cpu_max_pool (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                     gsize in_height, gsize in_width, gsize out_height, gsize out_width)
{
  GridJob job = { y, x, in_height, in_width, out_height, out_width, 0 };

  pool (stream, &job, max_pool_rows);
}
