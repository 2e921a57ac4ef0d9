/* drift.h - how far the approximate window policy is from the exact answer of the same frames.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef struct {
  guint64 n_samples, n_agreements; /* comparisons; of them the same answer */
  double last, mean, max;          /* KL divergences of the first token, in nats */
} ValleyDrift;

/* KL (exact || other) of the next token, from the logits of both, in nats: never negative,
 * infinite where one of them is not finite. */
double valley_drift_divergence (const float *exact, const float *other, gsize n);
void valley_drift_add (ValleyDrift *drift, double divergence, gboolean same_answer);
/* Whether the mean is above @max (0: no limit).  Fewer than four samples count as four, the missing
 * ones as without any drift: one unlucky moment is not yet a stream that drifts. */
gboolean valley_drift_is_over (const ValleyDrift *drift, double max);
