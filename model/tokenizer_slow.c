/* tokenizer_slow.c - the layout of transformers' "slow" Qwen2 tokenizer: vocab.json, merges.txt,
 * and the added tokens in tokenizer_config.json (added_tokens_decoder) or, in older folders, in
 * added_tokens.json.  NFC and the pre-tokenizer are not written down there: they are Qwen2's.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer_build.h"

#include "mapfile.h"
#include "utf8.h"

#include <string.h>

#define MAX_SMALL_BYTES ((gsize) 4 << 20) /* the files that json-glib reads */
#define MAX_ID_DIGITS 9

typedef struct {
  ValleyTokenizerBuild *build;
  const char *dir;
  char *path; /* what build->path points to */
} Folder;

/* From here on errors name this file. */
static const char *
enter (Folder *folder, const char *name)
{
  g_free (folder->path);
  folder->path = g_build_filename (folder->dir, name, NULL);
  folder->build->path = folder->path;
  return folder->path;
}

static gboolean
exists (const Folder *folder, const char *name)
{
  g_autofree char *path = g_build_filename (folder->dir, name, NULL);

  return g_file_test (path, G_FILE_TEST_EXISTS);
}

/* *object stays NULL when there is no such file; FALSE when there is one that cannot be read. */
static gboolean
read_optional (Folder *folder, const char *name, JsonObject **object)
{
  const char *path = enter (folder, name);

  if (!exists (folder, name))
    return TRUE;
  *object = valley_json_read (path, MAX_SMALL_BYTES, folder->build->error);
  return *object != NULL;
}

/* ---- vocabulary and merges ------------------------------------------------ */

static gboolean
read_vocabulary (Folder *folder)
{
  const char *path = enter (folder, "vocab.json"), *text;
  g_autoptr (GMappedFile) file
      = valley_map_file (path, VALLEY_TOKENIZER_MAX_BYTES, folder->build->error);
  gsize length;

  if (file == NULL)
    return FALSE;
  text = g_mapped_file_get_contents (file);
  length = g_mapped_file_get_length (file);
  return valley_json_is_valid (text, length, path, folder->build->error)
         && valley_build_vocabulary (folder->build, (ValleyJsonScan){ text, text + length, FALSE },
                                     NULL);
}

/* "a b"; a first line that begins with "#version" and empty lines are no merges. */
static gboolean
read_merge (ValleyTokenizerBuild *build, const char *line, const char *end, guint number)
{
  const char *space;

  if (end > line && end[-1] == '\r')
    end--;
  if (line == end || (number == 1 && end - line >= 8 && memcmp (line, "#version", 8) == 0))
    return TRUE;
  space = memchr (line, ' ', (gsize) (end - line));
  if (space == NULL) {
    g_autofree char *key = g_strdup_printf ("line %u", number);

    return valley_build_fail (build, key, "expected two tokens with a space between them");
  }
  return valley_build_merge (build, NULL, number, line, (gsize) (space - line), space + 1,
                             (gsize) (end - space - 1));
}

static gboolean
read_merges (Folder *folder)
{
  const char *path = enter (folder, "merges.txt");
  g_autoptr (GMappedFile) file
      = valley_map_file (path, VALLEY_TOKENIZER_MAX_BYTES, folder->build->error);
  const char *p, *end;

  if (file == NULL)
    return FALSE;
  p = g_mapped_file_get_contents (file);
  end = p + g_mapped_file_get_length (file);
  for (guint number = 1; p < end; number++) {
    const char *line_end = memchr (p, '\n', (gsize) (end - p));

    if (line_end == NULL)
      line_end = end;
    if (!read_merge (folder->build, p, line_end, number))
      return FALSE;
    p = line_end + (line_end < end);
  }
  return TRUE;
}

/* ---- added tokens --------------------------------------------------------- */

/* A decimal number without sign or leading space; -1 for anything else. */
static gint64
parse_id (const char *text)
{
  gsize n = strspn (text, "0123456789");

  return n > 0 && n <= MAX_ID_DIGITS && text[n] == '\0' ? g_ascii_strtoll (text, NULL, 10) : -1;
}

/* {"151643": {"content": "<|endoftext|>", "special": true, …}, …} */
static gboolean
read_decoder (Folder *folder, JsonObject *decoder)
{
  JsonObjectIter iter;
  const char *name;
  JsonNode *node;

  json_object_iter_init (&iter, decoder);
  while (json_object_iter_next (&iter, &name, &node)) {
    g_autofree char *shown = valley_utf8_shorten (name, 40);
    g_autofree char *key = g_strdup_printf ("added_tokens_decoder.%s", shown);
    JsonObject *entry = JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;

    if (parse_id (name) < 0 || entry == NULL)
      return valley_build_fail (folder->build, key, "expected ids with objects");
    if (!valley_build_added (folder->build, key, valley_json_get_string (entry, "content"),
                             parse_id (name), valley_json_is_true (entry, "special"), entry))
      return FALSE;
  }
  return TRUE;
}

/* A special token is written as its text or as an object with its content. */
static void
note_special (GHashTable *special, JsonNode *node)
{
  const char *text = valley_json_node_string (node);

  if (text == NULL && node != NULL && JSON_NODE_HOLDS_OBJECT (node))
    text = valley_json_get_string (json_node_get_object (node), "content");
  if (text != NULL)
    g_hash_table_add (special, g_strdup (text));
}

static void
note_specials (GHashTable *special, JsonObject *object)
{
  static const char *const names[] = { "bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token" };
  JsonArray *more = valley_json_get_array (object, "additional_special_tokens");

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    note_special (special, valley_json_get (object, names[i]));
  for (guint i = 0; more != NULL && i < json_array_get_length (more); i++)
    note_special (special, json_array_get_element (more, i));
}

/* {"<|im_end|>": 151645, …}.  Which are special stands in two other files; without either all
 * are, for what else would be added to Qwen2's vocabulary. */
static gboolean
read_added (Folder *folder, JsonObject *config)
{
  g_autoptr (GHashTable) special = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autoptr (JsonObject) map = NULL, added = NULL;
  JsonObjectIter iter;
  const char *text;
  JsonNode *node;

  if (!read_optional (folder, "special_tokens_map.json", &map)
      || !read_optional (folder, "added_tokens.json", &added))
    return FALSE;
  if (added == NULL)
    return valley_build_fail (folder->build, NULL,
                              "no such file; expected it, or added_tokens_decoder in "
                              "tokenizer_config.json");
  if (config != NULL)
    note_specials (special, config);
  if (map != NULL)
    note_specials (special, map);
  json_object_iter_init (&iter, added);
  while (json_object_iter_next (&iter, &text, &node)) {
    g_autofree char *key = valley_utf8_shorten (text, 40);
    gboolean is_special = g_hash_table_size (special) == 0 || g_hash_table_contains (special, text);

    if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_INT64)
      return valley_build_fail (folder->build, key, "expected an id that is a whole number");
    if (!valley_build_added (folder->build, key, text, json_node_get_int (node), is_special, NULL))
      return FALSE;
  }
  return TRUE;
}

static gboolean
check_class (Folder *folder, JsonObject *config)
{
  const char *name = valley_json_get_string (config, "tokenizer_class");

  if (valley_json_get (config, "tokenizer_class") == NULL || g_strcmp0 (name, "Qwen2Tokenizer") == 0
      || g_strcmp0 (name, "Qwen2TokenizerFast") == 0)
    return TRUE;
  return valley_build_fail (folder->build, "tokenizer_class", "expected \"Qwen2Tokenizer\"");
}

static gboolean
read_all_added (Folder *folder)
{
  g_autoptr (JsonObject) config = NULL;
  JsonObject *decoder = NULL;

  if (!read_optional (folder, "tokenizer_config.json", &config))
    return FALSE;
  if (config != NULL) {
    if (!check_class (folder, config))
      return FALSE;
    decoder = valley_json_get_object (config, "added_tokens_decoder");
  }
  return decoder != NULL ? read_decoder (folder, decoder) : read_added (folder, config);
}

gboolean
valley_build_from_slow_files (ValleyTokenizerBuild *build, const char *dir)
{
  Folder folder = { .build = build, .dir = dir };
  gboolean good;

  build->tokenizer->nfc = TRUE;
  good = read_vocabulary (&folder) && read_merges (&folder) && read_all_added (&folder);
  build->path = NULL;
  g_free (folder.path);
  return good;
}
