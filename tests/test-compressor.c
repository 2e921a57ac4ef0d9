/* test-compressor.c - token compressors inside the engine: a tiled picture whose tiles have been
 * compressed, pictures that cannot be put together, frames that keep what they like.  What the
 * compressors compute is test-connector.c's matter.
 *
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "engine-fixture.h"
#include "npy.h"
#include "reftensors.h"
#include "scratch.h"

#define TOLERANCE 1e-6

/* A copy of the golden @name whose config.json has each @from replaced by its @to. */
static char *
changed (const char *name, const char *const (*changes)[2], gsize n)
{
  g_autofree char *golden = golden_dir (name),
                  *path = g_build_filename (golden, "config.json", NULL);
  g_autofree char *text = NULL;
  g_autoptr (GString) config = NULL;
  char *dir = scratch_new ();

  scratch_copy (dir, golden);
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  config = g_string_new (text);
  for (gsize i = 0; i < n; i++)
    g_assert_cmpuint (g_string_replace (config, changes[i][0], changes[i][1], 0), ==, 1);
  scratch_write (dir, "config.json", config->str, config->len);
  return dir;
}

/* ---- tiled pictures ---- */

typedef struct {
  const char *path;
  const char *list;    /* token_compressor_config */
  const char *patches; /* num_patches_per_side */
  const char *limit;   /* config.json's max_vision_token */
  gsize side;          /* of a tile's tokens */
} Tiled;

/* The golden's picture makes 7 tiles of 3 x 3 tokens. */
#define ROIPOOL(limit, mode)                                                                       \
  "[{\"type\":\"roipool\",\"params\":{\"max_vision_token\":\"" limit "\",\"mode\":\"" mode "\"}}]"
static const Tiled tiled[] = {
  { "single", ROIPOOL ("4", "single"), "2", "1000", 2 },
  { "pooled-again", ROIPOOL ("2*4", "single"), "2", "10", 2 },
  { "multiple", ROIPOOL ("5*7", "multiple"), "2", "1000", 2 },
  { "multiple-one", ROIPOOL ("2*10", "multiple"), "1", "1000", 1 },
  { "enough", ROIPOOL ("9*7", "multiple"), "3", "1000", 3 },
  { "avgpool", "[{\"type\":\"avgpool\",\"params\":{\"scale\":3}}]", "1", "1000", 1 },
};

/* A grid of rows in double precision. */
typedef struct {
  gsize height, width, cols;
  double *cells;
} Grid;

static Grid
grid_new (gsize height, gsize width, gsize cols)
{
  return (Grid){ height, width, cols, g_new0 (double, height *width *cols) };
}

static double *
cell (const Grid *grid, gsize y, gsize x)
{
  return grid->cells + (y * grid->width + x) * grid->cols;
}

/* Means over bins floor(i S/P) ... ceil((i+1) S/P); the grid that comes in is freed. */
static Grid
average (Grid in, gsize height, gsize width)
{
  Grid out = grid_new (height, width, in.cols);

  for (gsize y = 0; y < height; y++)
    for (gsize x = 0; x < width; x++) {
      gsize top = y * in.height / height, bottom = (gsize) ceil ((y + 1.0) * in.height / height);
      gsize left = x * in.width / width, right = (gsize) ceil ((x + 1.0) * in.width / width);

      for (gsize i = top; i < bottom; i++)
        for (gsize j = left; j < right; j++)
          for (gsize c = 0; c < in.cols; c++)
            cell (&out, y, x)[c] += cell (&in, i, j)[c] / ((bottom - top) * (right - left));
    }
  g_free (in.cells);
  return out;
}

static NpyMatrix
read_stage (const char *dir, const char *stage)
{
  g_autofree char *path = g_strdup_printf ("%s/%s.npy", dir, stage);
  GError *error = NULL;
  NpyMatrix matrix;

  npy_read (path, &matrix, &error);
  g_assert_no_error (error);
  return matrix;
}

/* What left the connector for one tile, pooled to @side. */
static Grid
tile_grid (const char *dump_dir, gsize tile, gsize side)
{
  g_autofree char *stage = g_strdup_printf ("frame.%" G_GSIZE_FORMAT ".connector", tile);
  NpyMatrix tokens = read_stage (dump_dir, stage);
  Grid grid = grid_new (3, 3, tokens.cols);

  g_assert_cmpuint (tokens.rows, ==, 9);
  for (gsize i = 0; i < 9 * tokens.cols; i++)
    grid.cells[i] = tokens.data[i];
  g_free (tokens.data);
  return average (grid, side, side);
}

/* The grid's tiles side by side, without the padding, pooled to what the limit leaves. */
static Grid
assembled (const char *dump_dir, const ValleyPicture *picture, gsize side)
{
  const ValleyUnpad *u = &picture->unpad;
  Grid out = { 0 };

  for (gsize row = 0; row < picture->tiling.rows; row++)
    for (gsize col = 0; col < picture->tiling.cols; col++) {
      Grid tile = tile_grid (dump_dir, 1 + row * picture->tiling.cols + col, side);

      if (out.cells == NULL)
        out = grid_new (u->n_rows, u->n_cols, tile.cols);
      for (gsize y = 0; y < out.height; y++)
        for (gsize x = 0; x < out.width; x++) {
          gsize from_y = u->first_row + y, from_x = u->first_col + x;

          if (from_y / side == row && from_x / side == col)
            memcpy (cell (&out, y, x), cell (&tile, from_y % side, from_x % side),
                    out.cols * sizeof (double));
        }
      g_free (tile.cells);
    }
  return average (out, u->pooled_rows, u->pooled_cols);
}

static void
check_rows (const NpyMatrix *got, gsize first, const Grid *want)
{
  for (gsize i = 0; i < want->height * want->width * want->cols; i++)
    g_assert_true (fabs (got->data[first * want->cols + i] - want->cells[i]) <= TOLERANCE);
}

static ValleyPicture *
golden_picture (ValleyModel *model, GError **error)
{
  g_autofree char *dir = golden_dir ("image-tiled");
  g_autofree char *path = g_build_filename (dir, "activations.safetensors", NULL);
  g_autoptr (RefFile) file = ref_file_read (path, NULL);
  const RefTensor *rgb = ref_file_get (file, "image.rgb", REF_U8, 3);

  g_assert_nonnull (rgb);
  return valley_picture_new_tiled (model, rgb->data, 3 * rgb->shape[1], (guint) rgb->shape[1],
                                   (guint) rgb->shape[0], error);
}

static ValleySession *
open_session (ValleyModel *model, const char *dump_dir)
{
  GError *error = NULL;
  ValleySession *session;

  valley_model_load (model, NULL, &error);
  g_assert_no_error (error);
  session = valley_session_new (model, &(ValleySessionOptions){ .dump_dir = dump_dir }, &error);
  g_assert_no_error (error);
  return session;
}

static void
test_tiled (gconstpointer data)
{
  const Tiled *test = data;
  g_autofree char *list
      = g_strdup_printf ("\"anyres\": true, \"token_compressor_config\": %s", test->list);
  g_autofree char *patches = g_strdup_printf ("\"num_patches_per_side\": %s", test->patches);
  g_autofree char *limit = g_strdup_printf ("\"max_vision_token\": %s", test->limit);
  const char *const changes[][2] = { { "\"anyres\": true", list },
                                     { "\"num_patches_per_side\": 3", patches },
                                     { "\"max_vision_token\": 37", limit } };
  char *dir = changed ("image-tiled", changes, G_N_ELEMENTS (changes)), *dumps = scratch_new ();
  ValleyModel *model = open_model (dir, VALLEY_PRECISION_F32);
  ValleySession *session = open_session (model, dumps);
  GError *error = NULL;
  ValleyPicture *picture = golden_picture (model, &error);
  NpyMatrix tokens;
  Grid whole, rest;

  g_assert_no_error (error);
  g_assert_cmpuint (picture->n_tiles, ==, 7);
  valley_session_push (session, picture, FALSE, &error);
  g_assert_no_error (error);
  tokens = read_stage (dumps, "image.tokens");
  whole = tile_grid (dumps, 0, test->side);
  rest = assembled (dumps, picture, test->side);
  g_test_message ("%" G_GSIZE_FORMAT " x %" G_GSIZE_FORMAT " tokens behind %" G_GSIZE_FORMAT,
                  rest.height, rest.width, whole.height * whole.width);
  g_assert_cmpuint (tokens.rows, ==, whole.height * whole.width + rest.height * rest.width);
  g_assert_cmpuint (tokens.cols, ==, whole.cols);
  check_rows (&tokens, 0, &whole);
  check_rows (&tokens, whole.height * whole.width, &rest);
  g_free (tokens.data);
  g_free (whole.cells);
  g_free (rest.cells);
  valley_picture_unref (picture);
  valley_session_free (session);
  valley_model_unref (model);
  scratch_remove (dumps);
  scratch_remove (dir);
}

/* Of a line of pixels all of the grid's tokens are padding: tile 0 alone is left. */
static void
test_thin (void)
{
  const char *const changes[][2]
      = { { "\"anyres\": true",
            "\"anyres\": true, \"token_compressor_config\": " ROIPOOL ("4", "single") },
          { "\"num_patches_per_side\": 3", "\"num_patches_per_side\": 2" } };
  char *dir = changed ("image-tiled", changes, G_N_ELEMENTS (changes)), *dumps = scratch_new ();
  ValleyModel *model = open_model (dir, VALLEY_PRECISION_F32);
  ValleySession *session = open_session (model, dumps);
  guint8 rgb[3 * 400] = { 0 };

  for (guint upright = 0; upright < 2; upright++) {
    GError *error = NULL;
    ValleyPicture *picture = valley_picture_new_tiled (
        model, rgb, upright ? 3 : sizeof rgb, upright ? 1 : 400, upright ? 400 : 1, &error);
    NpyMatrix tokens;

    g_assert_no_error (error);
    g_assert_cmpuint (picture->unpad.n_rows * picture->unpad.n_cols, ==, 0);
    valley_session_reset (session);
    valley_session_push (session, picture, FALSE, &error);
    g_assert_no_error (error);
    tokens = read_stage (dumps, "image.tokens");
    g_assert_cmpuint (tokens.rows, ==, 4);
    g_free (tokens.data);
    valley_picture_unref (picture);
  }
  valley_session_free (session);
  valley_model_unref (model);
  scratch_remove (dumps);
  scratch_remove (dir);
}

/* ---- tokens that make no grid ---- */

typedef struct {
  const char *path;
  const char *from, *to; /* in the golden's config.json */
  const char *expected;
} Gridless;

#define ADD(item) "\"anyres\": true, \"token_compressor_config\": [" item "]"
static const Gridless gridless[] = {
  { "class-token", "\"ovis_conv_adapter\"", "\"linear\"", "\"mm_projector_type\" is \"linear\"" },
  { "pyramid", "\"ovis_conv_adapter\"", "\"adapt_pyrapooler\"",
    "\"mm_projector_type\" is \"adapt_pyrapooler\"" },
  { "evo", "\"anyres\": true", ADD ("{\"type\":\"evo\",\"params\":{\"prune_ratio\":0.6}}"),
    "\"token_compressor_config\" ends with \"evo\"" },
  { "lavit", "\"anyres\": true", ADD ("{\"type\":\"lavit\",\"params\":{}}"),
    "ends with \"lavit\"; expected" },
  { "other-side", "\"num_patches_per_side\": 3", "\"num_patches_per_side\": 4",
    "\"num_patches_per_side\" is 4; expected 3 for a picture of 7 tiles" },
};

/* A frame of video is one tile and needs no grid; so does a picture that is not cut. */
static void
test_gridless (gconstpointer data)
{
  const Gridless *test = data;
  const char *const change[][2] = { { test->from, test->to } };
  const char *const uncut[][2]
      = { { test->from, test->to }, { "\"anyres\": true", "\"anyres\": false" } };
  char *dir = changed ("image-tiled", change, 1), *uncut_dir = changed ("image-tiled", uncut, 2);
  ValleyModel *model = open_model (dir, VALLEY_PRECISION_F32);
  g_autoptr (GError) error = NULL;

  g_assert_null (golden_picture (model, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG);
  g_test_message ("%s", error->message);
  g_assert_nonnull (strstr (error->message, test->expected));
  g_clear_error (&error);
  valley_picture_unref (make_picture (model, 0));
  valley_model_unref (model);

  model = open_model (uncut_dir, VALLEY_PRECISION_F32);
  valley_picture_unref (golden_picture (model, &error));
  g_assert_no_error (error);
  valley_model_unref (model);
  scratch_remove (dir);
  scratch_remove (uncut_dir);
}

/* ---- frames that keep what they like ---- */

/* A second file with lavit's tensors, all zero but for the two classes' biases, and an index. */
static void
add_lavit (const char *dir, float keep, float drop)
{
  static const char *const names[][3] = {
    { "norm.weight", "[48]", "192" },         { "norm.bias", "[48]", "192" },
    { "out_conv.0.weight", "[2,48]", "384" }, { "out_conv.0.bias", "[2]", "8" },
    { "out_conv.2.weight", "[2,2]", "16" },   { "out_conv.2.bias", "[2]", "8" },
  };
  g_autoptr (GString) header = g_string_new ("{"), index = g_string_new ("{\"weight_map\":{");
  GError *error = NULL;
  ValleySafetensors *files = valley_safetensors_open (dir, &error);
  g_autofree char *from = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *to = g_build_filename (dir, "golden.safetensors", NULL);
  guint8 bytes[2048] = { 0 };
  guint64 length;
  gsize end = 0;

  g_assert_no_error (error);
  for (gsize i = 0; i < valley_safetensors_n_tensors (files); i++)
    g_string_append_printf (index, "\"%s\":\"golden.safetensors\",",
                            valley_safetensors_get (files, i)->name);
  valley_safetensors_free (files);
  g_assert_cmpint (g_rename (from, to), ==, 0); /* a lone file would win over the index */
  for (gsize i = 0; i < G_N_ELEMENTS (names); i++) {
    gsize start = end;

    end += g_ascii_strtoull (names[i][2], NULL, 10);
    g_string_append_printf (header,
                            "%s\"model.token_compressor.compressor_list.0.%s\":{\"dtype\":\"F32\","
                            "\"shape\":%s,\"data_offsets\":[%" G_GSIZE_FORMAT ",%" G_GSIZE_FORMAT
                            "]}",
                            i > 0 ? "," : "", names[i][0], names[i][1], start, end);
    g_string_append_printf (
        index, "%s\"model.token_compressor.compressor_list.0.%s\":\"lavit.safetensors\"",
        i > 0 ? "," : "", names[i][0]);
  }
  g_string_append_c (header, '}');
  g_string_append (index, "}}");
  length = GUINT64_TO_LE (header->len);
  memcpy (bytes, &length, 8);
  g_assert_cmpuint (8 + header->len + end, <=, sizeof bytes);
  memcpy (bytes + 8, header->str, header->len);
  memcpy (bytes + 8 + header->len + end - 8, &keep, 4);
  memcpy (bytes + 8 + header->len + end - 4, &drop, 4);
  scratch_write (dir, "lavit.safetensors", bytes, 8 + header->len + end);
  scratch_write (dir, "model.safetensors.index.json", index->str, index->len);
}

/* Vision tokens of two frames, and that an answer came. */
static guint
vision_tokens (const char *dir)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 3 };
  GError *error = NULL;
  guint n;
  Fixture f;

  fixture_open (&f, dir, VALLEY_PRECISION_F32);
  fixture_push_frames (&f, 0, 1);
  fixture_run (&f, &request, &error);
  g_assert_no_error (error);
  n = valley_session_result (f.session)->n_vision_tokens;
  fixture_close (&f);
  return n;
}

/* lavit may keep all of a frame, or nothing: then the Eagle tokens stand alone. */
static void
test_varying (void)
{
  static const char list[] = "\"anyres\": true, \"token_compressor_config\": "
                             "[{\"type\":\"lavit\",\"params\":{\"inner_dim\":2}}]";
  const char *const change[][2] = { { "\"anyres\": true", list } };
  char *plain = changed ("ovis-softmax", NULL, 0), *all = changed ("ovis-softmax", change, 1);
  char *none = changed ("ovis-softmax", change, 1);
  guint n;

  add_lavit (all, 1, 1);
  add_lavit (none, 0, 1);
  n = vision_tokens (plain);
  g_assert_cmpuint (vision_tokens (all), ==, n);
  g_assert_cmpuint (vision_tokens (none), ==, n - 2 * 9);
  scratch_remove (plain);
  scratch_remove (all);
  scratch_remove (none);
}

/* The same without the Eagle tower: an image slot may be left with nothing in it. */
static void
test_empty (void)
{
  const char *const change[][2]
      = { { "\"anyres\": true",
            "\"token_compressor_config\": [{\"type\":\"lavit\",\"params\":{\"inner_dim\":2}}]" },
          { "\"eagle_vision_tower\": \"Qwen/Qwen2-VL-7B-Instruct\"",
            "\"eagle_vision_tower\": null" } };
  char *dir = changed ("ovis-softmax", change, 2);

  add_lavit (dir, 0, 1);
  g_assert_cmpuint (vision_tokens (dir), ==, 0);
  scratch_remove (dir);
}

/* ---- the report ---- */

static void
test_inspect (void)
{
  const char *const change[][2]
      = { { "\"anyres\": true", ADD ("{\"type\":\"avgpool\",\"params\":{\"scale\":1}},"
                                     "{\"type\":\"lavit\",\"params\":{\"inner_dim\":2}}") } };
  char *dir = changed ("ovis-softmax", change, 1);
  gboolean complete;
  g_autofree char *text = valley_inspect (dir, FALSE, &complete, NULL);
  g_autofree char *json = valley_inspect (dir, TRUE, &complete, NULL);

  g_assert_false (complete); /* lavit's tensors */
  g_assert_nonnull (strstr (text, "ovis_conv_adapter + avgpool + lavit, at most 9 tokens a tile"));
  g_assert_nonnull (strstr (text, "Missing: model.token_compressor.compressor_list.1.norm.weight"));
  g_assert_nonnull (strstr (json, "\"ovis_conv_adapter + avgpool + lavit\""));
  scratch_remove (dir);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (tiled); i++) {
    g_autofree char *path = g_strconcat ("/compressor/tiled/", tiled[i].path, NULL);

    g_test_add_data_func (path, &tiled[i], test_tiled);
  }
  for (gsize i = 0; i < G_N_ELEMENTS (gridless); i++) {
    g_autofree char *path = g_strconcat ("/compressor/gridless/", gridless[i].path, NULL);

    g_test_add_data_func (path, &gridless[i], test_gridless);
  }
  g_test_add_func ("/compressor/thin", test_thin);
  g_test_add_func ("/compressor/varying", test_varying);
  g_test_add_func ("/compressor/empty", test_empty);
  g_test_add_func ("/compressor/inspect", test_inspect);
  return g_test_run ();
}
