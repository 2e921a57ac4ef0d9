/* tokenizer_build.c - the parts of a tokenizer checked and put in place; see tokenizer_build.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer_build.h"

#include "alloc.h"
#include "nfc.h"
#include "utf8.h"

#include <string.h>

#define SHOWN_BYTES 200       /* of a text in an error */
#define MAX_ADDED_TOKENS 4096 /* each is tried at every place in the text where it may begin */

gboolean
valley_build_fail (const ValleyTokenizerBuild *build, const char *key, const char *format, ...)
{
  g_autofree char *reason = NULL;
  va_list args;

  va_start (args, format);
  reason = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (build->error, VALLEY_ERROR, VALLEY_ERROR_CONFIG, "%s: %s%s%s", build->path,
               key != NULL ? key : "", key != NULL ? ": " : "", reason);
  return FALSE;
}

static gboolean
fail_memory (const ValleyTokenizerBuild *build, const char *what)
{
  g_set_error (build->error, VALLEY_ERROR, VALLEY_ERROR_MEMORY, "%s: not enough memory for its %s",
               build->path, what);
  return FALSE;
}

static gboolean
fail_shared (const ValleyTokenizerBuild *build, const char *key, const char *text, gint64 id)
{
  g_autofree char *shown = valley_utf8_shorten (text, SHOWN_BYTES);

  return valley_build_fail (build, key, "expected each id once, but \"%s\" shares id %d", shown,
                            (gint) id);
}

static gboolean
fail_twice (const ValleyTokenizerBuild *build, const char *key, const char *text)
{
  g_autofree char *shown = valley_utf8_shorten (text, SHOWN_BYTES);

  return valley_build_fail (build, key, "\"%s\" appears twice; expected it once", shown);
}

/* GPT-2's byte-level alphabet: printable Latin-1 stands for itself, the other bytes follow
 * from U+0100 on. */
static void
init_alphabet (gint16 byte_of[324])
{
  gint16 next = 256;

  for (guint i = 0; i < 324; i++)
    byte_of[i] = -1;
  for (gint16 byte = 0; byte < 256; byte++) {
    gboolean printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;

    byte_of[printable ? byte : next++] = byte;
  }
}

void
valley_build_init (ValleyTokenizerBuild *build, gsize vocab_size, GError **error)
{
  *build = (ValleyTokenizerBuild){ .vocab_size = vocab_size,
                                   .tokenizer = g_new0 (ValleyTokenizer, 1),
                                   .vocabulary = valley_vocabulary_new (),
                                   .joined = g_string_new (NULL),
                                   .error = error };
  build->tokenizer->bytes = g_string_new (NULL);
  valley_added_init (&build->tokenizer->added);
  valley_added_init (&build->tokenizer->added_normalized);
  init_alphabet (build->byte_of);
}

ValleyTokenizer *
valley_build_finish (ValleyTokenizerBuild *build, gboolean good)
{
  ValleyTokenizer *tokenizer = g_steal_pointer (&build->tokenizer);

  valley_vocabulary_free (build->vocabulary);
  g_string_free (build->joined, TRUE);
  if (!good) {
    valley_tokenizer_free (tokenizer);
    return NULL;
  }
  valley_added_sort (&tokenizer->added);
  valley_added_sort (&tokenizer->added_normalized);
  return tokenizer;
}

/* ---- tokens --------------------------------------------------------------- */

/* Makes room for token @id: as many as the largest id asks for. */
static gboolean
reach_token (ValleyTokenizerBuild *build, const char *key, gint64 id)
{
  ValleyTokenizer *tokenizer = build->tokenizer;
  gsize n = MAX (2 * build->n_allocated, 1024);
  ValleyToken *tokens;

  if (id < 0 || (guint64) id >= build->vocab_size || id >= G_MAXINT32)
    return valley_build_fail (build, key,
                              "expected an id from 0 to %" G_GSIZE_FORMAT " (vocab_size - 1)"
                              ", found %" G_GINT64_FORMAT,
                              build->vocab_size - 1, id);
  if ((gsize) id >= build->n_allocated) {
    n = MAX (n, (gsize) id + 1);
    tokens = valley_alloc_resize (tokenizer->tokens, n, sizeof *tokens);
    if (tokens == NULL)
      return fail_memory (build, "tokens");
    memset (tokens + build->n_allocated, 0, (n - build->n_allocated) * sizeof *tokens);
    tokenizer->tokens = tokens;
    build->n_allocated = n;
  }
  tokenizer->n_tokens = MAX (tokenizer->n_tokens, (gsize) id + 1);
  return TRUE;
}

/* Appends the bytes that @text stands for in the byte-level alphabet; FALSE (and nothing
 * appended) when a character is not in it. */
static gboolean
append_bytes (const ValleyTokenizerBuild *build, const char *text, GString *out)
{
  gsize before = out->len;

  for (const char *p = text; *p != '\0'; p = g_utf8_next_char (p)) {
    gunichar c = g_utf8_get_char (p);

    if (c >= G_N_ELEMENTS (build->byte_of) || build->byte_of[c] < 0) {
      g_string_truncate (out, before);
      return FALSE;
    }
    g_string_append_c (out, (char) build->byte_of[c]);
  }
  return TRUE;
}

/* Vocabulary entries are written in the byte-level alphabet, added tokens as they are. */
static gboolean
set_token (ValleyTokenizerBuild *build, gint64 id, const char *text, gboolean added)
{
  GString *bytes = build->tokenizer->bytes;
  ValleyToken *token = &build->tokenizer->tokens[id];

  if (!valley_alloc_string (bytes, strlen (text)))
    return fail_memory (build, "tokens");
  token->offset = bytes->len;
  if (added || !append_bytes (build, text, bytes))
    g_string_append (bytes, text);
  token->length = (guint32) (bytes->len - token->offset);
  token->known = TRUE;
  token->added = added;
  return TRUE;
}

/* ---- vocabulary ----------------------------------------------------------- */

static gboolean
add_entry (ValleyTokenizerBuild *build, const char *key, const GString *text, gint64 id)
{
  if (!reach_token (build, key, id))
    return FALSE;
  if (build->tokenizer->tokens[id].known)
    return fail_shared (build, key, text->str, id);
  switch (valley_vocabulary_add (build->vocabulary, text->str, text->len, (gint32) id)) {
  case VALLEY_VOCABULARY_ADDED:
    return set_token (build, id, text->str, FALSE);
  case VALLEY_VOCABULARY_TWICE:
    return fail_twice (build, key, text->str);
  default:
    return fail_memory (build, "vocabulary");
  }
}

/* Every byte has a token of its own, so that any text can be encoded. */
static gboolean
find_byte_tokens (const ValleyTokenizerBuild *build, const char *key, gint32 byte_ids[256])
{
  for (gunichar c = 0; c < G_N_ELEMENTS (build->byte_of); c++) {
    gint16 byte = build->byte_of[c];
    char text[7] = { 0 };

    if (byte < 0)
      continue;
    byte_ids[byte]
        = valley_vocabulary_find (build->vocabulary, text, (gsize) g_unichar_to_utf8 (c, text));
    if (byte_ids[byte] < 0)
      return valley_build_fail (build, key, "expected a token \"%s\" for the byte 0x%02x", text,
                                (guint) byte);
  }
  return TRUE;
}

gboolean
valley_build_vocabulary (ValleyTokenizerBuild *build, ValleyJsonScan scan, const char *key)
{
  g_autoptr (GString) text = g_string_new (NULL);
  gint32 byte_ids[256];
  gsize n = 0;
  gint64 id;

  valley_json_scan_open (&scan, '{');
  while (valley_json_scan_more (&scan, '}', &n))
    if (valley_json_scan_name (&scan, text) && valley_json_scan_number (&scan, &id)
        && !add_entry (build, key, text, id))
      return FALSE;
  if (scan.failed || valley_json_scan_peek (&scan) != '\0') {
    g_autofree char *shown = valley_utf8_shorten (text->str, SHOWN_BYTES);

    return valley_build_fail (build, key,
                              "expected texts with ids from 0 up, found something else at entry "
                              "%" G_GSIZE_FORMAT " (\"%s\")",
                              n, shown);
  }
  if (!find_byte_tokens (build, key, byte_ids))
    return FALSE;
  build->tokenizer->bpe = valley_bpe_new (byte_ids);
  return build->tokenizer->bpe != NULL || fail_memory (build, "merges");
}

/* ---- merges --------------------------------------------------------------- */

gboolean
valley_build_merge (ValleyTokenizerBuild *build, const char *list, guint number, const char *left,
                    gsize n_left, const char *right, gsize n_right)
{
  g_autofree char *key = NULL;
  gint32 a = valley_vocabulary_find (build->vocabulary, left, n_left);
  gint32 b = valley_vocabulary_find (build->vocabulary, right, n_right);
  gint32 both = -1;

  if (a >= 0 && b >= 0) {
    g_string_append_len (g_string_truncate (build->joined, 0), left, (gssize) n_left);
    g_string_append_len (build->joined, right, (gssize) n_right);
    both = valley_vocabulary_find (build->vocabulary, build->joined->str, build->joined->len);
  }
  if (both >= 0)
    return valley_bpe_add_merge (build->tokenizer->bpe, a, b, both)
           || fail_memory (build, "merges");
  key = list != NULL ? g_strdup_printf ("%s[%u]", list, number)
                     : g_strdup_printf ("line %u", number);
  return valley_build_fail (build, key,
                            "expected two tokens of the vocabulary that join to a third");
}

/* ---- added tokens --------------------------------------------------------- */

/* Hugging Face's reader takes the id of a text that is in the vocabulary from there, and replaces
 * an id that another text has by a new one: here such a file would give other ids. */
static gboolean
claim_id (const ValleyTokenizerBuild *build, const char *key, const char *text, gint64 id)
{
  const ValleyToken *token = &build->tokenizer->tokens[id];
  gint32 listed = valley_vocabulary_find (build->vocabulary, text, strlen (text));

  if (token->added || (token->known && listed != id))
    return fail_shared (build, key, text, id);
  if (listed == id)
    return TRUE;
  if (listed >= 0)
    return valley_build_fail (build, key, "expected id %d, which its content has already", listed);
  return valley_vocabulary_add (build->vocabulary, text, strlen (text), (gint32) id)
             == VALLEY_VOCABULARY_ADDED
         || fail_memory (build, "added tokens");
}

gboolean
valley_build_added (ValleyTokenizerBuild *build, const char *key, const char *text, gint64 id,
                    gboolean special, JsonObject *flags)
{
  static const char *const refused[] = { "single_word", "lstrip", "rstrip" };
  ValleyTokenizer *tokenizer = build->tokenizer;
  gboolean normalized = flags != NULL ? valley_json_is_true (flags, "normalized") : !special;

  if (text == NULL || *text == '\0')
    return valley_build_fail (build, key, "expected a content that is a non-empty string");
  for (guint i = 0; i < G_N_ELEMENTS (refused); i++)
    if (flags != NULL && valley_json_is_true (flags, refused[i]))
      return valley_build_fail (build, key, "expected %s of the token to be false", refused[i]);
  if (build->n_added++ == MAX_ADDED_TOKENS)
    return valley_build_fail (build, key, "expected at most %d added tokens", MAX_ADDED_TOKENS);
  if (!reach_token (build, key, id) || !claim_id (build, key, text, id)
      || !set_token (build, id, text, TRUE))
    return FALSE;
  tokenizer->tokens[id].special = special;
  if (normalized) {
    g_autofree char *normal
        = tokenizer->nfc ? valley_nfc (text, text + strlen (text)) : g_strdup (text);

    valley_added_add (&tokenizer->added_normalized, normal, (gint32) id);
  } else {
    valley_added_add (&tokenizer->added, text, (gint32) id);
  }
  return TRUE;
}
