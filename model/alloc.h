/* alloc.h - memory whose size a file or a user decides: the one place where it comes from, and
 * where tests make it fail.  Whoever asks here answers NULL with VALLEY_ERROR_MEMORY; what is
 * small by itself comes from GLib, which ends the program instead.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* @n elements of @size bytes; NULL when there is no room, when the product overflows, and for
 * nothing at all.  Free with g_free. */
gpointer valley_alloc (gsize n, gsize size) G_GNUC_MALLOC;
gpointer valley_alloc0 (gsize n, gsize size) G_GNUC_MALLOC; /* of zeros */
/* @memory, moved; NULL leaves it as it was. */
gpointer valley_alloc_resize (gpointer memory, gsize n, gsize size);
/* At a multiple of 64, the longest vector's bytes.  Free with free. */
gpointer valley_alloc_aligned (gsize bytes) G_GNUC_MALLOC;

/* Room for @more bytes behind what @string holds, so that appending them cannot fail. */
gboolean valley_alloc_string (GString *string, gsize more);

#define VALLEY_NEW(type, n) ((type *) valley_alloc (n, sizeof (type)))
#define VALLEY_NEW0(type, n) ((type *) valley_alloc0 (n, sizeof (type)))

/* FALSE when it is this allocation's turn to fail: for those who get their memory
 * elsewhere (mmap). */
gboolean valley_alloc_try (void);

/* Tests: the @n-th allocation of the process from now on fails, once; 0: none does. */
void valley_alloc_fail_at (guint n);
/* Whether it has failed since. */
gboolean valley_alloc_has_failed (void);
