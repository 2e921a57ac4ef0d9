/* test-exact.c - what reuse rests on: the bits of a row depend on nothing but the row, not on
 * the rows beside it and not on the number of threads.  And how the CPU backend fails: errors
 * stick, a cancelled stream does nothing, a peek into strict memory is a fault.
 * VALLEY_CPU chooses the instruction set; meson runs this program once for each.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include "compare.h"
#include "device.h"
#include "pages.h"
#include "internal.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const gsize row_counts[] = { 1, 2, 7, 63, 64, 65, 200, 300 };

/* ---- linear and mix ---- */

typedef struct {
  ValleyPrecision precision;
  ValleyDType type;
  ValleyRole role;
  gboolean mix;
  gsize n, k;
} Product;

/* The first @m rows of @x times @w, in a freshly made device. */
static float *
product (const Product *p, guint threads, const float *x, gsize m, const float *w)
{
  Device d = device_new (p->precision, threads, FALSE);
  gboolean packed = g_rand_boolean (rng); /* rows k apart, beginning anywhere */
  gsize before = packed ? g_rand_int_range (rng, 0, 3) : 0;
  Guarded gx = guarded_new (&d, VALLEY_F32, m, p->k, x);
  Guarded gw = guarded_new (&d, p->type, p->mix ? p->k : p->n, p->mix ? p->n : p->k, w);
  Guarded gy = guarded_new (&d, VALLEY_F32, m, p->n, NULL);
  ValleyTensor dense, rows;
  float *y;

  valley_tensor_init (d.stream, &dense, VALLEY_F32, m + before, p->k);
  rows = packed ? valley_tensor_rows (&dense, before, m) : gx.view;
  if (packed)
    OPS (d)->copy (d.stream, &rows, &gx.view);
  if (p->mix)
    OPS (d)->mix (d.stream, &gy.view, &rows, &gw.view);
  else
    OPS (d)->linear (d.stream, &gy.view, &rows, &gw.view, NULL, VALLEY_ACT_GELU_TANH, p->role);
  y = guarded_read (&d, &gy);
  valley_tensor_clear (d.backend, &dense);
  guarded_clear (&d, &gx);
  guarded_clear (&d, &gw);
  guarded_clear (&d, &gy);
  device_clear (&d);
  return y;
}

static void
check_product (const Product *p)
{
  gsize most = row_counts[G_N_ELEMENTS (row_counts) - 1], from = g_rand_int_range (rng, 0, 100);
  g_autofree float *x = random_floats (most * p->k, 1), *w = random_floats (p->n * p->k, 1);
  g_autofree float *all = product (p, 2, x, most, w), *late = NULL;
  g_autofree char *what = g_strdup_printf (
      "%s, precision %d, weights %d, role %d, n %" G_GSIZE_FORMAT ", k %" G_GSIZE_FORMAT,
      p->mix ? "mix" : "linear", p->precision, p->type, p->role, p->n, p->k);

  for (gsize i = 0; i < G_N_ELEMENTS (row_counts); i++)
    for (guint threads = 1; threads <= 2; threads++) {
      g_autofree float *y = product (p, threads, x, row_counts[i], w);

      assert_same_bits (what, y, all, row_counts[i] * p->n);
    }
  late = product (p, 1, x + from * p->k, 33, w); /* elsewhere in a tile */
  assert_same_bits (what, late, all + from * p->n, 33 * p->n);
}

static void
test_products (void)
{
  for (guint i = 0; i < 24; i++) {
    Product p = { .precision = i & 1 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32,
                  .type = i % 3 == 2  ? VALLEY_F16
                          : i / 2 % 2 ? VALLEY_BF16
                                      : VALLEY_F32,
                  .role = i / 4 % 2 ? VALLEY_ROWS_GENERATED : VALLEY_ROWS_PROMPT,
                  .mix = i % 8 < 4 && i >= 16,
                  .n = g_rand_int_range (rng, 1, 300),
                  .k = g_rand_int_range (rng, 1, i % 3 == 0 ? 3000 : 400) };

    check_product (&p);
  }
}

/* Shapes of real models: where a library would change its blocking. */
static void
test_model_shapes (void)
{
  static const gsize shapes[][2] = { { 96, 1152 }, { 80, 4304 }, { 130, 896 }, { 64, 4864 },
                                     { 70, 3584 }, { 128, 128 }, { 384, 128 }, { 1, 64 } };

  for (gsize i = 0; i < G_N_ELEMENTS (shapes); i++)
    for (guint bf16 = 0; bf16 < 2; bf16++)
      for (ValleyRole role = VALLEY_ROWS_PROMPT; role <= VALLEY_ROWS_GENERATED; role++) {
        Product p = { bf16 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32,
                      bf16 ? VALLEY_BF16 : VALLEY_F32,
                      role,
                      FALSE,
                      shapes[i][0],
                      shapes[i][1] };

        check_product (&p);
      }
}

/* ---- attention ---- */

/* Rows @first ... of a causal sequence, over pages of @page_rows. */
static float *
attend (const ValleyAttention *a, guint threads, ValleyDType kv_type, const float *q, gsize first,
        gsize rows, const float *k, const float *v, gsize page_rows)
{
  Device d = device_new (VALLEY_PRECISION_F32, threads, rows % 2 == 0);
  gsize q_cols = a->n_heads * a->head_dim, k_cols = a->n_kv_heads * a->head_dim;
  Guarded gq = guarded_new (&d, VALLEY_F32, rows, q_cols, q + first * q_cols);
  Guarded go = guarded_new (&d, VALLEY_F32, rows, q_cols, NULL);
  Pages pages = pages_new (&d, kv_type, page_rows, k_cols, k, v, first + rows);
  ValleyAttention skipping = *a;
  float *out;

  skipping.n_skipped = (gsize) g_rand_int_range (rng, 0, (gint32) first + 1);
  pages.kv.first_row = first - skipping.n_skipped;
  OPS (d)->attend (d.stream, &go.view, &gq.view, &pages.kv, &skipping);
  out = guarded_read (&d, &go);
  pages_clear (&d, &pages);
  guarded_clear (&d, &gq);
  guarded_clear (&d, &go);
  device_clear (&d);
  return out;
}

/* A causal prompt at once, against the same in pieces, each with pages of another size: each row
 * alone has the same keys. */
static void
check_causal (ValleyDType kv_type, gsize kv_heads, gsize group, gsize dim, gsize keys)
{
  ValleyAttention a
      = { .n_heads = kv_heads * group, .n_kv_heads = kv_heads, .head_dim = dim, .scale = 0.3f };
  gsize q_cols = a.n_heads * dim;
  g_autofree float *q = random_floats (keys * q_cols, 1),
                   *k = random_floats (keys * kv_heads * dim, 1);
  g_autofree float *v = random_floats (keys * kv_heads * dim, 1), *all = NULL;

  all = attend (&a, 2, kv_type, q, 0, keys, k, v, VALLEY_KEY_BLOCK * 8);
  for (gsize first = 0, n; first < keys; first += n) {
    g_autofree float *part = NULL;

    n = g_rand_int_range (rng, 1, first % 2 ? 4 : 120);
    n = MIN (n, keys - first);
    a.role = first % 2 ? VALLEY_ROWS_GENERATED : VALLEY_ROWS_PROMPT; /* the same on the CPU */
    part = attend (&a, 1 + first % 2, kv_type, q, first, n, k, v,
                   VALLEY_KEY_BLOCK * (gsize) g_rand_int_range (rng, 1, 4));
    assert_same_bits ("attention in pieces", part, all + first * q_cols, n * q_cols);
  }
}

static void
test_attention (void)
{
  check_causal (VALLEY_F32, 2, 7, 64, 300);
  check_causal (VALLEY_BF16, 1, 7, 128, 333);
  for (guint i = 0; i < 12; i++)
    check_causal (i & 1 ? VALLEY_BF16 : VALLEY_F32, g_rand_int_range (rng, 1, 4),
                  g_rand_int_range (rng, 1, 8), 2 * (gsize) g_rand_int_range (rng, 1, 70),
                  g_rand_int_range (rng, 1, 400));
}

/* What is wrong with keys that a row must not see is none of its business. */
static void
test_unseen_keys (void)
{
  ValleyAttention a = { .n_heads = 4, .n_kv_heads = 2, .head_dim = 40, .scale = 0.2f };
  g_autofree float *q = random_floats (150 * 160, 1), *k = random_floats (150 * 80, 1);
  g_autofree float *v = random_floats (150 * 80, 1);
  g_autofree float *good = attend (&a, 2, VALLEY_F32, q, 0, 150, k, v, 128), *bad = NULL;

  for (gsize i = 100 * 80; i < 150 * 80; i++) {
    k[i] = i & 1 ? NAN : INFINITY;
    v[i] = i & 1 ? -INFINITY : NAN;
  }
  bad = attend (&a, 2, VALLEY_F32, q, 0, 150, k, v, 128);
  assert_same_bits ("rows before the bad keys", bad, good, 100 * 160);
}

/* ---- rows of everything else ---- */

static void
test_rows (void)
{
  enum { ROWS = 211, COLS = 430 };
  g_autofree float *x = random_floats (ROWS * COLS, 2), *w = random_floats (COLS, 1);
  float *results[3];

  for (guint run = 0; run < 3; run++) { /* all rows on one thread, on two, and the last alone */
    gsize rows = run == 2 ? 1 : ROWS;
    Device d = device_new (VALLEY_PRECISION_F32, 1 + run % 2, FALSE);
    Guarded gx = guarded_new (&d, VALLEY_F32, rows, COLS, x + (ROWS - rows) * COLS);
    Guarded gu = guarded_new (&d, VALLEY_F32, rows, COLS, x + (ROWS - rows) * COLS);
    Guarded gw = guarded_new (&d, VALLEY_F32, 1, COLS, w);

    OPS (d)->layer_norm (d.stream, &gx.view, &gx.view, NULL, &gw.view, NULL, 1e-6f);
    OPS (d)->add (d.stream, &gx.view, &gw.view);
    OPS (d)->rms_norm (d.stream, &gx.view, &gx.view, NULL, &gw.view, 1e-6f);
    OPS (d)->swiglu (d.stream, &gx.view, &gx.view, &gu.view);
    OPS (d)->softmax (d.stream, &gx.view);
    results[run] = guarded_read (&d, &gx);
    guarded_clear (&d, &gx);
    guarded_clear (&d, &gu);
    guarded_clear (&d, &gw);
    device_clear (&d);
  }
  assert_same_bits ("two threads", results[1], results[0], ROWS * COLS);
  assert_same_bits ("one row alone", results[2], results[0] + (ROWS - 1) * COLS, COLS);
  for (guint run = 0; run < 3; run++)
    g_free (results[run]);
}

/* Heads in their real size: each is normalised and turned on its own, whatever rows, heads and
 * threads there are beside it. */
static void
test_heads (void)
{
  enum { ROWS = 23, HEADS = 32, DIM = 128, COLS = HEADS * DIM };
  g_autofree float *x = random_floats (ROWS * COLS, 2), *w = random_floats (DIM, 1);
  g_autofree float *cos = random_floats (ROWS * DIM / 2, 1);
  g_autofree float *sin = random_floats (ROWS * DIM / 2, 1);
  float *results[4];

  for (guint run = 0; run < 4; run++) { /* one thread, two; the last row alone, its last head */
    gsize rows = run < 2 ? ROWS : 1, cols = run < 3 ? COLS : DIM;
    Device d = device_new (VALLEY_PRECISION_F32, 1 + run % 2, FALSE);
    Guarded gw = guarded_new (&d, VALLEY_F32, 1, DIM, w);
    Guarded gc = guarded_new (&d, VALLEY_F32, rows, DIM / 2, cos + (ROWS - rows) * DIM / 2);
    Guarded gs = guarded_new (&d, VALLEY_F32, rows, DIM / 2, sin + (ROWS - rows) * DIM / 2);
    ValleyTensor q, heads;

    results[run] = g_new (float, rows *cols);
    valley_tensor_init (d.stream, &q, VALLEY_F32, rows, cols);
    OPS (d)->upload (d.stream, &q, x + ROWS * COLS - rows * cols);
    heads = valley_tensor_reshape (&q, rows * cols / DIM, DIM);
    OPS (d)->rms_norm (d.stream, &heads, &heads, NULL, &gw.view, 1e-6f);
    OPS (d)->rope (d.stream, &q, &gc.view, &gs.view, NULL, DIM);
    g_assert_true (OPS (d)->download (d.stream, &q, results[run], NULL));
    valley_tensor_clear (d.backend, &q);
    guarded_clear (&d, &gw);
    guarded_clear (&d, &gc);
    guarded_clear (&d, &gs);
    device_clear (&d);
  }
  assert_same_bits ("two threads", results[1], results[0], ROWS * COLS);
  assert_same_bits ("one row alone", results[2], results[0] + (ROWS - 1) * COLS, COLS);
  assert_same_bits ("one head alone", results[3], results[0] + ROWS * COLS - DIM, DIM);
  for (guint run = 0; run < 4; run++)
    g_free (results[run]);
}

/* ---- failing ---- */

static void
test_errors (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, FALSE);
  g_autofree float *x = random_floats (6, 1), *y = g_new (float, 6);
  g_autoptr (GError) error = NULL;
  Guarded a = guarded_new (&d, VALLEY_F32, 2, 3, x), b = guarded_new (&d, VALLEY_F32, 3, 2, x);

  OPS (d)->add (d.stream, &a.view, &b.view); /* shapes differ */
  OPS (d)->add (d.stream, &a.view, &a.view); /* does nothing now */
  g_assert_false (OPS (d)->download (d.stream, &a.view, y, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_clear_error (&error);
  g_assert_true (OPS (d)->download (d.stream, &a.view, y, &error)); /* reported once */
  assert_same_bits ("untouched", y, x, 6);

  g_atomic_int_set (&d.stream->cancelled, 1);
  OPS (d)->add (d.stream, &a.view, &a.view);
  g_assert_false (OPS (d)->download (d.stream, &a.view, y, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
  g_atomic_int_set (&d.stream->cancelled, 0);
  g_clear_error (&error);
  g_assert_true (OPS (d)->download (d.stream, &a.view, y, &error));
  assert_same_bits ("untouched", y, x, 6);

  guarded_clear (&d, &a);
  guarded_clear (&d, &b);
  device_clear (&d);
  g_assert_null (valley_cpu_backend_new (VALLEY_PRECISION_AUTO, 1, FALSE, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  g_assert_null (valley_cpu_backend_new (VALLEY_PRECISION_F16, 1, FALSE, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_assert_nonnull (strstr (error->message, "precision f16"));
}

static void
assert_misfit (Device *d)
{
  g_autoptr (GError) error = NULL;

  g_assert_false (OPS (*d)->stream_wait (d->stream, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
}

/* Pages that cut a block of keys, that are too few for the rows, or of another width; angles that
 * are not in the tables. */
static void
test_misfits (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 1, TRUE);
  ValleyAttention a = { .n_heads = 2, .n_kv_heads = 1, .head_dim = 8, .scale = 0.3f };
  g_autofree float *x = random_floats (128 * 16, 1);
  Guarded q = guarded_new (&d, VALLEY_F32, 10, 16, x), y = guarded_new (&d, VALLEY_F32, 10, 16, x);
  Guarded k = guarded_new (&d, VALLEY_F32, 10, 8, x),
          angles = guarded_new (&d, VALLEY_F32, 9, 4, x);
  Pages pages = pages_new (&d, VALLEY_F32, VALLEY_KEY_BLOCK, 8, x, x, 128);
  ValleyKv bad[3];
  ValleyTensor positions;

  pages.kv.first_row = 118;
  bad[0] = bad[1] = bad[2] = pages.kv;
  bad[0].page_rows = 32;
  bad[1].first_row++;
  bad[2].cols = 16;
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    OPS (d)->attend (d.stream, &y.view, &q.view, &bad[i], &a);
    assert_misfit (&d);
  }
  valley_tensor_init_ids (d.stream, &positions, (gint32[]){ 0, 1, 2, 3, 8, 7, 6, 5, 4, 8 }, 10);
  for (guint i = 1; i < G_N_ELEMENTS (bad); i++) {
    OPS (d)->rotate_append (d.stream, NULL, &k.view, &k.view, &angles.view, &angles.view,
                            &positions, 8, &bad[i]);
    assert_misfit (&d);
  }
  OPS (d)->rope (d.stream, &k.view, &angles.view, &angles.view, NULL, 8); /* a row too few */
  assert_misfit (&d);
  OPS (d)->upload_ids (d.stream, &positions, (gint32[]){ 0, 1, 2, 3, 9, 7, 6, 5, 4, 8 });
  OPS (d)->rope (d.stream, &k.view, &angles.view, &angles.view, &positions, 8);
  assert_misfit (&d);
  OPS (d)->upload_ids (d.stream, &positions, (gint32[]){ 0, 1, 2, 3, 8, 7, 6, 5, -1, 8 });
  OPS (d)->gather (d.stream, &y.view, &q.view, &positions);
  assert_misfit (&d);
  OPS (d)->attend (d.stream, &y.view, &q.view, &pages.kv, &a);
  g_assert_true (OPS (d)->stream_wait (d.stream, NULL));
  valley_tensor_clear (d.backend, &positions);
  pages_clear (&d, &pages);
  guarded_clear (&d, &q);
  guarded_clear (&d, &y);
  guarded_clear (&d, &k);
  guarded_clear (&d, &angles);
  device_clear (&d);
}

static void
test_memory (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, FALSE);
  g_autoptr (GError) error = NULL;
  ValleyTensor huge;

  if (SANITIZED) {
    g_test_skip ("sanitizers take over impossible allocations");
  } else {
    valley_tensor_init (d.stream, &huge, VALLEY_F32, G_MAXSIZE / 4096, 512); /* about all of it */
    OPS (d)->softmax (d.stream, &huge);
    g_assert_false (OPS (d)->stream_wait (d.stream, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
    g_clear_error (&error);
  }
  device_clear (&d);
}

/* NaN and infinities in, no crash, no error. */
static void
test_not_finite (void)
{
  static const float odd[] = { NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-42f };
  enum { N = 96 };
  g_autofree float *x = random_floats (N * N, 1);

  for (gsize i = 0; i < N * N; i += 5)
    x[i] = odd[i / 5 % G_N_ELEMENTS (odd)];
  for (guint bf16 = 0; bf16 < 2; bf16++) {
    Device d = device_new (bf16 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32, 2, TRUE);
    ValleyAttention a
        = { .n_heads = 4, .n_kv_heads = 4, .head_dim = N / 4, .scale = 1, .n_sequences = 1 };
    Pages pages = pages_new (&d, VALLEY_F32, VALLEY_KEY_BLOCK, N, x, x, N);
    Guarded gx = guarded_new (&d, VALLEY_F32, N, N, x), gy = guarded_new (&d, VALLEY_F32, N, N, x);
    Guarded gw = guarded_new (&d, bf16 ? VALLEY_BF16 : VALLEY_F32, N, N, x);

    OPS (d)->linear (d.stream, &gy.view, &gx.view, &gw.view, NULL, VALLEY_ACT_SILU,
                     VALLEY_ROWS_PROMPT);
    OPS (d)->linear (d.stream, &gy.view, &gx.view, &gw.view, NULL, VALLEY_ACT_GELU_ERF,
                     VALLEY_ROWS_GENERATED);
    OPS (d)->attention (d.stream, &gy.view, &gx.view, &gx.view, &gx.view, &a);
    OPS (d)->attend (d.stream, &gy.view, &gx.view, &pages.kv, &a);
    OPS (d)->softmax (d.stream, &gx.view);
    OPS (d)->one_hot (d.stream, &gx.view);
    g_free (guarded_read (&d, &gx));
    g_free (guarded_read (&d, &gy));
    pages_clear (&d, &pages);
    guarded_clear (&d, &gx);
    guarded_clear (&d, &gy);
    guarded_clear (&d, &gw);
    device_clear (&d);
  }
}

/* ---- weights ---- */

static void
check_load (ValleyPrecision precision, ValleyDType type, gsize misalignment)
{
  enum { ROWS = 7, COLS = 300 };
  Device d = device_new (precision, 1, TRUE);
  g_autofree float *values = random_floats (ROWS * COLS, 1), *matrix = g_new (float, ROWS *COLS);
  g_autofree float *vector = g_new (float, ROWS *COLS);
  g_autofree guint8 *file = g_malloc (ROWS * COLS * 4 + 8);
  g_autofree double *want = g_new (double, ROWS *COLS);
  gsize bytes = ROWS * COLS * valley_dtype_bytes (type);
  double tolerance = precision == VALLEY_PRECISION_BF16 || type != VALLEY_F32 ? 1.0 / 128 : 0;
  ValleyTensor m, v;

  for (gsize i = 0; i < ROWS * COLS; i++)
    want[i] = values[i];
  if (type == VALLEY_BF16)
    valley_kernels_c.bf16_from_f32 ((guint16 *) file, values, ROWS * COLS);
  else if (type == VALLEY_F16)
    valley_kernels_c.f16_from_f32 ((guint16 *) file, values, ROWS * COLS);
  else
    memcpy (file, values, bytes);
  memmove (file + misalignment, file, bytes);
  g_assert_true (OPS (d)->load_matrix (d.backend, &m, file + misalignment, type, ROWS, COLS));
  g_assert_true (OPS (d)->load_vector (d.backend, &v, file + misalignment, type, ROWS, COLS));
  g_assert_cmpint (m.dtype, ==,
                   precision == VALLEY_PRECISION_BF16 && type == VALLEY_F32 ? VALLEY_BF16 : type);
  g_assert_cmpint (v.dtype, ==, VALLEY_F32);
  g_assert_true ((m.memory->data == file + misalignment)
                 == (m.dtype == type && misalignment % valley_dtype_bytes (type) == 0));
  g_assert_true (OPS (d)->download (d.stream, &m, matrix, NULL));
  g_assert_true (OPS (d)->download (d.stream, &v, vector, NULL));
  assert_close ("matrix", matrix, want, ROWS * COLS, tolerance, 0);
  assert_close ("vector", vector, want, ROWS * COLS, type == VALLEY_F32 ? 0 : 1.0 / 128, 0);
  valley_tensor_clear (d.backend, &m);
  valley_tensor_clear (d.backend, &v);
  device_clear (&d);
}

static void
test_load (void)
{
  for (ValleyDType type = VALLEY_F32; type <= VALLEY_F16; type++)
    for (gsize misalignment = 0; misalignment < 4; misalignment++) {
      check_load (VALLEY_PRECISION_F32, type, misalignment);
      check_load (VALLEY_PRECISION_BF16, type, misalignment);
    }
}

/* ---- strict memory ---- */

/* A child that reads a float at @address: what becomes of it? */
static gboolean
reading_faults (const volatile float *address)
{
  pid_t child = fork ();
  int status;

  g_assert_cmpint (child, >=, 0);
  if (child == 0) {
    signal (SIGSEGV, SIG_DFL);
    (void) *address;
    _exit (0);
  }
  g_assert_cmpint (waitpid (child, &status, 0), ==, child);
  return WIFSIGNALED (status) && WTERMSIG (status) == SIGSEGV;
}

static void
test_strict (void)
{
  if (SANITIZED) {
    g_test_skip ("sanitizers take over the fault");
    return;
  }
  for (guint strict = 0; strict < 2; strict++) {
    Device d = device_new (VALLEY_PRECISION_F32, 1, strict);
    g_autofree float *x = random_floats (12, 1);
    Guarded g = guarded_new (&d, VALLEY_F32, 3, 4, x);

    /* the first member of every ValleyMemory of the CPU is its address */
    g_assert_cmpint (reading_faults (*(float **) g.whole.memory), ==, strict);
    guarded_clear (&d, &g);
    device_clear (&d);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init (valley_kernels_get ()->name);
  g_test_add_func ("/exact/products", test_products);
  g_test_add_func ("/exact/model-shapes", test_model_shapes);
  g_test_add_func ("/exact/attention", test_attention);
  g_test_add_func ("/exact/unseen-keys", test_unseen_keys);
  g_test_add_func ("/exact/rows", test_rows);
  g_test_add_func ("/exact/heads", test_heads);
  g_test_add_func ("/exact/errors", test_errors);
  g_test_add_func ("/exact/misfits", test_misfits);
  g_test_add_func ("/exact/memory", test_memory);
  g_test_add_func ("/exact/not-finite", test_not_finite);
  g_test_add_func ("/exact/load", test_load);
  g_test_add_func ("/exact/strict", test_strict);
  return g_test_run ();
}
