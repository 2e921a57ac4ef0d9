/* pads.c - the source pads: what downstream asks of them, and those that come on request.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#include <string.h>

#define GST_CAT_DEFAULT gst_valley_infer_debug

/* ---- source pads --------------------------------------------------------- */

/* An application's seek comes once through every sink; upstream is to see it once. */
static gboolean
forward_seek (GstValleyInfer *self, GstEvent *event)
{
  guint32 seqnum = gst_event_get_seqnum (event);
  gboolean repeated, result;

  GST_OBJECT_LOCK (self);
  repeated = seqnum == self->seek_seqnum;
  result = self->seek_result;
  if (!repeated) {
    self->seek_seqnum = seqnum;
    self->seek_result = TRUE; /* what repeats hear while this one is on its way */
  }
  GST_OBJECT_UNLOCK (self);
  if (repeated) {
    gst_event_unref (event);
    return result;
  }
  result = gst_pad_push_event (self->sink, event);
  GST_OBJECT_LOCK (self);
  if (self->seek_seqnum == seqnum)
    self->seek_result = result;
  GST_OBJECT_UNLOCK (self);
  return result;
}

static gboolean
forward_latency (GstValleyInfer *self, GstEvent *event)
{
  GstClockTime latency;
  gboolean live;

  gst_event_parse_latency (event, &latency);
  GST_OBJECT_LOCK (self);
  self->pipeline_latency = latency;
  GST_OBJECT_UNLOCK (self);
  /* It is sent because some element's latency changed: maybe one upstream. */
  gst_valley_infer_ask_latency (self, &live, &latency);
  g_mutex_lock (&self->lock);
  self->upstream_latency = latency;
  g_mutex_unlock (&self->lock);
  return gst_pad_push_event (self->sink, event);
}

gboolean
gst_valley_infer_src_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_SEEK:
    return forward_seek (GST_VALLEY_INFER (parent), event);
  case GST_EVENT_LATENCY:
    return forward_latency (GST_VALLEY_INFER (parent), event);
  default:
    return gst_pad_event_default (pad, parent, event);
  }
}

/* A neighbour's question for a CUDA context is for whoever has one. */
gboolean
gst_valley_infer_src_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  GstValleyInfer *self = GST_VALLEY_INFER (parent);

  return (GST_QUERY_TYPE (query) == GST_QUERY_CONTEXT
          && gst_valley_cuda_query (&self->cuda, GST_ELEMENT (self), query))
         || gst_pad_query_default (pad, parent, query);
}

static gboolean
text_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_SEEK:
    return forward_seek (GST_VALLEY_INFER (parent), event);
  case GST_EVENT_LATENCY:
    return forward_latency (GST_VALLEY_INFER (parent), event);
  case GST_EVENT_RECONFIGURE:
    gst_valley_text_pad_repeat_gap (GST_VALLEY_TEXT_PAD (pad));
    break;
  default:
    break; /* QoS and navigation of a text are nothing to the video's source */
  }
  gst_event_unref (event);
  return TRUE;
}

/* Captions in `window` timing come later than their video. */
static void
add_text_latency (GstValleyInfer *self, GstValleyTextPad *pad, GstQuery *query)
{
  GstValleyTextTiming timing = gst_valley_text_pad_timing (pad);
  GstClockTime min, max, more;
  gboolean live;

  gst_query_parse_latency (query, &live, &min, &max);
  GST_OBJECT_LOCK (self);
  if (timing == GST_VALLEY_TEXT_TIMING_AUTO)
    timing = self->settings.text_timing;
  more = gst_valley_settings_text_latency (&self->settings, self->frame_duration);
  if (!live || self->settings.latency_ms == 0 || timing == GST_VALLEY_TEXT_TIMING_LATE
      || gst_valley_text_pad_is_json (pad))
    more = 0;
  GST_OBJECT_UNLOCK (self);
  if (GST_CLOCK_TIME_IS_VALID (max))
    max += more;
  gst_query_set_latency (query, live, min + more, max);
}

static gboolean
text_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  GstValleyInfer *self = GST_VALLEY_INFER (parent);

  switch (GST_QUERY_TYPE (query)) {
  case GST_QUERY_LATENCY:
    if (!gst_pad_peer_query (self->sink, query))
      return FALSE;
    add_text_latency (self, GST_VALLEY_TEXT_PAD (pad), query);
    return TRUE;
  case GST_QUERY_POSITION:
  case GST_QUERY_DURATION:
  case GST_QUERY_SEEKING:
  case GST_QUERY_SEGMENT:
    return gst_pad_peer_query (self->sink, query);
  default:
    return gst_pad_query_default (pad, parent, query);
  }
}

/* Caps, allocation and the like pass between sink and src as if nothing were there; the request
 * pads take no part in that. */
GstIterator *
gst_valley_infer_internal_links (GstPad *pad, GstObject *parent)
{
  GstValleyInfer *self = GST_VALLEY_INFER (parent);
  GValue other = G_VALUE_INIT;
  GstIterator *links;

  g_value_init (&other, GST_TYPE_PAD);
  g_value_set_object (&other, pad == self->sink ? self->src : self->sink);
  links = gst_iterator_new_single (GST_TYPE_PAD, &other);
  g_value_unset (&other);
  return links;
}

/* ---- request pads -------------------------------------------------------- */

/* The name asked for, else the template's or the next that is free. */
static gchar *
choose_name (GstElement *element, GstPadTemplate *templ, const gchar *name)
{
  const gchar *plain = GST_PAD_TEMPLATE_NAME_TEMPLATE (templ);
  gchar *candidate = g_strdup (name != NULL && strchr (name, '%') == NULL ? name : plain);
  gboolean text = g_str_has_prefix (plain, "text_src");
  gboolean taken = TRUE;

  for (guint i = 0; taken; i++) {
    GstPad *pad
        = strchr (candidate, '%') != NULL ? NULL : gst_element_get_static_pad (element, candidate);

    taken = pad != NULL || strchr (candidate, '%') != NULL;
    g_clear_pointer (&pad, gst_object_unref);
    if (taken) {
      g_free (candidate);
      if (!text)
        return NULL;
      candidate = g_strdup_printf ("text_src_%u", i);
    }
  }
  return candidate;
}

GstPad *
gst_valley_infer_request_pad (GstElement *element, GstPadTemplate *templ, const gchar *name,
                              const GstCaps *caps)
{
  GstValleyInfer *self = GST_VALLEY_INFER (element);
  g_autofree gchar *chosen = choose_name (element, templ, name);
  gboolean json = g_str_has_prefix (GST_PAD_TEMPLATE_NAME_TEMPLATE (templ), "json_src");
  GstPad *pad;

  if (chosen == NULL)
    return NULL; /* json_src is there already; a tee shares it */
  g_mutex_lock (&self->lock);
  pad = gst_valley_text_pad_new (templ, chosen, json, self->windows.next_id);
  g_mutex_unlock (&self->lock);
  gst_pad_set_event_function (pad, text_event);
  gst_pad_set_query_function (pad, text_query);
  gst_pad_set_iterate_internal_links_function (pad, gst_valley_infer_internal_links);
  gst_pad_use_fixed_caps (pad);
  if (GST_STATE (self) > GST_STATE_READY || GST_STATE_NEXT (self) == GST_STATE_PAUSED)
    gst_pad_set_active (pad, TRUE);
  if (!gst_element_add_pad (element, pad))
    return NULL;
  g_mutex_lock (&self->lock);
  gst_valley_infer_begin_text_pad (self, GST_VALLEY_TEXT_PAD (pad));
  self->text_pads = g_list_append (self->text_pads, gst_object_ref (pad));
  g_mutex_unlock (&self->lock);
  gst_child_proxy_child_added (GST_CHILD_PROXY (self), G_OBJECT (pad), GST_PAD_NAME (pad));
  return pad;
}

void
gst_valley_infer_release_pad (GstElement *element, GstPad *pad)
{
  GstValleyInfer *self = GST_VALLEY_INFER (element);
  GList *link;

  g_mutex_lock (&self->lock);
  link = g_list_find (self->text_pads, pad);
  self->text_pads = g_list_delete_link (self->text_pads, link);
  g_mutex_unlock (&self->lock);
  gst_child_proxy_child_removed (GST_CHILD_PROXY (self), G_OBJECT (pad), GST_PAD_NAME (pad));
  gst_pad_set_active (pad, FALSE);
  gst_element_remove_pad (element, pad);
  if (link != NULL)
    gst_object_unref (pad);
}

/* The request pads as children: `text_src::text-timing=late` works in gst-launch-1.0. */
static GObject *
child_by_index (GstChildProxy *proxy, guint index)
{
  GstValleyInfer *self = GST_VALLEY_INFER (proxy);
  GObject *child;

  g_mutex_lock (&self->lock);
  child = g_list_nth_data (self->text_pads, index);
  if (child != NULL)
    g_object_ref (child);
  g_mutex_unlock (&self->lock);
  return child;
}

static guint
children_count (GstChildProxy *proxy)
{
  GstValleyInfer *self = GST_VALLEY_INFER (proxy);
  guint count;

  g_mutex_lock (&self->lock);
  count = g_list_length (self->text_pads);
  g_mutex_unlock (&self->lock);
  return count;
}

void
gst_valley_infer_child_proxy_init (gpointer iface, gpointer data)
{
  GstChildProxyInterface *proxy = iface;

  proxy->get_child_by_index = child_by_index;
  proxy->get_children_count = children_count;
}
