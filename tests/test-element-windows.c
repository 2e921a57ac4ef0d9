/* test-element-windows.c - which frames make which window (rules 2 and 3), seen through the
 * JSON lines.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#define END GST_CLOCK_TIME_NONE

/* The grid starts at the first PTS, wherever that is. */
static void
test_grid (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 1300 * MS, 5400 * MS, 50);
  rig_check_frames (rig, 0, 1300 * MS, 1800 * MS, 2300 * MS, 2800 * MS, END);
  rig_check_window (rig, 0, 1300 * MS, 3300 * MS);
  rig_check_frames (rig, 1, 3300 * MS, 3800 * MS, 4300 * MS, 4800 * MS, END);
  rig_check_window (rig, 1, 3300 * MS, 5300 * MS);
}

/* The first frame at or past a slot is taken; a slot without a frame stays empty and does
 * not shift the next ones. */
static void
test_uneven_frames (void)
{
  static const guint pts_ms[]
      = { 0, 333, 666, 999, 1000, 1333, 1999, 2000, 2900, 3100, 3700, 4000 };
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  for (guint i = 0; i < G_N_ELEMENTS (pts_ms); i++)
    rig_push (rig, pts_ms[i] * MS, GST_CLOCK_TIME_NONE, 50);
  rig_check_frames (rig, 0, 0 * MS, 666 * MS, 1000 * MS, 1999 * MS, END);
  rig_check_frames (rig, 1, 2000 * MS, 2900 * MS, 3100 * MS, 3700 * MS, END);
}

static void
test_frame_rate_property (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", "frame-rate", 5, 2, "chunk-duration", 1000, NULL);

  rig_push_span (rig, 0, 1100 * MS, 50);
  rig_check_frames (rig, 0, 0 * MS, 400 * MS, 800 * MS, END);
  rig_check_window (rig, 0, 0, 1 * S);
}

static void
test_overlap (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", "chunk-overlap", 1500, NULL);
  GstClockTime end = 2 * S;

  /* JSON tells what the model is shown: here the window alone. */
  gst_util_set_object_arg (G_OBJECT (rig->element), "window-policy", "sliding");
  rig_push_span (rig, 0, 4100 * MS, 50);
  rig_check_window (rig, 0, 0, 2 * S);
  rig_check_window (rig, 1, 500 * MS, 2500 * MS);
  rig_check_frames (rig, 1, 500 * MS, 1000 * MS, 1500 * MS, 2000 * MS, END);
  rig_check_window (rig, 2, 1 * S, 3 * S);
  rig_check_window (rig, 4, 2 * S, 4 * S);
  /* Captions follow one another: the whole first window, then the newest hop of each. */
  for (guint i = 0; i < 5; i++) {
    GstBuffer *text = log_buffer (rig->log, "text_src", i)->buffer;

    g_assert_cmpuint (GST_BUFFER_PTS (text), ==, i == 0 ? 0 : end);
    g_assert_cmpuint (GST_BUFFER_DURATION (text), ==, i == 0 ? 2 * S : 500 * MS);
    end = GST_BUFFER_PTS (text) + GST_BUFFER_DURATION (text);
  }
}

/* An overlap that leaves no hop cannot be obeyed; it must not spin or crash. */
static void
test_overlap_too_large (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", "chunk-overlap", 60000, NULL);

  rig_push_span (rig, 0, 5 * S, 50);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), >, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), <, 50);
}

static void
test_chunk_size_wins (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", "chunk-size", 3, "chunk-duration", 8000, NULL);

  rig_push_span (rig, 0, 3200 * MS, 50);
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, 1000 * MS, END);
  rig_check_window (rig, 0, 0, 1500 * MS);
  rig_check_window (rig, 1, 1500 * MS, 3 * S);
}

/* A leaky queue sets DISCONT on whatever follows what it dropped. */
static void
test_discont_changes_nothing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  for (guint i = 0; i < 45; i++) {
    GstBuffer *frame = frame_new (64, 48, i * 100 * MS, 100 * MS, 50);

    GST_BUFFER_FLAG_SET (frame, GST_BUFFER_FLAG_DISCONT);
    g_assert_cmpint (gst_harness_push (rig->video, frame), ==, GST_FLOW_OK);
  }
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, 1000 * MS, 1500 * MS, END);
  rig_check_frames (rig, 1, 2000 * MS, 2500 * MS, 3000 * MS, 3500 * MS, END);
}

static void
test_backwards_resets (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 10 * S, 11 * S, 50);
  rig_push_span (rig, 3 * S, 5100 * MS, 50);
  /* Cut short: the window ends where its last frame ended. */
  rig_check_window (rig, 0, 10 * S, 11 * S);
  rig_check_frames (rig, 0, 10 * S, 10500 * MS, END);
  rig_check_window (rig, 1, 3 * S, 5 * S);
}

static void
test_jump_opens_one_window (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  rig_push_span (rig, 3600 * S, 3602100 * MS, 50);
  rig_check_window (rig, 0, 0, 1 * S);
  rig_check_window (rig, 1, 3600 * S, 3602 * S);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 3);
}

/* Missing frames for less than a window are no jump: the grid goes on. */
static void
test_short_hole (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  rig_push_span (rig, 2600 * MS, 4100 * MS, 50);
  rig_check_window (rig, 0, 0, 2 * S);
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, END);
  rig_check_window (rig, 1, 2 * S, 4 * S);
  rig_check_frames (rig, 1, 2600 * MS, 3 * S, 3500 * MS, END);
}

static void
change_caps (Rig *rig, guint width, guint height, const char *more)
{
  g_autofree char *caps = g_strdup_printf (
      "video/x-raw,format=I420,width=%u,height=%u,framerate=10/1%s", width, height, more);

  rig_push_caps (rig, caps);
}

static void
push_sized (Rig *rig, guint width, guint height, GstClockTime from, GstClockTime to)
{
  for (GstClockTime pts = from; pts < to; pts += 100 * MS)
    g_assert_cmpint (gst_harness_push (rig->video, frame_new (width, height, pts, 100 * MS, 50)),
                     ==, GST_FLOW_OK);
}

static void
test_caps_same_aspect (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  change_caps (rig, 128, 96, "");
  push_sized (rig, 128, 96, 1 * S, 2100 * MS);
  rig_check_window (rig, 0, 0, 2 * S);
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, 1 * S, 1500 * MS, END);
}

static void
test_caps_other_aspect (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  change_caps (rig, 128, 48, "");
  push_sized (rig, 128, 48, 1 * S, 3100 * MS);
  rig_check_window (rig, 0, 0, 1 * S);
  rig_check_window (rig, 1, 1 * S, 3 * S);
}

/* The display aspect counts: 128x48 with pixels twice as high as wide looks like 64x48. */
static void
test_caps_pixel_aspect (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  change_caps (rig, 128, 48, ",pixel-aspect-ratio=1/2");
  push_sized (rig, 128, 48, 1 * S, 2100 * MS);
  rig_check_window (rig, 0, 0, 2 * S);
}

static void
test_flush_drops_window (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1500 * MS, 50);
  rig_seek_done (rig, 20 * S);
  rig_push_span (rig, 20 * S, 22100 * MS, 50);
  rig_check_window (rig, 0, 20 * S, 22 * S);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 2);
}

/* A real leaky queue before a slow source of windows: DISCONT everywhere, still windows on
 * the grid. */
static void
test_leaky_queue (void)
{
  g_autofree char *path = test_path ("leaky.json");
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;
  GstElement *pipeline = pipe_new (
      "videotestsrc is-live=true num-buffers=100 ! video/x-raw,width=64,height=48,framerate=25/1 "
      "! queue leaky=downstream max-size-buffers=1 ! identity sleep-time=60000 "
      "! valleyinfer name=v model-path=fake: chunk-duration=1000 ! fakesink "
      "v.json_src ! filesink buffer-mode=unbuffered location=%s",
      path);

  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  pipe_free (pipeline);
  text = test_read (path);
  lines = g_strsplit (text, "\n", -1);
  /* Four seconds: four windows, and the last may be split by a frame late by one slot. */
  g_assert_cmpuint (g_strv_length (lines) - 1, >=, 3);
  g_assert_cmpuint (g_strv_length (lines) - 1, <=, 6);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/windows/grid", test_grid);
  g_test_add_func ("/element/windows/uneven-frames", test_uneven_frames);
  g_test_add_func ("/element/windows/frame-rate", test_frame_rate_property);
  g_test_add_func ("/element/windows/overlap", test_overlap);
  g_test_add_func ("/element/windows/overlap-too-large", test_overlap_too_large);
  g_test_add_func ("/element/windows/chunk-size-wins", test_chunk_size_wins);
  g_test_add_func ("/element/windows/discont-changes-nothing", test_discont_changes_nothing);
  g_test_add_func ("/element/windows/backwards-resets", test_backwards_resets);
  g_test_add_func ("/element/windows/jump-opens-one-window", test_jump_opens_one_window);
  g_test_add_func ("/element/windows/short-hole", test_short_hole);
  g_test_add_func ("/element/windows/caps-same-aspect", test_caps_same_aspect);
  g_test_add_func ("/element/windows/caps-other-aspect", test_caps_other_aspect);
  g_test_add_func ("/element/windows/caps-pixel-aspect", test_caps_pixel_aspect);
  g_test_add_func ("/element/windows/flush-drops-window", test_flush_drops_window);
  g_test_add_func ("/element/windows/leaky-queue", test_leaky_queue);
  return test_finish ();
}
