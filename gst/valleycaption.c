/* valleycaption.c - valleyinfer ! queue ! textoverlay in one element.
 *
 * A caption exists only after its window's last frame has left valleyinfer, so the video has to
 * be kept until then: the queue is as long as that takes, and nobody has to know.  The children
 * are called infer, queue and overlay: `overlay::valignment=top` reaches textoverlay.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleycaption.h"

#include <gst/pbutils/pbutils.h>

#include "settings.h"
#include "valleyinfer.h"

#define GST_CAT_DEFAULT gst_valley_infer_debug

/* Above the window itself: a frame of slow video, and what other branches need to preroll. */
#define QUEUE_MARGIN (2 * GST_SECOND)

struct _GstValleyCaption {
  GstBin parent;
  GstElement *infer, *queue, *overlay; /* the bin's; overlay NULL: textoverlay is missing */
  GstValleySettings settings;          /* those that decide the queue's length; object lock */
};

enum { PROP_FONT_DESC = GST_VALLEY_PROP_LAST };

static GstStaticPadTemplate sink_template
    = GST_STATIC_PAD_TEMPLATE ("sink", GST_PAD_SINK, GST_PAD_ALWAYS,
                               GST_STATIC_CAPS (GST_VIDEO_CAPS_MAKE (GST_VIDEO_FORMATS_ALL)));
static GstStaticPadTemplate src_template
    = GST_STATIC_PAD_TEMPLATE ("src", GST_PAD_SRC, GST_PAD_ALWAYS,
                               GST_STATIC_CAPS (GST_VIDEO_CAPS_MAKE (GST_VIDEO_FORMATS_ALL)));
static GstStaticPadTemplate text_template = GST_STATIC_PAD_TEMPLATE (
    "text_src", GST_PAD_SRC, GST_PAD_REQUEST, GST_STATIC_CAPS ("text/x-raw, format=utf8"));
static GstStaticPadTemplate json_template
    = GST_STATIC_PAD_TEMPLATE ("json_src", GST_PAD_SRC, GST_PAD_REQUEST,
                               GST_STATIC_CAPS ("application/x-json, format=valleyinfer"));

G_DEFINE_TYPE (GstValleyCaption, gst_valley_caption, GST_TYPE_BIN)

static void
size_queue (GstValleyCaption *self)
{
  GstClockTime time;

  GST_OBJECT_LOCK (self);
  time = gst_valley_settings_text_latency (&self->settings, 0) + QUEUE_MARGIN;
  GST_OBJECT_UNLOCK (self);
  g_object_set (self->queue, "max-size-time", time, NULL);
}

/* ---- request pads: the captions and results besides ----------------------- */

static GstPad *
request_new_pad (GstElement *element, GstPadTemplate *templ, const gchar *name, const GstCaps *caps)
{
  GstValleyCaption *self = GST_VALLEY_CAPTION (element);
  const gchar *inner = GST_PAD_TEMPLATE_NAME_TEMPLATE (templ);
  GstPad *target = gst_element_request_pad_simple (self->infer, inner), *ghost;

  if (target == NULL)
    return NULL;
  ghost = gst_ghost_pad_new_from_template (inner, target, templ);
  gst_object_unref (target);
  gst_pad_set_active (ghost, TRUE);
  if (!gst_element_add_pad (element, ghost))
    return NULL;
  return ghost;
}

static void
release_pad (GstElement *element, GstPad *pad)
{
  GstValleyCaption *self = GST_VALLEY_CAPTION (element);
  GstPad *target = gst_ghost_pad_get_target (GST_GHOST_PAD (pad));

  gst_pad_set_active (pad, FALSE);
  gst_element_remove_pad (element, pad);
  if (target != NULL) {
    gst_element_release_request_pad (self->infer, target);
    gst_object_unref (target);
  }
}

/* ---- states -------------------------------------------------------------- */

static gboolean
is_complete (GstValleyCaption *self)
{
  if (self->overlay != NULL)
    return TRUE;
  gst_element_post_message (GST_ELEMENT (self),
                            gst_missing_element_message_new (GST_ELEMENT (self), "textoverlay"));
  GST_ELEMENT_ERROR (self, CORE, MISSING_PLUGIN,
                     ("valleycaption needs the element textoverlay (Debian: gstreamer1.0-x)."),
                     (NULL));
  return FALSE;
}

static GstStateChangeReturn
change_state (GstElement *element, GstStateChange transition)
{
  if (transition == GST_STATE_CHANGE_NULL_TO_READY && !is_complete (GST_VALLEY_CAPTION (element)))
    return GST_STATE_CHANGE_FAILURE;
  return GST_ELEMENT_CLASS (gst_valley_caption_parent_class)->change_state (element, transition);
}

/* ---- properties ---------------------------------------------------------- */

static void
set_property (GObject *object, guint id, const GValue *value, GParamSpec *pspec)
{
  GstValleyCaption *self = GST_VALLEY_CAPTION (object);

  if (id == PROP_FONT_DESC) {
    if (self->overlay != NULL)
      g_object_set_property (G_OBJECT (self->overlay), "font-desc", value);
    return;
  }
  g_object_set_property (G_OBJECT (self->infer), pspec->name, value);
  GST_OBJECT_LOCK (self);
  gst_valley_settings_set (&self->settings, id, value);
  GST_OBJECT_UNLOCK (self);
  size_queue (self);
}

static void
get_property (GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
  GstValleyCaption *self = GST_VALLEY_CAPTION (object);

  if (id != PROP_FONT_DESC)
    g_object_get_property (G_OBJECT (self->infer), pspec->name, value);
  else if (self->overlay != NULL)
    g_object_get_property (G_OBJECT (self->overlay), "font-desc", value);
}

/* ---- class --------------------------------------------------------------- */

static void
finalize (GObject *object)
{
  gst_valley_settings_clear (&GST_VALLEY_CAPTION (object)->settings);
  G_OBJECT_CLASS (gst_valley_caption_parent_class)->finalize (object);
}

static void
gst_valley_caption_class_init (GstValleyCaptionClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);

  object_class->set_property = set_property;
  object_class->get_property = get_property;
  object_class->finalize = finalize;
  element_class->change_state = change_state;
  element_class->request_new_pad = request_new_pad;
  element_class->release_pad = release_pad;
  gst_valley_settings_install (object_class);
  g_object_class_install_property (
      object_class, PROP_FONT_DESC,
      g_param_spec_string ("font-desc", "Font description",
                           "Pango description of the captions' font, such as \"Sans 24\"", "",
                           G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING));
  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_add_static_pad_template (element_class, &text_template);
  gst_element_class_add_static_pad_template (element_class, &json_template);
  gst_element_class_set_static_metadata (
      element_class, "Valley video captioner", "Filter/Editor/Video",
      "Burns captions by the Valley2 model into the video (valleyinfer, queue, textoverlay)",
      "The valleyinfer authors");
}

static void
add_ghost (GstValleyCaption *self, GstElement *child, const gchar *name,
           GstStaticPadTemplate *static_template)
{
  GstPadTemplate *templ = gst_static_pad_template_get (static_template);
  GstPad *target = child != NULL ? gst_element_get_static_pad (child, name) : NULL;
  GstPad *ghost = target != NULL ? gst_ghost_pad_new_from_template (name, target, templ)
                                 : gst_ghost_pad_new_no_target_from_template (name, templ);

  gst_element_add_pad (GST_ELEMENT (self), ghost);
  g_clear_pointer (&target, gst_object_unref);
  gst_object_unref (templ);
}

static void
gst_valley_caption_init (GstValleyCaption *self)
{
  gst_valley_settings_init (&self->settings);
  self->infer = g_object_new (GST_TYPE_VALLEY_INFER, "name", "infer", NULL);
  self->queue = gst_element_factory_make ("queue", "queue");
  self->overlay = gst_element_factory_make ("textoverlay", "overlay");
  gst_bin_add_many (GST_BIN (self), self->infer, self->queue, NULL);
  g_object_set (self->queue, "max-size-bytes", 0, "max-size-buffers", 0, NULL);
  size_queue (self);
  if (self->overlay != NULL) {
    gst_bin_add (GST_BIN (self), self->overlay);
    g_object_set (self->overlay, "shaded-background", TRUE, NULL);
    gst_element_link (self->infer, self->queue);
    gst_element_link_pads (self->queue, "src", self->overlay, "video_sink");
    gst_element_link_pads (self->infer, "text_src_%u", self->overlay, "text_sink");
  }
  add_ghost (self, self->infer, "sink", &sink_template);
  add_ghost (self, self->overlay, "src", &src_template);
}
