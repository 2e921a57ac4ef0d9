/* test-element-pads.c - the request pads as pads: sticky events, late links, release,
 * upstream events, flow and what a caption may hold (rules 10, 13, 14 and 16).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

static void
test_stream_start (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT | RIG_NO_CAPS, "", NULL);
  GstEvent *start = gst_event_new_stream_start ("camera");
  g_autoptr (GstCaps) caps = gst_caps_from_string (RIG_CAPS);
  const char *pads[] = { "text_src", "json_src" };
  const char *ids[2];
  GstSegment segment;

  gst_segment_init (&segment, GST_FORMAT_TIME);
  gst_event_set_group_id (start, 77);
  gst_harness_push_event (rig->video, start);
  gst_harness_push_event (rig->video, gst_event_new_caps (caps));
  rig_push_segment (rig, &segment);
  rig_push (rig, 0, 100 * MS, 50);
  for (guint i = 0; i < 2; i++) {
    /* The last one: the harness has sent a stream-start of its own. */
    guint n = MAX (log_n_events (rig->log, "src", GST_EVENT_STREAM_START), 1) - 1;
    const LogItem *item;
    GstStreamFlags flags;
    guint group;

    log_event (rig->log, pads[i], GST_EVENT_GAP, 0);
    n = log_n_events (rig->log, pads[i], GST_EVENT_STREAM_START) - 1;
    item = log_event (rig->log, pads[i], GST_EVENT_STREAM_START, n);
    gst_event_parse_stream_start (item->event, &ids[i]);
    gst_event_parse_stream_flags (item->event, &flags);
    g_assert_cmpint (flags & GST_STREAM_FLAG_SPARSE, ==, GST_STREAM_FLAG_SPARSE);
    g_assert_true (gst_event_parse_group_id (item->event, &group));
    g_assert_cmpuint (group, ==, 77);
    g_assert_cmpstr (ids[i], !=, "camera");
  }
  g_assert_cmpstr (ids[0], !=, ids[1]);
}

static void
check_caps (Rig *rig, const char *pad, const char *expected)
{
  g_autoptr (GstCaps) wanted = gst_caps_from_string (expected);
  GstCaps *caps;

  gst_event_parse_caps (log_event (rig->log, pad, GST_EVENT_CAPS, 0)->event, &caps);
  g_assert_true (gst_caps_is_equal (caps, wanted));
}

static void
test_caps (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  rig_push (rig, 0, 100 * MS, 50);
  check_caps (rig, "text_src", "text/x-raw, format=utf8");
  check_caps (rig, "json_src", "application/x-json, format=valleyinfer");
}

static void
test_tags_follow_segment (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "", NULL);

  gst_harness_push_event (rig->video,
                          gst_event_new_tag (gst_tag_list_new (GST_TAG_TITLE, "clip", NULL)));
  rig_push_span (rig, 0, 2100 * MS, 50);
  log_buffer (rig->log, "text_src", 0);
  for (guint i = 0; i < log_n_events (rig->log, "text_src", GST_EVENT_TAG); i++)
    g_assert_cmpuint (log_index (rig->log, log_event (rig->log, "text_src", GST_EVENT_TAG, i)), >,
                      log_index (rig->log, log_event (rig->log, "text_src", GST_EVENT_SEGMENT, 0)));
}

static GstPadProbeReturn
hold (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  return GST_PAD_PROBE_OK;
}

/* Rule 10: a blocked muxer on one pad stalls neither inference nor the other pad. */
static void
check_blocked_pad (GstPad *blocked, Rig *rig, const char *other)
{
  gulong probe = gst_pad_add_probe (blocked, GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER,
                                    hold, NULL, NULL);

  rig_push_span (rig, 0, 40 * S, 50);
  log_buffer (rig->log, other, 18);
  gst_pad_remove_probe (blocked, probe);
}

static void
test_blocked_pad (void)
{
  {
    g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

    check_blocked_pad (rig->text_pad, rig, "json_src");
    log_buffer (rig->log, "text_src", 18);
  }
  {
    g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

    check_blocked_pad (rig->json_pad, rig, "text_src");
    log_buffer (rig->log, "json_src", 18);
  }
}

/* A pad that never moves again costs some thousands of texts, not all memory. */
static void
test_blocked_pad_bounded (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_JSON | RIG_TEXT, "", "chunk-size", 1, "frame-rate", 10, 1, NULL);

  gst_pad_add_probe (rig->text_pad, GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER, hold,
                     NULL, NULL);
  gst_harness_set_drop_buffers (rig->video, TRUE);
  rig_push_span (rig, 0, 1200 * S, 50);
  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_WARNING));
  log_buffer (rig->log, "json_src", 11000);
  /* Said once, not with every text. */
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

static guint
count_upstream (Rig *rig, GstEventType type)
{
  GstEvent *event;
  guint n = 0;

  while ((event = gst_harness_try_pull_upstream_event (rig->video))) {
    n += GST_EVENT_TYPE (event) == type;
    gst_event_unref (event);
  }
  return n;
}

static void
test_seek_once (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  rig_push (rig, 0, 100 * MS, 50);
  for (guint i = 0; i < 3; i++) {
    GstEvent *seek = gst_event_new_seek (1.0, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                                         GST_SEEK_TYPE_SET, i * S, GST_SEEK_TYPE_NONE, 0);

    g_assert_true (gst_harness_push_upstream_event (rig->text, gst_event_ref (seek)));
    g_assert_true (gst_harness_push_upstream_event (rig->json, gst_event_ref (seek)));
    g_assert_true (gst_harness_push_upstream_event (rig->video, seek));
    g_assert_cmpuint (count_upstream (rig, GST_EVENT_SEEK), ==, 1);
  }
}

/* The same with the pads in the other order. */
static void
test_seek_once_from_src (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "", NULL);
  GstEvent *seek = gst_event_new_seek (1.0, GST_FORMAT_TIME, GST_SEEK_FLAG_NONE, GST_SEEK_TYPE_SET,
                                       S, GST_SEEK_TYPE_NONE, 0);

  rig_push (rig, 0, 100 * MS, 50);
  g_assert_true (gst_harness_push_upstream_event (rig->video, gst_event_ref (seek)));
  g_assert_true (gst_harness_push_upstream_event (rig->text, seek));
  g_assert_cmpuint (count_upstream (rig, GST_EVENT_SEEK), ==, 1);
}

static void
test_upstream_events (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "", NULL);

  rig_push (rig, 0, 100 * MS, 50);
  count_upstream (rig, GST_EVENT_RECONFIGURE);
  gst_harness_push_upstream_event (rig->text,
                                   gst_event_new_qos (GST_QOS_TYPE_UNDERFLOW, 0.5, 10, 20));
  g_assert_cmpuint (count_upstream (rig, GST_EVENT_QOS), ==, 0);
  gst_harness_push_upstream_event (rig->text, gst_event_new_reconfigure ());
  g_assert_cmpuint (count_upstream (rig, GST_EVENT_RECONFIGURE), ==, 0);
  gst_harness_push_upstream_event (rig->text, gst_event_new_latency (5 * MS));
  g_assert_cmpuint (count_upstream (rig, GST_EVENT_LATENCY), ==, 1);
}

static GstPadProbeReturn
answer_flow (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  gst_buffer_unref (GST_PAD_PROBE_INFO_BUFFER (info));
  GST_PAD_PROBE_INFO_DATA (info) = NULL;
  GST_PAD_PROBE_INFO_FLOW_RETURN (info) = GPOINTER_TO_INT (data);
  return GST_PAD_PROBE_HANDLED;
}

/* Rule 13: the pad's own task reports its failure, chain stays OK. */
static void
check_text_flow (GstFlowReturn flow, gboolean error)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  gst_pad_add_probe (rig->text_pad, GST_PAD_PROBE_TYPE_BUFFER, answer_flow, GINT_TO_POINTER (flow),
                     NULL);
  rig_push_span (rig, 0, 2100 * MS, 50);
  if (error)
    bus_check_error (rig->bus, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED);
  rig_push_span (rig, 2100 * MS, 10100 * MS, 50);
  log_buffer (rig->log, "json_src", 4);
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_ERROR), ==, 0);
}

static void
test_text_flow (void)
{
  check_text_flow (GST_FLOW_NOT_NEGOTIATED, TRUE);
  check_text_flow (GST_FLOW_ERROR, TRUE);
  check_text_flow (GST_FLOW_EOS, FALSE);
  check_text_flow (GST_FLOW_NOT_LINKED, FALSE);
}

/* What the peer of a text pad gets first. */
static void
check_first_events (GstHarness *h)
{
  static const GstEventType order[]
      = { GST_EVENT_STREAM_START, GST_EVENT_CAPS, GST_EVENT_SEGMENT, GST_EVENT_GAP };

  for (guint i = 0; i < G_N_ELEMENTS (order); i++) {
    GstEvent *event = gst_harness_pull_event (h);

    g_assert_nonnull (event);
    g_assert_cmpstr (GST_EVENT_TYPE_NAME (event), ==, gst_event_type_get_name (order[i]));
    gst_event_unref (event);
  }
}

/* Requested in the middle of a window: sticky events in order, then only later windows. */
static void
test_requested_late (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  rig->text = gst_harness_new_empty ();
  rig->text_pad = gst_element_request_pad_simple (rig->element, "text_src");
  log_pad (rig->log, rig->text_pad);
  gst_harness_add_element_src_pad (rig->text, rig->text_pad);
  rig_push_span (rig, 1 * S, 4100 * MS, 50);
  g_assert_cmpuint (log_start (log_buffer (rig->log, "text_src", 0)), ==, 2 * S);
  rig_check_window (rig, 0, 0, 2 * S);
  check_first_events (rig->text);
}

/* What is said of the whole file is said to late pads too, and behind their segment. */
static void
test_tags_for_late_pad (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  GstTagList *whole = gst_tag_list_new (GST_TAG_TITLE, "clip", NULL), *got;
  gboolean segment_seen = FALSE;
  guint n_tags = 0;
  GstEvent *event;

  gst_tag_list_set_scope (whole, GST_TAG_SCOPE_GLOBAL);
  gst_harness_push_event (rig->video, gst_event_new_tag (whole));
  gst_harness_push_event (
      rig->video, gst_event_new_tag (gst_tag_list_new (GST_TAG_VIDEO_CODEC, "H.264", NULL)));
  rig_push_span (rig, 0, 1 * S, 50);
  rig->text = gst_harness_new_empty ();
  rig->text_pad = gst_element_request_pad_simple (rig->element, "text_src");
  gst_harness_add_element_src_pad (rig->text, rig->text_pad);
  rig_push_span (rig, 1 * S, 4100 * MS, 50);
  gst_buffer_unref (gst_harness_pull (rig->text));
  while ((event = gst_harness_try_pull_event (rig->text))) {
    segment_seen |= GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT;
    if (GST_EVENT_TYPE (event) == GST_EVENT_TAG) {
      g_autofree char *title = NULL;

      gst_event_parse_tag (event, &got);
      g_assert_true (gst_tag_list_get_string (got, GST_TAG_TITLE, &title));
      g_assert_true (segment_seen);
      n_tags++;
    }
    gst_event_unref (event);
  }
  g_assert_cmpuint (n_tags, ==, 1);
}

/* In PAUSED no frame comes any more: the pad's sink prerolls all the same. */
static void
test_requested_in_paused (void)
{
  GstElement *pipeline = pipe_new ("videotestsrc ! " RIG_CAPS
                                   " ! valleyinfer name=v model-path=fake: ! fakesink sync=true");
  g_autoptr (GstElement) infer = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  GstElement *sink = gst_element_factory_make ("fakesink", NULL);

  pipe_state (pipeline, GST_STATE_PAUSED);
  gst_bin_add (GST_BIN (pipeline), sink);
  g_assert_true (gst_element_link_pads (infer, "text_src", sink, "sink"));
  g_usleep (100 * 1000); /* long enough for a gap to get lost in a sink that is not started */
  gst_element_sync_state_with_parent (sink);
  pipe_state (pipeline, GST_STATE_PAUSED);
  g_assert_cmpint (gst_element_get_state (sink, NULL, NULL, test_wait_s () * GST_SECOND), ==,
                   GST_STATE_CHANGE_SUCCESS);
  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_free (pipeline);
}

/* Requested between FLUSH_START and FLUSH_STOP: nothing that a stream begins with is lost. */
static void
test_requested_in_flush (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  GstSegment segment;

  rig_push_span (rig, 0, 1 * S, 50);
  rig_flush (rig, TRUE, FALSE);
  rig->text = gst_harness_new_empty ();
  rig->text_pad = gst_element_request_pad_simple (rig->element, "text_src");
  log_pad (rig->log, rig->text_pad);
  gst_harness_add_element_src_pad (rig->text, rig->text_pad);
  rig_flush (rig, FALSE, TRUE);
  gst_segment_init (&segment, GST_FORMAT_TIME);
  rig_push_segment (rig, &segment);
  rig_push_span (rig, 5 * S, 7100 * MS, 50);
  g_assert_cmpuint (log_start (log_buffer (rig->log, "text_src", 0)), ==, 5 * S);
  check_first_events (rig->text);
}

/* A pad that nothing is linked to discards; whoever links later gets the sticky events and
 * a position, then the captions from there on. */
static void
test_linked_late (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  g_autoptr (GstBuffer) text = NULL;

  rig->text_pad = gst_element_request_pad_simple (rig->element, "text_src");
  log_pad (rig->log, rig->text_pad);
  rig_push_span (rig, 0, 4100 * MS, 50);
  rig_check_window (rig, 1, 2 * S, 4 * S);
  log_buffer (rig->log, "text_src", 1);
  rig->text = gst_harness_new_empty ();
  gst_harness_add_element_src_pad (rig->text, rig->text_pad);
  check_first_events (rig->text);
  rig_push_span (rig, 4100 * MS, 8100 * MS, 50);
  text = gst_harness_pull (rig->text);
  g_assert_nonnull (text);
  g_assert_cmpuint (GST_BUFFER_PTS (text), ==, 4 * S);
}

/* Pads come and go while the stream runs, some linked, some not. */
static void
test_released_while_running (void)
{
  g_autoptr (Rig) rig = rig_new (0, "delay=1", "chunk-duration", 500, NULL);
  GstClockTime pts = 0;

  for (guint i = 0; i < 60; i++) {
    GstHarness *h = i % 2 ? gst_harness_new_empty () : NULL;
    g_autoptr (GstPad) pad
        = gst_element_request_pad_simple (rig->element, i % 3 ? "text_src" : "json_src");

    g_assert_nonnull (pad);
    if (h)
      gst_harness_add_element_src_pad (h, pad);
    rig_push_span (rig, pts, pts + 700 * MS, 50);
    pts += 700 * MS;
    if (h)
      gst_pad_unlink (pad, h->sinkpad);
    gst_element_release_request_pad (rig->element, pad);
    rig_push_span (rig, pts, pts + 300 * MS, 50);
    pts += 300 * MS;
    g_clear_pointer (&h, gst_harness_teardown);
  }
  /* Every window was answered all the same. */
  for (guint i = 0; i < 119; i++)
    gst_message_unref (bus_wait_element (rig->bus, "valleyinfer/result"));
}

static char *
caption_of (const char *engine_text)
{
  g_autofree char *escaped = g_uri_escape_string (engine_text, NULL, FALSE);
  g_autofree char *model = g_strconcat ("text=", escaped, NULL);
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, model, NULL);
  g_autoptr (JsonObject) line = NULL;

  rig_push_span (rig, 0, 2100 * MS, 50);
  line = rig_json (rig, 0);
  g_assert_true (g_utf8_validate (json_object_get_string_member (line, "result"), -1, NULL));
  return rig_caption (rig, 0);
}

/* Rule 16: what would break a subtitle file never leaves the element. */
static void
test_caption_text (void)
{
  static const char *const texts[]
      = { "a\n\nb",  "a\r\n\r\nb", "\n\na\n",       "a --> b",
          "a---->b", "a\n \t\nb",  "caf\xc3\xa9\n", "a\n\n\n\n\nb\n\n" };

  for (guint i = 0; i < G_N_ELEMENTS (texts); i++) {
    g_autofree char *caption = caption_of (texts[i]);
    g_auto (GStrv) lines = g_strsplit (caption, "\n", -1);

    g_assert_true (g_utf8_validate (caption, -1, NULL));
    g_assert_null (strstr (caption, "-->"));
    g_assert_cmpint (caption[0], !=, '\0');
    for (guint j = 0; lines[j]; j++)
      g_assert_cmpstr (g_strstrip (lines[j]), !=, "");
  }
}

static void
test_plain_caption_kept (void)
{
  g_autofree char *caption = caption_of ("A red circle, <b> & 5 > 3.\nSecond line.");

  g_assert_cmpstr (caption, ==, "A red circle, <b> & 5 > 3.\nSecond line.");
}

static void
test_long_caption (void)
{
  g_autoptr (GString) text = g_string_new ("x");
  g_autofree char *caption = NULL;

  for (guint i = 0; i < 40000; i++)
    g_string_append (text, "\xc3\xa9");
  caption = caption_of (text->str);
  g_assert_cmpuint (strlen (caption), <=, 65535);
  g_assert_cmpuint (strlen (caption), >, 60000);
  g_assert_true (g_utf8_validate (caption, -1, NULL));
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/pads/stream-start", test_stream_start);
  g_test_add_func ("/element/pads/caps", test_caps);
  g_test_add_func ("/element/pads/tags-follow-segment", test_tags_follow_segment);
  g_test_add_func ("/element/pads/blocked-pad", test_blocked_pad);
  g_test_add_func ("/element/pads/blocked-pad-bounded", test_blocked_pad_bounded);
  g_test_add_func ("/element/pads/seek-once", test_seek_once);
  g_test_add_func ("/element/pads/seek-once-from-src", test_seek_once_from_src);
  g_test_add_func ("/element/pads/upstream-events", test_upstream_events);
  g_test_add_func ("/element/pads/text-flow", test_text_flow);
  g_test_add_func ("/element/pads/requested-late", test_requested_late);
  g_test_add_func ("/element/pads/tags-for-late-pad", test_tags_for_late_pad);
  g_test_add_func ("/element/pads/requested-in-paused", test_requested_in_paused);
  g_test_add_func ("/element/pads/requested-in-flush", test_requested_in_flush);
  g_test_add_func ("/element/pads/linked-late", test_linked_late);
  g_test_add_func ("/element/pads/released-while-running", test_released_while_running);
  g_test_add_func ("/element/pads/caption-text", test_caption_text);
  g_test_add_func ("/element/pads/plain-caption-kept", test_plain_caption_kept);
  g_test_add_func ("/element/pads/long-caption", test_long_caption);
  return test_finish ();
}
