/* test-connector.c - every connector and every token compressor, without a tower, against what
 * torch's modules give (tools/reference/connector_cases.py).  Weights and inputs are made here as
 * they are there; each case's config.json and weights are read from a folder like any other.
 *
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

#include "alloc.h"
#include "compare.h"
#include "cpu.h"
#include "engine.h"
#include "reftensors.h"
#include "scratch.h"
#include "which-device.h"

#define TOLERANCE 2e-5
#define BF16_TOLERANCE 1.5e-2

static RefFile *reference;
static JsonObject *common; /* keys of every config.json */

/* One case, loaded: its stages on a backend of its own. */
typedef struct {
  const char *name;
  JsonObject *test;
  char *dir;
  ValleyConfig *config;
  ValleySafetensors *files;
  ValleyBackend *backend;
  ValleyStream *stream;
  ValleyWeights *weights;
  ValleyConnector connector;
  ValleyCompressors compressors;
} Run;

typedef struct {
  float *values;
  gsize rows, cols;
} Tokens;

/* ---- numbers ---- */

/* What connector_cases.py calls `fill`. */
static float *
fill (guint64 seed, gsize n, double scale, double shift)
{
  float *out = g_new (float, n);

  for (gsize i = 0; i < n; i++) {
    guint64 z = seed * G_GUINT64_CONSTANT (0x9E3779B97F4A7C15)
                + i * G_GUINT64_CONSTANT (0xD1342543DE82EF95);

    z = (z ^ (z >> 30)) * G_GUINT64_CONSTANT (0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * G_GUINT64_CONSTANT (0x94D049BB133111EB);
    z ^= z >> 31;
    out[i] = (float) (((double) (z >> 40) / 16777216.0 - 0.5) * scale + shift);
  }
  return out;
}

/* Tensor @index of a case: [name, shape, scale, shift]. */
typedef struct {
  const char *name;
  JsonNode *shape;
  gsize n;
  float *values;
} Made;

static Made
make_tensor (JsonObject *test, guint index)
{
  JsonArray *all = json_object_get_array_member (test, "tensors");
  JsonArray *entry = json_array_get_array_element (all, index);
  JsonArray *shape = json_array_get_array_element (entry, 1);
  Made made
      = { json_array_get_string_element (entry, 0), json_array_get_element (entry, 1), 1, NULL };

  for (guint i = 0; i < json_array_get_length (shape); i++)
    made.n *= (gsize) json_array_get_int_element (shape, i);
  made.values
      = fill ((guint64) json_object_get_int_member (test, "seed") + index, made.n,
              json_array_get_double_element (entry, 2), json_array_get_double_element (entry, 3));
  return made;
}

static guint
count_tensors (JsonObject *test)
{
  return json_array_get_length (json_object_get_array_member (test, "tensors"));
}

/* ---- a case's folder ---- */

static void
write_weights (const char *dir, JsonObject *test)
{
  g_autoptr (GString) header = g_string_new ("{\"__metadata__\":{\"format\":\"pt\"}");
  g_autoptr (GByteArray) data = g_byte_array_new (), file = g_byte_array_new ();
  guint64 length;

  for (guint i = 0; i < count_tensors (test); i++) {
    Made made = make_tensor (test, i);
    g_autofree char *shape = json_to_string (made.shape, FALSE);
    guint start = data->len;

    if (!g_str_has_prefix (made.name, "tile.")) {
      g_byte_array_append (data, (const guint8 *) made.values, made.n * sizeof *made.values);
      g_string_append_printf (header,
                              ",\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%u,%u]}",
                              made.name, shape, start, data->len);
    }
    g_free (made.values);
  }
  g_string_append_c (header, '}');
  length = GUINT64_TO_LE (header->len);
  g_byte_array_append (file, (const guint8 *) &length, sizeof length);
  g_byte_array_append (file, (const guint8 *) header->str, header->len);
  g_byte_array_append (file, data->data, data->len);
  scratch_write (dir, "model.safetensors", file->data, file->len);
}

static void
add_key (JsonObject *object, const char *key, JsonNode *value, gpointer all)
{
  json_object_set_member (all, key, json_node_copy (value));
}

static void
write_config (const char *dir, JsonObject *test)
{
  g_autoptr (JsonNode) root = json_node_new (JSON_NODE_OBJECT);
  g_autofree char *text = NULL;

  json_node_take_object (root, json_object_new ());
  json_object_foreach_member (common, add_key, json_node_get_object (root));
  json_object_foreach_member (json_object_get_object_member (test, "config"), add_key,
                              json_node_get_object (root));
  text = json_to_string (root, FALSE);
  scratch_write (dir, "config.json", text, strlen (text));
}

static void
run_open (Run *run, JsonObject *test, ValleyPrecision precision, guint threads, gboolean strict)
{
  GError *error = NULL;

  *run = (Run){ .name = json_object_get_string_member (test, "name"),
                .test = test,
                .dir = scratch_new () };
  write_config (run->dir, test);
  write_weights (run->dir, test);
  run->config = valley_config_read (run->dir, &error);
  g_assert_no_error (error);
  run->files = valley_safetensors_open (run->dir, &error);
  g_assert_no_error (error);
  run->backend = test_backend_new (precision, threads, strict);
  run->stream = run->backend->ops->stream_new (run->backend, &error);
  g_assert_no_error (error);
  run->weights = valley_weights_new (run->files, run->backend, NULL);
  valley_connector_init (&run->connector, run->config, run->weights);
  valley_compressors_init (&run->compressors, run->config, run->weights);
  valley_weights_finish (run->weights, &error);
  g_assert_no_error (error);
  for (guint i = 0; i < valley_safetensors_n_tensors (run->files); i++)
    g_assert_true (
        valley_weights_is_used (run->weights, valley_safetensors_get (run->files, i)->name));
}

static void
run_close (Run *run)
{
  valley_compressors_clear (&run->compressors);
  valley_connector_clear (&run->connector);
  valley_weights_free (run->weights);
  run->backend->ops->stream_free (run->stream);
  run->backend->ops->backend_free (run->backend);
  valley_safetensors_free (run->files);
  valley_config_free (run->config);
  scratch_remove (run->dir);
}

/* ---- tiles ---- */

static float *
input_of (const Run *run, guint tile)
{
  g_autofree char *name = g_strdup_printf ("tile.%u", tile);

  for (guint i = 0; i < count_tensors (run->test); i++) {
    Made made = make_tensor (run->test, i);

    if (g_str_equal (made.name, name))
      return made.values;
    g_free (made.values);
  }
  g_error ("%s has no %s", run->name, name);
}

static gboolean
try_encode (const Run *run, guint tile, guint n_tiles, Tokens *tokens, GError **error)
{
  gsize side = run->config->siglip.side;
  g_autofree float *values = input_of (run, tile);
  ValleyTensor x, out;
  gboolean good;

  valley_activations_init (run->stream, &x, side * side, run->config->connector.in_size);
  run->backend->ops->upload (run->stream, &x, values);
  valley_connector_run (&run->connector, run->stream, &x, &out, NULL);
  valley_compressors_run (&run->compressors, run->stream, &out, n_tiles, NULL);
  *tokens = (Tokens){ g_new (float, MAX (1, out.rows * out.cols)), out.rows, out.cols };
  good = run->backend->ops->download (run->stream, &out, tokens->values, error);
  valley_tensor_clear (run->backend, &out);
  valley_tensor_clear (run->backend, &x);
  return good;
}

static Tokens
encode (const Run *run, guint tile, guint n_tiles)
{
  GError *error = NULL;
  Tokens tokens;

  try_encode (run, tile, n_tiles, &tokens, &error);
  g_assert_no_error (error);
  return tokens;
}

static void
check_count (const Run *run, const Tokens *tokens, guint n_tiles)
{
  gsize expected = valley_config_tile_tokens (run->config, n_tiles);

  if (run->config->tokens_vary)
    g_assert_cmpuint (tokens->rows, <=, expected);
  else
    g_assert_cmpuint (tokens->rows, ==, expected);
}

static void
check_tile (const Run *run, guint tile, const Tokens *tokens, double tolerance)
{
  g_autofree char *name = g_strdup_printf ("%s/%u", run->name, tile);
  const RefTensor *want = ref_file_get (reference, name, REF_F32, 2);
  double largest = 0, worst = 0;

  g_assert_nonnull (want);
  g_assert_cmpuint (tokens->rows, ==, want->shape[0]);
  g_assert_cmpuint (tokens->cols, ==, want->shape[1]);
  for (gsize i = 0; i < tokens->rows * tokens->cols; i++) {
    float expected = ((const float *) want->data)[i];

    g_assert_true (isfinite (tokens->values[i]) && isfinite (expected));
    largest = MAX (largest, fabs (expected));
    worst = MAX (worst, fabs ((double) tokens->values[i] - expected));
  }
  g_test_message ("%s: %" G_GSIZE_FORMAT " tokens, off by %.2g of %.2g", name, tokens->rows, worst,
                  largest);
  g_assert_cmpfloat (worst, <=, tolerance * largest);
}

/* Whether rounding can decide which rows there are. */
static gboolean
makes_choices (const ValleyConfig *config)
{
  for (gsize i = 0; i < config->n_compressors; i++)
    if (config->compressors[i].type == VALLEY_COMPRESSOR_EVO
        || config->compressors[i].type == VALLEY_COMPRESSOR_LAVIT)
      return TRUE;
  return config->connector.hard;
}

static void
check_bf16 (JsonObject *test)
{
  guint n_tiles = (guint) json_object_get_int_member (test, "tiles");
  Run run;

  run_open (&run, test, VALLEY_PRECISION_BF16, 2, TRUE);
  for (guint i = 0; i < n_tiles && !makes_choices (run.config); i++) {
    Tokens tokens = encode (&run, i, n_tiles);

    check_tile (&run, i, &tokens, BF16_TOLERANCE);
    g_free (tokens.values);
  }
  run_close (&run);
}

/* Whichever allocation fails, it is one error and the next tile is none the worse for it. */
static void
check_failures (const Run *run, guint n_tiles, const Tokens *want)
{
  for (guint n = 1;; n++) {
    g_autoptr (GError) error = NULL;
    gboolean good, failed;
    Tokens tokens;

    valley_alloc_fail_at (n);
    good = try_encode (run, 0, n_tiles, &tokens, &error);
    failed = valley_alloc_has_failed ();
    valley_alloc_fail_at (0);
    g_assert_true (good != failed);
    if (failed)
      g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
    else
      assert_same_bits (run->name, tokens.values, want->values, tokens.rows * tokens.cols);
    g_free (tokens.values);
    if (good) {
      g_assert_cmpuint (n, >, 2); /* some have failed */
      return;
    }
  }
}

/* Against the reference on memory that cannot be peeked at; then on another number of threads,
 * the tiles in another order, bit by bit; then in bf16, roughly. */
static void
test_case (gconstpointer data)
{
  JsonObject *test = (JsonObject *) data;
  guint n_tiles = (guint) json_object_get_int_member (test, "tiles");
  g_autofree Tokens *first = g_new0 (Tokens, n_tiles);
  Run run;

  run_open (&run, test, VALLEY_PRECISION_F32, 2, TRUE);
  for (guint i = 0; i < n_tiles; i++) {
    first[i] = encode (&run, i, n_tiles);
    check_tile (&run, i, &first[i], TOLERANCE);
    check_count (&run, &first[i], n_tiles);
  }
  if (test_on_cpu ()) /* it is the host's memory that fails */
    check_failures (&run, n_tiles, &first[0]);
  run_close (&run);
  run_open (&run, test, VALLEY_PRECISION_F32, 1, FALSE);
  for (guint i = n_tiles; i-- > 0;) {
    Tokens again = encode (&run, i, n_tiles);

    g_assert_cmpuint (again.rows, ==, first[i].rows);
    assert_same_bits (run.name, again.values, first[i].values, again.rows * again.cols);
    g_free (again.values);
    g_free (first[i].values);
  }
  run_close (&run);
  check_bf16 (test);
}

/* Every tensor of the reference belongs to a case. */
static void
test_completeness (gconstpointer data)
{
  guint n = 0;

  for (GList *l = (GList *) data; l != NULL; l = l->next)
    n += (guint) json_object_get_int_member (json_node_get_object (l->data), "tiles");
  g_assert_cmpuint (n, ==, g_hash_table_size (reference->tensors));
}

int
main (int argc, char **argv)
{
  g_autofree char *json = g_build_filename (g_getenv ("GOLDEN_DIR"), "connectors.json", NULL);
  g_autofree char *numbers
      = g_build_filename (g_getenv ("GOLDEN_DIR"), "connectors.safetensors", NULL);
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_autoptr (GList) cases = NULL;
  GError *error = NULL;
  int status;

  g_test_init (&argc, &argv, NULL);
  json_parser_load_from_file (parser, json, &error);
  g_assert_no_error (error);
  reference = ref_file_read (numbers, &error);
  g_assert_no_error (error);
  cases = json_array_get_elements (json_node_get_array (json_parser_get_root (parser)));
  common = json_node_get_object (cases->data);
  cases = g_list_delete_link (cases, cases);
  g_test_add_data_func ("/connector/completeness", cases, test_completeness);
  for (GList *l = cases; l != NULL; l = l->next) {
    JsonObject *test = json_node_get_object (l->data);
    g_autofree char *path
        = g_strconcat ("/connector/", json_object_get_string_member (test, "name"), NULL);

    g_test_add_data_func (path, test, test_case);
  }
  status = g_test_run ();
  ref_file_free (reference);
  return status;
}
