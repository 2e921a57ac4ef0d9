/* worker_private.h - what worker.c and workloop.c share.
 *
 * Cancelling: every flush raises `generation`.  The session is reset under the lock before it
 * serves a newer generation, and it is cancelled under the lock only together with a raise, so a
 * cancellation can neither be lost nor hit the work that follows it.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "kept.h"
#include "worker.h"

struct _GstValleyWorker {
  GstValleyWorkerCalls calls;
  gpointer owner;

  GMutex lock;
  GCond work; /* something to do, or stop */
  GCond room; /* the backlog shrank, or nobody needs to wait any more */
  GThread *thread;
  GCancellable *cancellable; /* of the load */
  ValleyModel *model;
  ValleySessionOptions options;
  gchar *system_prompt;   /* theirs */
  ValleySession *session; /* NULL until loaded */
  ValleyBacklog backlog;
  guint generation;
  gboolean stopping, flushing, loaded, failed, busy;
  guint64 n_frames;
  ValleySessionStats stats;
  guint64 n_losses; /* of the device */

  /* Only the thread's own: */
  ValleyBacklogSetup setup; /* that the session has */
  gboolean more_work;       /* the session may have some for idle moments */
  guint served_generation;
  guint64 served_epoch;
  GError *frame_error;               /* of the last frames in a row that could not be encoded ... */
  guint64 first_failed, last_failed; /* ... and their numbers */
  ValleyKept kept;                   /* the session's frames */
  guint recent_losses;               /* since the last answer */
};

/* workloop.c: the thread. */
gpointer gst_valley_worker_main (gpointer data);
