/* resize.c - Pillow's bicubic resize, to the bit: coefficients with 22 fraction bits, the
 * horizontal pass first, its result rounded to 8 bits, then the vertical pass; a pass whose
 * size does not change is skipped.  (Pillow 13 does the vertical pass first where the height
 * shrinks much more than the width; the models were trained before that, so it is not followed.)
 *
 * Sixteen rows of the picture at a time: they are regrouped once, then reduced for every target,
 * and each target's own rows follow as soon as all that they are made of is there.  So the
 * picture is read once, and nothing between the passes leaves the nearer caches.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "resize_table.h"
#include "valley.h"

#define MAX_SIDE 65535
#define MAX_TARGETS 4
#define WINDOW_SLACK 64 /* rows of room, so that those that wait are seldom moved */

enum { ROWS = VALLEY_RESIZE_ROWS };

/* ---- one target ----------------------------------------------------------- */

/* A target in the making. */
typedef struct {
  const ValleyResizeSource *source;
  ValleyResizeTarget target;
  const ValleyResizeTable *across, *down; /* NULL: that side stays as it is */
  gsize row_bytes;                        /* a row of the target's width */
  guint8 *window;                         /* rows of that width which wait for the vertical pass */
  guint first, end, room;                 /* the source rows that it has, and how many it can */
  guint y;                                /* the next row of the target */
} Job;

/* FALSE when memory is short; job_clear is due all the same. */
static gboolean
job_init (Job *job, const ValleyResizeKernels *kernels, const ValleyResizeSource *source,
          const ValleyResizeTarget *target)
{
  gsize bytes;

  *job = (Job){ .source = source,
                .target = *target,
                .row_bytes = (gsize) target->width * source->n_wanted };
  if (source->width != target->width) {
    job->across = valley_resize_table_get (kernels, source->width, target->width, 4);
    if (job->across == NULL)
      return FALSE;
  }
  if (source->height == target->height)
    return TRUE;
  job->down = valley_resize_table_get (kernels, source->height, target->height, 1);
  if (job->down == NULL)
    return FALSE;
  job->room = (guint) MIN (job->down->stride + ROWS + WINDOW_SLACK, source->height);
  if (!g_size_checked_mul (&bytes, job->room, job->row_bytes))
    return FALSE;
  job->window = valley_alloc_aligned (bytes);
  return job->window != NULL;
}

static void
job_clear (Job *job)
{
  valley_resize_table_unref (job->across);
  valley_resize_table_unref (job->down);
  free (job->window);
}

/* The source rows that target row @y is made of end before this one. */
static guint
rows_needed (const Job *job, guint y)
{
  return MIN (job->down->first[y] + 4 * job->down->n_quads[y], job->source->height);
}

/* Where @n_rows more of the source's rows go, at the target's width. */
static guint8 *
job_reserve (Job *job, guint n_rows)
{
  guint keep = job->end;

  if (job->down == NULL)
    return job->target.data + job->end * job->target.stride;
  if (job->y < job->target.height)
    keep = MIN (keep, job->down->first[job->y]);
  if (job->end + n_rows - job->first > job->room) {
    memmove (job->window, job->window + (keep - job->first) * job->row_bytes,
             (job->end - keep) * job->row_bytes);
    job->first = keep;
  }
  return job->window + (job->end - job->first) * job->row_bytes;
}

/* @n_rows more rows are there: makes those of the target that now can be. */
static void
job_advance (Job *job, const ValleyResizeKernels *kernels, guint n_rows)
{
  const ValleyResizeTable *down = job->down;

  job->end += n_rows;
  if (down == NULL)
    return;
  for (; job->y < job->target.height && rows_needed (job, job->y) <= job->end; job->y++)
    kernels->vertical (job->window + (down->first[job->y] - job->first) * job->row_bytes,
                       job->row_bytes, rows_needed (job, job->y) - down->first[job->y],
                       down->packed + job->y * down->stride, down->n_quads[job->y], job->row_bytes,
                       job->target.data + job->y * job->target.stride);
}

/* ---- sixteen rows --------------------------------------------------------- */

/* What the targets share. */
typedef struct {
  guint8 *tiles, *columns;
  gsize plane_bytes;
} Scratch;

static gboolean
scratch_init (Scratch *scratch, const ValleyResizeSource *source, const Job *jobs, guint n)
{
  guint width = 0;

  for (guint i = 0; i < n; i++)
    if (jobs[i].across != NULL)
      width = MAX (width, jobs[i].target.width);
  *scratch = (Scratch){ .plane_bytes = ((gsize) source->width + 15) / 16 * (16 * ROWS) };
  if (width == 0)
    return TRUE;
  scratch->tiles = valley_alloc_aligned (source->n_wanted * scratch->plane_bytes);
  scratch->columns
      = valley_alloc_aligned (valley_resize_column_bytes ((gsize) width * source->n_wanted));
  return scratch->tiles != NULL && scratch->columns != NULL;
}

static void
scratch_clear (Scratch *scratch)
{
  free (scratch->tiles);
  free (scratch->columns);
}

/* The wanted samples of @n_rows rows, at the width that they have. */
static void
copy_wanted (const ValleyResizeSource *source, const guint8 *rows, guint n_rows, guint8 *dst,
             gsize stride)
{
  for (guint row = 0; row < n_rows; row++, rows += source->stride, dst += stride)
    for (guint c = 0; c < source->n_wanted; c++)
      for (guint x = 0; x < source->width; x++)
        dst[x * source->n_wanted + c] = rows[x * source->channels + source->wanted[c]];
}

static void
tile_rows (const ValleyResizeKernels *kernels, const ValleyResizeSource *source, const guint8 *rows,
           guint n_rows, const Scratch *scratch)
{
  guint8 *planes[4] = { NULL };

  for (guint c = 0; c < source->n_wanted; c++)
    planes[source->wanted[c]] = scratch->tiles + c * scratch->plane_bytes;
  kernels->tile (rows, source->stride, n_rows, source->width, source->channels, planes);
}

static void
resize_rows (const ValleyResizeKernels *kernels, const Scratch *scratch, const guint8 *rows,
             guint n_rows, Job *job)
{
  guint8 *dst = job_reserve (job, n_rows);
  gsize stride = job->down != NULL ? job->row_bytes : job->target.stride;

  if (job->across == NULL) {
    copy_wanted (job->source, rows, n_rows, dst, stride);
  } else {
    kernels->horizontal (scratch->tiles, scratch->plane_bytes, job->across, job->source->n_wanted,
                         scratch->columns);
    kernels->untile (scratch->columns, job->row_bytes, n_rows, dst, stride);
  }
  job_advance (job, kernels, n_rows);
}

/* ---- pictures ------------------------------------------------------------- */

static gboolean
side_is_sane (guint side)
{
  return side >= 1 && side <= MAX_SIDE;
}

static gboolean
source_is_sane (const ValleyResizeSource *source)
{
  guint seen = 0;

  if (!side_is_sane (source->width) || !side_is_sane (source->height) || source->channels < 1
      || source->channels > 4 || source->n_wanted < 1 || source->n_wanted > source->channels)
    return FALSE;
  for (guint c = 0; c < source->n_wanted; c++) {
    if (source->wanted[c] >= source->channels || (seen >> source->wanted[c] & 1) != 0)
      return FALSE;
    seen |= 1u << source->wanted[c];
  }
  return TRUE;
}

gboolean
valley_resize_to (const ValleyResizeKernels *kernels, const ValleyResizeSource *source,
                  const ValleyResizeTarget *targets, guint n)
{
  Job jobs[MAX_TARGETS];
  Scratch scratch = { NULL };
  gboolean ready = source_is_sane (source) && n <= MAX_TARGETS;
  guint n_jobs = 0;

  while (ready && n_jobs < n) {
    const ValleyResizeTarget *target = &targets[n_jobs];

    ready = side_is_sane (target->width) && side_is_sane (target->height);
    if (ready)
      ready = job_init (&jobs[n_jobs++], kernels, source, target);
  }
  ready = ready && scratch_init (&scratch, source, jobs, n_jobs);
  for (guint y = 0; ready && y < source->height; y += ROWS) {
    guint n_rows = MIN (source->height - y, ROWS);
    const guint8 *rows = source->data + y * source->stride;

    if (scratch.tiles != NULL)
      tile_rows (kernels, source, rows, n_rows, &scratch);
    for (guint i = 0; i < n_jobs; i++)
      resize_rows (kernels, &scratch, rows, n_rows, &jobs[i]);
  }
  for (guint i = 0; i < n_jobs; i++)
    job_clear (&jobs[i]);
  scratch_clear (&scratch);
  return ready;
}

/* ---- choice --------------------------------------------------------------- */

const ValleyResizeKernels *const *
valley_resize_kernel_sets (void)
{
  static const ValleyResizeKernels *sets[4];
  static gsize ready;

  if (g_once_init_enter (&ready)) {
    guint n = 0;

    sets[n++] = &valley_resize_kernels_c;
#if defined(__x86_64__)
    if (__builtin_cpu_supports ("avx2"))
      sets[n++] = &valley_resize_kernels_avx2;
    if (__builtin_cpu_supports ("avx512f") && __builtin_cpu_supports ("avx512bw")
        && __builtin_cpu_supports ("avx512vl") && __builtin_cpu_supports ("avx512vnni"))
      sets[n++] = &valley_resize_kernels_avx512;
#endif
    g_once_init_leave (&ready, 1);
  }
  return sets;
}

const ValleyResizeKernels *
valley_resize_best_kernels (void)
{
  static gsize best; /* a pointer, as g_once_init_enter wants it */

  if (g_once_init_enter (&best)) {
    const ValleyResizeKernels *const *set = valley_resize_kernel_sets ();
    const char *cap = g_getenv ("VALLEY_CPU");

    while (set[1] != NULL && g_strcmp0 (cap, set[0]->name) != 0)
      set++;
    g_once_init_leave (&best, (gsize) set[0]);
  }
  return (const ValleyResizeKernels *) best;
}

gboolean
valley_image_resize (const guint8 *src, gsize src_stride_bytes, guint src_width, guint src_height,
                     guint channels, guint8 *dst, gsize dst_stride_bytes, guint dst_width,
                     guint dst_height)
{
  ValleyResizeSource source
      = { src, src_stride_bytes, src_width, src_height, channels, channels, { 0, 1, 2, 3 } };
  ValleyResizeTarget target = { dst, dst_stride_bytes, dst_width, dst_height };

  return valley_resize_to (valley_resize_best_kernels (), &source, &target, 1);
}

gboolean
valley_image_resize_rgb (const ValleyRgbImage *image, const ValleyVideoOutput *outputs,
                         guint n_outputs)
{
  ValleyResizeSource source = { image->data,   image->stride_bytes, image->width,
                                image->height, image->channels,     3,
                                { 0 } };
  ValleyResizeTarget targets[MAX_TARGETS];

  if (n_outputs > MAX_TARGETS)
    return FALSE;
  for (guint c = 0; c < 3; c++)
    source.wanted[c] = image->rgb[c];
  for (guint i = 0; i < n_outputs; i++)
    targets[i] = (ValleyResizeTarget){ outputs[i].rgb, 3 * (gsize) outputs[i].width,
                                       outputs[i].width, outputs[i].height };
  return valley_resize_to (valley_resize_best_kernels (), &source, targets, n_outputs);
}
