/* rotary.h - cosines and sines of the positions so far, on the device: a table that grows.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

typedef struct {
  ValleyBackend *backend;
  const float *frequencies; /* the model's; as many as the table has columns */
  ValleyTensor cos, sin;    /* row p: position p's angles */
  /* rows picked for positions that do not follow each other, until the next ones */
  ValleyTensor picked_cos, picked_sin;
} ValleyRotary;

/* @frequencies: @pairs of them, outliving the table. */
void valley_rotary_init (ValleyRotary *rotary, ValleyBackend *backend, const float *frequencies,
                         gsize pairs);
void valley_rotary_clear (ValleyRotary *rotary);
/* The angles of @n rows at @positions, or at @first, @first + 1 ... without: borrowed until the
 * next call.  On failure the stream's error is set and they are empty. */
void valley_rotary_rows (ValleyRotary *rotary, ValleyStream *stream, const gint32 *positions,
                         gsize first, gsize n, ValleyTensor *cos, ValleyTensor *sin);
