/* enums.h - the element's enumerated properties.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib-object.h>

typedef enum {
  GST_VALLEY_TEXT_TIMING_AUTO,   /* window, or late in a live pipeline without `latency` */
  GST_VALLEY_TEXT_TIMING_WINDOW, /* a caption has the times of the window it describes */
  GST_VALLEY_TEXT_TIMING_LATE,   /* moved on by `lateness` */
} GstValleyTextTiming;

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
  GST_VALLEY_REDUCTION_DROP = 1 << 2
} GstValleyReduction;

#define GST_TYPE_VALLEY_REDUCTION (gst_valley_reduction_get_type ())
GType gst_valley_reduction_get_type (void);
