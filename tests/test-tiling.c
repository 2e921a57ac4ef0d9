/* test-tiling.c - how a lone picture is cut, unpadded and pooled, against numbers and tiles
 * from tools/reference/ (its own arithmetic, Pillow's pixels).
 *
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include "reftensors.h"

#include "image.h"

/* The columns of images.safetensors' "tiling". */
enum {
  WIDTH,
  HEIGHT,
  CROP,
  SIDE,
  MAX_VISION_TOKEN,
  COLUMNS,
  ROWS,
  SCALED_WIDTH,
  SCALED_HEIGHT,
  PAD_LEFT,
  PAD_TOP,
  FIRST_ROW,
  N_ROWS,
  FIRST_COLUMN,
  N_COLUMNS,
  POOLED_ROWS,
  POOLED_COLUMNS,
  N_FIELDS
};

static RefFile *
read_golden (const char *name)
{
  g_autofree char *path = g_build_filename (g_getenv ("GOLDEN_DIR"), name, NULL);
  GError *error = NULL;
  RefFile *file = ref_file_read (path, &error);

  g_assert_no_error (error);
  return file;
}

static void
check (const gint32 *row, const char *what, guint got, int field)
{
  if (got != (guint) row[field])
    g_test_fail_printf ("%dx%d, tiles of %d: %s is %u, expected %d", row[WIDTH], row[HEIGHT],
                        row[CROP], what, got, row[field]);
}

static void
test_numbers (void)
{
  g_autoptr (RefFile) file = read_golden ("images.safetensors");
  const RefTensor *cases = ref_file_get (file, "tiling", REF_I32, 2);

  g_assert_nonnull (cases);
  g_assert_cmpuint (cases->shape[0], >, 100);
  g_assert_cmpuint (cases->shape[1], ==, N_FIELDS);
  for (gsize i = 0; i < cases->shape[0]; i++) {
    const gint32 *row = (const gint32 *) cases->data + i * N_FIELDS;
    ValleyConfig config = { .crop_size = row[CROP],
                            .grid_max_rows = 3,
                            .grid_max_cols = 3,
                            .max_vision_token = row[MAX_VISION_TOKEN],
                            .connector = { .n_tokens = row[SIDE] * row[SIDE] } };
    ValleyTiling tiling;
    ValleyUnpad unpad;

    valley_tiling_choose (&config, row[WIDTH], row[HEIGHT], &tiling);
    check (row, "columns", tiling.cols, COLUMNS);
    check (row, "rows", tiling.rows, ROWS);
    check (row, "scaled_width", tiling.scaled_width, SCALED_WIDTH);
    check (row, "scaled_height", tiling.scaled_height, SCALED_HEIGHT);
    check (row, "pad_left", tiling.pad_left, PAD_LEFT);
    check (row, "pad_top", tiling.pad_top, PAD_TOP);

    valley_tiling_unpad (&config, &tiling, row[WIDTH], row[HEIGHT], &unpad);
    check (row, "first_row", unpad.first_row, FIRST_ROW);
    check (row, "n_rows", unpad.n_rows, N_ROWS);
    check (row, "first_col", unpad.first_col, FIRST_COLUMN);
    check (row, "n_cols", unpad.n_cols, N_COLUMNS);
    check (row, "pooled_rows", unpad.pooled_rows, POOLED_ROWS);
    check (row, "pooled_cols", unpad.pooled_cols, POOLED_COLUMNS);
  }
}

static void
test_tiles (void)
{
  g_autoptr (RefFile) file = read_golden ("image-tiled/activations.safetensors");
  g_autofree char *dir = g_build_filename (g_getenv ("GOLDEN_DIR"), "image-tiled", NULL);
  const RefTensor *rgb = ref_file_get (file, "image.rgb", REF_U8, 3);
  GError *error = NULL;
  ValleyConfig *config = valley_config_read (dir, &error);
  ValleyTiling tiling;

  g_assert_no_error (error);
  g_assert_nonnull (rgb);
  guint width = rgb->shape[1], height = rgb->shape[0];
  valley_tiling_choose (config, width, height, &tiling);
  g_autofree guint8 *tiles
      = valley_tiling_cut (config, &tiling, rgb->data, width * 3, width, height);
  g_assert_nonnull (tiles);

  guint n_tiles = 1 + tiling.rows * tiling.cols;
  for (guint i = 0; i < n_tiles; i++) {
    g_autofree char *name = g_strdup_printf ("tile.%u.pixels", i);
    const RefTensor *tile = ref_file_get (file, name, REF_U8, 3);
    g_assert_nonnull (tile);
    g_assert_cmpuint (tile->shape[0], ==, config->crop_size);
    g_assert_cmpmem (tiles + i * tile->bytes, tile->bytes, tile->data, tile->bytes);
  }
  g_autofree char *beyond = g_strdup_printf ("tile.%u.pixels", n_tiles);
  g_assert_null (ref_file_get (file, beyond, REF_U8, 3));
  valley_config_free (config);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  g_test_add_func ("/tiling/numbers", test_numbers);
  g_test_add_func ("/tiling/tiles", test_tiles);
  return g_test_run ();
}
