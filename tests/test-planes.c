/* test-planes.c - video frames become the towers' pictures: every format that is read directly,
 * with random samples, matrix, range, chroma site, crop, fields, strides and pixel aspect, against
 * a resize and a color conversion in double precision, written from their definitions.
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "engine.h"
#include "picture.h"

/* Y, U and V of a frame, as they were before they were packed. */
typedef struct {
  guint depth, sub_x, sub_y; /* pixels a chroma sample stands for */
  guint width[3], height[3];
  guint16 *samples[3];
} Planes;

typedef struct {
  GstVideoFormat format;
  guint depth, sub_x, sub_y;
} Format;

static const Format formats[] = {
  { GST_VIDEO_FORMAT_I420, 8, 2, 2 },       { GST_VIDEO_FORMAT_YV12, 8, 2, 2 },
  { GST_VIDEO_FORMAT_NV12, 8, 2, 2 },       { GST_VIDEO_FORMAT_NV21, 8, 2, 2 },
  { GST_VIDEO_FORMAT_P010_10LE, 10, 2, 2 }, { GST_VIDEO_FORMAT_I420_10LE, 10, 2, 2 },
  { GST_VIDEO_FORMAT_YUY2, 8, 2, 1 },       { GST_VIDEO_FORMAT_UYVY, 8, 2, 1 },
  { GST_VIDEO_FORMAT_Y42B, 8, 2, 1 },       { GST_VIDEO_FORMAT_Y444, 8, 1, 1 },
  { GST_VIDEO_FORMAT_Y41B, 8, 4, 1 },       { GST_VIDEO_FORMAT_GRAY8, 8, 1, 1 },
  { GST_VIDEO_FORMAT_NV16, 8, 2, 1 },       { GST_VIDEO_FORMAT_NV24, 8, 1, 1 },
  { GST_VIDEO_FORMAT_Y444_12LE, 12, 1, 1 }, { GST_VIDEO_FORMAT_P012_LE, 12, 2, 2 },
  { GST_VIDEO_FORMAT_Y444_16LE, 16, 1, 1 }, { GST_VIDEO_FORMAT_GRAY16_LE, 16, 1, 1 },
};

static Planes
random_planes (const Format *format, guint width, guint height)
{
  Planes p = { .depth = format->depth, .sub_x = format->sub_x, .sub_y = format->sub_y };
  guint lowest = 20 << (p.depth - 8), highest = 230 << (p.depth - 8);

  for (guint i = 0; i < 3; i++) {
    guint cell = (guint) g_test_rand_int_range (1, 9); /* noise, or flat patches */

    p.width[i] = i == 0 ? width : (width + p.sub_x - 1) / p.sub_x;
    p.height[i] = i == 0 ? height : (height + p.sub_y - 1) / p.sub_y;
    p.samples[i] = g_new (guint16, (gsize) p.width[i] * p.height[i]);
    for (guint y = 0; y < p.height[i]; y++)
      for (guint x = 0; x < p.width[i]; x++)
        p.samples[i][y * p.width[i] + x]
            = x % cell == 0 ? (guint16) g_test_rand_int_range ((gint) lowest, (gint) highest)
                            : p.samples[i][y * p.width[i] + x - 1];
  }
  return p;
}

static void
clear_planes (Planes *p)
{
  for (guint i = 0; i < 3; i++)
    g_free (p->samples[i]);
}

/* ---- packing, from the formats' definitions ------------------------------- */

/* Writes a component: sample x of row y is at @plane's row, byte @offset + x * @step. */
static void
put (GstVideoFrame *frame, const Planes *p, guint comp, guint plane, guint offset, guint step)
{
  GstVideoFormat format = GST_VIDEO_FRAME_FORMAT (frame);
  gboolean high = format == GST_VIDEO_FORMAT_P010_10LE || format == GST_VIDEO_FORMAT_P012_LE;

  for (guint y = 0; y < p->height[comp]; y++)
    for (guint x = 0; x < p->width[comp]; x++) {
      guint8 *at
          = (guint8 *) frame->data[plane] + y * frame->info.stride[plane] + offset + x * step;
      guint value = p->samples[comp][y * p->width[comp] + x] << (high ? 16 - p->depth : 0);

      at[0] = (guint8) value;
      if (p->depth > 8)
        at[1] = (guint8) (value >> 8);
    }
}

static void
put_all (GstVideoFrame *frame, const Planes *p)
{
  switch (GST_VIDEO_FRAME_FORMAT (frame)) {
  case GST_VIDEO_FORMAT_YUY2:
    put (frame, p, 0, 0, 0, 2);
    put (frame, p, 1, 0, 1, 4);
    put (frame, p, 2, 0, 3, 4);
    break;
  case GST_VIDEO_FORMAT_UYVY:
    put (frame, p, 0, 0, 1, 2);
    put (frame, p, 1, 0, 0, 4);
    put (frame, p, 2, 0, 2, 4);
    break;
  case GST_VIDEO_FORMAT_NV12:
  case GST_VIDEO_FORMAT_NV16:
  case GST_VIDEO_FORMAT_NV21:
  case GST_VIDEO_FORMAT_NV24:
    put (frame, p, 0, 0, 0, 1);
    put (frame, p, 1, 1, GST_VIDEO_FRAME_FORMAT (frame) == GST_VIDEO_FORMAT_NV21, 2);
    put (frame, p, 2, 1, GST_VIDEO_FRAME_FORMAT (frame) != GST_VIDEO_FORMAT_NV21, 2);
    break;
  case GST_VIDEO_FORMAT_P010_10LE:
  case GST_VIDEO_FORMAT_P012_LE:
    put (frame, p, 0, 0, 0, 2);
    put (frame, p, 1, 1, 0, 4);
    put (frame, p, 2, 1, 2, 4);
    break;
  case GST_VIDEO_FORMAT_GRAY8:
  case GST_VIDEO_FORMAT_GRAY16_LE:
    put (frame, p, 0, 0, 0, p->depth / 8);
    break;
  default: { /* planar; V before U in YV12 */
    gboolean v_first = GST_VIDEO_FRAME_FORMAT (frame) == GST_VIDEO_FORMAT_YV12;

    put (frame, p, 0, 0, 0, p->depth > 8 ? 2 : 1);
    put (frame, p, 1, v_first ? 2 : 1, 0, p->depth > 8 ? 2 : 1);
    put (frame, p, 2, v_first ? 1 : 2, 0, p->depth > 8 ? 2 : 1);
  }
  }
}

/* A buffer whose rows and planes are further apart than the caps say. */
static GstBuffer *
pack (const GstVideoInfo *info, const Planes *p)
{
  GstVideoInfo padded = *info;
  GstVideoAlignment align;
  GstVideoFrame frame;
  GstBuffer *buffer;

  gst_video_alignment_reset (&align);
  align.padding_right = (guint) g_test_rand_int_range (0, 40);
  align.padding_bottom = (guint) g_test_rand_int_range (0, 9);
  padded.interlace_mode = GST_VIDEO_INTERLACE_MODE_PROGRESSIVE;
  g_assert_true (gst_video_info_align (&padded, &align));
  buffer = gst_buffer_new_allocate (NULL, padded.size, NULL);
  gst_buffer_memset (buffer, 0, 77, padded.size);
  gst_buffer_add_video_meta_full (buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_INFO_FORMAT (info),
                                  (guint) info->width, (guint) info->height,
                                  GST_VIDEO_INFO_N_PLANES (info), padded.offset, padded.stride);
  g_assert_true (gst_video_frame_map (&frame, &padded, buffer, GST_MAP_WRITE));
  memcpy (frame.info.stride, padded.stride, sizeof padded.stride);
  put_all (&frame, p);
  gst_video_frame_unmap (&frame);
  return buffer;
}

/* ---- the reference -------------------------------------------------------- */

typedef struct {
  GstVideoRectangle crop;
  gint field; /* or -1 */
  gboolean cosited_x, cosited_y;
} View;

/* Samples along one axis: those numbered first, first + every ..., of which number i lies at
 * middle + i * pitch in pixels. */
typedef struct {
  guint first, every, end;
  double middle, pitch;
} Axis;

static double
kernel (double x)
{
  x = fabs (x);
  if (x < 1)
    return 1.5 * x * x * x - 2.5 * x * x + 1;
  return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}

/* The weights of an axis's samples at output @i of @n, which together show pixels from @start.
 * What lies past the samples is taken at their edge. */
static void
weigh (const Axis *axis, double start, double length, guint i, guint n, double *weights)
{
  double pitch = axis->pitch * axis->every, step = length / n, sum = 0;
  double at = start + (i + 0.5) * step, scale = MAX (step / pitch, 1.0);
  double first = axis->middle + axis->first * axis->pitch;
  double last
      = axis->middle
        + (axis->first + (axis->end - 1 - axis->first) / axis->every * axis->every) * axis->pitch;

  at = CLAMP (at, first - pitch / 2, last + pitch / 2);
  for (guint s = axis->first; s < axis->end; s += axis->every) {
    double apart = (axis->middle + s * axis->pitch - at) / pitch;

    sum += weights[s] = kernel (apart / scale);
  }
  for (guint s = axis->first; s < axis->end; s += axis->every)
    weights[s] /= sum;
}

static Axis
axis_of (guint sub, gboolean cosited, gint start, gint length, gint field)
{
  guint first = (guint) start / sub, end = ((guint) (start + length) + sub - 1) / sub;

  return (Axis){ .first = field < 0 ? first : first / 2 * 2 + (guint) field,
                 .every = field < 0 ? 1 : 2,
                 .end = end,
                 .middle = cosited ? 0.5 : 0.5 * sub,
                 .pitch = sub };
}

static double *
resample (const Planes *p, guint comp, const View *view, guint width, guint height)
{
  guint sub_x = comp == 0 ? 1 : p->sub_x, sub_y = comp == 0 ? 1 : p->sub_y;
  Axis across = axis_of (sub_x, view->cosited_x, view->crop.x, view->crop.w, -1);
  Axis down = axis_of (sub_y, view->cosited_y, view->crop.y, view->crop.h, view->field);
  g_autofree double *weights = g_new (double, MAX (p->width[comp], p->height[comp]));
  g_autofree double *rows = g_new0 (double, (gsize) height * p->width[comp]);
  double *out = g_new0 (double, (gsize) height *width);

  for (guint y = 0; y < height; y++) {
    weigh (&down, view->crop.y, view->crop.h, y, height, weights);
    for (guint s = down.first; s < down.end; s += down.every)
      for (guint x = 0; x < p->width[comp]; x++)
        rows[y * p->width[comp] + x] += weights[s] * p->samples[comp][s * p->width[comp] + x];
  }
  for (guint x = 0; x < width; x++) {
    weigh (&across, view->crop.x, view->crop.w, x, width, weights);
    for (guint y = 0; y < height; y++)
      for (guint s = across.first; s < across.end; s++)
        out[y * width + x] += weights[s] * rows[y * p->width[comp] + s];
  }
  return out;
}

typedef struct {
  const char *name;
  double kr, kb;
  gboolean full;
} Colors;

static const Colors colors[] = {
  { "bt601", 0.299, 0.114, FALSE },    { "bt709", 0.2126, 0.0722, FALSE },
  { "bt2020", 0.2627, 0.0593, FALSE }, { "1:4:0:0", 0.299, 0.114, TRUE },
  { "1:3:0:0", 0.2126, 0.0722, TRUE }, { "1:6:0:0", 0.2627, 0.0593, TRUE },
};

static void
to_rgb (const Colors *c, guint depth, double y, double u, double v, double rgb[3])
{
  double one = 1 << (depth - 8), top = (1 << depth) - 1;
  double luma = c->full ? y / top : (y - 16 * one) / (219 * one);
  double cb = (u - 128 * one) / (c->full ? top : 224 * one);
  double cr = (v - 128 * one) / (c->full ? top : 224 * one);

  rgb[0] = luma + 2 * (1 - c->kr) * cr;
  rgb[2] = luma + 2 * (1 - c->kb) * cb;
  rgb[1] = (luma - c->kr * rgb[0] - c->kb * rgb[2]) / (1 - c->kr - c->kb);
  for (guint i = 0; i < 3; i++)
    rgb[i] = CLAMP (255 * rgb[i], 0, 255);
}

/* Largest difference; @sum grows by the differences with their signs. */
static double
compare (const Planes *p, const View *view, const Colors *c, gboolean gray, const guint8 *got,
         guint width, guint height, double *sum)
{
  double *parts[3], worst = 0;

  for (guint i = 0; i < 3; i++)
    parts[i] = resample (p, i, view, width, height);
  for (gsize i = 0; i < (gsize) width * height; i++) {
    double middle = 128 << (p->depth - 8), want[3];

    to_rgb (c, p->depth, parts[0][i], gray ? middle : parts[1][i], gray ? middle : parts[2][i],
            want);
    for (guint k = 0; k < 3; k++) {
      worst = MAX (worst, fabs (got[3 * i + k] - want[k]));
      *sum += got[3 * i + k] - want[k];
    }
  }
  for (guint i = 0; i < 3; i++)
    g_free (parts[i]);
  return worst;
}

/* ---- frames --------------------------------------------------------------- */

static ValleyModel *
open_model (void)
{
  g_autofree char *dir = g_build_filename (g_getenv ("GOLDEN_DIR"), "ovis-softmax", NULL);
  g_autoptr (GError) error = NULL;
  ValleyModel *model = valley_model_open (dir, NULL, &error);

  g_assert_no_error (error);
  return model;
}

static void
set_random_site (GstVideoInfo *info, View *view)
{
  static const GstVideoChromaSite sites[]
      = { GST_VIDEO_CHROMA_SITE_UNKNOWN, GST_VIDEO_CHROMA_SITE_MPEG2, GST_VIDEO_CHROMA_SITE_JPEG,
          GST_VIDEO_CHROMA_SITE_COSITED };
  guint i = (guint) g_test_rand_int_range (0, G_N_ELEMENTS (sites));

  info->chroma_site = sites[i];
  view->cosited_x = i != 2; /* unknown: left, as in H.264 */
  view->cosited_y = i == 3;
}

static void
set_random_fields (GstVideoInfo *info, View *view, GstBufferFlags *flags)
{
  gboolean top_first = g_test_rand_bit ();

  *flags = 0;
  view->field = -1;
  switch (g_test_rand_int_range (0, 4)) {
  case 0: /* the caps say so, and which field is first */
    info->interlace_mode = GST_VIDEO_INTERLACE_MODE_INTERLEAVED;
    GST_VIDEO_INFO_FIELD_ORDER (info) = top_first ? GST_VIDEO_FIELD_ORDER_TOP_FIELD_FIRST
                                                  : GST_VIDEO_FIELD_ORDER_BOTTOM_FIELD_FIRST;
    view->field = top_first ? 0 : 1;
    break;
  case 1: /* each buffer says so */
    info->interlace_mode = GST_VIDEO_INTERLACE_MODE_MIXED;
    *flags = GST_VIDEO_BUFFER_FLAG_INTERLACED | (top_first ? GST_VIDEO_BUFFER_FLAG_TFF : 0);
    view->field = top_first ? 0 : 1;
    break;
  case 2: /* a progressive frame among others */
    info->interlace_mode = GST_VIDEO_INTERLACE_MODE_MIXED;
    break;
  default:
    break;
  }
}

static void
set_random_crop (GstBuffer *buffer, const Format *format, View *view)
{
  gint unit_x
      = GST_VIDEO_FORMAT_INFO_N_PLANES (gst_video_format_get_info (format->format)) == 1 ? 2 : 1;
  gint unit_y = view->field >= 0 ? 4 : 1, w = view->crop.w, h = view->crop.h;
  GstVideoCropMeta *crop;

  if (g_test_rand_bit ())
    return;
  crop = gst_buffer_add_video_crop_meta (buffer);
  view->crop.x = g_test_rand_int_range (0, w / 3) / unit_x * unit_x;
  view->crop.y = g_test_rand_int_range (0, h / 3) / unit_y * unit_y;
  view->crop.w = g_test_rand_int_range (w / 2, w - view->crop.x + 1);
  view->crop.h = g_test_rand_int_range (h / 2, h - view->crop.y + 1);
  crop->x = (guint) view->crop.x;
  crop->y = (guint) view->crop.y;
  crop->width = (guint) view->crop.w;
  crop->height = (guint) view->crop.h;
}

static void
test_formats (gconstpointer data)
{
  const Format *format = data;
  GstValleyPainter *painter = gst_valley_painter_new ();
  gboolean gray
      = format->format == GST_VIDEO_FORMAT_GRAY8 || format->format == GST_VIDEO_FORMAT_GRAY16_LE;
  ValleyModel *model = open_model ();
  double worst = 0, sum = 0, n = 0;

  for (guint round = 0; round < 40; round++) {
    guint width = (guint) g_test_rand_int_range (9, 150);
    guint height = (guint) g_test_rand_int_range (9, 150);
    const Colors *c = &colors[g_test_rand_int_range (0, G_N_ELEMENTS (colors))];
    Planes planes = random_planes (format, width, height);
    View view = { .crop = { 0, 0, (gint) width, (gint) height } };
    GstBufferFlags flags;
    ValleyPicture *picture;
    GstVideoInfo info;
    GstBuffer *buffer;
    GError *error = NULL;
    double apart;

    gst_video_info_set_format (&info, format->format, width, height);
    g_assert_true (gst_video_colorimetry_from_string (&info.colorimetry, c->name));
    set_random_site (&info, &view);
    set_random_fields (&info, &view, &flags);
    buffer = pack (&info, &planes);
    GST_BUFFER_FLAG_SET (buffer, flags);
    set_random_crop (buffer, format, &view);
    gst_valley_painter_set_info (painter, &info);
    picture = gst_valley_painter_paint (painter, model, buffer, 0, &error);
    g_assert_no_error (error);
    apart = compare (&planes, &view, c, gray, picture->siglip_rgb, picture->sizes.siglip_width,
                     picture->sizes.siglip_height, &sum);
    apart = MAX (apart, compare (&planes, &view, c, gray, picture->eagle_rgb,
                                 picture->sizes.eagle_width, picture->sizes.eagle_height, &sum));
    n += 3 * picture->sizes.siglip_width * picture->sizes.siglip_height
         + 3 * picture->sizes.eagle_width * picture->sizes.eagle_height;
    if (!(apart <= 0.75)) /* half of it is the rounding to bytes */
      g_error ("%s %ux%u, %s, site %d, field %d, crop %d,%d %dx%d: %g apart",
               gst_video_format_to_string (format->format), width, height, c->name,
               (int) info.chroma_site, view.field, view.crop.x, view.crop.y, view.crop.w,
               view.crop.h, apart);
    worst = MAX (worst, apart);
    valley_picture_unref (picture);
    gst_buffer_unref (buffer);
    clear_planes (&planes);
  }
  g_test_message ("largest difference %.3f, mean %+.4f of 255", worst, sum / n);
  g_assert_cmpfloat (fabs (sum / n), <, 0.1);
  valley_model_unref (model);
  gst_valley_painter_free (painter);
}

/* The RGB family is resized to the bit as RGB is, which is to the bit Pillow's (test-image). */
static void
test_rgb (void)
{
  static const struct {
    GstVideoFormat format;
    guint step, r, g, b;
  } family[] = {
    { GST_VIDEO_FORMAT_RGB, 3, 0, 1, 2 },  { GST_VIDEO_FORMAT_BGR, 3, 2, 1, 0 },
    { GST_VIDEO_FORMAT_RGBx, 4, 0, 1, 2 }, { GST_VIDEO_FORMAT_BGRx, 4, 2, 1, 0 },
    { GST_VIDEO_FORMAT_xRGB, 4, 1, 2, 3 }, { GST_VIDEO_FORMAT_xBGR, 4, 3, 2, 1 },
    { GST_VIDEO_FORMAT_RGBA, 4, 0, 1, 2 }, { GST_VIDEO_FORMAT_BGRA, 4, 2, 1, 0 },
    { GST_VIDEO_FORMAT_ARGB, 4, 1, 2, 3 }, { GST_VIDEO_FORMAT_ABGR, 4, 3, 2, 1 },
  };
  const guint width = 83, height = 61, x0 = 5, y0 = 3, w = 70, h = 51;
  GstValleyPainter *painter = gst_valley_painter_new ();
  g_autofree guint8 *rgb = g_malloc (3 * width * height);
  ValleyModel *model = open_model ();
  ValleyPicture *want;

  for (guint i = 0; i < 3 * width * height; i++)
    rgb[i] = (guint8) g_test_rand_int_range (0, 256);
  want = valley_picture_new_from_rgb (model, 0, rgb + 3 * (y0 * width + x0), 3 * width, w, h, NULL,
                                      NULL);
  for (guint f = 0; f < G_N_ELEMENTS (family); f++) {
    GstVideoCropMeta *crop;
    GstVideoFrame frame;
    ValleyPicture *got;
    GstVideoInfo info;
    GstBuffer *buffer;

    gst_video_info_set_format (&info, family[f].format, width, height);
    buffer = gst_buffer_new_allocate (NULL, info.size, NULL);
    g_assert_true (gst_video_frame_map (&frame, &info, buffer, GST_MAP_WRITE));
    for (guint i = 0; i < width * height; i++) {
      guint8 *pixel
          = (guint8 *) frame.data[0] + i / width * info.stride[0] + i % width * family[f].step;

      memset (pixel, 200, family[f].step); /* alpha, which is not looked at */
      pixel[family[f].r] = rgb[3 * i];
      pixel[family[f].g] = rgb[3 * i + 1];
      pixel[family[f].b] = rgb[3 * i + 2];
    }
    gst_video_frame_unmap (&frame);
    crop = gst_buffer_add_video_crop_meta (buffer);
    crop->x = x0;
    crop->y = y0;
    crop->width = w;
    crop->height = h;
    gst_valley_painter_set_info (painter, &info);
    got = gst_valley_painter_paint (painter, model, buffer, 0, NULL);
    g_assert_nonnull (got);
    g_assert_cmpmem (got->siglip_rgb, 3 * got->sizes.siglip_width * got->sizes.siglip_height,
                     want->siglip_rgb, 3 * want->sizes.siglip_width * want->sizes.siglip_height);
    g_assert_cmpmem (got->eagle_rgb, 3 * got->sizes.eagle_width * got->sizes.eagle_height,
                     want->eagle_rgb, 3 * want->sizes.eagle_width * want->sizes.eagle_height);
    valley_picture_unref (got);
    gst_buffer_unref (buffer);
  }
  valley_picture_unref (want);
  valley_model_unref (model);
  gst_valley_painter_free (painter);
}

/* Something that moved between the fields is there once, where it was first. */
static void
test_no_ghosts (void)
{
  GstValleyPainter *painter = gst_valley_painter_new ();
  ValleyModel *model = open_model ();
  const guint width = 64, height = 64;
  GstBuffer *buffers[2];
  ValleyPicture *pictures[2];
  GstVideoInfo info;

  gst_video_info_set_format (&info, GST_VIDEO_FORMAT_GRAY8, width, height);
  info.interlace_mode = GST_VIDEO_INTERLACE_MODE_INTERLEAVED;
  GST_VIDEO_INFO_FIELD_ORDER (&info) = GST_VIDEO_FIELD_ORDER_TOP_FIELD_FIRST;
  gst_valley_painter_set_info (painter, &info);
  for (guint i = 0; i < 2; i++) {
    GstMapInfo map;

    buffers[i] = gst_buffer_new_allocate (NULL, info.size, NULL);
    gst_buffer_map (buffers[i], &map, GST_MAP_WRITE);
    for (guint y = 0; y < height; y++) /* a bar; in the second frame the bottom field's is away */
      for (guint x = 0; x < width; x++)
        map.data[y * (guint) info.stride[0] + x]
            = x / 16 == (y % 2 == 1 && i == 1 ? 3 : 1) ? 235 : 16;
    gst_buffer_unmap (buffers[i], &map);
    pictures[i] = gst_valley_painter_paint (painter, model, buffers[i], 0, NULL);
    g_assert_nonnull (pictures[i]);
  }
  g_assert_cmpmem (
      pictures[0]->eagle_rgb, 3 * pictures[0]->sizes.eagle_width * pictures[0]->sizes.eagle_height,
      pictures[1]->eagle_rgb, 3 * pictures[1]->sizes.eagle_width * pictures[1]->sizes.eagle_height);
  for (guint i = 0; i < 2; i++) {
    valley_picture_unref (pictures[i]);
    gst_buffer_unref (buffers[i]);
  }
  valley_model_unref (model);
  gst_valley_painter_free (painter);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  gst_init (&argc, &argv);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  for (guint i = 0; i < G_N_ELEMENTS (formats); i++) {
    g_autofree char *path
        = g_strdup_printf ("/planes/%s", gst_video_format_to_string (formats[i].format));

    g_test_add_data_func (path, &formats[i], test_formats);
  }
  g_test_add_func ("/planes/rgb", test_rgb);
  g_test_add_func ("/planes/no-ghosts", test_no_ghosts);
  return g_test_run ();
}
