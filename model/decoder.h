/* decoder.h - the language model, Qwen2 or Qwen3, over a KV cache.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "dump.h"
#include "kvcache.h"
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

/* Runs the embeddings @x, in place, at positions cache->length ... through every layer and
 * appends them to the cache, at most @rows_at_once rows at a time (which changes no bits).
 * Only the last row of @x is the last layer's output afterwards, unless @dump is on: then
 * all are. */
void valley_decoder_forward (const ValleyDecoder *llm, ValleyStream *stream, ValleyKvCache *cache,
                             const ValleyTensor *x, ValleyRole role, gsize rows_at_once,
                             const ValleyDump *dump);
/* Final norm and output head of one row -> @logits [1, vocab_size] on the host; waits. */
gboolean valley_decoder_logits (const ValleyDecoder *llm, ValleyStream *stream,
                                const ValleyTensor *row, float *logits, GError **error);
