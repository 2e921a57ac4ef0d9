/* npy.h - reads the float32 matrices that the engine dumps as .npy.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef struct {
  gsize rows, cols;
  float *data; /* rows * cols, free with g_free */
} NpyMatrix;

/* FALSE fills @error: no file, not NumPy's format, not '<f4', Fortran order, not two
 * dimensions, or a length that does not fit the shape. */
gboolean npy_read (const char *path, NpyMatrix *matrix, GError **error);
