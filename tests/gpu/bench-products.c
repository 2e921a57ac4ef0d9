/* bench-products.c - what a device can do, and how near the wing's products come: the rate at
 * which it copies memory, cuBLASLt's own time for Valley2's matrix products with whatever
 * algorithm it likes, and the wing's time for the same, side by side, as JSON.
 *
 *     bench-products [SHRINK]
 *
 * SHRINK divides every size, for the stand-in (tests/cuda-emu), where times mean nothing.
 * Figures, not a test; but results are compared, so that nothing is timed that is wrong.
 * SPDX-License-Identifier: Apache-2.0 */
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"

#define CHECK(call)                                                                                \
  do {                                                                                             \
    int error_ = (int) (call);                                                                     \
    if (error_ != 0) {                                                                             \
      fprintf (stderr, "bench-products: %s: error %d\n", #call, error_);                           \
      exit (1);                                                                                    \
    }                                                                                              \
  } while (0)

#define WORKSPACE_BYTES ((gsize) 32 << 20)
#define COPY_BYTES ((gsize) 2 << 30)
/* Weights are read from memory and not from a cache, as they are in a model of many layers. */
#define ROTATED_BYTES ((gsize) 256 << 20)
#define MAX_COPIES 16
#define MIN_MS 20.0
#define ROUNDS 5

typedef struct {
  const char *stage;
  gsize m, k, n, times; /* of these in the stage */
  ValleyCudaRole role;
  gboolean mixed;
} Product;

#define PROMPT VALLEY_CUDA_PROMPT, FALSE
#define GENERATED VALLEY_CUDA_GENERATED, FALSE

/* Valley2, 7 B: a frame of 1080p, its rows appended, a prompt of 2,048 rows, a token. */
static const Product products[] = {
  { "frame", 729, 588, 1152, 1, PROMPT },
  { "frame", 729, 1152, 1152, 4 * 27, PROMPT },
  { "frame", 729, 1152, 4304, 27, PROMPT },
  { "frame", 729, 4304, 1152, 27, PROMPT },
  { "frame", 196, 10368, 1152, 1, PROMPT },
  { "frame", 196, 1152, 32000, 1, PROMPT },
  { "frame", 196, 32000, 3584, 1, VALLEY_CUDA_PROMPT, TRUE },
  { "frame", 720, 1176, 1280, 1, PROMPT },
  { "frame", 720, 1280, 3840, 32, PROMPT },
  { "frame", 720, 1280, 1280, 32, PROMPT },
  { "frame", 720, 1280, 5120, 32, PROMPT },
  { "frame", 720, 5120, 1280, 32, PROMPT },
  { "frame", 180, 5120, 5120, 1, PROMPT },
  { "frame", 180, 5120, 3584, 1, PROMPT },
  { "append", 379, 3584, 3584, 2 * 28, PROMPT },
  { "append", 379, 3584, 512, 2 * 28, PROMPT },
  { "append", 379, 3584, 18944, 2 * 28, PROMPT },
  { "append", 379, 18944, 3584, 28, PROMPT },
  { "prefill", 2048, 3584, 3584, 2 * 28, PROMPT },
  { "prefill", 2048, 3584, 512, 2 * 28, PROMPT },
  { "prefill", 2048, 3584, 18944, 2 * 28, PROMPT },
  { "prefill", 2048, 18944, 3584, 28, PROMPT },
  { "token", 1, 3584, 3584 + 2 * 512, 28, GENERATED }, /* of one row, what goes together */
  { "token", 1, 3584, 3584, 28, GENERATED },
  { "token", 1, 3584, 2 * 18944, 28, GENERATED },
  { "token", 1, 18944, 3584, 28, GENERATED },
  { "token", 1, 3584, 151679, 1, GENERATED },
};

static cudaStream_t stream;
static gsize shrink = 1;

/* ---- time ---- */

typedef void (*Work) (gpointer data, guint turn);

static double
run_for_ms (Work work, gpointer data, guint n)
{
  gint64 start = g_get_monotonic_time ();

  for (guint i = 0; i < n; i++)
    work (data, i);
  CHECK (cudaStreamSynchronize (stream));
  return (double) (g_get_monotonic_time () - start) / 1000.0;
}

static gint
compare_doubles (gconstpointer a, gconstpointer b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

/* Of one, the median of a few rounds that are long enough for the clock and the launches. */
static double
time_ms (Work work, gpointer data)
{
  double once = run_for_ms (work, data, 3) / 3, ms[ROUNDS];
  guint n = shrink > 1 ? 1 : (guint) CLAMP (MIN_MS / MAX (once, 1e-3), 1, 2000);
  guint rounds = shrink > 1 ? 1 : ROUNDS;

  for (guint i = 0; i < rounds; i++)
    ms[i] = run_for_ms (work, data, n) / n;
  qsort (ms, rounds, sizeof *ms, compare_doubles);
  return ms[rounds / 2];
}

/* ---- matrices ---- */

static gsize
row_elements (gsize cols)
{
  return (cols + 7) / 8 * 8;
}

/* bf16 numbers of both signs around 1/32: zeros would be faster than real ones. */
static void
fill (void *device, gsize elements)
{
  static guint16 pattern[1 << 16];
  static guint32 state = 1;

  for (gsize i = 0; i < G_N_ELEMENTS (pattern); i++) {
    state = state * 1664525u + 1013904223u;
    pattern[i] = (guint16) (0x3c80 | (state >> 9 & 0x80ff));
  }
  for (gsize at = 0; at < elements; at += G_N_ELEMENTS (pattern)) {
    CHECK (cudaMemcpyAsync ((guint16 *) device + at, pattern,
                            MIN (elements - at, G_N_ELEMENTS (pattern)) * 2, cudaMemcpyHostToDevice,
                            stream));
    CHECK (cudaStreamSynchronize (stream));
  }
}

static ValleyCudaMatrix
matrix_new (gsize rows, gsize cols)
{
  ValleyCudaMatrix m = { NULL, VALLEY_CUDA_BF16, rows, cols, row_elements (cols) };

  CHECK (cudaMalloc (&m.data, rows * m.stride * 2));
  fill (m.data, rows * m.stride);
  return m;
}

typedef struct {
  ValleyCudaMatrix x, y, reference;
  ValleyCudaMatrix w[MAX_COPIES];
  guint n_copies;
  gboolean mixed;
  ValleyCudaRole role;
  ValleyCudaBlas *blas;
  /* cuBLASLt's */
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, d;
  cublasLtMatmulAlgo_t algorithm;
  void *workspace;
} Run;

static void
run_init (Run *run, const Product *p)
{
  gsize m = MAX (p->m / shrink, 1), k = MAX (p->k / shrink / 8 * 8, 8);
  gsize n = MAX (p->n / shrink / 8 * 8, 8), bytes = row_elements (k) * n * 2;

  if (shrink == 1)
    k = p->k, n = p->n;
  run->role = p->role;
  run->mixed = p->mixed;
  run->x = matrix_new (m, k);
  run->y = matrix_new (m, n);
  run->reference = matrix_new (m, n);
  run->n_copies = shrink > 1 ? 2 : (guint) CLAMP (ROTATED_BYTES / bytes + 1, 2, MAX_COPIES);
  for (guint i = 0; i < run->n_copies; i++)
    run->w[i] = p->mixed ? matrix_new (k, n) : matrix_new (n, k);
}

static void
run_clear (Run *run)
{
  CHECK (cudaStreamSynchronize (stream)); /* cudaFree might not wait */
  CHECK (cudaFree (run->x.data));
  CHECK (cudaFree (run->y.data));
  CHECK (cudaFree (run->reference.data));
  for (guint i = 0; i < run->n_copies; i++)
    CHECK (cudaFree (run->w[i].data));
}

/* ---- the library, free in its choice ---- */

/* Matrices lie by columns there: y^T = w x^T. */
static void
describe (Run *run)
{
  const cublasOperation_t trans_w = run->mixed ? CUBLAS_OP_N : CUBLAS_OP_T, trans_x = CUBLAS_OP_N;
  const ValleyCudaMatrix *w = &run->w[0];

  CHECK (cublasLtMatmulDescCreate (&run->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  CHECK (cublasLtMatmulDescSetAttribute (run->desc, CUBLASLT_MATMUL_DESC_TRANSA, &trans_w,
                                         sizeof trans_w));
  CHECK (cublasLtMatmulDescSetAttribute (run->desc, CUBLASLT_MATMUL_DESC_TRANSB, &trans_x,
                                         sizeof trans_x));
  CHECK (cublasLtMatrixLayoutCreate (&run->a, CUDA_R_16BF, w->cols, w->rows, (gint64) w->stride));
  CHECK (cublasLtMatrixLayoutCreate (&run->b, CUDA_R_16BF, run->x.cols, run->x.rows,
                                     (gint64) run->x.stride));
  CHECK (cublasLtMatrixLayoutCreate (&run->d, CUDA_R_16BF, run->y.cols, run->y.rows,
                                     (gint64) run->y.stride));
}

static void
undescribe (Run *run)
{
  CHECK (cublasLtMatrixLayoutDestroy (run->a));
  CHECK (cublasLtMatrixLayoutDestroy (run->b));
  CHECK (cublasLtMatrixLayoutDestroy (run->d));
  CHECK (cublasLtMatmulDescDestroy (run->desc));
}

static void
multiply_by_library (gpointer data, guint turn)
{
  const Run *run = data;
  const float one = 1, zero = 0;

  CHECK (cublasLtMatmul (run->handle, run->desc, &one, run->w[turn % run->n_copies].data, run->a,
                         run->x.data, run->b, &zero, run->reference.data, run->d,
                         run->reference.data, run->d, &run->algorithm, run->workspace,
                         WORKSPACE_BYTES, stream));
}

/* The fastest of what it advises for this very shape; 0 where it has nothing. */
static double
time_library (Run *run)
{
  const guint64 workspace = WORKSPACE_BYTES;
  cublasLtMatmulHeuristicResult_t results[8] = { 0 };
  cublasLtMatmulPreference_t preference;
  cublasStatus_t status;
  double best = INFINITY;
  int n = 0;

  describe (run);
  CHECK (cublasLtMatmulPreferenceCreate (&preference));
  CHECK (cublasLtMatmulPreferenceSetAttribute (preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &workspace, sizeof workspace));
  status = cublasLtMatmulAlgoGetHeuristic (run->handle, run->desc, run->a, run->b, run->d, run->d,
                                           preference, shrink > 1 ? 1 : 4, results, &n);
  if (status != CUBLAS_STATUS_SUCCESS) {
    CHECK (status == CUBLAS_STATUS_NOT_SUPPORTED ? CUBLAS_STATUS_SUCCESS : status);
    n = 0;
  }
  for (int i = 0; i < n; i++) {
    if (results[i].state != CUBLAS_STATUS_SUCCESS)
      continue;
    run->algorithm = results[i].algo;
    best = MIN (best, time_ms (multiply_by_library, run));
  }
  CHECK (cublasLtMatmulPreferenceDestroy (preference));
  if (!isinf (best))
    multiply_by_library (run, 0); /* to compare with */
  undescribe (run);
  return isinf (best) ? 0 : best;
}

/* ---- the wing ---- */

static void
multiply_by_wing (gpointer data, guint turn)
{
  Run *run = data;
  const ValleyCudaMatrix *w = &run->w[turn % run->n_copies];

  if (run->mixed)
    CHECK (valley_cuda_mix (run->blas, &run->y, &run->x, w, stream));
  else
    CHECK (valley_cuda_linear (run->blas, &run->y, &run->x, w, NULL, VALLEY_CUDA_ACT_NONE,
                               run->role, stream));
}

static float
from_bf16 (guint16 bits)
{
  guint32 wide = (guint32) bits << 16;
  float x;

  memcpy (&x, &wide, sizeof x);
  return x;
}

/* |y - reference| / |reference|, of the whole matrix; not a number where one is in it. */
static double
difference (const Run *run)
{
  gsize bytes = run->y.rows * run->y.stride * 2;
  g_autofree guint16 *y = g_malloc (bytes), *reference = g_malloc (bytes);
  double far = 0, size = 0;

  CHECK (cudaMemcpyAsync (y, run->y.data, bytes, cudaMemcpyDeviceToHost, stream));
  CHECK (cudaMemcpyAsync (reference, run->reference.data, bytes, cudaMemcpyDeviceToHost, stream));
  CHECK (cudaStreamSynchronize (stream));
  for (gsize i = 0; i < run->y.rows; i++)
    for (gsize j = 0; j < run->y.cols; j++) {
      double a = from_bf16 (y[i * run->y.stride + j]);
      double b = from_bf16 (reference[i * run->y.stride + j]);

      far += (a - b) * (a - b);
      size += b * b;
    }
  return sqrt (far / size);
}

/* ---- memory ---- */

typedef struct {
  void *from, *to;
  gsize bytes;
} Copy;

static void
copy_once (gpointer data, guint turn)
{
  const Copy *copy = data;

  CHECK (cudaMemcpyAsync (copy->to, copy->from, copy->bytes, cudaMemcpyDeviceToDevice, stream));
}

/* Bytes read and written, in GB/s. */
static double
copy_rate (void)
{
  Copy copy = { .bytes = MAX (COPY_BYTES / shrink / shrink, 4096) };
  double ms;

  CHECK (cudaMalloc (&copy.from, copy.bytes));
  CHECK (cudaMalloc (&copy.to, copy.bytes));
  fill (copy.from, copy.bytes / 2);
  ms = time_ms (copy_once, &copy);
  CHECK (cudaFree (copy.from));
  CHECK (cudaFree (copy.to));
  return 2.0 * (double) copy.bytes / ms / 1e6;
}

/* ---- report ---- */

typedef struct {
  const char *name;
  double library_ms, wing_ms, gigabytes, tflop;
} Stage;

static void
print_stage (const Stage *stage, double rate)
{
  printf ("%s\n  {\"stage\": \"%s\", \"library_ms\": %.4f, \"wing_ms\": %.4f, \"tflop\": %.6f, "
          "\"weight_gb\": %.6f, \"share_of_library\": %.4f, \"share_of_memory\": %.4f}",
          stage->name == products[0].stage ? "" : ",", stage->name, stage->library_ms,
          stage->wing_ms, stage->tflop, stage->gigabytes, stage->library_ms / stage->wing_ms,
          stage->gigabytes / rate / (stage->wing_ms / 1e3));
}

static gboolean
measure (Run *run, const Product *p, Stage *stage, gboolean first)
{
  double library_ms, wing_ms, far;

  run_init (run, p);
  library_ms = time_library (run);
  wing_ms = time_ms (multiply_by_wing, run);
  multiply_by_wing (run, 0);
  far = library_ms > 0 ? difference (run) : 0;
  stage->library_ms += library_ms * (double) p->times;
  stage->wing_ms += wing_ms * (double) p->times;
  stage->gigabytes += 2e-9 * (double) (run->x.cols * run->y.cols * p->times);
  stage->tflop += 2e-12 * (double) (run->x.rows * run->x.cols * run->y.cols * p->times);
  printf ("%s\n  {\"stage\": \"%s\", \"m\": %zu, \"k\": %zu, \"n\": %zu, \"library_ms\": %.4f, "
          "\"wing_ms\": %.4f, \"difference\": %.6f}",
          first ? "" : ",", p->stage, run->x.rows, run->x.cols, run->y.cols, library_ms, wing_ms,
          far);
  run_clear (run);
  if (isnan (far) || far > 0.02)
    fprintf (stderr, "bench-products: %zu x %zu x %zu is off by %g\n", p->m, p->k, p->n, far);
  return !isnan (far) && far <= 0.02;
}

int
main (int argc, char **argv)
{
  Stage stages[G_N_ELEMENTS (products)] = { { NULL } };
  gsize n_stages = 0;
  Run run = { 0 };
  gboolean good = TRUE;
  double rate;

  if (argc > 1)
    shrink = MAX (strtoul (argv[1], NULL, 10), 1);
  CHECK (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  CHECK (cublasLtCreate (&run.handle));
  CHECK (cudaMalloc (&run.workspace, WORKSPACE_BYTES));
  CHECK (valley_cuda_blas_new (&run.blas));
  rate = copy_rate ();
  printf ("{\"copy_gb_per_second\": %.1f, \"products\": [", rate);
  for (gsize i = 0; i < G_N_ELEMENTS (products); i++) {
    if (n_stages == 0 || strcmp (stages[n_stages - 1].name, products[i].stage) != 0)
      stages[n_stages++].name = products[i].stage;
    good = measure (&run, &products[i], &stages[n_stages - 1], i == 0) && good;
  }
  printf ("],\n \"stages\": [");
  for (gsize i = 0; i < n_stages; i++)
    print_stage (&stages[i], rate);
  printf ("]}\n");
  valley_cuda_blas_free (run.blas);
  CHECK (cudaFree (run.workspace));
  CHECK (cublasLtDestroy (run.handle));
  CHECK (cudaStreamDestroy (stream));
  return good ? 0 : 1;
}
