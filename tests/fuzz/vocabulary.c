/* vocabulary.c - fuzz target: the older layout of a tokenizer.  The input's parts, which end at
 * NUL bytes, are vocab.json, merges.txt, tokenizer_config.json and added_tokens.json; an empty
 * or missing part is a file that is not there, but for the first.
 * SPDX-License-Identifier: Apache-2.0 */
#include <glib/gstdio.h>

#include "fuzz.h"
#include "use_tokenizer.h"

gboolean
fuzz_target (const guint8 *data, gsize size)
{
  static const char *const names[]
      = { "vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json" };
  const guint8 *end = data + size;
  GError *error = NULL;
  ValleyTokenizer *tokenizer;

  for (gsize i = 0; i < G_N_ELEMENTS (names); i++) {
    gsize length = fuzz_first_part (data, (gsize) (end - data));
    g_autofree char *path = g_build_filename (fuzz_dir (), names[i], NULL);

    if (length > 0 || i == 0)
      fuzz_write (names[i], data, length);
    else
      g_unlink (path);
    data += length + (data + length < end);
  }
  tokenizer = valley_tokenizer_open (fuzz_dir (), FUZZ_VOCABULARY, &error);
  if (tokenizer != NULL)
    fuzz_use_tokenizer (tokenizer, "<|im_end|>caf\xc3\xa9");
  fuzz_verdict (tokenizer != NULL, error, fuzz_dir ());
  valley_tokenizer_free (tokenizer);
  return tokenizer != NULL;
}
