/* device.h - for tests of operations: a backend with one stream, and tensors that are views
 * into wider ones whose other elements must not change.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

#include "compare.h"
#include "which-device.h"

typedef struct {
  ValleyBackend *backend;
  ValleyStream *stream;
} Device;

#define OPS(device) ((device).backend->ops)

static inline Device
device_new (ValleyPrecision precision, guint threads, gboolean strict)
{
  g_autoptr (GError) error = NULL;
  Device device = { test_backend_new (precision, threads, strict), NULL };

  device.stream = device.backend->ops->stream_new (device.backend, &error);
  g_assert_no_error (error);
  return device;
}

static inline void
device_clear (Device *device)
{
  device->backend->ops->stream_free (device->stream);
  device->backend->ops->backend_free (device->backend);
}

#define GUARD_VALUE -12288.0f /* exact in every type */

typedef struct {
  ValleyTensor whole, view;
  gsize left;
} Guarded;

/* Columns @left ... of rows 1 ... of a wider tensor; @values NULL: all guards. */
static inline Guarded
guarded_new (Device *device, ValleyDType dtype, gsize rows, gsize cols, const float *values)
{
  Guarded g = { .left = g_rand_int_range (rng, 0, 3) };
  gsize width = cols + g.left + g_rand_int_range (rng, 1, 4);
  g_autofree float *host = g_new (float, (rows + 2) * width);

  for (gsize i = 0; i < (rows + 2) * width; i++)
    host[i] = GUARD_VALUE;
  for (gsize i = 0; values != NULL && i < rows; i++)
    memcpy (host + (i + 1) * width + g.left, values + i * cols, cols * sizeof *host);
  valley_tensor_init (device->stream, &g.whole, dtype, rows + 2, width);
  device->backend->ops->upload (device->stream, &g.whole, host);
  g.view = valley_tensor_rows (&g.whole, 1, rows);
  g.view = valley_tensor_cols (&g.view, g.left, cols);
  return g;
}

/* The view's values, tightly packed; fails when something was written outside it. */
static inline float *
guarded_read (Device *device, const Guarded *g)
{
  gsize width = g->whole.cols, rows = g->view.rows, cols = g->view.cols;
  g_autofree float *host = g_new (float, g->whole.rows *width);
  float *values = g_new (float, MAX (1, rows * cols));
  g_autoptr (GError) error = NULL;
  gboolean good = device->backend->ops->download (device->stream, &g->whole, host, &error);

  g_assert_no_error (error);
  g_assert_true (good);
  for (gsize i = 0; i < g->whole.rows; i++)
    for (gsize j = 0; j < width; j++)
      if (i >= 1 && i <= rows && j >= g->left && j < g->left + cols)
        values[(i - 1) * cols + j - g->left] = host[i * width + j];
      else
        g_assert_cmpfloat (host[i * width + j], ==, GUARD_VALUE);
  return values;
}

static inline void
guarded_clear (Device *device, Guarded *g)
{
  valley_tensor_clear (device->backend, &g->whole);
}
