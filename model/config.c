/* config.c - config.json and generation_config.json become checked plain numbers.
 * Keys are the released checkpoints' own; vision_config and eagle_config are ours, and where
 * they are absent the release's constants hold.  Nothing here looks at a weight.
 * SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "alloc.h"
#include "config_connector.h"
#include "config_llm.h"
#include "json.h"

#define MAX_CONFIG_BYTES ((gsize) 16 << 20)
#define MAX_PIXELS ((gsize) 1 << 28)
#define MAX_GRID ((gsize) 16)

static void
read_siglip (ValleyReader *r, ValleySiglipConfig *siglip)
{
  siglip->hidden_size = valley_reader_size (r, "hidden_size", 1152, 1, VALLEY_MAX_WIDTH);
  siglip->intermediate_size
      = valley_reader_size (r, "intermediate_size", 4304, 1, VALLEY_MAX_WIDTH);
  siglip->n_layers = valley_reader_size (r, "num_hidden_layers", 27, 1, VALLEY_MAX_COUNT);
  siglip->n_heads = valley_reader_size (r, "num_attention_heads", 16, 1, VALLEY_MAX_COUNT);
  siglip->image_size = valley_reader_size (r, "image_size", 384, 1, 4096);
  siglip->patch_size = valley_reader_size (r, "patch_size", 14, 1, 1024);
  siglip->layer_norm_eps = (float) valley_reader_double (r, "layer_norm_eps", 1e-6, 0, 1);
  siglip->side = siglip->image_size / siglip->patch_size;
  if (siglip->hidden_size % siglip->n_heads != 0)
    valley_reader_complain (r, "num_attention_heads", "a divisor of hidden_size %" G_GSIZE_FORMAT,
                            siglip->hidden_size);
  if (siglip->side == 0)
    valley_reader_complain (r, "patch_size", "at most image_size %" G_GSIZE_FORMAT,
                            siglip->image_size);
}

static void
read_eagle (ValleyReader *r, const ValleyLlmConfig *llm, ValleyEagleConfig *eagle)
{
  gsize unit;
  double ratio;

  eagle->depth = valley_reader_size (r, "depth", 32, 1, VALLEY_MAX_COUNT);
  eagle->embed_dim = valley_reader_size (r, "embed_dim", 1280, 1, VALLEY_MAX_WIDTH);
  /* The released tower writes Valley2's 3584; a merger of one's own fits the language model. */
  eagle->hidden_size = valley_reader_size (
      r, "hidden_size", eagle->merger_dim > 0 ? llm->hidden_size : 3584, 1, VALLEY_MAX_WIDTH);
  eagle->n_heads = valley_reader_size (r, "num_heads", 16, 1, VALLEY_MAX_COUNT);
  ratio = valley_reader_double (r, "mlp_ratio", 4, 1.0 / 64, 64);
  eagle->mlp_dim = (gsize) ((double) eagle->embed_dim * ratio);
  eagle->patch_size = valley_reader_size (r, "patch_size", 14, 1, 1024);
  eagle->temporal_patch_size = valley_reader_size (r, "temporal_patch_size", 2, 1, 16);
  eagle->spatial_merge_size = valley_reader_size (r, "spatial_merge_size", 2, 1, 16);
  if (eagle->merger_dim == 0)
    eagle->merger_dim = eagle->embed_dim * eagle->spatial_merge_size * eagle->spatial_merge_size;
  unit = eagle->patch_size * eagle->spatial_merge_size;
  eagle->max_pixels = valley_reader_size (r, "max_pixels", 12845056, unit * unit, MAX_PIXELS);
  eagle->min_pixels
      = valley_reader_size (r, "min_pixels", MIN (3136, eagle->max_pixels), 1, MAX_PIXELS);
  /* a head's first half of pairs turns by the row, the second by the column */
  if (eagle->embed_dim % eagle->n_heads != 0 || eagle->embed_dim / eagle->n_heads % 4 != 0)
    valley_reader_complain (r, "num_heads",
                            "a divisor of embed_dim %" G_GSIZE_FORMAT
                            " that leaves a multiple of 4 a head",
                            eagle->embed_dim);
  if (eagle->mlp_dim == 0)
    valley_reader_complain (r, "mlp_ratio", "a hidden width of at least 1");
  if (eagle->min_pixels > eagle->max_pixels)
    valley_reader_complain (r, "min_pixels", "at most max_pixels %" G_GSIZE_FORMAT,
                            eagle->max_pixels);
  if (eagle->hidden_size != llm->hidden_size)
    valley_reader_complain (r, "hidden_size", "the language model's hidden_size %" G_GSIZE_FORMAT,
                            llm->hidden_size);
}

/* The released loader shrinks to config.json's max_pixels before the tower's own bound. */
static void
read_pixel_bounds (ValleyReader *r, ValleyEagleConfig *eagle)
{
  gsize unit = eagle->patch_size * eagle->spatial_merge_size;
  gsize still = valley_reader_size (r, "max_pixels", eagle->max_pixels, unit * unit, MAX_PIXELS);
  gsize frame = valley_reader_size (r, "frame_max_pixels", 153664, unit * unit, MAX_PIXELS);

  eagle->max_pixels = MIN (eagle->max_pixels, still);
  eagle->frame_max_pixels = MIN (frame, eagle->max_pixels);
  if (eagle->min_pixels > eagle->frame_max_pixels)
    valley_reader_complain (
        r, valley_reader_member (r, "frame_max_pixels") != NULL ? "frame_max_pixels" : "max_pixels",
        "at least eagle_config.min_pixels %" G_GSIZE_FORMAT, eagle->min_pixels);
}

/* "(1x1),...,(RxC)": every grid up to the last one named. */
static void
read_grid (ValleyReader *r, ValleyConfig *config)
{
  const char *text = valley_reader_string (r, "grid_pinpoints");
  const char *last = text != NULL ? strrchr (text, '(') : NULL;
  guint rows = 0, cols = 0;
  char end = 0;

  config->grid_max_rows = config->grid_max_cols = 3;
  if (text == NULL)
    return;
  if (strncmp (text, "(1x1)", 5) != 0 || sscanf (last, "(%3ux%3u%c", &rows, &cols, &end) != 3
      || end != ')' || rows < 1 || cols < 1 || rows > MAX_GRID || cols > MAX_GRID)
    valley_reader_complain (r, "grid_pinpoints",
                            "\"(1x1),...,(RxC)\" with R and C from 1 to %" G_GSIZE_FORMAT,
                            MAX_GRID);
  config->grid_max_rows = rows;
  config->grid_max_cols = cols;
}

static void
read_picture_keys (ValleyReader *r, ValleyConfig *config)
{
  config->anyres = valley_reader_boolean (r, "anyres", FALSE);
  /* The released processors put the markers in unless they are told not to. */
  config->use_special_start_end_token
      = valley_reader_boolean (r, "use_special_start_end_token", TRUE);
  config->max_vision_token = valley_reader_size (r, "max_vision_token", 100000, 1, MAX_PIXELS);
  config->patches_per_side = valley_reader_size (r, "num_patches_per_side", 0, 1, VALLEY_MAX_COUNT);
  config->crop_size = valley_reader_size (r, "vit_crop_size", config->siglip.image_size, 1, 4096);
  if (config->has_siglip && config->crop_size != config->siglip.image_size)
    valley_reader_complain (r, "vit_crop_size", "the SigLIP tower's image_size %" G_GSIZE_FORMAT,
                            config->siglip.image_size);
  read_grid (r, config);
}

/* A number or a list of them; FALSE when the file says nothing, which leaves the list as it is. */
static gboolean
read_stop_ids (ValleyReader *r, ValleyConfig *config)
{
  JsonNode *node = valley_reader_member (r, "eos_token_id");
  gboolean is_list = node != NULL && JSON_NODE_HOLDS_ARRAY (node);
  gsize n = node == NULL ? 0 : is_list ? json_array_get_length (json_node_get_array (node)) : 1;
  gint32 *ids;

  if (n == 0)
    return FALSE;
  ids = VALLEY_NEW (gint32, n);
  if (ids == NULL) {
    valley_reader_lack_memory (r, "eos_token_id");
    return FALSE;
  }
  for (gsize i = 0; i < n; i++) {
    JsonNode *one = is_list ? json_array_get_element (json_node_get_array (node), i) : node;
    gint64 id = valley_reader_is_type (one, G_TYPE_INT64) ? json_node_get_int (one) : -1;

    if (id < 0 || (guint64) id >= config->llm.vocab_size)
      valley_reader_complain (r, "eos_token_id", "ids below vocab_size %" G_GSIZE_FORMAT,
                              config->llm.vocab_size);
    ids[i] = (gint32) id;
  }
  g_free (config->stop_ids);
  config->stop_ids = ids;
  config->n_stop_ids = n;
  return TRUE;
}

void
valley_config_add_stop_id (ValleyConfig *config, gint32 id)
{
  if (config->stop_ids_are_final || id < 0)
    return;
  for (gsize i = 0; i < config->n_stop_ids; i++)
    if (config->stop_ids[i] == id)
      return;
  config->stop_ids = g_renew (gint32, config->stop_ids, config->n_stop_ids + 1);
  config->stop_ids[config->n_stop_ids++] = id;
}

/* Valley2.5's files still name the SigLIP tower; only_navit takes it away, connector and all. */
static void
read_tower_names (ValleyReader *r, ValleyConfig *config)
{
  gboolean only_navit = valley_reader_boolean (r, "only_navit", FALSE);

  config->has_siglip = valley_reader_string (r, "mm_vision_tower") != NULL && !only_navit;
  config->has_eagle = valley_reader_string (r, "eagle_vision_tower") != NULL;
  if (only_navit && !config->has_eagle)
    valley_reader_complain (r, "only_navit",
                            "false, since eagle_vision_tower names no tower that would be left");
  if (!config->has_siglip && !config->has_eagle)
    valley_reader_complain (r, "mm_vision_tower",
                            "the name of a tower, unless eagle_vision_tower has one");
}

static void
read_everything (ValleyReader *r, ValleyConfig *config)
{
  g_autoptr (JsonObject) empty = json_object_new ();
  const char *type = valley_reader_string (r, "model_type");
  ValleyReader inner;

  if (g_strcmp0 (type, "valley") != 0)
    valley_reader_complain (
        r, "model_type",
        "\"valley\" (a Valley2 or Valley2.5 checkpoint; Valley3 and Qwen-VL are not supported)");
  valley_config_read_llm (r, &config->llm);
  read_tower_names (r, config);
  if (config->has_siglip) {
    inner = valley_reader_object (r, "vision_config", "vision_config.", empty);
    read_siglip (&inner, &config->siglip);
    r->failed = inner.failed;
    if (!r->failed)
      valley_config_read_connector (r, config);
  }
  if (config->has_eagle && !r->failed) {
    config->eagle.merger_dim
        = valley_reader_size (r, "navit_merger_hidden_dim", 0, 1, VALLEY_MAX_WIDTH);
    inner = valley_reader_object (r, "eagle_config", "eagle_config.", empty);
    read_eagle (&inner, &config->llm, &config->eagle);
    r->failed = inner.failed;
    if (!r->failed)
      read_pixel_bounds (r, &config->eagle);
  }
  read_picture_keys (r, config);
  if (config->has_siglip && !r->failed)
    valley_config_read_compressors (r, config);
  read_stop_ids (r, config);
}

static gboolean
read_generation (ValleyConfig *config, GError **error)
{
  g_autofree char *path = g_build_filename (config->dir, "generation_config.json", NULL);
  g_autoptr (JsonObject) root = NULL;
  ValleyReader r = { NULL, path, "", error, FALSE };

  config->repetition_penalty = 1;
  if (!g_file_test (path, G_FILE_TEST_EXISTS))
    return TRUE;
  root = valley_json_read (path, MAX_CONFIG_BYTES, error);
  if (root == NULL)
    return FALSE;
  r.object = root;
  config->stop_ids_are_final = read_stop_ids (&r, config);
  config->repetition_penalty = valley_reader_double (&r, "repetition_penalty", 1, 1e-3, 1e3);
  return !r.failed;
}

ValleyConfig *
valley_config_read (const char *dir, GError **error)
{
  g_autofree char *path = g_build_filename (dir, "config.json", NULL);
  g_autoptr (JsonObject) root = NULL;
  ValleyConfig *config;
  ValleyReader r = { NULL, path, "", error, FALSE };

  if (!g_file_test (dir, G_FILE_TEST_IS_DIR)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                 "%s: no such folder; expected one with config.json and model.safetensors", dir);
    return NULL;
  }
  root = valley_json_read (path, MAX_CONFIG_BYTES, error);
  if (root == NULL)
    return NULL;
  r.object = root;
  config = g_new0 (ValleyConfig, 1);
  config->dir = g_strdup (dir);
  read_everything (&r, config);
  if (r.failed || !read_generation (config, error)) {
    valley_config_free (config);
    return NULL;
  }
  return config;
}

void
valley_config_free (ValleyConfig *config)
{
  if (config == NULL)
    return;
  g_free (config->dir);
  g_free (config->connector.name);
  g_free (config->compressors);
  g_free (config->stop_ids);
  g_free (config);
}
