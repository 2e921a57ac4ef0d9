/* jsonscan.c - walking JSON text in place; see jsonscan.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "jsonscan.h"

#include <string.h>

#define MAX_DIGITS 18 /* of a number that surely fits 64 bits */

char
valley_json_scan_peek (ValleyJsonScan *scan)
{
  if (scan->failed)
    return '\0';
  while (scan->p < scan->end && g_ascii_isspace (*scan->p))
    scan->p++;
  return scan->p < scan->end ? *scan->p : '\0';
}

static gboolean
expect (ValleyJsonScan *scan, char c)
{
  if (valley_json_scan_peek (scan) != c) {
    scan->failed = TRUE;
    return FALSE;
  }
  scan->p++;
  return TRUE;
}

gboolean
valley_json_scan_open (ValleyJsonScan *scan, char open)
{
  return expect (scan, open);
}

gboolean
valley_json_scan_more (ValleyJsonScan *scan, char close, gsize *n)
{
  char c = valley_json_scan_peek (scan);

  if (scan->failed)
    return FALSE;
  if (c == close) {
    scan->p++;
    return FALSE;
  }
  return (*n)++ == 0 || expect (scan, ',');
}

static gint
hex_digits (const char *p, const char *end)
{
  gint unit = 0;

  if (end - p < 4)
    return -1;
  for (guint i = 0; i < 4; i++) {
    if (!g_ascii_isxdigit (p[i]))
      return -1;
    unit = unit * 16 + g_ascii_xdigit_value (p[i]);
  }
  return unit;
}

/* "\uXXXX", two of them for a character beyond U+FFFF; scan->p is behind the u. */
static gboolean
append_unicode (ValleyJsonScan *scan, GString *out)
{
  gint unit = hex_digits (scan->p, scan->end);
  gunichar c = (gunichar) unit;

  if (unit <= 0)
    return FALSE;
  scan->p += 4;
  if (unit >= 0xD800 && unit <= 0xDFFF) {
    gint second = scan->end - scan->p >= 6 && scan->p[0] == '\\' && scan->p[1] == 'u'
                      ? hex_digits (scan->p + 2, scan->end)
                      : -1;

    if (unit > 0xDBFF || second < 0xDC00 || second > 0xDFFF)
      return FALSE;
    scan->p += 6;
    c = 0x10000 + (((gunichar) unit & 0x3FF) << 10 | ((gunichar) second & 0x3FF));
  }
  g_string_append_unichar (out, c);
  return TRUE;
}

/* scan->p is behind the backslash. */
static gboolean
append_escape (ValleyJsonScan *scan, GString *out)
{
  static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  const char *letter;

  if (scan->p == scan->end || *scan->p == '\0')
    return FALSE;
  if (*scan->p == 'u') {
    scan->p++;
    return append_unicode (scan, out);
  }
  letter = strchr (letters, *scan->p++);
  if (letter == NULL)
    return FALSE;
  g_string_append_c (out, meanings[letter - letters]);
  return TRUE;
}

gboolean
valley_json_scan_string (ValleyJsonScan *scan, GString *out)
{
  g_string_truncate (out, 0);
  if (!expect (scan, '"'))
    return FALSE;
  while (scan->p < scan->end && *scan->p != '"') {
    const char *start = scan->p;

    while (scan->p < scan->end && *scan->p != '"' && *scan->p != '\\')
      scan->p++;
    g_string_append_len (out, start, scan->p - start);
    if (scan->p < scan->end && *scan->p == '\\') {
      scan->p++;
      if (!append_escape (scan, out)) {
        scan->failed = TRUE;
        return FALSE;
      }
    }
  }
  return expect (scan, '"');
}

gboolean
valley_json_scan_name (ValleyJsonScan *scan, GString *name)
{
  return valley_json_scan_string (scan, name) && expect (scan, ':');
}

gboolean
valley_json_scan_number (ValleyJsonScan *scan, gint64 *number)
{
  gsize n = 0;

  *number = 0;
  for (char c = valley_json_scan_peek (scan); g_ascii_isdigit (c) && n < MAX_DIGITS; n++) {
    *number = *number * 10 + (c - '0');
    scan->p++;
    c = scan->p < scan->end ? *scan->p : '\0';
  }
  /* What follows a number is a comma, a bracket or white space: not 1.5, 1e3 or 007x. */
  if (n == 0
      || (scan->p < scan->end && strchr (",]}", *scan->p) == NULL && !g_ascii_isspace (*scan->p)))
    scan->failed = TRUE;
  return !scan->failed;
}

/* The end of the string whose opening quote is at @p. */
static const char *
skip_string (const char *p, const char *end)
{
  for (p++; p < end && *p != '"'; p++)
    p += *p == '\\';
  return p < end ? p + 1 : end;
}

gboolean
valley_json_scan_value (ValleyJsonScan *scan, ValleyJsonScan *value)
{
  gsize depth = 0;

  if (valley_json_scan_peek (scan) == '\0')
    return FALSE;
  *value = *scan;
  do {
    char c = *scan->p;

    if (c == '"') {
      scan->p = skip_string (scan->p, scan->end);
      continue;
    }
    if ((c == ',' || c == ']' || c == '}') && depth == 0)
      break;
    depth += c == '[' || c == '{';
    depth -= c == ']' || c == '}';
    scan->p++;
  } while (scan->p < scan->end && (depth > 0 || strchr (",]}", *scan->p) == NULL));
  value->end = scan->p;
  return TRUE;
}
