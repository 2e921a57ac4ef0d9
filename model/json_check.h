/* json_check.h - is a text JSON, as RFC 8259 has it?
 *
 * json-glib alone will not tell: it reads 010 as eight, an integer of 70 bits as -1, "\355" as a
 * byte, what follows the first value not at all; it recurses as deep as the text says and quotes
 * the text in its errors whether that is UTF-8 or not.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* What was expected, and at which byte something else stood; NULL when the text is JSON that
 * json-glib reads as every other parser does.  Deep nesting, uncommonly many values and NUL
 * characters are faults too. */
const char *valley_json_check (const char *text, gsize length, gsize *fault);
