/* fuzz.c - a folder to write inputs to, and the promises that every reader makes; see fuzz.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *dir;

static void
remove_dir (void)
{
  GDir *open = g_dir_open (dir, 0, NULL);
  const char *name;

  while (open != NULL && (name = g_dir_read_name (open)) != NULL) {
    g_autofree char *path = g_build_filename (dir, name, NULL);

    g_unlink (path);
  }
  g_clear_pointer (&open, g_dir_close);
  g_rmdir (dir);
  g_clear_pointer (&dir, g_free);
}

/* GLib would end the program with a signal that libFuzzer does not keep the input of. */
static void
on_log (const char *domain, GLogLevelFlags level, const char *message, gpointer data)
{
  g_printerr ("%s: %s\n", domain, message);
  if (level & (G_LOG_LEVEL_WARNING | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR))
    abort ();
}

void
fuzz_init (void)
{
  g_log_set_default_handler (on_log, NULL);
}

const char *
fuzz_dir (void)
{
  if (dir != NULL)
    return dir;
  dir = g_strdup ("/dev/shm/valley-fuzz-XXXXXX");
  if (g_mkdtemp (dir) == NULL) {
    g_free (dir);
    dir = g_dir_make_tmp ("valley-fuzz-XXXXXX", NULL);
  }
  if (dir == NULL)
    g_error ("no folder for the inputs: %s", g_strerror (errno));
  atexit (remove_dir);
  return dir;
}

/* Not g_file_set_contents: it makes a second file and renames it, thousands of times a second. */
void
fuzz_write (const char *name, const void *bytes, gsize length)
{
  g_autofree char *path = g_build_filename (fuzz_dir (), name, NULL);
  int file = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  if (file < 0 || write (file, bytes, length) != (gssize) length)
    g_error ("%s: %s", path, g_strerror (errno));
  close (file);
}

gsize
fuzz_first_part (const guint8 *data, gsize size)
{
  const guint8 *end = size > 0 ? memchr (data, '\0', size) : NULL;

  return end != NULL ? (gsize) (end - data) : size;
}

gboolean
fuzz_verdict (gboolean accepted, GError *error, const char *file)
{
  if (accepted != (error == NULL))
    g_error ("%s with%s an error", accepted ? "accepted" : "refused", error == NULL ? "out" : "");
  if (error != NULL
      && (error->domain != VALLEY_ERROR || !g_utf8_validate (error->message, -1, NULL)
          || strstr (error->message, file) == NULL))
    g_error ("an error that does not name %s: %s", file, error->message);
  g_clear_error (&error);
  return accepted;
}
