/* pretokenize.h - where Qwen2's pre-tokenizer cuts text before byte-pair encoding.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* The regular expression that valley_pretokenize_next implements, as tokenizer.json has it. */
#define VALLEY_PRETOKENIZE_REGEX                                                                   \
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"                              \
  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* The end of the piece that begins at @p; @p < @end, valid UTF-8. */
const char *valley_pretokenize_next (const char *p, const char *end);
