/* ranking.c - see ranking.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ranking.h"

#include <stdlib.h>

#define SMALL_PART 32 /* not worth cutting further */

/* Likeliest first; equal scores by id, so that a seed always gives the same answer. */
static inline gboolean
ranks_before (ValleyCandidate a, ValleyCandidate b)
{
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

static int
compare (const void *a, const void *b)
{
  const ValleyCandidate *x = a, *y = b;

  return ranks_before (*x, *y) ? -1 : ranks_before (*y, *x);
}

static ValleyCandidate
middle_of (ValleyCandidate a, ValleyCandidate b, ValleyCandidate c)
{
  if (ranks_before (b, a)) {
    ValleyCandidate swap = a;

    a = b;
    b = swap;
  }
  return ranks_before (c, a) ? a : ranks_before (c, b) ? c : b;
}

/* Splits c[0 ... n - 1] in two, the first before the second; returns the first one's length.
 * No two candidates rank alike, so the middle of three leaves neither empty. */
static gsize
split (ValleyCandidate *c, gsize n)
{
  ValleyCandidate pivot = middle_of (c[0], c[n / 2], c[n - 1]);
  gsize i = 0, j = n - 1;

  for (;;) {
    ValleyCandidate swap;

    while (ranks_before (c[i], pivot))
      i++;
    while (ranks_before (pivot, c[j]))
      j--;
    if (i >= j)
      return i;
    swap = c[i];
    c[i++] = c[j];
    c[j--] = swap;
  }
}

/* A quicksort that leaves for later what lies behind. */
ValleyCandidate
valley_ranking_get (ValleyRanking *ranking, gsize place)
{
  while (ranking->n_sorted <= place) {
    ValleyCandidate *part = ranking->candidates + ranking->n_sorted;
    gsize end = ranking->ends[ranking->n_parts - 1], n = end - ranking->n_sorted;

    if (n > SMALL_PART && ranking->n_parts < VALLEY_RANKING_PARTS) {
      ranking->ends[ranking->n_parts++] = ranking->n_sorted + split (part, n);
    } else {
      qsort (part, n, sizeof *part, compare);
      ranking->n_sorted = end;
      ranking->n_parts--;
    }
  }
  return ranking->candidates[place];
}

void
valley_ranking_init (ValleyRanking *ranking, ValleyCandidate *candidates, gsize n)
{
  ranking->candidates = candidates;
  ranking->n = n;
  ranking->n_sorted = 0;
  ranking->ends[0] = n;
  ranking->n_parts = 1;
}
