/* properties.c - the properties' declarations, shared by valleyinfer and valleycaption.
 * SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#define RW (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING)
#define RW_READY (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY)
#define RO (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)

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
                                                        "Where the model runs: cpu, cuda, cuda:N, "
                                                        "or auto (the first GPU, else the CPU)",
                                                        "auto", RW_READY));
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
                           GST_VALLEY_DEFAULT_PROMPT, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_PROMPT_PATH,
      g_param_spec_string ("prompt-path", "Prompt path",
                           "File that holds the prompt, instead of `prompt`; setting both is "
                           "an error",
                           NULL, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_PROMPTS,
      gst_param_spec_array ("prompts", "Prompts",
                            "Several questions about every window, instead of `prompt`; each has "
                            "a result of its own, whose prompt_id is its place in this list",
                            g_param_spec_string ("prompt", "Prompt", "One question", NULL, RW),
                            RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_SYSTEM_PROMPT,
      g_param_spec_string ("system-prompt", "System prompt",
                           "The conversation's system message (NULL: the model's own); it "
                           "stands before the frames, so it takes no placeholders",
                           NULL, RW));
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
install_reduction (GObjectClass *klass)
{
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_MAX_VISION_TOKENS,
      g_param_spec_uint ("max-vision-tokens", "Max vision tokens",
                         "Budget of a window's vision tokens, shared out evenly among the most "
                         "frames it can have; `reduction` says how it is met (0: no budget)",
                         0, G_MAXINT, 0, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_REDUCTION,
      g_param_spec_flags ("reduction", "Reduction", "What may make a window's vision tokens fewer",
                          GST_TYPE_VALLEY_REDUCTION, GST_VALLEY_DEFAULT_REDUCTION, RW));
}

static void
install_sharing (GObjectClass *klass)
{
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_WINDOW_POLICY,
      g_param_spec_enum ("window-policy", "Window policy",
                         "How consecutive windows share what was computed",
                         GST_TYPE_VALLEY_WINDOW_POLICY, GST_VALLEY_WINDOW_POLICY_AUTO, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_CACHE_MAX_BYTES,
      g_param_spec_uint64 ("cache-max-bytes", "Cache max bytes",
                           "Most memory for what windows share: keys and values of the language "
                           "model, and encoded frames (0: what there is); what does not fit is "
                           "computed again",
                           0, G_MAXINT64, GST_VALLEY_DEFAULT_CACHE_BYTES, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_MAX_DRIFT,
      g_param_spec_double ("max-drift", "Max drift",
                           "With window-policy=streaming: mean KL divergence from the exact "
                           "answers' first token, in nats, above which an exact policy takes over "
                           "(0: never)",
                           0, G_MAXDOUBLE, GST_VALLEY_DEFAULT_MAX_DRIFT, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_CHANGE_THRESHOLD,
      g_param_spec_double ("change-threshold", "Change threshold",
                           "A frame that differs from the last changed one by at most this much "
                           "counts as that one (mean absolute difference, black to white is 1; "
                           "0: only equal frames do)",
                           0, 1, 0, RW));
  g_object_class_install_property (
      klass, GST_VALLEY_PROP_DRAFT,
      g_param_spec_boolean ("draft", "Draft",
                            "Whether the last window's answer is tried first, which saves time "
                            "where it still holds and never changes an answer",
                            TRUE, RW));
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
                          "windows (answered), failed, dropped, queued-windows, queued-bytes, "
                          "loaded; what window-policy is in effect, how much it computed and "
                          "shared, its memory and drift",
                          GST_TYPE_STRUCTURE, RO));
}

void
gst_valley_settings_install (GObjectClass *klass)
{
  install_model (klass);
  install_prompt (klass);
  install_windows (klass);
  install_reduction (klass);
  install_sharing (klass);
  install_timing (klass);
  install_queue (klass);
  install_reports (klass);
}
