/* settings.c - the values of the properties, and what follows from them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include <string.h>

/* ---- values -------------------------------------------------------------- */

void
gst_valley_settings_init (GstValleySettings *settings)
{
  *settings = (GstValleySettings){ .device = g_strdup ("auto"),
                                   .rate_n = 2,
                                   .rate_d = 1,
                                   .chunk_duration_ms = 2000,
                                   .reduction = GST_VALLEY_DEFAULT_REDUCTION,
                                   .cache_max_bytes = GST_VALLEY_DEFAULT_CACHE_BYTES,
                                   .max_drift = GST_VALLEY_DEFAULT_MAX_DRIFT,
                                   .draft = TRUE,
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
  g_strfreev (settings->prompts);
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
  to->prompts = g_strdupv (from->prompts);
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
  case GST_VALLEY_PROP_MAX_VISION_TOKENS:
    return &settings->max_vision_tokens;
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

/* What is not a string becomes "", which is no question and is refused as such. */
static GStrv
dup_prompts (const GValue *value)
{
  guint n = gst_value_array_get_size (value);
  GStrv prompts = n > 0 ? g_new0 (gchar *, n + 1) : NULL;

  for (guint i = 0; i < n; i++) {
    const GValue *item = gst_value_array_get_value (value, i);
    const gchar *text = G_VALUE_HOLDS_STRING (item) ? g_value_get_string (item) : NULL;

    prompts[i] = g_strdup (text != NULL ? text : "");
  }
  return prompts;
}

static void
get_prompts (const GstValleySettings *settings, GValue *value)
{
  for (guint i = 0; settings->prompts != NULL && settings->prompts[i] != NULL; i++) {
    GValue item = G_VALUE_INIT;

    g_value_init (&item, G_TYPE_STRING);
    g_value_set_string (&item, settings->prompts[i]);
    gst_value_array_append_and_take_value (value, &item);
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
  } else if (id == GST_VALLEY_PROP_PROMPTS) {
    g_strfreev (settings->prompts);
    settings->prompts = dup_prompts (value);
  } else if (id == GST_VALLEY_PROP_FRAME_RATE) {
    settings->rate_n = gst_value_get_fraction_numerator (value);
    settings->rate_d = gst_value_get_fraction_denominator (value);
  } else if (id == GST_VALLEY_PROP_PRECISION) {
    settings->precision = g_value_get_enum (value);
  } else if (id == GST_VALLEY_PROP_REDUCTION) {
    settings->reduction = g_value_get_flags (value);
  } else if (id == GST_VALLEY_PROP_MARKERS) {
    settings->markers = g_value_get_enum (value);
  } else if (id == GST_VALLEY_PROP_TEXT_TIMING) {
    settings->text_timing = g_value_get_enum (value);
  } else if (id == GST_VALLEY_PROP_QUEUE_MAX_BYTES) {
    settings->queue_max_bytes = g_value_get_uint64 (value);
  } else if (id == GST_VALLEY_PROP_METRICS) {
    settings->metrics = g_value_get_boolean (value);
  } else if (id == GST_VALLEY_PROP_WINDOW_POLICY) {
    settings->window_policy = g_value_get_enum (value);
  } else if (id == GST_VALLEY_PROP_CACHE_MAX_BYTES) {
    settings->cache_max_bytes = g_value_get_uint64 (value);
  } else if (id == GST_VALLEY_PROP_MAX_DRIFT) {
    settings->max_drift = g_value_get_double (value);
  } else if (id == GST_VALLEY_PROP_CHANGE_THRESHOLD) {
    settings->change_threshold = g_value_get_double (value);
  } else if (id == GST_VALLEY_PROP_DRAFT) {
    settings->draft = g_value_get_boolean (value);
  } else {
    return FALSE;
  }
  return TRUE;
}

gboolean
gst_valley_settings_is_of_request (guint id)
{
  return id == GST_VALLEY_PROP_PROMPT || id == GST_VALLEY_PROP_PROMPT_PATH
         || id == GST_VALLEY_PROP_PROMPTS || id == GST_VALLEY_PROP_SYSTEM_PROMPT
         || id == GST_VALLEY_PROP_MAX_NEW_TOKENS || id == GST_VALLEY_PROP_GENERATION_CONFIG
         || id == GST_VALLEY_PROP_MARKERS || id == GST_VALLEY_PROP_DRAFT;
}

gboolean
gst_valley_settings_get (const GstValleySettings *settings, guint id, GValue *value)
{
  gchar **text = text_field ((GstValleySettings *) settings, id);
  guint *count = count_field ((GstValleySettings *) settings, id);

  if (id == GST_VALLEY_PROP_PROMPT && *text == NULL && settings->prompt_path == NULL
      && settings->prompts == NULL)
    g_value_set_static_string (value, GST_VALLEY_DEFAULT_PROMPT);
  else if (text != NULL)
    g_value_set_string (value, *text);
  else if (count != NULL)
    g_value_set_uint (value, *count);
  else if (id == GST_VALLEY_PROP_PROMPTS)
    get_prompts (settings, value);
  else if (id == GST_VALLEY_PROP_FRAME_RATE)
    gst_value_set_fraction (value, settings->rate_n, settings->rate_d);
  else if (id == GST_VALLEY_PROP_PRECISION)
    g_value_set_enum (value, settings->precision);
  else if (id == GST_VALLEY_PROP_REDUCTION)
    g_value_set_flags (value, settings->reduction);
  else if (id == GST_VALLEY_PROP_MARKERS)
    g_value_set_enum (value, settings->markers);
  else if (id == GST_VALLEY_PROP_TEXT_TIMING)
    g_value_set_enum (value, settings->text_timing);
  else if (id == GST_VALLEY_PROP_QUEUE_MAX_BYTES)
    g_value_set_uint64 (value, settings->queue_max_bytes);
  else if (id == GST_VALLEY_PROP_METRICS)
    g_value_set_boolean (value, settings->metrics);
  else if (id == GST_VALLEY_PROP_WINDOW_POLICY)
    g_value_set_enum (value, settings->window_policy);
  else if (id == GST_VALLEY_PROP_CACHE_MAX_BYTES)
    g_value_set_uint64 (value, settings->cache_max_bytes);
  else if (id == GST_VALLEY_PROP_MAX_DRIFT)
    g_value_set_double (value, settings->max_drift);
  else if (id == GST_VALLEY_PROP_CHANGE_THRESHOLD)
    g_value_set_double (value, settings->change_threshold);
  else if (id == GST_VALLEY_PROP_DRAFT)
    g_value_set_boolean (value, settings->draft);
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

static ValleyWindowPolicy
policy_of (const GstValleySettings *settings, gboolean overlap)
{
  switch (settings->window_policy) {
  case GST_VALLEY_WINDOW_POLICY_TUMBLING:
    return VALLEY_WINDOWS_TUMBLING;
  case GST_VALLEY_WINDOW_POLICY_ANCHORED:
    return VALLEY_WINDOWS_ANCHORED;
  case GST_VALLEY_WINDOW_POLICY_SLIDING:
    return VALLEY_WINDOWS_SLIDING;
  case GST_VALLEY_WINDOW_POLICY_STREAMING:
    return VALLEY_WINDOWS_STREAMING;
  case GST_VALLEY_WINDOW_POLICY_AUTO:
    break;
  }
  return overlap ? VALLEY_WINDOWS_ANCHORED : VALLEY_WINDOWS_TUMBLING;
}

ValleyWindowing
gst_valley_settings_windowing (const GstValleySettings *settings, const ValleyWindowConfig *config)
{
  gboolean overlap
      = valley_window_config_hop_ns (config) < valley_window_config_duration_ns (config);
  ValleyWindowing windowing = { .policy = policy_of (settings, overlap),
                                .cache_max_bytes = settings->cache_max_bytes,
                                .max_drift = settings->max_drift };

  valley_window_config_frames (config, &windowing.window_frames, &windowing.hop_frames);
  return windowing;
}

ValleyReduction
gst_valley_settings_reduction (const GstValleySettings *settings)
{
  ValleyWindowConfig config = gst_valley_settings_window_config (settings);
  ValleyWindowing windowing = gst_valley_settings_windowing (settings, &config);
  guint frames = windowing.window_frames;

  /* The most that an answer can be about, whatever there is now, and after falling back from an
   * approximate policy: a frame's tokens never change. */
  if (windowing.policy == VALLEY_WINDOWS_ANCHORED
      || (windowing.policy == VALLEY_WINDOWS_STREAMING && windowing.max_drift > 0))
    frames = frames > G_MAXUINT / 2 ? G_MAXUINT : 2 * frames;
  return (ValleyReduction){ .max_vision_tokens = settings->max_vision_tokens,
                            .max_frames = frames,
                            .pool = (settings->reduction & GST_VALLEY_REDUCTION_POOL) != 0,
                            .eagle = (settings->reduction & GST_VALLEY_REDUCTION_EAGLE) != 0,
                            .drop = (settings->reduction & GST_VALLEY_REDUCTION_DROP) != 0,
                            .close = (settings->reduction & GST_VALLEY_REDUCTION_CLOSE) != 0 };
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

/* Everything that can be wrong with what is asked, except the file's contents. */
static gboolean
check_texts (const GstValleySettings *settings, GError **error)
{
  guint n_ways
      = (settings->prompt != NULL) + (settings->prompt_path != NULL) + (settings->prompts != NULL);
  const gchar *system = settings->system_prompt;

  if (n_ways > 1) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "%s and %s are both set: expected one of prompt, prompt-path and prompts",
                 settings->prompt != NULL ? "prompt" : "prompt-path",
                 settings->prompts != NULL ? "prompts" : "prompt-path");
    return FALSE;
  }
  for (guint i = 0; settings->prompts != NULL && settings->prompts[i] != NULL; i++)
    if (*settings->prompts[i] == '\0' || !g_utf8_validate (settings->prompts[i], -1, NULL)) {
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                   "prompts: entry %u: expected a question in UTF-8", i);
      return FALSE;
    }
  if ((settings->prompt != NULL && !g_utf8_validate (settings->prompt, -1, NULL))
      || (system != NULL && !g_utf8_validate (system, -1, NULL))) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                         "prompt or system-prompt: expected valid UTF-8");
    return FALSE;
  }
  /* It stands before the frames: what changes with every window would cost all of them. */
  if (system != NULL && gst_valley_has_placeholder (system)) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                         "system-prompt: expected no placeholder such as {start}: they belong "
                         "in prompt");
    return FALSE;
  }
  return TRUE;
}

GstValleyRequest *
gst_valley_settings_request (const GstValleySettings *settings, GError **error)
{
  g_autofree gchar *from_file = NULL;
  const gchar *lone[]
      = { settings->prompt != NULL ? settings->prompt : GST_VALLEY_DEFAULT_PROMPT, NULL };
  const gchar *const *prompts
      = settings->prompts != NULL ? (const gchar *const *) settings->prompts : lone;
  GstValleyRequest *request;

  if (!check_texts (settings, error))
    return NULL;
  if (settings->prompt_path != NULL) {
    from_file = read_prompt (settings->prompt_path, error);
    if (from_file == NULL)
      return NULL;
    lone[0] = from_file;
  }
  request = gst_valley_request_new (prompts, settings->system_prompt, settings->max_new_tokens,
                                    settings->generation_config, error);
  if (request != NULL) {
    request->listed = settings->prompts != NULL;
    request->markers = settings->markers;
    request->draft = settings->draft;
  }
  return request;
}
