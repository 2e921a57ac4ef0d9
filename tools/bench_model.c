/* bench_model.c - the model that a benchmark runs: a checkpoint, or another one's config.json
 * with fewer layers and random weights.
 * SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <glib/gstdio.h>
#include <json-glib/json-glib.h>

/* What config.json leaves to the towers that it names. */
enum { SIGLIP_LAYERS = 27, EAGLE_LAYERS = 32, LLM_LAYERS = 28 };

static const char *const tokenizer_files[] = { "tokenizer.json", "tokenizer_config.json" };

/* ---- config.json ---- */

/* The member @key of @object, or @usual without one. */
static gboolean
read_layers (JsonObject *object, const char *path, const char *key, gint64 usual, gint64 *n,
             GError **error)
{
  JsonNode *node = json_object_get_member (object, key);

  *n = usual;
  if (node == NULL || JSON_NODE_HOLDS_NULL (node))
    return TRUE;
  *n = JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_INT64
           ? json_node_get_int (node)
           : 0;
  if (*n > 0)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "%s: %s: expected a number above 0", path,
               key);
  return FALSE;
}

/* A tower keeps its share of the layers, and at least the two that a penultimate layer needs. */
static gboolean
scale_layers (JsonObject *config, const char *path, const char *tower, const char *key,
              gint64 usual, double share, GError **error)
{
  JsonNode *node = json_object_get_member (config, tower);
  gint64 n;

  if (node == NULL || JSON_NODE_HOLDS_NULL (node)) {
    json_object_set_object_member (config, tower, json_object_new ());
    node = json_object_get_member (config, tower);
  } else if (!JSON_NODE_HOLDS_OBJECT (node)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "%s: %s: expected an object", path, tower);
    return FALSE;
  }
  if (!read_layers (json_node_get_object (node), path, key, usual, &n, error))
    return FALSE;
  json_object_set_int_member (json_node_get_object (node), key,
                              MAX ((gint64) ((double) n * share + 0.5), 2));
  return TRUE;
}

static gboolean
reduce_layers (JsonObject *config, const char *path, guint n_layers, GError **error)
{
  double share;
  gint64 n;

  if (n_layers == 0)
    return TRUE;
  if (!read_layers (config, path, "num_hidden_layers", LLM_LAYERS, &n, error))
    return FALSE;
  if (n < n_layers) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "%s: num_hidden_layers is %" G_GINT64_FORMAT "; expected at least the %u of "
                 "--layers",
                 path, n, n_layers);
    return FALSE;
  }
  share = (double) n_layers / (double) n;
  json_object_set_int_member (config, "num_hidden_layers", n_layers);
  return scale_layers (config, path, "vision_config", "num_hidden_layers", SIGLIP_LAYERS, share,
                       error)
         && scale_layers (config, path, "eagle_config", "depth", EAGLE_LAYERS, share, error);
}

/* @path with other numbers of layers -> @dir/config.json. */
static gboolean
write_config (const char *dir, const char *path, guint n_layers, GError **error)
{
  g_autoptr (JsonParser) parser = json_parser_new_immutable ();
  g_autoptr (JsonGenerator) generator = json_generator_new ();
  g_autofree char *to = g_build_filename (dir, "config.json", NULL);
  g_autoptr (JsonNode) root = NULL;

  if (!json_parser_load_from_file (parser, path, error))
    return FALSE;
  root = json_parser_get_root (parser) != NULL ? json_node_copy (json_parser_get_root (parser))
                                               : NULL;
  if (root == NULL || !JSON_NODE_HOLDS_OBJECT (root)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: expected a JSON object (a checkpoint's config.json)", path);
    return FALSE;
  }
  if (!reduce_layers (json_node_get_object (root), path, n_layers, error))
    return FALSE;
  json_generator_set_root (generator, root);
  return json_generator_to_file (generator, to, error);
}

/* ---- a folder for it ---- */

static gboolean
copy_tokenizer (const char *dir, GError **error)
{
  g_autofree char *bundled = valley_default_model_dir ();

  if (bundled == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                 "the bundled model was not found, whose tokenizer --config needs; expected "
                 "VALLEY_MODEL_DIR");
    return FALSE;
  }
  for (guint i = 0; i < G_N_ELEMENTS (tokenizer_files); i++) {
    g_autofree char *from_path = g_build_filename (bundled, tokenizer_files[i], NULL);
    g_autofree char *to_path = g_build_filename (dir, tokenizer_files[i], NULL);
    g_autoptr (GFile) from = g_file_new_for_path (from_path);
    g_autoptr (GFile) to = g_file_new_for_path (to_path);

    if (!g_file_copy (from, to, G_FILE_COPY_NONE, NULL, NULL, NULL, error))
      return FALSE;
  }
  return TRUE;
}

static void
remove_folder (const char *dir)
{
  g_autofree char *config = g_build_filename (dir, "config.json", NULL);

  g_unlink (config);
  for (guint i = 0; i < G_N_ELEMENTS (tokenizer_files); i++) {
    g_autofree char *path = g_build_filename (dir, tokenizer_files[i], NULL);

    g_unlink (path);
  }
  g_rmdir (dir);
}

static ValleyModel *
open_and_load (const char *dir, const ValleyModelOptions *options, GError **error)
{
  ValleyModel *model = valley_model_open (dir, options, error);

  if (model == NULL || valley_model_load (model, NULL, error))
    return model;
  valley_model_unref (model);
  return NULL;
}

ValleyModel *
bench_model_open (const Options *options, GError **error)
{
  ValleyModelOptions model_options
      = { .device = options->device, .precision = options->precision, .threads = options->threads };
  g_autofree char *dir = NULL;
  ValleyModel *model = NULL;

  if (options->config == NULL) {
    dir = options->model_dir != NULL ? g_strdup (options->model_dir) : valley_default_model_dir ();
    if (dir != NULL)
      return open_and_load (dir, &model_options, error);
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                 "the bundled model was not found; expected --model DIR or VALLEY_MODEL_DIR");
    return NULL;
  }
  dir = g_dir_make_tmp ("valley-bench-XXXXXX", error);
  if (dir == NULL)
    return NULL;
  model_options.random_seed = 1;
  if (write_config (dir, options->config, options->layers, error) && copy_tokenizer (dir, error))
    model = open_and_load (dir, &model_options, error);
  remove_folder (dir);
  return model;
}
