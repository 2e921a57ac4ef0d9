/* connector.c - the connectors (mm_projector_type) between the SigLIP tower and the language
 * model.  Each quarters the patches or more; none keeps the official code's fake CLS row.
 * SPDX-License-Identifier: Apache-2.0 */
#include "connector.h"

#define NORM_EPS 1e-5f /* PyTorch's default, which the official code leaves */

static void
init_conv (ValleyConnector *c, ValleyWeights *weights, gsize width)
{
  valley_weights_conv (weights, "conv.weight", 4, (gsize[]){ width, width, 3, 3 }, &c->conv);
  valley_weights_vector (weights, "conv.bias", width, &c->conv_bias);
}

static void
init_mlp (ValleyConnector *c, ValleyWeights *weights, gsize in)
{
  valley_weights_linear (weights, "mlp.0", c->config.mlp_hidden, in, &c->mlp1, &c->mlp1_bias);
  valley_weights_linear (weights, "mlp.2", c->hidden_size, c->config.mlp_hidden, &c->mlp2,
                         &c->mlp2_bias);
}

void
valley_connector_init (ValleyConnector *connector, const ValleyConfig *config,
                       ValleyWeights *weights)
{
  gsize in = config->connector.in_size, words = config->connector.mlp_hidden;

  connector->config = config->connector;
  connector->side = config->siglip.side;
  connector->hidden_size = config->llm.hidden_size;
  valley_weights_set_prefix (weights, "model.mm_projector.");
  switch (config->connector.type) {
  case VALLEY_CONNECTOR_OVIS_CONV_ADAPTER:
    init_conv (connector, weights, in);
    valley_weights_matrix (weights, "mlp.0.weight", words, in, &connector->mlp1);
    valley_weights_norm (weights, "mlp.1", words, &connector->norm, &connector->norm_bias);
    valley_weights_matrix (weights, "embedding.weight", words, connector->hidden_size,
                           &connector->words);
    break;
  case VALLEY_CONNECTOR_CONV_ADAPTER:
    init_mlp (connector, weights, in);
    init_conv (connector, weights, connector->hidden_size);
    break;
  case VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE:
    init_mlp (connector, weights, in * connector->config.ratio * connector->config.ratio);
    break;
  }
}

/* @out is a fresh tensor [((side + 1) / 2)^2, width of @x]. */
static void
run_conv (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x, ValleyTensor *out)
{
  gsize rows = c->config.out_side * c->config.out_side;
  ValleyTensor patches;

  valley_tensor_init (stream, &patches, VALLEY_F32, rows, x->cols * 9);
  valley_tensor_init (stream, out, VALLEY_F32, rows, x->cols);
  stream->ops->im2col (stream, &patches, x, c->side);
  stream->ops->linear (stream, out, &patches, &c->conv, &c->conv_bias, VALLEY_ACT_NONE,
                       VALLEY_ROWS_PROMPT);
  valley_tensor_clear (stream->backend, &patches);
}

/* @out is a fresh tensor [rows of @x, hidden_size]. */
static void
run_mlp (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x, ValleyTensor *out)
{
  ValleyTensor inner;

  valley_tensor_init (stream, &inner, VALLEY_F32, x->rows, c->config.mlp_hidden);
  valley_tensor_init (stream, out, VALLEY_F32, x->rows, c->hidden_size);
  stream->ops->linear (stream, &inner, x, &c->mlp1, &c->mlp1_bias, VALLEY_ACT_GELU_ERF,
                       VALLEY_ROWS_PROMPT);
  stream->ops->linear (stream, out, &inner, &c->mlp2, &c->mlp2_bias, VALLEY_ACT_NONE,
                       VALLEY_ROWS_PROMPT);
  valley_tensor_clear (stream->backend, &inner);
}

/* Each token is a mixture of visual words, or the single likeliest one. */
static void
run_words (const ValleyConnector *c, ValleyStream *stream, const ValleyTensor *x, ValleyTensor *out)
{
  const ValleyOps *ops = stream->ops;
  ValleyTensor small, shares;

  run_conv (c, stream, x, &small);
  valley_tensor_init (stream, &shares, VALLEY_F32, small.rows, c->config.mlp_hidden);
  valley_tensor_init (stream, out, VALLEY_F32, small.rows, c->hidden_size);
  ops->linear (stream, &shares, &small, &c->mlp1, NULL, VALLEY_ACT_NONE, VALLEY_ROWS_PROMPT);
  ops->layer_norm (stream, &shares, &shares, &c->norm, &c->norm_bias, NORM_EPS);
  if (c->config.hard)
    ops->one_hot (stream, &shares);
  else
    ops->softmax (stream, &shares);
  ops->mix (stream, out, &shares, &c->words);
  valley_tensor_clear (stream->backend, &shares);
  valley_tensor_clear (stream->backend, &small);
}

void
valley_connector_run (const ValleyConnector *connector, ValleyStream *stream, const ValleyTensor *x,
                      ValleyTensor *out, const ValleyDump *dump)
{
  gsize ratio = connector->config.ratio;
  ValleyTensor between;

  switch (connector->config.type) {
  case VALLEY_CONNECTOR_OVIS_CONV_ADAPTER:
    run_words (connector, stream, x, out);
    break;
  case VALLEY_CONNECTOR_CONV_ADAPTER:
    run_mlp (connector, stream, x, &between);
    run_conv (connector, stream, &between, out);
    valley_tensor_clear (stream->backend, &between);
    break;
  case VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE:
    valley_tensor_init (stream, &between, VALLEY_F32, x->rows / (ratio * ratio),
                        x->cols * ratio * ratio);
    stream->ops->pixel_shuffle (stream, &between, x, connector->side, ratio);
    run_mlp (connector, stream, &between, out);
    valley_tensor_clear (stream->backend, &between);
    break;
  }
  valley_dump_tensor (dump, stream, out, "connector");
}
