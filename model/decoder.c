/* decoder.c - the Qwen2 and Qwen3 decoders: pre-norm layers of grouped-query attention with
 * rotary positions and a gated feed-forward, over a KV cache.  They differ in the attention's
 * biases and in Qwen3's norms of each query and key head.
 * SPDX-License-Identifier: Apache-2.0 */
#include "decoder.h"

#include "alloc.h"

#include <math.h>

/* Activations of one chunk of rows, reused by every layer and chunk. */
typedef struct {
  ValleyTensor normed, q, k, v, mixed, delta, gate, up;
} Scratch;

static void
projection_init (ValleyWeights *w, const char *name, gsize rows, gsize cols, gboolean has_bias,
                 ValleyTensor *weight, ValleyTensor *bias)
{
  g_autofree char *weight_name = g_strconcat (name, ".weight", NULL);

  if (has_bias)
    valley_weights_linear (w, name, rows, cols, weight, bias);
  else
    valley_weights_matrix (w, weight_name, rows, cols, weight);
}

static void
attention_init (ValleyDecoderLayer *layer, const ValleyLlmConfig *c, ValleyWeights *w)
{
  gsize h = c->hidden_size, queries = c->n_heads * c->head_dim, keys = c->n_kv_heads * c->head_dim;

  projection_init (w, "self_attn.q_proj", queries, h, c->qkv_bias, &layer->q, &layer->q_bias);
  projection_init (w, "self_attn.k_proj", keys, h, c->qkv_bias, &layer->k, &layer->k_bias);
  projection_init (w, "self_attn.v_proj", keys, h, c->qkv_bias, &layer->v, &layer->v_bias);
  projection_init (w, "self_attn.o_proj", h, queries, c->o_bias, &layer->o, &layer->o_bias);
  if (!c->qk_norm)
    return;
  valley_weights_vector (w, "self_attn.q_norm.weight", c->head_dim, &layer->q_norm);
  valley_weights_vector (w, "self_attn.k_norm.weight", c->head_dim, &layer->k_norm);
}

static void
layer_init (ValleyDecoderLayer *layer, const ValleyLlmConfig *c, ValleyWeights *w)
{
  gsize h = c->hidden_size, inner = c->intermediate_size;

  valley_weights_vector (w, "input_layernorm.weight", h, &layer->input_norm);
  valley_weights_vector (w, "post_attention_layernorm.weight", h, &layer->post_norm);
  attention_init (layer, c, w);
  valley_weights_matrix (w, "mlp.gate_proj.weight", inner, h, &layer->gate);
  valley_weights_matrix (w, "mlp.up_proj.weight", inner, h, &layer->up);
  valley_weights_matrix (w, "mlp.down_proj.weight", h, inner, &layer->down);
}

void
valley_decoder_init (ValleyDecoder *llm, const ValleyLlmConfig *config, ValleyWeights *weights)
{
  gsize pairs = config->head_dim / 2;

  llm->config = *config;
  llm->layers = valley_weights_structs (weights, "layers of the language model", config->n_layers,
                                        sizeof *llm->layers);
  llm->frequencies
      = valley_weights_structs (weights, "rotary frequencies", pairs, sizeof *llm->frequencies);
  if (llm->layers == NULL || llm->frequencies == NULL)
    return;
  for (gsize i = 0; i < pairs; i++)
    llm->frequencies[i]
        = 1.0f / powf ((float) config->rope_theta, (float) (2 * i) / (float) config->head_dim);

  valley_weights_set_prefix (weights, "%s", "");
  valley_weights_matrix (weights, "model.embed_tokens.weight", config->vocab_size,
                         config->hidden_size, &llm->embeddings);
  valley_weights_vector (weights, "model.norm.weight", config->hidden_size, &llm->norm);
  if (config->tie_word_embeddings)
    llm->head = llm->embeddings;
  else
    valley_weights_matrix (weights, "lm_head.weight", config->vocab_size, config->hidden_size,
                           &llm->head);
  for (gsize i = 0; i < config->n_layers; i++) {
    valley_weights_set_prefix (weights, "model.layers.%" G_GSIZE_FORMAT ".", i);
    layer_init (&llm->layers[i], config, weights);
  }
}

void
valley_decoder_clear (ValleyDecoder *llm)
{
  g_clear_pointer (&llm->layers, g_free);
  g_clear_pointer (&llm->frequencies, g_free);
}

static void
scratch_init (Scratch *s, ValleyStream *stream, const ValleyLlmConfig *c, gsize rows)
{
  valley_activations_init (stream, &s->normed, rows, c->hidden_size);
  valley_activations_init (stream, &s->q, rows, c->n_heads * c->head_dim);
  valley_activations_init (stream, &s->k, rows, c->n_kv_heads * c->head_dim);
  valley_activations_init (stream, &s->v, rows, c->n_kv_heads * c->head_dim);
  valley_activations_init (stream, &s->mixed, rows, c->n_heads * c->head_dim);
  valley_activations_init (stream, &s->delta, rows, c->hidden_size);
  valley_activations_init (stream, &s->gate, rows, c->intermediate_size);
  valley_activations_init (stream, &s->up, rows, c->intermediate_size);
}

static void
scratch_clear (Scratch *s, ValleyBackend *backend)
{
  ValleyTensor *tensors[]
      = { &s->normed, &s->q, &s->k, &s->v, &s->mixed, &s->delta, &s->gate, &s->up };

  for (gsize i = 0; i < G_N_ELEMENTS (tensors); i++)
    valley_tensor_clear (backend, tensors[i]);
}

/* The scratch's first @rows rows. */
static Scratch
scratch_rows (const Scratch *s, gsize rows)
{
  return (Scratch){
    .normed = valley_tensor_rows (&s->normed, 0, rows),
    .q = valley_tensor_rows (&s->q, 0, rows),
    .k = valley_tensor_rows (&s->k, 0, rows),
    .v = valley_tensor_rows (&s->v, 0, rows),
    .mixed = valley_tensor_rows (&s->mixed, 0, rows),
    .delta = valley_tensor_rows (&s->delta, 0, rows),
    .gate = valley_tensor_rows (&s->gate, 0, rows),
    .up = valley_tensor_rows (&s->up, 0, rows),
  };
}

/* Rows of queries or keys: projected, each head normalised where the model does so. */
static void
project_heads (const ValleyLlmConfig *c, ValleyStream *stream, const ValleyTensor *x,
               const ValleyTensor *weight, const ValleyTensor *bias, const ValleyTensor *norm,
               ValleyRole role, const ValleyTensor *out)
{
  const ValleyOps *ops = stream->ops;

  ops->linear (stream, out, x, weight, bias, VALLEY_ACT_NONE, role);
  if (c->qk_norm) {
    ValleyTensor heads
        = valley_tensor_reshape (out, out->rows * (out->cols / c->head_dim), c->head_dim);

    ops->rms_norm (stream, &heads, &heads, NULL, norm, c->rms_norm_eps);
  }
}

/* Some rows on their way through all layers. */
typedef struct {
  const ValleyDecoder *llm;
  ValleyStream *stream;
  const ValleyForward *forward;
  ValleyTensor x, positions;
  ValleyKv kv;     /* where their keys and values go */
  gsize n_skipped; /* rows that the last layer needs for their keys alone */
  Scratch scratch; /* of as many rows */
} Chunk;

/* Queries of the last rows; all rows' keys and values enter the cache. */
static void
project (Chunk *chunk, const ValleyDecoderLayer *l, const Scratch *s, gsize skip)
{
  const ValleyLlmConfig *c = &chunk->llm->config;
  const ValleyRotary *rotary = chunk->forward->rotary;
  const ValleyOps *ops = chunk->stream->ops;
  ValleyRole role = chunk->forward->role;
  ValleyTensor last = valley_tensor_rows (&s->normed, skip, s->normed.rows - skip);
  ValleyTensor q = valley_tensor_rows (&s->q, 0, last.rows);

  project_heads (c, chunk->stream, &s->normed, &l->k, &l->k_bias, &l->k_norm, role, &s->k);
  ops->linear (chunk->stream, &s->v, &s->normed, &l->v, &l->v_bias, VALLEY_ACT_NONE, role);
  if (q.rows > 0)
    project_heads (c, chunk->stream, &last, &l->q, &l->q_bias, &l->q_norm, role, &q);
  ops->rotate_append (chunk->stream, q.rows > 0 ? &q : NULL, &s->k, &s->v, &rotary->cos,
                      &rotary->sin, &chunk->positions, c->head_dim, &chunk->kv);
}

/* The rest of a layer for rows whose own and earlier keys are in the cache, but for adding the
 * scratch's delta. */
static void
finish_layer (Chunk *chunk, const ValleyDecoderLayer *l, const Scratch *s, const ValleyTensor *x,
              gsize skip)
{
  const ValleyLlmConfig *c = &chunk->llm->config;
  ValleyStream *stream = chunk->stream;
  const ValleyOps *ops = stream->ops;
  ValleyRole role = chunk->forward->role;
  ValleyAttention attention = { .n_heads = c->n_heads,
                                .n_kv_heads = c->n_kv_heads,
                                .head_dim = c->head_dim,
                                .scale = 1.0f / sqrtf ((float) c->head_dim),
                                .n_sequences = 1,
                                .n_skipped = skip,
                                .role = role };

  ops->attend (stream, &s->mixed, &s->q, &chunk->kv, &attention);
  ops->linear (stream, &s->delta, &s->mixed, &l->o, &l->o_bias, VALLEY_ACT_NONE, role);
  ops->rms_norm (stream, &s->normed, x, &s->delta, &l->post_norm, c->rms_norm_eps);
  ops->linear (stream, &s->gate, &s->normed, &l->gate, NULL, VALLEY_ACT_NONE, role);
  ops->linear (stream, &s->up, &s->normed, &l->up, NULL, VALLEY_ACT_NONE, role);
  ops->swiglu (stream, &s->gate, &s->gate, &s->up);
  ops->linear (stream, &s->delta, &s->gate, &l->down, NULL, VALLEY_ACT_NONE, role);
}

/* Every layer adds its delta in the next one's norm, and the last one here. */
static void
run_layers (Chunk *chunk)
{
  const ValleyDecoder *llm = chunk->llm;
  ValleyStream *stream = chunk->stream;
  const ValleyDump *dump = chunk->forward->dump;
  ValleyTensor x = chunk->x;
  const Scratch *s = &chunk->scratch;
  gboolean is_pending = FALSE;
  Scratch last;

  for (gsize i = 0; i < llm->config.n_layers && !valley_stream_stopped (stream); i++) {
    gsize skip = i + 1 == llm->config.n_layers ? chunk->n_skipped : 0;

    valley_kv_pool_set_layer (chunk->forward->cache->pool, i, &chunk->kv);
    stream->ops->rms_norm (stream, &s->normed, &x, is_pending ? &s->delta : NULL,
                           &llm->layers[i].input_norm, llm->config.rms_norm_eps);
    project (chunk, &llm->layers[i], s, skip);
    if (skip == x.rows)
      return;
    x = valley_tensor_rows (&x, skip, x.rows - skip);
    last = scratch_rows (s, x.rows);
    s = &last;
    finish_layer (chunk, &llm->layers[i], s, &x, skip);
    is_pending = !valley_dump_is_on (dump);
    if (!is_pending)
      stream->ops->add (stream, &x, &s->delta);
    valley_dump_tensor (dump, stream, &x, "layer.%" G_GSIZE_FORMAT, i);
  }
  if (is_pending)
    stream->ops->add (stream, &x, &s->delta);
}

/* What the chunk's rows need of the cache and the rotary tables. */
static void
prepare_chunk (Chunk *chunk, gsize done)
{
  const ValleyForward *f = chunk->forward;
  gsize first = f->cache->length + done;

  valley_kv_cache_describe (f->cache, chunk->stream, first, chunk->x.rows, &chunk->kv);
  valley_rotary_positions (f->rotary, chunk->stream,
                           f->positions != NULL ? f->positions + done : NULL, first + f->cache->gap,
                           chunk->x.rows, &chunk->positions);
}

void
valley_decoder_forward (const ValleyDecoder *llm, ValleyStream *stream, const ValleyForward *f,
                        const ValleyTensor *x)
{
  gboolean dumps = valley_dump_is_on (f->dump); /* whole layers */
  gsize at_once = dumps ? x->rows : MIN (f->rows_at_once, x->rows);
  Scratch scratch;

  valley_kv_cache_reserve (f->cache, stream, f->cache->length + x->rows);
  scratch_init (&scratch, stream, &llm->config, at_once);
  for (gsize done = 0; done < x->rows && !valley_stream_stopped (stream); done += at_once) {
    gsize rows = MIN (at_once, x->rows - done);
    gboolean is_last = done + rows == x->rows;
    Chunk chunk = { .llm = llm,
                    .stream = stream,
                    .forward = f,
                    .x = valley_tensor_rows (x, done, rows),
                    .n_skipped = f->all_rows || dumps ? 0
                                 : is_last            ? rows - 1
                                                      : rows,
                    .scratch = scratch_rows (&scratch, rows) };

    prepare_chunk (&chunk, done);
    run_layers (&chunk);
    valley_tensor_clear (stream->backend, &chunk.positions);
  }
  if (!valley_stream_stopped (stream)) {
    valley_kv_cache_set_length (f->cache, f->cache->length + x->rows);
    if (f->positions != NULL && x->rows > 0)
      f->cache->gap = (gsize) f->positions[x->rows - 1] + 1 - f->cache->length;
  }
  scratch_clear (&scratch, stream->backend);
}

gboolean
valley_decoder_logits (const ValleyDecoder *llm, ValleyStream *stream, const ValleyTensor *rows,
                       float *logits, GError **error)
{
  ValleyTensor normed, scores;
  gboolean ok;

  valley_activations_init (stream, &normed, rows->rows, llm->config.hidden_size);
  valley_tensor_init (stream, &scores, VALLEY_F32, rows->rows, llm->config.vocab_size);
  stream->ops->rms_norm (stream, &normed, rows, NULL, &llm->norm, llm->config.rms_norm_eps);
  /* Always a generated row's arithmetic: few rows are matrix-vector products, prompt or not. */
  stream->ops->linear (stream, &scores, &normed, &llm->head, NULL, VALLEY_ACT_NONE,
                       VALLEY_ROWS_GENERATED);
  ok = stream->ops->download (stream, &scores, logits, error);
  valley_tensor_clear (stream->backend, &scores);
  valley_tensor_clear (stream->backend, &normed);
  return ok;
}
