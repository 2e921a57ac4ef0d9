/* tokenizer.c - fuzz target: tokenizer.json, and after a NUL byte a text to encode with it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer.h"

#include <string.h>

#include "fuzz.h"

#define VOCABULARY 2048

static void
encode (const ValleyTokenizer *tokenizer, const char *text, gboolean plain)
{
  g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (gint32));
  g_autoptr (GString) decoded = g_string_new (NULL);

  if (plain)
    valley_tokenizer_encode_plain (tokenizer, text, ids);
  else
    valley_tokenizer_encode (tokenizer, text, ids);
  for (guint i = 0; i < ids->len; i++) {
    gint32 id = g_array_index (ids, gint32, i);

    if (id < 0 || id >= VOCABULARY)
      g_error ("id %d", id);
    valley_tokenizer_decode (tokenizer, id, decoded);
  }
}

static void
try_out (const ValleyTokenizer *tokenizer, const char *text)
{
  static const char sample[]
      = "It's 12 o'clock,\r\n  caf\xc3\xa9 e\xcc\x81 \xe4\xbd\xa0\xe5\xa5\xbd "
        "<|im_start|>\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80\xff";
  g_autoptr (GString) decoded = g_string_new (NULL);

  for (guint plain = 0; plain < 2; plain++) {
    encode (tokenizer, sample, plain);
    encode (tokenizer, text, plain);
  }
  for (gint32 id = -1; id <= VOCABULARY; id++) {
    valley_tokenizer_decode (tokenizer, id, decoded);
    valley_tokenizer_is_special (tokenizer, id);
  }
  valley_tokenizer_lookup (tokenizer, text);
}

gboolean
fuzz_target (const guint8 *data, gsize size)
{
  gsize first = fuzz_first_part (data, size);
  g_autofree char *text = first < size
                              ? g_strndup ((const char *) data + first + 1, size - first - 1)
                              : g_strdup ("");
  GError *error = NULL;
  ValleyTokenizer *tokenizer;

  fuzz_write ("tokenizer.json", data, first);
  tokenizer = valley_tokenizer_open (fuzz_dir (), VOCABULARY, &error);
  if (tokenizer != NULL)
    try_out (tokenizer, text);
  fuzz_verdict (tokenizer != NULL, error, "tokenizer.json");
  valley_tokenizer_free (tokenizer);
  return tokenizer != NULL;
}
