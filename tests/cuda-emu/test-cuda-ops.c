/* test-cuda-ops.c - every kernel of cuda/ against the CPU backend's operation of the same name, on
 * odd sizes, in views of wider matrices whose other elements must not change.  Runs on the
 * stand-in for the CUDA runtime, so that what a GPU would let pass is found as well; without
 * VALLEY_CUDA_EMU it is a program for a GPU.
 *
 * With 16-bit elements the CPU is given the same rounded numbers, so results differ by one
 * rounding.  And whatever works row by row must give a row the same bits when it comes alone,
 * lying elsewhere.
 * SPDX-License-Identifier: Apache-2.0 */
#include "matrices.h"

#define MAX_MATRICES 5

static Device cpu;

/* ---- one operation on both sides ---- */

typedef struct {
  gsize head_dim, side, ratio, in_height, in_width, out_height, out_width;
  gboolean no_bias;
  const gint32 *ids;
  gint32 *device_ids;
} Arguments;

typedef struct {
  const char *name;
  int (*gpu) (const ValleyCudaMatrix *m, const Arguments *a);
  void (*cpu) (const ValleyTensor *t, const Arguments *a);
  double tolerance; /* with f32 */
  gboolean in_place, row_by_row;
} Operation;

typedef struct {
  ValleyDType type;
  gsize rows, cols;
  float *values; /* rounded to the type */
} Input;

/* The first matrix is the result. */
static Input
input (ValleyDType type, gsize rows, gsize cols, double scale)
{
  return (Input){ type, rows, cols, rounded_floats (type, rows * cols, scale) };
}

static float *
run_on_cpu (const Operation *op, const Input *inputs, gsize n, const Arguments *a)
{
  ValleyTensor t[MAX_MATRICES] = { 0 };
  float *result = g_new (float, inputs->rows * inputs->cols);
  g_autoptr (GError) error = NULL;

  for (gsize i = 0; i < n; i++) {
    valley_tensor_init (cpu.stream, &t[i], VALLEY_F32, inputs[i].rows, inputs[i].cols);
    OPS (cpu)->upload (cpu.stream, &t[i], inputs[i].values);
  }
  op->cpu (t, a);
  OPS (cpu)->download (cpu.stream, &t[0], result, &error);
  g_assert_no_error (error);
  for (gsize i = 0; i < n; i++)
    valley_tensor_clear (cpu.backend, &t[i]);
  return result;
}

/* Of rows @first ... of whatever has as many rows as the result; of other matrices, all. */
static gpointer
run_on_gpu (const Operation *op, const Input *inputs, gsize n, const Arguments *a, gsize first,
            gsize rows)
{
  Wide w[MAX_MATRICES] = { 0 };
  ValleyCudaMatrix m[MAX_MATRICES] = { 0 };
  Arguments of_part = *a;
  gpointer result;

  for (gsize i = 0; i < n; i++) {
    gboolean is_part = inputs[i].rows == inputs->rows;
    const float *values = inputs[i].values + (is_part ? first * inputs[i].cols : 0);

    w[i] = wide_new (inputs[i].type, is_part ? rows : inputs[i].rows, inputs[i].cols,
                     i == 0 && !op->in_place ? NULL : values);
    m[i] = w[i].view;
  }
  if (a->device_ids != NULL)
    of_part.device_ids += first;
  CHECK (op->gpu (m, &of_part));
  result = wide_read (&w[0]);
  for (gsize i = 1; i < n; i++)
    g_free (wide_read (&w[i])); /* nothing changed there */
  for (gsize i = 0; i < n; i++)
    wide_clear (&w[i]);
  return result;
}

static void
check_row_alone (const Operation *op, const Input *inputs, gsize n, const Arguments *a,
                 const char *together)
{
  gsize row = random_size ((gint) inputs->rows + 1) - 1;
  gsize bytes = inputs->cols * valley_dtype_bytes (inputs->type);
  g_autofree char *alone = run_on_gpu (op, inputs, n, a, row, 1);

  if (memcmp (alone, together + row * bytes, bytes) != 0)
    g_error ("%s: row %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT " x %" G_GSIZE_FORMAT
             " has other bits when it comes alone",
             op->name, row, inputs->rows, inputs->cols);
}

/* Takes the inputs' values. */
static void
check (const Operation *op, Input *inputs, gsize n, const Arguments *a)
{
  static const double tolerances[] = { 0, 1.0 / 256, 1.0 / 2048 };
  gsize n_elements = inputs->rows * inputs->cols;
  g_autofree float *want = run_on_cpu (op, inputs, n, a), *got = g_new (float, n_elements);
  g_autofree double *exact = g_new (double, n_elements);
  g_autofree gpointer elements = run_on_gpu (op, inputs, n, a, 0, inputs->rows);

  from_type (got, inputs->type, elements, n_elements);
  for (gsize i = 0; i < n_elements; i++)
    exact[i] = want[i];
  assert_close (op->name, got, exact, n_elements, op->tolerance + tolerances[inputs->type], 1);
  if (op->row_by_row)
    check_row_alone (op, inputs, n, a, elements);
  for (gsize i = 0; i < n; i++)
    g_free (inputs[i].values);
}

/* ---- the operations ---- */

static int
gpu_layer_norm (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_layer_norm (&m[0], &m[1], NULL, m[2].data, a->no_bias ? NULL : m[3].data,
                                 1e-3f, stream);
}

static void
cpu_layer_norm (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->layer_norm (cpu.stream, &t[0], &t[1], NULL, &t[2], a->no_bias ? NULL : &t[3], 1e-3f);
}

static int
gpu_rms_norm_in_place (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_rms_norm (&m[0], &m[0], NULL, m[1].data, 1e-3f, stream);
}

static void
cpu_rms_norm_in_place (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->rms_norm (cpu.stream, &t[0], &t[0], NULL, &t[1], 1e-3f);
}

/* x is written, too, so the delta comes from another matrix of the same numbers. */
static int
gpu_norm_of_sum (const ValleyCudaMatrix *m, const Arguments *a)
{
  ValleyCudaMatrix x = m[1];
  int error;

  CHECK (cudaMalloc (&x.data, x.rows * x.stride * 4));
  CHECK (valley_cuda_copy_rows (&x, &m[1], NULL, stream));
  if (a->no_bias)
    error = valley_cuda_rms_norm (&m[0], &x, &m[2], m[3].data, 1e-3f, stream);
  else
    error = valley_cuda_layer_norm (&m[0], &x, &m[2], m[3].data, m[4].data, 1e-3f, stream);
  CHECK (cudaStreamSynchronize (stream));
  CHECK (cudaFree (x.data));
  return error;
}

static void
cpu_norm_of_sum (const ValleyTensor *t, const Arguments *a)
{
  if (a->no_bias)
    OPS (cpu)->rms_norm (cpu.stream, &t[0], &t[1], &t[2], &t[3], 1e-3f);
  else
    OPS (cpu)->layer_norm (cpu.stream, &t[0], &t[1], &t[2], &t[3], &t[4], 1e-3f);
}

/* The sum that is left behind. */
static int
gpu_sum_of_norm (const ValleyCudaMatrix *m, const Arguments *a)
{
  ValleyCudaMatrix y = m[1];
  int error;

  CHECK (cudaMalloc (&y.data, y.rows * y.stride * 4));
  if (a->no_bias)
    error = valley_cuda_rms_norm (&y, &m[0], &m[1], m[2].data, 1e-3f, stream);
  else
    error = valley_cuda_layer_norm (&y, &m[0], &m[1], m[2].data, NULL, 1e-3f, stream);
  CHECK (cudaStreamSynchronize (stream));
  CHECK (cudaFree (y.data));
  return error;
}

static int
gpu_add (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_add (&m[0], &m[1], stream);
}

static void
cpu_add (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->add (cpu.stream, &t[0], &t[1]);
}

static int
gpu_swiglu (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_swiglu (&m[0], &m[1], &m[2], stream);
}

static void
cpu_swiglu (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->swiglu (cpu.stream, &t[0], &t[1], &t[2]);
}

static int
gpu_rope (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_rope (&m[0], &m[1], &m[2], a->device_ids, a->head_dim, stream);
}

static void
cpu_rope (const ValleyTensor *t, const Arguments *a)
{
  ValleyTensor positions = { 0 };

  if (a->ids != NULL)
    valley_tensor_init_ids (cpu.stream, &positions, a->ids, t[0].rows);
  OPS (cpu)->rope (cpu.stream, &t[0], &t[1], &t[2], &positions, a->head_dim);
  valley_tensor_clear (cpu.backend, &positions);
}

static int
gpu_softmax (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_softmax (&m[0], stream);
}

static void
cpu_softmax (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->softmax (cpu.stream, &t[0]);
}

static int
gpu_one_hot (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_one_hot (&m[0], stream);
}

static void
cpu_one_hot (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->one_hot (cpu.stream, &t[0]);
}

static int
gpu_cosine (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_cosine (&m[0], &m[1], &m[2], stream);
}

static void
cpu_cosine (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->cosine (cpu.stream, &t[0], &t[1], &t[2]);
}

static int
gpu_gather (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_copy_rows (&m[0], &m[1], a->device_ids, stream);
}

static void
cpu_gather (const ValleyTensor *t, const Arguments *a)
{
  ValleyTensor ids;

  if (a->ids == NULL) {
    OPS (cpu)->copy (cpu.stream, &t[0], &t[1]);
    return;
  }
  valley_tensor_init_ids (cpu.stream, &ids, a->ids, t[0].rows);
  OPS (cpu)->gather (cpu.stream, &t[0], &t[1], &ids);
  valley_tensor_clear (cpu.backend, &ids);
}

static int
gpu_im2col (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_im2col (&m[0], &m[1], a->side, stream);
}

static void
cpu_im2col (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->im2col (cpu.stream, &t[0], &t[1], a->side);
}

static int
gpu_pixel_shuffle (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_pixel_shuffle (&m[0], &m[1], a->side, a->ratio, stream);
}

static void
cpu_pixel_shuffle (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->pixel_shuffle (cpu.stream, &t[0], &t[1], a->side, a->ratio);
}

static int
gpu_average_pool (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_average_pool (&m[0], &m[1], a->in_height, a->in_width, a->out_height,
                                   a->out_width, stream);
}

static void
cpu_average_pool (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->average_pool (cpu.stream, &t[0], &t[1], a->in_height, a->in_width, a->out_height,
                           a->out_width);
}

static int
gpu_max_pool (const ValleyCudaMatrix *m, const Arguments *a)
{
  return valley_cuda_max_pool (&m[0], &m[1], a->in_height, a->in_width, a->out_height, a->out_width,
                               stream);
}

static void
cpu_max_pool (const ValleyTensor *t, const Arguments *a)
{
  OPS (cpu)->max_pool (cpu.stream, &t[0], &t[1], a->in_height, a->in_width, a->out_height,
                       a->out_width);
}

/* ---- the tests ---- */

static void
test_norms (void)
{
  static const Operation layer_norm
      = { "layer_norm", gpu_layer_norm, cpu_layer_norm, 2e-6, FALSE, TRUE };
  static const Operation rms_norm
      = { "rms_norm", gpu_rms_norm_in_place, cpu_rms_norm_in_place, 2e-6, TRUE, TRUE };

  for (guint i = 0; i < 30; i++) {
    gsize rows = random_size (9), cols = random_size (i % 5 == 0 ? 5000 : 300);
    ValleyDType type = i % 3, x_type = i % 2 ? VALLEY_F32 : type;
    Arguments a = { .no_bias = i / 3 % 2 };
    /* one value has no variance but what rounding makes of it */
    gsize centred_cols = MAX (cols, 8);
    Input l[] = { input (type, rows, centred_cols, 1), input (x_type, rows, centred_cols, 3),
                  input (VALLEY_F32, 1, centred_cols, 1), input (VALLEY_F32, 1, centred_cols, 1) };
    Input r[] = { input (type, rows, cols, 3), input (VALLEY_F32, 1, cols, 1) };

    check (&layer_norm, l, 4, &a);
    check (&rms_norm, r, 2, &a);
  }
}

/* x += delta, and the norm of that; the residual rows are f32 whatever the rest is. */
static void
test_norms_of_sums (void)
{
  static const Operation norm_of_sum
      = { "norm of sum", gpu_norm_of_sum, cpu_norm_of_sum, 2e-6, FALSE, TRUE };
  static const Operation sum_of_norm
      = { "sum of norm", gpu_sum_of_norm, cpu_add, 1e-7, TRUE, TRUE };

  for (guint i = 0; i < 30; i++) {
    gsize rows = 1 + random_size (9), cols = 8 + random_size (i % 5 == 0 ? 5000 : 300);
    ValleyDType type = i % 3;
    Arguments a = { .no_bias = i % 2 };
    Input n[] = { input (type, rows, cols, 1), input (VALLEY_F32, rows, cols, 3),
                  input (type, rows, cols, 2), input (VALLEY_F32, 1, cols, 1),
                  input (VALLEY_F32, 1, cols, 1) };
    Input s[] = { input (i % 4 == 0 ? type : VALLEY_F32, rows, cols, 3),
                  input (type, rows, cols, 2), input (VALLEY_F32, 1, cols, 1) };

    check (&norm_of_sum, n, 5, &a);
    check (&sum_of_norm, s, 3, &a);
  }
}

static void
test_elements (void)
{
  static const Operation add = { "add", gpu_add, cpu_add, 1e-7, TRUE, TRUE };
  static const Operation swiglu = { "swiglu", gpu_swiglu, cpu_swiglu, 1e-6, FALSE, TRUE };

  for (guint i = 0; i < 30; i++) {
    gsize rows = 1 + random_size (9), cols = random_size (i % 5 == 0 ? 3000 : 300);
    ValleyDType type = i % 3;
    Arguments a = { 0 };
    Input s[] = { input (type, rows, cols, 1), input (i / 3 % 3, i % 2 ? rows : 1, cols, 1) };
    Input g[]
        = { input (type, rows, cols, 1), input (type, rows, cols, 4), input (type, rows, cols, 1) };

    check (&add, s, 2, &a);
    check (&swiglu, g, 3, &a);
  }
}

static void
test_rope (void)
{
  static const Operation rope = { "rope", gpu_rope, cpu_rope, 1e-6, TRUE, TRUE };

  for (guint i = 0; i < 30; i++) {
    gsize rows = 1 + random_size (9), heads = random_size (8), half = random_size (70);
    gsize n_angles = i % 2 ? rows + random_size (20) : rows;
    g_autofree gint32 *positions = g_new (gint32, rows);
    Arguments a = { .head_dim = 2 * half };
    Input in[] = { input (i % 3, rows, heads * 2 * half, 1), input (VALLEY_F32, n_angles, half, 1),
                   input (VALLEY_F32, n_angles, half, 1) };

    for (gsize j = 0; j < rows; j++)
      positions[j] = g_rand_int_range (rng, 0, (gint32) n_angles);
    if (i % 2) {
      a.ids = positions;
      a.device_ids = to_device (positions, rows * sizeof (gint32));
    }
    check (&rope, in, 3, &a);
    CHECK (cudaFree (a.device_ids));
  }
}

static void
test_rows (void)
{
  static const Operation softmax = { "softmax", gpu_softmax, cpu_softmax, 1e-6, TRUE, TRUE };
  static const Operation one_hot = { "one_hot", gpu_one_hot, cpu_one_hot, 0, TRUE, TRUE };
  static const Operation cosine = { "cosine", gpu_cosine, cpu_cosine, 1e-7, FALSE, TRUE };
  Arguments a = { 0 };

  for (guint i = 0; i < 24; i++) {
    gsize rows = random_size (9), cols = random_size (i % 6 == 0 ? 12000 : 300);
    ValleyDType type = i / 2 % 3;
    Input s[] = { input (type, rows, cols, 4) };
    Input o[] = { input (type, rows, cols, 4) };
    Input c[] = { input (VALLEY_F32, rows, 1, 1), input (type, rows, cols, 1),
                  input (type, rows, cols, 3) };

    for (gsize j = 0; j < cols && i % 3 == 0; j++)
      o->values[j] = (float) (gint) o->values[j]; /* many equal ones: the first of them counts */
    if (i % 4 == 1)                               /* no maximum, or nothing but one */
      o->values[i % 8 == 1 ? 0 : cols - 1] = NAN;
    if (i % 4 == 2)
      for (gsize j = 0; j < cols; j++)
        o->values[j] = i % 8 == 2 ? -INFINITY : NAN;
    memcpy (c[2].values, c[1].values, cols * sizeof (float)); /* exactly 1 */
    if (rows > 1)
      memset (c[1].values + cols, 0, cols * sizeof (float)); /* 0, not NaN */
    check (&softmax, s, 1, &a);
    check (&one_hot, o, 1, &a);
    check (&cosine, c, 3, &a);
  }
}

/* Copies, tables and reorderings between all types; bits where no rounding is asked for. */
static void
test_copies (void)
{
  static const Operation op = { "copy_rows", gpu_gather, cpu_gather, 0, FALSE, FALSE };

  for (guint i = 0; i < 36; i++) {
    ValleyDType from = i % 3, to = i / 3 % 3;
    gsize rows = random_size (20), cols = random_size (1200), n = i % 2 ? random_size (30) : rows;
    g_autofree gint32 *ids = g_new (gint32, n);
    Input in[] = { input (to, n, cols, 1), input (from, rows, cols, 1) };
    Arguments a = { 0 };

    for (gsize j = 0; j < n; j++)
      ids[j] = g_rand_int_range (rng, 0, (gint32) rows);
    if (i % 2) {
      a.ids = ids;
      a.device_ids = to_device (ids, n * sizeof (gint32));
    }
    check (&op, in, 2, &a);
    CHECK (cudaFree (a.device_ids));
  }
}

/* Every 16-bit pattern to f32, and f32 around every rounding limit to both. */
static void
test_conversions (void)
{
  enum { N = 65536 };
  g_autofree guint16 *patterns = g_new (guint16, N);
  g_autofree float *want = g_new (float, N), *values = g_new (float, N);

  for (guint i = 0; i < N; i++) {
    guint32 bits = i << 16 | g_rand_int_range (rng, 0, 3) * 0x8000u
                   | (guint32) g_rand_int_range (rng, -1, 2) % 0x8000u;

    patterns[i] = (guint16) i;
    memcpy (&values[i], &bits, sizeof bits);
  }
  for (ValleyDType type = VALLEY_BF16; type <= VALLEY_F16; type++) {
    ValleyCudaMatrix narrow = { NULL, (ValleyCudaType) type, 256, 256, 256 };
    ValleyCudaMatrix wide = { NULL, VALLEY_CUDA_F32, 256, 256, 256 };
    g_autofree float *got = g_new (float, N);
    g_autofree guint16 *rounded = g_new (guint16, N), *want_rounded = g_new (guint16, N);

    CHECK (cudaMalloc (&narrow.data, N * sizeof *patterns));
    CHECK (cudaMalloc (&wide.data, N * sizeof *want));
    CHECK (cudaMemcpyAsync (narrow.data, patterns, N * sizeof *patterns, cudaMemcpyHostToDevice,
                            stream));
    CHECK (valley_cuda_copy_rows (&wide, &narrow, NULL, stream));
    CHECK (cudaMemcpyAsync (got, wide.data, N * sizeof *got, cudaMemcpyDeviceToHost, stream));
    CHECK (cudaMemcpyAsync (wide.data, values, N * sizeof *values, cudaMemcpyHostToDevice, stream));
    CHECK (valley_cuda_copy_rows (&narrow, &wide, NULL, stream));
    CHECK (cudaMemcpyAsync (rounded, narrow.data, N * sizeof *rounded, cudaMemcpyDeviceToHost,
                            stream));
    CHECK (cudaStreamSynchronize (stream));
    from_type (want, type, patterns, N);
    to_type (want_rounded, type, values, N);
    for (guint i = 0; i < N; i++) { /* which NaN is nobody's business */
      if (isnan (want[i]))
        g_assert_true (isnan (got[i]));
      else
        g_assert_cmpfloat (got[i], ==, want[i]);
      if (isnan (values[i]))
        g_assert_cmphex (rounded[i] & 0x7fff, >, type == VALLEY_BF16 ? 0x7f80 : 0x7c00);
      else
        g_assert_cmphex (rounded[i], ==, want_rounded[i]);
    }
    CHECK (cudaFree (narrow.data));
    CHECK (cudaFree (wide.data));
  }
}

static void
test_grids (void)
{
  static const Operation im2col = { "im2col", gpu_im2col, cpu_im2col, 0, FALSE, FALSE };
  static const Operation pixel_shuffle
      = { "pixel_shuffle", gpu_pixel_shuffle, cpu_pixel_shuffle, 0, FALSE, FALSE };
  static const Operation average_pool
      = { "average_pool", gpu_average_pool, cpu_average_pool, 1e-6, FALSE, FALSE };
  static const Operation max_pool = { "max_pool", gpu_max_pool, cpu_max_pool, 0, FALSE, FALSE };

  for (guint i = 0; i < 12; i++) {
    gsize side = i + 1, out = (side + 1) / 2, ratio = 1 + i % 3, cells = random_size (5);
    gsize channels = random_size (200);
    ValleyDType type = i % 3;
    Arguments c = { .side = side };
    Arguments s = { .side = ratio * cells, .ratio = ratio };
    Arguments p = { .in_height = random_size (20),
                    .in_width = random_size (20),
                    .out_height = random_size (20),
                    .out_width = random_size (20) };
    gsize in = p.in_height * p.in_width, pooled = p.out_height * p.out_width;
    Input to_cols[]
        = { input (type, out * out, channels * 9, 1), input (type, side * side, channels, 1) };
    Input shuffled[] = { input (type, cells * cells, channels * ratio * ratio, 1),
                         input (type, s.side * s.side, channels, 1) };
    Input average[] = { input (type, pooled, channels, 1), input (type, in, channels, 1) };
    Input max[] = { input (type, pooled, channels, 1), input (type, in, channels, 1) };

    check (&im2col, to_cols, 2, &c);
    check (&pixel_shuffle, shuffled, 2, &s);
    check (&average_pool, average, 2, &p);
    check (&max_pool, max, 2, &p);
  }
}

/* Nothing to do is no error, and an error of before is told. */
static void
test_nothing (void)
{
  ValleyCudaMatrix none = { NULL, VALLEY_CUDA_F32, 0, 5, 5 };

  CHECK (valley_cuda_add (&none, &none, stream));
  CHECK (valley_cuda_softmax (&none, stream));
  CHECK (valley_cuda_copy_rows (&none, &none, NULL, stream));
  CHECK (valley_cuda_rms_norm (&none, &none, NULL, NULL, 1e-6f, stream));
#ifdef VALLEY_CUDA_EMU
  none.rows = 1;
  g_assert_cmpint (valley_cuda_softmax (&none, NULL), ==, cudaErrorInvalidResourceHandle);
  g_assert_nonnull (emu_take_fault ());
#endif
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  compare_init ("cuda-ops");
#ifdef VALLEY_CUDA_EMU
  emu_set_seed (g_rand_int (rng));
#endif
  cpu = device_new (VALLEY_PRECISION_F32, 1, FALSE);
  CHECK (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  g_test_add_func ("/cuda-ops/norms", test_norms);
  g_test_add_func ("/cuda-ops/norms-of-sums", test_norms_of_sums);
  g_test_add_func ("/cuda-ops/elements", test_elements);
  g_test_add_func ("/cuda-ops/rope", test_rope);
  g_test_add_func ("/cuda-ops/rows", test_rows);
  g_test_add_func ("/cuda-ops/copies", test_copies);
  g_test_add_func ("/cuda-ops/conversions", test_conversions);
  g_test_add_func ("/cuda-ops/grids", test_grids);
  g_test_add_func ("/cuda-ops/nothing", test_nothing);
  status = g_test_run ();
  CHECK (cudaStreamDestroy (stream));
  device_clear (&cpu);
  return status;
}
