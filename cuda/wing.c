/* wing.c - the one symbol that the engine looks for, and the backend behind it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

void
valley_gpu_backend_free (ValleyBackend *backend)
{
  ValleyGpu *gpu = valley_gpu (backend);

  if (gpu == NULL)
    return;
  if (gpu->context != NULL) {
    valley_gpu_enter (gpu);
    if (!g_atomic_int_get (&backend->lost))
      valley_gpu_check_lost (gpu, valley_gpu_finish_loading (gpu));
    valley_gpu_pool_clear (gpu);
    valley_cuda_blas_free (gpu->blas);
    if (gpu->copies != NULL)
      cudaStreamDestroy (gpu->copies);
    cudaGetLastError (); /* of a lost context, whose end takes everything with it */
    valley_gpu_leave (gpu);
    valley_gpu_context_clear (gpu);
  } else {
    valley_gpu_pool_clear (gpu);
  }
  g_mutex_clear (&gpu->loader_lock);
  g_free (gpu);
}

static gboolean
fill_context (ValleyGpu *gpu, GError **error)
{
  int code;

  valley_gpu_enter (gpu);
  code = cudaStreamCreateWithFlags (&gpu->copies, cudaStreamNonBlocking);
  if (code == cudaSuccess)
    code = valley_cuda_blas_new (&gpu->blas);
  if (code != cudaSuccess)
    valley_gpu_set_error (gpu, code, "beginning work", error);
  valley_gpu_leave (gpu);
  return code == cudaSuccess;
}

static ValleyBackend *
backend_new (guint device, gpointer context, ValleyPrecision precision, GError **error)
{
  ValleyGpu *gpu = g_new0 (ValleyGpu, 1);

  gpu->parent.ops = &valley_gpu_ops;
  gpu->parent.precision = precision;
  valley_precision_types (precision, FALSE, &gpu->parent.activations, &gpu->parent.kv);
  gpu->index = device;
  g_mutex_init (&gpu->loader_lock);
  valley_gpu_pool_init (gpu);
  if (valley_gpu_context_init (gpu, context, error) && fill_context (gpu, error))
    return &gpu->parent;
  valley_gpu_backend_free (&gpu->parent);
  return NULL;
}

extern const VALLEY_API ValleyWing valley_wing;
const ValleyWing valley_wing = {
  .version = VALLEY_WING_VERSION,
  .ops_bytes = sizeof (ValleyOps),
  .n_devices = valley_gpu_count,
  .backend_new = backend_new,
};
