/* cudaframes.h - frames in CUDA memory, as GStreamer's CUDA library has them: the context they
 * belong to, found and shared the way that library's elements do, and their addresses.  In a build
 * without the library there are none.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/video/video.h>

/* One element's context.  Any thread may ask for it. */
typedef struct {
  GMutex lock;      /* of what follows; not held while neighbours or the bus are asked or told */
  GObject *context; /* a GstCudaContext, or NULL */
  gint device;      /* which device's contexts are of use; -1: none are */
} GstValleyCuda;

void gst_valley_cuda_init (GstValleyCuda *cuda);
void gst_valley_cuda_clear (GstValleyCuda *cuda);

/* The context of @device ("cuda:N"), from a neighbour, the application or made here: a CUcontext,
 * and in @owner a reference to what it lives as long as; NULL where there is none. */
gpointer gst_valley_cuda_open (GstValleyCuda *cuda, GstElement *element, const gchar *device,
                               GObject **owner);
void gst_valley_cuda_close (GstValleyCuda *cuda);
/* The CUcontext @handle, NULL or what open returned, failed for good: no element takes it again. */
void gst_valley_cuda_lose (GstValleyCuda *cuda, gpointer handle);

/* The element's set_context, and its pads' context query (TRUE: answered). */
void gst_valley_cuda_set_context (GstValleyCuda *cuda, GstElement *element, GstContext *context);
gboolean gst_valley_cuda_query (GstValleyCuda *cuda, GstElement *element, GstQuery *query);

/* The CUcontext that the frame's memory belongs to; NULL: it is in the host's memory. */
gpointer gst_valley_cuda_frame_context (GstBuffer *buffer);
/* Maps a frame in CUDA memory where it lies: its data are addresses on the device, which are
 * written by the time this returns. */
gboolean gst_valley_cuda_map (GstVideoFrame *frame, const GstVideoInfo *info, GstBuffer *buffer);
