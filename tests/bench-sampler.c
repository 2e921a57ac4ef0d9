/* bench-sampler.c - what choosing a token costs at Valley2's vocabulary, beside the cost of
 * sorting that vocabulary once.  Not a test: `build/tests/bench-sampler`.
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device.h"
#include "sampler.h"

#define VOCABULARY 151679
#define ROUNDS 20

static Device d;

static double
seconds (void)
{
  struct timespec t;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static int
falling (const void *a, const void *b)
{
  float x = *(const float *) a, y = *(const float *) b;

  return (x < y) - (x > y);
}

/* The best of some rounds, in milliseconds. */
static double
time_sorting (const float *logits)
{
  g_autofree float *copy = g_new (float, VOCABULARY);
  double best = INFINITY;

  for (guint i = 0; i < ROUNDS; i++) {
    double start;

    memcpy (copy, logits, VOCABULARY * sizeof *copy);
    start = seconds ();
    qsort (copy, VOCABULARY, sizeof *copy, falling);
    best = MIN (best, seconds () - start);
  }
  return best * 1e3;
}

static double
time_picking (ValleySamplerOptions options, const float *logits)
{
  ValleySampler *sampler = valley_sampler_new (&options, VOCABULARY, NULL);
  double best = INFINITY;
  ValleyTensor row;
  ValleyToken token;

  valley_tensor_init (d.stream, &row, VALLEY_F32, 1, VOCABULARY);
  OPS (d)->upload (d.stream, &row, logits);

  for (guint i = 0; i < ROUNDS; i++) {
    double start = seconds ();

    if (!valley_sampler_pick (sampler, d.stream, &row, NULL, &token, NULL)
        || !valley_token_check (&token, NULL))
      g_error ("the sampler refused finite logits");
    best = MIN (best, seconds () - start);
  }
  valley_sampler_free (sampler);
  valley_tensor_clear (d.backend, &row);
  return best * 1e3;
}

/* A bell curve of logits @spread wide: about 3 is what language models give. */
static void
run (double spread)
{
  static const struct {
    const char *name;
    double temperature, top_p;
    gsize top_k;
  } ways[] = { { "greedy", 0, 1, 0 },
               { "top-k 50", 1, 1, 50 },
               { "top-p 0.9", 1, 0.9, 0 },
               { "top-k 50, top-p 0.9", 1, 0.9, 50 },
               { "everything", 1, 1, 0 } };
  g_autofree float *logits = g_new (float, VOCABULARY);
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  double sorting;

  for (gsize i = 0; i < VOCABULARY; i++)
    logits[i] = (float) (spread * sqrt (-2 * log (1 - g_rand_double (rand)))
                         * cos (2 * G_PI * g_rand_double (rand)));
  sorting = time_sorting (logits);
  printf ("%d logits of deviation %g: sorting them once takes %.2f ms\n", VOCABULARY, spread,
          sorting);
  for (guint i = 0; i < G_N_ELEMENTS (ways); i++) {
    double ms = time_picking ((ValleySamplerOptions){ .temperature = ways[i].temperature,
                                                      .top_k = ways[i].top_k,
                                                      .top_p = ways[i].top_p,
                                                      .repetition_penalty = 1 },
                              logits);

    printf ("  %-20s %6.2f ms  (%.2f of sorting)\n", ways[i].name, ms, ms / sorting);
  }
}

int
main (void)
{
  d = device_new (VALLEY_PRECISION_F32, 1, FALSE);
  run (3);
  run (0.5);
  device_clear (&d);
  return 0;
}
