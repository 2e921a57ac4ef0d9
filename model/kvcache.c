/* kvcache.c - pages of keys and values: taking, sharing, giving back.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kvcache.h"

#include "alloc.h"

#include <string.h>

struct _ValleyKvPage {
  ValleyMemory *memory; /* [layer][keys, values][row][cols] */
  gsize refs;           /* sequences that hold it */
};

struct _ValleyKvPool {
  ValleyBackend *backend;
  ValleyDType dtype;
  gsize cols, page_bytes;
  guint64 max_bytes;
  gsize n_used;    /* pages that sequences hold */
  GPtrArray *idle; /* pages that nobody holds */
};

enum { KEYS, VALUES, N_PLANES };

/* ---- pool ---- */

ValleyKvPool *
valley_kv_pool_new (ValleyBackend *backend, gsize n_layers, gsize cols, guint64 max_bytes)
{
  ValleyDType dtype = backend->precision == VALLEY_PRECISION_BF16 ? VALLEY_BF16 : VALLEY_F32;
  gsize bytes = VALLEY_KV_PAGE_ROWS * N_PLANES * valley_dtype_bytes (dtype);
  ValleyKvPool *pool;

  if (!g_size_checked_mul (&bytes, bytes, n_layers) || !g_size_checked_mul (&bytes, bytes, cols)
      || bytes == 0)
    return NULL;
  pool = g_new0 (ValleyKvPool, 1);
  pool->backend = backend;
  pool->dtype = dtype;
  pool->cols = cols;
  pool->page_bytes = bytes;
  pool->max_bytes = max_bytes;
  pool->idle = g_ptr_array_new ();
  return pool;
}

static void
free_idle_page (ValleyKvPool *pool)
{
  ValleyKvPage *page = g_ptr_array_steal_index_fast (pool->idle, pool->idle->len - 1);

  pool->backend->ops->memory_free (pool->backend, page->memory);
  g_free (page);
}

void
valley_kv_pool_free (ValleyKvPool *pool)
{
  if (pool == NULL)
    return;
  g_warn_if_fail (pool->n_used == 0);
  while (pool->idle->len > 0)
    free_idle_page (pool);
  g_ptr_array_unref (pool->idle);
  g_free (pool);
}

/* Whether @n pages may exist. */
static gboolean
is_within_bound (const ValleyKvPool *pool, gsize n)
{
  return pool->max_bytes == 0 || n <= pool->max_bytes / pool->page_bytes;
}

guint64
valley_kv_pool_bytes_used (const ValleyKvPool *pool)
{
  return (guint64) pool->n_used * pool->page_bytes;
}

guint64
valley_kv_pool_bytes_for (const ValleyKvPool *pool, gsize rows)
{
  guint64 n = rows / VALLEY_KV_PAGE_ROWS + (rows % VALLEY_KV_PAGE_ROWS != 0), bytes;

  return g_uint64_checked_mul (&bytes, n, pool->page_bytes) ? bytes : G_MAXUINT64;
}

void
valley_kv_pool_set_max_bytes (ValleyKvPool *pool, guint64 max_bytes)
{
  pool->max_bytes = max_bytes;
  while (pool->idle->len > 0 && !is_within_bound (pool, pool->n_used + pool->idle->len))
    free_idle_page (pool);
}

/* ---- pages ---- */

/* A page of undefined contents with one holder; NULL sets the stream's error. */
static ValleyKvPage *
take_page (ValleyKvPool *pool, ValleyStream *stream)
{
  ValleyKvPage *page;
  ValleyMemory *memory;

  if (!is_within_bound (pool, pool->n_used + 1)) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY,
                        "the KV cache's bound of %" G_GUINT64_FORMAT
                        " bytes of memory is reached: %" G_GSIZE_FORMAT
                        " bytes are in use and %" G_GSIZE_FORMAT " more are needed",
                        pool->max_bytes, pool->n_used * pool->page_bytes, pool->page_bytes);
    return NULL;
  }
  if (pool->idle->len > 0) {
    page = g_ptr_array_steal_index_fast (pool->idle, pool->idle->len - 1);
  } else {
    memory = pool->backend->ops->memory_new (pool->backend, pool->page_bytes);
    if (memory == NULL) {
      valley_stream_fail (stream, VALLEY_ERROR_MEMORY,
                          "not enough memory for %" G_GSIZE_FORMAT
                          " bytes more of KV cache; it has %" G_GSIZE_FORMAT " bytes",
                          pool->page_bytes, pool->n_used * pool->page_bytes);
      return NULL;
    }
    page = g_new (ValleyKvPage, 1);
    page->memory = memory;
  }
  page->refs = 1;
  pool->n_used++;
  return page;
}

static void
give_page (ValleyKvPool *pool, ValleyKvPage *page)
{
  if (--page->refs > 0)
    return;
  pool->n_used--;
  g_ptr_array_add (pool->idle, page);
  if (!is_within_bound (pool, pool->n_used + pool->idle->len)) /* lowered meanwhile */
    free_idle_page (pool);
}

static ValleyTensor
plane (const ValleyKvPool *pool, const ValleyKvPage *page, gsize layer, gsize which)
{
  return (ValleyTensor){ .memory = page->memory,
                         .dtype = pool->dtype,
                         .offset = (layer * N_PLANES + which) * VALLEY_KV_PAGE_ROWS * pool->cols,
                         .rows = VALLEY_KV_PAGE_ROWS,
                         .cols = pool->cols,
                         .stride = pool->cols };
}

/* The first @rows rows of every layer's planes. */
static void
copy_page (const ValleyKvPool *pool, ValleyStream *stream, const ValleyKvPage *to,
           const ValleyKvPage *from, gsize rows)
{
  gsize plane_bytes = VALLEY_KV_PAGE_ROWS * pool->cols * valley_dtype_bytes (pool->dtype);

  for (gsize i = 0; i < pool->page_bytes / plane_bytes; i++) {
    ValleyTensor dst = plane (pool, to, 0, i), src = plane (pool, from, 0, i);

    dst.rows = src.rows = rows;
    stream->ops->copy (stream, &dst, &src);
  }
}

/* ---- sequences ---- */

void
valley_kv_cache_init (ValleyKvCache *cache, ValleyKvPool *pool)
{
  *cache = (ValleyKvCache){ .pool = pool };
}

static void
truncate_pages (ValleyKvCache *cache, gsize n)
{
  while (cache->n_pages > n)
    give_page (cache->pool, cache->pages[--cache->n_pages]);
}

void
valley_kv_cache_clear (ValleyKvCache *cache)
{
  truncate_pages (cache, 0);
  g_free (cache->pages);
  g_free (cache->views);
  *cache = (ValleyKvCache){ .pool = cache->pool };
}

/* Room for @n pages' names in the cache's arrays. */
static gboolean
grow_arrays (ValleyKvCache *cache, ValleyStream *stream, gsize n)
{
  gsize capacity = MAX (n, cache->pages_capacity + cache->pages_capacity / 2);
  gpointer pages, views;

  if (n <= cache->pages_capacity)
    return TRUE;
  pages = valley_alloc_resize (cache->pages, capacity, sizeof *cache->pages);
  if (pages != NULL)
    cache->pages = pages;
  views = valley_alloc_resize (cache->views, capacity, 2 * sizeof *cache->views);
  if (views != NULL)
    cache->views = views;
  if (pages == NULL || views == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY,
                        "not enough memory for the names of %" G_GSIZE_FORMAT " KV pages",
                        capacity);
    return FALSE;
  }
  cache->pages_capacity = capacity;
  return TRUE;
}

/* A rollback may have ended inside a page that a fork sees: its rows behind belong to the fork. */
static gboolean
own_last_page (ValleyKvCache *cache, ValleyStream *stream)
{
  ValleyKvPage **last, *copy;

  if (cache->length % VALLEY_KV_PAGE_ROWS == 0)
    return TRUE;
  last = &cache->pages[cache->length / VALLEY_KV_PAGE_ROWS];
  if ((*last)->refs == 1)
    return TRUE;
  copy = take_page (cache->pool, stream);
  if (copy == NULL)
    return FALSE;
  copy_page (cache->pool, stream, copy, *last, cache->length % VALLEY_KV_PAGE_ROWS);
  give_page (cache->pool, *last);
  *last = copy;
  return TRUE;
}

void
valley_kv_cache_reserve (ValleyKvCache *cache, ValleyStream *stream, gsize rows)
{
  gsize n = rows / VALLEY_KV_PAGE_ROWS + (rows % VALLEY_KV_PAGE_ROWS != 0);
  gsize before = cache->n_pages;

  if (valley_stream_stopped (stream) || rows <= cache->length || !grow_arrays (cache, stream, n)
      || !own_last_page (cache, stream))
    return;
  while (cache->n_pages < n) {
    ValleyKvPage *page = take_page (cache->pool, stream);

    if (page == NULL) {
      truncate_pages (cache, before);
      return;
    }
    cache->pages[cache->n_pages++] = page;
  }
}

void
valley_kv_cache_write (ValleyKvCache *cache, ValleyStream *stream, gsize layer, gsize first,
                       const ValleyTensor *keys, const ValleyTensor *values)
{
  if (valley_stream_stopped (stream))
    return;
  for (gsize done = 0, n; done < keys->rows; done += n) {
    gsize index = (first + done) / VALLEY_KV_PAGE_ROWS;
    gsize row = (first + done) % VALLEY_KV_PAGE_ROWS;
    const ValleyTensor *from[] = { keys, values };

    n = MIN (keys->rows - done, VALLEY_KV_PAGE_ROWS - row);
    if (index >= cache->n_pages || cache->pages[index]->refs != 1) {
      valley_stream_fail (stream, VALLEY_ERROR_DEVICE,
                          "KV row %" G_GSIZE_FORMAT " is not reserved; expected it to be",
                          first + done);
      return;
    }
    for (gsize i = 0; i < G_N_ELEMENTS (from); i++) {
      ValleyTensor to = plane (cache->pool, cache->pages[index], layer, i);
      ValleyTensor part = valley_tensor_rows (from[i], done, n);

      to = valley_tensor_rows (&to, row, n);
      stream->ops->copy (stream, &to, &part);
    }
  }
}

void
valley_kv_cache_set_length (ValleyKvCache *cache, gsize length)
{
  gsize n = length / VALLEY_KV_PAGE_ROWS + (length % VALLEY_KV_PAGE_ROWS != 0);

  if (length <= cache->length)
    truncate_pages (cache, n);
  cache->length = MIN (length, cache->n_pages * VALLEY_KV_PAGE_ROWS);
  if (length == 0)
    cache->gap = 0;
}

void
valley_kv_cache_fork (ValleyKvCache *to, ValleyKvCache *from, ValleyStream *stream)
{
  gsize full = from->length / VALLEY_KV_PAGE_ROWS, rest = from->length % VALLEY_KV_PAGE_ROWS;

  valley_kv_cache_init (to, from->pool);
  if (valley_stream_stopped (stream) || !grow_arrays (to, stream, full + (rest != 0)))
    return;
  for (gsize i = 0; i < full + (rest != 0); i++) {
    from->pages[i]->refs++;
    to->pages[to->n_pages++] = from->pages[i];
  }
  to->length = from->length;
  to->gap = from->gap;
  if (!own_last_page (to, stream))
    valley_kv_cache_set_length (to, 0);
}

void
valley_kv_cache_layer (ValleyKvCache *cache, gsize layer, gsize n_keys, const ValleyTensor **keys,
                       const ValleyTensor **values)
{
  gsize n = n_keys / VALLEY_KV_PAGE_ROWS + (n_keys % VALLEY_KV_PAGE_ROWS != 0);
  ValleyTensor *k = cache->views, *v = cache->views + cache->pages_capacity;

  n = MIN (n, cache->n_pages);
  for (gsize i = 0; i < n; i++) {
    k[i] = plane (cache->pool, cache->pages[i], layer, KEYS);
    v[i] = plane (cache->pool, cache->pages[i], layer, VALUES);
    k[i].rows = v[i].rows = MIN (VALLEY_KV_PAGE_ROWS, n_keys - i * VALLEY_KV_PAGE_ROWS);
  }
  *keys = k;
  *values = v;
}
