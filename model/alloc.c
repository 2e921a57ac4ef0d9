/* alloc.c - file-sized memory, and how tests make it fail; see alloc.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include <stdlib.h>

#define ALIGNMENT 64

/* How many allocations are left until one fails; 0: none will.  Atomic: every thread allocates. */
static gint until_failure;
static gint has_failed;

void
valley_alloc_fail_at (guint n)
{
  g_atomic_int_set (&has_failed, FALSE);
  g_atomic_int_set (&until_failure, (gint) n);
}

gboolean
valley_alloc_has_failed (void)
{
  return g_atomic_int_get (&has_failed);
}

gboolean
valley_alloc_try (void)
{
  gint left = g_atomic_int_get (&until_failure);

  while (left > 0 && !g_atomic_int_compare_and_exchange (&until_failure, left, left - 1))
    left = g_atomic_int_get (&until_failure);
  if (left != 1)
    return TRUE;
  g_atomic_int_set (&has_failed, TRUE);
  return FALSE;
}

gpointer
valley_alloc (gsize n, gsize size)
{
  return n > 0 && size > 0 && valley_alloc_try () ? g_try_malloc_n (n, size) : NULL;
}

gpointer
valley_alloc0 (gsize n, gsize size)
{
  return n > 0 && size > 0 && valley_alloc_try () ? g_try_malloc0_n (n, size) : NULL;
}

gpointer
valley_alloc_resize (gpointer memory, gsize n, gsize size)
{
  return valley_alloc_try () ? g_try_realloc_n (memory, n, size) : NULL;
}

gboolean
valley_alloc_string (GString *string, gsize more)
{
  gsize wanted, larger;
  char *moved;

  if (!g_size_checked_add (&wanted, string->len, more)
      || !g_size_checked_add (&wanted, wanted, 1)) /* the NUL */
    return FALSE;
  if (wanted < string->allocated_len)
    return TRUE;
  if (!g_size_checked_mul (&larger, MAX (wanted, 2048), 2))
    return FALSE;
  moved = valley_alloc_resize (string->str, larger, 1);
  if (moved == NULL)
    return FALSE;
  string->str = moved;
  string->allocated_len = larger;
  return TRUE;
}

gpointer
valley_alloc_aligned (gsize bytes)
{
  void *memory;

  return valley_alloc_try () && posix_memalign (&memory, ALIGNMENT, bytes) == 0 ? memory : NULL;
}
