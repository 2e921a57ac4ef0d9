/* scratch.h - temporary folders with hand-made files, for tests of what files may hold.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* A fresh folder; scratch_remove deletes it with the files in it (no folders inside). */
char *scratch_new (void);
void scratch_remove (char *dir);
void scratch_write (const char *dir, const char *name, const void *bytes, gsize length);
/* Copies every file of @from. */
void scratch_copy (const char *dir, const char *from);
/* Writes a safetensors file: @claimed is the header length that it states (G_MAXUINT64: the
 * true one), @n_data zero bytes follow the header. */
void scratch_safetensors (const char *dir, const char *name, const char *header, guint64 claimed,
                          gsize n_data);
