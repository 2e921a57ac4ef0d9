/* test-tokenizer.c - ids against Hugging Face's (tests/golden), text back from ids, broken
 * UTF-8, and tokenizer.json files that nobody should trust.
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"
#include "nfc.h"
#include "pretokenize.h"
#include "scratch.h"
#include "tokenizer.h"
#include "utf8.h"

#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <string.h>

#define VOCABULARY 340

static char *
golden_path (const char *name)
{
  return g_build_filename (g_getenv ("GOLDEN_DIR"), name, NULL);
}

static char *
golden_text (const char *name)
{
  g_autofree char *path = golden_path (name);
  g_autoptr (GError) error = NULL;
  char *text = NULL;

  g_file_get_contents (path, &text, NULL, &error);
  g_assert_no_error (error);
  return text;
}

static ValleyTokenizer *
open_golden (const char *name)
{
  g_autofree char *dir = golden_path (name);
  g_autoptr (GError) error = NULL;
  ValleyTokenizer *tokenizer = valley_tokenizer_open (dir, VOCABULARY, &error);

  g_assert_no_error (error);
  return tokenizer;
}

/* Opens a tokenizer.json that holds @text. */
static ValleyTokenizer *
open_text (const char *text, gssize length, GError **error)
{
  g_autofree char *dir = g_dir_make_tmp ("valley-tokenizer-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "tokenizer.json", NULL);
  ValleyTokenizer *tokenizer;

  g_assert_true (g_file_set_contents (path, text, length, NULL));
  tokenizer = valley_tokenizer_open (dir, VOCABULARY, error);
  g_unlink (path);
  g_rmdir (dir);
  return tokenizer;
}

static GArray *
encode (const ValleyTokenizer *tokenizer, const char *text)
{
  GArray *ids = g_array_new (FALSE, FALSE, sizeof (gint32));

  valley_tokenizer_encode (tokenizer, text, ids);
  return ids;
}

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
  g_autofree char *path = golden_path ("tokenizer-cases.json");
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_autoptr (GError) error = NULL;
  ValleyTokenizer *tokenizer = open_golden ("ovis-softmax");
  JsonArray *cases;

  json_parser_load_from_file (parser, path, &error);
  g_assert_no_error (error);
  cases = json_node_get_array (json_parser_get_root (parser));
  g_assert_cmpuint (json_array_get_length (cases), >, 500);
  for (guint i = 0; i < json_array_get_length (cases); i++) {
    JsonObject *item = json_array_get_object_element (cases, i);
    const char *text = json_object_get_string_member (item, "text");
    g_autoptr (GArray) ids = encode (tokenizer, text);
    g_autofree char *shown = g_strescape (text, NULL), *back = decode (tokenizer, ids);
    g_autofree char *normal = valley_nfc (text, text + strlen (text));

    if (!same_ids (ids, json_object_get_array_member (item, "ids")))
      g_error ("case %u: \"%s\" has other ids", i, shown);
    g_assert_cmpstr (back, ==, normal);
  }
  valley_tokenizer_free (tokenizer);
}

/* "a b" and ["a", "b"] are the same merge. */
static void
test_merge_forms (void)
{
  static const char text[] = "Describe the video, it's 12:34\n\n  e\xCC\x81t\xC3\xA9 \xE4\xBD\xA0";
  ValleyTokenizer *strings = open_golden ("ovis-softmax"), *pairs = open_golden ("ovis-argmax");
  g_autofree char *first = golden_text ("ovis-softmax/tokenizer.json");
  g_autofree char *second = golden_text ("ovis-argmax/tokenizer.json");
  g_autoptr (GArray) a = encode (strings, text);
  g_autoptr (GArray) b = encode (pairs, text);

  g_assert_nonnull (strstr (first, "\"merges\":[\"h e\""));
  g_assert_nonnull (strstr (second, "\"merges\":[[\"h\",\"e\"]"));
  g_assert_cmpmem (a->data, a->len * 4, b->data, b->len * 4);
  valley_tokenizer_free (strings);
  valley_tokenizer_free (pairs);
}

static void
test_plain (void)
{
  static const char text[] = "<|im_end|>x<im_start>";
  ValleyTokenizer *tokenizer = open_golden ("ovis-softmax");
  gint32 end = valley_tokenizer_lookup (tokenizer, "<|im_end|>");
  g_autoptr (GArray) special = encode (tokenizer, text);
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
  ValleyTokenizer *tokenizer = open_golden ("ovis-softmax");

  for (gsize i = 0; i < n; i++)
    text[i] = "thedescribe"[i % 11];
  text[n] = '\0';
  ids = encode (tokenizer, text);
  back = decode (tokenizer, ids);
  g_assert_cmpuint (ids->len, <, n / 2);
  g_assert_cmpstr (back, ==, text);
  valley_tokenizer_free (tokenizer);
}

/* Any bytes give valid ids that decode to the repaired, normalised text. */
static void
test_random_bytes (void)
{
  ValleyTokenizer *tokenizer = open_golden ("ovis-softmax");

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
    ids = encode (tokenizer, text);
    back = decode (tokenizer, ids);
    g_assert_cmpstr (back, ==, normal);
  }
  valley_tokenizer_free (tokenizer);
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

/* ---- bad files ---- */

static char *
replace (const char *text, const char *what, const char *with)
{
  const char *found = strstr (text, what);
  GString *out = g_string_new_len (text, found - text);

  g_assert_nonnull (found);
  g_string_append (out, with);
  g_string_append (out, found + strlen (what));
  return g_string_free (out, FALSE);
}

/* Every edit of a good file must be refused with an error that names the key. */
static void
test_refused (void)
{
  static const struct {
    const char *what, *with, *key;
  } edits[] = {
    { "{\"type\":\"NFC\"}", "{\"type\":\"NFKC\"}", "normalizer" },
    { "{\"type\":\"NFC\"}", "7", "normalizer" },
    { "\\\\p{N}|", "\\\\p{N}{1,3}|", "Regex" },
    { "\"Isolated\"", "\"Removed\"", "pre_tokenizer" },
    { "\"type\":\"Sequence\"", "\"type\":\"Whitespace\"", "pre_tokenizer" },
    { "\"use_regex\":false", "\"use_regex\":true", "use_regex" },
    { "\"add_prefix_space\":false", "\"add_prefix_space\":true", "add_prefix_space" },
    { "\"post_processor\":{\"type\":\"ByteLevel\"", "\"post_processor\":{\"type\":\"Template\"",
      "post_processor" },
    { "\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model.type" },
    { "\"byte_fallback\":false", "\"byte_fallback\":true", "byte_fallback" },
    { "\"dropout\":null", "\"dropout\":0.1", "dropout" },
    { "\"vocab\":{", "\"vocab\":[{", "JSON" },
    { "\"vocab\":{", "\"vocab\":{\"zz\":340,", "model.vocab" },
    { "\"vocab\":{", "\"vocab\":{\"zz\":-1,", "model.vocab" },
    { "\"vocab\":{", "\"vocab\":{\"zz\":99999999999999,", "model.vocab" },
    { "\"vocab\":{", "\"vocab\":{\"zz\":\"1\",", "model.vocab" },
    { "\"vocab\":{", "\"vocab\":{\"zz\":1.5,", "model.vocab" },
    { "\"vocab\":{", "\"vocab\":{\"zz\":3,", "model.vocab" },
    { "\"h\":", "\"hh\":", "model.vocab" },
    { "\"merges\":[", "\"merges\":[\"q\",", "model.merges[0]" },
    { "\"merges\":[", "\"merges\":[\"q q\",", "model.merges[0]" },
    { "\"merges\":[", "\"merges\":[[\"h\"],", "model.merges[0]" },
    { "\"merges\":[", "\"merges\":[[\"h\",1],", "model.merges[0]" },
    { "\"merges\":[", "\"merges\":[{},", "model.merges[0]" },
    { "\"merges\":", "\"merge\":", "merges" },
    { "\"id\":324", "\"id\":323", "added_tokens[1]" },
    { "\"id\":324", "\"id\":3240", "added_tokens" },
    { "\"content\":\"<|im_start|>\"", "\"content\":\"\"", "added_tokens[1]" },
    { "\"content\":\"<|im_start|>\"", "\"content\":5", "added_tokens[1]" },
    { "\"lstrip\":false", "\"lstrip\":true", "lstrip" },
    { "\"added_tokens\":[", "\"added_tokens\":[5,", "added_tokens" },
    { "\"model\":{", "\"model\":null,\"other\":{", "model" },
  };
  g_autofree char *good = golden_text ("ovis-softmax/tokenizer.json");

  for (guint i = 0; i < G_N_ELEMENTS (edits); i++) {
    g_autofree char *bad = replace (good, edits[i].what, edits[i].with);
    g_autoptr (GError) error = NULL;
    ValleyTokenizer *tokenizer = open_text (bad, -1, &error);

    if (tokenizer != NULL)
      g_error ("accepted with %s", edits[i].with);
    g_assert_true (error->domain == VALLEY_ERROR);
    if (strstr (error->message, "tokenizer.json") == NULL
        || strstr (error->message, edits[i].key) == NULL)
      g_error ("%s: error does not name %s: %s", edits[i].with, edits[i].key, error->message);
  }
}

static void
test_no_file (void)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (valley_tokenizer_open ("/nonexistent", VOCABULARY, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND);
  g_clear_error (&error);
  g_assert_null (open_text ("", 0, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_READ);
}

/* Two million open brackets, plain and behind a comment that json-glib would skip. */
static void
test_deep_nesting (void)
{
  static const char *const starts[] = { "", "{\"a\":", "/*\"*/", "{\"a\":]" };

  for (guint i = 0; i < G_N_ELEMENTS (starts); i++) {
    GString *text = g_string_new (starts[i]);
    g_autoptr (GError) error = NULL;

    for (guint n = 0; n < 2000000; n++)
      g_string_append_c (text, '[');
    g_assert_null (open_text (text->str, (gssize) text->len, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_READ);
    g_string_free (text, TRUE);
  }
}

/* Cut or damaged anywhere, a file is refused or gives a tokenizer that works. */
static void
test_damaged (void)
{
  g_autofree char *good = golden_text ("ovis-softmax/tokenizer.json");
  gsize length = strlen (good);
  guint refused = 0;

  for (guint round = 0; round < 600; round++) {
    g_autofree char *bad = g_strdup (good);
    g_autoptr (GError) error = NULL;
    gsize at = (gsize) g_test_rand_int_range (0, (gint32) length - 2);
    gsize cut = round % 2 == 0 ? at : length;
    ValleyTokenizer *tokenizer;

    bad[at] = (char) g_test_rand_int_range (0, 256);
    tokenizer = open_text (bad, (gssize) cut, &error);
    g_assert_true ((tokenizer == NULL) == (error != NULL));
    g_assert_true (round % 2 == 1 || tokenizer == NULL);
    if (tokenizer != NULL)
      g_array_unref (encode (tokenizer, "Describe <|im_end|> the video."));
    else
      refused++;
    valley_tokenizer_free (tokenizer);
  }
  g_assert_cmpuint (refused, >, 300);
}

/* ---- vocab.json, merges.txt and added tokens ---- */

/* A folder with the older layout of golden "ovis-softmax": all but the added tokens. */
static char *
slow_folder (void)
{
  g_autofree char *text = golden_text ("ovis-softmax/tokenizer.json");
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_autoptr (GString) merges = g_string_new ("#version: 0.2\n");
  g_autofree char *vocab = NULL;
  char *dir = scratch_new ();
  JsonObject *model;
  JsonArray *list;

  g_assert_true (json_parser_load_from_data (parser, text, -1, NULL));
  model = json_object_get_object_member (json_node_get_object (json_parser_get_root (parser)),
                                         "model");
  vocab = json_to_string (json_object_get_member (model, "vocab"), FALSE);
  list = json_object_get_array_member (model, "merges");
  for (guint i = 0; i < json_array_get_length (list); i++)
    g_string_append_printf (merges, "%s\r\n", json_array_get_string_element (list, i));
  scratch_write (dir, "vocab.json", vocab, strlen (vocab));
  scratch_write (dir, "merges.txt", merges->str, merges->len);
  return dir;
}

static const char added_tokens_decoder[]
    = "{\"added_tokens_decoder\":{"
      "\"323\":{\"content\":\"<|endoftext|>\",\"special\":true,\"normalized\":false},"
      "\"324\":{\"content\":\"<|im_start|>\",\"special\":true,\"normalized\":false},"
      "\"325\":{\"content\":\"<|im_end|>\",\"special\":false,\"normalized\":true}}}";
static const char added_tokens[]
    = "{\"<|endoftext|>\":323,\"<|im_start|>\":324,\"<|im_end|>\":325}";
static const char special_tokens_map[]
    = "{\"eos_token\":{\"content\":\"<|endoftext|>\"},"
      "\"additional_special_tokens\":[\"<|im_start|>\",{\"lstrip\":false}],\"pad_token\":null}";

static void
write_text (const char *dir, const char *name, const char *text)
{
  scratch_write (dir, name, text, strlen (text));
}

/* The folder's tokenizer gives the golden's ids, and has one added token that is not special. */
static void
check_slow (const char *dir, gboolean end_is_special)
{
  static const char text[]
      = "<|im_start|>user\nDescribe the video, e\xCC\x81t\xC3\xA9 12<|im_end|>";
  g_autoptr (GError) error = NULL;
  ValleyTokenizer *golden = open_golden ("ovis-softmax");
  ValleyTokenizer *slow = valley_tokenizer_open (dir, VOCABULARY, &error);
  g_autoptr (GArray) want = encode (golden, text);
  g_autoptr (GArray) got = NULL;

  g_assert_no_error (error);
  got = encode (slow, text);
  g_assert_cmpmem (got->data, got->len * 4, want->data, want->len * 4);
  g_assert_true (valley_tokenizer_is_special (slow, 323));
  g_assert_true (valley_tokenizer_is_special (slow, 324));
  g_assert_true (valley_tokenizer_is_special (slow, 325) == end_is_special);
  valley_tokenizer_free (slow);
  valley_tokenizer_free (golden);
}

static void
test_slow_files (void)
{
  char *dir = slow_folder ();
  g_autofree char *whole = golden_text ("ovis-softmax/tokenizer.json");

  write_text (dir, "added_tokens.json", added_tokens);
  check_slow (dir, TRUE);
  write_text (dir, "special_tokens_map.json", special_tokens_map);
  check_slow (dir, FALSE);
  /* The config's table goes before added_tokens.json, */
  write_text (dir, "added_tokens.json", "{\"nothing\":-1}");
  write_text (dir, "tokenizer_config.json", added_tokens_decoder);
  check_slow (dir, FALSE);
  /* and tokenizer.json before everything else. */
  write_text (dir, "vocab.json", "{}");
  write_text (dir, "tokenizer.json", whole);
  check_slow (dir, TRUE);
  scratch_remove (dir);
}

/* Each of these in place of a good file is refused, with the file and the place named. */
static void
test_slow_refused (void)
{
  static const struct {
    const char *file, *text, *place;
  } cases[] = {
    { "vocab.json", "[1]", "entry" },
    { "vocab.json", "{\"a\":1,\"a\":2}", "twice" },
    { "vocab.json", "{\"a\":1,\"b\":1}", "shares id 1" },
    { "vocab.json", "{\"a\":340}", "0 to 339" },
    { "vocab.json", "{\"a\":1.5}", "entry 1 (\"a\")" },
    { "vocab.json", "{\"a\":0} {}", "JSON" },
    { "vocab.json", "{\"a\":0,}", "JSON" },
    { "vocab.json", "{\"a\":0", "JSON" },
    { "vocab.json", "{\"a\\ud800\":0}", "JSON" },
    { "vocab.json", "{\"a\xFF\":0}", "UTF-8" },
    { "vocab.json", "{\"a\":0}", "byte 0x" },
    { "merges.txt", "#version: 0.2\nh e\nhe\n", "line 3: expected" },
    { "merges.txt", "h e\n#version: 0.2\n", "line 2: expected" },
    { "merges.txt", "h  e\n", "line 1: expected" },
    { "merges.txt", "h e x", "line 1: expected" },
    { "tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\"}", "tokenizer_class" },
    { "tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{}}}", "added_tokens_decoder.x" },
    { "tokenizer_config.json", "{\"added_tokens_decoder\":{\"324\":{}}}", "decoder.324" },
    { "tokenizer_config.json", "{\"added_tokens_decoder\":{\"340\":{\"content\":\"x\"}}}",
      "0 to 339" },
    { "tokenizer_config.json",
      "{\"added_tokens_decoder\":{\"324\":{\"content\":\"x\",\"lstrip\":true}}}", "lstrip" },
    { "added_tokens.json", "{\"x\":\"y\"}", "x: expected an id" },
    { "added_tokens.json", "{\"x\":340}", "0 to 339" },
    { "added_tokens.json", "{\"x\":324,\"y\":324}", "shares id 324" },
    { "special_tokens_map.json", "{", "JSON" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    char *dir = slow_folder ();
    g_autoptr (GError) error = NULL;

    write_text (dir, "added_tokens.json", added_tokens);
    write_text (dir, cases[i].file, cases[i].text);
    if (valley_tokenizer_open (dir, VOCABULARY, &error) != NULL)
      g_error ("accepted %s in %s", cases[i].text, cases[i].file);
    if (strstr (error->message, cases[i].file) == NULL
        || strstr (error->message, cases[i].place) == NULL)
      g_error ("%s: error does not name %s: %s", cases[i].text, cases[i].place, error->message);
    scratch_remove (dir);
  }
}

/* Any of the files cut or damaged anywhere: refused, or a tokenizer that works. */
static void
test_slow_damaged (void)
{
  static const char *const names[]
      = { "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json" };
  guint refused = 0;

  for (guint round = 0; round < 400; round++) {
    const char *name = names[round % G_N_ELEMENTS (names)];
    char *dir = slow_folder ();
    g_autofree char *path = g_build_filename (dir, name, NULL), *bytes = NULL;
    g_autoptr (GError) error = NULL;
    ValleyTokenizer *tokenizer;
    gsize length, at;

    write_text (dir, "added_tokens.json", added_tokens);
    if (round % 4 == 3)
      write_text (dir, "tokenizer_config.json", added_tokens_decoder);
    g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
    at = (gsize) g_test_rand_int_range (0, (gint32) length);
    bytes[at] = (char) g_test_rand_int_range (0, 256);
    scratch_write (dir, name, bytes, g_test_rand_bit () ? at : length);
    tokenizer = valley_tokenizer_open (dir, VOCABULARY, &error);
    g_assert_true ((tokenizer == NULL) == (error != NULL));
    if (tokenizer != NULL)
      g_array_unref (encode (tokenizer, "Describe <|im_end|> the video."));
    else
      refused++;
    valley_tokenizer_free (tokenizer);
    scratch_remove (dir);
  }
  g_assert_cmpuint (refused, >, 100);
}

/* One of the files is missing: the error names it. */
static void
test_slow_missing (void)
{
  static const char *const names[] = { "merges.txt", "added_tokens.json" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    char *dir = slow_folder ();
    g_autofree char *path = g_build_filename (dir, names[i], NULL);
    g_autoptr (GError) error = NULL;

    if (i == 0)
      g_assert_cmpint (g_unlink (path), ==, 0);
    g_assert_null (valley_tokenizer_open (dir, VOCABULARY, &error));
    g_assert_nonnull (strstr (error->message, names[i]));
    scratch_remove (dir);
  }
}

/* ---- tokenizer.json as others may write it ---- */

/* White space, escapes, members in another order: the same tokenizer. */
static void
test_other_spelling (void)
{
  static const struct {
    const char *what, *with;
  } edits[] = {
    { "\"vocab\":{", "\"vo\\u0063ab\" : \n{ " },
    { "\"merges\":[\"h e\"", "\"merges\"\t:\r\n[ \"h\\u0020e\"" },
    { "\"merges\":[\"h e\"", "\"merges\":[[\"\\u0068\" , \"e\" ]" },
    { "\"h\":", "\"\\u0068\" :\t" },
    { "\"!\":0", " \"!\" : 0 " },
    { "\"model\":{", "\"x\":{\"vocab\":[1,\"]\\\"}\"]},\"model\":{" },
  };
  static const char text[] = "<|im_start|>Describe the video, e\xCC\x81t\xC3\xA9";
  g_autofree char *good = golden_text ("ovis-softmax/tokenizer.json");
  ValleyTokenizer *golden = open_golden ("ovis-softmax");
  g_autoptr (GArray) want = encode (golden, text);

  for (guint i = 0; i < G_N_ELEMENTS (edits); i++) {
    g_autofree char *other = replace (good, edits[i].what, edits[i].with);
    g_autoptr (GError) error = NULL;
    ValleyTokenizer *tokenizer = open_text (other, -1, &error);
    g_autoptr (GArray) got = NULL;

    g_assert_no_error (error);
    got = encode (tokenizer, text);
    g_assert_cmpmem (got->data, got->len * 4, want->data, want->len * 4);
    valley_tokenizer_free (tokenizer);
  }
  valley_tokenizer_free (golden);
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
  ValleyTokenizer *tokenizer = open_golden ("ovis-softmax");

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
  g_test_add_func ("/tokenizer/merge-forms", test_merge_forms);
  g_test_add_func ("/tokenizer/plain", test_plain);
  g_test_add_func ("/tokenizer/long-piece", test_long_piece);
  g_test_add_func ("/tokenizer/random-bytes", test_random_bytes);
  g_test_add_func ("/tokenizer/unicode/nfc", test_nfc);
  g_test_add_func ("/tokenizer/unicode/newer-letters", test_newer_letters);
  g_test_add_func ("/tokenizer/utf8/repair", test_repair);
  g_test_add_func ("/tokenizer/utf8/complete", test_complete);
  g_test_add_func ("/tokenizer/refused", test_refused);
  g_test_add_func ("/tokenizer/no-file", test_no_file);
  g_test_add_func ("/tokenizer/deep-nesting", test_deep_nesting);
  g_test_add_func ("/tokenizer/damaged", test_damaged);
  g_test_add_func ("/tokenizer/slow/files", test_slow_files);
  g_test_add_func ("/tokenizer/slow/refused", test_slow_refused);
  g_test_add_func ("/tokenizer/slow/damaged", test_slow_damaged);
  g_test_add_func ("/tokenizer/slow/missing", test_slow_missing);
  g_test_add_func ("/tokenizer/other-spelling", test_other_spelling);
  g_test_add_func ("/tokenizer/pieces", test_pieces);
  return g_test_run ();
}
