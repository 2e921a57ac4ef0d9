/* tokenizer_build.h - putting a ValleyTokenizer together, whichever files its parts are in.  The
 * order is: vocabulary, merges, added tokens.  Every function that fails sets the error.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "json.h"
#include "jsonscan.h"
#include "tokenizer_private.h"
#include "vocabulary.h"

#define VALLEY_TOKENIZER_MAX_BYTES ((gsize) 64 << 20) /* of any file */

typedef struct {
  const char *path; /* the file that is being read */
  gsize vocab_size;
  ValleyTokenizer *tokenizer;
  gsize n_allocated; /* of tokenizer->tokens */
  ValleyVocabulary *vocabulary;
  guint n_added;
  GString *joined;     /* a merge's two halves */
  gint16 byte_of[324]; /* character of the byte-level alphabet -> byte, -1: not in it */
  GError **error;
} ValleyTokenizerBuild;

void valley_build_init (ValleyTokenizerBuild *build, gsize vocab_size, GError **error);
/* The tokenizer, NULL unless @good. */
ValleyTokenizer *valley_build_finish (ValleyTokenizerBuild *build, gboolean good);

/* "FILE: KEY: REASON"; always FALSE.  @key may be NULL. */
gboolean valley_build_fail (const ValleyTokenizerBuild *build, const char *key, const char *format,
                            ...) G_GNUC_PRINTF (3, 4);

/* Reads {"text": id, …}, all that @scan has; the bytes' own tokens must be there. */
gboolean valley_build_vocabulary (ValleyTokenizerBuild *build, ValleyJsonScan scan,
                                  const char *key);

/* The next merge.  For errors: it is @list[@number], or line @number where @list is NULL. */
gboolean valley_build_merge (ValleyTokenizerBuild *build, const char *list, guint number,
                             const char *left, gsize n_left, const char *right, gsize n_right);

/* @flags: what is said of the token (single_word, lstrip, rstrip, normalized), or NULL. */
gboolean valley_build_added (ValleyTokenizerBuild *build, const char *key, const char *text,
                             gint64 id, gboolean special, JsonObject *flags);

/* tokenizer_slow.c: vocab.json, merges.txt and what names the added tokens. */
gboolean valley_build_from_slow_files (ValleyTokenizerBuild *build, const char *dir);
