/* video_frame.c - see video_frame.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "video_frame.h"

#include <math.h>

#define MAX_SIDE 65535

static gboolean
plane_is_sane (const ValleyVideoPlane *plane)
{
  return plane->data != NULL && plane->n_samples >= 1 && plane->n_samples <= 4 * MAX_SIDE
         && plane->n_rows >= 1 && plane->n_rows <= MAX_SIDE && plane->height > 0
         && plane->height <= 2.0 * MAX_SIDE && fabs (plane->top) <= MAX_SIDE;
}

static gboolean
component_is_sane (const ValleyVideo *video, const ValleyVideoComponent *component)
{
  gsize step = component->step;

  return component->plane < video->n_planes && (step == 1 || step == 2 || step == 4)
         && component->first < step && component->n_samples >= 1 && component->n_samples <= MAX_SIDE
         && component->first + (component->n_samples - 1) * step
                < video->planes[component->plane].n_samples
         && component->width > 0 && component->width <= 2.0 * MAX_SIDE
         && fabs (component->left) <= MAX_SIDE;
}

gboolean
valley_video_is_sane (const ValleyVideo *video, guint width, guint height)
{
  if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE || video->bits < 8
      || video->bits > 16 || video->n_planes < 1 || video->n_planes > 3
      || (video->n_components != 1 && video->n_components != 3))
    return FALSE;
  for (guint i = 0; i < video->n_planes; i++)
    if (!plane_is_sane (&video->planes[i]))
      return FALSE;
  for (guint i = 0; i < video->n_components; i++)
    if (!component_is_sane (video, &video->components[i]))
      return FALSE;
  return TRUE;
}

ValleyTapsKey
valley_video_down_key (const ValleyVideo *video, guint i, guint height)
{
  const ValleyVideoPlane *plane = &video->planes[i];

  return (ValleyTapsKey){ .in = plane->n_rows,
                          .out = height,
                          .start = plane->top,
                          .length = plane->height,
                          .align = 1,
                          .max_bits = video->bits == 8 ? 22 : 15 };
}

ValleyTapsKey
valley_video_across_key (const ValleyVideo *video, guint i, guint width)
{
  const ValleyVideoComponent *component = &video->components[i];

  return (ValleyTapsKey){ .in = component->n_samples,
                          .out = width,
                          .start = component->left,
                          .length = component->width,
                          .align = 2,
                          .max_bits = 16 };
}

gboolean
valley_video_matrix_init (ValleyVideoMatrix *matrix, const double from[3][4])
{
  const int bits = VALLEY_VIDEO_MATRIX_BITS, all = bits + VALLEY_VIDEO_FRACTION;

  for (guint c = 0; c < 3; c++) {
    for (guint i = 0; i < 3; i++) {
      if (!(fabs (from[c][i]) < 3.5))
        return FALSE;
      matrix->factor[c][i] = (gint16) lrint (ldexp (from[c][i], bits));
    }
    if (!(fabs (from[c][3]) < 1000))
      return FALSE;
    matrix->factor[c][3] = 0;
    matrix->offset[c] = (gint32) lrint (ldexp (from[c][3] + 0.5, all));
  }
  return TRUE;
}
