/* planes.c - see planes.h.  GStreamer's format tables say where samples lie; here they become
 * the engine's description, with the geometry of subsampled chroma, of crops and of fields.
 * SPDX-License-Identifier: Apache-2.0 */
#include "planes.h"

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
gboolean
gst_valley_planes_readable (const GstVideoFormatInfo *format)
{
  GstVideoFormat name = GST_VIDEO_FORMAT_INFO_FORMAT (format);
  gboolean packed = GST_VIDEO_FORMAT_INFO_N_PLANES (format) == 1
                    && GST_VIDEO_FORMAT_INFO_N_COMPONENTS (format) > 1;
  gboolean bytes = is_byte (format, 0);

  if (GST_VIDEO_FORMAT_INFO_IS_TILED (format) || GST_VIDEO_FORMAT_INFO_HAS_PALETTE (format)
      || GST_VIDEO_FORMAT_INFO_IS_COMPLEX (format)
      || !(GST_VIDEO_FORMAT_INFO_IS_YUV (format) || GST_VIDEO_FORMAT_INFO_IS_GRAY (format))
      || (packed && name != GST_VIDEO_FORMAT_YUY2 && name != GST_VIDEO_FORMAT_UYVY))
    return FALSE;
  for (guint i = 0; i < MIN (GST_VIDEO_FORMAT_INFO_N_COMPONENTS (format), 3); i++)
    if (bytes ? !is_byte (format, i) : !is_word (format, i))
      return FALSE;
  return TRUE;
}

/* ---- geometry ------------------------------------------------------------ */

/* How far a component is shifted against its own grid: where a sample lies on the first of the
 * pixels that share it, and not in their middle. */
static double
cosited_shift (guint sub, gboolean cosited)
{
  return cosited ? 0.5 - 0.5 / (1 << sub) : 0;
}

/* An unknown site is taken for that of MPEG-2 and H.264, left, as nearly all video has it. */
static gboolean
is_cosited (const GstVideoInfo *info, GstVideoChromaSite direction)
{
  if (info->chroma_site == GST_VIDEO_CHROMA_SITE_UNKNOWN)
    return direction == GST_VIDEO_CHROMA_SITE_H_COSITED;
  return (info->chroma_site & direction) != 0;
}

/* A plane's rows that are shown.  @comp is any component that lies in it. */
static ValleyVideoPlane
describe_rows (const GstVideoFrame *frame, const GstValleyView *view, guint comp)
{
  guint sub = GST_VIDEO_FORMAT_INFO_H_SUB (frame->info.finfo, comp);
  guint p = GST_VIDEO_FORMAT_INFO_PLANE (frame->info.finfo, comp);
  gint stride = GST_VIDEO_FRAME_PLANE_STRIDE (frame, p);
  guint first = view->y >> sub;
  guint end = GST_VIDEO_SUB_SCALE (sub, view->y + view->height);
  double top = (double) view->y / (1 << sub)
               + cosited_shift (sub, is_cosited (&frame->info, GST_VIDEO_CHROMA_SITE_V_COSITED));
  ValleyVideoPlane plane = { .height = (double) view->height / (1 << sub) };
  guint every = 1;

  if (view->field >= 0 && end > (first & ~1u) + view->field) {
    first = (first & ~1u) + view->field;
    every = 2;
  }
  plane.data = (const guint8 *) GST_VIDEO_FRAME_PLANE_DATA (frame, p) + (gsize) first * stride;
  plane.stride_bytes = (gsize) stride * every;
  plane.n_rows = (end - first + every - 1) / every;
  plane.height /= every;
  /* The middle of row @first is the middle of the described plane's first row. */
  plane.top = (top - first - 0.5) / every + 0.5;
  return plane;
}

/* Where a component's samples lie in a row of its plane, whose data and length they settle. */
static ValleyVideoComponent
describe_samples (const GstVideoFrame *frame, const GstValleyView *view, guint comp,
                  ValleyVideoPlane *plane)
{
  const GstVideoFormatInfo *format = frame->info.finfo;
  guint sub = GST_VIDEO_FORMAT_INFO_W_SUB (format, comp);
  guint sample_bytes = is_byte (format, comp) ? 1 : 2;
  guint offset = GST_VIDEO_FORMAT_INFO_POFFSET (format, comp);
  ValleyVideoComponent out
      = { .step = GST_VIDEO_FORMAT_INFO_PSTRIDE (format, comp) / sample_bytes };
  /* Samples of YUY2's Y come in pairs, around those of U and V. */
  guint group = GST_VIDEO_FORMAT_INFO_N_PLANES (format) == 1 && out.step == 2 ? 2 : 1;
  guint first = (view->x >> sub) / group * group;
  guint end = GST_VIDEO_SUB_SCALE (sub, view->x + view->width);

  /* GStreamer's table gives P010's V an offset of 1, which is in words. */
  out.first = sample_bytes == 2 && offset % 2 == 0 ? offset / 2 : offset;
  out.left = (double) view->x / (1 << sub) - first
             + cosited_shift (sub, is_cosited (&frame->info, GST_VIDEO_CHROMA_SITE_H_COSITED));
  out.width = (double) view->width / (1 << sub);
  if (plane->n_samples == 0)
    plane->data += (gsize) first * out.step * sample_bytes;
  out.n_samples = end - first;
  plane->n_samples = MAX (plane->n_samples, (end - first - 1) * out.step + out.first + 1);
  return out;
}

/* ---- colors -------------------------------------------------------------- */

/* The matrix sees samples as if in 8 bits, with a fraction where there are more. */
static void
describe_matrix (const GstVideoInfo *info, double matrix[3][4])
{
  gint offset[GST_VIDEO_MAX_COMPONENTS], range[GST_VIDEO_MAX_COMPONENTS];
  double unit = 1 << (GST_VIDEO_FORMAT_INFO_DEPTH (info->finfo, 0) - 8);
  double kr = 0.2126, kb = 0.0722, kg, luma, chroma;

  gst_video_color_range_offsets (info->colorimetry.range, info->finfo, offset, range);
  if (!gst_video_color_matrix_get_Kr_Kb (info->colorimetry.matrix, &kr, &kb)
      && GST_VIDEO_INFO_HEIGHT (info) <= 576) {
    kr = 0.299; /* an unknown matrix: as GStreamer guesses, by size */
    kb = 0.114;
  }
  kg = 1 - kr - kb;
  luma = 255 * unit / range[0];
  chroma = GST_VIDEO_INFO_IS_GRAY (info) ? 0 : 255 * unit / range[1];
  for (guint c = 0; c < 3; c++) {
    const double u[3] = { 0, -2 * (1 - kb) * kb / kg, 2 * (1 - kb) };
    const double v[3] = { 2 * (1 - kr), -2 * (1 - kr) * kr / kg, 0 };

    matrix[c][0] = luma;
    matrix[c][1] = chroma * u[c];
    matrix[c][2] = chroma * v[c];
    matrix[c][3] = -luma * offset[0] / unit;
    if (chroma != 0)
      matrix[c][3] -= (matrix[c][1] * offset[1] + matrix[c][2] * offset[2]) / unit;
  }
}

void
gst_valley_planes_describe (const GstVideoFrame *frame, const GstValleyView *view,
                            ValleyVideo *video)
{
  const GstVideoFormatInfo *format = frame->info.finfo;

  *video
      = (ValleyVideo){ .bits = GST_VIDEO_FORMAT_INFO_DEPTH (format, 0)
                               + GST_VIDEO_FORMAT_INFO_SHIFT (format, 0),
                       .n_components = GST_VIDEO_FORMAT_INFO_N_COMPONENTS (format) >= 3 ? 3 : 1 };
  for (guint i = 0; i < video->n_components; i++) {
    /* GStreamer counts planes as they lie in memory: Y is in the first, V may be before U. */
    guint p = GST_VIDEO_FORMAT_INFO_PLANE (format, i);

    if (video->planes[p].data == NULL)
      video->planes[p] = describe_rows (frame, view, i);
    video->components[i] = describe_samples (frame, view, i, &video->planes[p]);
    video->components[i].plane = p;
    video->n_planes = MAX (video->n_planes, p + 1);
  }
  describe_matrix (&frame->info, video->matrix);
}
