/* picture.c - reads picture files with gdk-pixbuf, as Pillow's convert ("RGB") would give
 * them: alpha is dropped and not blended, and a camera's orientation tag is not applied.
 * SPDX-License-Identifier: Apache-2.0 */
#include "picture.h"

#include <gdk-pixbuf/gdk-pixbuf.h>

gboolean
rgb_picture_read (const char *path, RgbPicture *picture, GError **error)
{
  g_autoptr (GdkPixbuf) pixbuf = gdk_pixbuf_new_from_file (path, error);
  const guint8 *pixels;
  gsize stride, channels;

  if (pixbuf == NULL) {
    g_prefix_error (error, "cannot read the picture %s: ", path);
    return FALSE;
  }
  pixels = gdk_pixbuf_read_pixels (pixbuf);
  stride = (gsize) gdk_pixbuf_get_rowstride (pixbuf);
  channels = (gsize) gdk_pixbuf_get_n_channels (pixbuf); /* 3, or 4 with alpha */
  picture->width = (guint) gdk_pixbuf_get_width (pixbuf);
  picture->height = (guint) gdk_pixbuf_get_height (pixbuf);
  picture->rgb = g_try_malloc_n ((gsize) picture->width * picture->height, 3);
  if (picture->rgb == NULL) {
    g_set_error (error, GDK_PIXBUF_ERROR, GDK_PIXBUF_ERROR_INSUFFICIENT_MEMORY,
                 "not enough memory for the picture %s", path);
    return FALSE;
  }
  for (gsize y = 0, i = 0; y < picture->height; y++)
    for (gsize x = 0; x < picture->width; x++)
      for (gsize c = 0; c < 3; c++)
        picture->rgb[i++] = pixels[y * stride + x * channels + c];
  return TRUE;
}
