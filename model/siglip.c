/* siglip.c - the SigLIP vision tower: patch embedding, learned positions, pre-norm blocks, a
 * final norm.  The pooling head of the released files belongs to no stage.
 * SPDX-License-Identifier: Apache-2.0 */
#include "siglip.h"

#include <math.h>

#define PREFIX "model.vision_tower.vision_tower.vision_model."

/* Activations of one block, reused by every block. */
typedef struct {
  ValleyTensor normed, qkv, mixed, delta, inner;
} Scratch;

static void
block_init (ValleySiglipBlock *block, const ValleySiglipConfig *c, ValleyWeights *w)
{
  gsize h = c->hidden_size, inner = c->intermediate_size;

  valley_weights_norm (w, "layer_norm1", h, &block->norm1, &block->norm1_bias);
  valley_weights_norm (w, "layer_norm2", h, &block->norm2, &block->norm2_bias);
  valley_weights_linear (w, "self_attn.q_proj", h, h, &block->q, &block->q_bias);
  valley_weights_linear (w, "self_attn.k_proj", h, h, &block->k, &block->k_bias);
  valley_weights_linear (w, "self_attn.v_proj", h, h, &block->v, &block->v_bias);
  valley_weights_linear (w, "self_attn.out_proj", h, h, &block->out, &block->out_bias);
  valley_weights_linear (w, "mlp.fc1", inner, h, &block->fc1, &block->fc1_bias);
  valley_weights_linear (w, "mlp.fc2", h, inner, &block->fc2, &block->fc2_bias);
}

void
valley_siglip_init (ValleySiglip *siglip, const ValleySiglipConfig *config, ValleyWeights *weights)
{
  gsize h = config->hidden_size, patch = config->patch_size;

  siglip->config = *config;
  siglip->blocks = g_new0 (ValleySiglipBlock, config->n_layers);
  valley_weights_set_prefix (weights, PREFIX);
  valley_weights_conv (weights, "embeddings.patch_embedding.weight", 4,
                       (gsize[]){ h, 3, patch, patch }, &siglip->patch);
  valley_weights_vector (weights, "embeddings.patch_embedding.bias", h, &siglip->patch_bias);
  valley_weights_table (weights, "embeddings.position_embedding.weight",
                        config->side * config->side, h, &siglip->position);
  valley_weights_norm (weights, "post_layernorm", h, &siglip->post_norm, &siglip->post_norm_bias);
  for (gsize i = 0; i < config->n_layers; i++) {
    valley_weights_set_prefix (weights, PREFIX "encoder.layers.%" G_GSIZE_FORMAT ".", i);
    block_init (&siglip->blocks[i], config, weights);
  }
  valley_weights_ignore (weights, PREFIX "head.");
}

void
valley_siglip_clear (ValleySiglip *siglip)
{
  g_clear_pointer (&siglip->blocks, g_free);
}

static void
scratch_init (Scratch *s, ValleyStream *stream, const ValleySiglipConfig *c, gsize rows)
{
  valley_tensor_init (stream, &s->normed, VALLEY_F32, rows, c->hidden_size);
  valley_tensor_init (stream, &s->qkv, VALLEY_F32, rows, 3 * c->hidden_size);
  valley_tensor_init (stream, &s->mixed, VALLEY_F32, rows, c->hidden_size);
  valley_tensor_init (stream, &s->delta, VALLEY_F32, rows, c->hidden_size);
  valley_tensor_init (stream, &s->inner, VALLEY_F32, rows, c->intermediate_size);
}

static void
scratch_clear (Scratch *s, ValleyBackend *backend)
{
  valley_tensor_clear (backend, &s->normed);
  valley_tensor_clear (backend, &s->qkv);
  valley_tensor_clear (backend, &s->mixed);
  valley_tensor_clear (backend, &s->delta);
  valley_tensor_clear (backend, &s->inner);
}

static void
block_run (const ValleySiglipBlock *b, const ValleySiglipConfig *c, ValleyStream *stream,
           const ValleyTensor *x, Scratch *s)
{
  const ValleyOps *ops = stream->ops;
  gsize h = c->hidden_size, head = h / c->n_heads;
  ValleyTensor q = valley_tensor_cols (&s->qkv, 0, h);
  ValleyTensor k = valley_tensor_cols (&s->qkv, h, h);
  ValleyTensor v = valley_tensor_cols (&s->qkv, 2 * h, h);
  ValleyAttention attention = { .n_heads = c->n_heads,
                                .n_kv_heads = c->n_heads,
                                .head_dim = head,
                                .scale = 1.0f / sqrtf ((float)head),
                                .n_sequences = 1 };

  ops->layer_norm (stream, &s->normed, x, &b->norm1, &b->norm1_bias, c->layer_norm_eps);
  ops->linear (stream, &q, &s->normed, &b->q, &b->q_bias, VALLEY_ACT_NONE, VALLEY_ROWS_PROMPT);
  ops->linear (stream, &k, &s->normed, &b->k, &b->k_bias, VALLEY_ACT_NONE, VALLEY_ROWS_PROMPT);
  ops->linear (stream, &v, &s->normed, &b->v, &b->v_bias, VALLEY_ACT_NONE, VALLEY_ROWS_PROMPT);
  ops->attention (stream, &s->mixed, &q, &k, &v, &attention);
  ops->linear (stream, &s->delta, &s->mixed, &b->out, &b->out_bias, VALLEY_ACT_NONE,
               VALLEY_ROWS_PROMPT);
  ops->add (stream, x, &s->delta);

  ops->layer_norm (stream, &s->normed, x, &b->norm2, &b->norm2_bias, c->layer_norm_eps);
  ops->linear (stream, &s->inner, &s->normed, &b->fc1, &b->fc1_bias, VALLEY_ACT_GELU_TANH,
               VALLEY_ROWS_PROMPT);
  ops->linear (stream, &s->delta, &s->inner, &b->fc2, &b->fc2_bias, VALLEY_ACT_NONE,
               VALLEY_ROWS_PROMPT);
  ops->add (stream, x, &s->delta);
}

void
valley_siglip_encode (const ValleySiglip *siglip, ValleyStream *stream, const ValleyTensor *patches,
                      ValleyTensor *out, const ValleyDump *dump)
{
  const ValleySiglipConfig *c = &siglip->config;
  const ValleyOps *ops = stream->ops;
  Scratch scratch;

  valley_tensor_init (stream, out, VALLEY_F32, patches->rows, c->hidden_size);
  scratch_init (&scratch, stream, c, patches->rows);
  ops->linear (stream, out, patches, &siglip->patch, &siglip->patch_bias, VALLEY_ACT_NONE,
               VALLEY_ROWS_PROMPT);
  ops->add (stream, out, &siglip->position);
  valley_dump_tensor (dump, stream, out, "embeddings");
  for (gsize i = 0; i < c->n_layers && !valley_stream_stopped (stream); i++) {
    block_run (&siglip->blocks[i], c, stream, out, &scratch);
    valley_dump_tensor (dump, stream, out, "block.%" G_GSIZE_FORMAT, i);
  }
  ops->layer_norm (stream, out, out, &siglip->post_norm, &siglip->post_norm_bias,
                   c->layer_norm_eps);
  valley_dump_tensor (dump, stream, out, "output");
  scratch_clear (&scratch, stream->backend);
}
