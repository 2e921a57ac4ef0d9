/* picture.c - GstVideoFrame to ValleyPicture: crop, pixel aspect, field and rotation.
 *
 * YUV is handed to the engine plane by plane (planes.c), RGB as it lies.  Formats with odd
 * packings go through GstVideoConverter first.  A frame in the memory of the model's device is
 * only described: the engine paints it there.
 * SPDX-License-Identifier: Apache-2.0 */
#include "picture.h"

#include <string.h>

#include "cudaframes.h"
#include "planes.h"

struct _GstValleyPainter {
  GstVideoInfo info;
  GstVideoOrientationMethod orientation;
  ValleyReduction reduction;
  ValleyVideoScaler *scaler;
  GstVideoConverter *converter; /* for formats that are not read directly */
  GstVideoInfo rgb_info;
  GstBuffer *rgb;
  guint8 *towers[2], *upright; /* scratch */
  gsize tower_bytes[2], upright_bytes;
};

GstValleyPainter *
gst_valley_painter_new (void)
{
  GstValleyPainter *painter = g_new0 (GstValleyPainter, 1);

  gst_video_info_init (&painter->info);
  painter->orientation = GST_VIDEO_ORIENTATION_IDENTITY;
  painter->scaler = valley_video_scaler_new ();
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
  valley_video_scaler_free (painter->scaler);
  for (guint i = 0; i < 2; i++)
    g_free (painter->towers[i]);
  g_free (painter->upright);
  g_free (painter);
}

/* ---- geometry ------------------------------------------------------------ */

static GstValleyView
visible_part (const GstValleyPainter *painter, GstBuffer *buffer)
{
  guint width = GST_VIDEO_INFO_WIDTH (&painter->info);
  guint height = GST_VIDEO_INFO_HEIGHT (&painter->info);
  const GstVideoCropMeta *crop = gst_buffer_get_video_crop_meta (buffer);

  if (crop == NULL || crop->width == 0 || crop->height == 0 || crop->x >= width
      || crop->y >= height)
    return (GstValleyView){ 0, 0, width, height, -1 };
  return (GstValleyView){ crop->x, crop->y, MIN (crop->width, width - crop->x),
                          MIN (crop->height, height - crop->y), -1 };
}

/* Two fields are two moments: seen together, what moves would be there twice.  The one that is
 * shown first is taken, as the buffer's time stamp is its. */
static gint
first_field (const GstVideoFrame *frame)
{
  if (!GST_VIDEO_FRAME_IS_INTERLACED (frame))
    return -1;
  if (GST_VIDEO_INFO_FIELD_ORDER (&frame->info) == GST_VIDEO_FIELD_ORDER_TOP_FIELD_FIRST)
    return 0;
  if (GST_VIDEO_INFO_FIELD_ORDER (&frame->info) == GST_VIDEO_FIELD_ORDER_BOTTOM_FIELD_FIRST)
    return 1;
  return GST_VIDEO_FRAME_IS_TFF (frame) ? 0 : 1;
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
  GstValleyView view = visible_part (painter, buffer);
  guint64 par_n = MAX (GST_VIDEO_INFO_PAR_N (&painter->info), 1);
  guint64 par_d = MAX (GST_VIDEO_INFO_PAR_D (&painter->info), 1);
  guint64 w = view.width, h = view.height;

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

void
gst_valley_painter_set_info (GstValleyPainter *painter, const GstVideoInfo *info)
{
  forget_converter (painter);
  painter->info = *info;
}

void
gst_valley_painter_set_orientation (GstValleyPainter *painter,
                                    GstVideoOrientationMethod orientation)
{
  painter->orientation = orientation;
}

void
gst_valley_painter_set_reduction (GstValleyPainter *painter, const ValleyReduction *reduction)
{
  painter->reduction = *reduction;
}

static gboolean
is_packed_rgb (const GstVideoFormatInfo *format)
{
  if (!GST_VIDEO_FORMAT_INFO_IS_RGB (format) || GST_VIDEO_FORMAT_INFO_IS_TILED (format)
      || GST_VIDEO_FORMAT_INFO_HAS_PALETTE (format) || GST_VIDEO_FORMAT_INFO_IS_COMPLEX (format)
      || GST_VIDEO_FORMAT_INFO_N_PLANES (format) != 1
      || GST_VIDEO_FORMAT_INFO_PSTRIDE (format, 0) > 4)
    return FALSE;
  for (guint i = 0; i < 3; i++)
    if (GST_VIDEO_FORMAT_INFO_DEPTH (format, i) != 8
        || GST_VIDEO_FORMAT_INFO_SHIFT (format, i) != 0)
      return FALSE;
  return TRUE;
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

/* ---- resizing ------------------------------------------------------------ */

static gboolean
paint_yuv (GstValleyPainter *painter, const GstVideoFrame *frame, const GstValleyView *view,
           const ValleyVideoOutput *outputs, guint n)
{
  ValleyVideo video;

  gst_valley_planes_describe (frame, view, &video);
  return valley_video_scaler_paint (painter->scaler, &video, outputs, n);
}

/* From black at 16 and white at 235, as capture cards give RGB, to 0 and 255. */
static void
widen_range (guint8 *samples, gsize n)
{
  for (gsize i = 0; i < n; i++) {
    gint wide = (2 * 255 * ((gint) samples[i] - 16) + 219) / (2 * 219);

    samples[i] = (guint8) CLAMP (wide, 0, 255);
  }
}

/* (A field's lines are not moved by the half line that they lie beside the frame's middle.) */
static ValleyRgbImage
describe_rgb (const GstVideoFrame *frame, const GstValleyView *view)
{
  const GstVideoFormatInfo *format = frame->info.finfo;
  gsize step = GST_VIDEO_FORMAT_INFO_PSTRIDE (format, 0);
  gsize stride = GST_VIDEO_FRAME_PLANE_STRIDE (frame, 0);
  gboolean one_field = view->field >= 0 && view->height > (guint) view->field;
  guint first = one_field ? (guint) view->field : 0, every = one_field ? 2 : 1;
  ValleyRgbImage image = { .data = (const guint8 *) GST_VIDEO_FRAME_PLANE_DATA (frame, 0)
                                   + (view->y / every * every + first) * stride + view->x * step,
                           .stride_bytes = every * stride,
                           .width = view->width,
                           .height = (view->height - first + every - 1) / every,
                           .channels = (guint) step };

  for (guint c = 0; c < 3; c++) /* GST_VIDEO_COMP_R and so on */
    image.rgb[c] = (guint8) GST_VIDEO_FORMAT_INFO_POFFSET (format, c);
  return image;
}

static gboolean
has_limited_range (const GstVideoFrame *frame)
{
  return frame->info.colorimetry.range == GST_VIDEO_COLOR_RANGE_16_235;
}

/* RGB is resized to the bit as the model's own preprocessing does. */
static gboolean
paint_rgb (const GstVideoFrame *frame, const GstValleyView *view, const ValleyVideoOutput *outputs,
           guint n)
{
  ValleyRgbImage image = describe_rgb (frame, view);

  if (!valley_image_resize_rgb (&image, outputs, n))
    return FALSE;
  if (has_limited_range (frame))
    for (guint i = 0; i < n; i++)
      widen_range (outputs[i].rgb, 3 * (gsize) outputs[i].width * outputs[i].height);
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
    /* It takes RGB's range for what it is not; paint_rgb knows better. */
    if (GST_VIDEO_INFO_IS_RGB (&painter->info))
      painter->rgb_info.colorimetry.range = painter->info.colorimetry.range;
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
  gsize right = (gsize) width - 1 - x, below = (gsize) height - 1 - y;

  switch (orientation) {
  case GST_VIDEO_ORIENTATION_90R: /* shown turned clockwise: the left edge was the bottom */
    return right * height + y;
  case GST_VIDEO_ORIENTATION_180:
    return below * width + right;
  case GST_VIDEO_ORIENTATION_90L:
    return (gsize) x * height + below;
  case GST_VIDEO_ORIENTATION_HORIZ:
    return (gsize) y * width + right;
  case GST_VIDEO_ORIENTATION_VERT:
    return below * width + x;
  case GST_VIDEO_ORIENTATION_UL_LR:
    return (gsize) x * height + y;
  case GST_VIDEO_ORIENTATION_UR_LL:
    return right * height + below;
  default:
    return (gsize) y * width + x;
  }
}

static void
turn_upright (GstValleyPainter *painter, guint8 *rgb, guint width, guint height)
{
  gsize n = 3 * (gsize) width * height;
  guint8 *stored = scratch (&painter->upright, &painter->upright_bytes, n);
  /* A turn is a straight walk through the stored pixels; a step back wraps around. */
  gsize start = source_pixel (painter->orientation, 0, 0, width, height);
  gsize right = source_pixel (painter->orientation, 1, 0, width, height) - start;
  gsize down = source_pixel (painter->orientation, 0, 1, width, height) - start;

  memcpy (stored, rgb, n);
  for (guint y = 0; y < height; y++, start += down) {
    gsize at = start;

    for (guint x = 0; x < width; x++, at += right, rgb += 3)
      memcpy (rgb, stored + 3 * at, 3);
  }
}

/* ---- one picture --------------------------------------------------------- */

/* Every output in the frame's own orientation. */
static gboolean
paint_outputs (GstValleyPainter *painter, const GstVideoFrame *frame, const GstValleyView *view,
               const ValleyVideoOutput *outputs, guint n)
{
  if (gst_valley_planes_readable (frame->info.finfo))
    return paint_yuv (painter, frame, view, outputs, n);
  return paint_rgb (frame, view, outputs, n);
}

static ValleyPicture *
paint_frame (GstValleyPainter *painter, ValleyModel *model, const GstVideoFrame *frame,
             const GstValleyView *view, const ValleyInputSizes *sizes, guint64 pts, GError **error)
{
  const guint shown[2][2] = { { sizes->siglip_width, sizes->siglip_height },
                              { sizes->eagle_width, sizes->eagle_height } };
  gboolean sideways = turns_sideways (painter->orientation);
  const guint8 *rgb[2] = { NULL, NULL };
  ValleyVideoOutput outputs[2];
  guint n = 0;

  for (guint i = 0; i < 2; i++) {
    guint width = shown[i][sideways], height = shown[i][!sideways];

    if (width == 0 || height == 0)
      continue; /* the model has no such tower */
    rgb[i] = scratch (&painter->towers[i], &painter->tower_bytes[i], 3 * (gsize) width * height);
    outputs[n++] = (ValleyVideoOutput){ painter->towers[i], width, height };
  }
  if (!paint_outputs (painter, frame, view, outputs, n)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "cannot resize a frame of %u x %u: not enough memory", view->width, view->height);
    return NULL;
  }
  for (guint i = 0; i < n && painter->orientation != GST_VIDEO_ORIENTATION_IDENTITY; i++)
    turn_upright (painter, outputs[i].rgb, sideways ? outputs[i].height : outputs[i].width,
                  sideways ? outputs[i].width : outputs[i].height);
  return valley_picture_new (model, pts, sizes, rgb[0], rgb[1], error);
}

/* ---- one picture of a frame on the model's own device --------------------- */

static gboolean
is_readable (const GstVideoFormatInfo *format)
{
  return gst_valley_planes_readable (format) || is_packed_rgb (format);
}

/* Whether the frame can stay where it is; if not, mapping it brings it to the host. */
static gboolean
stays_on_device (GstValleyPainter *painter, ValleyModel *model, GstBuffer *buffer)
{
  gpointer context = gst_valley_cuda_frame_context (buffer);

  return context != NULL && is_readable (painter->info.finfo)
         && context == valley_model_cuda_context (model)
         && valley_model_takes_device_frames (model, NULL);
}

static ValleyTurn
turn_of (GstVideoOrientationMethod orientation)
{
  switch (orientation) {
  case GST_VIDEO_ORIENTATION_90R:
    return VALLEY_TURN_TRANSPOSE | VALLEY_TURN_FLIP_X;
  case GST_VIDEO_ORIENTATION_180:
    return VALLEY_TURN_FLIP_X | VALLEY_TURN_FLIP_Y;
  case GST_VIDEO_ORIENTATION_90L:
    return VALLEY_TURN_TRANSPOSE | VALLEY_TURN_FLIP_Y;
  case GST_VIDEO_ORIENTATION_HORIZ:
    return VALLEY_TURN_FLIP_X;
  case GST_VIDEO_ORIENTATION_VERT:
    return VALLEY_TURN_FLIP_Y;
  case GST_VIDEO_ORIENTATION_UL_LR:
    return VALLEY_TURN_TRANSPOSE;
  case GST_VIDEO_ORIENTATION_UR_LL:
    return VALLEY_TURN_TRANSPOSE | VALLEY_TURN_FLIP_X | VALLEY_TURN_FLIP_Y;
  default:
    return VALLEY_TURN_NONE;
  }
}

/* @frame's data are addresses on the device. */
static ValleyPicture *
paint_on_device (GstValleyPainter *painter, ValleyModel *model, GstVideoFrame *frame,
                 const GstValleyView *view, const ValleyInputSizes *sizes, guint64 pts,
                 GError **error)
{
  ValleyDeviceFrame on_device = { .turn = turn_of (painter->orientation) };
  ValleyRgbImage rgb;
  ValleyVideo video;

  if (gst_valley_planes_readable (frame->info.finfo)) {
    gst_valley_planes_describe (frame, view, &video);
    on_device.video = &video;
  } else {
    rgb = describe_rgb (frame, view);
    on_device.rgb = &rgb;
    on_device.limited_range = has_limited_range (frame);
  }
  return valley_picture_new_from_device (model, pts, sizes, &on_device, error);
}

/* ---- one picture of any frame --------------------------------------------- */

/* Of a mapped frame, on the host. */
static ValleyPicture *
paint_on_host (GstValleyPainter *painter, ValleyModel *model, GstVideoFrame *frame,
               const GstValleyView *view, const ValleyInputSizes *sizes, guint64 pts,
               GError **error)
{
  GstVideoFrame rgb;
  ValleyPicture *picture;

  if (is_readable (frame->info.finfo))
    return paint_frame (painter, model, frame, view, sizes, pts, error);
  if (!convert (painter, frame, &rgb)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "cannot convert video format %s to RGB",
                 GST_VIDEO_FORMAT_INFO_NAME (frame->info.finfo));
    return NULL;
  }
  picture = paint_frame (painter, model, &rgb, view, sizes, pts, error);
  gst_video_frame_unmap (&rgb);
  return picture;
}

ValleyPicture *
gst_valley_painter_paint (GstValleyPainter *painter, ValleyModel *model, GstBuffer *buffer,
                          guint64 pts, GError **error)
{
  GstValleyView view = visible_part (painter, buffer);
  gboolean on_device = stays_on_device (painter, model, buffer);
  GstVideoFrame frame;
  ValleyInputSizes sizes;
  ValleyPicture *picture;
  guint width, height;

  gst_valley_painter_display_size (painter, buffer, &width, &height);
  if (!valley_model_input_sizes (model, width, height, &painter->reduction, &sizes, error))
    return NULL;
  if (on_device ? !gst_valley_cuda_map (&frame, &painter->info, buffer)
                : !gst_video_frame_map (&frame, &painter->info, buffer,
                                        GST_MAP_READ | GST_VIDEO_FRAME_MAP_FLAG_NO_REF)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "cannot map a buffer of %" G_GSIZE_FORMAT " bytes as a %s frame",
                 gst_buffer_get_size (buffer), GST_VIDEO_FORMAT_INFO_NAME (painter->info.finfo));
    return NULL;
  }
  view.field = first_field (&frame);
  picture = (on_device ? paint_on_device : paint_on_host) (painter, model, &frame, &view, &sizes,
                                                           pts, error);
  gst_video_frame_unmap (&frame);
  return picture;
}
