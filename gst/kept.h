/* kept.h - the frames that a session was pushed and that answers to come are about: what another
 * session needs to go on in its place.  The worker thread's own.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backlog.h"

typedef struct {
  ValleyPicture *picture;
  ValleyWindowFrame frame;
  ValleyBacklogSetup setup;
} ValleyKeptFrame;

typedef struct {
  GQueue frames; /* ValleyKeptFrame, in the order of their times */
} ValleyKept;

void valley_kept_init (ValleyKept *kept);
void valley_kept_clear (ValleyKept *kept);
/* Takes over @picture. */
const ValleyKeptFrame *valley_kept_add (ValleyKept *kept, ValleyPicture *picture,
                                        const ValleyWindowFrame *frame,
                                        const ValleyBacklogSetup *setup);
void valley_kept_drop_before (ValleyKept *kept, guint64 pts_ns);
