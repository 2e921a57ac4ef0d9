/* weights.c - weights on their way from the mapped file into device memory.
 *
 * Two pinned buffers in turn: while one crosses the bus, the next is read from the file, so that a
 * checkpoint loads as fast as the slower of the two.  Whatever has to change its type or its rows'
 * distance does so on the device.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <string.h>

#define SLOT_BYTES ((gsize) 4 << 20)
#define ALIGNMENT ((gsize) 16) /* of a matrix's rows, which tensor cores want */

/* Once its bytes have left it; under the loader's lock. */
static ValleyGpuSlot *
next_loader (ValleyGpu *gpu, int *error)
{
  ValleyGpuSlot *slot = &gpu->loader[gpu->next_loader];

  gpu->next_loader = (gpu->next_loader + 1) % G_N_ELEMENTS (gpu->loader);
  if (slot->host != NULL) {
    *error = cudaEventSynchronize (slot->done);
    return slot;
  }
  *error = valley_gpu_slot_init (slot, SLOT_BYTES);
  if (*error != cudaSuccess)
    valley_gpu_slot_clear (slot);
  return slot;
}

int
valley_gpu_finish_loading (ValleyGpu *gpu)
{
  int error = cudaSuccess;

  if (!g_atomic_int_get (&gpu->loading))
    return cudaSuccess;
  g_mutex_lock (&gpu->loader_lock);
  error = cudaStreamSynchronize (gpu->copies);
  for (gsize i = 0; i < G_N_ELEMENTS (gpu->loader) && error == cudaSuccess; i++)
    valley_gpu_slot_clear (&gpu->loader[i]);
  if (error == cudaSuccess)
    g_atomic_int_set (&gpu->loading, FALSE);
  g_mutex_unlock (&gpu->loader_lock);
  return error;
}

/* The very bytes. */
static int
copy_bytes (ValleyGpu *gpu, guint8 *dst, const guint8 *src, gsize bytes)
{
  int error = cudaSuccess;

  for (gsize at = 0; at < bytes && error == cudaSuccess; at += SLOT_BYTES) {
    gsize n = MIN (bytes - at, SLOT_BYTES);
    ValleyGpuSlot *slot = next_loader (gpu, &error);

    if (error != cudaSuccess)
      break;
    memcpy (slot->host, src + at, n);
    error = cudaMemcpyAsync (dst + at, slot->host, n, cudaMemcpyHostToDevice, gpu->copies);
    if (error == cudaSuccess)
      error = cudaEventRecord (slot->done, gpu->copies);
  }
  return error;
}

/* Into @dst's type and rows. */
static int
copy_pieces (ValleyGpu *gpu, const ValleyCudaMatrix *dst, const guint8 *src, ValleyDType dtype)
{
  gsize element = valley_dtype_bytes (dtype), to_element = dst->type == VALLEY_CUDA_F32 ? 4 : 2;
  ValleyGpuPiece p = { 0 };
  int error = cudaSuccess;

  while (error == cudaSuccess
         && valley_gpu_next_piece (&p, dst->rows, dst->cols, SLOT_BYTES / element)) {
    ValleyCudaMatrix to = *dst, from;
    ValleyGpuSlot *slot = next_loader (gpu, &error);

    if (error != cudaSuccess)
      break;
    to.data = (guint8 *) dst->data + (p.row * dst->stride + p.col) * to_element;
    to.rows = p.n_rows;
    to.cols = p.n_cols;
    from
        = (ValleyCudaMatrix){ slot->device, valley_gpu_type (dtype), p.n_rows, p.n_cols, p.n_cols };
    memcpy (slot->host, src + (p.row * dst->cols + p.col) * element, p.n_rows * p.n_cols * element);
    error = cudaMemcpyAsync (slot->device, slot->host, p.n_rows * p.n_cols * element,
                             cudaMemcpyHostToDevice, gpu->copies);
    if (error == cudaSuccess)
      error = valley_cuda_copy_rows (&to, &from, NULL, gpu->copies);
    if (error == cudaSuccess)
      error = cudaEventRecord (slot->done, gpu->copies);
  }
  return error;
}

static int
fill (ValleyGpu *gpu, const ValleyTensor *out, gsize bytes, const guint8 *host, ValleyDType dtype)
{
  ValleyCudaMatrix dst
      = { out->memory->data, valley_gpu_type (out->dtype), out->rows, out->cols, out->stride };

  return out->dtype == dtype && out->stride == out->cols
             ? copy_bytes (gpu, out->memory->data, host, bytes)
             : copy_pieces (gpu, &dst, host, dtype);
}

static gboolean
load (ValleyBackend *backend, ValleyTensor *out, const void *host, ValleyDType dtype, gsize rows,
      gsize cols, ValleyDType wanted, gsize stride)
{
  ValleyGpu *gpu = valley_gpu (backend);
  gsize bytes;
  int error;

  *out = (ValleyTensor){ .dtype = wanted, .rows = rows, .cols = cols, .stride = stride };
  if (g_atomic_int_get (&backend->lost) || stride < cols
      || !g_size_checked_mul (&bytes, rows, stride)
      || !g_size_checked_mul (&bytes, bytes, valley_dtype_bytes (wanted)))
    return FALSE;
  out->memory = valley_gpu_memory_new_weight (gpu, bytes);
  if (out->memory == NULL)
    return FALSE;
  valley_gpu_enter (gpu);
  g_mutex_lock (&gpu->loader_lock);
  g_atomic_int_set (&gpu->loading, TRUE);
  error = fill (gpu, out, bytes, host, dtype);
  g_mutex_unlock (&gpu->loader_lock);
  if (error != cudaSuccess)
    valley_gpu_check_lost (gpu, error);
  valley_gpu_leave (gpu);
  if (error != cudaSuccess)
    valley_tensor_clear (backend, out);
  return error == cudaSuccess;
}

gboolean
valley_gpu_load_matrix (ValleyBackend *backend, ValleyTensor *out, const void *host,
                        ValleyDType dtype, gsize rows, gsize cols)
{
  gsize unit = ALIGNMENT / valley_dtype_bytes (backend->activations);

  return load (backend, out, host, dtype, rows, cols, backend->activations,
               (cols + unit - 1) / unit * unit);
}

gboolean
valley_gpu_load_vector (ValleyBackend *backend, ValleyTensor *out, const void *host,
                        ValleyDType dtype, gsize rows, gsize cols)
{
  return load (backend, out, host, dtype, rows, cols, VALLEY_F32, cols);
}

gboolean
valley_gpu_load_bias (ValleyBackend *backend, ValleyTensor *out, const void *host,
                      ValleyDType dtype, gsize rows, gsize cols)
{
  return load (backend, out, host, dtype, rows, cols, backend->activations, cols);
}
