/* programme.c - draws the demo's programme into an appsrc, frame by frame.
 *
 * One table says what is on and for how long.  Shapes are drawn with hard edges, in the plain
 * colors and at the sizes and speeds that the bundled model's language covers, and stay inside
 * the picture; how the stream is encoded and served is rtsp-server.c's business.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "programme.h"

#include <gst/video/video.h>
#include <math.h>

enum { WIDTH = 640, HEIGHT = 360, RATE = 25 };

#define RGB(r, g, b) ((r) << 16 | (g) << 8 | (b))
enum {
  BLACK = RGB (0, 0, 0),
  WHITE = RGB (255, 255, 255),
  RED = RGB (255, 0, 0),
  BLUE = RGB (0, 0, 255),
  YELLOW = RGB (255, 255, 0),
};

typedef struct _Scene Scene;
/* The color at a pixel, @t seconds into the scene. */
typedef guint32 (*Painter) (const Scene *scene, int x, int y, double t);

struct _Scene {
  guint seconds;
  Painter paint;
  guint32 color, background;
  double x, y, vx, vy; /* the shape's centre at t = 0 and its way per second, in pixels */
};

static const int SIDE = 146; /* of a shape: "large" is 35 to 50 % of the height */

static guint32
paint_circle (const Scene *scene, int x, int y, double t)
{
  double dx = x - (scene->x + scene->vx * t), dy = y - (scene->y + scene->vy * t);
  return dx * dx + dy * dy <= SIDE * SIDE / 4.0 ? scene->color : scene->background;
}

static guint32
paint_square (const Scene *scene, int x, int y, double t)
{
  double dx = x - (scene->x + scene->vx * t), dy = y - (scene->y + scene->vy * t);
  return fabs (dx) <= SIDE / 2.0 && fabs (dy) <= SIDE / 2.0 ? scene->color : scene->background;
}

/* Point up, as wide at its foot as it is high. */
static guint32
paint_triangle (const Scene *scene, int x, int y, double t)
{
  double dx = x - (scene->x + scene->vx * t), dy = y - (scene->y + scene->vy * t);
  double below_tip = dy + SIDE / 2.0;
  gboolean inside = below_tip >= 0 && below_tip <= SIDE && fabs (dx) <= below_tip / 2;
  return inside ? scene->color : scene->background;
}

/* Grains of two by two pixels: finer ones do not survive a modest bit rate. */
static guint32
paint_snow (const Scene *scene, int x, int y, double t)
{
  guint32 n = (guint32) (x / 2) * 0x9e3779b1u ^ (guint32) (y / 2) * 0x85ebca77u
              ^ (guint32) (t * RATE + 0.5) * 0xc2b2ae3du;
  n ^= n >> 15;
  n *= 0x2c1b3c6du;
  n ^= n >> 12;
  n *= 0x297a2d39u;
  n ^= n >> 15;
  n &= 0xff;
  return RGB (n, n, n);
}

/* The bars of videotestsrc: seven, a strip of castellations, and a row of -I, white, +Q, black
 * with snow in its corner. */
static guint32
paint_bars (const Scene *scene, int x, int y, double t)
{
  static const guint32 bars[7]
      = { WHITE, YELLOW, RGB (0, 255, 255), RGB (0, 255, 0), RGB (255, 0, 255), RED, BLUE };
  static const guint32 strip[7]
      = { BLUE, BLACK, RGB (255, 0, 255), BLACK, RGB (0, 255, 255), BLACK, WHITE };
  static const guint32 foot[4] = { RGB (0, 56, 139), WHITE, RGB (110, 0, 214), BLACK };
  if (y < HEIGHT * 2 / 3)
    return bars[x * 7 / WIDTH];
  if (y < HEIGHT * 3 / 4)
    return strip[x * 7 / WIDTH];
  if (x < WIDTH * 3 / 4)
    return foot[MIN (x * 6 / WIDTH, 3)];
  return paint_snow (scene, x, y, t);
}

static guint32
paint_black (const Scene *scene, int x, int y, double t)
{
  return BLACK;
}

static const Scene programme[] = {
  { 6, paint_bars, 0, 0, 0, 0, 0, 0 },
  { 4, paint_circle, RED, BLACK, 70, 180, 124, 0 },
  { 4, paint_square, BLUE, WHITE, 320, 60, 0, 60 },
  { 4, paint_triangle, YELLOW, BLUE, 320, 180, 0, 0 },
  { 6, paint_snow, 0, 0, 0, 0, 0, 0 },
  { 6, paint_black, 0, 0, 0, 0, 0, 0 },
};

guint
programme_seconds (void)
{
  guint seconds = 0;
  for (gsize i = 0; i < G_N_ELEMENTS (programme); i++)
    seconds += programme[i].seconds;
  return seconds;
}

/* One component of BT.601, limited range, of an RGB color. */
static guint8
component (guint32 rgb, double r, double g, double b, int offset)
{
  double sum = r * (rgb >> 16) + g * (rgb >> 8 & 0xff) + b * (rgb & 0xff);
  return (guint8) (offset + sum + 0.5);
}

static void
paint_frame (GstVideoFrame *frame, const Scene *scene, double t)
{
  for (int y = 0; y < HEIGHT; y++) {
    guint8 *luma = (guint8 *) GST_VIDEO_FRAME_COMP_DATA (frame, 0)
                   + (gsize) y * GST_VIDEO_FRAME_COMP_STRIDE (frame, 0);
    guint8 *cb = (guint8 *) GST_VIDEO_FRAME_COMP_DATA (frame, 1)
                 + (gsize) (y / 2) * GST_VIDEO_FRAME_COMP_STRIDE (frame, 1);
    guint8 *cr = (guint8 *) GST_VIDEO_FRAME_COMP_DATA (frame, 2)
                 + (gsize) (y / 2) * GST_VIDEO_FRAME_COMP_STRIDE (frame, 2);
    for (int x = 0; x < WIDTH; x++) {
      guint32 rgb = scene->paint (scene, x, y, t);
      luma[x] = component (rgb, 0.257, 0.504, 0.098, 16);
      if (x % 2 == 0 && y % 2 == 0) {
        cb[x / 2] = component (rgb, -0.148, -0.291, 0.439, 128);
        cr[x / 2] = component (rgb, 0.439, -0.368, -0.071, 128);
      }
    }
  }
}

typedef struct {
  GstVideoInfo info;
  guint64 next; /* number of the frame to draw */
  gboolean loop;
} Player;

/* The scene that shows frame @n of the programme and the time since its beginning. */
static const Scene *
find_scene (guint64 n, double *t)
{
  for (gsize i = 0; i < G_N_ELEMENTS (programme); i++) {
    guint64 length = (guint64) programme[i].seconds * RATE;
    if (n < length) {
      *t = (double) n / RATE;
      return &programme[i];
    }
    n -= length;
  }
  return NULL;
}

static void
need_data (GstAppSrc *appsrc, guint length, gpointer user_data)
{
  Player *player = user_data;
  guint64 total = (guint64) programme_seconds () * RATE;
  guint64 n = player->loop ? player->next % total : player->next;
  double t;
  const Scene *scene = find_scene (n, &t);
  if (!scene) {
    gst_app_src_end_of_stream (appsrc);
    return;
  }

  GstBuffer *buffer = gst_buffer_new_allocate (NULL, GST_VIDEO_INFO_SIZE (&player->info), NULL);
  GstVideoFrame frame;
  if (gst_video_frame_map (&frame, &player->info, buffer, GST_MAP_WRITE)) {
    paint_frame (&frame, scene, t);
    gst_video_frame_unmap (&frame);
  }
  GST_BUFFER_PTS (buffer) = gst_util_uint64_scale (player->next, GST_SECOND, RATE);
  GST_BUFFER_DURATION (buffer) = GST_SECOND / RATE;
  player->next++;
  gst_app_src_push_buffer (appsrc, buffer);
}

void
programme_attach (GstAppSrc *appsrc, gboolean loop)
{
  Player *player = g_new0 (Player, 1);
  gst_video_info_set_format (&player->info, GST_VIDEO_FORMAT_I420, WIDTH, HEIGHT);
  player->info.fps_n = RATE;
  player->info.fps_d = 1;
  gst_video_colorimetry_from_string (&player->info.colorimetry, GST_VIDEO_COLORIMETRY_BT601);
  player->loop = loop;

  GstCaps *caps = gst_video_info_to_caps (&player->info);
  g_object_set (appsrc, "caps", caps, "format", GST_FORMAT_TIME, NULL);
  gst_caps_unref (caps);
  GstAppSrcCallbacks callbacks = { .need_data = need_data };
  gst_app_src_set_callbacks (appsrc, &callbacks, player, g_free);
}
