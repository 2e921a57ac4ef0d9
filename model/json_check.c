/* json_check.c - one pass over a JSON text without building anything; see json_check.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "json_check.h"

#include <string.h>

/* The deepest file of a checkpoint (tokenizer.json) nests five levels. */
#define MAX_DEPTH 64 /* `expected` below names both */
/* json-glib takes some hundred bytes for each value, however short its text: a file of commas
 * would cost fifty times its size.  The largest tokenizers have two millions. */
#define MAX_VALUES ((gsize) 1 << 22)

typedef enum { VALUE, FIRST_VALUE, KEY, FIRST_KEY, COLON, NEXT, END } Wanted;

static const char *const expected[] = { "a value",
                                        "a value or ]",
                                        "a key",
                                        "a key or }",
                                        ":",
                                        ", or a closing bracket",
                                        "nothing behind the value" };

typedef struct {
  const char *p, *end;
  Wanted wanted;
  char open[MAX_DEPTH];
  guint depth;
  gsize n_values;
  const char *fault;
} Scan;

/* Leaves @p where it stands. */
static gboolean
fail (Scan *scan, const char *fault)
{
  scan->fault = fault;
  return FALSE;
}

/* ---- strings ---- */

/* The code unit of "\uXXXX" at @p, -1 where there is none. */
static gint
unicode_escape (const char *p, const char *end)
{
  gint unit = 0;

  if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
    return -1;
  for (guint i = 2; i < 6; i++) {
    if (!g_ascii_isxdigit (p[i]))
      return -1;
    unit = unit * 16 + g_ascii_xdigit_value (p[i]);
  }
  return unit;
}

/* A NUL would end a C string, and of half a surrogate pair json-glib makes malformed UTF-8. */
static gboolean
skip_escape (Scan *scan)
{
  gint unit = unicode_escape (scan->p, scan->end), second;

  if (unit < 0) {
    if (scan->end - scan->p < 2 || scan->p[1] == '\0' || strchr ("\"\\/bfnrt", scan->p[1]) == NULL)
      return fail (scan, "one of JSON's escapes");
    scan->p += 2;
    return TRUE;
  }
  second = unit >= 0xD800 && unit <= 0xDBFF ? unicode_escape (scan->p + 6, scan->end) : -1;
  if (unit == 0 || (unit >= 0xD800 && unit <= 0xDFFF && (second < 0xDC00 || second > 0xDFFF)))
    return fail (scan, "strings without NUL characters and unpaired surrogates");
  scan->p += second >= 0 ? 12 : 6;
  return TRUE;
}

static gboolean
skip_string (Scan *scan)
{
  for (scan->p++; scan->p < scan->end && *scan->p != '"';) {
    if (*scan->p == '\\') {
      if (!skip_escape (scan))
        return FALSE;
    } else if ((guchar) *scan->p < 0x20) {
      return fail (scan, "strings without control characters, such as NUL");
    } else {
      scan->p++;
    }
  }
  if (scan->p == scan->end)
    return fail (scan, "the string's closing quote");
  scan->p++;
  return TRUE;
}

/* ---- numbers and words ---- */

static gboolean
skip_digits (Scan *scan)
{
  const char *first = scan->p;

  while (scan->p < scan->end && g_ascii_isdigit (*scan->p))
    scan->p++;
  return scan->p > first || fail (scan, "a digit");
}

/* json-glib reads every integer below -2^63 as some other one, often a positive; those above
 * become negative, which no file of a checkpoint has use for. */
static gboolean
is_too_negative (const char *digits, gsize n)
{
  static const char limit[] = "9223372036854775808";

  return n > strlen (limit) || (n == strlen (limit) && strncmp (digits, limit, n) > 0);
}

static gboolean
skip_number (Scan *scan)
{
  gboolean negative = *scan->p == '-', is_integer = TRUE;
  const char *digits = scan->p += negative;
  gsize n_digits;

  if (!skip_digits (scan))
    return FALSE;
  n_digits = (gsize) (scan->p - digits);
  if (*digits == '0' && n_digits > 1)
    return fail (scan, "numbers without leading zeros");
  if (scan->p < scan->end && *scan->p == '.') {
    is_integer = FALSE;
    scan->p++;
    if (!skip_digits (scan))
      return FALSE;
  }
  if (scan->p < scan->end && (*scan->p == 'e' || *scan->p == 'E')) {
    is_integer = FALSE;
    scan->p++;
    scan->p += scan->p < scan->end && (*scan->p == '+' || *scan->p == '-');
    if (!skip_digits (scan))
      return FALSE;
  }
  if (is_integer && negative && is_too_negative (digits, n_digits))
    return fail (scan, "integers of at least -2^63");
  return TRUE;
}

static gboolean
skip_word (Scan *scan)
{
  static const char *const words[] = { "true", "false", "null" };

  for (gsize i = 0; i < G_N_ELEMENTS (words); i++) {
    gsize n = strlen (words[i]);

    if ((gsize) (scan->end - scan->p) >= n && memcmp (scan->p, words[i], n) == 0) {
      scan->p += n;
      return TRUE;
    }
  }
  return fail (scan, expected[scan->wanted]);
}

/* ---- structure ---- */

static gboolean
open_bracket (Scan *scan)
{
  if (scan->depth == MAX_DEPTH)
    return fail (scan, "values nested at most 64 deep");
  scan->open[scan->depth++] = *scan->p;
  scan->wanted = *scan->p++ == '{' ? FIRST_KEY : FIRST_VALUE;
  return TRUE;
}

static gboolean
close_bracket (Scan *scan)
{
  gboolean here
      = scan->wanted == NEXT || scan->wanted == (*scan->p == '}' ? FIRST_KEY : FIRST_VALUE);

  if (!here || scan->open[scan->depth - 1] != (*scan->p == '}' ? '{' : '['))
    return fail (scan, expected[scan->wanted]);
  scan->p++;
  scan->wanted = --scan->depth == 0 ? END : NEXT;
  return TRUE;
}

static gboolean
read_value (Scan *scan)
{
  gboolean good;

  if (++scan->n_values > MAX_VALUES)
    return fail (scan, "at most 4194304 values");
  if (*scan->p == '{' || *scan->p == '[')
    return open_bracket (scan);
  good = *scan->p == '"'                                 ? skip_string (scan)
         : *scan->p == '-' || g_ascii_isdigit (*scan->p) ? skip_number (scan)
                                                         : skip_word (scan);
  scan->wanted = scan->depth == 0 ? END : NEXT;
  return good;
}

static gboolean
read_token (Scan *scan)
{
  gboolean in_object = scan->depth > 0 && scan->open[scan->depth - 1] == '{';

  if (*scan->p == '}' || *scan->p == ']')
    return close_bracket (scan);
  switch (scan->wanted) {
  case VALUE:
  case FIRST_VALUE:
    return read_value (scan);
  case KEY:
  case FIRST_KEY:
    if (*scan->p != '"' || !skip_string (scan))
      break;
    scan->wanted = COLON;
    return TRUE;
  case COLON:
  case NEXT:
    if (*scan->p != (scan->wanted == COLON ? ':' : ','))
      break;
    scan->p++;
    scan->wanted = scan->wanted == NEXT && in_object ? KEY : VALUE;
    return TRUE;
  case END:
    break;
  }
  return scan->fault == NULL ? fail (scan, expected[scan->wanted]) : FALSE;
}

const char *
valley_json_check (const char *text, gsize length, gsize *fault)
{
  Scan scan = { .p = text, .end = text + length, .wanted = VALUE };
  const char *malformed;

  /* A NUL stops GLib's check, and the scan below at the latest. */
  if (!g_utf8_validate_len (text, length, &malformed) && *malformed != '\0') {
    *fault = (gsize) (malformed - text);
    return "UTF-8";
  }
  while (scan.p < scan.end && scan.fault == NULL)
    if (strchr (" \t\r\n", *scan.p) != NULL && *scan.p != '\0')
      scan.p++;
    else
      read_token (&scan);
  if (scan.fault == NULL && scan.wanted != END)
    fail (&scan, scan.depth > 0 ? "the rest of it" : expected[scan.wanted]);
  *fault = (gsize) (scan.p - text);
  return scan.fault;
}
