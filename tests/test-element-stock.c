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
                  "v.json_src ! filesink location=%s", path, json));
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
                         "max-size-time=2000000000 location=%s", parts));
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
                         "v.json_src ! filesink location=%s", json));
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
                         "chunk-duration=1000 ! fakesink b.json_src ! filesink location=%s", a, b));
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
                         "t. ! queue ! srtenc ! filesink location=%s", vtt, srt));
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
  return test_finish ();
}
