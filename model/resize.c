/* resize.c - Pillow's bicubic resize, to the bit: coefficients with 22 fraction bits, the
 * horizontal pass first, its result rounded to 8 bits, then the vertical pass; a pass whose
 * size does not change is skipped.  (Pillow 13 does the vertical pass first where the height
 * shrinks much more than the width; the models were trained before that, so it is not followed.)
 * Coefficients are kept for the sizes that a stream uses again and again.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "resize_kernels.h"
#include "valley.h"

#include <math.h>
#include <string.h>

#define MAX_SIDE 65535
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
  ValleyResizeTable table;
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

/* @align: what the first input of every output is a multiple of (tiles start at quads). */
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

/* A reference to the table, from the cache or fresh; NULL when memory is short. */
static Table *
table_get (const ValleyResizeKernels *kernels, guint in, guint out, guint align)
{
  Table *table, *evicted = NULL;

  g_mutex_lock (&cache_lock);
  table = cache_get (kernels, in, out, align);
  g_mutex_unlock (&cache_lock);
  if (table != NULL)
    return table;
  table = table_new (kernels, in, out, align);
  if (table == NULL || table->bytes > CACHED_TABLE_BYTES)
    return table;
  g_mutex_lock (&cache_lock);
  evicted = cache[CACHED_TABLES - 1];
  cache_put_first (table, CACHED_TABLES - 1);
  g_atomic_int_inc (&table->references);
  g_mutex_unlock (&cache_lock);
  table_unref (evicted);
  return table;
}

/* ---- passes --------------------------------------------------------------- */

static gboolean
pass_horizontal (const ValleyResizeKernels *kernels, const guint8 *src, gsize src_stride,
                 guint src_width, guint height, guint channels, guint8 *dst, gsize dst_stride,
                 guint dst_width)
{
  gsize plane_bytes = ((gsize) src_width + 15) / 16 * (16 * VALLEY_RESIZE_ROWS);
  gsize n_samples = (gsize) dst_width * channels;
  g_autofree guint8 *tiles = valley_alloc (1, plane_bytes * channels);
  g_autofree guint8 *columns = valley_alloc (1, (n_samples + 15) / 16 * (16 * VALLEY_RESIZE_ROWS));
  Table *table = table_get (kernels, src_width, dst_width, 4);
  gboolean ready = tiles != NULL && columns != NULL && table != NULL;

  for (guint y = 0; ready && y < height; y += VALLEY_RESIZE_ROWS) {
    guint n_rows = MIN (height - y, VALLEY_RESIZE_ROWS);

    kernels->tile (src + y * src_stride, src_stride, n_rows, src_width, channels, tiles,
                   plane_bytes);
    kernels->horizontal (tiles, plane_bytes, &table->table, channels, columns);
    kernels->untile (columns, n_samples, n_rows, dst + y * dst_stride, dst_stride);
  }
  table_unref (table);
  return ready;
}

static gboolean
pass_vertical (const ValleyResizeKernels *kernels, const guint8 *src, gsize src_stride,
               guint src_height, gsize n_samples, guint8 *dst, gsize dst_stride, guint dst_height)
{
  Table *table = table_get (kernels, src_height, dst_height, 1);

  if (table == NULL)
    return FALSE;
  for (guint y = 0; y < dst_height; y++)
    kernels->vertical (src, src_stride, &table->table, y, n_samples, dst + y * dst_stride);
  table_unref (table);
  return TRUE;
}

static gboolean
pass_both (const ValleyResizeKernels *kernels, const guint8 *src, gsize src_stride, guint src_width,
           guint src_height, guint channels, guint8 *dst, gsize dst_stride, guint dst_width,
           guint dst_height)
{
  gsize row_bytes = (gsize) dst_width * channels;
  g_autofree guint8 *between = valley_alloc (src_height, row_bytes);

  return between != NULL
         && pass_horizontal (kernels, src, src_stride, src_width, src_height, channels, between,
                             row_bytes, dst_width)
         && pass_vertical (kernels, between, row_bytes, src_height, row_bytes, dst, dst_stride,
                           dst_height);
}

static gboolean
side_is_sane (guint side)
{
  return side >= 1 && side <= MAX_SIDE;
}

gboolean
valley_resize_with (const ValleyResizeKernels *kernels, const guint8 *src, gsize src_stride,
                    guint src_width, guint src_height, guint channels, guint8 *dst,
                    gsize dst_stride, guint dst_width, guint dst_height)
{
  gsize row_bytes = (gsize) dst_width * channels;

  if (!side_is_sane (src_width) || !side_is_sane (src_height) || !side_is_sane (dst_width)
      || !side_is_sane (dst_height) || channels < 1 || channels > 4)
    return FALSE;
  if (src_width != dst_width && src_height != dst_height)
    return pass_both (kernels, src, src_stride, src_width, src_height, channels, dst, dst_stride,
                      dst_width, dst_height);
  if (src_width != dst_width)
    return pass_horizontal (kernels, src, src_stride, src_width, src_height, channels, dst,
                            dst_stride, dst_width);
  if (src_height != dst_height)
    return pass_vertical (kernels, src, src_stride, src_height, row_bytes, dst, dst_stride,
                          dst_height);
  for (guint y = 0; y < dst_height; y++)
    memcpy (dst + y * dst_stride, src + y * src_stride, row_bytes);
  return TRUE;
}

/* ---- choice --------------------------------------------------------------- */

const ValleyResizeKernels *const *
valley_resize_kernel_sets (void)
{
  static const ValleyResizeKernels *sets[4];
  static gsize ready;

  if (g_once_init_enter (&ready)) {
    guint n = 0;

    sets[n++] = &valley_resize_kernels_c;
#if defined(__x86_64__)
    if (__builtin_cpu_supports ("avx2"))
      sets[n++] = &valley_resize_kernels_avx2;
    if (__builtin_cpu_supports ("avx512f") && __builtin_cpu_supports ("avx512bw")
        && __builtin_cpu_supports ("avx512vl") && __builtin_cpu_supports ("avx512vnni"))
      sets[n++] = &valley_resize_kernels_avx512;
#endif
    g_once_init_leave (&ready, 1);
  }
  return sets;
}

const ValleyResizeKernels *
valley_resize_best_kernels (void)
{
  static gsize best; /* a pointer, as g_once_init_enter wants it */

  if (g_once_init_enter (&best)) {
    const ValleyResizeKernels *const *set = valley_resize_kernel_sets ();
    const char *cap = g_getenv ("VALLEY_CPU");

    while (set[1] != NULL && g_strcmp0 (cap, set[0]->name) != 0)
      set++;
    g_once_init_leave (&best, (gsize) set[0]);
  }
  return (const ValleyResizeKernels *) best;
}

gboolean
valley_image_resize (const guint8 *src, gsize src_stride_bytes, guint src_width, guint src_height,
                     guint channels, guint8 *dst, gsize dst_stride_bytes, guint dst_width,
                     guint dst_height)
{
  return valley_resize_with (valley_resize_best_kernels (), src, src_stride_bytes, src_width,
                             src_height, channels, dst, dst_stride_bytes, dst_width, dst_height);
}
