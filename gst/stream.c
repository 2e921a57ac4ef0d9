/* stream.c - the sink pad: what each buffer, event and query from upstream does.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#include <stdlib.h>

#define GST_CAT_DEFAULT gst_valley_infer_debug

#define NTP_TO_UNIX_NS (G_GUINT64_CONSTANT (2208988800) * GST_SECOND) /* 1900 to 1970 */

/* ---- buffers ------------------------------------------------------------- */

/* One warning, for a stream that cannot be analysed at all. */
static void
warn_unusable (GstValleyInfer *self, const gchar *reason)
{
  if (self->warned_unusable)
    return;
  self->warned_unusable = TRUE;
  GST_ELEMENT_WARNING (self, STREAM, FORMAT, ("%s: video passes without being described.", reason),
                       (NULL));
}

static gboolean
is_usable (GstValleyInfer *self, GstBuffer *buffer)
{
  if (!self->have_info)
    return FALSE;
  if (!self->have_segment || self->segment.format != GST_FORMAT_TIME)
    warn_unusable (self, "The stream's segment is not in time format");
  else if (self->segment.rate <= 0)
    warn_unusable (self, "The stream plays backwards");
  else if (!GST_BUFFER_PTS_IS_VALID (buffer))
    warn_unusable (self, "Frames have no presentation time");
  else
    return TRUE;
  return FALSE;
}

static GstClockTime
frame_duration (GstValleyInfer *self, GstBuffer *buffer)
{
  const GstVideoInfo *info = &self->info;
  GstClockTime nominal = 0;

  if (GST_BUFFER_DURATION_IS_VALID (buffer) && GST_BUFFER_DURATION (buffer) > 0)
    return GST_BUFFER_DURATION (buffer);
  if (GST_VIDEO_INFO_FPS_N (info) > 0)
    nominal = gst_util_uint64_scale (GST_SECOND, GST_VIDEO_INFO_FPS_D (info),
                                     GST_VIDEO_INFO_FPS_N (info));
  /* With framerate=0/1 this is max-framerate: the last interval says more. */
  if (nominal > 0 && !GST_VIDEO_INFO_FLAG_IS_SET (info, GST_VIDEO_FLAG_VARIABLE_FPS))
    return nominal;
  if (self->last_interval > 0)
    return self->last_interval;
  return nominal > 0 ? nominal : GST_MSECOND;
}

/* Wall-clock time of the frame, where the source put it on the buffer. */
static GstClockTime
unix_time (GstBuffer *buffer)
{
  static GstStaticCaps ntp = GST_STATIC_CAPS ("timestamp/x-ntp");
  static GstStaticCaps unix_epoch = GST_STATIC_CAPS ("timestamp/x-unix");
  GstCaps *caps = gst_static_caps_get (&ntp);
  GstReferenceTimestampMeta *meta = gst_buffer_get_reference_timestamp_meta (buffer, caps);
  GstClockTime time = GST_CLOCK_TIME_NONE;

  gst_caps_unref (caps);
  if (meta != NULL)
    return meta->timestamp >= NTP_TO_UNIX_NS ? meta->timestamp - NTP_TO_UNIX_NS : time;
  caps = gst_static_caps_get (&unix_epoch);
  meta = gst_buffer_get_reference_timestamp_meta (buffer, caps);
  gst_caps_unref (caps);
  return meta != NULL ? meta->timestamp : time;
}

/* A window keeps to one display aspect.  Sizes are rounded, so 854x480 counts as 1280x720. */
static gboolean
aspect_changed (GstValleyInfer *self, GstBuffer *buffer)
{
  guint64 before, now;
  guint width, height;

  gst_valley_painter_display_size (self->painter, buffer, &width, &height);
  before = (guint64) self->aspect_width * height;
  now = (guint64) width * self->aspect_height;
  self->aspect_width = width;
  self->aspect_height = height;
  return before > 0 && (before > now ? before - now : now - before) > before / 50;
}

/* A budget below the least that a frame can become is exceeded, which is said once. */
static void
check_budget (GstValleyInfer *self, ValleyModel *model, GstBuffer *buffer,
              const ValleyReduction *reduction)
{
  guint budget = reduction->max_vision_tokens, width, height;
  ValleyInputSizes sizes;
  GError *error = NULL;

  if (budget == 0 || budget == self->warned_budget)
    return;
  gst_valley_painter_display_size (self->painter, buffer, &width, &height);
  if (!valley_model_input_sizes (model, width, height, reduction, &sizes, NULL)
      || sizes.n_tokens <= budget / reduction->max_frames)
    return;
  self->warned_budget = budget;
  g_set_error (&error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
               "max-vision-tokens: %u for up to %u frames are %u each, but a frame of %u x %u has "
               "at least %u with this reduction: expected at least %" G_GUINT64_FORMAT,
               budget, reduction->max_frames, budget / reduction->max_frames, width, height,
               sizes.n_tokens, (guint64) sizes.n_tokens * reduction->max_frames);
  gst_valley_infer_post_error (self, GST_MESSAGE_WARNING, error);
  g_error_free (error);
}

static void
show_to_model (GstValleyInfer *self, GstBuffer *buffer, guint64 pts)
{
  ValleyReduction reduction;
  GError *error = NULL;
  ValleyPicture *picture;
  ValleyModel *model;

  g_mutex_lock (&self->lock);
  reduction = self->reduction;
  model = valley_model_ref (self->model);
  g_mutex_unlock (&self->lock);
  check_budget (self, model, buffer, &reduction);
  gst_valley_painter_set_reduction (self->painter, &reduction);
  picture = gst_valley_painter_paint (self->painter, model, buffer, pts, &error);
  valley_model_unref (model);
  if (picture == NULL) {
    if (!self->warned_frame)
      gst_valley_infer_post_error (self, GST_MESSAGE_WARNING, error);
    self->warned_frame = TRUE;
    g_error_free (error);
    return;
  }
  g_mutex_lock (&self->lock);
  gst_valley_infer_take_picture (self, picture, pts, unix_time (buffer));
  g_mutex_unlock (&self->lock);
  valley_picture_unref (picture);
}

/* The first gap lets sinks preroll even if nothing will ever be said about this stream. */
static void
let_pads_preroll (GstValleyInfer *self, GstBuffer *buffer)
{
  g_mutex_lock (&self->lock);
  if (self->have_segment) {
    gboolean in_time = self->segment.format == GST_FORMAT_TIME;
    guint64 time = in_time ? self->segment.start : 0;

    if (in_time && GST_BUFFER_PTS_IS_VALID (buffer))
      time = GST_BUFFER_PTS (buffer);
    self->newest_start = time;
    for (GList *l = self->text_pads; l != NULL; l = l->next)
      gst_valley_text_pad_video (l->data, time, time, VALLEY_TIME_NONE);
  }
  g_mutex_unlock (&self->lock);
}

static void
watch (GstValleyInfer *self, GstBuffer *buffer)
{
  guint64 pts, end;
  gboolean due = FALSE;

  if (!is_usable (self, buffer)) {
    let_pads_preroll (self, buffer);
    return;
  }
  pts = GST_BUFFER_PTS (buffer);
  if (GST_CLOCK_TIME_IS_VALID (self->last_pts) && pts > self->last_pts)
    self->last_interval = pts - self->last_pts;
  self->last_pts = pts;
  end = pts + frame_duration (self, buffer);
  if (!gst_segment_clip (&self->segment, GST_FORMAT_TIME, pts, end, &pts, &end))
    return;

  g_mutex_lock (&self->lock);
  if (!self->flushing && !self->eos) {
    if (aspect_changed (self, buffer))
      gst_valley_infer_cut (self);
    due = gst_valley_infer_see_frame (self, pts, end);
  }
  g_mutex_unlock (&self->lock);
  if (due)
    show_to_model (self, buffer, pts);
  gst_valley_infer_send_outbox (self);
}

static GstFlowReturn
chain (GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
  GstValleyInfer *self = GST_VALLEY_INFER (parent);
  GstFlowReturn flow;

  watch (self, buffer);
  flow = gst_valley_infer_watched_push (self, buffer);
  if (flow == GST_FLOW_NOT_LINKED)
    flow = GST_FLOW_OK; /* only the texts are wanted */
  if (flow == GST_FLOW_OK && !self->live)
    gst_valley_worker_wait_for_room (self->worker);
  return flow;
}

/* ---- events -------------------------------------------------------------- */

static GstEvent *
text_stream_start (GstValleyInfer *self, GstValleyTextPad *pad)
{
  g_autofree gchar *id = g_strdup_printf ("%s/%s", self->stream_id, GST_PAD_NAME (pad));
  GstEvent *event = gst_event_new_stream_start (id);
  guint group;

  if (gst_event_parse_group_id (self->stream_start, &group))
    gst_event_set_group_id (event, group);
  gst_event_set_stream_flags (event, GST_STREAM_FLAG_SPARSE);
  gst_event_set_seqnum (event, gst_event_get_seqnum (self->stream_start));
  return event;
}

static void
queue_stream_start (GstValleyInfer *self, GstValleyTextPad *pad, guint64 before)
{
  GstCaps *caps = gst_pad_get_pad_template_caps (GST_PAD (pad));

  gst_valley_text_pad_queue_event (pad, text_stream_start (self, pad), before);
  gst_valley_text_pad_queue_event (pad, gst_event_new_caps (caps), before);
  gst_caps_unref (caps);
}

/* What is said of the whole file holds for its captions too; codecs and bitrates do not. */
static gboolean
is_of_all_streams (GstEvent *event)
{
  GstTagList *tags;

  gst_event_parse_tag (event, &tags);
  return gst_tag_list_get_scope (tags) == GST_TAG_SCOPE_GLOBAL;
}

static void
queue_tags_so_far (GstValleyInfer *self, GstValleyTextPad *pad)
{
  GstEvent *event;

  for (guint i = 0; (event = gst_pad_get_sticky_event (self->sink, GST_EVENT_TAG, i)); i++) {
    if (is_of_all_streams (event))
      gst_valley_text_pad_queue_event (pad, gst_event_ref (event), 0);
    gst_event_unref (event);
  }
}

void
gst_valley_infer_begin_text_pad (GstValleyInfer *self, GstValleyTextPad *pad)
{
  if (self->stream_start == NULL)
    return;
  queue_stream_start (self, pad, 0);
  /* Within a flush the segment that counts is still to come. */
  if (self->have_segment && !self->flushing) {
    gst_valley_infer_queue_segment (self, pad, 0);
    queue_tags_so_far (self, pad);
    gst_valley_infer_place_pad (self, pad);
  }
  if (self->eos)
    gst_valley_text_pad_queue_event (pad, gst_event_new_eos (), 0);
}

/* Queues @event on every request pad behind the texts of all windows so far. */
static void
queue_for_all (GstValleyInfer *self, GstEvent *event)
{
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    gst_valley_text_pad_queue_event (l->data, gst_event_ref (event), self->windows.next_id);
}

static void
on_stream_start (GstValleyInfer *self, GstEvent *event)
{
  const gchar *id;

  gst_event_parse_stream_start (event, &id);
  gst_valley_infer_cut (self);
  gst_valley_painter_set_orientation (self->painter, GST_VIDEO_ORIENTATION_IDENTITY);
  self->eos = FALSE;
  gst_event_replace (&self->stream_start, event);
  g_free (self->stream_id);
  self->stream_id = g_strdup (id);
  for (GList *l = self->text_pads; l != NULL; l = l->next)
    queue_stream_start (self, l->data, self->windows.next_id);
}

static void
on_caps (GstValleyInfer *self, GstEvent *event)
{
  GstClockTime before, now = 0;
  GstCaps *caps;
  gboolean counts;

  gst_event_parse_caps (event, &caps);
  self->have_info = gst_video_info_from_caps (&self->info, caps);
  if (!self->have_info)
    return;
  gst_valley_painter_set_info (self->painter, &self->info);
  if (GST_VIDEO_INFO_FPS_N (&self->info) > 0)
    now = gst_util_uint64_scale_ceil (GST_SECOND, GST_VIDEO_INFO_FPS_D (&self->info),
                                      GST_VIDEO_INFO_FPS_N (&self->info));
  GST_OBJECT_LOCK (self);
  before = self->frame_duration;
  self->frame_duration = now;
  counts = self->settings.latency_ms > 0;
  GST_OBJECT_UNLOCK (self);
  if (before != now && counts)
    gst_element_post_message (GST_ELEMENT (self), gst_message_new_latency (GST_OBJECT (self)));
}

void
gst_valley_infer_ask_latency (GstValleyInfer *self, gboolean *live, GstClockTime *min)
{
  GstQuery *query = gst_query_new_latency ();

  *live = FALSE;
  *min = 0;
  if (gst_pad_peer_query (self->sink, query))
    gst_query_parse_latency (query, live, min, NULL);
  gst_query_unref (query);
}

static gboolean
same_segment (const GstSegment *a, const GstSegment *b)
{
  return a->format == b->format && a->rate == b->rate && a->applied_rate == b->applied_rate
         && a->base == b->base && a->offset == b->offset && a->start == b->start
         && a->stop == b->stop && a->time == b->time;
}

static void
on_segment (GstValleyInfer *self, GstEvent *event, gboolean live, GstClockTime latency)
{
  const GstSegment *segment;
  gboolean same;

  gst_event_parse_segment (event, &segment);
  same = self->have_segment && same_segment (segment, &self->segment);
  self->upstream_latency = latency;
  if (same && live == self->live)
    return;
  gst_valley_infer_cut (self);
  self->live = live;
  self->segment = *segment;
  self->have_segment = TRUE;
  self->newest_start = VALLEY_TIME_NONE;
  self->newest_end = 0;
  self->windows.limit = segment->format == GST_FORMAT_TIME ? segment->stop : VALLEY_TIME_NONE;
  gst_valley_infer_apply_settings (self);
  gst_valley_infer_queue_segments (self, self->windows.next_id);
}

static void
on_tags (GstValleyInfer *self, GstEvent *event)
{
  GstVideoOrientationMethod orientation;
  GstTagList *tags;

  gst_event_parse_tag (event, &tags);
  if (gst_video_orientation_from_tag (tags, &orientation))
    gst_valley_painter_set_orientation (self->painter, orientation);
  if (is_of_all_streams (event)) {
    g_mutex_lock (&self->lock);
    queue_for_all (self, event);
    g_mutex_unlock (&self->lock);
  }
}

static void
on_gap (GstValleyInfer *self, GstEvent *event)
{
  GstClockTime start, duration, end;

  gst_event_parse_gap (event, &start, &duration);
  end = GST_CLOCK_TIME_IS_VALID (duration) ? start + duration : start;
  if (!self->have_segment || self->segment.format != GST_FORMAT_TIME
      || !gst_segment_clip (&self->segment, GST_FORMAT_TIME, start, end, &start, &end))
    return;
  gst_valley_infer_gap (self, start, end);
}

static void
on_flush_start (GstValleyInfer *self, GstEvent *event)
{
  GList *pads;

  g_mutex_lock (&self->lock);
  self->flushing = TRUE;
  gst_valley_worker_set_flushing (self->worker, TRUE);
  gst_valley_infer_discard (self);
  pads = g_list_copy_deep (self->text_pads, (GCopyFunc) (gpointer) gst_object_ref, NULL);
  g_mutex_unlock (&self->lock);
  gst_pad_push_event (self->src, gst_event_ref (event));
  for (GList *l = pads; l != NULL; l = l->next)
    gst_valley_text_pad_start_flush (l->data, gst_event_ref (event));
  g_list_free_full (pads, gst_object_unref);
}

static void
on_flush_stop (GstValleyInfer *self, GstEvent *event)
{
  GList *pads;

  gst_valley_infer_reset_stream (self);
  g_mutex_lock (&self->lock);
  self->flushing = self->eos = FALSE;
  self->have_segment = FALSE;
  gst_valley_worker_set_flushing (self->worker, FALSE);
  pads = g_list_copy_deep (self->text_pads, (GCopyFunc) (gpointer) gst_object_ref, NULL);
  g_mutex_unlock (&self->lock);
  gst_pad_push_event (self->src, gst_event_ref (event));
  for (GList *l = pads; l != NULL; l = l->next)
    gst_valley_text_pad_stop_flush (l->data, gst_event_ref (event));
  g_list_free_full (pads, gst_object_unref);
}

/* What a serialized event means for the windows and the request pads. */
static void
note_event (GstValleyInfer *self, GstEvent *event)
{
  gboolean live = FALSE;
  GstClockTime latency = 0;

  if (GST_EVENT_TYPE (event) == GST_EVENT_CAPS)
    on_caps (self, event);
  else if (GST_EVENT_TYPE (event) == GST_EVENT_TAG)
    on_tags (self, event);
  else if (GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT)
    gst_valley_infer_ask_latency (self, &live, &latency);

  g_mutex_lock (&self->lock);
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_STREAM_START:
    on_stream_start (self, event);
    break;
  case GST_EVENT_SEGMENT:
    on_segment (self, event, live, latency);
    break;
  case GST_EVENT_GAP:
    on_gap (self, event);
    break;
  case GST_EVENT_EOS:
    gst_valley_infer_cut (self);
    self->eos = TRUE;
    queue_for_all (self, event);
    break;
  case GST_EVENT_SEGMENT_DONE:
    gst_valley_infer_cut (self);
    queue_for_all (self, event);
    break;
  case GST_EVENT_STREAM_GROUP_DONE:
    queue_for_all (self, event);
    break;
  default:
    break;
  }
  g_mutex_unlock (&self->lock);
  gst_valley_infer_send_outbox (self);
}

static gboolean
sink_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  GstValleyInfer *self = GST_VALLEY_INFER (parent);
  gboolean sticky = GST_EVENT_IS_STICKY (event), pushed;

  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_FLUSH_START:
    on_flush_start (self, event);
    gst_event_unref (event);
    return TRUE;
  case GST_EVENT_FLUSH_STOP:
    on_flush_stop (self, event);
    gst_event_unref (event);
    return TRUE;
  default:
    if (GST_EVENT_IS_SERIALIZED (event))
      note_event (self, event);
    pushed = gst_pad_push_event (self->src, event);
    /* An unlinked src keeps a sticky event for later: that is no failure of upstream's. */
    return pushed || sticky || !gst_pad_is_linked (self->src);
  }
}

/* ---- queries ------------------------------------------------------------- */

static gboolean
sink_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  GstValleyInfer *self = GST_VALLEY_INFER (parent);

  if (GST_QUERY_TYPE (query) == GST_QUERY_ALLOCATION) {
    if (gst_pad_is_linked (self->src))
      return gst_pad_peer_query (self->src, query);
    /* Nobody else looks at the frames: any layout will do. */
    gst_query_add_allocation_meta (query, GST_VIDEO_META_API_TYPE, NULL);
    gst_query_add_allocation_meta (query, GST_VIDEO_CROP_META_API_TYPE, NULL);
    return TRUE;
  }
  if (GST_QUERY_TYPE (query) == GST_QUERY_CONTEXT
      && gst_valley_cuda_query (&self->cuda, GST_ELEMENT (self), query))
    return TRUE;
  return gst_pad_query_default (pad, parent, query);
}

/* ---- set up -------------------------------------------------------------- */

void
gst_valley_infer_reset_stream (GstValleyInfer *self)
{
  self->warned_unusable = self->warned_frame = FALSE;
  self->warned_budget = 0;
  self->aspect_width = self->aspect_height = 0;
  self->last_pts = GST_CLOCK_TIME_NONE;
  self->last_interval = 0;
}

void
gst_valley_infer_init_stream (GstValleyInfer *self)
{
  self->painter = gst_valley_painter_new ();
  gst_video_info_init (&self->info);
  gst_valley_infer_reset_stream (self);
  gst_pad_set_chain_function (self->sink, chain);
  gst_pad_set_event_function (self->sink, sink_event);
  gst_pad_set_query_function (self->sink, sink_query);
}
