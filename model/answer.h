/* answer.h - the answer's text while its tokens arrive.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "markers.h"
#include "tokenizer.h"

typedef struct {
  GString *bytes;  /* what the tokens spell */
  gsize n_decoded; /* of them, already in `whole` */
  GString *whole;  /* valid UTF-8 */
  GString *text;   /* `whole` less what may yet become a stop string: what may be shown */
  char **stop;
  ValleyMarkers markers;
  ValleySections sections; /* of `text`, unless markers are kept */
  gsize n_sectioned;       /* how much of `text` is in them */
} ValleyAnswer;

/* @stop: NULL or a NULL-terminated list; empty strings in it are passed over. */
void valley_answer_init (ValleyAnswer *answer, const char *const *stop, ValleyMarkers markers);
void valley_answer_clear (ValleyAnswer *answer);
/* Adds token @id; special tokens other than markers have no text.  TRUE when a stop string
 * ended the answer. */
gboolean valley_answer_add (ValleyAnswer *answer, const ValleyTokenizer *tokenizer, gint32 id);
/* No more tokens: half a character becomes U+FFFD, text held back is let go, except half a
 * marker of an answer that was @cut short. */
void valley_answer_finish (ValleyAnswer *answer, gboolean cut);
/* Sets the result's text and the fields of its sections, owned by @answer. */
void valley_answer_describe (const ValleyAnswer *answer, ValleyResult *result);
