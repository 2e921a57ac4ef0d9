/* npy_write.h - a float32 matrix as NumPy's .npy.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gio/gio.h>

gboolean npy_write (const char *path, const float *data, gsize rows, gsize cols, GError **error);
