/* patches.c - see patches.h.
 *
 * Three ways lead to the same numbers: image.c writes them as f32 for the CPU; a device with
 * picture operations gets the picture's bytes and cuts them itself; and what was painted on that
 * device was cut in the same pass.
 * SPDX-License-Identifier: Apache-2.0 */
#include "patches.h"

#include "alloc.h"

ValleyPatchShape
valley_siglip_patch_shape (const ValleySiglipConfig *siglip)
{
  return (ValleyPatchShape){ .size = siglip->patch_size,
                             .merge = 1,
                             .times = 1,
                             .grid_width = siglip->side,
                             .grid_height = siglip->side,
                             .mean = { 0.5f, 0.5f, 0.5f },
                             .deviation = { 0.5f, 0.5f, 0.5f } };
}

ValleyPatchShape
valley_eagle_patch_shape (const ValleyEagleConfig *eagle, const ValleyInputSizes *sizes)
{
  return (ValleyPatchShape){ .size = eagle->patch_size,
                             .merge = eagle->spatial_merge_size,
                             .times = eagle->temporal_patch_size,
                             .grid_width = sizes->eagle_width / eagle->patch_size,
                             .grid_height = sizes->eagle_height / eagle->patch_size,
                             .mean = VALLEY_CLIP_MEAN,
                             .deviation = VALLEY_CLIP_DEVIATION };
}

gsize
valley_patches_stride (const ValleyBackend *backend, const ValleyPatchShape *shape)
{
  const gsize cols = 3 * shape->times * shape->size * shape->size;
  const gsize quantum = backend->activations == VALLEY_F32 ? 1 : 8;

  return (cols + quantum - 1) / quantum * quantum;
}

static void
patches_init (ValleyStream *stream, ValleyTensor *patches, const ValleyPatchShape *shape)
{
  valley_activations_init (stream, patches, shape->grid_width * shape->grid_height,
                           valley_patches_stride (stream->backend, shape));
  patches->cols = 3 * shape->times * shape->size * shape->size;
}

static void
no_memory (ValleyStream *stream)
{
  valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory for a picture's patches");
}

/* Memory on the host for as many numbers as @patches has; NULL: the stream's error says so. */
static float *
host_patches (ValleyStream *stream, const ValleyTensor *patches)
{
  float *host = valley_alloc (patches->rows, patches->cols * sizeof *host);

  if (host == NULL)
    no_memory (stream);
  return host;
}

/* What painting left, once; later a picture is cut anew. */
static gboolean
take_painted (ValleyDevicePicture *device, guint i, ValleyTensor *patches)
{
  g_mutex_lock (&device->lock);
  *patches = device->images[i].patches;
  device->images[i].patches = (ValleyTensor){ 0 };
  g_mutex_unlock (&device->lock);
  return patches->memory != NULL;
}

static void
patches_from_device (ValleyStream *stream, ValleyDevicePicture *device, guint i,
                     const ValleyPatchShape *shape, ValleyTensor *patches)
{
  const ValleyDeviceImage *image = &device->images[i];

  if (take_painted (device, i, patches))
    return;
  patches_init (stream, patches, shape);
  stream->ops->pictures->patches (stream, patches, image->rgb, image->width, shape);
}

/* The host's bytes cross as they are: a fourth of the numbers', or half. */
static void
patches_from_host (ValleyStream *stream, const guint8 *rgb, gsize width, gsize height,
                   const ValleyPatchShape *shape, ValleyTensor *patches)
{
  gsize bytes = 3 * width * height;
  ValleyMemory *memory = stream->ops->memory_new (stream->backend, bytes);

  patches_init (stream, patches, shape);
  if (memory == NULL) {
    no_memory (stream);
    return;
  }
  stream->ops->pictures->upload (stream, memory, rgb, bytes);
  stream->ops->pictures->patches (stream, patches, memory, width, shape);
  stream->ops->memory_free (stream->backend, memory);
}

void
valley_patches_for_siglip (const ValleyModel *model, ValleyStream *stream,
                           const ValleyPicture *picture, guint tile, ValleyTensor *patches)
{
  const ValleySiglipConfig *c = &model->config->siglip;
  ValleyPatchShape shape = valley_siglip_patch_shape (c);
  gsize side = c->image_size, at = tile * 3 * side * side;
  g_autofree float *host = NULL;

  if (picture->device != NULL) {
    patches_from_device (stream, picture->device, VALLEY_SIGLIP_IMAGE, &shape, patches);
    return;
  }
  if (stream->ops->pictures != NULL) {
    patches_from_host (stream, picture->siglip_rgb + at, side, side, &shape, patches);
    return;
  }
  patches_init (stream, patches, &shape);
  host = host_patches (stream, patches);
  if (host == NULL)
    return;
  valley_siglip_patches (c, picture->siglip_rgb + at, host);
  stream->ops->upload (stream, patches, host);
}

void
valley_patches_for_eagle (const ValleyModel *model, ValleyStream *stream,
                          const ValleyPicture *picture, ValleyTensor *patches, gint32 *positions)
{
  const ValleyEagleConfig *c = &model->config->eagle;
  const ValleyInputSizes *s = &picture->sizes;
  ValleyPatchShape shape = valley_eagle_patch_shape (c, s);
  g_autofree float *host = NULL;

  valley_eagle_positions (c, s->eagle_width, s->eagle_height, positions);
  if (picture->device != NULL) {
    patches_from_device (stream, picture->device, VALLEY_EAGLE_IMAGE, &shape, patches);
    return;
  }
  if (stream->ops->pictures != NULL) {
    patches_from_host (stream, picture->eagle_rgb, s->eagle_width, s->eagle_height, &shape,
                       patches);
    return;
  }
  patches_init (stream, patches, &shape);
  host = host_patches (stream, patches);
  if (host == NULL)
    return;
  valley_eagle_patches (c, picture->eagle_rgb, s->eagle_width, s->eagle_height, host);
  stream->ops->upload (stream, patches, host);
}
