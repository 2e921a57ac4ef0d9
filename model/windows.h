/* windows.h - a session's windows: which frames are there, which sequences hold them, and what
 * is given up when memory is short.  schedule.c decides, sequence.c computes, this drives both.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "driftprobe.h"
#include "schedule.h"
#include "sequence.h"

typedef struct _ValleyWindows ValleyWindows;

/* A push of a frame. */
typedef struct {
  guint64 number, pts_ns;
  ValleyFrame *frame;
} ValleyWindowFrame;

/* @model and @stream outlive it; @options may be NULL. */
ValleyWindows *valley_windows_new (ValleyModel *model, ValleyStream *stream,
                                   const ValleySessionOptions *options, GError **error);
void valley_windows_free (ValleyWindows *windows); /* NULL is fine */
/* The public calls of the same names; of @stats what concerns frames and sequences. */
void valley_windows_set_windowing (ValleyWindows *windows, const ValleyWindowing *windowing);
void valley_windows_set_change_threshold (ValleyWindows *windows, double change_threshold);
gboolean valley_windows_push (ValleyWindows *windows, ValleyPicture *picture,
                              gboolean begins_window, GError **error);
gboolean valley_windows_work (ValleyWindows *windows, gboolean *more, GError **error);
void valley_windows_drop_before (ValleyWindows *windows, guint64 pts_ns);
void valley_windows_reset (ValleyWindows *windows);
guint valley_windows_n_frames (const ValleyWindows *windows);
void valley_windows_stats (const ValleyWindows *windows, ValleySessionStats *stats);
ValleyWindowPolicy valley_windows_policy (const ValleyWindows *windows); /* in effect */
/* An answer was given without a prefill.  If all are since the last push, then nothing is
 * prefilled in idle moments until a frame comes that differs from the one before: the next
 * answers will probably be the last ones. */
void valley_windows_rest (ValleyWindows *windows);
void valley_windows_set_prefill_rows (ValleyWindows *windows, gsize rows);

/* The ids that every prompt begins with from now on; other ones are computed anew. */
void valley_windows_set_header (ValleyWindows *windows, const gint32 *ids, gsize n_ids);

/* Appends to @frames, a GArray of ValleyWindowFrame, what an answer asked now is about: the
 * policy's contents, or (@window_only) the frames that are not dropped.  Borrowed until the next
 * push, drop or reset. */
void valley_windows_contents (ValleyWindows *windows, gboolean window_only, GArray *frames);

/* A prompt over frames. */
typedef struct {
  const gint32 *ids; /* all of it, an image slot for each frame */
  gsize n_ids;
  gsize n_header;       /* of them the header's, which no question changes; 0: there is none */
  const GArray *frames; /* of ValleyWindowFrame */
  gboolean is_contents; /* they are the policy's contents, none left out */
} ValleyWindowPrompt;

typedef struct {
  gsize n_frame_rows; /* of pictures */
  gsize n_reused;     /* of all rows, those that were there when the previous answer began or that
                         it left */
} ValleyWindowCounts;

/* Computes what is not computed of it: *rows (fresh, the caller's) ends with its last row's
 * output, and the answer's own cache holds it until valley_windows_end_answer. */
gboolean valley_windows_prefill (ValleyWindows *windows, const ValleyWindowPrompt *prompt,
                                 ValleyRows *rows, ValleyWindowCounts *counts, GError **error);
/* Streaming: the comparison that waits for the answer in progress, or NULL. */
ValleyDriftProbe *valley_windows_probe (ValleyWindows *windows);
ValleyPrefill *valley_windows_prefiller (ValleyWindows *windows);
ValleyKvCache *valley_windows_answer_cache (ValleyWindows *windows);
/* Makes room for @n more rows of the answer, giving up what is needed later; does what it can. */
void valley_windows_make_room (ValleyWindows *windows, gsize n);
void valley_windows_end_answer (ValleyWindows *windows);
