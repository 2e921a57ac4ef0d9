/* settings.h - the properties: their declarations (properties.c, shared by valleyinfer and
 * valleycaption) and the values behind them (settings.c).  The element guards its copy with the
 * object lock.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/gst.h>

#include "enums.h"
#include "request.h"
#include "window.h"

#define GST_VALLEY_DEFAULT_PROMPT "Describe the video."
#define GST_VALLEY_DEFAULT_REDUCTION (GST_VALLEY_REDUCTION_POOL | GST_VALLEY_REDUCTION_EAGLE)
/* About ten times what the bundled model shows on moving clips (docs/numerics.md). */
#define GST_VALLEY_DEFAULT_MAX_DRIFT 0.5
#define GST_VALLEY_DEFAULT_CACHE_BYTES (G_GUINT64_CONSTANT (8) << 30)

typedef enum {
  GST_VALLEY_PROP_0,
  GST_VALLEY_PROP_MODEL_PATH,
  GST_VALLEY_PROP_DEVICE,
  GST_VALLEY_PROP_PRECISION,
  GST_VALLEY_PROP_PROMPT,
  GST_VALLEY_PROP_PROMPT_PATH,
  GST_VALLEY_PROP_PROMPTS,
  GST_VALLEY_PROP_SYSTEM_PROMPT,
  GST_VALLEY_PROP_FRAME_RATE,
  GST_VALLEY_PROP_CHUNK_DURATION,
  GST_VALLEY_PROP_CHUNK_OVERLAP,
  GST_VALLEY_PROP_CHUNK_SIZE,
  GST_VALLEY_PROP_MAX_VISION_TOKENS,
  GST_VALLEY_PROP_REDUCTION,
  GST_VALLEY_PROP_WINDOW_POLICY,
  GST_VALLEY_PROP_CACHE_MAX_BYTES,
  GST_VALLEY_PROP_MAX_DRIFT,
  GST_VALLEY_PROP_CHANGE_THRESHOLD,
  GST_VALLEY_PROP_DRAFT,
  GST_VALLEY_PROP_MAX_NEW_TOKENS,
  GST_VALLEY_PROP_GENERATION_CONFIG,
  GST_VALLEY_PROP_MARKERS,
  GST_VALLEY_PROP_TEXT_TIMING,
  GST_VALLEY_PROP_LATENESS,
  GST_VALLEY_PROP_LATENCY,
  GST_VALLEY_PROP_LIVE_EDGE_OFFSET,
  GST_VALLEY_PROP_QUEUE_MAX_BYTES,
  GST_VALLEY_PROP_QUEUE_MAX_WINDOWS,
  GST_VALLEY_PROP_STREAM_ID,
  GST_VALLEY_PROP_METRICS,
  GST_VALLEY_PROP_MAX_OBSERVED_DELAY, /* this and the next: read-only */
  GST_VALLEY_PROP_STATS,
  GST_VALLEY_PROP_LAST
} GstValleyProp;

typedef struct {
  gchar *model_path, *device;
  ValleyPrecision precision;
  gchar *prompt, *prompt_path, *system_prompt;
  GStrv prompts; /* NULL: not set */
  gint rate_n, rate_d;
  guint chunk_duration_ms, chunk_overlap_ms, chunk_size;
  guint max_vision_tokens; /* 0: no budget */
  GstValleyReduction reduction;
  GstValleyWindowPolicy window_policy;
  guint64 cache_max_bytes;
  gdouble max_drift, change_threshold;
  gboolean draft;
  guint max_new_tokens;
  gchar *generation_config;
  ValleyMarkers markers;
  GstValleyTextTiming text_timing;
  guint lateness_ms, latency_ms, live_edge_offset_ms; /* 0: not set */
  guint64 queue_max_bytes;
  guint queue_max_windows;
  gchar *stream_id;
  gboolean metrics;
} GstValleySettings;

void gst_valley_settings_install (GObjectClass *klass);
void gst_valley_settings_init (GstValleySettings *settings);
void gst_valley_settings_clear (GstValleySettings *settings);
void gst_valley_settings_copy (GstValleySettings *to, const GstValleySettings *from);
/* FALSE: not one of the writable (readable) properties kept here. */
gboolean gst_valley_settings_set (GstValleySettings *settings, guint id, const GValue *value);
gboolean gst_valley_settings_get (const GstValleySettings *settings, guint id, GValue *value);
/* Whether a property is part of what the model is asked. */
gboolean gst_valley_settings_is_of_request (guint id);

ValleyWindowConfig gst_valley_settings_window_config (const GstValleySettings *settings);
/* How frames are reduced for windows of these settings. */
ValleyReduction gst_valley_settings_reduction (const GstValleySettings *settings);
/* What is wanted of the engine for windows of @config. */
ValleyWindowing gst_valley_settings_windowing (const GstValleySettings *settings,
                                               const ValleyWindowConfig *config);
GstClockTime gst_valley_settings_lateness (const GstValleySettings *settings);
/* The time by which captions in `window` timing come after their video in a live pipeline;
 * @frame is one frame's duration. */
GstClockTime gst_valley_settings_text_latency (const GstValleySettings *settings,
                                               GstClockTime frame);
/* Reads prompt-path if need be. */
GstValleyRequest *gst_valley_settings_request (const GstValleySettings *settings, GError **error);
