/* tokenizer.c - fuzz target: tokenizer.json, and after a NUL byte a text to encode with it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "use_tokenizer.h"

gboolean
fuzz_target (const guint8 *data, gsize size)
{
  gsize first = fuzz_first_part (data, size);
  g_autofree char *text
      = g_strndup ((const char *) data + MIN (first + 1, size), size - MIN (first + 1, size));
  GError *error = NULL;
  /* From memory, where a byte too far is seen; a mapped file ends in a page of zeros. */
  ValleyTokenizer *tokenizer = valley_tokenizer_parse ((const char *) data, first, "tokenizer.json",
                                                       FUZZ_VOCABULARY, &error);

  if (tokenizer != NULL)
    fuzz_use_tokenizer (tokenizer, text);
  fuzz_verdict (tokenizer != NULL, error, "tokenizer.json");
  valley_tokenizer_free (tokenizer);
  return tokenizer != NULL;
}
