/* video.c - the planes of a decoder's or camera's picture become a small RGB picture: resized
 * in their own color space, since a matrix commutes with a resize and the small picture has few
 * pixels to apply it to.
 *
 * Sixteen output rows at a time: rows are combined into row buffers, those sorted by component
 * into tiles, the tiles' columns combined and colored.  All of it stays in the cache.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "resize_kernels.h"
#include "video_frame.h"

#define MAX_OUTPUTS 4
#define N_TAPS 32 /* more than one call's: rows and columns of three planes for each output */

enum { ROWS = VALLEY_VIDEO_ROWS };

typedef struct {
  ValleyTapsKey key;
  ValleyTaps taps;
  guint64 used; /* when, in look-ups */
} CachedTaps;

typedef struct {
  void *memory;
  gsize bytes;
} Scratch;

struct _ValleyVideoScaler {
  const ValleyResizeKernels *kernels;
  CachedTaps cache[N_TAPS];
  guint64 n_lookups;
  Scratch rows[3], component, tiles[3], columns;
};

/* What one picture takes. */
typedef struct {
  const ValleyVideo *video;
  const ValleyVideoOutput *output;
  guint y;                               /* the next output row */
  const ValleyTaps *down[3], *across[3]; /* by plane, by component */
  gsize row_stride[3];                   /* samples, by plane */
  ValleyVideoMatrix matrix;
} Job;

ValleyVideoScaler *
valley_video_scaler_new_with (const ValleyResizeKernels *kernels)
{
  ValleyVideoScaler *scaler = g_new0 (ValleyVideoScaler, 1);

  scaler->kernels = kernels;
  return scaler;
}

ValleyVideoScaler *
valley_video_scaler_new (void)
{
  return valley_video_scaler_new_with (valley_resize_best_kernels ());
}

void
valley_video_scaler_free (ValleyVideoScaler *scaler)
{
  if (scaler == NULL)
    return;
  for (guint i = 0; i < N_TAPS; i++)
    valley_taps_clear (&scaler->cache[i].taps);
  for (guint i = 0; i < 3; i++) {
    g_free (scaler->rows[i].memory);
    g_free (scaler->tiles[i].memory);
  }
  g_free (scaler->component.memory);
  g_free (scaler->columns.memory);
  g_free (scaler);
}

/* Zeroed where it is new: vectors read a little past what is written, times 0. */
static gboolean
scratch_reserve (Scratch *scratch, gsize bytes)
{
  if (scratch->bytes >= bytes)
    return TRUE;
  g_free (scratch->memory);
  scratch->memory = valley_alloc0 (1, bytes);
  scratch->bytes = scratch->memory != NULL ? bytes : 0;
  return scratch->memory != NULL;
}

/* ---- coefficients --------------------------------------------------------- */

/* Those of the last pictures are kept: a stream's sizes come again with every frame. */
static const ValleyTaps *
find_taps (ValleyVideoScaler *scaler, const ValleyTapsKey *key)
{
  CachedTaps *cached = &scaler->cache[0]; /* at the end: the one not used for longest */

  scaler->n_lookups++;
  for (guint i = 0; i < N_TAPS; i++) {
    if (valley_taps_keys_equal (&scaler->cache[i].key, key)) {
      scaler->cache[i].used = scaler->n_lookups;
      return &scaler->cache[i].taps;
    }
    if (scaler->cache[i].used < cached->used)
      cached = &scaler->cache[i];
  }
  valley_taps_clear (&cached->taps);
  cached->key = *key;
  cached->used = scaler->n_lookups;
  if (valley_taps_init (&cached->taps, key))
    return &cached->taps;
  valley_taps_clear (&cached->taps);
  cached->key = (ValleyTapsKey){ 0 };
  return NULL;
}

/* ---- what a picture takes -------------------------------------------------- */

static gsize
round_up (gsize n, gsize to)
{
  return (n + to - 1) / to * to;
}

/* Finds coefficients and memory. */
static gboolean
prepare_plane (ValleyVideoScaler *scaler, Job *job, guint i, guint height)
{
  ValleyTapsKey key = valley_video_down_key (job->video, i, height);

  job->row_stride[i] = round_up (job->video->planes[i].n_samples, 32);
  job->down[i] = find_taps (scaler, &key);
  return job->down[i] != NULL
         && scratch_reserve (&scaler->rows[i], ROWS * sizeof (gint16) * job->row_stride[i]);
}

static gboolean
prepare_component (ValleyVideoScaler *scaler, Job *job, guint i, guint width)
{
  const ValleyVideoComponent *component = &job->video->components[i];
  ValleyTapsKey key = valley_video_across_key (job->video, i, width);

  job->across[i] = find_taps (scaler, &key);
  return job->across[i] != NULL
         && scratch_reserve (&scaler->tiles[i],
                             ROWS * sizeof (gint16) * (round_up (component->n_samples, 16) + 16));
}

static gboolean
prepare (ValleyVideoScaler *scaler, Job *job)
{
  gsize largest = 0, width = job->output->width;

  for (guint i = 0; i < job->video->n_planes; i++) {
    if (!prepare_plane (scaler, job, i, job->output->height))
      return FALSE;
    largest = MAX (largest, job->row_stride[i]);
  }
  for (guint i = 0; i < job->video->n_components; i++)
    if (!prepare_component (scaler, job, i, job->output->width))
      return FALSE;
  return scratch_reserve (&scaler->component, ROWS * sizeof (gint16) * largest)
         && scratch_reserve (&scaler->columns, valley_resize_column_bytes (3 * (gsize) width));
}

/* ---- sixteen rows --------------------------------------------------------- */

/* Rows that an output row is the first to need come from far away, some at a time, and all at
 * the same time: more streams than a processor foresees. */
static void
prefetch_rows (const Job *job, guint i, guint y)
{
  const ValleyVideoPlane *plane = &job->video->planes[i];
  const ValleyTaps *taps = job->down[i];
  gsize bytes = (gsize) plane->n_samples * (job->video->bits == 8 ? 1 : 2);
  guint from = taps->first[y] + 2 * taps->n_pairs[y], end;

  if (y + 1 == taps->out)
    return;
  end = MIN (taps->first[y + 1] + 2 * taps->n_pairs[y + 1], taps->in);
  for (guint row = from; row < end; row++)
    for (gsize at = 0; at < bytes; at += 64)
      __builtin_prefetch (plane->data + row * plane->stride_bytes + at);
}

static void
combine_rows (ValleyVideoScaler *scaler, const Job *job, guint i, guint y, guint n_rows)
{
  const ValleyVideoPlane *plane = &job->video->planes[i];
  gint16 *rows = scaler->rows[i].memory;

  for (guint row = 0; row < n_rows; row++) {
    prefetch_rows (job, i, y + row);
    scaler->kernels->video->vertical (plane->data, plane->stride_bytes, job->video->bits,
                                      job->down[i], y + row, plane->n_samples,
                                      rows + row * job->row_stride[i]);
  }
}

/* One component of a plane's rows, apart from the others. */
static const gint16 *
pick_component (ValleyVideoScaler *scaler, const Job *job, guint i, guint n_rows)
{
  const ValleyVideoComponent *component = &job->video->components[i];
  gsize stride = job->row_stride[component->plane];
  gint16 *rows = scaler->rows[component->plane].memory, *picked = scaler->component.memory;

  if (component->step == 1)
    return rows;
  for (guint row = 0; row < n_rows; row++) {
    gint16 *to = picked + row * stride;

    scaler->kernels->video->pick (rows + row * stride, component->first % 2,
                                  component->n_samples * (component->step / 2), to);
    if (component->step == 4)
      scaler->kernels->video->pick (to, component->first / 2, component->n_samples, to);
  }
  return picked;
}

static void
paint_rows (ValleyVideoScaler *scaler, Job *job)
{
  const ValleyVideoOutput *output = job->output;
  guint y = job->y, n_rows = MIN (output->height - y, ROWS);
  gsize row_bytes = 3 * (gsize) output->width;
  const gint16 *tiles[3];

  for (guint i = 0; i < job->video->n_planes; i++)
    combine_rows (scaler, job, i, y, n_rows);
  for (guint i = 0; i < job->video->n_components; i++) {
    const ValleyVideoComponent *component = &job->video->components[i];
    const gint16 *rows = pick_component (scaler, job, i, n_rows);

    scaler->kernels->video->tile (rows, job->row_stride[component->plane], n_rows,
                                  component->n_samples, scaler->tiles[i].memory);
    tiles[i] = scaler->tiles[i].memory;
  }
  scaler->kernels->video->horizontal (tiles, job->across, &job->matrix, scaler->columns.memory);
  scaler->kernels->untile (scaler->columns.memory, row_bytes, n_rows, output->rgb + y * row_bytes,
                           row_bytes);
  job->y += n_rows;
}

/* The one that is furthest behind on its way down the frame; NULL when all are done. */
static Job *
next_job (Job *jobs, guint n)
{
  Job *next = NULL;

  for (guint i = 0; i < n; i++)
    if (jobs[i].y < jobs[i].output->height
        && (next == NULL
            || (guint64) jobs[i].y * next->output->height
                   < (guint64) next->y * jobs[i].output->height))
      next = &jobs[i];
  return next;
}

gboolean
valley_video_scaler_paint (ValleyVideoScaler *scaler, const ValleyVideo *video,
                           const ValleyVideoOutput *outputs, guint n_outputs)
{
  Job jobs[MAX_OUTPUTS], *job;

  if (n_outputs > MAX_OUTPUTS)
    return FALSE;
  for (guint i = 0; i < n_outputs; i++) {
    jobs[i] = (Job){ .video = video, .output = &outputs[i] };
    if (!valley_video_is_sane (video, outputs[i].width, outputs[i].height)
        || !valley_video_matrix_init (&jobs[i].matrix, (const double (*)[4]) video->matrix)
        || !prepare (scaler, &jobs[i]))
      return FALSE;
  }
  while ((job = next_job (jobs, n_outputs)) != NULL)
    paint_rows (scaler, job);
  return TRUE;
}
