/* test-picture.c - frames become the pictures a viewer would see: every format, crop, pixel
 * aspect, rotation, range and matrix.  The scripted engine tells what it was given.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

#define W 64
#define H 48

typedef struct {
  guint8 r, g, b;
} Color;

/* Top left, top right, bottom left, bottom right. */
static const Color quarters[4] = { { 255, 0, 0 }, { 0, 255, 0 }, { 0, 0, 255 }, { 255, 255, 255 } };

/* An RGB picture with a color in each quarter of @inner, and gray around it. */
static GstBuffer *
quarters_rgb (const GstVideoInfo *info, const GstVideoRectangle *inner)
{
  GstBuffer *buffer = gst_buffer_new_allocate (NULL, info->size, NULL);
  GstVideoFrame frame;

  g_assert_true (gst_video_frame_map (&frame, info, buffer, GST_MAP_WRITE));
  for (gint y = 0; y < GST_VIDEO_INFO_HEIGHT (info); y++)
    for (gint x = 0; x < GST_VIDEO_INFO_WIDTH (info); x++) {
      guint8 *pixel
          = (guint8 *) frame.data[0] + y * GST_VIDEO_FRAME_PLANE_STRIDE (&frame, 0) + 3 * x;
      gboolean inside
          = x >= inner->x && x < inner->x + inner->w && y >= inner->y && y < inner->y + inner->h;
      guint quarter = (x >= inner->x + inner->w / 2) + 2 * (y >= inner->y + inner->h / 2);

      memset (pixel, 128, 3);
      if (inside)
        memcpy (pixel, &quarters[quarter], 3);
    }
  gst_video_frame_unmap (&frame);
  return buffer;
}

/* The same in any format, by GStreamer's own converter. */
static GstBuffer *
quarters_in (const GstVideoInfo *info, const GstVideoRectangle *inner)
{
  GstVideoInfo rgb_info;
  GstBuffer *rgb, *out = gst_buffer_new_allocate (NULL, info->size, NULL);
  GstVideoConverter *converter;
  GstVideoFrame from, to;

  gst_video_info_set_format (&rgb_info, GST_VIDEO_FORMAT_RGB, GST_VIDEO_INFO_WIDTH (info),
                             GST_VIDEO_INFO_HEIGHT (info));
  rgb_info.fps_n = info->fps_n;
  rgb_info.fps_d = info->fps_d;
  rgb = quarters_rgb (&rgb_info, inner);
  converter = gst_video_converter_new (&rgb_info, info, NULL);
  g_assert_nonnull (converter);
  g_assert_true (gst_video_frame_map (&from, &rgb_info, rgb, GST_MAP_READ));
  g_assert_true (gst_video_frame_map (&to, info, out, GST_MAP_WRITE));
  gst_video_converter_frame (converter, &from, &to);
  gst_video_frame_unmap (&to);
  gst_video_frame_unmap (&from);
  gst_video_converter_free (converter);
  gst_buffer_unref (rgb);
  return out;
}

/* What the model says of one frame. */
static gchar *
look_at (GstValleyPainter *painter, GstBuffer *buffer, const gchar *show)
{
  g_autofree gchar *script = g_strdup_printf ("fake:show=%s", show);
  ValleyModel *model = valley_model_open (script, NULL, NULL);
  ValleySession *session = valley_session_new (model, NULL, NULL);
  ValleyRequest request = { .prompt = "?" };
  GError *error = NULL;
  ValleyPicture *picture = gst_valley_painter_paint (painter, model, buffer, 0, &error);
  gchar *text;

  g_assert_no_error (error);
  g_assert_true (valley_session_push (session, picture, FALSE, NULL));
  g_assert_true (valley_session_begin (session, &request, NULL));
  while (valley_session_next (session, NULL) == VALLEY_STEP_TOKEN)
    ;
  text = g_strdup (valley_session_result (session)->text);
  valley_picture_unref (picture);
  valley_session_free (session);
  valley_model_unref (model);
  return text;
}

/* Parses "f1 r/g/b r/g/b r/g/b r/g/b" and compares with @expected quarters. */
static void
check_corners (const gchar *text, const guint order[4], gint tolerance, const gchar *what)
{
  gint v[12];

  g_assert_cmpint (sscanf (text, "f1 %d/%d/%d %d/%d/%d %d/%d/%d %d/%d/%d", &v[0], &v[1], &v[2],
                           &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11]),
                   ==, 12);
  for (guint i = 0; i < 4; i++) {
    const Color *color = &quarters[order[i]];

    if (ABS (v[3 * i] - color->r) > tolerance || ABS (v[3 * i + 1] - color->g) > tolerance
        || ABS (v[3 * i + 2] - color->b) > tolerance)
      g_error ("%s: corner %u is %d/%d/%d, expected %u/%u/%u within %d", what, i, v[3 * i],
               v[3 * i + 1], v[3 * i + 2], color->r, color->g, color->b, tolerance);
  }
}

static const guint upright[4] = { 0, 1, 2, 3 };
static const GstVideoRectangle whole = { 0, 0, W, H };

static void
check_format (GstVideoFormat format)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  const GstVideoFormatInfo *finfo = gst_video_format_get_info (format);
  gboolean coarse = GST_VIDEO_FORMAT_INFO_HAS_PALETTE (finfo);
  GstVideoInfo info;
  g_autofree gchar *text = NULL;
  GstBuffer *buffer;

  gst_video_info_set_format (&info, format, W, H);
  buffer = quarters_in (&info, &whole);
  gst_valley_painter_set_info (painter, &info);
  text = look_at (painter, buffer, GST_VIDEO_FORMAT_INFO_IS_GRAY (finfo) ? "luma" : "corners");
  if (GST_VIDEO_FORMAT_INFO_IS_GRAY (finfo))
    g_assert_cmpint (ABS (atoi (text + 3) - 128), <, 20);
  else
    check_corners (text, upright, coarse ? 40 : 6, GST_VIDEO_FORMAT_INFO_NAME (finfo));
  gst_buffer_unref (buffer);
  gst_valley_painter_free (painter);
}

static void
test_formats (void)
{
  g_auto (GStrv) names = NULL;
  GString *list = g_string_new (GST_VIDEO_FORMATS_ALL);

  g_strdelimit (list->str, "{}", ' ');
  names = g_strsplit (g_strstrip (list->str), ", ", -1);
  for (guint i = 0; names[i] != NULL; i++)
    check_format (gst_video_format_from_string (g_strstrip (names[i])));
  g_assert_cmpuint (g_strv_length (names), >, 80);
  g_string_free (list, TRUE);
}

static void
check_colorimetry (GstVideoFormat format, const gchar *colorimetry)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  g_autofree gchar *text = NULL;
  GstVideoInfo info;
  GstBuffer *buffer;

  gst_video_info_set_format (&info, format, W, H);
  g_assert_true (gst_video_colorimetry_from_string (&info.colorimetry, colorimetry));
  buffer = quarters_in (&info, &whole);
  gst_valley_painter_set_info (painter, &info);
  text = look_at (painter, buffer, "corners");
  check_corners (text, upright, 6, colorimetry);
  gst_buffer_unref (buffer);
  gst_valley_painter_free (painter);
}

static void
test_colorimetry (void)
{
  static const GstVideoFormat formats[] = { GST_VIDEO_FORMAT_I420, GST_VIDEO_FORMAT_NV12,
                                            GST_VIDEO_FORMAT_P010_10LE, GST_VIDEO_FORMAT_YUY2 };

  for (guint i = 0; i < G_N_ELEMENTS (formats); i++) {
    check_colorimetry (formats[i], "bt601");
    check_colorimetry (formats[i], "bt709");
    check_colorimetry (formats[i], "bt2020");
    check_colorimetry (formats[i], "1:4:0:0"); /* full range, BT.601 */
    check_colorimetry (formats[i], "1:3:0:0"); /* full range, BT.709 */
  }
}

static void
check_crop (GstVideoFormat format)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  const GstVideoRectangle inner = { 16, 8, 32, 16 };
  g_autofree gchar *corners = NULL, *sizes = NULL;
  GstVideoCropMeta *crop;
  GstVideoInfo info;
  GstBuffer *buffer;
  guint width, height;

  gst_video_info_set_format (&info, format, W, H);
  buffer = quarters_in (&info, &inner);
  crop = gst_buffer_add_video_crop_meta (buffer);
  crop->x = inner.x;
  crop->y = inner.y;
  crop->width = inner.w;
  crop->height = inner.h;
  gst_valley_painter_set_info (painter, &info);
  gst_valley_painter_display_size (painter, buffer, &width, &height);
  g_assert_cmpuint (width, ==, 32);
  g_assert_cmpuint (height, ==, 16);
  corners = look_at (painter, buffer, "corners");
  /* The test's own chroma bleeds over the crop's edge a little. */
  check_corners (corners, upright, 24, "crop");
  sizes = look_at (painter, buffer, "sizes");
  g_assert_cmpstr (sizes, ==, "f1 112x56");
  gst_buffer_unref (buffer);
  gst_valley_painter_free (painter);
}

static void
test_crop (void)
{
  check_crop (GST_VIDEO_FORMAT_I420);
  check_crop (GST_VIDEO_FORMAT_NV12);
  check_crop (GST_VIDEO_FORMAT_BGRx);
  check_crop (GST_VIDEO_FORMAT_YUY2);
}

/* A crop that lies outside the picture is some element's mistake, not a crash. */
static void
test_crop_outside (void)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  GstVideoCropMeta *crop;
  GstVideoInfo info;
  GstBuffer *buffer;
  guint width, height;

  gst_video_info_set_format (&info, GST_VIDEO_FORMAT_I420, W, H);
  buffer = quarters_in (&info, &whole);
  crop = gst_buffer_add_video_crop_meta (buffer);
  crop->x = 60;
  crop->y = 40;
  crop->width = crop->height = G_MAXUINT;
  gst_valley_painter_set_info (painter, &info);
  gst_valley_painter_display_size (painter, buffer, &width, &height);
  g_assert_cmpuint (width, ==, 4);
  g_assert_cmpuint (height, ==, 8);
  g_free (look_at (painter, buffer, "luma"));
  crop->x = 64;
  gst_valley_painter_display_size (painter, buffer, &width, &height);
  g_assert_cmpuint (width, ==, W);
  gst_buffer_unref (buffer);
  gst_valley_painter_free (painter);
}

static void
test_pixel_aspect (void)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  GstVideoInfo info;
  GstBuffer *buffer;
  guint width, height;
  g_autofree gchar *sizes = NULL;

  gst_video_info_set_format (&info, GST_VIDEO_FORMAT_I420, W, H);
  buffer = quarters_in (&info, &whole);
  info.par_n = 16;
  info.par_d = 11;
  gst_valley_painter_set_info (painter, &info);
  gst_valley_painter_display_size (painter, buffer, &width, &height);
  g_assert_cmpuint (width, ==, 93);
  g_assert_cmpuint (height, ==, 48);
  info.par_n = 1;
  info.par_d = 2;
  gst_valley_painter_set_info (painter, &info);
  gst_valley_painter_display_size (painter, buffer, &width, &height);
  g_assert_cmpuint (width, ==, 64);
  g_assert_cmpuint (height, ==, 96);
  sizes = look_at (painter, buffer, "sizes");
  g_assert_cmpstr (sizes, ==, "f1 28x56");
  gst_buffer_unref (buffer);
  gst_valley_painter_free (painter);
}

static void
test_rotation (void)
{
  static const struct {
    GstVideoOrientationMethod orientation;
    guint corners[4];
    gboolean sideways;
  } cases[] = {
    { GST_VIDEO_ORIENTATION_IDENTITY, { 0, 1, 2, 3 }, FALSE },
    { GST_VIDEO_ORIENTATION_90R, { 2, 0, 3, 1 }, TRUE },
    { GST_VIDEO_ORIENTATION_180, { 3, 2, 1, 0 }, FALSE },
    { GST_VIDEO_ORIENTATION_90L, { 1, 3, 0, 2 }, TRUE },
    { GST_VIDEO_ORIENTATION_HORIZ, { 1, 0, 3, 2 }, FALSE },
    { GST_VIDEO_ORIENTATION_VERT, { 2, 3, 0, 1 }, FALSE },
    { GST_VIDEO_ORIENTATION_UL_LR, { 0, 2, 1, 3 }, TRUE },
    { GST_VIDEO_ORIENTATION_UR_LL, { 3, 1, 2, 0 }, TRUE },
  };
  GstVideoInfo info;
  GstBuffer *buffer;

  gst_video_info_set_format (&info, GST_VIDEO_FORMAT_I420, W, H);
  buffer = quarters_in (&info, &whole);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    GstValleyPainter *painter = gst_valley_painter_new ();
    g_autofree gchar *text = NULL, *what = g_strdup_printf ("orientation %u", i);
    guint width, height;

    gst_valley_painter_set_info (painter, &info);
    gst_valley_painter_set_orientation (painter, cases[i].orientation);
    gst_valley_painter_display_size (painter, buffer, &width, &height);
    g_assert_cmpuint (width, ==, cases[i].sideways ? H : W);
    text = look_at (painter, buffer, "corners");
    check_corners (text, cases[i].corners, 6, what);
    gst_valley_painter_free (painter);
  }
  gst_buffer_unref (buffer);
}

/* ---- several at once ---- */

static GstBuffer *
cropped_quarters (const GstVideoInfo *info, const GstVideoRectangle *inner)
{
  GstBuffer *buffer = quarters_in (info, inner);
  GstVideoCropMeta *crop = gst_buffer_add_video_crop_meta (buffer);

  crop->x = (guint) inner->x;
  crop->y = (guint) inner->y;
  crop->width = (guint) inner->w;
  crop->height = (guint) inner->h;
  return buffer;
}

/* A crop, pixels that are not square and a turn in the same frame: the crop is stretched as it is
 * stored, then turned.  One painter sees all formats, as when a stream's caps change. */
static void
test_together (void)
{
  static const GstVideoFormat formats[]
      = { GST_VIDEO_FORMAT_I420, GST_VIDEO_FORMAT_YUY2,   GST_VIDEO_FORMAT_RGB,
          GST_VIDEO_FORMAT_AYUV, GST_VIDEO_FORMAT_ARGB64, GST_VIDEO_FORMAT_Y42B };
  static const struct {
    GstVideoOrientationMethod orientation;
    guint corners[4];
    gint par_n, par_d;
    guint width, height;
  } cases[] = {
    { GST_VIDEO_ORIENTATION_IDENTITY, { 0, 1, 2, 3 }, 20, 11, 64, 19 },
    { GST_VIDEO_ORIENTATION_90R, { 2, 0, 3, 1 }, 20, 11, 19, 64 },
    { GST_VIDEO_ORIENTATION_90R, { 2, 0, 3, 1 }, 11, 20, 35, 35 },
    { GST_VIDEO_ORIENTATION_VERT, { 2, 3, 0, 1 }, 11, 40, 35, 69 },
    { GST_VIDEO_ORIENTATION_UR_LL, { 3, 1, 2, 0 }, 11, 40, 69, 35 },
  };
  /* 35 * 20 / 11 = 63.6, 19 * 20 / 11 = 34.5…, 19 * 40 / 11 = 69.1 */
  const GstVideoRectangle inner = { 17, 9, 35, 19 };
  GstValleyPainter *painter = gst_valley_painter_new ();

  for (guint i = 0; i < G_N_ELEMENTS (formats) * G_N_ELEMENTS (cases); i++) {
    GstVideoFormat format = formats[i % G_N_ELEMENTS (formats)];
    guint c = i / G_N_ELEMENTS (formats), width, height;
    g_autofree gchar *what = g_strdup_printf (
        "%s turned by %u", gst_video_format_to_string (format), cases[c].orientation);
    g_autofree gchar *text = NULL;
    GstVideoInfo info;
    GstBuffer *buffer;

    gst_video_info_set_format (&info, format, W, H);
    buffer = cropped_quarters (&info, &inner);
    info.par_n = cases[c].par_n;
    info.par_d = cases[c].par_d;
    gst_valley_painter_set_info (painter, &info);
    gst_valley_painter_set_orientation (painter, cases[c].orientation);
    gst_valley_painter_display_size (painter, buffer, &width, &height);
    g_assert_cmpuint (width, ==, cases[c].width);
    g_assert_cmpuint (height, ==, cases[c].height);
    text = look_at (painter, buffer, "corners");
    check_corners (text, cases[c].corners, 70, what); /* chroma bleeds over an odd edge */
    gst_buffer_unref (buffer);
  }
  gst_valley_painter_free (painter);
}

/* A white field between the lines of a black one. */
static GstBuffer *
white_field (const GstVideoInfo *info, gint field)
{
  GstBuffer *buffer = gst_buffer_new_allocate (NULL, info->size, NULL);
  gsize row = (gsize) info->stride[0];
  GstMapInfo map;

  gst_buffer_map (buffer, &map, GST_MAP_WRITE);
  for (gsize y = 0; y < H; y++)
    memset (map.data + y * row, (gint) (y % 2) == field ? 255 : 0, row);
  gst_buffer_unmap (buffer, &map);
  return buffer;
}

/* The first field alone is seen of RGB too, read directly or by way of the converter, wherever a
 * crop begins. */
static void
test_rgb_fields (void)
{
  static const GstVideoFormat formats[]
      = { GST_VIDEO_FORMAT_RGB, GST_VIDEO_FORMAT_BGRx, GST_VIDEO_FORMAT_ARGB64 };

  for (guint i = 0; i < 4 * G_N_ELEMENTS (formats); i++) {
    gint first = (gint) i % 2;
    GstValleyPainter *painter = gst_valley_painter_new ();
    g_autofree gchar *white = NULL, *black = NULL;
    GstBuffer *buffers[2];
    GstVideoInfo info;

    gst_video_info_set_format (&info, formats[i / 4], W, H);
    info.interlace_mode = GST_VIDEO_INTERLACE_MODE_INTERLEAVED;
    GST_VIDEO_INFO_FIELD_ORDER (&info) = first == 0 ? GST_VIDEO_FIELD_ORDER_TOP_FIELD_FIRST
                                                    : GST_VIDEO_FIELD_ORDER_BOTTOM_FIELD_FIRST;
    gst_valley_painter_set_info (painter, &info);
    for (gint k = 0; k < 2; k++) {
      GstVideoCropMeta *crop;

      buffers[k] = white_field (&info, k == 0 ? first : !first);
      crop = gst_buffer_add_video_crop_meta (buffers[k]);
      crop->x = 3;
      crop->y = i / 2 % 2 ? 7 : 0;
      crop->width = 40;
      crop->height = 31;
    }
    white = look_at (painter, buffers[0], "luma");
    black = look_at (painter, buffers[1], "luma");
    g_assert_cmpstr (white, ==, "f1 255");
    g_assert_cmpstr (black, ==, "f1 0");
    gst_buffer_unref (buffers[0]);
    gst_buffer_unref (buffers[1]);
    gst_valley_painter_free (painter);
  }
}

/* What the colors of a frame of @height are when its matrix is @matrix. */
static gchar *
colors_with (GstVideoColorMatrix matrix, guint height)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  GstVideoInfo info;
  GstBuffer *buffer;
  gchar *text;

  gst_video_info_set_format (&info, GST_VIDEO_FORMAT_Y444, W, height);
  buffer = gst_buffer_new_allocate (NULL, info.size, NULL);
  gst_buffer_memset (buffer, 0, 120, info.size / 3);
  gst_buffer_memset (buffer, info.size / 3, 90, info.size / 3);
  gst_buffer_memset (buffer, info.size / 3 * 2, 170, info.size / 3);
  info.colorimetry.matrix = matrix;
  info.colorimetry.range = GST_VIDEO_COLOR_RANGE_16_235;
  gst_valley_painter_set_info (painter, &info);
  text = look_at (painter, buffer, "rgb");
  gst_buffer_unref (buffer);
  gst_valley_painter_free (painter);
  return text;
}

/* Where nobody says, small frames are BT.601 and large ones BT.709. */
static void
test_unknown_matrix (void)
{
  g_autofree gchar *small = colors_with (GST_VIDEO_COLOR_MATRIX_UNKNOWN, 576);
  g_autofree gchar *large = colors_with (GST_VIDEO_COLOR_MATRIX_UNKNOWN, 578);
  g_autofree gchar *bt601 = colors_with (GST_VIDEO_COLOR_MATRIX_BT601, 576);
  g_autofree gchar *bt709 = colors_with (GST_VIDEO_COLOR_MATRIX_BT709, 578);

  g_assert_cmpstr (bt601, !=, bt709);
  g_assert_cmpstr (small, ==, bt601);
  g_assert_cmpstr (large, ==, bt709);
}

/* RGB of a capture card may have black at 16 and white at 235. */
static void
test_limited_rgb (void)
{
  static const guint8 values[][2]
      = { { 16, 0 }, { 235, 255 }, { 126, 128 }, { 20, 5 }, { 3, 0 }, { 250, 255 } };
  static const GstVideoFormat formats[]
      = { GST_VIDEO_FORMAT_RGB, GST_VIDEO_FORMAT_BGRx, GST_VIDEO_FORMAT_GBR };

  for (guint i = 0; i < G_N_ELEMENTS (values) * G_N_ELEMENTS (formats); i++) {
    const guint8 *value = values[i / G_N_ELEMENTS (formats)];
    GstValleyPainter *painter = gst_valley_painter_new ();
    g_autofree gchar *text = NULL, *want = g_strdup_printf ("f1 %u", value[1]);
    GstVideoInfo info;
    GstBuffer *buffer;

    gst_video_info_set_format (&info, formats[i % G_N_ELEMENTS (formats)], W, H);
    info.colorimetry.range = GST_VIDEO_COLOR_RANGE_16_235;
    buffer = gst_buffer_new_allocate (NULL, info.size, NULL);
    gst_buffer_memset (buffer, 0, value[0], info.size);
    gst_valley_painter_set_info (painter, &info);
    text = look_at (painter, buffer, "luma");
    g_assert_cmpstr (text, ==, want);
    gst_buffer_unref (buffer);
    gst_valley_painter_free (painter);
  }
}

/* Padded rows and planes in odd places, as decoders hand them out with GstVideoMeta. */
static void
test_video_meta (void)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  GstVideoInfo tight, padded;
  GstVideoAlignment align;
  GstVideoFrame from, to;
  GstBuffer *buffer, *loose;
  g_autofree gchar *text = NULL;

  gst_video_info_set_format (&tight, GST_VIDEO_FORMAT_I420, W, H);
  padded = tight;
  gst_video_alignment_reset (&align);
  align.padding_right = 24;
  align.padding_bottom = 10;
  g_assert_true (gst_video_info_align (&padded, &align));
  buffer = quarters_in (&tight, &whole);
  loose = gst_buffer_new_allocate (NULL, padded.size, NULL);
  gst_buffer_memset (loose, 0, 77, padded.size);
  gst_buffer_add_video_meta_full (loose, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_I420, W, H, 3,
                                  padded.offset, padded.stride);
  g_assert_true (gst_video_frame_map (&from, &tight, buffer, GST_MAP_READ));
  g_assert_true (gst_video_frame_map (&to, &tight, loose, GST_MAP_WRITE));
  gst_video_frame_copy (&to, &from);
  gst_video_frame_unmap (&to);
  gst_video_frame_unmap (&from);
  gst_valley_painter_set_info (painter, &tight);
  text = look_at (painter, loose, "corners");
  check_corners (text, upright, 6, "padded");
  gst_buffer_unref (buffer);
  gst_buffer_unref (loose);
  gst_valley_painter_free (painter);
}

/* A buffer too small for its caps is an error with a reason. */
static void
test_short_buffer (void)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  ValleyModel *model = valley_model_open ("fake:", NULL, NULL);
  GstBuffer *buffer = gst_buffer_new_allocate (NULL, 100, NULL);
  GError *error = NULL;
  GstVideoInfo info;

  gst_video_info_set_format (&info, GST_VIDEO_FORMAT_I420, W, H);
  gst_valley_painter_set_info (painter, &info);
  g_assert_null (gst_valley_painter_paint (painter, model, buffer, 0, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_READ);
  g_error_free (error);
  gst_buffer_unref (buffer);
  valley_model_unref (model);
  gst_valley_painter_free (painter);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  gst_init (&argc, &argv);
  g_test_add_func ("/picture/formats", test_formats);
  g_test_add_func ("/picture/colorimetry", test_colorimetry);
  g_test_add_func ("/picture/crop", test_crop);
  g_test_add_func ("/picture/crop-outside", test_crop_outside);
  g_test_add_func ("/picture/pixel-aspect", test_pixel_aspect);
  g_test_add_func ("/picture/rotation", test_rotation);
  g_test_add_func ("/picture/together", test_together);
  g_test_add_func ("/picture/rgb-fields", test_rgb_fields);
  g_test_add_func ("/picture/unknown-matrix", test_unknown_matrix);
  g_test_add_func ("/picture/limited-rgb", test_limited_rgb);
  g_test_add_func ("/picture/video-meta", test_video_meta);
  g_test_add_func ("/picture/short-buffer", test_short_buffer);
  return g_test_run ();
}
