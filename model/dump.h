/* dump.h - stages written out as .npy files, for comparison with other implementations.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

/* Where a stage writes and what its names start with ("frame.0.siglip").  A NULL dump, or
 * one without a folder, writes nothing. */
typedef struct {
  const char *dir;
  char name[48];
} ValleyDump;

ValleyDump valley_dump_named (const char *dir, const char *format, ...) G_GNUC_PRINTF (2, 3);
gboolean valley_dump_is_on (const ValleyDump *dump);
/* Writes @tensor as DIR/NAME.PART.npy; a failure becomes the stream's error. */
void valley_dump_tensor (const ValleyDump *dump, ValleyStream *stream, const ValleyTensor *tensor,
                         const char *format, ...) G_GNUC_PRINTF (4, 5);
/* @dir/@name.npy: float32 [rows, cols], format version 1.0. */
gboolean valley_npy_write (const char *dir, const char *name, const float *data, gsize rows,
                           gsize cols, GError **error);
