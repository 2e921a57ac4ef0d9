/* planes.h - where Y, U and V of a video frame lie, and what a viewer would see of them.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/video/video.h>

#include "valley.h"

/* The part of a frame that is shown, in pixels; of one field or of both. */
typedef struct {
  guint x, y, width, height;
  gint field; /* 0: the top field's lines alone, 1: the bottom field's, -1: all lines */
} GstValleyView;

/* Whether gst_valley_planes_describe knows the format. */
gboolean gst_valley_planes_readable (const GstVideoFormatInfo *format);

/* Borrows @frame's memory. */
void gst_valley_planes_describe (const GstVideoFrame *frame, const GstValleyView *view,
                                 ValleyVideo *video);
