/* mapfile.h - a whole file to read, mapped.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

/* A file's mapping, and its own error where there is none.  Tests make the @n-th from now on
 * fail, once; 0: none. */
GMappedFile *valley_map (const char *path, GError **error);
void valley_map_fail_at (guint n);
gboolean valley_map_has_failed (void);

/* A regular file of 1 to @max_bytes.  VALLEY_ERROR_NOT_FOUND when it does not exist. */
GMappedFile *valley_map_file (const char *path, gsize max_bytes, GError **error);
