/* sampler.c - from logits to the next token: greedy, or drawn with a seeded generator.
 *
 * Drawing walks the candidates from the likeliest on and stops as soon as the drawn one is
 * reached, so they are put in order only as far as that: of a vocabulary of 150,000 words few
 * are ever looked at.
 * SPDX-License-Identifier: Apache-2.0 */
#include "sampler.h"

#include "alloc.h"

#include <math.h>
#include <stdlib.h>

/* Parts that are waiting to be ordered, each before the next; expected: twice log2 of the
 * vocabulary. */
#define MAX_PARTS 64
#define SMALL_PART 32 /* not worth cutting further */

typedef struct {
  double score; /* distance from the best, at most 0, over the temperature */
  gint32 id;
} Candidate;

/* Candidates in order up to `n_sorted`; from there on every part ranks before those after it. */
typedef struct {
  Candidate *candidates;
  gsize n, n_sorted;
  gsize ends[MAX_PARTS]; /* of the parts, the nearest last */
  guint n_parts;
} Ranking;

struct _ValleySampler {
  ValleySamplerOptions options;
  gsize n;
  guint64 state; /* of the generator */
  guint8 *seen;  /* a flag for each token */
  Candidate *candidates;
};

/* SplitMix64: a counter through a mixing function; tiny, and good enough for drawing words. */
static double
draw_unit (ValleySampler *sampler)
{
  guint64 z = (sampler->state += G_GUINT64_CONSTANT (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * G_GUINT64_CONSTANT (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * G_GUINT64_CONSTANT (0x94d049bb133111eb);
  z ^= z >> 31;
  return (double) (z >> 11) * 0x1.0p-53;
}

static gboolean
check (const char *name, double value, double min, double max, GError **error)
{
  if (value >= min && value <= max)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT, "%s is %g; expected %g to %g", name,
               value, min, max);
  return FALSE;
}

ValleySampler *
valley_sampler_new (const ValleySamplerOptions *options, gsize n_vocabulary, GError **error)
{
  ValleySampler *sampler;

  if (!check ("temperature", options->temperature, 0, 1000, error)
      || !check ("top-p", options->top_p, 0, 1, error)
      || !check ("repetition penalty", options->repetition_penalty, 1e-3, 1e3, error))
    return NULL;
  sampler = g_new0 (ValleySampler, 1);
  sampler->options = *options;
  sampler->n = n_vocabulary;
  sampler->state = options->seed;
  sampler->seen = VALLEY_NEW0 (guint8, n_vocabulary);
  sampler->candidates = VALLEY_NEW (Candidate, n_vocabulary);
  if (sampler->seen != NULL && sampler->candidates != NULL)
    return sampler;
  valley_sampler_free (sampler);
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
               "not enough memory to sample from %" G_GSIZE_FORMAT " tokens", n_vocabulary);
  return NULL;
}

void
valley_sampler_free (ValleySampler *sampler)
{
  if (sampler == NULL)
    return;
  g_free (sampler->seen);
  g_free (sampler->candidates);
  g_free (sampler);
}

void
valley_sampler_see (ValleySampler *sampler, gint32 id)
{
  if (id >= 0 && (gsize) id < sampler->n)
    sampler->seen[id] = TRUE;
}

static double
score_of (const ValleySampler *sampler, const float *logits, gsize i)
{
  double score = logits[i], penalty = sampler->options.repetition_penalty;

  if (!sampler->seen[i])
    return score;
  return score < 0 ? score * penalty : score / penalty;
}

/* The first of the largest scores; FALSE when a NaN is among them or nothing is finite. */
static gboolean
find_best (const ValleySampler *sampler, const float *logits, gsize *best)
{
  double best_score = -INFINITY;

  *best = 0;
  for (gsize i = 0; i < sampler->n; i++) {
    double score = score_of (sampler, logits, i);

    if (isnan (score) || score == INFINITY)
      return FALSE;
    if (score > best_score) {
      best_score = score;
      *best = i;
    }
  }
  return isfinite (best_score);
}

static double
log_sum_exp (const float *logits, gsize n)
{
  double max = -INFINITY, sum = 0;

  for (gsize i = 0; i < n; i++)
    max = MAX (max, (double) logits[i]);
  for (gsize i = 0; i < n; i++)
    sum += exp ((double) logits[i] - max);
  return max + log (sum);
}

/* ---- the ranking ---- */

/* Likeliest first; equal scores by id, so that a seed always gives the same answer. */
static inline gboolean
ranks_before (Candidate a, Candidate b)
{
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

static int
compare (const void *a, const void *b)
{
  const Candidate *x = a, *y = b;

  return ranks_before (*x, *y) ? -1 : ranks_before (*y, *x);
}

static Candidate
middle_of (Candidate a, Candidate b, Candidate c)
{
  if (ranks_before (b, a)) {
    Candidate swap = a;

    a = b;
    b = swap;
  }
  return ranks_before (c, a) ? a : ranks_before (c, b) ? c : b;
}

/* Splits c[0 ... n - 1] in two, the first before the second; returns the first one's length.
 * No two candidates rank alike, so the middle of three leaves neither empty. */
static gsize
split (Candidate *c, gsize n)
{
  Candidate pivot = middle_of (c[0], c[n / 2], c[n - 1]);
  gsize i = 0, j = n - 1;

  for (;;) {
    Candidate swap;

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

/* The candidate at @place of the order: a quicksort that leaves for later what lies behind. */
static Candidate
ranked (Ranking *ranking, gsize place)
{
  while (ranking->n_sorted <= place) {
    Candidate *part = ranking->candidates + ranking->n_sorted;
    gsize end = ranking->ends[ranking->n_parts - 1], n = end - ranking->n_sorted;

    if (n > SMALL_PART && ranking->n_parts < MAX_PARTS) {
      ranking->ends[ranking->n_parts++] = ranking->n_sorted + split (part, n);
    } else {
      qsort (part, n, sizeof *part, compare);
      ranking->n_sorted = end;
      ranking->n_parts--;
    }
  }
  return ranking->candidates[place];
}

/* Distances from the best score are divided by the temperature, not the scores: under a tiny
 * one those would become infinite and the likeliest token the first to go. */
static Ranking
rank (ValleySampler *sampler, const float *logits, gsize best)
{
  Ranking ranking = { .candidates = sampler->candidates, .n_parts = 1 };
  double max = score_of (sampler, logits, best);

  for (gsize i = 0; i < sampler->n; i++) {
    double score = (score_of (sampler, logits, i) - max) / sampler->options.temperature;

    if (isfinite (score))
      ranking.candidates[ranking.n++] = (Candidate){ score, (gint32) i };
  }
  ranking.ends[0] = ranking.n;
  return ranking;
}

/* ---- drawing ---- */

/* How many of the likeliest top-k leaves: everything that equals the last one's score stays. */
static gsize
keep_top_k (Ranking *ranking, gsize k)
{
  if (k == 0 || k >= ranking->n)
    return ranking->n;
  for (double last = ranked (ranking, k - 1).score; k < ranking->n; k++)
    if (ranked (ranking, k).score != last)
      break;
  return k;
}

/* How many of the likeliest @n top-p leaves: from the unlikely end everything goes that sums to
 * at most 1 - p of the whole @weight, but never the likeliest.  @weight becomes what is left. */
static gsize
keep_top_p (Ranking *ranking, gsize n, double p, double *weight)
{
  double total = *weight, kept = 0;
  gsize i = 0;

  if (p >= 1)
    return n;
  do
    kept += exp (ranked (ranking, i++).score);
  while (i < n && total - kept > (1 - p) * total);
  *weight = kept;
  return i;
}

static gsize
draw (ValleySampler *sampler, const float *logits, gsize best)
{
  Ranking ranking = rank (sampler, logits, best);
  gsize n = keep_top_k (&ranking, sampler->options.top_k);
  double weight = 0, target;

  for (gsize i = 0; i < n; i++)
    weight += exp (ranking.candidates[i].score);
  n = keep_top_p (&ranking, n, sampler->options.top_p, &weight);
  target = draw_unit (sampler) * weight;
  for (gsize i = 0; i < n; i++) {
    Candidate candidate = ranked (&ranking, i);

    target -= exp (candidate.score);
    if (target < 0)
      return (gsize) candidate.id;
  }
  return (gsize) ranked (&ranking, n - 1).id; /* rounding ate the rest */
}

gboolean
valley_sampler_pick (ValleySampler *sampler, const float *logits, gint32 *id,
                     double *log_probability, GError **error)
{
  gsize best;

  if (!find_best (sampler, logits, &best)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                 "the model computed logits that are no numbers; expected finite ones (are the "
                 "weights damaged?)");
    return FALSE;
  }
  if (sampler->options.temperature > 0)
    best = draw (sampler, logits, best);
  *id = (gint32) best;
  *log_probability = (double) logits[best] - log_sum_exp (logits, sampler->n);
  valley_sampler_see (sampler, *id);
  return TRUE;
}
