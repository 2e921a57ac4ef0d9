/* connector.c - the connectors (mm_projector_type) between the SigLIP tower and the language
 * model, a tile at a time.  The official code hands them a copy of the first patch in front of the
 * patches, as if the tower had a class token; some keep it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "connector.h"

#define NORM_EPS 1e-5f /* PyTorch's default, which the official code leaves */

/* ---- weights ---- */

static void
init_conv (ValleyConnector *c, ValleyWeights *weights, gsize width)
{
  valley_weights_conv (weights, "conv.weight", 4, (gsize[]){ width, width, 3, 3 }, &c->conv);
  valley_weights_bias (weights, "conv.bias", width, &c->conv_bias);
}

/* Layer i is "@name" + 2 i: the activations between them are counted too. */
static void
init_mlp (ValleyConnector *c, ValleyWeights *weights, const char *name, gsize in)
{
  for (gsize i = 0; i < c->config.n_layers; i++) {
    g_autofree char *layer = g_strdup_printf ("%s%" G_GSIZE_FORMAT, name, 2 * i);
    gsize out = i + 1 < c->config.n_layers ? c->config.mlp_hidden : c->hidden_size;

    valley_weights_linear (weights, layer, out, in, &c->layers[i].weight, &c->layers[i].bias);
    in = out;
  }
}

static void
init_words (ValleyConnector *c, ValleyWeights *weights)
{
  gsize words = c->config.mlp_hidden;

  init_conv (c, weights, c->config.in_size);
  valley_weights_matrix (weights, "mlp.0.weight", words, c->config.in_size, &c->scores);
  valley_weights_norm (weights, "mlp.1", words, &c->norm, &c->norm_bias);
  valley_weights_matrix (weights, "embedding.weight", words, c->hidden_size, &c->words);
}

void
valley_connector_init (ValleyConnector *connector, const ValleyConfig *config,
                       ValleyWeights *weights)
{
  const ValleyConnectorConfig *c = &config->connector;

  connector->config = *c;
  connector->side = config->siglip.side;
  connector->hidden_size = config->llm.hidden_size;
  connector->layers = valley_weights_structs (weights, "layers of the connector", c->n_layers,
                                              sizeof *connector->layers);
  if (connector->layers == NULL && c->n_layers > 0)
    return;
  valley_weights_set_prefix (weights, "model.mm_projector.");
  switch (c->type) {
  case VALLEY_CONNECTOR_OVIS_CONV_ADAPTER:
    init_words (connector, weights);
    break;
  case VALLEY_CONNECTOR_CONV_ADAPTER:
    init_mlp (connector, weights, "mlp.", c->in_size);
    init_conv (connector, weights, connector->hidden_size);
    break;
  case VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE:
    init_mlp (connector, weights, "mlp.", c->in_size * c->ratio * c->ratio);
    break;
  case VALLEY_CONNECTOR_MLP:
    if (c->n_layers > 1) {
      init_mlp (connector, weights, "", c->in_size);
      break;
    }
    valley_weights_set_prefix (weights, "model.");
    valley_weights_linear (weights, "mm_projector", connector->hidden_size, c->in_size,
                           &connector->layers[0].weight, &connector->layers[0].bias);
    break;
  case VALLEY_CONNECTOR_POOL_ADAPTER:
  case VALLEY_CONNECTOR_ADAPT_POOLER:
  case VALLEY_CONNECTOR_ADAPT_PYRAPOOLER:
    init_mlp (connector, weights, "mlp.", c->in_size);
    break;
  case VALLEY_CONNECTOR_IDENTITY:
    break;
  }
}

void
valley_connector_clear (ValleyConnector *connector)
{
  g_clear_pointer (&connector->layers, g_free);
}

/* ---- parts; each makes @out, a fresh tensor ---- */

/* Half as many rows and columns, rounded up. */
static void
run_conv (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x, ValleyTensor *out)
{
  gsize side = (c->side + 1) / 2;
  ValleyTensor patches;

  valley_activations_init (stream, &patches, side * side, x->cols * 9);
  valley_activations_init (stream, out, side * side, x->cols);
  stream->ops->im2col (stream, &patches, x, c->side);
  stream->ops->linear (stream, out, &patches, &c->conv, &c->conv_bias, VALLEY_ACT_NONE,
                       VALLEY_ROWS_PROMPT);
  valley_tensor_clear (stream->backend, &patches);
}

static void
run_mlp (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x, ValleyTensor *out)
{
  ValleyTensor in = *x;

  for (gsize i = 0; i < c->config.n_layers; i++) {
    gboolean is_last = i + 1 == c->config.n_layers;

    valley_activations_init (stream, out, x->rows, is_last ? c->hidden_size : c->config.mlp_hidden);
    stream->ops->linear (stream, out, &in, &c->layers[i].weight, &c->layers[i].bias,
                         is_last ? VALLEY_ACT_NONE : VALLEY_ACT_GELU_ERF, VALLEY_ROWS_PROMPT);
    if (i > 0)
      valley_tensor_clear (stream->backend, &in);
    in = *out;
  }
}

/* @x behind a copy of its first row, where the connector keeps that. */
static void
run_cls (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x, ValleyTensor *out)
{
  gsize cls = c->config.keeps_cls ? 1 : 0;
  ValleyTensor first = valley_tensor_rows (x, 0, cls), part;

  valley_activations_init (stream, out, cls + x->rows, x->cols);
  part = valley_tensor_rows (out, 0, cls);
  stream->ops->copy (stream, &part, &first);
  part = valley_tensor_rows (out, cls, x->rows);
  stream->ops->copy (stream, &part, x);
}

/* Means of equal squares, behind a copy of the first row where the connector keeps that. */
static void
run_pool (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x, ValleyTensor *out)
{
  gsize cls = c->config.keeps_cls ? 1 : 0, side = c->config.pool_side;
  ValleyTensor first = valley_tensor_rows (x, 0, cls), part;

  valley_activations_init (stream, out, cls + side * side, x->cols);
  part = valley_tensor_rows (out, 0, cls);
  stream->ops->copy (stream, &part, &first);
  part = valley_tensor_rows (out, cls, side * side);
  stream->ops->average_pool (stream, &part, x, c->side, c->side, side, side);
}

static void
run_pyramid (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x,
             ValleyTensor *out)
{
  static const gsize sides[] = { 2, 3, 5, 8 };
  gsize row = 0;

  valley_activations_init (stream, out, VALLEY_PYRAMID_TOKENS, x->cols);
  for (gsize i = 0; i < G_N_ELEMENTS (sides); i++) {
    ValleyTensor part = valley_tensor_rows (out, row, sides[i] * sides[i]);

    stream->ops->max_pool (stream, &part, x, c->side, c->side, sides[i], sides[i]);
    row += part.rows;
  }
}

static void
run_shuffle (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x,
             ValleyTensor *out)
{
  gsize area = c->config.ratio * c->config.ratio;

  valley_activations_init (stream, out, x->rows / area, x->cols * area);
  stream->ops->pixel_shuffle (stream, out, x, c->side, c->config.ratio);
}

/* Each token is a mixture of visual words, or the single likeliest one. */
static void
run_words (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x, ValleyTensor *out)
{
  const ValleyOps *ops = stream->ops;
  ValleyTensor shares;

  valley_activations_init (stream, &shares, x->rows, c->config.mlp_hidden);
  valley_activations_init (stream, out, x->rows, c->hidden_size);
  ops->linear (stream, &shares, x, &c->scores, NULL, VALLEY_ACT_NONE, VALLEY_ROWS_PROMPT);
  ops->layer_norm (stream, &shares, &shares, NULL, &c->norm, &c->norm_bias, NORM_EPS);
  if (c->config.hard)
    ops->one_hot (stream, &shares);
  else
    ops->softmax (stream, &shares);
  ops->mix (stream, out, &shares, &c->words);
  valley_tensor_clear (stream->backend, &shares);
}

/* ---- the whole ---- */

typedef void (*Part) (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x,
                      ValleyTensor *out);

/* An identity that drops the copied patch has nothing to do but to hand out a tensor of its
 * own, which run_cls does; elsewhere two parts follow each other. */
static const Part parts[][2] = {
  [VALLEY_CONNECTOR_OVIS_CONV_ADAPTER] = { run_conv, run_words },
  [VALLEY_CONNECTOR_CONV_ADAPTER] = { run_mlp, run_conv },
  [VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE] = { run_shuffle, run_mlp },
  [VALLEY_CONNECTOR_MLP] = { run_mlp, run_cls },
  [VALLEY_CONNECTOR_POOL_ADAPTER] = { run_pool, run_mlp },
  [VALLEY_CONNECTOR_ADAPT_POOLER] = { run_mlp, run_pool },
  [VALLEY_CONNECTOR_ADAPT_PYRAPOOLER] = { run_mlp, run_pyramid },
  [VALLEY_CONNECTOR_IDENTITY] = { run_cls, NULL },
};

void
valley_connector_run (const ValleyConnector *connector, ValleyStream *stream, const ValleyTensor *x,
                      ValleyTensor *out, const ValleyDump *dump)
{
  const Part *part = parts[connector->config.type];

  if (part[1] == NULL) {
    part[0](connector, stream, x, out);
  } else {
    ValleyTensor between;

    part[0](connector, stream, x, &between);
    part[1](connector, stream, &between, out);
    valley_tensor_clear (stream->backend, &between);
  }
  valley_dump_tensor (dump, stream, out, "connector");
}
