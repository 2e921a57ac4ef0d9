/* config_connector.c - config.json's keys of the connector between the SigLIP tower and the
 * language model.
 * SPDX-License-Identifier: Apache-2.0 */
#include "config_connector.h"

#include <string.h>

#define MAX_MLP_LAYERS ((gsize) 64)

typedef struct {
  const char *name;
  ValleyConnectorType type;
  gsize n_layers;
  gboolean keeps_cls;
} Kind;

static const Kind kinds[] = {
  { "ovis_conv_adapter", VALLEY_CONNECTOR_OVIS_CONV_ADAPTER, 0, FALSE },
  { "conv_adapter", VALLEY_CONNECTOR_CONV_ADAPTER, 2, FALSE },
  { "mlp_pixel_shuffle", VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE, 2, FALSE },
  { "linear", VALLEY_CONNECTOR_MLP, 1, TRUE },
  { "pool_adapter", VALLEY_CONNECTOR_POOL_ADAPTER, 2, FALSE },
  { "pool_adapter_w_cls", VALLEY_CONNECTOR_POOL_ADAPTER, 2, TRUE },
  { "adapt_pooler", VALLEY_CONNECTOR_ADAPT_POOLER, 2, FALSE },
  { "adapt_pooler_w_cls", VALLEY_CONNECTOR_ADAPT_POOLER, 2, TRUE },
  { "adapt_pyrapooler", VALLEY_CONNECTOR_ADAPT_PYRAPOOLER, 2, FALSE },
  { "identity", VALLEY_CONNECTOR_IDENTITY, 0, TRUE },
  { "identity_patch", VALLEY_CONNECTOR_IDENTITY, 0, FALSE },
};

/* N of "mlpNx_gelu"; 0 when @name is none that can be run. */
static gsize
mlp_layers (const char *name)
{
  guint64 n = 0;
  char *end;

  if (strncmp (name, "mlp", 3) != 0 || !g_ascii_isdigit (name[3]))
    return 0;
  n = g_ascii_strtoull (name + 3, &end, 10);
  return strcmp (end, "x_gelu") == 0 && n >= 2 && n <= MAX_MLP_LAYERS ? (gsize) n : 0;
}

static gboolean
find_kind (const char *name, Kind *kind)
{
  for (gsize i = 0; i < G_N_ELEMENTS (kinds); i++)
    if (strcmp (kinds[i].name, name) == 0) {
      *kind = kinds[i];
      return TRUE;
    }
  *kind = (Kind){ name, VALLEY_CONNECTOR_MLP, mlp_layers (name), TRUE };
  return kind->n_layers > 0;
}

static void
complain_of_type (ValleyReader *r)
{
  g_autoptr (GString) names = g_string_new (NULL);

  for (gsize i = 0; i < G_N_ELEMENTS (kinds); i++)
    g_string_append_printf (names, "\"%s\", ", kinds[i].name);
  valley_reader_complain (r, "mm_projector_type",
                          "one of %sor \"mlpNx_gelu\" with N from 2 to %" G_GSIZE_FORMAT,
                          names->str, MAX_MLP_LAYERS);
}

static void
read_type (ValleyReader *r, ValleyConnectorConfig *connector)
{
  const char *name = valley_reader_string (r, "mm_projector_type");
  const char *tokenize = valley_reader_string (r, "tokenize_function");
  Kind kind = { 0 };

  if (name == NULL || !find_kind (name, &kind)) {
    complain_of_type (r);
    return;
  }
  connector->name = g_strdup (name);
  connector->type = kind.type;
  connector->n_layers = kind.n_layers;
  connector->keeps_cls = kind.keeps_cls;
  if (kind.type != VALLEY_CONNECTOR_OVIS_CONV_ADAPTER)
    return;
  connector->hard = g_strcmp0 (tokenize, "st_argmax") == 0;
  if (!connector->hard && tokenize != NULL && strcmp (tokenize, "softmax") != 0)
    valley_reader_complain (
        r, "tokenize_function",
        "\"softmax\" or \"st_argmax\" (\"gumbel_argmax\" samples and is for training only)");
}

/* The width between a mlp's layers; only these kinds look at mlp_hidden_dim. */
static gsize
read_hidden (ValleyReader *r, ValleyConnectorType type, gsize hidden_size)
{
  switch (type) {
  case VALLEY_CONNECTOR_OVIS_CONV_ADAPTER:
    return valley_reader_size (r, "mlp_hidden_dim", 32000, 1, VALLEY_MAX_VOCABULARY);
  case VALLEY_CONNECTOR_CONV_ADAPTER:
  case VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE:
    return valley_reader_size (r, "mlp_hidden_dim", hidden_size, 1, VALLEY_MAX_VOCABULARY);
  default:
    return hidden_size;
  }
}

/* A number that must divide the tower's patches a side. */
static gsize
read_divisor (ValleyReader *r, const char *key, gsize fallback, gsize side)
{
  gsize value = valley_reader_size (r, key, fallback, 1, VALLEY_MAX_COUNT);

  if (side % value != 0)
    valley_reader_complain (r, key, "a divisor of the tower's %" G_GSIZE_FORMAT " patches a side",
                            side);
  return value;
}

static gsize
count_tokens (ValleyReader *r, ValleyConnectorConfig *c, gsize side)
{
  gsize cls = c->keeps_cls ? 1 : 0, out = side;

  switch (c->type) {
  case VALLEY_CONNECTOR_OVIS_CONV_ADAPTER:
  case VALLEY_CONNECTOR_CONV_ADAPTER:
    out = (side + 1) / 2;
    break;
  case VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE:
    c->ratio = read_divisor (r, "pixelshuffle_downsample_ratio", 3, side);
    out = side / c->ratio;
    break;
  case VALLEY_CONNECTOR_POOL_ADAPTER:
  case VALLEY_CONNECTOR_ADAPT_POOLER:
    out = c->pool_side = read_divisor (r, "pool_out_size", VALLEY_REQUIRED, side);
    break;
  case VALLEY_CONNECTOR_ADAPT_PYRAPOOLER:
    return VALLEY_PYRAMID_TOKENS;
  case VALLEY_CONNECTOR_MLP:
  case VALLEY_CONNECTOR_IDENTITY:
    break;
  }
  return cls + out * out;
}

void
valley_config_read_connector (ValleyReader *r, ValleyConfig *config)
{
  ValleyConnectorConfig *connector = &config->connector;

  read_type (r, connector);
  connector->mlp_hidden = read_hidden (r, connector->type, config->llm.hidden_size);
  connector->in_size
      = valley_reader_size (r, "mm_hidden_size", config->siglip.hidden_size, 1, VALLEY_MAX_WIDTH);
  if (connector->in_size != config->siglip.hidden_size)
    valley_reader_complain (r, "mm_hidden_size", "the SigLIP tower's hidden_size %" G_GSIZE_FORMAT,
                            config->siglip.hidden_size);
  connector->n_tokens = count_tokens (r, connector, config->siglip.side);
}
