/* visionblock.c - the block that both vision towers are made of.
 * SPDX-License-Identifier: Apache-2.0 */
#include "visionblock.h"

#include <math.h>

void
valley_vision_scratch_init (ValleyVisionScratch *s, ValleyStream *stream,
                            const ValleyVisionShape *shape, gsize rows)
{
  s->is_pending = FALSE;
  valley_activations_init (stream, &s->normed, rows, shape->width);
  valley_activations_init (stream, &s->qkv, rows, 3 * shape->width);
  valley_activations_init (stream, &s->mixed, rows, shape->width);
  valley_activations_init (stream, &s->delta, rows, shape->width);
  valley_activations_init (stream, &s->inner, rows, shape->inner);
}

void
valley_vision_scratch_clear (ValleyVisionScratch *s, ValleyBackend *backend)
{
  valley_tensor_clear (backend, &s->normed);
  valley_tensor_clear (backend, &s->qkv);
  valley_tensor_clear (backend, &s->mixed);
  valley_tensor_clear (backend, &s->delta);
  valley_tensor_clear (backend, &s->inner);
}

static void
linear (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w,
        const ValleyTensor *bias, ValleyActivation activation)
{
  stream->ops->linear (stream, y, x, w, bias, activation, VALLEY_ROWS_PROMPT);
}

static void
attend (const ValleyVisionBlock *b, const ValleyVisionShape *shape, ValleyStream *stream,
        const ValleyTensor *cos, const ValleyTensor *sin, ValleyVisionScratch *s)
{
  const ValleyOps *ops = stream->ops;
  gsize width = shape->width, head = width / shape->n_heads;
  ValleyTensor q = valley_tensor_cols (&s->qkv, 0, width);
  ValleyTensor k = valley_tensor_cols (&s->qkv, width, width);
  ValleyTensor v = valley_tensor_cols (&s->qkv, 2 * width, width);
  ValleyAttention attention = { .n_heads = shape->n_heads,
                                .n_kv_heads = shape->n_heads,
                                .head_dim = head,
                                .scale = 1.0f / sqrtf ((float) head),
                                .n_sequences = 1 };
  const ValleyLinear all[]
      = { { q, b->q, b->q_bias }, { k, b->k, b->k_bias }, { v, b->v, b->v_bias } };

  ops->linears (stream, all, G_N_ELEMENTS (all), &s->normed, VALLEY_ROWS_PROMPT);
  if (cos != NULL) {
    ops->rope (stream, &q, cos, sin, NULL, head);
    ops->rope (stream, &k, cos, sin, NULL, head);
  }
  ops->attention (stream, &s->mixed, &q, &k, &v, &attention);
  linear (stream, &s->delta, &s->mixed, &b->out, &b->out_bias, VALLEY_ACT_NONE);
}

void
valley_vision_settle (ValleyStream *stream, const ValleyTensor *x, ValleyVisionScratch *s)
{
  if (s->is_pending)
    stream->ops->add (stream, x, &s->delta);
  s->is_pending = FALSE;
}

void
valley_vision_norm (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                    const ValleyTensor *weight, const ValleyTensor *bias, float eps,
                    ValleyVisionScratch *s)
{
  stream->ops->layer_norm (stream, y, x, s->is_pending ? &s->delta : NULL, weight, bias, eps);
  s->is_pending = FALSE;
}

void
valley_vision_block_run (const ValleyVisionBlock *b, const ValleyVisionShape *shape,
                         ValleyStream *stream, const ValleyTensor *x, const ValleyTensor *cos,
                         const ValleyTensor *sin, ValleyVisionScratch *s)
{
  valley_vision_norm (stream, &s->normed, x, &b->norm1, &b->norm1_bias, shape->norm_eps, s);
  attend (b, shape, stream, cos, sin, s);
  s->is_pending = TRUE;

  valley_vision_norm (stream, &s->normed, x, &b->norm2, &b->norm2_bias, shape->norm_eps, s);
  linear (stream, &s->inner, &s->normed, &b->fc1, &b->fc1_bias, shape->activation);
  linear (stream, &s->delta, &s->inner, &b->fc2, &b->fc2_bias, VALLEY_ACT_NONE);
  s->is_pending = TRUE;
}
