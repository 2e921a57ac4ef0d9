/* resize_kernels.h - the inner loops of the resize, one set per instruction set.
 *
 * Lanes are ROWS in the horizontal pass: sixteen rows of the picture are regrouped into tiles
 * of four neighbouring samples each, so that every instruction works on sixteen rows with the
 * same coefficients and nothing has to be summed across a vector.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "video_kernels.h"

#define VALLEY_RESIZE_ROWS 16
#define VALLEY_RESIZE_BITS 22 /* fraction bits of a coefficient, as in Pillow */

/* For each output position the inputs it is made of, in groups of four ("quads"). */
typedef struct {
  guint in, out;
  gsize stride;     /* guint32s from one output's coefficients to the next's: 4 a quad */
  guint32 *first;   /* by output: the first quad's first input */
  guint32 *n_quads; /* by output */
  guint32 *packed;  /* as the kernel set's pack () wrote them */
} ValleyResizeTable;

typedef struct {
  const char *name;
  /* Four coefficients in this set's own form. */
  void (*pack) (const gint32 k[4], guint32 packed[4]);
  /* Up to sixteen rows of @width pixels of @channels samples into planes of tiles: quad q of
   * channel c is 16 x 4 bytes at @planes[c] + 64 * q, at a multiple of 64; what is NULL is left
   * out.  @n_rows < 16: the last repeats.  Planes have room for a multiple of four quads; those
   * past the width may be written. */
  void (*tile) (const guint8 *src, gsize stride, guint n_rows, guint width, guint channels,
                guint8 *const planes[4]);
  /* One output row of sixteen-row columns: sample s of the row is 16 bytes at @columns + 16 s.
   * Plane c is at @tiles + c * @plane_bytes. */
  void (*horizontal) (const guint8 *tiles, gsize plane_bytes, const ValleyResizeTable *table,
                      guint channels, guint8 *columns);
  /* Columns back to @n_rows rows of @n samples; columns are read in blocks of 64. */
  void (*untile) (const guint8 *columns, gsize n, guint n_rows, guint8 *dst, gsize stride);
  /* One output row of @n samples from @n_rows rows at @src and the coefficients of @n_quads,
   * which are 0 past those rows. */
  void (*vertical) (const guint8 *src, gsize stride, guint n_rows, const guint32 *packed,
                    guint n_quads, gsize n, guint8 *dst);
  const ValleyVideoKernels *video; /* the same set's, for planes of video */
} ValleyResizeKernels;

extern const ValleyResizeKernels valley_resize_kernels_c;
#if defined(__x86_64__)
extern const ValleyResizeKernels valley_resize_kernels_avx2, valley_resize_kernels_avx512;
#endif

/* Every set this processor can run, the slowest first, NULL at the end. */
const ValleyResizeKernels *const *valley_resize_kernel_sets (void);

/* The one that is used: the best, or the best up to the one that VALLEY_CPU names. */
const ValleyResizeKernels *valley_resize_best_kernels (void);

/* Pillow's bicubic kernel, a = -0.5. */
double valley_resize_cubic (double x);

/* A picture of interleaved samples, and which of a pixel's are wanted, in which order. */
typedef struct {
  const guint8 *data;
  gsize stride;
  guint width, height, channels;
  guint n_wanted;
  guint8 wanted[4]; /* each another one */
} ValleyResizeSource;

typedef struct {
  guint8 *data;
  gsize stride;
  guint width, height;
} ValleyResizeTarget;

/* Resizes @source for up to four targets with a chosen set.  FALSE when memory is short or a
 * value is absurd. */
gboolean valley_resize_to (const ValleyResizeKernels *kernels, const ValleyResizeSource *source,
                           const ValleyResizeTarget *targets, guint n);

/* valley_video_scaler_new with a chosen set; valley.h has the rest of it. */
struct _ValleyVideoScaler *valley_video_scaler_new_with (const ValleyResizeKernels *kernels);

/* The columns of @n samples a row, for untile () to read. */
static inline gsize
valley_resize_column_bytes (gsize n)
{
  return (n + 63) / 64 * (64 * VALLEY_RESIZE_ROWS);
}

/* Row @i of @n_rows; coefficients past the last are 0. */
static inline const guint8 *
valley_resize_row (const guint8 *src, gsize stride, guint n_rows, guint i)
{
  return src + stride * MIN (i, n_rows - 1);
}

static inline guint8
valley_resize_round (guint32 sum)
{
  gint32 value = (gint32) (sum + (1u << (VALLEY_RESIZE_BITS - 1))) >> VALLEY_RESIZE_BITS;

  return (guint8) CLAMP (value, 0, 255);
}
