/* modeldir.c - where the bundled checkpoint is, without being told.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include "modeldir.h"
#include "valley.h"

#define NAME "valley-tiny"

/* @path, tidied, if a checkpoint is there, else NULL; takes @path. */
static char *
if_checkpoint (char *path)
{
  g_autofree char *taken G_GNUC_UNUSED = path;
  g_autofree char *config = g_build_filename (path, "config.json", NULL);

  return g_file_test (config, G_FILE_TEST_IS_REGULAR) ? g_canonicalize_filename (path, NULL) : NULL;
}

char *
valley_library_dir (void)
{
  g_autofree char *path = NULL;
  Dl_info info;

  if (dladdr ((void *) valley_default_model_dir, &info) == 0 || info.dli_fname == NULL)
    return NULL;
  path = g_canonicalize_filename (info.dli_fname, NULL);
  return g_path_get_dirname (path);
}

/* An installed tree may have been moved as a whole: its data lies where it lay from the
 * library, PREFIX/LIBDIR to PREFIX/DATADIR. */
static char *
moved_tree (const char *dir)
{
  g_autofree char *prefix = NULL;

  if (!g_str_has_suffix (dir, "/" VALLEY_LIBDIR))
    return NULL;
  prefix = g_strndup (dir, strlen (dir) - strlen ("/" VALLEY_LIBDIR));
  return if_checkpoint (g_build_filename (prefix, VALLEY_DATADIR, "valley", NAME, NULL));
}

char *
valley_default_model_dir (void)
{
  const char *named = g_getenv ("VALLEY_MODEL_DIR");
  g_autofree char *dir = valley_library_dir ();
  char *found = NULL;

  if (named != NULL && *named != '\0')
    return g_strdup (named);
  if (dir != NULL) {
    found = if_checkpoint (g_build_filename (dir, "..", "assets", NAME, NULL));
    if (found == NULL) /* a build folder inside the sources */
      found = if_checkpoint (g_build_filename (dir, "..", "..", "assets", NAME, NULL));
    if (found == NULL)
      found = moved_tree (dir);
  }
  if (found == NULL)
    found = if_checkpoint (g_build_filename (VALLEY_PREFIX, VALLEY_DATADIR, "valley", NAME, NULL));
  return found;
}
