/* bench-exact.c - what it costs that a row's bits do not depend on the rows beside it: our
 * products against oneDNN's with every freedom it wants, its own layout of the weights and
 * inner_product (whose bits depend on the number of rows) included.  Not a test:
 * `ninja -C build tests/bench-exact && build/tests/bench-exact [f32|bf16] [rows]`.
 *
 * One thread, by the time that it had a core; all candidates take turns, so that a slower
 * minute of the machine is slower for all.  The library gets its activations in the type it
 * wants; we convert ours within the measured time.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include "compare.h"
#include "device.h"
#include "gemm.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef VALLEY_HAVE_GOMP
extern void omp_set_num_threads (int n);
#endif

#define ROUNDS 30
#define MAX_SECONDS 4 /* for one line */

typedef struct {
  gsize m, n, k;
  dnnl_data_type_t type;
} Shape;

static void
must (dnnl_status_t status, const char *what)
{
  if (status != dnnl_success)
    g_error ("oneDNN: %s: %d", what, status);
}

/* ---- what differs between oneDNN 2 and 3 ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t Layout;
typedef const_dnnl_memory_desc_t Queried;
#define LAYOUT(layout) (layout)

static Layout
layout_new (gint64 rows, gint64 cols, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
  Layout layout;

  must (dnnl_memory_desc_create_with_tag (&layout, 2, (dnnl_dims_t){ rows, cols }, type, tag),
        "layout");
  return layout;
}

static dnnl_status_t
describe (dnnl_primitive_desc_t *out, dnnl_engine_t engine, gboolean inner, Layout x, Layout w,
          Layout y)
{
  if (inner)
    return dnnl_inner_product_forward_primitive_desc_create (out, engine, dnnl_forward_inference, x,
                                                             w, NULL, y, NULL);
  return dnnl_matmul_primitive_desc_create (out, engine, x, w, NULL, y, NULL);
}

static dnnl_status_t
describe_reorder (dnnl_primitive_desc_t *out, dnnl_engine_t engine, Layout from, Queried to)
{
  return dnnl_reorder_primitive_desc_create (out, from, engine, to, engine, NULL);
}
#else
typedef dnnl_memory_desc_t Layout;
typedef const dnnl_memory_desc_t *Queried;
#define LAYOUT(layout) (&(layout))

static Layout
layout_new (gint64 rows, gint64 cols, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
  Layout layout;

  must (dnnl_memory_desc_init_by_tag (&layout, 2, (dnnl_dims_t){ rows, cols }, type, tag),
        "layout");
  return layout;
}

static dnnl_status_t
describe (dnnl_primitive_desc_t *out, dnnl_engine_t engine, gboolean inner, Layout x, Layout w,
          Layout y)
{
  dnnl_inner_product_desc_t product;
  dnnl_matmul_desc_t matmul;

  if (inner)
    must (dnnl_inner_product_forward_desc_init (&product, dnnl_forward_inference, &x, &w, NULL, &y),
          "inner_product");
  else
    must (dnnl_matmul_desc_init (&matmul, &x, &w, NULL, &y), "matmul");
  return dnnl_primitive_desc_create (out, inner ? (void *) &product : (void *) &matmul, NULL,
                                     engine, NULL);
}

static dnnl_status_t
describe_reorder (dnnl_primitive_desc_t *out, dnnl_engine_t engine, Layout from, Queried to)
{
  return dnnl_reorder_primitive_desc_create (out, &from, engine, to, engine, NULL);
}
#endif

/* ---- the library's candidates ---- */

typedef struct {
  dnnl_primitive_t primitive;
  dnnl_memory_t x, w, y;
} Candidate;

static dnnl_engine_t engine;
static dnnl_stream_t stream;

/* The plain weights @w as the primitive wants them. */
static dnnl_memory_t
reorder (dnnl_memory_t w, Layout plain, Queried wanted)
{
  dnnl_primitive_desc_t description;
  dnnl_primitive_t primitive;
  dnnl_memory_t packed;

  must (dnnl_memory_create (&packed, wanted, engine, DNNL_MEMORY_ALLOCATE), "packed weights");
  must (describe_reorder (&description, engine, plain, wanted), "reorder");
  must (dnnl_primitive_create (&primitive, description), "reorder");
  must (
      dnnl_primitive_execute (primitive, stream, 2,
                              (dnnl_exec_arg_t[]){ { DNNL_ARG_FROM, w }, { DNNL_ARG_TO, packed } }),
      "reorder");
  must (dnnl_stream_wait (stream), "reorder");
  dnnl_primitive_destroy (primitive);
  dnnl_primitive_desc_destroy (description);
  return packed;
}

/* @weights: [n][k] as a checkpoint has them; @packed: the library may lay them out anew.  FALSE
 * when it has no such primitive. */
static gboolean
candidate_init (Candidate *c, const Shape *s, gboolean inner, gboolean packed, void *weights)
{
  gint64 m = (gint64) s->m, n = (gint64) s->n, k = (gint64) s->k;
  gint64 rows = inner ? n : k, cols = inner ? k : n;
  Layout x = layout_new (m, k, s->type, dnnl_ab), y = layout_new (m, n, dnnl_f32, dnnl_ab);
  Layout plain = layout_new (rows, cols, s->type, inner ? dnnl_ab : dnnl_ba);
  Layout any = layout_new (rows, cols, s->type, dnnl_format_tag_any);
  dnnl_primitive_desc_t description;

  if (describe (&description, engine, inner, x, packed ? any : plain, y) != dnnl_success)
    return FALSE;
  must (dnnl_primitive_create (&c->primitive, description), "primitive");
  must (dnnl_memory_create (&c->x, LAYOUT (x), engine, DNNL_MEMORY_ALLOCATE), "x");
  must (dnnl_memory_create (&c->y, LAYOUT (y), engine, DNNL_MEMORY_ALLOCATE), "y");
  must (dnnl_memory_create (&c->w, LAYOUT (plain), engine, weights), "w");
  if (packed) {
    dnnl_memory_t w = c->w;

    c->w = reorder (w, plain, dnnl_primitive_desc_query_md (description, dnnl_query_weights_md, 0));
    dnnl_memory_destroy (w);
  }
  dnnl_primitive_desc_destroy (description);
  return TRUE;
}

static void
candidate_clear (Candidate *c)
{
  dnnl_memory_destroy (c->x);
  dnnl_memory_destroy (c->y);
  dnnl_memory_destroy (c->w);
  dnnl_primitive_destroy (c->primitive);
}

static double
now (void)
{
  struct timespec t;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static double
run_candidate (const Candidate *c)
{
  double start = now ();

  must (dnnl_primitive_execute (c->primitive, stream, 3,
                                (dnnl_exec_arg_t[]){ { DNNL_ARG_SRC, c->x },
                                                     { DNNL_ARG_WEIGHTS, c->w },
                                                     { DNNL_ARG_DST, c->y } }),
        "execute");
  must (dnnl_stream_wait (stream), "wait");
  return now () - start;
}

/* ---- ours ---- */

static double
run_ours (Device *d, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w,
          ValleyRole role)
{
  double start = now ();

  OPS (*d)->linear (d->stream, y, x, w, NULL, VALLEY_ACT_NONE, role);
  if (!OPS (*d)->stream_wait (d->stream, NULL))
    g_error ("our product failed");
  return now () - start;
}

/* ---- the table ---- */

enum { PLAIN_MATMUL, PLAIN_INNER, PACKED_MATMUL, PACKED_INNER, N_CANDIDATES };

typedef struct {
  double prompt, generated, theirs[N_CANDIDATES];
} Times;

static Times
measure (Device *d, const Shape *s, const ValleyTensor *x, const ValleyTensor *w, void *weights)
{
  Candidate candidates[N_CANDIDATES];
  gboolean have[N_CANDIDATES];
  Times best = { G_MAXDOUBLE, G_MAXDOUBLE, { G_MAXDOUBLE, G_MAXDOUBLE, G_MAXDOUBLE, G_MAXDOUBLE } };
  ValleyTensor rows = valley_tensor_rows (x, 0, s->m), y;
  double begin;

  valley_tensor_init (d->stream, &y, VALLEY_F32, s->m, s->n);
  for (guint i = 0; i < N_CANDIDATES; i++)
    have[i] = candidate_init (&candidates[i], s, i & 1, i >= PACKED_MATMUL, weights);
  begin = now ();
  for (guint round = 0; round < ROUNDS && (round < 3 || now () - begin < MAX_SECONDS); round++) {
    best.prompt = MIN (best.prompt, run_ours (d, &y, &rows, w, VALLEY_ROWS_PROMPT));
    best.generated = MIN (best.generated, run_ours (d, &y, &rows, w, VALLEY_ROWS_GENERATED));
    for (guint i = 0; i < N_CANDIDATES; i++)
      if (have[i])
        best.theirs[i] = MIN (best.theirs[i], run_candidate (&candidates[i]));
  }
  for (guint i = 0; i < N_CANDIDATES; i++)
    if (have[i])
      candidate_clear (&candidates[i]);
  valley_tensor_clear (d->backend, &y);
  return best;
}

/* Times of one number of rows, summed over a layer's products as often as it has them. */
typedef struct {
  double prompt, generated, plain, packed;
} Sum;

static void
bench_shape (Device *d, gsize k, gsize n, double count, const gsize *m, gsize n_m, Sum *sums)
{
  gboolean bf16 = d->backend->precision == VALLEY_PRECISION_BF16;
  g_autofree float *values = random_floats (n * k, 0.05);
  ValleyTensor x, w;

  valley_tensor_init (d->stream, &x, VALLEY_F32, m[n_m - 1], k);
  valley_tensor_init (d->stream, &w, bf16 ? VALLEY_BF16 : VALLEY_F32, n, k);
  OPS (*d)->upload (d->stream, &w, values);
  OPS (*d)->upload (d->stream, &x, values);
  if (bf16)
    valley_kernels_get ()->bf16_from_f32 ((guint16 *) values, values, n * k);
  for (gsize i = 0; i < n_m; i++) {
    Shape s = { m[i], n, k, bf16 ? dnnl_bf16 : dnnl_f32 };
    Times t = measure (d, &s, &x, &w, values);
    double plain = MIN (t.theirs[PLAIN_MATMUL], t.theirs[PLAIN_INNER]);
    double packed = MIN (plain, MIN (t.theirs[PACKED_MATMUL], t.theirs[PACKED_INNER]));

    printf ("%6zu %6zu %6zu  %10.3f %10.3f  %10.3f %10.3f  %6.2f %6.2f  %6.2f %6.2f\n", k, n, m[i],
            t.prompt * 1e3, t.generated * 1e3, plain * 1e3, packed * 1e3, t.prompt / plain,
            t.prompt / packed, t.generated / plain, t.generated / packed);
    sums[i].prompt += count * t.prompt;
    sums[i].generated += count * t.generated;
    sums[i].plain += count * plain;
    sums[i].packed += count * packed;
  }
  valley_tensor_clear (d->backend, &x);
  valley_tensor_clear (d->backend, &w);
}

static void
bench (ValleyPrecision precision, gsize only_rows)
{
  const gsize all[] = { 1, 4, 32, 128, 512 }, *m = only_rows > 0 ? &only_rows : all;
  gsize n_m = only_rows > 0 ? 1 : G_N_ELEMENTS (all);
  Device d = device_new (precision, 1, FALSE);
  Sum sums[G_N_ELEMENTS (all)] = { { 0 } };

  printf ("%s, ms on a core; ratios: our time to the library's best\n"
          "     k      n   rows      prompt  generated   plain lib packed lib"
          "  prompt/plain,packed  generated/plain,packed\n",
          precision == VALLEY_PRECISION_BF16 ? "bf16" : "f32");
  bench_shape (&d, 3584, 3584, 2, m, n_m, sums); /* Qwen2 7B: queries, output */
  bench_shape (&d, 3584, 512, 2, m, n_m, sums);  /* keys, values */
  bench_shape (&d, 3584, 18944, 2, m, n_m, sums);
  bench_shape (&d, 18944, 3584, 1, m, n_m, sums);
  for (gsize i = 0; i < n_m; i++)
    printf ("a layer's  %6zu  %10.3f %10.3f  %10.3f %10.3f  %6.2f %6.2f  %6.2f %6.2f\n", m[i],
            sums[i].prompt * 1e3, sums[i].generated * 1e3, sums[i].plain * 1e3,
            sums[i].packed * 1e3, sums[i].prompt / sums[i].plain, sums[i].prompt / sums[i].packed,
            sums[i].generated / sums[i].plain, sums[i].generated / sums[i].packed);
  device_clear (&d);
}

int
main (int argc, char **argv)
{
  const char *only = argc > 1 ? argv[1] : NULL;
  gsize rows = argc > 2 ? (gsize) atoi (argv[2]) : 0;

  rng = g_rand_new_with_seed (1);
#ifdef VALLEY_HAVE_GOMP
  omp_set_num_threads (1);
#endif
  must (dnnl_engine_create (&engine, dnnl_cpu, 0), "engine");
  must (dnnl_stream_create (&stream, engine, dnnl_stream_default_flags), "stream");
  printf ("kernels %s, oneDNN %d.%d\n", valley_kernels_get ()->name, dnnl_version ()->major,
          dnnl_version ()->minor);
  if (only == NULL || strcmp (only, "f32") == 0)
    bench (VALLEY_PRECISION_F32, rows);
  if (valley_gemm_has_bf16 () && (only == NULL || strcmp (only, "bf16") == 0))
    bench (VALLEY_PRECISION_BF16, rows);
  return 0;
}
