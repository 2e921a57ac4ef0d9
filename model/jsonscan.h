/* jsonscan.h - walking JSON text in place.  json-glib makes a node of every value, which for the
 * three hundred thousand of a tokenizer takes half a second; here they pass by one at a time.
 * The text must have passed valley_json_check: strings end, brackets match, UTF-8 is valid.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef struct {
  const char *p, *end;
  gboolean failed; /* something else stood there than was asked for; every later call is FALSE */
} ValleyJsonScan;

/* The next character that is no white space; NUL at the end, or when the scan has failed. */
char valley_json_scan_peek (ValleyJsonScan *scan);
/* Consumes the bracket @open. */
gboolean valley_json_scan_open (ValleyJsonScan *scan, char open);
/* Before every element of an object or array, with *@n counting those that came already: TRUE
 * when another follows, whose comma is consumed; FALSE at the bracket @close, which is too. */
gboolean valley_json_scan_more (ValleyJsonScan *scan, char close, gsize *n);
/* A string's text, in place of what @out holds. */
gboolean valley_json_scan_string (ValleyJsonScan *scan, GString *out);
/* A member's name and its colon. */
gboolean valley_json_scan_name (ValleyJsonScan *scan, GString *name);
/* A whole number from 0 up. */
gboolean valley_json_scan_number (ValleyJsonScan *scan, gint64 *number);
/* Any value; @value becomes what it spans. */
gboolean valley_json_scan_value (ValleyJsonScan *scan, ValleyJsonScan *value);
