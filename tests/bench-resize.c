/* bench-resize.c - the resize of a 1080p frame to both towers' inputs, every instruction set
 * against the plain C one in the same process.  `meson test --benchmark`; it decides nothing.
 * SPDX-License-Identifier: Apache-2.0 */
#include "resize_kernels.h"

#include <glib.h>
#include <stdio.h>

#define ROUNDS 20

typedef struct {
  const char *name;
  guint siglip, eagle_width, eagle_height;
} Target;

static const Target targets[] = { { "valley-tiny", 112, 140, 84 }, { "Valley2", 384, 504, 280 } };

typedef struct {
  guint width, height, channels;
} Plane;

static const Plane i420[] = { { 1920, 1080, 1 }, { 960, 540, 1 }, { 960, 540, 1 } };
static const Plane rgb[] = { { 1920, 1080, 3 } };

static guint8 source[1920 * 1080 * 3], siglip[384 * 384 * 3], eagle[504 * 280 * 3];

/* Both towers' pictures of a plane. */
static void
resize (const ValleyResizeKernels *kernels, const Plane *plane, const Target *target)
{
  gsize channels = plane->channels;
  ValleyResizeSource from = { source,          plane->width * channels, plane->width, plane->height,
                              plane->channels, plane->channels,         { 0, 1, 2 } };
  ValleyResizeTarget to[] = {
    { siglip, target->siglip * channels, target->siglip, target->siglip },
    { eagle, target->eagle_width * channels, target->eagle_width, target->eagle_height },
  };

  if (!valley_resize_to (kernels, &from, to, G_N_ELEMENTS (to)))
    g_error ("not enough memory");
}

/* The fastest of some rounds: what else runs on the machine only adds. */
static double
best_ms (const ValleyResizeKernels *kernels, const Target *target, const Plane *planes, guint n)
{
  gint64 best = G_MAXINT64;

  for (guint round = 0; round < ROUNDS; round++) {
    gint64 start = g_get_monotonic_time ();

    for (guint i = 0; i < n; i++)
      resize (kernels, &planes[i], target);
    best = MIN (best, g_get_monotonic_time () - start);
  }
  return (double) best / 1000;
}

static void
report (const char *format, const Target *target, const Plane *planes, guint n)
{
  double plain = best_ms (&valley_resize_kernels_c, target, planes, n);

  for (const ValleyResizeKernels *const *set = valley_resize_kernel_sets (); *set != NULL; set++) {
    double ms = best_ms (*set, target, planes, n);

    printf ("1080p %-4s to %-11s  %-6s %7.2f ms  %5.1f x plain C\n", format, target->name,
            (*set)->name, ms, plain / ms);
  }
}

int
main (void)
{
  for (gsize i = 0; i < sizeof source; i++)
    source[i] = (guint8) g_random_int ();
  for (guint i = 0; i < G_N_ELEMENTS (targets); i++) {
    report ("I420", &targets[i], i420, G_N_ELEMENTS (i420));
    report ("RGB", &targets[i], rgb, G_N_ELEMENTS (rgb));
  }
  return 0;
}
