/* gpu.h - what the wing's own files know of one another: the backend on a GPU, its context, its
 * memory, its streams.  Kernels and cuBLASLt are behind ops.h.
 *
 * Plain C.  Every function that calls CUDA expects the backend's context to be current: operations
 * come between valley_gpu_begin and valley_gpu_end, the rest between enter and leave.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cuda_runtime.h>

#include "backend.h"
#include "ops.h"
#include "wing.h"

struct CUctx_st;

/* One stream's work as others see it who wait for it.  Outlives the stream. */
typedef struct {
  gint refs;
  gint busy;           /* atomic: something may still be running; only its own thread says no */
  gint n_finished;     /* atomic: how often it did */
  gboolean urgent;     /* somebody's video waits for it: it takes no memory that others still use */
  GMutex lock;         /* of what follows */
  cudaStream_t stream; /* NULL once it is gone: nothing is running then */
  cudaEvent_t tail;    /* where others wait: recorded anew by whoever needs it */
  gboolean recording;
  GQueue spare; /* memory that was freed while recording: the graph's own; its thread's */
} ValleyGpuClock;

struct _ValleyMemory {
  void *data;
  gsize bytes;
  ValleyGpuClock *clock; /* of who used it last, or NULL */
  gint given_back;       /* while idle: its clock's n_finished when it became so */
  gboolean is_weight;    /* written while loading, only read afterwards; of exactly its size */
};

/* Who waits for an event sleeps, as for a stream (context.c). */
#define VALLEY_GPU_EVENT (cudaEventDisableTiming | cudaEventBlockingSync)

/* Pinned host memory, and as much on the device, that bytes pass through. */
typedef struct {
  void *host, *device;
  cudaEvent_t arrived; /* on the device */
  cudaEvent_t done;    /* whoever reads either has done so */
} ValleyGpuSlot;

typedef struct {
  GMutex lock;
  GHashTable *idle; /* gsize of a size -> GQueue of ValleyMemory */
  gsize idle_bytes;
} ValleyGpuPool;

typedef struct {
  ValleyBackend parent;
  guint index;
  struct CUctx_st *context;
  gboolean owns_context;
  gint failure; /* atomic: the error that it was lost with */
  ValleyCudaBlas *blas;
  cudaStream_t copies; /* weights and pictures on their way */
  ValleyGpuPool pool;
  gint loading; /* atomic: weights may still be on their way */
  GMutex loader_lock;
  ValleyGpuSlot loader[2]; /* while the weights are loaded */
  guint next_loader;
} ValleyGpu;

#define VALLEY_GPU_SLOTS 8
#define VALLEY_GPU_SLOT_BYTES ((gsize) 256 << 10)

typedef struct {
  ValleyStream parent;
  ValleyGpuClock *clock;
  ValleyGpuSlot slots[VALLEY_GPU_SLOTS];
  guint next_slot;
} ValleyGpuStream;

static inline ValleyGpu *
valley_gpu (ValleyBackend *backend)
{
  return (ValleyGpu *) backend;
}

static inline ValleyGpuStream *
valley_gpu_stream (ValleyStream *stream)
{
  return (ValleyGpuStream *) stream;
}

static inline cudaStream_t
valley_gpu_cuda (ValleyStream *stream)
{
  return valley_gpu_stream (stream)->clock->stream;
}

/* ---- context.c ---- */

guint valley_gpu_count (GError **error);
/* Makes a context, or takes the one given. */
gboolean valley_gpu_context_init (ValleyGpu *gpu, gpointer given, GError **error);
void valley_gpu_context_clear (ValleyGpu *gpu);
/* The context becomes the thread's current one until leave, which brings the old one back. */
void valley_gpu_enter (ValleyGpu *gpu);
void valley_gpu_leave (ValleyGpu *gpu);
/* Whether @error stays: then every call fails from now on, and the backend is marked so. */
gboolean valley_gpu_check_lost (ValleyGpu *gpu, int error);
/* Sets @error for the failed call that gave @code. */
void valley_gpu_set_error (ValleyGpu *gpu, int code, const char *what, GError **error);

/* ---- memory.c ---- */

void valley_gpu_pool_init (ValleyGpu *gpu);
void valley_gpu_pool_clear (ValleyGpu *gpu);
/* Gives the driver back what is idle. */
void valley_gpu_pool_trim (ValleyGpu *gpu);
/* The same where @error says that there is no memory: whether to try once more. */
gboolean valley_gpu_make_room (ValleyGpu *gpu, int error);
ValleyMemory *valley_gpu_memory_new (ValleyBackend *backend, gsize bytes);
void valley_gpu_memory_free (ValleyBackend *backend, ValleyMemory *memory);
gboolean valley_gpu_memory_info (ValleyBackend *backend, gsize *available, gsize *total);
/* Not from the pool: of exactly this size, used by every stream. */
ValleyMemory *valley_gpu_memory_new_weight (ValleyGpu *gpu, gsize bytes);
/* Before @stream uses @memory: it waits for whoever did before. */
int valley_gpu_memory_use (ValleyGpuStream *stream, ValleyMemory *memory);

/* ---- clock.c ---- */

ValleyGpuClock *valley_gpu_clock_new (gboolean urgent, int *error);
ValleyGpuClock *valley_gpu_clock_ref (ValleyGpuClock *clock);
void valley_gpu_clock_unref (ValleyGpuClock *clock);
/* The stream ends, when its work is done; @lost: its context went with it. */
void valley_gpu_clock_stop (ValleyGpuClock *clock, gboolean lost);
/* The clock whose stream this thread used last, or NULL; borrowed. */
ValleyGpuClock *valley_gpu_clock_current (void);
void valley_gpu_clock_make_current (ValleyGpuClock *clock);
/* What @clock's stream is given from now on runs after what @other's was given so far. */
int valley_gpu_clock_wait (ValleyGpuClock *clock, ValleyGpuClock *other);
/* The host waits. */
int valley_gpu_clock_finish (ValleyGpuClock *clock);

/* ---- stream.c ---- */

ValleyStream *valley_gpu_stream_new (ValleyBackend *backend, GError **error);
ValleyStream *valley_gpu_urgent_stream_new (ValleyBackend *backend, GError **error);
void valley_gpu_stream_free (ValleyStream *stream);
gboolean valley_gpu_stream_wait (ValleyStream *stream, GError **error);

/* An operation on @tensors: FALSE when it must do nothing.  Those that are NULL or empty have no
 * data in @matrices. */
gboolean valley_gpu_begin (ValleyStream *stream, ValleyCudaMatrix *matrices,
                           const ValleyTensor *const *tensors, gsize n);
#define VALLEY_GPU_BEGIN(stream, matrices, ...)                                                    \
  valley_gpu_begin (stream, matrices, (const ValleyTensor *const[]){ __VA_ARGS__ },                \
                    G_N_ELEMENTS (((const ValleyTensor *const[]){ __VA_ARGS__ })))
/* @error: CUDA's for what was enqueued; @what: the operation, for messages. */
void valley_gpu_end (ValleyStream *stream, const char *what, int error);
ValleyCudaType valley_gpu_type (ValleyDType dtype);

/* ---- staging.c: between the host and the device ---- */

int valley_gpu_slot_init (ValleyGpuSlot *slot, gsize bytes);
void valley_gpu_slot_clear (ValleyGpuSlot *slot);

void valley_gpu_upload (ValleyStream *stream, const ValleyTensor *dst, const float *src);
void valley_gpu_upload_ids (ValleyStream *stream, const ValleyTensor *dst, const gint32 *src);
void valley_gpu_upload_pages (ValleyStream *stream, const ValleyTensor *table, gsize first,
                              ValleyMemory *const *pages, gsize n);
/* Large ones arrive by the copies' stream, while the stream works. */
void valley_gpu_upload_bytes (ValleyStream *stream, ValleyMemory *dst, gconstpointer src,
                              gsize bytes);
gboolean valley_gpu_download (ValleyStream *stream, const ValleyTensor *src, float *dst,
                              GError **error);
gboolean valley_gpu_download_bytes (ValleyStream *stream, ValleyMemory *src, gsize offset,
                                    gpointer dst, gsize bytes, GError **error);

/* The next part of @rows x @cols elements, packed, that fits into @most elements: whole rows, or
 * a piece of one.  Starts with all zeros; FALSE at the end. */
typedef struct {
  gsize row, col, n_rows, n_cols;
} ValleyGpuPiece;
gboolean valley_gpu_next_piece (ValleyGpuPiece *piece, gsize rows, gsize cols, gsize most);

/* ---- weights.c ---- */

gboolean valley_gpu_load_matrix (ValleyBackend *backend, ValleyTensor *out, const void *host,
                                 ValleyDType dtype, gsize rows, gsize cols);
gboolean valley_gpu_load_vector (ValleyBackend *backend, ValleyTensor *out, const void *host,
                                 ValleyDType dtype, gsize rows, gsize cols);
gboolean valley_gpu_load_bias (ValleyBackend *backend, ValleyTensor *out, const void *host,
                               ValleyDType dtype, gsize rows, gsize cols);
/* Waits for the weights that are on their way, which whoever uses one has to do first. */
int valley_gpu_finish_loading (ValleyGpu *gpu);

/* ---- graph.c ---- */

gboolean valley_gpu_graph_begin (ValleyStream *stream);
ValleyGraph *valley_gpu_graph_end (ValleyStream *stream);
void valley_gpu_graph_run (ValleyStream *stream, ValleyGraph *graph);
void valley_gpu_graph_free (ValleyBackend *backend, ValleyGraph *graph);

/* ---- table.c ---- */

extern const ValleyOps valley_gpu_ops;

/* ---- pictures.c ---- */

extern const ValleyPictureOps valley_gpu_picture_ops;

/* ---- wing.c ---- */

void valley_gpu_backend_free (ValleyBackend *backend);
