/* scratch.c - temporary folders with hand-made files; see scratch.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <glib/gstdio.h>
#include <string.h>

char *
scratch_new (void)
{
  GError *error = NULL;
  char *dir = g_dir_make_tmp ("valley-test-XXXXXX", &error);

  g_assert_no_error (error);
  return dir;
}

void
scratch_remove (char *path)
{
  GDir *dir = g_dir_open (path, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *file = g_build_filename (path, name, NULL);

    g_unlink (file);
  }
  g_clear_pointer (&dir, g_dir_close);
  g_rmdir (path);
  g_free (path);
}

void
scratch_write (const char *dir, const char *name, const void *bytes, gsize length)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  GError *error = NULL;

  g_unlink (path); /* GLib would sync a replaced file to the disk, thousands of times */
  /* Not g_file_set_contents, which waits for the disk. */
  g_file_set_contents_full (path, bytes, (gssize) length, G_FILE_SET_CONTENTS_NONE, 0644, &error);
  g_assert_no_error (error);
}

void
scratch_copy (const char *dir, const char *from)
{
  GError *error = NULL;
  GDir *source = g_dir_open (from, 0, &error);
  const char *name;

  g_assert_no_error (error);
  while ((name = g_dir_read_name (source)) != NULL) {
    g_autofree char *path = g_build_filename (from, name, NULL);
    g_autofree char *bytes = NULL;
    gsize length;

    g_file_get_contents (path, &bytes, &length, &error);
    g_assert_no_error (error);
    scratch_write (dir, name, bytes, length);
  }
  g_dir_close (source);
}

void
scratch_safetensors (const char *dir, const char *name, const char *header, guint64 claimed,
                     gsize n_data)
{
  gsize n_header = strlen (header);
  g_autofree char *bytes = g_malloc0 (8 + n_header + n_data);
  guint64 length = GUINT64_TO_LE (claimed == G_MAXUINT64 ? n_header : claimed);

  memcpy (bytes, &length, 8);
  memcpy (bytes + 8, header, n_header);
  scratch_write (dir, name, bytes, 8 + n_header + n_data);
}
