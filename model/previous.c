/* previous.c - see previous.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "previous.h"

#include <string.h>

typedef struct {
  GByteArray *key; /* empty: an answer that is never given again */
  guint64 window;
  gboolean is_complete;
  ValleyResult result; /* only what concerns the answer, all its own */
  gint32 *output_ids;
  float *logits;
  gsize n_logits;
} Entry;

struct _ValleyPrevious {
  GHashTable *entries; /* slot -> Entry */
  Entry *noted;        /* what valley_previous_begin noted last */
};

static void
answer_clear (Entry *entry)
{
  g_free ((char *) entry->result.text);
  g_free ((char *) entry->result.reasoning);
  g_free ((char *) entry->result.summary);
  g_free ((char *) entry->result.caption);
  g_free ((char *) entry->result.conclusion);
  g_clear_pointer (&entry->output_ids, g_free);
  g_clear_pointer (&entry->logits, g_free);
  entry->result = (ValleyResult){ 0 };
  entry->n_logits = 0;
  entry->is_complete = FALSE;
}

static void
entry_free (gpointer data)
{
  Entry *entry = data;

  answer_clear (entry);
  g_byte_array_unref (entry->key);
  g_free (entry);
}

ValleyPrevious *
valley_previous_new (void)
{
  ValleyPrevious *previous = g_new0 (ValleyPrevious, 1);

  previous->entries = g_hash_table_new_full (NULL, NULL, NULL, entry_free);
  return previous;
}

void
valley_previous_free (ValleyPrevious *previous)
{
  if (previous == NULL)
    return;
  g_hash_table_unref (previous->entries);
  g_free (previous);
}

void
valley_previous_clear (ValleyPrevious *previous)
{
  g_hash_table_remove_all (previous->entries);
  previous->noted = NULL;
}

/* ---- keys ---- */

static void
add_bytes (GByteArray *key, gconstpointer data, gsize n)
{
  guint64 length = n;

  g_byte_array_append (key, (const guint8 *) &length, sizeof length);
  if (n > 0)
    g_byte_array_append (key, data, (guint) n);
}

/* The key as bytes, each part behind its length; nothing for an answer that chance decides. */
static GByteArray *
pack (const ValleyPreviousKey *key)
{
  const ValleyRequest *request = key->request;
  GByteArray *bytes = g_byte_array_new ();
  gint32 markers = request->markers, is_exact = key->is_exact;

  if (request->temperature != 0)
    return bytes;
  add_bytes (bytes, key->ids, key->n_ids * sizeof *key->ids);
  add_bytes (bytes, key->contents, key->n_contents * sizeof *key->contents);
  add_bytes (bytes, &key->max_new_tokens, sizeof key->max_new_tokens);
  add_bytes (bytes, &request->repetition_penalty, sizeof request->repetition_penalty);
  add_bytes (bytes, &markers, sizeof markers);
  add_bytes (bytes, &is_exact, sizeof is_exact);
  for (gsize i = 0; request->stop != NULL && request->stop[i] != NULL; i++)
    add_bytes (bytes, request->stop[i], strlen (request->stop[i]));
  return bytes;
}

static gboolean
is_same (const GByteArray *a, const GByteArray *b)
{
  return a->len > 0 && a->len == b->len && memcmp (a->data, b->data, a->len) == 0;
}

/* ---- answers ---- */

static Entry *
find_entry (ValleyPrevious *previous, guint slot)
{
  Entry *entry = g_hash_table_lookup (previous->entries, GUINT_TO_POINTER (slot));

  if (entry == NULL) {
    entry = g_new0 (Entry, 1);
    entry->key = g_byte_array_new ();
    g_hash_table_insert (previous->entries, GUINT_TO_POINTER (slot), entry);
  }
  return entry;
}

static void
give_again (const Entry *entry, ValleyResult *result)
{
  const ValleyResult *r = &entry->result;

  result->text = r->text;
  result->finish_reason = r->finish_reason;
  result->confidence = r->confidence;
  result->reasoning = r->reasoning;
  result->summary = r->summary;
  result->caption = r->caption;
  result->conclusion = r->conclusion;
  result->output_ids = entry->output_ids;
  result->n_output_tokens = r->n_output_tokens;
  result->n_input_tokens = r->n_input_tokens;
  result->n_vision_tokens = r->n_vision_tokens;
  result->n_vision_tokens_before = r->n_vision_tokens_before;
  result->n_reused_tokens = r->n_input_tokens;
  result->unchanged = TRUE;
}

gboolean
valley_previous_begin (ValleyPrevious *previous, const ValleyPreviousKey *key, ValleyResult *result)
{
  Entry *entry = find_entry (previous, key->request->slot);
  g_autoptr (GByteArray) bytes = pack (key);
  gboolean found = entry->is_complete && entry->window < key->window && is_same (entry->key, bytes);

  previous->noted = entry;
  entry->window = key->window;
  if (found) {
    give_again (entry, result);
    return TRUE;
  }
  answer_clear (entry);
  g_byte_array_unref (entry->key);
  entry->key = g_steal_pointer (&bytes);
  return FALSE;
}

void
valley_previous_finish (ValleyPrevious *previous, const ValleyResult *result, const float *logits,
                        gsize n_logits)
{
  Entry *entry = previous->noted;

  if (entry == NULL || entry->key->len == 0)
    return;
  answer_clear (entry);
  entry->result = (ValleyResult){ .text = g_strdup (result->text),
                                  .finish_reason = g_intern_string (result->finish_reason),
                                  .confidence = result->confidence,
                                  .reasoning = g_strdup (result->reasoning),
                                  .summary = g_strdup (result->summary),
                                  .caption = g_strdup (result->caption),
                                  .conclusion = g_strdup (result->conclusion),
                                  .n_output_tokens = result->n_output_tokens,
                                  .n_input_tokens = result->n_input_tokens,
                                  .n_vision_tokens = result->n_vision_tokens,
                                  .n_vision_tokens_before = result->n_vision_tokens_before };
  entry->output_ids
      = g_memdup2 (result->output_ids, result->n_output_tokens * sizeof *result->output_ids);
  entry->logits = g_memdup2 (logits, n_logits * sizeof *logits);
  entry->n_logits = logits != NULL ? n_logits : 0;
  entry->is_complete = TRUE;
}

const float *
valley_previous_logits (const ValleyPrevious *previous, gsize *n_logits)
{
  *n_logits = previous->noted != NULL ? previous->noted->n_logits : 0;
  return *n_logits > 0 ? previous->noted->logits : NULL;
}
