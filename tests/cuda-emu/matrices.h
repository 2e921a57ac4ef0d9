/* matrices.h - for tests of kernels: matrices in device memory, in views of wider ones whose
 * other elements must not change.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "on-device.h"

#include "../device.h"

static G_GNUC_UNUSED gsize
random_size (gint below)
{
  return (gsize) g_rand_int_range (rng, 1, below);
}

/* ---- matrices in device memory ---- */

/* A view into a wider matrix, and what that held at first. */
typedef struct {
  ValleyCudaMatrix view;
  char *memory, *before;
  gsize bytes, row, left, element;
} Wide;

/* Columns @left ... of rows @row ... of rows of @width elements; @values NULL: all guards. */
static G_GNUC_UNUSED Wide
wide_new_at (ValleyDType type, gsize rows, gsize cols, const float *values, gsize row, gsize left,
             gsize width)
{
  gsize element = valley_dtype_bytes (type);
  Wide w = { .row = row, .left = left, .element = element };
  g_autofree float *guards = g_new (float, (rows + row + 1) * width);

  w.bytes = (rows + w.row + 1) * width * element;
  w.before = g_malloc (w.bytes);
  for (gsize i = 0; i < (rows + w.row + 1) * width; i++)
    guards[i] = GUARD_VALUE;
  to_type (w.before, type, guards, (rows + w.row + 1) * width);
  for (gsize i = 0; values != NULL && i < rows; i++)
    to_type (w.before + ((i + w.row) * width + w.left) * element, type, values + i * cols, cols);
  CHECK (cudaMalloc ((void **) &w.memory, w.bytes));
  CHECK (cudaMemcpyAsync (w.memory, w.before, w.bytes, cudaMemcpyHostToDevice, stream));
  w.view = (ValleyCudaMatrix){ w.memory + (w.row * width + w.left) * element, (ValleyCudaType) type,
                               rows, cols, width };
  return w;
}

/* Anywhere, or as aligned as whole tensors are. */
static G_GNUC_UNUSED Wide
wide_new (ValleyDType type, gsize rows, gsize cols, const float *values)
{
  gsize row = random_size (3) - 1, left = random_size (6) - 1, more = random_size (6) - 1;

  if (g_rand_boolean (rng))
    return wide_new_at (type, rows, cols, values, 0, 0, (cols + 3) / 4 * 4);
  return wide_new_at (type, rows, cols, values, row, left, cols + left + more);
}

/* Rows and columns begin at multiples of 16 bytes. */
static G_GNUC_UNUSED Wide
wide_new_aligned (ValleyDType type, gsize rows, gsize cols, const float *values)
{
  gsize left = 8 * (random_size (4) - 1);

  return wide_new_at (type, rows, cols, values, random_size (3) - 1, left,
                      (cols + left + 7) / 8 * 8 + 8 * (random_size (3) - 1));
}

/* The view's elements, tightly packed, in their own type. */
static G_GNUC_UNUSED gpointer
wide_read (const Wide *w)
{
  gsize row_bytes = w->view.cols * w->element, stride = w->view.stride * w->element;
  gsize first = w->row * stride + w->left * w->element;
  g_autofree char *now = g_malloc (w->bytes);
  char *packed = g_malloc (w->view.rows * row_bytes);

  CHECK (cudaMemcpyAsync (now, w->memory, w->bytes, cudaMemcpyDeviceToHost, stream));
  CHECK (cudaStreamSynchronize (stream));
  for (gsize i = 0; i < w->view.rows; i++)
    memcpy (packed + i * row_bytes, now + first + i * stride, row_bytes);
  for (gsize i = 0; i < w->bytes; i++)
    if (i < first || (i - first) / stride >= w->view.rows || (i - first) % stride >= row_bytes)
      g_assert_cmpint (now[i], ==, w->before[i]);
  return packed;
}

static G_GNUC_UNUSED void
wide_clear (Wide *w)
{
  CHECK (cudaStreamSynchronize (stream));
  CHECK (cudaFree (w->memory));
  g_free (w->before);
}
