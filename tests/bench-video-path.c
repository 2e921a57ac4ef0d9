/* bench-video-path.c - what valleyinfer adds to the video's way, at 1080p60 live.
 *
 * Pushes the same ring of frames through a live pipeline twice at once: one branch has
 * valleyinfer, the other `identity`, the stock element that does nothing.  For every buffer
 * it measures the time from the element's sink pad to its src pad, and prints median, 99th
 * percentile and maximum of both, the frames that did not come out, the answers, and the
 * process's memory.  Built, not run by the suite: a time decides no test.
 *
 *   meson devenv -C build tests/bench-video-path [seconds] [format]     (default 20 NV12)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <gst/video/video.h>

#define WIDTH 1920
#define HEIGHT 1080
#define FPS 60
#define RING 8 /* different pictures, so that no cache line is luckier than in real life */

typedef struct {
  const char *name;
  gint64 *entered_us; /* by frame number */
  double *spent_us;   /* < 0: not out (yet) */
  guint n_frames;
} Path;

static guint
frame_number (GstBuffer *buffer)
{
  return (guint) gst_util_uint64_scale_round (GST_BUFFER_PTS (buffer), FPS, GST_SECOND);
}

static GstPadProbeReturn
enter (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  Path *path = data;
  guint n = frame_number (GST_PAD_PROBE_INFO_BUFFER (info));

  if (n < path->n_frames)
    path->entered_us[n] = g_get_monotonic_time ();
  return GST_PAD_PROBE_OK;
}

static GstPadProbeReturn
leave (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  Path *path = data;
  guint n = frame_number (GST_PAD_PROBE_INFO_BUFFER (info));

  if (n < path->n_frames)
    path->spent_us[n] = (double) (g_get_monotonic_time () - path->entered_us[n]);
  return GST_PAD_PROBE_OK;
}

static void
path_init (Path *path, const char *name, guint n_frames, GstElement *pipeline)
{
  g_autoptr (GstElement) element = gst_bin_get_by_name (GST_BIN (pipeline), name);
  g_autoptr (GstPad) sink = gst_element_get_static_pad (element, "sink");
  g_autoptr (GstPad) src = gst_element_get_static_pad (element, "src");

  *path = (Path){ name, g_new0 (gint64, n_frames), g_new (double, n_frames), n_frames };
  for (guint i = 0; i < n_frames; i++)
    path->spent_us[i] = -1;
  gst_pad_add_probe (sink, GST_PAD_PROBE_TYPE_BUFFER, enter, path, NULL);
  gst_pad_add_probe (src, GST_PAD_PROBE_TYPE_BUFFER, leave, path, NULL);
}

static int
compare (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

/* Returns the median. */
static double
path_report (const Path *path, guint pushed)
{
  g_autofree double *sorted = g_new (double, path->n_frames);
  guint n = 0;

  for (guint i = 0; i < pushed; i++)
    if (path->spent_us[i] >= 0)
      sorted[n++] = path->spent_us[i];
  qsort (sorted, n, sizeof *sorted, compare);
  g_print ("%-12s median %7.1f us   p99 %7.1f us   max %7.1f us   frames lost %u of %u\n",
           path->name, n ? sorted[n / 2] : 0, n ? sorted[n * 99 / 100] : 0, n ? sorted[n - 1] : 0,
           pushed - n, pushed);
  return n ? sorted[n / 2] : 0;
}

static void
fill_ring (GstBuffer **ring, GstVideoInfo *info)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);

  for (guint i = 0; i < RING; i++) {
    GstMapInfo map;

    ring[i] = gst_buffer_new_allocate (NULL, GST_VIDEO_INFO_SIZE (info), NULL);
    gst_buffer_map (ring[i], &map, GST_MAP_WRITE);
    for (gsize k = 0; k < map.size; k++)
      map.data[k] = (guint8) (16 + ((k / 64 + i * 8) & 127) + (g_rand_int (rand) & 7));
    gst_buffer_unmap (ring[i], &map);
  }
}

static void
print_memory (void)
{
  g_autofree char *status = NULL;
  const char *line;

  if (!g_file_get_contents ("/proc/self/status", &status, NULL, NULL))
    return;
  line = strstr (status, "VmHWM:");
  if (line != NULL)
    g_print ("peak memory  %ld KiB (%d pictures of 1080p among them)\n", atol (line + 6), RING);
}

int
main (int argc, char **argv)
{
  guint seconds = argc > 1 ? (guint) atoi (argv[1]) : 20, n_frames = seconds * FPS, answers = 0;
  const char *format = argc > 2 ? argv[2] : "NV12";
  g_autofree char *caps = NULL, *description = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (GstElement) pipeline = NULL, source = NULL;
  g_autoptr (GstBus) bus = NULL;
  g_autoptr (GstMessage) message = NULL;
  GstBuffer *ring[RING];
  GstVideoInfo info;
  Path ours, reference;
  double ratio;

  gst_init (&argc, &argv);
  if (seconds == 0 || gst_video_format_from_string (format) == GST_VIDEO_FORMAT_UNKNOWN) {
    g_printerr ("usage: bench-video-path [seconds] [format]\n");
    return 2;
  }
  gst_video_info_set_format (&info, gst_video_format_from_string (format), WIDTH, HEIGHT);
  info.fps_n = FPS;
  fill_ring (ring, &info);
  description
      = g_strdup ("appsrc name=source is-live=true format=time block=false ! tee name=t "
                  "t. ! queue ! valleyinfer name=valleyinfer ! fakesink sync=false async=false "
                  "t. ! queue ! identity name=identity ! fakesink sync=false async=false "
                  "valleyinfer.json_src ! fakesink sync=false async=false");
  pipeline = gst_parse_launch (description, &error);
  if (error != NULL) { /* a missing element is reported beside a pipeline without it */
    g_printerr ("%s\n", error->message);
    return 1;
  }
  source = gst_bin_get_by_name (GST_BIN (pipeline), "source");
  {
    g_autoptr (GstCaps) video = gst_video_info_to_caps (&info);

    gst_app_src_set_caps (GST_APP_SRC (source), video);
  }
  path_init (&ours, "valleyinfer", n_frames, pipeline);
  path_init (&reference, "identity", n_frames, pipeline);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);

  for (guint i = 0; i < n_frames; i++) {
    /* A copy shares the memory, as a decoder's pool buffers do. */
    GstBuffer *buffer = gst_buffer_copy (ring[i % RING]);
    static gint64 start;
    gint64 due;

    start = start != 0 ? start : g_get_monotonic_time ();
    due = start + (gint64) i * G_USEC_PER_SEC / FPS;
    if (due > g_get_monotonic_time ())
      g_usleep ((gulong) (due - g_get_monotonic_time ()));
    GST_BUFFER_PTS (buffer) = gst_util_uint64_scale (i, GST_SECOND, FPS);
    GST_BUFFER_DURATION (buffer) = GST_SECOND / FPS;
    gst_app_src_push_buffer (GST_APP_SRC (source), buffer);
  }
  gst_app_src_end_of_stream (GST_APP_SRC (source));
  bus = gst_element_get_bus (pipeline);
  for (;;) {
    GstMessage *next = gst_bus_timed_pop_filtered (
        bus, 30 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR | GST_MESSAGE_ELEMENT);

    if (next != NULL && GST_MESSAGE_TYPE (next) == GST_MESSAGE_ELEMENT) {
      answers += gst_message_has_name (next, "valleyinfer/result");
      gst_message_unref (next);
      continue;
    }
    message = next;
    break;
  }
  gst_element_set_state (pipeline, GST_STATE_NULL);
  if (message == NULL || GST_MESSAGE_TYPE (message) != GST_MESSAGE_EOS) {
    g_printerr ("bench-video-path: the pipeline did not reach its end\n");
    return 1;
  }
  g_print ("%ux%u %s, %u frames/s, live, %u s; %u answers\n", WIDTH, HEIGHT, format, FPS, seconds,
           answers);
  ratio = path_report (&ours, n_frames);
  ratio -= path_report (&reference, n_frames);
  g_print ("added        median %7.1f us of a frame's %.0f us\n", ratio, 1e6 / FPS);
  print_memory ();
  for (guint i = 0; i < RING; i++)
    gst_buffer_unref (ring[i]);
  return 0;
}
