/* question.h - one prompt of a window on its way to the model and back: which frames its text
 * tells of, and what becomes of the engine's result.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "result.h"

typedef struct {
  GstValleyChunk *chunk;
  guint index;           /* of the prompt */
  gchar *text;           /* its placeholders are filled in; to be freed */
  ValleyRequest request; /* for valley_session_begin */
} GstValleyQuestion;

/* A prompt tells of the frames that the model is shown: the window's, or more where the window
 * policy keeps older ones, or fewer where they do not fit. */
gboolean gst_valley_question_prepare (GstValleyQuestion *question, ValleySession *session,
                                      GError **error);
/* The result becomes the chunk's answer. */
void gst_valley_question_keep (const GstValleyQuestion *question, const ValleyResult *result);
