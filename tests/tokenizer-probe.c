/* tokenizer-probe.c - the engine's tokenizer for tools/reference/compare_tokenizer.py and
 * bench_tokenizer.py, which hold Hugging Face's beside it.  Records on both pipes are a 32-bit
 * count in the machine's byte order and as many bytes or 32-bit ids.
 *
 *   tokenizer-probe FOLDER VOCABULARY ids        text records in, id records out
 *   tokenizer-probe FOLDER VOCABULARY text       id records in; for each the text, twice: the
 *                                                bytes of all tokens, and what an answer shows
 *                                                of them piece by piece
 *   tokenizer-probe FOLDER VOCABULARY time FILE  for each line on stdin encodes the text records
 *                                                of FILE; prints nanoseconds, number of ids
 *   tokenizer-probe FOLDER VOCABULARY open       opens the tokenizer and prints the nanoseconds
 * SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"
#include "tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Processor time: what else the machine does is not counted. */
static guint64
now_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &t);
  return (guint64) t.tv_sec * 1000000000u + (guint64) t.tv_nsec;
}

/* The next record of @in, of elements of @size bytes; FALSE at the end of the file. */
static gboolean
read_record (FILE *in, gsize size, GByteArray *record)
{
  guint32 count;

  if (fread (&count, sizeof count, 1, in) != 1)
    return FALSE;
  g_byte_array_set_size (record, (guint) (count * size));
  if (fread (record->data, size, count, in) != count)
    g_error ("a record ends early");
  g_byte_array_append (record, (const guint8 *) "", 1); /* texts are C strings */
  return TRUE;
}

static void
write_record (const void *data, gsize size, gsize count)
{
  guint32 n = (guint32) count;

  fwrite (&n, sizeof n, 1, stdout);
  fwrite (data, size, count, stdout);
}

static void
write_ids (const ValleyTokenizer *tokenizer)
{
  g_autoptr (GByteArray) text = g_byte_array_new ();
  g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (gint32));

  while (read_record (stdin, 1, text)) {
    g_array_set_size (ids, 0);
    valley_tokenizer_encode (tokenizer, (const char *) text->data, ids);
    write_record (ids->data, sizeof (gint32), ids->len);
  }
}

/* What an answer shows, gathered as it grows.  A piece that is not text of its own, or one that
 * is taken back later, ends the program. */
static void
gather (ValleyAnswer *answer, GString *shown)
{
  const char *piece = answer->text->str + shown->len;

  if (strncmp (answer->text->str, shown->str, shown->len) != 0
      || !g_utf8_validate (piece, -1, NULL))
    g_error ("after \"%s\" came \"%s\"", shown->str, answer->text->str);
  g_string_append (shown, piece);
}

static void
write_texts (const ValleyTokenizer *tokenizer)
{
  g_autoptr (GByteArray) record = g_byte_array_new ();

  while (read_record (stdin, sizeof (gint32), record)) {
    const gint32 *ids = (const gint32 *) (gpointer) record->data;
    g_autoptr (GString) whole = g_string_new (NULL);
    g_autoptr (GString) shown = g_string_new (NULL);
    ValleyAnswer answer;

    valley_answer_init (&answer, NULL, VALLEY_MARKERS_KEEP);
    for (guint i = 0; i < record->len / sizeof (gint32); i++) {
      valley_tokenizer_decode (tokenizer, ids[i], whole);
      valley_answer_add (&answer, tokenizer, ids[i]);
      gather (&answer, shown);
    }
    valley_answer_finish (&answer, FALSE);
    gather (&answer, shown);
    write_record (whole->str, 1, whole->len);
    write_record (shown->str, 1, shown->len);
    valley_answer_clear (&answer);
  }
}

static void
time_rounds (const ValleyTokenizer *tokenizer, const char *path)
{
  g_autoptr (GPtrArray) texts = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GByteArray) record = g_byte_array_new ();
  FILE *in = fopen (path, "rb");
  char line[16];

  if (in == NULL)
    g_error ("cannot read %s", path);
  while (read_record (in, 1, record))
    g_ptr_array_add (texts, g_strdup ((const char *) record->data));
  fclose (in);
  while (fgets (line, sizeof line, stdin) != NULL) {
    guint64 start = now_ns (), n_ids = 0;

    for (guint i = 0; i < texts->len; i++) {
      g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (gint32));

      valley_tokenizer_encode (tokenizer, texts->pdata[i], ids);
      n_ids += ids->len;
    }
    printf ("%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n", now_ns () - start, n_ids);
    fflush (stdout);
  }
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  const char *mode = argc > 3 ? argv[3] : "";
  guint64 start = now_ns ();
  ValleyTokenizer *tokenizer;

  if (argc < 4) {
    fprintf (stderr, "usage: %s FOLDER VOCABULARY ids|text|open|time FILE\n", argv[0]);
    return EXIT_FAILURE;
  }
  tokenizer = valley_tokenizer_open (argv[1], (gsize) g_ascii_strtoull (argv[2], NULL, 10), &error);
  if (tokenizer == NULL) {
    fprintf (stderr, "%s\n", error->message);
    return EXIT_FAILURE;
  }
  if (strcmp (mode, "ids") == 0)
    write_ids (tokenizer);
  else if (strcmp (mode, "text") == 0)
    write_texts (tokenizer);
  else if (strcmp (mode, "open") == 0)
    printf ("%" G_GUINT64_FORMAT "\n", now_ns () - start);
  else if (strcmp (mode, "time") == 0 && argc > 4)
    time_rounds (tokenizer, argv[4]);
  else
    g_printerr ("unknown mode %s\n", mode);
  valley_tokenizer_free (tokenizer);
  return EXIT_SUCCESS;
}
