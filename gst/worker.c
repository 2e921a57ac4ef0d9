/* worker.c - one thread between the backlog and the engine's session.
 *
 * Cancelling: every flush raises `generation`.  The session is reset under the lock before it
 * serves a newer generation, and it is cancelled under the lock only together with a raise, so a
 * cancellation can neither be lost nor hit the work that follows it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include "enums.h"
#include "question.h"

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

  /* Only the thread's own: */
  ValleyBacklogSetup setup; /* that the session has */
  gboolean more_work;       /* the session may have some for idle moments */
  guint served_generation;
  guint64 served_epoch;
  GError *frame_error;  /* the last frame that could not be encoded ... */
  guint64 failed_frame; /* ... and its number */
};

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

/* ---- the thread ---------------------------------------------------------- */

static gboolean
load (GstValleyWorker *worker)
{
  ValleySession *session = NULL;
  GError *error = NULL;

  worker->calls.load (worker->owner, GST_VALLEY_LOAD_STARTED, NULL);
  if (valley_model_load (worker->model, worker->cancellable, &error))
    session = valley_session_new (worker->model, &worker->options, &error);

  g_mutex_lock (&worker->lock);
  worker->session = session;
  worker->loaded = session != NULL;
  worker->failed = session == NULL;
  if (worker->failed)
    valley_backlog_clear (&worker->backlog);
  g_cond_broadcast (&worker->room);
  g_mutex_unlock (&worker->lock);

  if (session != NULL)
    worker->calls.load (worker->owner, GST_VALLEY_LOAD_DONE, NULL);
  else if (g_error_matches (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED))
    worker->calls.load (worker->owner, GST_VALLEY_LOAD_CANCELLED, error);
  else
    worker->calls.load (worker->owner, GST_VALLEY_LOAD_FAILED, error);
  g_clear_error (&error);
  return session != NULL;
}

/* Lets everybody see what the session has done so far. */
static void
publish_stats (GstValleyWorker *worker)
{
  ValleySessionStats stats;
  g_autoptr (GError) error = NULL;
  gboolean fell_back;

  valley_session_stats (worker->session, &stats);
  g_mutex_lock (&worker->lock);
  fell_back = stats.fallen_back && !worker->stats.fallen_back;
  worker->stats = stats;
  g_mutex_unlock (&worker->lock);
  if (!fell_back)
    return;
  error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                       "window-policy=streaming drifted by %.3g nats in the mean from the exact "
                       "answers, more than max-drift=%.3g: %s takes over",
                       stats.drift_mean, worker->setup.windowing.max_drift,
                       gst_valley_window_policy_nick (stats.policy));
  worker->calls.warning (worker->owner, error);
}

/* One piece of what will be needed later.  Lock held, let go meanwhile. */
static void
work_ahead (GstValleyWorker *worker)
{
  gboolean more = FALSE;

  g_mutex_unlock (&worker->lock);
  /* Whoever needs what failed here meets the error again, and reports it. */
  if (!valley_session_work (worker->session, &more, NULL))
    more = FALSE;
  if (!more)
    publish_stats (worker);
  g_mutex_lock (&worker->lock);
  worker->more_work = more;
}

/* Waits for the next item and makes the session fit for it.  FALSE: stop. */
static gboolean
next_item (GstValleyWorker *worker, ValleyBacklogItem *item)
{
  guint64 epoch;
  gboolean have = FALSE;

  g_mutex_lock (&worker->lock);
  worker->busy = FALSE;
  while (!worker->stopping && !(have = valley_backlog_pop (&worker->backlog, item))) {
    if (worker->more_work)
      work_ahead (worker);
    else
      g_cond_wait (&worker->work, &worker->lock);
  }
  if (have) {
    g_cond_broadcast (&worker->room);
    epoch = item->window != NULL ? item->window->epoch : item->frame.epoch;
    if (worker->generation != worker->served_generation || epoch != worker->served_epoch) {
      valley_session_reset (worker->session);
      worker->served_generation = worker->generation;
      worker->served_epoch = epoch;
      g_clear_error (&worker->frame_error);
    }
    worker->busy = TRUE;
  }
  g_mutex_unlock (&worker->lock);
  return have;
}

static gboolean
same_windowing (const ValleyWindowing *a, const ValleyWindowing *b)
{
  return a->policy == b->policy && a->window_frames == b->window_frames
         && a->hop_frames == b->hop_frames && a->cache_max_bytes == b->cache_max_bytes
         && a->reanchor_hops == b->reanchor_hops && a->max_drift == b->max_drift;
}

/* What is refused leaves the session as it was, and is not tried again with every frame. */
static void
set_up (GstValleyWorker *worker, const ValleyBacklogSetup *setup)
{
  g_autoptr (GError) error = NULL;

  if (setup->change_threshold != worker->setup.change_threshold
      && !valley_session_set_change_threshold (worker->session, setup->change_threshold, &error))
    worker->calls.warning (worker->owner, error);
  g_clear_error (&error);
  if (!same_windowing (&setup->windowing, &worker->setup.windowing)
      && !valley_session_set_windowing (worker->session, &setup->windowing, &error))
    worker->calls.warning (worker->owner, error);
  worker->setup = *setup;
}

static void
encode (GstValleyWorker *worker, ValleyBacklogItem *item)
{
  GError *error = NULL;

  set_up (worker, &item->setup);
  valley_session_drop_before (worker->session, item->frame.keep_from);
  if (!valley_session_push (worker->session, item->picture, item->frame.begins, &error)) {
    g_clear_error (&worker->frame_error);
    worker->frame_error = error;
    worker->failed_frame = item->frame.number;
  }
  valley_picture_unref (item->picture);
  g_mutex_lock (&worker->lock);
  worker->n_frames++;
  g_mutex_unlock (&worker->lock);
  publish_stats (worker);
}

static gboolean
generate (GstValleyWorker *worker, GstValleyChunk *chunk, guint index, GError **error)
{
  GstValleyQuestion question = { .chunk = chunk, .index = index };
  const GArray *frames = chunk->window.frames;
  ValleyStep step = VALLEY_STEP_ERROR;

  if (worker->frame_error != NULL && worker->failed_frame >= chunk->window.first_frame
      && worker->failed_frame - chunk->window.first_frame < frames->len) {
    g_propagate_error (error, g_error_copy (worker->frame_error));
    return FALSE;
  }
  valley_session_drop_before (worker->session, g_array_index (frames, guint64, 0));
  if (gst_valley_question_prepare (&question, worker->session, error)
      && valley_session_begin (worker->session, &question.request, error))
    do
      step = valley_session_next (worker->session, error);
    while (step == VALLEY_STEP_TOKEN);
  if (step == VALLEY_STEP_DONE)
    gst_valley_question_keep (&question, valley_session_result (worker->session));
  g_free (question.text);
  return step == VALLEY_STEP_DONE;
}

static void
answer (GstValleyWorker *worker, GstValleyChunk *chunk, guint index)
{
  GstValleyAnswer *answer = &chunk->answers[index];
  gint64 begun_us = g_get_monotonic_time ();
  GError *error = NULL;

  if (!generate (worker, chunk, index, &error) && error == NULL)
    error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_DEVICE, "the engine gave no reason");
  answer->queue_ms = (begun_us - chunk->closed_us) / 1000.0;
  answer->latency_ms = (g_get_monotonic_time () - chunk->closed_us) / 1000.0;
  if (error != NULL)
    answer->error = g_strdup (error->message);
  publish_stats (worker); /* who hears of the answer finds it counted */
  worker->calls.answered (worker->owner, chunk, index, error);
  g_clear_error (&error);
}

/* Every prompt for itself: one that fails leaves the others alone. */
static void
answer_all (GstValleyWorker *worker, GstValleyChunk *chunk)
{
  for (guint i = 0; i < chunk->request->n_prompts; i++)
    answer (worker, chunk, i);
  gst_valley_chunk_unref (chunk);
}

static gpointer
worker_main (gpointer data)
{
  GstValleyWorker *worker = data;
  ValleyBacklogItem item;

  if (!load (worker))
    return NULL;
  while (next_item (worker, &item)) {
    if (item.window != NULL)
      answer_all (worker, (GstValleyChunk *) item.window);
    else
      encode (worker, &item);
    worker->more_work = TRUE;
  }
  return NULL;
}

/* ---- for the element ----------------------------------------------------- */

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
  worker->n_frames = 0;
  worker->stats = (ValleySessionStats){ 0 };
  worker->setup = (ValleyBacklogSetup){ 0 }; /* a new session's */
  worker->more_work = FALSE;
  worker->thread = g_thread_new ("valleyinfer", worker_main, worker);
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
                                  .session = worker->stats };
  g_mutex_unlock (&worker->lock);
  return state;
}
