/* video_taps.h - the coefficients of video.c's passes: Pillow's bicubic kernel, as in resize.c,
 * but of any stretch of the input, with 16-bit coefficients that add up exactly.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "video_kernels.h"

typedef struct {
  guint in, out;
  double start, length; /* of the input, shown as the @out positions */
  guint align;          /* what the first inputs are multiples of: 1 or 2 */
  guint max_bits;       /* of a coefficient, so that sums fit 32 bits */
} ValleyTapsKey;

static inline gboolean
valley_taps_keys_equal (const ValleyTapsKey *a, const ValleyTapsKey *b)
{
  return a->in == b->in && a->out == b->out && a->start == b->start && a->length == b->length
         && a->align == b->align && a->max_bits == b->max_bits;
}

/* FALSE when memory is short; @taps is to be cleared in any case. */
gboolean valley_taps_init (ValleyTaps *taps, const ValleyTapsKey *key);
void valley_taps_clear (ValleyTaps *taps);
