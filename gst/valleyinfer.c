/* valleyinfer.c - the element: pads, properties, states, and what its source pads answer.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#include <string.h>

GST_DEBUG_CATEGORY (gst_valley_infer_debug);
#define GST_CAT_DEFAULT gst_valley_infer_debug

#define TEXT_CAPS "text/x-raw, format=(string)utf8"
#define JSON_CAPS "application/x-json, format=(string)valleyinfer"

/* First what picture.c reads directly, so that a source with a choice takes one of these. */
#define VIDEO_CAPS \
  GST_VIDEO_CAPS_MAKE ("{ I420, NV12, YV12, NV21, Y42B, NV16, Y444, RGBx, BGRx, RGB, BGR }") \
  "; " GST_VIDEO_CAPS_MAKE (GST_VIDEO_FORMATS_ALL)

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE (
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS (VIDEO_CAPS));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE (
    "src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS (VIDEO_CAPS));
static GstStaticPadTemplate text_template = GST_STATIC_PAD_TEMPLATE (
    "text_src", GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS (TEXT_CAPS));
/* More of the same, for instance one for an overlay and one for a muxer. */
static GstStaticPadTemplate more_text_template = GST_STATIC_PAD_TEMPLATE (
    "text_src_%u", GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS (TEXT_CAPS));
static GstStaticPadTemplate json_template = GST_STATIC_PAD_TEMPLATE (
    "json_src", GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS (JSON_CAPS));

static void child_proxy_init (gpointer iface, gpointer data);

G_DEFINE_TYPE_WITH_CODE (GstValleyInfer, gst_valley_infer, GST_TYPE_ELEMENT,
                         G_IMPLEMENT_INTERFACE (GST_TYPE_CHILD_PROXY, child_proxy_init))

/* ---- source pads --------------------------------------------------------- */

/* An application's seek comes once through every sink; upstream is to see it once. */
static gboolean
forward_seek (GstValleyInfer *self, GstEvent *event)
{
  guint32 seqnum = gst_event_get_seqnum (event);
  gboolean repeated, result;

  GST_OBJECT_LOCK (self);
  repeated = seqnum == self->seek_seqnum;
  result = self->seek_result;
  if (!repeated) {
    self->seek_seqnum = seqnum;
    self->seek_result = TRUE; /* what repeats hear while this one is on its way */
  }
  GST_OBJECT_UNLOCK (self);
  if (repeated) {
    gst_event_unref (event);
    return result;
  }
  result = gst_pad_push_event (self->sink, event);
  GST_OBJECT_LOCK (self);
  if (self->seek_seqnum == seqnum)
    self->seek_result = result;
  GST_OBJECT_UNLOCK (self);
  return result;
}

static gboolean
forward_latency (GstValleyInfer *self, GstEvent *event)
{
  GstClockTime latency;
  gboolean live;

  gst_event_parse_latency (event, &latency);
  GST_OBJECT_LOCK (self);
  self->pipeline_latency = latency;
  GST_OBJECT_UNLOCK (self);
  /* It is sent because some element's latency changed: maybe one upstream. */
  gst_valley_infer_ask_latency (self, &live, &latency);
  g_mutex_lock (&self->lock);
  self->upstream_latency = latency;
  g_mutex_unlock (&self->lock);
  return gst_pad_push_event (self->sink, event);
}

static gboolean
src_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_SEEK:
    return forward_seek (GST_VALLEY_INFER (parent), event);
  case GST_EVENT_LATENCY:
    return forward_latency (GST_VALLEY_INFER (parent), event);
  default:
    return gst_pad_event_default (pad, parent, event);
  }
}

static gboolean
text_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_SEEK:
    return forward_seek (GST_VALLEY_INFER (parent), event);
  case GST_EVENT_LATENCY:
    return forward_latency (GST_VALLEY_INFER (parent), event);
  case GST_EVENT_RECONFIGURE:
    gst_valley_text_pad_relinked (GST_VALLEY_TEXT_PAD (pad));
    break;
  default:
    break; /* QoS and navigation of a text are nothing to the video's source */
  }
  gst_event_unref (event);
  return TRUE;
}

/* Captions in `window` timing come later than their video. */
static void
add_text_latency (GstValleyInfer *self, GstValleyTextPad *pad, GstQuery *query)
{
  GstValleyTextTiming timing = gst_valley_text_pad_timing (pad);
  GstClockTime min, max, more;
  gboolean live;

  gst_query_parse_latency (query, &live, &min, &max);
  GST_OBJECT_LOCK (self);
  if (timing == GST_VALLEY_TEXT_TIMING_AUTO)
    timing = self->settings.text_timing;
  more = gst_valley_settings_text_latency (&self->settings, self->frame_duration);
  if (!live || self->settings.latency_ms == 0 || timing == GST_VALLEY_TEXT_TIMING_LATE
      || gst_valley_text_pad_is_json (pad))
    more = 0;
  GST_OBJECT_UNLOCK (self);
  if (GST_CLOCK_TIME_IS_VALID (max))
    max += more;
  gst_query_set_latency (query, live, min + more, max);
}

static gboolean
text_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  GstValleyInfer *self = GST_VALLEY_INFER (parent);

  switch (GST_QUERY_TYPE (query)) {
  case GST_QUERY_LATENCY:
    if (!gst_pad_peer_query (self->sink, query))
      return FALSE;
    add_text_latency (self, GST_VALLEY_TEXT_PAD (pad), query);
    return TRUE;
  case GST_QUERY_POSITION:
  case GST_QUERY_DURATION:
  case GST_QUERY_SEEKING:
  case GST_QUERY_SEGMENT:
    return gst_pad_peer_query (self->sink, query);
  default:
    return gst_pad_query_default (pad, parent, query);
  }
}

/* Caps, allocation and the like pass between sink and src as if nothing were there; the request
 * pads take no part in that. */
static GstIterator *
internal_links (GstPad *pad, GstObject *parent)
{
  GstValleyInfer *self = GST_VALLEY_INFER (parent);
  GValue other = G_VALUE_INIT;
  GstIterator *links;

  g_value_init (&other, GST_TYPE_PAD);
  g_value_set_object (&other, pad == self->sink ? self->src : self->sink);
  links = gst_iterator_new_single (GST_TYPE_PAD, &other);
  g_value_unset (&other);
  return links;
}

/* ---- request pads -------------------------------------------------------- */

/* The name asked for, else the template's or the next that is free. */
static gchar *
choose_name (GstElement *element, GstPadTemplate *templ, const gchar *name)
{
  const gchar *plain = GST_PAD_TEMPLATE_NAME_TEMPLATE (templ);
  gchar *candidate = g_strdup (name != NULL && strchr (name, '%') == NULL ? name : plain);
  gboolean text = g_str_has_prefix (plain, "text_src");
  gboolean taken = TRUE;

  for (guint i = 0; taken; i++) {
    GstPad *pad = strchr (candidate, '%') != NULL
                      ? NULL
                      : gst_element_get_static_pad (element, candidate);

    taken = pad != NULL || strchr (candidate, '%') != NULL;
    g_clear_pointer (&pad, gst_object_unref);
    if (taken) {
      g_free (candidate);
      if (!text)
        return NULL;
      candidate = g_strdup_printf ("text_src_%u", i);
    }
  }
  return candidate;
}

static GstPad *
request_new_pad (GstElement *element, GstPadTemplate *templ, const gchar *name,
                 const GstCaps *caps)
{
  GstValleyInfer *self = GST_VALLEY_INFER (element);
  g_autofree gchar *chosen = choose_name (element, templ, name);
  gboolean json = g_str_has_prefix (GST_PAD_TEMPLATE_NAME_TEMPLATE (templ), "json_src");
  GstPad *pad;

  if (chosen == NULL)
    return NULL; /* json_src is there already; a tee shares it */
  g_mutex_lock (&self->lock);
  pad = gst_valley_text_pad_new (templ, chosen, json, self->windows.next_id);
  g_mutex_unlock (&self->lock);
  gst_pad_set_event_function (pad, text_event);
  gst_pad_set_query_function (pad, text_query);
  gst_pad_set_iterate_internal_links_function (pad, internal_links);
  gst_pad_use_fixed_caps (pad);
  if (GST_STATE (self) > GST_STATE_READY || GST_STATE_NEXT (self) == GST_STATE_PAUSED)
    gst_pad_set_active (pad, TRUE);
  if (!gst_element_add_pad (element, pad))
    return NULL;
  g_mutex_lock (&self->lock);
  gst_valley_infer_begin_text_pad (self, GST_VALLEY_TEXT_PAD (pad));
  self->text_pads = g_list_append (self->text_pads, gst_object_ref (pad));
  g_mutex_unlock (&self->lock);
  gst_child_proxy_child_added (GST_CHILD_PROXY (self), G_OBJECT (pad), GST_PAD_NAME (pad));
  return pad;
}

static void
release_pad (GstElement *element, GstPad *pad)
{
  GstValleyInfer *self = GST_VALLEY_INFER (element);
  GList *link;

  g_mutex_lock (&self->lock);
  link = g_list_find (self->text_pads, pad);
  self->text_pads = g_list_delete_link (self->text_pads, link);
  g_mutex_unlock (&self->lock);
  gst_child_proxy_child_removed (GST_CHILD_PROXY (self), G_OBJECT (pad), GST_PAD_NAME (pad));
  gst_pad_set_active (pad, FALSE);
  gst_element_remove_pad (element, pad);
  if (link != NULL)
    gst_object_unref (pad);
}

/* The request pads as children: `text_src::text-timing=late` works in gst-launch-1.0. */
static GObject *
child_by_index (GstChildProxy *proxy, guint index)
{
  GstValleyInfer *self = GST_VALLEY_INFER (proxy);
  GObject *child;

  g_mutex_lock (&self->lock);
  child = g_list_nth_data (self->text_pads, index);
  if (child != NULL)
    g_object_ref (child);
  g_mutex_unlock (&self->lock);
  return child;
}

static guint
children_count (GstChildProxy *proxy)
{
  GstValleyInfer *self = GST_VALLEY_INFER (proxy);
  guint count;

  g_mutex_lock (&self->lock);
  count = g_list_length (self->text_pads);
  g_mutex_unlock (&self->lock);
  return count;
}

static void
child_proxy_init (gpointer iface, gpointer data)
{
  GstChildProxyInterface *proxy = iface;

  proxy->get_child_by_index = child_by_index;
  proxy->get_children_count = children_count;
}

/* ---- states -------------------------------------------------------------- */

/* Opens the model (its config.json, not its weights), unless it is open already. */
static gboolean
open_model (GstValleyInfer *self, const GstValleySettings *settings, GError **error)
{
  ValleyModelOptions options
      = { .device = settings->device, .precision = settings->precision };
  g_autofree gchar *dir = settings->model_path != NULL ? g_strdup (settings->model_path)
                                                       : valley_default_model_dir ();
  g_autofree gchar *key = NULL;

  if (dir == NULL) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                         "The bundled model was not found: set model-path, or VALLEY_MODEL_DIR, "
                         "to the folder of a Valley checkpoint.");
    return FALSE;
  }
  key = g_strdup_printf ("%d %s %s", settings->precision,
                         settings->device != NULL ? settings->device : "auto", dir);
  if (self->model != NULL && g_str_equal (key, self->model_key))
    return TRUE;
  g_clear_pointer (&self->model, valley_model_unref);
  g_free (self->model_key);
  self->model_key = g_steal_pointer (&key);
  self->model = valley_model_open (dir, &options, error);
  return self->model != NULL;
}

/* Everything that can be wrong with the settings is found here. */
static gboolean
start (GstValleyInfer *self)
{
  GstValleySettings settings = { 0 };
  GstValleyRequest *request = NULL;
  GError *error = NULL;

  GST_OBJECT_LOCK (self);
  gst_valley_settings_copy (&settings, &self->settings);
  self->seek_seqnum = GST_SEQNUM_INVALID;
  self->pipeline_latency = 0;
  GST_OBJECT_UNLOCK (self);
  if (open_model (self, &settings, &error))
    request = gst_valley_settings_request (&settings, &error);
  gst_valley_settings_clear (&settings);
  if (request == NULL) {
    gst_valley_infer_post_error (self, GST_MESSAGE_ERROR, error);
    g_error_free (error);
    return FALSE;
  }
  g_mutex_lock (&self->lock);
  gst_valley_request_unref (self->request);
  self->request = request;
  self->applied_serial = g_atomic_int_get (&self->settings_serial) - 1;
  self->live = self->failed = self->flushing = self->eos = self->have_segment = FALSE;
  self->loading = TRUE;
  self->n_answered = self->n_failed = self->n_dropped = 0;
  self->max_delay_ms = 0;
  g_mutex_unlock (&self->lock);
  gst_valley_infer_reset_stream (self);
  gst_valley_painter_set_orientation (self->painter, GST_VIDEO_ORIENTATION_IDENTITY);
  self->have_info = FALSE;
  gst_valley_worker_start (self->worker, self->model);
  gst_valley_infer_watchdog_start (self);
  return TRUE;
}

/* Before the pads are deactivated: wakes and cancels whatever they could wait for. */
static void
begin_stop (GstValleyInfer *self)
{
  gst_valley_infer_watchdog_stop (self);
  gst_valley_worker_cancel (self->worker);
  g_mutex_lock (&self->lock);
  self->flushing = TRUE;
  gst_valley_infer_discard (self);
  g_mutex_unlock (&self->lock);
}

static void
finish_stop (GstValleyInfer *self)
{
  gst_valley_worker_stop (self->worker);
  g_mutex_lock (&self->lock);
  gst_valley_infer_discard (self);
  gst_clear_event (&self->stream_start);
  g_clear_pointer (&self->stream_id, g_free);
  self->have_segment = FALSE;
  g_queue_clear_full (&self->outbox, (GDestroyNotify)gst_message_unref);
  g_mutex_unlock (&self->lock);
}

static void
set_playing (GstValleyInfer *self, gboolean playing)
{
  g_mutex_lock (&self->lock);
  self->playing = playing;
  if (playing)
    gst_valley_infer_arm_clock (self);
  else
    gst_valley_infer_disarm_clock (self);
  g_mutex_unlock (&self->lock);
}

static GstStateChangeReturn
change_state (GstElement *element, GstStateChange transition)
{
  GstValleyInfer *self = GST_VALLEY_INFER (element);
  GstStateChangeReturn result;

  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED && !start (self))
    return GST_STATE_CHANGE_FAILURE;
  if (transition == GST_STATE_CHANGE_PAUSED_TO_PLAYING)
    set_playing (self, TRUE);
  if (transition == GST_STATE_CHANGE_PLAYING_TO_PAUSED)
    set_playing (self, FALSE);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    begin_stop (self);

  result = GST_ELEMENT_CLASS (gst_valley_infer_parent_class)->change_state (element, transition);

  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED && result == GST_STATE_CHANGE_FAILURE) {
    begin_stop (self);
    finish_stop (self);
  }
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    finish_stop (self);
  if (transition == GST_STATE_CHANGE_READY_TO_NULL)
    g_clear_pointer (&self->model, valley_model_unref);
  return result;
}

/* ---- properties ---------------------------------------------------------- */

static GstStructure *
stats (GstValleyInfer *self)
{
  GstValleyWorkerState worker = gst_valley_worker_state (self->worker);
  GstStructure *structure;

  g_mutex_lock (&self->lock);
  structure = gst_structure_new (
      "valleyinfer/stats", "windows", G_TYPE_UINT64, self->n_answered, "failed", G_TYPE_UINT64,
      self->n_failed, "dropped", G_TYPE_UINT64, self->n_dropped, "frames", G_TYPE_UINT64,
      worker.n_frames, "queued-windows", G_TYPE_UINT, worker.n_windows, "queued-bytes",
      G_TYPE_UINT64, (guint64)worker.bytes, "loaded", G_TYPE_BOOLEAN, worker.loaded, NULL);
  g_mutex_unlock (&self->lock);
  return structure;
}

static void
set_property (GObject *object, guint id, const GValue *value, GParamSpec *pspec)
{
  GstValleyInfer *self = GST_VALLEY_INFER (object);
  GstClockTime before, after;
  gboolean known;

  GST_OBJECT_LOCK (self);
  before = gst_valley_settings_text_latency (&self->settings, 0);
  before = self->settings.latency_ms > 0 ? before : 0;
  known = gst_valley_settings_set (&self->settings, id, value);
  after = gst_valley_settings_text_latency (&self->settings, 0);
  after = self->settings.latency_ms > 0 ? after : 0;
  GST_OBJECT_UNLOCK (self);
  if (!known)
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
  g_atomic_int_inc (&self->settings_serial);
  if (before != after || id == GST_VALLEY_PROP_TEXT_TIMING)
    gst_element_post_message (GST_ELEMENT (self), gst_message_new_latency (GST_OBJECT (self)));
}

static void
get_property (GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
  GstValleyInfer *self = GST_VALLEY_INFER (object);
  gboolean known;

  if (id == GST_VALLEY_PROP_STATS) {
    g_value_take_boxed (value, stats (self));
    return;
  }
  if (id == GST_VALLEY_PROP_MAX_OBSERVED_DELAY) {
    g_mutex_lock (&self->lock);
    g_value_set_uint (value, self->max_delay_ms);
    g_mutex_unlock (&self->lock);
    return;
  }
  GST_OBJECT_LOCK (self);
  known = gst_valley_settings_get (&self->settings, id, value);
  GST_OBJECT_UNLOCK (self);
  if (!known)
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

/* ---- class --------------------------------------------------------------- */

static void
dispose (GObject *object)
{
  GstValleyInfer *self = GST_VALLEY_INFER (object);

  g_list_free_full (g_steal_pointer (&self->text_pads), gst_object_unref);
  G_OBJECT_CLASS (gst_valley_infer_parent_class)->dispose (object);
}

static void
finalize (GObject *object)
{
  GstValleyInfer *self = GST_VALLEY_INFER (object);

  gst_valley_worker_free (self->worker);
  gst_valley_painter_free (self->painter);
  valley_windows_clear (&self->windows);
  gst_valley_settings_clear (&self->settings);
  gst_valley_settings_clear (&self->applied);
  gst_valley_request_unref (self->request);
  g_clear_pointer (&self->model, valley_model_unref);
  g_free (self->model_key);
  g_mutex_clear (&self->lock);
  G_OBJECT_CLASS (gst_valley_infer_parent_class)->finalize (object);
}

static void
gst_valley_infer_class_init (GstValleyInferClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);

  GST_DEBUG_CATEGORY_INIT (gst_valley_infer_debug, "valleyinfer", 0, "Valley video captions");
  object_class->set_property = set_property;
  object_class->get_property = get_property;
  object_class->dispose = dispose;
  object_class->finalize = finalize;
  element_class->change_state = change_state;
  element_class->request_new_pad = request_new_pad;
  element_class->release_pad = release_pad;
  gst_valley_settings_install (object_class);
  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_add_static_pad_template_with_gtype (element_class, &text_template,
                                                        GST_TYPE_VALLEY_TEXT_PAD);
  gst_element_class_add_static_pad_template_with_gtype (element_class, &more_text_template,
                                                        GST_TYPE_VALLEY_TEXT_PAD);
  gst_element_class_add_static_pad_template_with_gtype (element_class, &json_template,
                                                        GST_TYPE_VALLEY_TEXT_PAD);
  gst_element_class_set_static_metadata (
      element_class, "Valley video description", "Filter/Analyzer/Video",
      "Describes live video with the Valley2 model; the video passes untouched and on time",
      "The valleyinfer authors");
  gst_type_mark_as_plugin_api (GST_TYPE_VALLEY_TEXT_TIMING, 0);
  gst_type_mark_as_plugin_api (GST_TYPE_VALLEY_PRECISION, 0);
  gst_type_mark_as_plugin_api (GST_TYPE_VALLEY_TEXT_PAD, 0);
}

static void
gst_valley_infer_init (GstValleyInfer *self)
{
  g_mutex_init (&self->lock);
  g_queue_init (&self->chunks);
  g_queue_init (&self->outbox);
  gst_segment_init (&self->segment, GST_FORMAT_UNDEFINED);
  gst_valley_settings_init (&self->settings);
  gst_valley_settings_init (&self->applied);
  valley_windows_init (&self->windows, sizeof (GstValleyChunk));
  self->worker = gst_valley_worker_new (&gst_valley_infer_worker_calls, self);

  self->sink = gst_pad_new_from_static_template (&sink_template, "sink");
  self->src = gst_pad_new_from_static_template (&src_template, "src");
  for (GstPad *const *pad = (GstPad *const[]){ self->sink, self->src, NULL }; *pad; pad++) {
    gst_pad_set_iterate_internal_links_function (*pad, internal_links);
    GST_PAD_SET_PROXY_CAPS (*pad);
    GST_PAD_SET_PROXY_SCHEDULING (*pad);
  }
  gst_pad_set_event_function (self->src, src_event);
  gst_valley_infer_init_stream (self);
  gst_element_add_pad (GST_ELEMENT (self), self->sink);
  gst_element_add_pad (GST_ELEMENT (self), self->src);
}
