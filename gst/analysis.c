/* analysis.c - from due frames to delivered results.
 *
 * `chunks` holds every window from its opening until its result has been handed to the request
 * pads, in order: a window that was dropped waits here for an older one that is still with the
 * model, so that no pad ever sees time go back.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#include <string.h>

#define GST_CAT_DEFAULT gst_valley_infer_debug

/* ---- messages ------------------------------------------------------------ */

void
gst_valley_infer_post (GstValleyInfer *self, GstMessage *message)
{
  g_queue_push_tail (&self->outbox, message);
}

void
gst_valley_infer_send_outbox (GstValleyInfer *self)
{
  GQueue messages;
  GstMessage *message;

  g_mutex_lock (&self->lock);
  messages = self->outbox;
  g_queue_init (&self->outbox);
  g_mutex_unlock (&self->lock);
  while ((message = g_queue_pop_head (&messages)) != NULL)
    gst_element_post_message (GST_ELEMENT (self), message);
}

static gint
resource_error (const GError *error)
{
  if (error->domain != VALLEY_ERROR)
    return GST_RESOURCE_ERROR_FAILED;
  switch (error->code) {
  case VALLEY_ERROR_NOT_FOUND:
    return GST_RESOURCE_ERROR_NOT_FOUND;
  case VALLEY_ERROR_READ:
  case VALLEY_ERROR_TENSOR:
    return GST_RESOURCE_ERROR_READ;
  case VALLEY_ERROR_CONFIG:
  case VALLEY_ERROR_ARGUMENT:
  case VALLEY_ERROR_CONTEXT:
    return GST_RESOURCE_ERROR_SETTINGS;
  default:
    return GST_RESOURCE_ERROR_FAILED;
  }
}

void
gst_valley_infer_post_error (GstValleyInfer *self, GstMessageType type, const GError *error)
{
  gst_element_message_full (GST_ELEMENT (self), type, GST_RESOURCE_ERROR, resource_error (error),
                            g_strdup (error->message), NULL, __FILE__, GST_FUNCTION, __LINE__);
}

/* For the outbox, where gst_element_message_full cannot be used. */
static GstMessage *
new_warning (GstValleyInfer *self, const GError *error)
{
  GError *warning = g_error_new_literal (GST_RESOURCE_ERROR, resource_error (error),
                                         error->message);
  GstMessage *message = gst_message_new_warning (GST_OBJECT (self), warning, NULL);

  g_error_free (warning);
  return message;
}

static void
post_dropped (GstValleyInfer *self, const GstValleyChunk *chunk)
{
  const ValleyWindow *window = &chunk->window;
  GstMessage *message = gst_message_new_qos (
      GST_OBJECT (self), TRUE,
      gst_segment_to_running_time (&chunk->segment, GST_FORMAT_TIME, window->start),
      gst_segment_to_stream_time (&chunk->segment, GST_FORMAT_TIME, window->start),
      window->start, window->end - window->start);

  gst_message_set_qos_stats (message, GST_FORMAT_BUFFERS, self->n_answered + self->n_failed,
                             self->n_dropped);
  gst_valley_infer_post (self, message);
}

/* ---- settings ------------------------------------------------------------ */

static GstValleyTextTiming
effective_timing (const GstValleyInfer *self, GstValleyTextPad *pad)
{
  GstValleyTextTiming timing = gst_valley_text_pad_timing (pad);

  if (timing == GST_VALLEY_TEXT_TIMING_AUTO)
    timing = self->applied.text_timing;
  if (timing == GST_VALLEY_TEXT_TIMING_AUTO)
    timing = self->live && self->applied.latency_ms == 0 ? GST_VALLEY_TEXT_TIMING_LATE
                                                         : GST_VALLEY_TEXT_TIMING_WINDOW;
  return timing;
}

static GstClockTime
wanted_shift (const GstValleyInfer *self, GstValleyTextPad *pad)
{
  return effective_timing (self, pad) == GST_VALLEY_TEXT_TIMING_LATE
             ? gst_valley_settings_lateness (&self->applied)
             : 0;
}

static void
warn_of_short_lateness (GstValleyInfer *self)
{
  ValleyWindowConfig config = gst_valley_settings_window_config (&self->applied);
  GstClockTime window = valley_window_config_duration_ns (&config);
  GstClockTime lateness = gst_valley_settings_lateness (&self->applied);
  GError *error = NULL;

  if (lateness >= window)
    return;
  for (GList *l = self->text_pads; l != NULL; l = l->next) {
    if (wanted_shift (self, l->data) == 0)
      continue;
    error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                         "lateness=%" G_GUINT64_FORMAT " is less than the window of %"
                         G_GUINT64_FORMAT " ms: captions will be cut short or not shown at all; "
                         "expected the window and the time to compute an answer",
                         lateness / GST_MSECOND, window / GST_MSECOND);
    gst_valley_infer_post (self, new_warning (self, error));
    g_error_free (error);
    return;
  }
}

static void
apply_request (GstValleyInfer *self)
{
  GError *error = NULL;
  GstValleyRequest *request = gst_valley_settings_request (&self->applied, &error);

  if (request == NULL) {
    /* Refused at the start; in PLAYING the old prompt goes on. */
    gst_valley_infer_post (self, new_warning (self, error));
    g_error_free (error);
    return;
  }
  if (self->request != NULL)
    request->prompt_id
        = self->request->prompt_id + (g_strcmp0 (request->prompt, self->request->prompt) != 0);
  gst_valley_request_unref (self->request);
  self->request = request;
}

void
gst_valley_infer_apply_settings (GstValleyInfer *self)
{
  gint serial = g_atomic_int_get (&self->settings_serial);
  ValleyWindowConfig before = gst_valley_settings_window_config (&self->applied), after;
  guint lateness_ms = self->applied.lateness_ms;

  if (serial == self->applied_serial && self->request != NULL)
    return;
  self->applied_serial = serial;
  GST_OBJECT_LOCK (self);
  gst_valley_settings_copy (&self->applied, &self->settings);
  GST_OBJECT_UNLOCK (self);

  after = gst_valley_settings_window_config (&self->applied);
  if (memcmp (&before, &after, sizeof (before)) != 0)
    valley_windows_configure (&self->windows, &after);
  gst_valley_worker_set_bounds (self->worker,
                                (gsize)MIN (self->applied.queue_max_bytes, G_MAXSIZE),
                                self->applied.queue_max_windows);
  apply_request (self);
  if (self->have_segment && lateness_ms != self->applied.lateness_ms)
    warn_of_short_lateness (self);
}

/* ---- request pads -------------------------------------------------------- */

void
gst_valley_infer_queue_segment (GstValleyInfer *self, GstValleyTextPad *pad, guint64 before)
{
  GstSegment time;

  /* A stream in another format is never described, but its sinks have to preroll. */
  gst_segment_init (&time, GST_FORMAT_TIME);
  gst_valley_text_pad_queue_segment (
      pad, self->segment.format == GST_FORMAT_TIME ? &self->segment : &time,
      wanted_shift (self, pad), before);
}

void
gst_valley_infer_queue_segments (GstValleyInfer *self, guint64 before)
{
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    gst_valley_infer_queue_segment (self, l->data, before);
  warn_of_short_lateness (self);
}

/* Pads whose timing was changed get a segment with the new shift. */
static void
update_shifts (GstValleyInfer *self)
{
  for (GList *l = self->text_pads; l != NULL; l = l->next) {
    GstClockTime shift, wanted = wanted_shift (self, l->data);

    if (gst_valley_text_pad_get_shift (l->data, &shift) && shift != wanted)
      gst_valley_text_pad_queue_segment (l->data, &self->segment, wanted, 0);
  }
}

/* How long after its start a window may hold back the gaps of a live pad whose downstream is
 * waiting: after that its caption comes too late anyhow and the video matters more. */
static GstClockTime
patience (const GstValleyInfer *self)
{
  GstClockTime frame;

  if (!self->live)
    return VALLEY_TIME_NONE;
  if (self->applied.latency_ms == 0)
    return self->loading ? gst_valley_settings_lateness (&self->applied) : VALLEY_TIME_NONE;
  GST_OBJECT_LOCK (self);
  frame = self->frame_duration;
  GST_OBJECT_UNLOCK (self);
  return gst_valley_settings_text_latency (&self->applied, frame);
}

/* The furthest that gaps on @pad may go: no window whose text is still to come starts earlier. */
static guint64
pin_of (const GstValleyInfer *self, GstValleyTextPad *pad)
{
  gboolean json = gst_valley_text_pad_is_json (pad);
  GstClockTime limit = json ? VALLEY_TIME_NONE : patience (self);
  guint64 pin = VALLEY_TIME_NONE;

  if (!json && self->live && self->applied.latency_ms > 0)
    pin = self->newest_end
          - MIN (self->newest_end, self->applied.live_edge_offset_ms * GST_MSECOND);
  for (GList *l = self->chunks.head; l != NULL; l = l->next) {
    const ValleyWindow *window = l->data;

    if (window->id < gst_valley_text_pad_first_id (pad))
      continue;
    if (limit != VALLEY_TIME_NONE && self->newest_end > window->start
        && self->newest_end - window->start > limit)
      continue;
    pin = MIN (pin, json ? window->start : window->caption_start);
  }
  return pin;
}

static void
warn_of_lost_text (GstValleyInfer *self, GstValleyTextPad *pad)
{
  GError *error = g_error_new (GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_FAILED,
                               "%s is blocked: its oldest text was lost", GST_PAD_NAME (pad));

  gst_valley_infer_post (self, new_warning (self, error));
  g_error_free (error);
}

static void
deliver_to (GstValleyInfer *self, GstValleyTextPad *pad, const GstValleyChunk *chunk)
{
  const ValleyWindow *window = &chunk->window;
  gboolean json = gst_valley_text_pad_is_json (pad);
  gchar *text = NULL;
  guint64 start = json ? window->start : window->caption_start;

  if (window->id < gst_valley_text_pad_first_id (pad)
      || chunk->state == GST_VALLEY_CHUNK_DISCARDED)
    return;
  if (json)
    text = gst_valley_chunk_to_json (chunk);
  else if (chunk->state == GST_VALLEY_CHUNK_ANSWERED && start < window->end)
    text = gst_valley_caption_text (chunk->text, -1);
  if (text != NULL
      && !gst_valley_text_pad_queue_text (pad, window->id, text, start, window->end,
                                          pin_of (self, pad)))
    warn_of_lost_text (self, pad);
}

/* Hands over, in order, what is finished, and lets the pads move on. */
static void
deliver (GstValleyInfer *self)
{
  GstValleyChunk *chunk;
  guint64 settled;

  while ((chunk = g_queue_peek_head (&self->chunks)) != NULL
         && chunk->state >= GST_VALLEY_CHUNK_ANSWERED) {
    g_queue_pop_head (&self->chunks);
    for (GList *l = self->text_pads; l != NULL; l = l->next)
      deliver_to (self, l->data, chunk);
    if (chunk->state <= GST_VALLEY_CHUNK_FAILED)
      gst_valley_infer_post (self,
                             gst_message_new_element (GST_OBJECT (self),
                                                      gst_valley_chunk_to_structure (chunk)));
    gst_valley_chunk_unref (chunk);
  }
  settled = chunk != NULL ? chunk->window.id : self->windows.next_id;
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    gst_valley_text_pad_settle (l->data, settled, pin_of (self, l->data));
}

/* ---- windows ------------------------------------------------------------- */

static void
drop_chunk (GstValleyInfer *self, GstValleyChunk *chunk)
{
  GST_INFO_OBJECT (self, "behind: dropping window %" G_GUINT64_FORMAT, chunk->window.id);
  chunk->state = GST_VALLEY_CHUNK_DROPPED;
  chunk->finish_reason = g_strdup ("dropped");
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
    } else if ((chunk = (GstValleyChunk *)valley_windows_abandon (&self->windows)) != NULL) {
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
  chunk->request = gst_valley_request_ref (self->request);
  chunk->stream_id = g_strdup (stream_id);
  chunk->metrics = self->applied.metrics;
  chunk->unix_ns = GST_CLOCK_TIME_NONE;
  g_queue_push_tail (&self->chunks, chunk);
}

/* ---- from the streaming thread ------------------------------------------- */

/* Tells the request pads how far the video has come. */
static void
move_pads (GstValleyInfer *self, guint64 start, guint64 end)
{
  self->newest_end = MAX (self->newest_end, end);
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    gst_valley_text_pad_video (l->data, start, end, pin_of (self, l->data));
}

void
gst_valley_infer_advance (GstValleyInfer *self, guint64 time)
{
  GQueue closed = G_QUEUE_INIT;

  valley_windows_advance (&self->windows, time, &closed);
  close_windows (self, &closed);
  deliver (self);
}

gboolean
gst_valley_infer_see_frame (GstValleyInfer *self, guint64 pts, guint64 end)
{
  ValleyWindowStep step = { .closed = G_QUEUE_INIT };

  if (!self->failed) {
    gst_valley_infer_apply_settings (self);
    valley_windows_frame (&self->windows, pts, end, &step);
  }
  gst_valley_infer_note_arrival (self, pts);
  if (step.opened != NULL)
    begin_chunk (self, (GstValleyChunk *)step.opened);
  if (step.backwards) {
    /* Texts follow the video back. */
    self->newest_end = 0;
    gst_valley_infer_queue_segments (self, self->windows.next_id - (step.opened != NULL));
  } else if (step.opened != NULL) {
    update_shifts (self);
  }
  close_windows (self, &step.closed);
  move_pads (self, pts, end);
  deliver (self);
  gst_valley_infer_arm_clock (self);
  return step.due;
}

void
gst_valley_infer_gap (GstValleyInfer *self, guint64 start, guint64 end)
{
  move_pads (self, start, end);
  gst_valley_infer_advance (self, end);
  gst_valley_infer_arm_clock (self);
}

void
gst_valley_infer_take_picture (GstValleyInfer *self, ValleyPicture *picture, guint64 pts,
                               GstClockTime unix_ns)
{
  guint64 number, keep_from;

  /* A flush or the clock may have come in between. */
  if (self->flushing || !valley_windows_take (&self->windows, pts, &number, &keep_from))
    return;
  for (GList *l = self->windows.open.head; l != NULL; l = l->next) {
    GstValleyChunk *chunk = l->data;

    if (chunk->window.frames->len == 1)
      chunk->unix_ns = unix_ns;
  }
  gst_valley_worker_add_frame (self->worker, picture, number, self->windows.epoch, keep_from);
  keep_bounds (self);
}

void
gst_valley_infer_cut (GstValleyInfer *self)
{
  GQueue closed = G_QUEUE_INIT;

  valley_windows_cut (&self->windows, &closed);
  close_windows (self, &closed);
  deliver (self);
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
  deliver (self);
}

/* ---- from the worker ----------------------------------------------------- */

static void
post_progress (GstValleyInfer *self, GstProgressType type, const gchar *text)
{
  gst_element_post_message (
      GST_ELEMENT (self), gst_message_new_progress (GST_OBJECT (self), type, "loading", text));
}

static void
on_load (gpointer owner, GstValleyLoad load, const GError *error)
{
  GstValleyInfer *self = owner;

  g_mutex_lock (&self->lock);
  self->loading = load == GST_VALLEY_LOAD_STARTED;
  if (load == GST_VALLEY_LOAD_FAILED) {
    self->failed = TRUE;
    gst_valley_infer_discard (self);
  }
  g_mutex_unlock (&self->lock);
  gst_valley_infer_send_outbox (self);

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

static void
note_delay (GstValleyInfer *self, const GstValleyChunk *chunk)
{
  guint64 start = chunk->window.caption_start, delay_ms;

  if (self->newest_end <= start)
    return;
  delay_ms = (self->newest_end - start + GST_MSECOND - 1) / GST_MSECOND;
  self->max_delay_ms = MAX (self->max_delay_ms, (guint)MIN (delay_ms, G_MAXUINT));
}

static void
on_answered (gpointer owner, GstValleyChunk *chunk, const GError *error)
{
  GstValleyInfer *self = owner;
  gboolean wanted;

  g_mutex_lock (&self->lock);
  wanted = chunk->state == GST_VALLEY_CHUNK_CLOSED;
  if (wanted) {
    chunk->state = error == NULL ? GST_VALLEY_CHUNK_ANSWERED : GST_VALLEY_CHUNK_FAILED;
    if (error == NULL)
      self->n_answered++;
    else
      self->n_failed++;
    note_delay (self, chunk);
    deliver (self);
  }
  g_mutex_unlock (&self->lock);
  if (wanted && error != NULL)
    gst_valley_infer_post_error (self, GST_MESSAGE_WARNING, error);
  gst_valley_infer_send_outbox (self);
}

const GstValleyWorkerCalls gst_valley_infer_worker_calls = {
  .load = on_load,
  .answered = on_answered,
};
