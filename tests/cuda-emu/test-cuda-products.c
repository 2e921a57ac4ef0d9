/* test-cuda-products.c - the matrix products of cuda/ against sums in double precision, and the
 * bits of a row among 1 ... 70 rows.  The stand-in's library changes the order of its sums
 * wherever it may, so the same test finds a product whose algorithm is not pinned.
 * SPDX-License-Identifier: Apache-2.0 */
#include "matrices.h"

#include <cublasLt.h>

#define MANY_ROWS 70

static ValleyCudaBlas *blas;

/* ---- one product ---- */

/* How to multiply; the matrices follow. */
typedef struct {
  ValleyDType x_type, w_type, y_type, bias_type;
  gsize rows, n, k;
  gboolean aligned, has_bias, mixed;
  ValleyCudaActivation act;
  ValleyCudaRole role;
} Case;

/* Rounded to their types, and as they lie in device memory. */
typedef struct {
  const Case *c;
  float *x, *w, *bias;
  Wide on_device[3];
} Factors;

/* Never aligned where not @aligned: that may change the way, and with it the bits. */
static Wide
place (const Case *c, ValleyDType type, gsize rows, gsize cols, const float *values)
{
  return c->aligned
             ? wide_new_aligned (type, rows, cols, values)
             : wide_new_at (type, rows, cols, values, random_size (3) - 1, 1, cols + 3 + cols % 2);
}

static Factors
factors_new (const Case *c)
{
  Factors f = { c,
                rounded_floats (c->x_type, c->rows * c->k, 1),
                rounded_floats (c->w_type, c->n * c->k, 2 / sqrt ((double) c->k)),
                rounded_floats (c->bias_type, c->n, 1),
                {} };

  f.on_device[0] = place (c, c->x_type, c->rows, c->k, f.x);
  f.on_device[1]
      = c->mixed ? place (c, c->w_type, c->k, c->n, f.w) : place (c, c->w_type, c->n, c->k, f.w);
  f.on_device[2] = wide_new_at (c->bias_type, 1, c->n, f.bias, 0, 0, c->n);
  return f;
}

static void
factors_clear (Factors *f)
{
  for (guint i = 0; i < G_N_ELEMENTS (f->on_device); i++) {
    g_free (wide_read (&f->on_device[i])); /* nothing changed there */
    wide_clear (&f->on_device[i]);
  }
  g_free (f->x);
  g_free (f->w);
  g_free (f->bias);
}

typedef int (*Multiply) (const Case *c, const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                         const ValleyCudaMatrix *w, const ValleyCudaMatrix *bias);

static int
multiply (const Case *c, const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
          const ValleyCudaMatrix *w, const ValleyCudaMatrix *bias)
{
  if (c->mixed)
    return valley_cuda_mix (blas, y, x, w, stream);
  return valley_cuda_linear (blas, y, x, w, bias, c->act, c->role, stream);
}

/* Rows @first ... of the product, tightly packed. */
static gpointer
product_rows (Multiply how, const Factors *f, gsize first, gsize rows)
{
  const Case *c = f->c;
  ValleyCudaMatrix x = f->on_device[0].view;
  Wide y = place (c, c->y_type, rows, c->n, NULL);
  gpointer result;

  x.data = (char *) x.data + first * x.stride * f->on_device[0].element;
  x.rows = rows;
  CHECK (how (c, &y.view, &x, &f->on_device[1].view, c->has_bias ? &f->on_device[2].view : NULL));
  result = wide_read (&y);
  wide_clear (&y);
  return result;
}

/* ---- what it should be ---- */

static double *
reference (const Factors *f)
{
  const Case *c = f->c;
  double *want = g_new (double, c->rows * c->n);

  for (gsize i = 0; i < c->rows; i++)
    for (gsize j = 0; j < c->n; j++) {
      double sum = c->has_bias ? f->bias[j] : 0;

      for (gsize k = 0; k < c->k; k++)
        sum += (double) f->x[i * c->k + k] * f->w[c->mixed ? k * c->n + j : j * c->k + k];
      want[i * c->n + j] = reference_activation (sum, (ValleyActivation) c->act);
    }
  return want;
}

static void
check_close (const Case *c)
{
  /* twice half a unit, where the sum, up to 4, was rounded before bias and activation */
  static const double tolerances[] = { 4e-6, 1.0 / 200, 1.0 / 1600 };
  Factors f = factors_new (c);
  g_autofree double *want = reference (&f);
  g_autofree gpointer elements = product_rows (multiply, &f, 0, c->rows);
  g_autofree float *got = g_new (float, c->rows * c->n);

  from_type (got, c->y_type, elements, c->rows * c->n);
  assert_close (c->mixed ? "mix" : "linear", got, want, c->rows * c->n, tolerances[c->y_type], 4);
  factors_clear (&f);
}

/* Some rows of MANY_ROWS by themselves, as many as there may be: the number of rows whose bits
 * are not what they are among all. */
static gsize
count_changed_rows (Multiply how, Case c)
{
  gsize n_changed = 0, bytes = c.n * valley_dtype_bytes (c.y_type);
  g_autofree char *whole = NULL;
  Factors f;

  c.rows = MANY_ROWS;
  f = factors_new (&c);
  whole = product_rows (how, &f, 0, MANY_ROWS);
  for (gsize rows = 1; rows < MANY_ROWS; rows++) {
    gsize first = random_size ((gint) (MANY_ROWS - rows + 2)) - 1;
    g_autofree char *part = product_rows (how, &f, first, rows);

    for (gsize i = 0; i < rows; i++)
      n_changed += memcmp (part + i * bytes, whole + (first + i) * bytes, bytes) != 0;
  }
  factors_clear (&f);
  return n_changed;
}

/* ---- the tests ---- */

/* Every combination of types, at random sizes. */
static void
test_close (void)
{
  for (guint i = 0; i < 108; i++) {
    Case c = { .x_type = i % 3,
               .w_type = i / 3 % 3,
               .y_type = i / 9 % 3,
               .rows = random_size (i % 4 == 0 ? 200 : 20),
               .n = random_size (i % 5 == 0 ? 300 : 100),
               .k = random_size (i % 7 == 0 ? 1500 : 200),
               .aligned = g_rand_boolean (rng),
               .has_bias = g_rand_boolean (rng),
               .mixed = g_rand_int_range (rng, 0, 4) == 0,
               .act = g_rand_int_range (rng, 0, 5),
               .role = g_rand_int_range (rng, 0, 2) };

    if (c.mixed) {
      c.has_bias = FALSE;
      c.act = VALLEY_CUDA_ACT_NONE;
    }
    c.bias_type = g_rand_boolean (rng) ? c.y_type : VALLEY_F32;
    check_close (&c);
  }
}

/* More rows than one call takes. */
static void
test_many_rows (void)
{
  for (guint i = 0; i < 3; i++) {
    Case c = { .x_type = i,
               .w_type = i,
               .y_type = i,
               .bias_type = i,
               .rows = 2 * 16384 + random_size (50),
               .n = 8,
               .k = 16,
               .aligned = TRUE,
               .has_bias = TRUE,
               .act = VALLEY_CUDA_ACT_SILU };

    check_close (&c);
  }
}

/* What the engine does all day: one type, aligned. */
static void
test_usual (void)
{
  for (guint i = 0; i < 60; i++) {
    ValleyDType type = i % 3;
    Case c = { .x_type = type,
               .w_type = type,
               .y_type = i % 4 == 0 ? VALLEY_F32 : type,
               .rows = random_size (i % 4 == 0 ? 400 : 40),
               .n = random_size (150),
               .k = random_size (i % 7 == 0 ? 3000 : 200),
               .aligned = TRUE,
               .has_bias = i % 2,
               .act = i / 6 % 5,
               .role = i / 3 % 2 };

    c.bias_type = c.y_type;
    check_close (&c);
  }
}

static Case
exact_case (guint i)
{
  ValleyDType type = (i + 1) % 3;

  return (Case){ .x_type = type,
                 .w_type = type,
                 .y_type = i % 4 == 0 ? VALLEY_F32 : type,
                 .bias_type = i % 4 == 0 ? VALLEY_F32 : type,
                 .n = 20 + random_size (60),
                 .k = 70 + random_size (130),
                 .aligned = i % 5 != 4,
                 .has_bias = i % 2,
                 .act = i % 3 == 0 ? VALLEY_CUDA_ACT_GELU_TANH : VALLEY_CUDA_ACT_NONE };
}

/* Sizes enough to meet every way and every kind of algorithm. */
static void
test_rows_keep_their_bits (void)
{
  for (guint i = 0; i < 24; i++) {
    Case c = exact_case (i);

    c.role = i % 3 == 2 ? VALLEY_CUDA_GENERATED : VALLEY_CUDA_PROMPT;
    c.mixed = i % 8 == 3;
    if (i % 12 == 2) { /* sums that several warps share */
      c.n = random_size (12);
      c.k = 260 + random_size (1000);
    }
    g_assert_cmpuint (count_changed_rows (multiply, c), ==, 0);
  }
}

/* Several products of one x, of other widths each, have the bits that each has alone, whether one
 * kernel does them or each goes its way. */
static void
check_together (guint i)
{
  gsize widths[VALLEY_CUDA_MAX_LINEARS], n = 1 + i % VALLEY_CUDA_MAX_LINEARS, element;
  Factors f[VALLEY_CUDA_MAX_LINEARS];
  Wide y[VALLEY_CUDA_MAX_LINEARS];
  ValleyCudaProduct products[VALLEY_CUDA_MAX_LINEARS];
  Case c[VALLEY_CUDA_MAX_LINEARS];

  for (gsize j = 0; j < n; j++) {
    c[j] = exact_case (i);
    c[j].act = VALLEY_CUDA_ACT_NONE;
    c[j].role = i % 4 == 3 ? VALLEY_CUDA_PROMPT : VALLEY_CUDA_GENERATED;
    c[j].k = c[0].k;
    c[j].rows = j == 0 ? random_size (20) : c[0].rows;
    c[j].has_bias = g_rand_boolean (rng);
    widths[j] = c[j].n = random_size (90);
    f[j] = factors_new (&c[j]);
    y[j] = place (&c[j], c[j].y_type, c[j].rows, widths[j], NULL);
    products[j] = (ValleyCudaProduct){ .y = &y[j].view,
                                       .x = &f[0].on_device[0].view,
                                       .w = &f[j].on_device[1].view,
                                       .bias = c[j].has_bias ? &f[j].on_device[2].view : NULL };
  }
  element = y[0].element;
  CHECK (valley_cuda_linears (blas, products, (int) n, c[0].role, stream));
  for (gsize j = 0; j < n; j++) {
    g_autofree char *got = wide_read (&y[j]), *alone = NULL;
    Factors own = f[j];

    own.on_device[0] = f[0].on_device[0];
    alone = product_rows (multiply, &own, 0, c[0].rows);
    g_assert_cmpmem (got, c[0].rows * widths[j] * element, alone, c[0].rows * widths[j] * element);
    wide_clear (&y[j]);
  }
  for (gsize j = 0; j < n; j++)
    factors_clear (&f[j]);
}

/* Prompt rows of three products that are parts of one: that product's bits. */
static void
check_side_by_side (guint i)
{
  Case c = exact_case (i);
  Factors f;
  Wide y;
  ValleyCudaMatrix parts[3][3]; /* y, w, bias */
  ValleyCudaProduct products[3];
  g_autofree char *together = NULL, *whole = NULL;

  c.act = VALLEY_CUDA_ACT_NONE;
  c.rows = random_size (20);
  c.n = c.n / 24 * 24 + 24;
  f = factors_new (&c);
  y = place (&c, c.y_type, c.rows, c.n, NULL);
  for (gsize j = 0; j < 3; j++) {
    const Wide *all[] = { &y, &f.on_device[1], &f.on_device[2] };
    gsize n = c.n / 3;

    for (gsize m = 0; m < 3; m++) {
      parts[j][m] = all[m]->view;
      *(m == 1 ? &parts[j][m].rows : &parts[j][m].cols) = n;
      parts[j][m].data = (char *) all[m]->view.data
                         + j * n * (m == 1 ? all[m]->view.stride : 1) * all[m]->element;
    }
    products[j] = (ValleyCudaProduct){ .y = &parts[j][0],
                                       .x = &f.on_device[0].view,
                                       .w = &parts[j][1],
                                       .bias = c.has_bias ? &parts[j][2] : NULL };
  }
  CHECK (valley_cuda_linears (blas, products, 3, VALLEY_CUDA_PROMPT, stream));
  together = wide_read (&y);
  whole = product_rows (multiply, &f, 0, c.rows);
  g_assert_cmpmem (together, c.rows * c.n * y.element, whole, c.rows * c.n * y.element);
  wide_clear (&y);
  factors_clear (&f);
}

/* Single rows that happen to lie one after the other, as their weights do: each has the bits that
 * it has alone. */
static void
check_neighbours (guint i)
{
  Case c = exact_case (i);
  Factors f;
  Wide y;
  ValleyCudaMatrix rows[2], weights[2];
  ValleyCudaProduct products[2];
  g_autofree char *together = NULL, *alone = NULL;

  c.act = VALLEY_CUDA_ACT_NONE;
  c.aligned = TRUE;
  c.has_bias = FALSE;
  c.rows = 1;
  c.n = c.n / 16 * 16 + 16;
  f = factors_new (&c);
  for (gsize alike = 0; alike < 2; alike++) {
    y = wide_new_at (c.y_type, 1, c.n, NULL, 0, 0, c.n);
    for (gsize j = 0; j < 2; j++) {
      rows[j] = y.view;
      rows[j].cols = rows[j].stride = c.n / 2;
      rows[j].data = (char *) y.view.data + j * c.n / 2 * y.element;
      weights[j] = f.on_device[1].view;
      weights[j].rows = c.n / 2;
      weights[j].data
          = (char *) weights[j].data + j * c.n / 2 * weights[j].stride * f.on_device[1].element;
      products[j]
          = (ValleyCudaProduct){ .y = &rows[j], .x = &f.on_device[0].view, .w = &weights[j] };
      if (alike)
        CHECK (valley_cuda_linears (blas, &products[j], 1, VALLEY_CUDA_PROMPT, stream));
    }
    if (!alike)
      CHECK (valley_cuda_linears (blas, products, 2, VALLEY_CUDA_PROMPT, stream));
    *(alike ? &alone : &together) = wide_read (&y);
    wide_clear (&y);
  }
  g_assert_cmpmem (together, c.n * valley_dtype_bytes (c.y_type), alone,
                   c.n * valley_dtype_bytes (c.y_type));
  factors_clear (&f);
}

static void
test_together (void)
{
  for (guint i = 0; i < 36; i++)
    check_together (i);
  for (guint i = 0; i < 20; i++)
    check_side_by_side (i);
  for (guint i = 0; i < 20; i++)
    check_neighbours (i);
}

/* Whichever number of rows comes first. */
static void
test_first_use_does_not_matter (void)
{
  for (guint i = 0; i < 6; i++) {
    ValleyCudaBlas *mine = blas, *other;
    Case c = exact_case (i);
    Factors f;

    c.rows = MANY_ROWS;
    f = factors_new (&c);
    for (guint first = 1; first <= MANY_ROWS; first += MANY_ROWS - 1) {
      g_autofree char *one = NULL, *two = NULL, *three = NULL;

      CHECK (valley_cuda_blas_new (&other));
      one = product_rows (multiply, &f, 0, MANY_ROWS);
      blas = other;
      three = product_rows (multiply, &f, 0, first);
      two = product_rows (multiply, &f, 0, MANY_ROWS);
      blas = mine;
      g_assert_cmpmem (one, MANY_ROWS * c.n * valley_dtype_bytes (c.y_type), two,
                       MANY_ROWS * c.n * valley_dtype_bytes (c.y_type));
      g_assert_cmpmem (one, first * c.n * valley_dtype_bytes (c.y_type), three,
                       first * c.n * valley_dtype_bytes (c.y_type));
      valley_cuda_blas_free (other);
    }
    factors_clear (&f);
  }
}

/* A recorded product does the same again, with what lies there then; the first of a shape is not
 * recorded. */
static void
test_graphs (void)
{
  for (guint i = 0; i < 4; i++) {
    Case c = exact_case (i);
    ValleyCudaBlas *fresh, *mine = blas;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    Factors f;
    Wide x, w, y;
    g_autofree char *direct = NULL, *replayed = NULL;

    c.aligned = TRUE;
    c.has_bias = FALSE;
    c.rows = 9;
    c.role = i % 2 ? VALLEY_CUDA_GENERATED : VALLEY_CUDA_PROMPT;
    f = factors_new (&c);
    direct = product_rows (multiply, &f, 0, c.rows); /* chooses */
    x = wide_new_aligned (c.x_type, c.rows, c.k, NULL);
    w = wide_new_aligned (c.w_type, c.n, c.k, f.w);
    y = wide_new_aligned (c.y_type, c.rows, c.n, NULL);
    CHECK (cudaStreamSynchronize (stream));

    CHECK (valley_cuda_blas_new (&fresh));
    CHECK (cudaStreamBeginCapture (stream, cudaStreamCaptureModeRelaxed));
    blas = fresh;
    if (c.role == VALLEY_CUDA_PROMPT)
      g_assert_cmpint (multiply (&c, &y.view, &x.view, &w.view, NULL), ==,
                       cudaErrorStreamCaptureUnsupported);
    blas = mine;
    CHECK (multiply (&c, &y.view, &x.view, &w.view, NULL));
    CHECK (cudaStreamEndCapture (stream, &graph));
    CHECK (cudaGraphInstantiate (&exec, graph, 0));
    {
      Wide real = wide_new_aligned (c.x_type, c.rows, c.k, f.x);

      CHECK (valley_cuda_copy_rows (&x.view, &real.view, NULL, stream));
      CHECK (cudaGraphLaunch (exec, stream));
      wide_clear (&real);
    }
    replayed = wide_read (&y);
    g_assert_cmpmem (direct, c.rows * c.n * y.element, replayed, c.rows * c.n * y.element);
    CHECK (cudaGraphExecDestroy (exec));
    CHECK (cudaGraphDestroy (graph));
    valley_cuda_blas_free (fresh);
    wide_clear (&x);
    wide_clear (&w);
    wide_clear (&y);
    factors_clear (&f);
  }
}

/* Two streams multiply at the same time: neither gets into the other's way. */
static void
test_streams (void)
{
  cudaStream_t mine = stream, other;

  CHECK (cudaStreamCreateWithFlags (&other, cudaStreamNonBlocking));
  for (guint i = 0; i < 12; i++) {
    Case c = exact_case (i);
    gsize bytes;
    Factors f;
    Wide x, w, y[8];
    g_autofree char *alone = NULL;

    c.aligned = TRUE;
    c.has_bias = FALSE;
    c.rows = 20;
    f = factors_new (&c);
    alone = product_rows (multiply, &f, 0, c.rows);
    bytes = c.rows * c.n * valley_dtype_bytes (c.y_type);
    x = wide_new_aligned (c.x_type, c.rows, c.k, f.x);
    w = wide_new_aligned (c.w_type, c.n, c.k, f.w);
    for (guint j = 0; j < G_N_ELEMENTS (y); j++)
      y[j] = wide_new_aligned (c.y_type, c.rows, c.n, NULL);
    CHECK (cudaStreamSynchronize (stream));
    for (guint j = 0; j < G_N_ELEMENTS (y); j++) {
      stream = j % 2 ? other : mine;
      CHECK (multiply (&c, &y[j].view, &x.view, &w.view, NULL));
    }
    stream = mine;
    CHECK (cudaDeviceSynchronize ());
    for (guint j = 0; j < G_N_ELEMENTS (y); j++) {
      g_autofree char *got = wide_read (&y[j]);

      g_assert_cmpmem (alone, bytes, got, bytes);
      wide_clear (&y[j]);
    }
    wide_clear (&x);
    wide_clear (&w);
    factors_clear (&f);
  }
  valley_cuda_blas_forget_stream (blas, other);
  CHECK (cudaStreamDestroy (other));
}

#ifdef VALLEY_CUDA_EMU
/* The library multiplies where it can, and no kernel of ours: all tests of numbers would pass
 * without it.  For some shapes the stand-in has no algorithm, as a test of those needs. */
static void
test_library_multiplies (void)
{
  guint n_shapes = 0, n_by_library = 0;

  for (gsize n = 16; n <= 128; n += 16)
    for (guint type = 0; type < 3; type++, n_shapes++) {
      Case c = { .x_type = type,
                 .w_type = type,
                 .y_type = type,
                 .bias_type = type,
                 .rows = 20,
                 .n = n,
                 .k = 64,
                 .aligned = TRUE,
                 .has_bias = TRUE };
      Factors f = factors_new (&c);
      Wide y = place (&c, type, c.rows, n, NULL);
      guint64 before = 0;

      for (guint i = 0; i < 2; i++) { /* the first chooses the algorithm */
        CHECK (cudaStreamSynchronize (stream));
        before = emu_kernels_run ();
        CHECK (multiply (&c, &y.view, &f.on_device[0].view, &f.on_device[1].view,
                         &f.on_device[2].view));
      }
      CHECK (cudaStreamSynchronize (stream));
      n_by_library += emu_kernels_run () == before;
      wide_clear (&y);
      factors_clear (&f);
    }
  g_test_message ("%u of %u shapes", n_by_library, n_shapes);
  g_assert_cmpuint (n_by_library, >=, n_shapes * 3 / 4);
}

#define BLAS(call) g_assert_cmpint (call, ==, CUBLAS_STATUS_SUCCESS)

/* The library's own choice for these very rows. */
static int
multiply_unpinned (const Case *c, const ValleyCudaMatrix *y, const ValleyCudaMatrix *x,
                   const ValleyCudaMatrix *w, const ValleyCudaMatrix *bias)
{
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const float one = 1, zero = 0;
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, d;
  void *workspace;

  CHECK (cudaMalloc (&workspace, 4096));
  BLAS (cublasLtCreate (&handle));
  BLAS (cublasLtMatmulDescCreate (&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  BLAS (cublasLtMatmulDescSetAttribute (desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                        sizeof transposed));
  BLAS (cublasLtMatrixLayoutCreate (&a, CUDA_R_32F, c->k, c->n, (int64_t) w->stride));
  BLAS (cublasLtMatrixLayoutCreate (&b, CUDA_R_32F, c->k, x->rows, (int64_t) x->stride));
  BLAS (cublasLtMatrixLayoutCreate (&d, CUDA_R_32F, c->n, x->rows, (int64_t) y->stride));
  BLAS (cublasLtMatmul (handle, desc, &one, w->data, a, x->data, b, &zero, y->data, d, y->data, d,
                        NULL, workspace, 4096, stream));
  BLAS (cublasLtMatrixLayoutDestroy (d));
  BLAS (cublasLtMatrixLayoutDestroy (b));
  BLAS (cublasLtMatrixLayoutDestroy (a));
  BLAS (cublasLtMatmulDescDestroy (desc));
  BLAS (cublasLtDestroy (handle));
  CHECK (cudaStreamSynchronize (stream));
  CHECK (cudaFree (workspace));
  return cudaSuccess;
}

/* The test of a row's bits can fail. */
static void
test_unpinned_shows (void)
{
  Case c = { .n = 64, .k = 192, .aligned = TRUE };

  g_assert_cmpuint (count_changed_rows (multiply_unpinned, c), >, 0);
}
#endif

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  compare_init ("cuda-products");
#ifdef VALLEY_CUDA_EMU
  emu_set_seed (g_rand_int (rng));
  g_test_add_func ("/cuda-products/unpinned-shows", test_unpinned_shows);
#endif
  CHECK (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  CHECK (valley_cuda_blas_new (&blas));
  g_test_add_func ("/cuda-products/close", test_close);
  g_test_add_func ("/cuda-products/usual", test_usual);
  g_test_add_func ("/cuda-products/many-rows", test_many_rows);
  g_test_add_func ("/cuda-products/rows-keep-their-bits", test_rows_keep_their_bits);
  g_test_add_func ("/cuda-products/together", test_together);
  g_test_add_func ("/cuda-products/first-use-does-not-matter", test_first_use_does_not_matter);
  g_test_add_func ("/cuda-products/graphs", test_graphs);
  g_test_add_func ("/cuda-products/streams", test_streams);
#ifdef VALLEY_CUDA_EMU
  g_test_add_func ("/cuda-products/library-multiplies", test_library_multiplies);
#endif
  status = g_test_run ();
  CHECK (cudaStreamSynchronize (stream));
  valley_cuda_blas_free (blas);
  CHECK (cudaStreamDestroy (stream));
  return status;
}
