/* schedule.h - which sequences a window policy keeps, which frame goes into which and when.
 *
 * Plain arithmetic on frame numbers: no model, no memory, no time.  A sequence here is a run of
 * frames [first, next) behind one header; whoever drives the schedule holds its rows (a KV
 * cache) under the same id.  A null model that only counts can drive it as well as a session.
 *
 * The driver says what happened (push, drop_before, ask, done, restart, park, give_up) and asks
 * what is to do (next_unit when idle, sequence_unit for the sequence that must answer now),
 * which rows are not needed any more (take_ended) and which are needed last (next_victim).
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef struct _ValleySchedule ValleySchedule;

typedef struct {
  guint64 id;          /* from 1, never used twice */
  guint64 first, next; /* the frames whose rows it holds: [first, next) */
  guint64 anchor;      /* the first frame it was computed from; before `first` once it evicted */
  gboolean parked;     /* its rows were given up for memory: waits until it is the most urgent */
  gboolean given_up;   /* grew past what the model can read: gets no more units */
} ValleyScheduleSequence;

/* A piece of work: forget the @n_evict oldest frames of the sequence (streaming only), then
 * append the frames [frame, frame + n_frames). */
typedef struct {
  guint64 sequence;
  guint n_evict;
  guint64 frame;
  guint n_frames;
} ValleyScheduleUnit;

/* Who answers for the window.  What it still lacks is told by valley_schedule_sequence_unit. */
typedef struct {
  guint64 sequence;
  guint64 first;     /* once it is complete it shows [first, last frame pushed] */
  gboolean exact;    /* those frames' rows are as if computed at once */
  gboolean given_up; /* its frames are too many for the model: the driver chooses some */
  guint64 drifted;   /* 0, or the approximate sequence that this one replaces from now on: it
                        shows the same frames, so that both can answer and be compared */
} ValleyScheduleAnswer;

typedef struct {
  guint64 frames;     /* pushed */
  guint64 prefilled;  /* frames appended to sequences, every time counted */
  guint64 evicted;    /* frames forgotten from the front of streaming sequences */
  guint64 asked;      /* windows; a second question on one window is not counted again */
  guint64 started;    /* sequences */
  guint64 reanchored; /* streaming: exact restarts */
  guint64 restarted;  /* sequences whose rows were lost: restart and park */
} ValleyScheduleCounts;

/* Its own, or the default. */
guint valley_windowing_reanchor_hops (const ValleyWindowing *windowing);

/* @windowing must have window_frames and hop_frames unless it is tumbling. */
ValleySchedule *valley_schedule_new (const ValleyWindowing *windowing);
void valley_schedule_free (ValleySchedule *schedule); /* NULL is fine */

/* At any time.  Sequences that the new policy cannot go on with end; open windows are planned
 * anew from their frames. */
void valley_schedule_set_windowing (ValleySchedule *schedule, const ValleyWindowing *windowing);
/* Forgets every frame, window and sequence (they end); numbers go on. */
void valley_schedule_reset (ValleySchedule *schedule);

/* The next frame came; returns its number (0, 1, 2 ...).  The first frame after nothing opens a
 * window even when it is not said to. */
guint64 valley_schedule_push (ValleySchedule *schedule, gboolean begins_window);
/* No window asked from now on starts before frame @number. */
void valley_schedule_drop_before (ValleySchedule *schedule, guint64 number);
/* The window [first, last frame pushed] is to be answered, now.  May be repeated for several
 * questions: the window is over with the next push, next_unit or later window.  FALSE when no
 * frame from @first on was pushed, or windows before a later one were said to be over. */
gboolean valley_schedule_ask (ValleySchedule *schedule, guint64 first,
                              ValleyScheduleAnswer *answer);

/* The most urgent unit that waits, always of one frame; FALSE: nothing waits. */
gboolean valley_schedule_next_unit (ValleySchedule *schedule, ValleyScheduleUnit *unit);
/* What the sequence @id lacks, as many frames as can go through the model together; FALSE: it
 * is complete.  Call again after valley_schedule_done. */
gboolean valley_schedule_sequence_unit (ValleySchedule *schedule, guint64 id,
                                        ValleyScheduleUnit *unit);
/* The rows of @unit are in its sequence. */
void valley_schedule_done (ValleySchedule *schedule, const ValleyScheduleUnit *unit);

/* The rows of the sequence @id are gone and are to be made again (another header, a failure). */
void valley_schedule_restart (ValleySchedule *schedule, guint64 id);
/* They are gone for want of memory, and made again only when nothing else comes first. */
void valley_schedule_park (ValleySchedule *schedule, guint64 id);
/* The sequence has outgrown the model's context: its rows are gone and stay so. */
void valley_schedule_give_up (ValleySchedule *schedule, guint64 id);

/* The sequence with rows that is needed last; 0 when there is none but the one that is needed
 * first, or that answers. */
guint64 valley_schedule_next_victim (const ValleySchedule *schedule);
/* The id of a sequence that ended since the last call, each once; 0: none. */
guint64 valley_schedule_take_ended (ValleySchedule *schedule);
/* Frames before this one (their pictures and encodings) are never needed again. */
guint64 valley_schedule_keep_from (const ValleySchedule *schedule);

/* The live sequences, the most urgent first; the pointers hold until the next call that is not
 * const.  NULL: no such one. */
guint valley_schedule_n_sequences (const ValleySchedule *schedule);
const ValleyScheduleSequence *valley_schedule_nth (const ValleySchedule *schedule, guint n);
const ValleyScheduleSequence *valley_schedule_find (const ValleySchedule *schedule, guint64 id);

void valley_schedule_counts (const ValleySchedule *schedule, ValleyScheduleCounts *counts);
