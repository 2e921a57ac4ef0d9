/* resampler.c - minicpm_resampler: attention from learned queries to a tile's patches, whose
 * keys, but not values, carry their place in the grid.
 * SPDX-License-Identifier: Apache-2.0 */
#include "resampler.h"

#include "alloc.h"

#include <math.h>
#include <string.h>

#define NORM_EPS 1e-6f
#define HEAD_WIDTH 128 /* about: the official code rounds the number of heads down */

void
valley_resampler_init (ValleyResampler *r, gsize in_size, gsize width, gsize n_queries,
                       ValleyWeights *weights)
{
  r->in_size = in_size;
  r->width = width;
  r->n_heads = width / HEAD_WIDTH;
  valley_weights_table (weights, "resampler.query", n_queries, width, &r->query);
  if (in_size != width)
    valley_weights_matrix (weights, "resampler.kv_proj.weight", width, in_size, &r->kv_proj);
  valley_weights_matrix (weights, "resampler.attn.in_proj_weight", 3 * width, width, &r->in_proj);
  valley_weights_bias (weights, "resampler.attn.in_proj_bias", 3 * width, &r->in_proj_bias);
  valley_weights_linear (weights, "resampler.attn.out_proj", width, width, &r->out_proj,
                         &r->out_proj_bias);
  valley_weights_norm (weights, "resampler.ln_q", width, &r->ln_q, &r->ln_q_bias);
  valley_weights_norm (weights, "resampler.ln_kv", width, &r->ln_kv, &r->ln_kv_bias);
  valley_weights_norm (weights, "resampler.ln_post", width, &r->ln_post, &r->ln_post_bias);
  valley_weights_matrix (weights, "resampler.proj", width, width, &r->proj);
}

/* A row's first half tells the column, its second half the row of the patch: sines, then
 * cosines of geometrically falling frequencies. */
static void
fill_positions (float *out, gsize side, gsize width)
{
  gsize half = width / 2, quarter = width / 4;

  /* The first row of patches has every column once; the rest are copies. */
  for (gsize j = 0; j < quarter; j++) {
    double frequency = pow (10000, -(double) j / (double) quarter);

    for (gsize i = 0; i < side; i++) {
      out[i * width + j] = (float) sin ((double) i * frequency);
      out[i * width + quarter + j] = (float) cos ((double) i * frequency);
    }
  }
  for (gsize i = 0; i < side * side; i++) {
    if (i >= side)
      memcpy (out + i * width, out + i % side * width, half * sizeof *out);
    memcpy (out + i * width + half, out + i / side * width, half * sizeof *out);
  }
}

/* @keys, a fresh tensor: the patches' places, then the patches added. */
static void
make_keys (ValleyStream *stream, const ValleyTensor *patches, ValleyTensor *keys)
{
  gsize side = valley_square_side (patches->rows);
  g_autofree float *host = valley_alloc (patches->rows * patches->cols, sizeof (float));

  valley_activations_init (stream, keys, patches->rows, patches->cols);
  if (host == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory for a tile's positions");
    return;
  }
  fill_positions (host, side, patches->cols);
  stream->ops->upload (stream, keys, host);
  stream->ops->add (stream, keys, patches);
}

/* Part @part of the three joined projections: queries, keys, values.  @out is a fresh tensor. */
static void
project (const ValleyResampler *r, ValleyStream *stream, gsize part, const ValleyTensor *x,
         ValleyTensor *out)
{
  ValleyTensor weight = valley_tensor_rows (&r->in_proj, part * r->width, r->width);
  ValleyTensor bias = valley_tensor_cols (&r->in_proj_bias, part * r->width, r->width);

  valley_activations_init (stream, out, x->rows, r->width);
  stream->ops->linear (stream, out, x, &weight, &bias, VALLEY_ACT_NONE, VALLEY_ROWS_PROMPT);
}

static void
project_queries (const ValleyResampler *r, ValleyStream *stream, ValleyTensor *out)
{
  ValleyTensor normed;

  valley_activations_init (stream, &normed, r->query.rows, r->width);
  stream->ops->layer_norm (stream, &normed, &r->query, NULL, &r->ln_q, &r->ln_q_bias, NORM_EPS);
  project (r, stream, 0, &normed, out);
  valley_tensor_clear (stream->backend, &normed);
}

static void
project_patches (const ValleyResampler *r, ValleyStream *stream, const ValleyTensor *x,
                 ValleyTensor *k, ValleyTensor *v)
{
  ValleyTensor patches, keys;

  valley_activations_init (stream, &patches, x->rows, r->width);
  if (r->in_size != r->width)
    stream->ops->linear (stream, &patches, x, &r->kv_proj, NULL, VALLEY_ACT_NONE,
                         VALLEY_ROWS_PROMPT);
  else
    stream->ops->copy (stream, &patches, x);
  stream->ops->layer_norm (stream, &patches, &patches, NULL, &r->ln_kv, &r->ln_kv_bias, NORM_EPS);
  make_keys (stream, &patches, &keys);
  project (r, stream, 1, &keys, k);
  project (r, stream, 2, &patches, v);
  valley_tensor_clear (stream->backend, &keys);
  valley_tensor_clear (stream->backend, &patches);
}

void
valley_resampler_run (const ValleyResampler *r, ValleyStream *stream, const ValleyTensor *x,
                      ValleyTensor *out)
{
  const ValleyOps *ops = stream->ops;
  gsize head_dim = r->width / r->n_heads;
  ValleyAttention attention = { .n_heads = r->n_heads,
                                .n_kv_heads = r->n_heads,
                                .head_dim = head_dim,
                                .scale = (float) (1 / sqrt ((double) head_dim)),
                                .n_sequences = 1 };
  ValleyTensor q, k, v, mixed, joined;

  project_queries (r, stream, &q);
  project_patches (r, stream, x, &k, &v);
  valley_activations_init (stream, &mixed, q.rows, r->width);
  valley_activations_init (stream, &joined, q.rows, r->width);
  valley_activations_init (stream, out, q.rows, r->width);
  ops->attention (stream, &mixed, &q, &k, &v, &attention);
  ops->linear (stream, &joined, &mixed, &r->out_proj, &r->out_proj_bias, VALLEY_ACT_NONE,
               VALLEY_ROWS_PROMPT);
  ops->layer_norm (stream, &joined, &joined, NULL, &r->ln_post, &r->ln_post_bias, NORM_EPS);
  ops->mix (stream, out, &joined, &r->proj);
  valley_tensor_clear (stream->backend, &joined);
  valley_tensor_clear (stream->backend, &mixed);
  valley_tensor_clear (stream->backend, &v);
  valley_tensor_clear (stream->backend, &k);
  valley_tensor_clear (stream->backend, &q);
}
