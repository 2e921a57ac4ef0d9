/* internal.h - what the files of the CPU backend share.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"
#include "kernels.h"

struct _ValleyMemory {
  guint8 *data;
  gsize bytes;
  gsize capacity; /* of the allocation; 0: borrowed from the caller of load_* */
  gpointer base;  /* strict mode: the mapping that holds data and its guard page */
};

typedef struct {
  ValleyBackend parent;
  const ValleyKernels *kernels;
  guint n_threads;
  ValleyOps strict_ops; /* the table of a strict backend */

  GMutex lock; /* guards the free list */
  GQueue idle; /* ValleyMemory not in use, newest first */
  gsize idle_bytes;
} ValleyCpuBackend;

typedef struct {
  ValleyStream parent;
  gpointer scratch; /* grows; lives as long as the stream */
  gsize scratch_bytes;
} ValleyCpuStream;

static inline ValleyCpuBackend *
valley_cpu_backend (ValleyStream *stream)
{
  return (ValleyCpuBackend *) stream->backend;
}

static inline const ValleyKernels *
valley_cpu_kernels (ValleyStream *stream)
{
  return valley_cpu_backend (stream)->kernels;
}

static inline gboolean
valley_cpu_given (const ValleyTensor *tensor)
{
  return tensor != NULL && tensor->memory != NULL;
}

static inline gpointer
valley_cpu_row (const ValleyTensor *tensor, gsize row)
{
  return tensor->memory->data
         + (tensor->offset + row * tensor->stride) * valley_dtype_bytes (tensor->dtype);
}

/* Leaves the operation unless all is well; a false @condition is a mistake of the calling
 * stage and becomes the stream's error. */
#define VALLEY_CPU_REQUIRE(stream, condition)                                                      \
  G_STMT_START                                                                                     \
  {                                                                                                \
    if (valley_stream_stopped (stream))                                                            \
      return;                                                                                      \
    if (!(condition)) {                                                                            \
      valley_stream_fail (stream, VALLEY_ERROR_DEVICE, "%s: the tensors do not fit: expected %s",  \
                          __func__, #condition);                                                   \
      return;                                                                                      \
    }                                                                                              \
  }                                                                                                \
  G_STMT_END

/* memory.c */
ValleyMemory *valley_cpu_memory_new (ValleyBackend *backend, gsize bytes);
ValleyMemory *valley_cpu_memory_borrow (gconstpointer data, gsize bytes);
void valley_cpu_memory_free (ValleyBackend *backend, ValleyMemory *memory);
void valley_cpu_memory_trim (ValleyCpuBackend *cpu, gsize keep_bytes);
/* At least @bytes that live until the stream's next call; NULL sets the stream's error. */
gpointer valley_cpu_stream_scratch (ValleyStream *stream, gsize bytes);

/* Rows @first ... of a page's plane, which begins at @plane. */
static inline gpointer
valley_cpu_page_row (const ValleyKv *kv, gsize plane, gsize row)
{
  return kv->pages[row / kv->page_rows]->data
         + (plane + row % kv->page_rows * kv->cols) * valley_dtype_bytes (kv->dtype);
}

/* Whether each of @ids (I32) is below @limit. */
gboolean valley_cpu_ids_within (const ValleyTensor *ids, gsize limit);
/* Runs @func over blocks of rows, in parallel when @work (elements touched) is worth it. */
typedef void (*ValleyRowsFunc) (gsize first, gsize n, gpointer data);
void valley_cpu_run_rows (ValleyStream *stream, gsize rows, gsize cols, ValleyRowsFunc func,
                          gpointer data);
/* n elements from one type to another */
void valley_cpu_convert (const ValleyKernels *kernels, gpointer dst, ValleyDType dst_type,
                         gconstpointer src, ValleyDType src_type, gsize n);

/* The table's entries, by file. */
void valley_cpu_upload (ValleyStream *, const ValleyTensor *dst, const float *src);
gboolean valley_cpu_download (ValleyStream *, const ValleyTensor *src, float *dst, GError **);
void valley_cpu_upload_ids (ValleyStream *, const ValleyTensor *dst, const gint32 *src);
gboolean valley_cpu_download_ids (ValleyStream *, const ValleyTensor *src, gint32 *dst, GError **);
void valley_cpu_copy (ValleyStream *, const ValleyTensor *dst, const ValleyTensor *src);
void valley_cpu_gather (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                        const ValleyTensor *ids);
void valley_cpu_cosine (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                        const ValleyTensor *z);
void valley_cpu_im2col (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x, gsize side);
void valley_cpu_pixel_shuffle (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                               gsize side, gsize ratio);
void valley_cpu_average_pool (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                              gsize in_height, gsize in_width, gsize out_height, gsize out_width);
void valley_cpu_max_pool (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                          gsize in_height, gsize in_width, gsize out_height, gsize out_width);

void valley_cpu_add (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x);
void valley_cpu_layer_norm (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                            const ValleyTensor *delta, const ValleyTensor *weight,
                            const ValleyTensor *bias, float eps);
void valley_cpu_rms_norm (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                          const ValleyTensor *delta, const ValleyTensor *weight, float eps);
void valley_cpu_swiglu (ValleyStream *, const ValleyTensor *y, const ValleyTensor *gate,
                        const ValleyTensor *up);
/* rotary.c */
void valley_cpu_rope (ValleyStream *, const ValleyTensor *x, const ValleyTensor *cos,
                      const ValleyTensor *sin, const ValleyTensor *positions, gsize head_dim);
void valley_cpu_rotate_append (ValleyStream *, const ValleyTensor *q, const ValleyTensor *k,
                               const ValleyTensor *v, const ValleyTensor *cos,
                               const ValleyTensor *sin, const ValleyTensor *positions,
                               gsize head_dim, const ValleyKv *kv);
void valley_cpu_read_pages (ValleyStream *, const ValleyTensor *y, const ValleyKv *kv, gsize plane,
                            gsize first);
void valley_cpu_softmax (ValleyStream *, const ValleyTensor *x);
void valley_cpu_one_hot (ValleyStream *, const ValleyTensor *x);

void valley_cpu_linear (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                        const ValleyTensor *w, const ValleyTensor *bias, ValleyActivation act,
                        ValleyRole role);
void valley_cpu_mix (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                     const ValleyTensor *w);
void valley_cpu_attention (ValleyStream *, const ValleyTensor *out, const ValleyTensor *q,
                           const ValleyTensor *k, const ValleyTensor *v, const ValleyAttention *a);
void valley_cpu_attend (ValleyStream *, const ValleyTensor *out, const ValleyTensor *q,
                        const ValleyKv *kv, const ValleyAttention *a);

/* pick.c */
void valley_cpu_pick (ValleyStream *, const ValleyTensor *picks, const ValleyTensor *logits,
                      const ValleyPick *pick);
void valley_cpu_see (ValleyStream *, const ValleyTensor *seen, const ValleyTensor *ids);

extern const ValleyOps valley_cpu_ops;

/* strict.c: the same table, with memory unreadable between operations */
void valley_cpu_strict_ops_init (ValleyOps *ops);
/* Does nothing to memory that is not strict. */
void valley_cpu_memory_protect (ValleyMemory *memory, gboolean readable, gboolean writable);
