/* kvcache.h - keys and values of a session's sequences, in pages that sequences share.
 *
 * A page holds VALLEY_KV_PAGE_ROWS rows of every layer's keys and values in one block of
 * memory.  A fork shares the pages that are full and copies the one that is not, so that
 * two sequences with a common beginning pay for it once; nobody writes into a page that
 * another sequence sees.  One thread at a time.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

/* A multiple of the keys that attention takes at a time, so that no block straddles pages. */
#define VALLEY_KV_PAGE_ROWS ((gsize) 64)

/* What a row of a layer has in a page. */
typedef enum {
  VALLEY_KV_KEYS,
  VALLEY_KV_VALUES,
  VALLEY_KV_UNROTATED /* the keys before their rotation, where the pool keeps them */
} ValleyKvPlane;

typedef struct _ValleyKvPool ValleyKvPool;
typedef struct _ValleyKvPage ValleyKvPage;

/* One sequence. */
typedef struct {
  ValleyKvPool *pool;
  gsize length; /* rows that count; those after it may be overwritten */
  gsize gap;    /* the next row's position is length + gap: positions whose rows were dropped */
  gsize n_pages, pages_capacity;
  ValleyKvPage **pages;
  ValleyMemory **memories; /* of the pages: what valley_kv_cache_describe gave last */
} ValleyKvCache;

/* Pages of @n_layers * 2 * @cols elements a row (cols: KV heads * head size) of the backend's type
 * for them.  All pages together never take more than @max_bytes (0:
 * as many as there is memory for).  NULL when a page's size overflows. */
ValleyKvPool *valley_kv_pool_new (ValleyBackend *backend, gsize n_layers, gsize cols,
                                  guint64 max_bytes);
/* After its caches have been cleared. */
void valley_kv_pool_free (ValleyKvPool *pool);
/* What sequences hold, shared pages counted once.  Pages that nobody holds wait for the next
 * taker; together with them it is never more than the bound. */
guint64 valley_kv_pool_bytes_used (const ValleyKvPool *pool);
/* What a sequence of @rows rows takes that shares nothing. */
guint64 valley_kv_pool_bytes_for (const ValleyKvPool *pool, gsize rows);
/* A lower bound than what is in use is kept by refusing until enough has been given back. */
void valley_kv_pool_set_max_bytes (ValleyKvPool *pool, guint64 max_bytes);

/* Gives the machine the pages back that nobody holds. */
void valley_kv_pool_trim (ValleyKvPool *pool);
/* Whether rows have their unrotated keys too, half as much memory again; not at first.  FALSE
 * while a sequence holds a page. */
gboolean valley_kv_pool_set_unrotated (ValleyKvPool *pool, gboolean keep);
gboolean valley_kv_pool_keeps_unrotated (const ValleyKvPool *pool);

void valley_kv_cache_init (ValleyKvCache *cache, ValleyKvPool *pool);
/* Gives the pages back; a zeroed cache is fine. */
void valley_kv_cache_clear (ValleyKvCache *cache);
/* Makes the rows from the length up to @rows writable.  On failure the stream's error is set
 * (VALLEY_ERROR_MEMORY: the bound, or the machine) and the cache is as it was. */
void valley_kv_cache_reserve (ValleyKvCache *cache, ValleyStream *stream, gsize rows);
/* Stores f32 rows at @first (reserved, and no earlier than the length), converting; the length
 * does not change. */
void valley_kv_cache_write (ValleyKvCache *cache, ValleyStream *stream, gsize layer,
                            ValleyKvPlane which, gsize first, const ValleyTensor *rows);
/* Accepts rows that were written, or rolls back, giving back the pages behind; the gap stays, but
 * an empty sequence has none. */
void valley_kv_cache_set_length (ValleyKvCache *cache, gsize length);
/* @to, a fresh or cleared cache, becomes a sequence with @from's rows and a future of its own.
 * On failure the stream's error is set and @to is empty. */
void valley_kv_cache_fork (ValleyKvCache *to, ValleyKvCache *from, ValleyStream *stream);
/* Makes all rows from @first on this sequence's alone, to be changed by way of
 * valley_kv_cache_write. On failure the stream's error is set; the rows are as they were. */
void valley_kv_cache_own (ValleyKvCache *cache, ValleyStream *stream, gsize first);
/* One page's rows of a layer. */
ValleyTensor valley_kv_cache_page (const ValleyKvCache *cache, gsize page, gsize layer,
                                   ValleyKvPlane which);
/* The pages, for operations that write @n rows at @first (reserved, or this sequence's alone) or
 * look at others; of layer 0, without a device's table.  Valid until the cache changes.  When the
 * rows may not be written the stream's error is set. */
void valley_kv_cache_describe (ValleyKvCache *cache, ValleyStream *stream, gsize first, gsize n,
                               ValleyKv *kv);
/* Which memory a page is; never another's as long as the pool lives, and never 0. */
guint64 valley_kv_cache_page_id (const ValleyKvCache *cache, gsize page);
/* Makes @kv another layer's. */
void valley_kv_pool_set_layer (const ValleyKvPool *pool, gsize layer, ValleyKv *kv);
