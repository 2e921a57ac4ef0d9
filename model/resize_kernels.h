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
  /* Up to sixteen rows of @width pixels into @channels planes of tiles: quad q of channel c
   * is 16 x 4 bytes at @tiles + c * @plane_bytes + 64 * q.  @n_rows < 16: the last repeats.
   * @plane_bytes is a multiple of four quads; those past the width may be written. */
  void (*tile) (const guint8 *src, gsize stride, guint n_rows, guint width, guint channels,
                guint8 *tiles, gsize plane_bytes);
  /* One output row of sixteen-row columns: sample s of the row is 16 bytes at @columns + 16 s. */
  void (*horizontal) (const guint8 *tiles, gsize plane_bytes, const ValleyResizeTable *table,
                      guint channels, guint8 *columns);
  /* Columns back to @n_rows rows of @n samples; up to 15 columns more may be read. */
  void (*untile) (const guint8 *columns, gsize n, guint n_rows, guint8 *dst, gsize stride);
  /* Output row @y of @n samples from the rows of @src. */
  void (*vertical) (const guint8 *src, gsize stride, const ValleyResizeTable *table, guint y,
                    gsize n, guint8 *dst);
  const ValleyVideoKernels *video; /* the same set's, for planes of video */
} ValleyResizeKernels;

extern const ValleyResizeKernels valley_resize_kernels_c;
#if defined(__x86_64__)
extern const ValleyResizeKernels valley_resize_kernels_avx2, valley_resize_kernels_avx512;

/* The AVX2 set's, which the AVX-512 set shares. */
void valley_resize_tile_avx2 (const guint8 *src, gsize stride, guint n_rows, guint width,
                              guint channels, guint8 *tiles, gsize plane_bytes);
void valley_resize_untile_avx2 (const guint8 *columns, gsize n, guint n_rows, guint8 *dst,
                                gsize stride);
#endif

/* Every set this processor can run, the slowest first, NULL at the end. */
const ValleyResizeKernels *const *valley_resize_kernel_sets (void);

/* The one that is used: the best, or the best up to the one that VALLEY_CPU names. */
const ValleyResizeKernels *valley_resize_best_kernels (void);

/* Pillow's bicubic kernel, a = -0.5. */
double valley_resize_cubic (double x);

/* valley_image_resize with a chosen set. */
gboolean valley_resize_with (const ValleyResizeKernels *kernels, const guint8 *src,
                             gsize src_stride, guint src_width, guint src_height, guint channels,
                             guint8 *dst, gsize dst_stride, guint dst_width, guint dst_height);

/* valley_video_scaler_new with a chosen set; valley.h has the rest of it. */
struct _ValleyVideoScaler *valley_video_scaler_new_with (const ValleyResizeKernels *kernels);

/* The row that input @i of output row @y is read from: coefficients past the last row are 0. */
static inline const guint8 *
valley_resize_row (const guint8 *src, gsize stride, const ValleyResizeTable *table, guint y,
                   guint i)
{
  return src + stride * MIN (table->first[y] + i, table->in - 1);
}

static inline guint8
valley_resize_round (guint32 sum)
{
  gint32 value = (gint32) (sum + (1u << (VALLEY_RESIZE_BITS - 1))) >> VALLEY_RESIZE_BITS;

  return (guint8) CLAMP (value, 0, 255);
}
