/* utf8.h - UTF-8 that may be broken: what users, files and half-decoded tokens contain.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* The bytes of the character that starts at @p (< @end).  An ill-formed sequence is as long
 * as its maximal subpart (Unicode 3.9, what Python's errors="replace" replaces by one
 * U+FFFD); *well_formed says which, and *truncated whether more bytes could have completed
 * it.  Both may be NULL. */
gsize valley_utf8_length (const guint8 *p, const guint8 *end, gboolean *well_formed,
                          gboolean *truncated);

/* @text with every ill-formed sequence replaced by U+FFFD.  Free with g_free. */
char *valley_utf8_repair (const char *text);

/* The length of the longest prefix of @bytes that does not end in half a character
 * (invalid sequences count as characters). */
gsize valley_utf8_complete (const char *bytes, gsize length);

/* At most @max_bytes of @text for a message, never half a character.  Free with g_free. */
char *valley_utf8_shorten (const char *text, gsize max_bytes);
