/* kernels_simd.h - the kernels in terms of the vector vocabulary (vf_..., VL) that the
 * including file chose.  Included once by each kernels_<set>.c, so everything is static.
 *
 * Loops take VL elements at a time and the last ones through the same instructions with
 * lanes masked off; there is no scalar tail.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include <math.h>

/* ---- functions; polynomials fitted for this file (weighted least squares, reweighted
   until the errors were level).  Largest errors seen by tests/test-kernels.c: e^x 8.1e-8 of the
   result (0.7 ulp), activations 1.2e-7 of |x| ---- */

/* Horner's rule from c[n-1] down to c[0] */
INLINE vf
polynomial (vf x, const float *c, int n)
{
  vf sum = vf_set1 (c[n - 1]);

#pragma GCC unroll 8
  for (int i = n - 2; i >= 0; i--)
    sum = vf_fma (sum, x, vf_set1 (c[i]));
  return sum;
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2; the polynomial is of (e^r - 1 - r) / r^2. */
INLINE vf
vf_exp (vf x)
{
  static const float c[]
      = { 0.49999994f, 0.166665152f, 0.041668456f, 0.00836941041f, 0.00138131611f };
  vf n, r;

  x = vf_max (vf_set1 (-104), vf_min (vf_set1 (89), x)); /* a NaN stays */
  n = vf_round (vf_mul (x, vf_set1 (1.44269504f)));
  r = vf_fnma (n, vf_set1 (0.693145752f), x);
  r = vf_fnma (n, vf_set1 (1.42860677e-6f), r);
  r = vf_add (vf_fma (vf_mul (r, r), polynomial (r, c, 5), r), vf_set1 (1));
  return vf_scale (r, n);
}

/* Odd polynomial near 0, else 1 - 2 / (e^2x + 1). */
INLINE vf
vf_tanh (vf x)
{
  static const float c[]
      = { -0.333332777f, 0.133313313f, -0.0537300073f, 0.0206061769f, -0.00566697726f };
  vf size = vf_abs (x), square = vf_mul (x, x);
  vf small = vf_fma (vf_mul (vf_mul (x, square), polynomial (square, c, 5)), vf_set1 (1), x);
  vf e = vf_exp (vf_add (size, size));
  vf large = vf_sub (vf_set1 (1), vf_div (vf_set1 (2), vf_add (e, vf_set1 (1))));

  return vf_select (vf_less (size, vf_set1 (0.625f)), small, vf_with_sign (large, x));
}

/* Odd polynomial below 1, else 1 - e^p(x). */
INLINE vf
vf_erf (vf x)
{
  static const float c[] = { 1.12837911f,    -0.37612626f,     0.112835854f,   -0.0268538129f,
                             0.00518832868f, -0.000801020069f, 7.85388329e-05f };
  static const float t[] = { -0.000353719515f, -1.12704003f,    -0.638225675f,  -0.103037372f,
                             0.0218053181f,    -0.00293960725f, 0.000185574012f };
  vf size = vf_abs (x), bounded = vf_min (vf_set1 (4), size);
  vf small = vf_mul (x, polynomial (vf_mul (x, x), c, 7));
  vf large = vf_sub (vf_set1 (1), vf_exp (polynomial (bounded, t, 7)));

  return vf_select (vf_less (size, vf_set1 (1)), small, vf_with_sign (large, x));
}

/* x / (1 + e^(-slope x)) */
INLINE vf
vf_gate (vf x, float slope)
{
  return vf_div (x, vf_add (vf_set1 (1), vf_exp (vf_mul (x, vf_set1 (-slope)))));
}

INLINE vf
vf_activate (vf x, ValleyActivation act)
{
  vf half = vf_mul (x, vf_set1 (0.5f)), inner;

  switch (act) {
  case VALLEY_ACT_GELU_TANH:
    inner = vf_fma (vf_mul (vf_mul (x, x), x), vf_set1 (0.044715f), x);
    inner = vf_tanh (vf_mul (inner, vf_set1 (0.7978845608f)));
    return vf_fma (half, inner, half);
  case VALLEY_ACT_GELU_ERF:
    return vf_fma (half, vf_erf (vf_mul (x, vf_set1 (0.70710678f))), half);
  case VALLEY_ACT_QUICK_GELU:
    return vf_gate (x, 1.702f);
  case VALLEY_ACT_SILU:
    return vf_gate (x, 1);
  case VALLEY_ACT_NONE:
    break;
  }
  return x;
}

/* ---- conversions ---- */

static void
bf16_from_f32 (guint16 *dst, const float *src, gsize n)
{
  for (gsize i = 0; i < n; i += VL)
    vf_store_bf16 (dst + i, vf_load_n (src + i, n - i), n - i);
}

static void
f16_from_f32 (guint16 *dst, const float *src, gsize n)
{
  for (gsize i = 0; i < n; i += VL)
    vf_store_f16 (dst + i, vf_load_n (src + i, n - i), n - i);
}

static void
f32_from_bf16 (float *dst, const guint16 *src, gsize n)
{
  for (gsize i = 0; i < n; i += VL)
    vf_store_n (dst + i, vf_load_bf16 (src + i, n - i), n - i);
}

static void
f32_from_f16 (float *dst, const guint16 *src, gsize n)
{
  for (gsize i = 0; i < n; i += VL)
    vf_store_n (dst + i, vf_load_f16 (src + i, n - i), n - i);
}

/* ---- rows ---- */

static void
add (float *y, const float *x, gsize n)
{
  for (gsize i = 0; i < n; i += VL)
    vf_store_n (y + i, vf_add (vf_load_n (y + i, n - i), vf_load_n (x + i, n - i)), n - i);
}

static void
scale (float *y, const float *x, float factor, gsize n)
{
  for (gsize i = 0; i < n; i += VL)
    vf_store_n (y + i, vf_mul (vf_load_n (x + i, n - i), vf_set1 (factor)), n - i);
}

INLINE void
bias_act_one (float *y, const float *x, const float *bias, gsize n, ValleyActivation act)
{
  for (gsize i = 0; i < n; i += VL) {
    vf sum = vf_load_n (x + i, n - i);

    if (bias != NULL)
      sum = vf_add (sum, vf_load_n (bias + i, n - i));
    vf_store_n (y + i, vf_activate (sum, act), n - i);
  }
}

/* A loop of its own for each activation. */
static void
bias_act (float *y, const float *x, const float *bias, gsize n, ValleyActivation act)
{
  switch (act) {
  case VALLEY_ACT_GELU_TANH:
    bias_act_one (y, x, bias, n, VALLEY_ACT_GELU_TANH);
    break;
  case VALLEY_ACT_GELU_ERF:
    bias_act_one (y, x, bias, n, VALLEY_ACT_GELU_ERF);
    break;
  case VALLEY_ACT_QUICK_GELU:
    bias_act_one (y, x, bias, n, VALLEY_ACT_QUICK_GELU);
    break;
  case VALLEY_ACT_SILU:
    bias_act_one (y, x, bias, n, VALLEY_ACT_SILU);
    break;
  case VALLEY_ACT_NONE:
    bias_act_one (y, x, bias, n, VALLEY_ACT_NONE);
    break;
  }
}

/* The sum of (x - shift)^power, power 1 or 2; four chains, as an addition takes four cycles. */
INLINE float
sum_of (const float *x, gsize n, float shift, int power)
{
  vf sums[4] = { vf_zero (), vf_zero (), vf_zero (), vf_zero () };

  for (gsize i = 0; i < n; i += 4 * VL)
#pragma GCC unroll 4
    for (gsize j = 0; j < 4; j++) {
      gsize at = i + j * VL, left = at < n ? n - at : 0;
      vf value = vf_sub (vf_load_n (x + (left > 0 ? at : 0), left), vf_set1 (shift));

      value = vf_fill_from (value, left, 0);
      sums[j] = power == 1 ? vf_add (sums[j], value) : vf_fma (value, value, sums[j]);
    }
  return vf_sum (vf_add (vf_add (sums[0], sums[1]), vf_add (sums[2], sums[3])));
}

static void
layer_norm (float *y, const float *x, const float *weight, const float *bias, gsize n, float eps)
{
  float mean = sum_of (x, n, 0, 1) / (float) n;
  float factor = 1 / sqrtf (sum_of (x, n, mean, 2) / (float) n + eps);

  for (gsize i = 0; i < n; i += VL) {
    vf value = vf_mul (vf_sub (vf_load_n (x + i, n - i), vf_set1 (mean)), vf_set1 (factor));
    vf offset = bias != NULL ? vf_load_n (bias + i, n - i) : vf_zero ();

    vf_store_n (y + i, vf_fma (value, vf_load_n (weight + i, n - i), offset), n - i);
  }
}

static void
rms_norm (float *y, const float *x, const float *weight, gsize n, float eps)
{
  float factor = 1 / sqrtf (sum_of (x, n, 0, 2) / (float) n + eps);

  for (gsize i = 0; i < n; i += VL)
    vf_store_n (
        y + i,
        vf_mul (vf_mul (vf_load_n (x + i, n - i), vf_set1 (factor)), vf_load_n (weight + i, n - i)),
        n - i);
}

static void
rope (float *x, const float *cos, const float *sin, gsize half)
{
  for (gsize i = 0; i < half; i += VL) {
    gsize n = half - i;
    vf a = vf_load_n (x + i, n), b = vf_load_n (x + half + i, n);
    vf c = vf_load_n (cos + i, n), s = vf_load_n (sin + i, n);

    vf_store_n (x + i, vf_fnma (b, s, vf_mul (a, c)), n);
    vf_store_n (x + half + i, vf_fma (a, s, vf_mul (b, c)), n);
  }
}

static void
swiglu (float *y, const float *gate, const float *up, gsize n)
{
  for (gsize i = 0; i < n; i += VL)
    vf_store_n (y + i, vf_mul (vf_gate (vf_load_n (gate + i, n - i), 1), vf_load_n (up + i, n - i)),
                n - i);
}

/* x becomes exp (x - max); returns the sum. */
INLINE float
exp_row (float *x, gsize n, float max)
{
  vf sum = vf_zero ();

  for (gsize i = 0; i < n; i += VL) {
    vf e = vf_exp (vf_sub (vf_load_n (x + i, n - i), vf_set1 (max)));

    vf_store_n (x + i, e, n - i);
    sum = vf_add (sum, vf_fill_from (e, n - i, 0));
  }
  return vf_sum (sum);
}

INLINE float
largest_of (const float *x, gsize n, float at_least)
{
  vf largest = vf_set1 (at_least);

  for (gsize i = 0; i < n; i += VL)
    largest = vf_max (vf_fill_from (vf_load_n (x + i, n - i), n - i, at_least), largest);
  return vf_largest (largest);
}

static void
softmax (float *x, gsize n)
{
  scale (x, x, 1 / exp_row (x, n, largest_of (x, n, -INFINITY)), n);
}

/* ---- few rows times a matrix ---- */

typedef vf (*LoadWeights) (const void *w, gsize at, gsize n);

INLINE vf
load_f32_weights (const void *w, gsize at, gsize n)
{
  return vf_load_n ((const float *) w + at, n);
}

INLINE vf
load_bf16_weights (const void *w, gsize at, gsize n)
{
  return vf_load_bf16 ((const guint16 *) w + at, n);
}

INLINE vf
load_f16_weights (const void *w, gsize at, gsize n)
{
  return vf_load_f16 ((const guint16 *) w + at, n);
}

/* Each (row, column) sums its even and its odd vectors apart, whatever the tile's size. */
INLINE void
gemv_tile (float *y, gsize y_stride, const float *x, gsize x_stride, const int rows, const void *w,
           gsize w_at, gsize w_stride, const int cols, gsize k, LoadWeights load)
{
  vf sums[4][4][2];

  for (int r = 0; r < rows; r++)
    for (int c = 0; c < cols; c++)
      sums[r][c][0] = sums[r][c][1] = vf_zero ();
  for (gsize i = 0; i < k; i += 2 * VL) {
    gsize left = k - i, more = left > VL ? left - VL : 0;

    for (int c = 0; c < cols; c++) {
      vf w0 = load (w, w_at + c * w_stride + i, left);
      vf w1 = more > 0 ? load (w, w_at + c * w_stride + i + VL, more) : vf_zero ();

      for (int r = 0; r < rows; r++) {
        const float *row = x + r * x_stride + i;

        sums[r][c][0] = vf_fma (vf_load_n (row, left), w0, sums[r][c][0]);
        if (more > 0)
          sums[r][c][1] = vf_fma (vf_load_n (row + VL, more), w1, sums[r][c][1]);
      }
    }
  }
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < cols; c++)
      y[r * y_stride + c] = vf_sum (vf_add (sums[r][c][0], sums[r][c][1]));
}

INLINE void
gemv (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows, const void *w,
      gsize w_stride, gsize cols, gsize k, LoadWeights load)
{
  for (gsize c = 0; c < cols;) {
    gsize wide = cols - c >= 4 ? 4 : 1, r = 0;

    for (; r + 2 <= rows; r += 2)
      if (wide == 4)
        gemv_tile (y + r * y_stride + c, y_stride, x + r * x_stride, x_stride, 2, w, c * w_stride,
                   w_stride, 4, k, load);
      else
        gemv_tile (y + r * y_stride + c, y_stride, x + r * x_stride, x_stride, 2, w, c * w_stride,
                   w_stride, 1, k, load);
    if (r < rows && wide == 4)
      gemv_tile (y + r * y_stride + c, y_stride, x + r * x_stride, x_stride, 1, w, c * w_stride,
                 w_stride, 4, k, load);
    else if (r < rows)
      gemv_tile (y + r * y_stride + c, y_stride, x + r * x_stride, x_stride, 1, w, c * w_stride,
                 w_stride, 1, k, load);
    c += wide;
  }
}

static void
gemv_f32 (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows, const float *w,
          gsize w_stride, gsize cols, gsize k)
{
  gemv (y, y_stride, x, x_stride, rows, w, w_stride, cols, k, load_f32_weights);
}

static void
gemv_bf16 (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows, const guint16 *w,
           gsize w_stride, gsize cols, gsize k)
{
  gemv (y, y_stride, x, x_stride, rows, w, w_stride, cols, k, load_bf16_weights);
}

static void
gemv_f16 (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows, const guint16 *w,
          gsize w_stride, gsize cols, gsize k)
{
  gemv (y, y_stride, x, x_stride, rows, w, w_stride, cols, k, load_f16_weights);
}

/* ---- attention ---- */

static void
transpose_keys (float *kt, const float *k, gsize stride, gsize n_keys, gsize dim)
{
  for (gsize j = 0; j < VALLEY_KEY_BLOCK; j += VL)
    for (gsize d = 0; d < dim; d += VL) {
      gsize n = MIN (VL, dim - d);
      vf tile[VL];

#pragma GCC unroll 16
      for (gsize i = 0; i < VL; i++)
        tile[i] = j + i < n_keys ? vf_load_n (k + (j + i) * stride + d, n) : vf_zero ();
      vf_transpose (tile);
#pragma GCC unroll 16
      for (gsize i = 0; i < VL; i++)
        if (i < n)
          vf_store (kt + (d + i) * VALLEY_KEY_BLOCK + j, tile[i]);
    }
}

INLINE void
scores_tile (float *s, const float *q, const int rows, const float *kt, gsize dim)
{
  vf sums[6][SCORE_VECTORS];

#pragma GCC unroll 6
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < SCORE_VECTORS; v++)
      sums[r][v] = vf_zero ();
  for (gsize d = 0; d < dim; d++) {
    vf keys[SCORE_VECTORS];

#pragma GCC unroll 4
    for (int v = 0; v < SCORE_VECTORS; v++)
      keys[v] = vf_load (kt + d * VALLEY_KEY_BLOCK + v * VL);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
      vf value = vf_set1 (q[r * dim + d]);

#pragma GCC unroll 4
      for (int v = 0; v < SCORE_VECTORS; v++)
        sums[r][v] = vf_fma (value, keys[v], sums[r][v]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < SCORE_VECTORS; v++)
      vf_store (s + r * VALLEY_KEY_BLOCK + v * VL, sums[r][v]);
}

static void
scores (float *s, const float *q, gsize n, const float *kt, gsize dim)
{
  for (gsize j = 0; j < VALLEY_KEY_BLOCK; j += SCORE_VECTORS * VL) {
    gsize i = 0;

    for (; i + 6 <= n; i += 6)
      scores_tile (s + i * VALLEY_KEY_BLOCK + j, q + i * dim, 6, kt + j, dim);
    for (; i + 2 <= n; i += 2)
      scores_tile (s + i * VALLEY_KEY_BLOCK + j, q + i * dim, 2, kt + j, dim);
    if (i < n)
      scores_tile (s + i * VALLEY_KEY_BLOCK + j, q + i * dim, 1, kt + j, dim);
  }
}

static void
softmax_step (float *s, gsize visible, float *max, float *sum, float *o, gsize dim)
{
  float new_max = largest_of (s, visible, *max), block_sum = exp_row (s, visible, new_max);

  if (new_max == *max) { /* most blocks: the factor below would be 1 */
    *sum += block_sum;
  } else {
    float rescale = vf_largest (vf_exp (vf_set1 (*max - new_max)));

    *sum = *sum * rescale + block_sum;
    scale (o, o, rescale, dim);
    *max = new_max;
  }
}

INLINE void
values_tile (float *o, const float *s, const int rows, const float *v, gsize n_keys, gsize dim,
             const int vectors)
{
  vf sums[VALUE_ROWS][5];

#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 5
    for (int i = 0; i < vectors; i++)
      sums[r][i] = vf_load (o + r * dim + i * VL);
  for (gsize j = 0; j < n_keys; j++) {
    vf value[5];

#pragma GCC unroll 5
    for (int i = 0; i < vectors; i++)
      value[i] = vf_load (v + j * dim + i * VL);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
      vf weight = vf_set1 (s[r * VALLEY_KEY_BLOCK + j]);

#pragma GCC unroll 5
      for (int i = 0; i < vectors; i++)
        sums[r][i] = vf_fma (weight, value[i], sums[r][i]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 5
    for (int i = 0; i < vectors; i++)
      vf_store (o + r * dim + i * VL, sums[r][i]);
}

INLINE void
values_columns (float *o, const float *s, gsize n, const float *v, gsize n_keys, gsize dim,
                const int vectors)
{
  gsize i = 0;

  for (; i + VALUE_ROWS <= n; i += VALUE_ROWS)
    values_tile (o + i * dim, s + i * VALLEY_KEY_BLOCK, VALUE_ROWS, v, n_keys, dim, vectors);
  for (; i < n; i++)
    values_tile (o + i * dim, s + i * VALLEY_KEY_BLOCK, 1, v, n_keys, dim, vectors);
}

static void
values (float *o, const float *s, gsize n, const float *v, gsize n_keys, gsize dim)
{
  for (gsize d = 0; d < dim;) {
    gsize left = (dim - d) / VL, take = left <= 5 ? left : left == 6 ? 3 : 4;

    if (take == 5)
      values_columns (o + d, s, n, v + d, n_keys, dim, 5);
    else if (take == 4)
      values_columns (o + d, s, n, v + d, n_keys, dim, 4);
    else if (take == 3)
      values_columns (o + d, s, n, v + d, n_keys, dim, 3);
    else if (take == 2)
      values_columns (o + d, s, n, v + d, n_keys, dim, 2);
    else
      values_columns (o + d, s, n, v + d, n_keys, dim, 1);
    d += take * VL;
  }
}

/* The table's entries, but for its name and what only one set has. */
#define SIMD_KERNELS                                                                               \
  .bf16_from_f32 = bf16_from_f32, .f16_from_f32 = f16_from_f32, .f32_from_bf16 = f32_from_bf16,    \
  .f32_from_f16 = f32_from_f16, .add = add, .scale = scale, .bias_act = bias_act,                  \
  .layer_norm = layer_norm, .rms_norm = rms_norm, .rope = rope, .swiglu = swiglu,                  \
  .softmax = softmax, .gemv_f32 = gemv_f32, .gemv_bf16 = gemv_bf16, .gemv_f16 = gemv_f16,          \
  .transpose_keys = transpose_keys, .scores = scores, .softmax_step = softmax_step,                \
  .values = values
