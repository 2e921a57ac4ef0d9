/* test-tokenizer-files.c - the files that a tokenizer is read from: both layouts, as others write
 * them, and as nobody should.
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "scratch.h"
#include "tokenizer-fixture.h"

#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <string.h>

/* Opens a tokenizer.json that holds @text. */
static ValleyTokenizer *
open_text (const char *text, gssize length, GError **error)
{
  g_autofree char *dir = g_dir_make_tmp ("valley-tokenizer-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "tokenizer.json", NULL);
  ValleyTokenizer *tokenizer;

  g_assert_true (
      g_file_set_contents_full (path, text, length, G_FILE_SET_CONTENTS_NONE, 0644, NULL));
  tokenizer = valley_tokenizer_open (dir, VOCABULARY, error);
  g_unlink (path);
  g_rmdir (dir);
  return tokenizer;
}

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

/* "a b" and ["a", "b"] are the same merge. */
static void
test_merge_forms (void)
{
  static const char text[] = "Describe the video, it's 12:34\n\n  e\xCC\x81t\xC3\xA9 \xE4\xBD\xA0";
  ValleyTokenizer *strings = tokenizer_open_golden ("ovis-softmax"),
                  *pairs = tokenizer_open_golden ("ovis-argmax");
  g_autofree char *first = tokenizer_golden_text ("ovis-softmax/tokenizer.json");
  g_autofree char *second = tokenizer_golden_text ("ovis-argmax/tokenizer.json");
  g_autoptr (GArray) a = tokenizer_encode (strings, text);
  g_autoptr (GArray) b = tokenizer_encode (pairs, text);

  g_assert_nonnull (strstr (first, "\"merges\":[\"h e\""));
  g_assert_nonnull (strstr (second, "\"merges\":[[\"h\",\"e\"]"));
  g_assert_cmpmem (a->data, a->len * 4, b->data, b->len * 4);
  valley_tokenizer_free (strings);
  valley_tokenizer_free (pairs);
}

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
  g_autofree char *good = tokenizer_golden_text ("ovis-softmax/tokenizer.json");
  ValleyTokenizer *golden = tokenizer_open_golden ("ovis-softmax");
  g_autoptr (GArray) want = tokenizer_encode (golden, text);

  for (guint i = 0; i < G_N_ELEMENTS (edits); i++) {
    g_autofree char *other = replace (good, edits[i].what, edits[i].with);
    g_autoptr (GError) error = NULL;
    ValleyTokenizer *tokenizer = open_text (other, -1, &error);
    g_autoptr (GArray) got = NULL;

    g_assert_no_error (error);
    got = tokenizer_encode (tokenizer, text);
    g_assert_cmpmem (got->data, got->len * 4, want->data, want->len * 4);
    valley_tokenizer_free (tokenizer);
  }
  valley_tokenizer_free (golden);
}

/* Added tokens that ask for normalised text come second, be there a normaliser or not: what
 * overlaps goes to the others.  (As Hugging Face's tokenizers 0.21 does.) */
static void
test_added_order (void)
{
  static const char *const normalizers[] = { "{\"type\":\"NFC\"}", "null" };
  g_autofree char *good = tokenizer_golden_text ("ovis-softmax/tokenizer.json");
  g_autofree char *first = replace (good, "<|im_start|>", "bc");
  g_autofree char *both = replace (first,
                                   "\"content\":\"<|im_end|>\",\"single_word\":false,"
                                   "\"lstrip\":false,\"rstrip\":false,\"normalized\":false",
                                   "\"content\":\"ab\",\"normalized\":true");

  for (guint i = 0; i < G_N_ELEMENTS (normalizers); i++) {
    g_autofree char *text = replace (both, "{\"type\":\"NFC\"}", normalizers[i]);
    g_autoptr (GError) error = NULL;
    ValleyTokenizer *tokenizer = open_text (text, -1, &error);
    const gint32 want[] = { valley_tokenizer_lookup (tokenizer, "a"), 324, 325 };
    g_autoptr (GArray) ids = NULL;

    g_assert_no_error (error);
    ids = tokenizer_encode (tokenizer, "abcab");
    g_assert_cmpmem (ids->data, ids->len * 4, want, sizeof want);
    valley_tokenizer_free (tokenizer);
  }
}

/* An added token may stand in the vocabulary too, under the same id. */
static void
test_added_in_vocabulary (void)
{
  g_autofree char *good = tokenizer_golden_text ("ovis-softmax/tokenizer.json");
  g_autofree char *text = replace (good, "\"vocab\":{", "\"vocab\":{\"<|im_start|>\":324,");
  g_autoptr (GError) error = NULL;
  ValleyTokenizer *tokenizer = open_text (text, -1, &error);

  g_assert_no_error (error);
  g_assert_cmpint (valley_tokenizer_lookup (tokenizer, "<|im_start|>"), ==, 324);
  valley_tokenizer_free (tokenizer);
}

/* The members of "model" may come in any order. */
static void
test_merges_first (void)
{
  static const char text[] = "<|im_start|>Describe the video<|im_end|>";
  g_autofree char *good = tokenizer_golden_text ("ovis-softmax/tokenizer.json");
  char *vocab = strstr (good, "\"vocab\":{"), *merges = strstr (good, "\"merges\":[");
  g_autoptr (GString) swapped = g_string_new_len (good, vocab - good);
  ValleyTokenizer *golden = tokenizer_open_golden ("ovis-softmax"), *tokenizer;
  g_autoptr (GArray) want = tokenizer_encode (golden, text);
  g_autoptr (GArray) got = NULL;
  g_autoptr (GError) error = NULL;
  gsize n_vocab = (gsize) (merges - vocab); /* with the comma behind it */
  const char *end = g_strrstr (good, "}}");

  g_assert_cmpint (merges[-1], ==, ',');
  g_assert_nonnull (end);
  g_string_append_len (swapped, merges, end - merges);
  g_string_append_c (swapped, ',');
  g_string_append_len (swapped, vocab, (gssize) n_vocab - 1);
  g_string_append (swapped, end);
  tokenizer = open_text (swapped->str, -1, &error);
  g_assert_no_error (error);
  got = tokenizer_encode (tokenizer, text);
  g_assert_cmpmem (got->data, got->len * 4, want->data, want->len * 4);
  valley_tokenizer_free (tokenizer);
  valley_tokenizer_free (golden);
}

/* ---- bad files ---- */

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
    { "\"id\":324", "\"id\":5", "added_tokens[1]" }, /* the vocabulary's */
    { "\"content\":\"<|im_start|>\"", "\"content\":\"h\"", "added_tokens[1]" },
    { "\"content\":\"<|im_start|>\"", "\"content\":\"<|endoftext|>\"", "added_tokens[1]" },
    { "\"content\":\"<|im_start|>\"", "\"content\":\"\"", "added_tokens[1]" },
    { "\"content\":\"<|im_start|>\"", "\"content\":5", "added_tokens[1]" },
    { "\"lstrip\":false", "\"lstrip\":true", "lstrip" },
    { "\"added_tokens\":[", "\"added_tokens\":[5,", "added_tokens" },
    { "\"model\":{", "\"model\":null,\"other\":{", "model" },
  };
  g_autofree char *good = tokenizer_golden_text ("ovis-softmax/tokenizer.json");

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

/* Every added token is tried everywhere in a text: a file cannot make that as slow as it likes. */
static void
test_many_added (void)
{
  g_autofree char *good = tokenizer_golden_text ("ovis-softmax/tokenizer.json");
  const guint n_golden = 17, most = 4096;

  for (guint n = most; n <= most + 1; n++) {
    g_autoptr (GString) entries = g_string_new ("\"added_tokens\":[");
    g_autofree char *text = NULL;
    g_autoptr (GError) error = NULL;
    ValleyTokenizer *tokenizer;

    for (guint i = 0; i < n - n_golden; i++)
      g_string_append_printf (entries, "{\"id\":%u,\"content\":\"<t%u>\"},", VOCABULARY + i, i);
    text = replace (good, "\"added_tokens\":[", entries->str);
    tokenizer = valley_tokenizer_parse (text, strlen (text), "many.json", 2 * most, &error);
    g_assert_true ((tokenizer != NULL) == (n == most));
    if (tokenizer == NULL)
      g_assert_nonnull (strstr (error->message, "at most 4096 added tokens"));
    valley_tokenizer_free (tokenizer);
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
  g_autofree char *good = tokenizer_golden_text ("ovis-softmax/tokenizer.json");
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
      g_array_unref (tokenizer_encode (tokenizer, "Describe <|im_end|> the video."));
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
  g_autofree char *text = tokenizer_golden_text ("ovis-softmax/tokenizer.json");
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
  ValleyTokenizer *golden = tokenizer_open_golden ("ovis-softmax");
  ValleyTokenizer *slow = valley_tokenizer_open (dir, VOCABULARY, &error);
  g_autoptr (GArray) want = tokenizer_encode (golden, text);
  g_autoptr (GArray) got = NULL;

  g_assert_no_error (error);
  got = tokenizer_encode (slow, text);
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
  g_autofree char *whole = tokenizer_golden_text ("ovis-softmax/tokenizer.json");

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

/* added_tokens.json says no flags: what is not special is looked for in normalised text, in
 * which it is normalised itself; what is special in the text as it stands. */
static void
test_slow_normalized (void)
{
  static const char composed[] = "<\u00E9>", decomposed[] = "<e\u0301>";
  char *dir = slow_folder ();
  g_autoptr (GError) error = NULL;
  ValleyTokenizer *tokenizer;

  write_text (dir, "special_tokens_map.json", "{\"eos_token\":\"<a\u0308>\"}");
  write_text (dir, "added_tokens.json", "{\"<e\u0301>\":323,\"<a\u0308>\":324}");
  tokenizer = valley_tokenizer_open (dir, VOCABULARY, &error);
  g_assert_no_error (error);
  for (guint i = 0; i < 2; i++) {
    g_autoptr (GArray) ids = tokenizer_encode (tokenizer, i == 0 ? composed : decomposed);

    g_assert_cmpuint (ids->len, ==, 1);
    g_assert_cmpint (g_array_index (ids, gint32, 0), ==, 323);
  }
  for (guint i = 0; i < 2; i++) {
    g_autoptr (GArray) ids = tokenizer_encode (tokenizer, i == 0 ? "<a\u0308>" : "<\u00E4>");

    g_assert_true ((g_array_index (ids, gint32, 0) == 324) == (i == 0));
  }
  valley_tokenizer_free (tokenizer);
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
    { "merges.txt", "", "expected 1 to" },
    { "tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\"}", "tokenizer_class" },
    { "tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{}}}", "added_tokens_decoder.x" },
    { "tokenizer_config.json", "{\"added_tokens_decoder\":{\"324\":{}}}", "decoder.324" },
    { "tokenizer_config.json", "{\"added_tokens_decoder\":{\"340\":{\"content\":\"x\"}}}",
      "0 to 339" },
    { "tokenizer_config.json",
      "{\"added_tokens_decoder\":{\"324\":{\"content\":\"x\",\"lstrip\":true}}}", "lstrip" },
    { "added_tokens.json", "{\"x\":\"y\"}", "x: expected an id" },
    { "added_tokens.json", "{\"x\":340}", "0 to 339" },
    { "added_tokens.json", "{\"x\":324}", "expected id 87" },
    { "added_tokens.json", "{\"<x>\":324,\"<y>\":324}", "shares id 324" },
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
      g_array_unref (tokenizer_encode (tokenizer, "Describe <|im_end|> the video."));
    else
      refused++;
    valley_tokenizer_free (tokenizer);
    scratch_remove (dir);
  }
  g_assert_cmpuint (refused, >, 100);
}

/* Whichever allocation fails, it is said; the next attempt has all it needs.  (Of the newer layout
 * test-allocation.c does the same, with the rest of a model.) */
static void
test_slow_no_memory (void)
{
  char *dir = slow_folder ();
  guint n = 0;

  write_text (dir, "tokenizer_config.json", added_tokens_decoder);
  for (gboolean failed = TRUE; failed; n++) {
    g_autoptr (GError) error = NULL;
    ValleyTokenizer *tokenizer;

    valley_alloc_fail_at (n + 1);
    tokenizer = valley_tokenizer_open (dir, VOCABULARY, &error);
    failed = valley_alloc_has_failed ();
    g_assert_true ((tokenizer == NULL) == failed);
    if (failed)
      g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
    valley_tokenizer_free (tokenizer);
  }
  valley_alloc_fail_at (0);
  g_assert_cmpuint (n, >, 5);
  check_slow (dir, FALSE);
  scratch_remove (dir);
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

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/tokenizer/merge-forms", test_merge_forms);
  g_test_add_func ("/tokenizer/merges-first", test_merges_first);
  g_test_add_func ("/tokenizer/added-order", test_added_order);
  g_test_add_func ("/tokenizer/added-in-vocabulary", test_added_in_vocabulary);
  g_test_add_func ("/tokenizer/refused", test_refused);
  g_test_add_func ("/tokenizer/many-added", test_many_added);
  g_test_add_func ("/tokenizer/no-file", test_no_file);
  g_test_add_func ("/tokenizer/deep-nesting", test_deep_nesting);
  g_test_add_func ("/tokenizer/damaged", test_damaged);
  g_test_add_func ("/tokenizer/slow/files", test_slow_files);
  g_test_add_func ("/tokenizer/slow/normalized", test_slow_normalized);
  g_test_add_func ("/tokenizer/slow/refused", test_slow_refused);
  g_test_add_func ("/tokenizer/slow/damaged", test_slow_damaged);
  g_test_add_func ("/tokenizer/slow/no-memory", test_slow_no_memory);
  g_test_add_func ("/tokenizer/slow/missing", test_slow_missing);
  g_test_add_func ("/tokenizer/other-spelling", test_other_spelling);
  return g_test_run ();
}
