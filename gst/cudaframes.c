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

/* The context that an element of this process made last for a device.  Pipelines that bring none
 * along share it, and with it one model. */
static GMutex made_lock;
static GWeakRef made;
static gint made_device;

/* One that is in use stays. */
static void
take_context (GstValleyCuda *cuda, GstElement *element, GstContext *context)
{
  if (context != NULL && cuda->context == NULL && cuda->device >= 0)
    gst_cuda_handle_set_context (element, context, cuda->device,
                                 (GstCudaContext **) &cuda->context);
}

static void
ask_neighbour (GstValleyCuda *cuda, GstElement *element, const gchar *pad_name)
{
  g_autoptr (GstPad) pad = gst_element_get_static_pad (element, pad_name);
  g_autoptr (GstQuery) query = gst_query_new_context (GST_CUDA_CONTEXT_TYPE);
  GstContext *context = NULL;

  if (cuda->context == NULL && gst_pad_peer_query (pad, query)) {
    gst_query_parse_context (query, &context);
    take_context (cuda, element, context);
  }
}

/* In the order of GstContext's documentation: what was set, neighbours, the bus. */
static void
look_for_context (GstValleyCuda *cuda, GstElement *element)
{
  g_autoptr (GstContext) set = gst_element_get_context (element, GST_CUDA_CONTEXT_TYPE);

  take_context (cuda, element, set);
  ask_neighbour (cuda, element, "src");
  ask_neighbour (cuda, element, "sink");
  if (cuda->context == NULL)
    gst_element_post_message (
        element, gst_message_new_need_context (GST_OBJECT (element), GST_CUDA_CONTEXT_TYPE));
}

/* For the pipeline's elements that come later, as decoders do. */
static void
announce_context (GstElement *element, GstCudaContext *context)
{
  gst_element_post_message (
      element,
      gst_message_new_have_context (GST_OBJECT (element), gst_context_new_cuda_context (context)));
}

static void
make_context (GstValleyCuda *cuda, GstElement *element)
{
  g_mutex_lock (&made_lock);
  cuda->context = made_device == cuda->device ? g_weak_ref_get (&made) : NULL;
  if (cuda->context == NULL) {
    cuda->context = G_OBJECT (gst_cuda_context_new ((guint) cuda->device));
    g_weak_ref_set (&made, cuda->context);
    made_device = cuda->device;
  }
  g_mutex_unlock (&made_lock);
  if (cuda->context != NULL)
    announce_context (element, (GstCudaContext *) cuda->context);
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
  if (cuda->context == NULL)
    look_for_context (cuda, element);
  if (cuda->context == NULL)
    make_context (cuda, element);
  if (cuda->context != NULL)
    handle = gst_cuda_context_get_handle ((GstCudaContext *) cuda->context);
  g_rec_mutex_unlock (&cuda->lock);
  return handle;
}

void
gst_valley_cuda_set_context (GstValleyCuda *cuda, GstElement *element, GstContext *context)
{
  g_rec_mutex_lock (&cuda->lock);
  take_context (cuda, element, context);
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
