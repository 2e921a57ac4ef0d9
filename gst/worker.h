/* worker.h - the thread that owns the model: it loads it, encodes frames as they arrive, prefills
 * them while nothing else waits, and answers windows as they close.  It never touches a pad; what
 * happened is told to the element through calls made from its thread without any lock held.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backlog.h"
#include "result.h"

typedef enum {
  GST_VALLEY_LOAD_STARTED,
  GST_VALLEY_LOAD_DONE,
  GST_VALLEY_LOAD_CANCELLED,
  GST_VALLEY_LOAD_FAILED, /* the worker has ended; frames are not taken any more */
} GstValleyLoad;

typedef struct _GstValleyWorker GstValleyWorker;
typedef struct {
  void (*load) (gpointer owner, GstValleyLoad load, const GError *error);
  /* The chunk's answer @index, or its error, is filled in; @error is NULL when it was answered. */
  void (*answered) (gpointer owner, GstValleyChunk *chunk, guint index, const GError *error);
  /* The device was lost, and @lost with it: the model that takes its place (the worker's reference),
   * not loaded; NULL: @error. */
  ValleyModel *(*reopen) (gpointer owner, ValleyModel *lost, GError **error);
  /* Something else than an answer did not go as wished. */
  void (*warning) (gpointer owner, const GError *error);
} GstValleyWorkerCalls;

typedef struct {
  gboolean loaded;
  gboolean busy;    /* a frame or window is with the model right now */
  guint n_windows;  /* closed ones that wait */
  gsize bytes;      /* of pictures that wait */
  guint64 n_frames; /* taken since the start */
  guint64 n_losses; /* of the device; `session` counts from the last one on */
  ValleySessionStats session;
} GstValleyWorkerState;

GstValleyWorker *gst_valley_worker_new (const GstValleyWorkerCalls *calls, gpointer owner);
void gst_valley_worker_free (GstValleyWorker *worker);

/* @model is opened, not loaded; @options are copied. */
void gst_valley_worker_start (GstValleyWorker *worker, ValleyModel *model,
                              const ValleySessionOptions *options);
/* Tells the thread to end and cancels whatever it does; wakes wait_for_room.  Does not wait. */
void gst_valley_worker_cancel (GstValleyWorker *worker);
/* The same, then joins the thread.  No other call may be going on. */
void gst_valley_worker_stop (GstValleyWorker *worker);
/* Forgets what waits and cancels what runs, without waiting for it. */
void gst_valley_worker_flush (GstValleyWorker *worker);
/* While set, wait_for_room does not wait. */
void gst_valley_worker_set_flushing (GstValleyWorker *worker, gboolean flushing);

void gst_valley_worker_set_bounds (GstValleyWorker *worker, gsize max_bytes, guint max_windows);
/* Takes its own reference of the picture. */
void gst_valley_worker_add_frame (GstValleyWorker *worker, ValleyPicture *picture,
                                  const ValleyWindowFrame *frame, const ValleyBacklogSetup *setup);
void gst_valley_worker_add_chunk (GstValleyWorker *worker, GstValleyChunk *chunk);
/* For streams that cannot wait: whether the bounds are passed, and the oldest waiting chunk
 * taken out (the caller's reference) or NULL. */
gboolean gst_valley_worker_is_over (GstValleyWorker *worker);
GstValleyChunk *gst_valley_worker_drop (GstValleyWorker *worker, guint64 first_needed);
void gst_valley_worker_trim (GstValleyWorker *worker, guint64 first_needed);
/* For streams that can: returns when there is room, or at once when flushing, stopped or
 * failed. */
void gst_valley_worker_wait_for_room (GstValleyWorker *worker);

GstValleyWorkerState gst_valley_worker_state (GstValleyWorker *worker);
