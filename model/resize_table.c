/* resize_table.c - the coefficients of Pillow's bicubic resize, with 22 fraction bits.  They are
 * kept for the sizes that a stream uses again and again.
 * SPDX-License-Identifier: Apache-2.0 */
#include "resize_table.h"

#include <math.h>
#include <string.h>

#include "alloc.h"

#define CACHED_TABLES 32
#define CACHED_TABLE_BYTES (1 << 20) /* larger ones belong to absurd sizes */

/* ---- coefficients --------------------------------------------------------- */

/* Where an output's kernel lies on the input axis. */
typedef struct {
  double center, scale; /* scale: input samples a kernel unit, at least 1 */
  guint first, count;
} Reach;

double
valley_resize_cubic (double x)
{
  const double a = -0.5;

  x = fabs (x);
  if (x < 1)
    return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2)
    return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

static Reach
reach_of (guint in, guint out, guint i)
{
  double step = (double) in / out;
  double scale = MAX (step, 1.0);
  double center = (i + 0.5) * step, support = 2.0 * scale;
  int first = (int) (center - support + 0.5), end = (int) (center + support + 0.5);

  first = MAX (first, 0);
  end = MIN (end, (int) in);
  return (Reach){ center, scale, (guint) first, (guint) (end - first) };
}

/* The @reach.count fixed-point coefficients of one output; @weights is scratch. */
static void
compute_coefficients (const Reach *reach, double *weights, gint32 *k)
{
  double sum = 0, inverse = 1.0 / reach->scale;

  for (guint j = 0; j < reach->count; j++) {
    weights[j] = valley_resize_cubic (((int) (j + reach->first) - reach->center + 0.5) * inverse);
    sum += weights[j];
  }
  for (guint j = 0; j < reach->count; j++) {
    double weight = sum != 0 ? weights[j] / sum : weights[j];

    k[j] = (gint32) (weight * (1 << VALLEY_RESIZE_BITS) + (weight < 0 ? -0.5 : 0.5));
  }
}

/* ---- tables --------------------------------------------------------------- */

typedef struct {
  ValleyResizeTable table; /* what callers see of it */
  const ValleyResizeKernels *kernels;
  guint align;
  gsize bytes;
  gint references;
} Table;

static void
table_unref (Table *table)
{
  if (table == NULL || !g_atomic_int_dec_and_test (&table->references))
    return;
  g_free (table->table.first);
  g_free (table->table.n_quads);
  g_free (table->table.packed);
  g_free (table);
}

static Table *
table_new (const ValleyResizeKernels *kernels, guint in, guint out, guint align)
{
  guint max_count = (guint) ceil (2.0 * MAX ((double) in / out, 1.0)) * 2 + 1;
  gsize max_quads = (max_count + align - 1 + 3) / 4;
  g_autofree double *weights = VALLEY_NEW (double, max_count);
  g_autofree gint32 *k = VALLEY_NEW (gint32, 4 * max_quads);
  Table *table = g_new0 (Table, 1);
  ValleyResizeTable *t = &table->table;

  *table = (Table){ .table = { .in = in, .out = out, .stride = 4 * max_quads },
                    .kernels = kernels,
                    .align = align,
                    .bytes = 16 * max_quads * out,
                    .references = 1 };
  t->first = VALLEY_NEW (guint32, out);
  t->n_quads = VALLEY_NEW (guint32, out);
  t->packed = VALLEY_NEW0 (guint32, t->stride * out);
  if (weights == NULL || k == NULL || t->first == NULL || t->n_quads == NULL || t->packed == NULL) {
    table_unref (table);
    return NULL;
  }
  for (guint i = 0; i < out; i++) {
    Reach reach = reach_of (in, out, i);
    guint before = reach.first % align;

    t->first[i] = reach.first - before;
    t->n_quads[i] = (before + reach.count + 3) / 4;
    memset (k, 0, 4 * max_quads * sizeof *k);
    compute_coefficients (&reach, weights, k + before);
    for (guint q = 0; q < t->n_quads[i]; q++)
      kernels->pack (k + 4 * q, t->packed + i * t->stride + 4 * q);
  }
  return table;
}

static GMutex cache_lock;
static Table *cache[CACHED_TABLES]; /* the most recently used first */

/* Puts @table (owned by the cache from here on) in front of the first @n, over the last. */
static void
cache_put_first (Table *table, guint n)
{
  memmove (cache + 1, cache, n * sizeof *cache);
  cache[0] = table;
}

static Table *
cache_get (const ValleyResizeKernels *kernels, guint in, guint out, guint align)
{
  for (guint i = 0; i < CACHED_TABLES && cache[i] != NULL; i++) {
    Table *table = cache[i];

    if (table->table.in != in || table->table.out != out || table->kernels != kernels
        || table->align != align)
      continue;
    cache_put_first (table, i);
    g_atomic_int_inc (&table->references);
    return table;
  }
  return NULL;
}

const ValleyResizeTable *
valley_resize_table_get (const ValleyResizeKernels *kernels, guint in, guint out, guint align)
{
  Table *table, *evicted = NULL;

  g_mutex_lock (&cache_lock);
  table = cache_get (kernels, in, out, align);
  g_mutex_unlock (&cache_lock);
  if (table != NULL)
    return &table->table;
  table = table_new (kernels, in, out, align);
  if (table == NULL)
    return NULL;
  if (table->bytes > CACHED_TABLE_BYTES)
    return &table->table;
  g_mutex_lock (&cache_lock);
  evicted = cache[CACHED_TABLES - 1];
  cache_put_first (table, CACHED_TABLES - 1);
  g_atomic_int_inc (&table->references);
  g_mutex_unlock (&cache_lock);
  table_unref (evicted);
  return &table->table;
}

void
valley_resize_table_unref (const ValleyResizeTable *table)
{
  table_unref ((Table *) table); /* its first member */
}
