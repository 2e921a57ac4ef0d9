/* json.h - reading JSON that nobody vouches for: json-glib sees the text only once json_check.c
 * has found it to be JSON; a key may appear once in an object.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <json-glib/json-glib.h>
#include "valley.h"

/* Is it JSON, of any kind?  Sets the error otherwise. */
gboolean valley_json_is_valid (const char *text, gsize length, const char *path, GError **error);

/* Parses @length bytes as one JSON object.  @path only names the file in errors.
 * Free with json_object_unref. */
JsonObject *valley_json_parse (const char *text, gsize length, const char *path, GError **error);

/* The same from a file of at most @max_bytes.  VALLEY_ERROR_NOT_FOUND when it does not exist. */
JsonObject *valley_json_read (const char *path, gsize max_bytes, GError **error);

/* A member of @object; NULL when it is absent, null or of another type. */
JsonNode *valley_json_get (JsonObject *object, const char *name);
const char *valley_json_get_string (JsonObject *object, const char *name);
JsonObject *valley_json_get_object (JsonObject *object, const char *name);
JsonArray *valley_json_get_array (JsonObject *object, const char *name);
/* TRUE for a member that is true, and for nothing else. */
gboolean valley_json_is_true (JsonObject *object, const char *name);
/* The node's text, NULL when it is no string (or @node is NULL). */
const char *valley_json_node_string (JsonNode *node);
