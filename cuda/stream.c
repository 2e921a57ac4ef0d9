/* stream.c - a session's stream: its making, its waits, and the frame around every operation.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

static int
fill (ValleyGpuStream *s, gboolean urgent)
{
  int error;

  s->clock = valley_gpu_clock_new (urgent, &error);
  for (gsize i = 0; i < VALLEY_GPU_SLOTS && error == cudaSuccess; i++)
    error = valley_gpu_slot_init (&s->slots[i], VALLEY_GPU_SLOT_BYTES);
  return error;
}

static void
clear (ValleyGpuStream *s, gboolean lost)
{
  for (gsize i = 0; i < VALLEY_GPU_SLOTS && !lost; i++)
    valley_gpu_slot_clear (&s->slots[i]);
  valley_gpu_clock_stop (s->clock, lost);
  valley_gpu_clock_unref (s->clock);
}

static ValleyStream *
stream_new (ValleyBackend *backend, gboolean urgent, GError **error)
{
  ValleyGpu *gpu = valley_gpu (backend);
  ValleyGpuStream *s = g_new0 (ValleyGpuStream, 1);
  int code;

  s->parent.ops = backend->ops;
  s->parent.backend = backend;
  valley_gpu_enter (gpu);
  code = fill (s, urgent);
  if (valley_gpu_make_room (gpu, code)) {
    clear (s, FALSE);
    code = fill (s, urgent);
  }
  if (code != cudaSuccess)
    valley_gpu_set_error (gpu, code, "making a stream", error);
  valley_gpu_leave (gpu);
  if (code == cudaSuccess)
    return &s->parent;
  valley_gpu_stream_free (&s->parent);
  return NULL;
}

ValleyStream *
valley_gpu_stream_new (ValleyBackend *backend, GError **error)
{
  return stream_new (backend, FALSE, error);
}

ValleyStream *
valley_gpu_urgent_stream_new (ValleyBackend *backend, GError **error)
{
  return stream_new (backend, TRUE, error);
}

void
valley_gpu_stream_free (ValleyStream *stream)
{
  ValleyGpuStream *s = valley_gpu_stream (stream);
  ValleyGpu *gpu;
  gboolean lost;

  if (s == NULL)
    return;
  gpu = valley_gpu (stream->backend);
  valley_gpu_enter (gpu);
  if (s->clock->stream != NULL)
    valley_gpu_check_lost (gpu, valley_gpu_clock_finish (s->clock));
  lost = g_atomic_int_get (&stream->backend->lost);
  if (!lost)
    valley_cuda_blas_forget_stream (gpu->blas, s->clock->stream);
  if (valley_gpu_clock_current () == s->clock)
    valley_gpu_clock_make_current (NULL);
  clear (s, lost);
  valley_gpu_pool_trim (gpu); /* others may want the device's memory, and a session kept much */
  valley_gpu_leave (gpu);
  g_clear_error (&stream->error);
  g_free (s);
}

gboolean
valley_gpu_stream_wait (ValleyStream *stream, GError **error)
{
  ValleyGpu *gpu = valley_gpu (stream->backend);
  ValleyGpuClock *clock = valley_gpu_stream (stream)->clock;
  int code = cudaSuccess;

  valley_gpu_enter (gpu);
  if (g_atomic_int_get (&clock->busy) && !g_atomic_int_get (&stream->backend->lost))
    code = valley_gpu_clock_finish (clock);
  if (valley_gpu_check_lost (gpu, code) || g_atomic_int_get (&stream->backend->lost)) {
    g_clear_error (&stream->error); /* what went wrong after that says less */
    valley_stream_fail (stream, VALLEY_ERROR_DEVICE,
                        "cuda:%u failed (%s), and works again in a model that is opened anew",
                        gpu->index, cudaGetErrorName (g_atomic_int_get (&gpu->failure)));
  } else if (code != cudaSuccess) {
    valley_stream_fail (stream, VALLEY_ERROR_DEVICE, "cuda:%u: %s", gpu->index,
                        cudaGetErrorName (code));
  }
  valley_gpu_leave (gpu);
  if (stream->error != NULL) {
    g_propagate_error (error, g_steal_pointer (&stream->error));
    return FALSE;
  }
  return valley_stream_check_cancelled (stream, error);
}

/* ---- operations ---- */

ValleyCudaType
valley_gpu_type (ValleyDType dtype)
{
  return dtype == VALLEY_BF16  ? VALLEY_CUDA_BF16
         : dtype == VALLEY_F16 ? VALLEY_CUDA_F16
                               : VALLEY_CUDA_F32;
}

static ValleyCudaMatrix
matrix_of (const ValleyTensor *tensor)
{
  if (!valley_tensor_given (tensor))
    return (ValleyCudaMatrix){ NULL, VALLEY_CUDA_F32, 0, 0, 0 };
  return (ValleyCudaMatrix){ .data = (guint8 *) tensor->memory->data
                                     + tensor->offset * valley_dtype_bytes (tensor->dtype),
                             .type = valley_gpu_type (tensor->dtype),
                             .rows = tensor->rows,
                             .cols = tensor->cols,
                             .stride = tensor->stride };
}

gboolean
valley_gpu_begin (ValleyStream *stream, ValleyCudaMatrix *matrices,
                  const ValleyTensor *const *tensors, gsize n)
{
  ValleyGpuStream *s = valley_gpu_stream (stream);
  int error = cudaSuccess;

  if (valley_stream_stopped (stream) || g_atomic_int_get (&stream->backend->lost))
    return FALSE;
  valley_gpu_enter (valley_gpu (stream->backend));
  valley_gpu_clock_make_current (s->clock);
  g_atomic_int_set (&s->clock->busy, TRUE);
  for (gsize i = 0; i < n; i++) {
    matrices[i] = matrix_of (tensors[i]);
    if (matrices[i].data != NULL && error == cudaSuccess)
      error = valley_gpu_memory_use (s, tensors[i]->memory);
  }
  if (error == cudaSuccess)
    return TRUE;
  valley_gpu_end (stream, "waiting for its memory", error);
  return FALSE;
}

void
valley_gpu_end (ValleyStream *stream, const char *what, int error)
{
  ValleyGpu *gpu = valley_gpu (stream->backend);

  if (error != cudaSuccess && stream->error == NULL)
    valley_gpu_set_error (gpu, error, what, &stream->error);
  valley_gpu_leave (gpu);
}
