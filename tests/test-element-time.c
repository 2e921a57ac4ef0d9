/* test-element-time.c - segments, missing times, last frames, gaps and EOS (rules 5 and 15).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <gst/video/video.h>

#define END GST_CLOCK_TIME_NONE

/* EOS overtakes nothing on the text pads and waits for nothing on src. */
static void
test_eos (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "delay=300", NULL);
  guint src, text;

  rig_push_span (rig, 0, 3 * S, 50);
  rig_push_eos (rig);
  src = log_index (rig->log, log_event (rig->log, "src", GST_EVENT_EOS, 0));
  text = log_index (rig->log, log_event (rig->log, "text_src", GST_EVENT_EOS, 0));
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 2);
  g_assert_cmpuint (log_n_buffers (rig->log, "text_src"), ==, 2);
  rig_check_window (rig, 1, 2 * S, 3 * S);
  g_assert_cmpuint (src, <, log_index (rig->log, log_buffer (rig->log, "text_src", 1)));
  g_assert_cmpuint (text, >, log_index (rig->log, log_buffer (rig->log, "text_src", 1)));
}

/* Holds every result message for a moment and notes how many texts were out by then. */
static GstBusSyncReply
hold_result (GstBus *bus, GstMessage *message, gpointer data)
{
  Rig *rig = data;

  if (gst_message_has_name (message, "valleyinfer/result")) {
    guint64 id;

    g_assert_true (gst_structure_get_uint64 (gst_message_get_structure (message), "chunk_id", &id));
    g_usleep (100 * 1000);
    g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, id);
    g_assert_cmpuint (log_n_events (rig->log, "json_src", GST_EVENT_EOS), ==, 0);
  }
  return GST_BUS_PASS;
}

/* Whoever stops on EOS has seen every result: its message precedes its text, and so EOS. */
static void
test_message_before_text (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  gst_bus_set_sync_handler (rig->bus, hold_result, rig, NULL);
  rig_push_span (rig, 0, 3 * S, 50);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 2);
  gst_bus_set_sync_handler (rig->bus, NULL, NULL, NULL);
}

static void
test_eos_without_frames (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  rig_push_eos (rig);
  log_event (rig->log, "src", GST_EVENT_EOS, 0);
  log_event (rig->log, "text_src", GST_EVENT_EOS, 0);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 0);
}

static void
test_eos_forgotten_on_flush (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  log_event (rig->log, "text_src", GST_EVENT_EOS, 0);
  rig_seek_done (rig, 0);
  rig_push_span (rig, 0, 2100 * MS, 50);
  rig_check_window (rig, 1, 0, 2 * S);
  rig_push_eos (rig);
  log_event (rig->log, "text_src", GST_EVENT_EOS, 1);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 1);
  g_assert_cmpuint (log_n_buffers (rig->log, "text_src"), ==, 3);
}

static void
test_eos_forgotten_on_stream_start (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);
  GstSegment segment;

  rig_push_span (rig, 0, 1 * S, 50);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  gst_segment_init (&segment, GST_FORMAT_TIME);
  gst_harness_push_event (rig->video, gst_event_new_stream_start ("second"));
  rig_push_caps (rig, RIG_CAPS);
  rig_push_segment (rig, &segment);
  rig_push_span (rig, 0, 2100 * MS, 50);
  rig_check_window (rig, 1, 0, 2 * S);
  log_event (rig->log, "text_src", GST_EVENT_STREAM_START, 1);
  log_buffer (rig->log, "text_src", 1);
}

/* Captions stay on the timeline of the video they describe. */
static void
test_stream_time (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);
  g_autoptr (JsonObject) line = NULL;
  GstSegment segment;

  gst_segment_init (&segment, GST_FORMAT_TIME);
  segment.start = 100 * S;
  segment.time = 7 * S;
  rig_push_segment (rig, &segment);
  rig_push_span (rig, 100 * S, 102100 * MS, 50);
  line = rig_json (rig, 0);
  rig_check_window (rig, 0, 7 * S, 9 * S);
  rig_check_frames (rig, 0, 7 * S, 7500 * MS, 8 * S, 8500 * MS, END);
  g_assert_cmpint (json_object_get_int_member (line, "timestamp"), ==, 100 * S);
  g_assert_cmpuint (GST_BUFFER_PTS (log_buffer (rig->log, "text_src", 0)->buffer), ==, 100 * S);
  g_assert_cmpuint (log_start (log_buffer (rig->log, "text_src", 0)), ==, 0);
}

static void
test_outside_segment (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  GstSegment segment;

  gst_segment_init (&segment, GST_FORMAT_TIME);
  segment.start = segment.time = 1 * S;
  segment.stop = 4200 * MS;
  rig_push_segment (rig, &segment);
  rig_push_span (rig, 0, 6 * S, 50);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  rig_check_window (rig, 0, 1 * S, 3 * S);
  rig_check_frames (rig, 0, 1 * S, 1500 * MS, 2 * S, 2500 * MS, END);
  rig_check_window (rig, 1, 3 * S, 4200 * MS);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 2);
  g_assert_cmpuint (log_n_buffers (rig->log, "src"), ==, 60);
}

/* A window that the segment cuts short is over when the segment is. */
static void
test_clamped_window_closes (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  GstSegment segment;

  gst_segment_init (&segment, GST_FORMAT_TIME);
  segment.stop = 1500 * MS;
  rig_push_segment (rig, &segment);
  rig_push_span (rig, 0, 1 * S, 50);
  g_assert_true (gst_harness_push_event (rig->video, gst_event_new_gap (1 * S, 5 * S)));
  rig_check_window (rig, 0, 0, 1500 * MS);
}

/* What cannot be placed in time passes, with one warning for the stream. */
static void
check_unanalysed (Rig *rig, guint n)
{
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "src"), ==, n);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 0);
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 1);
}

static void
test_no_pts (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  for (guint i = 0; i < 40; i++)
    rig_push (rig, GST_CLOCK_TIME_NONE, 100 * MS, 50);
  check_unanalysed (rig, 40);
}

static void
test_negative_rate (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  GstSegment segment;

  gst_segment_init (&segment, GST_FORMAT_TIME);
  segment.rate = -1.0;
  segment.stop = 10 * S;
  rig_push_segment (rig, &segment);
  for (guint i = 0; i < 40; i++)
    rig_push (rig, (100 - i) * 100 * MS, 100 * MS, 50);
  check_unanalysed (rig, 40);
}

static void
test_bytes_segment (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  GstSegment segment;

  gst_segment_init (&segment, GST_FORMAT_BYTES);
  rig_push_segment (rig, &segment);
  rig_push_span (rig, 0, 4 * S, 50);
  check_unanalysed (rig, 40);
}

/* After such a stretch a good segment is analysed as if nothing had been. */
static void
test_recovers (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  for (guint i = 0; i < 10; i++)
    rig_push (rig, GST_CLOCK_TIME_NONE, 100 * MS, 50);
  rig_push_span (rig, 5 * S, 7100 * MS, 50);
  rig_check_window (rig, 0, 5 * S, 7 * S);
  g_assert_cmpuint (GST_BUFFER_PTS (log_buffer (rig->log, "text_src", 0)->buffer), ==, 5 * S);
}

/* Where the last frame ends, from the best source there is. */
static void
check_last_end (const char *caps, GstClockTime duration, guint n, GstClockTime end)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_NO_CAPS, "", NULL);

  gst_harness_set_src_caps_str (rig->video, caps);
  for (guint i = 0; i < n; i++)
    rig_push (rig, i * 200 * MS, duration, 50);
  rig_push_eos (rig);
  rig_check_window (rig, 0, 0, end);
}

#define SIZED "video/x-raw,format=I420,width=64,height=48,framerate="

static void
test_last_duration (void)
{
  check_last_end (SIZED "5/1", 120 * MS, 3, 520 * MS);
  check_last_end (SIZED "4/1", GST_CLOCK_TIME_NONE, 3, 650 * MS);
  check_last_end (SIZED "0/1", GST_CLOCK_TIME_NONE, 3, 600 * MS);
  check_last_end (SIZED "0/1,max-framerate=20/1", GST_CLOCK_TIME_NONE, 3, 600 * MS);
  check_last_end (SIZED "0/1,max-framerate=20/1", GST_CLOCK_TIME_NONE, 1, 50 * MS);
  check_last_end (SIZED "0/1", GST_CLOCK_TIME_NONE, 1, 1 * MS);
}

/* Variable rate: everything goes by PTS. */
static void
test_framerate_zero (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_NO_CAPS, "", NULL);

  gst_harness_set_src_caps_str (rig->video, SIZED "0/1");
  for (guint i = 0; i < 23; i++)
    rig_push (rig, i * 100 * MS, GST_CLOCK_TIME_NONE, 50);
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, 1 * S, 1500 * MS, END);
  rig_check_window (rig, 0, 0, 2 * S);
}

/* A GAP on sink goes on to src and tells that the window's time has passed. */
static void
test_gap_closes_window (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  g_assert_true (gst_harness_push_event (rig->video, gst_event_new_gap (1 * S, 4 * S)));
  log_event (rig->log, "src", GST_EVENT_GAP, 0);
  rig_check_window (rig, 0, 0, 2 * S);
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, END);
  log_buffer (rig->log, "text_src", 0);
}

/* Wall-clock time is copied from the source's reference timestamp. */
static void
test_ntp_time (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  g_autoptr (GstCaps) ntp = gst_caps_new_empty_simple ("timestamp/x-ntp");
  g_autoptr (GstCaps) unix_time = gst_caps_new_empty_simple ("timestamp/x-unix");
  g_autoptr (GDateTime) utc = g_date_time_new_utc (2026, 1, 2, 3, 4, 5.678);
  guint64 unix_ns = g_date_time_to_unix (utc) * S + 678 * MS;

  for (guint i = 0; i < 42; i++) {
    GstBuffer *frame = frame_new (64, 48, i * 100 * MS, 100 * MS, 50);

    /* rtspsrc writes NTP, other sources Unix time; both must come out as the same date. */
    if (i < 20)
      gst_buffer_add_reference_timestamp_meta (
          frame, ntp, unix_ns + G_GUINT64_CONSTANT (2208988800) * S + i * 100 * MS,
          GST_CLOCK_TIME_NONE);
    else
      gst_buffer_add_reference_timestamp_meta (frame, unix_time, unix_ns + i * 100 * MS,
                                               GST_CLOCK_TIME_NONE);
    g_assert_cmpint (gst_harness_push (rig->video, frame), ==, GST_FLOW_OK);
  }
  for (guint i = 0; i < 2; i++) {
    g_autoptr (JsonObject) line = rig_json (rig, i);

    g_assert_cmpstr (json_object_get_string_member_with_default (line, "ntp_time", "none"), ==,
                     i == 0 ? "2026-01-02T03:04:05.678Z" : "2026-01-02T03:04:07.678Z");
  }
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/time/eos", test_eos);
  g_test_add_func ("/element/time/message-before-text", test_message_before_text);
  g_test_add_func ("/element/time/eos-without-frames", test_eos_without_frames);
  g_test_add_func ("/element/time/eos-forgotten-on-flush", test_eos_forgotten_on_flush);
  g_test_add_func ("/element/time/eos-forgotten-on-stream-start",
                   test_eos_forgotten_on_stream_start);
  g_test_add_func ("/element/time/stream-time", test_stream_time);
  g_test_add_func ("/element/time/outside-segment", test_outside_segment);
  g_test_add_func ("/element/time/clamped-window-closes", test_clamped_window_closes);
  g_test_add_func ("/element/time/no-pts", test_no_pts);
  g_test_add_func ("/element/time/negative-rate", test_negative_rate);
  g_test_add_func ("/element/time/bytes-segment", test_bytes_segment);
  g_test_add_func ("/element/time/recovers", test_recovers);
  g_test_add_func ("/element/time/last-duration", test_last_duration);
  g_test_add_func ("/element/time/framerate-zero", test_framerate_zero);
  g_test_add_func ("/element/time/gap-closes-window", test_gap_closes_window);
  g_test_add_func ("/element/time/ntp-time", test_ntp_time);
  return test_finish ();
}
