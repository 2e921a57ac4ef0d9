/* picture.h - a video frame as the model's small input pictures, the way a viewer would see it:
 * square pixels, cropped, upright.  Keeps no reference to the buffer.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/video/video.h>

#include "valley.h"

typedef struct _GstValleyPainter GstValleyPainter;

GstValleyPainter *gst_valley_painter_new (void);
void gst_valley_painter_free (GstValleyPainter *painter);

/* The stream's format and its image-orientation; either may change between frames. */
void gst_valley_painter_set_info (GstValleyPainter *painter, const GstVideoInfo *info);
void gst_valley_painter_set_orientation (GstValleyPainter *painter,
                                         GstVideoOrientationMethod orientation);

/* How the pictures' tokens are made fewer; at first not at all. */
void gst_valley_painter_set_reduction (GstValleyPainter *painter, const ValleyReduction *reduction);

/* The size a viewer would see @buffer in: crop, pixel aspect and rotation applied. */
void gst_valley_painter_display_size (GstValleyPainter *painter, GstBuffer *buffer, guint *width,
                                      guint *height);

ValleyPicture *gst_valley_painter_paint (GstValleyPainter *painter, ValleyModel *model,
                                         GstBuffer *buffer, guint64 pts, GError **error);
