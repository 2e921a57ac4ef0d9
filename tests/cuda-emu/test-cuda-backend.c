/* test-cuda-backend.c - the wing's own work, over the stand-in: contexts, memory that streams hand
 * to one another, staging, weights, graphs, and everything that can go wrong.
 *
 * VALLEY_CUDA_WING names the wing; the stand-in is one for it and for this program.
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "cuda_runtime.h"
#include "emu.h"
#include "wing.h"

#define ROWS 5
#define COLS 100
#define SIZE (ROWS * COLS)

struct CUctx_st;
int cuCtxCreate_v2 (struct CUctx_st **context, unsigned flags, int device);
int cuCtxPopCurrent_v2 (struct CUctx_st **context);
int cuCtxGetCurrent (struct CUctx_st **context);
int cuCtxDestroy_v2 (struct CUctx_st *context);

static const ValleyWing *wing;
static guint32 seed;

static ValleyBackend *
open_device (guint device, ValleyPrecision precision)
{
  g_autoptr (GError) error = NULL;
  ValleyBackend *backend = wing->backend_new (device, NULL, precision, &error);

  g_assert_no_error (error);
  return backend;
}

static ValleyStream *
open_stream (ValleyBackend *backend)
{
  g_autoptr (GError) error = NULL;
  ValleyStream *stream = backend->ops->stream_new (backend, &error);

  g_assert_no_error (error);
  return stream;
}

static void
close_device (ValleyBackend *backend)
{
  backend->ops->backend_free (backend);
  g_assert_cmpstr (emu_leaks (), ==, NULL);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
}

/* @values added to @x by way of a tensor that is freed while the device may still need it. */
static void
add_values (ValleyStream *stream, const ValleyTensor *x, const float *values)
{
  ValleyTensor y;

  valley_tensor_init (stream, &y, VALLEY_F32, x->rows, x->cols);
  stream->ops->upload (stream, &y, values);
  stream->ops->add (stream, x, &y);
  valley_tensor_clear (stream->backend, &y);
}

static void
expect_values (ValleyStream *stream, const ValleyTensor *x, const float *wanted)
{
  g_autofree float *found = g_new (float, x->rows * x->cols);
  g_autoptr (GError) error = NULL;

  g_assert_true (stream->ops->download (stream, x, found, &error));
  g_assert_no_error (error);
  for (gsize i = 0; i < x->rows * x->cols; i++)
    if (!(found[i] == wanted[i])) /* a NaN is not */
      g_error ("element %" G_GSIZE_FORMAT " is %g, expected %g (VALLEY_TEST_SEED=%u)", i, found[i],
               wanted[i], seed);
}

/* Whole numbers, so that sums are exact. */
static void
random_values (float *values, gsize n)
{
  for (gsize i = 0; i < n; i++)
    values[i] = (float) g_test_rand_int_range (-1000, 1000);
}

/* ---- memory ---- */

/* Streams take over one another's memory all the time, while nothing waits. */
static void
test_streams (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_F32);
  ValleyStream *streams[3];
  ValleyTensor sums[3];
  float wanted[3][SIZE], values[SIZE];

  for (gsize i = 0; i < 3; i++) {
    streams[i] = open_stream (backend);
    valley_tensor_init (streams[i], &sums[i], VALLEY_F32, ROWS, COLS);
    random_values (wanted[i], SIZE);
    backend->ops->upload (streams[i], &sums[i], wanted[i]);
  }
  for (gsize round = 0; round < 200; round++) {
    gsize i = (gsize) g_test_rand_int_range (0, 3);

    random_values (values, SIZE);
    add_values (streams[i], &sums[i], values);
    for (gsize j = 0; j < SIZE; j++)
      wanted[i][j] += values[j];
    if (round % 50 == 49)
      expect_values (streams[i], &sums[i], wanted[i]);
  }
  for (gsize i = 0; i < 3; i++) {
    expect_values (streams[i], &sums[i], wanted[i]);
    valley_tensor_clear (backend, &sums[i]);
    backend->ops->stream_free (streams[i]);
  }
  close_device (backend);
}

typedef struct {
  ValleyBackend *backend;
  gboolean odd;
} Worker;

static gpointer
work (gpointer data)
{
  const Worker *worker = data;
  ValleyStream *stream = open_stream (worker->backend);
  float wanted[SIZE], values[SIZE];
  ValleyTensor sum;

  for (gsize i = 0; i < SIZE; i++)
    wanted[i] = 0;
  valley_tensor_init (stream, &sum, VALLEY_F32, ROWS, COLS);
  stream->ops->upload (stream, &sum, wanted);
  for (gsize round = 0; round < 100; round++) {
    for (gsize i = 0; i < SIZE; i++) {
      values[i] = (float) (round * 7 + i + worker->odd);
      wanted[i] += values[i];
    }
    add_values (stream, &sum, values);
  }
  expect_values (stream, &sum, wanted);
  valley_tensor_clear (worker->backend, &sum);
  stream->ops->stream_free (stream);
  return NULL;
}

/* Sessions are threads: two on one device, and one on another. */
static void
test_threads (void)
{
  ValleyBackend *first = open_device (0, VALLEY_PRECISION_F32);
  ValleyBackend *second = open_device (1, VALLEY_PRECISION_F32);
  Worker workers[3] = { { first, FALSE }, { first, TRUE }, { second, FALSE } };
  GThread *threads[3];

  for (gsize i = 0; i < 3; i++)
    threads[i] = g_thread_new ("session", work, &workers[i]);
  for (gsize i = 0; i < 3; i++)
    g_thread_join (threads[i]);
  second->ops->backend_free (second);
  close_device (first);
}

static gsize
bytes_free (void)
{
  gsize available, total;

  g_assert_cmpint (cudaMemGetInfo (&available, &total), ==, cudaSuccess);
  return available;
}

/* What is freed is kept, found again, and given up when something else has no room. */
static void
test_pool (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_F32);
  ValleyStream *stream = open_stream (backend);
  gsize before = bytes_free (), held;
  ValleyMemory *memory;
  ValleyTensor large;

  memory = backend->ops->memory_new (backend, 5 << 20);
  held = bytes_free ();
  g_assert_cmpuint (before - held, >=, 5 << 20);
  g_assert_cmpuint (before - held, <=, (5 << 20) / 8 * 9);
  backend->ops->memory_free (backend, memory);
  g_assert_cmpuint (bytes_free (), ==, held);
  g_assert_true (backend->ops->memory_new (backend, (5 << 20) - 1000) == memory);
  g_assert_cmpuint (bytes_free (), ==, held);
  backend->ops->memory_free (backend, memory);

  emu_set_device_bytes (((gsize) 1 << 30) - held + (1 << 20)); /* room for one more MiB */
  valley_tensor_init (stream, &large, VALLEY_F32, 1, 1 << 20);
  g_assert_nonnull (large.memory);
  g_assert_null (backend->ops->memory_new (backend, 50 << 20));
  g_assert_null (backend->ops->memory_new (backend, G_MAXSIZE / 2));
  g_assert_false (g_atomic_int_get (&backend->lost));
  valley_tensor_clear (backend, &large);
  emu_set_device_bytes ((gsize) 1 << 30);
  backend->ops->stream_free (stream);
  close_device (backend);
}

/* A product of a new shape takes memory of its own, and finds what the pool keeps. */
static void
test_pool_and_products (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_F32);
  ValleyStream *stream = open_stream (backend);
  float ones[16 * 16], wanted[16 * 16];
  ValleyTensor x, y, w;
  ValleyLinear half[2];

  for (gsize i = 0; i < 16 * 16; i++) {
    ones[i] = 1;
    wanted[i] = 16;
  }
  valley_tensor_init (stream, &x, VALLEY_F32, 16, 16);
  valley_tensor_init (stream, &y, VALLEY_F32, 16, 16);
  valley_tensor_init (stream, &w, VALLEY_F32, 16, 16);
  backend->ops->upload (stream, &x, ones);
  backend->ops->upload (stream, &w, ones);
  backend->ops->memory_free (backend, backend->ops->memory_new (backend, 50 << 20));
  emu_set_device_bytes (((gsize) 1 << 30) - bytes_free ());
  backend->ops->linear (stream, &y, &x, &w, NULL, VALLEY_ACT_NONE, VALLEY_ROWS_PROMPT);
  expect_values (stream, &y, wanted);

  backend->ops->memory_free (backend, backend->ops->memory_new (backend, 30 << 20));
  emu_set_device_bytes (((gsize) 1 << 30) - bytes_free ());
  backend->ops->mix (stream, &y, &x, &w);
  expect_values (stream, &y, wanted);

  for (gsize i = 0; i < 2; i++)
    half[i] = (ValleyLinear){ .y = valley_tensor_cols (&y, 8 * i, 8),
                              .w = valley_tensor_rows (&w, 0, 8) };
  backend->ops->upload (stream, &y, ones);
  g_assert_true (backend->ops->stream_wait (stream, NULL));
  backend->ops->memory_free (backend, backend->ops->memory_new (backend, 20 << 20));
  emu_set_device_bytes (((gsize) 1 << 30) - bytes_free ());
  backend->ops->linears (stream, half, 2, &x, VALLEY_ROWS_PROMPT);
  expect_values (stream, &y, wanted);
  emu_set_device_bytes ((gsize) 1 << 30);
  valley_tensor_clear (backend, &w);
  valley_tensor_clear (backend, &y);
  valley_tensor_clear (backend, &x);
  backend->ops->stream_free (stream);
  close_device (backend);
}

/* ---- waiting ---- */

/* The host waits once for what it reads: what was waited for is not waited for again. */
static void
test_waits (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_F32);
  ValleyStream *stream = open_stream (backend);
  const gint32 number = 7;
  guint64 before;
  ValleyTensor x;
  gint32 found;

  for (guint i = 0; i < 3; i++) {
    before = emu_stream_waits ();
    valley_tensor_init_ids (stream, &x, &number, 1);
    g_assert_true (backend->ops->download_ids (stream, &x, &found, NULL));
    g_assert_cmpint (found, ==, number);
    g_assert_true (backend->ops->stream_wait (stream, NULL));
    g_assert_cmpuint (emu_stream_waits () - before, ==, 1);
    valley_tensor_clear (backend, &x);
  }
  backend->ops->stream_free (stream);
  close_device (backend);
}

/* ---- pages ---- */

#define PAGE_ROWS 64
#define PAGE_COLS 8
#define PLANE (PAGE_ROWS * PAGE_COLS)

/* A page that another stream's work may still be writing to: operations see the table only, so
 * whoever has its address written there waits. */
static void
test_pages (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_F32);
  ValleyStream *first = open_stream (backend), *second = open_stream (backend);
  float rows[PLANE], ones[PLANE / 2], zeros[2 * PLANE] = { 0 };
  gint32 numbers[PAGE_ROWS] = { 0 };
  ValleyTensor k, read, cos, sin, positions, table, x;
  ValleyKv kv = { .n_pages = 1,
                  .dtype = VALLEY_F32,
                  .page_rows = PAGE_ROWS,
                  .cols = PAGE_COLS,
                  .values = PLANE,
                  .unrotated = G_MAXSIZE,
                  .most_rows = PAGE_ROWS };

  for (gsize i = 0; i < PLANE / 2; i++)
    ones[i] = 1;
  valley_tensor_init (second, &k, VALLEY_F32, PAGE_ROWS, PAGE_COLS);
  valley_tensor_init (second, &read, VALLEY_F32, PAGE_ROWS, PAGE_COLS);
  valley_tensor_init (second, &cos, VALLEY_F32, PAGE_ROWS, PAGE_COLS / 2);
  valley_tensor_init (second, &sin, VALLEY_F32, PAGE_ROWS, PAGE_COLS / 2);
  valley_tensor_init (second, &table, VALLEY_I32, 1, 2);
  valley_tensor_init_ids (second, &positions, numbers, PAGE_ROWS);
  backend->ops->upload (second, &cos, ones); /* no turn at all */
  backend->ops->upload (second, &sin, zeros);
  kv.table = table;
  kv.first = valley_tensor_rows (&positions, 0, 1);
  for (guint round = 0; round < 50; round++) {
    ValleyMemory *page;

    valley_tensor_init (first, &x, VALLEY_F32, 2, PLANE);
    backend->ops->upload (first, &x, zeros);
    backend->ops->softmax (first, &x);
    page = x.memory;
    valley_tensor_clear (backend, &x);
    g_assert_true (backend->ops->memory_new (backend, 2 * PLANE * sizeof (float)) == page);
    random_values (rows, PLANE);
    backend->ops->upload (second, &k, rows);
    backend->ops->upload_pages (second, &table, 0, &page, 1);
    backend->ops->rotate_append (second, NULL, &k, &k, &cos, &sin, &positions, PAGE_COLS, &kv);
    backend->ops->read_pages (second, &read, &kv, kv.keys, 0);
    expect_values (second, &read, rows);
    backend->ops->memory_free (backend, page);
  }
  valley_tensor_clear (backend, &k);
  valley_tensor_clear (backend, &read);
  valley_tensor_clear (backend, &cos);
  valley_tensor_clear (backend, &sin);
  valley_tensor_clear (backend, &table);
  valley_tensor_clear (backend, &positions);
  backend->ops->stream_free (first);
  backend->ops->stream_free (second);
  close_device (backend);
}

/* ---- uploads ---- */

/* More than the ring holds, of all kinds, before the first wait. */
static void
test_staging (gconstpointer data)
{
  ValleyDType dtype = (ValleyDType) GPOINTER_TO_INT (data);
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_BF16);
  ValleyStream *stream = open_stream (backend);
  const gsize rows[] = { 1, 3, 700, 2 }, cols[] = { 1, 333, 1001, 150001 };
  g_autofree float *values = g_new (float, 700 * 1001 + 8);
  ValleyTensor tensors[8], ids[8];
  gint32 numbers[8][100], found[100];

  for (gsize i = 0; i < 700 * 1001 + 8; i++)
    values[i] = (float) ((gint) (i * 37 % 255) - 127); /* exact in every type */
  for (gsize i = 0; i < 8; i++) {
    valley_tensor_init (stream, &tensors[i], dtype, rows[i % 4], cols[i % 4]);
    backend->ops->upload (stream, &tensors[i], values + i);
    for (gsize j = 0; j < 100; j++)
      numbers[i][j] = g_test_rand_int ();
    valley_tensor_init_ids (stream, &ids[i], numbers[i], 100);
  }
  for (gsize i = 0; i < 8; i++) {
    expect_values (stream, &tensors[i], values + i);
    g_assert_true (backend->ops->download_ids (stream, &ids[i], found, NULL));
    g_assert_cmpmem (found, sizeof found, numbers[i], sizeof numbers[i]);
    valley_tensor_clear (backend, &tensors[i]);
    valley_tensor_clear (backend, &ids[i]);
  }
  backend->ops->stream_free (stream);
  close_device (backend);
}

/* Weights from odd addresses, of every type into every precision, over several buffers. */
static void
test_weights (gconstpointer data)
{
  ValleyPrecision precision = (ValleyPrecision) GPOINTER_TO_INT (data);
  ValleyBackend *backend = open_device (0, precision);
  const gsize rows[] = { 3, 1, 1100 }, cols[] = { 17, 9, 2055 };
  g_autofree float *values = g_new (float, 1100 * 2055);
  g_autofree guint8 *bytes = g_malloc (1100 * 2055 * 4 + 1);
  ValleyTensor loaded[9];
  ValleyStream *stream;

  for (gsize i = 0; i < 1100 * 2055; i++) {
    guint32 bits;

    values[i] = (float) ((gint) (i * 37 % 255) - 127);
    memcpy (&bits, &values[i], sizeof bits);
    bits >>= 16; /* bf16, exactly */
    memcpy (bytes + 1 + 2 * i, &bits, 2);
  }
  for (gsize i = 0; i < 3; i++) {
    g_assert_true (
        backend->ops->load_matrix (backend, &loaded[i], bytes + 1, VALLEY_BF16, rows[i], cols[i]));
    g_assert_cmpint (loaded[i].dtype, ==, backend->activations);
    g_assert_cmpuint (loaded[i].stride * valley_dtype_bytes (loaded[i].dtype) % 16, ==, 0);
    g_assert_true (
        backend->ops->load_vector (backend, &loaded[3 + i], values, VALLEY_F32, rows[i], cols[i]));
    g_assert_cmpint (loaded[3 + i].dtype, ==, VALLEY_F32);
    g_assert_true (
        backend->ops->load_bias (backend, &loaded[6 + i], values, VALLEY_F32, rows[i], cols[i]));
    g_assert_cmpint (loaded[6 + i].dtype, ==, backend->activations);
    g_assert_cmpuint (loaded[6 + i].stride, ==, cols[i]);
  }
  stream = open_stream (backend);
  for (gsize i = 0; i < G_N_ELEMENTS (loaded); i++) {
    expect_values (stream, &loaded[i], values);
    valley_tensor_clear (backend, &loaded[i]);
  }
  backend->ops->stream_free (stream);
  close_device (backend);
}

/* Loading that is broken off: the weights go while their bytes are still on their way. */
static void
test_weights_given_up (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_BF16);
  g_autofree float *values = g_new0 (float, 300 * 700);
  ValleyTensor loaded[4];

  for (gsize round = 0; round < 20; round++) {
    for (gsize i = 0; i < G_N_ELEMENTS (loaded); i++)
      g_assert_true (
          backend->ops->load_matrix (backend, &loaded[i], values, VALLEY_F32, 300, 700 - i));
    for (gsize i = 0; i < G_N_ELEMENTS (loaded); i++)
      valley_tensor_clear (backend, &loaded[i]);
  }
  close_device (backend);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
}

/* Weights that come while a stream is there already: what it uses of them is there first, whether
 * they come as they are or change their type. */
static void
test_weights_late (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_BF16);
  ValleyStream *stream = open_stream (backend);
  g_autofree float *values = g_new (float, 300 * 700);
  ValleyTensor vector, matrix;

  for (gsize i = 0; i < (gsize) 300 * 700; i++)
    values[i] = (float) ((gint) (i * 37 % 255) - 127);
  for (gsize round = 0; round < 10; round++) {
    backend->ops->load_vector (backend, &vector, values, VALLEY_F32, 300, 700);
    expect_values (stream, &vector, values);
    backend->ops->load_matrix (backend, &matrix, values, VALLEY_F32, 300, 700);
    expect_values (stream, &matrix, values);
    valley_tensor_clear (backend, &vector);
    valley_tensor_clear (backend, &matrix);
  }
  backend->ops->stream_free (stream);
  close_device (backend);
}

/* Numbers of one type are never taken for another's: that is an error, and the last of it. */
static void
test_mixtures (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_BF16);
  const ValleyOps *ops = backend->ops;
  ValleyStream *stream = open_stream (backend);
  ValleyAttention shape
      = { .n_heads = 1, .n_kv_heads = 1, .head_dim = 16, .scale = 1, .n_sequences = 1 };
  ValleyTensor wide, narrow, one;

  valley_tensor_init (stream, &wide, VALLEY_F32, 16, 16);
  valley_activations_init (stream, &narrow, 16, 16);
  valley_tensor_init (stream, &one, VALLEY_F32, 16, 1);
  for (guint i = 0; i < 12; i++) {
    const gboolean may = i >= 10;
    g_autoptr (GError) error = NULL;

    ops->copy (stream, &narrow, &wide);
    g_assert_true (ops->stream_wait (stream, NULL));
    switch (i) {
    case 0:
      ops->im2col (stream, &narrow, &wide, 1);
      break;
    case 1:
      ops->pixel_shuffle (stream, &narrow, &wide, 4, 1);
      break;
    case 2:
      ops->average_pool (stream, &narrow, &wide, 4, 4, 4, 4);
      break;
    case 3:
      ops->max_pool (stream, &wide, &narrow, 4, 4, 4, 4);
      break;
    case 4:
      ops->swiglu (stream, &narrow, &narrow, &wide);
      break;
    case 5:
      ops->cosine (stream, &one, &narrow, &wide);
      break;
    case 6:
      ops->attention (stream, &narrow, &narrow, &narrow, &wide, &shape);
      break;
    case 7: /* residual rows are x, not y */
      ops->rms_norm (stream, &wide, &narrow, NULL, &one, 1);
      break;
    case 8:
      ops->layer_norm (stream, &narrow, &wide, &wide, &one, NULL, 1);
      break;
    case 9:
      ops->rms_norm (stream, &narrow, &narrow, &wide, &one, 1);
      break;
    case 10:
      ops->rms_norm (stream, &narrow, &wide, &narrow, &one, 1);
      break;
    case 11:
      ops->add (stream, &wide, &narrow);
      break;
    }
    if (ops->stream_wait (stream, &error) != may)
      g_error ("operation %u was %s", i, may ? "refused" : "taken");
    if (!may)
      g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
    g_assert_false (backend->lost);
  }
  valley_tensor_clear (backend, &wide);
  valley_tensor_clear (backend, &narrow);
  valley_tensor_clear (backend, &one);
  ops->stream_free (stream);
  close_device (backend);
}

/* What a product of many rows runs, once its algorithm is chosen. */
static guint64
kernels_of_linear (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
                   const ValleyTensor *w, const ValleyTensor *bias, ValleyActivation act)
{
  guint64 before = 0;

  for (guint i = 0; i < 2; i++) {
    g_assert_true (stream->ops->stream_wait (stream, NULL));
    before = emu_kernels_run ();
    stream->ops->linear (stream, y, x, w, bias, act, VALLEY_ROWS_PROMPT);
  }
  g_assert_true (stream->ops->stream_wait (stream, NULL));
  return emu_kernels_run () - before;
}

/* A product adds a bias by itself, and has its GELU; in f32, that is a pass of its own.  A bias
 * may begin within a larger one, as a tower's queries', keys' and values' do. */
static void
test_bias (gconstpointer data)
{
  ValleyPrecision precision = (ValleyPrecision) GPOINTER_TO_INT (data);
  ValleyBackend *backend = open_device (0, precision);
  ValleyStream *stream;
  guint64 gelu_pass = precision == VALLEY_PRECISION_F32, both;
  ValleyTensor x, y, w, biases, bias;
  float zeros[64 * 32] = { 0 }, numbers[64], wanted[24 * 32];

  for (gsize i = 0; i < 64; i++)
    numbers[i] = (float) i - 30;
  for (gsize i = 0; i < 24 * 32; i++)
    wanted[i] = numbers[32 + i % 32];
  g_assert_true (backend->ops->load_matrix (backend, &w, zeros, VALLEY_F32, 32, 64));
  g_assert_true (backend->ops->load_bias (backend, &biases, numbers, VALLEY_F32, 1, 64));
  stream = open_stream (backend); /* waits for weights */
  valley_activations_init (stream, &x, 24, 64);
  valley_activations_init (stream, &y, 24, 32);
  backend->ops->upload (stream, &x, zeros);
  bias = valley_tensor_cols (&biases, 32, 32);
  g_assert_cmpuint (kernels_of_linear (stream, &y, &x, &w, &bias, VALLEY_ACT_NONE), ==,
                    kernels_of_linear (stream, &y, &x, &w, NULL, VALLEY_ACT_NONE));
  both = kernels_of_linear (stream, &y, &x, &w, &bias, VALLEY_ACT_GELU_TANH);
  g_assert_cmpuint (both, ==,
                    kernels_of_linear (stream, &y, &x, &w, NULL, VALLEY_ACT_NONE) + gelu_pass);
  kernels_of_linear (stream, &y, &x, &w, &bias, VALLEY_ACT_NONE);
  expect_values (stream, &y, wanted);
  valley_tensor_clear (backend, &y);
  valley_tensor_clear (backend, &x);
  valley_tensor_clear (backend, &biases);
  valley_tensor_clear (backend, &w);
  backend->ops->stream_free (stream);
  close_device (backend);
}

/* ---- graphs ---- */

static void
test_graphs (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_F32);
  ValleyStream *stream = open_stream (backend), *other = open_stream (backend);
  float values[SIZE], more[SIZE], wanted[SIZE] = { 0 }, others[SIZE] = { 0 };
  ValleyTensor x, y, sum, own, part;
  ValleyGraph *graph;

  valley_tensor_init (stream, &x, VALLEY_F32, ROWS, COLS);
  valley_tensor_init (stream, &sum, VALLEY_F32, ROWS, COLS);
  valley_tensor_init (other, &own, VALLEY_F32, ROWS, COLS);
  backend->ops->upload (stream, &sum, wanted);
  backend->ops->upload (other, &own, others);
  g_assert_true (backend->ops->graph_begin (stream));
  /* y is freed while recorded: nobody else may get it as long as the graph is there */
  valley_tensor_init (stream, &y, VALLEY_F32, ROWS, COLS);
  backend->ops->copy (stream, &y, &x);
  backend->ops->add (stream, &sum, &y);
  valley_tensor_clear (backend, &y);
  graph = backend->ops->graph_end (stream);
  g_assert_nonnull (graph);
  for (gsize round = 0; round < 30; round++) {
    random_values (values, SIZE);
    random_values (more, SIZE);
    backend->ops->upload (stream, &x, values);
    backend->ops->graph_run (stream, graph);
    add_values (other, &own, more);
    for (gsize i = 0; i < SIZE; i++) {
      wanted[i] += values[i];
      others[i] += more[i];
    }
  }
  expect_values (stream, &sum, wanted);
  expect_values (other, &own, others);
  backend->ops->graph_run (stream, graph);
  backend->ops->graph_free (backend, graph); /* while it may be running */
  for (gsize i = 0; i < SIZE; i++)
    wanted[i] += values[i];
  expect_values (stream, &sum, wanted);

  /* what another stream takes over meanwhile was used before, which it waits for */
  add_values (stream, &sum, values);
  g_assert_true (backend->ops->graph_begin (stream));
  add_values (other, &own, values);
  backend->ops->add (stream, &sum, &x);
  graph = backend->ops->graph_end (stream);
  g_assert_nonnull (graph);
  backend->ops->graph_run (stream, graph);
  for (gsize i = 0; i < SIZE; i++) {
    wanted[i] += 2 * values[i];
    others[i] += values[i];
  }
  expect_values (other, &own, others);
  expect_values (stream, &sum, wanted);
  backend->ops->graph_free (backend, graph);

  /* and the other way round: what is being recorded takes over another stream's memory */
  valley_tensor_init (other, &y, VALLEY_F32, 7 * ROWS, COLS);
  backend->ops->softmax (other, &y);
  valley_tensor_clear (backend, &y);
  g_assert_true (backend->ops->graph_begin (stream));
  valley_tensor_init (stream, &y, VALLEY_F32, 7 * ROWS, COLS);
  part = valley_tensor_rows (&y, 0, ROWS);
  backend->ops->copy (stream, &part, &x);
  backend->ops->add (stream, &sum, &part);
  valley_tensor_clear (backend, &y);
  graph = backend->ops->graph_end (stream);
  g_assert_nonnull (graph);
  backend->ops->graph_run (stream, graph);
  for (gsize i = 0; i < SIZE; i++)
    wanted[i] += values[i];
  expect_values (stream, &sum, wanted);
  backend->ops->graph_free (backend, graph);

  /* recorded in vain: nothing has been done, and the stream goes on */
  g_assert_true (backend->ops->graph_begin (stream));
  backend->ops->add (stream, &sum, &x);
  g_atomic_int_set (&stream->cancelled, TRUE);
  g_assert_null (backend->ops->graph_end (stream));
  g_atomic_int_set (&stream->cancelled, FALSE);
  expect_values (stream, &sum, wanted);

  /* no memory to record in is no error: the operations may run directly */
  emu_fail_allocation_at (1);
  g_assert_false (backend->ops->graph_begin (stream));
  expect_values (stream, &sum, wanted);
  g_assert_true (backend->ops->graph_begin (stream));
  backend->ops->add (stream, &sum, &x);
  emu_fail_allocation_at (1); /* and none for the recording, at first */
  graph = backend->ops->graph_end (stream);
  g_assert_nonnull (graph);
  backend->ops->graph_run (stream, graph);
  for (gsize i = 0; i < SIZE; i++)
    wanted[i] += values[i];
  expect_values (stream, &sum, wanted);
  backend->ops->graph_free (backend, graph);
  valley_tensor_clear (backend, &x);
  valley_tensor_clear (backend, &sum);
  valley_tensor_clear (backend, &own);
  backend->ops->stream_free (stream);
  backend->ops->stream_free (other);
  close_device (backend);
}

/* ---- what goes wrong ---- */

static void
test_cancel (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_F32);
  ValleyStream *stream = open_stream (backend);
  float values[SIZE] = { 0 };
  g_autoptr (GError) error = NULL;
  guint64 n_kernels;
  ValleyTensor x;

  valley_tensor_init (stream, &x, VALLEY_F32, ROWS, COLS);
  backend->ops->upload (stream, &x, values);
  g_assert_true (backend->ops->stream_wait (stream, NULL));
  g_atomic_int_set (&stream->cancelled, TRUE);
  n_kernels = emu_kernels_run ();
  add_values (stream, &x, values);
  backend->ops->softmax (stream, &x);
  g_assert_false (backend->ops->download (stream, &x, values, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
  g_assert_cmpuint (emu_kernels_run (), ==, n_kernels);
  g_atomic_int_set (&stream->cancelled, FALSE);
  expect_values (stream, &x, values);
  valley_tensor_clear (backend, &x);
  backend->ops->stream_free (stream);
  close_device (backend);
}

/* The device's work, from opening to closing; FALSE with an error where something was refused. */
static gboolean
work_once (GError **error)
{
  const float weights[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
  float values[SIZE] = { 0 }, wanted[SIZE];
  ValleyBackend *backend = wing->backend_new (0, NULL, VALLEY_PRECISION_BF16, error);
  ValleyTensor weight = { 0 }, x = { 0 };
  ValleyStream *stream = NULL;
  gboolean ok = backend != NULL;

  if (ok && !backend->ops->load_matrix (backend, &weight, weights, VALLEY_F32, 3, 3)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY, "weights");
    ok = FALSE;
  }
  if (ok)
    ok = (stream = backend->ops->stream_new (backend, error)) != NULL;
  if (ok) {
    valley_tensor_init (stream, &x, VALLEY_F32, ROWS, COLS);
    for (gsize i = 0; i < SIZE; i++)
      values[i] = (float) i;
    backend->ops->upload (stream, &x, values);
    add_values (stream, &x, values);
    ok = backend->ops->download (stream, &x, wanted, error);
    for (gsize i = 0; i < SIZE && ok; i++)
      g_assert_cmpfloat (wanted[i], ==, 2 * values[i]);
    valley_tensor_clear (backend, &x);
    backend->ops->stream_free (stream);
  }
  if (backend != NULL) {
    valley_tensor_clear (backend, &weight);
    backend->ops->backend_free (backend);
  }
  return ok;
}

static void
test_allocations (void)
{
  guint n = 0, n_failed = 0;
  gboolean failed = TRUE;

  /* until no allocation fails any more: the last one is left over */
  for (n = 1; failed || n < 60; n++) {
    g_autoptr (GError) error = NULL;

    emu_fail_allocation_at (n);
    failed = !work_once (&error);
    emu_fail_allocation_at (0);
    if (failed) {
      n_failed++;
      g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
    }
    g_assert_cmpstr (emu_leaks (), ==, NULL);
    g_assert_cmpstr (emu_take_fault (), ==, NULL);
    g_assert_cmpuint (n, <, 200);
  }
  g_test_message ("%u allocations failed, %u of them for good", n - 1, n_failed);
  g_assert_cmpuint (n_failed, >=, 2); /* where there is no second try */
}

/* A fault ends the context: everything on it fails, nothing else does, and a new one works. */
static void
test_lost (void)
{
  ValleyBackend *backend = open_device (0, VALLEY_PRECISION_F32);
  ValleyBackend *bystander = open_device (0, VALLEY_PRECISION_F32);
  ValleyStream *stream = open_stream (backend), *second = open_stream (backend);
  ValleyStream *elsewhere = open_stream (bystander);
  float values[SIZE] = { 0 };
  g_autoptr (GError) error = NULL;
  ValleyTensor x, y, z;
  ValleyGraph *graph;

  valley_tensor_init (stream, &x, VALLEY_F32, ROWS, COLS);
  valley_tensor_init (second, &y, VALLEY_F32, ROWS, COLS);
  valley_tensor_init (elsewhere, &z, VALLEY_F32, ROWS, COLS);
  backend->ops->upload (stream, &x, values);
  backend->ops->upload (second, &y, values);
  bystander->ops->upload (elsewhere, &z, values);
  g_assert_true (bystander->ops->stream_wait (elsewhere, NULL));
  g_assert_true (backend->ops->graph_begin (stream));
  backend->ops->softmax (stream, &x);
  graph = backend->ops->graph_end (stream);
  emu_fail_kernel_at (1);
  backend->ops->graph_run (stream, graph);
  g_assert_false (backend->ops->download (stream, &x, values, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_assert_nonnull (strstr (error->message, "cudaErrorIllegalAddress"));
  g_assert_true (g_atomic_int_get (&backend->lost));
  g_clear_error (&error);
  g_assert_false (backend->ops->stream_wait (second, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_assert_null (backend->ops->memory_new (backend, 100));
  g_clear_error (&error);
  g_assert_null (backend->ops->stream_new (backend, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  expect_values (elsewhere, &z, values);

  backend->ops->graph_free (backend, graph);
  valley_tensor_clear (backend, &x);
  valley_tensor_clear (backend, &y);
  backend->ops->stream_free (stream);
  backend->ops->stream_free (second);
  backend->ops->backend_free (backend);
  valley_tensor_clear (bystander, &z);
  bystander->ops->stream_free (elsewhere);
  close_device (bystander);
  g_clear_error (&error);
  g_assert_true (work_once (&error));
}

/* Every kernel of some work fails in its turn. */
static void
test_lost_anywhere (void)
{
  gboolean failed = TRUE;
  guint n;

  for (n = 1; failed; n++) {
    g_autoptr (GError) error = NULL;

    emu_fail_kernel_at (n);
    failed = !work_once (&error);
    emu_fail_kernel_at (0);
    g_assert_cmpstr (emu_leaks (), ==, NULL);
    g_assert_cmpstr (emu_take_fault (), ==, NULL);
    g_assert_cmpuint (n, <, 200);
  }
  g_assert_cmpuint (n, >, 3);
}

static struct CUctx_st *
current_context (void)
{
  struct CUctx_st *context;

  g_assert_cmpint (cuCtxGetCurrent (&context), ==, 0);
  return context;
}

/* Whatever context the caller's thread has, it has again after every call. */
static void
test_callers_context (void)
{
  struct CUctx_st *context;
  float values[SIZE];
  ValleyBackend *backend;
  ValleyStream *stream;
  ValleyTensor x;

  g_assert_null (current_context ());
  for (guint i = 0; i < 2; i++) {
    if (i == 1)
      g_assert_cmpint (cuCtxCreate_v2 (&context, 0, 1), ==, 0);
    else
      context = NULL;
    backend = open_device (0, VALLEY_PRECISION_F32);
    g_assert_true (current_context () == context);
    stream = open_stream (backend);
    g_assert_true (current_context () == context);
    valley_tensor_init (stream, &x, VALLEY_F32, ROWS, COLS);
    random_values (values, SIZE);
    backend->ops->upload (stream, &x, values);
    backend->ops->softmax (stream, &x);
    g_assert_true (current_context () == context);
    g_assert_true (backend->ops->stream_wait (stream, NULL));
    valley_tensor_clear (backend, &x);
    backend->ops->stream_free (stream);
    backend->ops->backend_free (backend);
    g_assert_true (current_context () == context);
  }
  g_assert_cmpint (cuCtxDestroy_v2 (context), ==, 0);
  g_assert_cmpstr (emu_leaks (), ==, NULL);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
}

/* The caller's context is worked in and left alone. */
static void
test_given_context (void)
{
  struct CUctx_st *context;
  g_autoptr (GError) error = NULL;
  ValleyBackend *backend;
  ValleyStream *stream;
  float values[SIZE];
  ValleyTensor x;

  g_assert_cmpint (cuCtxCreate_v2 (&context, 0, 1), ==, 0);
  g_assert_cmpint (cuCtxPopCurrent_v2 (NULL), ==, 0);
  g_assert_null (wing->backend_new (0, context, VALLEY_PRECISION_F32, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  backend = wing->backend_new (1, context, VALLEY_PRECISION_F32, &error);
  g_assert_no_error (error);
  stream = open_stream (backend);
  valley_tensor_init (stream, &x, VALLEY_F32, ROWS, COLS);
  random_values (values, SIZE);
  backend->ops->upload (stream, &x, values);
  expect_values (stream, &x, values);
  valley_tensor_clear (backend, &x);
  backend->ops->stream_free (stream);
  backend->ops->backend_free (backend);
  g_assert_cmpint (cuCtxDestroy_v2 (context), ==, 0); /* a fault, were anything left in it */
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
  g_assert_cmpstr (emu_leaks (), ==, NULL);
}

int
main (int argc, char **argv)
{
  const char *text = g_getenv ("VALLEY_TEST_SEED");
  g_autoptr (GError) error = NULL;

  g_test_init (&argc, &argv, NULL);
  seed = text != NULL ? (guint32) g_ascii_strtoull (text, NULL, 10) : (guint32) g_test_rand_int ();
  g_test_message ("VALLEY_TEST_SEED=%u", seed);
  emu_set_seed (seed);
  wing = valley_wing_open (&error);
  g_assert_no_error (error);
  g_assert_cmpuint (wing->n_devices (&error), ==, 2);
  g_test_add_func ("/cuda-backend/streams", test_streams);
  g_test_add_func ("/cuda-backend/threads", test_threads);
  g_test_add_func ("/cuda-backend/pool", test_pool);
  g_test_add_func ("/cuda-backend/pool/products", test_pool_and_products);
  g_test_add_func ("/cuda-backend/waits", test_waits);
  g_test_add_func ("/cuda-backend/pages", test_pages);
  g_test_add_data_func ("/cuda-backend/staging/f32", GINT_TO_POINTER (VALLEY_F32), test_staging);
  g_test_add_data_func ("/cuda-backend/staging/bf16", GINT_TO_POINTER (VALLEY_BF16), test_staging);
  g_test_add_data_func ("/cuda-backend/staging/f16", GINT_TO_POINTER (VALLEY_F16), test_staging);
  g_test_add_data_func ("/cuda-backend/weights/f32", GINT_TO_POINTER (VALLEY_PRECISION_F32),
                        test_weights);
  g_test_add_data_func ("/cuda-backend/weights/bf16", GINT_TO_POINTER (VALLEY_PRECISION_BF16),
                        test_weights);
  g_test_add_data_func ("/cuda-backend/weights/f16", GINT_TO_POINTER (VALLEY_PRECISION_F16),
                        test_weights);
  g_test_add_func ("/cuda-backend/weights/given-up", test_weights_given_up);
  g_test_add_func ("/cuda-backend/weights/late", test_weights_late);
  g_test_add_func ("/cuda-backend/mixtures", test_mixtures);
  g_test_add_data_func ("/cuda-backend/bias/f32", GINT_TO_POINTER (VALLEY_PRECISION_F32),
                        test_bias);
  g_test_add_data_func ("/cuda-backend/bias/bf16", GINT_TO_POINTER (VALLEY_PRECISION_BF16),
                        test_bias);
  g_test_add_data_func ("/cuda-backend/bias/f16", GINT_TO_POINTER (VALLEY_PRECISION_F16),
                        test_bias);
  g_test_add_func ("/cuda-backend/graphs", test_graphs);
  g_test_add_func ("/cuda-backend/cancel", test_cancel);
  g_test_add_func ("/cuda-backend/allocations", test_allocations);
  g_test_add_func ("/cuda-backend/lost", test_lost);
  g_test_add_func ("/cuda-backend/lost-anywhere", test_lost_anywhere);
  g_test_add_func ("/cuda-backend/callers-context", test_callers_context);
  g_test_add_func ("/cuda-backend/given-context", test_given_context);
  return g_test_run ();
}
