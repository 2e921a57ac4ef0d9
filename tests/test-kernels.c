/* test-kernels.c - every instruction set that this machine has against the plain C kernels,
 * and those against arithmetic written out here in double precision.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include "compare.h"

static const ValleyKernels *K; /* the set under test */

static guint32
bits_of (float x)
{
  guint32 bits;

  memcpy (&bits, &x, sizeof bits);
  return bits;
}

static float
float_of (guint32 bits)
{
  float x;

  memcpy (&x, &bits, sizeof x);
  return x;
}

/* ---- conversions ---- */

static double
value_of_half (guint16 half, int exponent_bits)
{
  int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  int exponent = (half >> fraction_bits) & ((1 << exponent_bits) - 1);
  int fraction = half & ((1 << fraction_bits) - 1);
  double value = exponent == 0
                     ? ldexp (fraction, 1 - bias - fraction_bits)
                     : ldexp (fraction + (1 << fraction_bits), exponent - bias - fraction_bits);

  return half & 0x8000 ? -value : value;
}

static gboolean
half_is_finite (guint16 half, int exponent_bits)
{
  return ((half & 0x7fff) >> (15 - exponent_bits)) != (1 << exponent_bits) - 1;
}

static void
check_widening (void (*widen) (float *, const guint16 *, gsize),
                void (*widen_c) (float *, const guint16 *, gsize), int exponent_bits)
{
  g_autofree guint16 *all = g_new (guint16, 65536);
  g_autofree float *got = g_new (float, 65536), *want = g_new (float, 65536);

  for (guint i = 0; i < 65536; i++)
    all[i] = (guint16) i;
  widen (got, all, 65535); /* a tail too */
  widen (got + 65535, all + 65535, 1);
  widen_c (want, all, 65536);
  for (guint i = 0; i < 65536; i++) {
    g_assert_cmphex (bits_of (got[i]), ==, bits_of (want[i]));
    if (half_is_finite ((guint16) i, exponent_bits))
      g_assert_true ((double) want[i] == value_of_half ((guint16) i, exponent_bits));
  }
}

/* @half must be the nearest to @x, the even one of two. */
static void
check_nearest (float x, guint16 half, int exponent_bits)
{
  double error = fabs (value_of_half (half, exponent_bits) - x);

  if (!half_is_finite (half, exponent_bits) || !isfinite (x))
    return; /* overflow and NaN: held against the C kernel only */
  for (int step = -1; step <= 1; step += 2) {
    guint16 other = (guint16) (half + step);
    double other_error = fabs (value_of_half (other, exponent_bits) - x);

    if ((half & 0x7fff) == 0 || !half_is_finite (other, exponent_bits))
      continue; /* across zero, or past the largest */
    if (other_error < error || (other_error == error && half % 2 == 1))
      g_error ("%.9g became %#x, %#x is nearer or even", x, half, other);
  }
}

static void
check_narrowing (void (*narrow) (guint16 *, const float *, gsize),
                 void (*narrow_c) (guint16 *, const float *, gsize),
                 void (*widen_c) (float *, const guint16 *, gsize), int exponent_bits)
{
  enum { NEAR = 7 };
  g_autofree float *values = g_new (float, 65536 * NEAR);
  g_autofree guint16 *got = g_new (guint16, 65536 * NEAR), *want = g_new (guint16, 65536 * NEAR);
  gsize n = 65536 * NEAR - 3; /* a tail */

  for (guint i = 0; i < 65536; i++) {
    guint16 here = (guint16) i, next = (guint16) (i + 1);
    float a, b;
    guint32 middle;

    widen_c (&a, &here, 1);
    widen_c (&b, &next, 1);
    middle = bits_of (a) + (bits_of (b) - bits_of (a)) / 2;
    for (guint j = 0; j < 3; j++) {
      values[i * NEAR + j] = float_of (bits_of (a) + j - 1);
      values[i * NEAR + 3 + j] = float_of (middle + j - 1);
    }
    values[i * NEAR + 6] = float_of (g_rand_int (rng));
  }
  narrow (got, values, n);
  narrow_c (want, values, n);
  for (gsize i = 0; i < n; i++) {
    if (got[i] != want[i])
      g_error ("%.9g (%#x) became %#x, expected %#x", values[i], bits_of (values[i]), got[i],
               want[i]);
    check_nearest (values[i], want[i], exponent_bits);
  }
}

static void
test_conversions (void)
{
  const ValleyKernels *c = &valley_kernels_c;

  check_widening (K->f32_from_bf16, c->f32_from_bf16, 8);
  check_widening (K->f32_from_f16, c->f32_from_f16, 5);
  check_narrowing (K->bf16_from_f32, c->bf16_from_f32, c->f32_from_bf16, 8);
  check_narrowing (K->f16_from_f32, c->f16_from_f32, c->f32_from_f16, 5);
}

/* ---- rows: sizes with every tail, guards on both sides ---- */

#define GUARD 777.25f
#define MAX_ROW 1300

static float room[MAX_ROW + 16];

/* A row of n floats at an odd address between guards. */
static float *
guarded (const float *values, gsize n)
{
  for (gsize i = 0; i < G_N_ELEMENTS (room); i++)
    room[i] = GUARD;
  memcpy (room + 3, values, n * sizeof *values);
  return room + 3;
}

static void
check_guards (gsize n)
{
  for (gsize i = 0; i < G_N_ELEMENTS (room); i++)
    if (i < 3 || i >= n + 3)
      g_assert_true (room[i] == GUARD);
}

typedef struct {
  gsize n;
  const float *x, *w, *b;
  double *want;
} Row;

static void
check_pointwise (const Row *row)
{
  for (gsize i = 0; i < row->n; i++)
    row->want[i] = (double) row->x[i] + row->w[i];
  K->add (guarded (row->x, row->n), row->w, row->n);
  check_guards (row->n);
  assert_close ("add", room + 3, row->want, row->n, 1e-7, 1);

  for (gsize i = 0; i < row->n; i++)
    row->want[i] = 0.3f * (double) row->x[i];
  K->scale (guarded (row->x, row->n), room + 3, 0.3f, row->n);
  check_guards (row->n);
  assert_close ("scale", room + 3, row->want, row->n, 1e-7, 1);

  for (ValleyActivation act = VALLEY_ACT_NONE; act <= VALLEY_ACT_SILU; act++)
    for (guint with_bias = 0; with_bias < 2; with_bias++) {
      for (gsize i = 0; i < row->n; i++)
        row->want[i] = reference_activation (row->x[i] + (with_bias ? row->b[i] : 0), act);
      K->bias_act (guarded (row->x, row->n), room + 3, with_bias ? row->b : NULL, row->n, act);
      check_guards (row->n);
      assert_close ("bias_act", room + 3, row->want, row->n, 1e-6, 1);
    }

  for (gsize i = 0; i < row->n; i++)
    row->want[i] = reference_activation (row->x[i], VALLEY_ACT_SILU) * row->w[i];
  K->swiglu (guarded (row->x, row->n), room + 3, row->w, row->n);
  check_guards (row->n);
  assert_close ("swiglu", room + 3, row->want, row->n, 1e-6, 1);
}

static void
check_norms (const Row *row)
{
  double mean = 0, variance = 0, squares = 0;

  for (gsize i = 0; i < row->n; i++)
    mean += row->x[i] / (double) row->n;
  for (gsize i = 0; i < row->n; i++) {
    variance += (row->x[i] - mean) * (row->x[i] - mean) / row->n;
    squares += (double) row->x[i] * row->x[i] / row->n;
  }
  for (guint with_bias = 0; with_bias < 2; with_bias++) {
    for (gsize i = 0; i < row->n; i++)
      row->want[i]
          = (row->x[i] - mean) / sqrt (variance + 1e-3) * row->w[i] + (with_bias ? row->b[i] : 0);
    K->layer_norm (guarded (row->x, row->n), room + 3, row->w, with_bias ? row->b : NULL, row->n,
                   1e-3f);
    check_guards (row->n);
    assert_close ("layer_norm", room + 3, row->want, row->n, 3e-6, 1);
  }
  for (gsize i = 0; i < row->n; i++)
    row->want[i] = row->x[i] / sqrt (squares + 1e-3) * row->w[i];
  K->rms_norm (guarded (row->x, row->n), room + 3, row->w, row->n, 1e-3f);
  check_guards (row->n);
  assert_close ("rms_norm", room + 3, row->want, row->n, 1e-6, 1);
}

static void
check_softmax (const Row *row)
{
  double sum = 0;

  for (gsize i = 0; i < row->n; i++)
    sum += row->want[i] = exp (20 * (double) row->x[i]);
  for (gsize i = 0; i < row->n; i++)
    row->want[i] /= sum;
  guarded (row->x, row->n);
  for (gsize i = 0; i < row->n; i++)
    room[i + 3] *= 20;
  K->softmax (room + 3, row->n);
  check_guards (row->n);
  assert_close ("softmax", room + 3, row->want, row->n, 1e-5, 0); /* 20 x is rounded first */
}

static void
check_rope (const Row *row)
{
  gsize half = row->n / 2;

  for (gsize i = 0; i < half; i++) {
    row->want[i] = (double) row->x[i] * row->w[i] - (double) row->x[half + i] * row->b[i];
    row->want[half + i] = (double) row->x[half + i] * row->w[i] + (double) row->x[i] * row->b[i];
  }
  K->rope (guarded (row->x, 2 * half), row->w, row->b, half);
  check_guards (2 * half);
  assert_close ("rope", room + 3, row->want, 2 * half, 1e-6, 1);
}

static void
test_rows (void)
{
  g_autofree double *want = g_new (double, MAX_ROW);

  for (gsize n = 1; n < MAX_ROW; n += n < 140 ? 1 : g_rand_int_range (rng, 1, 200)) {
    g_autofree float *x = random_floats (n, 2), *w = random_floats (n, 1),
                     *b = random_floats (n, 1);
    Row row = { n, x, w, b, want };

    check_pointwise (&row);
    check_norms (&row);
    check_softmax (&row);
    check_rope (&row);
  }
}

/* ---- the functions behind activations and softmax, over their whole range ---- */

/* With 0 as the largest so far, softmax_step leaves e^s. */
static void
test_exp (void)
{
  float s[VALLEY_KEY_BLOCK], x[VALLEY_KEY_BLOCK], o[16] = { 0 };
  double worst = 0;

  for (guint32 bits = bits_of (-0.0f); bits <= bits_of (-87.0f); bits += VALLEY_KEY_BLOCK * 97) {
    float max = 0, sum = 0;

    for (guint i = 0; i < VALLEY_KEY_BLOCK; i++)
      s[i] = x[i] = float_of (bits + i * 97);
    K->softmax_step (s, VALLEY_KEY_BLOCK, &max, &sum, o, 16);
    for (guint i = 0; i < VALLEY_KEY_BLOCK && x[i] >= -87; i++) {
      double want = exp ((double) x[i]);

      g_assert_false (isnan (s[i]));
      worst = MAX (worst, fabs (s[i] - want) / want);
    }
  }
  g_test_message ("e^x: largest relative error %.3g (one ulp is at most 1.19e-7)", worst);
  g_assert_cmpfloat (worst, <, 1.5e-7);
  s[0] = -INFINITY;
  s[1] = NAN;
  s[2] = -1000;
  K->softmax_step (s, 3, &(float){ 0 }, &(float){ 0 }, o, 16);
  g_assert_true (s[0] == 0 && isnan (s[1]) && s[2] == 0);
}

static void
test_activations (void)
{
  enum { N = 4096 };
  g_autofree float *x = g_new (float, N), *y = g_new (float, N);

  for (ValleyActivation act = VALLEY_ACT_GELU_TANH; act <= VALLEY_ACT_SILU; act++) {
    double worst = 0;

    for (guint round = 0; round < 200; round++) {
      for (guint i = 0; i < N; i++)
        x[i] = (float) g_rand_double_range (rng, -1, 1) * (round % 4 == 0 ? 0.1f : round % 40);
      K->bias_act (y, x, NULL, N, act);
      for (guint i = 0; i < N; i++) {
        g_assert_false (isnan (y[i]));
        /* in terms of x: where the result is near 0, a difference of near numbers */
        worst = MAX (worst,
                     fabs (y[i] - reference_activation (x[i], act)) / MAX (fabs (x[i]), 1e-30));
      }
    }
    g_test_message ("activation %d: largest error %.3g |x|", act, worst);
    g_assert_cmpfloat (worst, <, 3e-7);
  }
}

/* What is no number stays in its own lane, and nothing traps. */
static void
test_not_finite (void)
{
  const float odd[] = { NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-40f, -0.0f };

  for (gsize at = 0; at < 37; at++)
    for (gsize i = 0; i < G_N_ELEMENTS (odd); i++) {
      g_autofree float *x = random_floats (37, 1), *w = random_floats (37, 1);
      g_autofree float *y = g_new (float, 37);

      x[at] = odd[i];
      for (ValleyActivation act = VALLEY_ACT_NONE; act <= VALLEY_ACT_SILU; act++) {
        K->bias_act (y, x, NULL, 37, act);
        for (gsize j = 0; j < 37; j++)
          g_assert_true (j == at || isfinite (y[j]));
        g_assert_true (isnan (y[at]) || !isnan (x[at]));
      }
      K->layer_norm (y, x, w, w, 37, 1e-6f);
      K->rms_norm (y, x, w, 37, 1e-6f);
      K->softmax (x, 37);
    }
}

/* ---- few rows times a matrix ---- */

static void
check_gemv (gsize rows, gsize cols, gsize k, ValleyDType type)
{
  gsize x_stride = k + 5, w_stride = k + 3, y_stride = cols + 2;
  g_autofree float *x = random_floats (rows * x_stride, 1), *w = random_floats (cols * w_stride, 1);
  g_autofree float *y = g_new (float, rows *y_stride), *alone = g_new (float, cols);
  g_autofree guint16 *half = g_new (guint16, cols * w_stride);
  g_autofree double *want = g_new (double, cols);

  for (gsize i = 0; i < rows * y_stride; i++)
    y[i] = GUARD;
  if (type == VALLEY_BF16) {
    valley_kernels_c.bf16_from_f32 (half, w, cols * w_stride);
    valley_kernels_c.f32_from_bf16 (w, half, cols * w_stride);
    K->gemv_bf16 (y, y_stride, x, x_stride, rows, half, w_stride, cols, k);
  } else if (type == VALLEY_F16) {
    valley_kernels_c.f16_from_f32 (half, w, cols * w_stride);
    valley_kernels_c.f32_from_f16 (w, half, cols * w_stride);
    K->gemv_f16 (y, y_stride, x, x_stride, rows, half, w_stride, cols, k);
  } else {
    K->gemv_f32 (y, y_stride, x, x_stride, rows, w, w_stride, cols, k);
  }
  for (gsize r = 0; r < rows; r++) {
    for (gsize c = 0; c < cols; c++) {
      want[c] = 0;
      for (gsize i = 0; i < k; i++)
        want[c] += (double) x[r * x_stride + i] * w[c * w_stride + i];
    }
    assert_close ("gemv", y + r * y_stride, want, cols, 1e-5, sqrt ((double) k));
    g_assert_true (y[r * y_stride + cols] == GUARD && y[r * y_stride + cols + 1] == GUARD);
    if (type == VALLEY_BF16)
      K->gemv_bf16 (alone, cols, x + r * x_stride, x_stride, 1, half, w_stride, cols, k);
    else if (type == VALLEY_F16)
      K->gemv_f16 (alone, cols, x + r * x_stride, x_stride, 1, half, w_stride, cols, k);
    else
      K->gemv_f32 (alone, cols, x + r * x_stride, x_stride, 1, w, w_stride, cols, k);
    assert_same_bits ("gemv of one row", alone, y + r * y_stride, cols);
  }
}

static void
check_gemv_bf16_bf16 (gsize rows, gsize cols, gsize k)
{
  gsize x_stride = k + 5, w_stride = k + 3;
  g_autofree float *x = random_floats (rows * x_stride, 1), *w = random_floats (cols * w_stride, 1);
  g_autofree guint16 *xh = g_new (guint16, rows * x_stride), *wh = g_new (guint16, cols * w_stride);
  g_autofree float *y = g_new (float, rows *cols), *alone = g_new (float, cols);
  g_autofree double *want = g_new0 (double, cols);

  valley_kernels_c.bf16_from_f32 (xh, x, rows * x_stride);
  valley_kernels_c.f32_from_bf16 (x, xh, rows * x_stride);
  valley_kernels_c.bf16_from_f32 (wh, w, cols * w_stride);
  valley_kernels_c.f32_from_bf16 (w, wh, cols * w_stride);
  K->gemv_bf16_bf16 (y, cols, xh, x_stride, rows, wh, w_stride, cols, k);
  for (gsize r = 0; r < rows; r++) {
    for (gsize c = 0; c < cols; c++) {
      want[c] = 0;
      for (gsize i = 0; i < k; i++)
        want[c] += (double) x[r * x_stride + i] * w[c * w_stride + i];
    }
    assert_close ("gemv_bf16_bf16", y + r * cols, want, cols, 1e-5, sqrt ((double) k));
    K->gemv_bf16_bf16 (alone, cols, xh + r * x_stride, x_stride, 1, wh, w_stride, cols, k);
    assert_same_bits ("gemv_bf16_bf16 of one row", alone, y + r * cols, cols);
  }
}

static void
test_gemv (void)
{
  for (guint i = 0; i < 60; i++) {
    gsize rows = g_rand_int_range (rng, 1, 9), cols = g_rand_int_range (rng, 1, 23);
    gsize k = i < 30 ? i + 1 : (gsize) g_rand_int_range (rng, 1, 400);

    for (ValleyDType type = VALLEY_F32; type <= VALLEY_F16; type++)
      check_gemv (rows, cols, k, type);
    if (K->gemv_bf16_bf16 != NULL)
      check_gemv_bf16_bf16 (rows, cols, k);
  }
}

/* ---- the steps of attention against the C ones ---- */

static double *
doubles (const float *x, gsize n)
{
  double *out = g_new (double, n);

  for (gsize i = 0; i < n; i++)
    out[i] = x[i];
  return out;
}

static void
compare_floats (const char *what, const float *got, const float *want, gsize n)
{
  g_autofree double *exact = doubles (want, n);

  assert_close (what, got, exact, n, 3e-6, 1);
}

static void
check_attention_steps (gsize n, gsize dim, gsize n_keys)
{
  const ValleyKernels *c = &valley_kernels_c;
  gsize block = VALLEY_KEY_BLOCK, padded = (dim + 15) / 16 * 16, stride = dim + 7;
  g_autofree float *keys = random_floats (n_keys * stride, 1), *q = random_floats (n * dim, 1);
  g_autofree float *v = random_floats (block * padded, 1), *o = random_floats (n * padded, 1);
  g_autofree float *o2 = g_memdup2 (o, n * padded * sizeof *o);
  g_autofree float *kt = g_new (float, dim *block), *kt2 = g_new (float, dim *block);
  g_autofree float *s = g_new (float, n *block), *s2 = g_new (float, n *block);
  g_autofree float *max = g_new (float, n), *max2 = g_new (float, n);
  g_autofree float *sum = random_floats (n, 1), *sum2 = g_memdup2 (sum, n * sizeof *sum);

  K->transpose_keys (kt, keys, stride, n_keys, dim);
  c->transpose_keys (kt2, keys, stride, n_keys, dim);
  assert_same_bits ("transpose_keys", kt, kt2, dim * block);
  K->scores (s, q, n, kt, dim);
  c->scores (s2, q, n, kt, dim);
  compare_floats ("scores", s, s2, n * block);
  for (gsize i = 0; i < n; i++) {
    max[i] = max2[i] = i % 2 == 0 ? -INFINITY : 0.5f;
    memcpy (s2 + i * block, s + i * block, block * sizeof *s);
    K->softmax_step (s + i * block, n_keys, &max[i], &sum[i], o + i * padded, padded);
    c->softmax_step (s2 + i * block, n_keys, &max2[i], &sum2[i], o2 + i * padded, padded);
    compare_floats ("softmax_step", s + i * block, s2 + i * block, n_keys);
  }
  compare_floats ("largest score", max, max2, n);
  compare_floats ("sum of weights", sum, sum2, n);
  K->values (o, s, n, v, n_keys, padded);
  c->values (o2, s2, n, v, n_keys, padded);
  compare_floats ("values", o, o2, n * padded);
}

static void
test_attention_steps (void)
{
  for (guint i = 0; i < 60; i++)
    check_attention_steps (g_rand_int_range (rng, 1, 30),
                           i < 10 ? 16 * i + 8 : (gsize) g_rand_int_range (rng, 1, 200),
                           g_rand_int_range (rng, 1, VALLEY_KEY_BLOCK + 1));
}

/* One set of tests for each table that this machine can run. */
static void
add (const ValleyKernels *kernels, const char *name, GTestDataFunc func)
{
  g_autofree char *path = g_strdup_printf ("/kernels/%s/%s", kernels->name, name);

  g_test_add_data_func (path, kernels, func);
}

#define TEST(name)                                                                                 \
  static void run_##name (gconstpointer kernels)                                                   \
  {                                                                                                \
    K = kernels;                                                                                   \
    test_##name ();                                                                                \
  }
TEST (conversions)
TEST (rows)
TEST (exp)
TEST (activations)
TEST (not_finite)
TEST (gemv)
TEST (attention_steps)

int
main (int argc, char **argv)
{
  const ValleyKernels *tables[4];
  gsize n = valley_kernels_available (tables);

  g_test_init (&argc, &argv, NULL);
  compare_init ("kernels");
  for (gsize i = 0; i < n; i++) {
    add (tables[i], "conversions", run_conversions);
    add (tables[i], "rows", run_rows);
    add (tables[i], "exp", run_exp);
    add (tables[i], "activations", run_activations);
    add (tables[i], "not-finite", run_not_finite);
    add (tables[i], "gemv", run_gemv);
    add (tables[i], "attention", run_attention_steps);
  }
  return g_test_run ();
}
