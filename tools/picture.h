/* picture.h - picture files as packed RGB.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef struct {
  guint width, height;
  guint8 *rgb; /* tightly packed; free with g_free */
} RgbPicture;

/* FALSE fills @error, which names the file. */
gboolean rgb_picture_read (const char *path, RgbPicture *picture, GError **error);
