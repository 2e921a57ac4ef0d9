/* replay.c - one target as a test, with any compiler: every file of the corpus folder, given as
 * the argument, goes through it once.  good-* must be taken and bad-* be refused; the others
 * need only do no harm.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static void
replay (gconstpointer data)
{
  const char *path = data;
  g_autofree char *name = g_path_get_basename (path);
  g_autofree char *bytes = NULL;
  guint8 *exact;
  GError *error = NULL;
  gboolean taken;
  gsize length;

  g_file_get_contents (path, &bytes, &length, &error);
  g_assert_no_error (error);
  /* GLib ends what it reads with a NUL: in a block without it sanitizers see every byte too far. */
  exact = malloc (MAX (length, 1));
  memcpy (exact, bytes, length);
  taken = fuzz_target (exact, length);
  free (exact);
  if (g_str_has_prefix (name, "good-"))
    g_assert_true (taken);
  if (g_str_has_prefix (name, "bad-"))
    g_assert_false (taken);
}

int
main (int argc, char **argv)
{
  g_autoptr (GPtrArray) paths = g_ptr_array_new_with_free_func (g_free);
  const char *name;
  GDir *dir;

  g_test_init (&argc, &argv, NULL);
  fuzz_init ();
  dir = argc == 2 ? g_dir_open (argv[1], 0, NULL) : NULL;
  if (dir == NULL) {
    g_printerr ("usage: %s FOLDER\n", argv[0]);
    return 1;
  }
  while ((name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *test = g_strdup_printf ("/corpus/%s", name);

    g_ptr_array_add (paths, g_build_filename (argv[1], name, NULL));
    g_test_add_data_func (test, g_ptr_array_index (paths, paths->len - 1), replay);
  }
  g_dir_close (dir);
  return g_test_run ();
}
