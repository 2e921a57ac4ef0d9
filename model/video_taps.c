/* video_taps.c - see video_taps.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "video_taps.h"

#include "alloc.h"
#include "resize_kernels.h"

#include <math.h>

/* Where an output's kernel lies on the input axis. */
typedef struct {
  double center, scale; /* scale: input samples a kernel unit, at least 1 */
  guint first, count;
} Reach;

static Reach
reach_of (const ValleyTapsKey *key, guint i)
{
  double step = key->length / key->out, scale = MAX (step, 1.0), support = 2.0 * scale;
  double center = CLAMP (key->start + (i + 0.5) * step, 0.0, (double) key->in);
  double first = MAX (floor (center - support + 0.5), 0.0);
  double end = MIN (floor (center + support + 0.5), (double) key->in);

  return (Reach){ center, scale, (guint) first, (guint) (end - first) };
}

/* The @reach.count weights, and the largest of them in size. */
static double
weigh (const Reach *reach, double *weights)
{
  double sum = 0, largest = 0;

  for (guint j = 0; j < reach->count; j++) {
    weights[j] = valley_resize_cubic ((j + reach->first - reach->center + 0.5) / reach->scale);
    sum += weights[j];
  }
  for (guint j = 0; j < reach->count; j++) {
    weights[j] /= sum;
    largest = MAX (largest, fabs (weights[j]));
  }
  return largest;
}

/* Each rounding's rest goes to the next, so that they add up to 1 << @bits. */
static void
quantize (const double *weights, guint count, guint bits, guint skip, guint32 *pairs)
{
  double rest = 0;

  for (guint j = 0; j < count; j++) {
    double exact = ldexp (weights[j], (int) bits) + rest, rounded = floor (exact + 0.5);

    rest = exact - rounded;
    pairs[(skip + j) / 2] |= (guint32) (guint16) (gint16) rounded << ((skip + j) % 2 * 16);
  }
}

/* As many bits as the largest coefficient leaves room for. */
static guint
choose_bits (double largest, guint max_bits)
{
  guint bits = max_bits;

  while (ldexp (largest, (int) bits) > G_MAXINT16 - 1)
    bits--;
  return bits;
}

gboolean
valley_taps_init (ValleyTaps *taps, const ValleyTapsKey *key)
{
  guint max_count = (guint) ceil (4 * MAX (key->length / key->out, 1.0)) + 2;
  g_autofree double *weights = VALLEY_NEW (double, max_count);
  double largest = 0;

  *taps = (ValleyTaps){ .in = key->in, .out = key->out, .stride = max_count / 2 + 2 };
  taps->first = VALLEY_NEW (guint32, key->out);
  taps->n_pairs = VALLEY_NEW (guint32, key->out);
  taps->pairs = valley_alloc0 (key->out, taps->stride * sizeof *taps->pairs);
  if (weights == NULL || taps->first == NULL || taps->n_pairs == NULL || taps->pairs == NULL)
    return FALSE;
  for (guint i = 0; i < key->out; i++) {
    Reach reach = reach_of (key, i);

    largest = MAX (largest, weigh (&reach, weights));
  }
  taps->bits = choose_bits (largest, key->max_bits);
  for (guint i = 0; i < key->out; i++) {
    Reach reach = reach_of (key, i);
    guint skip = reach.first % key->align;

    weigh (&reach, weights);
    quantize (weights, reach.count, taps->bits, skip, taps->pairs + i * taps->stride);
    taps->first[i] = reach.first - skip;
    taps->n_pairs[i] = (skip + reach.count + 1) / 2;
  }
  return TRUE;
}

void
valley_taps_clear (ValleyTaps *taps)
{
  g_free (taps->first);
  g_free (taps->n_pairs);
  g_free (taps->pairs);
  *taps = (ValleyTaps){ 0 };
}
