/* previous.h - the last answer to each of a session's questions, to be given again when neither
 * the question nor the frames have changed.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef struct _ValleyPrevious ValleyPrevious;

/* All that a greedy answer depends on, and which window it is. */
typedef struct {
  const ValleyRequest *request;
  guint max_new_tokens; /* in effect */
  const gint32 *ids;    /* of the whole prompt */
  gsize n_ids;
  const guint64 *contents; /* of the frames, in order */
  gsize n_contents;
  gboolean is_exact; /* no approximate answer passes for an exact one */
  guint64 window;    /* grows from window to window */
} ValleyPreviousKey;

ValleyPrevious *valley_previous_new (void);
void valley_previous_free (ValleyPrevious *previous); /* NULL is fine */
void valley_previous_clear (ValleyPrevious *previous);

/* Notes what is asked in the request's slot.  TRUE: an earlier window had the same frames and the
 * same question; then *result gets the answer that it was given, in strings and arrays that stay
 * until the slot's next answer, and the window counts as the one that was answered. */
gboolean valley_previous_begin (ValleyPrevious *previous, const ValleyPreviousKey *key,
                                ValleyResult *result);
/* The answer to what valley_previous_begin noted last is complete; copied.  @logits: NULL, or
 * @n_logits of them. */
void valley_previous_finish (ValleyPrevious *previous, const ValleyResult *result,
                             const float *logits, gsize n_logits);
/* Those of the answer that valley_previous_begin found, or NULL. */
const float *valley_previous_logits (const ValleyPrevious *previous, gsize *n_logits);
