/* bench-picture.c - a 1080p frame in each format to both towers' inputs at the release's sizes,
 * 384x384 and 504x280: all that valleyinfer does with a due frame on the streaming thread.
 *
 * Runs alternate with GStreamer's own converter doing the same two conversions (bicubic, one
 * thread).  Times are CPU time of the thread: median and 99th percentile in ms.  VALLEY_CPU=c,
 * avx2 or avx512 caps the instruction set.  `meson test --benchmark`; it decides nothing.
 *
 *   taskset -c 0 build/tests/bench-picture [rounds]
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "picture.h"
#include "scratch.h"

#define WIDTH 1920
#define HEIGHT 1080
#define RING 4 /* pictures in turn, so that they are not all in the nearest cache */

static const char *const config
    = "{\"model_type\": \"valley\", \"hidden_size\": 3584, \"intermediate_size\": 18944,"
      " \"num_hidden_layers\": 28, \"num_attention_heads\": 28, \"num_key_value_heads\": 4,"
      " \"vocab_size\": 151679, \"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-6,"
      " \"rope_theta\": 1e6, \"mm_hidden_size\": 1152,"
      " \"mm_vision_tower\": \"google/siglip-so400m-patch14-384\","
      " \"eagle_vision_tower\": \"Qwen/Qwen2-VL-7B-Instruct\","
      " \"mm_projector_type\": \"ovis_conv_adapter\", \"mlp_hidden_dim\": 32000,"
      " \"frame_max_pixels\": 153664, \"max_pixels\": 571536}";

typedef struct {
  GstVideoInfo info, siglip_info, eagle_info;
  GstVideoConverter *siglip, *eagle;
  GstBuffer *siglip_rgb, *eagle_rgb;
} Reference;

static double
cpu_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &now);
  return (double) now.tv_sec * 1e3 + (double) now.tv_nsec / 1e6;
}

static GstBuffer *
noise (const GstVideoInfo *info, GRand *rand)
{
  GstBuffer *buffer = gst_buffer_new_allocate (NULL, info->size, NULL);
  GstMapInfo map;

  gst_buffer_map (buffer, &map, GST_MAP_WRITE);
  for (gsize i = 0; i < map.size; i++)
    map.data[i] = (guint8) (40 + ((i / 64) & 127) + (g_rand_int (rand) & 7));
  gst_buffer_unmap (buffer, &map);
  return buffer;
}

static GstVideoConverter *
reference_one (const GstVideoInfo *info, GstVideoInfo *out, guint width, guint height,
               GstBuffer **rgb)
{
  gst_video_info_set_format (out, GST_VIDEO_FORMAT_RGB, width, height);
  out->fps_n = info->fps_n;
  out->fps_d = info->fps_d;
  *rgb = gst_buffer_new_allocate (NULL, out->size, NULL);
  return gst_video_converter_new (
      info, out,
      gst_structure_new ("options", GST_VIDEO_CONVERTER_OPT_RESAMPLER_METHOD,
                         GST_TYPE_VIDEO_RESAMPLER_METHOD, GST_VIDEO_RESAMPLER_METHOD_CUBIC, NULL));
}

static void
reference_convert (const GstVideoInfo *info, GstBuffer *buffer, GstVideoConverter *converter,
                   const GstVideoInfo *out, GstBuffer *rgb)
{
  GstVideoFrame from, to;

  gst_video_frame_map (&from, info, buffer, GST_MAP_READ);
  gst_video_frame_map (&to, out, rgb, GST_MAP_WRITE);
  gst_video_converter_frame (converter, &from, &to);
  gst_video_frame_unmap (&to);
  gst_video_frame_unmap (&from);
}

static int
compare (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static void
paint (GstValleyPainter *painter, ValleyModel *model, GstBuffer *buffer)
{
  GError *error = NULL;
  ValleyPicture *picture = gst_valley_painter_paint (painter, model, buffer, 0, &error);

  if (picture == NULL)
    g_error ("%s", error->message);
  valley_picture_unref (picture);
}

static void
bench (ValleyModel *model, const char *name, guint rounds)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  g_autofree double *ours = g_new (double, rounds), *theirs = g_new (double, rounds);
  GstValleyPainter *painter = gst_valley_painter_new ();
  GstBuffer *ring[RING];
  Reference ref;

  gst_video_info_set_format (&ref.info, gst_video_format_from_string (name), WIDTH, HEIGHT);
  ref.siglip = reference_one (&ref.info, &ref.siglip_info, 384, 384, &ref.siglip_rgb);
  ref.eagle = reference_one (&ref.info, &ref.eagle_info, 504, 280, &ref.eagle_rgb);
  gst_valley_painter_set_info (painter, &ref.info);
  for (guint i = 0; i < RING; i++) {
    ring[i] = noise (&ref.info, rand);
    paint (painter, model, ring[i]);
  }
  for (guint i = 0; i < rounds; i++) {
    double start = cpu_ms ();

    paint (painter, model, ring[i % RING]);
    ours[i] = cpu_ms () - start;
    start = cpu_ms ();
    reference_convert (&ref.info, ring[i % RING], ref.siglip, &ref.siglip_info, ref.siglip_rgb);
    reference_convert (&ref.info, ring[i % RING], ref.eagle, &ref.eagle_info, ref.eagle_rgb);
    theirs[i] = cpu_ms () - start;
  }
  qsort (ours, rounds, sizeof *ours, compare);
  qsort (theirs, rounds, sizeof *theirs, compare);
  printf ("%-10s  median %5.2f  p99 %5.2f   GstVideoConverter %6.2f   %5.1f x\n", name,
          ours[rounds / 2], ours[rounds * 99 / 100], theirs[rounds / 2],
          theirs[rounds / 2] / ours[rounds / 2]);
  for (guint i = 0; i < RING; i++)
    gst_buffer_unref (ring[i]);
  gst_video_converter_free (ref.siglip);
  gst_video_converter_free (ref.eagle);
  gst_buffer_unref (ref.siglip_rgb);
  gst_buffer_unref (ref.eagle_rgb);
  gst_valley_painter_free (painter);
}

int
main (int argc, char **argv)
{
  static const char *const formats[] = { "I420", "NV12", "P010_10LE", "YUY2", "UYVY", "Y444",
                                         "RGB",  "BGR",  "RGBx",      "BGRA", "v210" };
  guint rounds = argc > 1 ? MAX ((guint) atoi (argv[1]), 1) : 100;
  char *dir = scratch_new ();
  g_autoptr (GError) error = NULL;
  ValleyModel *model;

  gst_init (&argc, &argv);
  scratch_write (dir, "config.json", config, strlen (config));
  model = valley_model_open (dir, NULL, &error);
  if (model == NULL)
    g_error ("%s", error->message);
  printf ("%ux%u to 384x384 and 504x280, ms of CPU time, %u rounds\n", WIDTH, HEIGHT, rounds);
  for (guint i = 0; i < G_N_ELEMENTS (formats); i++)
    bench (model, formats[i], rounds);
  valley_model_unref (model);
  scratch_remove (dir);
  return 0;
}
