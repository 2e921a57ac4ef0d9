/* nfc.h - Unicode's normal form C, as the tokenizer's training knew it.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* The text from @p to @end (valid UTF-8) in normal form C.  Free with g_free. */
char *valley_nfc (const char *p, const char *end);
