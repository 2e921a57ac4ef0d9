/* rtsp-server.c - a small live RTSP server on 127.0.0.1, for the demo, the tests and the
 * pipelines that show RTSP.
 *
 * Serves one thing at rtsp://127.0.0.1:PORT/stream: the demo's programme, a media file, or a
 * gst-launch description that ends in a payloader named pay0.  Prints that address on stdout as
 * soon as it listens (with port 0 the system chooses one).  All clients share one stream.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <gst/rtsp-server/rtsp-server.h>
#include <gst/gst.h>
#include <glib-unix.h>
#include <stdio.h>
#include <unistd.h>

#include "programme.h"

/* A key frame a second, so that whoever joins late sees a picture soon. */
#define ENCODE                                                                                     \
  " ! x264enc tune=zerolatency speed-preset=veryfast bitrate=1500 key-int-max=25"                  \
  " ! video/x-h264,profile=main ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1"

static int port = 0;
static int seconds = 0;
static gboolean programme = FALSE;
static gboolean loop_programme = FALSE;
static gboolean until_stdin_closes = FALSE;
static char *file = NULL;
static char *launch = NULL;

static const GOptionEntry options[]
    = { { "programme", 0, 0, G_OPTION_ARG_NONE, &programme, "Serve the demo's programme", NULL },
        { "file", 0, 0, G_OPTION_ARG_FILENAME, &file, "Serve the video of a file", "FILE" },
        { "launch", 0, 0, G_OPTION_ARG_STRING, &launch,
          "Serve a pipeline that ends in a payloader named pay0", "DESCRIPTION" },
        { "loop", 0, 0, G_OPTION_ARG_NONE, &loop_programme, "Repeat the programme for ever", NULL },
        { "port", 0, 0, G_OPTION_ARG_INT, &port, "Port (default 0: any free one)", "N" },
        { "seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "Quit after N seconds", "N" },
        { "until-stdin-closes", 0, 0, G_OPTION_ARG_NONE, &until_stdin_closes,
          "Quit when standard input ends, so that a test that dies takes its server along", NULL },
        { NULL } };

/* Puts @path into a gst-launch description, whatever characters it has. */
static char *
quote (const char *path)
{
  GString *quoted = g_string_new ("\"");
  for (; *path; path++) {
    if (*path == '"' || *path == '\\')
      g_string_append_c (quoted, '\\');
    g_string_append_c (quoted, *path);
  }
  g_string_append_c (quoted, '"');
  return g_string_free (quoted, FALSE);
}

static char *
describe_media (void)
{
  if (programme)
    return g_strdup ("( appsrc name=programme" ENCODE " )");
  if (file) {
    char *location = quote (file);
    char *text = g_strdup_printf (
        "( filesrc location=%s ! decodebin ! videoconvert ! video/x-raw,format=I420" ENCODE " )",
        location);
    g_free (location);
    return text;
  }
  return g_strdup_printf ("( %s )", launch);
}

static void
media_configure (GstRTSPMediaFactory *factory, GstRTSPMedia *media, gpointer user_data)
{
  GstElement *bin = gst_rtsp_media_get_element (media);
  GstElement *appsrc = gst_bin_get_by_name (GST_BIN (bin), "programme");
  if (appsrc) {
    programme_attach (GST_APP_SRC (appsrc), loop_programme);
    gst_object_unref (appsrc);
  }
  gst_object_unref (bin);
}

static gboolean
quit (gpointer main_loop)
{
  g_main_loop_quit (main_loop);
  return G_SOURCE_REMOVE;
}

static gboolean
stdin_readable (gint fd, GIOCondition condition, gpointer main_loop)
{
  char bytes[256];
  if (read (fd, bytes, sizeof bytes) > 0)
    return G_SOURCE_CONTINUE;
  g_main_loop_quit (main_loop);
  return G_SOURCE_REMOVE;
}

static gboolean
parse_options (int *argc, char ***argv, GError **error)
{
  GOptionContext *context = g_option_context_new ("- serve a live stream on 127.0.0.1");
  g_option_context_add_main_entries (context, options, NULL);
  g_option_context_add_group (context, gst_init_get_option_group ());
  gboolean ok = g_option_context_parse (context, argc, argv, error);
  g_option_context_free (context);
  if (!ok)
    return FALSE;
  if (programme + (file != NULL) + (launch != NULL) != 1) {
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                 "give exactly one of --programme, --file and --launch");
    return FALSE;
  }
  if (loop_programme && !programme) {
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                 "--loop only repeats --programme");
    return FALSE;
  }
  if (port < 0 || port > 65535 || seconds < 0) {
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                 "--port is 0 to 65535, --seconds not negative");
    return FALSE;
  }
  return TRUE;
}

static GstRTSPServer *
serve (void)
{
  GstRTSPServer *server = gst_rtsp_server_new ();
  char *service = g_strdup_printf ("%d", port);
  gst_rtsp_server_set_address (server, "127.0.0.1");
  gst_rtsp_server_set_service (server, service);
  g_free (service);

  GstRTSPMediaFactory *factory = gst_rtsp_media_factory_new ();
  char *description = describe_media ();
  gst_rtsp_media_factory_set_launch (factory, description);
  g_free (description);
  gst_rtsp_media_factory_set_shared (factory, TRUE);
  g_signal_connect (factory, "media-configure", G_CALLBACK (media_configure), NULL);

  GstRTSPMountPoints *mounts = gst_rtsp_server_get_mount_points (server);
  gst_rtsp_mount_points_add_factory (mounts, "/stream", factory); /* takes the factory */
  g_object_unref (mounts);
  return server;
}

int
main (int argc, char **argv)
{
  GError *error = NULL;
  if (!parse_options (&argc, &argv, &error)) {
    fprintf (stderr, "rtsp-server: %s\n", error->message);
    g_clear_error (&error);
    return 2;
  }

  GMainLoop *main_loop = g_main_loop_new (NULL, FALSE);
  GstRTSPServer *server = serve ();
  guint id = gst_rtsp_server_attach (server, NULL);
  if (id == 0) {
    fprintf (stderr, "rtsp-server: cannot listen on port %d of 127.0.0.1\n", port);
    return 1;
  }
  printf ("rtsp://127.0.0.1:%d/stream\n", gst_rtsp_server_get_bound_port (server));
  fflush (stdout);

  g_unix_signal_add (SIGTERM, quit, main_loop);
  g_unix_signal_add (SIGINT, quit, main_loop);
  if (seconds > 0)
    g_timeout_add_seconds (seconds, quit, main_loop);
  if (until_stdin_closes)
    g_unix_fd_add (STDIN_FILENO, G_IO_IN | G_IO_HUP, stdin_readable, main_loop);
  g_main_loop_run (main_loop);

  g_source_remove (id);
  g_object_unref (server);
  g_main_loop_unref (main_loop);
  g_free (file);
  g_free (launch);
  return 0;
}
