/* added.h - tokens that are matched in the text itself, before any other rule.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef struct {
  char *text;
  gsize length;
  gint32 id;
} ValleyAddedToken;

typedef struct {
  GArray *tokens;       /* ValleyAddedToken, longest first once sorted */
  gboolean starts[256]; /* the bytes that some token begins with */
} ValleyAddedSet;

void valley_added_init (ValleyAddedSet *set);
void valley_added_clear (ValleyAddedSet *set);
void valley_added_add (ValleyAddedSet *set, const char *text, gint32 id);
/* Call once, after the last valley_added_add. */
void valley_added_sort (ValleyAddedSet *set);

/* The leftmost (and of those the longest) token in [@p, @end): *start is where it begins.
 * NULL when there is none. */
const ValleyAddedToken *valley_added_find (const ValleyAddedSet *set, const char *p,
                                           const char *end, const char **start);
