/* tokenizer_private.h - what tokenizer_file.c reads and tokenizer.c uses.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "added.h"
#include "bpe.h"
#include "tokenizer.h"

typedef struct {
  gsize offset; /* into the tokenizer's bytes */
  guint32 length;
  gboolean known, added, special;
} ValleyToken;

struct _ValleyTokenizer {
  GString *bytes;      /* every token's bytes, one after another */
  ValleyToken *tokens; /* by id */
  gsize n_tokens;
  ValleyBpe *bpe;
  gboolean nfc;
  /* Matched in the text as it was given, and in the normalised text. */
  ValleyAddedSet added, added_normalized;
};
