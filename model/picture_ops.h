/* picture_ops.h - what a device with memory of its own does with pictures: backend.h's table points
 * to one of these where there is one.  Pictures are 8-bit RGB, tightly packed, upright.
 *
 * As with the other operations, calls enqueue and errors are sticky; download waits.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"
#include "video_kernels.h"

/* A tower's patch rows: squares of @size pixels in blocks of @merge x @merge, each repeated @times
 * times; columns (channel, time, y, x) of (v / 255 - mean) / deviation. */
typedef struct {
  gsize size, merge, times;
  gsize grid_width, grid_height; /* in patches; pixels beyond are left out */
  float mean[3], deviation[3];
} ValleyPatchShape;

/* A ValleyPaintTable on the device. */
typedef struct {
  ValleyMemory *rows;
  gsize stride;
  guint bits;
} ValleyPaintTaps;

/* Where a frame is painted to, in one pass: the picture, and its patch rows. */
typedef struct {
  ValleyMemory *rgb;
  guint width, height; /* upright */
  ValleyTurn turn;     /* of the frame */
  ValleyTensor patches; /* may be empty */
  ValleyPatchShape shape;
} ValleyPaintTarget;

/* A frame's coefficients for one target: by plane and by component of video, else the first. */
typedef struct {
  ValleyPaintTaps down[3], across[3];
} ValleyPaintPlan;

struct _ValleyPictureOps {
  /* For a thread whose frames wait for it: its work goes before that of other streams, and waits
   * for none of it. */
  ValleyStream *(*stream_new) (ValleyBackend *, GError **error);
  /* Bytes as they are; @src is free again on return. */
  void (*upload) (ValleyStream *, ValleyMemory *dst, gconstpointer src, gsize bytes);
  gboolean (*download) (ValleyStream *, ValleyMemory *src, gpointer dst, gsize bytes,
                        GError **error);
  /* Once the stream that wrote @memory was waited for: from now on it is only read, by any stream
   * of any thread, each of which waits for what reads it before it lets go of it. */
  void (*publish) (ValleyMemory *memory);
  /* What is enqueued from now on runs after @event (cuda: a CUevent). */
  void (*wait_event) (ValleyStream *, gpointer event);
  /* Frames whose `data` are the device's addresses, as the CPU paints them, to the byte. */
  void (*paint_video) (ValleyStream *, const ValleyPaintTarget *target, const ValleyVideo *video,
                       const ValleyVideoMatrix *matrix, const ValleyPaintPlan *plan);
  void (*paint_rgb) (ValleyStream *, const ValleyPaintTarget *target, const ValleyRgbImage *image,
                     gboolean limited_range, const ValleyPaintPlan *plan);
  /* Of a picture of rows of @width pixels. */
  void (*patches) (ValleyStream *, const ValleyTensor *y, ValleyMemory *rgb, gsize width,
                   const ValleyPatchShape *shape);
  /* sums[at] and sums[at + 1] (64 bits each) become numbers that stand for @bytes at @data. */
  void (*fingerprint) (ValleyStream *, ValleyMemory *sums, gsize at, ValleyMemory *data,
                       gsize bytes);
  /* sums[at] becomes the sum of |a - b|. */
  void (*difference) (ValleyStream *, ValleyMemory *sums, gsize at, ValleyMemory *a,
                      ValleyMemory *b, gsize bytes);
};
