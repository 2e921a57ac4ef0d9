/* backend.c - what every backend shares: tensor views and sticky errors.
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend.h"

void
valley_stream_fail (ValleyStream *stream, int code, const char *format, ...)
{
  va_list args;

  if (stream->error != NULL)
    return;
  va_start (args, format);
  stream->error = g_error_new_valist (VALLEY_ERROR, code, format, args);
  va_end (args);
}

gboolean
valley_stream_stopped (ValleyStream *stream)
{
  return stream->error != NULL || g_atomic_int_get (&stream->cancelled);
}

gboolean
valley_stream_check_cancelled (ValleyStream *stream, GError **error)
{
  if (!g_atomic_int_get (&stream->cancelled))
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED, "the session was cancelled");
  return FALSE;
}

void
valley_tensor_init (ValleyStream *stream, ValleyTensor *out, ValleyDType dtype, gsize rows,
                    gsize cols)
{
  gsize bytes;

  *out = (ValleyTensor){ .dtype = dtype, .rows = rows, .cols = cols, .stride = cols };
  if (valley_stream_stopped (stream))
    return;
  if (g_size_checked_mul (&bytes, rows, cols)
      && g_size_checked_mul (&bytes, bytes, valley_dtype_bytes (dtype)))
    out->memory = stream->ops->memory_new (stream->backend, bytes);
  if (out->memory == NULL)
    valley_stream_fail (stream, VALLEY_ERROR_MEMORY,
                        "not enough memory for a tensor of %" G_GSIZE_FORMAT " x %" G_GSIZE_FORMAT
                        " elements",
                        rows, cols);
}

void
valley_tensor_clear (ValleyBackend *backend, ValleyTensor *tensor)
{
  if (tensor->memory != NULL)
    backend->ops->memory_free (backend, tensor->memory);
  *tensor = (ValleyTensor){ 0 };
}

void
valley_activations_init (ValleyStream *stream, ValleyTensor *out, gsize rows, gsize cols)
{
  valley_tensor_init (stream, out, stream->backend->activations, rows, cols);
}

void
valley_tensor_init_ids (ValleyStream *stream, ValleyTensor *out, const gint32 *ids, gsize n)
{
  valley_tensor_init (stream, out, VALLEY_I32, n, 1);
  stream->ops->upload_ids (stream, out, ids);
}

ValleyTensor
valley_tensor_rows (const ValleyTensor *tensor, gsize first, gsize n)
{
  ValleyTensor view = *tensor;

  view.offset += first * tensor->stride;
  view.rows = n;
  return view;
}

ValleyTensor
valley_tensor_cols (const ValleyTensor *tensor, gsize first, gsize n)
{
  ValleyTensor view = *tensor;

  view.offset += first;
  view.cols = n;
  return view;
}

ValleyTensor
valley_tensor_reshape (const ValleyTensor *tensor, gsize rows, gsize cols)
{
  ValleyTensor view = *tensor;

  view.rows = rows;
  view.cols = view.stride = cols;
  return view;
}

void
valley_precision_types (ValleyPrecision precision, gboolean is_cpu, ValleyDType *activations,
                        ValleyDType *kv)
{
  ValleyDType type = precision == VALLEY_PRECISION_BF16  ? VALLEY_BF16
                     : precision == VALLEY_PRECISION_F16 ? VALLEY_F16
                                                         : VALLEY_F32;

  *activations = is_cpu ? VALLEY_F32 : type;
  *kv = type;
}

void
valley_linear_each (ValleyStream *stream, const ValleyLinear *linears, gsize n,
                    const ValleyTensor *x, ValleyRole role)
{
  for (gsize i = 0; i < n; i++)
    stream->ops->linear (stream, &linears[i].y, x, &linears[i].w, &linears[i].bias, VALLEY_ACT_NONE,
                         role);
}
