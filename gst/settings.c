/* settings.c - the element's properties.
 * SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include <string.h>

#define DEFAULT_PROMPT "Describe the video."
#define RW (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING)
#define RW_READY (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY)
#define RO (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)

/* ---- declarations -------------------------------------------------------- */

static void
install_model (GObjectClass *klass)
{
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_MODEL_PATH,
      g_param_spec_string ("model-path", "Model path",
                           "Folder of a Valley checkpoint in Hugging Face layout (NULL: the "
                           "bundled model)",
                           NULL, RW_READY));
  g_object_class_install_property (klass, GST_VALLEY_PROP_DEVICE,
                                   g_param_spec_string ("device", "Device",
                                                        "Where the model runs: auto or cpu", "auto",
                                                        RW_READY));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_PRECISION,
      g_param_spec_enum ("precision", "Precision", "Arithmetic of the matrix products",
                         GST_TYPE_VALLEY_PRECISION, VALLEY_PRECISION_AUTO, RW_READY));
}

static void
install_prompt (GObjectClass *klass)
{
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_PROMPT,
      g_param_spec_string ("prompt", "Prompt",
                           "What is asked of every window; {num_frames} {start} {end} "
                           "{timestamps} {stream_id} are filled in, times in seconds",
                           DEFAULT_PROMPT, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_PROMPT_PATH,
      g_param_spec_string ("prompt-path", "Prompt path",
                           "File that holds the prompt, instead of `prompt`; setting both is "
                           "an error",
                           NULL, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_SYSTEM_PROMPT,
      g_param_spec_string ("system-prompt", "System prompt",
                           "The conversation's system message (NULL: the model's own)", NULL, RW));
  g_object_class_install_property (klass, GST_VALLEY_PROP_MAX_NEW_TOKENS,
                                   g_param_spec_uint ("max-new-tokens", "Max new tokens",
                                                      "Longest answer, in tokens", 1, G_MAXINT, 100,
                                                      RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_GENERATION_CONFIG,
      g_param_spec_string ("generation-config", "Generation config",
                           "KEY=VALUE,KEY=VALUE of max_new_tokens (wins over max-new-tokens), "
                           "temperature (0: greedy), top_k, top_p, seed, repetition_penalty, "
                           "stop (may be repeated)",
                           NULL, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_MARKERS,
      g_param_spec_enum ("markers", "Markers",
                         "What becomes of the sections that reasoning models mark in their "
                         "answers (<think>, <answer>, <SUMMARY>, <CAPTION>, <REASONING>, "
                         "<CONCLUSION>)",
                         GST_TYPE_VALLEY_MARKERS, VALLEY_MARKERS_SPLIT, RW));
}

static void
install_windows (GObjectClass *klass)
{
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_FRAME_RATE,
      gst_param_spec_fraction ("frame-rate", "Frame rate",
                               "Frames that the model is shown per second of video", 1, 3600, 1000,
                               1, 2, 1, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_CHUNK_DURATION,
      g_param_spec_uint ("chunk-duration", "Chunk duration",
                         "Length of a window, which gets one answer, in ms", 1, 86400000, 2000,
                         RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_CHUNK_OVERLAP,
      g_param_spec_uint ("chunk-overlap", "Chunk overlap",
                         "What a window shares with the one before it, in ms; at least one "
                         "frame slot is new",
                         0, 86400000, 0, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_CHUNK_SIZE,
      g_param_spec_uint ("chunk-size", "Chunk size",
                         "Length of a window in frames of frame-rate; wins over "
                         "chunk-duration (0: not set)",
                         0, 3600, 0, RW));
}

static void
install_timing (GObjectClass *klass)
{
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_TEXT_TIMING,
      g_param_spec_enum ("text-timing", "Text timing",
                         "When captions are shown; every text_src pad can say otherwise",
                         GST_TYPE_VALLEY_TEXT_TIMING, GST_VALLEY_TEXT_TIMING_AUTO, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_LATENESS,
      g_param_spec_uint ("lateness", "Lateness",
                         "With late timing: how much later than its window a caption is shown, "
                         "in ms (0: the window + 1000); a caption is whole only from the "
                         "window + the time to compute it",
                         0, 86400000, 0, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_LATENCY,
      g_param_spec_uint ("latency", "Latency",
                         "Live: time allowed to compute an answer, in ms; captions are then in "
                         "sync with video delayed by the window and this much (0: not set, "
                         "video is not delayed)",
                         0, 86400000, 0, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_LIVE_EDGE_OFFSET,
      g_param_spec_uint ("live-edge-offset", "Live edge offset",
                         "Live, with latency set: how far gaps on text_src stay behind the "
                         "newest video, in ms; added to the latency reported",
                         0, 86400000, 0, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_MAX_OBSERVED_DELAY,
      g_param_spec_uint ("max-observed-delay", "Max observed delay",
                         "The longest time so far from a caption's own start to its answer, in "
                         "ms of video: a lateness below this cut captions short",
                         0, G_MAXUINT, 0, RO));
}

static void
install_queue (GObjectClass *klass)
{
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_QUEUE_MAX_BYTES,
      g_param_spec_uint64 ("queue-max-bytes", "Queue max bytes",
                           "Most memory for pictures that wait for the model; live, the oldest "
                           "window is dropped beyond it, else the video waits",
                           1, G_MAXINT64, 64 << 20, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_QUEUE_MAX_WINDOWS,
      g_param_spec_uint ("queue-max-windows", "Queue max windows",
                         "Most windows that wait for the model; live, the oldest is dropped "
                         "beyond it, else the video waits",
                         1, G_MAXINT, 2, RW));
}

static void
install_reports (GObjectClass *klass)
{
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_STREAM_ID,
      g_param_spec_string ("stream-id", "Stream ID",
                           "Name of this stream in results and for {stream_id} (NULL: the "
                           "stream-start event's)",
                           NULL, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_METRICS,
      g_param_spec_boolean ("metrics", "Metrics",
                            "Whether JSON results carry \"metrics\": token counts and times", TRUE,
                            RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_STATS,
      g_param_spec_boxed ("stats", "Statistics",
                          "windows (answered), failed, dropped, frames (encoded), "
                          "queued-windows, queued-bytes, loaded",
                          GST_TYPE_STRUCTURE, RO));
}

void
gst_valley_settings_install (GObjectClass *klass)
{
  install_model (klass);
  install_prompt (klass);
  install_windows (klass);
  install_timing (klass);
  install_queue (klass);
  install_reports (klass);
}

/* ---- values -------------------------------------------------------------- */

void
gst_valley_settings_init (GstValleySettings *settings)
{
  *settings = (GstValleySettings){ .device = g_strdup ("auto"),
                                   .rate_n = 2,
                                   .rate_d = 1,
                                   .chunk_duration_ms = 2000,
                                   .max_new_tokens = 100,
                                   .markers = VALLEY_MARKERS_SPLIT,
                                   .queue_max_bytes = 64 << 20,
                                   .queue_max_windows = 2,
                                   .metrics = TRUE };
}

void
gst_valley_settings_clear (GstValleySettings *settings)
{
  g_free (settings->model_path);
  g_free (settings->device);
  g_free (settings->prompt);
  g_free (settings->prompt_path);
  g_free (settings->system_prompt);
  g_free (settings->generation_config);
  g_free (settings->stream_id);
  *settings = (GstValleySettings){ 0 };
}

void
gst_valley_settings_copy (GstValleySettings *to, const GstValleySettings *from)
{
  gst_valley_settings_clear (to);
  *to = *from;
  to->model_path = g_strdup (from->model_path);
  to->device = g_strdup (from->device);
  to->prompt = g_strdup (from->prompt);
  to->prompt_path = g_strdup (from->prompt_path);
  to->system_prompt = g_strdup (from->system_prompt);
  to->generation_config = g_strdup (from->generation_config);
  to->stream_id = g_strdup (from->stream_id);
}

/* The field behind a text property, or NULL. */
static gchar **
text_field (GstValleySettings *settings, guint id)
{
  switch (id) {
  case GST_VALLEY_PROP_MODEL_PATH:
    return &settings->model_path;
  case GST_VALLEY_PROP_DEVICE:
    return &settings->device;
  case GST_VALLEY_PROP_PROMPT:
    return &settings->prompt;
  case GST_VALLEY_PROP_PROMPT_PATH:
    return &settings->prompt_path;
  case GST_VALLEY_PROP_SYSTEM_PROMPT:
    return &settings->system_prompt;
  case GST_VALLEY_PROP_GENERATION_CONFIG:
    return &settings->generation_config;
  case GST_VALLEY_PROP_STREAM_ID:
    return &settings->stream_id;
  default:
    return NULL;
  }
}

/* The same for numbers. */
static guint *
count_field (GstValleySettings *settings, guint id)
{
  switch (id) {
  case GST_VALLEY_PROP_CHUNK_DURATION:
    return &settings->chunk_duration_ms;
  case GST_VALLEY_PROP_CHUNK_OVERLAP:
    return &settings->chunk_overlap_ms;
  case GST_VALLEY_PROP_CHUNK_SIZE:
    return &settings->chunk_size;
  case GST_VALLEY_PROP_MAX_NEW_TOKENS:
    return &settings->max_new_tokens;
  case GST_VALLEY_PROP_LATENESS:
    return &settings->lateness_ms;
  case GST_VALLEY_PROP_LATENCY:
    return &settings->latency_ms;
  case GST_VALLEY_PROP_LIVE_EDGE_OFFSET:
    return &settings->live_edge_offset_ms;
  case GST_VALLEY_PROP_QUEUE_MAX_WINDOWS:
    return &settings->queue_max_windows;
  default:
    return NULL;
  }
}

gboolean
gst_valley_settings_set (GstValleySettings *settings, guint id, const GValue *value)
{
  gchar **text = text_field (settings, id);
  guint *count = count_field (settings, id);

  if (text != NULL) {
    g_free (*text);
    *text = g_value_dup_string (value);
  } else if (count != NULL) {
    *count = g_value_get_uint (value);
  } else if (id == GST_VALLEY_PROP_FRAME_RATE) {
    settings->rate_n = gst_value_get_fraction_numerator (value);
    settings->rate_d = gst_value_get_fraction_denominator (value);
  } else if (id == GST_VALLEY_PROP_PRECISION) {
    settings->precision = g_value_get_enum (value);
  } else if (id == GST_VALLEY_PROP_MARKERS) {
    settings->markers = g_value_get_enum (value);
  } else if (id == GST_VALLEY_PROP_TEXT_TIMING) {
    settings->text_timing = g_value_get_enum (value);
  } else if (id == GST_VALLEY_PROP_QUEUE_MAX_BYTES) {
    settings->queue_max_bytes = g_value_get_uint64 (value);
  } else if (id == GST_VALLEY_PROP_METRICS) {
    settings->metrics = g_value_get_boolean (value);
  } else {
    return FALSE;
  }
  return TRUE;
}

gboolean
gst_valley_settings_is_of_request (guint id)
{
  return id == GST_VALLEY_PROP_PROMPT || id == GST_VALLEY_PROP_PROMPT_PATH
         || id == GST_VALLEY_PROP_SYSTEM_PROMPT || id == GST_VALLEY_PROP_MAX_NEW_TOKENS
         || id == GST_VALLEY_PROP_GENERATION_CONFIG || id == GST_VALLEY_PROP_MARKERS;
}

gboolean
gst_valley_settings_get (const GstValleySettings *settings, guint id, GValue *value)
{
  gchar **text = text_field ((GstValleySettings *) settings, id);
  guint *count = count_field ((GstValleySettings *) settings, id);

  if (id == GST_VALLEY_PROP_PROMPT && *text == NULL && settings->prompt_path == NULL)
    g_value_set_static_string (value, DEFAULT_PROMPT);
  else if (text != NULL)
    g_value_set_string (value, *text);
  else if (count != NULL)
    g_value_set_uint (value, *count);
  else if (id == GST_VALLEY_PROP_FRAME_RATE)
    gst_value_set_fraction (value, settings->rate_n, settings->rate_d);
  else if (id == GST_VALLEY_PROP_PRECISION)
    g_value_set_enum (value, settings->precision);
  else if (id == GST_VALLEY_PROP_MARKERS)
    g_value_set_enum (value, settings->markers);
  else if (id == GST_VALLEY_PROP_TEXT_TIMING)
    g_value_set_enum (value, settings->text_timing);
  else if (id == GST_VALLEY_PROP_QUEUE_MAX_BYTES)
    g_value_set_uint64 (value, settings->queue_max_bytes);
  else if (id == GST_VALLEY_PROP_METRICS)
    g_value_set_boolean (value, settings->metrics);
  else
    return FALSE;
  return TRUE;
}

/* ---- what follows from them ---------------------------------------------- */

ValleyWindowConfig
gst_valley_settings_window_config (const GstValleySettings *settings)
{
  return (ValleyWindowConfig){ .rate_n = (guint) settings->rate_n,
                               .rate_d = (guint) settings->rate_d,
                               .duration_ns = settings->chunk_duration_ms * GST_MSECOND,
                               .overlap_ns = settings->chunk_overlap_ms * GST_MSECOND,
                               .size = settings->chunk_size };
}

static GstClockTime
window_ns (const GstValleySettings *settings)
{
  ValleyWindowConfig config = gst_valley_settings_window_config (settings);

  return valley_window_config_duration_ns (&config);
}

GstClockTime
gst_valley_settings_lateness (const GstValleySettings *settings)
{
  if (settings->lateness_ms > 0)
    return settings->lateness_ms * GST_MSECOND;
  return window_ns (settings) + 1000 * GST_MSECOND;
}

GstClockTime
gst_valley_settings_text_latency (const GstValleySettings *settings, GstClockTime frame)
{
  return window_ns (settings) + frame + settings->live_edge_offset_ms * GST_MSECOND
         + settings->latency_ms * GST_MSECOND;
}

static gchar *
read_prompt (const gchar *path, GError **error)
{
  gchar *text = NULL;
  gsize length;
  GError *reason = NULL;

  if (!g_file_get_contents (path, &text, &length, &reason)) {
    gboolean missing = g_error_matches (reason, G_FILE_ERROR, G_FILE_ERROR_NOENT);

    g_set_error (error, VALLEY_ERROR, missing ? VALLEY_ERROR_NOT_FOUND : VALLEY_ERROR_READ,
                 "prompt-path: %s", reason->message);
    g_error_free (reason);
    return NULL;
  }
  if (memchr (text, '\0', length) != NULL || !g_utf8_validate (text, (gssize) length, NULL)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "prompt-path: %s: expected UTF-8 text",
                 path);
    g_clear_pointer (&text, g_free);
    return NULL;
  }
  return g_strchomp (text); /* the newline that every editor adds is no part of the question */
}

GstValleyRequest *
gst_valley_settings_request (const GstValleySettings *settings, GError **error)
{
  g_autofree gchar *from_file = NULL;
  const gchar *prompt = settings->prompt != NULL ? settings->prompt : DEFAULT_PROMPT;
  GstValleyRequest *request;

  if (settings->prompt != NULL && settings->prompt_path != NULL) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                         "prompt and prompt-path are both set: expected one of them");
    return NULL;
  }
  if (settings->prompt_path != NULL) {
    from_file = read_prompt (settings->prompt_path, error);
    if (from_file == NULL)
      return NULL;
    prompt = from_file;
  }
  if (!g_utf8_validate (prompt, -1, NULL)
      || (settings->system_prompt != NULL
          && !g_utf8_validate (settings->system_prompt, -1, NULL))) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                         "prompt or system-prompt: expected valid UTF-8");
    return NULL;
  }
  request = gst_valley_request_new (prompt, settings->system_prompt, settings->max_new_tokens,
                                    settings->generation_config, error);
  if (request != NULL)
    request->markers = settings->markers;
  return request;
}
