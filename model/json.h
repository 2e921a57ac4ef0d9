/* json.h - reading JSON that nobody vouches for: json-glib sees the text only once json_check.c
 * has found it to be JSON; a key may appear once in an object.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <json-glib/json-glib.h>
#include "valley.h"

/* Parses @length bytes as one JSON object.  @path only names the file in errors.
 * Free with json_object_unref. */
JsonObject *valley_json_parse (const char *text, gsize length, const char *path, GError **error);

/* The same from a file of at most @max_bytes.  VALLEY_ERROR_NOT_FOUND when it does not exist. */
JsonObject *valley_json_read (const char *path, gsize max_bytes, GError **error);
