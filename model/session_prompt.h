/* session_prompt.h - a request's prompt over a session's frames: its texts as ids, and which frames
 * there is room for.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "windows.h"

typedef struct {
  const ValleyModel *model;
  char *question; /* whose ids `tail` are */
  GArray *header, *tail;
  GArray *ids;          /* gint32: all of it */
  GArray *shown;        /* ValleyWindowFrame */
  GArray *shown_pts;    /* guint64 */
  gboolean is_contents; /* what is shown is what the policy holds */
  guint n_left_out;
  guint64 start_ns, end_ns; /* of the frames that it is about, left out ones too */
  guint max_new_tokens;     /* that there is room for */
} ValleySessionPrompt;

/* @system: of the header, until a request says otherwise. */
void valley_session_prompt_init (ValleySessionPrompt *prompt, const ValleyModel *model,
                                 const char *system);
void valley_session_prompt_clear (ValleySessionPrompt *prompt);
/* Forgets ids and frames; the texts' ids are kept for the next request. */
void valley_session_prompt_forget (ValleySessionPrompt *prompt);
/* What the policy holds is shown if all of it fits, else what fits of the window itself. */
gboolean valley_session_prompt_build (ValleySessionPrompt *prompt, ValleyWindows *windows,
                                      const ValleyRequest *request, GError **error);
/* What a result tells of it. */
void valley_session_prompt_describe (const ValleySessionPrompt *prompt, ValleyResult *result);
