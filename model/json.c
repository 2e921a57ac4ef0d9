/* json.c - guarded JSON reading; see json.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "json_check.h"
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

JsonObject *
valley_json_parse (const char *text, gsize length, const char *path, GError **error)
{
  g_autoptr (JsonParser) parser = NULL;
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *duplicate = NULL;
  g_autoptr (GError) reason = NULL;
  KeyWatch watch = { seen, NULL };
  gsize fault = 0;
  const char *expected
      = length > G_MAXINT ? "less than 2 GiB" : valley_json_check (text, length, &fault);
  gboolean parsed;
  JsonNode *root;

  if (expected != NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: not valid JSON: expected %s at byte %" G_GSIZE_FORMAT, path, expected, fault);
    return NULL;
  }
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
  g_autoptr (GMappedFile) file = NULL;
  g_autoptr (GError) reason = NULL;
  gsize length;

  /* Opening a pipe would wait for a writer that may never come. */
  if (g_file_test (path, G_FILE_TEST_EXISTS) && !g_file_test (path, G_FILE_TEST_IS_REGULAR)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "cannot read %s: expected a regular file",
                 path);
    return NULL;
  }
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
