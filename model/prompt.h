/* prompt.h - the released processor's prompt as token ids, each image slot one id.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tokenizer.h"

#define VALLEY_IMAGE_SLOT (-200) /* the official code's placeholder */

typedef struct _ValleyPrompt ValleyPrompt;

/* Looks up by text the ids that the template needs; an error names tokenizer.json and the
 * token that is missing. */
ValleyPrompt *valley_prompt_new (const ValleyTokenizer *tokenizer, gboolean start_end_tokens,
                                 GError **error);
void valley_prompt_free (ValleyPrompt *prompt);

/* system + user with @n_images slots + the assistant's header, as a new GArray of gint32.
 * @system NULL: "You are a helpful assistant."  The user's text is never taken for a slot. */
GArray *valley_prompt_build (const ValleyPrompt *prompt, const char *system,
                             const char *question, guint n_images);
/* The same in parts, for prompts that grow by a frame at a time: with a frame at least, the header,
 * the frames and the tail one after the other are what valley_prompt_build gives.  Each appends to
 * @ids. */
void valley_prompt_header (const ValleyPrompt *prompt, const char *system, GArray *ids);
void valley_prompt_frame (const ValleyPrompt *prompt, gboolean is_first, GArray *ids);
void valley_prompt_tail (const ValleyPrompt *prompt, const char *question, GArray *ids);
/* How many ids of text every image slot after the first brings with it. */
gsize valley_prompt_slot_text (const ValleyPrompt *prompt);
