/* tokenizer-fixture.h - the goldens' tokenizers, for tests of them.
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tokenizer.h"

#define VOCABULARY 340 /* of every golden */

/* A path in GOLDEN_DIR, and the text of the file there. */
char *tokenizer_golden_path (const char *name);
char *tokenizer_golden_text (const char *name);
/* The tokenizer of the golden @name. */
ValleyTokenizer *tokenizer_open_golden (const char *name);

/* The ids of @text. */
GArray *tokenizer_encode (const ValleyTokenizer *tokenizer, const char *text);
