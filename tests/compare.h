/* compare.h - for tests of arithmetic: random numbers from a printed seed, comparisons that no
 * NaN passes.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>
#include <math.h>
#include <string.h>

#include "backend.h"

/* Sanitizers take over faults and impossible allocations. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static GRand *rng;

/* VALLEY_TEST_SEED repeats a run. */
static inline void
compare_init (const char *what)
{
  const char *text = g_getenv ("VALLEY_TEST_SEED");
  guint32 seed = text != NULL ? (guint32) g_ascii_strtoull (text, NULL, 10) : g_random_int ();

  rng = g_rand_new_with_seed (seed);
  g_test_message ("%s, VALLEY_TEST_SEED=%u", what, seed);
}

/* Bell-shaped around 0, about @scale wide.  Free with g_free. */
static inline float *
random_floats (gsize n, double scale)
{
  float *values = g_new (float, MAX (n, 1));

  for (gsize i = 0; i < n; i++)
    values[i]
        = (float) (scale * (g_rand_double (rng) + g_rand_double (rng) + g_rand_double (rng) - 1.5));
  return values;
}

/* Every |got - want| <= @tolerance times the largest |want|, or times @typical where chance
 * made all of them smaller than what they are sums of. */
static inline void
assert_close (const char *what, const float *got, const double *want, gsize n, double tolerance,
              double typical)
{
  double largest = typical;

  for (gsize i = 0; i < n; i++)
    largest = MAX (largest, fabs (want[i]));
  for (gsize i = 0; i < n; i++)
    if (!(fabs (got[i] - want[i]) <= tolerance * largest)) /* a NaN fails */
      g_error ("%s: element %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT
               " is %.9g, expected %.9g within %.2g",
               what, i, n, got[i], want[i], tolerance * largest);
}

static inline void
assert_same_bits (const char *what, const float *got, const float *want, gsize n)
{
  for (gsize i = 0; i < n; i++)
    if (memcmp (got + i, want + i, sizeof *got) != 0 || isnan (got[i]))
      g_error ("%s: element %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT " is %.9g, expected %.9g",
               what, i, n, got[i], want[i]);
}

/* The definition, in double precision. */
static inline double
reference_activation (double x, ValleyActivation act)
{
  switch (act) {
  case VALLEY_ACT_GELU_TANH:
    return 0.5 * x * (1 + tanh (sqrt (2 / G_PI) * (x + 0.044715 * x * x * x)));
  case VALLEY_ACT_GELU_ERF:
    return 0.5 * x * (1 + erf (x / G_SQRT2));
  case VALLEY_ACT_QUICK_GELU:
    return x / (1 + exp (-1.702 * x));
  case VALLEY_ACT_SILU:
    return x / (1 + exp (-x));
  case VALLEY_ACT_NONE:
    break;
  }
  return x;
}
