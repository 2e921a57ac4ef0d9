/* fuzz.h - what the fuzz targets share.  A target is one file that defines fuzz_target; it is
 * linked with libfuzzer.c into a fuzzer and with replay.c into a test of the committed corpus.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

/* Gives one input to the engine's reader.  TRUE when the reader took it; aborts when it breaks
 * one of its promises. */
gboolean fuzz_target (const guint8 *data, gsize size);

/* Before the first input: what GLib warns of is a finding. */
void fuzz_init (void);
/* This process's folder, in memory where the system has such a place; removed at exit. */
const char *fuzz_dir (void);
/* Writes, or rewrites, a file there. */
void fuzz_write (const char *name, const void *bytes, gsize length);
/* The length of the input's first part: its parts end at NUL bytes, which no JSON text holds. */
gsize fuzz_first_part (const guint8 *data, gsize size);
/* Returns @accepted.  Whoever refuses must say why, in UTF-8, in the engine's own domain and
 * with @file's name; whoever accepts must not. */
gboolean fuzz_verdict (gboolean accepted, GError *error, const char *file);
