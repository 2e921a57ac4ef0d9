/* nfc.c - normal form C with the tables of Unicode 9, which Hugging Face's normaliser has.
 *
 * GLib's are newer (which ones depends on the machine) and know more combining marks.  To the
 * older tables such a mark is an unassigned character, which stays where it is and which no
 * other mark passes: so the text is normalised apart on its two sides.  The list is complete up
 * to Unicode 15; everything in it was assigned later than Unicode 9.
 * SPDX-License-Identifier: Apache-2.0 */
#include "nfc.h"

#include <stdlib.h>

typedef struct {
  gunichar first, last;
} Range;

/* Marks with a combining class, and U+11930, which with U+11935 makes U+11938. */
static const Range newer_marks[] = {
  { 0x7FD, 0x7FD },     { 0x898, 0x89F },     { 0x8CA, 0x8D3 },     { 0x9FE, 0x9FE },
  { 0xC3C, 0xC3C },     { 0xD3B, 0xD3C },     { 0xEBA, 0xEBA },     { 0x1715, 0x1715 },
  { 0x1ABF, 0x1ACE },   { 0x1DF6, 0x1DFA },   { 0xA82C, 0xA82C },   { 0x10D24, 0x10D27 },
  { 0x10EAB, 0x10EAC }, { 0x10EFD, 0x10EFF }, { 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 },
  { 0x11070, 0x11070 }, { 0x1133B, 0x1133B }, { 0x1145E, 0x1145E }, { 0x11839, 0x1183A },
  { 0x11930, 0x11930 }, { 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 },
  { 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 }, { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 },
  { 0x11D44, 0x11D45 }, { 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 }, { 0x16FF0, 0x16FF1 },
  { 0x1E08F, 0x1E08F }, { 0x1E130, 0x1E136 }, { 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF },
  { 0x1E4EC, 0x1E4EF },
};

static int
compare_ranges (const void *key, const void *element)
{
  const gunichar *c = key;
  const Range *range = element;

  return *c < range->first ? -1 : *c > range->last;
}

static gboolean
is_newer_mark (gunichar c)
{
  return c >= newer_marks[0].first
         && bsearch (&c, newer_marks, G_N_ELEMENTS (newer_marks), sizeof *newer_marks,
                     compare_ranges)
                != NULL;
}

/* The first newer mark from @p on, @end when there is none. */
static const char *
find_newer_mark (const char *p, const char *end)
{
  while (p < end && !is_newer_mark (g_utf8_get_char (p)))
    p = g_utf8_next_char (p);
  return p;
}

char *
valley_nfc (const char *p, const char *end)
{
  const char *mark = find_newer_mark (p, end);
  GString *out;

  if (mark == end)
    return g_utf8_normalize (p, end - p, G_NORMALIZE_NFC);
  out = g_string_new (NULL);
  while (p < end) {
    g_autofree char *normal = g_utf8_normalize (p, mark - p, G_NORMALIZE_NFC);

    g_string_append (out, normal);
    p = mark;
    if (p < end) {
      p = g_utf8_next_char (p);
      g_string_append_len (out, mark, p - mark);
    }
    mark = find_newer_mark (p, end);
  }
  return g_string_free (out, FALSE);
}
