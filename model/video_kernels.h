/* video_kernels.h - the inner loops that turn video planes into a small RGB picture, one set
 * per instruction set.  Every set gives the same bytes.
 *
 * First rows are combined, as they lie in memory, whatever components are interleaved there:
 * what is left is so little that sorting it out afterwards costs nothing.  Then columns are
 * combined with sixteen rows as the lanes, as in resize_kernels.h, and the color matrix is
 * applied at once.  Between the two, samples are 16-bit integers in units of 1/64 of an 8-bit
 * step: rounding there to 8 bits, as RGB pictures are, would show after the matrix.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

#define VALLEY_VIDEO_ROWS 16
#define VALLEY_VIDEO_FRACTION 6     /* bits of a sample between the passes */
#define VALLEY_VIDEO_MATRIX_BITS 13 /* fraction bits of the color matrix */

/* For each output position the inputs it is made of, in pairs. */
typedef struct {
  guint in, out;
  guint bits;       /* fraction bits of a coefficient */
  gsize stride;     /* pairs from one output's to the next's */
  guint32 *first;   /* by output: the first input */
  guint32 *n_pairs; /* by output */
  guint32 *pairs;   /* two 16-bit coefficients, the first in the low half */
} ValleyTaps;

typedef struct {
  gint16 factor[3][4]; /* by R, G, B: of Y, U, V; the fourth is 0 */
  gint32 offset[3];    /* and what is added, with the fraction bits of both, and the rounding */
} ValleyVideoMatrix;

typedef struct {
  /* Output row @y, of @n samples of @bits bits (8: bytes, else words), from the rows of @src. */
  void (*vertical) (const guint8 *src, gsize stride_bytes, guint bits, const ValleyTaps *taps,
                    guint y, gsize n, gint16 *dst);
  /* Every other sample of @src, from @odd on; @dst may be @src.  Read and written in blocks of
   * 32 and 16. */
  void (*pick) (const gint16 *src, guint odd, gsize n, gint16 *dst);
  /* Up to sixteen rows of @n samples: pair p is 16 x 2 samples at @tiles + 32 * p.  Rows are
   * read and pairs are written in blocks of 16 samples.  @n_rows < 16: the last repeats. */
  void (*tile) (const gint16 *rows, gsize stride, guint n_rows, gsize n, gint16 *tiles);
  /* Sixteen rows of RGB as columns: sample s is 16 bytes at @columns + 16 s.  Only Y where
   * taps[1] is NULL. */
  void (*horizontal) (const gint16 *const tiles[3], const ValleyTaps *const taps[3],
                      const ValleyVideoMatrix *matrix, guint8 *columns);
} ValleyVideoKernels;

extern const ValleyVideoKernels valley_video_kernels_c;
#if defined(__x86_64__)
extern const ValleyVideoKernels valley_video_kernels_avx2, valley_video_kernels_avx512;

/* The AVX2 set's, which the AVX-512 set shares. */
void valley_video_pick_avx2 (const gint16 *src, guint odd, gsize n, gint16 *dst);
void valley_video_tile_avx2 (const gint16 *rows, gsize stride, guint n_rows, gsize n,
                             gint16 *tiles);
#endif

/* By how much a sum of the vertical pass is shifted: words count in 1/128 of an 8-bit step. */
static inline guint
valley_video_vertical_shift (const ValleyTaps *taps, guint bits)
{
  return taps->bits - VALLEY_VIDEO_FRACTION + (bits == 8 ? 0 : 7);
}

/* The row that input @i of output row @y is read from: past the last row coefficients are 0. */
static inline const guint8 *
valley_video_row (const guint8 *src, gsize stride_bytes, const ValleyTaps *taps, guint y, guint i)
{
  return src + stride_bytes * MIN (taps->first[y] + i, taps->in - 1);
}
