/* decoder.h - the language model, Qwen2 or Qwen3, over a KV cache.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "decoder_run.h"
#include "dump.h"
#include "weights.h"

typedef struct {
  ValleyTensor input_norm, post_norm;
  ValleyTensor q, q_bias, k, k_bias, v, v_bias, o, o_bias; /* biases may be empty */
  ValleyTensor q_norm, k_norm;                             /* Qwen3's, of one head */
  ValleyTensor gate, up, down;
} ValleyDecoderLayer;

typedef struct {
  ValleyLlmConfig config;
  ValleyTensor embeddings, norm, head;
  ValleyDecoderLayer *layers;
  float *frequencies; /* head_dim / 2 rotary frequencies */
} ValleyDecoder;

void valley_decoder_init (ValleyDecoder *llm, const ValleyLlmConfig *config,
                          ValleyWeights *weights);
void valley_decoder_clear (ValleyDecoder *llm);

/* One pass of rows through the decoder: where they go and how they are computed. */
typedef struct {
  ValleyKvCache *cache; /* the rows before these; these are appended */
  ValleyDecoderRun *run;
  const gint32 *positions; /* of each row, for its rotation alone: which keys a row sees is the
                              cache's order.  Each at least the row's number; they set the cache's
                              gap.  NULL: cache->length + cache->gap ... */
  ValleyRole role;
  gsize rows_at_once;     /* changes no bits */
  gboolean all_rows;      /* which rows of x are the last layer's output afterwards: all, or
                             the last alone */
  const ValleyDump *dump; /* NULL: off; on: all rows */
} ValleyForward;

/* Runs the embeddings @x, in place, through every layer.  On failure the stream's error is set
 * and the cache keeps its length. */
void valley_decoder_forward (const ValleyDecoder *llm, ValleyStream *stream,
                             const ValleyForward *forward, const ValleyTensor *x);
/* The logits of @rows, f32 [rows, vocab_size], until the run's next ones.  On failure the stream's
 * error is set. */
ValleyTensor valley_decoder_head (const ValleyDecoder *llm, ValleyStream *stream,
                                  ValleyDecoderRun *run, const ValleyTensor *rows);
/* The same on the host; waits. */
gboolean valley_decoder_logits (const ValleyDecoder *llm, ValleyStream *stream,
                                ValleyDecoderRun *run, const ValleyTensor *rows, float *logits,
                                GError **error);
/* @n generated tokens behind @cache, whose rows enter it, and the logits of what follows each:
 * as valley_decoder_head's.  @inputs (or NULL) becomes their ids on the device, until the run's
 * next pass. On failure the stream's error is set and the cache keeps its length. */
ValleyTensor valley_decoder_step (const ValleyDecoder *llm, ValleyStream *stream,
                                  ValleyDecoderRun *run, ValleyKvCache *cache, const gint32 *ids,
                                  gsize n, ValleyTensor *inputs);
