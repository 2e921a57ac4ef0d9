/* generation.h - one answer in progress: from the prompt's last row to the last token.
 * It decodes over a KV cache that holds the prompt and belongs to the caller.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "engine.h"
#include "sampler.h"

typedef struct _ValleyGeneration ValleyGeneration;

/* @model and @stream outlive it.  Of @options (NULL: defaults) the dump folder, keep_logits and
 * no_draft count. */
ValleyGeneration *valley_generation_new (ValleyModel *model, ValleyStream *stream,
                                         const ValleySessionOptions *options);
void valley_generation_free (ValleyGeneration *generation); /* NULL is fine */

/* Forgets the answer and its result. */
void valley_generation_reset (ValleyGeneration *generation);
/* And the previous answers, which drafts are taken from. */
void valley_generation_forget (ValleyGeneration *generation);
/* As @request wants it, having seen the prompt. */
ValleySampler *valley_generation_sampler (const ValleyModel *model, const ValleyRequest *request,
                                          const gint32 *prompt_ids, gsize n_prompt_ids,
                                          GError **error);
/* For one that was reset: takes of @request what the answer needs, before the prompt is computed,
 * so that an option out of range is told at once.  @prompt_ids count for the repetition penalty. */
gboolean valley_generation_prepare (ValleyGeneration *generation, const ValleyRequest *request,
                                    const gint32 *prompt_ids, gsize n_prompt_ids,
                                    guint max_new_tokens, GError **error);
/* The prompt is in @cache, @last is its last row's output: the answer can begin.  @cache stays
 * valid, and is the answer's alone, until the answer is over or forgotten; so does @run, which
 * others may use between two calls. */
gboolean valley_generation_start (ValleyGeneration *generation, ValleyKvCache *cache,
                                  ValleyDecoderRun *run, const ValleyTensor *last, GError **error);
ValleyStep valley_generation_next (ValleyGeneration *generation, GError **error);

/* Tokens that answers were drafted of so far, and of them those that were right. */
void valley_generation_count (ValleyGeneration *generation, guint64 *drafted, guint64 *accepted);

/* The answer's part of it is kept here; what concerns the window is the caller's to fill in. */
ValleyResult *valley_generation_result (ValleyGeneration *generation);
/* See valley_session_logits. */
const float *valley_generation_logits (ValleyGeneration *generation, gsize *n_steps,
                                       gsize *n_vocabulary);
