/* kvcache.h - one sequence's keys and values, a pair of tensors a layer.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

typedef struct {
  gsize n_layers, cols; /* cols: KV heads * head size */
  ValleyDType dtype;    /* bf16 where the backend computes in bf16, else f32 */
  gsize length;         /* rows that count; those after it may be overwritten */
  gsize capacity;
  ValleyTensor *k, *v; /* [capacity, cols], one a layer */
} ValleyKvCache;

/* FALSE when memory is short: then it can only be cleared. */
gboolean valley_kv_cache_init (ValleyKvCache *cache, ValleyBackend *backend, gsize n_layers,
                           gsize cols);
void valley_kv_cache_clear (ValleyKvCache *cache, ValleyBackend *backend);
/* Makes room for @rows rows in all, keeping those that count.  On failure the stream's error
 * is set and the cache is as it was. */
void valley_kv_cache_reserve (ValleyKvCache *cache, ValleyStream *stream, gsize rows);
/* Stores f32 rows of keys and values at @first, converting; the length does not change. */
void valley_kv_cache_write (ValleyKvCache *cache, ValleyStream *stream, gsize layer, gsize first,
                            const ValleyTensor *keys, const ValleyTensor *values);
/* Rolls back to, or accepts, @length rows (at most the capacity). */
void valley_kv_cache_set_length (ValleyKvCache *cache, gsize length);
