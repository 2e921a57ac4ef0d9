/* framecache.h - frames of a session by their contents: equal pictures share one encoding.
 *
 * A frame keeps its picture, so that its encoding may be given up when memory is short and made
 * again when it is needed.  One thread at a time.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "engine.h"

typedef struct _ValleyFrameCache ValleyFrameCache;

/* One picture's contents; every push of it holds a reference. */
typedef struct {
  guint refs;
  ValleyFrameCache *cache;
  ValleyPicture *picture;
  guint64 hash, content; /* `content` is never used twice */
  guint number;          /* of the push that brought it: names its dumps */
  gsize n_rows;          /* of its encoding */
  ValleyTensor rows;     /* empty while the encoding is given up */
  guint64 used;          /* when, on the cache's own clock */
} ValleyFrame;

typedef struct {
  guint64 encoded, reencoded, unchanged, evicted;
  guint64 bytes; /* of encodings */
} ValleyFrameCounts;

/* @model, @stream and @dump_dir outlive it.  @change_threshold: see ValleySessionOptions.  With
 * a dump folder every picture is encoded, equal or not. */
ValleyFrameCache *valley_frame_cache_new (ValleyModel *model, ValleyStream *stream,
                                          const char *dump_dir, double change_threshold);
/* For the frames that come. */
void valley_frame_cache_set_change_threshold (ValleyFrameCache *cache, double change_threshold);
/* After its frames were given back; NULL is fine. */
void valley_frame_cache_free (ValleyFrameCache *cache);
/* Forgets which picture came last: nothing counts as equal to what was before. */
void valley_frame_cache_reset (ValleyFrameCache *cache);

/* A reference to the frame that @picture is, encoded; @number: of the push. */
ValleyFrame *valley_frame_cache_add (ValleyFrameCache *cache, ValleyPicture *picture, guint number,
                                     GError **error);
ValleyFrame *valley_frame_ref (ValleyFrame *frame);
void valley_frame_unref (ValleyFrame *frame); /* NULL is fine */

/* Its rows, encoded again if they must be; borrowed until the next call.  NULL: @error. */
const ValleyTensor *valley_frame_rows (ValleyFrame *frame, GError **error);

/* Gives up the encoding that was used least recently; FALSE: there is none. */
gboolean valley_frame_cache_evict (ValleyFrameCache *cache);
const ValleyFrameCounts *valley_frame_cache_counts (const ValleyFrameCache *cache);
