/* ranking.h - candidates for the next token, put in order only as far as somebody looks: of a
 * vocabulary of 150,000 words few are ever looked at.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

/* Parts that are waiting to be ordered, each before the next; expected: twice log2 of the
 * vocabulary. */
#define VALLEY_RANKING_PARTS 64

typedef struct {
  double score; /* distance from the best, at most 0, over the temperature */
  gint32 id;
} ValleyCandidate;

/* Candidates in order up to `n_sorted`; from there on every part ranks before those after it. */
typedef struct {
  ValleyCandidate *candidates;
  gsize n, n_sorted;
  gsize ends[VALLEY_RANKING_PARTS]; /* of the parts, the nearest last */
  guint n_parts;
} ValleyRanking;

/* Of @n candidates in any order. */
void valley_ranking_init (ValleyRanking *ranking, ValleyCandidate *candidates, gsize n);
/* The candidate at @place of the order: likeliest first, equal scores by id. */
ValleyCandidate valley_ranking_get (ValleyRanking *ranking, gsize place);
