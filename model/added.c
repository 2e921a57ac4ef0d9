/* added.c - a small set of literal tokens; see added.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "added.h"

#include <string.h>

static void
clear_token (gpointer data)
{
  g_free (((ValleyAddedToken *) data)->text);
}

void
valley_added_init (ValleyAddedSet *set)
{
  memset (set, 0, sizeof *set);
  set->tokens = g_array_new (FALSE, FALSE, sizeof (ValleyAddedToken));
  g_array_set_clear_func (set->tokens, clear_token);
}

void
valley_added_clear (ValleyAddedSet *set)
{
  g_clear_pointer (&set->tokens, g_array_unref);
}

void
valley_added_add (ValleyAddedSet *set, const char *text, gint32 id)
{
  ValleyAddedToken token = { g_strdup (text), strlen (text), id };

  set->starts[(guchar) text[0]] = TRUE;
  g_array_append_val (set->tokens, token);
}

static gint
longest_first (gconstpointer a, gconstpointer b)
{
  gsize left = ((const ValleyAddedToken *) a)->length;
  gsize right = ((const ValleyAddedToken *) b)->length;

  return left < right ? 1 : left > right ? -1 : 0;
}

void
valley_added_sort (ValleyAddedSet *set)
{
  g_array_sort (set->tokens, longest_first);
}

const ValleyAddedToken *
valley_added_find (const ValleyAddedSet *set, const char *p, const char *end, const char **start)
{
  for (; p < end; p++) {
    if (!set->starts[(guchar) *p])
      continue;
    for (guint i = 0; i < set->tokens->len; i++) {
      const ValleyAddedToken *token = &g_array_index (set->tokens, ValleyAddedToken, i);

      if (token->length <= (gsize) (end - p) && memcmp (p, token->text, token->length) == 0) {
        *start = p;
        return token;
      }
    }
  }
  return NULL;
}
