/* decoder-fixture.h - a small decoder of random weights, and the same in double precision and
 * plain arrays: keys are kept before their rotation and turned when they are looked at, so that
 * rows can be taken out and the others renumbered.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "decoder.h"

#include "device.h"

enum { SMALL_HIDDEN = 48, SMALL_VOCABULARY = 40 };

typedef struct {
  Device device;
  ValleyDecoder llm;
  ValleyDecoderRun run;
  ValleyKvPool *pool;
  GHashTable *host; /* of ValleyMemory: a weight's elements, for the reference */
} SmallDecoder;

/* Weights from @rand.  @qwen3: norms of the heads, no biases. */
SmallDecoder *small_decoder_new (GRand *rand, ValleyPrecision precision, guint threads,
                                 gboolean strict, gboolean qwen3);
void small_decoder_free (SmallDecoder *small);
/* @n rows of @x through the decoder, behind @cache; -> as many rows, the caller's. */
float *small_decoder_forward (SmallDecoder *small, ValleyKvCache *cache, const float *x, gsize n,
                              const gint32 *positions, ValleyRole role, gsize rows_at_once);

/* The reference's rows so far. */
typedef struct {
  SmallDecoder *small;
  GArray *rows; /* of ReferenceRow */
} Reference;

Reference *reference_new (SmallDecoder *small);
void reference_free (Reference *reference);
/* @positions NULL: the number of rows before. */
double *reference_forward (Reference *reference, const float *x, gsize n, const gint32 *positions);
/* Takes out rows and gives all others positions 0, 1 ... */
void reference_remove (Reference *reference, gsize first, gsize n);
void reference_set_position (Reference *reference, guint row, gint32 position);
