/* pick-cases.h - tokens chosen by a device, against a sort of everything in double precision:
 * greedily the very same token, drawn the same one but where the random number lies within
 * rounding of the border between two.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdlib.h>

#include "compare.h"

#define MAX_ROWS 6

static guint n_drawn, n_near; /* of them at a border */

/* VALLEY_TEST_ROUNDS: in per cent of what the suite does. */
static guint
rounds (guint n)
{
  const char *text = g_getenv ("VALLEY_TEST_ROUNDS");

  return text != NULL ? MAX (1, n * (guint) g_ascii_strtoull (text, NULL, 10) / 100) : n;
}

/* ---- a case ---- */

typedef struct {
  gsize rows, n, n_words;
  float *logits;
  guint32 *seen, *allowed; /* allowed: NULL, or a row for each or for all */
  gsize allowed_stride;
  gint32 inputs[MAX_ROWS];
  gboolean has_inputs;
  guint32 draws[2 * MAX_ROWS];
  ValleyPick options; /* but the tensors */
} Case;

/* Gives @rows rows of the case, from @first on, to the device; reads picks as the operation gives
 * them. */
typedef void (*RunCase) (const Case *c, gsize first, gsize rows, gint32 *picks);
static RunCase run_case;

/* Values that are far apart, close, few different ones, all alike, with words ruled out. */
static float
random_logit (guint kind)
{
  double x = g_rand_double_range (rng, -12, 12);

  return (float) (kind == 0   ? x
                  : kind == 1 ? x * 1e-3
                  : kind == 2 ? floor (x / 4)
                  : kind == 3 ? 1
                  : kind == 4 ? x * 20
                  : x > 0     ? x
                              : -INFINITY);
}

static Case
case_new (gsize rows, gsize n, guint kind)
{
  Case c = { .rows = rows, .n = n, .n_words = (n + 31) / 32 };

  c.options = (ValleyPick){ .top_p = 1, .repetition_penalty = 1 };
  c.logits = g_new (float, rows *n);
  for (gsize i = 0; i < rows * n; i++)
    c.logits[i] = random_logit (kind);
  for (gsize i = 0; i < rows; i++) {
    guint64 draw = ((guint64) g_rand_int (rng) << 32 | g_rand_int (rng)) >> 11;

    c.logits[i * n + (gsize) g_rand_int_range (rng, 0, (gint32) n)] = 3; /* one that is finite */
    c.draws[2 * i] = (guint32) draw;
    c.draws[2 * i + 1] = (guint32) (draw >> 32);
    c.inputs[i] = g_rand_int_range (rng, -1, (gint32) n + 1);
    for (gsize j = 0; kind == 3 && j < 3; j++) /* several that are best */
      c.logits[i * n + (gsize) g_rand_int_range (rng, 0, (gint32) n)] = 3;
  }
  c.seen = g_new0 (guint32, c.n_words);
  for (gsize i = 0; i < n / 4; i++) {
    gsize id = (gsize) g_rand_int_range (rng, 0, (gint32) n);

    c.seen[id / 32] |= 1u << id % 32;
  }
  return c;
}

/* About @share of the words; always one that is finite. */
static void
case_allow (Case *c, double share, gboolean for_each)
{
  gsize rows = for_each ? c->rows : 1;

  c->allowed_stride = for_each ? c->n_words : 0;
  c->allowed = g_new0 (guint32, rows * c->n_words);
  for (gsize row = 0; row < rows; row++)
    for (gsize i = 0; i < c->n; i++)
      if (g_rand_double (rng) < share)
        c->allowed[row * c->n_words + i / 32] |= 1u << i % 32;
  for (gsize row = 0; row < c->rows; row++)
    for (gsize i = 0; i < c->n; i++)
      if (c->logits[row * c->n + i] == 3) {
        c->allowed[row * c->allowed_stride + i / 32] |= 1u << i % 32;
        break;
      }
}

static void
case_clear (Case *c)
{
  g_free (c->logits);
  g_free (c->seen);
  g_free (c->allowed);
}

/* ---- by sorting ---- */

typedef struct {
  double distance, mass, before; /* before: all masses that rank before it */
  gint32 id;
} Word;

static int
compare_words (const void *a, const void *b)
{
  const Word *x = a, *y = b;

  return x->distance != y->distance ? (x->distance < y->distance ? -1 : 1) : x->id - y->id;
}

static double
score_of (const Case *c, gsize row, gsize i)
{
  double score = c->logits[row * c->n + i];
  gboolean seen = (c->seen[i / 32] >> i % 32 & 1) != 0;

  for (gsize j = 0; c->has_inputs && j <= row; j++)
    seen |= c->inputs[j] >= 0 && (gsize) c->inputs[j] == i;
  if (!seen || c->options.repetition_penalty == 1)
    return score;
  return score < 0 ? score * c->options.repetition_penalty : score / c->options.repetition_penalty;
}

/* The first of the best; -1 where no token can be chosen. */
static gint32
best_of (const Case *c, gsize row, double *best_score, double *log_sum)
{
  const float *logits = c->logits + row * c->n;
  double max = -INFINITY, sum = 0;
  gint32 best = -1;

  *best_score = -INFINITY;
  for (gsize i = 0; i < c->n; i++) {
    double score = score_of (c, row, i);

    if (isnan (logits[i]) || logits[i] == INFINITY)
      return -1;
    max = MAX (max, (double) logits[i]);
    if (c->allowed != NULL && (c->allowed[row * c->allowed_stride + i / 32] >> i % 32 & 1) == 0)
      continue;
    if (score > *best_score) {
      *best_score = score;
      best = (gint32) i;
    }
  }
  for (gsize i = 0; i < c->n; i++)
    sum += exp (logits[i] - max);
  *log_sum = max + log (sum);
  return best;
}

/* The candidates in order. */
static Word *
rank (const Case *c, gsize row, double best_score, gsize *n)
{
  Word *words = g_new (Word, c->n);
  double before = 0;

  *n = 0;
  for (gsize i = 0; i < c->n; i++) {
    double distance = fabs ((score_of (c, row, i) - best_score) / c->options.temperature);

    if (isfinite (distance)
        && (c->allowed == NULL
            || (c->allowed[row * c->allowed_stride + i / 32] >> i % 32 & 1) != 0))
      words[(*n)++] = (Word){ .distance = distance, .mass = exp (-distance), .id = (gint32) i };
  }
  qsort (words, *n, sizeof *words, compare_words);
  for (gsize i = 0; i < *n; i++) {
    words[i].before = before;
    before += words[i].mass;
  }
  return words;
}

static double
mass_to (const Word *words, gsize n)
{
  return words[n - 1].before + words[n - 1].mass;
}

/* How many top-k and top-p leave, where as much more than 1 - p may go as @slack. */
static gsize
count_kept (const Case *c, const Word *words, gsize n, double slack)
{
  gsize k = c->options.top_k, kept = 0;
  double total;

  if (k > 0 && k < n) {
    while (k < n && words[k].distance == words[k - 1].distance)
      k++;
    n = k;
  }
  if (c->options.top_p >= 1)
    return n;
  total = mass_to (words, n);
  do
    kept++;
  while (kept < n && total - mass_to (words, kept) > (1 - c->options.top_p) * total + slack);
  return kept;
}

/* A draw of @id is right when the random number lies between its borders, give or take what
 * rounding to the device's integers makes of the masses. */
static void
check_drawn (const Case *c, gsize row, double best_score, gint32 id)
{
  double unit = (double) (c->draws[2 * row] | (guint64) c->draws[2 * row + 1] << 32) * 0x1.0p-53;
  double slack = (double) c->n * 0x1.0p-40 + 1e-12;
  gsize n, at = 0;
  g_autofree Word *words = rank (c, row, best_score, &n);
  gboolean exact, near = FALSE;

  while (at < n && words[at].id != id)
    at++;
  if (at == n)
    g_error ("token %d is no candidate", id);
  n_drawn++;
  for (gint side = -1; side <= 1; side++) {
    gsize kept = count_kept (c, words, n, side * slack);
    double mass = mass_to (words, kept), target = unit * mass;

    exact = at < kept && target >= words[at].before
            && (target < words[at].before + words[at].mass || at == kept - 1);
    if (side == 0 && exact)
      return;
    near |= at < kept && target >= words[at].before - slack
            && target <= words[at].before + words[at].mass + slack;
  }
  if (!near)
    g_error ("drew token %d, %" G_GSIZE_FORMAT " of the ranking, for %.17g (temperature %g, top-k "
             "%" G_GSIZE_FORMAT ", top-p %g, %" G_GSIZE_FORMAT " words)",
             id, at, unit, c->options.temperature, c->options.top_k, c->options.top_p, c->n);
  n_near++;
}

/* Twice, and a row alone: always the same bits. */
static void
check_case (const Case *c)
{
  gint32 picks[2 * MAX_ROWS], again[2 * MAX_ROWS];
  gsize alone = (gsize) g_rand_int_range (rng, 0, (gint32) c->rows);

  run_case (c, 0, c->rows, picks);
  run_case (c, 0, c->rows, again);
  g_assert_cmpmem (again, 2 * c->rows * sizeof *again, picks, 2 * c->rows * sizeof *picks);
  if (!c->has_inputs) {
    run_case (c, alone, 1, again);
    g_assert_cmpmem (again, 2 * sizeof *again, picks + 2 * alone, 2 * sizeof *picks);
  }
  for (gsize row = 0; row < c->rows; row++) {
    double best_score, log_sum = 0, log_probability;
    gint32 best = best_of (c, row, &best_score, &log_sum), id = picks[2 * row];
    float got;

    if (best < 0 || c->options.temperature == 0)
      g_assert_cmpint (id, ==, best);
    else
      check_drawn (c, row, best_score, id);
    if (best < 0)
      continue;
    memcpy (&got, &picks[2 * row + 1], sizeof got);
    log_probability = c->logits[row * c->n + (gsize) id] - log_sum;
    g_assert_cmpfloat_with_epsilon (got, log_probability, 2e-6 * MAX (1, fabs (log_probability)));
  }
}

/* ---- the tests ---- */

static const gsize sizes[] = { 1, 2, 31, 33, 544, 544, 2047, 2048, 2049, 5001 };

static void
test_greedy (void)
{
  for (guint i = 0; i < rounds (300); i++) {
    Case c = case_new ((gsize) g_rand_int_range (rng, 1, MAX_ROWS + 1),
                       sizes[i % G_N_ELEMENTS (sizes)], i / 10 % 6);

    c.has_inputs = i % 2;
    if (i % 3)
      c.options.repetition_penalty = i % 3 == 1 ? 1.1 : 0.8;
    if (i % 5 == 4)
      case_allow (&c, 0.3, i % 10 == 4);
    check_case (&c);
    case_clear (&c);
  }
}

static void
test_drawn (void)
{
  static const gsize ks[] = { 0, 1, 5, 40, 700, 100000 };
  static const double ps[] = { 1, 0.95, 0.8, 0.5, 1e-4, 0.9999, 0 };
  static const double temperatures[] = { 1, 0.7, 0.1, 2.5, 1000, 1e-3, 1e-300, 5e-324 };

  for (guint i = 0; i < rounds (150); i++) {
    Case c = case_new ((gsize) g_rand_int_range (rng, 1, MAX_ROWS + 1),
                       sizes[(guint) g_rand_int_range (rng, 0, G_N_ELEMENTS (sizes))], i % 6);

    c.options.temperature = temperatures[g_rand_int_range (rng, 0, i % 2 ? 8 : 4)];
    c.options.top_k = ks[g_rand_int_range (rng, 0, G_N_ELEMENTS (ks))];
    c.options.top_p = ps[g_rand_int_range (rng, 0, G_N_ELEMENTS (ps))];
    c.has_inputs = i % 4 == 1;
    if (i % 3)
      c.options.repetition_penalty = i % 3 == 1 ? 1.1 : 0.8;
    if (i % 5 == 4)
      case_allow (&c, 0.3, i % 10 == 4);
    check_case (&c);
    case_clear (&c);
  }
  g_test_message ("%u draws, %u of them at a border", n_drawn, n_near);
  g_assert_cmpuint (n_near, <=, n_drawn / 200);
}

/* Valley2's own. */
static void
test_whole_vocabulary (void)
{
  for (guint i = 0; i < rounds (6); i++) {
    Case c = case_new (1, 152064, i);

    c.options.repetition_penalty = 1.05;
    c.options.temperature = i % 2 ? 0 : 0.8;
    c.options.top_k = i == 2 ? 20000 : 0;
    c.options.top_p = i > 0 ? 0.9 : 1;
    check_case (&c);
    case_clear (&c);
  }
}

/* The first and the last number a generator gives, where rounding would fall off an end. */
static void
test_ends (void)
{
  for (guint i = 0; i < rounds (60); i++) {
    Case c = case_new (2, sizes[i % G_N_ELEMENTS (sizes)], i % 6);

    c.options.temperature = 0.9;
    c.options.top_p = i % 2 ? 0.9 : 1;
    c.draws[0] = c.draws[1] = 0;
    c.draws[2] = 0xffffffff;
    c.draws[3] = 0x1fffff;
    check_case (&c);
    case_clear (&c);
  }
}

/* Rows without a number to choose are told, and leave the rows beside them alone. */
static void
test_no_numbers (void)
{
  static const float bad[] = { NAN, INFINITY, -NAN };

  for (guint i = 0; i < rounds (40); i++) {
    Case c = case_new (3, sizes[i % G_N_ELEMENTS (sizes)], 0);
    gsize at = (gsize) g_rand_int_range (rng, 0, (gint32) c.n);

    c.options.temperature = i % 2;
    if (i % 4 < 3)
      c.logits[c.n + at] = bad[i % 4];
    else
      for (gsize j = 0; j < c.n; j++)
        c.logits[c.n + j] = -INFINITY;
    check_case (&c);
    case_clear (&c);
  }
}

/* Only what is allowed: a damaged logit counts although its token is not, one token is taken
 * whatever its score, and none is an error. */
static void
test_allowed (void)
{
  for (guint i = 0; i < rounds (40); i++) {
    Case c = case_new (3, sizes[i % G_N_ELEMENTS (sizes)], 0);
    gsize at = (gsize) g_rand_int_range (rng, 0, (gint32) c.n);
    gint32 picks[2 * MAX_ROWS];

    c.options.temperature = i % 2;
    c.options.top_k = i % 3;
    case_allow (&c, 0, TRUE);
    memset (c.allowed, 0, c.rows * c.n_words * sizeof *c.allowed);
    c.allowed[at / 32] = c.allowed[2 * c.n_words + at / 32] = 1u << at % 32;
    if (c.n > 1)
      c.logits[2 * c.n + (at + 1) % c.n] = NAN;
    check_case (&c);
    run_case (&c, 0, 3, picks);
    g_assert_cmpint (picks[0], ==, (gint32) at);
    g_assert_cmpint (picks[2], ==, -1);
    g_assert_cmpint (picks[4], ==, c.n > 1 ? -1 : (gint32) at);
    case_clear (&c);
  }
}

static inline void
pick_cases_add (RunCase run)
{
  run_case = run;
  g_test_add_func ("/pick/greedy", test_greedy);
  g_test_add_func ("/pick/drawn", test_drawn);
  g_test_add_func ("/pick/whole-vocabulary", test_whole_vocabulary);
  g_test_add_func ("/pick/ends", test_ends);
  g_test_add_func ("/pick/no-numbers", test_no_numbers);
  g_test_add_func ("/pick/allowed", test_allowed);
}
