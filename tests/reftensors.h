/* reftensors.h - a safetensors reader for tests only.  The engine has its own; a reader
 * cannot vouch for itself, so the references are read with this one.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef enum { REF_U8, REF_F32, REF_I32, REF_OTHER } RefType;

typedef struct {
  RefType type;
  guint n_dims;
  gsize shape[4];
  gsize bytes;
  gconstpointer data; /* inside the file, valid as long as it */
} RefTensor;

typedef struct {
  char *bytes;
  GHashTable *tensors; /* name -> RefTensor * */
} RefFile;

/* NULL fills @error. */
RefFile *ref_file_read (const char *path, GError **error);
void ref_file_free (RefFile *file);
/* NULL when there is no tensor of that name, type and number of dimensions. */
const RefTensor *ref_file_get (const RefFile *file, const char *name, RefType type, guint n_dims);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (RefFile, ref_file_free)
