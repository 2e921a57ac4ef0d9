/* test-tokenizer.c - ids against Hugging Face's (tests/golden), text back from ids, broken
 * UTF-8, answers piece by piece.
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"
#include "nfc.h"
#include "pretokenize.h"
#include "tokenizer-fixture.h"
#include "utf8.h"

#include <json-glib/json-glib.h>
#include <string.h>

static char *
decode (const ValleyTokenizer *tokenizer, const GArray *ids)
{
  GString *text = g_string_new (NULL);

  for (guint i = 0; i < ids->len; i++)
    valley_tokenizer_decode (tokenizer, g_array_index (ids, gint32, i), text);
  return g_string_free (text, FALSE);
}

/* ---- ids ---- */

static gboolean
same_ids (const GArray *got, JsonArray *want)
{
  if (got->len != json_array_get_length (want))
    return FALSE;
  for (guint i = 0; i < got->len; i++)
    if (g_array_index (got, gint32, i) != json_array_get_int_element (want, i))
      return FALSE;
  return TRUE;
}

static void
test_golden (void)
{
  g_autofree char *path = tokenizer_golden_path ("tokenizer-cases.json");
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_autoptr (GError) error = NULL;
  ValleyTokenizer *tokenizer = tokenizer_open_golden ("ovis-softmax");
  JsonArray *cases;

  json_parser_load_from_file (parser, path, &error);
  g_assert_no_error (error);
  cases = json_node_get_array (json_parser_get_root (parser));
  g_assert_cmpuint (json_array_get_length (cases), >, 500);
  for (guint i = 0; i < json_array_get_length (cases); i++) {
    JsonObject *item = json_array_get_object_element (cases, i);
    const char *text = json_object_get_string_member (item, "text");
    g_autoptr (GArray) ids = tokenizer_encode (tokenizer, text);
    g_autofree char *shown = g_strescape (text, NULL), *back = decode (tokenizer, ids);
    g_autofree char *normal = valley_nfc (text, text + strlen (text));

    if (!same_ids (ids, json_object_get_array_member (item, "ids")))
      g_error ("case %u: \"%s\" has other ids", i, shown);
    g_assert_cmpstr (back, ==, normal);
  }
  valley_tokenizer_free (tokenizer);
}

static void
test_plain (void)
{
  static const char text[] = "<|im_end|>x<im_start>";
  ValleyTokenizer *tokenizer = tokenizer_open_golden ("ovis-softmax");
  gint32 end = valley_tokenizer_lookup (tokenizer, "<|im_end|>");
  g_autoptr (GArray) special = tokenizer_encode (tokenizer, text);
  g_autoptr (GArray) plain = g_array_new (FALSE, FALSE, sizeof (gint32));
  g_autofree char *back = NULL;

  valley_tokenizer_encode_plain (tokenizer, text, plain);
  back = decode (tokenizer, plain);
  g_assert_cmpint (g_array_index (special, gint32, 0), ==, end);
  g_assert_cmpuint (special->len, ==, 3);
  for (guint i = 0; i < plain->len; i++)
    g_assert_false (valley_tokenizer_is_special (tokenizer, g_array_index (plain, gint32, i)));
  g_assert_cmpstr (back, ==, text);
  g_assert_true (valley_tokenizer_is_special (tokenizer, end));
  g_assert_false (valley_tokenizer_is_special (tokenizer, VOCABULARY));
  g_assert_false (valley_tokenizer_is_special (tokenizer, -1));
  g_assert_cmpint (valley_tokenizer_lookup (tokenizer, "<image>"), ==, -1);
  g_assert_cmpint (valley_tokenizer_lookup (tokenizer, " the"), >=, 0);
  valley_tokenizer_free (tokenizer);
}

/* A piece of a million bytes: quadratic merging would not come back. */
static void
test_long_piece (void)
{
  gsize n = 1 << 20;
  g_autofree char *text = g_malloc (n + 1);
  g_autofree char *back = NULL;
  g_autoptr (GArray) ids = NULL;
  ValleyTokenizer *tokenizer = tokenizer_open_golden ("ovis-softmax");

  for (gsize i = 0; i < n; i++)
    text[i] = "thedescribe"[i % 11];
  text[n] = '\0';
  ids = tokenizer_encode (tokenizer, text);
  back = decode (tokenizer, ids);
  g_assert_cmpuint (ids->len, <, n / 2);
  g_assert_cmpstr (back, ==, text);
  valley_tokenizer_free (tokenizer);
}

/* Any bytes give valid ids that decode to the repaired, normalised text. */
static void
test_random_bytes (void)
{
  ValleyTokenizer *tokenizer = tokenizer_open_golden ("ovis-softmax");

  for (guint round = 0; round < 2000; round++) {
    char text[64];
    guint n = (guint) g_test_rand_int_range (0, sizeof text);
    g_autofree char *repaired = NULL, *normal = NULL, *back = NULL;
    g_autoptr (GArray) ids = NULL;

    for (guint i = 0; i < n; i++)
      text[i] = g_test_rand_bit () ? " \n'sa1\xCC\x81"[g_test_rand_int_range (0, 8)]
                                   : (char) g_test_rand_int_range (1, 256);
    text[n] = '\0';
    repaired = valley_utf8_repair (text);
    normal = valley_nfc (repaired, repaired + strlen (repaired));
    ids = tokenizer_encode (tokenizer, text);
    back = decode (tokenizer, ids);
    g_assert_cmpstr (back, ==, normal);
  }
  valley_tokenizer_free (tokenizer);
}

/* Contractions in either case; folding makes the long s an s, but only behind an apostrophe.
 * ("|" stands between the pieces that the reference makes.) */
static void
test_contractions (void)
{
  static const char *const cases[] = { "'\u017F|x", "'\u017F|S", "it|'\u017F|x", "'S|x",   "'LL|x",
                                       "'\u212Ax",  "'D",        "'l",           "\u017Fx" };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_auto (GStrv) pieces = g_strsplit (cases[i], "|", -1);
    g_autofree char *text = g_strjoinv ("", pieces);
    const char *p = text, *end = text + strlen (text);

    for (guint k = 0; pieces[k] != NULL; k++) {
      const char *next = valley_pretokenize_next (p, end);
      g_autofree char *piece = g_strndup (p, (gsize) (next - p));

      g_assert_cmpstr (piece, ==, pieces[k]);
      p = next;
    }
    g_assert_true (p == end);
  }
}

/* ---- Unicode's versions ---- */

/* Marks newer than Unicode 9 stay where they are, and are passed by no other; older ones are put
 * in order. */
static void
test_nfc (void)
{
  static const char *const cases[][2] = {
    { "e\u0301", "\u00E9" },
    { "a\u0301\u0323", "\u1EA1\u0301" },
    { "\u1ABF\u0334", "\u1ABF\u0334" },
    { "a\u1ABF\u0334", "a\u1ABF\u0334" },
    { "a\u0345\u0898", "a\u0345\u0898" },
    { "e\u0301\u08D3e\u0301", "\u00E9\u08D3\u00E9" },
    { "e\u1ABF\u0301\u0323", "e\u1ABF\u0323\u0301" },
    { "\u1ABF\u1ABF", "\u1ABF\u1ABF" },
    { "\U00011935\U00011930", "\U00011935\U00011930" },
    { "\U00011938", "\U00011938" },
    { "", "" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *got = valley_nfc (cases[i][0], cases[i][0] + strlen (cases[i][0]));

    g_assert_cmpstr (got, ==, cases[i][1]);
  }
}

/* Letters and numbers of Unicode 16 end no piece where letters and numbers do not: 'm after them
 * is a contraction, as it is not after what is neither. */
static void
test_newer_letters (void)
{
  static const struct {
    const char *text;
    gsize piece;
  } cases[] = {
    { "\u1C89'm", 3 },
    { "a\U0001610Ab'm", 6 },
    { "\U00016130\U00016131", 4 },
    { "\U0001E5F0\U0001E5F1", 4 },
    { "\U0002EBF0\U0002EE5D", 8 },
    { "\U0002EE5E'm", 5 },
    { "\u0378'm", 3 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    const char *text = cases[i].text;

    g_assert_cmpuint ((gsize) (valley_pretokenize_next (text, text + strlen (text)) - text), ==,
                      cases[i].piece);
  }
}

/* ---- UTF-8 ---- */

static void
test_repair (void)
{
  static const struct {
    const char *broken, *repaired;
  } cases[] = {
    /* What Python's bytes.decode ("utf-8", "replace") gives; "?" stands for U+FFFD. */
    { "plain", "plain" },
    { "\xE4\xBD\xA0", "\xE4\xBD\xA0" },
    { "a\xFF"
      "b",
      "a?b" },
    { "\x80\x80", "??" },
    { "\xC0\xAF", "??" },
    { "\xE4\xBD", "?" },
    { "\xE4\xBDz", "?z" },
    { "\xE0\x80\xAF", "???" },
    { "\xED\xA0\x80", "???" },
    { "\xF0\x9F\x98", "?" },
    { "\xF0\x9F\xF0\x9F", "??" },
    { "\xF4\x90\x80\x80", "????" },
    { "\xF5\x80", "??" },
    { "\xC3", "?" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *got = valley_utf8_repair (cases[i].broken);
    g_auto (GStrv) parts = g_strsplit (cases[i].repaired, "?", -1);
    g_autofree char *want = g_strjoinv ("\xEF\xBF\xBD", parts);

    g_assert_cmpstr (got, ==, want);
  }
}

static void
test_complete (void)
{
  static const struct {
    const char *bytes;
    gsize complete;
  } cases[] = {
    { "", 0 },
    { "a", 1 },
    { "a\xC3", 1 },
    { "a\xC3\xA9", 3 },
    { "\xE4", 0 },
    { "\xE4\xBD", 0 },
    { "\xE4\xBD\xA0", 3 },
    { "\xF0\x9F\x98", 0 },
    { "\xF0\x9F", 0 },
    { "\xF0\x80", 2 },
    { "\x80", 1 },
    { "\x80\x80\x80\x80", 4 },
    { "\xFF", 1 },
    { "\xED\xA0", 2 },
    { "\xF0\x9F\x98\x80", 4 },
    { "x\xC3z", 3 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    g_assert_cmpuint (valley_utf8_complete (cases[i].bytes, strlen (cases[i].bytes)), ==,
                      cases[i].complete);
}

/* ---- answers piece by piece ---- */

/* Of the special tokens only the markers of reasoning do. */
static gboolean
has_text (const ValleyTokenizer *tokenizer, gint32 id)
{
  g_autoptr (GString) text = g_string_new (NULL);

  valley_tokenizer_decode (tokenizer, id, text);
  return !valley_tokenizer_is_special (tokenizer, id) || valley_is_marker (text->str);
}

/* Random ids, many of them single bytes: what an answer has shown is never taken back, is always
 * whole characters, and in the end is the text of all the bytes. */
static void
test_pieces (void)
{
  ValleyTokenizer *tokenizer = tokenizer_open_golden ("ovis-softmax");

  for (guint round = 0; round < 3000; round++) {
    g_autoptr (GString) whole = g_string_new (NULL), shown = g_string_new (NULL);
    g_autofree char *want = NULL;
    gint32 n = g_test_rand_int_range (1, 20);
    ValleyAnswer answer;

    valley_answer_init (&answer, NULL, VALLEY_MARKERS_KEEP);
    for (gint32 i = 0; i <= n; i++) {
      gint32 id = g_test_rand_int_range (0, VOCABULARY);

      if (i == n)
        valley_answer_finish (&answer, FALSE);
      else
        valley_answer_add (&answer, tokenizer, id);
      if (i < n && has_text (tokenizer, id))
        valley_tokenizer_decode (tokenizer, id, whole);
      g_assert_true (g_str_has_prefix (answer.text->str, shown->str));
      g_assert_true (g_utf8_validate (answer.text->str + shown->len, -1, NULL));
      g_string_assign (shown, answer.text->str);
    }
    for (gsize i = 0; i < whole->len; i++) /* a NUL is shown as any broken byte */
      if (whole->str[i] == '\0')
        whole->str[i] = '\xFF';
    want = valley_utf8_repair (whole->str);
    g_assert_cmpstr (shown->str, ==, want);
    valley_answer_clear (&answer);
  }
  valley_tokenizer_free (tokenizer);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/tokenizer/golden", test_golden);
  g_test_add_func ("/tokenizer/plain", test_plain);
  g_test_add_func ("/tokenizer/long-piece", test_long_piece);
  g_test_add_func ("/tokenizer/random-bytes", test_random_bytes);
  g_test_add_func ("/tokenizer/unicode/nfc", test_nfc);
  g_test_add_func ("/tokenizer/unicode/newer-letters", test_newer_letters);
  g_test_add_func ("/tokenizer/utf8/repair", test_repair);
  g_test_add_func ("/tokenizer/utf8/complete", test_complete);
  g_test_add_func ("/tokenizer/contractions", test_contractions);
  g_test_add_func ("/tokenizer/pieces", test_pieces);
  return g_test_run ();
}
