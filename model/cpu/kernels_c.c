/* kernels_c.c - every kernel in plain C: what the vector ones are held against, and what runs
 * on machines that have none.  Written to be read; the compiler may do with it what it can.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include <math.h>
#include <string.h>

/* ---- conversions ---- */

static inline guint32
bits_of (float x)
{
  guint32 bits;

  memcpy (&bits, &x, sizeof bits);
  return bits;
}

static inline float
float_of (guint32 bits)
{
  float x;

  memcpy (&x, &bits, sizeof x);
  return x;
}

static guint16
bf16_of (float x)
{
  guint32 bits = bits_of (x);

  if (x != x)
    return (guint16) ((bits >> 16) | 0x40); /* quiet, or rounding might make it infinite */
  return (guint16) ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static guint16
f16_of (float x)
{
  guint32 bits = bits_of (x);
  guint16 sign = (guint16) ((bits >> 16) & 0x8000);
  guint32 magnitude = bits & 0x7fffffff;

  if (magnitude > 0x7f800000)
    return sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
  if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
    return sign | 0x7c00;
  if (magnitude < 0x38800000) /* below 2^-14: count in units of 2^-24 */
    return sign | (guint16) rintf (float_of (magnitude) * 16777216.0f);
  magnitude += 0xfff + ((magnitude >> 13) & 1);
  return sign | (guint16) ((magnitude - 0x38000000) >> 13);
}

static float
float_of_f16 (guint16 half)
{
  guint32 sign = (guint32) (half & 0x8000) << 16;
  guint32 exponent = (half >> 10) & 31, fraction = half & 0x3ff;

  if (exponent == 0)
    return float_of (sign | bits_of ((float) fraction / 16777216.0f));
  if (exponent == 31)
    return float_of (sign | 0x7f800000 | fraction << 13 | (fraction != 0 ? 0x400000 : 0));
  return float_of (sign | (exponent + 112) << 23 | fraction << 13);
}

static void
bf16_from_f32 (guint16 *dst, const float *src, gsize n)
{
  for (gsize i = 0; i < n; i++)
    dst[i] = bf16_of (src[i]);
}

static void
f16_from_f32 (guint16 *dst, const float *src, gsize n)
{
  for (gsize i = 0; i < n; i++)
    dst[i] = f16_of (src[i]);
}

static void
f32_from_bf16 (float *dst, const guint16 *src, gsize n)
{
  for (gsize i = 0; i < n; i++)
    dst[i] = float_of ((guint32) src[i] << 16);
}

static void
f32_from_f16 (float *dst, const guint16 *src, gsize n)
{
  for (gsize i = 0; i < n; i++)
    dst[i] = float_of_f16 (src[i]);
}

/* ---- rows ---- */

static void
add (float *y, const float *x, gsize n)
{
  for (gsize i = 0; i < n; i++)
    y[i] += x[i];
}

static void
scale (float *y, const float *x, float factor, gsize n)
{
  for (gsize i = 0; i < n; i++)
    y[i] = factor * x[i];
}

static float
activate (float x, ValleyActivation act)
{
  switch (act) {
  case VALLEY_ACT_GELU_TANH:
    return 0.5f * x * (1 + tanhf (0.7978845608f * (x + 0.044715f * x * x * x)));
  case VALLEY_ACT_GELU_ERF:
    return 0.5f * x * (1 + erff (x * 0.70710678f));
  case VALLEY_ACT_QUICK_GELU:
    return x / (1 + expf (-1.702f * x));
  case VALLEY_ACT_SILU:
    return x / (1 + expf (-x));
  case VALLEY_ACT_NONE:
    break;
  }
  return x;
}

static void
bias_act (float *y, const float *x, const float *bias, gsize n, ValleyActivation act)
{
  for (gsize i = 0; i < n; i++)
    y[i] = activate (bias != NULL ? x[i] + bias[i] : x[i], act);
}

static void
layer_norm (float *y, const float *x, const float *weight, const float *bias, gsize n, float eps)
{
  double mean = 0, variance = 0;
  float m, factor;

  for (gsize i = 0; i < n; i++)
    mean += x[i];
  m = (float) (mean / n);
  for (gsize i = 0; i < n; i++)
    variance += (double) (x[i] - m) * (x[i] - m);
  factor = 1 / sqrtf ((float) (variance / n) + eps);
  for (gsize i = 0; i < n; i++)
    y[i] = (x[i] - m) * factor * weight[i] + (bias != NULL ? bias[i] : 0);
}

static void
rms_norm (float *y, const float *x, const float *weight, gsize n, float eps)
{
  double squares = 0;
  float factor;

  for (gsize i = 0; i < n; i++)
    squares += (double) x[i] * x[i];
  factor = 1 / sqrtf ((float) (squares / n) + eps);
  for (gsize i = 0; i < n; i++)
    y[i] = x[i] * factor * weight[i];
}

static void
rope (float *x, const float *cos, const float *sin, gsize half)
{
  for (gsize i = 0; i < half; i++) {
    float a = x[i], b = x[i + half];

    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

static void
swiglu (float *y, const float *gate, const float *up, gsize n)
{
  for (gsize i = 0; i < n; i++)
    y[i] = activate (gate[i], VALLEY_ACT_SILU) * up[i];
}

static void
softmax (float *x, gsize n)
{
  float max = -INFINITY;
  double sum = 0;

  for (gsize i = 0; i < n; i++)
    max = x[i] > max ? x[i] : max; /* a NaN is no maximum */
  for (gsize i = 0; i < n; i++)
    sum += x[i] = expf (x[i] - max);
  for (gsize i = 0; i < n; i++)
    x[i] = (float) (x[i] / sum);
}

/* ---- few rows times a matrix ---- */

static void
gemv_f32 (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows, const float *w,
          gsize w_stride, gsize cols, gsize k)
{
  for (gsize c = 0; c < cols; c++)
    for (gsize r = 0; r < rows; r++) {
      float sum = 0;

      for (gsize i = 0; i < k; i++)
        sum += x[r * x_stride + i] * w[c * w_stride + i];
      y[r * y_stride + c] = sum;
    }
}

static void
gemv_bf16 (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows, const guint16 *w,
           gsize w_stride, gsize cols, gsize k)
{
  for (gsize c = 0; c < cols; c++)
    for (gsize r = 0; r < rows; r++) {
      float sum = 0;

      for (gsize i = 0; i < k; i++)
        sum += x[r * x_stride + i] * float_of ((guint32) w[c * w_stride + i] << 16);
      y[r * y_stride + c] = sum;
    }
}

static void
gemv_f16 (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows, const guint16 *w,
          gsize w_stride, gsize cols, gsize k)
{
  for (gsize c = 0; c < cols; c++)
    for (gsize r = 0; r < rows; r++) {
      float sum = 0;

      for (gsize i = 0; i < k; i++)
        sum += x[r * x_stride + i] * float_of_f16 (w[c * w_stride + i]);
      y[r * y_stride + c] = sum;
    }
}

/* ---- attention ---- */

static void
transpose_keys (float *kt, const float *k, gsize stride, gsize n_keys, gsize dim)
{
  for (gsize d = 0; d < dim; d++)
    for (gsize j = 0; j < VALLEY_KEY_BLOCK; j++)
      kt[d * VALLEY_KEY_BLOCK + j] = j < n_keys ? k[j * stride + d] : 0;
}

static void
scores (float *s, const float *q, gsize n, const float *kt, gsize dim)
{
  for (gsize i = 0; i < n; i++) {
    float *row = s + i * VALLEY_KEY_BLOCK;

    memset (row, 0, VALLEY_KEY_BLOCK * sizeof *row);
    for (gsize d = 0; d < dim; d++)
      for (gsize j = 0; j < VALLEY_KEY_BLOCK; j++)
        row[j] += q[i * dim + d] * kt[d * VALLEY_KEY_BLOCK + j];
  }
}

static void
softmax_step (float *s, gsize visible, float *max, float *sum, float *o, gsize dim)
{
  float new_max = *max, new_sum = 0, rescale;

  for (gsize j = 0; j < visible; j++)
    new_max = s[j] > new_max ? s[j] : new_max;
  for (gsize j = 0; j < visible; j++)
    new_sum += s[j] = expf (s[j] - new_max);
  rescale = expf (*max - new_max);
  *sum = *sum * rescale + new_sum;
  *max = new_max;
  for (gsize d = 0; d < dim; d++)
    o[d] *= rescale;
}

static void
values (float *o, const float *s, gsize n, const float *v, gsize n_keys, gsize dim)
{
  for (gsize i = 0; i < n; i++)
    for (gsize j = 0; j < n_keys; j++)
      for (gsize d = 0; d < dim; d++)
        o[i * dim + d] += s[i * VALLEY_KEY_BLOCK + j] * v[j * dim + d];
}

const ValleyKernels valley_kernels_c = {
  .name = "c",
  .bf16_from_f32 = bf16_from_f32,
  .f16_from_f32 = f16_from_f32,
  .f32_from_bf16 = f32_from_bf16,
  .f32_from_f16 = f32_from_f16,
  .add = add,
  .scale = scale,
  .bias_act = bias_act,
  .layer_norm = layer_norm,
  .rms_norm = rms_norm,
  .rope = rope,
  .swiglu = swiglu,
  .softmax = softmax,
  .gemv_f32 = gemv_f32,
  .gemv_bf16 = gemv_bf16,
  .gemv_f16 = gemv_f16,
  .transpose_keys = transpose_keys,
  .scores = scores,
  .softmax_step = softmax_step,
  .values = values,
};
