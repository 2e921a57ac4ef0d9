/* utf8.c - walking and repairing UTF-8; see utf8.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "utf8.h"

#include <string.h>

/* A lead byte's sequence length, and the narrower range its second byte must lie in
 * (no overlong form, no surrogate, nothing above U+10FFFF).  0: not a lead byte. */
static gsize
lead_byte (guint8 lead, guint8 *second_min, guint8 *second_max)
{
  *second_min = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  *second_max = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (lead < 0x80)
    return 1;
  if (lead < 0xC2 || lead > 0xF4)
    return 0;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

gsize
valley_utf8_length (const guint8 *p, const guint8 *end, gboolean *well_formed, gboolean *truncated)
{
  guint8 min, max;
  gsize expected = lead_byte (*p, &min, &max);
  gsize n = 1;

  while (n < expected && p + n < end && p[n] >= min && p[n] <= max) {
    min = 0x80;
    max = 0xBF;
    n++;
  }
  if (well_formed != NULL)
    *well_formed = n == expected;
  if (truncated != NULL)
    *truncated = n < expected && p + n == end;
  return n;
}

char *
valley_utf8_repair (const char *text)
{
  const guint8 *p = (const guint8 *) text;
  const guint8 *end = p + strlen (text);
  GString *out;

  if (g_utf8_validate (text, -1, NULL))
    return g_strdup (text);
  out = g_string_sized_new ((gsize) (end - p) + 16);
  while (p < end) {
    gboolean well_formed;
    gsize n = valley_utf8_length (p, end, &well_formed, NULL);

    if (well_formed)
      g_string_append_len (out, (const char *) p, (gssize) n);
    else
      g_string_append (out, "\xEF\xBF\xBD");
    p += n;
  }
  return g_string_free (out, FALSE);
}

gsize
valley_utf8_complete (const char *bytes, gsize length)
{
  const guint8 *start = (const guint8 *) bytes;
  const guint8 *end = start + length;

  /* Only a lead byte among the last three can begin an unfinished character. */
  for (gsize back = 1; back <= 3 && back <= length; back++) {
    const guint8 *p = end - back;
    gboolean truncated;

    if (*p < 0x80)
      break;
    if (*p >= 0xC0) {
      valley_utf8_length (p, end, NULL, &truncated);
      return truncated ? length - back : length;
    }
  }
  return length;
}

char *
valley_utf8_shorten (const char *text, gsize max_bytes)
{
  gsize length = strlen (text);

  if (length <= max_bytes)
    return g_strdup (text);
  return g_strndup (text, valley_utf8_complete (text, max_bytes));
}
