/* worker.c - the worker as the element sees it: started and stopped, given frames and windows. What
 * its thread does is workloop.c's.
 * SPDX-License-Identifier: Apache-2.0 */
#include "worker_private.h"

static void
free_chunk (gpointer data)
{
  gst_valley_chunk_unref (data);
}

static void
free_picture (gpointer data)
{
  valley_picture_unref (data);
}

GstValleyWorker *
gst_valley_worker_new (const GstValleyWorkerCalls *calls, gpointer owner)
{
  GstValleyWorker *worker = g_new0 (GstValleyWorker, 1);

  worker->calls = *calls;
  worker->owner = owner;
  g_mutex_init (&worker->lock);
  g_cond_init (&worker->work);
  g_cond_init (&worker->room);
  valley_backlog_init (&worker->backlog, free_picture, free_chunk);
  valley_kept_init (&worker->kept);
  return worker;
}

void
gst_valley_worker_free (GstValleyWorker *worker)
{
  gst_valley_worker_stop (worker);
  g_mutex_clear (&worker->lock);
  g_cond_clear (&worker->work);
  g_cond_clear (&worker->room);
  g_free (worker);
}

void
gst_valley_worker_start (GstValleyWorker *worker, ValleyModel *model,
                         const ValleySessionOptions *options)
{
  g_return_if_fail (worker->thread == NULL);

  g_mutex_lock (&worker->lock);
  worker->model = valley_model_ref (model);
  worker->options = *options;
  worker->options.system_prompt = worker->system_prompt = g_strdup (options->system_prompt);
  worker->cancellable = g_cancellable_new ();
  worker->stopping = worker->flushing = worker->loaded = worker->failed = FALSE;
  worker->n_frames = worker->n_losses = 0;
  worker->recent_losses = 0;
  worker->stats = (ValleySessionStats){ 0 };
  worker->setup = (ValleyBacklogSetup){ 0 }; /* a new session's */
  worker->more_work = FALSE;
  worker->thread = g_thread_new ("valleyinfer", gst_valley_worker_main, worker);
  g_mutex_unlock (&worker->lock);
}

/* Lock held. */
static void
forget_all (GstValleyWorker *worker)
{
  valley_backlog_clear (&worker->backlog);
  worker->generation++;
  if (worker->session != NULL)
    valley_session_cancel (worker->session);
  g_cond_broadcast (&worker->room);
}

void
gst_valley_worker_cancel (GstValleyWorker *worker)
{
  g_mutex_lock (&worker->lock);
  worker->stopping = TRUE;
  forget_all (worker);
  g_cond_broadcast (&worker->work);
  g_mutex_unlock (&worker->lock);
  g_cancellable_cancel (worker->cancellable);
}

void
gst_valley_worker_stop (GstValleyWorker *worker)
{
  if (worker->thread == NULL)
    return;
  gst_valley_worker_cancel (worker);
  g_clear_pointer (&worker->thread, g_thread_join);

  valley_backlog_clear (&worker->backlog);
  valley_kept_clear (&worker->kept);
  g_clear_pointer (&worker->session, valley_session_free);
  g_clear_pointer (&worker->model, valley_model_unref);
  g_clear_pointer (&worker->system_prompt, g_free);
  g_clear_object (&worker->cancellable);
  g_clear_error (&worker->frame_error);
}

void
gst_valley_worker_flush (GstValleyWorker *worker)
{
  g_mutex_lock (&worker->lock);
  forget_all (worker);
  g_mutex_unlock (&worker->lock);
}

void
gst_valley_worker_set_flushing (GstValleyWorker *worker, gboolean flushing)
{
  g_mutex_lock (&worker->lock);
  worker->flushing = flushing;
  g_cond_broadcast (&worker->room);
  g_mutex_unlock (&worker->lock);
}

void
gst_valley_worker_set_bounds (GstValleyWorker *worker, gsize max_bytes, guint max_windows)
{
  g_mutex_lock (&worker->lock);
  worker->backlog.max_bytes = max_bytes;
  worker->backlog.max_windows = max_windows;
  g_cond_broadcast (&worker->room);
  g_mutex_unlock (&worker->lock);
}

/* Lock held. */
static gboolean
takes_work (const GstValleyWorker *worker)
{
  return worker->thread != NULL && !worker->stopping && !worker->failed;
}

void
gst_valley_worker_add_frame (GstValleyWorker *worker, ValleyPicture *picture,
                             const ValleyWindowFrame *frame, const ValleyBacklogSetup *setup)
{
  g_mutex_lock (&worker->lock);
  if (takes_work (worker)) {
    valley_backlog_add_frame (&worker->backlog, valley_picture_ref (picture),
                              valley_picture_bytes (picture), frame, setup);
    g_cond_signal (&worker->work);
  }
  g_mutex_unlock (&worker->lock);
}

void
gst_valley_worker_add_chunk (GstValleyWorker *worker, GstValleyChunk *chunk)
{
  g_mutex_lock (&worker->lock);
  if (takes_work (worker)) {
    valley_backlog_add_window (&worker->backlog, &gst_valley_chunk_ref (chunk)->window);
    g_cond_signal (&worker->work);
  }
  g_mutex_unlock (&worker->lock);
}

gboolean
gst_valley_worker_is_over (GstValleyWorker *worker)
{
  gboolean over;

  g_mutex_lock (&worker->lock);
  over = valley_backlog_is_over (&worker->backlog);
  g_mutex_unlock (&worker->lock);
  return over;
}

GstValleyChunk *
gst_valley_worker_drop (GstValleyWorker *worker, guint64 first_needed)
{
  ValleyWindow *window;

  g_mutex_lock (&worker->lock);
  window = valley_backlog_drop_window (&worker->backlog, first_needed);
  g_mutex_unlock (&worker->lock);
  return (GstValleyChunk *) window;
}

void
gst_valley_worker_trim (GstValleyWorker *worker, guint64 first_needed)
{
  g_mutex_lock (&worker->lock);
  valley_backlog_trim (&worker->backlog, first_needed);
  g_mutex_unlock (&worker->lock);
}

void
gst_valley_worker_wait_for_room (GstValleyWorker *worker)
{
  g_mutex_lock (&worker->lock);
  while (takes_work (worker) && !worker->flushing && !valley_backlog_has_room (&worker->backlog))
    g_cond_wait (&worker->room, &worker->lock);
  g_mutex_unlock (&worker->lock);
}

GstValleyWorkerState
gst_valley_worker_state (GstValleyWorker *worker)
{
  GstValleyWorkerState state;

  g_mutex_lock (&worker->lock);
  state = (GstValleyWorkerState){ .loaded = worker->loaded,
                                  .busy = worker->busy,
                                  .n_windows = worker->backlog.n_windows,
                                  .bytes = worker->backlog.bytes,
                                  .n_frames = worker->n_frames,
                                  .n_losses = worker->n_losses,
                                  .session = worker->stats };
  g_mutex_unlock (&worker->lock);
  return state;
}
