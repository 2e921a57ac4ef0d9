/* admission.h - what a window policy will need of memory and context, before it starts.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"

/* FALSE: the settings make no sense. */
gboolean valley_windowing_check (const ValleyWindowing *windowing, GError **error);

/* What prompts are taken to need; longer ones still work, by evicting. */
#define VALLEY_USUAL_HEADER_ROWS 128 /* the system prompt's turn */
#define VALLEY_USUAL_TAIL_ROWS 512   /* question and answer */
/* Around a frame's vision tokens: start, end, the separating space. */
#define VALLEY_FRAME_TEXT_ROWS 4

typedef struct {
  guint64 most_frames;    /* that an answer may be shown, */
  guint64 rows;           /* and the positions that they, prompt and answer take */
  guint64 kv_bytes;       /* all sequences at their longest, an answer in progress */
  guint64 encoding_bytes; /* of the frames that sequences may have to be rebuilt from */
} ValleyCacheNeed;

/* For frames of @vision_tokens rows each.  Sums that overflow are G_MAXUINT64. */
void valley_cache_need (const ValleyConfig *config, ValleyPrecision precision, gboolean is_cpu,
                        const ValleyWindowing *windowing, guint64 vision_tokens,
                        ValleyCacheNeed *need);
