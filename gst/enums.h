/* enums.h - the element's enumerated properties.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib-object.h>

typedef enum {
  GST_VALLEY_TEXT_TIMING_AUTO,   /* window, or late in a live pipeline without `latency` */
  GST_VALLEY_TEXT_TIMING_WINDOW, /* a caption has the times of the window it describes */
  GST_VALLEY_TEXT_TIMING_LATE,   /* moved on by `lateness` */
} GstValleyTextTiming;

typedef enum {
  GST_VALLEY_WINDOW_POLICY_AUTO, /* tumbling, or anchored where windows overlap */
  GST_VALLEY_WINDOW_POLICY_TUMBLING,
  GST_VALLEY_WINDOW_POLICY_ANCHORED,
  GST_VALLEY_WINDOW_POLICY_SLIDING,
  GST_VALLEY_WINDOW_POLICY_STREAMING,
} GstValleyWindowPolicy;

#define GST_TYPE_VALLEY_WINDOW_POLICY (gst_valley_window_policy_get_type ())
GType gst_valley_window_policy_get_type (void);
/* The property's word for a policy of the engine. */
const gchar *gst_valley_window_policy_nick (guint policy);

#define GST_TYPE_VALLEY_TEXT_TIMING (gst_valley_text_timing_get_type ())
GType gst_valley_text_timing_get_type (void);

/* ValleyMarkers of valley.h */
#define GST_TYPE_VALLEY_MARKERS (gst_valley_markers_get_type ())
GType gst_valley_markers_get_type (void);

/* ValleyPrecision of valley.h */
#define GST_TYPE_VALLEY_PRECISION (gst_valley_precision_get_type ())
GType gst_valley_precision_get_type (void);

/* What may make a window's vision tokens fewer; see ValleyReduction of valley.h */
typedef enum {
  GST_VALLEY_REDUCTION_NONE = 0,
  GST_VALLEY_REDUCTION_POOL = 1 << 0,
  GST_VALLEY_REDUCTION_EAGLE = 1 << 1,
  GST_VALLEY_REDUCTION_DROP = 1 << 2,
  GST_VALLEY_REDUCTION_CLOSE = 1 << 3
} GstValleyReduction;

#define GST_TYPE_VALLEY_REDUCTION (gst_valley_reduction_get_type ())
GType gst_valley_reduction_get_type (void);
