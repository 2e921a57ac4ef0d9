/* picture.c - GstVideoFrame to ValleyPicture.
 *
 * What decoders and cameras put out is resized plane by plane in its own color space and only
 * the small result is turned into RGB: a matrix commutes with a resize, and that keeps a 1080p
 * frame within its 2 ms.  Formats with odd packings go through GstVideoConverter first.
 * Interlaced frames are taken whole, so both fields blend as they do for the eye.
 * SPDX-License-Identifier: Apache-2.0 */
#include "picture.h"

#include <string.h>

typedef struct {
  guint x, y, width, height;
} Rect;

/* The samples of a component: `step` bytes from one to the next. */
typedef struct {
  const guint8 *pixels; /* NULL: there is no such component */
  guint stride, step, width, height;
} Plane;

struct _GstValleyPainter {
  GstVideoInfo info;
  GstVideoOrientationMethod orientation;
  GstVideoConverter *converter; /* for formats that are not read directly */
  GstVideoInfo rgb_info;
  GstBuffer *rgb;
  gint matrix[3][3], offset[3];          /* YUV to RGB in 16.16 fixed point */
  guint8 *gathered[3], *small, *upright; /* scratch */
  gsize gathered_bytes[3], small_bytes, upright_bytes;
};

GstValleyPainter *
gst_valley_painter_new (void)
{
  GstValleyPainter *painter = g_new0 (GstValleyPainter, 1);

  gst_video_info_init (&painter->info);
  painter->orientation = GST_VIDEO_ORIENTATION_IDENTITY;
  return painter;
}

static void
forget_converter (GstValleyPainter *painter)
{
  g_clear_pointer (&painter->converter, gst_video_converter_free);
  gst_clear_buffer (&painter->rgb);
}

void
gst_valley_painter_free (GstValleyPainter *painter)
{
  forget_converter (painter);
  for (guint i = 0; i < 3; i++)
    g_free (painter->gathered[i]);
  g_free (painter->small);
  g_free (painter->upright);
  g_free (painter);
}

/* ---- geometry ------------------------------------------------------------ */

static Rect
visible_rect (const GstValleyPainter *painter, GstBuffer *buffer)
{
  guint width = GST_VIDEO_INFO_WIDTH (&painter->info);
  guint height = GST_VIDEO_INFO_HEIGHT (&painter->info);
  const GstVideoCropMeta *crop = gst_buffer_get_video_crop_meta (buffer);

  if (crop == NULL || crop->width == 0 || crop->height == 0 || crop->x >= width
      || crop->y >= height)
    return (Rect){ 0, 0, width, height };
  return (Rect){ crop->x, crop->y, MIN (crop->width, width - crop->x),
                 MIN (crop->height, height - crop->y) };
}

static gboolean
turns_sideways (GstVideoOrientationMethod orientation)
{
  return orientation == GST_VIDEO_ORIENTATION_90R || orientation == GST_VIDEO_ORIENTATION_90L
         || orientation == GST_VIDEO_ORIENTATION_UL_LR
         || orientation == GST_VIDEO_ORIENTATION_UR_LL;
}

void
gst_valley_painter_display_size (GstValleyPainter *painter, GstBuffer *buffer, guint *width,
                                 guint *height)
{
  Rect rect = visible_rect (painter, buffer);
  guint64 par_n = MAX (GST_VIDEO_INFO_PAR_N (&painter->info), 1);
  guint64 par_d = MAX (GST_VIDEO_INFO_PAR_D (&painter->info), 1);
  guint64 w = rect.width, h = rect.height;

  /* Stretch, never shrink, so that no line is lost before the model's own resize. */
  if (par_n > par_d)
    w = gst_util_uint64_scale_round (w, par_n, par_d);
  else
    h = gst_util_uint64_scale_round (h, par_d, par_n);
  w = CLAMP (w, 1, 65535);
  h = CLAMP (h, 1, 65535);
  *width = (guint) (turns_sideways (painter->orientation) ? h : w);
  *height = (guint) (turns_sideways (painter->orientation) ? w : h);
}

/* ---- formats ------------------------------------------------------------- */

static void
set_matrix (GstValleyPainter *painter)
{
  gint offset[GST_VIDEO_MAX_COMPONENTS], range[GST_VIDEO_MAX_COMPONENTS];
  gdouble kr = 0.2126, kb = 0.0722, y, u;

  /* Whatever the format's depth, the matrix sees 8 bits. */
  gst_video_color_range_offsets (painter->info.colorimetry.range,
                                 gst_video_format_get_info (GST_VIDEO_FORMAT_Y444), offset, range);
  if (!gst_video_color_matrix_get_Kr_Kb (painter->info.colorimetry.matrix, &kr, &kb)
      && GST_VIDEO_INFO_HEIGHT (&painter->info) <= 576) {
    kr = 0.299; /* an unknown matrix: as GStreamer guesses, by size */
    kb = 0.114;
  }
  y = 65536.0 * 255 / range[0];
  u = 65536.0 * 255 / range[1];
  painter->matrix[0][0] = painter->matrix[1][0] = painter->matrix[2][0] = (gint) (y + 0.5);
  painter->matrix[0][1] = 0;
  painter->matrix[0][2] = (gint) (u * 2 * (1 - kr) + 0.5);
  painter->matrix[1][1] = (gint) (-u * 2 * (1 - kb) * kb / (1 - kr - kb) - 0.5);
  painter->matrix[1][2] = (gint) (-u * 2 * (1 - kr) * kr / (1 - kr - kb) - 0.5);
  painter->matrix[2][1] = (gint) (u * 2 * (1 - kb) + 0.5);
  painter->matrix[2][2] = 0;
  for (guint i = 0; i < 3; i++)
    painter->offset[i] = offset[i];
}

void
gst_valley_painter_set_info (GstValleyPainter *painter, const GstVideoInfo *info)
{
  forget_converter (painter);
  painter->info = *info;
  if (GST_VIDEO_INFO_IS_YUV (info) || GST_VIDEO_INFO_IS_GRAY (info))
    set_matrix (painter);
}

void
gst_valley_painter_set_orientation (GstValleyPainter *painter,
                                    GstVideoOrientationMethod orientation)
{
  painter->orientation = orientation;
}

static gboolean
is_linear (const GstVideoFormatInfo *format)
{
  return !GST_VIDEO_FORMAT_INFO_IS_TILED (format) && !GST_VIDEO_FORMAT_INFO_HAS_PALETTE (format)
         && !GST_VIDEO_FORMAT_INFO_IS_COMPLEX (format);
}

/* A component of one byte a sample, whatever lies between the samples. */
static gboolean
is_byte (const GstVideoFormatInfo *format, guint comp)
{
  return GST_VIDEO_FORMAT_INFO_DEPTH (format, comp) == 8
         && GST_VIDEO_FORMAT_INFO_SHIFT (format, comp) == 0;
}

/* A component in 16-bit little-endian words. */
static gboolean
is_word (const GstVideoFormatInfo *format, guint comp)
{
  return GST_VIDEO_FORMAT_INFO_IS_LE (format) && GST_VIDEO_FORMAT_INFO_DEPTH (format, comp) > 8
         && GST_VIDEO_FORMAT_INFO_DEPTH (format, comp) + GST_VIDEO_FORMAT_INFO_SHIFT (format, comp)
                <= 16
         && GST_VIDEO_FORMAT_INFO_PSTRIDE (format, comp) % 2 == 0;
}

/* YUV or gray that is taken apart here.  Of the packed formats only those that cameras give:
 * GStreamer's table is not right about the offsets or shifts of some others (VYUY, Y412). */
static gboolean
is_readable_yuv (const GstVideoFormatInfo *format)
{
  GstVideoFormat name = GST_VIDEO_FORMAT_INFO_FORMAT (format);
  gboolean packed = GST_VIDEO_FORMAT_INFO_N_PLANES (format) == 1
                    && GST_VIDEO_FORMAT_INFO_N_COMPONENTS (format) > 1;

  if (!is_linear (format)
      || !(GST_VIDEO_FORMAT_INFO_IS_YUV (format) || GST_VIDEO_FORMAT_INFO_IS_GRAY (format))
      || (packed && name != GST_VIDEO_FORMAT_YUY2 && name != GST_VIDEO_FORMAT_UYVY))
    return FALSE;
  for (guint i = 0; i < MIN (GST_VIDEO_FORMAT_INFO_N_COMPONENTS (format), 3); i++)
    if (!is_byte (format, i) && !is_word (format, i))
      return FALSE;
  return TRUE;
}

static gboolean
is_packed_rgb (const GstVideoFormatInfo *format)
{
  return is_linear (format) && GST_VIDEO_FORMAT_INFO_IS_RGB (format) && is_byte (format, 0)
         && is_byte (format, 1) && is_byte (format, 2)
         && GST_VIDEO_FORMAT_INFO_N_PLANES (format) == 1
         && GST_VIDEO_FORMAT_INFO_PSTRIDE (format, 0) <= 4;
}

static guint8 *
scratch (guint8 **memory, gsize *have, gsize need)
{
  if (*have < need) {
    g_free (*memory);
    *memory = g_malloc (need);
    *have = need;
  }
  return *memory;
}

/* ---- planes -------------------------------------------------------------- */

static Plane
component (const GstVideoFrame *frame, guint comp, const Rect *rect)
{
  const GstVideoFormatInfo *format = frame->info.finfo;
  gint stride = GST_VIDEO_FRAME_COMP_STRIDE (frame, comp);
  guint x = rect->x >> GST_VIDEO_FORMAT_INFO_W_SUB (format, comp);
  guint y = rect->y >> GST_VIDEO_FORMAT_INFO_H_SUB (format, comp);
  guint step = GST_VIDEO_FORMAT_INFO_PSTRIDE (format, comp);

  return (Plane){
    .pixels = (const guint8 *) GST_VIDEO_FRAME_COMP_DATA (frame, comp) + (gsize) y * stride
              + (gsize) x * step,
    .stride = stride,
    .step = step,
    .width = GST_VIDEO_FORMAT_INFO_SCALE_WIDTH (format, comp, rect->x + rect->width) - x,
    .height = GST_VIDEO_FORMAT_INFO_SCALE_HEIGHT (format, comp, rect->y + rect->height) - y,
  };
}

/* The loops that 1080p goes through, for the steps that occur, so that they are vectorised. */
static void
gather_row (const guint8 *in, guint step, gboolean words, guint shift, guint8 *out, guint n)
{
  const guint16 *in16 = (const guint16 *) (gconstpointer) in;

  if (words && step == 2) {
    for (guint i = 0; i < n; i++)
      out[i] = (guint8) (GUINT16_FROM_LE (in16[i]) >> shift);
  } else if (words) {
    for (guint i = 0; i < n; i++)
      out[i] = (guint8) (GUINT16_FROM_LE (in16[(gsize) i * step / 2]) >> shift);
  } else if (step == 2) {
    for (guint i = 0; i < n; i++)
      out[i] = in[2 * (gsize) i];
  } else {
    for (guint i = 0; i < n; i++)
      out[i] = in[(gsize) i * step];
  }
}

/* Copies a component's samples to bytes that lie together, in scratch memory. */
static void
gather (GstValleyPainter *painter, const GstVideoFormatInfo *format, guint comp, Plane *plane)
{
  gboolean words = !is_byte (format, comp);
  guint shift = words ? GST_VIDEO_FORMAT_INFO_SHIFT (format, comp)
                            + GST_VIDEO_FORMAT_INFO_DEPTH (format, comp) - 8
                      : 0;
  guint8 *out = scratch (&painter->gathered[comp], &painter->gathered_bytes[comp],
                         (gsize) plane->width * plane->height);

  /* GStreamer's table gives P010's V an offset of 1, which is in words. */
  if (words && GST_VIDEO_FORMAT_INFO_POFFSET (format, comp) % 2 == 1)
    plane->pixels += GST_VIDEO_FORMAT_INFO_POFFSET (format, comp);
  for (guint y = 0; y < plane->height; y++)
    gather_row (plane->pixels + (gsize) y * plane->stride, plane->step, words, shift,
                out + (gsize) y * plane->width, plane->width);
  plane->pixels = out;
  plane->stride = plane->width;
  plane->step = 1;
}

/* Y, U and V of what is visible, each in bytes that lie together; or U and V interleaved, as
 * NV12 has them, in planes[1] (step 2). */
static void
find_planes (GstValleyPainter *painter, const GstVideoFrame *frame, const Rect *rect,
             Plane planes[3])
{
  const GstVideoFormatInfo *format = frame->info.finfo;
  guint n = MIN (GST_VIDEO_FORMAT_INFO_N_COMPONENTS (format), 3);

  for (guint i = 0; i < 3; i++)
    planes[i] = i < n ? component (frame, i, rect) : (Plane){ 0 };
  if (n == 3 && is_byte (format, 0) && planes[0].step == 1 && planes[1].step == 2
      && planes[2].step == 2 && ABS (planes[2].pixels - planes[1].pixels) == 1)
    return;
  for (guint i = 0; i < n; i++)
    if (planes[i].step != 1)
      gather (painter, format, i, &planes[i]);
}

/* ---- resizing ------------------------------------------------------------ */

static gboolean
resize_plane (const Plane *plane, guint8 *out, guint width, guint height)
{
  return valley_image_resize (plane->pixels, plane->stride, plane->width, plane->height,
                              plane->step, out, (gsize) width * plane->step, width, height);
}

static guint8
clamp_byte (gint value)
{
  return (guint8) CLAMP (value, 0, 255);
}

static void
matrix_to_rgb (const GstValleyPainter *painter, const guint8 *y, const guint8 *u, const guint8 *v,
               guint uv_step, guint8 *out, gsize n)
{
  for (gsize i = 0; i < n; i++) {
    gint luma = (y[i] - painter->offset[0]) * painter->matrix[0][0] + 32768;
    gint cb = u[i * uv_step] - painter->offset[1], cr = v[i * uv_step] - painter->offset[2];

    out[3 * i] = clamp_byte ((luma + cr * painter->matrix[0][2]) >> 16);
    out[3 * i + 1]
        = clamp_byte ((luma + cb * painter->matrix[1][1] + cr * painter->matrix[1][2]) >> 16);
    out[3 * i + 2] = clamp_byte ((luma + cb * painter->matrix[2][1]) >> 16);
  }
}

static gboolean
paint_yuv (GstValleyPainter *painter, const Plane planes[3], guint8 *out, guint width, guint height)
{
  gsize n = (gsize) width * height;
  guint8 *luma = scratch (&painter->small, &painter->small_bytes, 3 * n);
  guint8 *chroma = luma + n;
  Plane both = planes[1];

  if (!resize_plane (&planes[0], luma, width, height))
    return FALSE;
  if (planes[1].pixels == NULL) {
    memset (chroma, 128, n);
    matrix_to_rgb (painter, luma, chroma, chroma, 1, out, n);
  } else if (planes[1].step == 2) {
    gboolean v_first = planes[2].pixels < planes[1].pixels;

    both.pixels = MIN (planes[1].pixels, planes[2].pixels);
    if (!resize_plane (&both, chroma, width, height))
      return FALSE;
    matrix_to_rgb (painter, luma, chroma + v_first, chroma + !v_first, 2, out, n);
  } else {
    if (!resize_plane (&planes[1], chroma, width, height)
        || !resize_plane (&planes[2], chroma + n, width, height))
      return FALSE;
    matrix_to_rgb (painter, luma, chroma, chroma + n, 1, out, n);
  }
  return TRUE;
}

static gboolean
paint_rgb (GstValleyPainter *painter, const GstVideoFrame *frame, const Rect *rect, guint8 *out,
           guint width, guint height)
{
  const GstVideoFormatInfo *format = frame->info.finfo;
  guint r = GST_VIDEO_FORMAT_INFO_POFFSET (format, GST_VIDEO_COMP_R);
  guint g = GST_VIDEO_FORMAT_INFO_POFFSET (format, GST_VIDEO_COMP_G);
  guint b = GST_VIDEO_FORMAT_INFO_POFFSET (format, GST_VIDEO_COMP_B);
  Plane pixels = component (frame, 0, rect);
  gsize n = (gsize) width * height, step = pixels.step;
  guint8 *small = scratch (&painter->small, &painter->small_bytes, step * n);

  pixels.pixels -= r; /* from the first component's byte back to the pixel's */
  if (!resize_plane (&pixels, small, width, height))
    return FALSE;
  for (gsize i = 0; i < n; i++) {
    out[3 * i] = small[step * i + r];
    out[3 * i + 1] = small[step * i + g];
    out[3 * i + 2] = small[step * i + b];
  }
  return TRUE;
}

/* Any other format: to RGB of the same size, kept in painter->rgb. */
static gboolean
convert (GstValleyPainter *painter, GstVideoFrame *frame, GstVideoFrame *rgb)
{
  if (painter->converter == NULL) {
    gst_video_info_set_format (&painter->rgb_info, GST_VIDEO_FORMAT_RGB,
                               GST_VIDEO_INFO_WIDTH (&painter->info),
                               GST_VIDEO_INFO_HEIGHT (&painter->info));
    /* The converter insists that these two agree. */
    painter->rgb_info.fps_n = painter->info.fps_n;
    painter->rgb_info.fps_d = painter->info.fps_d;
    painter->rgb_info.interlace_mode = painter->info.interlace_mode;
    painter->converter = gst_video_converter_new (&painter->info, &painter->rgb_info, NULL);
    painter->rgb = gst_buffer_new_allocate (NULL, painter->rgb_info.size, NULL);
  }
  if (painter->converter == NULL || painter->rgb == NULL
      || !gst_video_frame_map (rgb, &painter->rgb_info, painter->rgb, GST_MAP_READWRITE))
    return FALSE;
  gst_video_converter_frame (painter->converter, frame, rgb);
  return TRUE;
}

/* ---- turning upright ----------------------------------------------------- */

/* Where output pixel (x, y) of a @width x @height picture comes from in the stored one. */
static gsize
source_pixel (GstVideoOrientationMethod orientation, guint x, guint y, guint width, guint height)
{
  guint right = width - 1 - x, below = height - 1 - y;

  switch (orientation) {
  case GST_VIDEO_ORIENTATION_90R: /* shown turned clockwise: the left edge was the bottom */
    return (gsize) right * height + y;
  case GST_VIDEO_ORIENTATION_180:
    return (gsize) below * width + right;
  case GST_VIDEO_ORIENTATION_90L:
    return (gsize) x * height + below;
  case GST_VIDEO_ORIENTATION_HORIZ:
    return (gsize) y * width + right;
  case GST_VIDEO_ORIENTATION_VERT:
    return (gsize) below * width + x;
  case GST_VIDEO_ORIENTATION_UL_LR:
    return (gsize) x * height + y;
  case GST_VIDEO_ORIENTATION_UR_LL:
    return (gsize) right * height + below;
  default:
    return (gsize) y * width + x;
  }
}

static void
turn_upright (GstValleyPainter *painter, guint8 *rgb, guint width, guint height)
{
  gsize n = 3 * (gsize) width * height;
  guint8 *stored = scratch (&painter->upright, &painter->upright_bytes, n);

  memcpy (stored, rgb, n);
  for (guint y = 0; y < height; y++)
    for (guint x = 0; x < width; x++)
      memcpy (rgb + 3 * ((gsize) y * width + x),
              stored + 3 * source_pixel (painter->orientation, x, y, width, height), 3);
}

/* ---- one picture --------------------------------------------------------- */

/* NULL: the model has no such tower, or (with *ok FALSE) it could not be painted. */
static guint8 *
paint_for_tower (GstValleyPainter *painter, const GstVideoFrame *frame, const Rect *rect,
                 const Plane planes[3], guint width, guint height, gboolean *ok)
{
  gboolean sideways = turns_sideways (painter->orientation);
  guint w = sideways ? height : width, h = sideways ? width : height;
  guint8 *rgb;

  if (width == 0 || height == 0 || !*ok)
    return NULL;
  rgb = g_malloc (3 * (gsize) width * height);
  if (is_readable_yuv (frame->info.finfo))
    *ok = paint_yuv (painter, planes, rgb, w, h);
  else
    *ok = paint_rgb (painter, frame, rect, rgb, w, h);
  if (painter->orientation != GST_VIDEO_ORIENTATION_IDENTITY)
    turn_upright (painter, rgb, width, height);
  return rgb;
}

static ValleyPicture *
paint_frame (GstValleyPainter *painter, ValleyModel *model, const GstVideoFrame *frame,
             const Rect *rect, const ValleyInputSizes *sizes, guint64 pts, GError **error)
{
  gboolean ok = TRUE;
  g_autofree guint8 *siglip = NULL, *eagle = NULL;
  Plane planes[3];

  if (is_readable_yuv (frame->info.finfo))
    find_planes (painter, frame, rect, planes);
  siglip = paint_for_tower (painter, frame, rect, planes, sizes->siglip_width, sizes->siglip_height,
                            &ok);
  eagle = paint_for_tower (painter, frame, rect, planes, sizes->eagle_width, sizes->eagle_height,
                           &ok);
  if (!ok) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "cannot resize a frame of %u x %u: not enough memory", rect->width, rect->height);
    return NULL;
  }
  return valley_picture_new (model, pts, sizes, siglip, eagle, error);
}

ValleyPicture *
gst_valley_painter_paint (GstValleyPainter *painter, ValleyModel *model, GstBuffer *buffer,
                          guint64 pts, GError **error)
{
  const GstVideoFormatInfo *format = painter->info.finfo;
  Rect rect = visible_rect (painter, buffer);
  GstVideoFrame frame, rgb;
  ValleyInputSizes sizes;
  ValleyPicture *picture = NULL;
  guint width, height;

  gst_valley_painter_display_size (painter, buffer, &width, &height);
  if (!valley_model_input_sizes (model, width, height, &sizes, error))
    return NULL;
  if (!gst_video_frame_map (&frame, &painter->info, buffer,
                            GST_MAP_READ | GST_VIDEO_FRAME_MAP_FLAG_NO_REF)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "cannot map a buffer of %" G_GSIZE_FORMAT " bytes as a %s frame",
                 gst_buffer_get_size (buffer), GST_VIDEO_FORMAT_INFO_NAME (format));
    return NULL;
  }
  if (is_readable_yuv (format) || is_packed_rgb (format)) {
    picture = paint_frame (painter, model, &frame, &rect, &sizes, pts, error);
  } else if (convert (painter, &frame, &rgb)) {
    picture = paint_frame (painter, model, &rgb, &rect, &sizes, pts, error);
    gst_video_frame_unmap (&rgb);
  } else {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "cannot convert video format %s to RGB", GST_VIDEO_FORMAT_INFO_NAME (format));
  }
  gst_video_frame_unmap (&frame);
  return picture;
}
