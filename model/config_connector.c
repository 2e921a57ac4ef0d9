/* config_connector.c - config.json's keys of the connector between the SigLIP tower and the
 * language model.
 * SPDX-License-Identifier: Apache-2.0 */
#include "config_connector.h"

#include <string.h>

static void
read_connector_type (ValleyReader *r, ValleyConnectorConfig *connector)
{
  const char *type = valley_reader_string (r, "mm_projector_type");
  const char *tokenize = valley_reader_string (r, "tokenize_function");

  if (g_strcmp0 (type, "ovis_conv_adapter") == 0)
    connector->type = VALLEY_CONNECTOR_OVIS_CONV_ADAPTER;
  else if (g_strcmp0 (type, "conv_adapter") == 0)
    connector->type = VALLEY_CONNECTOR_CONV_ADAPTER;
  else if (g_strcmp0 (type, "mlp_pixel_shuffle") == 0)
    connector->type = VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE;
  else
    valley_reader_complain (r, "mm_projector_type",
                            "one of the connectors that this version runs: \"ovis_conv_adapter\", "
                            "\"conv_adapter\", \"mlp_pixel_shuffle\"");

  if (connector->type != VALLEY_CONNECTOR_OVIS_CONV_ADAPTER)
    return;
  connector->hard = g_strcmp0 (tokenize, "st_argmax") == 0;
  if (!connector->hard && tokenize != NULL && strcmp (tokenize, "softmax") != 0)
    valley_reader_complain (
        r, "tokenize_function",
        "\"softmax\" or \"st_argmax\" (\"gumbel_argmax\" samples and is for training only)");
}

void
valley_config_read_connector (ValleyReader *r, ValleyConfig *config)
{
  ValleyConnectorConfig *connector = &config->connector;
  gsize side = config->siglip.side, fallback;

  read_connector_type (r, connector);
  fallback
      = connector->type == VALLEY_CONNECTOR_OVIS_CONV_ADAPTER ? 32000 : config->llm.hidden_size;
  connector->mlp_hidden
      = valley_reader_size (r, "mlp_hidden_dim", fallback, 1, VALLEY_MAX_VOCABULARY);
  connector->in_size
      = valley_reader_size (r, "mm_hidden_size", config->siglip.hidden_size, 1, VALLEY_MAX_WIDTH);
  if (connector->in_size != config->siglip.hidden_size)
    valley_reader_complain (r, "mm_hidden_size", "the SigLIP tower's hidden_size %" G_GSIZE_FORMAT,
                            config->siglip.hidden_size);
  if (connector->type != VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE) {
    connector->out_side = (side + 1) / 2;
    return;
  }
  connector->ratio = valley_reader_size (r, "pixelshuffle_downsample_ratio", 3, 1, 64);
  connector->out_side = side / connector->ratio;
  if (side % connector->ratio != 0)
    valley_reader_complain (r, "pixelshuffle_downsample_ratio",
                            "a divisor of the tower's %" G_GSIZE_FORMAT " patches a side", side);
}
