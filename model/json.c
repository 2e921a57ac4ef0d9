/* json.c - guarded JSON reading; see json.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <string.h>

/* The deepest file of a checkpoint (tokenizer.json) nests five levels. */
#define MAX_DEPTH 64

/* Walks the text without parsing it.  Outside strings only JSON's own characters pass, because
 * json-glib would skip comments, and a quote or bracket inside one would spoil the count. */
static gboolean
nesting_is_sane (const char *text, gsize length)
{
  static const char plain[]
      = " \t\r\n,:+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  gboolean allowed[256] = { FALSE };
  gboolean in_string = FALSE;
  char open[MAX_DEPTH];
  guint depth = 0;

  for (const char *c = plain; *c != '\0'; c++)
    allowed[(guchar)*c] = TRUE;
  for (gsize i = 0; i < length; i++) {
    char c = text[i];

    if (in_string) {
      if (c == '\\')
        i++;
      else if (c == '"')
        in_string = FALSE;
    } else if (c == '"') {
      in_string = TRUE;
    } else if (c == '{' || c == '[') {
      if (depth == MAX_DEPTH)
        return FALSE;
      open[depth++] = c;
    } else if (c == '}' || c == ']') {
      if (depth == 0 || open[--depth] != (c == '}' ? '{' : '['))
        return FALSE;
    } else if (!allowed[(guchar)c]) {
      return FALSE;
    }
  }
  return TRUE;
}

/* json-glib lets the last of two equal keys win, which would hide one from whoever reads the
 * file with another parser. */
typedef struct {
  GHashTable *seen; /* "object address/key" */
  char *duplicate;
} KeyWatch;

static void
on_member (JsonParser *parser, JsonObject *object, const char *key, gpointer data)
{
  KeyWatch *watch = data;

  if (!g_hash_table_add (watch->seen, g_strdup_printf ("%p/%s", (void *)object, key))
      && watch->duplicate == NULL)
    watch->duplicate = g_strdup (key);
}

JsonObject *
valley_json_parse (const char *text, gsize length, const char *path, GError **error)
{
  g_autoptr (JsonParser) parser = NULL;
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *duplicate = NULL;
  g_autoptr (GError) reason = NULL;
  KeyWatch watch = { seen, NULL };
  gboolean parsed;
  JsonNode *root;

  if (length > G_MAXINT || memchr (text, '\0', length) != NULL || !nesting_is_sane (text, length)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: expected plain JSON, nested at most %d deep, under 2 GiB", path, MAX_DEPTH);
    return NULL;
  }
  parser = json_parser_new_immutable ();
  g_signal_connect (parser, "object-member", G_CALLBACK (on_member), &watch);
  parsed = json_parser_load_from_data (parser, text, (gssize)length, &reason);
  duplicate = watch.duplicate;
  if (!parsed) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "%s: not valid JSON: %s", path,
                 reason->message);
    return NULL;
  }
  if (duplicate != NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: the key \"%s\" appears twice in one object; expected it once", path,
                 duplicate);
    return NULL;
  }
  root = json_parser_get_root (parser);
  if (root == NULL || !JSON_NODE_HOLDS_OBJECT (root)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "%s: expected a JSON object", path);
    return NULL;
  }
  return json_object_ref (json_node_get_object (root));
}

JsonObject *
valley_json_read (const char *path, gsize max_bytes, GError **error)
{
  g_autoptr (GMappedFile) file = NULL;
  g_autoptr (GError) reason = NULL;
  gsize length;

  file = g_mapped_file_new (path, FALSE, &reason);
  if (file == NULL) {
    gboolean missing = g_error_matches (reason, G_FILE_ERROR, G_FILE_ERROR_NOENT)
                       || g_error_matches (reason, G_FILE_ERROR, G_FILE_ERROR_NOTDIR);

    g_set_error (error, VALLEY_ERROR, missing ? VALLEY_ERROR_NOT_FOUND : VALLEY_ERROR_READ,
                 "cannot read %s: %s", path, reason->message);
    return NULL;
  }
  length = g_mapped_file_get_length (file);
  if (length == 0 || length > max_bytes) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: expected 1 to %" G_GSIZE_FORMAT " bytes, found %" G_GSIZE_FORMAT, path,
                 max_bytes, length);
    return NULL;
  }
  return valley_json_parse (g_mapped_file_get_contents (file), length, path, error);
}
