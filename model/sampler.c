/* sampler.c - from logits to the next token: greedy, or drawn with a seeded generator.
 * SPDX-License-Identifier: Apache-2.0 */
#include "sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  double score; /* a logit, then a probability */
  gint32 id;
} Candidate;

struct _ValleySampler {
  ValleySamplerOptions options;
  gsize n;
  guint64 state; /* of the generator */
  guint8 *seen;  /* a flag for each token */
  double *scores;
  Candidate *sorted;
};

/* SplitMix64: a counter through a mixing function; tiny, and good enough for drawing words. */
static double
draw_unit (ValleySampler *sampler)
{
  guint64 z = (sampler->state += G_GUINT64_CONSTANT (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * G_GUINT64_CONSTANT (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * G_GUINT64_CONSTANT (0x94d049bb133111eb);
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1.0p-53;
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
  sampler->seen = g_try_new0 (guint8, n_vocabulary);
  sampler->scores = g_try_new (double, n_vocabulary);
  sampler->sorted = g_try_new (Candidate, n_vocabulary);
  if (sampler->seen != NULL && sampler->scores != NULL && sampler->sorted != NULL)
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
  g_free (sampler->scores);
  g_free (sampler->sorted);
  g_free (sampler);
}

void
valley_sampler_see (ValleySampler *sampler, gint32 id)
{
  if (id >= 0 && (gsize)id < sampler->n)
    sampler->seen[id] = TRUE;
}

/* The first of the largest; FALSE when a NaN is among them or nothing is finite. */
static gboolean
find_maximum (const double *scores, gsize n, gsize *best)
{
  *best = 0;
  for (gsize i = 0; i < n; i++) {
    if (isnan (scores[i]) || scores[i] == INFINITY)
      return FALSE;
    if (scores[i] > scores[*best])
      *best = i;
  }
  return isfinite (scores[*best]);
}

static double
log_sum_exp (const float *logits, gsize n)
{
  double max = -INFINITY, sum = 0;

  for (gsize i = 0; i < n; i++)
    max = MAX (max, (double)logits[i]);
  for (gsize i = 0; i < n; i++)
    sum += exp ((double)logits[i] - max);
  return max + log (sum);
}

/* Likeliest first; equal scores by id, so that a seed always gives the same answer. */
static int
compare (const void *a, const void *b)
{
  const Candidate *x = a, *y = b;

  if (x->score != y->score)
    return x->score > y->score ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

/* Sorts what may be drawn; top-k keeps everything that equals its last score. */
static gsize
keep_top_k (ValleySampler *sampler)
{
  gsize k = sampler->options.top_k, n = 0;

  for (gsize i = 0; i < sampler->n; i++)
    if (isfinite (sampler->scores[i]))
      sampler->sorted[n++] = (Candidate){ sampler->scores[i], (gint32)i };
  qsort (sampler->sorted, n, sizeof *sampler->sorted, compare);
  if (k == 0 || k >= n)
    return n;
  while (k < n && sampler->sorted[k].score == sampler->sorted[k - 1].score)
    k++;
  return k;
}

/* Softmax over the first @n candidates, then drops from the unlikely end while what is dropped
 * sums to at most 1 - p; the likeliest always stays. */
static gsize
keep_top_p (ValleySampler *sampler, gsize n)
{
  Candidate *c = sampler->sorted;
  double max = c[0].score, sum = 0, dropped = 0;

  for (gsize i = 0; i < n; i++)
    sum += c[i].score = exp (c[i].score - max);
  for (gsize i = 0; i < n; i++)
    c[i].score /= sum;
  if (sampler->options.top_p >= 1)
    return n;
  while (n > 1 && dropped + c[n - 1].score <= 1 - sampler->options.top_p)
    dropped += c[--n].score;
  return n;
}

/* @best: the largest score's place.  Distances from it are divided, not the scores: under a
 * tiny temperature those would become infinite and the likeliest token the first to go. */
static gsize
draw (ValleySampler *sampler, gsize best)
{
  double total = 0, target, max = sampler->scores[best];
  gsize n;

  for (gsize i = 0; i < sampler->n; i++)
    sampler->scores[i] = (sampler->scores[i] - max) / sampler->options.temperature;
  n = keep_top_p (sampler, keep_top_k (sampler));
  for (gsize i = 0; i < n; i++)
    total += sampler->sorted[i].score;
  target = draw_unit (sampler) * total;
  for (gsize i = 0; i < n; i++) {
    target -= sampler->sorted[i].score;
    if (target < 0)
      return (gsize)sampler->sorted[i].id;
  }
  return (gsize)sampler->sorted[n - 1].id; /* rounding ate the rest */
}

gboolean
valley_sampler_pick (ValleySampler *sampler, const float *logits, gint32 *id,
                     double *log_probability, GError **error)
{
  double penalty = sampler->options.repetition_penalty;
  gsize best;

  for (gsize i = 0; i < sampler->n; i++) {
    double score = logits[i];

    if (sampler->seen[i] && penalty != 1)
      score = score < 0 ? score * penalty : score / penalty;
    sampler->scores[i] = score;
  }
  if (!find_maximum (sampler->scores, sampler->n, &best)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                 "the model computed logits that are no numbers; expected finite ones (are the "
                 "weights damaged?)");
    return FALSE;
  }
  if (sampler->options.temperature > 0)
    best = draw (sampler, best);
  *id = (gint32)best;
  *log_probability = (double)logits[best] - log_sum_exp (logits, sampler->n);
  valley_sampler_see (sampler, *id);
  return TRUE;
}
