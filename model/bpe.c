/* bpe.c - byte-pair merging with a priority queue over a linked list of symbols, so that a
 * piece of a million letters costs n log n and not n squared.
 * SPDX-License-Identifier: Apache-2.0 */
#include "bpe.h"

#include "alloc.h"

#include <string.h>

#define NO_PAIR G_MAXUINT64
#define NOWHERE G_MAXSIZE
#define FIRST_SLOTS ((gsize) 1024)
#define MAX_PIECE ((gsize) 1 << 24)

typedef struct {
  guint64 pair; /* left id, right id; NO_PAIR: an empty slot */
  guint32 rank;
  gint32 merged;
} Merge;

struct _ValleyBpe {
  gint32 byte_ids[256];
  Merge *slots; /* open addressing, a power of two, at most half full */
  gsize mask;
  guint32 n_merges;
};

typedef struct {
  gint32 id; /* -1: merged into its left neighbour */
  gsize previous, next;
} Symbol;

/* A possible merge of the symbol at `position` with its right neighbour.  It may be out of
 * date by the time it is taken from the queue. */
typedef struct {
  guint32 rank;
  gint32 merged;
  gsize position;
} Candidate;

static Merge *
allocate_slots (gsize n)
{
  Merge *slots = VALLEY_NEW (Merge, n);

  for (gsize i = 0; slots != NULL && i < n; i++)
    slots[i].pair = NO_PAIR;
  return slots;
}

ValleyBpe *
valley_bpe_new (const gint32 byte_ids[256])
{
  Merge *slots = allocate_slots (FIRST_SLOTS);
  ValleyBpe *bpe;

  if (slots == NULL)
    return NULL;
  bpe = g_new0 (ValleyBpe, 1);
  memcpy (bpe->byte_ids, byte_ids, sizeof bpe->byte_ids);
  bpe->slots = slots;
  bpe->mask = FIRST_SLOTS - 1;
  return bpe;
}

void
valley_bpe_free (ValleyBpe *bpe)
{
  if (bpe == NULL)
    return;
  g_free (bpe->slots);
  g_free (bpe);
}

/* The slot that holds the pair, or the empty one where it belongs. */
static Merge *
find_pair (Merge *slots, gsize mask, guint64 pair)
{
  gsize i = (gsize) ((pair * G_GUINT64_CONSTANT (0x9E3779B97F4A7C15)) >> 32) & mask;

  while (slots[i].pair != pair && slots[i].pair != NO_PAIR)
    i = (i + 1) & mask;
  return &slots[i];
}

static Merge *
find_slot (const ValleyBpe *bpe, gint32 left, gint32 right)
{
  return find_pair (bpe->slots, bpe->mask, (guint64) (guint32) left << 32 | (guint32) right);
}

static gboolean
grow (ValleyBpe *bpe)
{
  gsize n = 2 * (bpe->mask + 1);
  Merge *slots = allocate_slots (n);

  if (slots == NULL)
    return FALSE;
  for (gsize i = 0; i <= bpe->mask; i++)
    if (bpe->slots[i].pair != NO_PAIR)
      *find_pair (slots, n - 1, bpe->slots[i].pair) = bpe->slots[i];
  g_free (bpe->slots);
  bpe->slots = slots;
  bpe->mask = n - 1;
  return TRUE;
}

gboolean
valley_bpe_add_merge (ValleyBpe *bpe, gint32 left, gint32 right, gint32 merged)
{
  Merge *slot;

  if (bpe->n_merges == G_MAXUINT32 || (2 * (gsize) bpe->n_merges >= bpe->mask && !grow (bpe)))
    return FALSE;
  slot = find_slot (bpe, left, right);
  slot->pair = (guint64) (guint32) left << 32 | (guint32) right;
  slot->rank = bpe->n_merges++;
  slot->merged = merged;
  return TRUE;
}

void
valley_bpe_scratch_init (ValleyBpeScratch *scratch)
{
  scratch->symbols = g_array_new (FALSE, FALSE, sizeof (Symbol));
  scratch->queue = g_array_new (FALSE, FALSE, sizeof (Candidate));
}

void
valley_bpe_scratch_clear (ValleyBpeScratch *scratch)
{
  g_array_unref (scratch->symbols);
  g_array_unref (scratch->queue);
}

/* Best rank first; of equal ranks the leftmost. */
static gboolean
comes_before (const Candidate *a, const Candidate *b)
{
  return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static void
queue_push (GArray *queue, Candidate candidate)
{
  Candidate *heap;
  gsize i = queue->len;

  g_array_append_val (queue, candidate);
  heap = (Candidate *) (gpointer) queue->data;
  while (i > 0 && comes_before (&candidate, &heap[(i - 1) / 2])) {
    heap[i] = heap[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  heap[i] = candidate;
}

static Candidate
queue_pop (GArray *queue)
{
  Candidate *heap = (Candidate *) (gpointer) queue->data;
  Candidate top = heap[0], last = heap[queue->len - 1];
  gsize n = queue->len - 1, i = 0, child;

  g_array_set_size (queue, (guint) n);
  while ((child = 2 * i + 1) < n) {
    if (child + 1 < n && comes_before (&heap[child + 1], &heap[child]))
      child++;
    if (!comes_before (&heap[child], &last))
      break;
    heap[i] = heap[child];
    i = child;
  }
  if (n > 0)
    heap[i] = last;
  return top;
}

/* Queues the merge of the symbol at @position with its right neighbour, if there is one. */
static void
consider (const ValleyBpe *bpe, const Symbol *symbols, gsize position, GArray *queue)
{
  const Merge *merge;
  gsize next = symbols[position].next;

  if (next == NOWHERE)
    return;
  merge = find_slot (bpe, symbols[position].id, symbols[next].id);
  if (merge->pair != NO_PAIR)
    queue_push (queue, (Candidate){ merge->rank, merge->merged, position });
}

/* Is it still there, and would it still give the same token? */
static gboolean
is_current (const ValleyBpe *bpe, const Symbol *symbols, const Candidate *candidate)
{
  const Symbol *left = &symbols[candidate->position];
  const Merge *merge;

  if (left->id < 0 || left->next == NOWHERE)
    return FALSE;
  merge = find_slot (bpe, left->id, symbols[left->next].id);
  return merge->pair != NO_PAIR && merge->merged == candidate->merged;
}

static void
apply (const ValleyBpe *bpe, Symbol *symbols, const Candidate *candidate, GArray *queue)
{
  Symbol *left = &symbols[candidate->position];
  Symbol *right = &symbols[left->next];

  left->id = candidate->merged;
  left->next = right->next;
  right->id = -1;
  if (left->next != NOWHERE)
    symbols[left->next].previous = candidate->position;
  if (left->previous != NOWHERE)
    consider (bpe, symbols, left->previous, queue);
  consider (bpe, symbols, candidate->position, queue);
}

static void
encode_piece (const ValleyBpe *bpe, const guint8 *bytes, gsize n, ValleyBpeScratch *scratch,
              GArray *ids)
{
  Symbol *symbols;

  g_array_set_size (scratch->symbols, (guint) n);
  g_array_set_size (scratch->queue, 0);
  symbols = (Symbol *) (gpointer) scratch->symbols->data;
  for (gsize i = 0; i < n; i++)
    symbols[i]
        = (Symbol){ bpe->byte_ids[bytes[i]], i > 0 ? i - 1 : NOWHERE, i + 1 < n ? i + 1 : NOWHERE };
  for (gsize i = 0; i + 1 < n; i++)
    consider (bpe, symbols, i, scratch->queue);
  while (scratch->queue->len > 0) {
    Candidate candidate = queue_pop (scratch->queue);

    if (is_current (bpe, symbols, &candidate))
      apply (bpe, symbols, &candidate, scratch->queue);
  }
  for (gsize i = 0; i != NOWHERE; i = symbols[i].next)
    g_array_append_val (ids, symbols[i].id);
}

void
valley_bpe_encode (const ValleyBpe *bpe, const guint8 *bytes, gsize n, ValleyBpeScratch *scratch,
                   GArray *ids)
{
  /* GArray counts in 32 bits: a word of more than 16 MiB is cut. */
  for (; n > MAX_PIECE; bytes += MAX_PIECE, n -= MAX_PIECE)
    encode_piece (bpe, bytes, MAX_PIECE, scratch, ids);
  if (n > 0)
    encode_piece (bpe, bytes, n, scratch, ids);
}
