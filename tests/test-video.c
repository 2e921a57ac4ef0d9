/* test-video.c - planes of video to small pictures: every instruction set gives the plain C
 * one's bytes and writes nothing else, flat colors stay flat, nonsense is refused.  What the
 * pictures must look like is test-planes.c's.
 * SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"
#include "resize_kernels.h"
#include "valley.h"

#include <math.h>
#include <string.h>

#define GUARD 0xA5
#define GUARD_BYTES 64

/* Blocks of exactly the planes' sizes: a sanitizer sees any byte read beyond. */
typedef struct {
  ValleyVideo video;
  guint8 *memory[3];
} Frame;

static void
add_plane (Frame *frame, guint n_samples, guint n_rows, gint value)
{
  ValleyVideo *video = &frame->video;
  gsize row_bytes = (gsize) n_samples * (video->bits == 8 ? 1 : 2);
  gsize stride = row_bytes + 2 * (gsize) g_test_rand_int_range (0, 9);
  gsize bytes = stride * (n_rows - 1) + row_bytes;
  guint8 *memory = g_malloc (bytes);

  for (gsize i = 0; i < bytes; i++)
    memory[i] = value < 0 ? (guint8) g_test_rand_int_range (0, 256) : (guint8) value;
  frame->memory[video->n_planes] = memory;
  video->planes[video->n_planes++]
      = (ValleyVideoPlane){ memory, stride, n_samples, n_rows, g_test_rand_double_range (-0.5, 0.5),
                            n_rows };
}

static void
add_component (Frame *frame, guint plane, guint first, guint step)
{
  guint n = (frame->video.planes[plane].n_samples - first + step - 1) / step;

  frame->video.components[frame->video.n_components++]
      = (ValleyVideoComponent){ plane, first, step, n, g_test_rand_double_range (-0.5, 0.5), n };
}

static guint
random_side (void)
{
  return (guint) g_test_rand_int_range (1, g_test_rand_bit () ? 12 : 180);
}

/* @value < 0: noise. */
static Frame
random_frame (gint value)
{
  static const double matrix[3][4] = { { 1.1644, 0, 1.7927, -248.10 },
                                       { 1.1644, -0.2132, -0.5329, 76.88 },
                                       { 1.1644, 2.1124, 0, -289.02 } };
  Frame frame
      = { .video = { .bits = g_test_rand_bit () ? 8 : (guint) g_test_rand_int_range (9, 17) } };

  memcpy (frame.video.matrix, matrix, sizeof matrix);
  switch (g_test_rand_int_range (0, 4)) {
  case 0: /* planar */
    for (guint i = 0; i < 3; i++) {
      add_plane (&frame, random_side (), random_side (), value);
      add_component (&frame, i, 0, 1);
    }
    break;
  case 1: /* two interleaved */
    add_plane (&frame, random_side (), random_side (), value);
    add_plane (&frame, 2 * random_side (), random_side (), value);
    add_component (&frame, 0, 0, 1);
    add_component (&frame, 1, 0, 2);
    add_component (&frame, 1, 1, 2);
    break;
  case 2: /* three interleaved */
    add_plane (&frame, 4 * random_side (), random_side (), value);
    add_component (&frame, 0, 0, 2);
    add_component (&frame, 0, 1, 4);
    add_component (&frame, 0, 3, 4);
    break;
  default:
    add_plane (&frame, random_side (), random_side (), value);
    add_component (&frame, 0, 0, 1);
  }
  return frame;
}

static void
clear_frame (Frame *frame)
{
  for (guint i = 0; i < 3; i++)
    g_free (frame->memory[i]);
}

/* Two pictures at once, each between guard bytes. */
typedef struct {
  guint8 *block[2];
  gsize bytes[2];
  ValleyVideoOutput outputs[2];
} Pictures;

static Pictures
new_pictures (const guint sides[4])
{
  Pictures p;

  for (guint i = 0; i < 2; i++) {
    p.bytes[i] = 3 * (gsize) sides[2 * i] * sides[2 * i + 1];
    p.block[i] = g_malloc (p.bytes[i] + 2 * GUARD_BYTES);
    memset (p.block[i], GUARD, p.bytes[i] + 2 * GUARD_BYTES);
    p.outputs[i] = (ValleyVideoOutput){ p.block[i] + GUARD_BYTES, sides[2 * i], sides[2 * i + 1] };
  }
  return p;
}

static void
clear_pictures (Pictures *p)
{
  for (guint i = 0; i < 2; i++) {
    for (guint k = 0; k < GUARD_BYTES; k++)
      if (p->block[i][k] != GUARD || p->block[i][GUARD_BYTES + p->bytes[i] + k] != GUARD)
        g_error ("a byte beside the picture was written");
    g_free (p->block[i]);
  }
}

static void
test_kernels_agree (gconstpointer data)
{
  ValleyVideoScaler *plain = valley_video_scaler_new_with (&valley_resize_kernels_c);
  ValleyVideoScaler *fast = valley_video_scaler_new_with (data);

  for (guint round = 0; round < 300; round++) {
    const guint sides[4] = { random_side (), random_side (), random_side (), random_side () };
    Frame frame = random_frame (-1);
    Pictures want = new_pictures (sides), got = new_pictures (sides);

    g_assert_true (valley_video_scaler_paint (plain, &frame.video, want.outputs, 2));
    g_assert_true (valley_video_scaler_paint (fast, &frame.video, got.outputs, 2));
    for (guint i = 0; i < 2; i++)
      g_assert_cmpmem (got.outputs[i].rgb, got.bytes[i], want.outputs[i].rgb, want.bytes[i]);
    clear_pictures (&want);
    clear_pictures (&got);
    clear_frame (&frame);
  }
  valley_video_scaler_free (plain);
  valley_video_scaler_free (fast);
}

/* Two pictures at once are what each is alone, with coefficients kept or fresh. */
static void
test_outputs (void)
{
  ValleyVideoScaler *scaler = valley_video_scaler_new ();

  for (guint round = 0; round < 60; round++) {
    const guint sides[4] = { random_side (), random_side (), random_side (), random_side () };
    Frame frame = random_frame (-1);
    Pictures both = new_pictures (sides), alone = new_pictures (sides);

    g_assert_true (valley_video_scaler_paint (scaler, &frame.video, both.outputs, 2));
    for (guint i = 0; i < 2; i++) {
      ValleyVideoScaler *fresh = valley_video_scaler_new ();

      g_assert_true (valley_video_scaler_paint (fresh, &frame.video, &alone.outputs[i], 1));
      g_assert_cmpmem (alone.outputs[i].rgb, alone.bytes[i], both.outputs[i].rgb, both.bytes[i]);
      valley_video_scaler_free (fresh);
    }
    clear_pictures (&both);
    clear_pictures (&alone);
    clear_frame (&frame);
  }
  valley_video_scaler_free (scaler);
}

/* Equal samples are equal pixels, whatever is done to them: coefficients add up. */
static void
test_flat (void)
{
  ValleyVideoScaler *scaler = valley_video_scaler_new ();

  for (guint round = 0; round < 60; round++) {
    const guint sides[4] = { random_side (), random_side (), random_side (), random_side () };
    Frame frame = random_frame (g_test_rand_int_range (20, 230));
    Pictures p = new_pictures (sides);

    g_assert_true (valley_video_scaler_paint (scaler, &frame.video, p.outputs, 2));
    for (guint i = 0; i < 2; i++)
      for (gsize k = 0; k < p.bytes[i]; k++)
        g_assert_cmpuint (p.outputs[i].rgb[k], ==, p.outputs[0].rgb[k % 3]);
    clear_pictures (&p);
    clear_frame (&frame);
  }
  valley_video_scaler_free (scaler);
}

/* The longest sides: coefficients by the thousand. */
static void
test_extremes (void)
{
  static const guint cases[][4]
      = { { 65535, 1, 14, 28 }, { 1, 65535, 28, 14 }, { 1, 1, 65535, 1 }, { 2, 3, 1, 65535 } };
  ValleyVideoScaler *scaler = valley_video_scaler_new ();

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    guint width = cases[i][0], height = cases[i][1];
    gsize n = 3 * (gsize) cases[i][2] * cases[i][3];
    g_autofree guint8 *samples = g_malloc ((gsize) width * height), *rgb = g_malloc (n);
    ValleyVideoOutput output = { rgb, cases[i][2], cases[i][3] };
    ValleyVideo video = { .bits = 8,
                          .n_planes = 1,
                          .n_components = 1,
                          .planes = { { samples, width, width, height, 0, height } },
                          .components = { { 0, 0, 1, width, 0, width } },
                          .matrix = { { 1 }, { 1 }, { 1 } } };

    memset (samples, 201, (gsize) width * height);
    g_assert_true (valley_video_scaler_paint (scaler, &video, &output, 1));
    for (gsize k = 0; k < n; k++)
      g_assert_cmpuint (rgb[k], ==, 201);
  }
  valley_video_scaler_free (scaler);
}

static void
test_refused (void)
{
  ValleyVideoScaler *scaler = valley_video_scaler_new ();
  guint8 samples[16] = { 0 }, rgb[12];
  ValleyVideoOutput output = { rgb, 2, 2 };
  const ValleyVideo good = { .bits = 8,
                             .n_planes = 1,
                             .n_components = 1,
                             .planes = { { samples, 4, 4, 4, 0, 4 } },
                             .components = { { 0, 0, 1, 4, 0, 4 } },
                             .matrix = { { 1 }, { 1 }, { 1 } } };

  g_assert_true (valley_video_scaler_paint (scaler, &good, &output, 1));
#define REFUSED(change)                                                                            \
  {                                                                                                \
    ValleyVideo v = good;                                                                          \
    change;                                                                                        \
    g_assert_false (valley_video_scaler_paint (scaler, &v, &output, 1));                           \
  }
  REFUSED (v.bits = 7)
  REFUSED (v.bits = 17)
  REFUSED (v.n_planes = 0)
  REFUSED (v.n_components = 2)
  REFUSED (v.planes[0].data = NULL)
  REFUSED (v.planes[0].n_rows = 0)
  REFUSED (v.planes[0].height = 0)
  REFUSED (v.planes[0].top = NAN)
  REFUSED (v.components[0].plane = 1)
  REFUSED (v.components[0].step = 3)
  REFUSED (v.components[0].first = 1)
  REFUSED (v.components[0].n_samples = 5)
  REFUSED (v.components[0].width = -1)
  REFUSED (v.components[0].left = INFINITY)
  REFUSED (v.matrix[1][2] = 5)
  REFUSED (v.matrix[2][3] = NAN)
#undef REFUSED
  output.width = 0;
  g_assert_false (valley_video_scaler_paint (scaler, &good, &output, 1));
  output.width = 65536;
  g_assert_false (valley_video_scaler_paint (scaler, &good, &output, 1));
  valley_video_scaler_free (scaler);
  valley_video_scaler_free (NULL);
}

/* Whichever allocation fails, it is said, and the next frame is painted. */
static void
test_no_memory (void)
{
  const guint sides[4] = { 30, 20, 41, 17 };
  Frame frame = random_frame (-1);
  guint n = 0;

  for (gboolean failed = TRUE; failed; n++) {
    ValleyVideoScaler *scaler = valley_video_scaler_new ();
    Pictures want = new_pictures (sides), got = new_pictures (sides);

    valley_alloc_fail_at (n + 1);
    failed = !valley_video_scaler_paint (scaler, &frame.video, want.outputs, 2);
    g_assert_cmpint (failed, ==, valley_alloc_has_failed ());
    valley_alloc_fail_at (0);
    g_assert_true (valley_video_scaler_paint (scaler, &frame.video, want.outputs, 2));
    g_assert_true (valley_video_scaler_paint (scaler, &frame.video, got.outputs, 2));
    g_assert_cmpmem (want.outputs[1].rgb, want.bytes[1], got.outputs[1].rgb, got.bytes[1]);
    clear_pictures (&want);
    clear_pictures (&got);
    valley_video_scaler_free (scaler);
  }
  g_assert_cmpuint (n, >, 10);
  clear_frame (&frame);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (const ValleyResizeKernels *const *set = valley_resize_kernel_sets () + 1; *set; set++) {
    g_autofree char *path = g_strdup_printf ("/video/kernels-agree/%s", (*set)->name);

    g_test_add_data_func (path, *set, test_kernels_agree);
  }
  g_test_add_func ("/video/outputs", test_outputs);
  g_test_add_func ("/video/flat", test_flat);
  g_test_add_func ("/video/extremes", test_extremes);
  g_test_add_func ("/video/refused", test_refused);
  g_test_add_func ("/video/no-memory", test_no_memory);
  return g_test_run ();
}
