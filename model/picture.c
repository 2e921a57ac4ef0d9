/* picture.c - one frame, or one tiled still, as the towers see it: 8-bit RGB at their sizes.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "alloc.h"
#include "engine.h"
#include "reduction.h"

static gsize
rgb_bytes (gsize width, gsize height)
{
  return 3 * width * height; /* sides are at most 65535 */
}

static gboolean
input_sizes (const ValleyConfig *config, guint width, guint height, gsize max_pixels,
             const ValleyReduction *reduction, ValleyInputSizes *sizes, GError **error)
{
  *sizes = (ValleyInputSizes){ 0 };
  if (width == 0 || height == 0 || width > 65535 || height > 65535) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "a picture of %u x %u; expected sides from 1 to 65535", width, height);
    return FALSE;
  }
  if (config->has_siglip)
    sizes->siglip_width = sizes->siglip_height = (guint) config->siglip.image_size;
  if (config->has_eagle
      && !valley_smart_resize (&config->eagle, width, height, max_pixels, &sizes->eagle_width,
                               &sizes->eagle_height, error))
    return FALSE;
  return valley_reduction_check (reduction, error)
         && valley_reduction_apply (config, reduction, width, height, sizes, error);
}

gboolean
valley_model_input_sizes (ValleyModel *model, guint width, guint height,
                          const ValleyReduction *reduction, ValleyInputSizes *sizes, GError **error)
{
  return input_sizes (model->config, width, height, model->config->eagle.frame_max_pixels,
                      reduction, sizes, error);
}

static gboolean
no_memory (GError **error)
{
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY, "not enough memory for a picture");
  return FALSE;
}

static gboolean
check_reduction (const ValleyConfig *config, const ValleyInputSizes *sizes, GError **error)
{
  gsize side = valley_reduction_grid_side (config);

  if (sizes->siglip_side > side) {
    g_set_error (
        error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
        "the SigLIP tokens are to be pooled to %u a side; expected at most %" G_GSIZE_FORMAT
        ", as this model makes",
        sizes->siglip_side, side);
    return FALSE;
  }
  if (!(sizes->drop_threshold >= 0 && sizes->drop_threshold <= 1)) {
    g_set_error (
        error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
        "a threshold of %g to drop tokens; expected a cosine from 0 (none is dropped) to 1",
        sizes->drop_threshold);
    return FALSE;
  }
  return TRUE;
}

/* Sizes may come from a caller's own arithmetic: they must be what a tower can take. */
gboolean
valley_picture_check_sizes (const ValleyConfig *config, const ValleyInputSizes *sizes,
                            gsize max_pixels, GError **error)
{
  gsize side = config->has_siglip ? config->siglip.image_size : 0;
  gsize unit = config->eagle.patch_size * config->eagle.spatial_merge_size;

  if (sizes->siglip_width != side || sizes->siglip_height != side) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "the SigLIP input is %u x %u; expected %" G_GSIZE_FORMAT " x %" G_GSIZE_FORMAT,
                 sizes->siglip_width, sizes->siglip_height, side, side);
    return FALSE;
  }
  if (config->has_eagle ? sizes->eagle_width == 0 || sizes->eagle_height == 0
                              || sizes->eagle_width % unit != 0 || sizes->eagle_height % unit != 0
                              || sizes->eagle_width > max_pixels / sizes->eagle_height
                        : sizes->eagle_width != 0 || sizes->eagle_height != 0) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "the Eagle input is %u x %u; expected multiples of %" G_GSIZE_FORMAT
                 " of at most %" G_GSIZE_FORMAT " pixels, as valley_model_input_sizes gives them",
                 sizes->eagle_width, sizes->eagle_height, unit, max_pixels);
    return FALSE;
  }
  return check_reduction (config, sizes, error);
}

gboolean
valley_picture_fits (const ValleyPicture *picture, const ValleyModel *model, GError **error)
{
  gsize side = valley_config_tile_side (model->config, picture->n_tiles);

  if (picture->device != NULL && picture->device->model != model) {
    if (valley_model_is_lost (picture->device->model))
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                   "a frame in the memory of %s was lost when the device failed",
                   valley_model_device (picture->device->model));
    else
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                   "the picture lies on the device of another model; expected one for this model");
    return FALSE;
  }
  if (picture->n_tiles > 1 && picture->token_side != side) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "the picture's tiles are for %" G_GSIZE_FORMAT
                 " tokens a side; expected %" G_GSIZE_FORMAT ", as this model makes",
                 picture->token_side, side);
    return FALSE;
  }
  return valley_picture_check_sizes (model->config, &picture->sizes,
                                     model->config->eagle.max_pixels, error);
}

/* An empty picture with room for its pixels. */
static ValleyPicture *
picture_alloc (guint64 pts_ns, const ValleyInputSizes *sizes, guint n_tiles, GError **error)
{
  ValleyPicture *picture = g_new0 (ValleyPicture, 1);
  gsize tile = rgb_bytes (sizes->siglip_width, sizes->siglip_height);
  gsize eagle = rgb_bytes (sizes->eagle_width, sizes->eagle_height);

  picture->refs = 1;
  picture->pts_ns = pts_ns;
  picture->sizes = *sizes;
  picture->n_tiles = tile > 0 ? n_tiles : 0;
  picture->siglip_rgb = valley_alloc (1, picture->n_tiles * tile);
  picture->eagle_rgb = valley_alloc (1, eagle);
  if ((picture->n_tiles > 0 && picture->siglip_rgb == NULL)
      || (eagle > 0 && picture->eagle_rgb == NULL)) {
    valley_picture_unref (picture);
    no_memory (error);
    return NULL;
  }
  return picture;
}

ValleyPicture *
valley_picture_new (ValleyModel *model, guint64 pts_ns, const ValleyInputSizes *sizes,
                    const guint8 *siglip_rgb, const guint8 *eagle_rgb, GError **error)
{
  ValleyPicture *picture;

  if (!valley_picture_check_sizes (model->config, sizes, model->config->eagle.max_pixels, error))
    return NULL;
  if ((model->config->has_siglip && siglip_rgb == NULL)
      || (model->config->has_eagle && eagle_rgb == NULL)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "pixels are missing; expected them for each tower that the model has");
    return NULL;
  }
  picture = picture_alloc (pts_ns, sizes, 1, error);
  if (picture == NULL)
    return NULL;
  if (picture->siglip_rgb != NULL)
    memcpy (picture->siglip_rgb, siglip_rgb, rgb_bytes (sizes->siglip_width, sizes->siglip_height));
  if (picture->eagle_rgb != NULL)
    memcpy (picture->eagle_rgb, eagle_rgb, rgb_bytes (sizes->eagle_width, sizes->eagle_height));
  return picture;
}

/* For the towers that the model has. */
static gboolean
resize_for_towers (const ValleyPicture *picture, const ValleyRgbImage *image)
{
  const ValleyInputSizes *s = &picture->sizes;
  ValleyVideoOutput outputs[2];
  guint n = 0;

  if (picture->siglip_rgb != NULL)
    outputs[n++] = (ValleyVideoOutput){ picture->siglip_rgb, s->siglip_width, s->siglip_height };
  if (picture->eagle_rgb != NULL)
    outputs[n++] = (ValleyVideoOutput){ picture->eagle_rgb, s->eagle_width, s->eagle_height };
  return valley_image_resize_rgb (image, outputs, n);
}

static ValleyPicture *
picture_from_rgb (ValleyModel *model, guint64 pts_ns, const guint8 *rgb, gsize stride_bytes,
                  guint width, guint height, gsize max_pixels, const ValleyReduction *reduction,
                  GError **error)
{
  const ValleyRgbImage image = { rgb, stride_bytes, width, height, 3, { 0, 1, 2 } };
  ValleyPicture *picture;
  ValleyInputSizes s;

  if (!input_sizes (model->config, width, height, max_pixels, reduction, &s, error))
    return NULL;
  picture = picture_alloc (pts_ns, &s, 1, error);
  if (picture == NULL)
    return NULL;
  if (resize_for_towers (picture, &image))
    return picture;
  valley_picture_unref (picture);
  no_memory (error);
  return NULL;
}

ValleyPicture *
valley_picture_new_from_rgb (ValleyModel *model, guint64 pts_ns, const guint8 *rgb,
                             gsize stride_bytes, guint width, guint height,
                             const ValleyReduction *reduction, GError **error)
{
  return picture_from_rgb (model, pts_ns, rgb, stride_bytes, width, height,
                           model->config->eagle.frame_max_pixels, reduction, error);
}

/* The official code puts the tiles' tokens side by side as squares of num_patches_per_side. */
static gboolean
check_token_grid (const ValleyConfig *config, gsize n_tiles, GError **error)
{
  gsize side = valley_config_tile_side (config, n_tiles), wanted = config->patches_per_side;
  gsize n = config->n_compressors;

  if (side > 0 && (wanted == 0 || wanted == side))
    return TRUE;
  if (side > 0)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG,
                 "%s/config.json: \"num_patches_per_side\" is %" G_GSIZE_FORMAT
                 "; expected %" G_GSIZE_FORMAT " for a picture of %" G_GSIZE_FORMAT " tiles",
                 config->dir, wanted, side, n_tiles);
  else
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG,
                 "%s/config.json: \"%s\" %s \"%s\"; expected what leaves a square grid of tokens "
                 "for each of a picture's %" G_GSIZE_FORMAT
                 " tiles (\"anyres\"); frames of video need none",
                 config->dir, n > 0 ? "token_compressor_config" : "mm_projector_type",
                 n > 0 ? "ends with" : "is",
                 n > 0 ? config->compressors[n - 1].name : config->connector.name, n_tiles);
  return FALSE;
}

ValleyPicture *
valley_picture_new_tiled (ValleyModel *model, const guint8 *rgb, gsize stride_bytes, guint width,
                          guint height, GError **error)
{
  const ValleyConfig *config = model->config;
  ValleyPicture *picture = picture_from_rgb (model, 0, rgb, stride_bytes, width, height,
                                             config->eagle.max_pixels, NULL, error);

  if (picture == NULL)
    return NULL;
  picture->is_tiled = TRUE;
  if (!config->anyres || !config->has_siglip)
    return picture;
  valley_tiling_choose (config, width, height, &picture->tiling);
  picture->n_tiles = picture->tiling.rows * picture->tiling.cols + 1;
  if (!check_token_grid (config, picture->n_tiles, error)) {
    valley_picture_unref (picture);
    return NULL;
  }
  valley_tiling_unpad (config, &picture->tiling, width, height, &picture->unpad);
  picture->token_side = valley_config_tile_side (config, picture->n_tiles);
  g_free (picture->siglip_rgb);
  picture->siglip_rgb
      = valley_tiling_cut (config, &picture->tiling, rgb, stride_bytes, width, height);
  if (picture->siglip_rgb == NULL) {
    valley_picture_unref (picture);
    no_memory (error);
    return NULL;
  }
  return picture;
}

ValleyPicture *
valley_picture_ref (ValleyPicture *picture)
{
  g_atomic_int_inc (&picture->refs);
  return picture;
}

void
valley_picture_unref (ValleyPicture *picture)
{
  if (picture == NULL || !g_atomic_int_dec_and_test (&picture->refs))
    return;
  g_free (picture->siglip_rgb);
  g_free (picture->eagle_rgb);
  valley_device_picture_free (picture->device);
  g_free (picture);
}

guint64
valley_picture_pts_ns (const ValleyPicture *picture)
{
  return picture->pts_ns;
}

gsize
valley_picture_bytes (const ValleyPicture *picture)
{
  return sizeof *picture
         + picture->n_tiles * rgb_bytes (picture->sizes.siglip_width, picture->sizes.siglip_height)
         + rgb_bytes (picture->sizes.eagle_width, picture->sizes.eagle_height)
         + (picture->device != NULL ? picture->device->patch_bytes : 0);
}
