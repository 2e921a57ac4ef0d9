/* redundancy.h - which of a frame's tokens say something new: the drop of tokens that repeat what
 * the sequence was last shown at their place.
 *
 * Causal: a frame's choice depends on the frames before it in the same sequence alone, so that a
 * sequence rebuilt from its first frame drops the same tokens.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

/* One sequence's state; zeroed to begin with. */
typedef struct {
  ValleyTensor kept;                            /* the token last kept at each place */
  guint *kept_in;                               /* and in which frame that was */
  guint siglip_side, eagle_width, eagle_height; /* whose places these are */
  guint n_frames, first_frame; /* shown so far, and the first of them that still is there */
} ValleyRedundancy;

/* Starts over: the next frame keeps all its tokens. */
void valley_redundancy_clear (ValleyRedundancy *redundancy, ValleyBackend *backend);

/* The @n oldest frames are taken out of the sequence: tokens like theirs say something new again.
 */
void valley_redundancy_evict (ValleyRedundancy *redundancy, guint n);

/* Which of a frame's @tokens stay, in order, into @chosen, which has room for all; returns how
 * many.  A frame made for other @sizes than the last one, and one whose sizes say that nothing is
 * dropped, keeps all.  Waits for the stream; when that fails its error is set and the state must
 * be cleared. */
gsize valley_redundancy_choose (ValleyRedundancy *redundancy, ValleyStream *stream,
                                const ValleyTensor *tokens, const ValleyInputSizes *sizes,
                                gint32 *chosen);
