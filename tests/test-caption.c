/* test-caption.c - valleycaption: captions burned in by one element, from files and live.
 * SPDX-License-Identifier: Apache-2.0 */
#include <gst/app/gstappsink.h>
#include <gst/video/video.h>

#include <string.h>

#include "harness.h"

#define BLACK                                                                                      \
  "videotestsrc pattern=black num-buffers=%u %s ! "                                                \
  "video/x-raw,format=I420,width=320,height=240,framerate=10/1 "

/* Bright pixels can only be letters. */
static guint
count_bright (GstSample *sample)
{
  GstVideoInfo info;
  GstVideoFrame frame;
  guint n = 0;

  g_assert_true (gst_video_info_from_caps (&info, gst_sample_get_caps (sample)));
  g_assert_true (gst_video_frame_map (&frame, &info, gst_sample_get_buffer (sample), GST_MAP_READ));
  for (gint y = 0; y < GST_VIDEO_FRAME_HEIGHT (&frame); y++)
    for (gint x = 0; x < GST_VIDEO_FRAME_WIDTH (&frame); x++)
      n += GST_VIDEO_FRAME_COMP_DATA (&frame, 0)[y * GST_VIDEO_FRAME_COMP_STRIDE (&frame, 0) + x]
           > 120;
  gst_video_frame_unmap (&frame);
  return n;
}

/* Plays to the end; bit i of the result says whether frame i has a caption. */
static guint64
captioned_frames (GstElement *pipeline, guint n_frames)
{
  GstElement *sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  guint64 captioned = 0;
  GstSample *sample;
  guint n = 0;

  pipe_state (pipeline, GST_STATE_PLAYING);
  while ((sample = gst_app_sink_pull_sample (GST_APP_SINK (sink))) != NULL) {
    captioned |= (guint64) (count_bright (sample) > 15) << n++;
    gst_sample_unref (sample);
  }
  g_assert_cmpuint (n, ==, n_frames);
  gst_object_unref (sink);
  return captioned;
}

static void
test_file (void)
{
  GstElement *pipeline;

  if (test_lacks ("textoverlay"))
    return;
  pipeline = pipe_new (BLACK "! valleycaption model-path=fake:delay=50,text=HELLO "
                             "! appsink name=sink sync=false",
                       45, "");
  g_assert_cmphex (captioned_frames (pipeline, 45), ==, (G_GUINT64_CONSTANT (1) << 45) - 1);
  pipe_free (pipeline);
}

/* Every window has its own caption: frames 20 to 39 belong to the one that fails. */
static void
test_failed_window (void)
{
  GstElement *pipeline;
  guint64 expected = ((G_GUINT64_CONSTANT (1) << 20) - 1) * (1 + (G_GUINT64_CONSTANT (1) << 40));

  if (test_lacks ("textoverlay"))
    return;
  pipeline = pipe_new (BLACK "! valleycaption model-path=fake:fail-window=1,text=HELLO "
                             "! appsink name=sink sync=false",
                       60, "");
  g_assert_cmphex (captioned_frames (pipeline, 60), ==, expected);
  pipe_free (pipeline);
}

/* Live, a caption is shown once it is there; with `latency` the picture waits for it. */
static void
check_live (const char *more, guint64 first)
{
  GstElement *pipeline;
  guint64 captioned;

  if (test_lacks ("textoverlay"))
    return;
  pipeline = pipe_new (BLACK "! valleycaption chunk-duration=1000 frame-rate=4/1 %s "
                             "model-path=fake:text=HELLO ! appsink name=sink sync=true",
                       30, "is-live=true", more);
  captioned = captioned_frames (pipeline, 30);
  g_assert_cmphex (captioned & ((G_GUINT64_CONSTANT (1) << first) - 1), ==, 0);
  g_assert_cmphex (captioned >> (first + 1), !=, 0);
  pipe_free (pipeline);
}

static void
test_live_late (void)
{
  check_live ("lateness=1500", 14);
}

static void
test_live_latency (void)
{
  check_live ("latency=500", 0);
}

/* The same element with results besides: the request pads are the inner element's. */
static void
test_request_pads (void)
{
  g_autofree char *json = test_path ("caption.json"), *text = NULL;
  GstElement *pipeline, *caption;
  GstPad *pad;

  if (test_lacks ("textoverlay"))
    return;
  pipeline = pipe_new (BLACK "! valleycaption name=c model-path=fake:text=HELLO ! fakesink "
                             "c.json_src ! filesink location=%s c.text_src ! fakesink",
                       45, "", json);
  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  text = test_read (json);
  g_assert_nonnull (strstr (text, "\"result\":\"HELLO\""));

  caption = gst_bin_get_by_name (GST_BIN (pipeline), "c");
  pad = gst_element_get_static_pad (caption, "json_src");
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_element_release_request_pad (caption, pad);
  gst_object_unref (pad);
  pad = gst_element_request_pad_simple (caption, "json_src");
  g_assert_nonnull (pad);
  gst_element_release_request_pad (caption, pad);
  gst_object_unref (pad);
  gst_object_unref (caption);
  pipe_free (pipeline);
}

static void
test_seek_in_paused (void)
{
  GstElement *pipeline;

  if (test_lacks ("textoverlay"))
    return;
  pipeline = pipe_new (BLACK "! valleycaption model-path=fake:text=HELLO ! fakesink", 300, "");
  pipe_state (pipeline, GST_STATE_PAUSED);
  for (guint i = 1; i < 4; i++) {
    g_assert_true (gst_element_seek_simple (
        pipeline, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE, i * 3 * S));
    pipe_state (pipeline, GST_STATE_PAUSED);
  }
  pipe_free (pipeline);
}

/* Every property of valleyinfer is here too, and the queue follows those that lengthen it. */
static void
test_properties (void)
{
  g_autoptr (GstElement) caption = gst_element_factory_make ("valleycaption", NULL);
  g_autoptr (GstElement) infer = NULL, queue = NULL;
  g_autofree GParamSpec **specs = NULL;
  g_autofree char *prompt = NULL;
  guint64 before, after;
  guint n;

  gst_object_ref_sink (caption);
  infer = gst_bin_get_by_name (GST_BIN (caption), "infer");
  queue = gst_bin_get_by_name (GST_BIN (caption), "queue");
  specs = g_object_class_list_properties (G_OBJECT_GET_CLASS (infer), &n);
  for (guint i = 0; i < n; i++)
    if (!g_object_class_find_property (G_OBJECT_GET_CLASS (caption), specs[i]->name))
      g_error ("valleycaption has no property %s", specs[i]->name);

  g_object_set (caption, "prompt", "What?", NULL);
  g_object_get (infer, "prompt", &prompt, NULL);
  g_assert_cmpstr (prompt, ==, "What?");

  g_object_get (queue, "max-size-time", &before, NULL);
  g_assert_cmpuint (before, >, 2 * S);
  g_object_set (caption, "chunk-duration", 7000, "latency", 1500, NULL);
  g_object_get (queue, "max-size-time", &after, NULL);
  g_assert_cmpuint (after, ==, before + 6500 * MS);
}

/* Without textoverlay: the message that makes installers offer it, and an error. */
static void
test_missing_textoverlay (void)
{
  GstRegistry *registry = gst_registry_get ();
  GstPluginFeature *feature = gst_registry_lookup_feature (registry, "textoverlay");
  GstElement *caption;
  g_autoptr (GstBus) bus = gst_bus_new ();
  g_autoptr (GstMessage) missing = NULL, error = NULL;

  if (feature != NULL)
    gst_registry_remove_feature (registry, feature);
  caption = gst_object_ref_sink (gst_element_factory_make ("valleycaption", NULL));
  gst_element_set_bus (caption, bus);
  g_assert_cmpint (gst_element_set_state (caption, GST_STATE_READY), ==, GST_STATE_CHANGE_FAILURE);
  missing = gst_bus_pop_filtered (bus, GST_MESSAGE_ELEMENT);
  g_assert_true (gst_message_has_name (missing, "missing-plugin"));
  error = gst_bus_pop_filtered (bus, GST_MESSAGE_ERROR);
  g_assert_nonnull (error);
  gst_element_set_bus (caption, NULL);
  gst_element_set_state (caption, GST_STATE_NULL);
  gst_object_unref (caption);
  if (feature != NULL) {
    gst_registry_add_feature (registry, feature);
    gst_object_unref (feature);
  }
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/caption/file", test_file);
  g_test_add_func ("/caption/failed-window", test_failed_window);
  g_test_add_func ("/caption/live-late", test_live_late);
  g_test_add_func ("/caption/live-latency", test_live_latency);
  g_test_add_func ("/caption/request-pads", test_request_pads);
  g_test_add_func ("/caption/seek-in-paused", test_seek_in_paused);
  g_test_add_func ("/caption/properties", test_properties);
  g_test_add_func ("/caption/missing-textoverlay", test_missing_textoverlay);
  return test_finish ();
}
