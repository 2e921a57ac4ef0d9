/* test-element-preroll.c - every usual sink of the text pads: PAUSED is reached, again after
 * a seek, and the file plays to its end (rules 10 and 11).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* memmem */
#include "harness.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* 6 s at 10 frames a second */
#define SOURCE "videotestsrc num-buffers=60 ! video/x-raw,width=64,height=48,framerate=10/1 "
#define QUEUE "queue max-size-time=3000000000 max-size-bytes=0 max-size-buffers=0 "
#define UNLIMITED "queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 "
#define X264 "x264enc tune=zerolatency speed-preset=ultrafast ! h264parse "

typedef enum {
  FREE,    /* takes video and text as they come */
  OVERLAY, /* shows a frame only once its text is known */
  MUXER    /* the same, and refuses seeks */
} Manner;

typedef struct {
  const char *name;
  const char *needs;    /* an element that may be missing */
  const char *branches; /* after valleyinfer; %s is the file that the text goes to */
  const char *expects;  /* must be in the file at the end, NULL: no file */
  Manner manner;
} Case;

static const Case cases[] = {
  { "fakesink", NULL, "! fakesink v.text_src ! fakesink", NULL, FREE },
  { "fakesink-sync", NULL, "! fakesink sync=true v.text_src ! fakesink sync=true", NULL, FREE },
  { "filesink", NULL, "! fakesink v.text_src ! filesink location=%s", "f4 ", FREE },
  { "fdsink", NULL, "! fakesink v.text_src ! fdsink fd=FD", NULL, FREE },
  { "appsink", NULL, "! fakesink v.text_src ! appsink wait-on-eos=false", NULL, FREE },
  { "appsink-no-sync", NULL, "! fakesink v.text_src ! appsink wait-on-eos=false sync=false", NULL,
    FREE },
  { "json-filesink", NULL, "! fakesink v.json_src ! filesink location=%s", "\"result\"", FREE },
  { "both", NULL, "! fakesink v.text_src ! fakesink v.json_src ! filesink location=%s",
    "\"result\"", FREE },
  { "webvttenc", "webvttenc", "! fakesink v.text_src ! webvttenc ! filesink location=%s", "WEBVTT",
    FREE },
  { "srtenc", "srtenc", "! fakesink v.text_src ! srtenc ! filesink location=%s", " --> ", FREE },
  { "tee", "webvttenc",
    "! fakesink v.text_src ! tee name=t t. ! queue ! fakesink "
    "t. ! queue ! webvttenc ! filesink location=%s",
    "WEBVTT", FREE },
  { "textoverlay", "textoverlay",
    "! " QUEUE "! o.video_sink v.text_src ! o.text_sink textoverlay name=o ! fakesink", NULL,
    OVERLAY },
  { "textoverlay-sync", "textoverlay",
    "! " QUEUE "! o.video_sink v.text_src ! o.text_sink textoverlay name=o "
    "! fakesink sync=true",
    NULL, OVERLAY },
  { "qtmux", "x264enc",
    "! " X264 "! " UNLIMITED "! m.video_0 v.text_src ! m.subtitle_0 "
    "qtmux name=m ! filesink location=%s",
    "moov", MUXER },
  { "mp4mux", "x264enc",
    "! " X264 "! " UNLIMITED "! m.video_0 v.text_src ! m.subtitle_0 "
    "mp4mux name=m ! filesink location=%s",
    "moov", MUXER },
  { "matroskamux", "x264enc",
    "! " X264 "! " QUEUE "! m.video_0 v.text_src ! m.subtitle_0 "
    "matroskamux name=m ! filesink location=%s",
    "f4 ", MUXER },
};

static GstElement *
case_pipeline (const Case *c, const char *engine, const char *path)
{
  g_autoptr (GString) branches = g_string_new (c->branches);

  g_string_replace (branches, "%s", path, 0);
  if (strstr (branches->str, "FD")) {
    g_autofree char *fd = g_strdup_printf ("%d", open ("/dev/null", O_WRONLY | O_CLOEXEC));

    g_string_replace (branches, "FD", fd, 0);
  }
  return pipe_new (SOURCE "! valleyinfer name=v model-path=fake:%s %s", engine, branches->str);
}

static void
seek (GstElement *pipeline, GstSeekFlags flags, GstClockTime to)
{
  g_assert_true (
      gst_element_seek_simple (pipeline, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH | flags, to));
  pipe_state (pipeline, GST_STATE_PAUSED);
}

/* TRUE when the file has the text; muxed files hold NULs. */
static gboolean
file_holds (const char *path, const char *text)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *data = NULL;
  gsize size;

  g_file_get_contents (path, &data, &size, &error);
  g_assert_no_error (error);
  return memmem (data, size, text, strlen (text)) != NULL;
}

static void
test_case (gconstpointer data)
{
  const Case *c = data;
  g_autofree char *path = test_path (c->name);
  GstElement *pipeline;

  if (c->needs && test_lacks (c->needs))
    return;
  pipeline = case_pipeline (c, "load=300,delay=30", path);
  pipe_state (pipeline, GST_STATE_PAUSED);
  if (c->manner != MUXER) {
    seek (pipeline, GST_SEEK_FLAG_ACCURATE, 1 * S);
    seek (pipeline, GST_SEEK_FLAG_KEY_UNIT, 2500 * MS);
    seek (pipeline, 0, 0);
  }
  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  pipe_free (pipeline);
  if (c->expects)
    g_assert_true (file_holds (path, c->expects));
}

/* Preroll does not wait for an answer: the engine would take ten minutes. */
static void
test_slow_engine (gconstpointer data)
{
  const Case *c = data;
  g_autofree char *path = test_path (c->name);
  GstElement *pipeline;

  if (c->needs && test_lacks (c->needs))
    return;
  pipeline = case_pipeline (c, "load=600000", path);
  pipe_state (pipeline, GST_STATE_PAUSED);
  if (c->manner != MUXER)
    seek (pipeline, GST_SEEK_FLAG_ACCURATE, 1 * S);
  pipe_free (pipeline);
}

/* Seeks while it plays, in every direction, end in a file that still reaches EOS. */
static void
test_seek_playing (void)
{
  GstElement *pipeline;

  if (test_lacks ("textoverlay"))
    return;
  pipeline = pipe_new (
      "videotestsrc ! video/x-raw,width=64,height=48,framerate=10/1 "
      "! valleyinfer name=v model-path=fake:delay=20 ! " QUEUE "! o.video_sink "
      "v.text_src ! tee name=t t. ! queue ! o.text_sink textoverlay name=o ! fakesink sync=true "
      "t. ! queue ! fakesink sync=true v.json_src ! fakesink");
  pipe_state (pipeline, GST_STATE_PLAYING);
  for (guint i = 0; i < 12; i++) {
    GstClockTime to = (i * 7 % 12) * 4 * S;

    g_assert_true (gst_element_seek_simple (
        pipeline, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH | (i % 2 ? GST_SEEK_FLAG_ACCURATE : 0), to));
    pipe_state (pipeline, GST_STATE_PLAYING);
  }
  g_assert_true (gst_element_seek (pipeline, 1.0, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                                   GST_SEEK_TYPE_SET, 58 * S, GST_SEEK_TYPE_SET, 60 * S));
  pipe_eos (pipeline);
  pipe_free (pipeline);
}

/* Paused in the middle, sinks of text have to preroll again, though no frame comes to help. */
static void
test_pause_and_play (void)
{
  GstElement *pipeline = pipe_new (
      "videotestsrc ! video/x-raw,width=64,height=48,framerate=10/1 "
      "! valleyinfer name=v model-path=fake: ! fakesink sync=true "
      "v.text_src_0 ! fakesink sync=true v.text_src_1 ! queue ! fakesink v.json_src ! fakesink");

  for (guint i = 0; i < 12; i++) {
    pipe_state (pipeline, GST_STATE_PLAYING);
    g_usleep (30000 * (i % 4));
    pipe_state (pipeline, GST_STATE_PAUSED);
  }
  pipe_free (pipeline);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *played = g_strconcat ("/element/preroll/", cases[i].name, NULL);
    g_autofree char *slow = g_strconcat ("/element/preroll-slow-engine/", cases[i].name, NULL);

    g_test_add_data_func (played, &cases[i], test_case);
    if (cases[i].manner == FREE)
      g_test_add_data_func (slow, &cases[i], test_slow_engine);
  }
  g_test_add_func ("/element/seek-playing", test_seek_playing);
  g_test_add_func ("/element/pause-and-play", test_pause_and_play);
  return test_finish ();
}
