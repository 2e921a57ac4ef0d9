/* backlog.h - what waits for the model: frames to encode and closed windows to answer, in
 * order, with its bounds and the rule by which the oldest window is dropped.
 *
 * GLib only, and nothing of the engine but its types; the caller locks.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"
#include "window.h"

/* How the engine is to treat a frame and those behind it. */
typedef struct {
  ValleyWindowing windowing;
  double change_threshold;
} ValleyBacklogSetup;

typedef struct {
  gpointer picture; /* NULL: `window` is what waits */
  gsize bytes;
  ValleyWindowFrame frame; /* no window closed later needs a frame before its keep_from */
  ValleyBacklogSetup setup;
  ValleyWindow *window;
} ValleyBacklogItem;

typedef struct {
  GQueue items; /* ValleyBacklogItem */
  gsize bytes;  /* of the pictures in it */
  guint n_windows;
  gsize max_bytes;
  guint max_windows;
  GDestroyNotify free_picture, free_window;
} ValleyBacklog;

void valley_backlog_init (ValleyBacklog *backlog, GDestroyNotify free_picture,
                          GDestroyNotify free_window);
void valley_backlog_clear (ValleyBacklog *backlog);

/* Both take over what they are given. */
void valley_backlog_add_frame (ValleyBacklog *backlog, gpointer picture, gsize bytes,
                               const ValleyWindowFrame *frame, const ValleyBacklogSetup *setup);
void valley_backlog_add_window (ValleyBacklog *backlog, ValleyWindow *window);
/* The oldest item or FALSE; its contents are then the caller's. */
gboolean valley_backlog_pop (ValleyBacklog *backlog, ValleyBacklogItem *item);

/* Whether one more window may be filled (a stream that can wait does so otherwise). */
gboolean valley_backlog_has_room (const ValleyBacklog *backlog);
/* Whether something must be dropped (a stream that cannot wait). */
gboolean valley_backlog_is_over (const ValleyBacklog *backlog);
/* Takes out the oldest closed window and the frames that only it needed; @first_needed is the
 * first frame that a window still open needs.  NULL when no closed window waits. */
ValleyWindow *valley_backlog_drop_window (ValleyBacklog *backlog, guint64 first_needed);
/* Forgets frames older than every window that waits and than @first_needed. */
void valley_backlog_trim (ValleyBacklog *backlog, guint64 first_needed);
