/* cpu.c - the CPU backend: its streams, its weights and its table of operations.
 * SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"

#include "gemm.h"
#include "internal.h"
#include "pool.h"

#include <stdlib.h>
#include <string.h>

static void
backend_free (ValleyBackend *backend)
{
  ValleyCpuBackend *cpu = (ValleyCpuBackend *) backend;

  if (cpu == NULL)
    return;
  valley_cpu_memory_trim (cpu, 0);
  g_mutex_clear (&cpu->lock);
  g_free (cpu);
}

static ValleyStream *
stream_new (ValleyBackend *backend, GError **error)
{
  ValleyCpuStream *cpu = g_new0 (ValleyCpuStream, 1);

  cpu->parent.ops = backend->ops;
  cpu->parent.backend = backend;
  return &cpu->parent;
}

static void
stream_free (ValleyStream *stream)
{
  ValleyCpuStream *cpu = (ValleyCpuStream *) stream;

  if (cpu == NULL)
    return;
  g_clear_error (&stream->error);
  free (cpu->scratch);
  g_free (cpu);
}

/* Operations run at once, so there is nothing to wait for but the verdict. */
static gboolean
stream_wait (ValleyStream *stream, GError **error)
{
  if (stream->error != NULL) {
    g_propagate_error (error, g_steal_pointer (&stream->error));
    return FALSE;
  }
  if (g_atomic_int_get (&stream->cancelled)) {
    g_set_error_literal (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED, "cancelled");
    return FALSE;
  }
  return TRUE;
}

/* ---- weights ---- */

/* Tensors in a mapped file start anywhere; kernels want whole elements. */
static gboolean
is_aligned (const void *host, ValleyDType dtype)
{
  return (gsize) host % valley_dtype_bytes (dtype) == 0;
}

/* Bytes that may lie at odd addresses, widened or narrowed a block at a time. */
static void
convert_unaligned (const ValleyKernels *kernels, guint8 *dst, ValleyDType dst_type,
                   const guint8 *src, ValleyDType src_type, gsize n)
{
  float block[1024];

  for (gsize i = 0; i < n; i += G_N_ELEMENTS (block)) {
    gsize part = MIN (n - i, G_N_ELEMENTS (block));

    memcpy (block, src + i * valley_dtype_bytes (src_type), part * valley_dtype_bytes (src_type));
    valley_cpu_convert (kernels, dst + i * valley_dtype_bytes (dst_type), dst_type, block, src_type,
                        part);
  }
}

static gboolean
load (ValleyBackend *backend, ValleyTensor *out, const void *host, ValleyDType dtype,
      ValleyDType wanted, gsize rows, gsize cols)
{
  const ValleyKernels *kernels = ((ValleyCpuBackend *) backend)->kernels;
  gsize n, bytes;

  *out = (ValleyTensor){ .dtype = wanted, .rows = rows, .cols = cols, .stride = cols };
  if (!g_size_checked_mul (&n, rows, cols)
      || !g_size_checked_mul (&bytes, n, valley_dtype_bytes (wanted)))
    return FALSE;
  if (wanted == dtype && is_aligned (host, dtype)) {
    out->memory = valley_cpu_memory_borrow (host, bytes);
    return TRUE;
  }
  out->memory = backend->ops->memory_new (backend, bytes);
  if (out->memory == NULL)
    return FALSE;
  valley_cpu_memory_protect (out->memory, TRUE, TRUE);
  convert_unaligned (kernels, out->memory->data, wanted, host, dtype, n);
  valley_cpu_memory_protect (out->memory, FALSE, FALSE);
  return TRUE;
}

static gboolean
load_matrix (ValleyBackend *backend, ValleyTensor *out, const void *host, ValleyDType dtype,
             gsize rows, gsize cols)
{
  /* f32 would be read at half the speed; f16 is as short as bf16 and more exact */
  gboolean narrow = backend->precision == VALLEY_PRECISION_BF16 && dtype == VALLEY_F32;

  return load (backend, out, host, dtype, narrow ? VALLEY_BF16 : dtype, rows, cols);
}

static gboolean
load_vector (ValleyBackend *backend, ValleyTensor *out, const void *host, ValleyDType dtype,
             gsize rows, gsize cols)
{
  return load (backend, out, host, dtype, VALLEY_F32, rows, cols);
}

/* ---- the table ---- */

const ValleyOps valley_cpu_ops = {
  .name = "cpu",
  .backend_free = backend_free,
  .stream_new = stream_new,
  .stream_free = stream_free,
  .stream_wait = stream_wait,
  .memory_new = valley_cpu_memory_new,
  .memory_free = valley_cpu_memory_free,
  .load_matrix = load_matrix,
  .load_vector = load_vector,
  .load_bias = load_vector,
  .upload = valley_cpu_upload,
  .download = valley_cpu_download,
  .upload_ids = valley_cpu_upload_ids,
  .download_ids = valley_cpu_download_ids,
  .copy = valley_cpu_copy,
  .linear = valley_cpu_linear,
  .linears = valley_linear_each,
  .mix = valley_cpu_mix,
  .add = valley_cpu_add,
  .layer_norm = valley_cpu_layer_norm,
  .rms_norm = valley_cpu_rms_norm,
  .rope = valley_cpu_rope,
  .rotate_append = valley_cpu_rotate_append,
  .read_pages = valley_cpu_read_pages,
  .swiglu = valley_cpu_swiglu,
  .softmax = valley_cpu_softmax,
  .one_hot = valley_cpu_one_hot,
  .attention = valley_cpu_attention,
  .attend = valley_cpu_attend,
  .im2col = valley_cpu_im2col,
  .pixel_shuffle = valley_cpu_pixel_shuffle,
  .average_pool = valley_cpu_average_pool,
  .max_pool = valley_cpu_max_pool,
  .gather = valley_cpu_gather,
  .cosine = valley_cpu_cosine,
  .pick = valley_cpu_pick,
  .see = valley_cpu_see,
};

gboolean
valley_cpu_has_native_bf16 (void)
{
  return valley_gemm_has_bf16 ();
}

ValleyBackend *
valley_cpu_backend_new (ValleyPrecision precision, guint threads, gboolean strict, GError **error)
{
  ValleyCpuBackend *cpu;

  if (precision == VALLEY_PRECISION_F16) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "precision f16 is not computed on the CPU; expected auto, f32 or bf16, or a GPU");
    return NULL;
  }
  if (precision != VALLEY_PRECISION_F32 && precision != VALLEY_PRECISION_BF16) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "the CPU's precision must be f32 or bf16 by now, not %d", (int) precision);
    return NULL;
  }
  cpu = g_new0 (ValleyCpuBackend, 1);
  cpu->parent.ops = &valley_cpu_ops;
  cpu->parent.precision = precision;
  valley_precision_types (precision, TRUE, &cpu->parent.activations, &cpu->parent.kv);
  cpu->kernels = valley_kernels_get ();
  cpu->n_threads = threads > 0 ? threads : valley_pool_default_threads ();
  if (strict) {
    valley_cpu_strict_ops_init (&cpu->strict_ops);
    cpu->parent.ops = &cpu->strict_ops;
  }
  g_mutex_init (&cpu->lock);
  g_queue_init (&cpu->idle);
  return &cpu->parent;
}
