/* valleyinfer.c - the element's class: templates, properties, states.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

GST_DEBUG_CATEGORY (gst_valley_infer_debug);
#define GST_CAT_DEFAULT gst_valley_infer_debug

#define TEXT_CAPS "text/x-raw, format=(string)utf8"
#define JSON_CAPS "application/x-json, format=(string)valleyinfer"

#ifdef HAVE_GST_CUDA
#define CUDA_CAPS                                                                                  \
  "; " GST_VIDEO_CAPS_MAKE_WITH_FEATURES ("memory:CUDAMemory", GST_VIDEO_FORMATS_ALL)
#else
#define CUDA_CAPS ""
#endif

/* First what picture.c reads directly, so that a source with a choice takes one of these. */
#define VIDEO_CAPS                                                                                 \
  GST_VIDEO_CAPS_MAKE ("{ I420, NV12, YV12, NV21, Y42B, NV16, Y444, RGBx, BGRx, RGB, BGR }")       \
  "; " GST_VIDEO_CAPS_MAKE (GST_VIDEO_FORMATS_ALL) CUDA_CAPS

static GstStaticPadTemplate sink_template
    = GST_STATIC_PAD_TEMPLATE ("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS (VIDEO_CAPS));
static GstStaticPadTemplate src_template
    = GST_STATIC_PAD_TEMPLATE ("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS (VIDEO_CAPS));
static GstStaticPadTemplate text_template = GST_STATIC_PAD_TEMPLATE (
    "text_src", GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS (TEXT_CAPS));
/* More of the same, for instance one for an overlay and one for a muxer. */
static GstStaticPadTemplate more_text_template = GST_STATIC_PAD_TEMPLATE (
    "text_src_%u", GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS (TEXT_CAPS));
static GstStaticPadTemplate json_template = GST_STATIC_PAD_TEMPLATE (
    "json_src", GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS (JSON_CAPS));

G_DEFINE_TYPE_WITH_CODE (GstValleyInfer, gst_valley_infer, GST_TYPE_ELEMENT,
                         G_IMPLEMENT_INTERFACE (GST_TYPE_CHILD_PROXY,
                                                gst_valley_infer_child_proxy_init))

/* ---- states -------------------------------------------------------------- */

/* The first frame does not wait for the device to be opened.  What is wrong there, loading tells.
 */
static void
open_device (ValleyModel *model)
{
  if (model != NULL && valley_model_cuda_context (model) != NULL)
    valley_model_takes_device_frames (model, NULL);
}

/* The statistics may be asked for meanwhile. */
void
gst_valley_infer_set_model (GstValleyInfer *self, ValleyModel *model)
{
  ValleyModel *last;

  open_device (model);
  g_mutex_lock (&self->lock);
  last = self->model;
  self->model = model;
  g_mutex_unlock (&self->lock);
  if (last != NULL && valley_model_is_lost (last))
    gst_valley_cuda_lose (&self->cuda, valley_model_cuda_context (last));
  valley_model_unref (last);
}

/* Frames of the pipeline's CUDA elements are in their context: a model that runs on CUDA is to be
 * there, too.  Which device "auto" means, the engine knows. */
static ValleyModel *
open_in_context (GstValleyInfer *self, const gchar *dir, ValleyModelOptions *options,
                 GError **error)
{
  ValleyModel *model = valley_model_open (dir, options, error);
  g_autoptr (GObject) keeper = NULL;

  if (model == NULL)
    return NULL;
  options->cuda_context = gst_valley_cuda_open (&self->cuda, GST_ELEMENT (self),
                                                valley_model_device (model), &keeper);
  options->cuda_context_owner = keeper;
  if (options->cuda_context == NULL)
    return model;
  valley_model_unref (model);
  return valley_model_open (dir, options, error);
}

/* Opens the model (its config.json, not its weights), unless it is open already. */
static gboolean
open_model (GstValleyInfer *self, const GstValleySettings *settings, GError **error)
{
  ValleyModelOptions options = { .device = settings->device, .precision = settings->precision };
  g_autofree gchar *dir = settings->model_path != NULL ? g_strdup (settings->model_path)
                                                       : valley_default_model_dir ();
  g_autofree gchar *key = NULL;

  if (dir != NULL && *dir == '\0') {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                         "model-path is empty: expected the folder of a Valley checkpoint.");
    return FALSE;
  }
  if (dir == NULL) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                         "The bundled model was not found: set model-path, or VALLEY_MODEL_DIR, "
                         "to the folder of a Valley checkpoint.");
    return FALSE;
  }
  key = g_strdup_printf ("%d %s %s", settings->precision,
                         settings->device != NULL ? settings->device : "auto", dir);
  if (self->model != NULL && g_str_equal (key, self->model_key)
      && !valley_model_is_lost (self->model))
    return TRUE;
  gst_valley_infer_set_model (self, NULL); /* what it has goes before another one comes */
  g_free (self->model_key);
  self->model_key = g_steal_pointer (&key);
  gst_valley_infer_set_model (self, open_in_context (self, dir, &options, error));
  return self->model != NULL;
}

/* Everything that can be wrong with the settings is found here. */
static gboolean
start (GstValleyInfer *self)
{
  GstValleySettings settings = { 0 };
  ValleySessionOptions options = { 0 };
  GstValleyRequest *request = NULL;
  GError *error = NULL;
  gint request_serial = g_atomic_int_get (&self->request_serial);

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
  /* Frames are prefilled before anything is asked about them. */
  options.system_prompt = request->system_prompt;
  self->applied_serial = g_atomic_int_get (&self->settings_serial) - 1;
  self->applied_request_serial = request_serial;
  self->live = self->failed = self->flushing = self->eos = self->have_segment = FALSE;
  self->warned_lateness = FALSE;
  self->warned_frames = 0;
  self->warned_answer = FALSE;
  self->have_windowing = FALSE;
  g_clear_pointer (&self->refused, g_free);
  self->stride = 0;
  self->configured_width = 0;
  self->loading = TRUE;
  self->n_answered = self->n_failed = self->n_dropped = 0;
  self->max_delay_ms = 0;
  g_mutex_unlock (&self->lock);
  gst_valley_infer_reset_stream (self);
  gst_valley_painter_set_orientation (self->painter, GST_VIDEO_ORIENTATION_IDENTITY);
  self->have_info = FALSE;
  gst_valley_worker_start (self->worker, self->model, &options);
  gst_valley_infer_watchdog_start (self);
  return TRUE;
}

/* Before the pads are deactivated: wakes and cancels whatever they could wait for. */
static void
begin_stop (GstValleyInfer *self)
{
  gst_valley_infer_watchdog_stop (self);
  /* Discarded first, so that no window is reported as failed because it was cancelled. */
  g_mutex_lock (&self->lock);
  self->flushing = TRUE;
  gst_valley_infer_discard (self);
  g_mutex_unlock (&self->lock);
  gst_valley_worker_cancel (self->worker);
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
  g_queue_clear_full (&self->outbox, (GDestroyNotify) gst_message_unref);
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
  /* Sinks that were between two texts have lost their preroll by now, and the video stands. */
  for (GList *l = self->text_pads; l != NULL && !playing; l = l->next)
    gst_valley_text_pad_repeat_gap (l->data);
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
  if (transition == GST_STATE_CHANGE_READY_TO_NULL) {
    gst_valley_infer_set_model (self, NULL);
    gst_valley_cuda_close (&self->cuda);
  }
  return result;
}

static void
set_context (GstElement *element, GstContext *context)
{
  gst_valley_cuda_set_context (&GST_VALLEY_INFER (element)->cuda, element, context);
  GST_ELEMENT_CLASS (gst_valley_infer_parent_class)->set_context (element, context);
}

/* ---- properties ---------------------------------------------------------- */

/* What the engine's session counts; its memory and drift. */
static void
add_session_stats (GstStructure *structure, const ValleySessionStats *stats)
{
  const struct {
    const gchar *name;
    guint64 value;
  } counts[] = { { "frames-encoded", stats->frames_encoded },
                 { "frames-unchanged", stats->frames_unchanged },
                 { "frames-reencoded", stats->frames_reencoded },
                 { "frame-rows", stats->frame_rows },
                 { "text-rows", stats->text_rows },
                 { "questions", stats->hops },
                 { "questions-unchanged", stats->hops_unchanged },
                 { "drafted-tokens", stats->drafted },
                 { "accepted-tokens", stats->accepted },
                 { "sequences-evicted", stats->sequences_evicted },
                 { "encodings-evicted", stats->encodings_evicted },
                 { "kv-bytes", stats->kv_bytes },
                 { "kv-bytes-peak", stats->kv_bytes_peak },
                 { "encoding-bytes", stats->encoding_bytes },
                 { "encoding-bytes-peak", stats->encoding_bytes_peak },
                 { "drift-samples", stats->drift_samples },
                 { "drift-agreements", stats->drift_agreements } };

  for (guint i = 0; i < G_N_ELEMENTS (counts); i++)
    gst_structure_set (structure, counts[i].name, G_TYPE_UINT64, counts[i].value, NULL);
  gst_structure_set (structure, "window-policy", G_TYPE_STRING,
                     gst_valley_window_policy_nick (stats->policy), "drift-last", G_TYPE_DOUBLE,
                     stats->drift_last, "drift-mean", G_TYPE_DOUBLE, stats->drift_mean, "drift-max",
                     G_TYPE_DOUBLE, stats->drift_max, "fallen-back", G_TYPE_BOOLEAN,
                     stats->fallen_back, NULL);
}

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
      G_TYPE_UINT64, (guint64) worker.bytes, "loaded", G_TYPE_BOOLEAN, worker.loaded, "device",
      G_TYPE_STRING, self->model != NULL ? valley_model_device (self->model) : NULL,
      "device-losses", G_TYPE_UINT64, worker.n_losses, NULL);
  g_mutex_unlock (&self->lock);
  add_session_stats (structure, &worker.session);
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
  if (gst_valley_settings_is_of_request (id))
    g_atomic_int_inc (&self->request_serial);
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
  gst_valley_cuda_clear (&self->cuda);
  valley_windows_clear (&self->windows);
  gst_valley_settings_clear (&self->settings);
  gst_valley_settings_clear (&self->applied);
  gst_valley_request_unref (self->request);
  g_clear_pointer (&self->model, valley_model_unref);
  g_free (self->model_key);
  g_free (self->refused);
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
  element_class->set_context = set_context;
  element_class->request_new_pad = gst_valley_infer_request_pad;
  element_class->release_pad = gst_valley_infer_release_pad;
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
  gst_type_mark_as_plugin_api (GST_TYPE_VALLEY_MARKERS, 0);
  gst_type_mark_as_plugin_api (GST_TYPE_VALLEY_WINDOW_POLICY, 0);
  gst_type_mark_as_plugin_api (GST_TYPE_VALLEY_REDUCTION, 0);
  gst_type_mark_as_plugin_api (GST_TYPE_VALLEY_TEXT_PAD, 0);
}

static void
gst_valley_infer_init (GstValleyInfer *self)
{
  g_mutex_init (&self->lock);
  gst_valley_cuda_init (&self->cuda);
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
    gst_pad_set_iterate_internal_links_function (*pad, gst_valley_infer_internal_links);
    GST_PAD_SET_PROXY_CAPS (*pad);
    GST_PAD_SET_PROXY_SCHEDULING (*pad);
  }
  gst_pad_set_event_function (self->src, gst_valley_infer_src_event);
  gst_pad_set_query_function (self->src, gst_valley_infer_src_query);
  gst_valley_infer_init_stream (self);
  gst_element_add_pad (GST_ELEMENT (self), self->sink);
  gst_element_add_pad (GST_ELEMENT (self), self->src);
}
