/* backend.h - tensors, and the ONE table of operations that every device implements.
 *
 * A tensor is a matrix view: rows x cols elements of one type, `stride` elements from row
 * to row, inside memory that belongs to the backend.  Only upload and download touch
 * bytes from outside.  Operations enqueue on a stream (the CPU runs them at once); a
 * download waits.  An error is sticky: it is reported once, by the next download or
 * valley_stream_wait, and every operation in between does nothing.
 *
 * Exactness: the bits of a row never depend on how many rows are computed with it, nor on
 * the number of threads.  Window reuse rests on that.
 *
 * Stages (siglip.c, decoder.c ...) use only what is here, never each other.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef enum { VALLEY_F32, VALLEY_BF16, VALLEY_F16 } ValleyDType;

static inline gsize
valley_dtype_bytes (ValleyDType dtype)
{
  return dtype == VALLEY_F32 ? 4 : 2;
}

typedef struct _ValleyMemory ValleyMemory;
typedef struct _ValleyBackend ValleyBackend;
typedef struct _ValleyStream ValleyStream;
typedef struct _ValleyOps ValleyOps;

typedef struct {
  ValleyMemory *memory; /* NULL: no tensor (an optional bias, a failed allocation) */
  ValleyDType dtype;
  gsize offset;         /* in elements, from the memory's start */
  gsize rows, cols;
  gsize stride;         /* in elements, >= cols */
} ValleyTensor;

/* A device.  Created once per model; thread-safe. */
struct _ValleyBackend {
  const ValleyOps *ops;
  ValleyPrecision precision; /* F32 or BF16, never AUTO */
  gint lost;                 /* atomic: the device failed for good.  Every operation does nothing
                                and every wait reports VALLEY_ERROR_DEVICE from then on. */
};

/* One session's queue of operations on a backend.  Used by one thread at a time, except
 * `cancelled` (atomic): once set, operations do nothing and the next wait reports
 * VALLEY_ERROR_CANCELLED. */
struct _ValleyStream {
  const ValleyOps *ops;
  ValleyBackend *backend;
  gint cancelled;
  GError *error; /* sticky */
};

typedef enum {
  VALLEY_ACT_NONE,
  VALLEY_ACT_GELU_TANH,
  VALLEY_ACT_GELU_ERF,
  VALLEY_ACT_QUICK_GELU, /* x * sigmoid (1.702 x) */
  VALLEY_ACT_SILU
} ValleyActivation;

/* Prompt rows and generated rows each have ONE arithmetic; the role chooses it, never the
 * number of rows. */
typedef enum { VALLEY_ROWS_PROMPT, VALLEY_ROWS_GENERATED } ValleyRole;

typedef struct {
  gsize n_heads, n_kv_heads, head_dim; /* q: n_heads * head_dim columns; k, v: n_kv_heads * head_dim */
  float scale;
  gsize n_sequences;    /* the rows are this many equal sequences that do not see each other;
                           1 with causal */
  gboolean causal;      /* row i sees keys 0 ... first_position + i */
  gsize first_position;
  gsize page_rows;      /* 0: k and v are one tensor each.  Else, with causal, they are arrays of
                           as many tensors as the keys need, of so many rows (a multiple of 64)
                           but the last, which may be shorter; the bits are the same */
} ValleyAttention;

struct _ValleyOps {
  const char *name; /* "cpu" */
  void (*backend_free) (ValleyBackend *backend);

  ValleyStream *(*stream_new) (ValleyBackend *backend, GError **error);
  void (*stream_free) (ValleyStream *stream);
  /* Waits for the stream; FALSE fills @error with the sticky error and clears it. */
  gboolean (*stream_wait) (ValleyStream *stream, GError **error);

  /* NULL when there is not enough memory.  Contents are undefined. */
  ValleyMemory *(*memory_new) (ValleyBackend *backend, gsize bytes);
  void (*memory_free) (ValleyBackend *backend, ValleyMemory *memory);
  /* A weight matrix [rows, cols] from the mapped file: the CPU borrows the bytes (@host
   * outlives the tensor) unless its precision needs another type; a GPU copies them.  @host may
   * be unaligned: offsets count from the header's end, which old files did not pad. */
  gboolean (*load_matrix) (ValleyBackend *backend, ValleyTensor *out, const void *host,
                           ValleyDType dtype, gsize rows, gsize cols);
  /* Small weights (norms, biases, position tables): always ends as f32. */
  gboolean (*load_vector) (ValleyBackend *backend, ValleyTensor *out, const void *host,
                           ValleyDType dtype, gsize rows, gsize cols);

  /* Host side is f32, tightly packed, rows * cols. */
  void (*upload) (ValleyStream *, const ValleyTensor *dst, const float *src);
  gboolean (*download) (ValleyStream *, const ValleyTensor *src, float *dst, GError **error);
  /* dst = src, same shape; converts between types (round to nearest even). */
  void (*copy) (ValleyStream *, const ValleyTensor *dst, const ValleyTensor *src);

  /* Activations are f32 everywhere below; weights keep their file's type or bf16.
   * y and x may be the same tensor only where a line says "in place". */

  /* y[M,N] = act (x[M,K] w[N,K]^T + bias[1,N]); @bias may be NULL or empty */
  void (*linear) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                  const ValleyTensor *w, const ValleyTensor *bias, ValleyActivation act,
                  ValleyRole role);
  /* y[M,N] = x[M,K] w[K,N]: a table's rows mixed by weights (the visual vocabulary) */
  void (*mix) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
               const ValleyTensor *w);
  /* y[i] = table[ids[i]]; every id < table->rows, checked by the caller */
  void (*embed) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *table,
                 const gint32 *ids);
  /* y += x; x has y's shape or one row, which is added to each (in place) */
  void (*add) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x);
  /* Both may be in place.  @bias may be NULL. */
  void (*layer_norm) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                      const ValleyTensor *weight, const ValleyTensor *bias, float eps);
  void (*rms_norm) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                    const ValleyTensor *weight, float eps);
  /* Rotate-half in place: x[rows, heads*head_dim], cos/sin[rows, head_dim/2]; element d is
   * paired with d + head_dim/2. */
  void (*rope) (ValleyStream *, const ValleyTensor *x, const ValleyTensor *cos,
                const ValleyTensor *sin, gsize head_dim);
  /* y = silu (gate) * up; may be in place on gate */
  void (*swiglu) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *gate,
                  const ValleyTensor *up);
  /* each row, in place */
  void (*softmax) (ValleyStream *, const ValleyTensor *x);
  /* each row becomes one-hot at its first maximum, in place */
  void (*one_hot) (ValleyStream *, const ValleyTensor *x);
  /* out[rows, n_heads*head_dim] = softmax (scale q k^T) v; k and v may be f32 or bf16 */
  void (*attention) (ValleyStream *, const ValleyTensor *out, const ValleyTensor *q,
                     const ValleyTensor *k, const ValleyTensor *v, const ValleyAttention *a);
  /* Patches of a square grid for a 3x3 convolution, stride 2, pad 1: x[side*side, C] ->
   * y[out*out, C*9], columns (channel, ky, kx), out = (side + 1) / 2 */
  void (*im2col) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x, gsize side);
  /* x[side*side, C] -> y[(side/r)^2, C*r*r] in the order of Valley's pixel shuffle */
  void (*pixel_shuffle) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x, gsize side,
                         gsize ratio);
  /* Adaptive average pooling of a row-major grid: bins floor(i S/P) ... ceil((i+1) S/P) */
  void (*average_pool) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                        gsize in_height, gsize in_width, gsize out_height, gsize out_width);
  /* The same bins, their largest elements */
  void (*max_pool) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                    gsize in_height, gsize in_width, gsize out_height, gsize out_width);
  /* y[i] = x[rows[i]]: unpadding, reordering */
  void (*gather) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                  const gint32 *rows);
  /* y[i,0] = x[i] . z[i] / (|x[i]| |z[i]|), within -1 ... 1; 0 where one of them is all zeros */
  void (*cosine) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                  const ValleyTensor *z);
};

/* model/cpu/cpu.c.  @threads 0: one a core.  @strict: memory unreadable between operations. */
ValleyBackend *valley_cpu_backend_new (ValleyPrecision precision, guint threads, gboolean strict,
                                       GError **error);

/* ---- model/backend.c: what every backend shares ---- */

/* A fresh tensor; on failure the stream's error is set and out->memory is NULL (operations
 * then do nothing), so callers need not check one by one. */
void valley_tensor_init (ValleyStream *stream, ValleyTensor *out, ValleyDType dtype, gsize rows,
                         gsize cols);
/* Frees the memory (views must not be cleared) and zeroes the struct; empty is fine. */
void valley_tensor_clear (ValleyBackend *backend, ValleyTensor *tensor);
/* Views: borrowed, never cleared. */
ValleyTensor valley_tensor_rows (const ValleyTensor *tensor, gsize first, gsize n);
ValleyTensor valley_tensor_cols (const ValleyTensor *tensor, gsize first, gsize n);
/* The same elements with another row length; stride must equal cols. */
ValleyTensor valley_tensor_reshape (const ValleyTensor *tensor, gsize rows, gsize cols);
/* Sets the sticky error unless one is set. */
void valley_stream_fail (ValleyStream *stream, int code, const char *format, ...)
    G_GNUC_PRINTF (3, 4);
/* TRUE when an operation must do nothing (error or cancelled). */
gboolean valley_stream_stopped (ValleyStream *stream);
/* FALSE, with an error, once the stream's session was cancelled. */
gboolean valley_stream_check_cancelled (ValleyStream *stream, GError **error);
