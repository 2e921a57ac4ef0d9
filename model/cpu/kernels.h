/* kernels.h - the arithmetic of the CPU backend, one row or one block at a time.
 *
 * One table for each instruction set, each from a translation unit of its own; the plain C
 * one (kernels_c.c) says what is meant and the tests hold the others against it.  Kernels
 * know nothing of tensors, threads or errors.
 *
 * Two rules keep reuse exact: what a row gets never depends on the rows beside it, and a
 * ragged end goes through the same instructions as the body, masked.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

/* Keys that attention handles at a time.  Blocks start at absolute position 0; the number is
 * part of the arithmetic. */
#define VALLEY_KEY_BLOCK 64

typedef struct {
  const char *name;

  /* Conversions, round to nearest even; a NaN stays a NaN. */
  void (*bf16_from_f32) (guint16 *dst, const float *src, gsize n);
  void (*f16_from_f32) (guint16 *dst, const float *src, gsize n);
  void (*f32_from_bf16) (float *dst, const guint16 *src, gsize n);
  void (*f32_from_f16) (float *dst, const guint16 *src, gsize n);

  void (*add) (float *y, const float *x, gsize n);
  /* y = factor x; y may be x */
  void (*scale) (float *y, const float *x, float factor, gsize n);
  /* y = act (x + bias); @bias may be NULL, y may be x */
  void (*bias_act) (float *y, const float *x, const float *bias, gsize n, ValleyActivation act);
  void (*layer_norm) (float *y, const float *x, const float *weight, const float *bias, gsize n,
                      float eps);
  void (*rms_norm) (float *y, const float *x, const float *weight, gsize n, float eps);
  /* one head: @half pairs (x[i], x[i + half]) */
  void (*rope) (float *x, const float *cos, const float *sin, gsize half);
  void (*swiglu) (float *y, const float *gate, const float *up, gsize n);
  void (*softmax) (float *x, gsize n);

  /* y[r, c] = sum over k of x[r, k] w[c, k], strides in elements: few rows, each weight read
   * once for up to four of them.  Each (r, c) has its own sum in a fixed order. */
  void (*gemv_f32) (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows,
                    const float *w, gsize w_stride, gsize cols, gsize k);
  void (*gemv_bf16) (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows,
                     const guint16 *w, gsize w_stride, gsize cols, gsize k);
  void (*gemv_f16) (float *y, gsize y_stride, const float *x, gsize x_stride, gsize rows,
                    const guint16 *w, gsize w_stride, gsize cols, gsize k);
  /* NULL without instructions for it: @x in bf16 too */
  void (*gemv_bf16_bf16) (float *y, gsize y_stride, const guint16 *x, gsize x_stride, gsize rows,
                          const guint16 *w, gsize w_stride, gsize cols, gsize k);

  /* The steps of attention over one block of keys.  @kt: [dim, VALLEY_KEY_BLOCK], zero
   * where there is no key.  @q: [n, dim], already scaled. */
  void (*transpose_keys) (float *kt, const float *k, gsize stride, gsize n_keys, gsize dim);
  /* s[n, VALLEY_KEY_BLOCK] = q kt */
  void (*scores) (float *s, const float *q, gsize n, const float *kt, gsize dim);
  /* One query: its first @visible scores become exp (s - max); *max and *sum take the block
   * in, and o[dim] is rescaled to the new maximum. */
  void (*softmax_step) (float *s, gsize visible, float *max, float *sum, float *o, gsize dim);
  /* o[n, dim] += s[n, 0 ... n_keys - 1] v[n_keys, dim]; @dim is a multiple of 16 */
  void (*values) (float *o, const float *s, gsize n, const float *v, gsize n_keys, gsize dim);
} ValleyKernels;

extern const ValleyKernels valley_kernels_c;
#ifdef VALLEY_HAVE_X86
extern const ValleyKernels valley_kernels_avx2;
extern const ValleyKernels valley_kernels_avx512;
#ifdef VALLEY_HAVE_AVX512BF16
extern const ValleyKernels valley_kernels_avx512_bf16;
#endif
#endif

/* The tables this machine can run, best last; the first is always the C one. */
gsize valley_kernels_available (const ValleyKernels *tables[4]);
/* The best of them, or the best up to the one that VALLEY_CPU names. */
const ValleyKernels *valley_kernels_get (void);
