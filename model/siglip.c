/* siglip.c - the SigLIP vision tower: patch embedding, learned positions, pre-norm blocks, a
 * final norm.  The pooling head of the released files belongs to no stage.
 * SPDX-License-Identifier: Apache-2.0 */
#include "siglip.h"

#define PREFIX "model.vision_tower.vision_tower.vision_model."

static void
block_init (ValleyVisionBlock *block, const ValleySiglipConfig *c, ValleyWeights *w)
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
  siglip->blocks = valley_weights_structs (weights, "layers of the SigLIP tower", config->n_layers,
                                           sizeof *siglip->blocks);
  if (siglip->blocks == NULL && config->n_layers > 0)
    return;
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

void
valley_siglip_encode (const ValleySiglip *siglip, ValleyStream *stream, const ValleyTensor *patches,
                      ValleyTensor *out, const ValleyDump *dump)
{
  const ValleySiglipConfig *c = &siglip->config;
  const ValleyOps *ops = stream->ops;
  ValleyVisionShape shape = { .width = c->hidden_size,
                              .n_heads = c->n_heads,
                              .inner = c->intermediate_size,
                              .norm_eps = c->layer_norm_eps,
                              .activation = VALLEY_ACT_GELU_TANH };
  ValleyVisionScratch scratch;
  ValleyTensor x;

  valley_tensor_init (stream, &x, VALLEY_F32, patches->rows, c->hidden_size);
  valley_activations_init (stream, out, patches->rows, c->hidden_size);
  valley_vision_scratch_init (&scratch, stream, &shape, patches->rows);
  ops->linear (stream, &x, patches, &siglip->patch, &siglip->patch_bias, VALLEY_ACT_NONE,
               VALLEY_ROWS_PROMPT);
  ops->add (stream, &x, &siglip->position);
  valley_dump_tensor (dump, stream, &x, "embeddings");
  for (gsize i = 0; i < c->n_layers && !valley_stream_stopped (stream); i++) {
    valley_vision_block_run (&siglip->blocks[i], &shape, stream, &x, NULL, NULL, &scratch);
    if (valley_dump_is_on (dump))
      valley_vision_settle (stream, &x, &scratch);
    valley_dump_tensor (dump, stream, &x, "block.%" G_GSIZE_FORMAT, i);
  }
  valley_vision_norm (stream, out, &x, &siglip->post_norm, &siglip->post_norm_bias,
                      c->layer_norm_eps, &scratch);
  valley_dump_tensor (dump, stream, out, "output");
  valley_vision_scratch_clear (&scratch, stream->backend);
  valley_tensor_clear (stream->backend, &x);
}
