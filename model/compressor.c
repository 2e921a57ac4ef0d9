/* compressor.c - the token compressors: pooling, and choosing tokens by a score.  Each takes
 * one tile's tokens and leaves fewer; config_compressor.c has seen to it that they fit.
 * SPDX-License-Identifier: Apache-2.0 */
#include "compressor.h"

#include "alloc.h"

#define NORM_EPS 1e-5f

/* ---- weights ---- */

static void
init_scorer (ValleyCompressor *c, ValleyWeights *weights, gsize width, gsize n_scores)
{
  valley_weights_norm (weights, "norm", width, &c->norm, &c->norm_bias);
  valley_weights_linear (weights, "out_conv.0", c->config.inner_size, width, &c->inner,
                         &c->inner_bias);
  /* scores are f32, and so is their bias */
  valley_weights_matrix (weights, "out_conv.2.weight", n_scores, c->config.inner_size, &c->score);
  valley_weights_vector (weights, "out_conv.2.bias", n_scores, &c->score_bias);
}

void
valley_compressors_init (ValleyCompressors *compressors, const ValleyConfig *config,
                         ValleyWeights *weights)
{
  gsize width = config->llm.hidden_size;

  compressors->n = config->n_compressors;
  compressors->list = g_new0 (ValleyCompressor, config->n_compressors);
  for (gsize i = 0; i < compressors->n; i++) {
    ValleyCompressor *c = &compressors->list[i];

    c->config = config->compressors[i];
    valley_weights_set_prefix (weights,
                               "model.token_compressor.compressor_list.%" G_GSIZE_FORMAT ".", i);
    if (c->config.type == VALLEY_COMPRESSOR_EVO)
      init_scorer (c, weights, width, 1);
    else if (c->config.type == VALLEY_COMPRESSOR_LAVIT)
      init_scorer (c, weights, width, 2);
    else if (c->config.type == VALLEY_COMPRESSOR_MINICPM_RESAMPLER)
      valley_resampler_init (&c->resampler, config->connector.in_size, width, c->config.n_queries,
                             weights);
  }
}

void
valley_compressors_clear (ValleyCompressors *compressors)
{
  g_clear_pointer (&compressors->list, g_free);
}

/* ---- pooling ---- */

static void
run_pool (ValleyStream *stream, const ValleyTensor *x, gsize n_tokens, ValleyTensor *out)
{
  gsize from = valley_square_side (x->rows), to = valley_square_side (n_tokens);

  valley_activations_init (stream, out, n_tokens, x->cols);
  stream->ops->average_pool (stream, out, x, from, from, to, to);
}

/* ---- choosing ---- */

/* y = Linear (GELU (Linear (x))), a fresh tensor, f32: tokens are chosen by it */
static void
run_scorer (const ValleyCompressor *c, ValleyStream *stream, const ValleyTensor *x, gsize n_scores,
            ValleyTensor *y)
{
  ValleyTensor inner;

  valley_activations_init (stream, &inner, x->rows, c->config.inner_size);
  valley_tensor_init (stream, y, VALLEY_F32, x->rows, n_scores);
  stream->ops->linear (stream, &inner, x, &c->inner, &c->inner_bias, VALLEY_ACT_GELU_ERF,
                       VALLEY_ROWS_PROMPT);
  stream->ops->linear (stream, y, &inner, &c->score, &c->score_bias, VALLEY_ACT_NONE,
                       VALLEY_ROWS_PROMPT);
  valley_tensor_clear (stream->backend, &inner);
}

/* lavit scores a token together with its tile: the second half of every row becomes that
 * half's mean over all rows. */
static void
share_second_half (ValleyStream *stream, const ValleyTensor *x)
{
  ValleyTensor half = valley_tensor_cols (x, x->cols / 2, x->cols / 2), mean;
  g_autofree gint32 *zeros = VALLEY_NEW0 (gint32, x->rows);
  ValleyTensor ids;

  if (zeros == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory to compress tokens");
    return;
  }
  valley_activations_init (stream, &mean, 1, half.cols);
  valley_tensor_init_ids (stream, &ids, zeros, x->rows);
  stream->ops->average_pool (stream, &mean, &half, x->rows, 1, 1, 1);
  stream->ops->gather (stream, &half, &mean, &ids);
  valley_tensor_clear (stream->backend, &ids);
  valley_tensor_clear (stream->backend, &mean);
}

/* The scores of @x on the host, @n_scores a row; NULL and an error on the stream when that
 * fails. */
static float *
score_tokens (const ValleyCompressor *c, ValleyStream *stream, const ValleyTensor *x,
              gsize n_scores)
{
  g_autofree float *host = VALLEY_NEW (float, x->rows *n_scores);
  ValleyTensor normed, scores;
  GError *error = NULL;

  if (host == NULL)
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory to compress tokens");
  valley_activations_init (stream, &normed, x->rows, x->cols);
  stream->ops->layer_norm (stream, &normed, x, NULL, &c->norm, &c->norm_bias, NORM_EPS);
  if (c->config.type == VALLEY_COMPRESSOR_LAVIT)
    share_second_half (stream, &normed);
  run_scorer (c, stream, &normed, n_scores, &scores);
  if (c->config.type == VALLEY_COMPRESSOR_EVO) {
    /* The official code sorts probabilities: where they underflow, the order of tokens decides. */
    ValleyTensor row = valley_tensor_reshape (&scores, 1, scores.rows);

    stream->ops->softmax (stream, &row);
  }
  if (host != NULL && !stream->ops->download (stream, &scores, host, &error)) {
    /* The download took the stream's error along; later operations must still see it. */
    valley_stream_fail (stream, error->code, "%s", error->message);
    g_clear_error (&error);
    g_clear_pointer (&host, g_free);
  }
  valley_tensor_clear (stream->backend, &scores);
  valley_tensor_clear (stream->backend, &normed);
  return g_steal_pointer (&host);
}

/* The largest score first; of equal ones the token that came first. */
static gint
compare_scores (gconstpointer a, gconstpointer b, gpointer data)
{
  gint32 i = *(const gint32 *) a, j = *(const gint32 *) b;
  const float *scores = data;

  return scores[i] != scores[j] ? (scores[i] < scores[j] ? 1 : -1) : (i > j) - (i < j);
}

/* The best tokens in the order of their scores. */
static gsize
choose_best (const ValleyCompressor *c, float *scores, gsize n, gint32 *kept)
{
  for (gsize i = 0; i < n; i++)
    kept[i] = (gint32) i;
  g_qsort_with_data (kept, (gint) n, sizeof *kept, compare_scores, scores);
  return valley_compressor_tokens (&c->config, n, 1);
}

/* Those that the first of two classes fits at least as well as the second, in their own order:
 * the likelier outcome of what the official code draws by lot. */
static gsize
choose_first_class (const float *scores, gsize n, gint32 *kept)
{
  gsize n_kept = 0;

  for (gsize i = 0; i < n; i++)
    if (scores[2 * i] >= scores[2 * i + 1])
      kept[n_kept++] = (gint32) i;
  return n_kept;
}

static void
run_choice (const ValleyCompressor *c, ValleyStream *stream, const ValleyTensor *x,
            ValleyTensor *out)
{
  gboolean is_evo = c->config.type == VALLEY_COMPRESSOR_EVO;
  g_autofree gint32 *kept = VALLEY_NEW (gint32, MAX (x->rows, 1));
  g_autofree float *scores = NULL;
  ValleyTensor ids;
  gsize n = 0;

  if (kept == NULL)
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory to compress tokens");
  else if (x->rows > 0)
    scores = score_tokens (c, stream, x, is_evo ? 1 : 2);
  if (scores != NULL)
    n = is_evo ? choose_best (c, scores, x->rows, kept)
               : choose_first_class (scores, x->rows, kept);
  valley_activations_init (stream, out, n, x->cols);
  valley_tensor_init_ids (stream, &ids, kept, n);
  stream->ops->gather (stream, out, x, &ids);
  valley_tensor_clear (stream->backend, &ids);
}

/* ---- the list ---- */

static void
run_one (const ValleyCompressor *c, ValleyStream *stream, const ValleyTensor *x, gsize n_tiles,
         ValleyTensor *out)
{
  switch (c->config.type) {
  case VALLEY_COMPRESSOR_AVGPOOL:
  case VALLEY_COMPRESSOR_ROIPOOL:
    run_pool (stream, x, valley_compressor_tokens (&c->config, x->rows, n_tiles), out);
    break;
  case VALLEY_COMPRESSOR_EVO:
  case VALLEY_COMPRESSOR_LAVIT:
    run_choice (c, stream, x, out);
    break;
  case VALLEY_COMPRESSOR_MINICPM_RESAMPLER:
    valley_resampler_run (&c->resampler, stream, x, out);
    break;
  }
}

void
valley_compressors_run (const ValleyCompressors *compressors, ValleyStream *stream, ValleyTensor *x,
                        gsize n_tiles, const ValleyDump *dump)
{
  for (gsize i = 0; i < compressors->n; i++) {
    const ValleyCompressor *c = &compressors->list[i];
    gboolean is_few = c->config.type == VALLEY_COMPRESSOR_ROIPOOL
                      && valley_compressor_tokens (&c->config, x->rows, n_tiles) == x->rows;
    ValleyTensor out;

    if (!is_few) { /* those that pass as they are need not be a square */
      run_one (c, stream, x, n_tiles, &out);
      valley_tensor_clear (stream->backend, x);
      *x = out;
    }
    valley_dump_tensor (dump, stream, x, "compressor.%" G_GSIZE_FORMAT, i);
  }
}
