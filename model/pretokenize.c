/* pretokenize.c - Qwen2's pre-tokenizer regular expression, written out by hand: GLib's
 * regular expressions are an order of magnitude slower and have other Unicode tables.
 * Each function below is one alternative; the first that matches wins, as in the expression.
 * SPDX-License-Identifier: Apache-2.0 */
#include "pretokenize.h"

#include <string.h>

typedef enum { LETTER, NUMBER, NEWLINE, SPACE, OTHER } CharClass;

/* White_Space of Unicode, which \s means here, without CR and LF. */
static gboolean
is_space (gunichar c)
{
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680
         || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F
         || c == 0x3000;
}

/* The letters and numbers of Unicode 16, which the reference knows, as far as GLib's tables (on
 * Debian 12 those of Unicode 15) have them unassigned. */
static CharClass
classify_newer (gunichar c)
{
  static const struct {
    gunichar first, last;
    CharClass class;
  } ranges[] = {
    { 0x1C89, 0x1C8A, LETTER },   { 0xA7CB, 0xA7CD, LETTER },   { 0xA7DA, 0xA7DC, LETTER },
    { 0x105C0, 0x105F3, LETTER }, { 0x10D40, 0x10D49, NUMBER }, { 0x10D4A, 0x10D65, LETTER },
    { 0x10D6F, 0x10D85, LETTER }, { 0x10EC2, 0x10EC4, LETTER }, { 0x11380, 0x11389, LETTER },
    { 0x1138B, 0x1138B, LETTER }, { 0x1138E, 0x1138E, LETTER }, { 0x11390, 0x113B5, LETTER },
    { 0x113B7, 0x113B7, LETTER }, { 0x113D1, 0x113D1, LETTER }, { 0x113D3, 0x113D3, LETTER },
    { 0x116D0, 0x116E3, NUMBER }, { 0x11BC0, 0x11BE0, LETTER }, { 0x11BF0, 0x11BF9, NUMBER },
    { 0x13460, 0x143FA, LETTER }, { 0x16100, 0x1611D, LETTER }, { 0x16130, 0x16139, NUMBER },
    { 0x16D40, 0x16D6C, LETTER }, { 0x16D70, 0x16D79, NUMBER }, { 0x18CFF, 0x18CFF, LETTER },
    { 0x1CCF0, 0x1CCF9, NUMBER }, { 0x1E5D0, 0x1E5ED, LETTER }, { 0x1E5F0, 0x1E5F0, LETTER },
    { 0x1E5F1, 0x1E5FA, NUMBER }, { 0x2EBF0, 0x2EE5D, LETTER },
  };

  for (guint i = 0; i < G_N_ELEMENTS (ranges); i++)
    if (c >= ranges[i].first && c <= ranges[i].last)
      return ranges[i].class;
  return OTHER;
}

static CharClass
classify (gunichar c)
{
  if (c < 0x80) {
    if (g_ascii_isalpha ((char) c))
      return LETTER;
    if (g_ascii_isdigit ((char) c))
      return NUMBER;
    if (c == '\r' || c == '\n')
      return NEWLINE;
    return is_space (c) ? SPACE : OTHER;
  }
  switch (g_unichar_type (c)) {
  case G_UNICODE_LOWERCASE_LETTER:
  case G_UNICODE_UPPERCASE_LETTER:
  case G_UNICODE_TITLECASE_LETTER:
  case G_UNICODE_MODIFIER_LETTER:
  case G_UNICODE_OTHER_LETTER:
    return LETTER;
  case G_UNICODE_DECIMAL_NUMBER:
  case G_UNICODE_LETTER_NUMBER:
  case G_UNICODE_OTHER_NUMBER:
    return NUMBER;
  case G_UNICODE_UNASSIGNED:
    return classify_newer (c);
  default:
    return is_space (c) ? SPACE : OTHER;
  }
}

/* The class of the character at @p, OTHER at the end; *next is where the following begins. */
static CharClass
class_at (const char *p, const char *end, const char **next)
{
  if (p == end) {
    *next = end;
    return OTHER;
  }
  *next = g_utf8_next_char (p);
  return classify (g_utf8_get_char (p));
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d).  Case folding makes U+017F (long s) an s. */
static const char *
match_contraction (const char *p, const char *end)
{
  static const char *const endings[] = { "s", "t", "re", "ve", "m", "ll", "d", "\xC5\xBF" };

  if (*p != '\'')
    return NULL;
  for (guint i = 0; i < G_N_ELEMENTS (endings); i++) {
    gsize n = strlen (endings[i]);

    if ((gsize) (end - p) > n && g_ascii_strncasecmp (p + 1, endings[i], n) == 0)
      return p + 1 + n;
  }
  return NULL;
}

/* [^\r\n\p{L}\p{N}]?\p{L}+ */
static const char *
match_letters (const char *p, const char *end)
{
  const char *next;
  CharClass first = class_at (p, end, &next);

  if (first == NEWLINE || first == NUMBER)
    return NULL;
  if (first != LETTER) {
    p = next;
    if (p == end || class_at (p, end, &next) != LETTER)
      return NULL;
  }
  while (p < end && class_at (p, end, &next) == LETTER)
    p = next;
  return p;
}

/*  ?[^\s\p{L}\p{N}]+[\r\n]* */
static const char *
match_others (const char *p, const char *end)
{
  const char *next;

  if (*p == ' ')
    p++;
  if (p == end || class_at (p, end, &next) != OTHER)
    return NULL;
  while (p < end && class_at (p, end, &next) == OTHER)
    p = next;
  while (p < end && (*p == '\r' || *p == '\n'))
    p++;
  return p;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ on a run of white space: up to its last line end; else all of
 * it at the end of the text; else all but the last character, which belongs to what follows. */
static const char *
match_spaces (const char *p, const char *end)
{
  const char *start = p, *last = p, *after_newline = NULL;

  while (p < end) {
    const char *next;
    CharClass class = class_at (p, end, &next);

    if (class != SPACE && class != NEWLINE)
      break;
    if (class == NEWLINE)
      after_newline = next;
    last = p;
    p = next;
  }
  if (after_newline != NULL)
    return after_newline;
  return p == end || last == start ? p : last;
}

const char *
valley_pretokenize_next (const char *p, const char *end)
{
  const char *match = match_contraction (p, end);
  const char *next;

  if (match == NULL)
    match = match_letters (p, end);
  if (match == NULL && class_at (p, end, &next) == NUMBER)
    match = next;
  if (match == NULL)
    match = match_others (p, end);
  if (match == NULL)
    match = match_spaces (p, end);
  return match;
}
