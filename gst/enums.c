/* enums.c - GTypes of the element's enumerated properties.
 * SPDX-License-Identifier: Apache-2.0 */
#include "enums.h"

#include "valley.h"

GType
gst_valley_text_timing_get_type (void)
{
  static const GEnumValue values[] = {
    { GST_VALLEY_TEXT_TIMING_AUTO, "window; in a live pipeline late, unless `latency` is set",
      "auto" },
    { GST_VALLEY_TEXT_TIMING_WINDOW,
      "a caption has the times of the window it describes (files, encoders, muxers, overlays "
      "behind a queue)",
      "window" },
    { GST_VALLEY_TEXT_TIMING_LATE,
      "moved on by `lateness` (an overlay on live video that is not delayed)", "late" },
    { 0, NULL, NULL },
  };
  static gsize type = 0;

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstValleyTextTiming", values));
  return type;
}

static const GEnumValue window_policies[] = {
  { GST_VALLEY_WINDOW_POLICY_AUTO,
    "anchored if windows overlap and there is memory for it, else tumbling", "auto" },
  { GST_VALLEY_WINDOW_POLICY_TUMBLING, "every window is computed by itself (exact; least memory)",
    "tumbling" },
  { GST_VALLEY_WINDOW_POLICY_ANCHORED,
    "the model sees a window and up to as many frames before it (exact; least computation)",
    "anchored" },
  { GST_VALLEY_WINDOW_POLICY_SLIDING,
    "the model sees the window alone, computed as its frames arrive (exact; least delay)",
    "sliding" },
  { GST_VALLEY_WINDOW_POLICY_STREAMING,
    "the model sees the window, from which old frames drop out (approximate; least memory with "
    "little computation)",
    "streaming" },
  { 0, NULL, NULL },
};

GType
gst_valley_window_policy_get_type (void)
{
  static gsize type = 0;

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstValleyWindowPolicy", window_policies));
  return type;
}

const gchar *
gst_valley_window_policy_nick (guint policy)
{
  switch ((ValleyWindowPolicy) policy) {
  case VALLEY_WINDOWS_TUMBLING:
    return window_policies[GST_VALLEY_WINDOW_POLICY_TUMBLING].value_nick;
  case VALLEY_WINDOWS_ANCHORED:
    return window_policies[GST_VALLEY_WINDOW_POLICY_ANCHORED].value_nick;
  case VALLEY_WINDOWS_SLIDING:
    return window_policies[GST_VALLEY_WINDOW_POLICY_SLIDING].value_nick;
  case VALLEY_WINDOWS_STREAMING:
    return window_policies[GST_VALLEY_WINDOW_POLICY_STREAMING].value_nick;
  }
  return NULL;
}

GType
gst_valley_markers_get_type (void)
{
  static const GEnumValue values[] = {
    { VALLEY_MARKERS_KEEP, "part of the text, as the model wrote them", "keep" },
    { VALLEY_MARKERS_STRIP, "only the answer proper is kept", "strip" },
    { VALLEY_MARKERS_SPLIT,
      "the text is the answer proper; reasoning, summary, caption and conclusion become fields "
      "of the JSON and the message",
      "split" },
    { 0, NULL, NULL },
  };
  static gsize type = 0;

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstValleyMarkers", values));
  return type;
}

GType
gst_valley_precision_get_type (void)
{
  static const GEnumValue values[] = {
    { VALLEY_PRECISION_AUTO, "bf16 where the device computes it natively, else f32", "auto" },
    { VALLEY_PRECISION_F32, "32-bit floating point", "f32" },
    { VALLEY_PRECISION_BF16, "bfloat16, with sums in f32", "bf16" },
    { VALLEY_PRECISION_F16, "16-bit floats, with sums in f32; on a GPU only", "f16" },
    { 0, NULL, NULL },
  };
  static gsize type = 0;

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstValleyPrecision", values));
  return type;
}

GType
gst_valley_reduction_get_type (void)
{
  static const GFlagsValue values[] = {
    { GST_VALLEY_REDUCTION_NONE, "every token is kept", "none" },
    { GST_VALLEY_REDUCTION_POOL, "under max-vision-tokens: means of neighbouring SigLIP tokens",
      "pool" },
    { GST_VALLEY_REDUCTION_EAGLE, "under max-vision-tokens: a smaller picture for the Eagle tower",
      "eagle" },
    { GST_VALLEY_REDUCTION_DROP,
      "always: tokens that repeat what was last shown at their place are left out", "drop" },
    { GST_VALLEY_REDUCTION_CLOSE, "with drop: the rest moves up, instead of staying where it was",
      "close" },
    { 0, NULL, NULL },
  };
  static gsize type = 0;

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_flags_register_static ("GstValleyReduction", values));
  return type;
}
