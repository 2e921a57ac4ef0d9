/* mapfile.c - see mapfile.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "mapfile.h"

/* How many mappings are left until one fails; 0: none will, -1: it has. */
static gint until_failure;

void
valley_map_fail_at (guint n)
{
  g_atomic_int_set (&until_failure, (gint) n);
}

gboolean
valley_map_has_failed (void)
{
  return g_atomic_int_get (&until_failure) < 0;
}

GMappedFile *
valley_map (const char *path, GError **error)
{
  gint left = g_atomic_int_get (&until_failure);

  if (left > 0 && g_atomic_int_compare_and_exchange (&until_failure, left, left > 1 ? left - 1 : -1)
      && left == 1) {
    g_set_error_literal (error, G_FILE_ERROR, G_FILE_ERROR_NOMEM, "mapping it failed");
    return NULL;
  }
  return g_mapped_file_new (path, FALSE, error);
}

GMappedFile *
valley_map_file (const char *path, gsize max_bytes, GError **error)
{
  g_autoptr (GMappedFile) file = NULL;
  g_autoptr (GError) reason = NULL;
  gsize length;

  /* Opening a pipe would wait for a writer that may never come. */
  if (g_file_test (path, G_FILE_TEST_EXISTS) && !g_file_test (path, G_FILE_TEST_IS_REGULAR)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "cannot read %s: expected a regular file",
                 path);
    return NULL;
  }
  file = valley_map (path, &reason);
  if (file == NULL) {
    gboolean missing = g_error_matches (reason, G_FILE_ERROR, G_FILE_ERROR_NOENT)
                       || g_error_matches (reason, G_FILE_ERROR, G_FILE_ERROR_NOTDIR);

    g_set_error (error, VALLEY_ERROR, missing ? VALLEY_ERROR_NOT_FOUND : VALLEY_ERROR_READ,
                 "cannot read %s: %s", path, reason->message);
    return NULL;
  }
  length = g_mapped_file_get_length (file);
  if (length == 0 || length > max_bytes) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: expected 1 to %" G_GSIZE_FORMAT " bytes, found %" G_GSIZE_FORMAT, path,
                 max_bytes, length);
    return NULL;
  }
  return g_steal_pointer (&file);
}
