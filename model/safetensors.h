/* safetensors.h - a checkpoint's tensors, mapped and checked against the files' sizes.
 *
 * The files are mapped read-only and private.  A file that another process truncates
 * while it is mapped raises SIGBUS at the next touch, as with any mapping: replace a
 * checkpoint by renaming a new folder into place, never by rewriting its files.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

#define VALLEY_MAX_DIMS 8

typedef struct {
  char *name;
  const char *type;   /* the header's word: "BF16" ... */
  gboolean is_weight; /* BF16, F16 or F32: `dtype` is valid */
  ValleyDType dtype;
  gsize n_dims, shape[VALLEY_MAX_DIMS];
  gsize bytes;
  const guint8 *data; /* in the mapping; may be unaligned */
  const char *path;   /* the file it lies in */
} ValleySafetensor;

typedef struct _ValleySafetensors ValleySafetensors;

/* @dir/model.safetensors, or the shards that @dir/model.safetensors.index.json names. */
ValleySafetensors *valley_safetensors_open (const char *dir, GError **error);
/* One file that is in memory already and outlives the result; @path names it in errors. */
ValleySafetensors *valley_safetensors_open_bytes (const guint8 *bytes, gsize length,
                                                  const char *path, GError **error);
void valley_safetensors_free (ValleySafetensors *files); /* unmaps; NULL is fine */
/* What was opened: the single file, or the index. */
const char *valley_safetensors_path (const ValleySafetensors *files);
const ValleySafetensor *valley_safetensors_find (const ValleySafetensors *files, const char *name);
/* Every tensor, in the order of the files and of their bytes' description. */
gsize valley_safetensors_n_tensors (const ValleySafetensors *files);
const ValleySafetensor *valley_safetensors_get (const ValleySafetensors *files, gsize i);
/* Has the kernel read just these bytes, soon; by itself it would read megabytes around the first
 * one touched.  For small tensors that are read at once. */
void valley_safetensor_prefetch (const ValleySafetensor *tensor);
/* "[1152, 3, 14, 14]".  Free with g_free. */
char *valley_shape_to_string (const gsize *shape, gsize n_dims);
