/* tokenizer-fixture.c - see tokenizer-fixture.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer-fixture.h"

char *
tokenizer_golden_path (const char *name)
{
  return g_build_filename (g_getenv ("GOLDEN_DIR"), name, NULL);
}

char *
tokenizer_golden_text (const char *name)
{
  g_autofree char *path = tokenizer_golden_path (name);
  g_autoptr (GError) error = NULL;
  char *text = NULL;

  g_file_get_contents (path, &text, NULL, &error);
  g_assert_no_error (error);
  return text;
}

ValleyTokenizer *
tokenizer_open_golden (const char *name)
{
  g_autofree char *dir = tokenizer_golden_path (name);
  g_autoptr (GError) error = NULL;
  ValleyTokenizer *tokenizer = valley_tokenizer_open (dir, VOCABULARY, &error);

  g_assert_no_error (error);
  return tokenizer;
}

GArray *
tokenizer_encode (const ValleyTokenizer *tokenizer, const char *text)
{
  GArray *ids = g_array_new (FALSE, FALSE, sizeof (gint32));

  valley_tokenizer_encode (tokenizer, text, ids);
  return ids;
}
