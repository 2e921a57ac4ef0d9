/* window.h - from presentation times to frame slots and windows.
 *
 * Plain arithmetic on nanoseconds: no GStreamer object, no thread, no lock.  What happens to a
 * closed window (the queue, the model, the caption) is not decided here.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

#define VALLEY_TIME_NONE G_MAXUINT64 /* the same value as GST_CLOCK_TIME_NONE */

typedef struct {
  guint rate_n, rate_d; /* frame slots per second */
  guint64 duration_ns;
  guint64 overlap_ns;
  guint size;   /* slots in a window; 0: duration_ns decides */
  guint stride; /* one slot in so many is used; 0: every one */
} ValleyWindowConfig;

guint64 valley_window_config_step_ns (const ValleyWindowConfig *config);
guint64 valley_window_config_duration_ns (const ValleyWindowConfig *config);
guint64 valley_window_config_hop_ns (const ValleyWindowConfig *config);
/* The most frames that a window can have, and the fewest slots from one window to the next. */
void valley_window_config_frames (const ValleyWindowConfig *config, guint *window_frames,
                                  guint *hop_frames);
gboolean valley_window_config_equal (const ValleyWindowConfig *a, const ValleyWindowConfig *b);

/* A half-open window [start, end).  Frames are counted over the whole stream, so that a window's
 * frames are the numbers [first_frame, first_frame + frames->len). */
typedef struct {
  guint64 id;    /* 0, 1, 2 ... in the order of opening, over all resets */
  guint64 epoch; /* frames of different epochs never meet in one window */
  guint64 start, end;
  guint64 caption_start; /* [caption_start, end) is this window's own part of the picture */
  guint64 first_frame;
  GArray *frames;   /* guint64: the PTS of each analysed frame */
  gboolean cut;     /* ended before its time */
  gboolean covered; /* when cut: an older window already holds all its frames */
} ValleyWindow;

/* Windows live in reference-counted boxes of a size that the caller chooses, so that the
 * caller's struct can begin with a ValleyWindow; fields past it start as zero. */
void valley_window_clear (ValleyWindow *window);

typedef struct {
  gsize box_size;
  ValleyWindowConfig config, next_config;
  gboolean config_changed;
  gboolean running; /* a grid is laid */
  guint64 limit;    /* no window reaches past this (a segment's stop) */
  guint64 base;     /* the grid's origin: the first PTS after a reset */
  guint64 next_slot, next_step;
  guint64 last_pts, last_end;
  guint64 covered_until; /* the end of the last opened window; 0 on a fresh grid */
  guint64 next_id, next_frame, epoch;
  GQueue open; /* ValleyWindow, oldest first; borrowed from whoever took `opened` */
} ValleyWindows;

/* What a frame did.  Closed windows come oldest first. */
typedef struct {
  GQueue closed;        /* ValleyWindow */
  ValleyWindow *opened; /* a new box, the caller's, or NULL */
  gboolean due;         /* the frame is on a slot of an open window: analyse it */
  gboolean reset;       /* the PTS jumped: a new grid begins with this frame */
  gboolean backwards;   /* the jump went back */
} ValleyWindowStep;

void valley_windows_init (ValleyWindows *windows, gsize box_size);
void valley_windows_clear (ValleyWindows *windows);

/* Holds from the next window that opens. */
void valley_windows_configure (ValleyWindows *windows, const ValleyWindowConfig *config);

/* A frame [pts, end) goes by.  @step is initialised here. */
void valley_windows_frame (ValleyWindows *windows, guint64 pts, guint64 end,
                           ValleyWindowStep *step);
typedef struct {
  guint64 number; /* see ValleyWindow */
  guint64 epoch;
  guint64 keep_from; /* PTS of the oldest frame that an open window still needs */
  gboolean begins;   /* it is the first frame of a window */
} ValleyWindowFrame;
/* The frame at @pts was taken: it joins every open window.  FALSE when no window is open (any
 * more). */
gboolean valley_windows_take (ValleyWindows *windows, guint64 pts, ValleyWindowFrame *frame);
/* Time has come to @time without a frame (a gap, the clock): closes what ended. */
void valley_windows_advance (ValleyWindows *windows, guint64 time, GQueue *closed);
/* The stream breaks off here: every open window is closed with its end at the last frame's end.
 * The next frame lays a new grid. */
void valley_windows_cut (ValleyWindows *windows, GQueue *closed);
/* Forgets the oldest open window: its slots are not taken any more.  NULL: none is open. */
ValleyWindow *valley_windows_abandon (ValleyWindows *windows);
/* The number of the first frame that an open window needs. */
guint64 valley_windows_first_needed (const ValleyWindows *windows);
/* Forgets everything but the count of ids, frames and epochs. */
void valley_windows_reset (ValleyWindows *windows);
