/* paint.h - small pictures that live on a model's device: made there from frames that lie there,
 * compared there, never on the host.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "image.h"
#include "picture_ops.h"

/* A model's means to paint: a stream of its own, and the coefficients of the last sizes.  Any
 * thread may use it. */
typedef struct _ValleyPainter ValleyPainter;
ValleyPainter *valley_painter_new (ValleyBackend *backend, GError **error);
void valley_painter_free (ValleyPainter *painter); /* NULL is fine */

/* A tower's input on the device. */
typedef struct {
  ValleyMemory *rgb;
  guint width, height;  /* 0: no such tower */
  ValleyTensor patches; /* empty once they are taken */
} ValleyDeviceImage;

void valley_device_image_clear (ValleyDeviceImage *image, ValleyBackend *backend);

/* Paints @frame into @n images of given sizes, cuts their patch rows, and waits for it.
 * @fingerprints: two numbers for each.  On failure the images are to be cleared all the same. */
gboolean valley_painter_paint (ValleyPainter *painter, const ValleyDeviceFrame *frame,
                               ValleyDeviceImage *images, const ValleyPatchShape *shapes, guint n,
                               guint64 *fingerprints, GError **error);

/* The sum of |a - b| of the bytes of @n images of the same sizes. */
gboolean valley_painter_compare (ValleyPainter *painter, const ValleyDeviceImage *a,
                                 const ValleyDeviceImage *b, guint n, guint64 *sum, GError **error);
