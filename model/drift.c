/* drift.c - see drift.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "drift.h"

#include <math.h>

#define LEAST_SAMPLES 4

/* log (sum of exp (x)) */
static double
log_sum (const float *x, gsize n)
{
  double max = -INFINITY, sum = 0;

  for (gsize i = 0; i < n; i++)
    max = MAX (max, (double) x[i]);
  for (gsize i = 0; i < n; i++)
    sum += exp (x[i] - max);
  return max + log (sum);
}

double
valley_drift_divergence (const float *exact, const float *other, gsize n)
{
  double exact_sum = log_sum (exact, n), other_sum = log_sum (other, n), divergence = 0;

  for (gsize i = 0; i < n; i++) {
    double p = exact[i] - exact_sum;

    divergence += exp (p) * (p - (other[i] - other_sum));
  }
  return isfinite (divergence) ? MAX (divergence, 0) : INFINITY; /* rounding may leave -1e-17 */
}

void
valley_drift_add (ValleyDrift *drift, double divergence, gboolean same_answer)
{
  drift->n_samples++;
  drift->n_agreements += same_answer ? 1 : 0;
  drift->last = divergence;
  drift->max = MAX (drift->max, divergence);
  drift->mean += (divergence - drift->mean) / (double) drift->n_samples;
}

gboolean
valley_drift_is_over (const ValleyDrift *drift, double max)
{
  double n = (double) drift->n_samples;

  return max > 0 && n > 0 && !(drift->mean * n <= max * MAX (n, LEAST_SAMPLES));
}
