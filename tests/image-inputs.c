/* image-inputs.c - what the towers get for a picture, for tools/reference/image_table.py.
 *
 *   image-inputs MODEL frame|still WIDTH HEIGHT < RGB bytes > patch rows
 *
 * MODEL needs no more than a config.json.  Prints a line "TILES SIGLIP_ROWS SIGLIP_COLUMNS
 * EAGLE_WIDTH EAGLE_HEIGHT EAGLE_ROWS EAGLE_COLUMNS", then every tile's rows and the Qwen2-VL
 * tower's as float32.  Built, not run by the suite.
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
write_siglip (const ValleySiglipConfig *siglip, const ValleyPicture *picture)
{
  gsize n = siglip->side * siglip->side * 3 * siglip->patch_size * siglip->patch_size;
  g_autofree float *rows = g_new (float, n);

  for (gsize tile = 0; tile < picture->n_tiles; tile++) {
    valley_siglip_patches (
        siglip, picture->siglip_rgb + tile * 3 * siglip->image_size * siglip->image_size, rows);
    fwrite (rows, sizeof *rows, n, stdout);
  }
}

static void
write_inputs (const ValleyConfig *config, const ValleyPicture *picture)
{
  const ValleySiglipConfig *siglip = &config->siglip;
  const ValleyEagleConfig *eagle = &config->eagle;
  guint width = picture->sizes.eagle_width, height = picture->sizes.eagle_height;
  gsize n_rows = (gsize) (width / eagle->patch_size) * (height / eagle->patch_size);
  gsize n_columns = 3 * eagle->temporal_patch_size * eagle->patch_size * eagle->patch_size;
  g_autofree float *rows = g_new (float, n_rows *n_columns);

  printf ("%u %zu %zu %u %u %zu %zu\n", picture->n_tiles, siglip->side * siglip->side,
          3 * siglip->patch_size * siglip->patch_size, width, height, n_rows, n_columns);
  write_siglip (siglip, picture);
  valley_eagle_patches (eagle, picture->eagle_rgb, width, height, rows);
  fwrite (rows, sizeof *rows, n_rows * n_columns, stdout);
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  g_autofree guint8 *rgb = NULL;
  ValleyModel *model;
  ValleyPicture *picture = NULL;
  guint width = argc == 5 ? (guint) atoi (argv[3]) : 0,
        height = argc == 5 ? (guint) atoi (argv[4]) : 0;
  gsize bytes = 3 * (gsize) width * height;

  if (width < 1 || height < 1) {
    fprintf (stderr, "usage: image-inputs MODEL frame|still WIDTH HEIGHT\n");
    return 2;
  }
  rgb = g_malloc (bytes);
  model = valley_model_open (argv[1], NULL, &error);
  if (model != NULL && fread (rgb, 1, bytes, stdin) == bytes)
    picture = strcmp (argv[2], "still") == 0
                  ? valley_picture_new_tiled (model, rgb, 3 * width, width, height, &error)
                  : valley_picture_new_from_rgb (model, 0, rgb, 3 * width, width, height, NULL,
                                                 &error);
  if (picture == NULL) {
    fprintf (stderr, "image-inputs: %s\n", error != NULL ? error->message : "too few bytes");
    return 1;
  }
  write_inputs (model->config, picture);
  valley_picture_unref (picture);
  valley_model_unref (model);
  return 0;
}
