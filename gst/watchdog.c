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
      || (GstClockTime) (g_get_monotonic_time () - self->push_since_us) * GST_USECOND < PATIENCE)
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

typedef enum {
  FINE,
  STUCK_BEFORE_PAUSED, /* wanted in PAUSED, as gst-launch-1.0 does before it plays */
  STUCK
} Plight;

/* Whether a pipeline on its way to PLAYING does not get there, or is there and does not move.
 * One that is wanted in PAUSED is meant to stand still, once it is there. */
static Plight
plight (GstValleyInfer *self, GstClockTime running_time)
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
  if (target == GST_STATE_PLAYING)
    return state < target || is_behind_clock (self, running_time) ? STUCK : FINE;
  return state < target ? STUCK_BEFORE_PAUSED : FINE;
}

/* What the queue has to hold: what a caption comes later than its picture, and a margin.  In
 * whole tenths of a second, to be read and copied. */
static GstClockTime
queue_time (GstValleyInfer *self)
{
  GstClockTime time;

  GST_OBJECT_LOCK (self);
  time = gst_valley_settings_text_latency (&self->settings, self->frame_duration);
  GST_OBJECT_UNLOCK (self);
  return gst_util_uint64_scale_ceil (time + GST_SECOND, 1, GST_SECOND / 10) * (GST_SECOND / 10);
}

/* A warning only for what is certain to be wrong.  On the way to PAUSED somebody else may be
 * slow; but whoever sees nothing happen there is told what may help. */
static void
bark (GstValleyInfer *self, Plight plight)
{
  g_autofree gchar *text = g_strdup_printf (
      "The video is blocked%s by an element that waits for a text whose window has not ended. "
      "Put a queue between %s.src and it: queue max-size-time=%" G_GUINT64_FORMAT
      " max-size-bytes=0 max-size-buffers=0 (before qtmux or mp4mux: max-size-time=0, after "
      "the encoder), or use valleycaption.",
      plight == STUCK ? "" : ", probably", GST_OBJECT_NAME (self), queue_time (self));
  g_autofree gchar *debug = g_strdup_printf ("No frame has left src for %" G_GUINT64_FORMAT " ms.",
                                             PATIENCE / GST_MSECOND);

  if (plight == STUCK)
    GST_ELEMENT_WARNING (self, STREAM, FAILED, ("%s", text), ("%s", debug));
  else
    /* gst-launch-1.0 prints only an info's debug text. */
    GST_ELEMENT_INFO (self, STREAM, FAILED, ("%s", text), ("%s", text));
}

static void
look (GstValleyInfer *self)
{
  GstClockTime running_time;
  Plight now = FINE;
  gboolean blocked;

  g_mutex_lock (&self->lock);
  blocked = is_blocked (self);
  running_time = self->push_running_time;
  g_mutex_unlock (&self->lock);
  if (blocked)
    now = plight (self, running_time);
  g_mutex_lock (&self->lock);
  if (now <= self->watchdog_barked)
    now = FINE;
  else
    self->watchdog_barked = now;
  g_mutex_unlock (&self->lock);
  if (now != FINE)
    bark (self, now);
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
  self->watchdog_barked = FINE;
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
