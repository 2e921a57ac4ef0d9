/* kvcache.c - pages of keys and values: taking, sharing, giving back.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kvcache.h"

#include "alloc.h"

struct _ValleyKvPage {
  ValleyMemory *memory; /* [layer][plane][row][cols] */
  gsize refs;           /* sequences that hold it */
  guint64 id;           /* of its memory */
};

struct _ValleyKvPool {
  ValleyBackend *backend;
  ValleyDType dtype;
  gsize n_planes; /* keys, values, perhaps unrotated keys */
  gsize cols, plane_bytes, page_bytes;
  guint64 max_bytes;
  guint64 last_id;
  gsize n_used;    /* pages that sequences hold */
  GPtrArray *idle; /* pages that nobody holds */
};

/* ---- pool ---- */

ValleyKvPool *
valley_kv_pool_new (ValleyBackend *backend, gsize n_layers, gsize cols, guint64 max_bytes)
{
  ValleyDType dtype = backend->kv;
  gsize plane = VALLEY_KV_PAGE_ROWS * valley_dtype_bytes (dtype), most;
  ValleyKvPool *pool;

  if (!g_size_checked_mul (&plane, plane, cols) || !g_size_checked_mul (&most, plane, n_layers)
      || !g_size_checked_mul (&most, most, 3) || most == 0)
    return NULL;
  pool = g_new0 (ValleyKvPool, 1);
  pool->backend = backend;
  pool->dtype = dtype;
  pool->n_planes = 2;
  pool->cols = cols;
  pool->plane_bytes = plane;
  pool->page_bytes = plane * n_layers * pool->n_planes;
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
valley_kv_pool_trim (ValleyKvPool *pool)
{
  while (pool->idle->len > 0)
    free_idle_page (pool);
}

void
valley_kv_pool_free (ValleyKvPool *pool)
{
  if (pool == NULL)
    return;
  g_warn_if_fail (pool->n_used == 0);
  valley_kv_pool_trim (pool);
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

gboolean
valley_kv_pool_set_unrotated (ValleyKvPool *pool, gboolean keep)
{
  gsize n_planes = keep ? 3 : 2;

  if (pool->n_planes == n_planes)
    return TRUE;
  if (pool->n_used > 0)
    return FALSE;
  valley_kv_pool_trim (pool);
  pool->page_bytes = pool->page_bytes / pool->n_planes * n_planes;
  pool->n_planes = n_planes;
  return TRUE;
}

gboolean
valley_kv_pool_keeps_unrotated (const ValleyKvPool *pool)
{
  return pool->n_planes > VALLEY_KV_UNROTATED;
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
    page->id = ++pool->last_id;
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
plane_of (const ValleyKvPool *pool, const ValleyKvPage *page, gsize layer, gsize which)
{
  return (ValleyTensor){ .memory = page->memory,
                         .dtype = pool->dtype,
                         .offset
                         = (layer * pool->n_planes + which) * VALLEY_KV_PAGE_ROWS * pool->cols,
                         .rows = VALLEY_KV_PAGE_ROWS,
                         .cols = pool->cols,
                         .stride = pool->cols };
}

/* The first @rows rows of every layer's planes. */
static void
copy_page (const ValleyKvPool *pool, ValleyStream *stream, const ValleyKvPage *to,
           const ValleyKvPage *from, gsize rows)
{
  for (gsize i = 0; i < pool->page_bytes / pool->plane_bytes; i++) {
    ValleyTensor dst = plane_of (pool, to, 0, i), src = plane_of (pool, from, 0, i);

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
  g_free (cache->memories);
  *cache = (ValleyKvCache){ .pool = cache->pool };
}

/* Room for @n pages' names in the cache's arrays. */
static gboolean
grow_arrays (ValleyKvCache *cache, ValleyStream *stream, gsize n)
{
  gsize capacity = MAX (n, cache->pages_capacity + cache->pages_capacity / 2);
  gpointer pages, memories;

  if (n <= cache->pages_capacity)
    return TRUE;
  pages = valley_alloc_resize (cache->pages, capacity, sizeof *cache->pages);
  if (pages != NULL)
    cache->pages = pages;
  memories = valley_alloc_resize (cache->memories, capacity, sizeof *cache->memories);
  if (memories != NULL)
    cache->memories = memories;
  if (pages == NULL || memories == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY,
                        "not enough memory for the names of %" G_GSIZE_FORMAT " KV pages",
                        capacity);
    return FALSE;
  }
  cache->pages_capacity = capacity;
  return TRUE;
}

/* Makes page @index, of which @rows rows count, this sequence's alone. */
static gboolean
own_page (ValleyKvCache *cache, ValleyStream *stream, gsize index, gsize rows)
{
  ValleyKvPage *shared = cache->pages[index], *copy;

  if (shared->refs == 1)
    return TRUE;
  copy = take_page (cache->pool, stream);
  if (copy == NULL)
    return FALSE;
  copy_page (cache->pool, stream, copy, shared, rows);
  if (valley_stream_stopped (stream)) { /* perhaps before all was copied */
    give_page (cache->pool, copy);
    return FALSE;
  }
  give_page (cache->pool, shared);
  cache->pages[index] = copy;
  return TRUE;
}

/* A rollback may have ended inside a page that a fork sees: its rows behind belong to the fork. */
static gboolean
own_last_page (ValleyKvCache *cache, ValleyStream *stream)
{
  gsize rest = cache->length % VALLEY_KV_PAGE_ROWS;

  return rest == 0 || own_page (cache, stream, cache->length / VALLEY_KV_PAGE_ROWS, rest);
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
valley_kv_cache_write (ValleyKvCache *cache, ValleyStream *stream, gsize layer, ValleyKvPlane which,
                       gsize first, const ValleyTensor *rows)
{
  for (gsize done = 0, n; done < rows->rows && !valley_stream_stopped (stream); done += n) {
    gsize index = (first + done) / VALLEY_KV_PAGE_ROWS;
    gsize row = (first + done) % VALLEY_KV_PAGE_ROWS;
    ValleyTensor to, from;

    n = MIN (rows->rows - done, VALLEY_KV_PAGE_ROWS - row);
    if (index >= cache->n_pages || cache->pages[index]->refs != 1) {
      valley_stream_fail (stream, VALLEY_ERROR_DEVICE,
                          "KV row %" G_GSIZE_FORMAT " is not reserved; expected it to be",
                          first + done);
      return;
    }
    to = plane_of (cache->pool, cache->pages[index], layer, which);
    to = valley_tensor_rows (&to, row, n);
    from = valley_tensor_rows (rows, done, n);
    stream->ops->copy (stream, &to, &from);
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
valley_kv_cache_own (ValleyKvCache *cache, ValleyStream *stream, gsize first)
{
  for (gsize row = first / VALLEY_KV_PAGE_ROWS * VALLEY_KV_PAGE_ROWS; row < cache->length;
       row += VALLEY_KV_PAGE_ROWS)
    if (valley_stream_stopped (stream)
        || !own_page (cache, stream, row / VALLEY_KV_PAGE_ROWS,
                      MIN (VALLEY_KV_PAGE_ROWS, cache->length - row)))
      return;
}

ValleyTensor
valley_kv_cache_page (const ValleyKvCache *cache, gsize page, gsize layer, ValleyKvPlane which)
{
  return plane_of (cache->pool, cache->pages[page], layer, which);
}

void
valley_kv_cache_describe (ValleyKvCache *cache, ValleyStream *stream, gsize first, gsize n,
                          ValleyKv *kv)
{
  const ValleyKvPool *pool = cache->pool;
  gsize begin = first / VALLEY_KV_PAGE_ROWS,
        end = (first + n + VALLEY_KV_PAGE_ROWS - 1) / VALLEY_KV_PAGE_ROWS;
  gboolean may_write = end <= cache->n_pages;

  for (gsize i = 0; i < cache->n_pages; i++)
    cache->memories[i] = cache->pages[i]->memory;
  for (gsize i = begin; may_write && n > 0 && i < end; i++)
    may_write = cache->pages[i]->refs == 1;
  if (!may_write)
    valley_stream_fail (stream, VALLEY_ERROR_DEVICE,
                        "KV rows %" G_GSIZE_FORMAT " to %" G_GSIZE_FORMAT
                        " are not reserved; expected them to be",
                        first, first + n);
  *kv = (ValleyKv){ .pages = cache->memories,
                    .n_pages = cache->n_pages,
                    .dtype = pool->dtype,
                    .page_rows = VALLEY_KV_PAGE_ROWS,
                    .cols = pool->cols,
                    .first_row = first,
                    .most_rows = first + n };
  valley_kv_pool_set_layer (pool, 0, kv);
}

guint64
valley_kv_cache_page_id (const ValleyKvCache *cache, gsize page)
{
  return cache->pages[page]->id;
}

void
valley_kv_pool_set_layer (const ValleyKvPool *pool, gsize layer, ValleyKv *kv)
{
  gsize plane = VALLEY_KV_PAGE_ROWS * pool->cols, base = layer * pool->n_planes * plane;

  kv->keys = base + VALLEY_KV_KEYS * plane;
  kv->values = base + VALLEY_KV_VALUES * plane;
  kv->unrotated
      = valley_kv_pool_keeps_unrotated (pool) ? base + VALLEY_KV_UNROTATED * plane : G_MAXSIZE;
}
