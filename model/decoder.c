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
  valley_tensor_init (stream, &s->normed, VALLEY_F32, rows, c->hidden_size);
  valley_tensor_init (stream, &s->q, VALLEY_F32, rows, c->n_heads * c->head_dim);
  valley_tensor_init (stream, &s->k, VALLEY_F32, rows, c->n_kv_heads * c->head_dim);
  valley_tensor_init (stream, &s->v, VALLEY_F32, rows, c->n_kv_heads * c->head_dim);
  valley_tensor_init (stream, &s->mixed, VALLEY_F32, rows, c->n_heads * c->head_dim);
  valley_tensor_init (stream, &s->delta, VALLEY_F32, rows, c->hidden_size);
  valley_tensor_init (stream, &s->gate, VALLEY_F32, rows, c->intermediate_size);
  valley_tensor_init (stream, &s->up, VALLEY_F32, rows, c->intermediate_size);
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

    ops->rms_norm (stream, &heads, &heads, norm, c->rms_norm_eps);
  }
}

/* The first half of a layer's attention: the normed rows' keys and values enter the cache. */
static void
write_keys (const ValleyDecoderLayer *l, const ValleyLlmConfig *c, ValleyStream *stream,
            const ValleyForward *f, gsize layer, gsize first, const ValleyTensor *cos,
            const ValleyTensor *sin, Scratch *s)
{
  project_heads (c, stream, &s->normed, &l->k, &l->k_bias, &l->k_norm, f->role, &s->k);
  if (valley_kv_pool_keeps_unrotated (f->cache->pool))
    valley_kv_cache_write (f->cache, stream, layer, VALLEY_KV_UNROTATED, first, &s->k);
  stream->ops->rope (stream, &s->k, cos, sin, c->head_dim);
  valley_kv_cache_write (f->cache, stream, layer, VALLEY_KV_KEYS, first, &s->k);
  stream->ops->linear (stream, &s->v, &s->normed, &l->v, &l->v_bias, VALLEY_ACT_NONE, f->role);
  valley_kv_cache_write (f->cache, stream, layer, VALLEY_KV_VALUES, first, &s->v);
}

/* The rest of a layer, for normed rows whose own and earlier keys are in the cache. */
static void
finish_layer (const ValleyDecoderLayer *l, const ValleyLlmConfig *c, ValleyStream *stream,
              const ValleyForward *f, gsize layer, gsize first, const ValleyTensor *x,
              const ValleyTensor *cos, const ValleyTensor *sin, Scratch *s)
{
  const ValleyOps *ops = stream->ops;
  const ValleyTensor *k, *v;
  ValleyAttention attention = { .n_heads = c->n_heads,
                                .n_kv_heads = c->n_kv_heads,
                                .head_dim = c->head_dim,
                                .scale = 1.0f / sqrtf ((float) c->head_dim),
                                .n_sequences = 1,
                                .causal = TRUE,
                                .first_position = first,
                                .page_rows = VALLEY_KV_PAGE_ROWS };

  project_heads (c, stream, &s->normed, &l->q, &l->q_bias, &l->q_norm, f->role, &s->q);
  ops->rope (stream, &s->q, cos, sin, c->head_dim);
  valley_kv_cache_layer (f->cache, layer, first + x->rows, &k, &v);
  ops->attention (stream, &s->mixed, &s->q, k, v, &attention);
  ops->linear (stream, &s->delta, &s->mixed, &l->o, &l->o_bias, VALLEY_ACT_NONE, f->role);
  ops->add (stream, x, &s->delta);

  ops->rms_norm (stream, &s->normed, x, &l->post_norm, c->rms_norm_eps);
  ops->linear (stream, &s->gate, &s->normed, &l->gate, NULL, VALLEY_ACT_NONE, f->role);
  ops->linear (stream, &s->up, &s->normed, &l->up, NULL, VALLEY_ACT_NONE, f->role);
  ops->swiglu (stream, &s->gate, &s->gate, &s->up);
  ops->linear (stream, &s->delta, &s->gate, &l->down, NULL, VALLEY_ACT_NONE, f->role);
  ops->add (stream, x, &s->delta);
}

/* One layer over all rows, chunk by chunk.  With @last_only the rows before the last one are
 * needed for their keys alone. */
static void
run_layer (const ValleyDecoder *llm, ValleyStream *stream, const ValleyForward *f, gsize layer,
           const ValleyTensor *x, const ValleyTensor *cos, const ValleyTensor *sin,
           gboolean last_only, const Scratch *scratch)
{
  const ValleyDecoderLayer *l = &llm->layers[layer];

  for (gsize done = 0; done < x->rows && !valley_stream_stopped (stream);) {
    gsize rows = MIN (f->rows_at_once, x->rows - done), first = f->cache->length + done;
    gsize skip = !last_only ? 0 : done + rows < x->rows ? rows : rows - 1;
    ValleyTensor part = valley_tensor_rows (x, done, rows);
    ValleyTensor c = valley_tensor_rows (cos, done, rows);
    ValleyTensor s = valley_tensor_rows (sin, done, rows);
    Scratch own = scratch_rows (scratch, rows);

    stream->ops->rms_norm (stream, &own.normed, &part, &l->input_norm, llm->config.rms_norm_eps);
    write_keys (l, &llm->config, stream, f, layer, first, &c, &s, &own);
    if (skip < rows) {
      part = valley_tensor_rows (x, done + skip, rows - skip);
      c = valley_tensor_rows (cos, done + skip, rows - skip);
      s = valley_tensor_rows (sin, done + skip, rows - skip);
      own = scratch_rows (scratch, rows - skip);
      own.normed = valley_tensor_rows (&scratch->normed, skip, rows - skip);
      finish_layer (l, &llm->config, stream, f, layer, first + skip, &part, &c, &s, &own);
    }
    done += rows;
  }
}

void
valley_decoder_forward (const ValleyDecoder *llm, ValleyStream *stream, const ValleyForward *f,
                        const ValleyTensor *x)
{
  gboolean all_rows = f->all_rows || valley_dump_is_on (f->dump);
  ValleyTensor cos, sin;
  Scratch scratch;

  valley_kv_cache_reserve (f->cache, stream, f->cache->length + x->rows);
  valley_rotary_rows (f->rotary, stream, f->positions, f->cache->length + f->cache->gap, x->rows,
                      &cos, &sin);
  scratch_init (&scratch, stream, &llm->config, MIN (f->rows_at_once, x->rows));
  for (gsize i = 0; i < llm->config.n_layers && !valley_stream_stopped (stream); i++) {
    gboolean last_only = i + 1 == llm->config.n_layers && !all_rows;

    run_layer (llm, stream, f, i, x, &cos, &sin, last_only, &scratch);
    valley_dump_tensor (f->dump, stream, x, "layer.%" G_GSIZE_FORMAT, i);
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

  valley_tensor_init (stream, &normed, VALLEY_F32, rows->rows, llm->config.hidden_size);
  valley_tensor_init (stream, &scores, VALLEY_F32, rows->rows, llm->config.vocab_size);
  stream->ops->rms_norm (stream, &normed, rows, &llm->norm, llm->config.rms_norm_eps);
  /* Always a generated row's arithmetic: few rows are matrix-vector products, prompt or not. */
  stream->ops->linear (stream, &scores, &normed, &llm->head, NULL, VALLEY_ACT_NONE,
                       VALLEY_ROWS_GENERATED);
  ok = stream->ops->download (stream, &scores, logits, error);
  valley_tensor_clear (stream->backend, &scores);
  valley_tensor_clear (stream->backend, &normed);
  return ok;
}
