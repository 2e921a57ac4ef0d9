/* markers.c - an answer's sections, told apart byte by byte.
 *
 * Markers are recognised in the text, not by token id: <think> is one token in one vocabulary
 * and four in another.
 * SPDX-License-Identifier: Apache-2.0 */
#include "markers.h"

#include <string.h>

static const struct {
  const char *name;
  ValleyField field;
} markers[] = {
  { "SUMMARY", VALLEY_FIELD_SUMMARY },       { "CAPTION", VALLEY_FIELD_CAPTION },
  { "REASONING", VALLEY_FIELD_REASONING },   { "think", VALLEY_FIELD_REASONING },
  { "thinking", VALLEY_FIELD_REASONING },    { "answer", VALLEY_FIELD_RESULT },
  { "CONCLUSION", VALLEY_FIELD_CONCLUSION },
};

typedef enum { NO_MARKER, MAYBE_MARKER, OPENING_MARKER, CLOSING_MARKER } Match;

void
valley_sections_init (ValleySections *sections)
{
  *sections = (ValleySections){ .open = g_array_new (FALSE, FALSE, sizeof (ValleyField)),
                                .held = g_string_new (NULL),
                                .space = g_string_new (NULL) };
  for (guint i = 0; i < VALLEY_N_FIELDS; i++)
    sections->fields[i] = g_string_new (NULL);
}

void
valley_sections_clear (ValleySections *sections)
{
  if (sections->open == NULL)
    return;
  for (guint i = 0; i < VALLEY_N_FIELDS; i++)
    g_string_free (sections->fields[i], TRUE);
  g_array_unref (sections->open);
  g_string_free (sections->held, TRUE);
  g_string_free (sections->space, TRUE);
  *sections = (ValleySections){ 0 };
}

/* What @text, which begins with '<', is so far. */
static Match
match (const char *text, ValleyField *field)
{
  gboolean closing = text[1] == '/';
  const char *name = text + 1 + closing;
  gsize n = strlen (name);
  gboolean maybe = FALSE;

  for (guint i = 0; i < G_N_ELEMENTS (markers); i++) {
    gsize length = strlen (markers[i].name);

    if (strncmp (name, markers[i].name, MIN (n, length)) != 0)
      continue;
    if (n <= length) {
      maybe = TRUE;
    } else if (n == length + 1 && name[length] == '>') {
      *field = markers[i].field;
      return closing ? CLOSING_MARKER : OPENING_MARKER;
    }
  }
  return maybe ? MAYBE_MARKER : NO_MARKER;
}

gboolean
valley_is_marker (const char *text)
{
  ValleyField field;

  return *text == '<' && match (text, &field) >= OPENING_MARKER;
}

/* ---- sections ---- */

static void
open_section (ValleySections *sections, ValleyField field)
{
  g_array_append_val (sections->open, field);
}

/* Ends the innermost section of @field, and those inside it that were never closed. */
static void
close_section (ValleySections *sections, ValleyField field)
{
  for (guint n = sections->open->len; n > 0; n--)
    if (g_array_index (sections->open, ValleyField, n - 1) == field) {
      g_array_set_size (sections->open, n - 1);
      return;
    }
}

static void
see_marker (ValleySections *sections, Match kind, ValleyField field)
{
  if (kind == OPENING_MARKER)
    open_section (sections, field);
  else
    close_section (sections, field);
  g_string_truncate (sections->space, 0);
  sections->beside_marker = TRUE;
}

/* ---- text ---- */

static void
append (const ValleySections *sections, ValleyField field, char c)
{
  GString *out = sections->fields[field];

  if (sections->beside_marker && out->len > 0)
    g_string_append_c (out, '\n');
  if (!sections->beside_marker)
    g_string_append_len (out, sections->space->str, (gssize) sections->space->len);
  g_string_append_c (out, c);
}

static void
add_text (ValleySections *sections, char c)
{
  guint n = sections->open->len;
  ValleyField field
      = n > 0 ? g_array_index (sections->open, ValleyField, n - 1) : VALLEY_FIELD_RESULT;

  if (g_ascii_isspace (c)) {
    g_string_append_c (sections->space, c);
    return;
  }
  append (sections, field, c);
  if (field == VALLEY_FIELD_CONCLUSION)
    append (sections, VALLEY_FIELD_RESULT, c);
  g_string_truncate (sections->space, 0);
  sections->beside_marker = FALSE;
}

static void
release_held (ValleySections *sections)
{
  for (gsize i = 0; i < sections->held->len; i++)
    add_text (sections, sections->held->str[i]);
  g_string_truncate (sections->held, 0);
}

static void
add_byte (ValleySections *sections, char c)
{
  ValleyField field = VALLEY_FIELD_RESULT;
  Match found;

  if (c == '<') /* no marker has a second one */
    release_held (sections);
  if (c != '<' && sections->held->len == 0) {
    add_text (sections, c);
    return;
  }
  g_string_append_c (sections->held, c);
  found = match (sections->held->str, &field);
  if (found == NO_MARKER) {
    release_held (sections);
  } else if (found != MAYBE_MARKER) {
    g_string_truncate (sections->held, 0);
    see_marker (sections, found, field);
  }
}

void
valley_sections_add (ValleySections *sections, const char *text)
{
  while (*text != '\0')
    add_byte (sections, *text++);
}

/* White space at the very end is kept as the model wrote it: it is beside no marker. */
static void
release_space (ValleySections *sections)
{
  guint n = sections->open->len;
  ValleyField field
      = n > 0 ? g_array_index (sections->open, ValleyField, n - 1) : VALLEY_FIELD_RESULT;

  if (sections->beside_marker)
    return;
  g_string_append (sections->fields[field], sections->space->str);
  if (field == VALLEY_FIELD_CONCLUSION)
    g_string_append (sections->fields[VALLEY_FIELD_RESULT], sections->space->str);
}

void
valley_sections_finish (ValleySections *sections, gboolean cut)
{
  if (!cut)
    release_held (sections);
  g_string_truncate (sections->held, 0);
  release_space (sections);
  g_string_truncate (sections->space, 0);
}
