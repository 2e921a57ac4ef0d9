/* rotary.c - the one place that turns positions into angles.
 *
 * Angles in f32, as the reference computes them: at large positions their rounding is part of
 * the model.
 * SPDX-License-Identifier: Apache-2.0 */
#include "rotary.h"

#include "alloc.h"

#include <math.h>

#define MIN_POSITIONS ((gsize) 512)

void
valley_rotary_init (ValleyRotary *rotary, ValleyBackend *backend, const float *frequencies,
                    gsize pairs)
{
  *rotary = (ValleyRotary){ .backend = backend,
                            .frequencies = frequencies,
                            .cos = { .cols = pairs },
                            .sin = { .cols = pairs } };
}

void
valley_rotary_clear (ValleyRotary *rotary)
{
  ValleyTensor *tensors[]
      = { &rotary->cos, &rotary->sin, &rotary->picked_cos, &rotary->picked_sin };

  for (gsize i = 0; i < G_N_ELEMENTS (tensors); i++)
    if (tensors[i]->memory != NULL)
      valley_tensor_clear (rotary->backend, tensors[i]);
}

/* Fills rows @first ... of the tables. */
static void
upload_angles (const ValleyRotary *rotary, ValleyStream *stream, const ValleyTensor *cos,
               const ValleyTensor *sin, gsize first)
{
  gsize rows = cos->rows - first, pairs = cos->cols;
  g_autofree float *cosines = valley_alloc (rows, pairs * sizeof (float));
  g_autofree float *sines = valley_alloc (rows, pairs * sizeof (float));
  ValleyTensor part;

  if (cosines == NULL || sines == NULL) {
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY, "not enough memory for the rotary angles");
    return;
  }
  for (gsize i = 0; i < rows; i++)
    for (gsize j = 0; j < pairs; j++) {
      float angle = (float) (first + i) * rotary->frequencies[j];

      cosines[i * pairs + j] = cosf (angle);
      sines[i * pairs + j] = sinf (angle);
    }
  part = valley_tensor_rows (cos, first, rows);
  stream->ops->upload (stream, &part, cosines);
  part = valley_tensor_rows (sin, first, rows);
  stream->ops->upload (stream, &part, sines);
}

static void
copy_rows (ValleyStream *stream, const ValleyTensor *to, const ValleyTensor *from)
{
  ValleyTensor part = valley_tensor_rows (to, 0, from->rows);

  if (from->rows > 0)
    stream->ops->copy (stream, &part, from);
}

/* Makes the table reach @n positions. */
static void
grow (ValleyRotary *rotary, ValleyStream *stream, gsize n)
{
  gsize rows = MAX (n, MAX (MIN_POSITIONS, 2 * rotary->cos.rows)), pairs = rotary->cos.cols;
  ValleyTensor cos, sin;

  if (n <= rotary->cos.rows)
    return;
  valley_tensor_init (stream, &cos, VALLEY_F32, rows, pairs);
  valley_tensor_init (stream, &sin, VALLEY_F32, rows, pairs);
  if (!valley_stream_stopped (stream)) {
    copy_rows (stream, &cos, &rotary->cos);
    copy_rows (stream, &sin, &rotary->sin);
    upload_angles (rotary, stream, &cos, &sin, rotary->cos.rows);
  }
  if (valley_stream_stopped (stream)) {
    valley_tensor_clear (stream->backend, &cos);
    valley_tensor_clear (stream->backend, &sin);
    return;
  }
  valley_rotary_clear (rotary);
  rotary->cos = cos;
  rotary->sin = sin;
}

/* A fresh tensor of the table's rows at @positions. */
static void
pick (ValleyTensor *picked, ValleyStream *stream, const ValleyTensor *table,
      const gint32 *positions, gsize n)
{
  if (picked->memory != NULL)
    valley_tensor_clear (stream->backend, picked);
  valley_tensor_init (stream, picked, VALLEY_F32, n, table->cols);
  stream->ops->gather (stream, picked, table, positions);
}

void
valley_rotary_rows (ValleyRotary *rotary, ValleyStream *stream, const gint32 *positions,
                    gsize first, gsize n, ValleyTensor *cos, ValleyTensor *sin)
{
  gsize last = first + n - 1, follow = n;

  if (positions != NULL && n > 0) {
    first = last = (gsize) positions[0];
    for (follow = 1; follow < n && positions[follow] == positions[follow - 1] + 1; follow++)
      ;
    for (gsize i = 0; i < n; i++)
      last = MAX (last, (gsize) positions[i]);
  }
  grow (rotary, stream, n > 0 ? last + 1 : 0);
  *cos = *sin = (ValleyTensor){ .rows = n, .cols = rotary->cos.cols };
  if (valley_stream_stopped (stream))
    return;
  if (follow == n) {
    *cos = valley_tensor_rows (&rotary->cos, first, n);
    *sin = valley_tensor_rows (&rotary->sin, first, n);
    return;
  }
  pick (&rotary->picked_cos, stream, &rotary->cos, positions, n);
  pick (&rotary->picked_sin, stream, &rotary->sin, positions, n);
  *cos = rotary->picked_cos;
  *sin = rotary->picked_sin;
}
