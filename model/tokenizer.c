/* tokenizer.c - text to token ids and back.  The order of the rules is Hugging Face's: added
 * tokens in the raw text, NFC on what lies between them, added tokens that ask for
 * normalised text, the pre-tokenizer's pieces, byte-pair merges in each piece.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer_private.h"

#include "nfc.h"
#include "pretokenize.h"
#include "utf8.h"

#include <string.h>

typedef struct {
  const ValleyTokenizer *tokenizer;
  ValleyBpeScratch scratch;
  GArray *ids;
} Encoder;

void
valley_tokenizer_free (ValleyTokenizer *tokenizer)
{
  if (tokenizer == NULL)
    return;
  g_string_free (tokenizer->bytes, TRUE);
  g_free (tokenizer->tokens);
  valley_bpe_free (tokenizer->bpe);
  valley_added_clear (&tokenizer->added);
  valley_added_clear (&tokenizer->added_normalized);
  g_free (tokenizer);
}

static void
encode_pieces (Encoder *encoder, const char *p, const char *end)
{
  while (p < end) {
    const char *next = valley_pretokenize_next (p, end);

    valley_bpe_encode (encoder->tokenizer->bpe, (const guint8 *) p, (gsize) (next - p),
                       &encoder->scratch, encoder->ids);
    p = next;
  }
}

/* Calls @rest on what lies between the tokens of @set (NULL: no tokens). */
static void
split_added (Encoder *encoder, const ValleyAddedSet *set, const char *p, const char *end,
             void (*rest) (Encoder *, const char *, const char *))
{
  const ValleyAddedToken *token;
  const char *start;

  while (set != NULL && (token = valley_added_find (set, p, end, &start)) != NULL) {
    rest (encoder, p, start);
    g_array_append_val (encoder->ids, token->id);
    p = start + token->length;
  }
  rest (encoder, p, end);
}

/* No character below U+0300 changes under NFC, unless one above follows it. */
static gboolean
is_surely_nfc (const char *p, const char *end)
{
  while (p < end && (guchar) *p < 0xCC)
    p++;
  return p == end;
}

static void
encode_normalized (Encoder *encoder, const char *p, const char *end,
                   const ValleyAddedSet *added_normalized)
{
  g_autofree char *normal = NULL;

  if (encoder->tokenizer->nfc && !is_surely_nfc (p, end)) {
    normal = valley_nfc (p, end);
    p = normal;
    end = normal + strlen (normal);
  }
  split_added (encoder, added_normalized, p, end, encode_pieces);
}

static void
encode_with_added (Encoder *encoder, const char *p, const char *end)
{
  encode_normalized (encoder, p, end, &encoder->tokenizer->added_normalized);
}

static void
encode_without_added (Encoder *encoder, const char *p, const char *end)
{
  encode_normalized (encoder, p, end, NULL);
}

static void
encode (const ValleyTokenizer *tokenizer, const char *text, gboolean plain, GArray *ids)
{
  g_autofree char *valid = valley_utf8_repair (text);
  Encoder encoder = { .tokenizer = tokenizer, .ids = ids };

  valley_bpe_scratch_init (&encoder.scratch);
  split_added (&encoder, plain ? NULL : &tokenizer->added, valid, valid + strlen (valid),
               plain ? encode_without_added : encode_with_added);
  valley_bpe_scratch_clear (&encoder.scratch);
}

void
valley_tokenizer_encode (const ValleyTokenizer *tokenizer, const char *text, GArray *ids)
{
  encode (tokenizer, text, FALSE, ids);
}

void
valley_tokenizer_encode_plain (const ValleyTokenizer *tokenizer, const char *text, GArray *ids)
{
  encode (tokenizer, text, TRUE, ids);
}

static const ValleyToken *
known_token (const ValleyTokenizer *tokenizer, gint32 id)
{
  if (id < 0 || (gsize) id >= tokenizer->n_tokens || !tokenizer->tokens[id].known)
    return NULL;
  return &tokenizer->tokens[id];
}

gint32
valley_tokenizer_lookup (const ValleyTokenizer *tokenizer, const char *text)
{
  gsize length = strlen (text);
  gint32 found = -1;

  for (gsize id = 0; id < tokenizer->n_tokens; id++) {
    const ValleyToken *token = &tokenizer->tokens[id];

    if (!token->known || token->length != length
        || memcmp (tokenizer->bytes->str + token->offset, text, length) != 0)
      continue;
    if (token->added)
      return (gint32) id;
    if (found < 0)
      found = (gint32) id;
  }
  return found;
}

gsize
valley_tokenizer_size (const ValleyTokenizer *tokenizer)
{
  return tokenizer->n_tokens;
}

gboolean
valley_tokenizer_is_added (const ValleyTokenizer *tokenizer, gint32 id)
{
  const ValleyToken *token = known_token (tokenizer, id);

  return token != NULL && token->added;
}

gboolean
valley_tokenizer_is_special (const ValleyTokenizer *tokenizer, gint32 id)
{
  const ValleyToken *token = known_token (tokenizer, id);

  return token != NULL && token->special;
}

void
valley_tokenizer_decode (const ValleyTokenizer *tokenizer, gint32 id, GString *out)
{
  const ValleyToken *token = known_token (tokenizer, id);

  if (token != NULL)
    g_string_append_len (out, tokenizer->bytes->str + token->offset, (gssize) token->length);
}
