/* paint.c - see paint.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "paint.h"

#include "paint_table.h"
#include "patches.h"
#include "video_frame.h"

#define N_TABLES 32 /* more than one call's: rows and columns of three planes for two images */
#define MAX_IMAGES 2

typedef struct {
  gboolean is_rgb;
  ValleyTapsKey key; /* of RGB: `in` and `out` alone */
  ValleyPaintTaps taps;
  guint64 used; /* when, in look-ups */
} CachedTable;

struct _ValleyPainter {
  ValleyBackend *backend;
  GMutex lock; /* of all that follows */
  ValleyStream *stream;
  ValleyMemory *sums; /* of two images */
  CachedTable tables[N_TABLES];
  guint64 n_lookups;
};

ValleyPainter *
valley_painter_new (ValleyBackend *backend, GError **error)
{
  ValleyStream *stream = backend->ops->pictures->stream_new (backend, error);
  ValleyPainter *painter;

  if (stream == NULL)
    return NULL;
  painter = g_new0 (ValleyPainter, 1);
  painter->backend = backend;
  painter->stream = stream;
  g_mutex_init (&painter->lock);
  painter->sums = backend->ops->memory_new (backend, 2 * MAX_IMAGES * sizeof (guint64));
  if (painter->sums != NULL)
    return painter;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
               "not enough memory on the device to compare pictures");
  valley_painter_free (painter);
  return NULL;
}

static void
memory_free (ValleyBackend *backend, ValleyMemory *memory)
{
  if (memory != NULL)
    backend->ops->memory_free (backend, memory);
}

void
valley_painter_free (ValleyPainter *painter)
{
  if (painter == NULL)
    return;
  for (guint i = 0; i < N_TABLES; i++)
    memory_free (painter->backend, painter->tables[i].taps.rows);
  memory_free (painter->backend, painter->sums);
  painter->backend->ops->stream_free (painter->stream);
  g_mutex_clear (&painter->lock);
  g_free (painter);
}

void
valley_device_image_clear (ValleyDeviceImage *image, ValleyBackend *backend)
{
  memory_free (backend, image->rgb);
  valley_tensor_clear (backend, &image->patches);
  *image = (ValleyDeviceImage){ 0 };
}

/* ---- coefficients --------------------------------------------------------- */

static gboolean
fill_table (ValleyPainter *painter, CachedTable *cached)
{
  const ValleyPictureOps *ops = painter->backend->ops->pictures;
  ValleyPaintTable table;
  gboolean ready = cached->is_rgb
                       ? valley_paint_table_init_rgb (&table, cached->key.in, cached->key.out)
                       : valley_paint_table_init_video (&table, &cached->key);
  gsize bytes = table.n * table.stride * sizeof *table.rows;

  if (ready)
    cached->taps.rows = painter->backend->ops->memory_new (painter->backend, bytes);
  if (cached->taps.rows != NULL) {
    cached->taps.stride = table.stride;
    cached->taps.bits = table.bits;
    ops->upload (painter->stream, cached->taps.rows, table.rows, bytes);
  }
  valley_paint_table_clear (&table);
  return cached->taps.rows != NULL;
}

/* Those of the last sizes are kept: a stream's come again with every frame. */
static gboolean
find_taps (ValleyPainter *painter, gboolean is_rgb, const ValleyTapsKey *key, ValleyPaintTaps *taps)
{
  CachedTable *oldest = &painter->tables[0];

  painter->n_lookups++;
  for (guint i = 0; i < N_TABLES; i++) {
    CachedTable *cached = &painter->tables[i];

    if (cached->taps.rows != NULL && cached->is_rgb == is_rgb
        && valley_taps_keys_equal (&cached->key, key)) {
      cached->used = painter->n_lookups;
      *taps = cached->taps;
      return TRUE;
    }
    if (cached->used < oldest->used)
      oldest = cached;
  }
  memory_free (painter->backend, oldest->taps.rows);
  *oldest = (CachedTable){ .is_rgb = is_rgb, .key = *key, .used = painter->n_lookups };
  if (!fill_table (painter, oldest)) {
    valley_stream_fail (painter->stream, VALLEY_ERROR_MEMORY,
                        "not enough memory for the coefficients of a resize");
    return FALSE;
  }
  *taps = oldest->taps;
  return TRUE;
}

/* ---- painting ------------------------------------------------------------- */

/* The frame's own orientation of a target's size. */
static void
stored_size (const ValleyPaintTarget *target, guint *width, guint *height)
{
  gboolean sideways = (target->turn & VALLEY_TURN_TRANSPOSE) != 0;

  *width = sideways ? target->height : target->width;
  *height = sideways ? target->width : target->height;
}

static gboolean
words_are_aligned (const ValleyVideo *video)
{
  for (guint i = 0; i < video->n_planes && video->bits > 8; i++)
    if ((gsize) video->planes[i].data % 2 != 0 || video->planes[i].stride_bytes % 2 != 0)
      return FALSE;
  return TRUE;
}

static void
refuse (ValleyPainter *painter)
{
  valley_stream_fail (painter->stream, VALLEY_ERROR_ARGUMENT,
                      "a value of a frame on the device is outside what valley.h says");
}

static void
paint_video (ValleyPainter *painter, const ValleyPaintTarget *target, const ValleyVideo *video)
{
  ValleyVideoMatrix matrix;
  ValleyPaintPlan plan;
  guint width, height;

  stored_size (target, &width, &height);
  if (!valley_video_is_sane (video, width, height) || !words_are_aligned (video)
      || !valley_video_matrix_init (&matrix, (const double (*)[4]) video->matrix)) {
    refuse (painter);
    return;
  }
  for (guint i = 0; i < video->n_planes; i++) {
    ValleyTapsKey key = valley_video_down_key (video, i, height);

    if (!find_taps (painter, FALSE, &key, &plan.down[i]))
      return;
  }
  for (guint i = 0; i < video->n_components; i++) {
    ValleyTapsKey key = valley_video_across_key (video, i, width);

    if (!find_taps (painter, FALSE, &key, &plan.across[i]))
      return;
  }
  painter->backend->ops->pictures->paint_video (painter->stream, target, video, &matrix, &plan);
}

static gboolean
rgb_is_sane (const ValleyRgbImage *image)
{
  gboolean sane = image->data != NULL && image->width >= 1 && image->width <= 65535
                  && image->height >= 1 && image->height <= 65535
                  && (image->channels == 3 || image->channels == 4);

  for (guint c = 0; c < 3; c++)
    sane = sane && image->rgb[c] < image->channels && image->rgb[c] != image->rgb[(c + 1) % 3];
  return sane;
}

static void
paint_rgb (ValleyPainter *painter, const ValleyPaintTarget *target, const ValleyDeviceFrame *frame)
{
  ValleyPaintPlan plan;
  ValleyTapsKey down = { .in = frame->rgb->height }, across = { .in = frame->rgb->width };

  stored_size (target, &across.out, &down.out);
  if (!rgb_is_sane (frame->rgb))
    refuse (painter);
  else if (find_taps (painter, TRUE, &down, &plan.down[0])
           && find_taps (painter, TRUE, &across, &plan.across[0]))
    painter->backend->ops->pictures->paint_rgb (painter->stream, target, frame->rgb,
                                                frame->limited_range, &plan);
}

static gsize
image_bytes (const ValleyDeviceImage *image)
{
  return 3 * (gsize) image->width * image->height; /* sides are at most 65535 */
}

/* Without an error: where memory is short, whoever encodes the picture makes them. */
static void
try_patches (ValleyBackend *backend, ValleyDeviceImage *image, const ValleyPatchShape *shape)
{
  gsize rows = shape->grid_width * shape->grid_height;
  gsize stride = valley_patches_stride (backend, shape);
  gsize element = valley_dtype_bytes (backend->activations);

  image->patches
      = (ValleyTensor){ .memory = backend->ops->memory_new (backend, rows * stride * element),
                        .dtype = backend->activations,
                        .rows = rows,
                        .cols = 3 * shape->times * shape->size * shape->size,
                        .stride = stride };
}

/* FALSE, with an error on the stream, where there is no memory. */
static gboolean
prepare_image (ValleyPainter *painter, ValleyDeviceImage *image, const ValleyPatchShape *shape)
{
  if (valley_stream_stopped (painter->stream))
    return FALSE;
  image->rgb = painter->backend->ops->memory_new (painter->backend, image_bytes (image));
  if (image->rgb == NULL) {
    valley_stream_fail (painter->stream, VALLEY_ERROR_MEMORY,
                        "not enough memory on the device for a picture of %u x %u", image->width,
                        image->height);
    return FALSE;
  }
  try_patches (painter->backend, image, shape);
  return TRUE;
}

static void
paint_image (ValleyPainter *painter, const ValleyDeviceFrame *frame, ValleyDeviceImage *image,
             const ValleyPatchShape *shape, guint index)
{
  ValleyPaintTarget target
      = { .width = image->width, .height = image->height, .turn = frame->turn, .shape = *shape };

  if (image->width == 0 || !prepare_image (painter, image, shape))
    return;
  target.rgb = image->rgb;
  target.patches = image->patches;
  if (frame->video != NULL)
    paint_video (painter, &target, frame->video);
  else
    paint_rgb (painter, &target, frame);
  painter->backend->ops->pictures->fingerprint (painter->stream, painter->sums, 2 * index,
                                                image->rgb, image_bytes (image));
}

/* What failed may not have been written. */
static void
forget_tables (ValleyPainter *painter)
{
  for (guint i = 0; i < N_TABLES; i++) {
    memory_free (painter->backend, painter->tables[i].taps.rows);
    painter->tables[i] = (CachedTable){ 0 };
  }
}

/* The sums; in any case nothing is at work on frames or pictures any more. */
static gboolean
finish (ValleyPainter *painter, guint64 *sums, gsize n, GError **error)
{
  const ValleyOps *ops = painter->backend->ops;

  if (ops->pictures->download (painter->stream, painter->sums, sums, n * sizeof *sums, error))
    return TRUE;
  ops->stream_wait (painter->stream, NULL);
  forget_tables (painter);
  return FALSE;
}

gboolean
valley_painter_paint (ValleyPainter *painter, const ValleyDeviceFrame *frame,
                      ValleyDeviceImage *images, const ValleyPatchShape *shapes, guint n,
                      guint64 *fingerprints, GError **error)
{
  const ValleyPictureOps *ops = painter->backend->ops->pictures;
  gboolean painted;

  g_mutex_lock (&painter->lock);
  if (frame->ready != NULL)
    ops->wait_event (painter->stream, frame->ready);
  for (guint i = 0; i < n; i++)
    paint_image (painter, frame, &images[i], &shapes[i], i);
  painted = finish (painter, fingerprints, 2 * n, error);
  g_mutex_unlock (&painter->lock);
  for (guint i = 0; i < n; i++)
    if (images[i].width == 0)
      fingerprints[2 * i] = fingerprints[2 * i + 1] = 0; /* no such tower */
    else if (painted)
      ops->publish (images[i].rgb);
  return painted;
}

gboolean
valley_painter_compare (ValleyPainter *painter, const ValleyDeviceImage *a,
                        const ValleyDeviceImage *b, guint n, guint64 *sum, GError **error)
{
  const ValleyPictureOps *ops = painter->backend->ops->pictures;
  guint64 sums[MAX_IMAGES] = { 0 };
  gboolean compared;

  g_mutex_lock (&painter->lock);
  for (guint i = 0; i < n; i++)
    if (a[i].width > 0)
      ops->difference (painter->stream, painter->sums, i, a[i].rgb, b[i].rgb, image_bytes (&a[i]));
  compared = finish (painter, sums, n, error);
  g_mutex_unlock (&painter->lock);
  *sum = 0;
  for (guint i = 0; i < n; i++)
    *sum += a[i].width > 0 ? sums[i] : 0;
  return compared;
}
