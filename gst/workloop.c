/* workloop.c - the worker's thread: between the backlog and the engine's session.
 *
 * A lost device: whenever something fails, the model is asked whether it is lost.  Then another one
 * takes its place, and its session is pushed the frames that the old one had, so that only the
 * answer in hand is missing.
 * SPDX-License-Identifier: Apache-2.0 */
#include "worker_private.h"

#include "enums.h"
#include "question.h"

/* So often in a row, without an answer in between, a lost device is worth another try. */
#define MAX_LOSSES 3

/* How often, and how many times, memory for a model that is loaded again is looked for. */
#define MEMORY_LOOK_US (500 * G_TIME_SPAN_MILLISECOND)
#define MEMORY_LOOKS 20

/* NULL, with @error: there is nothing more to work with. */
static gboolean
set_session (GstValleyWorker *worker, ValleySession *session, const GError *error)
{
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
  return session != NULL;
}

/* Others may still hold the lost device's memory, who find out with their next frame. */
static void
wait_for_memory (GstValleyWorker *worker)
{
  gint64 end = g_get_monotonic_time () + MEMORY_LOOK_US;

  g_mutex_lock (&worker->lock);
  while (!worker->stopping && g_cond_wait_until (&worker->work, &worker->lock, end))
    ;
  g_mutex_unlock (&worker->lock);
}

static gboolean
load_model (GstValleyWorker *worker, GError **error)
{
  guint tries = worker->recent_losses > 0 ? MEMORY_LOOKS : 0;
  GError *reason = NULL;

  while (!valley_model_load (worker->model, worker->cancellable, &reason)) {
    if (tries-- == 0 || !g_error_matches (reason, VALLEY_ERROR, VALLEY_ERROR_MEMORY)) {
      g_propagate_error (error, reason);
      return FALSE;
    }
    g_clear_error (&reason);
    wait_for_memory (worker); /* loading notices when it is cancelled meanwhile */
  }
  return TRUE;
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

/* What fails here fails the windows that show the frame. */
static void
push (GstValleyWorker *worker, const ValleyKeptFrame *kept)
{
  GError *error = NULL;

  set_up (worker, &kept->setup);
  valley_session_drop_before (worker->session, kept->frame.keep_from);
  if (valley_session_push (worker->session, kept->picture, kept->frame.begins, &error))
    return;
  if (worker->frame_error == NULL || worker->last_failed + 1 != kept->frame.number)
    worker->first_failed = kept->frame.number;
  worker->last_failed = kept->frame.number;
  g_clear_error (&worker->frame_error);
  worker->frame_error = error;
}

/* ---- a lost device ------------------------------------------------------- */

static void
warn_of_loss (GstValleyWorker *worker)
{
  g_autoptr (GError) error
      = g_error_new (VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                     "device=%s failed and was given up: the model is loaded there again, and "
                     "frames that did not go with it are encoded again",
                     valley_model_device (worker->model));

  worker->calls.warning (worker->owner, error);
}

/* The old model's memory is given back before the new one is loaded. */
static gboolean
replace_model (GstValleyWorker *worker, GError **error)
{
  ValleyModel *model = NULL, *lost = worker->model;
  ValleySession *session;

  g_mutex_lock (&worker->lock);
  session = g_steal_pointer (&worker->session);
  worker->loaded = FALSE;
  worker->n_losses++;
  worker->stats = (ValleySessionStats){ 0 };
  g_mutex_unlock (&worker->lock);
  worker->setup = (ValleyBacklogSetup){ 0 };
  g_clear_error (&worker->frame_error);
  valley_session_free (session);
  if (worker->recent_losses++ == MAX_LOSSES)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                 "device=%s failed %d times without an answer in between: given up",
                 valley_model_device (lost), MAX_LOSSES + 1);
  else
    model = worker->calls.reopen (worker->owner, lost, error);
  if (model == NULL)
    return FALSE;
  worker->model = model;
  valley_model_unref (lost);
  warn_of_loss (worker);
  return TRUE;
}

/* The device may be lost meanwhile, too. */
static gboolean
load (GstValleyWorker *worker)
{
  ValleySession *session = NULL;
  g_autoptr (GError) error = NULL;

  worker->calls.load (worker->owner, GST_VALLEY_LOAD_STARTED, NULL);
  while (session == NULL) {
    if (load_model (worker, &error))
      session = valley_session_new (worker->model, &worker->options, &error);
    if (session != NULL || !valley_model_is_lost (worker->model))
      break;
    g_clear_error (&error);
    if (!replace_model (worker, &error))
      break;
  }
  return set_session (worker, session, error);
}

/* FALSE: there is nothing to work with any more. */
static gboolean
recover (GstValleyWorker *worker)
{
  while (valley_model_is_lost (worker->model)) {
    g_autoptr (GError) error = NULL;

    if (!replace_model (worker, &error))
      return set_session (worker, NULL, error);
    if (!load (worker))
      return FALSE;
    for (GList *l = worker->kept.frames.head; l != NULL; l = l->next)
      push (worker, l->data);
  }
  return TRUE;
}

/* ---- its work ------------------------------------------------------------ */

/* One piece of what will be needed later.  Lock held, let go meanwhile. */
static void
work_ahead (GstValleyWorker *worker)
{
  gboolean more = FALSE, alive = TRUE;

  g_mutex_unlock (&worker->lock);
  /* Whoever needs what failed here meets the error again, and reports it. */
  if (!valley_session_work (worker->session, &more, NULL)) {
    more = FALSE;
    alive = recover (worker);
  }
  if (alive && !more)
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
  while (!worker->stopping && !worker->failed
         && !(have = valley_backlog_pop (&worker->backlog, item))) {
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
      valley_kept_clear (&worker->kept);
      worker->served_generation = worker->generation;
      worker->served_epoch = epoch;
      g_clear_error (&worker->frame_error);
    }
    worker->busy = TRUE;
  }
  g_mutex_unlock (&worker->lock);
  return have;
}

static void
encode (GstValleyWorker *worker, ValleyBacklogItem *item)
{
  const ValleyKeptFrame *kept;

  valley_kept_drop_before (&worker->kept, item->frame.keep_from);
  kept = valley_kept_add (&worker->kept, item->picture, &item->frame, &item->setup);
  push (worker, kept);
  g_mutex_lock (&worker->lock);
  worker->n_frames++;
  g_mutex_unlock (&worker->lock);
  if (recover (worker))
    publish_stats (worker);
}

static gboolean
generate (GstValleyWorker *worker, GstValleyChunk *chunk, guint index, GError **error)
{
  GstValleyQuestion question = { .chunk = chunk, .index = index };
  const GArray *frames = chunk->window.frames;
  ValleyStep step = VALLEY_STEP_ERROR;

  if (worker->frame_error != NULL && worker->last_failed >= chunk->window.first_frame
      && worker->first_failed < chunk->window.first_frame + frames->len) {
    g_propagate_error (error, g_error_copy (worker->frame_error));
    return FALSE;
  }
  valley_session_drop_before (worker->session, g_array_index (frames, guint64, 0));
  if (gst_valley_question_prepare (&question, worker->session, error)
      && valley_session_begin (worker->session, &question.request, error))
    do
      step = valley_session_next (worker->session, error);
    while (step == VALLEY_STEP_TOKEN);
  if (step == VALLEY_STEP_DONE) {
    worker->recent_losses = 0;
    gst_valley_question_keep (&question, valley_session_result (worker->session));
  }
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
  gboolean alive = TRUE;

  for (guint i = 0; alive && i < chunk->request->n_prompts; i++) {
    answer (worker, chunk, i);
    alive = recover (worker);
  }
  gst_valley_chunk_unref (chunk);
}

gpointer
gst_valley_worker_main (gpointer data)
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
