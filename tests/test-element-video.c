/* test-element-video.c - the video path: untouched, on time, transparent (rules 1, 12, 13).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

#include <gst/video/video.h>

static void
test_same_buffers (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "delay=10", NULL);

  for (guint i = 0; i < 50; i++) {
    GstBuffer *in = frame_new (64, 48, i * 100 * MS, 100 * MS, i);
    GstBuffer *out;

    g_assert_cmpint (gst_harness_push (rig->video, gst_buffer_ref (in)), ==, GST_FLOW_OK);
    out = gst_harness_pull (rig->video);
    g_assert_true (out == in);
    gst_buffer_unref (out);
    gst_buffer_unref (in);
  }
}

/* The test and the log hold one reference each: the element must not keep another, or a
 * camera's small pool would run dry while the model thinks. */
static void
test_keeps_no_reference (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_LIVE, "delay=60000", NULL);

  for (guint i = 0; i < 50; i++) {
    GstBuffer *in = frame_new (64, 48, i * 100 * MS, 100 * MS, i);

    g_assert_cmpint (gst_harness_push (rig->video, gst_buffer_ref (in)), ==, GST_FLOW_OK);
    gst_buffer_unref (gst_harness_pull (rig->video));
    g_assert_cmpint (GST_MINI_OBJECT_REFCOUNT_VALUE (in), ==, 2);
    gst_buffer_unref (in);
  }
}

/* Every raw format that GstVideoConverter reads, at an odd size, reaches the model. */
static void
test_formats (void)
{
  guint n = 0;
  g_autoptr (GstElementFactory) factory = gst_element_factory_find ("videoconvert");
  const GList *l = gst_element_factory_get_static_pad_templates (factory);

  for (; l; l = l->next) {
    GstStaticPadTemplate *templ = l->data;
    g_autoptr (GstCaps) caps = NULL;
    const GValue *formats;

    if (templ->direction != GST_PAD_SINK)
      continue;
    caps = gst_static_pad_template_get_caps (templ);
    formats = gst_structure_get_value (gst_caps_get_structure (caps, 0), "format");
    for (guint i = 0; i < gst_value_list_get_size (formats); i++) {
      const char *format = g_value_get_string (gst_value_list_get_value (formats, i));
      g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_NO_CAPS, "", NULL);
      g_autofree char *text
          = g_strdup_printf ("video/x-raw,format=%s,width=33,height=17,framerate=10/1", format);
      g_autoptr (GstCaps) in = gst_caps_from_string (text);
      g_autoptr (JsonObject) line = NULL;
      GstVideoInfo info;
      GstBuffer *buffer;

      g_assert_true (gst_video_info_from_caps (&info, in));
      gst_harness_set_src_caps (rig->video, gst_caps_ref (in));
      buffer = gst_buffer_new_allocate (NULL, GST_VIDEO_INFO_SIZE (&info), NULL);
      gst_buffer_memset (buffer, 0, 0x80, -1);
      GST_BUFFER_PTS (buffer) = 0;
      g_assert_cmpint (gst_harness_push (rig->video, buffer), ==, GST_FLOW_OK);
      rig_push_eos (rig);
      line = rig_json (rig, 0);
      if (json_object_get_int_member (line, "frame_count") != 1
          || json_object_has_member (line, "error"))
        g_error ("format %s was not analysed", format);
      n++;
    }
  }
  g_assert_cmpuint (n, >, 80);
}

static GstCaps *
ask_sink_caps (Rig *rig)
{
  g_autoptr (GstPad) sink = gst_element_get_static_pad (rig->element, "sink");

  return gst_pad_query_caps (sink, NULL);
}

static void
test_caps_pass (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_NO_CAPS, "", NULL);
  g_autoptr (GstCaps) caps = NULL;
  g_autoptr (GstCaps) wanted
      = gst_caps_from_string ("video/x-raw,format=NV12,width=320,height=200,framerate=0/1");

  gst_harness_set_sink_caps (rig->video, gst_caps_copy (wanted));
  caps = ask_sink_caps (rig);
  g_assert_true (gst_caps_is_equal (caps, wanted));
}

static void
test_allocation_passes (void)
{
  g_autoptr (Rig) rig = rig_new (0, "", NULL);
  g_autoptr (GstCaps) caps = gst_caps_from_string (RIG_CAPS);
  g_autoptr (GstQuery) query = gst_query_new_allocation (caps, TRUE);

  gst_harness_add_propose_allocation_meta (rig->video, GST_VIDEO_META_API_TYPE, NULL);
  gst_harness_add_propose_allocation_meta (rig->video, GST_VIDEO_CROP_META_API_TYPE, NULL);
  g_assert_true (gst_pad_peer_query (rig->video->srcpad, query));
  g_assert_true (gst_query_find_allocation_meta (query, GST_VIDEO_META_API_TYPE, NULL));
  g_assert_true (gst_query_find_allocation_meta (query, GST_VIDEO_CROP_META_API_TYPE, NULL));
}

/* A pool that a sink proposes is the one the source draws from. */
static void
test_pool_passes (void)
{
  GstElement *pipeline = pipe_new ("videotestsrc num-buffers=20 ! " RIG_CAPS
                                   " ! valleyinfer model-path=fake: ! appsink name=sink");
  g_autoptr (GstElement) sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  GstBufferPool *seen = NULL;

  pipe_state (pipeline, GST_STATE_PLAYING);
  for (guint i = 0; i < 10; i++) {
    GstSample *sample = NULL;

    g_signal_emit_by_name (sink, "pull-sample", &sample);
    g_assert_nonnull (sample);
    g_assert_nonnull (gst_sample_get_buffer (sample)->pool);
    g_assert_true (!seen || gst_sample_get_buffer (sample)->pool == seen);
    seen = gst_sample_get_buffer (sample)->pool;
    gst_sample_unref (sample);
  }
  pipe_free (pipeline);
}

static void
test_qos_passes (void)
{
  g_autoptr (Rig) rig = rig_new (0, "", NULL);
  GstEvent *event = gst_event_new_qos (GST_QOS_TYPE_UNDERFLOW, 0.5, 10, 20);
  GstEvent *got;

  while ((got = gst_harness_try_pull_upstream_event (rig->video)))
    gst_event_unref (got);
  gst_harness_push_upstream_event (rig->video, gst_event_ref (event));
  got = gst_harness_try_pull_upstream_event (rig->video);
  g_assert_true (got == event);
  gst_event_unref (got);
  gst_event_unref (event);
}

/* Rule 1: with an engine of two seconds a window, no push of a live source takes long. */
static void
test_live_never_waits (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON | RIG_LIVE, "encode=200,delay=2000",
                                 "queue-max-windows", 2, NULL);
  gint64 longest = 0, second = 0;

  for (guint i = 0; i < 300; i++) {
    gint64 before = g_get_monotonic_time (), took;

    rig_push (rig, i * 100 * MS, 100 * MS, i);
    took = g_get_monotonic_time () - before;
    if (took > longest) {
      second = longest;
      longest = took;
    } else if (took > second) {
      second = took;
    }
  }
  g_test_message ("longest push %" G_GINT64_FORMAT " us, next %" G_GINT64_FORMAT " us", longest,
                  second);
  /* One push may have met a busy machine; a wait on the model would slow more than one. */
  g_assert_cmpint (second, <, 50 * 1000);
  g_assert_cmpuint (log_n_buffers (rig->log, "src"), ==, 300);
}

/* Rule 4 and rule 1's exception: a file source is slowed, every window is answered. */
static void
test_file_waits (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_JSON, "delay=50", "chunk-duration", 1000, "queue-max-windows", 1, NULL);

  rig_push_span (rig, 0, 20 * S, 100);
  /* Of 20 windows at most the one in hand and the queued one (and the open one) may be due. */
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), >=, 16);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 20);
  for (guint i = 0; i < 20; i++)
    rig_check_window (rig, i, i * S, (i + 1) * S);
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_QOS), ==, 0);
}

static gpointer
push_until_refused (gpointer data)
{
  Rig *rig = data;
  GstFlowReturn flow = GST_FLOW_OK;

  for (guint i = 0; flow == GST_FLOW_OK && i < 10000; i++)
    flow = gst_harness_push (rig->video, frame_new (64, 48, i * 100 * MS, 100 * MS, 50));
  return GINT_TO_POINTER (flow);
}

/* Starts a source that the element makes wait behind an endless answer. */
static GThread *
start_waiting_source (Rig *rig)
{
  GThread *thread = g_thread_new ("source", push_until_refused, rig);
  guint before, after = 0;

  do {
    before = after;
    g_usleep (300 * 1000);
    after = log_n_buffers (rig->log, "src");
  } while (after == 0 || after != before);
  g_assert_cmpuint (after, <, 10000);
  return thread;
}

static void
test_wait_ends_by_flush (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "delay=600000", "queue-max-windows", 1, NULL);
  GThread *source = start_waiting_source (rig);
  gint64 before = g_get_monotonic_time ();

  rig_flush (rig, TRUE, FALSE);
  g_assert_cmpint (GPOINTER_TO_INT (g_thread_join (source)), ==, GST_FLOW_FLUSHING);
  g_assert_cmpint (g_get_monotonic_time () - before, <, 1000 * 1000);
  rig_flush (rig, FALSE, TRUE);
}

static void
test_wait_ends_by_stop (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "delay=600000", "queue-max-windows", 1, NULL);
  GThread *source = start_waiting_source (rig);
  gint64 before = g_get_monotonic_time ();

  gst_element_set_state (rig->element, GST_STATE_READY);
  g_assert_cmpint (GPOINTER_TO_INT (g_thread_join (source)), ==, GST_FLOW_FLUSHING);
  g_assert_cmpint (g_get_monotonic_time () - before, <, 1000 * 1000);
}

static void
test_src_unlinked (void)
{
  g_autofree char *path = test_path ("unlinked.json");
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;
  GstElement *pipeline = pipe_new ("videotestsrc num-buffers=50 ! " RIG_CAPS
                                   " ! valleyinfer name=v model-path=fake: "
                                   "v.json_src ! filesink location=%s",
                                   path);

  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  pipe_free (pipeline);
  text = test_read (path);
  lines = g_strsplit (text, "\n", -1);
  g_assert_cmpuint (g_strv_length (lines), ==, 3 + 1);
}

static void
check_sizes (Rig *rig, guint n, const char *expected)
{
  g_autofree char *text = rig_caption (rig, n);

  g_assert_nonnull (strstr (text, expected));
}

/* Rule 12: the model sees a turned picture as its viewers do, until another stream begins.  The
 * turn cuts the window short: its two halves have different shapes. */
static void
test_turned (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "show=sizes", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  gst_harness_push_event (rig->video, gst_event_new_tag (gst_tag_list_new (
                                          GST_TAG_IMAGE_ORIENTATION, "rotate-90", NULL)));
  rig_push_span (rig, 1 * S, 3 * S, 50);
  gst_harness_push_event (rig->video, gst_event_new_stream_start ("another"));
  gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
  rig_push_span (rig, 3 * S, 5100 * MS, 50);
  check_sizes (rig, 0, "f2 84x56,84x56");
  check_sizes (rig, 1, "f4 56x56,56x56");
  check_sizes (rig, 2, "f4 84x56,84x56");
}

static GstPadProbeReturn
answer_flow (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  gst_buffer_unref (GST_PAD_PROBE_INFO_BUFFER (info));
  GST_PAD_PROBE_INFO_DATA (info) = NULL;
  GST_PAD_PROBE_INFO_FLOW_RETURN (info) = GPOINTER_TO_INT (data);
  return GST_PAD_PROBE_HANDLED;
}

/* Rule 13: what src answers is what upstream hears, but for a missing link. */
static void
test_src_flow (void)
{
  static const GstFlowReturn flows[] = {
    GST_FLOW_OK,        GST_FLOW_EOS, GST_FLOW_FLUSHING, GST_FLOW_ERROR, GST_FLOW_NOT_NEGOTIATED,
    GST_FLOW_NOT_LINKED
  };

  for (guint i = 0; i < G_N_ELEMENTS (flows); i++) {
    g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
    g_autoptr (GstPad) src = gst_element_get_static_pad (rig->element, "src");
    GstFlowReturn flow;

    gst_pad_add_probe (src, GST_PAD_PROBE_TYPE_BUFFER, answer_flow, GINT_TO_POINTER (flows[i]),
                       NULL);
    flow = gst_harness_push (rig->video, frame_new (64, 48, 0, 100 * MS, 50));
    g_assert_cmpstr (gst_flow_get_name (flow), ==,
                     flows[i] == GST_FLOW_NOT_LINKED ? "ok" : gst_flow_get_name (flows[i]));
  }
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/video/same-buffers", test_same_buffers);
  g_test_add_func ("/element/video/keeps-no-reference", test_keeps_no_reference);
  g_test_add_func ("/element/video/formats", test_formats);
  g_test_add_func ("/element/video/caps-pass", test_caps_pass);
  g_test_add_func ("/element/video/allocation-passes", test_allocation_passes);
  g_test_add_func ("/element/video/pool-passes", test_pool_passes);
  g_test_add_func ("/element/video/qos-passes", test_qos_passes);
  g_test_add_func ("/element/video/live-never-waits", test_live_never_waits);
  g_test_add_func ("/element/video/file-waits", test_file_waits);
  g_test_add_func ("/element/video/wait-ends-by-flush", test_wait_ends_by_flush);
  g_test_add_func ("/element/video/wait-ends-by-stop", test_wait_ends_by_stop);
  g_test_add_func ("/element/video/turned", test_turned);
  g_test_add_func ("/element/video/src-flow", test_src_flow);
  g_test_add_func ("/element/video/src-unlinked", test_src_unlinked);
  return test_finish ();
}
