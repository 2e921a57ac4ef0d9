/* tokenizer_file.c - tokenizer.json (Hugging Face's format) into a ValleyTokenizer.
 * Exactly the construction that Qwen2 uses is accepted; anything else is refused by name,
 * because another pre-tokenizer or normaliser would silently give other ids.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer_private.h"

#include "json.h"
#include "pretokenize.h"

#include <string.h>

#define MAX_FILE_BYTES ((gsize)64 << 20)
#define MAX_ADDED_TOKENS 4096 /* each is tried at every place in the text where it may begin */

typedef struct {
  const char *path;
  gsize vocab_size;
  ValleyTokenizer *tokenizer;
  JsonObject *vocab;
  gint16 byte_of[324]; /* character of the byte-level alphabet -> byte, -1: not in it */
  GError **error;
} Reader;

static gboolean G_GNUC_PRINTF (3, 4)
    fail (const Reader *reader, const char *key, const char *format, ...)
{
  g_autofree char *reason = NULL;
  va_list args;

  va_start (args, format);
  reason = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (reader->error, VALLEY_ERROR, VALLEY_ERROR_CONFIG, "%s: %s: %s", reader->path, key,
               reason);
  return FALSE;
}

/* GPT-2's byte-level alphabet: printable Latin-1 stands for itself, the other bytes follow
 * from U+0100 on. */
static void
init_alphabet (Reader *reader)
{
  gint16 next = 256;

  memset (reader->byte_of, -1, sizeof reader->byte_of);
  for (gint16 byte = 0; byte < 256; byte++) {
    gboolean printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;

    reader->byte_of[printable ? byte : next++] = byte;
  }
}

/* ---- members -------------------------------------------------------------- */

/* NULL when the member is absent or null. */
static JsonNode *
get (JsonObject *object, const char *name)
{
  JsonNode *node = json_object_get_member (object, name);

  return node != NULL && !JSON_NODE_HOLDS_NULL (node) ? node : NULL;
}

static const char *
get_string (JsonObject *object, const char *name)
{
  JsonNode *node = get (object, name);

  return node != NULL && JSON_NODE_HOLDS_VALUE (node)
                 && json_node_get_value_type (node) == G_TYPE_STRING
             ? json_node_get_string (node)
             : NULL;
}

static JsonObject *
get_object (JsonObject *object, const char *name)
{
  JsonNode *node = get (object, name);

  return node != NULL && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

static JsonArray *
get_array (JsonObject *object, const char *name)
{
  JsonNode *node = get (object, name);

  return node != NULL && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
}

static gboolean
is_true (JsonObject *object, const char *name)
{
  JsonNode *node = get (object, name);

  return node != NULL && JSON_NODE_HOLDS_VALUE (node)
         && json_node_get_value_type (node) == G_TYPE_BOOLEAN && json_node_get_boolean (node);
}

static gboolean
get_id (const Reader *reader, JsonNode *node, const char *key, gint32 *id)
{
  gint64 value = -1;

  if (node != NULL && JSON_NODE_HOLDS_VALUE (node)
      && json_node_get_value_type (node) == G_TYPE_INT64)
    value = json_node_get_int (node);
  if (value < 0 || (guint64)value >= reader->vocab_size || value > G_MAXINT32)
    return fail (reader, key,
                 "expected an id from 0 to %" G_GSIZE_FORMAT " (vocab_size - 1)"
                 ", found %" G_GINT64_FORMAT,
                 reader->vocab_size - 1, value);
  *id = (gint32)value;
  return TRUE;
}

static gboolean
is_byte_level (JsonObject *object)
{
  return object != NULL && g_strcmp0 (get_string (object, "type"), "ByteLevel") == 0;
}

/* ---- construction --------------------------------------------------------- */

static gboolean
read_normalizer (Reader *reader, JsonObject *root)
{
  JsonObject *normalizer = get_object (root, "normalizer");

  if (get (root, "normalizer") == NULL)
    return TRUE;
  if (normalizer == NULL || g_strcmp0 (get_string (normalizer, "type"), "NFC") != 0)
    return fail (reader, "normalizer", "expected null or {\"type\": \"NFC\"}");
  reader->tokenizer->nfc = TRUE;
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
check_pre_tokenizer (Reader *reader, JsonObject *root)
{
  JsonObject *sequence = get_object (root, "pre_tokenizer");
  JsonArray *steps = sequence != NULL ? get_array (sequence, "pretokenizers") : NULL;
  JsonObject *split = array_object (steps, 0), *bytes = array_object (steps, 1);
  JsonObject *pattern = split != NULL ? get_object (split, "pattern") : NULL;

  if (split == NULL || !is_byte_level (bytes) || json_array_get_length (steps) != 2
      || g_strcmp0 (get_string (sequence, "type"), "Sequence") != 0
      || g_strcmp0 (get_string (split, "type"), "Split") != 0 || pattern == NULL
      || g_strcmp0 (get_string (split, "behavior"), "Isolated") != 0 || is_true (split, "invert"))
    return fail (reader, "pre_tokenizer",
                 "expected a Sequence of Split (behavior Isolated) and ByteLevel, as in Qwen2");
  if (g_strcmp0 (get_string (pattern, "Regex"), VALLEY_PRETOKENIZE_REGEX) != 0)
    return fail (reader, "pre_tokenizer.pretokenizers[0].pattern.Regex",
                 "expected Qwen2's expression %s", VALLEY_PRETOKENIZE_REGEX);
  if (is_true (bytes, "add_prefix_space") || is_true (bytes, "use_regex"))
    return fail (reader, "pre_tokenizer.pretokenizers[1]",
                 "expected add_prefix_space and use_regex to be false");
  return TRUE;
}

/* Neither may add or change tokens. */
static gboolean
check_ends (Reader *reader, JsonObject *root)
{
  static const char *const keys[] = { "post_processor", "decoder" };

  for (guint i = 0; i < G_N_ELEMENTS (keys); i++)
    if (get (root, keys[i]) != NULL && !is_byte_level (get_object (root, keys[i])))
      return fail (reader, keys[i], "expected null or {\"type\": \"ByteLevel\"}");
  return TRUE;
}

static gboolean
check_model (Reader *reader, JsonObject *model)
{
  static const char *const strings[] = { "continuing_subword_prefix", "end_of_word_suffix" };
  static const char *const flags[] = { "byte_fallback", "ignore_merges" };

  if (g_strcmp0 (get_string (model, "type"), "BPE") != 0)
    return fail (reader, "model.type", "expected \"BPE\"");
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++) {
    const char *value = get_string (model, strings[i]);

    if (get (model, strings[i]) != NULL && (value == NULL || *value != '\0'))
      return fail (reader, "model", "expected %s to be null or an empty string", strings[i]);
  }
  for (guint i = 0; i < G_N_ELEMENTS (flags); i++)
    if (is_true (model, flags[i]))
      return fail (reader, "model", "expected %s to be false", flags[i]);
  if (get (model, "dropout") != NULL)
    return fail (reader, "model.dropout", "expected null: dropout is for training");
  return TRUE;
}

/* ---- vocabulary ----------------------------------------------------------- */

/* Appends the bytes that @text stands for in the byte-level alphabet; FALSE (and nothing
 * appended) when a character is not in it. */
static gboolean
append_bytes (const Reader *reader, const char *text, GString *out)
{
  gsize before = out->len;

  for (const char *p = text; *p != '\0'; p = g_utf8_next_char (p)) {
    gunichar c = g_utf8_get_char (p);

    if (c >= G_N_ELEMENTS (reader->byte_of) || reader->byte_of[c] < 0) {
      g_string_truncate (out, before);
      return FALSE;
    }
    g_string_append_c (out, (char)reader->byte_of[c]);
  }
  return TRUE;
}

/* Vocabulary entries are written in the byte-level alphabet, added tokens as they are. */
static void
set_token (Reader *reader, gint32 id, const char *text, gboolean added)
{
  ValleyTokenizer *tokenizer = reader->tokenizer;
  ValleyToken *token = &tokenizer->tokens[id];

  token->offset = tokenizer->bytes->len;
  if (added || !append_bytes (reader, text, tokenizer->bytes))
    g_string_append (tokenizer->bytes, text);
  token->length = (guint32)(tokenizer->bytes->len - token->offset);
  token->known = TRUE;
  token->added = added;
}

/* Tokens by id: as many as the largest id asks for. */
static gboolean
allocate_tokens (Reader *reader, JsonArray *added)
{
  ValleyTokenizer *tokenizer = reader->tokenizer;
  JsonObjectIter iter;
  const char *text;
  JsonNode *node;
  gint32 id, largest = -1;

  json_object_iter_init (&iter, reader->vocab);
  while (json_object_iter_next (&iter, &text, &node)) {
    if (!get_id (reader, node, "model.vocab", &id))
      return FALSE;
    largest = MAX (largest, id);
  }
  for (guint i = 0; added != NULL && i < json_array_get_length (added); i++) {
    JsonObject *entry = array_object (added, i);

    if (entry == NULL)
      return fail (reader, "added_tokens", "expected an array of objects");
    if (!get_id (reader, get (entry, "id"), "added_tokens", &id))
      return FALSE;
    largest = MAX (largest, id);
  }
  tokenizer->n_tokens = (gsize)largest + 1;
  tokenizer->tokens = g_try_new0 (ValleyToken, tokenizer->n_tokens + 1);
  if (tokenizer->tokens == NULL) {
    g_set_error (reader->error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "%s: not enough memory for %" G_GSIZE_FORMAT " tokens", reader->path,
                 tokenizer->n_tokens);
    return FALSE;
  }
  return TRUE;
}

static gboolean
read_vocabulary (Reader *reader)
{
  JsonObjectIter iter;
  const char *text;
  JsonNode *node;

  json_object_iter_init (&iter, reader->vocab);
  while (json_object_iter_next (&iter, &text, &node)) {
    gint32 id = (gint32)json_node_get_int (node);

    if (reader->tokenizer->tokens[id].known)
      return fail (reader, "model.vocab", "expected each id once, but \"%s\" shares id %d", text,
                   id);
    set_token (reader, id, text, FALSE);
  }
  return TRUE;
}

static gboolean
read_added_token (Reader *reader, JsonObject *entry, guint i)
{
  g_autofree char *key = g_strdup_printf ("added_tokens[%u]", i);
  ValleyTokenizer *tokenizer = reader->tokenizer;
  const char *text = get_string (entry, "content");
  gint32 id = (gint32)json_object_get_int_member (entry, "id");

  if (text == NULL || *text == '\0')
    return fail (reader, key, "expected a content that is a non-empty string");
  if (is_true (entry, "single_word") || is_true (entry, "lstrip") || is_true (entry, "rstrip"))
    return fail (reader, key, "expected single_word, lstrip and rstrip of %s to be false", text);
  if (tokenizer->tokens[id].added)
    return fail (reader, key, "expected each id once, but %s shares id %d", text, id);
  set_token (reader, id, text, TRUE);
  tokenizer->tokens[id].special = is_true (entry, "special");
  if (is_true (entry, "normalized") && tokenizer->nfc) {
    g_autofree char *normal = g_utf8_normalize (text, -1, G_NORMALIZE_NFC);

    valley_added_add (&tokenizer->added_normalized, normal, id);
  } else {
    valley_added_add (&tokenizer->added, text, id);
  }
  return TRUE;
}

static gboolean
read_added_tokens (Reader *reader, JsonArray *added)
{
  guint n = added != NULL ? json_array_get_length (added) : 0;

  if (n > MAX_ADDED_TOKENS)
    return fail (reader, "added_tokens", "expected at most %d, found %u", MAX_ADDED_TOKENS, n);
  for (guint i = 0; i < n; i++)
    if (!read_added_token (reader, array_object (added, i), i))
      return FALSE;
  valley_added_sort (&reader->tokenizer->added);
  valley_added_sort (&reader->tokenizer->added_normalized);
  return TRUE;
}

/* ---- merges --------------------------------------------------------------- */

/* A merge is written "a b" in older files, ["a", "b"] in newer ones; both halves end in
 * @left and @right. */
static gboolean
split_merge (JsonNode *node, GString *left, GString *right)
{
  const char *a = NULL, *b = NULL;

  if (JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING) {
    a = json_node_get_string (node);
    b = strchr (a, ' ');
    if (b == NULL)
      return FALSE;
    g_string_append_len (g_string_truncate (left, 0), a, b - a);
    g_string_assign (right, b + 1);
    return TRUE;
  }
  if (JSON_NODE_HOLDS_ARRAY (node) && json_array_get_length (json_node_get_array (node)) == 2) {
    JsonNode *first = json_array_get_element (json_node_get_array (node), 0);
    JsonNode *second = json_array_get_element (json_node_get_array (node), 1);

    if (JSON_NODE_HOLDS_VALUE (first) && JSON_NODE_HOLDS_VALUE (second)) {
      a = json_node_get_string (first);
      b = json_node_get_string (second);
    }
  }
  if (a == NULL || b == NULL)
    return FALSE;
  g_string_assign (left, a);
  g_string_assign (right, b);
  return TRUE;
}

static gint32
vocabulary_id (const Reader *reader, const char *text)
{
  JsonNode *node = json_object_get_member (reader->vocab, text);

  return node != NULL ? (gint32)json_node_get_int (node) : -1;
}

static gboolean
read_merges (Reader *reader, JsonArray *merges)
{
  g_autoptr (GString) left = g_string_new (NULL);
  g_autoptr (GString) right = g_string_new (NULL);

  for (guint i = 0; i < json_array_get_length (merges); i++) {
    g_autofree char *key = NULL;
    gint32 a = -1, b = -1, both = -1;

    if (split_merge (json_array_get_element (merges, i), left, right)) {
      a = vocabulary_id (reader, left->str);
      b = vocabulary_id (reader, right->str);
      g_string_append_len (left, right->str, (gssize)right->len);
      both = vocabulary_id (reader, left->str);
    }
    if (a >= 0 && b >= 0 && both >= 0) {
      valley_bpe_add_merge (reader->tokenizer->bpe, a, b, both);
      continue;
    }
    key = g_strdup_printf ("model.merges[%u]", i);
    return fail (reader, key, "expected two tokens of model.vocab that join to a third");
  }
  return TRUE;
}

/* Every byte has a token of its own, so that any text can be encoded. */
static gboolean
find_byte_tokens (const Reader *reader, gint32 byte_ids[256])
{
  for (gunichar c = 0; c < G_N_ELEMENTS (reader->byte_of); c++) {
    char text[7] = { 0 };

    if (reader->byte_of[c] < 0)
      continue;
    g_unichar_to_utf8 (c, text);
    byte_ids[reader->byte_of[c]] = vocabulary_id (reader, text);
    if (byte_ids[reader->byte_of[c]] < 0)
      return fail (reader, "model.vocab", "expected a token \"%s\" for the byte 0x%02x", text,
                   (guint)reader->byte_of[c]);
  }
  return TRUE;
}

static gboolean
read_model (Reader *reader, JsonObject *root)
{
  JsonObject *model = get_object (root, "model");
  JsonArray *merges = model != NULL ? get_array (model, "merges") : NULL;
  JsonArray *added = get_array (root, "added_tokens");
  gint32 byte_ids[256];

  reader->vocab = model != NULL ? get_object (model, "vocab") : NULL;
  if (reader->vocab == NULL || merges == NULL)
    return fail (reader, "model", "expected an object with vocab and merges");
  if (!check_model (reader, model) || !allocate_tokens (reader, added) || !read_vocabulary (reader)
      || !find_byte_tokens (reader, byte_ids))
    return FALSE;
  reader->tokenizer->bpe = valley_bpe_new (byte_ids, json_array_get_length (merges));
  if (reader->tokenizer->bpe == NULL) {
    g_set_error (reader->error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "%s: not enough memory for %u merges", reader->path,
                 json_array_get_length (merges));
    return FALSE;
  }
  return read_merges (reader, merges) && read_added_tokens (reader, added);
}

ValleyTokenizer *
valley_tokenizer_open (const char *dir, gsize vocab_size, GError **error)
{
  g_autofree char *path = g_build_filename (dir, "tokenizer.json", NULL);
  g_autoptr (JsonObject) root = valley_json_read (path, MAX_FILE_BYTES, error);
  Reader reader = { .path = path, .vocab_size = vocab_size, .error = error };

  if (root == NULL)
    return NULL;
  reader.tokenizer = g_new0 (ValleyTokenizer, 1);
  reader.tokenizer->bytes = g_string_new (NULL);
  valley_added_init (&reader.tokenizer->added);
  valley_added_init (&reader.tokenizer->added_normalized);
  init_alphabet (&reader);
  if (read_normalizer (&reader, root) && check_pre_tokenizer (&reader, root)
      && check_ends (&reader, root) && read_model (&reader, root))
    return reader.tokenizer;
  valley_tokenizer_free (reader.tokenizer);
  return NULL;
}
