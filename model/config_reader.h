/* config_reader.h - reading values of one JSON object, for config.c and the files beside it.
 * The first problem is kept as an error that names file and key; every read after it is harmless.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <json-glib/json-glib.h>

#include "valley.h"

/* Far above any model, and small enough that products of two fit 64 bits. */
#define VALLEY_MAX_WIDTH ((gsize)1 << 20)
#define VALLEY_MAX_COUNT ((gsize)4096)
#define VALLEY_MAX_VOCABULARY ((gsize)1 << 24)

#define VALLEY_REQUIRED G_MAXSIZE /* as a default: the key must be there */

typedef struct {
  JsonObject *object;
  const char *path;   /* the file */
  const char *parent; /* "" or "vision_config." */
  GError **error;
  gboolean failed;
} ValleyReader;

/* "FILE: "KEY" is VALUE; expected FORMAT", unless a problem was met before. */
void valley_reader_complain (ValleyReader *r, const char *key, const char *format, ...)
    G_GNUC_PRINTF (3, 4);
/* There is no room for what the key lists. */
void valley_reader_lack_memory (ValleyReader *r, const char *key);
/* The member's node, or NULL when it is absent or null. */
JsonNode *valley_reader_member (ValleyReader *r, const char *key);
gboolean valley_reader_is_type (JsonNode *node, GType type);
gsize valley_reader_size (ValleyReader *r, const char *key, gsize fallback, gsize min, gsize max);
double valley_reader_double (ValleyReader *r, const char *key, double fallback, double min,
                             double max);
gboolean valley_reader_boolean (ValleyReader *r, const char *key, gboolean fallback);
/* Borrowed from the tree; NULL when absent, null or no string. */
const char *valley_reader_string (ValleyReader *r, const char *key);
/* A nested object; @empty where it is absent, so that every key has its default. */
ValleyReader valley_reader_object (ValleyReader *r, const char *key, const char *parent,
                                   JsonObject *empty);
