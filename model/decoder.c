/* decoder.c - the Qwen2 and Qwen3 decoders: pre-norm layers of grouped-query attention with
 * rotary positions and a gated feed-forward, over a KV cache.  They differ in the attention's
 * biases and in Qwen3's norms of each query and key head.
 * SPDX-License-Identifier: Apache-2.0 */
#include "decoder.h"

#include "alloc.h"

#include <math.h>

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

/* Each head of @x's rows, where the model does so. */
static void
norm_heads (const ValleyLlmConfig *c, ValleyStream *stream, const ValleyTensor *x,
            const ValleyTensor *norm)
{
  ValleyTensor heads;

  if (!c->qk_norm || x->rows == 0)
    return;
  heads = valley_tensor_reshape (x, x->rows * (x->cols / c->head_dim), c->head_dim);
  stream->ops->rms_norm (stream, &heads, &heads, NULL, norm, c->rms_norm_eps);
}

/* Some rows on their way through all layers. */
typedef struct {
  const ValleyDecoder *llm;
  ValleyStream *stream;
  ValleyDecoderRun *run;
  const ValleyDump *dump;
  ValleyPassKey key;
  ValleyPassPlace place;
  const ValleyKvPool *pool;
  ValleyTensor x; /* where the embeddings are, or with ids in the place are put */
} Pass;

/* Queries of the last rows; all rows' keys and values enter the cache. */
static void
project (const Pass *pass, const ValleyDecoderLayer *l, const ValleyKv *kv,
         const ValleyDecoderScratch *s, gsize skip)
{
  const ValleyLlmConfig *c = &pass->llm->config;
  const ValleyRotary *rotary = &pass->run->rotary;
  const ValleyOps *ops = pass->stream->ops;
  ValleyRole role = pass->key.role;
  ValleyTensor last = valley_tensor_rows (&s->normed, skip, s->normed.rows - skip);
  ValleyTensor q = valley_tensor_rows (&s->q, 0, last.rows);
  ValleyLinear all[]
      = { { s->k, l->k, l->k_bias }, { s->v, l->v, l->v_bias }, { q, l->q, l->q_bias } };

  ops->linears (pass->stream, all, skip == 0 ? 3 : 2, &s->normed, role);
  if (skip > 0 && q.rows > 0)
    ops->linear (pass->stream, &q, &last, &l->q, &l->q_bias, VALLEY_ACT_NONE, role);
  norm_heads (c, pass->stream, &s->k, &l->k_norm);
  norm_heads (c, pass->stream, &q, &l->q_norm);
  ops->rotate_append (pass->stream, q.rows > 0 ? &q : NULL, &s->k, &s->v, &rotary->cos,
                      &rotary->sin, &pass->place.positions, c->head_dim, kv);
}

/* The rest of a layer for rows whose own and earlier keys are in the cache, but for adding the
 * scratch's delta. */
static void
finish_layer (const Pass *pass, const ValleyDecoderLayer *l, const ValleyKv *kv,
              const ValleyDecoderScratch *s, const ValleyTensor *x, gsize skip)
{
  const ValleyLlmConfig *c = &pass->llm->config;
  ValleyStream *stream = pass->stream;
  const ValleyOps *ops = stream->ops;
  ValleyRole role = pass->key.role;
  ValleyAttention attention = { .n_heads = c->n_heads,
                                .n_kv_heads = c->n_kv_heads,
                                .head_dim = c->head_dim,
                                .scale = 1.0f / sqrtf ((float) c->head_dim),
                                .n_sequences = 1,
                                .n_skipped = skip,
                                .role = role };
  const ValleyLinear inner[] = { { s->gate, l->gate, { 0 } }, { s->up, l->up, { 0 } } };

  ops->attend (stream, &s->mixed, &s->q, kv, &attention);
  ops->linear (stream, &s->delta, &s->mixed, &l->o, &l->o_bias, VALLEY_ACT_NONE, role);
  ops->rms_norm (stream, &s->normed, x, &s->delta, &l->post_norm, c->rms_norm_eps);
  ops->linears (stream, inner, G_N_ELEMENTS (inner), &s->normed, role);
  ops->swiglu (stream, &s->gate, &s->gate, &s->up);
  ops->linear (stream, &s->delta, &s->gate, &l->down, NULL, VALLEY_ACT_NONE, role);
}

/* Final norm and output head of @x, with @delta (or NULL) to be added first. */
static void
run_head (const Pass *pass, const ValleyTensor *x, const ValleyTensor *delta)
{
  const ValleyDecoder *llm = pass->llm;
  ValleyTensor normed = valley_tensor_rows (&pass->run->scratch.normed, 0, x->rows);
  ValleyTensor logits = valley_tensor_rows (&pass->run->logits, 0, x->rows);

  pass->stream->ops->rms_norm (pass->stream, &normed, x, delta, &llm->norm,
                               llm->config.rms_norm_eps);
  /* Always a generated row's arithmetic: few rows are matrix-vector products, prompt or not. */
  pass->stream->ops->linear (pass->stream, &logits, &normed, &llm->head, NULL, VALLEY_ACT_NONE,
                             VALLEY_ROWS_GENERATED);
}

/* One layer over @x, of which @skip rows are needed for their keys alone and leave. */
static void
run_layer (const Pass *pass, gsize layer, ValleyTensor *x, gboolean is_pending, gsize skip)
{
  const ValleyDecoderLayer *l = &pass->llm->layers[layer];
  ValleyDecoderScratch s = valley_decoder_scratch_rows (&pass->run->scratch, x->rows);
  ValleyKv kv = pass->place.kv;

  valley_kv_pool_set_layer (pass->pool, layer, &kv);
  pass->stream->ops->rms_norm (pass->stream, &s.normed, x, is_pending ? &s.delta : NULL,
                               &l->input_norm, pass->llm->config.rms_norm_eps);
  project (pass, l, &kv, &s, skip);
  *x = valley_tensor_rows (x, skip, x->rows - skip);
  if (x->rows == 0)
    return;
  s = valley_decoder_scratch_rows (&s, x->rows);
  finish_layer (pass, l, &kv, &s, x, skip);
}

/* Every layer's delta is added by the next norm, or at the end; a dump wants it at once. */
static void
run_pass (gpointer data)
{
  const Pass *pass = data;
  const ValleyDecoder *llm = pass->llm;
  ValleyStream *stream = pass->stream;
  gsize n_layers = llm->config.n_layers;
  ValleyTensor x = pass->x, delta;
  gboolean is_pending = FALSE;

  if (pass->place.ids.memory != NULL)
    stream->ops->gather (stream, &x, &llm->embeddings, &pass->place.ids);
  for (gsize i = 0; i < n_layers && !valley_stream_stopped (stream); i++) {
    run_layer (pass, i, &x, is_pending, i + 1 == n_layers ? pass->key.n_skipped : 0);
    is_pending = x.rows > 0;
    delta = valley_tensor_rows (&pass->run->scratch.delta, 0, x.rows);
    if (valley_dump_is_on (pass->dump)) {
      stream->ops->add (stream, &x, &delta);
      is_pending = FALSE;
      valley_dump_tensor (pass->dump, stream, &x, "layer.%" G_GSIZE_FORMAT, i);
    }
  }
  if (pass->key.has_logits)
    run_head (pass, &x, is_pending ? &delta : NULL);
  else if (is_pending)
    stream->ops->add (stream, &x, &delta);
}

static void
place_pass (Pass *pass, const ValleyPassRows *rows)
{
  valley_decoder_run_place (pass->run, pass->stream, rows, &pass->place);
  pass->pool = rows->cache->pool;
  pass->key.keeps_unrotated = valley_kv_pool_keeps_unrotated (pass->pool);
  pass->key.most_rows = pass->place.kv.most_rows;
}

/* The rows of @x behind the cache's and @done others.  What may be recorded happens where it can
 * happen again: in the run's own rows. */
static void
run_chunk (Pass *pass, const ValleyForward *f, const ValleyTensor *x, gsize done)
{
  ValleyStream *stream = pass->stream;
  gboolean is_recordable = stream->ops->graph_begin != NULL && !valley_dump_is_on (f->dump);
  gsize skip = pass->key.n_skipped;
  ValleyPassRows rows = { .cache = f->cache,
                          .first = f->cache->length + done,
                          .n = x->rows,
                          .positions = f->positions != NULL ? f->positions + done : NULL };
  ValleyTensor from, to;

  place_pass (pass, &rows);
  pass->x = is_recordable ? valley_tensor_rows (&pass->run->x, 0, x->rows) : *x;
  if (!is_recordable) {
    run_pass (pass);
    return;
  }
  stream->ops->copy (stream, &pass->x, x);
  valley_decoder_run_pass (pass->run, stream, &pass->key, run_pass, pass);
  from = valley_tensor_rows (&pass->x, skip, x->rows - skip);
  to = valley_tensor_rows (x, skip, x->rows - skip);
  if (from.rows > 0)
    stream->ops->copy (stream, &to, &from);
}

void
valley_decoder_forward (const ValleyDecoder *llm, ValleyStream *stream, const ValleyForward *f,
                        const ValleyTensor *x)
{
  gboolean dumps = valley_dump_is_on (f->dump); /* whole layers */
  gsize at_once = dumps ? x->rows : MIN (f->rows_at_once, x->rows);

  valley_kv_cache_reserve (f->cache, stream, f->cache->length + x->rows);
  valley_decoder_run_reserve (f->run, stream, at_once, 0);
  for (gsize done = 0; done < x->rows && !valley_stream_stopped (stream); done += at_once) {
    gsize rows = MIN (at_once, x->rows - done);
    gboolean is_last = done + rows == x->rows;
    ValleyTensor part = valley_tensor_rows (x, done, rows);
    Pass pass = { .llm = llm,
                  .stream = stream,
                  .run = f->run,
                  .dump = f->dump,
                  .key = { .rows = rows,
                           .n_skipped = f->all_rows || dumps ? 0
                                        : is_last            ? rows - 1
                                                             : rows,
                           .role = f->role } };

    run_chunk (&pass, f, &part, done);
  }
  if (valley_stream_stopped (stream))
    return;
  valley_kv_cache_set_length (f->cache, f->cache->length + x->rows);
  if (f->positions != NULL && x->rows > 0)
    f->cache->gap = (gsize) f->positions[x->rows - 1] + 1 - f->cache->length;
}

ValleyTensor
valley_decoder_head (const ValleyDecoder *llm, ValleyStream *stream, ValleyDecoderRun *run,
                     const ValleyTensor *rows)
{
  Pass pass = { .llm = llm, .stream = stream, .run = run };

  valley_decoder_run_reserve (run, stream, rows->rows, rows->rows);
  if (!valley_stream_stopped (stream))
    run_head (&pass, rows, NULL);
  return valley_tensor_rows (&run->logits, 0, rows->rows);
}

gboolean
valley_decoder_logits (const ValleyDecoder *llm, ValleyStream *stream, ValleyDecoderRun *run,
                       const ValleyTensor *rows, float *logits, GError **error)
{
  ValleyTensor on_device = valley_decoder_head (llm, stream, run, rows);

  return stream->ops->download (stream, &on_device, logits, error);
}

ValleyTensor
valley_decoder_step (const ValleyDecoder *llm, ValleyStream *stream, ValleyDecoderRun *run,
                     ValleyKvCache *cache, const gint32 *ids, gsize n, ValleyTensor *inputs)
{
  ValleyPassRows rows = { .cache = cache, .first = cache->length, .n = n, .ids = ids };
  Pass pass = { .llm = llm,
                .stream = stream,
                .run = run,
                .key = { .rows = n, .role = VALLEY_ROWS_GENERATED, .has_logits = TRUE } };

  valley_kv_cache_reserve (cache, stream, cache->length + n);
  valley_decoder_run_reserve (run, stream, n, n);
  if (!valley_stream_stopped (stream)) {
    place_pass (&pass, &rows);
    pass.x = valley_tensor_rows (&run->x, 0, n);
    valley_decoder_run_pass (run, stream, &pass.key, run_pass, &pass);
  }
  if (!valley_stream_stopped (stream))
    valley_kv_cache_set_length (cache, cache->length + n);
  if (inputs != NULL)
    *inputs = pass.place.ids;
  return valley_tensor_rows (&run->logits, 0, n);
}
