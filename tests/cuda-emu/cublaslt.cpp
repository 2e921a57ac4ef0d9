/* cublaslt.cpp - matrix products as cuBLASLt would do them, in plain loops.
 *
 * An algorithm is how far the sums over K are taken before they are added up, and into how many
 * parts K is split; both change the last bits.
 * SPDX-License-Identifier: Apache-2.0 */
#include "cublasLt.h"
#include "emu_internal.h"
#include "number.h"

#include <algorithm>
#include <memory>
#include <vector>

#define BLOCK ((size_t) 64)     /* columns of the result at a time */
#define ALIGNMENT ((size_t) 16) /* what every algorithm here wants of addresses and strides */
#define N_ALGORITHMS 4

struct cublasLtContext {
  int unused;
};

struct EmuMatmulDesc {
  int transa, transb, epilogue;
  const void *bias;
};

struct EmuMatrixLayout {
  cudaDataType type;
  size_t rows, cols, ld;
};

struct EmuMatmulPreference {
  uint64_t workspace;
  uint32_t reductions, alignment;
};

/* What is in a cublasLtMatmulAlgo_t. */
typedef enum { ANY_ROWS, NO_FEW_ROWS, CUT_BY_WORK } Kind;
enum { AT_MAGIC, AT_TILE, AT_SPLIT, AT_KIND, AT_WORKSPACE };
#define MAGIC 0x76616c6c6579ull
#define FEW_ROWS 16

/* A product whose arguments have been checked. */
struct Product {
  EmuMatmulDesc desc;
  EmuMatrixLayout a_layout, b_layout, d_layout;
  const char *a, *b;
  char *d, *workspace;
  cublasLtMatmulAlgo_t algo;
};

/* ---- descriptions ---- */

cublasStatus_t
cublasLtCreate (cublasLtHandle_t *handle)
{
  *handle = new cublasLtContext ();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtDestroy (cublasLtHandle_t handle)
{
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescCreate (cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                          cudaDataType_t scale)
{
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  *desc = new EmuMatmulDesc{ CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL };
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescDestroy (cublasLtMatmulDesc_t desc)
{
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
static cublasStatus_t
set (T *field, const void *value, size_t bytes)
{
  if (bytes != sizeof *field)
    return CUBLAS_STATUS_INVALID_VALUE;
  memcpy (field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescSetAttribute (cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                const void *value, size_t bytes)
{
  switch (attribute) {
  case CUBLASLT_MATMUL_DESC_TRANSA:
    return set (&desc->transa, value, bytes);
  case CUBLASLT_MATMUL_DESC_TRANSB:
    return set (&desc->transb, value, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE:
    return set (&desc->epilogue, value, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
    return set (&desc->bias, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t
cublasLtMatrixLayoutCreate (cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                            uint64_t cols, int64_t ld)
{
  if (rows == 0 || cols == 0 || ld < (int64_t) rows)
    return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new EmuMatrixLayout{ type, rows, cols, (size_t) ld };
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatrixLayoutDestroy (cublasLtMatrixLayout_t layout)
{
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceCreate (cublasLtMatmulPreference_t *preference)
{
  *preference = new EmuMatmulPreference{ 0, CUBLASLT_REDUCTION_SCHEME_MASK, 256 };
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceDestroy (cublasLtMatmulPreference_t preference)
{
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceSetAttribute (cublasLtMatmulPreference_t preference,
                                      cublasLtMatmulPreferenceAttributes_t attribute,
                                      const void *value, size_t bytes)
{
  uint32_t alignment;

  switch (attribute) {
  case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
    return set (&preference->workspace, value, bytes);
  case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
    return set (&preference->reductions, value, bytes);
  default:
    if (set (&alignment, value, bytes) != CUBLAS_STATUS_SUCCESS)
      return CUBLAS_STATUS_INVALID_VALUE;
    preference->alignment = std::min (preference->alignment, alignment);
    return CUBLAS_STATUS_SUCCESS;
  }
}

static size_t
element_bytes (cudaDataType type)
{
  return type == CUDA_R_32F ? 4 : 2;
}

/* ---- algorithms ---- */

static bool
is_aligned (const EmuMatrixLayout *layout)
{
  return layout->ld * element_bytes (layout->type) % ALIGNMENT == 0;
}

static bool
shapes_agree (const EmuMatmulDesc *desc, const EmuMatrixLayout *a, const EmuMatrixLayout *b,
              const EmuMatrixLayout *d)
{
  size_t k = desc->transa == CUBLAS_OP_T ? a->rows : a->cols;

  return desc->transb == CUBLAS_OP_N && b->rows == k && b->cols == d->cols
         && d->rows == (desc->transa == CUBLAS_OP_T ? a->cols : a->rows) && a->type == b->type
         && (d->type == a->type || d->type == CUDA_R_32F);
}

static uint64_t
hash (uint64_t a, uint64_t b, uint64_t c)
{
  uint64_t h = a * 0x9e3779b97f4a7c15ull + b * 0xc2b2ae3d27d4eb4full + c * 0x165667b19e3779f9ull;

  return (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull >> 33;
}

/* The kind of the first algorithm follows from the weights' shape: a test's sizes meet all. */
static Kind
kind_of (size_t rank, uint64_t shape)
{
  if (rank == 0 && shape % 4 == 1)
    return CUT_BY_WORK;
  return rank <= 1 && shape % 4 == 2 ? NO_FEW_ROWS : ANY_ROWS;
}

cublasStatus_t
cublasLtMatmulAlgoGetHeuristic (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                cublasLtMatmulPreference_t preference, int requested,
                                cublasLtMatmulHeuristicResult_t results[], int *returned)
{
  uint64_t shape = hash (d->rows, b->rows, d->type), all = hash (shape, d->cols, 1);

  *returned = 0;
  if (!shapes_agree (desc, a, b, d) || c->ld != d->ld)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_aligned (a) || !is_aligned (b) || !is_aligned (d) || preference->alignment < ALIGNMENT
      || (shape % 8 == 7 && !emu_counts_only ()))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (preference->reductions != CUBLASLT_REDUCTION_SCHEME_NONE && requested > 0)
    results[(*returned)++].algo = { { MAGIC, 8ull << all % 4, 2 + all % 3, ANY_ROWS, 0 } };
  for (unsigned i = 0; i < N_ALGORITHMS && *returned < requested; i++)
    results[(*returned)++].algo
        = { { MAGIC, 8ull << (all + i) % 4, 1, kind_of (i, shape), i % 2 * 640 } };
  for (int i = 0; i < *returned; i++)
    cublasLtMatmulAlgoCheck (handle, desc, a, b, c, d, &results[i].algo, &results[i]);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulAlgoCheck (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                         cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                         cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                         const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
  cublasLtMatmulAlgo_t copy = *algo;
  bool good = shapes_agree (desc, a, b, d) && algo->data[AT_MAGIC] == MAGIC && is_aligned (a)
              && is_aligned (b) && is_aligned (d)
              && (algo->data[AT_KIND] != NO_FEW_ROWS || d->cols >= FEW_ROWS);

  *result = {
    copy, copy.data[AT_WORKSPACE], good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED, 1, {}
  };
  return result->state;
}

cublasStatus_t
cublasLtMatmulAlgoConfigGetAttribute (const cublasLtMatmulAlgo_t *algo,
                                      cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                      size_t bytes, size_t *written)
{
  uint32_t word = attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? (uint32_t) algo->data[AT_SPLIT]
                                                               : algo->data[AT_SPLIT] > 1;

  *written = sizeof word;
  if (bytes < sizeof word)
    return CUBLAS_STATUS_INVALID_VALUE;
  memcpy (value, &word, sizeof word);
  return CUBLAS_STATUS_SUCCESS;
}

/* ---- numbers ---- */

static float
load (const char *base, cudaDataType type, size_t i)
{
  if (type == CUDA_R_32F)
    return ((const float *) base)[i];
  if (type == CUDA_R_16BF)
    return valley_to_f32 (((const ValleyBf16 *) base)[i]);
  return valley_to_f32 (((const ValleyF16 *) base)[i]);
}

static void
store (char *base, cudaDataType type, size_t i, float x)
{
  if (type == CUDA_R_32F)
    ((float *) base)[i] = x;
  else if (type == CUDA_R_16BF)
    valley_from_f32 ((ValleyBf16 *) base + i, x);
  else
    valley_from_f32 ((ValleyF16 *) base + i, x);
}

static float
finish (const Product *p, size_t i, float x)
{
  if (p->desc.epilogue & CUBLASLT_EPILOGUE_BIAS)
    x += load ((const char *) p->desc.bias, p->d_layout.type, i);
  if (p->desc.epilogue & CUBLASLT_EPILOGUE_GELU)
    x = 0.5f * x * (1 + tanhf (0.7978845608f * (x + 0.044715f * x * x * x)));
  return x;
}

/* Columns @first ... of op (A), as f32, BLOCK side by side for each k. */
static void
pack (const Product *p, size_t first, size_t n, size_t k, float *packed)
{
  const EmuMatrixLayout *a = &p->a_layout;
  bool transposed = p->desc.transa == CUBLAS_OP_T;

  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j < k; j++)
      packed[j * BLOCK + i]
          = load (p->a, a->type, transposed ? (first + i) * a->ld + j : first + i + j * a->ld);
}

/* Adds what the products from @from to @to come to, summed up @tile by @tile. */
static void
add_products (float sums[BLOCK], const float *x, const float *packed, size_t from, size_t to,
              size_t tile)
{
  for (size_t start = from; start < to; start += tile) {
    float part[BLOCK] = { 0 };

    for (size_t k = start; k < std::min (start + tile, to); k++)
      for (size_t i = 0; i < BLOCK; i++)
        part[i] += x[k] * packed[k * BLOCK + i];
    for (size_t i = 0; i < BLOCK; i++)
      sums[i] += part[i];
  }
}

static void
multiply_row (const cublasLtMatmulAlgo_t *algo, size_t rows, float sums[BLOCK], const float *x,
              const float *packed, size_t k)
{
  size_t tile = algo->data[AT_TILE], n_parts = algo->data[AT_SPLIT];
  size_t part = (k + n_parts - 1) / n_parts, start = n_parts > 1 ? emu_random (n_parts) : 0;

  if (algo->data[AT_KIND] == CUT_BY_WORK)
    tile = 8u << (rows + 31) / 32 % 4;
  for (size_t i = 0; i < n_parts; i++) { /* atomically, whoever comes first */
    size_t from = std::min (k, (start + i) % n_parts * part);

    add_products (sums, x, packed, from, std::min (k, from + part), tile);
  }
}

/* In the place of products, where only counts are wanted. */
static void
clear_result (const Product *p)
{
  for (size_t j = 0; j < p->d_layout.cols; j++)
    memset (p->d + j * p->d_layout.ld * element_bytes (p->d_layout.type), 0,
            p->d_layout.rows * element_bytes (p->d_layout.type));
}

static void
multiply (const Product *p)
{
  size_t m = p->d_layout.rows, rows = p->d_layout.cols, k = p->b_layout.rows;
  std::vector<float> packed (k * BLOCK), x (rows * k);

  for (size_t j = 0; j < rows; j++)
    for (size_t i = 0; i < k; i++)
      x[j * k + i] = load (p->b, p->b_layout.type, j * p->b_layout.ld + i);
  for (size_t first = 0; first < m; first += BLOCK) {
    size_t n = std::min (BLOCK, m - first);

    pack (p, first, n, k, packed.data ());
    for (size_t j = 0; j < rows; j++) {
      float sums[BLOCK] = { 0 };

      multiply_row (&p->algo, rows, sums, &x[j * k], packed.data (), k);
      for (size_t i = 0; i < n; i++)
        store (p->d, p->d_layout.type, j * p->d_layout.ld + first + i,
               finish (p, first + i, sums[i]));
    }
  }
}

/* ---- work of a stream ---- */

static cudaError_t
check_operand (const char *name, const void *data, const EmuMatrixLayout *layout, bool write)
{
  size_t n = (layout->cols - 1) * layout->ld + layout->rows;
  const char *problem = emu_memory_range_problem (data, n * element_bytes (layout->type));

  if (problem != NULL)
    return emu_fail (cudaErrorIllegalAddress, "cublasLtMatmul: %s: %s", name, problem);
  if ((uintptr_t) data % ALIGNMENT != 0)
    return emu_fail (cudaErrorMisalignedAddress,
                     "cublasLtMatmul: %s is not aligned as the algorithm was told", name);
  return emu_order_range ("cublasLtMatmul", data, n * element_bytes (layout->type), write);
}

static cudaError_t
check_operands (const Product *p)
{
  EmuMatrixLayout bias = { p->d_layout.type, p->d_layout.rows, 1, p->d_layout.rows };
  EmuMatrixLayout workspace = { CUDA_R_32F, p->algo.data[AT_WORKSPACE] / 4, 1, 1 };
  cudaError_t error = check_operand ("A", p->a, &p->a_layout, false);

  if (error == cudaSuccess)
    error = check_operand ("B", p->b, &p->b_layout, false);
  if (error == cudaSuccess)
    error = check_operand ("D", p->d, &p->d_layout, true);
  if (error == cudaSuccess && p->desc.epilogue & CUBLASLT_EPILOGUE_BIAS)
    error = check_operand ("the bias", p->desc.bias, &bias, false);
  if (error == cudaSuccess && workspace.rows > 0)
    error = check_operand ("the workspace", p->workspace, &workspace, true);
  return error;
}

/* What the first half leaves all over the workspace the second must find there. */
static uint32_t
mark_of (const Product *p, uint32_t run)
{
  return (uint32_t) hash ((uint64_t) (uintptr_t) p, run, 3);
}

static cudaError_t
first_half (const Product *p, uint32_t *run)
{
  cudaError_t error = check_operands (p);
  std::string damage;

  if (error != cudaSuccess)
    return error;
  *run = emu_random (UINT32_MAX);
  emu_memory_open ();
  for (size_t i = 0; i < p->algo.data[AT_WORKSPACE] / 4; i++)
    ((uint32_t *) p->workspace)[i] = mark_of (p, *run);
  emu_memory_close (&damage);
  return cudaSuccess;
}

static cudaError_t
second_half (const Product *p, uint32_t run)
{
  cudaError_t error = check_operands (p);
  std::string damage;
  bool good = true;

  if (error != cudaSuccess)
    return error;
  emu_memory_open ();
  for (size_t i = 0; i < p->algo.data[AT_WORKSPACE] / 4; i++)
    good = good && ((uint32_t *) p->workspace)[i] == mark_of (p, run);
  if (good && emu_counts_only ())
    clear_result (p);
  else if (good)
    multiply (p);
  emu_memory_close (&damage);
  emu_watch_product ({ p->d_layout.cols, p->d_layout.rows, p->b_layout.rows,
                       element_bytes (p->b_layout.type), element_bytes (p->d_layout.type) });
  return good ? cudaSuccess
              : emu_fail (cudaErrorLaunchFailure,
                          "cublasLtMatmul: somebody else wrote to the workspace meanwhile");
}

cublasStatus_t
cublasLtMatmul (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                cudaStream_t stream)
{
  EmuMatmulPreference preference
      = { workspace_bytes, CUBLASLT_REDUCTION_SCHEME_MASK, (uint32_t) ALIGNMENT };
  cublasLtMatmulHeuristicResult_t result;
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  std::shared_ptr<Product> p;
  auto run = std::make_shared<uint32_t> (0);
  int n = 1;

  if (*(const float *) alpha != 1 || *(const float *) beta != 0 || c != d || c_layout != d_layout)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (algo != NULL)
    status = cublasLtMatmulAlgoCheck (handle, desc, a_layout, b_layout, c_layout, d_layout, algo,
                                      &result);
  else
    status = cublasLtMatmulAlgoGetHeuristic (handle, desc, a_layout, b_layout, c_layout, d_layout,
                                             &preference, 1, &result, &n);
  if (status != CUBLAS_STATUS_SUCCESS || n == 0)
    return status != CUBLAS_STATUS_SUCCESS ? status : CUBLAS_STATUS_NOT_SUPPORTED;
  if (result.workspaceSize > workspace_bytes)
    return CUBLAS_STATUS_INVALID_VALUE;
  p = std::make_shared<Product> (Product{ *desc, *a_layout, *b_layout, *d_layout, (const char *) a,
                                          (const char *) b, (char *) d, (char *) workspace,
                                          result.algo });
  if (emu_enqueue_work (stream, [=] { return first_half (p.get (), run.get ()); }) != cudaSuccess
      || emu_enqueue_work (stream, [=] { return second_half (p.get (), *run); }) != cudaSuccess)
    return CUBLAS_STATUS_EXECUTION_FAILED;
  return CUBLAS_STATUS_SUCCESS;
}
