/* mapfile.h - a whole file to read, mapped.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

/* A regular file of 1 to @max_bytes.  VALLEY_ERROR_NOT_FOUND when it does not exist. */
GMappedFile *valley_map_file (const char *path, gsize max_bytes, GError **error);
