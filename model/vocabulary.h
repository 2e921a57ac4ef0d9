/* vocabulary.h - a tokenizer's texts and their ids while its files are read: merges name their
 * parts by text.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef struct _ValleyVocabulary ValleyVocabulary;

ValleyVocabulary *valley_vocabulary_new (void);
void valley_vocabulary_free (ValleyVocabulary *vocabulary);

typedef enum {
  VALLEY_VOCABULARY_ADDED,
  VALLEY_VOCABULARY_TWICE,
  VALLEY_VOCABULARY_FULL
} ValleyVocabularyResult;

/* TWICE: @text is there already; FULL: memory is short. */
ValleyVocabularyResult valley_vocabulary_add (ValleyVocabulary *vocabulary, const char *text,
                                              gsize length, gint32 id);
/* The id of @text, -1 when it is not there. */
gint32 valley_vocabulary_find (const ValleyVocabulary *vocabulary, const char *text, gsize length);
