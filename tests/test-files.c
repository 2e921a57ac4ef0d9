/* test-files.c - real H.264 and H.265 files through the real element and the bundled model.
 *
 * The pictures are GStreamer's own test patterns, which users play first.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

typedef struct {
  const char *name, *encoder, *muxer, *caps;
} Case;

static const Case cases[] = {
  { "h264-mp4", "x264enc speed-preset=veryfast bitrate=600", "h264parse ! mp4mux",
    "width=320,height=240,framerate=25/1" },
  { "h264-mkv-vfr", "x264enc speed-preset=veryfast bitrate=600", "h264parse ! matroskamux",
    "width=322,height=182,framerate=30000/1001" },
  { "h265-mp4", "x265enc speed-preset=ultrafast bitrate=600 log-level=none", "h265parse ! mp4mux",
    "width=320,height=240,framerate=10/1" },
  { "h264-ts", "x264enc speed-preset=veryfast bitrate=600", "h264parse ! mpegtsmux",
    "width=320,height=240,framerate=25/1" },
};

static const struct {
  const char *pattern, *caption;
} patterns[] = {
  { "smpte", "Color bars." },
  { "black", "A black screen." },
};

static void
play (GstElement *pipeline)
{
  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  pipe_free (pipeline);
}

/* Every line is a whole window's answer; the file is longer than four seconds by some frames at
 * the most. */
static void
check_lines (const char *path, const char *caption)
{
  g_autofree char *text = test_read (path);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  guint n = g_strv_length (lines) - 1;

  g_assert_cmpuint (n, >=, 2);
  g_assert_cmpuint (n, <=, 3);
  for (guint i = 0; i < 2; i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (JsonNode) node = json_from_string (lines[i], &error);
    JsonObject *line;

    g_assert_no_error (error);
    line = json_node_get_object (node);
    g_test_message ("%s", lines[i]);
    g_assert_false (json_object_has_member (line, "error"));
    g_assert_cmpfloat (json_object_get_double_member (line, "end_time")
                           - json_object_get_double_member (line, "start_time"),
                       >, 1.8);
    g_assert_cmpint (json_object_get_int_member (line, "frame_count"), ==, 4);
    g_assert_cmpstr (json_object_get_string_member (line, "result"), ==, caption);
  }
}

static void
test_file (gconstpointer data)
{
  const Case *c = data;

  for (guint i = 0; i < G_N_ELEMENTS (patterns); i++) {
    g_autofree char *name = g_strdup_printf ("%s-%s", c->name, patterns[i].pattern);
    g_autofree char *path = test_path (name);
    g_autofree char *json = g_strconcat (path, ".json", NULL);
    guint frames = g_str_has_suffix (c->caps, "=10/1")   ? 41
                   : g_str_has_suffix (c->caps, "=25/1") ? 101
                                                         : 121;

    play (pipe_new ("videotestsrc pattern=%s num-buffers=%u ! video/x-raw,%s ! %s ! %s "
                    "! filesink location=%s",
                    patterns[i].pattern, frames, c->caps, c->encoder, c->muxer, path));
    play (pipe_new ("filesrc location=%s ! decodebin3 ! valleyinfer name=v ! fakesink "
                    "v.json_src ! filesink location=%s",
                    path, json));
    check_lines (json, patterns[i].caption);
  }
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *name = g_strconcat ("/files/", cases[i].name, NULL);

    g_test_add_data_func (name, &cases[i], test_file);
  }
  return test_finish ();
}
