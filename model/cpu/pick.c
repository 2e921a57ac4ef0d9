/* pick.c - from logits to tokens: the likeliest, or drawn with a given random number.
 * SPDX-License-Identifier: Apache-2.0 */
#include "internal.h"
#include "ranking.h"

#include <math.h>
#include <string.h>

/* What picking from one row looks at. */
typedef struct {
  const ValleyPick *pick;
  const float *logits;
  gsize n;
  const guint32 *seen, *allowed; /* bits, or NULL: none, all */
} Row;

static inline gboolean
has_bit (const guint32 *bits, gsize i)
{
  return (bits[i / 32] >> i % 32 & 1) != 0;
}

static inline double
score_of (const Row *row, gsize i)
{
  double score = row->logits[i], penalty = row->pick->repetition_penalty;

  if (row->seen == NULL || !has_bit (row->seen, i))
    return score;
  return score < 0 ? score * penalty : score / penalty;
}

/* The first of the largest scores; FALSE when a NaN is among them or nothing is finite. */
static gboolean
find_best (const Row *row, gsize *best)
{
  double best_score = -INFINITY;

  *best = 0;
  for (gsize i = 0; i < row->n; i++) {
    double score = score_of (row, i);

    if (isnan (score) || score == INFINITY)
      return FALSE;
    if (score > best_score && (row->allowed == NULL || has_bit (row->allowed, i))) {
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

/* ---- drawing ---- */

/* Distances from the best score are divided by the temperature, not the scores: under a tiny
 * one those would become infinite and the likeliest token the first to go. */
static void
rank (const Row *row, gsize best, ValleyCandidate *candidates, ValleyRanking *ranking)
{
  double max = score_of (row, best);
  gsize n = 0;

  for (gsize i = 0; i < row->n; i++) {
    double score = (score_of (row, i) - max) / row->pick->temperature;

    if (isfinite (score) && (row->allowed == NULL || has_bit (row->allowed, i)))
      candidates[n++] = (ValleyCandidate){ score, (gint32) i };
  }
  valley_ranking_init (ranking, candidates, n);
}

/* How many of the likeliest top-k leaves: everything that equals the last one's score stays. */
static gsize
keep_top_k (ValleyRanking *ranking, gsize k)
{
  if (k == 0 || k >= ranking->n)
    return ranking->n;
  for (double last = valley_ranking_get (ranking, k - 1).score; k < ranking->n; k++)
    if (valley_ranking_get (ranking, k).score != last)
      break;
  return k;
}

/* How many of the likeliest @n top-p leaves: from the unlikely end everything goes that sums to
 * at most 1 - p of the whole @weight, but never the likeliest.  @weight becomes what is left. */
static gsize
keep_top_p (ValleyRanking *ranking, gsize n, double p, double *weight)
{
  double total = *weight, kept = 0;
  gsize i = 0;

  if (p >= 1)
    return n;
  do
    kept += exp (valley_ranking_get (ranking, i++).score);
  while (i < n && total - kept > (1 - p) * total);
  *weight = kept;
  return i;
}

/* Walks the candidates from the likeliest on, to the one that @unit (0 ... below 1) falls on. */
static gint32
draw (const Row *row, gsize best, double unit, ValleyCandidate *candidates)
{
  ValleyRanking ranking;
  double weight = 0, target;
  gsize n;

  rank (row, best, candidates, &ranking);
  n = keep_top_k (&ranking, row->pick->top_k);
  for (gsize i = 0; i < n; i++)
    weight += exp (ranking.candidates[i].score);
  n = keep_top_p (&ranking, n, row->pick->top_p, &weight);
  target = unit * weight;
  for (gsize i = 0; i < n; i++) {
    ValleyCandidate candidate = valley_ranking_get (&ranking, i);

    target -= exp (candidate.score);
    if (target < 0)
      return candidate.id;
  }
  return valley_ranking_get (&ranking, n - 1).id; /* rounding ate the rest */
}

/* ---- the operation ---- */

typedef struct {
  const ValleyTensor *picks, *logits;
  const ValleyPick *pick;
  gsize n_words;
  guint32 *seen;               /* every row's, or NULL */
  ValleyCandidate *candidates; /* one row's, with a temperature */
} Job;

static double
unit_of (const ValleyTensor *draws, gsize row)
{
  const guint32 *words = valley_cpu_row (draws, 0);

  return (double) (words[2 * row] | (guint64) words[2 * row + 1] << 32) * 0x1.0p-53;
}

static void
pick_row (const Job *job, gsize i)
{
  const ValleyTensor *allowed = job->pick->allowed;
  Row row
      = { .pick = job->pick, .logits = valley_cpu_row (job->logits, i), .n = job->logits->cols };
  gint32 *out = valley_cpu_row (job->picks, i);
  float log_probability = 0;
  gsize best;

  row.seen = job->seen != NULL ? job->seen + i * job->n_words : NULL;
  if (valley_cpu_given (allowed))
    row.allowed = valley_cpu_row (allowed, allowed->rows > 1 ? i : 0);
  out[0] = -1;
  if (find_best (&row, &best)) {
    out[0] = job->pick->temperature > 0
                 ? draw (&row, best, unit_of (job->pick->draws, i), job->candidates)
                 : (gint32) best;
    log_probability = (float) ((double) row.logits[out[0]] - log_sum_exp (row.logits, row.n));
  }
  memcpy (&out[1], &log_probability, sizeof log_probability);
}

static void
pick_rows (gsize first, gsize n, gpointer data)
{
  for (gsize i = first; i < first + n; i++)
    pick_row (data, i);
}

static void
set_bit (guint32 *bits, gsize n_words, gint32 id)
{
  if (id >= 0 && (gsize) id / 32 < n_words)
    bits[id / 32] |= 1u << id % 32;
}

/* Every row's own: what was seen, and the inputs so far. */
static void
fill_seen (const Job *job)
{
  const ValleyTensor *seen = job->pick->seen, *inputs = job->pick->inputs;

  for (gsize i = 0; i < job->logits->rows; i++) {
    guint32 *bits = job->seen + i * job->n_words;

    memset (bits, 0, job->n_words * sizeof *bits);
    if (valley_cpu_given (seen))
      memcpy (bits, valley_cpu_row (seen, 0), job->n_words * sizeof *bits);
    for (gsize j = 0; valley_cpu_given (inputs) && j <= i; j++)
      set_bit (bits, job->n_words, *(const gint32 *) valley_cpu_row (inputs, j));
  }
}

static gboolean
fits (const ValleyTensor *tensor, gsize rows, gsize cols)
{
  return valley_cpu_given (tensor) && tensor->dtype == VALLEY_I32 && tensor->rows == rows
         && tensor->cols == cols && tensor->stride == cols;
}

static gboolean
is_given_and_unfit (const ValleyTensor *tensor, gsize rows, gsize cols)
{
  return valley_cpu_given (tensor) && !fits (tensor, rows, cols);
}

void
valley_cpu_pick (ValleyStream *stream, const ValleyTensor *picks, const ValleyTensor *logits,
                 const ValleyPick *pick)
{
  gsize n_words = (logits->cols + 31) / 32, rows = logits->rows;
  gboolean is_drawn = pick->temperature > 0, is_penalised = pick->repetition_penalty != 1;
  gsize n_candidates = is_drawn ? logits->cols : 0, n_bits = is_penalised ? rows * n_words : 0;
  Job job = { .picks = picks, .logits = logits, .pick = pick, .n_words = n_words };
  guint8 *scratch;

  VALLEY_CPU_REQUIRE (stream, valley_cpu_given (logits) && logits->dtype == VALLEY_F32);
  VALLEY_CPU_REQUIRE (stream, logits->cols > 0 && fits (picks, rows, 2));
  VALLEY_CPU_REQUIRE (stream, !is_given_and_unfit (pick->seen, n_words, 1)
                                  && !is_given_and_unfit (pick->inputs, rows, 1));
  VALLEY_CPU_REQUIRE (stream, !is_given_and_unfit (pick->allowed, rows, n_words)
                                  || fits (pick->allowed, 1, n_words));
  VALLEY_CPU_REQUIRE (stream, !is_drawn || fits (pick->draws, 2 * rows, 1));
  scratch = valley_cpu_stream_scratch (stream, 1 + n_candidates * sizeof (ValleyCandidate)
                                                   + n_bits * sizeof (guint32));
  if (scratch == NULL)
    return;
  job.candidates = (ValleyCandidate *) scratch;
  if (is_penalised) {
    job.seen = (guint32 *) (scratch + n_candidates * sizeof (ValleyCandidate));
    fill_seen (&job);
  }
  if (is_drawn)
    pick_rows (0, rows, &job); /* one after the other: they share the candidates' memory */
  else
    valley_cpu_run_rows (stream, rows, logits->cols, pick_rows, &job);
}

void
valley_cpu_see (ValleyStream *stream, const ValleyTensor *seen, const ValleyTensor *ids)
{
  VALLEY_CPU_REQUIRE (stream, valley_cpu_given (seen) && fits (seen, seen->rows, 1));
  VALLEY_CPU_REQUIRE (stream, valley_cpu_given (ids) && ids->dtype == VALLEY_I32 && ids->cols == 1);
  for (gsize i = 0; i < ids->rows; i++)
    set_bit (valley_cpu_row (seen, 0), seen->rows, *(const gint32 *) valley_cpu_row (ids, i));
}
