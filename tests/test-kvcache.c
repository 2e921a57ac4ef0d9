/* test-kvcache.c - sequences of keys and values that share pages: whatever is appended, forked
 * and rolled back, each reads as a plain array of its own would, and memory is counted.
 * Runs on the strict backend: pages start out as NaN and are out of reach between operations.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "compare.h"
#include "device.h"
#include "kvcache.h"

enum { LAYERS = 3, COLS = 6, ROW = LAYERS * 2 * COLS }; /* a row's elements in all */

#define PAGE VALLEY_KV_PAGE_ROWS

/* A sequence, and what it should hold: rows of ROW floats, [layer][keys, values][cols]. */
typedef struct {
  ValleyKvCache cache;
  GArray *rows; /* of float[ROW] */
} Sequence;

static void
sequence_init (Sequence *s, ValleyKvPool *pool)
{
  valley_kv_cache_init (&s->cache, pool);
  s->rows = g_array_new (FALSE, FALSE, ROW * sizeof (float));
}

static void
sequence_clear (Sequence *s)
{
  valley_kv_cache_clear (&s->cache);
  g_array_unref (s->rows);
}

/* One part of every row, tightly packed, as a tensor. */
static ValleyTensor
part_of (Device *d, const float *rows, gsize n, gsize part)
{
  g_autofree float *packed = g_new (float, n *COLS);
  ValleyTensor tensor;

  for (gsize i = 0; i < n; i++)
    memcpy (packed + i * COLS, rows + i * ROW + part * COLS, COLS * sizeof *packed);
  valley_tensor_init (d->stream, &tensor, VALLEY_F32, n, COLS);
  OPS (*d)->upload (d->stream, &tensor, packed);
  return tensor;
}

/* Small whole numbers: exact in bf16 too. */
static float *
random_rows (gsize n)
{
  float *rows = g_new (float, n *ROW);

  for (gsize i = 0; i < n * ROW; i++)
    rows[i] = (float) g_rand_int_range (rng, -128, 128);
  return rows;
}

static void
assert_good (Device *d)
{
  g_autoptr (GError) error = NULL;

  OPS (*d)->stream_wait (d->stream, &error);
  g_assert_no_error (error);
}

static void
write_rows (Device *d, ValleyKvCache *cache, const float *rows, gsize n)
{
  for (gsize layer = 0; layer < LAYERS; layer++) {
    ValleyTensor k = part_of (d, rows, n, 2 * layer), v = part_of (d, rows, n, 2 * layer + 1);

    valley_kv_cache_write (cache, d->stream, layer, VALLEY_KV_KEYS, cache->length, &k);
    valley_kv_cache_write (cache, d->stream, layer, VALLEY_KV_VALUES, cache->length, &v);
    valley_tensor_clear (d->backend, &k);
    valley_tensor_clear (d->backend, &v);
  }
}

static void
append (Device *d, Sequence *s, gsize n)
{
  g_autofree float *rows = random_rows (n);

  valley_kv_cache_reserve (&s->cache, d->stream, s->cache.length + n);
  write_rows (d, &s->cache, rows, n);
  valley_kv_cache_set_length (&s->cache, s->cache.length + n);
  assert_good (d);
  g_array_append_vals (s->rows, rows, (guint) n);
  g_assert_cmpuint (s->cache.length, ==, s->rows->len);
}

static void
fork_sequence (Device *d, Sequence *to, Sequence *from)
{
  to->rows = g_array_copy (from->rows);
  valley_kv_cache_fork (&to->cache, &from->cache, d->stream);
  assert_good (d);
  g_assert_cmpuint (to->cache.length, ==, from->cache.length);
}

static void
roll_back (Sequence *s, gsize length)
{
  valley_kv_cache_set_length (&s->cache, length);
  g_array_set_size (s->rows, (guint) length);
}

static void
check (Device *d, Sequence *s)
{
  const float *want = (const float *) s->rows->data;
  gsize n = s->cache.length;
  ValleyKv kv;

  g_assert_cmpuint (n, ==, s->rows->len);
  for (gsize layer = 0; layer < LAYERS; layer++) {
    valley_kv_cache_describe (&s->cache, d->stream, n, 0, &kv);
    valley_kv_pool_set_layer (s->cache.pool, layer, &kv);
    g_assert_cmpuint (kv.n_pages, ==, s->cache.n_pages);
    for (gsize row = 0, page = 0; row < n; row += PAGE, page++)
      for (gsize i = 0; i < 2; i++) {
        ValleyTensor plane = { .memory = kv.pages[page],
                               .dtype = kv.dtype,
                               .offset = i == 0 ? kv.keys : kv.values,
                               .rows = MIN (PAGE, n - row),
                               .cols = COLS,
                               .stride = COLS };
        float got[PAGE * COLS];

        OPS (*d)->download (d->stream, &plane, got, NULL);
        assert_good (d);
        for (gsize j = 0; j < plane.rows; j++)
          assert_same_bits ("a cached row", got + j * COLS,
                            want + (row + j) * ROW + (2 * layer + i) * COLS, COLS);
      }
  }
}

typedef struct {
  Device d;
  ValleyKvPool *pool;
  guint64 page_bytes;
} Fixture;

static Fixture
fixture_new (ValleyPrecision precision, guint max_pages)
{
  Fixture f = { .d = device_new (precision, 1, TRUE) };

  f.page_bytes = PAGE * ROW * (precision == VALLEY_PRECISION_BF16 ? 2 : 4);
  f.pool = valley_kv_pool_new (f.d.backend, LAYERS, COLS, max_pages * f.page_bytes);
  g_assert_nonnull (f.pool);
  return f;
}

static guint
pages_used (const Fixture *f)
{
  g_assert_cmpuint (valley_kv_pool_bytes_used (f->pool) % f->page_bytes, ==, 0);
  return (guint) (valley_kv_pool_bytes_used (f->pool) / f->page_bytes);
}

static void
fixture_clear (Fixture *f)
{
  g_assert_cmpuint (pages_used (f), ==, 0);
  valley_kv_pool_free (f->pool);
  device_clear (&f->d);
}

static void
test_fork (void)
{
  Fixture f = fixture_new (VALLEY_PRECISION_F32, 0);
  Sequence a, b, c;

  sequence_init (&a, f.pool);
  append (&f.d, &a, 2 * PAGE + 7);
  g_assert_cmpuint (pages_used (&f), ==, 3);
  g_assert_cmpuint (valley_kv_pool_bytes_for (f.pool, 2 * PAGE + 7), ==, 3 * f.page_bytes);
  g_assert_cmpuint (valley_kv_pool_bytes_for (f.pool, 2 * PAGE), ==, 2 * f.page_bytes);
  g_assert_cmpuint (valley_kv_pool_bytes_for (f.pool, 0), ==, 0);
  fork_sequence (&f.d, &b, &a);
  g_assert_cmpuint (pages_used (&f), ==, 4); /* the full ones are shared, the last is a copy */
  g_assert_true (a.cache.pages[1] == b.cache.pages[1]);
  g_assert_true (a.cache.pages[2] != b.cache.pages[2]);
  append (&f.d, &a, 3);
  append (&f.d, &b, PAGE);
  check (&f.d, &a);
  check (&f.d, &b);

  /* back to a page's end, where a fork copies nothing */
  roll_back (&b, PAGE);
  g_assert_cmpuint (pages_used (&f), ==, 3);
  fork_sequence (&f.d, &c, &b);
  g_assert_cmpuint (pages_used (&f), ==, 3);
  /* back into a page that others see: writing on takes a copy */
  roll_back (&b, PAGE - 5);
  append (&f.d, &b, 2);
  g_assert_cmpuint (pages_used (&f), ==, 4);
  append (&f.d, &c, 1);
  check (&f.d, &a);
  check (&f.d, &b);
  check (&f.d, &c);
  sequence_clear (&a);
  check (&f.d, &c); /* outlives what it came from */
  sequence_clear (&b);
  sequence_clear (&c);
  fixture_clear (&f);
}

static void
test_roll_back (void)
{
  Fixture f = fixture_new (VALLEY_PRECISION_F32, 0);
  Sequence s;

  sequence_init (&s, f.pool);
  s.cache.gap = 5;
  valley_kv_cache_reserve (&s.cache, f.d.stream, 4 * PAGE);
  append (&f.d, &s, 10);
  g_assert_cmpuint (pages_used (&f), ==, 4); /* what was reserved stays while rows are added */
  append (&f.d, &s, 3 * PAGE);
  roll_back (&s, PAGE + 1);
  g_assert_cmpuint (pages_used (&f), ==, 2);
  check (&f.d, &s);
  g_assert_cmpuint (s.cache.gap, ==, 5);
  valley_kv_cache_reserve (&s.cache, f.d.stream, 9 * PAGE);
  roll_back (&s, PAGE + 1); /* to the same length: the reserve is given back */
  g_assert_cmpuint (pages_used (&f), ==, 2);
  roll_back (&s, 0);
  g_assert_cmpuint (pages_used (&f), ==, 0);
  g_assert_cmpuint (s.cache.gap, ==, 0);
  append (&f.d, &s, PAGE / 2);
  check (&f.d, &s);
  sequence_clear (&s);
  fixture_clear (&f);
}

/* The operation before this call failed for want of memory. */
static void
assert_refused (Device *d)
{
  g_autoptr (GError) error = NULL;

  g_assert_false (OPS (*d)->stream_wait (d->stream, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
}

static void
test_bound (void)
{
  Fixture f = fixture_new (VALLEY_PRECISION_BF16, 3);
  Sequence a, b;

  g_assert_null (valley_kv_pool_new (f.d.backend, G_MAXSIZE / 1000, 4, 0));
  sequence_init (&a, f.pool);
  append (&f.d, &a, PAGE + 1);
  valley_kv_cache_reserve (&a.cache, f.d.stream, 3 * PAGE + 1);
  assert_refused (&f.d);
  g_assert_cmpuint (pages_used (&f), ==, 2);
  check (&f.d, &a);
  fork_sequence (&f.d, &b, &a);
  g_assert_cmpuint (pages_used (&f), ==, 3);
  sequence_clear (&b);
  valley_kv_pool_set_max_bytes (f.pool, 3 * f.page_bytes - 1); /* two pages fit */
  valley_kv_cache_fork (&b.cache, &a.cache, f.d.stream);
  assert_refused (&f.d);
  g_assert_cmpuint (b.cache.length, ==, 0);
  g_assert_cmpuint (pages_used (&f), ==, 2);
  valley_kv_cache_clear (&b.cache);

  valley_kv_pool_set_max_bytes (f.pool, f.page_bytes); /* less than is in use */
  check (&f.d, &a);
  append (&f.d, &a, 1); /* within its pages */
  valley_kv_cache_reserve (&a.cache, f.d.stream, 2 * PAGE + 1);
  assert_refused (&f.d);
  check (&f.d, &a);
  roll_back (&a, 0);
  append (&f.d, &a, PAGE);
  check (&f.d, &a);
  sequence_clear (&a);
  fixture_clear (&f);
}

/* Each allocation fails once: the sequence is as it was, and the second try does it. */
static void
test_no_memory (void)
{
  Fixture f = fixture_new (VALLEY_PRECISION_F32, 0);
  guint n = 0;

  for (gboolean failed = TRUE; failed; n++) {
    Sequence a, b;

    valley_kv_pool_set_max_bytes (f.pool, 1); /* frees the pages kept */
    valley_kv_pool_set_max_bytes (f.pool, 0);
    sequence_init (&a, f.pool);
    append (&f.d, &a, PAGE + 9);
    valley_alloc_fail_at (n + 1);
    valley_kv_cache_reserve (&a.cache, f.d.stream, 5 * PAGE);
    if (!valley_alloc_has_failed ())
      valley_kv_cache_fork (&b.cache, &a.cache, f.d.stream);
    else
      valley_kv_cache_init (&b.cache, f.pool);
    failed = valley_alloc_has_failed ();
    valley_alloc_fail_at (0);
    if (failed)
      assert_refused (&f.d);
    else
      assert_good (&f.d);
    valley_kv_cache_clear (&b.cache);
    check (&f.d, &a);
    append (&f.d, &a, PAGE);
    fork_sequence (&f.d, &b, &a);
    check (&f.d, &b);
    sequence_clear (&a);
    sequence_clear (&b);
  }
  g_assert_cmpuint (n, >, 5); /* arrays, pages */
  fixture_clear (&f);
}

static void
assert_not_reserved (Device *d)
{
  g_autoptr (GError) error = NULL;

  g_assert_false (OPS (*d)->stream_wait (d->stream, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
}

/* Rows that were not reserved, or that another sequence sees, are not written, nor described to be
 * written. */
static void
test_misuse (void)
{
  Fixture f = fixture_new (VALLEY_PRECISION_F32, 0);
  g_autofree float *rows = random_rows (2);
  Sequence a, b;
  ValleyKv kv;

  sequence_init (&a, f.pool);
  append (&f.d, &a, PAGE);
  write_rows (&f.d, &a.cache, rows, 2);
  assert_not_reserved (&f.d);
  valley_kv_cache_describe (&a.cache, f.d.stream, PAGE, 1, &kv);
  assert_not_reserved (&f.d);
  fork_sequence (&f.d, &b, &a);
  roll_back (&a, 3);
  write_rows (&f.d, &a.cache, rows, 2);
  assert_not_reserved (&f.d);
  valley_kv_cache_describe (&a.cache, f.d.stream, 3, 2, &kv);
  assert_not_reserved (&f.d);
  valley_kv_cache_describe (&a.cache, f.d.stream, PAGE, 0, &kv); /* to be read */
  assert_good (&f.d);
  check (&f.d, &b);
  sequence_clear (&a);
  sequence_clear (&b);
  fixture_clear (&f);
}

/* The pages that sequences hold, each once. */
static guint
count_distinct (Sequence *sequences, gsize n)
{
  g_autoptr (GHashTable) pages = g_hash_table_new (NULL, NULL);

  for (gsize i = 0; i < n; i++)
    for (gsize j = 0; j < sequences[i].cache.n_pages; j++)
      g_hash_table_add (pages, sequences[i].cache.pages[j]);
  return g_hash_table_size (pages);
}

static void
test_schedules (void)
{
  for (guint run = 0; run < 20; run++) {
    Fixture f = fixture_new (run % 2 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32, 0);
    Sequence s[5];

    for (gsize i = 0; i < G_N_ELEMENTS (s); i++)
      sequence_init (&s[i], f.pool);
    for (guint step = 0; step < 60; step++) {
      Sequence *one = &s[g_rand_int_range (rng, 0, G_N_ELEMENTS (s))];
      Sequence *other = &s[g_rand_int_range (rng, 0, G_N_ELEMENTS (s))];
      gint action = g_rand_int_range (rng, 0, 10);

      if (action < 5) {
        append (&f.d, one, (gsize) g_rand_int_range (rng, 1, action == 0 ? 200 : 40));
      } else if (action < 7 && one != other) {
        sequence_clear (one);
        fork_sequence (&f.d, one, other);
      } else if (action < 9) {
        roll_back (one, (gsize) g_rand_int_range (rng, 0, (gint32) one->rows->len + 1));
      } else {
        valley_kv_cache_reserve (&one->cache, f.d.stream, one->cache.length + 100);
      }
      g_assert_cmpuint (pages_used (&f), ==, count_distinct (s, G_N_ELEMENTS (s)));
      check (&f.d, one);
    }
    for (gsize i = 0; i < G_N_ELEMENTS (s); i++) {
      check (&f.d, &s[i]);
      sequence_clear (&s[i]);
    }
    fixture_clear (&f);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init ("kvcache");
  g_test_add_func ("/kvcache/fork", test_fork);
  g_test_add_func ("/kvcache/roll-back", test_roll_back);
  g_test_add_func ("/kvcache/bound", test_bound);
  if (test_on_cpu ()) /* it is the host's memory that fails there */
    g_test_add_func ("/kvcache/no-memory", test_no_memory);
  g_test_add_func ("/kvcache/misuse", test_misuse);
  g_test_add_func ("/kvcache/schedules", test_schedules);
  return g_test_run ();
}
