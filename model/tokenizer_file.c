/* tokenizer_file.c - tokenizer.json (Hugging Face's format) into a ValleyTokenizer.
 * Exactly the construction that Qwen2 uses is accepted; anything else is refused by name,
 * because another pre-tokenizer or normaliser would silently give other ids.
 *
 * model.vocab and model.merges are most of the file and are walked in place; json-glib reads
 * the rest, and checks its syntax.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer_build.h"

#include "json.h"
#include "mapfile.h"
#include "pretokenize.h"

#include <string.h>

/* ---- construction --------------------------------------------------------- */

static gboolean
is_byte_level (JsonObject *object)
{
  return object != NULL && g_strcmp0 (valley_json_get_string (object, "type"), "ByteLevel") == 0;
}

static gboolean
read_normalizer (const ValleyTokenizerBuild *build, JsonObject *root)
{
  JsonObject *normalizer = valley_json_get_object (root, "normalizer");

  if (valley_json_get (root, "normalizer") == NULL)
    return TRUE;
  if (normalizer == NULL || g_strcmp0 (valley_json_get_string (normalizer, "type"), "NFC") != 0)
    return valley_build_fail (build, "normalizer", "expected null or {\"type\": \"NFC\"}");
  build->tokenizer->nfc = TRUE;
  return TRUE;
}

static JsonObject *
array_object (JsonArray *array, guint i)
{
  JsonNode *node = array != NULL && i < json_array_get_length (array)
                       ? json_array_get_element (array, i)
                       : NULL;

  return node != NULL && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

static gboolean
check_pre_tokenizer (const ValleyTokenizerBuild *build, JsonObject *root)
{
  JsonObject *sequence = valley_json_get_object (root, "pre_tokenizer");
  JsonArray *steps = sequence != NULL ? valley_json_get_array (sequence, "pretokenizers") : NULL;
  JsonObject *split = array_object (steps, 0), *bytes = array_object (steps, 1);
  JsonObject *pattern = split != NULL ? valley_json_get_object (split, "pattern") : NULL;

  if (split == NULL || !is_byte_level (bytes) || json_array_get_length (steps) != 2
      || g_strcmp0 (valley_json_get_string (sequence, "type"), "Sequence") != 0
      || g_strcmp0 (valley_json_get_string (split, "type"), "Split") != 0 || pattern == NULL
      || g_strcmp0 (valley_json_get_string (split, "behavior"), "Isolated") != 0
      || valley_json_is_true (split, "invert"))
    return valley_build_fail (
        build, "pre_tokenizer",
        "expected a Sequence of Split (behavior Isolated) and ByteLevel, as in Qwen2");
  if (g_strcmp0 (valley_json_get_string (pattern, "Regex"), VALLEY_PRETOKENIZE_REGEX) != 0)
    return valley_build_fail (build, "pre_tokenizer.pretokenizers[0].pattern.Regex",
                              "expected Qwen2's expression %s", VALLEY_PRETOKENIZE_REGEX);
  if (valley_json_is_true (bytes, "add_prefix_space") || valley_json_is_true (bytes, "use_regex"))
    return valley_build_fail (build, "pre_tokenizer.pretokenizers[1]",
                              "expected add_prefix_space and use_regex to be false");
  return TRUE;
}

/* Neither may add or change tokens. */
static gboolean
check_ends (const ValleyTokenizerBuild *build, JsonObject *root)
{
  static const char *const keys[] = { "post_processor", "decoder" };

  for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
    if (valley_json_get (root, keys[i]) != NULL
        && !is_byte_level (valley_json_get_object (root, keys[i])))
      return valley_build_fail (build, keys[i], "expected null or {\"type\": \"ByteLevel\"}");
  return TRUE;
}

static gboolean
check_model (const ValleyTokenizerBuild *build, JsonObject *model)
{
  static const char *const strings[] = { "continuing_subword_prefix", "end_of_word_suffix" };
  static const char *const flags[] = { "byte_fallback", "ignore_merges" };

  if (g_strcmp0 (valley_json_get_string (model, "type"), "BPE") != 0)
    return valley_build_fail (build, "model.type", "expected \"BPE\"");
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++) {
    const char *value = valley_json_get_string (model, strings[i]);

    if (valley_json_get (model, strings[i]) != NULL && (value == NULL || *value != '\0'))
      return valley_build_fail (build, "model", "expected %s to be null or an empty string",
                                strings[i]);
  }
  for (guint i = 0; i < G_N_ELEMENTS (flags); i++)
    if (valley_json_is_true (model, flags[i]))
      return valley_build_fail (build, "model", "expected %s to be false", flags[i]);
  if (valley_json_get (model, "dropout") != NULL)
    return valley_build_fail (build, "model.dropout", "expected null: dropout is for training");
  return TRUE;
}

/* ---- merges and added tokens ---------------------------------------------- */

/* A merge is written "a b" in older files, ["a", "b"] in newer ones.  FALSE when it is neither;
 * what @left and @right hold is no merge then. */
static gboolean
scan_merge (ValleyJsonScan *scan, GString *left, GString *right)
{
  gsize n = 0;
  char *space;

  if (valley_json_scan_peek (scan) == '[') {
    return valley_json_scan_open (scan, '[') && valley_json_scan_more (scan, ']', &n)
           && valley_json_scan_string (scan, left) && valley_json_scan_more (scan, ']', &n)
           && valley_json_scan_string (scan, right) && !valley_json_scan_more (scan, ']', &n)
           && !scan->failed;
  }
  if (!valley_json_scan_string (scan, left) || (space = strchr (left->str, ' ')) == NULL)
    return FALSE;
  g_string_assign (right, space + 1);
  g_string_truncate (left, (gsize) (space - left->str));
  return TRUE;
}

static gboolean
read_merges (ValleyTokenizerBuild *build, ValleyJsonScan scan)
{
  g_autoptr (GString) left = g_string_new (NULL);
  g_autoptr (GString) right = g_string_new (NULL);
  gsize n = 0;

  valley_json_scan_open (&scan, '[');
  while (valley_json_scan_more (&scan, ']', &n)) {
    if (!scan_merge (&scan, left, right)) {
      g_autofree char *key = g_strdup_printf ("model.merges[%" G_GSIZE_FORMAT "]", n - 1);

      return valley_build_fail (build, key, "expected \"a b\" or [\"a\", \"b\"]");
    }
    if (!valley_build_merge (build, "model.merges", (guint) (n - 1), left->str, left->len,
                             right->str, right->len))
      return FALSE;
  }
  if (scan.failed || valley_json_scan_peek (&scan) != '\0')
    return valley_build_fail (build, "model.merges", "expected an array of merges");
  return TRUE;
}

static gboolean
read_added_tokens (ValleyTokenizerBuild *build, JsonObject *root)
{
  JsonArray *added = valley_json_get_array (root, "added_tokens");

  if (added == NULL && valley_json_get (root, "added_tokens") != NULL)
    return valley_build_fail (build, "added_tokens", "expected an array of objects");
  for (guint i = 0; added != NULL && i < json_array_get_length (added); i++) {
    g_autofree char *key = g_strdup_printf ("added_tokens[%u]", i);
    JsonObject *entry = array_object (added, i);
    JsonNode *id = entry != NULL ? valley_json_get (entry, "id") : NULL;

    if (entry == NULL)
      return valley_build_fail (build, key, "expected an object");
    if (id == NULL || !JSON_NODE_HOLDS_VALUE (id) || json_node_get_value_type (id) != G_TYPE_INT64)
      return valley_build_fail (build, key, "expected an id that is a whole number");
    if (!valley_build_added (build, key, valley_json_get_string (entry, "content"),
                             json_node_get_int (id), valley_json_is_true (entry, "special"), entry))
      return FALSE;
  }
  return TRUE;
}

/* ---- the file ------------------------------------------------------------- */

/* The value of member @name of @object, if it begins with @open; its own end is the value's. */
static gboolean
find_member (ValleyJsonScan object, const char *name, char open, ValleyJsonScan *value)
{
  g_autoptr (GString) key = g_string_new (NULL);
  gsize n = 0;

  if (!valley_json_scan_open (&object, '{'))
    return FALSE;
  while (valley_json_scan_more (&object, '}', &n) && valley_json_scan_name (&object, key)
         && valley_json_scan_value (&object, value))
    if (strcmp (key->str, name) == 0)
      return valley_json_scan_peek (value) == open;
  return FALSE;
}

/* Copies the text from @p up to @value, then @empty in the value's place.  Where the value ends. */
static const char *
leave_out (GString *out, const char *p, const ValleyJsonScan *value, const char *empty)
{
  g_string_append_len (out, p, value->p - p);
  g_string_append (out, empty);
  return value->end;
}

/* The file less its vocabulary and merges, as json-glib reads it. */
static JsonObject *
parse_rest (const ValleyTokenizerBuild *build, ValleyJsonScan text, const ValleyJsonScan *vocab,
            const ValleyJsonScan *merges)
{
  g_autoptr (GString) rest = g_string_new (NULL);
  const char *p = text.p;

  if (vocab->p < merges->p) {
    p = leave_out (rest, p, vocab, "{}");
    p = leave_out (rest, p, merges, "[]");
  } else {
    p = leave_out (rest, p, merges, "[]");
    p = leave_out (rest, p, vocab, "{}");
  }
  g_string_append_len (rest, p, text.end - p);
  return valley_json_parse (rest->str, rest->len, build->path, build->error);
}

static gboolean
read_file (ValleyTokenizerBuild *build, ValleyJsonScan text)
{
  g_autoptr (JsonObject) root = NULL;
  ValleyJsonScan model, vocab, merges;

  if (!valley_json_is_valid (text.p, (gsize) (text.end - text.p), build->path, build->error))
    return FALSE;
  if (!find_member (text, "model", '{', &model) || !find_member (model, "vocab", '{', &vocab)
      || !find_member (model, "merges", '[', &merges))
    return valley_build_fail (build, "model", "expected an object with vocab and merges");
  root = parse_rest (build, text, &vocab, &merges);
  return root != NULL && read_normalizer (build, root) && check_pre_tokenizer (build, root)
         && check_ends (build, root) && check_model (build, valley_json_get_object (root, "model"))
         && valley_build_vocabulary (build, vocab, "model.vocab") && read_merges (build, merges)
         && read_added_tokens (build, root);
}

ValleyTokenizer *
valley_tokenizer_parse (const char *json, gsize length, const char *path, gsize vocab_size,
                        GError **error)
{
  ValleyTokenizerBuild build;

  valley_build_init (&build, vocab_size, error);
  build.path = path;
  return valley_build_finish (&build,
                              read_file (&build, (ValleyJsonScan){ json, json + length, FALSE }));
}

ValleyTokenizer *
valley_tokenizer_open (const char *dir, gsize vocab_size, GError **error)
{
  g_autofree char *path = g_build_filename (dir, "tokenizer.json", NULL);
  g_autofree char *slow = g_build_filename (dir, "vocab.json", NULL);
  g_autoptr (GMappedFile) file = NULL;

  if (!g_file_test (path, G_FILE_TEST_EXISTS) && g_file_test (slow, G_FILE_TEST_EXISTS)) {
    ValleyTokenizerBuild build;

    valley_build_init (&build, vocab_size, error);
    return valley_build_finish (&build, valley_build_from_slow_files (&build, dir));
  }
  file = valley_map_file (path, VALLEY_TOKENIZER_MAX_BYTES, error);
  if (file == NULL)
    return NULL;
  return valley_tokenizer_parse (g_mapped_file_get_contents (file), g_mapped_file_get_length (file),
                                 path, vocab_size, error);
}
