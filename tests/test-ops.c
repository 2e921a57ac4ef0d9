/* test-ops.c - every operation of the CPU backend against arithmetic written out in double
 * precision here, on odd sizes; and the promise that a row's bits depend on nothing but
 * the row.
 *
 * VALLEY_CPU chooses the instruction set; meson runs this program once for each.
 * VALLEY_TEST_SEED repeats a run.
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend.h"
#include "kernels.h"

#include <math.h>
#include <string.h>

static GRand *rng;

/* ---- a backend, a stream, and tensors filled from the host ---- */

typedef struct {
  ValleyBackend *backend;
  ValleyStream *stream;
} Device;

static Device
device_new (ValleyPrecision precision, guint threads)
{
  g_autoptr (GError) error = NULL;
  Device device = { valley_cpu_backend_new (precision, threads, TRUE, &error), NULL };

  g_assert_no_error (error);
  device.stream = device.backend->ops->stream_new (device.backend, &error);
  g_assert_no_error (error);
  return device;
}

static void
device_clear (Device *device)
{
  device->backend->ops->stream_free (device->stream);
  device->backend->ops->backend_free (device->backend);
}

static float *
random_floats (gsize n, double scale)
{
  float *values = g_new (float, MAX (n, 1));

  for (gsize i = 0; i < n; i++)
    values[i] = (float) (scale * (g_rand_double (rng) + g_rand_double (rng) + g_rand_double (rng) - 1.5));
  return values;
}

/* A view of rows x cols inside a wider tensor whose other elements hold GUARD. */
#define GUARD -12345.0f

typedef struct {
  ValleyTensor whole, view;
  gsize left;
} Guarded;

static Guarded
guarded_new (Device *device, ValleyDType dtype, gsize rows, gsize cols, const float *values)
{
  Guarded g = { .left = g_rand_int_range (rng, 0, 3) };
  gsize width = cols + g.left + g_rand_int_range (rng, 1, 4);
  g_autofree float *host = g_new (float, (rows + 2) * width);

  for (gsize i = 0; i < (rows + 2) * width; i++)
    host[i] = GUARD;
  for (gsize i = 0; values != NULL && i < rows; i++)
    memcpy (host + (i + 1) * width + g.left, values + i * cols, cols * sizeof *host);
  valley_tensor_init (device->stream, &g.whole, dtype, rows + 2, width);
  device->backend->ops->upload (device->stream, &g.whole, host);
  g.view = valley_tensor_rows (&g.whole, 1, rows);
  g.view = valley_tensor_cols (&g.view, g.left, cols);
  return g;
}

/* The view's values; fails when an operation wrote outside it. */
static float *
guarded_read (Device *device, Guarded *g)
{
  gsize width = g->whole.cols, cols = g->view.cols;
  g_autofree float *host = g_new (float, g->whole.rows * width);
  g_autofree float *guard = g_new (float, 1);
  float *values = g_new (float, MAX (1, g->view.rows * cols));
  g_autoptr (GError) error = NULL;

  *guard = g->whole.dtype == VALLEY_F32 ? GUARD : g->whole.dtype == VALLEY_BF16 ? -12352.0f : -12344.0f;
  g_assert_true (device->backend->ops->download (device->stream, &g->whole, host, &error));
  g_assert_no_error (error);
  for (gsize i = 0; i < g->whole.rows; i++)
    for (gsize j = 0; j < width; j++)
      if (i >= 1 && i <= g->view.rows && j >= g->left && j < g->left + cols)
        values[(i - 1) * cols + j - g->left] = host[i * width + j];
      else
        g_assert_cmpfloat (host[i * width + j], ==, *guard);
  return values;
}

static void
guarded_clear (Device *device, Guarded *g)
{
  valley_tensor_clear (device->backend, &g->whole);
}

static void
assert_close (const float *got, const double *want, gsize n, double tolerance)
{
  double largest = 0;

  for (gsize i = 0; i < n; i++)
    largest = MAX (largest, fabs (want[i]));
  for (gsize i = 0; i < n; i++) {
    g_assert_false (isnan (got[i]));
    if (fabs (got[i] - want[i]) > tolerance * MAX (largest, 1e-3))
      g_error ("element %zu of %zu is %.9g, expected %.9g (largest %.3g)", i, n, got[i], want[i],
               largest);
  }
}

/* ---- linear ---- */

static double
round_bf16 (double x)
{
  guint16 half;
  float f = (float) x;

  valley_kernels_c.bf16_from_f32 (&half, &f, 1);
  valley_kernels_c.f32_from_bf16 (&f, &half, 1);
  return f;
}

static void
check_linear (ValleyPrecision precision, ValleyDType w_type, ValleyRole role, gsize m, gsize n,
              gsize k)
{
  Device d = device_new (precision, 2);
  g_autofree float *x = random_floats (m * k, 1), *w = random_floats (n * k, 1);
  g_autofree float *b = random_floats (n, 1), *got = NULL;
  g_autofree double *want = g_new (double, m * n);
  gboolean rounds = precision == VALLEY_PRECISION_BF16 && w_type == VALLEY_BF16;
  Guarded gx = guarded_new (&d, VALLEY_F32, m, k, x), gw = guarded_new (&d, w_type, n, k, w);
  Guarded gb = guarded_new (&d, VALLEY_F32, 1, n, b), gy = guarded_new (&d, VALLEY_F32, m, n, NULL);
  g_autofree float *stored = guarded_read (&d, &gw);

  for (gsize i = 0; i < m; i++)
    for (gsize j = 0; j < n; j++) {
      double sum = b[j];

      for (gsize l = 0; l < k; l++)
        sum += (rounds ? round_bf16 (x[i * k + l]) : x[i * k + l]) * (double) stored[j * k + l];
      want[i * n + j] = sum;
    }
  d.backend->ops->linear (d.stream, &gy.view, &gx.view, &gw.view, &gb.view, VALLEY_ACT_NONE, role);
  got = guarded_read (&d, &gy);
  assert_close (got, want, m * n, 1e-5);
  guarded_clear (&d, &gx);
  guarded_clear (&d, &gw);
  guarded_clear (&d, &gb);
  guarded_clear (&d, &gy);
  device_clear (&d);
}

static void
test_linear (void)
{
  for (guint i = 0; i < 40; i++) {
    gsize m = g_rand_int_range (rng, 1, 90), n = g_rand_int_range (rng, 1, 200);
    gsize k = g_rand_int_range (rng, 1, 300);
    ValleyRole role = i & 1 ? VALLEY_ROWS_GENERATED : VALLEY_ROWS_PROMPT;

    check_linear (VALLEY_PRECISION_F32, i % 3, role, m, n, k);
    check_linear (VALLEY_PRECISION_BF16, VALLEY_BF16, role, m, n, k);
  }
  check_linear (VALLEY_PRECISION_F32, VALLEY_BF16, VALLEY_ROWS_PROMPT, 3, 5, 5000);
}

/* ---- attention ---- */

static void
check_attention (ValleyDType kv_type, gsize rows, gsize keys, gsize heads, gsize kv_heads,
                 gsize dim, gsize sequences, gboolean causal)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2);
  ValleyAttention a = { heads, kv_heads, dim, 1 / sqrtf ((float) dim), sequences, causal,
                        causal ? keys - rows : 0 };
  g_autofree float *q = random_floats (sequences * rows * heads * dim, 2);
  g_autofree float *k = random_floats (sequences * keys * kv_heads * dim, 2);
  g_autofree float *v = random_floats (sequences * keys * kv_heads * dim, 1);
  g_autofree double *want = g_new0 (double, sequences * rows * heads * dim);
  g_autofree double *p = g_new (double, keys);
  Guarded gq = guarded_new (&d, VALLEY_F32, sequences * rows, heads * dim, q);
  Guarded gk = guarded_new (&d, kv_type, sequences * keys, kv_heads * dim, k);
  Guarded gv = guarded_new (&d, kv_type, sequences * keys, kv_heads * dim, v);
  Guarded go = guarded_new (&d, VALLEY_F32, sequences * rows, heads * dim, NULL);
  g_autofree float *sk = guarded_read (&d, &gk), *sv = guarded_read (&d, &gv), *got = NULL;

  for (gsize i = 0; i < sequences * rows * heads; i++) {
    gsize row = i / heads, head = i % heads, first = row / rows * keys;
    gsize seen = causal ? a.first_position + row + 1 : keys;
    const float *qi = q + i * dim;
    double sum = 0;

    for (gsize j = 0; j < seen; j++) {
      gsize at = ((first + j) * kv_heads + head / (heads / kv_heads)) * dim;
      double s = 0;

      for (gsize l = 0; l < dim; l++)
        s += (double) qi[l] * sk[at + l];
      sum += p[j] = exp (s / sqrt ((double) dim));
    }
    for (gsize j = 0; j < seen; j++)
      for (gsize l = 0; l < dim; l++)
        want[i * dim + l]
            += p[j] / sum * sv[((first + j) * kv_heads + head / (heads / kv_heads)) * dim + l];
  }
  d.backend->ops->attention (d.stream, &go.view, &gq.view, &gk.view, &gv.view, &a);
  got = guarded_read (&d, &go);
  assert_close (got, want, sequences * rows * heads * dim, 2e-6);
  guarded_clear (&d, &gq);
  guarded_clear (&d, &gk);
  guarded_clear (&d, &gv);
  guarded_clear (&d, &go);
  device_clear (&d);
}

static void
test_attention (void)
{
  check_attention (VALLEY_F32, 1, 1, 1, 1, 1, 1, TRUE);
  check_attention (VALLEY_F32, 130, 130, 4, 4, 72, 1, FALSE);
  check_attention (VALLEY_F32, 49, 49, 2, 2, 80, 3, FALSE);
  check_attention (VALLEY_BF16, 100, 177, 14, 2, 64, 1, TRUE);
  check_attention (VALLEY_BF16, 1, 300, 28, 4, 128, 1, TRUE);
  for (guint i = 0; i < 20; i++) {
    gsize rows = g_rand_int_range (rng, 1, 80), kv = g_rand_int_range (rng, 1, 4);
    gboolean causal = g_rand_boolean (rng);

    check_attention (i % 3, rows, rows + g_rand_int_range (rng, 0, 90),
                     kv * g_rand_int_range (rng, 1, 5), kv, g_rand_int_range (rng, 1, 140),
                     causal ? 1 : g_rand_int_range (rng, 1, 4), causal);
  }
}

int
main (int argc, char **argv)
{
  const char *seed_text = g_getenv ("VALLEY_TEST_SEED");
  guint32 seed = seed_text != NULL ? (guint32) g_ascii_strtoull (seed_text, NULL, 10)
                                   : g_random_int ();
  int result;

  g_test_init (&argc, &argv, NULL);
  rng = g_rand_new_with_seed (seed);
  g_test_message ("kernels %s, VALLEY_TEST_SEED=%u", valley_kernels_get ()->name, seed);
  g_test_add_func ("/ops/linear", test_linear);
  g_test_add_func ("/ops/attention", test_attention);
  result = g_test_run ();
  g_rand_free (rng);
  return result;
}
