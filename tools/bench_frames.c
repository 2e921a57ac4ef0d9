/* bench_frames.c - a made-up stream for benchmarks: two frames a second, no two alike.
 * SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#define FRAME_NS G_GUINT64_CONSTANT (500000000)
/* Large enough that the towers are given as much of it as of a camera's picture. */
enum { WIDTH = 640, HEIGHT = 360 };

struct _BenchFrames {
  ValleyModel *model;
  GPtrArray *moving, *still; /* ValleyPicture or NULL, by number */
};

BenchFrames *
bench_frames_new (ValleyModel *model)
{
  BenchFrames *frames = g_new0 (BenchFrames, 1);

  frames->model = model;
  frames->moving = g_ptr_array_new_with_free_func ((GDestroyNotify) valley_picture_unref);
  frames->still = g_ptr_array_new_with_free_func ((GDestroyNotify) valley_picture_unref);
  return frames;
}

void
bench_frames_free (BenchFrames *frames)
{
  if (frames == NULL)
    return;
  g_ptr_array_unref (frames->moving);
  g_ptr_array_unref (frames->still);
  g_free (frames);
}

/* A square that wanders over a background that changes its color slowly. */
static void
paint (guint8 *rgb, guint number)
{
  const guint side = HEIGHT / 4;
  guint left = 23 * number % (WIDTH - side), top = 17 * number % (HEIGHT - side);

  for (guint y = 0; y < HEIGHT; y++)
    for (guint x = 0; x < WIDTH; x++, rgb += 3) {
      gboolean inside = x >= left && x < left + side && y >= top && y < top + side;

      rgb[0] = inside ? 255 : (guint8) (x / 4 + number);
      rgb[1] = inside ? (guint8) (5 * number) : (guint8) (y / 2);
      rgb[2] = inside ? 0 : (guint8) (x / 8 + y / 8 + 3 * number);
    }
}

guint64
bench_frames_pts_ns (guint number)
{
  return number * FRAME_NS;
}

ValleyPicture *
bench_frames_get (BenchFrames *frames, guint number, gboolean still, GError **error)
{
  GPtrArray *made = still ? frames->still : frames->moving;
  g_autofree guint8 *rgb = NULL;
  ValleyPicture *picture;

  if (made->len <= number)
    g_ptr_array_set_size (made, (gint) number + 1);
  if (g_ptr_array_index (made, number) == NULL) {
    rgb = g_malloc (WIDTH * HEIGHT * 3);
    paint (rgb, still ? 0 : number);
    picture = valley_picture_new_from_rgb (frames->model, bench_frames_pts_ns (number), rgb,
                                           WIDTH * 3, WIDTH, HEIGHT, NULL, error);
    if (picture == NULL)
      return NULL;
    g_ptr_array_index (made, number) = picture;
  }
  return valley_picture_ref (g_ptr_array_index (made, number));
}

guint
bench_frames_number (guint64 pts_ns)
{
  return (guint) (pts_ns / FRAME_NS);
}

gboolean
bench_frames_sizes (const BenchFrames *frames, ValleyInputSizes *sizes, GError **error)
{
  return valley_model_input_sizes (frames->model, WIDTH, HEIGHT, NULL, sizes, error);
}
