/* blas.c - matrix products by cuBLASLt, pinned: for each shape of weights ONE algorithm, whatever
 * the number of rows.
 *
 * The library's advice changes with the number of rows, and with it the order of sums, so it is
 * asked once, for REFERENCE_ROWS rows.  K is never split.  Then an algorithm must show that it
 * takes every number of rows and gives a row the same bits among few and many: the library does
 * not promise that, so it is tried out on the device.  Where none does, there is none.
 * SPDX-License-Identifier: Apache-2.0 */
#include "product.h"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <glib.h>

/* A frame's or a question's rows: few enough for the towers' and a prompt's thousands to have
 * the same best algorithm, nearly always. */
#define REFERENCE_ROWS 512
#define MOST_ROWS 16384 /* in one call; more rows are several calls */
#define ALIGNMENT 16
#define WORKSPACE_BYTES ((size_t) 4 << 20)
#define MAX_CANDIDATES 16

/* What an algorithm is chosen for. */
typedef struct {
  gsize n, k;
  ValleyCudaType type, y_type;
  gboolean mixed;
  cublasLtEpilogue_t epilogue;
} Key;

typedef struct {
  Key key;
  gboolean usable;
  cublasLtMatmulAlgo_t algorithm;
} Choice;

typedef struct {
  cudaStream_t stream;
  void *data;
} Workspace;

struct _ValleyCudaBlas {
  cublasLtHandle_t handle;
  GMutex lock;        /* of what follows; held while an algorithm is chosen */
  GArray *choices;    /* Choice */
  GArray *workspaces; /* Workspace: streams run at the same time, so each has its own */
};

/* One call's descriptions; the library's matrices lie by columns, so everything is transposed:
 * A is the weights, B is x, D is y. */
typedef struct {
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, d;
} Call;

static int
cuda_error (cublasStatus_t status)
{
  switch (status) {
  case CUBLAS_STATUS_SUCCESS:
    return cudaSuccess;
  case CUBLAS_STATUS_ALLOC_FAILED:
    return cudaErrorMemoryAllocation;
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return cudaErrorNotSupported;
  default: /* what happened on the device before is the better answer */
    return cudaPeekAtLastError () != cudaSuccess ? (int) cudaPeekAtLastError () : cudaErrorUnknown;
  }
}

/* ---- descriptions ---- */

static cudaDataType
data_type (ValleyCudaType type)
{
  return type == VALLEY_CUDA_F32 ? CUDA_R_32F : type == VALLEY_CUDA_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

static void
call_clear (Call *call)
{
  if (call->d != NULL)
    cublasLtMatrixLayoutDestroy (call->d);
  if (call->b != NULL)
    cublasLtMatrixLayoutDestroy (call->b);
  if (call->a != NULL)
    cublasLtMatrixLayoutDestroy (call->a);
  if (call->desc != NULL)
    cublasLtMatmulDescDestroy (call->desc);
}

static cublasStatus_t
call_set (Call *call, cublasLtMatmulDescAttributes_t attribute, const void *value, gsize bytes)
{
  return cublasLtMatmulDescSetAttribute (call->desc, attribute, value, bytes);
}

static cublasStatus_t
describe_operation (Call *call, const Key *key, const void *bias)
{
  const cublasOperation_t transa = key->mixed ? CUBLAS_OP_N : CUBLAS_OP_T, transb = CUBLAS_OP_N;
  cublasStatus_t status = cublasLtMatmulDescCreate (&call->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);

  if (status == CUBLAS_STATUS_SUCCESS)
    status = call_set (call, CUBLASLT_MATMUL_DESC_TRANSA, &transa, sizeof transa);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = call_set (call, CUBLASLT_MATMUL_DESC_TRANSB, &transb, sizeof transb);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = call_set (call, CUBLASLT_MATMUL_DESC_EPILOGUE, &key->epilogue, sizeof key->epilogue);
  if (status == CUBLAS_STATUS_SUCCESS && (key->epilogue & CUBLASLT_EPILOGUE_BIAS) != 0)
    status = call_set (call, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
  return status;
}

static cublasStatus_t
call_init (Call *call, const Key *key, const void *bias, gsize rows, gsize w_stride, gsize x_stride,
           gsize y_stride)
{
  cudaDataType type = data_type (key->type);
  cublasStatus_t status;

  *call = (Call){ NULL, NULL, NULL, NULL };
  status = describe_operation (call, key, bias);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublasLtMatrixLayoutCreate (&call->a, type, key->mixed ? key->n : key->k,
                                         key->mixed ? key->k : key->n, (int64_t) w_stride);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublasLtMatrixLayoutCreate (&call->b, type, key->k, rows, (int64_t) x_stride);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublasLtMatrixLayoutCreate (&call->d, data_type (key->y_type), key->n, rows,
                                         (int64_t) y_stride);
  return status;
}

/* The layouts an algorithm is chosen for: the closest that are aligned, so that whose matrices
 * come first does not matter. */
static cublasStatus_t
call_init_typical (Call *call, const Key *key, gsize rows)
{
  gsize k = (key->k + 7) / 8 * 8, n = (key->n + 7) / 8 * 8;

  return call_init (call, key, GSIZE_TO_POINTER (ALIGNMENT), rows, key->mixed ? n : k, k, n);
}

/* ---- the products ---- */

static int
workspace_for (ValleyCudaBlas *blas, cudaStream_t stream, void **data)
{
  Workspace workspace = { stream, NULL };
  int error;

  for (guint i = 0; i < blas->workspaces->len; i++) {
    const Workspace *w = &g_array_index (blas->workspaces, Workspace, i);

    if (w->stream == stream) {
      *data = w->data;
      return cudaSuccess;
    }
  }
  error = cudaMalloc (&workspace.data, WORKSPACE_BYTES);
  if (error == cudaSuccess)
    g_array_append_val (blas->workspaces, workspace);
  *data = workspace.data;
  return error;
}

static int
multiply (ValleyCudaBlas *blas, const Choice *choice, const ValleyCudaProduct *p, void *workspace,
          cudaStream_t stream)
{
  const float one = 1, zero = 0;
  cublasStatus_t status;
  Call call;

  status = call_init (&call, &choice->key, p->bias != NULL ? p->bias->data : NULL, p->y->rows,
                      p->w->stride, p->x->stride, p->y->stride);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublasLtMatmul (blas->handle, call.desc, &one, p->w->data, call.a, p->x->data, call.b,
                             &zero, p->y->data, call.d, p->y->data, call.d, &choice->algorithm,
                             workspace, WORKSPACE_BYTES, stream);
  call_clear (&call);
  return cuda_error (status);
}

static ValleyCudaMatrix
rows_of (const ValleyCudaMatrix *m, gsize first, gsize n)
{
  ValleyCudaMatrix view = *m;

  view.data = (char *) m->data + first * m->stride * (m->type == VALLEY_CUDA_F32 ? 4 : 2);
  view.rows = n;
  return view;
}

static int
multiply_rows (ValleyCudaBlas *blas, const Choice *choice, const ValleyCudaProduct *p, gsize first,
               gsize n, void *workspace, cudaStream_t stream)
{
  ValleyCudaMatrix y = rows_of (p->y, first, n), x = rows_of (p->x, first, n);
  ValleyCudaProduct part = *p;

  part.y = &y;
  part.x = &x;
  return multiply (blas, choice, &part, workspace, stream);
}

/* ---- the choice ---- */

/* Every number of rows up to a tile's height, and what lies around larger ones. */
static gboolean
takes_any_rows (ValleyCudaBlas *blas, const Choice *choice)
{
  for (gsize rows = 1; rows <= MOST_ROWS; rows += rows < 128 ? 1 : rows / 2 - 1) {
    cublasLtMatmulHeuristicResult_t result;
    Call call;
    gboolean good = call_init_typical (&call, &choice->key, rows) == CUBLAS_STATUS_SUCCESS
                    && cublasLtMatmulAlgoCheck (blas->handle, call.desc, call.a, call.b, call.d,
                                                call.d, &choice->algorithm, &result)
                           == CUBLAS_STATUS_SUCCESS
                    && result.workspaceSize <= WORKSPACE_BYTES;

    call_clear (&call);
    if (!good)
      return FALSE;
  }
  return TRUE;
}

/* What algorithms are tried out on. */
typedef struct {
  ValleyCudaMatrix x, w, bias, whole, part;
  uint32_t *different;
} Trial;

#define TRIAL_ROWS 200

static void
trial_clear (Trial *trial)
{
  cudaFree (trial->x.data);
  cudaFree (trial->w.data);
  cudaFree (trial->bias.data);
  cudaFree (trial->whole.data);
  cudaFree (trial->part.data);
  cudaFree (trial->different);
}

static int
matrix_new (ValleyCudaMatrix *m, ValleyCudaType type, gsize rows, gsize cols)
{
  gsize stride = (cols + 7) / 8 * 8;

  *m = (ValleyCudaMatrix){ NULL, type, rows, cols, stride };
  return cudaMalloc (&m->data, rows * stride * (type == VALLEY_CUDA_F32 ? 4 : 2));
}

static int
trial_allocate (Trial *trial, const Key *key)
{
  int error = matrix_new (&trial->x, key->type, TRIAL_ROWS, key->k);

  if (error == cudaSuccess)
    error = matrix_new (&trial->w, key->type, key->mixed ? key->k : key->n,
                        key->mixed ? key->n : key->k);
  if (error == cudaSuccess)
    error = matrix_new (&trial->bias, key->y_type, 1, key->n);
  if (error == cudaSuccess)
    error = matrix_new (&trial->whole, key->y_type, TRIAL_ROWS, key->n);
  if (error == cudaSuccess)
    error = matrix_new (&trial->part, key->y_type, TRIAL_ROWS, key->n);
  if (error == cudaSuccess)
    error = cudaMalloc ((void **) &trial->different, sizeof *trial->different);
  return error;
}

static int
trial_init (Trial *trial, const Key *key, cudaStream_t stream)
{
  int error;

  *trial = (Trial){ .different = NULL };
  error = trial_allocate (trial, key);
  if (error == cudaSuccess)
    error = valley_cuda_fill_factor (&trial->x, FALSE, FALSE, stream);
  if (error == cudaSuccess)
    error = valley_cuda_fill_factor (&trial->w, key->mixed, TRUE, stream);
  if (error == cudaSuccess) /* 0 in every type */
    error = cudaMemsetAsync (trial->bias.data, 0, key->n * (key->y_type == VALLEY_CUDA_F32 ? 4 : 2),
                             stream);
  return error;
}

/* Multiplies some of the rows once more, by themselves, and compares. */
static int
try_rows (ValleyCudaBlas *blas, const Choice *choice, const ValleyCudaProduct *all, gsize first,
          gsize n, const Trial *trial, void *workspace, cudaStream_t stream)
{
  ValleyCudaMatrix x = rows_of (&trial->x, first, n), whole = rows_of (&trial->whole, first, n);
  ValleyCudaMatrix part = rows_of (&trial->part, 0, n);
  ValleyCudaProduct again = *all;
  int error;

  again.x = &x;
  again.y = &part;
  error = multiply (blas, choice, &again, workspace, stream);
  return error == cudaSuccess
             ? valley_cuda_count_different (&part, &whole, trial->different, stream)
             : error;
}

static int
try_out (ValleyCudaBlas *blas, const Choice *choice, const Trial *trial, void *workspace,
         cudaStream_t stream, gboolean *good)
{
  static const struct {
    gsize first, n;
  } parts[] = { { 0, 1 },  { 199, 1 }, { 7, 2 },    { 60, 9 },
                { 3, 16 }, { 90, 33 }, { 129, 64 }, { 1, 100 } };
  const ValleyCudaProduct all = { &trial->whole,        &trial->x,        &trial->w, &trial->bias,
                                  VALLEY_CUDA_ACT_NONE, choice->key.mixed };
  uint32_t different = 0;
  int error = multiply (blas, choice, &all, workspace, stream);

  if (error == cudaSuccess)
    error = cudaMemsetAsync (trial->different, 0, sizeof different, stream);
  for (guint i = 0; error == cudaSuccess && i < G_N_ELEMENTS (parts); i++)
    error = try_rows (blas, choice, &all, parts[i].first, parts[i].n, trial, workspace, stream);
  if (error == cudaSuccess)
    error = cudaMemcpyAsync (&different, trial->different, sizeof different, cudaMemcpyDeviceToHost,
                             stream);
  if (error == cudaSuccess)
    error = cudaStreamSynchronize (stream);
  *good = error == cudaSuccess && different == 0;
  return error;
}

static cublasStatus_t
prefer (cublasLtMatmulPreference_t preference)
{
  const uint64_t workspace = WORKSPACE_BYTES;
  const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = ALIGNMENT;
  cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute (
      preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);

  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublasLtMatmulPreferenceSetAttribute (
        preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions);
  for (guint i = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
       status == CUBLAS_STATUS_SUCCESS && i <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES; i++)
    status = cublasLtMatmulPreferenceSetAttribute (preference, i, &alignment, sizeof alignment);
  return status;
}

/* The library's advice, best first; *n is 0 where it has none. */
static int
ask (ValleyCudaBlas *blas, const Key *key, cublasLtMatmulHeuristicResult_t *results, int *n)
{
  cublasLtMatmulPreference_t preference = NULL;
  cublasStatus_t status = cublasLtMatmulPreferenceCreate (&preference);
  Call call = { NULL, NULL, NULL, NULL };

  *n = 0;
  if (status == CUBLAS_STATUS_SUCCESS)
    status = prefer (preference);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = call_init_typical (&call, key, REFERENCE_ROWS);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublasLtMatmulAlgoGetHeuristic (blas->handle, call.desc, call.a, call.b, call.d,
                                             call.d, preference, MAX_CANDIDATES, results, n);
  call_clear (&call);
  if (preference != NULL)
    cublasLtMatmulPreferenceDestroy (preference);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) {
    *n = 0;
    return cudaSuccess;
  }
  return cuda_error (status);
}

static gboolean
splits_k (const cublasLtMatmulAlgo_t *algorithm)
{
  int32_t n = 0;
  size_t written;

  return cublasLtMatmulAlgoConfigGetAttribute (algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &n,
                                               sizeof n, &written)
             == CUBLAS_STATUS_SUCCESS
         && n > 1;
}

static int
choose (ValleyCudaBlas *blas, Choice *choice, void *workspace, cudaStream_t stream)
{
  cublasLtMatmulHeuristicResult_t results[MAX_CANDIDATES];
  int n, error = ask (blas, &choice->key, results, &n);
  Trial trial = { .different = NULL };

  if (error == cudaSuccess && n > 0)
    error = trial_init (&trial, &choice->key, stream);
  for (int i = 0; error == cudaSuccess && !choice->usable && i < n; i++) {
    choice->algorithm = results[i].algo;
    if (results[i].state == CUBLAS_STATUS_SUCCESS && !splits_k (&results[i].algo)
        && takes_any_rows (blas, choice)) {
      error = try_out (blas, choice, &trial, workspace, stream, &choice->usable);
      if (error == cudaErrorNotSupported) /* this one only */
        error = cudaSuccess;
    }
  }
  if (error != cudaSuccess)
    cudaStreamSynchronize (stream); /* what was enqueued uses the trial's memory */
  trial_clear (&trial);
  if (error == cudaSuccess && !choice->usable)
    g_debug ("no algorithm of cuBLASLt's keeps a row's bits with weights of %" G_GSIZE_FORMAT
             " x %" G_GSIZE_FORMAT ": a slower kernel multiplies them",
             choice->key.n, choice->key.k);
  return error;
}

static int
refuse_capture (cudaStream_t stream)
{
  enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  int error = cudaStreamIsCapturing (stream, &status);

  return error != cudaSuccess                    ? error
         : status == cudaStreamCaptureStatusNone ? cudaSuccess
                                                 : cudaErrorStreamCaptureUnsupported;
}

static gboolean
keys_equal (const Key *a, const Key *b)
{
  return a->n == b->n && a->k == b->k && a->type == b->type && a->y_type == b->y_type
         && a->mixed == b->mixed && a->epilogue == b->epilogue;
}

/* The choice and the stream's workspace, each made at its first use. */
static int
prepare (ValleyCudaBlas *blas, Choice *choice, void **workspace, cudaStream_t stream)
{
  int error = workspace_for (blas, stream, workspace);

  for (guint i = 0; error == cudaSuccess && i < blas->choices->len; i++) {
    const Choice *known = &g_array_index (blas->choices, Choice, i);

    if (keys_equal (&known->key, &choice->key)) {
      *choice = *known;
      return cudaSuccess;
    }
  }
  if (error == cudaSuccess)
    error = refuse_capture (stream);
  if (error == cudaSuccess)
    error = choose (blas, choice, *workspace, stream);
  if (error == cudaSuccess)
    g_array_append_val (blas->choices, *choice);
  return error;
}

/* ---- for linear.c ---- */

/* What the library does while the sums are in registers.  Its GELU is coarse: good enough where
 * the result is rounded to 16 bits. */
static cublasLtEpilogue_t
epilogue_of (const ValleyCudaProduct *p)
{
  gboolean gelu = p->act == VALLEY_CUDA_ACT_GELU_TANH && p->y->type != VALLEY_CUDA_F32;

  if (p->bias == NULL)
    return gelu ? CUBLASLT_EPILOGUE_GELU : CUBLASLT_EPILOGUE_DEFAULT;
  if (p->bias->type != p->y->type || GPOINTER_TO_SIZE (p->bias->data) % ALIGNMENT != 0)
    return CUBLASLT_EPILOGUE_DEFAULT;
  return gelu ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
}

int
valley_cuda_blas_product (ValleyCudaBlas *blas, const ValleyCudaProduct *p, cudaStream_t stream,
                          int *taken)
{
  cublasLtEpilogue_t epilogue = epilogue_of (p);
  Choice choice = { .key = { p->y->cols, p->x->cols, p->w->type, p->y->type, p->mixed, epilogue } };
  gboolean bias_done
      = epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
  gboolean act_done = epilogue == CUBLASLT_EPILOGUE_GELU || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
  const ValleyCudaMatrix *bias = bias_done ? NULL : p->bias;
  ValleyCudaActivation act = act_done ? VALLEY_CUDA_ACT_NONE : p->act;
  void *workspace;
  int error;

  g_mutex_lock (&blas->lock);
  error = prepare (blas, &choice, &workspace, stream);
  g_mutex_unlock (&blas->lock);
  *taken = error == cudaSuccess && choice.usable;
  for (gsize row = 0; error == cudaSuccess && *taken && row < p->y->rows; row += MOST_ROWS)
    error = multiply_rows (blas, &choice, p, row, MIN (MOST_ROWS, p->y->rows - row), workspace,
                           stream);
  if (error == cudaSuccess && *taken && (bias != NULL || act != VALLEY_CUDA_ACT_NONE))
    error = valley_cuda_finish (p->y, bias, act, stream);
  return error;
}

int
valley_cuda_blas_new (ValleyCudaBlas **blas)
{
  ValleyCudaBlas *self = g_new0 (ValleyCudaBlas, 1);
  int error = cuda_error (cublasLtCreate (&self->handle));

  if (error != cudaSuccess) {
    g_free (self);
    return error;
  }
  g_mutex_init (&self->lock);
  self->choices = g_array_new (FALSE, FALSE, sizeof (Choice));
  self->workspaces = g_array_new (FALSE, FALSE, sizeof (Workspace));
  *blas = self;
  return cudaSuccess;
}

void
valley_cuda_blas_forget_stream (ValleyCudaBlas *blas, cudaStream_t stream)
{
  g_mutex_lock (&blas->lock);
  for (guint i = 0; i < blas->workspaces->len; i++) {
    Workspace workspace = g_array_index (blas->workspaces, Workspace, i);

    if (workspace.stream == stream) {
      cudaFree (workspace.data);
      g_array_remove_index_fast (blas->workspaces, i);
      break;
    }
  }
  g_mutex_unlock (&blas->lock);
}

void
valley_cuda_blas_free (ValleyCudaBlas *blas)
{
  if (blas == NULL)
    return;
  for (guint i = 0; i < blas->workspaces->len; i++)
    cudaFree (g_array_index (blas->workspaces, Workspace, i).data);
  g_array_unref (blas->workspaces);
  g_array_unref (blas->choices);
  cublasLtDestroy (blas->handle);
  g_mutex_clear (&blas->lock);
  g_free (blas);
}
