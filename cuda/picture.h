/* picture.h - the GPU's operations on pictures in device memory, as ops.h has those on matrices.
 *
 * Painting follows the CPU's integer arithmetic step by step (model/resize_c.c, model/video_c.c),
 * so that a frame gives the same bytes wherever it lies.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of each output row or column the inputs that it is made of: @stride numbers an output, which
 * are the first input, how many there are, and their coefficients.  In device memory. */
typedef struct {
  const int32_t *rows;
  size_t stride;
  unsigned bits; /* fraction bits of a coefficient */
} ValleyCudaTaps;

/* What is done with a stored picture to see it upright: first the transposition, then mirrors. */
enum {
  VALLEY_CUDA_FLIP_X = 1,   /* the columns, from right to left */
  VALLEY_CUDA_FLIP_Y = 2,   /* the rows, from bottom to top */
  VALLEY_CUDA_TRANSPOSE = 4 /* rows become columns */
};

/* A tower's patch rows: squares of @size pixels in blocks of @merge x @merge, each picture
 * repeated @times times; columns (channel, time, y, x) of (v / 255 - mean) / deviation.  Pixels
 * beyond the last whole patch are left out. */
typedef struct {
  ValleyCudaMatrix y; /* y.data NULL: none are wanted */
  unsigned size, merge, times;
  unsigned grid_height, grid_width; /* in patches; multiples of @merge */
  float mean[3], deviation[3];
} ValleyCudaPatches;

/* Where a picture goes: either may be left out. */
typedef struct {
  uint8_t *rgb; /* upright, tightly packed */
  ValleyCudaPatches patches;
  unsigned width, height; /* upright */
  unsigned turn;          /* VALLEY_CUDA_FLIP_X and so on */
} ValleyCudaPicture;

/* Y, U or V of a frame: its first sample, and what leads to the others. */
typedef struct {
  const uint8_t *data;
  size_t stride_bytes;
  unsigned step_bytes;
  ValleyCudaTaps down, across;
} ValleyCudaComponent;

typedef struct {
  unsigned bits;         /* 8: bytes; 9 to 16: little-endian words, at even addresses */
  unsigned n_components; /* 1 or 3 */
  ValleyCudaComponent components[3];
  int16_t factor[3][4]; /* as ValleyVideoMatrix has them */
  int32_t offset[3];
} ValleyCudaVideo;

/* Interleaved 8-bit samples, of which three are R, G and B. */
typedef struct {
  const uint8_t *data;
  size_t stride_bytes;
  unsigned channels;
  uint8_t rgb[3];
  int limited; /* black is 16 and white 235 */
  ValleyCudaTaps down, across;
} ValleyCudaRgb;

/* One kernel each: from the frame to the small picture and its patches. */
int valley_cuda_paint_video (const ValleyCudaPicture *picture, const ValleyCudaVideo *video,
                             struct CUstream_st *stream);
int valley_cuda_paint_rgb (const ValleyCudaPicture *picture, const ValleyCudaRgb *rgb,
                           struct CUstream_st *stream);
/* Of a small picture of rows of @width pixels. */
int valley_cuda_patches (const ValleyCudaPatches *patches, const uint8_t *rgb, unsigned width,
                         struct CUstream_st *stream);

/* Adds 128 bits to @sum that stand for the @n bytes at @data, a multiple of 8. */
int valley_cuda_fingerprint (uint64_t sum[2], const uint8_t *data, size_t n,
                             struct CUstream_st *stream);
/* Adds the sum of |a - b| over @n bytes to @sum, in device memory; all at multiples of 8. */
int valley_cuda_difference (uint64_t *sum, const uint8_t *a, const uint8_t *b, size_t n,
                            struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif
