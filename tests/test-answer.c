/* test-answer.c - an answer's text while tokens arrive: never half a character, never a part
 * of a stop string, and in the end what decoding all tokens at once would give.
 *
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "answer.h"

static ValleyTokenizer *tokenizer;

/* The token that spells this one byte: a byte-level vocabulary has all of them. */
static gint32
byte_id (guint8 byte)
{
  g_autoptr (GString) bytes = g_string_new (NULL);

  for (gint32 id = 0; id < 340; id++) {
    g_string_truncate (bytes, 0);
    valley_tokenizer_decode (tokenizer, id, bytes);
    if (bytes->len == 1 && (guint8) bytes->str[0] == byte)
      return id;
  }
  g_assert_not_reached ();
}

/* Feeds @bytes one a token; every intermediate text is valid and a prefix of the next one.
 * Returns whether a stop string ended it. */
static gboolean
feed (ValleyAnswer *answer, const char *bytes)
{
  g_autofree char *before = g_strdup ("");
  gboolean stopped = FALSE;

  for (gsize i = 0; bytes[i] != '\0' && !stopped; i++) {
    stopped = valley_answer_add (answer, tokenizer, byte_id ((guint8) bytes[i]));
    g_assert_true (g_utf8_validate (answer->text->str, (gssize) answer->text->len, NULL));
    g_assert_true (g_str_has_prefix (answer->text->str, before));
    g_free (before);
    before = g_strdup (answer->text->str);
  }
  valley_answer_finish (answer, FALSE);
  g_assert_true (g_str_has_prefix (answer->text->str, before));
  return stopped;
}

typedef struct {
  const char *label, *bytes;
  const char *stop[3];
  const char *text; /* at the end */
  gboolean stopped;
} Case;

static const Case cases[] = {
  { "ascii", "A plain red screen.", { NULL }, "A plain red screen.", FALSE },
  { "characters",
    "d\xc3\xa9j\xc3\xa0 \xe4\xb8\xad \xf0\x9f\x98\x80!",
    { NULL },
    "d\xc3\xa9j\xc3\xa0 \xe4\xb8\xad \xf0\x9f\x98\x80!",
    FALSE },
  { "cut-at-the-end", "ab\xe4\xb8", { NULL }, "ab\xef\xbf\xbd", FALSE },
  { "broken-inside",
    "a\xe4\xb8z\xff\xc3(",
    { NULL },
    "a\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd(",
    FALSE },
  { "surrogate", "\xed\xa0\x80", { NULL }, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", FALSE },
  { "stop", "one two three", { "two" }, "one ", TRUE },
  { "stop-first-of-two", "one two three", { "three", "o t" }, "one tw", TRUE },
  { "stop-overlapping", "aaab", { "aab" }, "a", TRUE },
  { "stop-at-once", "two", { "t" }, "", TRUE },
  { "stop-beginning-only", "one tw", { "two" }, "one tw", FALSE },
  { "stop-beginning-twice", "twtwo", { "two" }, "tw", TRUE },
  { "stop-characters", "x\xe4\xb8\xad\xe4\xb8\xaey", { "\xe4\xb8\xae" }, "x\xe4\xb8\xad", TRUE },
  { "stop-empty", "one", { "" }, "one", FALSE },
};

static void
test_case (gconstpointer data)
{
  const Case *test = data;
  ValleyAnswer answer;

  valley_answer_init (&answer, test->stop, VALLEY_MARKERS_KEEP);
  g_assert_true (feed (&answer, test->bytes) == test->stopped);
  g_assert_cmpstr (answer.text->str, ==, test->text);
  valley_answer_clear (&answer);
}

/* What may become a stop string is held back, and only that. */
static void
test_held_back (void)
{
  static const char *const stop[] = { "<end>", NULL };
  static const char *const shown[] = { "a", "a", "a", "a<e.", "a<e.", "a<e.<" };
  static const char bytes[] = "a<e.<<";
  ValleyAnswer answer;

  valley_answer_init (&answer, stop, VALLEY_MARKERS_KEEP);
  for (gsize i = 0; bytes[i] != '\0'; i++) {
    g_assert_false (valley_answer_add (&answer, tokenizer, byte_id ((guint8) bytes[i])));
    g_assert_cmpstr (answer.text->str, ==, shown[i]);
  }
  valley_answer_finish (&answer, FALSE);
  g_assert_cmpstr (answer.text->str, ==, bytes);
  valley_answer_clear (&answer);
}

/* A NUL byte cannot be in a C string; special tokens and unknown ids have no text. */
static void
test_odd_tokens (void)
{
  ValleyAnswer answer;

  valley_answer_init (&answer, NULL, VALLEY_MARKERS_KEEP);
  valley_answer_add (&answer, tokenizer, byte_id ('a'));
  valley_answer_add (&answer, tokenizer, byte_id (0));
  valley_answer_add (&answer, tokenizer, valley_tokenizer_lookup (tokenizer, "<|im_end|>"));
  valley_answer_add (&answer, tokenizer, 1000000);
  valley_answer_add (&answer, tokenizer, -200);
  valley_answer_add (&answer, tokenizer, byte_id ('b'));
  g_assert_cmpstr (answer.text->str, ==,
                   "a\xef\xbf\xbd"
                   "b");
  valley_answer_clear (&answer);
}

static gboolean
add_text (ValleyAnswer *answer, const char *text)
{
  gboolean stopped = FALSE;

  for (; *text != '\0'; text++)
    stopped = valley_answer_add (answer, tokenizer, byte_id ((guint8) *text));
  return stopped;
}

static void
add_marker (ValleyAnswer *answer, const char *marker)
{
  gint32 id = valley_tokenizer_lookup (tokenizer, marker);

  g_assert_true (valley_tokenizer_is_special (tokenizer, id));
  g_assert_false (valley_answer_add (answer, tokenizer, id));
}

/* The release has its markers among the special tokens; they are text nevertheless. */
static void
test_markers (gconstpointer data)
{
  static const char written[] = "<SUMMARY>ab</SUMMARY> <CONCLUSION>c";
  ValleyMarkers mode = (ValleyMarkers) GPOINTER_TO_INT (data);
  static const char *const stop[] = { "END", NULL };
  ValleyResult result = { 0 };
  ValleyAnswer answer;

  valley_answer_init (&answer, stop, mode);
  valley_answer_add (&answer, tokenizer, valley_tokenizer_lookup (tokenizer, "<cor>"));
  add_marker (&answer, "<SUMMARY>");
  g_assert_false (add_text (&answer, "ab"));
  add_marker (&answer, "</SUMMARY>");
  g_assert_false (add_text (&answer, " "));
  valley_answer_describe (&answer, &result);
  g_assert_cmpstr (result.text, ==, mode == VALLEY_MARKERS_KEEP ? "<SUMMARY>ab</SUMMARY> " : "");
  add_marker (&answer, "<CONCLUSION>");
  g_assert_true (add_text (&answer, "cEND"));
  valley_answer_finish (&answer, FALSE);
  valley_answer_describe (&answer, &result);
  g_assert_cmpstr (result.text, ==, mode == VALLEY_MARKERS_KEEP ? written : "c");
  g_assert_cmpstr (result.summary, ==, mode == VALLEY_MARKERS_SPLIT ? "ab" : NULL);
  g_assert_cmpstr (result.conclusion, ==, mode == VALLEY_MARKERS_SPLIT ? "c" : NULL);
  g_assert_null (result.reasoning);
  g_assert_null (result.caption);
  valley_answer_clear (&answer);
}

/* An answer that ran into its limit inside a marker does not show the half of it. */
static void
test_cut_marker (void)
{
  ValleyResult result = { 0 };
  ValleyAnswer answer;

  for (gsize cut = 0; cut < 2; cut++) {
    valley_answer_init (&answer, NULL, VALLEY_MARKERS_STRIP);
    add_text (&answer, "yes</ans");
    valley_answer_finish (&answer, cut != 0);
    valley_answer_describe (&answer, &result);
    g_assert_cmpstr (result.text, ==, cut != 0 ? "yes" : "yes</ans");
    valley_answer_clear (&answer);
  }
}

int
main (int argc, char **argv)
{
  g_autofree char *dir = NULL;
  GError *error = NULL;
  int status;

  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  dir = g_build_filename (g_getenv ("GOLDEN_DIR"), "ovis-softmax", NULL);
  tokenizer = valley_tokenizer_open (dir, 340, &error);
  g_assert_no_error (error);
  g_test_add_func ("/answer/held-back", test_held_back);
  g_test_add_func ("/answer/odd-tokens", test_odd_tokens);
  g_test_add_data_func ("/answer/markers/keep", GINT_TO_POINTER (VALLEY_MARKERS_KEEP),
                        test_markers);
  g_test_add_data_func ("/answer/markers/strip", GINT_TO_POINTER (VALLEY_MARKERS_STRIP),
                        test_markers);
  g_test_add_data_func ("/answer/markers/split", GINT_TO_POINTER (VALLEY_MARKERS_SPLIT),
                        test_markers);
  g_test_add_func ("/answer/cut-marker", test_cut_marker);
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *path = g_strdup_printf ("/answer/%s", cases[i].label);

    g_test_add_data_func (path, &cases[i], test_case);
  }
  status = g_test_run ();
  valley_tokenizer_free (tokenizer);
  return status;
}
