/* config.c - fuzz target: config.json, and after a NUL byte generation_config.json.  What is
 * taken must also be harmless to those who calculate with it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fuzz.h"
#include "image.h"
#include "json.h"

static void
try_sizes (const ValleyConfig *config)
{
  static const guint sides[] = { 1, 7, 384, 1920, 65535 };

  for (gsize i = 0; i < G_N_ELEMENTS (sides) * G_N_ELEMENTS (sides); i++) {
    guint width = sides[i % G_N_ELEMENTS (sides)], height = sides[i / G_N_ELEMENTS (sides)];
    guint out_width, out_height;
    ValleyTiling tiling;
    ValleyUnpad unpad;

    if (config->has_eagle
        && valley_smart_resize (&config->eagle, width, height, config->eagle.frame_max_pixels,
                                &out_width, &out_height, NULL)
        && (out_width == 0 || out_height == 0
            || (gsize) out_width * out_height > config->eagle.frame_max_pixels))
      g_error ("%u x %u becomes %u x %u", width, height, out_width, out_height);
    if (!config->has_siglip)
      continue;
    valley_tiling_choose (config, width, height, &tiling);
    valley_tiling_unpad (config, &tiling, width, height, &unpad);
  }
}

gboolean
fuzz_target (const guint8 *data, gsize size)
{
  gsize first = fuzz_first_part (data, size);
  const char *dir = fuzz_dir ();
  GError *error = NULL;
  JsonObject *root;
  ValleyConfig *config;

  /* From memory, where a byte too far is seen; a mapped file ends in a page of zeros. */
  root = valley_json_parse ((const char *) data, first, "config.json", &error);
  if (!fuzz_verdict (root != NULL, error, "config.json"))
    return FALSE;
  json_object_unref (root);

  error = NULL;
  fuzz_write ("config.json", data, first);
  fuzz_write ("generation_config.json", first < size ? data + first + 1 : (const guint8 *) "{}",
              first < size ? size - first - 1 : 2);
  config = valley_config_read (dir, &error);
  if (config != NULL)
    try_sizes (config);
  fuzz_verdict (config != NULL, error, "config.json");
  valley_config_free (config);
  return config != NULL;
}
