/* test-element-stock.c - pipelines of stock elements around valleyinfer that users build:
 * decodebin3, playsink, splitmuxsink, hlssink2, videorate, tee.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

#define SOURCE "videotestsrc num-buffers=60 ! video/x-raw,width=64,height=48,framerate=10/1 "
#define QUEUE "queue max-size-time=3000000000 max-size-bytes=0 max-size-buffers=0 "
#define INFER "valleyinfer name=v model-path=fake:delay=10 "
#define X264 "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=20 ! h264parse "

static void
play (GstElement *pipeline)
{
  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  pipe_free (pipeline);
}

static guint
count_lines (const char *path)
{
  g_autofree char *text = test_read (path);
  guint n = 0;

  for (const char *c = text; *c; c++)
    n += *c == '\n';
  return n;
}

static char *
write_file (const char *name, const char *encoder, const char *muxer)
{
  char *path = test_path (name);

  play (pipe_new (SOURCE "! %s ! %s ! filesink location=%s", encoder, muxer, path));
  return path;
}

static void
test_decodebin3 (void)
{
  g_autofree char *path = write_file ("decodebin3.mp4", X264, "mp4mux");
  g_autofree char *json = test_path ("decodebin3.json");

  play (pipe_new ("filesrc location=%s ! decodebin3 ! " INFER "! fakesink "
                  "v.json_src ! filesink location=%s",
                  path, json));
  g_assert_cmpuint (count_lines (json), ==, 3);
}

/* The player's own sink: its text branch renders over the picture. */
static void
test_playsink (void)
{
  play (pipe_new (SOURCE "! " INFER "! " QUEUE "! p.video_sink v.text_src ! queue ! p.text_sink "
                         "playsink name=p video-sink=fakesink flags=video+text"));
}

static void
test_splitmuxsink (void)
{
  g_autofree char *parts = test_path ("part%02d.mkv");
  g_autofree char *first = test_path ("part00.mkv");

  play (pipe_new (SOURCE "! " INFER "! " X264 "! " QUEUE "! s.video v.text_src ! queue "
                         "! s.subtitle_0 splitmuxsink name=s muxer-factory=matroskamux "
                         "max-size-time=2000000000 location=%s",
                  parts));
  g_assert_true (g_file_test (first, G_FILE_TEST_EXISTS));
}

static void
test_hlssink2 (void)
{
  g_autofree char *list = test_path ("hls.m3u8");
  g_autofree char *parts = test_path ("hls%02d.ts");
  g_autofree char *json = test_path ("hls.json");

  if (test_lacks ("hlssink2"))
    return;
  play (pipe_new (SOURCE "! " INFER "! " X264 "! h.video hlssink2 name=h target-duration=2 "
                         "location=%s playlist-location=%s v.json_src ! filesink location=%s",
                  parts, list, json));
  g_assert_true (g_file_test (list, G_FILE_TEST_EXISTS));
  g_assert_cmpuint (count_lines (json), ==, 3);
}

static void
test_videorate (void)
{
  g_autofree char *json = test_path ("videorate.json");

  play (pipe_new (SOURCE "! videorate ! video/x-raw,framerate=7/3 ! " INFER
                         "! videorate ! video/x-raw,framerate=30/1 ! fakesink "
                         "v.json_src ! filesink location=%s",
                  json));
  /* videorate may repeat the last frame at 6 s, where a fourth window begins. */
  g_assert_cmpuint (count_lines (json), >=, 3);
  g_assert_cmpuint (count_lines (json), <=, 4);
}

/* Two elements on one stream, each with a question of its own. */
static void
test_tee (void)
{
  g_autofree char *a = test_path ("tee-a.json");
  g_autofree char *b = test_path ("tee-b.json");

  play (pipe_new (SOURCE "! tee name=t "
                         "t. ! queue ! valleyinfer name=a model-path=fake:delay=5 ! fakesink "
                         "a.json_src ! filesink location=%s "
                         "t. ! queue ! valleyinfer name=b model-path=fake:delay=5 "
                         "chunk-duration=1000 ! fakesink b.json_src ! filesink location=%s",
                  a, b));
  g_assert_cmpuint (count_lines (a), ==, 3);
  g_assert_cmpuint (count_lines (b), ==, 6);
}

/* One after the other in one branch. */
static void
test_chain_of_two (void)
{
  g_autofree char *a = test_path ("first.json");
  g_autofree char *b = test_path ("second.json");

  play (pipe_new (SOURCE "! valleyinfer name=a model-path=fake:delay=5 "
                         "! valleyinfer name=b model-path=fake:delay=5 ! fakesink "
                         "a.json_src ! filesink location=%s b.json_src ! filesink location=%s",
                  a, b));
  g_assert_cmpuint (count_lines (a), ==, 3);
  g_assert_cmpuint (count_lines (b), ==, 3);
}

/* Cue times in the subtitle files are the windows' times. */
static void
test_cue_times (void)
{
  g_autofree char *vtt = test_path ("cues.vtt");
  g_autofree char *srt = test_path ("cues.srt");
  g_autofree char *vtt_text = NULL, *srt_text = NULL;

  play (pipe_new (SOURCE "! " INFER "! fakesink v.text_src ! tee name=t "
                         "t. ! queue ! webvttenc ! filesink location=%s "
                         "t. ! queue ! srtenc ! filesink location=%s",
                  vtt, srt));
  vtt_text = test_read (vtt);
  srt_text = test_read (srt);
  g_assert_nonnull (strstr (vtt_text, "00:00:00.000 --> 00:00:02.000"));
  g_assert_nonnull (strstr (vtt_text, "00:00:02.000 --> 00:00:04.000"));
  g_assert_nonnull (strstr (vtt_text, "00:00:04.000 --> 00:00:06.000"));
  g_assert_nonnull (strstr (srt_text, "00:00:04,000 --> 00:00:06,000"));
}

/* A long silence of the source, told by GAPs, then video again. */
static void
test_long_gap (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "", NULL);

  rig_push_span (rig, 0, 2 * S, 50);
  for (guint i = 0; i < 600; i++)
    g_assert_true (gst_harness_push_event (rig->video, gst_event_new_gap ((2 + i) * S, S)));
  log_gap_at (rig->log, "text_src", 590 * S);
  rig_push_span (rig, 602 * S, 604100 * MS, 50);
  rig_check_window (rig, 0, 0, 2 * S);
  rig_check_window (rig, 1, 602 * S, 604 * S);
  log_buffer (rig->log, "text_src", 1);
  log_check_order (rig->log, "text_src");
}

/* Runs a live pipeline of three seconds to its end without any warning. */
static void
check_live_overlay (const char *properties, const char *branches)
{
  GstElement *pipeline = pipe_new (
      "videotestsrc is-live=true num-buffers=30 ! video/x-raw,width=64,height=48,framerate=10/1 "
      "! valleyinfer name=v chunk-duration=1000 %s ! %s",
      properties, branches);
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  g_autoptr (GstMessage) message = NULL;

  pipe_state (pipeline, GST_STATE_PLAYING);
  message = bus_wait (bus, GST_MESSAGE_EOS | GST_MESSAGE_WARNING);
  g_assert_cmpint (GST_MESSAGE_TYPE (message), ==, GST_MESSAGE_EOS);
  pipe_free (pipeline);
}

/* Captions over an undelayed picture, no queue anywhere: it never waits for a text, whether
 * the model is quick, slow or still loading. */
static void
test_undelayed_overlay (void)
{
  const char *overlay
      = "o.video_sink v.text_src ! o.text_sink textoverlay name=o ! fakesink sync=true";

  if (test_lacks ("textoverlay"))
    return;
  check_live_overlay ("model-path=fake:", overlay);
  check_live_overlay ("model-path=fake:delay=1700", overlay);
  check_live_overlay ("model-path=fake:load=600000", overlay);
}

/* Captions in sync behind a picture that the latency delays. */
static void
test_delayed_overlay (void)
{
  const char *overlay
      = "queue max-size-time=4000000000 max-size-bytes=0 max-size-buffers=0 ! o.video_sink "
        "v.text_src ! o.text_sink textoverlay name=o ! fakesink sync=true";

  if (test_lacks ("textoverlay"))
    return;
  check_live_overlay ("model-path=fake:delay=50 latency=800", overlay);
  check_live_overlay ("model-path=fake:load=4000 latency=800", overlay);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/stock/decodebin3", test_decodebin3);
  g_test_add_func ("/element/stock/playsink", test_playsink);
  g_test_add_func ("/element/stock/splitmuxsink", test_splitmuxsink);
  g_test_add_func ("/element/stock/hlssink2", test_hlssink2);
  g_test_add_func ("/element/stock/videorate", test_videorate);
  g_test_add_func ("/element/stock/tee", test_tee);
  g_test_add_func ("/element/stock/chain-of-two", test_chain_of_two);
  g_test_add_func ("/element/stock/cue-times", test_cue_times);
  g_test_add_func ("/element/stock/long-gap", test_long_gap);
  g_test_add_func ("/element/stock/undelayed-overlay", test_undelayed_overlay);
  g_test_add_func ("/element/stock/delayed-overlay", test_delayed_overlay);
  return test_finish ();
}
