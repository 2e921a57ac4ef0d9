/* bench-drift.c - how far the streaming policy drifts from exact answers on real pictures, by how
 * often it starts anew.  Not a test:
 * `ninja -C build tests/bench-drift && build/tests/bench-drift assets/valley-tiny
 * tests/clips/...mp4`.
 *
 * The clips, six frames a second, one after the other, are one stream; every frame ends a window.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valley.h"

#include <gst/app/gstappsink.h>
#include <gst/video/video.h>
#include <stdio.h>

#define FRAME_NS (GST_SECOND / 6)
#define PROMPT "Describe the video."

static void
must (gboolean ok, GError *error)
{
  if (!ok)
    g_error ("%s", error != NULL ? error->message : "failed");
}

static void
picture_unref (gpointer data)
{
  valley_picture_unref (data);
}

/* Appends @sample's picture. */
static void
add_picture (ValleyModel *model, GstSample *sample, GPtrArray *pictures)
{
  GError *error = NULL;
  GstVideoInfo info;
  GstVideoFrame frame;
  ValleyPicture *picture;

  must (gst_video_info_from_caps (&info, gst_sample_get_caps (sample))
            && gst_video_frame_map (&frame, &info, gst_sample_get_buffer (sample), GST_MAP_READ),
        NULL);
  picture = valley_picture_new_from_rgb (model, pictures->len * FRAME_NS,
                                         GST_VIDEO_FRAME_PLANE_DATA (&frame, 0),
                                         (gsize) GST_VIDEO_FRAME_PLANE_STRIDE (&frame, 0),
                                         (guint) info.width, (guint) info.height, NULL, &error);
  must (picture != NULL, error);
  g_ptr_array_add (pictures, picture);
  gst_video_frame_unmap (&frame);
}

static void
decode (ValleyModel *model, const char *path, GPtrArray *pictures)
{
  GError *error = NULL;
  GstElement *pipeline
      = gst_parse_launch ("filesrc name=src ! decodebin ! videorate ! videoconvert ! "
                          "video/x-raw,format=RGB,framerate=6/1 ! appsink name=sink sync=false",
                          &error);
  GstElement *src, *sink;
  GstSample *sample;

  must (pipeline != NULL, error);
  src = gst_bin_get_by_name (GST_BIN (pipeline), "src");
  sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  g_object_set (src, "location", path, NULL);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  while ((sample = gst_app_sink_pull_sample (GST_APP_SINK (sink))) != NULL) {
    add_picture (model, sample, pictures);
    gst_sample_unref (sample);
  }
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (src);
  gst_object_unref (sink);
  gst_object_unref (pipeline);
}

/* All windows of one setting; prints what was found out about the drift. */
static void
measure (ValleyModel *model, const GPtrArray *pictures, guint window, guint reanchor)
{
  ValleyWindowing windowing = { VALLEY_WINDOWS_STREAMING, window, 1, 0, reanchor, 0 };
  ValleyRequest request = { .prompt = PROMPT, .max_new_tokens = 24 };
  GError *error = NULL;
  ValleySession *session = valley_session_new (model, NULL, &error);
  ValleySessionStats stats;

  must (session != NULL && valley_session_set_windowing (session, &windowing, &error), error);
  for (guint i = 0; i < pictures->len; i++) {
    gboolean more = TRUE;
    ValleyStep step = VALLEY_STEP_TOKEN;

    must (valley_session_push (session, pictures->pdata[i], TRUE, &error), error);
    while (more)
      must (valley_session_work (session, &more, &error), error);
    if (i + 1 < window)
      continue;
    must (valley_session_begin (session, &request, &error), error);
    while (step == VALLEY_STEP_TOKEN)
      step = valley_session_next (session, &error);
    must (step == VALLEY_STEP_DONE, error);
    valley_session_drop_before (session, (i + 2 - window) * FRAME_NS);
  }
  valley_session_stats (session, &stats);
  printf ("%6u %9u %8" G_GUINT64_FORMAT " %10.4f %10.4f %8.0f %%\n", window, reanchor,
          stats.drift_samples, stats.drift_mean, stats.drift_max,
          100.0 * (double) stats.drift_agreements / (double) MAX (stats.drift_samples, 1));
  fflush (stdout);
  valley_session_free (session);
}

int
main (int argc, char **argv)
{
  static const guint windows[] = { 4, 8, 16 }, reanchors[] = { 4, 8, 16, 32, 64 };
  GError *error = NULL;
  ValleyModel *model;
  g_autoptr (GPtrArray) pictures = g_ptr_array_new_with_free_func (picture_unref);

  gst_init (&argc, &argv);
  if (argc < 3)
    g_error ("usage: bench-drift MODEL FILE...");
  model = valley_model_open (argv[1], NULL, &error);
  must (model != NULL && valley_model_load (model, NULL, &error), error);
  for (int i = 2; i < argc; i++)
    decode (model, argv[i], pictures);
  printf ("%u frames\n%6s %9s %8s %10s %10s %10s\n", pictures->len, "window", "re-anchor",
          "samples", "mean KL", "max KL", "same text");
  for (gsize i = 0; i < G_N_ELEMENTS (windows); i++)
    for (gsize j = 0; j < G_N_ELEMENTS (reanchors); j++)
      measure (model, pictures, windows[i], reanchors[j]);
  g_ptr_array_set_size (pictures, 0);
  valley_model_unref (model);
  return 0;
}
