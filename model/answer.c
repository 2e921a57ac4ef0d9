/* answer.c - the answer's text while its tokens arrive: bytes become valid UTF-8 as soon as a
 * character is whole, and a stop string never shows, not even its beginning.
 * SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"

#include <string.h>

#include "utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void
valley_answer_init (ValleyAnswer *answer, const char *const *stop, ValleyMarkers markers)
{
  *answer = (ValleyAnswer){ .bytes = g_string_new (NULL),
                            .whole = g_string_new (NULL),
                            .text = g_string_new (NULL),
                            .stop = g_strdupv ((char **) stop),
                            .markers = markers };
  valley_sections_init (&answer->sections);
}

void
valley_answer_clear (ValleyAnswer *answer)
{
  if (answer->bytes == NULL)
    return;
  g_string_free (answer->bytes, TRUE);
  g_string_free (answer->whole, TRUE);
  g_string_free (answer->text, TRUE);
  g_strfreev (answer->stop);
  valley_sections_clear (&answer->sections);
  *answer = (ValleyAnswer){ 0 };
}

/* A NUL byte would end a C string early: it is replaced too. */
static void
decode (ValleyAnswer *answer, gsize end)
{
  while (answer->n_decoded < end) {
    const guint8 *bytes = (const guint8 *) answer->bytes->str;
    const guint8 *p = bytes + answer->n_decoded;
    gboolean well_formed;
    gsize n = valley_utf8_length (p, bytes + end, &well_formed, NULL);

    if (well_formed && *p != '\0')
      g_string_append_len (answer->whole, (const char *) p, (gssize) n);
    else
      g_string_append (answer->whole, REPLACEMENT);
    answer->n_decoded += n;
  }
}

/* Cuts at the first stop string that begins at or after @from. */
static gboolean
cut_at_stop (ValleyAnswer *answer, gsize from)
{
  const char *first = NULL;

  for (gsize i = 0; answer->stop != NULL && answer->stop[i] != NULL; i++) {
    const char *at
        = *answer->stop[i] != '\0' ? strstr (answer->whole->str + from, answer->stop[i]) : NULL;

    if (at != NULL && (first == NULL || at < first))
      first = at;
  }
  if (first == NULL)
    return FALSE;
  g_string_truncate (answer->whole, (gsize) (first - answer->whole->str));
  return TRUE;
}

/* The length of the longest end of the text that begins a stop string. */
static gsize
held_back (const ValleyAnswer *answer)
{
  gsize longest = 0;

  for (gsize i = 0; answer->stop != NULL && answer->stop[i] != NULL; i++) {
    gsize n = MIN (strlen (answer->stop[i]), answer->whole->len + 1);

    while (n > longest + 1) {
      n--;
      if (memcmp (answer->whole->str + answer->whole->len - n, answer->stop[i], n) == 0)
        longest = n;
    }
  }
  return longest;
}

static void
show (ValleyAnswer *answer, gsize length)
{
  /* Only the end differs: what is shown never changes, it grows. */
  g_string_truncate (answer->text, MIN (answer->text->len, length));
  g_string_append_len (answer->text, answer->whole->str + answer->text->len,
                       (gssize) (length - answer->text->len));
  if (answer->markers != VALLEY_MARKERS_KEEP)
    valley_sections_add (&answer->sections, answer->text->str + answer->n_sectioned);
  answer->n_sectioned = answer->text->len;
}

/* Special tokens have no text, except the markers of reasoning: the release has them among its
 * special tokens, and its own code prints them. */
static gboolean
is_silent (const ValleyTokenizer *tokenizer, gint32 id)
{
  g_autoptr (GString) text = NULL;

  if (!valley_tokenizer_is_special (tokenizer, id))
    return FALSE;
  text = g_string_new (NULL);
  valley_tokenizer_decode (tokenizer, id, text);
  return !valley_is_marker (text->str);
}

gboolean
valley_answer_add (ValleyAnswer *answer, const ValleyTokenizer *tokenizer, gint32 id)
{
  gsize shown = answer->text->len;

  if (is_silent (tokenizer, id))
    return FALSE;
  valley_tokenizer_decode (tokenizer, id, answer->bytes);
  decode (answer, answer->n_decoded
                      + valley_utf8_complete (answer->bytes->str + answer->n_decoded,
                                              answer->bytes->len - answer->n_decoded));
  /* A stop string cannot begin in what is already shown, or it would have been held back. */
  if (cut_at_stop (answer, shown)) {
    show (answer, answer->whole->len);
    return TRUE;
  }
  show (answer, answer->whole->len - held_back (answer));
  return FALSE;
}

void
valley_answer_finish (ValleyAnswer *answer, gboolean cut)
{
  decode (answer, answer->bytes->len);
  cut_at_stop (answer, answer->text->len);
  show (answer, answer->whole->len);
  valley_sections_finish (&answer->sections, cut);
}

static const char *
field (const ValleyAnswer *answer, ValleyField which)
{
  const GString *text = answer->sections.fields[which];

  return answer->markers == VALLEY_MARKERS_SPLIT && text->len > 0 ? text->str : NULL;
}

void
valley_answer_describe (const ValleyAnswer *answer, ValleyResult *result)
{
  const GString *text = answer->markers == VALLEY_MARKERS_KEEP
                            ? answer->text
                            : answer->sections.fields[VALLEY_FIELD_RESULT];

  result->text = text->str;
  result->reasoning = field (answer, VALLEY_FIELD_REASONING);
  result->summary = field (answer, VALLEY_FIELD_SUMMARY);
  result->caption = field (answer, VALLEY_FIELD_CAPTION);
  result->conclusion = field (answer, VALLEY_FIELD_CONCLUSION);
}
