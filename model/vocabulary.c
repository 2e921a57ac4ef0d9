/* vocabulary.c - text to id by open addressing; the texts lie one after another.
 * SPDX-License-Identifier: Apache-2.0 */
#include "vocabulary.h"

#include "alloc.h"

#include <string.h>

#define FIRST_SLOTS 1024

typedef struct {
  gsize offset; /* into texts */
  guint32 length, hash;
  gint32 id; /* -1: an empty slot */
} Slot;

struct _ValleyVocabulary {
  GString *texts;
  Slot *slots;
  gsize n_slots; /* a power of two */
  gsize n_used;  /* at most half of them */
};

static Slot *
allocate_slots (gsize n)
{
  Slot *slots = VALLEY_NEW (Slot, n);

  for (gsize i = 0; slots != NULL && i < n; i++)
    slots[i].id = -1;
  return slots;
}

ValleyVocabulary *
valley_vocabulary_new (void)
{
  ValleyVocabulary *vocabulary = g_new0 (ValleyVocabulary, 1);

  vocabulary->texts = g_string_new (NULL);
  return vocabulary;
}

void
valley_vocabulary_free (ValleyVocabulary *vocabulary)
{
  if (vocabulary == NULL)
    return;
  g_string_free (vocabulary->texts, TRUE);
  g_free (vocabulary->slots);
  g_free (vocabulary);
}

/* FNV-1a. */
static guint32
hash_text (const char *text, gsize length)
{
  guint32 hash = 2166136261u;

  for (gsize i = 0; i < length; i++)
    hash = (hash ^ (guint8) text[i]) * 16777619u;
  return hash;
}

/* The slot that holds the text, or the empty one where it belongs. */
static Slot *
find_slot (const ValleyVocabulary *vocabulary, const char *text, gsize length, guint32 hash)
{
  gsize i = hash & (vocabulary->n_slots - 1);

  for (; vocabulary->slots[i].id >= 0; i = (i + 1) & (vocabulary->n_slots - 1)) {
    const Slot *slot = &vocabulary->slots[i];

    if (slot->hash == hash && slot->length == length
        && memcmp (vocabulary->texts->str + slot->offset, text, length) == 0)
      break;
  }
  return &vocabulary->slots[i];
}

static gboolean
grow (ValleyVocabulary *vocabulary)
{
  gsize n = MAX (2 * vocabulary->n_slots, FIRST_SLOTS);
  Slot *slots = allocate_slots (n);

  if (slots == NULL)
    return FALSE;
  for (gsize i = 0; i < vocabulary->n_slots; i++) {
    gsize at = vocabulary->slots[i].hash & (n - 1);

    if (vocabulary->slots[i].id < 0)
      continue;
    while (slots[at].id >= 0)
      at = (at + 1) & (n - 1);
    slots[at] = vocabulary->slots[i];
  }
  g_free (vocabulary->slots);
  vocabulary->slots = slots;
  vocabulary->n_slots = n;
  return TRUE;
}

ValleyVocabularyResult
valley_vocabulary_add (ValleyVocabulary *vocabulary, const char *text, gsize length, gint32 id)
{
  guint32 hash = hash_text (text, length);
  Slot *slot;

  if (length > G_MAXUINT32
      || (2 * (vocabulary->n_used + 1) > vocabulary->n_slots && !grow (vocabulary))
      || !valley_alloc_string (vocabulary->texts, length))
    return VALLEY_VOCABULARY_FULL;
  slot = find_slot (vocabulary, text, length, hash);
  if (slot->id >= 0)
    return VALLEY_VOCABULARY_TWICE;
  *slot = (Slot){ vocabulary->texts->len, (guint32) length, hash, id };
  g_string_append_len (vocabulary->texts, text, (gssize) length);
  vocabulary->n_used++;
  return VALLEY_VOCABULARY_ADDED;
}

gint32
valley_vocabulary_find (const ValleyVocabulary *vocabulary, const char *text, gsize length)
{
  if (vocabulary->n_slots == 0)
    return -1;
  return find_slot (vocabulary, text, length, hash_text (text, length))->id;
}
