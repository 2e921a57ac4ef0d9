/* test-sampler.c - the sampler's choices: greedy and its edges, each filter against worked
 * examples, the drawn frequencies against the probabilities, and determinism.
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "sampler.h"

#define N_DRAWS 20000

static const ValleySamplerOptions greedy = { .top_p = 1, .repetition_penalty = 1 };

static ValleySampler *
make (ValleySamplerOptions options, gsize n)
{
  GError *error = NULL;
  ValleySampler *sampler = valley_sampler_new (&options, n, &error);

  g_assert_no_error (error);
  return sampler;
}

static Device d;

/* One row, which becomes the answer's token. */
static gboolean
pick_token (ValleySampler *sampler, const float *logits, gsize n, ValleyToken *token,
            GError **error)
{
  ValleyTensor row;
  gboolean ok;

  valley_tensor_init (d.stream, &row, VALLEY_F32, 1, n);
  OPS (d)->upload (d.stream, &row, logits);
  ok = valley_sampler_pick (sampler, d.stream, &row, NULL, token, error)
       && valley_token_check (token, error);
  if (ok)
    valley_sampler_keep (sampler, d.stream, 1);
  valley_tensor_clear (d.backend, &row);
  return ok;
}

static gint32
pick (ValleySampler *sampler, const float *logits, gsize n)
{
  GError *error = NULL;
  ValleyToken token;

  g_assert_true (pick_token (sampler, logits, n, &token, &error));
  g_assert_no_error (error);
  g_assert_cmpfloat (token.log_probability, <=, 0);
  return token.id;
}

static void
test_greedy (void)
{
  static const float ties[] = { 1, 3, 2, 3 }, masked[] = { -INFINITY, -5, -INFINITY, -6 };
  ValleySampler *sampler = make (greedy, 4);

  g_assert_cmpint (pick (sampler, ties, 4), ==, 1);
  g_assert_cmpint (pick (sampler, masked, 4), ==, 1);
  valley_sampler_free (sampler);
}

static void
test_no_numbers (void)
{
  static const float bad[][3] = { { 1, NAN, 0 },
                                  { NAN, NAN, NAN },
                                  { 1, INFINITY, 0 },
                                  { -INFINITY, -INFINITY, -INFINITY },
                                  { 5, 1, NAN } };
  const ValleySamplerOptions hot = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 };

  for (gsize i = 0; i < 2 * G_N_ELEMENTS (bad); i++) {
    ValleySampler *sampler = make (i % 2 == 0 ? greedy : hot, 3);
    g_autoptr (GError) error = NULL;
    ValleyToken token;

    g_assert_false (pick_token (sampler, bad[i / 2], 3, &token, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
    g_assert_cmpint (token.id, ==, -1);
    valley_sampler_free (sampler);
  }
}

static void
test_log_probability (void)
{
  static const float logits[] = { 0, 1, 2 };
  const ValleySamplerOptions odd
      = { .temperature = 7, .top_k = 1, .top_p = 0.1, .repetition_penalty = 1.5 };
  double expected = 2 - log (exp (0) + exp (1) + exp (2));
  ValleySampler *sampler = make (odd, 3);
  GError *error = NULL;
  ValleyToken token;

  g_assert_true (pick_token (sampler, logits, 3, &token, &error));
  g_assert_cmpint (token.id, ==, 2);
  g_assert_cmpfloat_with_epsilon (token.log_probability, expected, 1e-7);
  valley_sampler_free (sampler);
}

/* Positive scores are divided, negative ones multiplied; an image slot counts for nothing. */
static void
test_repetition (void)
{
  static const float positive[] = { 2.9f, 3, 1 }, negative[] = { -3, -2, -3.5f };
  ValleySamplerOptions options = { .top_p = 1, .repetition_penalty = 1.1 };
  ValleySampler *sampler = make (options, 3);

  valley_sampler_see (sampler, -200);
  valley_sampler_see (sampler, 3);
  g_assert_cmpint (pick (sampler, positive, 3), ==, 1); /* now 1 is seen: 3 / 1.1 < 2.9 */
  g_assert_cmpint (pick (sampler, positive, 3), ==, 0);
  valley_sampler_free (sampler);
  options.repetition_penalty = 2;
  sampler = make (options, 3);
  g_assert_cmpint (pick (sampler, negative, 3), ==, 1); /* -2 * 2 < -3 */
  g_assert_cmpint (pick (sampler, negative, 3), ==, 0); /* -3 * 2 < -3.5 */
  g_assert_cmpint (pick (sampler, negative, 3), ==, 2);
  valley_sampler_free (sampler);
}

/* Draws with a fresh answer each time (nothing is seen), and counts. */
static void
count (ValleySamplerOptions options, const float *logits, gsize n, guint *counts)
{
  ValleySampler *sampler = make (options, n);

  memset (counts, 0, n * sizeof *counts);
  for (guint i = 0; i < N_DRAWS; i++)
    counts[pick (sampler, logits, n)]++;
  valley_sampler_free (sampler);
}

/* Within five standard deviations: a right sampler fails once in a million seeds. */
static void
assert_share (guint got, double share)
{
  double deviation = sqrt (N_DRAWS * share * (1 - share));

  g_assert_cmpfloat (fabs (got - N_DRAWS * share), <=, 5 * deviation);
}

static guint64
seed (void)
{
  guint64 value = ((guint64) g_test_rand_int () << 32) | (guint32) g_test_rand_int ();

  g_test_message ("seed %" G_GUINT64_FORMAT, value);
  return value;
}

/* Probabilities 1/2, 1/4, 1/8, 1/8. */
static const float halves[] = { -0.6931472f, -1.3862944f, -2.0794415f, -2.0794415f };

static void
test_distribution (void)
{
  ValleySamplerOptions options
      = { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = seed () };
  guint counts[4];

  count (options, halves, 4, counts);
  assert_share (counts[0], 0.5);
  assert_share (counts[1], 0.25);
  assert_share (counts[2], 0.125);
  assert_share (counts[3], 0.125);
  options.temperature = 0.5; /* squares: 16, 4, 1, 1 of 22 */
  count (options, halves, 4, counts);
  assert_share (counts[0], 16.0 / 22);
  assert_share (counts[1], 4.0 / 22);
  assert_share (counts[2], 1.0 / 22);
}

static void
test_top_k (void)
{
  ValleySamplerOptions options
      = { .temperature = 1, .top_p = 1, .top_k = 2, .repetition_penalty = 1, .seed = seed () };
  guint counts[4];

  count (options, halves, 4, counts);
  assert_share (counts[0], 2.0 / 3);
  assert_share (counts[1], 1.0 / 3);
  options.top_k = 3; /* the fourth equals the third: it stays */
  count (options, halves, 4, counts);
  assert_share (counts[2], 0.125);
  assert_share (counts[3], 0.125);
  options.top_k = 400;
  count (options, halves, 4, counts);
  assert_share (counts[0], 0.5);
}

/* Almost greedy: no division may make the likeliest token's score infinite. */
static void
test_tiny_temperature (void)
{
  static const float logits[] = { -30, 25, 31, 30.5f }, ties[] = { 9, -9, 9, 0 };
  static const double temperatures[] = { 1e-3, 1e-300, 2.3e-308, 5e-324 };

  for (gsize i = 0; i < G_N_ELEMENTS (temperatures); i++) {
    const ValleySamplerOptions cold = {
      .temperature = temperatures[i], .top_p = i % 2 ? 0.9 : 1, .repetition_penalty = 1, .seed = i
    };
    ValleySampler *sampler = make (cold, 4);

    for (guint round = 0; round < 20; round++) {
      g_assert_cmpint (pick (sampler, logits, 4), ==, 2);
      g_assert_cmpint (pick (sampler, ties, 4) % 2, ==, 0);
    }
    valley_sampler_free (sampler);
  }
}

/* What is dropped from the unlikely end sums to at most 1 - p. */
static void
test_top_p (void)
{
  ValleySamplerOptions options
      = { .temperature = 1, .top_p = 0.74, .repetition_penalty = 1, .seed = seed () };
  guint counts[4];

  count (options, halves, 4, counts);
  assert_share (counts[0], 2.0 / 3);
  assert_share (counts[1], 1.0 / 3);
  g_assert_cmpuint (counts[2] + counts[3], ==, 0);
  options.top_p = 0.76; /* only one eighth fits in what may be dropped */
  count (options, halves, 4, counts);
  g_assert_cmpuint (MIN (counts[2], counts[3]), ==, 0);
  assert_share (counts[0], 4.0 / 7);
  options.top_p = 0.5; /* half of two that are alike may go, and goes */
  count (options, (const float[]){ 1, 1 }, 2, counts);
  g_assert_cmpuint (counts[0], ==, N_DRAWS);
  options.top_p = 1e-9; /* the likeliest stays whatever p is */
  count (options, halves, 4, counts);
  g_assert_cmpuint (counts[0], ==, N_DRAWS);
}

static void
test_determinism (void)
{
  static const float flat[64] = { 0 };
  ValleySamplerOptions options
      = { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = seed () };
  ValleySampler *a = make (options, 64), *b = make (options, 64), *c;
  guint differences = 0;

  options.seed ^= 1;
  c = make (options, 64);
  for (guint i = 0; i < 100; i++) {
    gint32 id = pick (a, flat, 64);

    g_assert_cmpint (pick (b, flat, 64), ==, id);
    differences += pick (c, flat, 64) != id;
  }
  g_assert_cmpuint (differences, >, 50);
  valley_sampler_free (a);
  valley_sampler_free (b);
  valley_sampler_free (c);
}

/* ---- against a sort of everything ---- */

typedef struct {
  double score;
  gint32 id;
} Word;

static int
compare_words (const void *a, const void *b)
{
  const Word *x = a, *y = b;

  return x->score != y->score ? (x->score > y->score ? -1 : 1) : x->id - y->id;
}

/* The generator's next number, from the same constants. */
static double
next_unit (guint64 *state)
{
  guint64 z = (*state += G_GUINT64_CONSTANT (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * G_GUINT64_CONSTANT (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * G_GUINT64_CONSTANT (0x94d049bb133111eb);
  return (double) ((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
}

/* Hugging Face's order of filters on the whole vocabulary in order. */
static gint32
pick_by_sorting (const ValleySamplerOptions *options, const float *logits, gsize n, double unit)
{
  g_autofree Word *words = g_new (Word, n);
  double max = -INFINITY, sum = 0, dropped = 0, target;
  gsize kept = 0;

  for (gsize i = 0; i < n; i++)
    max = fmax (max, logits[i]);
  for (gsize i = 0; i < n; i++)
    if (isfinite (logits[i]))
      words[kept++] = (Word){ (logits[i] - max) / options->temperature, (gint32) i };
  qsort (words, kept, sizeof *words, compare_words);
  if (options->top_k > 0 && options->top_k < kept) {
    gsize k = options->top_k;

    while (k < kept && words[k].score == words[k - 1].score)
      k++;
    kept = k;
  }
  for (gsize i = 0; i < kept; i++)
    sum += words[i].score = exp (words[i].score);
  while (options->top_p < 1 && kept > 1
         && dropped + words[kept - 1].score <= (1 - options->top_p) * sum)
    dropped += words[--kept].score;
  target = unit * (sum - dropped);
  for (gsize i = 0; i < kept; i++)
    if ((target -= words[i].score) < 0)
      return words[i].id;
  return words[kept - 1].id;
}

/* Random, rising, falling, all alike, of few different values, with words that are ruled out:
 * orders that a careless quicksort makes quadratic or endless. */
static void
fill_logits (float *logits, gsize n, guint kind)
{
  for (gsize i = 0; i < n; i++) {
    double x = g_test_rand_double_range (-12, 12);

    logits[i] = (float) (kind == 0   ? x
                         : kind == 1 ? (double) i * 1e-3
                         : kind == 2 ? (double) (n - i) * 1e-3
                         : kind == 3 ? 1
                         : kind == 4 ? floor (x / 4)
                         : x > 0     ? x
                                     : -INFINITY);
  }
  logits[n / 3] = 12;
}

static void
test_against_sorting (void)
{
  static const gsize sizes[] = { 1, 2, 31, 33, 1000, 20000 }, ks[] = { 0, 0, 1, 5, 40, 700 };
  static const double ps[] = { 1, 1, 0.95, 0.5, 1e-4, 0.9999 };

  for (guint round = 0; round < 150; round++) {
    gsize n = sizes[round % G_N_ELEMENTS (sizes)];
    guint64 state = (guint64) g_test_rand_int ();
    ValleySamplerOptions options = { .temperature = g_test_rand_double_range (0.1, 3),
                                     .top_k = ks[g_test_rand_int_range (0, G_N_ELEMENTS (ks))],
                                     .top_p = ps[g_test_rand_int_range (0, G_N_ELEMENTS (ps))],
                                     .repetition_penalty = 1,
                                     .seed = state };
    g_autofree float *logits = g_new (float, n);
    ValleySampler *sampler = make (options, n);

    fill_logits (logits, n, round % 7 % 6);
    for (guint i = 0; i < 5; i++)
      g_assert_cmpint (pick (sampler, logits, n), ==,
                       pick_by_sorting (&options, logits, n, next_unit (&state)));
    valley_sampler_free (sampler);
  }
}

static void
test_options (void)
{
  static const ValleySamplerOptions bad[] = {
    { .temperature = -1, .top_p = 1, .repetition_penalty = 1 },
    { .temperature = NAN, .top_p = 1, .repetition_penalty = 1 },
    { .temperature = INFINITY, .top_p = 1, .repetition_penalty = 1 },
    { .temperature = 1, .top_p = 1.5, .repetition_penalty = 1 },
    { .temperature = 1, .top_p = 1, .repetition_penalty = -2 },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;

    g_assert_null (valley_sampler_new (&bad[i], 4, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  }
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  d = device_new (VALLEY_PRECISION_F32, 1, FALSE);
  g_test_add_func ("/sampler/greedy", test_greedy);
  g_test_add_func ("/sampler/no-numbers", test_no_numbers);
  g_test_add_func ("/sampler/log-probability", test_log_probability);
  g_test_add_func ("/sampler/repetition", test_repetition);
  g_test_add_func ("/sampler/distribution", test_distribution);
  g_test_add_func ("/sampler/tiny-temperature", test_tiny_temperature);
  g_test_add_func ("/sampler/top-k", test_top_k);
  g_test_add_func ("/sampler/top-p", test_top_p);
  g_test_add_func ("/sampler/determinism", test_determinism);
  g_test_add_func ("/sampler/against-sorting", test_against_sorting);
  g_test_add_func ("/sampler/options", test_options);
  status = g_test_run ();
  device_clear (&d);
  return status;
}
