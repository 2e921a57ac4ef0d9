/* devicepicture.c - pictures of frames that lie in the model's device: they stay there.
 * SPDX-License-Identifier: Apache-2.0 */
#include "patches.h"

static gboolean
check_frame (const ValleyDeviceFrame *frame, GError **error)
{
  if ((frame->video != NULL) != (frame->rgb != NULL))
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
               "a frame on the device has %s; expected planes of video, or RGB",
               frame->video != NULL ? "both" : "no pixels");
  return FALSE;
}

static ValleyPicture *
picture_new (ValleyModel *model, guint64 pts_ns, const ValleyInputSizes *sizes)
{
  ValleyPicture *picture = g_new0 (ValleyPicture, 1);
  ValleyDevicePicture *device = g_new0 (ValleyDevicePicture, 1);

  picture->refs = 1;
  picture->pts_ns = pts_ns;
  picture->sizes = *sizes;
  picture->n_tiles = model->config->has_siglip ? 1 : 0;
  picture->device = device;
  device->model = valley_model_ref (model);
  g_mutex_init (&device->lock);
  device->images[VALLEY_SIGLIP_IMAGE]
      = (ValleyDeviceImage){ .width = sizes->siglip_width, .height = sizes->siglip_height };
  device->images[VALLEY_EAGLE_IMAGE]
      = (ValleyDeviceImage){ .width = sizes->eagle_width, .height = sizes->eagle_height };
  return picture;
}

/* Counted for as long as the picture lives: what counts it expects the same number every time. */
static gsize
patch_bytes (const ValleyDevicePicture *device)
{
  gsize bytes = 0;

  for (guint i = 0; i < VALLEY_N_IMAGES; i++) {
    const ValleyTensor *patches = &device->images[i].patches;

    bytes += patches->rows * patches->cols * valley_dtype_bytes (patches->dtype);
  }
  return bytes;
}

void
valley_device_picture_free (ValleyDevicePicture *device)
{
  if (device == NULL)
    return;
  for (guint i = 0; i < VALLEY_N_IMAGES; i++)
    valley_device_image_clear (&device->images[i], device->model->backend);
  g_mutex_clear (&device->lock);
  valley_model_unref (device->model);
  g_free (device);
}

ValleyPicture *
valley_picture_new_from_device (ValleyModel *model, guint64 pts_ns, const ValleyInputSizes *sizes,
                                const ValleyDeviceFrame *frame, GError **error)
{
  const ValleyConfig *config = model->config;
  ValleyPatchShape shapes[VALLEY_N_IMAGES] = { { 0 } };
  ValleyPainter *painter;
  ValleyPicture *picture;

  if (!check_frame (frame, error)
      || !valley_picture_check_sizes (config, sizes, config->eagle.max_pixels, error))
    return NULL;
  painter = valley_model_painter (model, error);
  if (painter == NULL)
    return NULL;
  if (config->has_siglip)
    shapes[VALLEY_SIGLIP_IMAGE] = valley_siglip_patch_shape (&config->siglip);
  if (config->has_eagle)
    shapes[VALLEY_EAGLE_IMAGE] = valley_eagle_patch_shape (&config->eagle, sizes);
  picture = picture_new (model, pts_ns, sizes);
  if (valley_painter_paint (painter, frame, picture->device->images, shapes, VALLEY_N_IMAGES,
                            picture->device->fingerprints, error)) {
    picture->device->patch_bytes = patch_bytes (picture->device);
    return picture;
  }
  valley_picture_unref (picture);
  return NULL;
}

gboolean
valley_device_pictures_compare (const ValleyDevicePicture *a, const ValleyDevicePicture *b,
                                guint64 *sum, GError **error)
{
  ValleyPainter *painter = valley_model_painter (a->model, error);

  return painter != NULL
         && valley_painter_compare (painter, a->images, b->images, VALLEY_N_IMAGES, sum, error);
}
