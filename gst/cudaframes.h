/* cudaframes.h - frames in CUDA memory, as GStreamer's CUDA library has them: the context they
 * belong to, found and shared the way that library's elements do, and their addresses.  In a build
 * without the library there are none.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/video/video.h>

/* One element's context.  Any thread may ask for it. */
typedef struct {
  GRecMutex lock;   /* of what follows: asking neighbours may lead back here */
  GObject *context; /* a GstCudaContext, or NULL */
  gint device;      /* which device's contexts are of use; -1: none are */
} GstValleyCuda;

void gst_valley_cuda_init (GstValleyCuda *cuda);
void gst_valley_cuda_clear (GstValleyCuda *cuda);

/* The context of @device ("cuda:N"), from a neighbour, the application or made here: a CUcontext,
 * which lives until close; NULL where there is none. */
gpointer gst_valley_cuda_open (GstValleyCuda *cuda, GstElement *element, const gchar *device);
void gst_valley_cuda_close (GstValleyCuda *cuda);

/* The element's set_context, and its pads' context query (TRUE: answered). */
void gst_valley_cuda_set_context (GstValleyCuda *cuda, GstElement *element, GstContext *context);
gboolean gst_valley_cuda_query (GstValleyCuda *cuda, GstElement *element, GstQuery *query);

/* The CUcontext that the frame's memory belongs to; NULL: it is in the host's memory. */
gpointer gst_valley_cuda_frame_context (GstBuffer *buffer);
/* Maps a frame in CUDA memory where it lies: its data are addresses on the device, which are
 * written by the time this returns. */
gboolean gst_valley_cuda_map (GstVideoFrame *frame, const GstVideoInfo *info, GstBuffer *buffer);
