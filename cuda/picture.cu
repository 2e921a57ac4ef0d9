/* picture.cu - frames in device memory become small pictures and patch rows.
 *
 * A block makes a tile of the small picture.  The pass that a frame's bytes are read in comes
 * first, its results go through shared memory a chunk at a time, so that no size of frame or
 * kernel is too large, and each thread sums up its own pixel of the second pass.
 * SPDX-License-Identifier: Apache-2.0 */
#include "picture.h"
#include "row.h"

#define FRACTION 6     /* bits of a video sample between the passes, as on the CPU */
#define MATRIX_BITS 13 /* fraction bits of the color matrix */
#define RGB_BITS 22    /* fraction bits of RGB's coefficients */

/* ---- what both kinds of frame share ---- */

/* This block's tile, and this thread's pixel of it, within the stored picture. */
struct Pixel {
  unsigned x, y;           /* clamped to the picture */
  unsigned last_x, last_y; /* of the tile */
  bool inside;
};

template <unsigned WIDTH, unsigned HEIGHT>
static __device__ __forceinline__ Pixel
this_pixel (unsigned width, unsigned height)
{
  unsigned left = blockIdx.x * WIDTH, top = blockIdx.y * HEIGHT;
  unsigned x = left + threadIdx.x % WIDTH, y = top + threadIdx.x / WIDTH;
  unsigned last_x = left + WIDTH <= width ? left + WIDTH - 1 : width - 1;
  unsigned last_y = top + HEIGHT <= height ? top + HEIGHT - 1 : height - 1;

  return { x < last_x ? x : last_x, y < last_y ? y : last_y, last_x, last_y,
           x < width && y < height };
}

/* The inputs of one output, and those past their end. */
struct Inputs {
  const int32_t *coefficients;
  unsigned first, end;
};

static __device__ __forceinline__ Inputs
inputs_of (const ValleyCudaTaps *taps, unsigned output)
{
  const int32_t *row = taps->rows + output * taps->stride;

  return { row + 2, (unsigned) row[0], (unsigned) (row[0] + row[1]) };
}

static __device__ __forceinline__ unsigned
least (unsigned a, unsigned b)
{
  return a < b ? a : b;
}

static __device__ __forceinline__ unsigned
most (unsigned a, unsigned b)
{
  return a > b ? a : b;
}

static __device__ __forceinline__ uint8_t
clamp_to_byte (int value)
{
  return (uint8_t) (value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Rounded where the reference rounds. */
static __device__ __forceinline__ float
normalise (uint8_t v, float mean, float deviation)
{
  return ((float) (v * (1 / 255.0)) - mean) / deviation;
}

/* Pixel (@x, @y) of the upright picture goes into its patch. */
template <typename T>
static __device__ void
write_patch_pixel (const ValleyCudaPatches *p, unsigned x, unsigned y, const uint8_t rgb[3])
{
  unsigned row = y / p->size, col = x / p->size, area = p->size * p->size;
  unsigned block = row / p->merge * (p->grid_width / p->merge) + col / p->merge;
  size_t index = (size_t) block * p->merge * p->merge + row % p->merge * p->merge + col % p->merge;
  T *out = (T *) p->y.data + index * p->y.stride + y % p->size * p->size + x % p->size;

  if (row >= p->grid_height || col >= p->grid_width)
    return;
  for (int c = 0; c < 3; c++) {
    float value = normalise (rgb[c], p->mean[c], p->deviation[c]);

    for (unsigned t = 0; t < p->times; t++, out += area)
      valley_from_f32 (out, value);
  }
}

/* The stored picture's pixel (@x, @y) of @width x @height goes to its place in the upright one. */
template <typename T>
static __device__ __forceinline__ void
write_pixel (const ValleyCudaPicture *picture, unsigned x, unsigned y, const uint8_t rgb[3])
{
  bool sideways = (picture->turn & VALLEY_CUDA_TRANSPOSE) != 0;
  unsigned to_x = sideways ? y : x, to_y = sideways ? x : y;

  if (picture->turn & VALLEY_CUDA_FLIP_X)
    to_x = picture->width - 1 - to_x;
  if (picture->turn & VALLEY_CUDA_FLIP_Y)
    to_y = picture->height - 1 - to_y;
  if (picture->rgb != NULL) {
    uint8_t *to = picture->rgb + 3 * ((size_t) to_y * picture->width + to_x);

    to[0] = rgb[0];
    to[1] = rgb[1];
    to[2] = rgb[2];
  }
  if (picture->patches.y.data != NULL)
    write_patch_pixel<T> (&picture->patches, to_x, to_y, rgb);
}

static bool
is_sideways (const ValleyCudaPicture *picture)
{
  return (picture->turn & VALLEY_CUDA_TRANSPOSE) != 0;
}

static unsigned
stored_width (const ValleyCudaPicture *picture)
{
  return is_sideways (picture) ? picture->height : picture->width;
}

static unsigned
stored_height (const ValleyCudaPicture *picture)
{
  return is_sideways (picture) ? picture->width : picture->height;
}

static dim3
tiles_grid (const ValleyCudaPicture *picture, unsigned tile_width, unsigned tile_height)
{
  return dim3 ((stored_width (picture) - 1) / tile_width + 1,
               (stored_height (picture) - 1) / tile_height + 1);
}

/* launch_NAME launches the kernel NAME, whose blocks make tiles of WIDTH x HEIGHT, for a type. */
#define PAINTING_KERNEL(name, Frame, WIDTH, HEIGHT)                                                \
  template <typename T>                                                                            \
  static void launch_##name (const ValleyCudaPicture *to, const Frame *from, cudaStream_t stream)  \
  {                                                                                                \
    ValleyCudaPicture picture = *to;                                                               \
    Frame frame = *from;                                                                           \
    unsigned width = stored_width (to), height = stored_height (to);                               \
                                                                                                   \
    VALLEY_LAUNCH (name<T>, tiles_grid (to, WIDTH, HEIGHT), WIDTH *HEIGHT, 0, stream, picture,     \
                   frame, width, height);                                                          \
  }

/* ---- planes of video: rows first, then columns, then colors ---- */

#define VIDEO_WIDTH 32
#define VIDEO_HEIGHT 8
#define VIDEO_THREADS (VIDEO_WIDTH * VIDEO_HEIGHT)
#define VIDEO_CHUNK VIDEO_THREADS /* columns: one a thread */

/* A byte, or a word's value in 15 bits. */
static __device__ __forceinline__ int
sample_value (const uint8_t *at, unsigned bits)
{
  if (bits == 8)
    return *at;
  return (uint16_t) (*(const uint16_t *) at << (16 - bits)) >> 1;
}

static __device__ __forceinline__ int16_t
combine_rows (const ValleyCudaComponent *c, unsigned bits, unsigned row, unsigned column)
{
  Inputs inputs = inputs_of (&c->down, row);
  unsigned shift = c->down.bits - FRACTION + (bits == 8 ? 0 : 7);
  const uint8_t *at = c->data + inputs.first * c->stride_bytes + (size_t) column * c->step_bytes;
  int sum = 1 << (shift - 1);

  for (unsigned i = inputs.first; i < inputs.end; i++, at += c->stride_bytes)
    sum += *inputs.coefficients++ * sample_value (at, bits);
  sum >>= shift;
  return (int16_t) (sum < -32768 ? -32768 : sum > 32767 ? 32767 : sum);
}

/* The pixel's value of one component, with FRACTION bits.  @rows: VIDEO_HEIGHT of VIDEO_CHUNK. */
static __device__ int
component_value (const ValleyCudaComponent *c, unsigned bits, const Pixel *pixel,
                 ValleyShared<int16_t> rows)
{
  unsigned left = blockIdx.x * VIDEO_WIDTH, top = blockIdx.y * VIDEO_HEIGHT;
  unsigned from = inputs_of (&c->across, left).first;
  unsigned end = inputs_of (&c->across, pixel->last_x).end;
  Inputs inputs = inputs_of (&c->across, pixel->x);
  unsigned line = (pixel->y - top) * VIDEO_CHUNK;
  int sum = 1 << (c->across.bits - 1);

  for (; from < end; from += VIDEO_CHUNK) {
    unsigned column = from + threadIdx.x, stop = least (inputs.end, from + VIDEO_CHUNK);

    for (unsigned row = top; row <= pixel->last_y && column < end; row++)
      rows[(row - top) * VIDEO_CHUNK + threadIdx.x] = combine_rows (c, bits, row, column);
    valley_sync_block ();
    for (unsigned i = most (inputs.first, from); i < stop; i++)
      sum += inputs.coefficients[i - inputs.first] * rows[line + i - from];
    valley_sync_block ();
  }
  return (int16_t) (sum >> c->across.bits);
}

template <typename T>
static __global__ void
__launch_bounds__ (VIDEO_THREADS)
    paint_video (ValleyCudaPicture picture, ValleyCudaVideo video, unsigned width, unsigned height)
{
  VALLEY_SHARED (int16_t, rows, VIDEO_HEIGHT * VIDEO_CHUNK);
  Pixel pixel = this_pixel<VIDEO_WIDTH, VIDEO_HEIGHT> (width, height);
  int value[3] = { 0, 0, 0 };
  uint8_t rgb[3];

  for (int i = 0; i < 3; i++)
    if (i < (int) video.n_components)
      value[i] = component_value (&video.components[i], video.bits, &pixel, rows);
  for (int c = 0; c < 3; c++) {
    int sum = video.offset[c];

    for (int i = 0; i < 3; i++)
      sum += video.factor[c][i] * value[i];
    rgb[c] = clamp_to_byte (sum >> (FRACTION + MATRIX_BITS));
  }
  if (pixel.inside)
    write_pixel<T> (&picture, pixel.x, pixel.y, rgb);
}

PAINTING_KERNEL (paint_video, ValleyCudaVideo, VIDEO_WIDTH, VIDEO_HEIGHT)

int
valley_cuda_paint_video (const ValleyCudaPicture *picture, const ValleyCudaVideo *video,
                         cudaStream_t stream)
{
  VALLEY_BY_TYPE (picture->patches.y.type, launch_paint_video, picture, video, stream);
  return cudaGetLastError ();
}

/* ---- RGB: columns first, rounded to bytes, then rows ---- */

#define RGB_WIDTH 16
#define RGB_HEIGHT 16
#define RGB_THREADS (RGB_WIDTH * RGB_HEIGHT)
#define RGB_CHUNK 64 /* rows of the frame */
#define RGB_LINE (3 * RGB_WIDTH)

/* What wraps on the way comes back: the true sum fits. */
static __device__ __forceinline__ uint8_t
round_to_byte (unsigned sum)
{
  return clamp_to_byte ((int) (sum + (1u << (RGB_BITS - 1))) >> RGB_BITS);
}

static __device__ __forceinline__ uint8_t
widen (uint8_t v)
{
  return clamp_to_byte ((2 * 255 * (v - 16) + 219) / (2 * 219));
}

/* One pixel of a row of the frame at the small picture's width -> 3 samples of @line. */
static __device__ __forceinline__ void
combine_columns (const ValleyCudaRgb *frame, unsigned row, const Inputs *inputs,
                 ValleyShared<uint8_t> lines, unsigned to)
{
  const uint8_t *at
      = frame->data + row * frame->stride_bytes + (size_t) inputs->first * frame->channels;
  const int32_t *k = inputs->coefficients;
  unsigned sums[3] = { 0, 0, 0 };

  for (unsigned i = inputs->first; i < inputs->end; i++, k++, at += frame->channels) {
    for (int c = 0; c < 3; c++)
      sums[c] += (unsigned) *k * at[frame->rgb[c]];
  }
  for (int c = 0; c < 3; c++)
    lines[to + c] = round_to_byte (sums[c]);
}

template <typename T>
static __global__ void
__launch_bounds__ (RGB_THREADS)
    paint_rgb (ValleyCudaPicture picture, ValleyCudaRgb frame, unsigned width, unsigned height)
{
  VALLEY_SHARED (uint8_t, lines, RGB_CHUNK * RGB_LINE);
  Pixel pixel = this_pixel<RGB_WIDTH, RGB_HEIGHT> (width, height);
  Inputs across = inputs_of (&frame.across, pixel.x), down = inputs_of (&frame.down, pixel.y);
  unsigned from = inputs_of (&frame.down, blockIdx.y * RGB_HEIGHT).first;
  unsigned end = inputs_of (&frame.down, pixel.last_y).end;
  unsigned at = 3 * (threadIdx.x % RGB_WIDTH);
  unsigned sums[3] = { 0, 0, 0 };
  uint8_t rgb[3];

  for (; from < end; from += RGB_CHUNK) {
    unsigned stop = least (end, from + RGB_CHUNK);

    for (unsigned row = from + threadIdx.x / RGB_WIDTH; row < stop; row += RGB_HEIGHT)
      combine_columns (&frame, row, &across, lines, (row - from) * RGB_LINE + at);
    valley_sync_block ();
    for (unsigned row = most (down.first, from); row < least (down.end, stop); row++)
      for (int c = 0; c < 3; c++)
        sums[c] += (unsigned) down.coefficients[row - down.first]
                   * lines[(row - from) * RGB_LINE + at + c];
    valley_sync_block ();
  }
  for (int c = 0; c < 3; c++) {
    rgb[c] = round_to_byte (sums[c]);
    if (frame.limited)
      rgb[c] = widen (rgb[c]);
  }
  if (pixel.inside)
    write_pixel<T> (&picture, pixel.x, pixel.y, rgb);
}

PAINTING_KERNEL (paint_rgb, ValleyCudaRgb, RGB_WIDTH, RGB_HEIGHT)

int
valley_cuda_paint_rgb (const ValleyCudaPicture *picture, const ValleyCudaRgb *rgb,
                       cudaStream_t stream)
{
  VALLEY_BY_TYPE (picture->patches.y.type, launch_paint_rgb, picture, rgb, stream);
  return cudaGetLastError ();
}

/* ---- patches of a small picture: a block a patch row ---- */

#define THREADS 256

template <typename T>
static __global__ void
__launch_bounds__ (THREADS) patch_rows (ValleyCudaPatches p, const uint8_t *rgb, unsigned width)
{
  unsigned in_block = blockIdx.x % (p.merge * p.merge), block = blockIdx.x / (p.merge * p.merge);
  unsigned blocks_across = p.grid_width / p.merge, area = p.size * p.size;
  unsigned row = block / blocks_across * p.merge + in_block / p.merge;
  unsigned col = block % blocks_across * p.merge + in_block % p.merge;
  T *out = (T *) p.y.data + blockIdx.x * p.y.stride;

  for (unsigned i = threadIdx.x; i < 3 * p.times * area; i += THREADS) {
    unsigned c = i / (p.times * area), x = i % p.size, y = i % area / p.size;
    float mean = c == 0 ? p.mean[0] : c == 1 ? p.mean[1] : p.mean[2];
    float deviation = c == 0 ? p.deviation[0] : c == 1 ? p.deviation[1] : p.deviation[2];
    uint8_t v = rgb[3 * ((size_t) (row * p.size + y) * width + col * p.size + x) + c];

    valley_from_f32 (out + i, normalise (v, mean, deviation));
  }
}

template <typename T>
static void
launch_patches (const ValleyCudaPatches *patches, const uint8_t *rgb, unsigned width,
                cudaStream_t stream)
{
  ValleyCudaPatches p = *patches;

  VALLEY_LAUNCH (patch_rows<T>, p.grid_width * p.grid_height, THREADS, 0, stream, p, rgb, width);
}

int
valley_cuda_patches (const ValleyCudaPatches *patches, const uint8_t *rgb, unsigned width,
                     cudaStream_t stream)
{
  if (!valley_is_empty (&patches->y))
    VALLEY_BY_TYPE (patches->y.type, launch_patches, patches, rgb, width, stream);
  return cudaGetLastError ();
}

/* ---- comparing pictures: sums of integers, so that no order changes them ---- */

/* Whole words of a picture that this thread looks at: every so many. */
#define WORDS_A_THREAD 8

static dim3
words_grid (size_t n)
{
  return dim3 ((unsigned) ((n - 1) / (8 * THREADS * WORDS_A_THREAD) + 1));
}

/* Word @i of @n bytes, zeros beyond their end. */
static __device__ __forceinline__ unsigned long long
load_word (const uint8_t *data, size_t i, size_t n)
{
  unsigned long long word = 0;

  if (8 * i + 8 <= n) {
    uint2 v = valley_load_vector<uint2> (data + 8 * i);

    return v.x | (unsigned long long) v.y << 32;
  }
  for (size_t j = 8 * i; j < n; j++)
    word |= (unsigned long long) data[j] << (j % 8 * 8);
  return word;
}

/* A bijection in which every bit depends on all (the finaliser of MurmurHash's family). */
static __device__ __forceinline__ unsigned long long
stir (unsigned long long x)
{
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
  return x ^ x >> 33;
}

/* Each word is stirred with its place, twice in different ways; the sums are the picture's. */
static __global__ void
__launch_bounds__ (THREADS) fingerprint (unsigned long long *sum, const uint8_t *data, size_t n)
{
  VALLEY_SHARED (unsigned long long, partial, VALLEY_MAX_WARPS);
  size_t i = (size_t) blockIdx.x * THREADS * WORDS_A_THREAD + threadIdx.x;
  unsigned long long a = 0, b = 0;

  for (int k = 0; k < WORDS_A_THREAD && 8 * i < n; k++, i += THREADS) {
    unsigned long long word = load_word (data, i, n), place = i + 1;

    a += stir (word ^ stir (place));
    b += stir (word + place * 0x9e3779b97f4a7c15ull);
  }
  a = valley_block_sum (partial, a);
  b = valley_block_sum (partial, b);
  if (threadIdx.x == 0) {
    valley_atomic_add (sum, a);
    valley_atomic_add (sum + 1, b);
  }
}

int
valley_cuda_fingerprint (uint64_t sum[2], const uint8_t *data, size_t n, cudaStream_t stream)
{
  unsigned long long *to = (unsigned long long *) sum;

  if (n > 0)
    VALLEY_LAUNCH (fingerprint, words_grid (n), THREADS, 0, stream, to, data, n);
  return cudaGetLastError ();
}

static __global__ void
__launch_bounds__ (THREADS)
    difference (unsigned long long *sum, const uint8_t *a, const uint8_t *b, size_t n)
{
  VALLEY_SHARED (unsigned long long, partial, VALLEY_MAX_WARPS);
  size_t i = (size_t) blockIdx.x * THREADS * WORDS_A_THREAD + threadIdx.x;
  unsigned long long total = 0;

  for (int k = 0; k < WORDS_A_THREAD && 8 * i < n; k++, i += THREADS) {
    unsigned long long x = load_word (a, i, n), y = load_word (b, i, n);

    for (int j = 0; j < 64; j += 8) {
      int d = (int) (x >> j & 255) - (int) (y >> j & 255);

      total += (unsigned) (d < 0 ? -d : d);
    }
  }
  total = valley_block_sum (partial, total);
  if (threadIdx.x == 0)
    valley_atomic_add (sum, total);
}

int
valley_cuda_difference (uint64_t *sum, const uint8_t *a, const uint8_t *b, size_t n,
                        cudaStream_t stream)
{
  unsigned long long *to = (unsigned long long *) sum;

  if (n > 0)
    VALLEY_LAUNCH (difference, words_grid (n), THREADS, 0, stream, to, a, b, n);
  return cudaGetLastError ();
}
