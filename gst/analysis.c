/* analysis.c - windows: opened and filled on the streaming thread, answered by the worker.
 *
 * `chunks` holds every window from its opening until its result has been handed to the request
 * pads, in order: a window that was dropped waits here for an older one that is still with the
 * model, so that no pad ever sees time go back.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#define GST_CAT_DEFAULT gst_valley_infer_debug

/* ---- settings ------------------------------------------------------------ */

static void
apply_request (GstValleyInfer *self)
{
  GError *error = NULL;
  GstValleyRequest *request = gst_valley_settings_request (&self->applied, &error);

  if (request == NULL) {
    /* Refused at the start; in PLAYING the old prompt goes on. */
    gst_valley_infer_post (self, gst_valley_infer_new_message (self, GST_MESSAGE_WARNING, error));
    g_error_free (error);
    return;
  }
  if (self->request != NULL && !request->listed)
    request->prompt_id = self->request->prompt_id
                         + (self->request->listed
                            || g_strcmp0 (request->prompts[0], self->request->prompts[0]) != 0);
  gst_valley_request_unref (self->request);
  self->request = request;
}

void
gst_valley_infer_apply_settings (GstValleyInfer *self)
{
  gint serial = g_atomic_int_get (&self->settings_serial);
  gint request_serial = g_atomic_int_get (&self->request_serial);
  if (serial == self->applied_serial && self->request != NULL)
    return;
  self->applied_serial = serial;
  GST_OBJECT_LOCK (self);
  gst_valley_settings_copy (&self->applied, &self->settings);
  GST_OBJECT_UNLOCK (self);

  gst_valley_worker_set_bounds (self->worker,
                                (gsize) MIN (self->applied.queue_max_bytes, G_MAXSIZE),
                                self->applied.queue_max_windows);
  if (request_serial != self->applied_request_serial || self->request == NULL)
    apply_request (self);
  self->applied_request_serial = request_serial;
  if (self->have_segment)
    gst_valley_infer_check_lateness (self);
}

/* ---- windows ------------------------------------------------------------- */

static void
post_dropped (GstValleyInfer *self, const GstValleyChunk *chunk)
{
  const ValleyWindow *window = &chunk->window;
  GstMessage *message = gst_message_new_qos (
      GST_OBJECT (self), TRUE,
      gst_segment_to_running_time (&chunk->segment, GST_FORMAT_TIME, window->start),
      gst_segment_to_stream_time (&chunk->segment, GST_FORMAT_TIME, window->start), window->start,
      window->end - window->start);

  gst_message_set_qos_stats (message, GST_FORMAT_BUFFERS, self->n_answered + self->n_failed,
                             self->n_dropped);
  gst_valley_infer_post (self, message);
}

static void
drop_chunk (GstValleyInfer *self, GstValleyChunk *chunk)
{
  GST_INFO_OBJECT (self, "behind: dropping window %" G_GUINT64_FORMAT, chunk->window.id);
  chunk->state = GST_VALLEY_CHUNK_DROPPED;
  for (guint i = 0; i < chunk->request->n_prompts; i++)
    chunk->answers[i].finish_reason = g_strdup ("dropped");
  self->n_dropped++;
  post_dropped (self, chunk);
}

/* Live, the model's queue is bounded: the oldest window goes. */
static void
keep_bounds (GstValleyInfer *self)
{
  while (self->live && gst_valley_worker_is_over (self->worker)) {
    guint64 needed = valley_windows_first_needed (&self->windows);
    GstValleyChunk *chunk = gst_valley_worker_drop (self->worker, needed);

    if (chunk != NULL) {
      drop_chunk (self, chunk);
      gst_valley_chunk_unref (chunk);
    } else if ((chunk = (GstValleyChunk *) valley_windows_abandon (&self->windows)) != NULL) {
      drop_chunk (self, chunk);
      gst_valley_worker_trim (self->worker, valley_windows_first_needed (&self->windows));
    } else {
      break;
    }
  }
}

static void
close_windows (GstValleyInfer *self, GQueue *closed)
{
  GstValleyChunk *chunk;

  while ((chunk = g_queue_pop_head (closed)) != NULL) {
    if (chunk->window.frames->len == 0 || chunk->window.covered || self->failed) {
      chunk->state = GST_VALLEY_CHUNK_DISCARDED;
      continue;
    }
    chunk->state = GST_VALLEY_CHUNK_CLOSED;
    chunk->closed_us = g_get_monotonic_time ();
    gst_valley_worker_add_chunk (self->worker, chunk);
  }
  keep_bounds (self);
}

static void
begin_chunk (GstValleyInfer *self, GstValleyChunk *chunk)
{
  const gchar *stream_id
      = self->applied.stream_id != NULL ? self->applied.stream_id : self->stream_id;

  chunk->segment = self->segment;
  gst_valley_chunk_set_request (chunk, self->request);
  chunk->stream_id = g_strdup (stream_id);
  chunk->metrics = self->applied.metrics;
  self->reduction = gst_valley_settings_reduction (&self->applied);
  chunk->unix_ns = GST_CLOCK_TIME_NONE;
  g_queue_push_tail (&self->chunks, chunk);
}

/* ---- from the streaming thread ------------------------------------------- */

void
gst_valley_infer_advance (GstValleyInfer *self, guint64 time)
{
  GQueue closed = G_QUEUE_INIT;

  valley_windows_advance (&self->windows, time, &closed);
  close_windows (self, &closed);
  gst_valley_infer_deliver (self);
}

gboolean
gst_valley_infer_see_frame (GstValleyInfer *self, guint64 pts, guint64 end)
{
  ValleyWindowStep step = { .closed = G_QUEUE_INIT };

  if (!self->failed) {
    gst_valley_infer_apply_settings (self);
    gst_valley_infer_configure_windows (self, self->aspect_width, self->aspect_height);
    valley_windows_frame (&self->windows, pts, end, &step);
  }
  gst_valley_infer_note_arrival (self, pts);
  if (step.opened != NULL)
    begin_chunk (self, (GstValleyChunk *) step.opened);
  if (step.backwards) {
    /* Texts follow the video back. */
    self->newest_end = 0;
    gst_valley_infer_queue_segments (self, self->windows.next_id - (step.opened != NULL));
  } else if (step.opened != NULL) {
    gst_valley_infer_update_shifts (self);
  }
  close_windows (self, &step.closed);
  gst_valley_infer_move_pads (self, pts, end);
  gst_valley_infer_deliver (self);
  gst_valley_infer_arm_clock (self);
  if (step.opened != NULL
      && !gst_valley_infer_choose_policy (self, self->aspect_width, self->aspect_height)) {
    self->failed = TRUE;
    gst_valley_infer_discard (self);
    return FALSE;
  }
  return step.due;
}

void
gst_valley_infer_gap (GstValleyInfer *self, guint64 start, guint64 end)
{
  gst_valley_infer_move_pads (self, start, end);
  gst_valley_infer_advance (self, end);
  gst_valley_infer_arm_clock (self);
}

void
gst_valley_infer_take_picture (GstValleyInfer *self, ValleyPicture *picture, guint64 pts,
                               GstClockTime unix_ns)
{
  ValleyBacklogSetup setup;
  ValleyWindowFrame frame;

  /* A flush or the clock may have come in between. */
  if (self->flushing || !valley_windows_take (&self->windows, pts, &frame))
    return;
  for (GList *l = self->windows.open.head; l != NULL; l = l->next) {
    GstValleyChunk *chunk = l->data;

    if (chunk->window.frames->len == 1)
      chunk->unix_ns = unix_ns;
  }
  setup = (ValleyBacklogSetup){ self->windowing, self->applied.change_threshold };
  gst_valley_worker_add_frame (self->worker, picture, &frame, &setup);
  keep_bounds (self);
}

void
gst_valley_infer_cut (GstValleyInfer *self)
{
  GQueue closed = G_QUEUE_INIT;

  valley_windows_cut (&self->windows, &closed);
  close_windows (self, &closed);
  gst_valley_infer_deliver (self);
  gst_valley_infer_arm_clock (self);
}

void
gst_valley_infer_discard (GstValleyInfer *self)
{
  GstValleyChunk *chunk;

  gst_valley_infer_disarm_clock (self);
  valley_windows_reset (&self->windows);
  gst_valley_worker_flush (self->worker);
  while ((chunk = g_queue_pop_head (&self->chunks)) != NULL) {
    chunk->state = GST_VALLEY_CHUNK_DISCARDED; /* the worker may still hold it */
    gst_valley_chunk_unref (chunk);
  }
  gst_valley_infer_deliver (self);
}

/* ---- from the worker ----------------------------------------------------- */

static void
post_progress (GstValleyInfer *self, GstProgressType type, const gchar *text)
{
  gst_element_post_message (GST_ELEMENT (self),
                            gst_message_new_progress (GST_OBJECT (self), type, "loading", text));
}

static void
tell_of_load (GstValleyInfer *self, GstValleyLoad load, const GError *error)
{
  switch (load) {
  case GST_VALLEY_LOAD_STARTED:
    post_progress (self, GST_PROGRESS_TYPE_START, "loading the model");
    break;
  case GST_VALLEY_LOAD_DONE:
    post_progress (self, GST_PROGRESS_TYPE_COMPLETE, "the model is loaded");
    break;
  case GST_VALLEY_LOAD_CANCELLED:
    post_progress (self, GST_PROGRESS_TYPE_CANCELED, "loading the model was cancelled");
    break;
  case GST_VALLEY_LOAD_FAILED:
    post_progress (self, GST_PROGRESS_TYPE_ERROR, error->message);
    gst_valley_infer_post_error (self, GST_MESSAGE_ERROR, error);
    break;
  }
}

/* The error goes first: once nothing is awaited any more, EOS may follow it to the bus, and an
 * application that stops there would take it for the end of the stream. */
static void
on_load (gpointer owner, GstValleyLoad load, const GError *error)
{
  GstValleyInfer *self = owner;

  g_mutex_lock (&self->lock);
  self->loading = load == GST_VALLEY_LOAD_STARTED;
  g_mutex_unlock (&self->lock);
  tell_of_load (self, load, error);
  if (load != GST_VALLEY_LOAD_FAILED)
    return;
  g_mutex_lock (&self->lock);
  self->failed = TRUE;
  gst_valley_infer_discard (self);
  g_mutex_unlock (&self->lock);
  gst_valley_infer_send_outbox (self);
}

static void
note_delay (GstValleyInfer *self, const GstValleyChunk *chunk)
{
  guint64 start = chunk->window.caption_start, delay_ms;

  if (self->newest_end <= start)
    return;
  delay_ms = (self->newest_end - start + GST_MSECOND - 1) / GST_MSECOND;
  self->max_delay_ms = MAX (self->max_delay_ms, (guint) MIN (delay_ms, G_MAXUINT));
}

/* The answer that had the least room; NULL: none was given. */
static const GstValleyAnswer *
tightest_answer (const GstValleyChunk *chunk)
{
  const GstValleyAnswer *tightest = NULL;

  for (guint i = 0; i < chunk->request->n_prompts; i++) {
    const GstValleyAnswer *answer = &chunk->answers[i];

    if (answer->state == GST_VALLEY_ANSWER_GIVEN
        && (tightest == NULL || answer->n_frames_dropped > tightest->n_frames_dropped
            || (answer->n_frames_dropped == tightest->n_frames_dropped && answer->max_new_tokens > 0
                && tightest->max_new_tokens == 0)))
      tightest = answer;
  }
  return tightest;
}

/* Warns when what did not fit changes from window to window. */
static void
note_room (GstValleyInfer *self, const GstValleyChunk *chunk)
{
  const GstValleyAnswer *answer = tightest_answer (chunk);
  g_autoptr (GError) error = NULL;
  gboolean shorter, said;
  guint frames;

  if (answer == NULL)
    return;
  frames = answer->n_frames_dropped;
  shorter = answer->max_new_tokens > 0;
  said = frames == self->warned_frames && shorter == self->warned_answer;
  self->warned_frames = frames;
  self->warned_answer = shorter;
  if (said || (frames == 0 && !shorter))
    return;
  if (frames > 0)
    error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_CONTEXT,
                         "%u of the %u frames were not shown to the model: prompt and "
                         "answer must fit its max_position_embeddings; expected a lower "
                         "frame-rate, chunk-duration or max-new-tokens",
                         frames, frames + answer->frames->len);
  else
    error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_CONTEXT,
                         "max-new-tokens=%u is more than the model's max_position_embeddings has "
                         "room for: answers may have %u tokens",
                         chunk->request->max_new_tokens, answer->max_new_tokens);
  gst_valley_infer_post (self, gst_valley_infer_new_message (self, GST_MESSAGE_WARNING, error));
}

/* The message goes first: once the pads have the text, EOS may follow it to the bus, and an
 * application that stops there would miss the last result. */
static void
announce (GstValleyInfer *self, GstStructure *result, const GError *error)
{
  if (error != NULL)
    gst_valley_infer_post_error (self, GST_MESSAGE_WARNING, error);
  gst_element_post_message (GST_ELEMENT (self),
                            gst_message_new_element (GST_OBJECT (self), result));
}

/* A window counts as failed if one of its prompts did. */
static void
count_window (GstValleyInfer *self, const GstValleyChunk *chunk)
{
  gboolean failed = FALSE;

  for (guint i = 0; i < chunk->request->n_prompts; i++) {
    if (chunk->answers[i].state == GST_VALLEY_ANSWER_AWAITED)
      return;
    failed |= chunk->answers[i].state == GST_VALLEY_ANSWER_FAILED;
  }
  self->n_failed += failed;
  self->n_answered += !failed;
  note_room (self, chunk);
  note_delay (self, chunk);
}

static void
on_answered (gpointer owner, GstValleyChunk *chunk, guint index, const GError *error)
{
  GstValleyInfer *self = owner;
  GstValleyAnswer *answer = &chunk->answers[index];
  GstStructure *result = NULL;

  g_mutex_lock (&self->lock);
  if (chunk->state == GST_VALLEY_CHUNK_CLOSED) {
    answer->state = error == NULL ? GST_VALLEY_ANSWER_GIVEN : GST_VALLEY_ANSWER_FAILED;
    count_window (self, chunk);
    result = gst_valley_chunk_to_structure (chunk, index);
  }
  g_mutex_unlock (&self->lock);
  if (result == NULL)
    return; /* flushed away */

  announce (self, result, error);
  g_mutex_lock (&self->lock);
  answer->announced = TRUE;
  gst_valley_infer_deliver (self);
  g_mutex_unlock (&self->lock);
  gst_valley_infer_send_outbox (self);
}

static void
on_warning (gpointer owner, const GError *error)
{
  gst_valley_infer_post_error (owner, GST_MESSAGE_WARNING, error);
}

/* The pipeline's CUDA context, if the model was in it, failed with it: another takes its place. */
static ValleyModel *
on_reopen (gpointer owner, ValleyModel *lost, GError **error)
{
  GstValleyInfer *self = owner;
  g_autoptr (GObject) keeper = NULL;
  gpointer context;
  ValleyModel *model;

  gst_valley_cuda_lose (&self->cuda, valley_model_cuda_context (lost));
  context
      = gst_valley_cuda_open (&self->cuda, GST_ELEMENT (self), valley_model_device (lost), &keeper);
  model = valley_model_open_again (lost, context, keeper, error);
  if (model != NULL)
    gst_valley_infer_set_model (self, valley_model_ref (model));
  return model;
}

const GstValleyWorkerCalls gst_valley_infer_worker_calls = {
  .load = on_load,
  .reopen = on_reopen,
  .warning = on_warning,
  .answered = on_answered,
};
