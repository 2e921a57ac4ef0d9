/* ops.h - the GPU's operations on matrices in device memory, one function for each.
 *
 * What each means is said in model/backend.h, by the operation of the same name.  Functions
 * enqueue on @stream and return CUDA's error for that; the caller has checked shapes.
 * Arithmetic is f32 whatever the elements' type.  The bits of a row depend on its length alone,
 * never on the number of rows or on where the matrix lies.
 *
 * Plain C, and no CUDA header: the wing's C files and the tests include it, too.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

typedef enum { VALLEY_CUDA_F32, VALLEY_CUDA_BF16, VALLEY_CUDA_F16 } ValleyCudaType;

typedef struct {
  void *data;
  ValleyCudaType type;
  size_t rows, cols, stride; /* in elements */
} ValleyCudaMatrix;

/* The same as ValleyActivation. */
typedef enum {
  VALLEY_CUDA_ACT_NONE,
  VALLEY_CUDA_ACT_GELU_TANH,
  VALLEY_CUDA_ACT_GELU_ERF,
  VALLEY_CUDA_ACT_QUICK_GELU,
  VALLEY_CUDA_ACT_SILU
} ValleyCudaActivation;

/* The same as ValleyRole. */
typedef enum { VALLEY_CUDA_PROMPT, VALLEY_CUDA_GENERATED } ValleyCudaRole;

/* ---- blas.c: cuBLASLt and what has been chosen from it; one for each context ---- */

typedef struct _ValleyCudaBlas ValleyCudaBlas;

#define VALLEY_CUDA_MAX_LINEARS 3

/* y[M,N] = act (x[M,K] w + bias), w[N,K] or, where mixed, w[K,N] */
typedef struct {
  const ValleyCudaMatrix *y, *x, *w, *bias; /* @bias may be NULL */
  ValleyCudaActivation act;
  int mixed;
} ValleyCudaProduct;

/* Thread-safe but for these.  The context must be current. */
int valley_cuda_blas_new (ValleyCudaBlas **blas);
void valley_cuda_blas_free (ValleyCudaBlas *blas);
/* Before a stream is destroyed, when its work is done: frees its workspace. */
void valley_cuda_blas_forget_stream (ValleyCudaBlas *blas, struct CUstream_st *stream);

/* ---- linear.c ----
 *
 * @x and @w of any types, @bias (NULL: none) of @y's type or f32.  Prompt rows are fastest where
 * all of them have one type and strides and column offsets are multiples of 16 bytes; whether
 * they are decides the bits, too, and where a matrix lies otherwise does not.
 *
 * The first product of a shape must not be recorded into a graph: it measures. */

/* y[M,N] = act (x[M,K] w[N,K]^T + bias[1,N]) */
int valley_cuda_linear (ValleyCudaBlas *blas, const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                        const ValleyCudaMatrix *w, const ValleyCudaMatrix *bias,
                        ValleyCudaActivation act, ValleyCudaRole role, struct CUstream_st *stream);
/* Several products of one x, at most VALLEY_CUDA_MAX_LINEARS, without activation.  The weights of
 * generated rows are read by one kernel, with the bits that each product has alone.  Prompt rows'
 * products are one where w's rows, y's columns and the biases go on from one to the next. */
int valley_cuda_linears (ValleyCudaBlas *blas, const ValleyCudaProduct *products, int n,
                         ValleyCudaRole role, struct CUstream_st *stream);
/* y[M,N] = x[M,K] w[K,N] */
int valley_cuda_mix (ValleyCudaBlas *blas, const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                     const ValleyCudaMatrix *w, struct CUstream_st *stream);

/* ---- norm.cu: @x of @y's type, perhaps the same matrix, or f32; @delta (NULL: none) of @y's
 * type is added to @x first ---- */

/* @bias may be NULL. */
int valley_cuda_layer_norm (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                            const ValleyCudaMatrix *delta, const float *weight, const float *bias,
                            float eps, struct CUstream_st *stream);
int valley_cuda_rms_norm (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                          const ValleyCudaMatrix *delta, const float *weight, float eps,
                          struct CUstream_st *stream);

/* ---- rows.cu ---- */

/* Of any types; @x may have one row. */
int valley_cuda_add (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                     struct CUstream_st *stream);
/* Of one type; @y may be @gate. */
int valley_cuda_swiglu (const ValleyCudaMatrix *y, const ValleyCudaMatrix *gate,
                        const ValleyCudaMatrix *up, struct CUstream_st *stream);
int valley_cuda_softmax (const ValleyCudaMatrix *x, struct CUstream_st *stream);
int valley_cuda_one_hot (const ValleyCudaMatrix *x, struct CUstream_st *stream);
/* @y f32, the others of one type */
int valley_cuda_cosine (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                        const ValleyCudaMatrix *z, struct CUstream_st *stream);

/* ---- move.cu ---- */

/* y[i] = x[ids[i]], or x[i] where @ids (in device memory) is NULL; between any two types */
int valley_cuda_copy_rows (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, const int32_t *ids,
                           struct CUstream_st *stream);
/* y and x of one type */
int valley_cuda_im2col (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, size_t side,
                        struct CUstream_st *stream);
int valley_cuda_pixel_shuffle (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, size_t side,
                               size_t ratio, struct CUstream_st *stream);
int valley_cuda_average_pool (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                              size_t in_height, size_t in_width, size_t out_height,
                              size_t out_width, struct CUstream_st *stream);
int valley_cuda_max_pool (const ValleyCudaMatrix *y, const ValleyCudaMatrix *x, size_t in_height,
                          size_t in_width, size_t out_height, size_t out_width,
                          struct CUstream_st *stream);

/* ---- attention: softmax (scale q k^T) v, everything of one type ----
 *
 * Where head_dim is a multiple of 8 and the type has 16 bits, matrices lie at multiples of 16
 * bytes and so do their rows (else cudaErrorInvalidValue); head_dim is 256 at most.  Numbers must
 * be finite: keys that a row does not see are multiplied by 0, up to 63 of them. */

typedef struct {
  size_t n_heads, n_kv_heads, head_dim; /* q: n_heads * head_dim columns; k and v: n_kv_heads * */
  float scale;                          /* > 0 */
  size_t n_sequences; /* valley_cuda_attention: rows are so many equal parts, each for itself */
  size_t n_skipped;   /* valley_cuda_attend: rows that were appended before q's first */
} ValleyCudaAttention;

/* One layer's keys and values in pages.  Kernels read the table and @first when they run. */
typedef struct {
  void *const *table; /* the pages' addresses, in device memory */
  ValleyCudaType type;
  size_t page_rows, cols;         /* rows of @cols elements, a multiple of 64 of them */
  size_t keys, values, unrotated; /* where a page has them, in elements; SIZE_MAX: not */
  const int32_t *first;           /* in device memory: the first row that is being appended */
  size_t most_rows;               /* *first + what is appended is no more */
} ValleyCudaKv;

/* ---- rotary.cu: @cos and @sin are tables of f32; row i takes their row @positions[i] (in device
 * memory), or i where that is NULL ---- */

/* @x of any type */
int valley_cuda_rope (const ValleyCudaMatrix *x, const ValleyCudaMatrix *cos,
                      const ValleyCudaMatrix *sin, const int32_t *positions, size_t head_dim,
                      struct CUstream_st *stream);
/* @q (NULL: none), @k, @v and the pages of one type; @k is left as it came. */
int valley_cuda_rotate_append (const ValleyCudaMatrix *q, const ValleyCudaMatrix *k,
                               const ValleyCudaMatrix *v, const ValleyCudaMatrix *cos,
                               const ValleyCudaMatrix *sin, const int32_t *positions,
                               size_t head_dim, const ValleyCudaKv *kv, struct CUstream_st *stream);

/* y's rows become the pages' from @first on, of the plane that begins at @plane: one type. */
int valley_cuda_read_pages (const ValleyCudaMatrix *y, const ValleyCudaKv *kv, size_t plane,
                            size_t first, struct CUstream_st *stream);

/* Every row sees all keys of its sequence. */
int valley_cuda_attention (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q,
                           const ValleyCudaMatrix *k, const ValleyCudaMatrix *v,
                           const ValleyCudaAttention *a, struct CUstream_st *stream);
/* Row i sees keys 0 ... *first + n_skipped + i, its own included; pages without such keys are not
 * touched.  @workspace: valley_cuda_attend_bytes of device memory, until the kernels have run. */
int valley_cuda_attend (const ValleyCudaMatrix *out, const ValleyCudaMatrix *q,
                        const ValleyCudaKv *kv, const ValleyCudaAttention *a, ValleyCudaRole role,
                        void *workspace, struct CUstream_st *stream);
/* 0: none is needed */
size_t valley_cuda_attend_bytes (const ValleyCudaMatrix *q, const ValleyCudaKv *kv,
                                 const ValleyCudaAttention *a, ValleyCudaRole role);

/* ---- pick.cu, draw.cu ---- */

typedef struct {
  double temperature, top_p, repetition_penalty;
  size_t top_k;
  /* All in device memory, as in model/backend.h's ValleyPick; the first three may be NULL. */
  const uint32_t *seen;
  const int32_t *inputs;
  const uint32_t *allowed;
  size_t allowed_stride; /* in words; 0: one row for all */
  const uint32_t *draws; /* needed with a temperature */
} ValleyCudaPick;

/* Sets the bits of @ids among @n_words words; those outside count for nothing. */
int valley_cuda_see (uint32_t *seen, size_t n_words, const int32_t *ids, size_t n, size_t stride,
                     struct CUstream_st *stream);
/* Bytes that picking from so many rows wants to write to, aligned to 16. */
size_t valley_cuda_pick_scratch (size_t rows, size_t cols, const ValleyCudaPick *pick);
/* @picks: two words a row.  @logits: f32, at most 2^22 columns. */
int valley_cuda_pick (int32_t *picks, const ValleyCudaMatrix *logits, const ValleyCudaPick *pick,
                      void *scratch, struct CUstream_st *stream);

#ifdef __cplusplus
}
#endif
