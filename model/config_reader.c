/* config_reader.c - values out of config.json, each checked for its type and range.
 * SPDX-License-Identifier: Apache-2.0 */
#include "config_reader.h"

#include <math.h>
#include <string.h>

void
valley_reader_complain (ValleyReader *r, const char *key, const char *format, ...)
{
  g_autofree char *expected = NULL, *found = NULL;
  JsonNode *node = json_object_get_member (r->object, key);
  va_list args;

  if (r->failed)
    return; /* a list may complain of each of its million members */
  r->failed = TRUE;
  found = node != NULL ? json_to_string (node, FALSE) : g_strdup ("missing");
  if (strlen (found) > 60)
    strcpy (g_utf8_offset_to_pointer (found, MIN (g_utf8_strlen (found, -1), 12)), "...");
  va_start (args, format);
  expected = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (r->error, VALLEY_ERROR, VALLEY_ERROR_CONFIG, "%s: \"%s%s\" is %s; expected %s",
               r->path, r->parent, key, found, expected);
}

void
valley_reader_lack_memory (ValleyReader *r, const char *key)
{
  if (!r->failed)
    g_set_error (r->error, VALLEY_ERROR, VALLEY_ERROR_MEMORY, "%s: not enough memory for \"%s%s\"",
                 r->path, r->parent, key);
  r->failed = TRUE;
}

JsonNode *
valley_reader_member (ValleyReader *r, const char *key)
{
  JsonNode *node = json_object_get_member (r->object, key);

  return node != NULL && !JSON_NODE_HOLDS_NULL (node) ? node : NULL;
}

gboolean
valley_reader_is_type (JsonNode *node, GType type)
{
  return JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == type;
}

gsize
valley_reader_size (ValleyReader *r, const char *key, gsize fallback, gsize min, gsize max)
{
  JsonNode *node = valley_reader_member (r, key);

  if (node == NULL && fallback != VALLEY_REQUIRED)
    return fallback;
  if (node != NULL && valley_reader_is_type (node, G_TYPE_INT64)) {
    gint64 value = json_node_get_int (node);

    if (value >= 0 && (guint64) value >= min && (guint64) value <= max)
      return (gsize) value;
  }
  valley_reader_complain (r, key, "an integer from %" G_GSIZE_FORMAT " to %" G_GSIZE_FORMAT, min,
                          max);
  return min;
}

double
valley_reader_double (ValleyReader *r, const char *key, double fallback, double min, double max)
{
  JsonNode *node = valley_reader_member (r, key);

  if (node == NULL)
    return fallback;
  if (valley_reader_is_type (node, G_TYPE_INT64) || valley_reader_is_type (node, G_TYPE_DOUBLE)) {
    double value = json_node_get_double (node);

    if (isfinite (value) && value >= min && value <= max)
      return value;
  }
  valley_reader_complain (r, key, "a number from %g to %g", min, max);
  return fallback;
}

gboolean
valley_reader_boolean (ValleyReader *r, const char *key, gboolean fallback)
{
  JsonNode *node = valley_reader_member (r, key);

  if (node == NULL)
    return fallback;
  if (valley_reader_is_type (node, G_TYPE_BOOLEAN))
    return json_node_get_boolean (node);
  valley_reader_complain (r, key, "true or false");
  return fallback;
}

const char *
valley_reader_string (ValleyReader *r, const char *key)
{
  JsonNode *node = valley_reader_member (r, key);

  if (node == NULL)
    return NULL;
  if (valley_reader_is_type (node, G_TYPE_STRING))
    return json_node_get_string (node);
  valley_reader_complain (r, key, "a string");
  return NULL;
}

ValleyReader
valley_reader_object (ValleyReader *r, const char *key, const char *parent, JsonObject *empty)
{
  JsonNode *node = valley_reader_member (r, key);
  ValleyReader inner = { empty, r->path, parent, r->error, r->failed };

  if (node != NULL && JSON_NODE_HOLDS_OBJECT (node))
    inner.object = json_node_get_object (node);
  else if (node != NULL)
    valley_reader_complain (r, key, "an object");
  inner.failed = r->failed;
  return inner;
}
