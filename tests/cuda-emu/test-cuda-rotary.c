/* test-cuda-rotary.c - keys on their way into the pages, against the turn written out: all types,
 * any first row, with and without the unrotated keys and the queries.  What is not appended to
 * must not change.
 * SPDX-License-Identifier: Apache-2.0 */
#include "matrices.h"

#define PAGE_ROWS 64
#define MAX_PAGES 4
#define N_ANGLES 300

typedef struct {
  ValleyDType type;
  gsize rows, q_rows, head_dim, n_heads, n_kv_heads, first;
  gboolean keeps_unrotated;
} Case;

/* Pages of guards, the keys last in them; their addresses and the first row on the device. */
typedef struct {
  ValleyCudaKv kv;
  char *pages[MAX_PAGES], *before;
  gsize bytes;
  gpointer *table;
  gint32 *first;
} Cache;

static Cache
cache_new (const Case *c)
{
  gsize plane = PAGE_ROWS * c->n_kv_heads * c->head_dim, n = 3 * plane + 5;
  g_autofree float *guards = g_new (float, n);
  gint32 first = (gint32) c->first;
  Cache cache = { .kv = { .type = (ValleyCudaType) c->type,
                          .page_rows = PAGE_ROWS,
                          .cols = c->n_kv_heads * c->head_dim,
                          .keys = 2 * plane + 3,
                          .values = 0,
                          .unrotated = c->keeps_unrotated ? plane + 1 : SIZE_MAX,
                          .most_rows = MAX_PAGES * PAGE_ROWS },
                  .bytes = n * valley_dtype_bytes (c->type) };

  for (gsize i = 0; i < n; i++)
    guards[i] = GUARD_VALUE;
  cache.before = g_malloc (cache.bytes);
  to_type (cache.before, c->type, guards, n);
  for (guint i = 0; i < MAX_PAGES; i++)
    cache.pages[i] = to_device (cache.before, cache.bytes);
  cache.table = to_device (cache.pages, sizeof cache.pages);
  cache.first = to_device (&first, sizeof first);
  cache.kv.table = (void *const *) cache.table;
  cache.kv.first = cache.first;
  return cache;
}

static void
cache_clear (Cache *cache)
{
  CHECK (cudaStreamSynchronize (stream));
  for (guint i = 0; i < MAX_PAGES; i++)
    CHECK (cudaFree (cache->pages[i]));
  CHECK (cudaFree (cache->table));
  CHECK (cudaFree (cache->first));
  g_free (cache->before);
}

/* ---- what it should be ---- */

typedef struct {
  float *values; /* as the type has them */
  Wide on_device;
} Side;

static Side
side_new (ValleyDType type, gsize rows, gsize cols)
{
  Side side = { .values = rounded_floats (type, rows * cols, 1) };

  side.on_device = wide_new (type, rows, cols, side.values);
  return side;
}

static void
side_clear (Side *side)
{
  wide_clear (&side->on_device);
  g_free (side->values);
}

/* Turns every head of a row. */
static void
turn (double *out, const float *row, gsize cols, gsize head_dim, const float *cos, const float *sin)
{
  gsize half = head_dim / 2;

  for (gsize i = 0; i < cols; i++) {
    gsize d = i % head_dim;
    double other = d < half ? -row[i + half] : row[i - half];

    out[i] = (double) row[i] * cos[d % half] + other * sin[d % half];
  }
}

static void
check_turned (const char *what, const Case *c, gconstpointer elements, const float *row,
              gsize n_heads, const float *cos, const float *sin)
{
  static const double tolerances[] = { 1e-6, 1.0 / 256, 1.0 / 2048 };
  gsize cols = n_heads * c->head_dim;
  g_autofree float *got = g_new (float, cols);
  g_autofree double *want = g_new (double, cols);

  from_type (got, c->type, elements, cols);
  turn (want, row, cols, c->head_dim, cos, sin);
  assert_close (what, got, want, cols, tolerances[c->type], 1);
}

/* The plane's row in what was read back of the pages; marked as seen there. */
static char *
take_row (char *const *pages, const Cache *cache, const Case *c, gsize plane, gsize row)
{
  gsize element = valley_dtype_bytes (c->type), bytes = cache->kv.cols * element;
  char *page = pages[(c->first + row) / PAGE_ROWS];
  gsize at = (plane + (c->first + row) % PAGE_ROWS * cache->kv.cols) * element;
  char *taken = g_malloc (bytes);

  memcpy (taken, page + at, bytes);
  memcpy (page + at, cache->before + at, bytes);
  return taken;
}

static void
check_row (const Case *c, const Cache *cache, char *const *pages, gsize row, const float *k,
           const float *v, const float *cos, const float *sin)
{
  gsize cols = cache->kv.cols;
  g_autofree char *keys = take_row (pages, cache, c, cache->kv.keys, row);
  g_autofree char *values = take_row (pages, cache, c, cache->kv.values, row);
  g_autofree float *got = g_new (float, cols);

  check_turned ("keys", c, keys, k, c->n_kv_heads, cos, sin);
  from_type (got, c->type, values, cols);
  assert_same_bits ("values", got, v, cols);
  if (c->keeps_unrotated) {
    g_autofree char *unrotated = take_row (pages, cache, c, cache->kv.unrotated, row);

    from_type (got, c->type, unrotated, cols);
    assert_same_bits ("unrotated keys", got, k, cols);
  }
}

static void
check_pages (const Case *c, const Cache *cache, const Side *k, const Side *v,
             const gint32 *positions, const float *cos, const float *sin)
{
  gsize half = c->head_dim / 2, cols = cache->kv.cols;
  char *pages[MAX_PAGES];

  for (guint i = 0; i < MAX_PAGES; i++)
    pages[i] = from_device (cache->pages[i], cache->bytes);
  for (gsize i = 0; i < c->rows; i++)
    check_row (c, cache, pages, i, k->values + i * cols, v->values + i * cols,
               cos + positions[i] * half, sin + positions[i] * half);
  for (guint i = 0; i < MAX_PAGES; i++) { /* nothing else has changed */
    g_assert_cmpmem (pages[i], cache->bytes, cache->before, cache->bytes);
    g_free (pages[i]);
  }
}

/* What was appended, read back from some row on. */
static void
check_read (const Case *c, const Cache *cache, const Side *v)
{
  gsize cols = cache->kv.cols, skip = random_size ((gint) c->rows + 1) - 1, n = c->rows - skip;
  Wide wide = wide_new (c->type, n, cols, NULL);
  g_autofree char *elements = NULL;
  g_autofree float *got = g_new (float, n *cols);

  CHECK (
      valley_cuda_read_pages (&wide.view, &cache->kv, cache->kv.values, c->first + skip, stream));
  elements = wide_read (&wide);
  from_type (got, c->type, elements, n * cols);
  assert_same_bits ("rows read from pages", got, v->values + skip * cols, n * cols);
  wide_clear (&wide);
}

static void
check_append (const Case *c)
{
  gsize half = c->head_dim / 2, cols = c->n_kv_heads * c->head_dim,
        q_cols = c->n_heads * c->head_dim;
  Cache cache = cache_new (c);
  Side q = side_new (c->type, MAX (c->q_rows, 1), q_cols), k = side_new (c->type, c->rows, cols);
  Side v = side_new (c->type, c->rows, cols);
  Side cos = side_new (VALLEY_F32, N_ANGLES, half), sin = side_new (VALLEY_F32, N_ANGLES, half);
  g_autofree gint32 *positions = g_new (gint32, c->rows);
  g_autofree char *turned = NULL;
  gint32 *on_device;

  for (gsize i = 0; i < c->rows; i++)
    positions[i] = g_rand_int_range (rng, 0, N_ANGLES);
  on_device = to_device (positions, c->rows * sizeof *positions);
  CHECK (valley_cuda_rotate_append (c->q_rows > 0 ? &q.on_device.view : NULL, &k.on_device.view,
                                    &v.on_device.view, &cos.on_device.view, &sin.on_device.view,
                                    on_device, c->head_dim, &cache.kv, stream));
  turned = wide_read (&q.on_device);
  for (gsize i = 0; i < c->q_rows; i++) {
    gsize angle = (gsize) positions[c->rows - c->q_rows + i] * half;

    check_turned ("queries", c, turned + i * q_cols * valley_dtype_bytes (c->type),
                  q.values + i * q_cols, c->n_heads, cos.values + angle, sin.values + angle);
  }
  check_read (c, &cache, &v);
  check_pages (c, &cache, &k, &v, positions, cos.values, sin.values);
  CHECK (cudaFree (on_device));
  side_clear (&q);
  side_clear (&k);
  side_clear (&v);
  side_clear (&cos);
  side_clear (&sin);
  cache_clear (&cache);
}

static void
test_append (void)
{
  for (guint i = 0; i < 48; i++) {
    Case c = { .type = i % 3,
               .rows = random_size (i % 4 == 0 ? 130 : 9),
               .head_dim = 2 * random_size (50),
               .n_kv_heads = random_size (4),
               .keeps_unrotated = i / 3 % 2 };

    c.n_heads = c.n_kv_heads * random_size (4);
    c.q_rows = i % 5 == 0 ? 0 : i % 2 ? c.rows : random_size ((gint) c.rows + 1);
    c.first = random_size ((gint) (MAX_PAGES * PAGE_ROWS - c.rows + 2)) - 1;
    check_append (&c);
  }
}

/* The same launch again, recorded, at another first row: what lies on the device counts. */
static void
test_first_is_read_late (void)
{
  Case c = { .type = VALLEY_BF16, .rows = 2, .head_dim = 8, .n_heads = 2, .n_kv_heads = 1 };
  Cache cache = cache_new (&c);
  Side k = side_new (c.type, 2, 8), v = side_new (c.type, 2, 8);
  Side cos = side_new (VALLEY_F32, N_ANGLES, 4), sin = side_new (VALLEY_F32, N_ANGLES, 4);
  gint32 positions[2] = { 5, 6 }, first = 63, *on_device;
  cudaGraph_t graph;
  cudaGraphExec_t exec;

  on_device = to_device (positions, sizeof positions);
  CHECK (cudaStreamBeginCapture (stream, cudaStreamCaptureModeRelaxed));
  CHECK (valley_cuda_rotate_append (NULL, &k.on_device.view, &v.on_device.view, &cos.on_device.view,
                                    &sin.on_device.view, on_device, c.head_dim, &cache.kv, stream));
  CHECK (cudaStreamEndCapture (stream, &graph));
  CHECK (cudaGraphInstantiate (&exec, graph, 0));
  CHECK (cudaMemcpyAsync (cache.first, &first, sizeof first, cudaMemcpyHostToDevice, stream));
  CHECK (cudaGraphLaunch (exec, stream));
  c.first = 63; /* and over a page's end */
  check_pages (&c, &cache, &k, &v, positions, cos.values, sin.values);
  CHECK (cudaGraphExecDestroy (exec));
  CHECK (cudaGraphDestroy (graph));
  CHECK (cudaFree (on_device));
  side_clear (&k);
  side_clear (&v);
  side_clear (&cos);
  side_clear (&sin);
  cache_clear (&cache);
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  compare_init ("cuda-rotary");
#ifdef VALLEY_CUDA_EMU
  emu_set_seed (g_rand_int (rng));
#endif
  CHECK (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  g_test_add_func ("/cuda-rotary/append", test_append);
  g_test_add_func ("/cuda-rotary/first-is-read-late", test_first_is_read_late);
  status = g_test_run ();
  CHECK (cudaStreamDestroy (stream));
  return status;
}
