/* wing.c - finds and opens the CUDA wing.
 * SPDX-License-Identifier: Apache-2.0 */
#include "wing.h"

#include <dlfcn.h>

#include "modeldir.h"

#define NAME "libvalley-cuda.so"
#define VARIABLE "VALLEY_CUDA_WING"

/* The one that is open, by the path it came from. */
static GMutex lock;
static const ValleyWing *wing;
static char *wing_path;

/* Where it may lie, in this order, NULL at the end. */
static GStrv
candidates (void)
{
  const char *named = g_getenv (VARIABLE);
  g_autofree char *dir = valley_library_dir ();
  g_autoptr (GPtrArray) paths = g_ptr_array_new ();

  if (named != NULL && *named != '\0') {
    g_ptr_array_add (paths, g_strdup (named));
  } else {
    if (dir != NULL) { /* the build tree, then a tree that was installed, perhaps moved */
      g_ptr_array_add (paths, g_build_filename (dir, "..", "cuda", NAME, NULL));
      g_ptr_array_add (paths, g_build_filename (dir, "valley", NAME, NULL));
    }
    g_ptr_array_add (paths, g_build_filename (VALLEY_PREFIX, VALLEY_LIBDIR, "valley", NAME, NULL));
  }
  g_ptr_array_add (paths, NULL);
  return (GStrv) g_ptr_array_free (g_steal_pointer (&paths), FALSE);
}

static char *
find (GError **error)
{
  g_auto (GStrv) paths = candidates ();
  g_autofree char *all = NULL;

  for (GStrv path = paths; *path != NULL; path++)
    if (g_file_test (*path, G_FILE_TEST_IS_REGULAR))
      return g_canonicalize_filename (*path, NULL);
  all = g_strjoinv (", ", paths);
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
               "the CUDA wing is not there; looked for %s (" VARIABLE " can name it)", all);
  return NULL;
}

static const ValleyWing *
open_module (const char *path, GError **error)
{
  void *module = dlopen (path, RTLD_NOW | RTLD_LOCAL); /* its text names @path */
  const ValleyWing *found = module != NULL ? dlsym (module, VALLEY_WING_SYMBOL) : NULL;

  if (found == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE, "the CUDA wing cannot be opened: %s",
                 dlerror ());
  } else if (found->version != VALLEY_WING_VERSION || found->ops_bytes != sizeof (ValleyOps)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                 "%s: this CUDA wing was built for another engine: its interface is %u of "
                 "%" G_GSIZE_FORMAT " bytes, expected %u of %" G_GSIZE_FORMAT,
                 path, found->version, found->ops_bytes, VALLEY_WING_VERSION, sizeof (ValleyOps));
    found = NULL;
  }
  if (found == NULL && module != NULL)
    dlclose (module);
  return found;
}

const ValleyWing *
valley_wing_open (GError **error)
{
  g_autofree char *path = find (error);
  const ValleyWing *result = NULL;

  if (path == NULL)
    return NULL;
  g_mutex_lock (&lock);
  if (g_strcmp0 (path, wing_path) == 0)
    result = wing;
  else
    result = open_module (path, error);
  if (result != NULL && result != wing) {
    g_free (wing_path);
    wing_path = g_steal_pointer (&path);
    wing = result;
  }
  g_mutex_unlock (&lock);
  return result;
}
