/* table.c - the backend's operations: tensors become matrices, and memory that another stream used
 * is waited for; what is done with them is behind ops.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

G_STATIC_ASSERT ((int) VALLEY_ACT_GELU_TANH == (int) VALLEY_CUDA_ACT_GELU_TANH
                 && (int) VALLEY_ACT_GELU_ERF == (int) VALLEY_CUDA_ACT_GELU_ERF
                 && (int) VALLEY_ACT_QUICK_GELU == (int) VALLEY_CUDA_ACT_QUICK_GELU
                 && (int) VALLEY_ACT_SILU == (int) VALLEY_CUDA_ACT_SILU);
G_STATIC_ASSERT ((int) VALLEY_ROWS_PROMPT == (int) VALLEY_CUDA_PROMPT
                 && (int) VALLEY_ROWS_GENERATED == (int) VALLEY_CUDA_GENERATED);
G_STATIC_ASSERT (VALLEY_MAX_LINEARS == VALLEY_CUDA_MAX_LINEARS);

static const ValleyCudaMatrix *
if_given (const ValleyCudaMatrix *m)
{
  return m->data != NULL ? m : NULL;
}

/* Most kernels take all of an operation's matrices for one type, whatever bytes they are. */
static int
refuse_mixture (const ValleyCudaMatrix *m, gsize n, ValleyCudaType type)
{
  for (gsize i = 0; i < n; i++)
    if (m[i].data != NULL && m[i].type != type)
      return cudaErrorInvalidValue;
  return cudaSuccess;
}

/* But norms take residual rows, too.  @m: y, x, and perhaps delta */
static int
refuse_norm (const ValleyCudaMatrix m[3])
{
  return m[1].type != VALLEY_CUDA_F32 ? refuse_mixture (m, 3, m[0].type)
                                      : refuse_mixture (&m[2], 1, m[0].type);
}

/* ---- products ---- */

static int
try_products (ValleyStream *stream, const ValleyCudaProduct *p, gsize n, ValleyRole role)
{
  ValleyCudaBlas *blas = valley_gpu (stream->backend)->blas;
  cudaStream_t on = valley_gpu_cuda (stream);

  if (n > 1)
    return valley_cuda_linears (blas, p, (int) n, (ValleyCudaRole) role, on);
  if (p->mixed)
    return valley_cuda_mix (blas, p->y, p->x, p->w, on);
  return valley_cuda_linear (blas, p->y, p->x, p->w, p->bias, p->act, (ValleyCudaRole) role, on);
}

/* Of one x, after valley_gpu_begin.  A shape's first product, and a stream's, take memory that is
 * not the pool's: where there is none, the pool gives up what is idle. */
static void
multiply (ValleyStream *stream, const char *name, const ValleyCudaProduct *products, gsize n,
          ValleyRole role)
{
  int error = try_products (stream, products, n, role);

  if (valley_gpu_make_room (valley_gpu (stream->backend), error))
    error = try_products (stream, products, n, role);
  valley_gpu_end (stream, name, error);
}

static void
linear (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w,
        const ValleyTensor *bias, ValleyActivation act, ValleyRole role)
{
  ValleyCudaMatrix m[4];
  ValleyCudaProduct product = { &m[0], &m[1], &m[2], NULL, (ValleyCudaActivation) act, FALSE };

  if (!VALLEY_GPU_BEGIN (stream, m, y, x, w, bias))
    return;
  product.bias = if_given (&m[3]);
  multiply (stream, "linear", &product, 1, role);
}

/* x, then each product's y, w and bias. */
static void
linears (ValleyStream *stream, const ValleyLinear *all, gsize n, const ValleyTensor *x,
         ValleyRole role)
{
  const ValleyTensor *tensors[1 + 3 * VALLEY_MAX_LINEARS] = { x };
  ValleyCudaMatrix m[G_N_ELEMENTS (tensors)];
  ValleyCudaProduct products[VALLEY_MAX_LINEARS];

  for (gsize i = 0; i < n; i++) {
    tensors[1 + 3 * i] = &all[i].y;
    tensors[2 + 3 * i] = &all[i].w;
    tensors[3 + 3 * i] = &all[i].bias;
  }
  if (!valley_gpu_begin (stream, m, tensors, 1 + 3 * n))
    return;
  for (gsize i = 0; i < n; i++)
    products[i] = (ValleyCudaProduct){
      .y = &m[1 + 3 * i], .x = &m[0], .w = &m[2 + 3 * i], .bias = if_given (&m[3 + 3 * i])
    };
  multiply (stream, "linears", products, n, role);
}

static void
mix (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w)
{
  ValleyCudaMatrix m[3];
  ValleyCudaProduct product = { .y = &m[0], .x = &m[1], .w = &m[2], .mixed = TRUE };

  if (VALLEY_GPU_BEGIN (stream, m, y, x, w))
    multiply (stream, "mix", &product, 1, VALLEY_ROWS_PROMPT);
}

/* ---- rows ---- */

static void
add (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x)
{
  ValleyCudaMatrix m[2];

  if (VALLEY_GPU_BEGIN (stream, m, y, x))
    valley_gpu_end (stream, "add", valley_cuda_add (&m[0], &m[1], valley_gpu_cuda (stream)));
}

static void
layer_norm (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
            const ValleyTensor *delta, const ValleyTensor *weight, const ValleyTensor *bias,
            float eps)
{
  ValleyCudaMatrix m[5];

  if (VALLEY_GPU_BEGIN (stream, m, y, x, delta, weight, bias))
    valley_gpu_end (stream, "layer_norm",
                    refuse_norm (m)
                        ?: valley_cuda_layer_norm (&m[0], &m[1], if_given (&m[2]), m[3].data,
                                                   m[4].data, eps, valley_gpu_cuda (stream)));
}

static void
rms_norm (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
          const ValleyTensor *delta, const ValleyTensor *weight, float eps)
{
  ValleyCudaMatrix m[4];

  if (VALLEY_GPU_BEGIN (stream, m, y, x, delta, weight))
    valley_gpu_end (stream, "rms_norm",
                    refuse_norm (m)
                        ?: valley_cuda_rms_norm (&m[0], &m[1], if_given (&m[2]), m[3].data, eps,
                                                 valley_gpu_cuda (stream)));
}

static void
rope (ValleyStream *stream, const ValleyTensor *x, const ValleyTensor *cos, const ValleyTensor *sin,
      const ValleyTensor *positions, gsize head_dim)
{
  ValleyCudaMatrix m[4];

  if (VALLEY_GPU_BEGIN (stream, m, x, cos, sin, positions))
    valley_gpu_end (
        stream, "rope",
        valley_cuda_rope (&m[0], &m[1], &m[2], m[3].data, head_dim, valley_gpu_cuda (stream)));
}

static void
swiglu (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *gate,
        const ValleyTensor *up)
{
  ValleyCudaMatrix m[3];

  if (VALLEY_GPU_BEGIN (stream, m, y, gate, up))
    valley_gpu_end (stream, "swiglu",
                    refuse_mixture (m, 3, m[0].type)
                        ?: valley_cuda_swiglu (&m[0], &m[1], &m[2], valley_gpu_cuda (stream)));
}

static void
softmax (ValleyStream *stream, const ValleyTensor *x)
{
  ValleyCudaMatrix m[1];

  if (VALLEY_GPU_BEGIN (stream, m, x))
    valley_gpu_end (stream, "softmax", valley_cuda_softmax (m, valley_gpu_cuda (stream)));
}

static void
one_hot (ValleyStream *stream, const ValleyTensor *x)
{
  ValleyCudaMatrix m[1];

  if (VALLEY_GPU_BEGIN (stream, m, x))
    valley_gpu_end (stream, "one_hot", valley_cuda_one_hot (m, valley_gpu_cuda (stream)));
}

static void
cosine (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *z)
{
  ValleyCudaMatrix m[3];

  if (VALLEY_GPU_BEGIN (stream, m, y, x, z))
    valley_gpu_end (stream, "cosine",
                    refuse_mixture (&m[2], 1, m[1].type)
                        ?: valley_cuda_cosine (&m[0], &m[1], &m[2], valley_gpu_cuda (stream)));
}

/* ---- attention ---- */

static ValleyCudaAttention
attention_of (const ValleyAttention *a)
{
  return (ValleyCudaAttention){ .n_heads = a->n_heads,
                                .n_kv_heads = a->n_kv_heads,
                                .head_dim = a->head_dim,
                                .scale = a->scale,
                                .n_sequences = a->n_sequences,
                                .n_skipped = a->n_skipped };
}

static ValleyCudaKv
kv_of (const ValleyKv *kv, const ValleyCudaMatrix *table, const ValleyCudaMatrix *first)
{
  return (ValleyCudaKv){ .table = table->data,
                         .type = valley_gpu_type (kv->dtype),
                         .page_rows = kv->page_rows,
                         .cols = kv->cols,
                         .keys = kv->keys,
                         .values = kv->values,
                         .unrotated = kv->unrotated,
                         .first = first->data,
                         .most_rows = kv->most_rows };
}

static void
rotate_append (ValleyStream *stream, const ValleyTensor *q, const ValleyTensor *k,
               const ValleyTensor *v, const ValleyTensor *cos, const ValleyTensor *sin,
               const ValleyTensor *positions, gsize head_dim, const ValleyKv *kv)
{
  ValleyCudaMatrix m[8];
  ValleyCudaKv pages;

  if (!VALLEY_GPU_BEGIN (stream, m, q, k, v, cos, sin, positions, &kv->table, &kv->first))
    return;
  pages = kv_of (kv, &m[6], &m[7]);
  valley_gpu_end (stream, "rotate_append",
                  refuse_mixture (m, 3, pages.type)
                      ?: valley_cuda_rotate_append (if_given (&m[0]), &m[1], &m[2], &m[3], &m[4],
                                                    m[5].data, head_dim, &pages,
                                                    valley_gpu_cuda (stream)));
}

static void
read_pages (ValleyStream *stream, const ValleyTensor *y, const ValleyKv *kv, gsize plane,
            gsize first)
{
  ValleyCudaMatrix m[3];
  ValleyCudaKv pages;

  if (!VALLEY_GPU_BEGIN (stream, m, y, &kv->table, &kv->first))
    return;
  pages = kv_of (kv, &m[1], &m[2]);
  valley_gpu_end (
      stream, "read_pages",
      refuse_mixture (m, 1, pages.type)
          ?: valley_cuda_read_pages (&m[0], &pages, plane, first, valley_gpu_cuda (stream)));
}

static void
attention (ValleyStream *stream, const ValleyTensor *out, const ValleyTensor *q,
           const ValleyTensor *k, const ValleyTensor *v, const ValleyAttention *a)
{
  ValleyCudaAttention shape = attention_of (a);
  ValleyCudaMatrix m[4];

  if (VALLEY_GPU_BEGIN (stream, m, out, q, k, v))
    valley_gpu_end (stream, "attention",
                    refuse_mixture (m, 4, m[0].type)
                        ?: valley_cuda_attention (&m[0], &m[1], &m[2], &m[3], &shape,
                                                  valley_gpu_cuda (stream)));
}

/* Device memory that one operation works in.  Freed at once: the pool gives it to nobody who does
 * not come after. */
static int
take_workspace (ValleyStream *stream, gsize bytes, ValleyMemory **workspace)
{
  *workspace = NULL;
  if (bytes == 0)
    return cudaSuccess;
  *workspace = valley_gpu_memory_new (stream->backend, bytes);
  return *workspace == NULL ? (int) cudaErrorMemoryAllocation
                            : valley_gpu_memory_use (valley_gpu_stream (stream), *workspace);
}

static void
attend (ValleyStream *stream, const ValleyTensor *out, const ValleyTensor *q, const ValleyKv *kv,
        const ValleyAttention *a)
{
  ValleyCudaAttention shape = attention_of (a);
  ValleyCudaRole role = (ValleyCudaRole) a->role;
  ValleyMemory *workspace = NULL;
  ValleyCudaMatrix m[4];
  ValleyCudaKv pages;
  int error;

  if (!VALLEY_GPU_BEGIN (stream, m, out, q, &kv->table, &kv->first))
    return;
  pages = kv_of (kv, &m[2], &m[3]);
  error = refuse_mixture (m, 2, pages.type)
              ?: take_workspace (stream, valley_cuda_attend_bytes (&m[1], &pages, &shape, role),
                                 &workspace);
  if (error == cudaSuccess)
    error
        = valley_cuda_attend (&m[0], &m[1], &pages, &shape, role,
                              workspace != NULL ? workspace->data : NULL, valley_gpu_cuda (stream));
  valley_gpu_memory_free (stream->backend, workspace);
  valley_gpu_end (stream, "attend", error);
}

/* ---- moving ---- */

static void
copy (ValleyStream *stream, const ValleyTensor *dst, const ValleyTensor *src)
{
  ValleyCudaMatrix m[2];

  if (VALLEY_GPU_BEGIN (stream, m, dst, src))
    valley_gpu_end (stream, "copy",
                    valley_cuda_copy_rows (&m[0], &m[1], NULL, valley_gpu_cuda (stream)));
}

static void
gather (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *ids)
{
  ValleyCudaMatrix m[3];

  if (VALLEY_GPU_BEGIN (stream, m, y, x, ids))
    valley_gpu_end (stream, "gather",
                    valley_cuda_copy_rows (&m[0], &m[1], m[2].data, valley_gpu_cuda (stream)));
}

static void
im2col (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, gsize side)
{
  ValleyCudaMatrix m[2];

  if (VALLEY_GPU_BEGIN (stream, m, y, x))
    valley_gpu_end (stream, "im2col",
                    refuse_mixture (m, 2, m[0].type)
                        ?: valley_cuda_im2col (&m[0], &m[1], side, valley_gpu_cuda (stream)));
}

static void
pixel_shuffle (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, gsize side,
               gsize ratio)
{
  ValleyCudaMatrix m[2];

  if (VALLEY_GPU_BEGIN (stream, m, y, x))
    valley_gpu_end (
        stream, "pixel_shuffle",
        refuse_mixture (m, 2, m[0].type)
            ?: valley_cuda_pixel_shuffle (&m[0], &m[1], side, ratio, valley_gpu_cuda (stream)));
}

static void
average_pool (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, gsize in_height,
              gsize in_width, gsize out_height, gsize out_width)
{
  ValleyCudaMatrix m[2];

  if (VALLEY_GPU_BEGIN (stream, m, y, x))
    valley_gpu_end (stream, "average_pool",
                    refuse_mixture (m, 2, m[0].type)
                        ?: valley_cuda_average_pool (&m[0], &m[1], in_height, in_width, out_height,
                                                     out_width, valley_gpu_cuda (stream)));
}

static void
max_pool (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, gsize in_height,
          gsize in_width, gsize out_height, gsize out_width)
{
  ValleyCudaMatrix m[2];

  if (VALLEY_GPU_BEGIN (stream, m, y, x))
    valley_gpu_end (stream, "max_pool",
                    refuse_mixture (m, 2, m[0].type)
                        ?: valley_cuda_max_pool (&m[0], &m[1], in_height, in_width, out_height,
                                                 out_width, valley_gpu_cuda (stream)));
}

/* ---- tokens ---- */

static void
pick (ValleyStream *stream, const ValleyTensor *picks, const ValleyTensor *logits,
      const ValleyPick *how)
{
  ValleyMemory *scratch;
  ValleyCudaMatrix m[6];
  ValleyCudaPick options;
  int error;

  if (!VALLEY_GPU_BEGIN (stream, m, picks, logits, how->seen, how->inputs, how->allowed,
                         how->draws))
    return;
  options = (ValleyCudaPick){ .temperature = how->temperature,
                              .top_p = how->top_p,
                              .repetition_penalty = how->repetition_penalty,
                              .top_k = how->top_k,
                              .seen = m[2].data,
                              .inputs = m[3].data,
                              .allowed = m[4].data,
                              .allowed_stride = m[4].rows > 1 ? m[4].stride : 0,
                              .draws = m[5].data };
  error = take_workspace (stream, valley_cuda_pick_scratch (m[1].rows, m[1].cols, &options),
                          &scratch);
  if (error == cudaSuccess)
    error = valley_cuda_pick (m[0].data, &m[1], &options, scratch != NULL ? scratch->data : NULL,
                              valley_gpu_cuda (stream));
  valley_gpu_memory_free (stream->backend, scratch);
  valley_gpu_end (stream, "pick", error);
}

static void
see (ValleyStream *stream, const ValleyTensor *seen, const ValleyTensor *ids)
{
  ValleyCudaMatrix m[2];

  if (VALLEY_GPU_BEGIN (stream, m, seen, ids))
    valley_gpu_end (stream, "see",
                    valley_cuda_see (m[0].data, m[0].rows, m[1].data, m[1].rows, m[1].stride,
                                     valley_gpu_cuda (stream)));
}

static gboolean
download_ids (ValleyStream *stream, const ValleyTensor *src, gint32 *dst, GError **error)
{
  return valley_gpu_download_bytes (stream, src->memory, src->offset * sizeof *dst, dst,
                                    src->rows * src->cols * sizeof *dst, error);
}

const ValleyOps valley_gpu_ops = {
  .name = "cuda",
  .pictures = &valley_gpu_picture_ops,
  .backend_free = valley_gpu_backend_free,
  .stream_new = valley_gpu_stream_new,
  .stream_free = valley_gpu_stream_free,
  .stream_wait = valley_gpu_stream_wait,
  .memory_new = valley_gpu_memory_new,
  .memory_free = valley_gpu_memory_free,
  .memory_info = valley_gpu_memory_info,
  .load_matrix = valley_gpu_load_matrix,
  .load_vector = valley_gpu_load_vector,
  .load_bias = valley_gpu_load_bias,
  .upload = valley_gpu_upload,
  .download = valley_gpu_download,
  .upload_ids = valley_gpu_upload_ids,
  .download_ids = download_ids,
  .upload_pages = valley_gpu_upload_pages,
  .copy = copy,
  .linear = linear,
  .linears = linears,
  .mix = mix,
  .add = add,
  .layer_norm = layer_norm,
  .rms_norm = rms_norm,
  .rope = rope,
  .rotate_append = rotate_append,
  .read_pages = read_pages,
  .swiglu = swiglu,
  .softmax = softmax,
  .one_hot = one_hot,
  .attention = attention,
  .attend = attend,
  .im2col = im2col,
  .pixel_shuffle = pixel_shuffle,
  .average_pool = average_pool,
  .max_pool = max_pool,
  .gather = gather,
  .cosine = cosine,
  .pick = pick,
  .see = see,
  .graph_begin = valley_gpu_graph_begin,
  .graph_end = valley_gpu_graph_end,
  .graph_run = valley_gpu_graph_run,
  .graph_free = valley_gpu_graph_free,
};
