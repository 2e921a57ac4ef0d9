/* closing.c - in a live pipeline windows also end by the clock: a camera that stalls must not
 * hold the caption of what it has shown.
 *
 * A window ends when its last frame should have come: its end, plus the latency that upstream
 * reports, plus what frames have lately come later than that (a slow decoder before a sink
 * that does not mind is always late, and its frames are to be seen all the same).
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#define GST_CAT_DEFAULT gst_valley_infer_debug

/* When a frame at @pts is to come; NONE without a clock. */
static GstClockTime
due_time (GstValleyInfer *self, guint64 pts)
{
  GstClockTime running = gst_segment_to_running_time (&self->segment, GST_FORMAT_TIME, pts);

  if (!self->live || !self->playing || !GST_CLOCK_TIME_IS_VALID (running))
    return GST_CLOCK_TIME_NONE;
  return gst_element_get_base_time (GST_ELEMENT (self)) + running + self->upstream_latency;
}

void
gst_valley_infer_note_arrival (GstValleyInfer *self, guint64 pts)
{
  GstClockTime due = due_time (self, pts), now;
  GstClock *clock;

  self->arrival_delay = 0;
  if (!GST_CLOCK_TIME_IS_VALID (due))
    return;
  clock = gst_element_get_clock (GST_ELEMENT (self));
  if (clock == NULL)
    return;
  now = gst_clock_get_time (clock);
  self->arrival_delay = now > due ? now - due : 0;
  gst_object_unref (clock);
}

static gboolean
close_by_clock (GstClock *clock, GstClockTime time, GstClockID id, gpointer weak)
{
  GstValleyInfer *self = g_weak_ref_get (weak);

  if (self == NULL)
    return TRUE;
  g_mutex_lock (&self->lock);
  if (id == self->close_id) {
    GstClockTime due = due_time (self, self->close_at);

    gst_valley_infer_disarm_clock (self);
    if (GST_CLOCK_TIME_IS_VALID (due) && due + self->arrival_delay <= time) {
      GST_DEBUG_OBJECT (self, "the clock closes the window");
      gst_valley_infer_advance (self, self->close_at);
    }
    gst_valley_infer_arm_clock (self);
  }
  g_mutex_unlock (&self->lock);
  gst_valley_infer_send_outbox (self);
  gst_object_unref (self);
  return TRUE;
}

void
gst_valley_infer_disarm_clock (GstValleyInfer *self)
{
  if (self->close_id == NULL)
    return;
  gst_clock_id_unschedule (self->close_id);
  gst_clock_id_unref (self->close_id);
  self->close_id = NULL;
}

void
gst_valley_infer_arm_clock (GstValleyInfer *self)
{
  const ValleyWindow *oldest = g_queue_peek_head (&self->windows.open);
  GstClockTime due;
  GstClock *clock;

  if (self->close_id != NULL && oldest != NULL && self->close_at == oldest->end)
    return;
  gst_valley_infer_disarm_clock (self);
  if (oldest == NULL)
    return;
  due = due_time (self, oldest->end);
  clock = gst_element_get_clock (GST_ELEMENT (self));
  if (clock != NULL && GST_CLOCK_TIME_IS_VALID (due)) {
    self->close_at = oldest->end;
    self->close_id = gst_clock_new_single_shot_id (clock, due + self->arrival_delay);
    gst_valley_infer_set_alarm (self, self->close_id, close_by_clock);
  }
  g_clear_pointer (&clock, gst_object_unref);
}
