/* rotary.h - cosines and sines of the positions so far, on the device: a table that grows.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

typedef struct {
  ValleyBackend *backend;
  const float *frequencies; /* the model's; as many as the table has columns */
  ValleyTensor cos, sin;    /* row p: position p's angles */
} ValleyRotary;

/* @frequencies: @pairs of them, outliving the table. */
void valley_rotary_init (ValleyRotary *rotary, ValleyBackend *backend, const float *frequencies,
                         gsize pairs);
void valley_rotary_clear (ValleyRotary *rotary);
/* Makes the tables reach positions 0 ... @n - 1; they may move.  On failure the stream's error is
 * set and they are as they were. */
void valley_rotary_reserve (ValleyRotary *rotary, ValleyStream *stream, gsize n);
