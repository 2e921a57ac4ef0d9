/* draft.c - guesses how an answer goes on: a cursor in the previous answer, and how often it was
 * right before.
 * SPDX-License-Identifier: Apache-2.0 */
#include "draft.h"

/* A row more costs 0.07 to 0.15 of a pass where weights are read from memory or bf16
 * instructions are at hand, 0.4 at worst (tests/bench-draft).  A guess less likely than this is
 * not worth its row. */
#define LEAST_CHANCE 0.35

/* The longer the answers agree already, the likelier they go on agreeing: guesses are counted by
 * how many tokens before them agreed, LONG_MATCH meaning so many or more. */
#define LONG_MATCH 4
#define N_CLASSES (LONG_MATCH + 1)

/* Before anything is known: two guesses' worth of a stream that changes little.  Older guesses
 * count less and less, as scenes change. */
#define PRIOR_GUESSES 2.0
#define PRIOR_CHANCE 0.7
#define FADING 0.95

typedef struct {
  double guesses, right;
} Record;

struct _ValleyDraft {
  GArray *previous, *current; /* token ids */
  gsize cursor;               /* in `previous`: the guess for the next token */
  gsize match;                /* so many tokens before the cursor agree; at most LONG_MATCH */
  Record records[N_CLASSES];  /* by the match that a guess was made with */
};

ValleyDraft *
valley_draft_new (void)
{
  ValleyDraft *draft = g_new0 (ValleyDraft, 1);

  draft->previous = g_array_new (FALSE, FALSE, sizeof (gint32));
  draft->current = g_array_new (FALSE, FALSE, sizeof (gint32));
  return draft;
}

void
valley_draft_free (ValleyDraft *draft)
{
  if (draft == NULL)
    return;
  g_array_unref (draft->previous);
  g_array_unref (draft->current);
  g_free (draft);
}

void
valley_draft_begin (ValleyDraft *draft)
{
  g_array_set_size (draft->current, 0);
  draft->cursor = 0;
  draft->match = LONG_MATCH; /* two answers to one question begin alike */
}

void
valley_draft_keep (ValleyDraft *draft)
{
  GArray *previous = draft->previous;

  draft->previous = draft->current;
  draft->current = previous;
  valley_draft_begin (draft);
}

static gint32
id_at (const GArray *ids, gsize i)
{
  return g_array_index (ids, gint32, i);
}

/* How many tokens agree that end before @end in the previous answer and at the current one's
 * end; no more than a long match. */
static gsize
match_before (const ValleyDraft *draft, gsize end)
{
  gsize most = MIN (MIN (end, draft->current->len), LONG_MATCH), n = 0;

  while (n < most
         && id_at (draft->previous, end - 1 - n)
                == id_at (draft->current, draft->current->len - 1 - n))
    n++;
  return n;
}

static gsize
distance (gsize a, gsize b)
{
  return a > b ? a - b : b - a;
}

/* After a wrong guess: goes on behind the place that agrees longest with the last tokens, of
 * several the nearest.  Where none does, the token was perhaps one word in another's place. */
static void
find_place (ValleyDraft *draft)
{
  gsize replaced = draft->cursor + 1;

  draft->cursor = replaced;
  draft->match = 0;
  for (gsize end = 1; end <= draft->previous->len; end++) {
    gsize match = match_before (draft, end);

    if (match > draft->match
        || (match > 0 && match == draft->match
            && distance (end, replaced) < distance (draft->cursor, replaced))) {
      draft->match = match;
      draft->cursor = end;
    }
  }
}

void
valley_draft_add (ValleyDraft *draft, gint32 id)
{
  Record *record = &draft->records[draft->match];
  gboolean guessed = draft->cursor < draft->previous->len;
  gboolean right = guessed && id_at (draft->previous, draft->cursor) == id;

  g_array_append_val (draft->current, id);
  if (guessed) {
    /* Whether it was proposed or not: what would have come of it is known. */
    record->guesses = record->guesses * FADING + 1;
    record->right = record->right * FADING + (right ? 1 : 0);
  }
  if (right) {
    draft->cursor++;
    draft->match = MIN (draft->match + 1, LONG_MATCH);
  } else {
    find_place (draft);
  }
}

static double
chance (const Record *record)
{
  return (record->right + PRIOR_CHANCE * PRIOR_GUESSES) / (record->guesses + PRIOR_GUESSES);
}

gsize
valley_draft_propose (const ValleyDraft *draft, gint32 *ids, gsize most)
{
  gsize left = draft->cursor < draft->previous->len ? draft->previous->len - draft->cursor : 0;
  double all_right = 1;
  gsize n = 0;

  for (most = MIN (most, MIN (left, VALLEY_MAX_DRAFT)); n < most; n++) {
    all_right *= chance (&draft->records[MIN (draft->match + n, LONG_MATCH)]);
    if (all_right < LEAST_CHANCE)
      break;
    ids[n] = id_at (draft->previous, draft->cursor + n);
  }
  return n;
}
