/* tokenizer.h - byte-level BPE as Qwen2 uses it: text to ids and back.
 * Immutable after opening, safe from every thread.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef struct _ValleyTokenizer ValleyTokenizer;

/* Reads @dir/tokenizer.json or, where there is none, the older layout: vocab.json, merges.txt and
 * tokenizer_config.json or added_tokens.json.  Every id must be < @vocab_size (the embedding's
 * rows). */
ValleyTokenizer *valley_tokenizer_open (const char *dir, gsize vocab_size, GError **error);
/* The same from the text of a tokenizer.json; @path only names it in errors. */
ValleyTokenizer *valley_tokenizer_parse (const char *json, gsize length, const char *path,
                                         gsize vocab_size, GError **error);
void valley_tokenizer_free (ValleyTokenizer *tokenizer);

/* Appends the ids of @text (NFC-normalised, added tokens matched first) to @ids, a GArray
 * of gint32.  Invalid UTF-8 is replaced by U+FFFD. */
void valley_tokenizer_encode (const ValleyTokenizer *tokenizer, const char *text, GArray *ids);
/* The same, but added (special) tokens in @text are plain text: for what users typed. */
void valley_tokenizer_encode_plain (const ValleyTokenizer *tokenizer, const char *text,
                                    GArray *ids);

/* The id of an added token or vocabulary entry by its text, -1 when there is none. */
gint32 valley_tokenizer_lookup (const ValleyTokenizer *tokenizer, const char *token);
/* Every id is below this. */
gsize valley_tokenizer_size (const ValleyTokenizer *tokenizer);
/* TRUE for tokens that are matched in the text before any other rule. */
gboolean valley_tokenizer_is_added (const ValleyTokenizer *tokenizer, gint32 id);
/* TRUE for added tokens marked special: they are not part of an answer's text. */
gboolean valley_tokenizer_is_special (const ValleyTokenizer *tokenizer, gint32 id);

/* Appends the bytes of token @id to @out; nothing for an unknown id. */
void valley_tokenizer_decode (const ValleyTokenizer *tokenizer, gint32 id, GString *out);
