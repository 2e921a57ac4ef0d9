/* config_compressor.c - token_compressor_config: the list of compressors after the connector,
 * and how many tokens they leave.  What cannot work for a single tile is refused here; a tiled
 * picture is looked at when there is one.
 * SPDX-License-Identifier: Apache-2.0 */
#include "config_connector.h"

#include <math.h>
#include <string.h>

#define KEY "token_compressor_config"
#define MAX_COMPRESSORS 16u
#define MAX_TOKENS ((gsize) 1 << 28)
#define MAX_PARAMS 4

typedef struct {
  const char *name;
  ValleyCompressorType type;
  const char *params[MAX_PARAMS + 1];
} Kind;

/* The resampler's last three say how it was built and trained; with its weights at hand they
 * change nothing. */
static const Kind kinds[] = {
  { "avgpool", VALLEY_COMPRESSOR_AVGPOOL, { "scale" } },
  { "roipool", VALLEY_COMPRESSOR_ROIPOOL, { "max_vision_token", "mode" } },
  { "evo", VALLEY_COMPRESSOR_EVO, { "prune_ratio", "inner_dim" } },
  { "lavit", VALLEY_COMPRESSOR_LAVIT, { "inner_dim" } },
  { "minicpm_resampler",
    VALLEY_COMPRESSOR_MINICPM_RESAMPLER,
    { "num_queries", "adaptive", "max_size", "ckpt_path" } },
};

/* ---- numbers of tokens ---- */

static gsize
floor_root (gsize n)
{
  gsize root = (gsize) sqrt ((double) n);

  while (root * root > n)
    root--;
  while ((root + 1) * (root + 1) <= n)
    root++;
  return root;
}

gsize
valley_square_side (gsize n)
{
  gsize root = floor_root (n);

  return root * root == n ? root : 0;
}

gsize
valley_compressor_tokens (const ValleyCompressorConfig *c, gsize n_tokens, gsize n_tiles)
{
  gsize side = valley_square_side (n_tokens), root;

  switch (c->type) {
  case VALLEY_COMPRESSOR_AVGPOOL:
    return side % c->scale == 0 ? side / c->scale * (side / c->scale) : 0;
  case VALLEY_COMPRESSOR_ROIPOOL:
    if (n_tokens <= (c->all_tiles ? c->max_tokens / n_tiles : c->max_tokens))
      return n_tokens;
    root = floor_root (c->all_tiles ? c->max_tokens / n_tiles : c->max_tokens);
    return side > 0 ? root * root : 0;
  case VALLEY_COMPRESSOR_EVO:
    return (gsize) ((double) n_tokens * c->keep_ratio);
  case VALLEY_COMPRESSOR_LAVIT:
    return n_tokens;
  case VALLEY_COMPRESSOR_MINICPM_RESAMPLER:
    return side > 0 ? c->n_queries : 0;
  }
  return 0;
}

gsize
valley_config_tile_tokens (const ValleyConfig *config, gsize n_tiles)
{
  gsize n = config->connector.n_tokens;

  for (gsize i = 0; i < config->n_compressors && n > 0; i++)
    n = valley_compressor_tokens (&config->compressors[i], n, n_tiles);
  return n;
}

gsize
valley_config_tile_side (const ValleyConfig *config, gsize n_tiles)
{
  return config->tokens_vary ? 0 : valley_square_side (valley_config_tile_tokens (config, n_tiles));
}

/* ---- strings that the official code evaluates; here they are numbers or refused ---- */

/* "64", "4*64": a product of integers, at least 1, at most @max. */
static gboolean
parse_product (const char *text, gsize max, gsize *product)
{
  *product = 1;
  for (;; text++) {
    guint64 factor;
    char *end;

    while (*text == ' ')
      text++;
    if (!g_ascii_isdigit (*text))
      return FALSE;
    factor = g_ascii_strtoull (text, &end, 10);
    if (factor == 0 || factor > max / *product)
      return FALSE;
    *product *= (gsize) factor;
    for (text = end; *text == ' ';)
      text++;
    if (*text == '\0')
      return TRUE;
    if (*text != '*')
      return FALSE;
  }
}

static gsize
read_max_tokens (ValleyReader *r)
{
  JsonNode *node = valley_reader_member (r, "max_vision_token");
  gsize value = 1;

  if (node == NULL || !valley_reader_is_type (node, G_TYPE_STRING))
    return valley_reader_size (r, "max_vision_token", VALLEY_REQUIRED, 1, MAX_TOKENS);
  if (!parse_product (json_node_get_string (node), MAX_TOKENS, &value))
    valley_reader_complain (r, "max_vision_token",
                            "an integer or a product of integers such as \"4*64\", from 1 to "
                            "%" G_GSIZE_FORMAT,
                            MAX_TOKENS);
  return value;
}

/* A number, or a quotient such as "1/4". */
static double
read_keep_ratio (ValleyReader *r)
{
  JsonNode *node = valley_reader_member (r, "prune_ratio");
  gboolean is_text = node != NULL && valley_reader_is_type (node, G_TYPE_STRING);
  double value = -1;

  if (is_text) {
    g_auto (GStrv) parts = g_strsplit (json_node_get_string (node), "/", 2);
    gsize over, under = 1;

    if (parse_product (parts[0] != NULL ? parts[0] : "", MAX_TOKENS, &over)
        && (parts[1] == NULL || parse_product (parts[1], MAX_TOKENS, &under)))
      value = (double) over / (double) under;
  } else {
    value = valley_reader_double (r, "prune_ratio", 0.25, 0, 1);
  }
  if (!(value > 0 && value <= 1))
    valley_reader_complain (r, "prune_ratio",
                            "a number or a quotient such as \"1/4\", above 0 and at most 1");
  return value;
}

static gboolean
read_all_tiles (ValleyReader *r)
{
  const char *mode = valley_reader_string (r, "mode");

  if (mode != NULL && strcmp (mode, "single") != 0 && strcmp (mode, "multiple") != 0)
    valley_reader_complain (r, "mode", "\"single\" or \"multiple\"");
  return g_strcmp0 (mode, "multiple") == 0;
}

/* ---- the list ---- */

/* What reaches a compressor. */
typedef struct {
  gsize n_tokens, width;
  gboolean varies;
} Flow;

static const Kind *
read_kind (ValleyReader *item)
{
  const char *name = valley_reader_string (item, "type");

  for (gsize i = 0; name != NULL && i < G_N_ELEMENTS (kinds); i++)
    if (strcmp (kinds[i].name, name) == 0)
      return &kinds[i];
  valley_reader_complain (item, "type",
                          "\"avgpool\", \"roipool\", \"evo\", \"lavit\" or \"minicpm_resampler\"");
  return NULL;
}

static void
check_params (ValleyReader *params, const Kind *kind)
{
  g_autoptr (GList) names = json_object_get_members (params->object);

  for (GList *l = names; l != NULL; l = l->next)
    if (!g_strv_contains (kind->params, l->data)) {
      g_autofree char *known = g_strjoinv ("\", \"", (char **) kind->params);

      valley_reader_complain (params, l->data, "only \"%s\" as parameters of %s", known,
                              kind->name);
    }
}

static void
read_params (ValleyReader *params, ValleyCompressorConfig *c)
{
  switch (c->type) {
  case VALLEY_COMPRESSOR_AVGPOOL:
    c->scale = valley_reader_size (params, "scale", VALLEY_REQUIRED, 1, VALLEY_MAX_COUNT);
    break;
  case VALLEY_COMPRESSOR_ROIPOOL:
    c->max_tokens = read_max_tokens (params);
    c->all_tiles = read_all_tiles (params);
    break;
  case VALLEY_COMPRESSOR_EVO:
    c->keep_ratio = read_keep_ratio (params);
    c->inner_size = valley_reader_size (params, "inner_dim", 64, 1, VALLEY_MAX_WIDTH);
    break;
  case VALLEY_COMPRESSOR_LAVIT:
    c->inner_size = valley_reader_size (params, "inner_dim", 64, 1, VALLEY_MAX_WIDTH);
    break;
  case VALLEY_COMPRESSOR_MINICPM_RESAMPLER:
    c->n_queries = valley_reader_size (params, "num_queries", VALLEY_REQUIRED, 1, VALLEY_MAX_WIDTH);
    break;
  }
}

/* The official code makes hidden_size / 128 heads, and its positions fill quarters of a row. */
static void
check_resampler (ValleyReader *item, const ValleyConfig *config, const Flow *flow)
{
  gsize hidden = config->llm.hidden_size, n_heads = hidden / 128;

  if (strcmp (config->connector.name, "identity_patch") != 0)
    valley_reader_complain (item, "type",
                            "mm_projector_type \"identity_patch\" before it, not \"%s\"",
                            config->connector.name);
  else if (n_heads == 0 || hidden % n_heads != 0 || hidden % 4 != 0)
    valley_reader_complain (item, "type",
                            "a hidden_size of at least 128, a multiple of 4 that %" G_GSIZE_FORMAT
                            " heads divide, not %" G_GSIZE_FORMAT,
                            MAX (n_heads, 1), hidden);
  else if (flow->width != config->connector.in_size)
    valley_reader_complain (
        item, "type", "rows of mm_hidden_size %" G_GSIZE_FORMAT " before it, not %" G_GSIZE_FORMAT,
        config->connector.in_size, flow->width);
}

/* evo and lavit look at whole rows of the language model's width. */
static void
check_scorer (ValleyReader *item, const ValleyConfig *config, const Flow *flow,
              ValleyCompressorType type)
{
  gsize hidden = config->llm.hidden_size;

  if (flow->width != hidden)
    valley_reader_complain (
        item, "type", "rows of hidden_size %" G_GSIZE_FORMAT " before it, not %" G_GSIZE_FORMAT,
        hidden, flow->width);
  if (type == VALLEY_COMPRESSOR_LAVIT && hidden % 2 != 0)
    valley_reader_complain (item, "type", "an even hidden_size, not %" G_GSIZE_FORMAT, hidden);
}

/* Whether @c takes so many tokens and leaves @n of them. */
static void
check_tokens (ValleyReader *item, ValleyReader *params, const ValleyCompressorConfig *c,
              const Flow *flow, gsize n)
{
  gsize side = valley_square_side (flow->n_tokens);

  if (flow->varies && c->type != VALLEY_COMPRESSOR_EVO
      && (c->type != VALLEY_COMPRESSOR_ROIPOOL || n < flow->n_tokens))
    valley_reader_complain (item, "type",
                            "\"evo\", the only one that can follow lavit, which leaves another "
                            "number of tokens each time");
  else if (c->type == VALLEY_COMPRESSOR_EVO && n == 0)
    valley_reader_complain (params, "prune_ratio",
                            "a share that leaves one of %" G_GSIZE_FORMAT " tokens",
                            flow->n_tokens);
  else if (n == 0 && side == 0)
    valley_reader_complain (item, "type",
                            "a square grid of tokens before it, not %" G_GSIZE_FORMAT " tokens",
                            flow->n_tokens);
  else if (n == 0)
    valley_reader_complain (
        params, "scale", "a divisor of the %" G_GSIZE_FORMAT " tokens a side that reach it", side);
}

/* Takes @flow through @c, or says why it cannot go through. */
static void
check_flow (ValleyReader *item, ValleyReader *params, const ValleyConfig *config,
            const ValleyCompressorConfig *c, Flow *flow)
{
  gsize n = valley_compressor_tokens (c, flow->n_tokens, 1);

  if (c->type == VALLEY_COMPRESSOR_MINICPM_RESAMPLER)
    check_resampler (item, config, flow);
  else if (c->type == VALLEY_COMPRESSOR_EVO || c->type == VALLEY_COMPRESSOR_LAVIT)
    check_scorer (item, config, flow, c->type);
  if (!item->failed) /* @params has a flag of its own, and there is one error to fill */
    check_tokens (item, params, c, flow, n);
  flow->n_tokens = n;
  flow->varies = flow->varies || c->type == VALLEY_COMPRESSOR_LAVIT;
  if (c->type == VALLEY_COMPRESSOR_MINICPM_RESAMPLER)
    flow->width = config->llm.hidden_size;
}

/* A picture in as many tiles as it can have must have a token in each. */
static void
check_tiles (ValleyReader *params, const ValleyConfig *config, const ValleyCompressorConfig *c)
{
  gsize n_tiles = config->anyres ? config->grid_max_rows * config->grid_max_cols + 1 : 1;

  if (c->type == VALLEY_COMPRESSOR_ROIPOOL && c->all_tiles && c->max_tokens < n_tiles)
    valley_reader_complain (params, "max_vision_token",
                            "at least %" G_GSIZE_FORMAT ", a token for each of a picture's tiles",
                            n_tiles);
}

static void
read_compressor (ValleyReader *r, JsonArray *list, guint i, const ValleyConfig *config, Flow *flow,
                 ValleyCompressorConfig *c)
{
  g_autofree char *parent = g_strdup_printf (KEY "[%u].", i);
  g_autofree char *params_parent = g_strconcat (parent, "params.", NULL);
  g_autoptr (JsonObject) empty = json_object_new ();
  JsonNode *node = json_array_get_element (list, i);
  ValleyReader item = { NULL, r->path, parent, r->error, FALSE }, params;
  const Kind *kind;

  if (!JSON_NODE_HOLDS_OBJECT (node)) {
    valley_reader_complain (r, KEY, "a list of objects with \"type\" and \"params\"");
    return;
  }
  item.object = json_node_get_object (node);
  kind = read_kind (&item);
  params = valley_reader_object (&item, "params", params_parent, empty);
  if (kind != NULL && !params.failed) {
    c->type = kind->type;
    c->name = kind->name;
    check_params (&params, kind);
    read_params (&params, c);
    item.failed = params.failed;
  }
  if (!item.failed) {
    check_tiles (&params, config, c);
    item.failed = params.failed;
  }
  if (!item.failed)
    check_flow (&item, &params, config, c, flow);
  r->failed = item.failed || params.failed;
}

void
valley_config_read_compressors (ValleyReader *r, ValleyConfig *config)
{
  gsize hidden = config->llm.hidden_size;
  gboolean is_identity = config->connector.type == VALLEY_CONNECTOR_IDENTITY;
  Flow flow
      = { config->connector.n_tokens, is_identity ? config->connector.in_size : hidden, FALSE };
  JsonNode *node = valley_reader_member (r, KEY);
  gboolean is_list = node != NULL && JSON_NODE_HOLDS_ARRAY (node);
  JsonArray *list = is_list ? json_node_get_array (node) : NULL;

  if (node != NULL && (!is_list || json_array_get_length (list) > MAX_COMPRESSORS))
    valley_reader_complain (r, KEY, "null or a list of at most %u compressors", MAX_COMPRESSORS);
  if (r->failed)
    return;
  config->n_compressors = is_list ? json_array_get_length (list) : 0;
  config->compressors = g_new0 (ValleyCompressorConfig, config->n_compressors);
  for (guint i = 0; i < config->n_compressors && !r->failed; i++)
    read_compressor (r, list, i, config, &flow, &config->compressors[i]);
  config->tokens_vary = flow.varies;
  if (flow.width != hidden)
    valley_reader_complain (r, "mm_projector_type",
                            "a connector whose rows have hidden_size %" G_GSIZE_FORMAT
                            ", not mm_hidden_size %" G_GSIZE_FORMAT,
                            hidden, flow.width);
}
