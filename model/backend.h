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

/* I32: row numbers and positions, nothing that is computed with. */
typedef enum { VALLEY_F32, VALLEY_BF16, VALLEY_F16, VALLEY_I32 } ValleyDType;

static inline gsize
valley_dtype_bytes (ValleyDType dtype)
{
  return dtype == VALLEY_F32 || dtype == VALLEY_I32 ? 4 : 2;
}

typedef struct _ValleyMemory ValleyMemory;
typedef struct _ValleyBackend ValleyBackend;
typedef struct _ValleyStream ValleyStream;
typedef struct _ValleyOps ValleyOps;
typedef struct _ValleyGraph ValleyGraph;           /* operations recorded to be run again */
typedef struct _ValleyPictureOps ValleyPictureOps; /* picture_ops.h */

typedef struct {
  ValleyMemory *memory; /* NULL: no tensor (an optional bias, a failed allocation) */
  ValleyDType dtype;
  gsize offset; /* in elements, from the memory's start */
  gsize rows, cols;
  gsize stride; /* in elements, >= cols */
} ValleyTensor;

/* A device.  Created once per model; thread-safe. */
struct _ValleyBackend {
  const ValleyOps *ops;
  ValleyPrecision precision; /* never AUTO */
  ValleyDType activations;   /* of what products read and write; see ValleyOps */
  ValleyDType kv;            /* of cached keys and values */
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

/* One of several products of the same rows; @bias may be empty. */
#define VALLEY_MAX_LINEARS 3

typedef struct {
  ValleyTensor y, w, bias;
} ValleyLinear;

typedef struct {
  gsize n_heads, n_kv_heads,
      head_dim; /* q: n_heads * head_dim columns; k, v: n_kv_heads * head_dim */
  float scale;
  gsize n_sequences; /* attention: the rows are this many equal sequences that do not see each
                        other */
  gsize n_skipped;   /* attend: rows that were appended together with q's, before its first */
  ValleyRole role;   /* attend: which arithmetic; attention's is the prompt's */
} ValleyAttention;

/* One layer of a sequence's keys and values in pages, and where rows are being appended.  The CPU
 * reads @pages and @first_row; a GPU reads @table and @first, in its own memory and when it runs,
 * so that a recorded step serves every later one. */
typedef struct {
  ValleyMemory *const *pages; /* all of the sequence's */
  gsize n_pages;
  ValleyTensor table; /* I32 [n, 2], an address each: what upload_pages wrote; the CPU has none */
  ValleyDType dtype;
  gsize page_rows, cols;         /* a page's rows, a multiple of 64, of one layer and plane */
  gsize keys, values, unrotated; /* where they begin in a page, in elements; G_MAXSIZE: not kept */
  gsize first_row;               /* that is appended */
  ValleyTensor first;            /* I32 [1,1]: the same number, on the device */
  gsize most_rows; /* bounds first_row and the rows appended, wherever this runs again */
} ValleyKv;

/* How tokens are chosen, in the order of Hugging Face's filters.  Bits are 32 to a word, token 0's
 * the lowest.  Tensors may be NULL or empty but for `draws`; they are tightly packed. */
typedef struct {
  double temperature;          /* 0: the likeliest */
  gsize top_k;                 /* 0: off */
  double top_p;                /* 1: off */
  double repetition_penalty;   /* 1: off, and nothing counts as seen */
  const ValleyTensor *seen;    /* I32 [words, 1]: the tokens' bits */
  const ValleyTensor *inputs;  /* I32 [rows, 1]: row i has also seen inputs 0 ... i */
  const ValleyTensor *allowed; /* I32 [1 or rows, words]: only these tokens; NULL: all */
  const ValleyTensor *draws;   /* I32 [2 rows, 1], with a temperature: a random number of 53 bits
                                  for each row, its low word first */
} ValleyPick;

struct _ValleyOps {
  const char *name;                 /* "cpu" */
  const ValleyPictureOps *pictures; /* NULL: they stay on the host, which makes their patches */
  void (*backend_free) (ValleyBackend *backend);

  ValleyStream *(*stream_new) (ValleyBackend *backend, GError **error);
  void (*stream_free) (ValleyStream *stream);
  /* Waits for the stream; FALSE fills @error with the sticky error and clears it. */
  gboolean (*stream_wait) (ValleyStream *stream, GError **error);

  /* NULL when there is not enough memory.  Contents are undefined. */
  ValleyMemory *(*memory_new) (ValleyBackend *backend, gsize bytes);
  void (*memory_free) (ValleyBackend *backend, ValleyMemory *memory);
  /* Of the device, in bytes; NULL where memory is the host's.  FALSE: it does not say. */
  gboolean (*memory_info) (ValleyBackend *backend, gsize *available, gsize *total);
  /* A weight matrix [rows, cols] from the mapped file: the CPU borrows the bytes (@host
   * outlives the tensor) unless its precision needs another type; a GPU copies them.  @host may
   * be unaligned: offsets count from the header's end, which old files did not pad. */
  gboolean (*load_matrix) (ValleyBackend *backend, ValleyTensor *out, const void *host,
                           ValleyDType dtype, gsize rows, gsize cols);
  /* Small weights (norms, position tables): always ends as f32. */
  gboolean (*load_vector) (ValleyBackend *backend, ValleyTensor *out, const void *host,
                           ValleyDType dtype, gsize rows, gsize cols);
  /* A bias of `linear`s whose results are activations.  A GPU gives it their type, as its products
   * add a bias by themselves only then; on the CPU it is f32. */
  gboolean (*load_bias) (ValleyBackend *backend, ValleyTensor *out, const void *host,
                         ValleyDType dtype, gsize rows, gsize cols);

  /* Host side is f32, tightly packed, rows * cols. */
  void (*upload) (ValleyStream *, const ValleyTensor *dst, const float *src);
  gboolean (*download) (ValleyStream *, const ValleyTensor *src, float *dst, GError **error);
  /* I32, one number a row. */
  void (*upload_ids) (ValleyStream *, const ValleyTensor *dst, const gint32 *src);
  /* I32, tightly packed on both sides. */
  gboolean (*download_ids) (ValleyStream *, const ValleyTensor *src, gint32 *dst, GError **error);
  /* Addresses of @n pages into @table's rows from @first on.  NULL where @table is not used. */
  void (*upload_pages) (ValleyStream *, const ValleyTensor *table, gsize first,
                        ValleyMemory *const *pages, gsize n);
  /* dst = src, same shape; converts between types (round to nearest even). */
  void (*copy) (ValleyStream *, const ValleyTensor *dst, const ValleyTensor *src);

  /* Three kinds of numbers go through the operations below.  Weights: matrices in their file's or
   * the precision's type; vectors (norms, biases, tables that are added) in f32.  Sums that many
   * layers add to (the residual rows), rotary tables and logits: f32.  All else: the backend's
   * `activations`.  copy, gather, add, linear and mix take any mixture of these, norms residual
   * rows or activations for x; the others want one type for all, and a device may refuse what is
   * not.  All compute in f32.  y and x may be the same tensor only where a line says "in place". */

  /* y[M,N] = act (x[M,K] w[N,K]^T + bias[1,N]); x: activations; @bias may be NULL or empty */
  void (*linear) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                  const ValleyTensor *w, const ValleyTensor *bias, ValleyActivation act,
                  ValleyRole role);
  /* @n products of the same x, at most VALLEY_MAX_LINEARS, without activation.  Each y has the very
   * bits that its own `linear` gives, but for prompt rows where weights, biases and results lie side
   * by side in their memories: a GPU takes those for one matrix, and they must always be asked
   * for together.  Generated rows read all weights in one go. */
  void (*linears) (ValleyStream *, const ValleyLinear *linears, gsize n, const ValleyTensor *x,
                   ValleyRole role);
  /* y[M,N] = x[M,K] w[K,N]: a table's rows mixed by weights (the visual vocabulary) */
  void (*mix) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w);
  /* y += x; x has y's shape or one row, which is added to each (in place) */
  void (*add) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x);
  /* Where @delta is given, x += delta first, and x keeps the sum.  Both may be in place without it.
   * @bias and @delta may be NULL or empty. */
  void (*layer_norm) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                      const ValleyTensor *delta, const ValleyTensor *weight,
                      const ValleyTensor *bias, float eps);
  void (*rms_norm) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                    const ValleyTensor *delta, const ValleyTensor *weight, float eps);
  /* Rotate-half in place: x[rows, heads*head_dim] by rows of the tables cos/sin[n, head_dim/2];
   * element d is paired with d + head_dim/2.  Row i takes the tables' row @positions[i] (I32), or
   * i where that is NULL or empty. */
  void (*rope) (ValleyStream *, const ValleyTensor *x, const ValleyTensor *cos,
                const ValleyTensor *sin, const ValleyTensor *positions, gsize head_dim);
  /* k's rows, turned to @positions (I32, one for each), and v's become rows first ... of the pages,
   * k's also as they come where that is kept.  q (NULL or empty: none), of the last of these rows,
   * is turned in place.  k's contents are undefined afterwards. */
  void (*rotate_append) (ValleyStream *, const ValleyTensor *q, const ValleyTensor *k,
                         const ValleyTensor *v, const ValleyTensor *cos, const ValleyTensor *sin,
                         const ValleyTensor *positions, gsize head_dim, const ValleyKv *kv);
  /* y's rows (activations) become the pages' rows from @first on; @plane: where they begin in a
   * page, as in @kv. */
  void (*read_pages) (ValleyStream *, const ValleyTensor *y, const ValleyKv *kv, gsize plane,
                      gsize first);
  /* y = silu (gate) * up; may be in place on gate */
  void (*swiglu) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *gate,
                  const ValleyTensor *up);
  /* each row, in place */
  void (*softmax) (ValleyStream *, const ValleyTensor *x);
  /* each row becomes one-hot at its first maximum, in place */
  void (*one_hot) (ValleyStream *, const ValleyTensor *x);
  /* out[rows, n_heads*head_dim] = softmax (scale q k^T) v, every row with all keys of its sequence
   */
  void (*attention) (ValleyStream *, const ValleyTensor *out, const ValleyTensor *q,
                     const ValleyTensor *k, const ValleyTensor *v, const ValleyAttention *a);
  /* The same over pages: row i with keys 0 ... first + n_skipped + i, its own the last. */
  void (*attend) (ValleyStream *, const ValleyTensor *out, const ValleyTensor *q,
                  const ValleyKv *kv, const ValleyAttention *a);
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
  void (*max_pool) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x, gsize in_height,
                    gsize in_width, gsize out_height, gsize out_width);
  /* y[i] = x[ids[i]], converted: a table's rows, unpadding, reordering.  @ids (I32) has a number
   * below x->rows for each of y's rows: the caller sees to it. */
  void (*gather) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                  const ValleyTensor *ids);
  /* y[i,0] = x[i] . z[i] / (|x[i]| |z[i]|), within -1 ... 1; 0 where one of them is all zeros */
  void (*cosine) (ValleyStream *, const ValleyTensor *y, const ValleyTensor *x,
                  const ValleyTensor *z);
  /* A token for each row of logits (f32): picks (I32 [rows, 2]) gets its id and the bits of its
   * log-probability in f32, by the logits as they came.  The id is -1 where one of these is NaN or
   * infinite, or nothing finite is allowed. */
  void (*pick) (ValleyStream *, const ValleyTensor *picks, const ValleyTensor *logits,
                const ValleyPick *pick);
  /* Sets the bits of @ids (I32, one a row) in @seen; ids that have none there count for nothing. */
  void (*see) (ValleyStream *, const ValleyTensor *seen, const ValleyTensor *ids);

  /* Where the device can run many operations for the price of one; else NULL.  From begin to end
   * the stream's operations are recorded, not run: none of them may allocate, upload, download or
   * wait.  end gives NULL where that failed, or an operation did nothing; nothing has been run
   * then, and the same operations may be run directly.  run repeats them, with the same memory and
   * whatever it holds by then. */
  gboolean (*graph_begin) (ValleyStream *);
  ValleyGraph *(*graph_end) (ValleyStream *);
  void (*graph_run) (ValleyStream *, ValleyGraph *graph);
  void (*graph_free) (ValleyBackend *backend, ValleyGraph *graph);
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
/* The same of the backend's type for activations. */
void valley_activations_init (ValleyStream *stream, ValleyTensor *out, gsize rows, gsize cols);
/* A fresh I32 tensor of @n numbers. */
void valley_tensor_init_ids (ValleyStream *stream, ValleyTensor *out, const gint32 *ids, gsize n);
/* Views: borrowed, never cleared. */
ValleyTensor valley_tensor_rows (const ValleyTensor *tensor, gsize first, gsize n);
ValleyTensor valley_tensor_cols (const ValleyTensor *tensor, gsize first, gsize n);
/* The same elements with another row length; stride must equal cols. */
ValleyTensor valley_tensor_reshape (const ValleyTensor *tensor, gsize rows, gsize cols);
/* Whether an optional tensor is there. */
static inline gboolean
valley_tensor_given (const ValleyTensor *tensor)
{
  return tensor != NULL && tensor->memory != NULL;
}

/* The types that @precision means: on the CPU activations stay f32. */
void valley_precision_types (ValleyPrecision precision, gboolean is_cpu, ValleyDType *activations,
                             ValleyDType *kv);
/* Sets the sticky error unless one is set. */
void valley_stream_fail (ValleyStream *stream, int code, const char *format, ...)
    G_GNUC_PRINTF (3, 4);
/* `linears` by way of `linear`. */
void valley_linear_each (ValleyStream *stream, const ValleyLinear *linears, gsize n,
                         const ValleyTensor *x, ValleyRole role);
/* TRUE when an operation must do nothing (error or cancelled). */
gboolean valley_stream_stopped (ValleyStream *stream);
/* FALSE, with an error, once the stream's session was cancelled. */
gboolean valley_stream_check_cancelled (ValleyStream *stream, GError **error);
