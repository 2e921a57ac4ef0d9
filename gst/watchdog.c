/* watchdog.c - says so, once, when the pipeline waits for itself: the video is blocked by
 * somebody who waits for a text, and the text's window cannot end because the video is blocked.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#define GST_CAT_DEFAULT gst_valley_infer_debug

#define LOOK_EVERY (500 * GST_MSECOND)
#define PATIENCE (3 * GST_SECOND)

static void
weak_free (gpointer data)
{
  g_weak_ref_clear (data);
  g_free (data);
}

void
gst_valley_infer_set_alarm (GstValleyInfer *self, GstClockID id, GstClockCallback callback)
{
  GWeakRef *weak = g_new0 (GWeakRef, 1);

  g_weak_ref_init (weak, self);
  gst_clock_id_wait_async (id, callback, weak, weak_free);
}

GstFlowReturn
gst_valley_infer_watched_push (GstValleyInfer *self, GstBuffer *buffer)
{
  GstFlowReturn flow;

  g_mutex_lock (&self->lock);
  self->push_since_us = g_get_monotonic_time ();
  self->push_running_time
      = self->have_segment && self->segment.format == GST_FORMAT_TIME
                && GST_BUFFER_PTS_IS_VALID (buffer)
            ? gst_segment_to_running_time (&self->segment, GST_FORMAT_TIME, GST_BUFFER_PTS (buffer))
            : GST_CLOCK_TIME_NONE;
  g_mutex_unlock (&self->lock);
  flow = gst_pad_push (self->src, buffer);
  g_mutex_lock (&self->lock);
  self->push_since_us = 0;
  g_mutex_unlock (&self->lock);
  return flow;
}

/* Lock held. */
static gboolean
is_blocked (GstValleyInfer *self)
{
  GstValleyWorkerState worker = gst_valley_worker_state (self->worker);
  gboolean linked = FALSE;

  if (self->push_since_us == 0 || self->flushing
      || (GstClockTime)(g_get_monotonic_time () - self->push_since_us) * GST_USECOND < PATIENCE)
    return FALSE;
  /* A model that is merely slow will let the video go on. */
  if (!worker.loaded || worker.busy || worker.n_windows > 0)
    return FALSE;
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    linked |= !gst_valley_text_pad_is_json (l->data) && gst_pad_is_linked (l->data);
  return linked;
}

static gboolean
is_behind_clock (GstValleyInfer *self, GstClockTime running_time)
{
  GstClockTime now = gst_element_get_current_running_time (GST_ELEMENT (self)), latency;

  GST_OBJECT_LOCK (self);
  latency = self->pipeline_latency;
  GST_OBJECT_UNLOCK (self);
  return GST_CLOCK_TIME_IS_VALID (now) && GST_CLOCK_TIME_IS_VALID (running_time)
         && now >= running_time + latency + PATIENCE;
}

/* Whether a pipeline on its way to PLAYING does not get there, or is there and does not move.
 * A pipeline that is wanted in PAUSED is meant to stand still. */
static gboolean
is_stuck (GstValleyInfer *self, GstClockTime running_time)
{
  GstObject *top = gst_object_ref (GST_OBJECT (self)), *parent;
  GstState state, target;

  while ((parent = gst_object_get_parent (top)) != NULL) {
    gst_object_unref (top);
    top = parent;
  }
  GST_OBJECT_LOCK (top);
  state = GST_STATE (top);
  target = GST_STATE_TARGET (top);
  GST_OBJECT_UNLOCK (top);
  gst_object_unref (top);
  if (target != GST_STATE_PLAYING) {
    if (state < target)
      GST_INFO_OBJECT (self, "blocked on the way to PAUSED; is there a queue as in the docs?");
    return FALSE;
  }
  return state < GST_STATE_PLAYING || is_behind_clock (self, running_time);
}

static void
bark (GstValleyInfer *self, GstClockTime window)
{
  GstClockTime need = window + 1000 * GST_MSECOND;

  GST_ELEMENT_WARNING (
      self, STREAM, FAILED,
      ("The video is blocked by an element that waits for a text whose window has not ended. "
       "Put a queue between %s.src and it: queue max-size-time=%" G_GUINT64_FORMAT
       " max-size-bytes=0 max-size-buffers=0 (before qtmux or mp4mux: max-size-time=0, after "
       "the encoder), or use valleycaption.",
       GST_OBJECT_NAME (self), need),
      ("No frame has left src for %" G_GUINT64_FORMAT " ms.", PATIENCE / GST_MSECOND));
}

static void
look (GstValleyInfer *self)
{
  ValleyWindowConfig config;
  GstClockTime running_time;
  gboolean blocked;

  g_mutex_lock (&self->lock);
  blocked = !self->watchdog_barked && is_blocked (self);
  running_time = self->push_running_time;
  config = gst_valley_settings_window_config (&self->applied);
  g_mutex_unlock (&self->lock);
  if (!blocked || !is_stuck (self, running_time))
    return;
  g_mutex_lock (&self->lock);
  self->watchdog_barked = TRUE;
  g_mutex_unlock (&self->lock);
  bark (self, valley_window_config_duration_ns (&config));
}

static gboolean
on_alarm (GstClock *clock, GstClockTime time, GstClockID id, gpointer weak)
{
  GstValleyInfer *self = g_weak_ref_get (weak);

  if (self != NULL) {
    look (self);
    gst_object_unref (self);
  }
  return TRUE;
}

void
gst_valley_infer_watchdog_start (GstValleyInfer *self)
{
  /* Real time: a pipeline that does not preroll has no running clock yet. */
  GstClock *clock = gst_system_clock_obtain ();

  g_mutex_lock (&self->lock);
  self->push_since_us = 0;
  self->watchdog_barked = FALSE;
  self->watchdog_id
      = gst_clock_new_periodic_id (clock, gst_clock_get_time (clock) + LOOK_EVERY, LOOK_EVERY);
  gst_valley_infer_set_alarm (self, self->watchdog_id, on_alarm);
  g_mutex_unlock (&self->lock);
  gst_object_unref (clock);
}

void
gst_valley_infer_watchdog_stop (GstValleyInfer *self)
{
  g_mutex_lock (&self->lock);
  if (self->watchdog_id != NULL) {
    gst_clock_id_unschedule (self->watchdog_id);
    gst_clock_id_unref (self->watchdog_id);
    self->watchdog_id = NULL;
  }
  g_mutex_unlock (&self->lock);
}
