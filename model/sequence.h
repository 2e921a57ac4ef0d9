/* sequence.h - one live sequence of a window policy: a KV cache behind the prompt's header, and
 * the rows that are appended to it.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "framecache.h"
#include "redundancy.h"

/* What a session computes its sequences with. */
typedef struct {
  const ValleyDecoder *llm; /* outlives it */
  ValleyStream *stream;
  ValleyDecoderRun run;
  gsize rows_at_once;   /* changes no bits */
  const char *dump_dir; /* or NULL */
} ValleyPrefill;

/* Rows of a prompt on their way into a cache. */
typedef struct {
  ValleyTensor x; /* embeddings; after valley_rows_append the last one is the last layer's output */
  gsize n_frame_rows;
  gint32 *positions; /* of the rows, counted from the first one's */
  gsize n_positions; /* that all of them take, left out ones included */
  GArray *spans;     /* gsize: the positions that each frame takes */
} ValleyRows;

/* The embeddings of @ids, each image slot the rows of the next of @frames that say something new
 * to @redundancy (NULL where there are no frames).  When it fails, that must be cleared. */
gboolean valley_rows_init (ValleyRows *rows, const ValleyPrefill *prefill, const gint32 *ids,
                           gsize n_ids, ValleyFrame *const *frames, ValleyRedundancy *redundancy,
                           GError **error);
void valley_rows_clear (ValleyRows *rows, const ValleyPrefill *prefill);
/* Runs them through the model behind what @cache holds, which has room reserved.  On failure
 * @cache is as it was. */
gboolean valley_rows_append (ValleyRows *rows, ValleyPrefill *prefill, ValleyKvCache *cache,
                             GError **error);

typedef struct {
  guint64 id; /* the schedule's */
  ValleyKvCache cache;
  ValleyRedundancy redundancy; /* of the frames in it */
  gsize n_frame_rows;
  gsize n_known;     /* of its rows, those that the previous answer found or left */
  gsize n_header;    /* rows that never go */
  GArray *positions; /* gint32: of the rows behind the header */
  GArray *spans;     /* gsize: positions of each of its frames, the oldest first */
} ValleySequence;

/* Empty: the header is the caller's to bring in. */
ValleySequence *valley_sequence_new (guint64 id, ValleyKvPool *pool, gsize n_header);
void valley_sequence_free (ValleySequence *sequence, ValleyBackend *backend);
/* @rows were appended to its cache; the last @n_tail are no frame's, and are rolled back. */
void valley_sequence_note (ValleySequence *sequence, const ValleyRows *rows, gsize n_tail);
/* Streaming: its @n_frames oldest frames go, with the text that each slot brings (@slot_text);
 * all of them, and it is exact again.  On failure it has no rows. */
gboolean valley_sequence_evict (ValleySequence *sequence, ValleyPrefill *prefill, guint n_frames,
                                gsize slot_text, GError **error);
