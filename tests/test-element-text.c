/* test-element-text.c - when text comes and where the pad's position stands: preroll GAPs,
 * timing, lateness (rules 6 and 11).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

static GstPadProbeReturn
hold (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  return GST_PAD_PROBE_OK;
}

static gpointer
push_one (gpointer data)
{
  Rig *rig = data;

  gst_harness_push (rig->video, frame_new (64, 48, 4 * S, 100 * MS, 50));
  return NULL;
}

/* Rule 11: a sink on a text pad prerolls though the first frame is still held up on src. */
static void
test_preroll_gap (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);
  g_autoptr (GstPad) src = gst_element_get_static_pad (rig->element, "src");
  gulong probe = gst_pad_add_probe (src, GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER, hold,
                                    NULL, NULL);
  GThread *source = g_thread_new ("source", push_one, rig);
  const LogItem *text = log_event (rig->log, "text_src", GST_EVENT_GAP, 0);
  const LogItem *json = log_event (rig->log, "json_src", GST_EVENT_GAP, 0);

  g_assert_cmpuint (log_start (text), ==, 4 * S);
  g_assert_cmpuint (log_end (text), ==, 4 * S);
  g_assert_cmpuint (log_start (json), ==, 4 * S);
  gst_pad_remove_probe (src, probe);
  g_thread_join (source);
}

static void
expect_event (Rig *rig, const char *pad, guint *index, GstEventType type)
{
  const LogItem *item = log_next (rig->log, pad, index);

  if (!item->event || GST_EVENT_TYPE (item->event) != type) {
    log_print (rig->log);
    g_error ("%s is not on %s at %u", gst_event_type_get_name (type), pad, *index - 1);
  }
}

static void
check_start_order (const char *pad)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);
  guint index = 0;

  rig_push (rig, 0, 100 * MS, 50);
  expect_event (rig, pad, &index, GST_EVENT_STREAM_START);
  expect_event (rig, pad, &index, GST_EVENT_CAPS);
  expect_event (rig, pad, &index, GST_EVENT_SEGMENT);
  expect_event (rig, pad, &index, GST_EVENT_GAP);
}

static void
test_start_order (void)
{
  check_start_order ("text_src");
  check_start_order ("json_src");
}

static void
test_gap_after_flush (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "", NULL);
  guint index;

  rig_push_span (rig, 0, 2100 * MS, 50);
  log_buffer (rig->log, "text_src", 0);
  rig_seek_done (rig, 8 * S);
  rig_push (rig, 8 * S, 100 * MS, 50);
  index = log_index (rig->log, log_event (rig->log, "text_src", GST_EVENT_FLUSH_START, 0));
  expect_event (rig, "text_src", &index, GST_EVENT_FLUSH_START);
  expect_event (rig, "text_src", &index, GST_EVENT_FLUSH_STOP);
  expect_event (rig, "text_src", &index, GST_EVENT_SEGMENT);
  expect_event (rig, "text_src", &index, GST_EVENT_GAP);
}

static void
test_gap_after_new_segment (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "", NULL);
  GstSegment segment;
  guint index;

  rig_push_span (rig, 0, 2 * S, 50);
  gst_segment_init (&segment, GST_FORMAT_TIME);
  segment.start = segment.time = 30 * S;
  segment.base = 2 * S;
  rig_push_segment (rig, &segment);
  rig_push (rig, 30 * S, 100 * MS, 50);
  index = log_index (rig->log, log_event (rig->log, "text_src", GST_EVENT_SEGMENT, 1));
  expect_event (rig, "text_src", &index, GST_EVENT_SEGMENT);
  expect_event (rig, "text_src", &index, GST_EVENT_GAP);
  g_assert_cmpuint (log_start (log_item (rig->log, index - 1)), ==, 2 * S);
  log_check_order (rig->log, "text_src");
}

/* Rule 6, files: PTS is the window's, and after each text the position is its end. */
static void
test_window_timing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "", NULL);

  rig_push_span (rig, 0, 6100 * MS, 50);
  for (guint i = 0; i < 3; i++) {
    const LogItem *text = log_buffer (rig->log, "text_src", i);
    guint index = log_index (rig->log, text) + 1;
    const LogItem *gap;

    g_assert_cmpuint (GST_BUFFER_PTS (text->buffer), ==, i * 2 * S);
    g_assert_cmpuint (GST_BUFFER_DURATION (text->buffer), ==, 2 * S);
    gap = log_next (rig->log, "text_src", &index);
    g_assert_true (gap->event && GST_EVENT_TYPE (gap->event) == GST_EVENT_GAP);
    g_assert_cmpuint (log_start (gap), ==, log_end (text));
    g_assert_cmpuint (log_end (gap), ==, log_end (text));
  }
  log_check_order (rig->log, "text_src");
}

static void
test_late_timing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON | RIG_LIVE, "", NULL);
  const LogItem *text;

  rig_push_span (rig, 0, 2100 * MS, 50);
  text = log_buffer (rig->log, "text_src", 0);
  /* chunk-duration + 1000 ms after the window */
  g_assert_cmpuint (log_start (text), ==, 3 * S);
  g_assert_cmpuint (log_end (text), ==, 5 * S);
  rig_check_window (rig, 0, 0, 2 * S);
  g_assert_cmpuint (log_start (log_buffer (rig->log, "json_src", 0)), ==, 0);
  /* The next window's caption follows without a hole. */
  rig_push_span (rig, 2100 * MS, 4100 * MS, 50);
  g_assert_cmpuint (log_start (log_buffer (rig->log, "text_src", 1)), ==, 5 * S);
  log_check_order (rig->log, "text_src");
}

/* The GAPs of a late pad never run ahead of the video. */
static void
test_late_gaps_follow_video (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_LIVE, "delay=60000", NULL);

  for (guint i = 0; i < 100; i++) {
    rig_push (rig, i * 100 * MS, 100 * MS, 50);
    if (i >= 50)
      log_gap_at (rig->log, "text_src", i * 100 * MS);
  }
  for (guint i = 1; i < log_n_events (rig->log, "text_src", GST_EVENT_GAP); i++) {
    const LogItem *gap = log_event (rig->log, "text_src", GST_EVENT_GAP, i);

    g_assert_cmpuint (log_end (gap), <=, 10 * S);
  }
}

/* A live rig whose engine answers nothing before open_gate. */
static Rig *
gated_rig (const char *gate, const char *property, guint value)
{
  g_autofree char *model = g_strdup_printf ("gate=%s", gate);

  return rig_new (RIG_TEXT | RIG_JSON | RIG_LIVE, model, property, value, "queue-max-windows", 100,
                  NULL);
}

static void
open_gate (const char *gate)
{
  g_autoptr (GError) error = NULL;

  g_file_set_contents (gate, "", 0, &error);
  g_assert_no_error (error);
}

/* Half of its time is over when the text is ready: the rest is shown. */
static void
test_partly_late (void)
{
  g_autofree char *gate = test_path ("partly-late");
  g_autoptr (Rig) rig = gated_rig (gate, "lateness", 3000);
  const LogItem *text;

  rig_push_span (rig, 0, 4100 * MS, 50);
  log_gap_at (rig->log, "text_src", 4 * S);
  open_gate (gate);
  text = log_buffer (rig->log, "text_src", 0);
  g_assert_cmpuint (log_start (text), >=, 4 * S);
  g_assert_cmpuint (log_start (text), <=, 4100 * MS);
  g_assert_cmpuint (log_end (text), ==, 5 * S);
  rig_check_window (rig, 0, 0, 2 * S);
  log_check_order (rig->log, "text_src");
}

static void
test_too_late (void)
{
  g_autofree char *gate = test_path ("too-late");
  g_autoptr (Rig) rig = gated_rig (gate, "lateness", 3000);
  g_autoptr (GstMessage) message = NULL;
  guint observed, needed;

  rig_push_span (rig, 0, 8100 * MS, 50);
  log_gap_at (rig->log, "text_src", 8 * S);
  open_gate (gate);
  message = bus_wait_element (rig->bus, "valleyinfer/excessive-delay");
  /* Nothing of [0, 2) is left at 8 s; it would have begun in time with 8 s of lateness. */
  g_assert_true (
      gst_structure_get_uint (gst_message_get_structure (message), "needed_lateness_ms", &needed));
  g_assert_cmpuint (needed, >=, 8000);
  g_assert_cmpuint (needed, <=, 8200);
  rig_check_window (rig, 0, 0, 2 * S);
  g_object_get (rig->element, "max-observed-delay", &observed, NULL);
  g_assert_cmpuint (observed, >=, 8000);
  /* The next windows come too: dropped captions, no lost lines. */
  rig_check_window (rig, 1, 2 * S, 4 * S);
  log_check_order (rig->log, "text_src");
}

/* Behind a delayed picture: once the promised delay is over the position moves on, and a text
 * that comes then is cut or told, like any late one. */
static void
test_latency_too_late (void)
{
  g_autofree char *gate = test_path ("latency-too-late");
  g_autoptr (Rig) rig = gated_rig (gate, "latency", 1000);
  g_autoptr (GstMessage) message = NULL;

  rig_push_span (rig, 0, 8100 * MS, 50);
  log_gap_at (rig->log, "text_src", 4 * S);
  open_gate (gate);
  message = bus_wait_element (rig->bus, "valleyinfer/excessive-delay");
  log_buffer (rig->log, "json_src", 3);
  log_check_order (rig->log, "text_src");
}

/* A lateness below the chunk shows every caption short: said once, when it is known. */
static void
test_small_lateness_warns (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_LIVE, "", "lateness", 1500, NULL);

  rig_push_span (rig, 0, 2100 * MS, 50);
  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_WARNING));
}

/* A window that grows past the lateness makes it too small as well; once said, that is known. */
static void
test_grown_window_warns (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_LIVE, "", "lateness", 3000, NULL);

  rig_push_span (rig, 0, 2100 * MS, 50);
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
  g_object_set (rig->element, "chunk-duration", 4000, NULL);
  rig_push_span (rig, 2100 * MS, 4100 * MS, 50);
  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_WARNING));
  g_object_set (rig->element, "stream-id", "same", NULL);
  rig_push_span (rig, 4100 * MS, 8100 * MS, 50);
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

static void
test_live_window_timing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_LIVE, "", "latency", 1000, NULL);

  rig_push_span (rig, 0, 2100 * MS, 50);
  g_assert_cmpuint (log_start (log_buffer (rig->log, "text_src", 0)), ==, 0);
}

/* A text pad may differ from its element: a file recording beside an overlay. */
static void
test_pad_timing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_LIVE | RIG_NO_CAPS, "", NULL);

  gst_util_set_object_arg (G_OBJECT (rig->text_pad), "text-timing", "window");
  gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
  rig_push_span (rig, 0, 2100 * MS, 50);
  g_assert_cmpuint (log_start (log_buffer (rig->log, "text_src", 0)), ==, 0);
}

/* While the model loads and windows are dropped the text position moves on. */
static void
test_gaps_while_loading (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_LIVE, "load=600000", "queue-max-windows", 1,
                                 "text-timing", 1, NULL);

  rig_push_span (rig, 0, 20 * S, 50);
  log_gap_at (rig->log, "text_src", 14 * S);
  g_assert_cmpuint (log_n_buffers (rig->log, "text_src"), ==, 0);
  log_check_order (rig->log, "text_src");
}

/* The same without drops: a model that takes long to load holds nobody's position. */
static void
test_gaps_before_first_window (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_LIVE, "load=600000", "queue-max-windows", 100,
                                 "text-timing", 1, NULL);

  rig_push_span (rig, 0, 20 * S, 50);
  log_gap_at (rig->log, "text_src", 14 * S);
  log_check_order (rig->log, "text_src");
}

/* In window timing a GAP never passes a window that may still get its text. */
static void
test_gaps_wait_for_window (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "delay=200", NULL);

  rig_push_span (rig, 0, 6100 * MS, 50);
  for (guint i = 0; i < 3; i++)
    g_assert_cmpuint (log_start (log_buffer (rig->log, "text_src", i)), ==, i * 2 * S);
  log_check_order (rig->log, "text_src");
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/text/preroll-gap", test_preroll_gap);
  g_test_add_func ("/element/text/start-order", test_start_order);
  g_test_add_func ("/element/text/gap-after-flush", test_gap_after_flush);
  g_test_add_func ("/element/text/gap-after-new-segment", test_gap_after_new_segment);
  g_test_add_func ("/element/text/window-timing", test_window_timing);
  g_test_add_func ("/element/text/late-timing", test_late_timing);
  g_test_add_func ("/element/text/late-gaps-follow-video", test_late_gaps_follow_video);
  g_test_add_func ("/element/text/partly-late", test_partly_late);
  g_test_add_func ("/element/text/too-late", test_too_late);
  g_test_add_func ("/element/text/latency-too-late", test_latency_too_late);
  g_test_add_func ("/element/text/small-lateness-warns", test_small_lateness_warns);
  g_test_add_func ("/element/text/grown-window-warns", test_grown_window_warns);
  g_test_add_func ("/element/text/live-window-timing", test_live_window_timing);
  g_test_add_func ("/element/text/pad-timing", test_pad_timing);
  g_test_add_func ("/element/text/gaps-while-loading", test_gaps_while_loading);
  g_test_add_func ("/element/text/gaps-before-first-window", test_gaps_before_first_window);
  g_test_add_func ("/element/text/gaps-wait-for-window", test_gaps_wait_for_window);
  return test_finish ();
}
