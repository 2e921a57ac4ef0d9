/* qwen2vit.c - the Eagle branch: Qwen2-VL's vision transformer with rotary positions in two
 * dimensions, then a merger that turns each block of patches into one token.
 * SPDX-License-Identifier: Apache-2.0 */
#include "qwen2vit.h"

#include "alloc.h"

#include <math.h>

#define PREFIX "model.qwen2vl_vision_tower."
#define NORM_EPS 1e-6f
#define ROPE_THETA 10000.0f
/* Valley2.5's merger is 65,536 wide, and a large still picture has 16,384 tokens: together they
 * would be 4 GiB. */
#define MERGE_ROWS ((gsize) 256)

/* The file has the three matrices as one. */
static void
split_qkv (ValleyVisionBlock *block, gsize h, const ValleyTensor *qkv, const ValleyTensor *bias)
{
  block->q = valley_tensor_rows (qkv, 0, h);
  block->k = valley_tensor_rows (qkv, h, h);
  block->v = valley_tensor_rows (qkv, 2 * h, h);
  block->q_bias = valley_tensor_cols (bias, 0, h);
  block->k_bias = valley_tensor_cols (bias, h, h);
  block->v_bias = valley_tensor_cols (bias, 2 * h, h);
}

static void
block_init (ValleyVisionBlock *block, const ValleyEagleConfig *c, ValleyWeights *w)
{
  gsize h = c->embed_dim;
  ValleyTensor qkv = { 0 }, qkv_bias = { 0 }; /* stay empty when the file lacks them */

  valley_weights_norm (w, "norm1", h, &block->norm1, &block->norm1_bias);
  valley_weights_norm (w, "norm2", h, &block->norm2, &block->norm2_bias);
  valley_weights_linear (w, "attn.qkv", 3 * h, h, &qkv, &qkv_bias);
  split_qkv (block, h, &qkv, &qkv_bias);
  valley_weights_linear (w, "attn.proj", h, h, &block->out, &block->out_bias);
  valley_weights_linear (w, "mlp.fc1", c->mlp_dim, h, &block->fc1, &block->fc1_bias);
  valley_weights_linear (w, "mlp.fc2", h, c->mlp_dim, &block->fc2, &block->fc2_bias);
}

void
valley_eagle_init (ValleyEagle *eagle, const ValleyEagleConfig *config, ValleyWeights *weights)
{
  gsize h = config->embed_dim, patch = config->patch_size;
  gsize merged = h * config->spatial_merge_size * config->spatial_merge_size;

  eagle->config = *config;
  eagle->merge_rows = MERGE_ROWS;
  eagle->blocks = valley_weights_structs (weights, "layers of the Eagle tower", config->depth,
                                          sizeof *eagle->blocks);
  if (eagle->blocks == NULL && config->depth > 0)
    return;
  valley_weights_set_prefix (weights, PREFIX);
  valley_weights_conv (weights, "patch_embed.proj.weight", 5,
                       (gsize[]){ h, 3, config->temporal_patch_size, patch, patch }, &eagle->patch);
  valley_weights_norm (weights, "merger.ln_q", h, &eagle->merge_norm, &eagle->merge_norm_bias);
  valley_weights_linear (weights, "merger.mlp.0", config->merger_dim, merged, &eagle->merge1,
                         &eagle->merge1_bias);
  valley_weights_linear (weights, "merger.mlp.2", config->hidden_size, config->merger_dim,
                         &eagle->merge2, &eagle->merge2_bias);
  for (gsize i = 0; i < config->depth; i++) {
    valley_weights_set_prefix (weights, PREFIX "blocks.%" G_GSIZE_FORMAT ".", i);
    block_init (&eagle->blocks[i], config, weights);
  }
}

void
valley_eagle_clear (ValleyEagle *eagle)
{
  g_clear_pointer (&eagle->blocks, g_free);
}

/* A head's first half of rotary pairs turns with the patch's row, the second with its column.
 * Everything in f32, as the reference computes it. */
static void
upload_angles (ValleyStream *stream, const gint32 *positions, ValleyTensor *cos, ValleyTensor *sin)
{
  gsize rows = cos->rows, pairs = cos->cols, half = pairs / 2;
  g_autofree float *cosines = VALLEY_NEW (float, rows *pairs);
  g_autofree float *sines = VALLEY_NEW (float, rows *pairs);

  if (cosines == NULL || sines == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory for the rotary angles");
    return;
  }
  for (gsize i = 0; i < rows; i++)
    for (gsize j = 0; j < pairs; j++) {
      float exponent = (float) (2 * (j % half)) / (float) pairs;
      float angle = (float) positions[2 * i + j / half] * (1.0f / powf (ROPE_THETA, exponent));

      cosines[i * pairs + j] = cosf (angle);
      sines[i * pairs + j] = sinf (angle);
    }
  stream->ops->upload (stream, cos, cosines);
  stream->ops->upload (stream, sin, sines);
}

/* Patches arrive in merge-block order, so that a block's rows lie side by side: one row of the
 * merger's input is several rows of the tower's output read as one. */
static void
merge (const ValleyEagle *eagle, ValleyStream *stream, const ValleyTensor *normed,
       ValleyTensor *out)
{
  const ValleyOps *ops = stream->ops;
  gsize block = eagle->config.spatial_merge_size * eagle->config.spatial_merge_size;
  ValleyTensor wide = valley_tensor_reshape (normed, normed->rows / block, normed->cols * block);
  gsize at_once = MIN (eagle->merge_rows, wide.rows);
  ValleyTensor scratch;

  valley_activations_init (stream, &scratch, at_once, eagle->config.merger_dim);
  valley_activations_init (stream, out, wide.rows, eagle->config.hidden_size);
  for (gsize done = 0; done < wide.rows && !valley_stream_stopped (stream); done += at_once) {
    gsize rows = MIN (at_once, wide.rows - done);
    ValleyTensor x = valley_tensor_rows (&wide, done, rows);
    ValleyTensor y = valley_tensor_rows (out, done, rows);
    ValleyTensor inner = valley_tensor_rows (&scratch, 0, rows);

    ops->linear (stream, &inner, &x, &eagle->merge1, &eagle->merge1_bias, VALLEY_ACT_GELU_ERF,
                 VALLEY_ROWS_PROMPT);
    ops->linear (stream, &y, &inner, &eagle->merge2, &eagle->merge2_bias, VALLEY_ACT_NONE,
                 VALLEY_ROWS_PROMPT);
  }
  valley_tensor_clear (stream->backend, &scratch);
}

void
valley_eagle_encode (const ValleyEagle *eagle, ValleyStream *stream, const ValleyTensor *patches,
                     const gint32 *positions, ValleyTensor *out, const ValleyDump *dump)
{
  const ValleyEagleConfig *c = &eagle->config;
  const ValleyOps *ops = stream->ops;
  gsize pairs = c->embed_dim / c->n_heads / 2;
  ValleyVisionShape shape = { .width = c->embed_dim,
                              .n_heads = c->n_heads,
                              .inner = c->mlp_dim,
                              .norm_eps = NORM_EPS,
                              .activation = VALLEY_ACT_QUICK_GELU };
  ValleyTensor x, cos, sin;
  ValleyVisionScratch scratch;

  valley_tensor_init (stream, &x, VALLEY_F32, patches->rows, c->embed_dim);
  valley_tensor_init (stream, &cos, VALLEY_F32, patches->rows, pairs);
  valley_tensor_init (stream, &sin, VALLEY_F32, patches->rows, pairs);
  upload_angles (stream, positions, &cos, &sin);
  valley_vision_scratch_init (&scratch, stream, &shape, patches->rows);
  ops->linear (stream, &x, patches, &eagle->patch, NULL, VALLEY_ACT_NONE, VALLEY_ROWS_PROMPT);
  valley_dump_tensor (dump, stream, &x, "embeddings");
  for (gsize i = 0; i < c->depth && !valley_stream_stopped (stream); i++) {
    valley_vision_block_run (&eagle->blocks[i], &shape, stream, &x, &cos, &sin, &scratch);
    if (valley_dump_is_on (dump))
      valley_vision_settle (stream, &x, &scratch);
    valley_dump_tensor (dump, stream, &x, "block.%" G_GSIZE_FORMAT, i);
  }
  valley_vision_norm (stream, &scratch.normed, &x, &eagle->merge_norm, &eagle->merge_norm_bias,
                      NORM_EPS, &scratch);
  merge (eagle, stream, &scratch.normed, out);
  valley_dump_tensor (dump, stream, out, "output");
  valley_vision_scratch_clear (&scratch, stream->backend);
  valley_tensor_clear (stream->backend, &cos);
  valley_tensor_clear (stream->backend, &sin);
  valley_tensor_clear (stream->backend, &x);
}
