/* cudaframes.c - see cudaframes.h.  The only file that knows GStreamer's CUDA library.
 * SPDX-License-Identifier: Apache-2.0 */
#include "cudaframes.h"

#ifdef HAVE_GST_CUDA
#define GST_USE_UNSTABLE_API
#include <gst/cuda/gstcudacontext.h>
#include <gst/cuda/gstcudamemory.h>
#include <gst/cuda/gstcudautils.h>
#endif

void
gst_valley_cuda_init (GstValleyCuda *cuda)
{
  g_rec_mutex_init (&cuda->lock);
  cuda->context = NULL;
  cuda->device = -1;
}

void
gst_valley_cuda_close (GstValleyCuda *cuda)
{
  g_rec_mutex_lock (&cuda->lock);
  g_clear_object (&cuda->context);
  cuda->device = -1;
  g_rec_mutex_unlock (&cuda->lock);
}

void
gst_valley_cuda_clear (GstValleyCuda *cuda)
{
  gst_valley_cuda_close (cuda);
  g_rec_mutex_clear (&cuda->lock);
}

#ifdef HAVE_GST_CUDA
static gint
device_number (const gchar *device)
{
  guint64 number = 0;

  if (g_str_has_prefix (device, "cuda:")
      && g_ascii_string_to_unsigned (device + 5, 10, 0, G_MAXINT, &number, NULL))
    return (gint) number;
  return -1;
}

gpointer
gst_valley_cuda_open (GstValleyCuda *cuda, GstElement *element, const gchar *device)
{
  gint number = device_number (device);
  gpointer handle = NULL;

  if (number < 0 || !gst_cuda_load_library ())
    return NULL;
  g_rec_mutex_lock (&cuda->lock);
  if (cuda->device != number)
    g_clear_object (&cuda->context);
  cuda->device = number;
  /* it may come through set_context, too, from this very call */
  if (gst_cuda_ensure_element_context (element, number, (GstCudaContext **) &cuda->context))
    handle = gst_cuda_context_get_handle ((GstCudaContext *) cuda->context);
  g_rec_mutex_unlock (&cuda->lock);
  return handle;
}

void
gst_valley_cuda_set_context (GstValleyCuda *cuda, GstElement *element, GstContext *context)
{
  g_rec_mutex_lock (&cuda->lock);
  if (cuda->device >= 0)
    gst_cuda_handle_set_context (element, context, cuda->device,
                                 (GstCudaContext **) &cuda->context);
  g_rec_mutex_unlock (&cuda->lock);
}

gboolean
gst_valley_cuda_query (GstValleyCuda *cuda, GstElement *element, GstQuery *query)
{
  gboolean answered;

  g_rec_mutex_lock (&cuda->lock);
  answered = cuda->context != NULL
             && gst_cuda_handle_context_query (element, query, (GstCudaContext *) cuda->context);
  g_rec_mutex_unlock (&cuda->lock);
  return answered;
}

gpointer
gst_valley_cuda_frame_context (GstBuffer *buffer)
{
  GstMemory *memory = gst_buffer_n_memory (buffer) == 1 ? gst_buffer_peek_memory (buffer, 0) : NULL;

  if (memory == NULL || !gst_is_cuda_memory (memory))
    return NULL;
  return gst_cuda_context_get_handle (GST_CUDA_MEMORY_CAST (memory)->context);
}

gboolean
gst_valley_cuda_map (GstVideoFrame *frame, const GstVideoInfo *info, GstBuffer *buffer)
{
  if (!gst_video_frame_map (frame, info, buffer, (GstMapFlags) (GST_MAP_READ | GST_MAP_CUDA)))
    return FALSE;
#ifdef HAVE_GST_CUDA_MEMORY_SYNC
  /* Since 1.24 elements may leave their work on a stream that comes with the memory. */
  gst_cuda_memory_sync (GST_CUDA_MEMORY_CAST (gst_buffer_peek_memory (buffer, 0)));
#endif
  return TRUE;
}

#else /* none of it is there */

gpointer
gst_valley_cuda_open (GstValleyCuda *cuda, GstElement *element, const gchar *device)
{
  return NULL;
}

void
gst_valley_cuda_set_context (GstValleyCuda *cuda, GstElement *element, GstContext *context)
{
}

gboolean
gst_valley_cuda_query (GstValleyCuda *cuda, GstElement *element, GstQuery *query)
{
  return FALSE;
}

gpointer
gst_valley_cuda_frame_context (GstBuffer *buffer)
{
  return NULL;
}

gboolean
gst_valley_cuda_map (GstVideoFrame *frame, const GstVideoInfo *info, GstBuffer *buffer)
{
  return FALSE;
}
#endif
