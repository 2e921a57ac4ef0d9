/* test-cuda-picture.c - frames in device memory against the CPU's path, byte by byte: planes of
 * every layout, packed RGB, crops, fields, all eight orientations; patch rows bit by bit; and what
 * is compared on the device.  Without VALLEY_CUDA_EMU it is a program for a GPU.
 * SPDX-License-Identifier: Apache-2.0 */
#include "image.h"
#include "on-device.h"
#include "paint_table.h"
#include "picture.h"
#include "video_frame.h"

#define GUARD 0xA5
#define GUARD_BYTES 64

static guint
random_below (gint end)
{
  return (guint) g_rand_int_range (rng, 0, end);
}

/* ---- device memory ---- */

static void
device_free (gpointer memory)
{
  CHECK (cudaStreamSynchronize (stream));
  CHECK (cudaFree (memory));
}

static ValleyCudaTaps
upload_taps (ValleyPaintTable *table)
{
  ValleyCudaTaps taps = { to_device (table->rows, table->n * table->stride * sizeof (gint32)),
                          table->stride, table->bits };

  valley_paint_table_clear (table);
  return taps;
}

static ValleyCudaTaps
video_taps (ValleyTapsKey key)
{
  ValleyPaintTable table;

  g_assert_true (valley_paint_table_init_video (&table, &key));
  return upload_taps (&table);
}

static ValleyCudaTaps
rgb_taps (guint in, guint out)
{
  ValleyPaintTable table;

  g_assert_true (valley_paint_table_init_rgb (&table, in, out));
  return upload_taps (&table);
}

static void
clear_taps (const ValleyCudaTaps *taps)
{
  device_free ((gpointer) taps->rows);
}

/* ---- the small picture and its patches ---- */

typedef struct {
  guint width, height, turn; /* upright */
  ValleySiglipConfig siglip; /* one of the two: image_size or patch_size is 0 */
  ValleyEagleConfig eagle;
  ValleyDType type;
  gsize rows, cols, element;
  guint8 *rgb; /* device memory, guards around it */
  char *patches;
} Wanted;

static ValleyCudaPatches
describe_patches (const Wanted *w)
{
  gboolean eagle = w->eagle.patch_size > 0;
  guint size = (guint) (eagle ? w->eagle.patch_size : w->siglip.patch_size);
  ValleyCudaPatches p
      = { .y = { w->patches + GUARD_BYTES, (ValleyCudaType) w->type, w->rows, w->cols, w->cols },
          .size = size,
          .merge = eagle ? (guint) w->eagle.spatial_merge_size : 1,
          .times = eagle ? (guint) w->eagle.temporal_patch_size : 1,
          .grid_height = w->height / size,
          .grid_width = w->width / size,
          .mean = { 0.5f, 0.5f, 0.5f },
          .deviation = { 0.5f, 0.5f, 0.5f } };

  if (eagle) {
    const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    const float deviation[3] = { 0.26862954f, 0.26130258f, 0.27577711f };

    memcpy (p.mean, mean, sizeof mean);
    memcpy (p.deviation, deviation, sizeof deviation);
  }
  return p;
}

/* Of a random tower; the picture's size follows from it. */
static Wanted
random_wanted (void)
{
  Wanted w = { .turn = random_below (8), .type = random_below (3) };
  gsize size = 1 + random_below (9), bytes;
  g_autofree guint8 *fill = NULL;

  if (g_rand_boolean (rng)) {
    gsize merge = 1 + random_below (3);

    w.eagle = (ValleyEagleConfig){ .patch_size = size,
                                   .spatial_merge_size = merge,
                                   .temporal_patch_size = 1 + random_below (3) };
    w.width = (guint) (size * merge) * (1 + random_below (4));
    w.height = (guint) (size * merge) * (1 + random_below (4));
    w.rows = w.width / size * (w.height / size);
    w.cols = 3 * w.eagle.temporal_patch_size * size * size;
  } else { /* some pixels belong to no patch */
    w.width = w.height = (guint) size * (1 + random_below (8)) + random_below ((gint) size);
    w.siglip
        = (ValleySiglipConfig){ .image_size = w.width, .patch_size = size, .side = w.width / size };
    w.rows = w.siglip.side * w.siglip.side;
    w.cols = 3 * size * size;
  }
  w.element = valley_dtype_bytes (w.type);
  bytes = MAX (3 * (gsize) w.width * w.height, w.rows * w.cols * w.element) + 2 * GUARD_BYTES;
  fill = g_malloc (bytes);
  memset (fill, GUARD, bytes);
  w.rgb = to_device (fill, 3 * (gsize) w.width * w.height + 2 * GUARD_BYTES);
  w.patches = to_device (fill, w.rows * w.cols * w.element + 2 * GUARD_BYTES);
  return w;
}

static ValleyCudaPicture
describe_picture (const Wanted *w)
{
  return (ValleyCudaPicture){ .rgb = w->rgb + GUARD_BYTES,
                              .patches = describe_patches (w),
                              .width = w->width,
                              .height = w->height,
                              .turn = w->turn };
}

static void
assert_guarded (const guint8 *block, gsize n, gconstpointer want, const char *what)
{
  for (gsize i = 0; i < GUARD_BYTES; i++)
    g_assert_true (block[i] == GUARD && block[GUARD_BYTES + n + i] == GUARD);
  for (gsize i = 0; i < n; i++)
    if (block[GUARD_BYTES + i] != ((const guint8 *) want)[i])
      g_error ("%s: byte %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT " is %u, expected %u", what, i, n,
               block[GUARD_BYTES + i], ((const guint8 *) want)[i]);
}

static void
check_patches (const Wanted *w, const guint8 *upright)
{
  gsize n = w->rows * w->cols;
  g_autofree float *want = g_new (float, n);
  g_autofree guint8 *rounded = g_malloc (n * sizeof (float));
  g_autofree guint8 *got = from_device (w->patches, n * w->element + 2 * GUARD_BYTES);

  if (w->eagle.patch_size > 0)
    valley_eagle_patches (&w->eagle, upright, w->width, w->height, want);
  else
    valley_siglip_patches (&w->siglip, upright, want);
  if (w->type == VALLEY_F32)
    memcpy (rounded, want, n * sizeof *want);
  else if (w->type == VALLEY_BF16)
    valley_kernels_c.bf16_from_f32 ((guint16 *) rounded, want, n);
  else
    valley_kernels_c.f16_from_f32 ((guint16 *) rounded, want, n);
  assert_guarded (got, n * w->element, rounded, "patches");
}

/* @stored: what the CPU made, as the frame lies. */
static void
check_picture (const Wanted *w, const guint8 *stored)
{
  gsize n = 3 * (gsize) w->width * w->height;
  guint across = w->turn & VALLEY_CUDA_TRANSPOSE ? w->height : w->width;
  g_autofree guint8 *upright = g_malloc (n), *got = from_device (w->rgb, n + 2 * GUARD_BYTES);

  for (guint y = 0; y < w->height; y++)
    for (guint x = 0; x < w->width; x++) {
      guint u = w->turn & VALLEY_CUDA_FLIP_X ? w->width - 1 - x : x;
      guint v = w->turn & VALLEY_CUDA_FLIP_Y ? w->height - 1 - y : y;
      gsize from
          = w->turn & VALLEY_CUDA_TRANSPOSE ? (gsize) u * across + v : (gsize) v * across + u;

      memcpy (upright + 3 * ((gsize) y * w->width + x), stored + 3 * from, 3);
    }
  assert_guarded (got, n, upright, "picture");
  check_patches (w, upright);
}

static void
clear_wanted (Wanted *w)
{
  device_free (w->rgb);
  device_free (w->patches);
}

/* The picture's size as the frame lies. */
static void
stored_size (const Wanted *w, guint *width, guint *height)
{
  gboolean sideways = (w->turn & VALLEY_CUDA_TRANSPOSE) != 0;

  *width = sideways ? w->height : w->width;
  *height = sideways ? w->width : w->height;
}

/* ---- planes of video ---- */

typedef struct {
  ValleyVideo video; /* on the host */
  gsize bytes[3];
} Frame;

static guint
random_side (void)
{
  return 1 + random_below (g_rand_boolean (rng) ? 12 : 150);
}

static void
add_plane (Frame *frame, guint n_samples)
{
  ValleyVideo *video = &frame->video;
  gsize row_bytes = (gsize) n_samples * (video->bits == 8 ? 1 : 2);
  gsize stride = row_bytes + 2 * random_below (9);
  guint n_rows = random_side ();
  gsize bytes = stride * (n_rows - 1) + row_bytes;
  guint8 *memory = g_malloc (bytes);

  for (gsize i = 0; i < bytes; i++)
    memory[i] = (guint8) random_below (256);
  frame->bytes[video->n_planes] = bytes;
  /* a crop or a field may begin between two samples */
  video->planes[video->n_planes++]
      = (ValleyVideoPlane){ memory, stride, n_samples, n_rows, g_rand_double_range (rng, -0.5, 0.5),
                            n_rows };
}

static void
add_component (Frame *frame, guint plane, guint first, guint step)
{
  guint n = (frame->video.planes[plane].n_samples - first + step - 1) / step;

  frame->video.components[frame->video.n_components++]
      = (ValleyVideoComponent){ plane, first, step, n, g_rand_double_range (rng, -0.5, 0.5), n };
}

static Frame
random_frame (void)
{
  static const double matrix[3][4] = { { 1.1644, 0, 1.7927, -248.10 },
                                       { 1.1644, -0.2132, -0.5329, 76.88 },
                                       { 1.1644, 2.1124, 0, -289.02 } };
  Frame frame = { .video = { .bits = g_rand_boolean (rng) ? 8 : 9 + random_below (8) } };

  memcpy (frame.video.matrix, matrix, sizeof matrix);
  switch (random_below (4)) {
  case 0: /* I420 */
    for (guint i = 0; i < 3; i++) {
      add_plane (&frame, random_side ());
      add_component (&frame, i, 0, 1);
    }
    break;
  case 1: /* NV12, P010 */
    add_plane (&frame, random_side ());
    add_plane (&frame, 2 * random_side ());
    add_component (&frame, 0, 0, 1);
    add_component (&frame, 1, 0, 2);
    add_component (&frame, 1, 1, 2);
    break;
  case 2: /* YUY2 */
    add_plane (&frame, 4 * random_side ());
    add_component (&frame, 0, 0, 2);
    add_component (&frame, 0, 1, 4);
    add_component (&frame, 0, 3, 4);
    break;
  default: /* GRAY8 */
    add_plane (&frame, random_side ());
    add_component (&frame, 0, 0, 1);
  }
  return frame;
}

static void
check_video (const Frame *frame)
{
  const ValleyVideo *video = &frame->video;
  ValleyVideoScaler *scaler = valley_video_scaler_new ();
  Wanted w = random_wanted ();
  ValleyCudaPicture picture = describe_picture (&w);
  ValleyCudaVideo gpu = { .bits = video->bits, .n_components = video->n_components };
  ValleyVideoMatrix matrix;
  ValleyVideoOutput output;
  gpointer planes[3] = { NULL };
  g_autofree guint8 *stored = g_malloc (3 * (gsize) w.width * w.height);

  output.rgb = stored;
  stored_size (&w, &output.width, &output.height);
  g_assert_true (valley_video_scaler_paint (scaler, video, &output, 1));
  g_assert_true (valley_video_matrix_init (&matrix, (const double (*)[4]) video->matrix));
  memcpy (gpu.factor, matrix.factor, sizeof gpu.factor);
  memcpy (gpu.offset, matrix.offset, sizeof gpu.offset);
  for (guint i = 0; i < video->n_planes; i++)
    planes[i] = to_device (video->planes[i].data, frame->bytes[i]);
  for (guint i = 0; i < video->n_components; i++) {
    const ValleyVideoComponent *c = &video->components[i];
    guint bytes = video->bits == 8 ? 1 : 2;

    gpu.components[i] = (ValleyCudaComponent){
      .data = (const guint8 *) planes[c->plane] + c->first * bytes,
      .stride_bytes = video->planes[c->plane].stride_bytes,
      .step_bytes = c->step * bytes,
      .down = video_taps (valley_video_down_key (video, c->plane, output.height)),
      .across = video_taps (valley_video_across_key (video, i, output.width)),
    };
  }
  CHECK (valley_cuda_paint_video (&picture, &gpu, stream));
  check_picture (&w, stored);
  for (guint i = 0; i < video->n_components; i++) {
    clear_taps (&gpu.components[i].down);
    clear_taps (&gpu.components[i].across);
  }
  for (guint i = 0; i < video->n_planes; i++)
    device_free (planes[i]);
  clear_wanted (&w);
  valley_video_scaler_free (scaler);
}

static void
clear_frame (Frame *frame)
{
  for (guint i = 0; i < frame->video.n_planes; i++)
    g_free ((gpointer) frame->video.planes[i].data);
}

static void
test_video (void)
{
  for (guint i = 0; i < 60; i++) {
    Frame frame = random_frame ();

    check_video (&frame);
    clear_frame (&frame);
  }
}

/* More columns, and more rows, than go through shared memory at a time. */
static void
test_long_kernels (void)
{
  for (guint i = 0; i < 6; i++) {
    Frame frame = { .video = { .bits = i % 2 ? 8 : 10, .matrix = { { 1 }, { 1 }, { 1 } } } };

    add_plane (&frame, 700 + random_below (2000));
    add_component (&frame, 0, 0, 1);
    check_video (&frame);
    clear_frame (&frame);
  }
}

/* ---- RGB ---- */

/* From black at 16 and white at 235 to 0 and 255, rounded. */
static guint8
widened (guint8 v)
{
  return (guint8) CLAMP (floor ((v - 16) * 255.0 / 219.0 + 0.5), 0, 255);
}

static void
check_rgb (guint width, guint height)
{
  Wanted w = random_wanted ();
  ValleyCudaPicture picture = describe_picture (&w);
  guint channels = 3 + random_below (2), start = random_below ((gint) channels - 2);
  gboolean backwards = g_rand_boolean (rng);
  gsize stride = (gsize) width * channels + random_below (9), bytes = stride * height;
  gsize n = 3 * (gsize) w.width * w.height;
  g_autofree guint8 *memory = g_malloc (bytes), *stored = g_malloc (n);
  ValleyRgbImage image = { memory, stride, width, height, channels, { 0 } };
  ValleyVideoOutput output = { .rgb = stored };
  ValleyCudaRgb gpu
      = { .stride_bytes = stride, .channels = channels, .limited = g_rand_boolean (rng) };

  for (gsize i = 0; i < bytes; i++)
    memory[i] = (guint8) random_below (256);
  for (guint c = 0; c < 3; c++)
    gpu.rgb[c] = image.rgb[c] = (guint8) (start + (backwards ? 2 - c : c));
  stored_size (&w, &output.width, &output.height);
  g_assert_true (valley_image_resize_rgb (&image, &output, 1));
  for (gsize i = 0; gpu.limited && i < n; i++)
    stored[i] = widened (stored[i]);
  gpu.data = to_device (memory, bytes);
  gpu.down = rgb_taps (height, output.height);
  gpu.across = rgb_taps (width, output.width);
  CHECK (valley_cuda_paint_rgb (&picture, &gpu, stream));
  check_picture (&w, stored);
  clear_taps (&gpu.down);
  clear_taps (&gpu.across);
  device_free ((gpointer) gpu.data);
  clear_wanted (&w);
}

static void
test_rgb (void)
{
  for (guint i = 0; i < 40; i++)
    check_rgb (random_side (), random_side ());
  check_rgb (30, 900);
  check_rgb (900, 30);
}

/* ---- from the small picture ---- */

static void
test_patches (void)
{
  for (guint i = 0; i < 40; i++) {
    Wanted w = random_wanted ();
    ValleyCudaPatches patches = describe_patches (&w);
    gsize n = 3 * (gsize) w.width * w.height;
    g_autofree guint8 *rgb = g_malloc (n);
    gpointer memory;

    for (gsize j = 0; j < n; j++)
      rgb[j] = (guint8) random_below (256);
    memory = to_device (rgb, n);
    CHECK (valley_cuda_patches (&patches, memory, w.width, stream));
    check_patches (&w, rgb);
    device_free (memory);
    clear_wanted (&w);
  }
}

/* The picture alone, or the patches alone. */
static void
test_parts (void)
{
  guint8 frame[3 * 16 * 16];

  for (guint i = 0; i < 12; i++) {
    Wanted w = random_wanted ();
    ValleyCudaPicture both = describe_picture (&w), only = both;
    gsize n = 3 * (gsize) w.width * w.height, n_patches = w.rows * w.cols * w.element;
    ValleyCudaRgb gpu = { .stride_bytes = 48, .channels = 3, .rgb = { 0, 1, 2 } };
    g_autofree guint8 *want = NULL, *got = NULL;
    guint width, height;

    for (guint j = 0; j < sizeof frame; j++)
      frame[j] = (guint8) random_below (256);
    stored_size (&w, &width, &height);
    gpu.data = to_device (frame, sizeof frame);
    gpu.down = rgb_taps (16, height);
    gpu.across = rgb_taps (16, width);
    CHECK (valley_cuda_paint_rgb (&both, &gpu, stream));
    want = i % 2 ? from_device (w.rgb, n) : from_device (w.patches, n_patches);
    CHECK (cudaMemsetAsync (w.rgb + GUARD_BYTES, GUARD, n, stream));
    CHECK (cudaMemsetAsync (w.patches + GUARD_BYTES, GUARD, n_patches, stream));
    if (i % 2)
      only.patches.y.data = NULL;
    else
      only.rgb = NULL;
    CHECK (valley_cuda_paint_rgb (&only, &gpu, stream));
    got = i % 2 ? from_device (w.rgb, n) : from_device (w.patches, n_patches);
    g_assert_cmpmem (got, i % 2 ? n : n_patches, want, i % 2 ? n : n_patches);
    g_free (got);
    got = i % 2 ? from_device (w.patches, n_patches) : from_device (w.rgb, n);
    for (gsize j = 0; j < (i % 2 ? n_patches : n); j++)
      g_assert_cmpuint (got[j], ==, GUARD);
    clear_taps (&gpu.down);
    clear_taps (&gpu.across);
    device_free ((gpointer) gpu.data);
    clear_wanted (&w);
  }
}

/* ---- comparisons ---- */

static void
fingerprint_of (gconstpointer host, gsize n, guint64 sum[2])
{
  static const guint64 zeros[2] = { 0 };
  gpointer data = to_device (host, n), memory = to_device (zeros, sizeof zeros);
  g_autofree guint64 *got = NULL;

  CHECK (valley_cuda_fingerprint (memory, data, n, stream));
  got = from_device (memory, sizeof zeros);
  sum[0] = got[0];
  sum[1] = got[1];
  device_free (data);
  device_free (memory);
}

static gboolean
are_equal (const guint64 a[2], const guint64 b[2])
{
  return a[0] == b[0] && a[1] == b[1];
}

/* Every byte counts, and so does its place; the same bytes give the same numbers. */
static void
test_fingerprint (void)
{
  for (guint i = 0; i < 12; i++) {
    gsize n = 1 + random_below (i % 3 == 0 ? 40000 : 60), at;
    g_autofree guint8 *data = g_malloc (n);
    guint64 first[2], again[2], other[2];

    for (gsize j = 0; j < n; j++)
      data[j] = (guint8) random_below (3);
    fingerprint_of (data, n, first);
    fingerprint_of (data, n, again);
    g_assert_true (are_equal (first, again));
    at = random_below ((gint) n);
    data[at] ^= (guint8) (1 << random_below (8));
    fingerprint_of (data, n, other);
    g_assert_false (are_equal (first, other));
    g_assert_true (first[0] != other[0] && first[1] != other[1]);
  }
}

static void
test_swapped_words (void)
{
  guint64 words[4] = { 1, 2, 3, 4 }, swapped[4] = { 2, 1, 3, 4 }, a[2], b[2];

  fingerprint_of (words, sizeof words, a);
  fingerprint_of (swapped, sizeof swapped, b);
  g_assert_false (are_equal (a, b));
}

static void
test_difference (void)
{
  for (guint i = 0; i < 12; i++) {
    gsize n = 1 + random_below (i % 3 == 0 ? 40000 : 60);
    g_autofree guint8 *a = g_malloc (n), *b = g_malloc (n);
    guint64 want = 0, zero = 0;
    gpointer on_device[3] = { NULL };
    g_autofree guint64 *got = NULL;

    for (gsize j = 0; j < n; j++) {
      a[j] = (guint8) random_below (256);
      b[j] = i % 4 == 3 ? a[j] : (guint8) random_below (256);
      want += (guint64) ABS (a[j] - b[j]);
    }
    on_device[0] = to_device (&zero, sizeof zero);
    on_device[1] = to_device (a, n);
    on_device[2] = to_device (b, n);
    CHECK (valley_cuda_difference (on_device[0], on_device[1], on_device[2], n, stream));
    got = from_device (on_device[0], sizeof zero);
    g_assert_cmpuint (*got, ==, want);
    for (guint j = 0; j < 3; j++)
      device_free (on_device[j]);
  }
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  compare_init ("cuda-picture");
#ifdef VALLEY_CUDA_EMU
  emu_set_seed (g_rand_int (rng));
#endif
  CHECK (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  g_test_add_func ("/cuda-picture/video", test_video);
  g_test_add_func ("/cuda-picture/long-kernels", test_long_kernels);
  g_test_add_func ("/cuda-picture/rgb", test_rgb);
  g_test_add_func ("/cuda-picture/patches", test_patches);
  g_test_add_func ("/cuda-picture/parts", test_parts);
  g_test_add_func ("/cuda-picture/fingerprint", test_fingerprint);
  g_test_add_func ("/cuda-picture/swapped-words", test_swapped_words);
  g_test_add_func ("/cuda-picture/difference", test_difference);
  status = g_test_run ();
  CHECK (cudaStreamDestroy (stream));
  return status;
}
