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
  g_mutex_init (&cuda->lock);
  cuda->context = NULL;
  cuda->device = -1;
}

/* Pipelines, their bins and neighbours go on offering what they once had. */
static GQuark
lost_quark (void)
{
  return g_quark_from_static_string ("valley-cuda-context-lost");
}

static gboolean
is_lost (gpointer context)
{
  return g_object_get_qdata (context, lost_quark ()) != NULL;
}

/* @device: which one's contexts are of use from now on.  Another one's is let go, which may be its
 * end, as is one that failed. */
static void
set_device (GstValleyCuda *cuda, gint device)
{
  g_autoptr (GObject) other = NULL;

  g_mutex_lock (&cuda->lock);
  if (cuda->device != device || (cuda->context != NULL && is_lost (cuda->context)))
    other = g_steal_pointer (&cuda->context);
  cuda->device = device;
  g_mutex_unlock (&cuda->lock);
}

void
gst_valley_cuda_close (GstValleyCuda *cuda)
{
  set_device (cuda, -1);
}

void
gst_valley_cuda_clear (GstValleyCuda *cuda)
{
  gst_valley_cuda_close (cuda);
  g_mutex_clear (&cuda->lock);
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

void
gst_valley_cuda_lose (GstValleyCuda *cuda, gpointer handle)
{
  g_autoptr (GObject) lost = NULL;

  g_mutex_lock (&cuda->lock);
  if (cuda->context != NULL
      && gst_cuda_context_get_handle ((GstCudaContext *) cuda->context) == handle)
    lost = g_steal_pointer (&cuda->context);
  g_mutex_unlock (&cuda->lock);
  if (lost != NULL)
    g_object_set_qdata (lost, lost_quark (), GINT_TO_POINTER (TRUE));
}

/* ---- finding one ---- */

static gpointer
ref_context (GstValleyCuda *cuda)
{
  gpointer context;

  g_mutex_lock (&cuda->lock);
  context = cuda->context != NULL ? g_object_ref (cuda->context) : NULL;
  g_mutex_unlock (&cuda->lock);
  return context;
}

/* One that is in use stays. */
static gboolean
take_context (GstValleyCuda *cuda, GstElement *element, GstContext *context)
{
  GstCudaContext *offered = NULL;
  gboolean have;

  g_mutex_lock (&cuda->lock);
  if (context != NULL && cuda->context == NULL && cuda->device >= 0)
    gst_cuda_handle_set_context (element, context, cuda->device, &offered);
  if (offered != NULL && !is_lost (offered))
    cuda->context = G_OBJECT (g_steal_pointer (&offered));
  have = cuda->context != NULL;
  g_mutex_unlock (&cuda->lock);
  gst_clear_object (&offered);
  return have;
}

static gboolean
ask_neighbour (GstValleyCuda *cuda, GstElement *element, const gchar *pad_name)
{
  g_autoptr (GstPad) pad = gst_element_get_static_pad (element, pad_name);
  g_autoptr (GstQuery) query = gst_query_new_context (GST_CUDA_CONTEXT_TYPE);
  GstContext *context = NULL;

  if (gst_pad_peer_query (pad, query))
    gst_query_parse_context (query, &context);
  return take_context (cuda, element, context);
}

/* In the order of GstContext's documentation: what was set, neighbours, the bus. */
static gboolean
look_for_context (GstValleyCuda *cuda, GstElement *element)
{
  g_autoptr (GstContext) set = gst_element_get_context (element, GST_CUDA_CONTEXT_TYPE);

  if (take_context (cuda, element, set) || ask_neighbour (cuda, element, "src")
      || ask_neighbour (cuda, element, "sink"))
    return TRUE;
  gst_element_post_message (
      element, gst_message_new_need_context (GST_OBJECT (element), GST_CUDA_CONTEXT_TYPE));
  return take_context (cuda, element, NULL);
}

/* ---- making one ---- */

/* The context that an element of this process made last for a device.  Pipelines that bring none
 * along share it, and with it one model. */
static GMutex made_lock;
static GWeakRef made;
static gint made_device;

static GstCudaContext *
share_made (gint device)
{
  gpointer context;

  g_mutex_lock (&made_lock);
  context = made_device == device ? g_weak_ref_get (&made) : NULL;
  if (context != NULL && is_lost (context))
    g_clear_object (&context);
  if (context == NULL) {
    context = gst_cuda_context_new ((guint) device);
    g_weak_ref_set (&made, context);
    made_device = device;
  }
  g_mutex_unlock (&made_lock);
  return context;
}

/* The pipeline is told, for elements that come later, as decoders do; and the element itself, so
 * that neither goes on holding one that failed, and its memory. */
static void
make_context (GstValleyCuda *cuda, GstElement *element, gint device)
{
  GstCudaContext *shared = share_made (device);
  GstContext *context;

  if (shared == NULL)
    return;
  context = gst_context_new_cuda_context (shared);
  gst_object_unref (shared);
  gst_element_set_context (element, context);
  gst_element_post_message (element, gst_message_new_have_context (GST_OBJECT (element), context));
}

gpointer
gst_valley_cuda_open (GstValleyCuda *cuda, GstElement *element, const gchar *device,
                      GObject **owner)
{
  gint number = device_number (device);

  *owner = NULL;
  if (number < 0 || !gst_cuda_load_library ())
    return NULL;
  set_device (cuda, number);
  if (!take_context (cuda, element, NULL) && !look_for_context (cuda, element))
    make_context (cuda, element, number);
  *owner = ref_context (cuda);
  return *owner != NULL ? gst_cuda_context_get_handle ((GstCudaContext *) *owner) : NULL;
}

/* ---- being asked ---- */

void
gst_valley_cuda_set_context (GstValleyCuda *cuda, GstElement *element, GstContext *context)
{
  take_context (cuda, element, context);
}

gboolean
gst_valley_cuda_query (GstValleyCuda *cuda, GstElement *element, GstQuery *query)
{
  g_autoptr (GObject) context = ref_context (cuda);

  return context != NULL && !is_lost (context)
         && gst_cuda_handle_context_query (element, query, (GstCudaContext *) context);
}

/* ---- frames ---- */

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
gst_valley_cuda_open (GstValleyCuda *cuda, GstElement *element, const gchar *device,
                      GObject **owner)
{
  *owner = NULL;
  return NULL;
}

void
gst_valley_cuda_lose (GstValleyCuda *cuda, gpointer handle)
{
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
