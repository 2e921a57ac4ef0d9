/* windows_parts.h - what the files of windows.h share.  windows.c: frames and policies.
 * windows_memory.c: the bound.  windows_sequences.c: rows of frames.  windows_answers.c: prompts.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "windows.h"

struct _ValleyWindows {
  ValleyModel *model;
  ValleyStream *stream;
  ValleyKvPool *pool;
  ValleyPrefill prefill;
  ValleyFrameCache *cache;
  ValleySchedule *schedule;
  ValleyWindowing windowing;

  GArray *frames;         /* of ValleyWindowFrame: all that some sequence may still need */
  guint64 window_first;   /* number of the first frame that is not dropped */
  guint n_pushed;         /* since the last reset */
  gboolean has_prefilled; /* a sequence, for an answer, since the last push */
  gboolean is_resting;    /* answers repeat; see valley_windows_rest */
  gboolean is_in_vain;    /* answers do without the sequences: what they show does not fit */

  GArray *header_ids;
  ValleyKvCache header; /* their rows, or empty */
  gsize n_header_known; /* as ValleySequence.n_known */
  GPtrArray *sequences;
  ValleyKvCache answer;
  ValleySessionStats stats;

  /* streaming */
  guint64 drifted; /* the sequence that the asked one replaced, while it is not compared */
  ValleyDriftProbe *probe;
  ValleyDrift drift;
  ValleyWindowing requested; /* `windowing`, unless that was fallen back from */
};

/* ---- windows_memory.c ---- */

ValleySequence *valley_windows_find_sequence (ValleyWindows *windows, guint64 id); /* or NULL */
/* Its rows go; what the schedule knows of it is the caller's. */
void valley_windows_forget_sequence (ValleyWindows *windows, guint64 id);
/* After whatever may end sequences in the schedule. */
void valley_windows_forget_ended (ValleyWindows *windows);
/* Gives up what is needed last until the bound is kept; and shares it out anew. */
void valley_windows_keep_within_bound (ValleyWindows *windows);
/* Of the frames' encodings, and of the tokens that sequences compare the next ones with. */
guint64 valley_windows_encoding_bytes (const ValleyWindows *windows);
/* Whether what failed for @reason had better be tried again, since memory was found for it. */
gboolean valley_windows_find_memory (ValleyWindows *windows, const GError *reason);
/* The same with all that there is, for what cannot go on from where it failed. */
gboolean valley_windows_give_up_all (ValleyWindows *windows, const GError *reason);
/* For the statistics. */
void valley_windows_note_bytes (ValleyWindows *windows);
/* As those of kvcache.h; short of memory they give up what is needed last, and try again. */
gboolean valley_windows_reserve (ValleyWindows *windows, ValleyKvCache *cache, gsize rows,
                                 GError **error);
gboolean valley_windows_fork (ValleyWindows *windows, ValleyKvCache *to, ValleyKvCache *from,
                              GError **error);
/* Room for @n rows more in @cache, which is the sequence @id's if that is not 0.  *parked: the
 * sequence itself was the one to be given up, and nothing is left to append to. */
gboolean valley_windows_reserve_more (ValleyWindows *windows, ValleyKvCache *cache, guint64 id,
                                      gsize n, gboolean *parked, GError **error);

/* ---- windows_sequences.c ---- */

/* Appends @rows to @cache; @id and *parked as above. */
gboolean valley_windows_append (ValleyWindows *windows, ValleyKvCache *cache, guint64 id,
                                ValleyRows *rows, gboolean *parked, GError **error);
gboolean valley_windows_make_header (ValleyWindows *windows, GError **error);
/* The sequence @id, which begins as the header. */
ValleySequence *valley_windows_get_sequence (ValleyWindows *windows, guint64 id, GError **error);
const ValleyWindowFrame *valley_windows_frame_at (const ValleyWindows *windows, guint64 number);
guint64 valley_windows_n_held (const ValleyWindows *windows, guint64 id); /* frames */
/* After a failure: what frames' tokens are compared with has gone ahead of the rows. */
void valley_windows_start_over (ValleyWindows *windows, ValleySequence *sequence);
/* What @unit evicts goes first, and is no part of it any more. */
gboolean valley_windows_evict_frames (ValleyWindows *windows, ValleyScheduleUnit *unit,
                                      GError **error);
gboolean valley_windows_run_unit (ValleyWindows *windows, ValleyScheduleUnit *unit, GError **error);
/* Every sequence is computed anew, when and if it is needed. */
void valley_windows_restart_all (ValleyWindows *windows);
