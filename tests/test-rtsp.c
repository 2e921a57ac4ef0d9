/* test-rtsp.c - live RTSP from a real server on loopback, through the real element and the
 * bundled model.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <gio/gio.h>
#include <string.h>

typedef struct {
  GSubprocess *process;
  char *url;
} Server;

/* The server prints its address once it listens, and dies with this program's pipe. */
static Server
server_start (const char *what, const char *description)
{
  Server server = { NULL, NULL };
  g_autoptr (GError) error = NULL;
  g_autoptr (GDataInputStream) out = NULL;

  server.process = g_subprocess_new (G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE,
                                     &error, g_getenv ("VALLEY_TEST_RTSP_SERVER"),
                                     "--until-stdin-closes", what, description, NULL);
  g_assert_no_error (error);
  out = g_data_input_stream_new (g_subprocess_get_stdout_pipe (server.process));
  g_filter_input_stream_set_close_base_stream (G_FILTER_INPUT_STREAM (out), FALSE);
  server.url = g_data_input_stream_read_line (out, NULL, NULL, &error);
  g_assert_no_error (error);
  g_assert_true (server.url && g_str_has_prefix (server.url, "rtsp://"));
  return server;
}

static void
server_stop (Server *server)
{
  if (server->process)
    g_subprocess_force_exit (server->process);
  g_clear_object (&server->process);
  g_clear_pointer (&server->url, g_free);
}

#define RECEIVE                                                                                    \
  "rtspsrc location=%s latency=200 add-reference-timestamp-meta=true ! rtph264depay ! h264parse "  \
  "! avdec_h264 ! valleyinfer name=v "

/* The demo's programme begins with bars. */
static void
test_captions (void)
{
  Server server = server_start ("--programme", NULL);
  GstElement *pipeline = pipe_new (RECEIVE "! fakesink sync=true v.text_src ! appsink name=text "
                                           "v.json_src ! fakesink",
                                   server.url);
  g_autoptr (GstElement) text = gst_bin_get_by_name (GST_BIN (pipeline), "text");
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  guint bars = 0, dated = 0;
  double last_end = -1;

  pipe_state (pipeline, GST_STATE_PLAYING);
  for (guint i = 0; i < 4; i++) {
    g_autoptr (GstMessage) message = bus_wait_element (bus, "valleyinfer/result");
    const GstStructure *s = gst_message_get_structure (message);
    g_autofree char *line = gst_structure_to_string (s);
    double start = -1, end = -1;

    g_test_message ("%s", line);
    gst_structure_get_double (s, "start_time", &start);
    gst_structure_get_double (s, "end_time", &end);
    if (last_end >= 0)
      g_assert_cmpfloat_with_epsilon (start, last_end, 1e-6);
    last_end = end;
    bars += g_strcmp0 (gst_structure_get_string (s, "result"), "Color bars.") == 0;
    dated += gst_structure_has_field (s, "ntp_time");
  }
  g_assert_cmpuint (bars, >=, 1);
  g_assert_cmpuint (dated, >=, 1);
  {
    g_autoptr (GstSample) sample = NULL;

    g_signal_emit_by_name (text, "pull-sample", &sample);
    g_assert_nonnull (sample);
  }
  pipe_free (pipeline);
  server_stop (&server);
}

/* Overlapping windows of a live stream: each half a second later than the one before, every frame
 * encoded once, no window dropped. */
static void
test_sliding (void)
{
  Server server = server_start ("--programme", NULL);
  GstElement *pipeline
      = pipe_new (RECEIVE "chunk-overlap=1500 window-policy=sliding ! fakesink sync=true "
                          "v.text_src ! fakesink v.json_src ! fakesink",
                  server.url);
  g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  g_autoptr (GstStructure) stats = NULL;
  guint64 encoded = 0, frames = 0, dropped = 1;
  double last_end = -1;

  pipe_state (pipeline, GST_STATE_PLAYING);
  for (guint i = 0; i < 8; i++) {
    g_autoptr (GstMessage) message = bus_wait_element (bus, "valleyinfer/result");
    const GstStructure *s = gst_message_get_structure (message);
    g_autofree char *line = gst_structure_to_string (s);
    double end = -1;

    g_test_message ("%s", line);
    g_assert_nonnull (gst_structure_get_string (s, "result"));
    gst_structure_get_double (s, "end_time", &end);
    if (last_end >= 0)
      g_assert_cmpfloat_with_epsilon (end, last_end + 0.5, 1e-6);
    last_end = end;
  }
  g_object_get (v, "stats", &stats, NULL);
  gst_structure_get_uint64 (stats, "frames", &frames);
  gst_structure_get_uint64 (stats, "frames-encoded", &encoded);
  gst_structure_get_uint64 (stats, "dropped", &dropped);
  g_assert_cmpstr (gst_structure_get_string (stats, "window-policy"), ==, "sliding");
  g_assert_cmpuint (frames, >=, 11);
  g_assert_cmpuint (encoded, <=, frames);
  g_assert_cmpuint (dropped, ==, 0);
  pipe_free (pipeline);
  server_stop (&server);
}

/* A server that goes away ends in an error or EOS and a clean stop, never in a hang. */
static void
test_server_dies (void)
{
  Server server = server_start (
      "--launch",
      "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1 "
      "! x264enc tune=zerolatency key-int-max=25 ! h264parse ! rtph264pay name=pay0 pt=96 )");
  GstElement *pipeline = pipe_new (
      "rtspsrc location=%s latency=200 protocols=tcp tcp-timeout=3000000 ! rtph264depay "
      "! h264parse ! avdec_h264 ! valleyinfer name=v ! fakesink sync=true "
      "v.text_src ! fakesink sync=true",
      server.url);
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);

  pipe_state (pipeline, GST_STATE_PLAYING);
  gst_message_unref (bus_wait_element (bus, "valleyinfer/result"));
  server_stop (&server);
  gst_message_unref (bus_wait (bus, GST_MESSAGE_ERROR | GST_MESSAGE_EOS));
  gst_bus_set_flushing (bus, TRUE);
  pipe_free (pipeline);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/rtsp/captions", test_captions);
  g_test_add_func ("/rtsp/sliding", test_sliding);
  g_test_add_func ("/rtsp/server-dies", test_server_dies);
  return test_finish ();
}
