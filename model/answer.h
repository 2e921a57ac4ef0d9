/* answer.h - the answer's text while its tokens arrive.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tokenizer.h"

typedef struct {
  GString *bytes;  /* what the tokens spell */
  gsize n_decoded; /* of them, already in `whole` */
  GString *whole;  /* valid UTF-8 */
  GString *text;   /* `whole` less what may yet become a stop string: what may be shown */
  char **stop;
} ValleyAnswer;

/* @stop: NULL or a NULL-terminated list; empty strings in it are passed over. */
void valley_answer_init (ValleyAnswer *answer, const char *const *stop);
void valley_answer_clear (ValleyAnswer *answer);
/* Adds token @id; special tokens have no text.  TRUE when a stop string ended the answer. */
gboolean valley_answer_add (ValleyAnswer *answer, const ValleyTokenizer *tokenizer, gint32 id);
/* No more tokens: half a character becomes U+FFFD, text held back is let go. */
void valley_answer_finish (ValleyAnswer *answer);
