/* json.c - guarded JSON reading; see json.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "json_check.h"
#include "mapfile.h"
#include "utf8.h"

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

  if (!g_hash_table_add (watch->seen, g_strdup_printf ("%p/%s", (void *) object, key))
      && watch->duplicate == NULL)
    watch->duplicate = valley_utf8_shorten (key, 200);
}

gboolean
valley_json_is_valid (const char *text, gsize length, const char *path, GError **error)
{
  gsize fault = 0;
  const char *expected
      = length > G_MAXINT ? "less than 2 GiB" : valley_json_check (text, length, &fault);

  if (expected != NULL)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: not valid JSON: expected %s at byte %" G_GSIZE_FORMAT, path, expected, fault);
  return expected == NULL;
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

  if (!valley_json_is_valid (text, length, path, error))
    return NULL;
  parser = json_parser_new_immutable ();
  g_signal_connect (parser, "object-member", G_CALLBACK (on_member), &watch);
  parsed = json_parser_load_from_data (parser, text, (gssize) length, &reason);
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
  g_autoptr (GMappedFile) file = valley_map_file (path, max_bytes, error);

  if (file == NULL)
    return NULL;
  return valley_json_parse (g_mapped_file_get_contents (file), g_mapped_file_get_length (file),
                            path, error);
}

/* ---- members -------------------------------------------------------------- */

JsonNode *
valley_json_get (JsonObject *object, const char *name)
{
  JsonNode *node = json_object_get_member (object, name);

  return node != NULL && !JSON_NODE_HOLDS_NULL (node) ? node : NULL;
}

const char *
valley_json_node_string (JsonNode *node)
{
  return node != NULL && JSON_NODE_HOLDS_VALUE (node)
                 && json_node_get_value_type (node) == G_TYPE_STRING
             ? json_node_get_string (node)
             : NULL;
}

const char *
valley_json_get_string (JsonObject *object, const char *name)
{
  return valley_json_node_string (valley_json_get (object, name));
}

JsonObject *
valley_json_get_object (JsonObject *object, const char *name)
{
  JsonNode *node = valley_json_get (object, name);

  return node != NULL && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

JsonArray *
valley_json_get_array (JsonObject *object, const char *name)
{
  JsonNode *node = valley_json_get (object, name);

  return node != NULL && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
}

gboolean
valley_json_is_true (JsonObject *object, const char *name)
{
  JsonNode *node = valley_json_get (object, name);

  return node != NULL && JSON_NODE_HOLDS_VALUE (node)
         && json_node_get_value_type (node) == G_TYPE_BOOLEAN && json_node_get_boolean (node);
}
