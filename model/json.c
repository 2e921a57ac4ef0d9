/* json.c - guarded JSON reading; see json.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <string.h>

#include "utf8.h"

/* The deepest file of a checkpoint (tokenizer.json) nests five levels. */
#define MAX_DEPTH 64 /* find_fault's messages name both */
/* json-glib takes some hundred bytes for each value, however short its text: a file of commas
 * would cost fifty times its size.  The largest tokenizers have two millions. */
#define MAX_VALUES ((gsize)1 << 22)

/* The code unit of "\uXXXX" at @p, -1 where there is none. */
static gint
unicode_escape (const char *p, const char *end)
{
  gint unit = 0;

  if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
    return -1;
  for (guint i = 2; i < 6; i++) {
    if (!g_ascii_isxdigit (p[i]))
      return -1;
    unit = unit * 16 + g_ascii_xdigit_value (p[i]);
  }
  return unit;
}

/* The end of the escape at @p; NULL when it is no text: a NUL, at which a C string would end, or
 * half a surrogate pair, which json-glib would turn into malformed UTF-8. */
static const char *
skip_escape (const char *p, const char *end)
{
  gint unit = unicode_escape (p, end), second;

  if (unit < 0)
    return p + 2; /* of one letter, or for the parser to refuse */
  if (unit == 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
    return NULL;
  if (unit < 0xD800 || unit > 0xDBFF)
    return p + 6;
  second = unicode_escape (p + 6, end);
  return second >= 0xDC00 && second <= 0xDFFF ? p + 12 : NULL;
}

/* The end of the string at @p, whose opening quote it is; NULL as above, or when it has none. */
static const char *
skip_string (const char *p, const char *end)
{
  p++;
  while (p != NULL && p < end && *p != '"')
    p = *p == '\\' ? skip_escape (p, end) : *p != '\0' ? p + 1 : NULL;
  return p != NULL && p < end ? p + 1 : NULL;
}

/* Walks the text without parsing it; what was expected, or NULL when all is well.  Outside
 * strings only JSON's own characters pass, because json-glib would skip comments, and a quote or
 * bracket inside one would spoil the count. */
static const char *
find_fault (const char *text, gsize length)
{
  static const char plain[]
      = " \t\r\n,:+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const char *end = text + length;
  gboolean allowed[256] = { FALSE };
  char open[MAX_DEPTH];
  guint depth = 0;
  gsize n_values = 0;

  for (const char *c = plain; *c != '\0'; c++)
    allowed[(guchar)*c] = TRUE;
  for (const char *p = text; p < end; p++) {
    if (*p == '"') {
      p = skip_string (p, end);
      if (p == NULL)
        return "strings that end, without NUL characters and unpaired surrogates";
      p--; /* the loop steps over the quote */
    } else if (*p == '{' || *p == '[') {
      n_values++;
      if (depth == MAX_DEPTH)
        return "values nested at most 64 deep";
      open[depth++] = *p;
    } else if (*p == '}' || *p == ']') {
      if (depth == 0 || open[--depth] != (*p == '}' ? '{' : '['))
        return "brackets that match";
    } else if (!allowed[(guchar)*p]) {
      return "plain JSON, without comments";
    } else {
      n_values += *p == ',';
    }
  }
  return n_values <= MAX_VALUES ? NULL : "at most 4194304 values";
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
  const char *expected = length > G_MAXINT ? "less than 2 GiB" : find_fault (text, length);
  gboolean parsed;
  JsonNode *root;

  if (expected != NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "%s: not valid JSON: expected %s", path,
                 expected);
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
