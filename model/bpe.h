/* bpe.h - byte-pair merging: the bytes of one piece of text to token ids.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef struct _ValleyBpe ValleyBpe;

/* @byte_ids: the token of each single byte.  NULL when memory is short. */
ValleyBpe *valley_bpe_new (const gint32 byte_ids[256]);
void valley_bpe_free (ValleyBpe *bpe);

/* Tokens @left and @right become @merged.  Merges are added best first; a pair that comes twice
 * takes its last rank, as in Hugging Face's library.  FALSE when memory is short. */
gboolean valley_bpe_add_merge (ValleyBpe *bpe, gint32 left, gint32 right, gint32 merged);

/* What one caller's encodings work in, kept from piece to piece. */
typedef struct {
  GArray *symbols, *queue;
} ValleyBpeScratch;
void valley_bpe_scratch_init (ValleyBpeScratch *scratch);
void valley_bpe_scratch_clear (ValleyBpeScratch *scratch);

/* Appends the ids of @bytes to @ids (gint32).  O(n log n). */
void valley_bpe_encode (const ValleyBpe *bpe, const guint8 *bytes, gsize n,
                        ValleyBpeScratch *scratch, GArray *ids);
