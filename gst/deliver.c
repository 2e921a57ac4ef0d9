/* deliver.c - hands finished windows to the request pads, and tells the pads how far the video
 * has come.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#define GST_CAT_DEFAULT gst_valley_infer_debug

/* ---- timing -------------------------------------------------------------- */

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

void
gst_valley_infer_check_lateness (GstValleyInfer *self)
{
  ValleyWindowConfig config = gst_valley_settings_window_config (&self->applied);
  GstClockTime window = valley_window_config_duration_ns (&config);
  GstClockTime lateness = gst_valley_settings_lateness (&self->applied);
  gboolean late = FALSE, said = self->warned_lateness;
  GError *error = NULL;

  for (GList *l = self->text_pads; l != NULL; l = l->next)
    late |= wanted_shift (self, l->data) > 0;
  self->warned_lateness = late && lateness < window;
  if (self->warned_lateness && !said) {
    error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                         "lateness=%" G_GUINT64_FORMAT
                         " is less than the window of %" G_GUINT64_FORMAT
                         " ms: captions will be cut short or not shown at all; "
                         "expected the window and the time to compute an answer",
                         lateness / GST_MSECOND, window / GST_MSECOND);
    gst_valley_infer_post (self, gst_valley_infer_new_message (self, GST_MESSAGE_WARNING, error));
    g_error_free (error);
  }
}

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
  gst_valley_infer_check_lateness (self);
}

/* Pads whose timing was changed get a segment with the new shift. */
void
gst_valley_infer_update_shifts (GstValleyInfer *self)
{
  for (GList *l = self->text_pads; l != NULL; l = l->next) {
    GstClockTime shift, wanted = wanted_shift (self, l->data);

    if (gst_valley_text_pad_get_shift (l->data, &shift) && shift != wanted) {
      gst_valley_text_pad_queue_segment (l->data, &self->segment, wanted, 0);
      gst_valley_infer_check_lateness (self);
    }
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

/* Whether @pad has had what it will ever get of @chunk. */
static gboolean
is_served (GstValleyTextPad *pad, const GstValleyChunk *chunk)
{
  guint prompt = gst_valley_text_pad_prompt_id (pad);

  if (chunk->window.id < gst_valley_text_pad_first_id (pad)
      || chunk->n_delivered == chunk->request->n_prompts)
    return TRUE;
  return !gst_valley_text_pad_is_json (pad)
         && (prompt < chunk->n_delivered || prompt >= chunk->request->n_prompts);
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

    if (is_served (pad, l->data))
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
  GError *error
      = g_error_new (GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_FAILED,
                     "%s is blocked: its oldest texts are being lost", GST_PAD_NAME (pad));

  gst_valley_infer_post (self, gst_valley_infer_new_message (self, GST_MESSAGE_WARNING, error));
  g_error_free (error);
}

static void
deliver_to (GstValleyInfer *self, GstValleyTextPad *pad, const GstValleyChunk *chunk, guint index)
{
  const ValleyWindow *window = &chunk->window;
  const GstValleyAnswer *answer = &chunk->answers[index];
  gboolean json = gst_valley_text_pad_is_json (pad);
  gchar *text = NULL;
  guint64 start = json ? window->start : window->caption_start;

  if (window->id < gst_valley_text_pad_first_id (pad)
      || (!json && gst_valley_text_pad_prompt_id (pad) != index))
    return;
  if (json)
    text = gst_valley_chunk_to_json (chunk, index);
  else if (answer->state == GST_VALLEY_ANSWER_GIVEN && start < window->end)
    text = gst_valley_caption_text (answer->text, -1);
  if (text != NULL
      && !gst_valley_text_pad_queue_text (pad, window->id, text, start, window->end,
                                          pin_of (self, pad)))
    warn_of_lost_text (self, pad);
}

/* Hands over the next answer of the oldest window, if there is one. */
static gboolean
deliver_next (GstValleyInfer *self, GstValleyChunk *chunk)
{
  guint index = chunk->n_delivered;

  if (chunk->state != GST_VALLEY_CHUNK_DROPPED && !chunk->answers[index].announced)
    return FALSE;
  chunk->n_delivered++; /* before: it holds no gap back any more */
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    deliver_to (self, l->data, chunk, index);
  return TRUE;
}

/* Hands over, in order, what is finished, and lets the pads move on. */
void
gst_valley_infer_deliver (GstValleyInfer *self)
{
  GstValleyChunk *chunk;
  guint64 settled;

  while ((chunk = g_queue_peek_head (&self->chunks)) != NULL) {
    if (chunk->state != GST_VALLEY_CHUNK_DISCARDED
        && chunk->n_delivered < chunk->request->n_prompts) {
      if (!deliver_next (self, chunk))
        break;
      continue;
    }
    gst_valley_chunk_unref (g_queue_pop_head (&self->chunks));
  }
  settled = chunk != NULL ? chunk->window.id : self->windows.next_id;
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    gst_valley_text_pad_settle (l->data, settled, pin_of (self, l->data));
}

/* Tells the request pads how far the video has come. */
void
gst_valley_infer_move_pads (GstValleyInfer *self, guint64 start, guint64 end)
{
  self->newest_start = start;
  self->newest_end = MAX (self->newest_end, end);
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    gst_valley_text_pad_video (l->data, start, end, pin_of (self, l->data));
}

void
gst_valley_infer_place_pad (GstValleyInfer *self, GstValleyTextPad *pad)
{
  if (self->newest_start != VALLEY_TIME_NONE)
    gst_valley_text_pad_video (pad, self->newest_start, self->newest_start, pin_of (self, pad));
}
