/* config.c - config.json and generation_config.json become checked plain numbers.
 * Keys are the released checkpoints' own; vision_config and eagle_config are ours, and where
 * they are absent the release's constants hold.  Nothing here looks at a weight.
 * SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

#define MAX_CONFIG_BYTES ((gsize)16 << 20)
/* Far above any model, and small enough that products of two fit 64 bits. */
#define MAX_WIDTH ((gsize)1 << 20)
#define MAX_COUNT ((gsize)4096)
#define MAX_VOCABULARY ((gsize)1 << 24)
#define MAX_PIXELS ((gsize)1 << 28)
#define MAX_GRID ((gsize)16)

#define REQUIRED G_MAXSIZE /* as a default: the key must be there */

/* A JSON object being read: the first problem is kept, and every later read is harmless. */
typedef struct {
  JsonObject *object;
  const char *path;   /* the file */
  const char *parent; /* "" or "vision_config." */
  GError **error;
  gboolean failed;
} Reader;

static void complain (Reader *r, const char *key, const char *format, ...) G_GNUC_PRINTF (3, 4);

static void
complain (Reader *r, const char *key, const char *format, ...)
{
  g_autofree char *expected = NULL;
  JsonNode *node = json_object_get_member (r->object, key);
  g_autofree char *found = node != NULL ? json_to_string (node, FALSE) : g_strdup ("missing");
  va_list args;

  if (r->failed)
    return;
  r->failed = TRUE;
  if (strlen (found) > 60)
    strcpy (g_utf8_offset_to_pointer (found, MIN (g_utf8_strlen (found, -1), 12)), "...");
  va_start (args, format);
  expected = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (r->error, VALLEY_ERROR, VALLEY_ERROR_CONFIG, "%s: \"%s%s\" is %s; expected %s",
               r->path, r->parent, key, found, expected);
}

/* The member's node, or NULL when it is absent or null. */
static JsonNode *
member (Reader *r, const char *key)
{
  JsonNode *node = json_object_get_member (r->object, key);

  return node != NULL && !JSON_NODE_HOLDS_NULL (node) ? node : NULL;
}

static gboolean
is_type (JsonNode *node, GType type)
{
  return JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == type;
}

static gsize
read_size (Reader *r, const char *key, gsize fallback, gsize min, gsize max)
{
  JsonNode *node = member (r, key);

  if (node == NULL && fallback != REQUIRED)
    return fallback;
  if (node != NULL && is_type (node, G_TYPE_INT64)) {
    gint64 value = json_node_get_int (node);

    if (value >= 0 && (guint64)value >= min && (guint64)value <= max)
      return (gsize)value;
  }
  complain (r, key, "an integer from %" G_GSIZE_FORMAT " to %" G_GSIZE_FORMAT, min, max);
  return min;
}

static double
read_double (Reader *r, const char *key, double fallback, double min, double max)
{
  JsonNode *node = member (r, key);

  if (node == NULL)
    return fallback;
  if (is_type (node, G_TYPE_INT64) || is_type (node, G_TYPE_DOUBLE)) {
    double value = json_node_get_double (node);

    if (isfinite (value) && value >= min && value <= max)
      return value;
  }
  complain (r, key, "a number from %g to %g", min, max);
  return fallback;
}

static gboolean
read_boolean (Reader *r, const char *key, gboolean fallback)
{
  JsonNode *node = member (r, key);

  if (node == NULL)
    return fallback;
  if (is_type (node, G_TYPE_BOOLEAN))
    return json_node_get_boolean (node);
  complain (r, key, "true or false");
  return fallback;
}

/* Borrowed from the tree; NULL when absent, null or no string. */
static const char *
read_string (Reader *r, const char *key)
{
  JsonNode *node = member (r, key);

  if (node == NULL)
    return NULL;
  if (is_type (node, G_TYPE_STRING))
    return json_node_get_string (node);
  complain (r, key, "a string");
  return NULL;
}

/* A nested object; an empty one where it is absent, so that every key has its default. */
static Reader
read_object (Reader *r, const char *key, const char *parent, JsonObject *empty)
{
  JsonNode *node = member (r, key);
  Reader inner = { empty, r->path, parent, r->error, r->failed };

  if (node != NULL && JSON_NODE_HOLDS_OBJECT (node))
    inner.object = json_node_get_object (node);
  else if (node != NULL)
    complain (r, key, "an object");
  inner.failed = r->failed;
  return inner;
}

static void
read_llm (Reader *r, ValleyLlmConfig *llm)
{
  const char *activation = read_string (r, "hidden_act");
  JsonNode *scaling = member (r, "rope_scaling");

  llm->hidden_size = read_size (r, "hidden_size", REQUIRED, 1, MAX_WIDTH);
  llm->intermediate_size = read_size (r, "intermediate_size", REQUIRED, 1, MAX_WIDTH);
  llm->n_layers = read_size (r, "num_hidden_layers", REQUIRED, 1, MAX_COUNT);
  llm->n_heads = read_size (r, "num_attention_heads", REQUIRED, 1, MAX_COUNT);
  llm->n_kv_heads = read_size (r, "num_key_value_heads", llm->n_heads, 1, MAX_COUNT);
  llm->vocab_size = read_size (r, "vocab_size", REQUIRED, 1, MAX_VOCABULARY);
  llm->max_position_embeddings = read_size (r, "max_position_embeddings", 32768, 1, (gsize)1 << 24);
  llm->rms_norm_eps = (float)read_double (r, "rms_norm_eps", 1e-6, 0, 1);
  llm->rope_theta = read_double (r, "rope_theta", 10000, 1, 1e12);
  llm->tie_word_embeddings = read_boolean (r, "tie_word_embeddings", FALSE);
  llm->head_dim = read_size (r, "head_dim", llm->hidden_size / llm->n_heads, 1, MAX_WIDTH);

  if (member (r, "head_dim") == NULL && llm->hidden_size % llm->n_heads != 0)
    complain (r, "num_attention_heads", "a divisor of hidden_size %" G_GSIZE_FORMAT,
              llm->hidden_size);
  else if (llm->head_dim == 0 || llm->head_dim % 2 != 0)
    complain (r, "num_attention_heads",
              "a number that leaves each head an even size (rotary pairs), not %" G_GSIZE_FORMAT,
              llm->head_dim);
  if (llm->n_heads % llm->n_kv_heads != 0)
    complain (r, "num_key_value_heads", "a divisor of num_attention_heads %" G_GSIZE_FORMAT,
              llm->n_heads);
  if (activation != NULL && strcmp (activation, "silu") != 0)
    complain (r, "hidden_act", "\"silu\"");
  if (scaling != NULL)
    complain (r, "rope_scaling", "null (scaled rotary embeddings are not supported)");
  if (read_boolean (r, "use_sliding_window", FALSE))
    complain (r, "use_sliding_window", "false (sliding-window attention is not supported)");
}

static void
read_siglip (Reader *r, ValleySiglipConfig *siglip)
{
  siglip->hidden_size = read_size (r, "hidden_size", 1152, 1, MAX_WIDTH);
  siglip->intermediate_size = read_size (r, "intermediate_size", 4304, 1, MAX_WIDTH);
  siglip->n_layers = read_size (r, "num_hidden_layers", 27, 1, MAX_COUNT);
  siglip->n_heads = read_size (r, "num_attention_heads", 16, 1, MAX_COUNT);
  siglip->image_size = read_size (r, "image_size", 384, 1, 4096);
  siglip->patch_size = read_size (r, "patch_size", 14, 1, 1024);
  siglip->layer_norm_eps = (float)read_double (r, "layer_norm_eps", 1e-6, 0, 1);
  siglip->side = siglip->image_size / siglip->patch_size;
  if (siglip->hidden_size % siglip->n_heads != 0)
    complain (r, "num_attention_heads", "a divisor of hidden_size %" G_GSIZE_FORMAT,
              siglip->hidden_size);
  if (siglip->side == 0)
    complain (r, "patch_size", "at most image_size %" G_GSIZE_FORMAT, siglip->image_size);
}

static void
read_eagle (Reader *r, const ValleyLlmConfig *llm, ValleyEagleConfig *eagle)
{
  gsize unit;
  double ratio;

  eagle->depth = read_size (r, "depth", 32, 1, MAX_COUNT);
  eagle->embed_dim = read_size (r, "embed_dim", 1280, 1, MAX_WIDTH);
  eagle->hidden_size = read_size (r, "hidden_size", 3584, 1, MAX_WIDTH);
  eagle->n_heads = read_size (r, "num_heads", 16, 1, MAX_COUNT);
  ratio = read_double (r, "mlp_ratio", 4, 1.0 / 64, 64);
  eagle->mlp_dim = (gsize)((double)eagle->embed_dim * ratio);
  eagle->patch_size = read_size (r, "patch_size", 14, 1, 1024);
  eagle->temporal_patch_size = read_size (r, "temporal_patch_size", 2, 1, 16);
  eagle->spatial_merge_size = read_size (r, "spatial_merge_size", 2, 1, 16);
  unit = eagle->patch_size * eagle->spatial_merge_size;
  eagle->max_pixels = read_size (r, "max_pixels", 12845056, unit * unit, MAX_PIXELS);
  eagle->min_pixels = read_size (r, "min_pixels", MIN (3136, eagle->max_pixels), 1, MAX_PIXELS);
  /* a head's first half of pairs turns by the row, the second by the column */
  if (eagle->embed_dim % eagle->n_heads != 0 || eagle->embed_dim / eagle->n_heads % 4 != 0)
    complain (r, "num_heads",
              "a divisor of embed_dim %" G_GSIZE_FORMAT " that leaves a multiple of 4 a head",
              eagle->embed_dim);
  if (eagle->mlp_dim == 0)
    complain (r, "mlp_ratio", "a hidden width of at least 1");
  if (eagle->min_pixels > eagle->max_pixels)
    complain (r, "min_pixels", "at most max_pixels %" G_GSIZE_FORMAT, eagle->max_pixels);
  if (eagle->hidden_size != llm->hidden_size)
    complain (r, "hidden_size", "the language model's hidden_size %" G_GSIZE_FORMAT,
              llm->hidden_size);
}

/* The released loader shrinks to config.json's max_pixels before the tower's own bound. */
static void
read_pixel_bounds (Reader *r, ValleyEagleConfig *eagle)
{
  gsize unit = eagle->patch_size * eagle->spatial_merge_size;
  gsize still = read_size (r, "max_pixels", eagle->max_pixels, unit * unit, MAX_PIXELS);
  gsize frame = read_size (r, "frame_max_pixels", 153664, unit * unit, MAX_PIXELS);

  eagle->max_pixels = MIN (eagle->max_pixels, still);
  eagle->frame_max_pixels = MIN (frame, eagle->max_pixels);
  if (eagle->min_pixels > eagle->frame_max_pixels)
    complain (r, member (r, "frame_max_pixels") != NULL ? "frame_max_pixels" : "max_pixels",
              "at least eagle_config.min_pixels %" G_GSIZE_FORMAT, eagle->min_pixels);
}

static void
read_connector_type (Reader *r, ValleyConnectorConfig *connector)
{
  const char *type = read_string (r, "mm_projector_type");
  const char *tokenize = read_string (r, "tokenize_function");

  if (g_strcmp0 (type, "ovis_conv_adapter") == 0)
    connector->type = VALLEY_CONNECTOR_OVIS_CONV_ADAPTER;
  else if (g_strcmp0 (type, "conv_adapter") == 0)
    connector->type = VALLEY_CONNECTOR_CONV_ADAPTER;
  else if (g_strcmp0 (type, "mlp_pixel_shuffle") == 0)
    connector->type = VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE;
  else
    complain (r, "mm_projector_type",
              "one of the connectors that this version runs: \"ovis_conv_adapter\", "
              "\"conv_adapter\", \"mlp_pixel_shuffle\"");

  if (connector->type != VALLEY_CONNECTOR_OVIS_CONV_ADAPTER)
    return;
  connector->hard = g_strcmp0 (tokenize, "st_argmax") == 0;
  if (!connector->hard && tokenize != NULL && strcmp (tokenize, "softmax") != 0)
    complain (r, "tokenize_function",
              "\"softmax\" or \"st_argmax\" (\"gumbel_argmax\" samples and is for training only)");
}

static void
read_connector (Reader *r, const ValleyConfig *config, ValleyConnectorConfig *connector)
{
  gsize side = config->siglip.side, fallback;

  read_connector_type (r, connector);
  fallback
      = connector->type == VALLEY_CONNECTOR_OVIS_CONV_ADAPTER ? 32000 : config->llm.hidden_size;
  connector->mlp_hidden = read_size (r, "mlp_hidden_dim", fallback, 1, MAX_VOCABULARY);
  connector->in_size = read_size (r, "mm_hidden_size", config->siglip.hidden_size, 1, MAX_WIDTH);
  if (connector->in_size != config->siglip.hidden_size)
    complain (r, "mm_hidden_size", "the SigLIP tower's hidden_size %" G_GSIZE_FORMAT,
              config->siglip.hidden_size);
  if (connector->type != VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE) {
    connector->out_side = (side + 1) / 2;
    return;
  }
  connector->ratio = read_size (r, "pixelshuffle_downsample_ratio", 3, 1, 64);
  connector->out_side = side / connector->ratio;
  if (side % connector->ratio != 0)
    complain (r, "pixelshuffle_downsample_ratio",
              "a divisor of the tower's %" G_GSIZE_FORMAT " patches a side", side);
}

/* "(1x1),...,(RxC)": every grid up to the last one named. */
static void
read_grid (Reader *r, ValleyConfig *config)
{
  const char *text = read_string (r, "grid_pinpoints");
  const char *last = text != NULL ? strrchr (text, '(') : NULL;
  guint rows = 0, cols = 0;
  char end = 0;

  config->grid_max_rows = config->grid_max_cols = 3;
  if (text == NULL)
    return;
  if (strncmp (text, "(1x1)", 5) != 0 || sscanf (last, "(%3ux%3u%c", &rows, &cols, &end) != 3
      || end != ')' || rows < 1 || cols < 1 || rows > MAX_GRID || cols > MAX_GRID)
    complain (r, "grid_pinpoints", "\"(1x1),...,(RxC)\" with R and C from 1 to %" G_GSIZE_FORMAT,
              MAX_GRID);
  config->grid_max_rows = rows;
  config->grid_max_cols = cols;
}

static void
read_picture_keys (Reader *r, ValleyConfig *config)
{
  config->anyres = read_boolean (r, "anyres", FALSE);
  config->use_special_start_end_token = read_boolean (r, "use_special_start_end_token", FALSE);
  config->max_vision_token = read_size (r, "max_vision_token", 100000, 1, MAX_PIXELS);
  config->crop_size = read_size (r, "vit_crop_size", config->siglip.image_size, 1, 4096);
  if (config->has_siglip && config->crop_size != config->siglip.image_size)
    complain (r, "vit_crop_size", "the SigLIP tower's image_size %" G_GSIZE_FORMAT,
              config->siglip.image_size);
  read_grid (r, config);
}

/* A number or a list of them; a file that says nothing leaves the list as it is. */
static void
read_stop_ids (Reader *r, ValleyConfig *config)
{
  JsonNode *node = member (r, "eos_token_id");
  gboolean is_list = node != NULL && JSON_NODE_HOLDS_ARRAY (node);
  gsize n = node == NULL ? 0 : is_list ? json_array_get_length (json_node_get_array (node)) : 1;
  gint32 *ids;

  if (n == 0)
    return;
  ids = g_new (gint32, n);
  for (gsize i = 0; i < n; i++) {
    JsonNode *one = is_list ? json_array_get_element (json_node_get_array (node), i) : node;
    gint64 id = is_type (one, G_TYPE_INT64) ? json_node_get_int (one) : -1;

    if (id < 0 || (guint64)id >= config->llm.vocab_size)
      complain (r, "eos_token_id", "ids below vocab_size %" G_GSIZE_FORMAT, config->llm.vocab_size);
    ids[i] = (gint32)id;
  }
  g_free (config->stop_ids);
  config->stop_ids = ids;
  config->n_stop_ids = n;
}

static void
read_everything (Reader *r, ValleyConfig *config)
{
  g_autoptr (JsonObject) empty = json_object_new ();
  const char *type = read_string (r, "model_type");
  Reader inner;

  if (g_strcmp0 (type, "valley") != 0)
    complain (r, "model_type", "\"valley\" (a Valley2 checkpoint)");
  read_llm (r, &config->llm);
  config->has_siglip = read_string (r, "mm_vision_tower") != NULL;
  config->has_eagle = read_string (r, "eagle_vision_tower") != NULL;
  if (!config->has_siglip && !config->has_eagle)
    complain (r, "mm_vision_tower", "the name of a tower, unless eagle_vision_tower has one");
  if (config->has_siglip) {
    inner = read_object (r, "vision_config", "vision_config.", empty);
    read_siglip (&inner, &config->siglip);
    r->failed = inner.failed;
    if (!r->failed)
      read_connector (r, config, &config->connector);
  }
  if (config->has_eagle && !r->failed) {
    inner = read_object (r, "eagle_config", "eagle_config.", empty);
    read_eagle (&inner, &config->llm, &config->eagle);
    r->failed = inner.failed;
    if (!r->failed)
      read_pixel_bounds (r, &config->eagle);
  }
  read_picture_keys (r, config);
  read_stop_ids (r, config);
}

static gboolean
read_generation (ValleyConfig *config, GError **error)
{
  g_autofree char *path = g_build_filename (config->dir, "generation_config.json", NULL);
  g_autoptr (JsonObject) root = NULL;
  Reader r = { NULL, path, "", error, FALSE };

  config->repetition_penalty = 1;
  if (!g_file_test (path, G_FILE_TEST_EXISTS))
    return TRUE;
  root = valley_json_read (path, MAX_CONFIG_BYTES, error);
  if (root == NULL)
    return FALSE;
  r.object = root;
  read_stop_ids (&r, config);
  config->repetition_penalty = read_double (&r, "repetition_penalty", 1, 1e-3, 1e3);
  return !r.failed;
}

ValleyConfig *
valley_config_read (const char *dir, GError **error)
{
  g_autofree char *path = g_build_filename (dir, "config.json", NULL);
  g_autoptr (JsonObject) root = NULL;
  ValleyConfig *config;
  Reader r = { NULL, path, "", error, FALSE };

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
  g_free (config->stop_ids);
  g_free (config);
}
