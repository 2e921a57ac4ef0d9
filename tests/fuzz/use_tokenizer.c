/* use_tokenizer.c - asking everything of a tokenizer; see use_tokenizer.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "use_tokenizer.h"

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

    if (id < 0 || id >= FUZZ_VOCABULARY)
      g_error ("id %d", id);
    valley_tokenizer_decode (tokenizer, id, decoded);
  }
}

void
fuzz_use_tokenizer (const ValleyTokenizer *tokenizer, const char *text)
{
  static const char sample[]
      = "It's 12 o'clock,\r\n  caf\xc3\xa9 e\xcc\x81 \xe4\xbd\xa0\xe5\xa5\xbd "
        "<|im_start|>\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80\xff";
  g_autoptr (GString) decoded = g_string_new (NULL);

  for (guint plain = 0; plain < 2; plain++) {
    encode (tokenizer, sample, plain);
    encode (tokenizer, text, plain);
  }
  for (gint32 id = -1; id <= FUZZ_VOCABULARY; id++) {
    valley_tokenizer_decode (tokenizer, id, decoded);
    valley_tokenizer_is_special (tokenizer, id);
  }
  valley_tokenizer_lookup (tokenizer, text);
}
