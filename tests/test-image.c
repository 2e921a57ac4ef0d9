/* test-image.c - the resize against Pillow and against itself, smart_resize against
 * transformers, patch extraction against its definition.
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include "image.h"
#include "reftensors.h"
#include "resize_kernels.h"

#include <math.h>
#include <string.h>

#define GUARD 0xA5
#define GUARD_BYTES 64

static RefFile *
read_images (void)
{
  g_autofree char *path = g_build_filename (g_getenv ("GOLDEN_DIR"), "images.safetensors", NULL);
  g_autoptr (GError) error = NULL;
  RefFile *file = ref_file_read (path, &error);

  g_assert_no_error (error);
  return file;
}

/* ---- resize --------------------------------------------------------------- */

static void
test_pillow (gconstpointer data)
{
  const ValleyResizeKernels *kernels = data;
  g_autoptr (RefFile) file = read_images ();
  GHashTableIter iter;
  gpointer key;
  guint n = 0;

  g_hash_table_iter_init (&iter, file->tensors);
  while (g_hash_table_iter_next (&iter, &key, NULL)) {
    const char *name = key;
    g_autofree char *result = NULL;
    g_autofree guint8 *got = NULL;
    const RefTensor *input, *want;
    ValleyResizeSource source;
    ValleyResizeTarget target;

    if (!g_str_has_suffix (name, ".input"))
      continue;
    result = g_strdup_printf ("%.*s.output", (int) strlen (name) - 6, name);
    input = ref_file_get (file, name, REF_U8, 3);
    want = ref_file_get (file, result, REF_U8, 3);
    g_assert_nonnull (input);
    g_assert_nonnull (want);
    got = g_malloc (want->bytes);
    source = (ValleyResizeSource){ .data = input->data,
                                   .stride = 3 * input->shape[1],
                                   .width = (guint) input->shape[1],
                                   .height = (guint) input->shape[0],
                                   .channels = 3,
                                   .n_wanted = 3,
                                   .wanted = { 0, 1, 2 } };
    target = (ValleyResizeTarget){ got, 3 * want->shape[1], (guint) want->shape[1],
                                   (guint) want->shape[0] };
    g_assert_true (valley_resize_to (kernels, &source, &target, 1));
    if (memcmp (got, want->data, want->bytes) != 0)
      g_error ("%s is not Pillow's", name);
    n++;
  }
  g_assert_cmpuint (n, >=, 14);
}

typedef struct {
  guint width, height, channels;
  gsize stride;
  guint8 *block, *pixels; /* rows inside guard bytes; padding between rows is guarded too */
} Image;

static gsize
block_bytes (const Image *image)
{
  return image->stride * image->height + 2 * GUARD_BYTES;
}

static Image
image_new (guint width, guint height, guint channels, guint padding)
{
  Image image = { width, height, channels, (gsize) width * channels + padding, NULL, NULL };

  image.block = g_malloc (block_bytes (&image));
  memset (image.block, GUARD, block_bytes (&image));
  image.pixels = image.block + GUARD_BYTES;
  return image;
}

static void
image_fill_random (Image *image)
{
  gboolean extremes = g_test_rand_bit (); /* black and white: the kernel overshoots most */

  for (guint y = 0; y < image->height; y++)
    for (gsize i = 0; i < (gsize) image->width * image->channels; i++)
      image->pixels[y * image->stride + i]
          = extremes ? (g_test_rand_bit () ? 255 : 0) : (guint8) g_test_rand_int_range (0, 256);
}

static gboolean
image_guards_intact (const Image *image)
{
  gsize row = (gsize) image->width * image->channels;

  for (gsize i = 0; i < block_bytes (image); i++) {
    gsize at = i - GUARD_BYTES; /* wraps in front of the pixels */
    gboolean inside = at < image->stride * image->height && at % image->stride < row;

    if (!inside && image->block[i] != GUARD)
      return FALSE;
  }
  return TRUE;
}

/* The source is a block of exactly its own size: a sanitizer sees any byte read beyond. */
static gboolean
image_resize (const ValleyResizeKernels *kernels, const Image *from, const guint8 wanted[4],
              const Image *to, guint n)
{
  gsize row = (gsize) from->width * from->channels;
  g_autofree guint8 *exact = g_memdup2 (from->pixels, from->stride * (from->height - 1) + row);
  ValleyResizeSource source = { .data = exact,
                                .stride = from->stride,
                                .width = from->width,
                                .height = from->height,
                                .channels = from->channels,
                                .n_wanted = to->channels };
  ValleyResizeTarget targets[4];

  memcpy (source.wanted, wanted, sizeof source.wanted);
  for (guint i = 0; i < n; i++)
    targets[i] = (ValleyResizeTarget){ to[i].pixels, to[i].stride, to[i].width, to[i].height };
  return valley_resize_to (kernels, &source, targets, n);
}

static guint
random_side (void)
{
  static const guint limits[] = { 4, 20, 70, 200 };

  return (guint) g_test_rand_int_range (1, (gint32) limits[g_test_rand_int_range (0, 4)]);
}

/* One row to three pixels, of which the middle one's positive coefficients meet white and its
 * negative ones black, or the other way round: nothing overflows, whatever the scale. */
static void
test_overshoot (gconstpointer data)
{
  const ValleyResizeKernels *kernels = data;

  for (guint scale = 1; scale <= 20000; scale += 1 + scale / 100)
    for (guint n_pixels = 1; n_pixels <= 3; n_pixels += 2)
      for (guint inside = 0; inside < 256; inside += 255) {
        static const guint8 wanted[4] = { 0 };
        Image from = image_new (n_pixels * scale, 1, 1, 0);
        Image want = image_new (n_pixels, 1, 1, 0), got = image_new (n_pixels, 1, 1, 0);

        for (guint x = 0; x < from.width; x++) /* the kernel is positive up to a scale away */
          from.pixels[x]
              = (guint8) (ABS ((int) (2 * x + 1 - from.width)) < (int) (2 * scale) ? inside
                                                                                   : 255 - inside);
        g_assert_true (image_resize (&valley_resize_kernels_c, &from, wanted, &want, 1));
        g_assert_true (image_resize (kernels, &from, wanted, &got, 1));
        if (memcmp (got.block, want.block, block_bytes (&want)) != 0)
          g_error ("%u pixels to %u differ, %u inside", from.width, n_pixels, inside);
        g_assert_cmpuint (got.pixels[n_pixels / 2], ==, inside);
        g_free (from.block);
        g_free (want.block);
        g_free (got.block);
      }
}

/* Which channels are wanted: some of them in any order. */
static guint
random_wanted (guint channels, guint8 wanted[4])
{
  for (guint c = 0; c < 4; c++)
    wanted[c] = (guint8) c;
  for (guint c = channels - 1; c > 0; c--) {
    guint other = (guint) g_test_rand_int_range (0, (gint32) c + 1);
    guint8 kept = wanted[c];

    wanted[c] = wanted[other];
    wanted[other] = kept;
  }
  return (guint) g_test_rand_int_range (1, (gint32) channels + 1);
}

/* A size of its own, or one side or both as they are. */
static Image
random_target (const Image *from, guint channels, guint padding)
{
  guint same = (guint) g_test_rand_int_range (0, 8);

  return image_new (same == 1 || same == 3 ? from->width : random_side (),
                    same == 2 || same == 3 ? from->height : random_side (), channels, padding);
}

/* Every set gives the plain C one's bytes, on odd sizes, and writes nothing else; to several
 * targets at once each gets what it would alone. */
static void
test_kernels_agree (gconstpointer data)
{
  const ValleyResizeKernels *kernels = data;

  for (guint round = 0; round < 400; round++) {
    guint n = 1 + round % 3;
    Image from = image_new (random_side (), random_side (), 1 + round % 4, round % 3);
    Image want[3], got[3];
    guint8 wanted[4];
    guint n_wanted = random_wanted (from.channels, wanted);

    image_fill_random (&from);
    for (guint i = 0; i < n; i++) {
      want[i] = random_target (&from, n_wanted, round % 5);
      got[i] = image_new (want[i].width, want[i].height, n_wanted, round % 5);
      g_assert_true (image_resize (&valley_resize_kernels_c, &from, wanted, &want[i], 1));
    }
    g_assert_true (image_resize (kernels, &from, wanted, got, n));
    for (guint i = 0; i < n; i++) {
      if (memcmp (got[i].block, want[i].block, block_bytes (&want[i])) != 0)
        g_error ("%ux%u to %ux%u (number %u) with %u of %u channels differs", from.width,
                 from.height, want[i].width, want[i].height, i, n_wanted, from.channels);
      g_assert_true (image_guards_intact (&got[i]));
      g_free (want[i].block);
      g_free (got[i].block);
    }
    g_free (from.block);
  }
}

/* What is wanted of a pixel is what the picture of those channels alone gives. */
static void
test_wanted (void)
{
  static const guint sizes[][2] = { { 31, 22 }, { 64, 22 }, { 31, 45 }, { 64, 45 }, { 99, 80 } };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    for (guint channels = 3; channels <= 4; channels++) {
      Image from = image_new (64, 45, channels, 5), rgb = image_new (64, 45, 3, 0);
      Image want = image_new (sizes[i][0], sizes[i][1], 3, 0);
      Image got = image_new (sizes[i][0], sizes[i][1], 3, 0);
      guint8 wanted[4];
      ValleyRgbImage image = { from.pixels, from.stride, 64, 45, channels, { 0 } };
      ValleyVideoOutput output = { got.pixels, got.width, got.height };

      random_wanted (channels, wanted);
      memcpy (image.rgb, wanted, 3);
      image_fill_random (&from);
      for (guint p = 0; p < 64 * 45; p++)
        for (guint c = 0; c < 3; c++)
          rgb.pixels[3 * p + c] = from.pixels[p / 64 * from.stride + p % 64 * channels + wanted[c]];
      g_assert_true (valley_image_resize (rgb.pixels, rgb.stride, 64, 45, 3, want.pixels,
                                          want.stride, want.width, want.height));
      g_assert_true (valley_image_resize_rgb (&image, &output, 1));
      g_assert_cmpmem (got.block, block_bytes (&got), want.block, block_bytes (&want));
      g_free (from.block);
      g_free (rgb.block);
      g_free (want.block);
      g_free (got.block);
    }
}

/* An interleaved picture is its channels, resized one by one. */
static void
test_channels (void)
{
  for (guint channels = 2; channels <= 4; channels++) {
    Image from = image_new (93, 51, channels, 0), to = image_new (41, 67, channels, 0);
    Image plane = image_new (93, 51, 1, 0), small = image_new (41, 67, 1, 0);

    image_fill_random (&from);
    g_assert_true (valley_image_resize (from.pixels, from.stride, 93, 51, channels, to.pixels,
                                        to.stride, 41, 67));
    for (guint c = 0; c < channels; c++) {
      for (guint i = 0; i < 93 * 51; i++)
        plane.pixels[i] = from.pixels[i * channels + c];
      g_assert_true (valley_image_resize (plane.pixels, 93, 93, 51, 1, small.pixels, 41, 41, 67));
      for (guint i = 0; i < 41 * 67; i++)
        g_assert_cmpuint (to.pixels[i * channels + c], ==, small.pixels[i]);
    }
    g_free (from.block);
    g_free (to.block);
    g_free (plane.block);
    g_free (small.block);
  }
}

/* A constant stays constant, up to the longest sides and thinnest pictures. */
static void
test_constant (void)
{
  static const guint cases[][4]
      = { { 1, 1, 14, 14 },     { 1, 65535, 14, 28 }, { 65535, 1, 28, 14 },
          { 4, 700, 112, 112 }, { 700, 4, 30, 30 },   { 64, 48, 1, 1 },
          { 3, 2, 2000, 1 },    { 2, 3, 1, 65535 },   { 101, 77, 101, 9 } };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    for (guint value = 0; value < 256; value += 85) {
      Image from = image_new (cases[i][0], cases[i][1], 3, 0);
      Image to = image_new (cases[i][2], cases[i][3], 3, 5);

      memset (from.pixels, (int) value, from.stride * from.height);
      g_assert_true (valley_image_resize (from.pixels, from.stride, from.width, from.height, 3,
                                          to.pixels, to.stride, to.width, to.height));
      g_assert_true (image_guards_intact (&to));
      for (guint y = 0; y < to.height; y++)
        for (guint x = 0; x < 3 * to.width; x++)
          g_assert_cmpuint (to.pixels[y * to.stride + x], ==, value);
      g_free (from.block);
      g_free (to.block);
    }
}

static void
test_identity (void)
{
  Image from = image_new (37, 21, 3, 7), to = image_new (37, 21, 3, 7);

  image_fill_random (&from);
  g_assert_true (
      valley_image_resize (from.pixels, from.stride, 37, 21, 3, to.pixels, to.stride, 37, 21));
  g_assert_cmpmem (to.block, block_bytes (&to), from.block, block_bytes (&from));
  g_free (from.block);
  g_free (to.block);
}

static void
test_refused (void)
{
  static const guint cases[][5]
      = { { 0, 1, 1, 1, 3 }, { 1, 0, 1, 1, 3 }, { 1, 1, 0, 1, 3 },     { 1, 1, 1, 0, 3 },
          { 1, 1, 1, 1, 0 }, { 1, 1, 1, 1, 5 }, { 65536, 1, 1, 1, 1 }, { 1, 1, 1, 65536, 1 } };
  guint8 pixel[4] = { 0 }, out[4] = { 0 };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    g_assert_false (valley_image_resize (pixel, 4, cases[i][0], cases[i][1], cases[i][4], out, 4,
                                         cases[i][2], cases[i][3]));
}

static void
test_rgb_refused (void)
{
  static const struct {
    guint channels;
    guint8 rgb[3];
    guint n;
  } cases[] = { { 2, { 0, 1, 0 }, 1 },
                { 5, { 0, 1, 2 }, 1 },
                { 3, { 0, 1, 3 }, 1 },
                { 4, { 1, 2, 1 }, 1 },
                { 3, { 0, 1, 2 }, 5 } };
  guint8 pixel[8] = { 0 }, out[3] = { 1, 2, 3 };
  ValleyVideoOutput outputs[5];

  for (guint i = 0; i < 5; i++)
    outputs[i] = (ValleyVideoOutput){ out, 1, 1 };
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    ValleyRgbImage image = { pixel, 8, 1, 1, cases[i].channels, { 0 } };

    memcpy (image.rgb, cases[i].rgb, 3);
    g_assert_false (valley_image_resize_rgb (&image, outputs, cases[i].n));
  }
  g_assert_cmpmem (out, 3, "\1\2\3", 3);
}

/* More sizes than the cache of coefficients holds, from several threads at once. */
static gpointer
resize_many (gpointer data)
{
  Image from = image_new (50, 40, 1, 0);
  guint failed = 0;

  memset (from.pixels, 200, from.stride * from.height);
  for (guint round = 0; round < 300; round++) {
    guint side = 1 + (round * 7 + GPOINTER_TO_UINT (data)) % 60;
    Image to = image_new (side, side, 1, 0);

    failed += !valley_image_resize (from.pixels, 50, 50, 40, 1, to.pixels, side, side, side);
    failed += to.pixels[0] != 200 || to.pixels[side * side - 1] != 200;
    failed += !image_guards_intact (&to);
    g_free (to.block);
  }
  g_free (from.block);
  return GUINT_TO_POINTER (failed);
}

static void
test_threads (void)
{
  GThread *threads[4];

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("resize", resize_many, GUINT_TO_POINTER (i));
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    g_assert_cmpuint (GPOINTER_TO_UINT (g_thread_join (threads[i])), ==, 0);
}

/* ---- sizes ---------------------------------------------------------------- */

static void
test_smart_resize (void)
{
  g_autoptr (RefFile) file = read_images ();
  const RefTensor *cases = ref_file_get (file, "smart_resize", REF_I32, 2);

  g_assert_nonnull (cases);
  g_assert_cmpuint (cases->shape[0], >, 100);
  for (gsize i = 0; i < cases->shape[0]; i++) {
    const gint32 *row = (const gint32 *) cases->data + 6 * i;
    ValleyEagleConfig eagle
        = { .patch_size = 14, .spatial_merge_size = 2, .min_pixels = (gsize) row[2] };
    guint width = 0, height = 0;

    g_assert_true (valley_smart_resize (&eagle, (guint) row[0], (guint) row[1], (gsize) row[3],
                                        &width, &height, NULL));
    if (width != (guint) row[4] || height != (guint) row[5])
      g_error ("%dx%d (%d to %d pixels) became %ux%u, not %dx%d", row[0], row[1], row[2], row[3],
               width, height, row[4], row[5]);
  }
}

/* Sides under a block: transformers refuses them, the release's loader (qwen_vl_utils 0.0.10),
 * through which every picture goes first, does not.  Beyond an aspect of 200 both do: ours is
 * that of the picture cut short there. */
static void
test_smart_resize_thin (void)
{
  static const guint cases[][4] = {
    { 4, 700, 28, 700 },  { 700, 4, 700, 28 },    { 4, 800, 28, 812 },   { 1, 200, 28, 196 },
    { 14, 300, 28, 308 }, { 13, 2000, 28, 1988 }, { 1, 1, 56, 56 },      { 27, 3, 168, 28 },
    { 5, 900, 28, 896 },  { 1, 201, 28, 196 },    { 4, 65535, 28, 812 }, { 60000, 4, 812, 28 }
  };
  ValleyEagleConfig eagle = { .patch_size = 14, .spatial_merge_size = 2, .min_pixels = 3136 };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    guint width = 0, height = 0;

    g_assert_true (
        valley_smart_resize (&eagle, cases[i][0], cases[i][1], 153664, &width, &height, NULL));
    g_assert_cmpuint (width, ==, cases[i][2]);
    g_assert_cmpuint (height, ==, cases[i][3]);
  }
}

/* Where the reference has no answer: still a multiple of the block, and near the bounds. */
static void
test_smart_resize_extremes (void)
{
  static const guint sides[][2] = { { 1, 1 },   { 1, 65535 }, { 65535, 1 }, { 65535, 65535 },
                                    { 2, 401 }, { 4, 801 },   { 4, 700 },   { 1000, 29 } };
  static const guint limits[] = { 12845056, 153664, 12544, 3136 };
  ValleyEagleConfig eagle = { .patch_size = 14, .spatial_merge_size = 2, .min_pixels = 3136 };
  g_autoptr (GError) error = NULL;
  guint width, height;

  for (guint i = 0; i < G_N_ELEMENTS (sides) * G_N_ELEMENTS (limits); i++) {
    const guint *side = sides[i / G_N_ELEMENTS (limits)];
    guint limit = limits[i % G_N_ELEMENTS (limits)];

    g_assert_true (valley_smart_resize (&eagle, side[0], side[1], limit, &width, &height, &error));
    g_assert_no_error (error);
    g_assert_cmpuint (width % 28 + height % 28, ==, 0);
    g_assert_cmpuint (width * height, >=, 3136 / 2);
    g_assert_cmpuint (width * height, <=, limit);
  }
  eagle.min_pixels = 1 << 28;
  g_assert_true (valley_smart_resize (&eagle, 300, 1, 1 << 28, &width, &height, &error));
  g_assert_cmpuint (width, ==, 65535 / 28 * 28); /* what valley_image_resize can make */
  g_assert_cmpuint (height % 28, ==, 0);
  eagle.min_pixels = 785; /* more than one block, and two are more than the maximum */
  g_assert_true (valley_smart_resize (&eagle, 1, 1, 800, &width, &height, &error));
  g_assert_cmpuint (width, ==, 28);
  g_assert_cmpuint (height, ==, 28);
  g_assert_false (valley_smart_resize (&eagle, 0, 5, 153664, &width, &height, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  g_assert_false (valley_smart_resize (&eagle, 5, 65536, 153664, &width, &height, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
}

/* ---- patches -------------------------------------------------------------- */

static void
assert_near (float got, double want)
{
  g_assert_true (isfinite (got));
  g_assert_cmpfloat (fabs (got - want), <, 1e-6);
}

/* Every value of every patch, from its own coordinates. */
static void
test_siglip_patches (void)
{
  const ValleySiglipConfig siglip = { .image_size = 17, .patch_size = 5, .side = 3 };
  Image picture = image_new (17, 17, 3, 0);
  gsize n = 9 * 3 * 25, i = 0;
  g_autofree float *out = g_new (float, n + 1);

  image_fill_random (&picture);
  out[n] = 1234;
  valley_siglip_patches (&siglip, picture.pixels, out);
  for (guint patch = 0; patch < 9; patch++)
    for (guint c = 0; c < 3; c++)
      for (guint y = 0; y < 5; y++)
        for (guint x = 0; x < 5; x++, i++) {
          guint row = patch / 3 * 5 + y, col = patch % 3 * 5 + x;

          assert_near (out[i], picture.pixels[(row * 17 + col) * 3 + c] / 127.5 - 1);
        }
  g_assert_cmpfloat (out[n], ==, 1234);
  g_free (picture.block);
}

static void
test_eagle_patches (void)
{
  static const double mean[] = { 0.48145466, 0.4578275, 0.40821073 };
  static const double deviation[] = { 0.26862954, 0.26130258, 0.27577711 };
  const ValleyEagleConfig eagle
      = { .patch_size = 3, .spatial_merge_size = 2, .temporal_patch_size = 2 };
  Image picture = image_new (18, 12, 3, 0);
  gsize n_patches = 4 * 6, n = n_patches * 3 * 2 * 9, i = 0;
  g_autofree float *out = g_new (float, n + 1);
  g_autofree gint32 *positions = g_new (gint32, 2 * n_patches + 1);

  image_fill_random (&picture);
  out[n] = 1234;
  positions[2 * n_patches] = 1234;
  valley_eagle_patches (&eagle, picture.pixels, 18, 12, out);
  valley_eagle_positions (&eagle, 18, 12, positions);
  for (guint patch = 0; patch < n_patches; patch++) {
    guint block = patch / 4, inside = patch % 4; /* 2 x 3 blocks of 2 x 2 patches */
    guint row = block / 3 * 2 + inside / 2, col = block % 3 * 2 + inside % 2;

    g_assert_cmpint (positions[2 * patch], ==, (gint32) row);
    g_assert_cmpint (positions[2 * patch + 1], ==, (gint32) col);
    for (guint c = 0; c < 3; c++)
      for (guint t = 0; t < 2; t++)
        for (guint y = 0; y < 3; y++)
          for (guint x = 0; x < 3; x++, i++) {
            guint8 v = picture.pixels[((row * 3 + y) * 18 + col * 3 + x) * 3 + c];

            assert_near (out[i], (v / 255.0 - mean[c]) / deviation[c]);
          }
  }
  g_assert_cmpfloat (out[n], ==, 1234);
  g_assert_cmpint (positions[2 * n_patches], ==, 1234);
  g_free (picture.block);
}

static void
add_for_each_set (const char *name, const ValleyResizeKernels *const *sets, GTestDataFunc function)
{
  for (; *sets != NULL; sets++) {
    g_autofree char *path = g_strdup_printf ("/image/%s/%s", name, (*sets)->name);

    g_test_add_data_func (path, *sets, function);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_for_each_set ("pillow", valley_resize_kernel_sets (), test_pillow);
  add_for_each_set ("kernels-agree", valley_resize_kernel_sets () + 1, test_kernels_agree);
  add_for_each_set ("overshoot", valley_resize_kernel_sets () + 1, test_overshoot);
  g_test_add_func ("/image/channels", test_channels);
  g_test_add_func ("/image/wanted", test_wanted);
  g_test_add_func ("/image/constant", test_constant);
  g_test_add_func ("/image/identity", test_identity);
  g_test_add_func ("/image/refused", test_refused);
  g_test_add_func ("/image/rgb-refused", test_rgb_refused);
  g_test_add_func ("/image/threads", test_threads);
  g_test_add_func ("/image/smart-resize/transformers", test_smart_resize);
  g_test_add_func ("/image/smart-resize/thin", test_smart_resize_thin);
  g_test_add_func ("/image/smart-resize/extremes", test_smart_resize_extremes);
  g_test_add_func ("/image/patches/siglip", test_siglip_patches);
  g_test_add_func ("/image/patches/eagle", test_eagle_patches);
  return g_test_run ();
}
