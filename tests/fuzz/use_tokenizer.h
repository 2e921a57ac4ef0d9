/* use_tokenizer.h - asking everything of a tokenizer that a file was taken for.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tokenizer.h"

#define FUZZ_VOCABULARY 2048

/* Encodes @text and a text of our own, decodes the ids, and every other id. */
void fuzz_use_tokenizer (const ValleyTokenizer *tokenizer, const char *text);
