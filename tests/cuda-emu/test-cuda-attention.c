/* test-cuda-attention.c - the attention kernels against double precision, and bit for bit against
 * themselves: however rows are cut, wherever pages lie, whatever follows in them.
 *
 * Runs on the stand-in for the CUDA runtime, whose fresh memory is NaN: a row behind the end that
 * is read shows.  Without VALLEY_CUDA_EMU it is a program for a GPU, where this file writes the
 * NaN. SPDX-License-Identifier: Apache-2.0 */
#include "on-device.h"

/* ---- device memory ---- */

static gpointer
device_new (gsize bytes)
{
  gpointer memory;
  g_autofree char *nan = g_malloc (bytes);

  memset (nan, 0xff, bytes);
  CHECK (cudaMalloc (&memory, bytes));
  CHECK (cudaMemcpyAsync (memory, nan, bytes, cudaMemcpyHostToDevice, stream));
  CHECK (cudaStreamSynchronize (stream));
  return memory;
}

static void
device_write (gpointer to, gconstpointer from, gsize bytes)
{
  CHECK (cudaMemcpyAsync (to, from, bytes, cudaMemcpyHostToDevice, stream));
  CHECK (cudaStreamSynchronize (stream));
}

/* Rows of @cols elements at a stride that leaves NaN between them; @values may be NULL. */
static ValleyCudaMatrix
matrix_new (ValleyDType type, gsize rows, gsize cols, const float *values)
{
  gsize stride = cols + 8 * (gsize) g_rand_int_range (rng, 0, 3);
  ValleyCudaMatrix m = { device_new (rows * stride * valley_dtype_bytes (type)),
                         (ValleyCudaType) type, rows, cols, stride };
  g_autofree char *row = g_malloc (cols * valley_dtype_bytes (type));

  for (gsize i = 0; values != NULL && i < rows; i++) {
    to_type (row, type, values + i * cols, cols);
    device_write ((char *) m.data + i * stride * valley_dtype_bytes (type), row,
                  cols * valley_dtype_bytes (type));
  }
  return m;
}

/* Frees the matrix; its rows, tightly packed, in their own type. */
static char *
matrix_take (const ValleyCudaMatrix *m)
{
  gsize row = m->cols * valley_dtype_bytes ((ValleyDType) m->type),
        stride = m->stride * valley_dtype_bytes ((ValleyDType) m->type);
  g_autofree char *all = g_malloc (m->rows * stride);
  char *packed = g_malloc (m->rows * row);

  CHECK (cudaMemcpyAsync (all, m->data, m->rows * stride, cudaMemcpyDeviceToHost, stream));
  CHECK (cudaStreamSynchronize (stream));
  for (gsize i = 0; i < m->rows; i++) {
    memcpy (packed + i * row, all + i * stride, row);
    for (gsize j = row; j < stride; j++) /* nothing was written between rows */
      g_assert_cmphex ((guchar) all[i * stride + j], ==, 0xff);
  }
  CHECK (cudaFree (m->data));
  return packed;
}

/* ---- a case: queries, keys, values, and what comes of them ---- */

typedef struct {
  ValleyDType type;
  gsize heads, kv_heads, dim, sequences, q_rows, k_rows;
  gboolean causal; /* q's last row sees all keys */
  float *q, *k, *v;
} Case;

static Case
case_new (ValleyDType type, gsize heads, gsize kv_heads, gsize dim, gsize q_rows, gsize k_rows)
{
  double scale = g_rand_boolean (rng) ? 2 : 6; /* flat and pointed probabilities */
  Case c = { type, heads, kv_heads, dim, 1, q_rows, k_rows, FALSE, NULL, NULL, NULL };

  c.q = rounded_floats (type, q_rows * heads * dim, scale);
  c.k = rounded_floats (type, k_rows * kv_heads * dim, 2);
  c.v = rounded_floats (type, k_rows * kv_heads * dim, 2);
  return c;
}

static void
case_clear (Case *c)
{
  g_free (c->q);
  g_free (c->k);
  g_free (c->v);
}

static ValleyCudaAttention
shape_of (const Case *c)
{
  return (ValleyCudaAttention){ .n_heads = c->heads,
                                .n_kv_heads = c->kv_heads,
                                .head_dim = c->dim,
                                .scale = (float) (1 / sqrt ((double) c->dim)),
                                .n_sequences = c->sequences };
}

/* One query over keys first ... first + n - 1, by definition. */
static void
reference_query (const Case *c, gsize row, gsize head, gsize first, gsize n, double *out)
{
  gsize kv_cols = c->kv_heads * c->dim, column = head / (c->heads / c->kv_heads) * c->dim;
  const float *q = c->q + (row * c->heads + head) * c->dim;
  g_autofree double *p = g_new (double, MAX (n, 1));
  double max = -INFINITY, sum = 0;

  for (gsize j = 0; j < n; j++) {
    p[j] = 0;
    for (gsize d = 0; d < c->dim; d++)
      p[j] += (double) q[d] * c->k[(first + j) * kv_cols + column + d];
    p[j] /= sqrt ((double) c->dim);
    max = MAX (max, p[j]);
  }
  for (gsize j = 0; j < n; j++)
    sum += p[j] = exp (p[j] - max);
  for (gsize d = 0; d < c->dim; d++) {
    out[d] = 0;
    for (gsize j = 0; j < n; j++)
      out[d] += p[j] / sum * c->v[(first + j) * kv_cols + column + d];
  }
}

static double *
reference (const Case *c)
{
  gsize cols = c->heads * c->dim, q_rows = c->q_rows / c->sequences;
  gsize k_rows = c->k_rows / c->sequences;
  double *out = g_new (double, c->q_rows *cols);

  for (gsize i = 0; i < c->q_rows; i++)
    for (gsize h = 0; h < c->heads; h++)
      reference_query (c, i, h, i / q_rows * k_rows, c->causal ? k_rows - (q_rows - 1 - i) : k_rows,
                       out + i * cols + h * c->dim);
  return out;
}

static void
assert_near (const Case *c, const char *what, const char *elements)
{
  /* results are rounded, and so are probabilities before tensor cores */
  static const double tolerances[] = { 4e-6, 1.0 / 100, 1.0 / 800 };
  gsize n = c->q_rows * c->heads * c->dim;
  g_autofree double *want = reference (c);
  g_autofree float *got = g_new (float, n);
  g_autofree char *words
      = g_strdup_printf ("%s, type %d, %zu/%zu heads of %zu, %zu queries, %zu keys", what, c->type,
                         c->heads, c->kv_heads, c->dim, c->q_rows, c->k_rows);

  from_type (got, c->type, elements, n);
  assert_close (words, got, want, n, tolerances[c->type], 0.1);
}

/* ---- keys in one matrix ---- */

/* Of rows first ... first + n - 1 of the one sequence, or of all */
static char *
run_flat (const Case *c, gsize first, gsize n)
{
  gsize cols = c->heads * c->dim, kv_cols = c->kv_heads * c->dim;
  ValleyCudaMatrix q = matrix_new (c->type, n, cols, c->q + first * cols);
  ValleyCudaMatrix k = matrix_new (c->type, c->k_rows, kv_cols, c->k);
  ValleyCudaMatrix v = matrix_new (c->type, c->k_rows, kv_cols, c->v);
  ValleyCudaMatrix out = matrix_new (c->type, n, cols, NULL);
  ValleyCudaAttention a = shape_of (c);

  CHECK (valley_cuda_attention (&out, &q, &k, &v, &a, stream));
  CHECK (cudaStreamSynchronize (stream));
  CHECK (cudaFree (q.data));
  CHECK (cudaFree (k.data));
  CHECK (cudaFree (v.data));
  return matrix_take (&out);
}

static void
check_flat (ValleyDType type, gsize heads, gsize kv_heads, gsize dim, gsize sequences, gsize q_rows,
            gsize k_rows)
{
  Case c = case_new (type, heads, kv_heads, dim, sequences * q_rows, sequences * k_rows);
  g_autofree char *all = NULL;

  c.sequences = sequences;
  all = run_flat (&c, 0, c.q_rows);
  assert_near (&c, "flat", all);
  if (sequences == 1) {
    gsize first = (gsize) g_rand_int_range (rng, 0, (gint) q_rows);
    gsize n = (gsize) g_rand_int_range (rng, 1, (gint) (q_rows - first) + 1);
    gsize row = heads * dim * valley_dtype_bytes (type);
    g_autofree char *part = run_flat (&c, first, n);

    g_assert_true (memcmp (part, all + first * row, n * row) == 0);
  }
  case_clear (&c);
}

/* Head sizes that tiles fit or are padded to, and others; key counts around a block's edges. */
static void
test_flat (void)
{
  static const gsize dims[] = { 32, 64, 72, 80, 128, 8, 40, 104, 256, 20, 33 };
  static const gsize n_keys[] = { 1, 63, 64, 65, 130, 7 };

  for (guint i = 0; i < 3 * G_N_ELEMENTS (dims); i++) {
    gsize kv_heads = (gsize) g_rand_int_range (rng, 1, 3);

    check_flat (i / G_N_ELEMENTS (dims), kv_heads * (gsize) g_rand_int_range (rng, 1, 4), kv_heads,
                dims[i % G_N_ELEMENTS (dims)], 1 + i % 2, (gsize) g_rand_int_range (rng, 1, 80),
                n_keys[i % G_N_ELEMENTS (n_keys)]);
  }
}

/* As many patches as SigLIP has at 384 pixels, and as a small picture has in the other tower. */
static void
test_towers (void)
{
  check_flat (VALLEY_BF16, 1, 1, 72, 1, 729, 729);
  check_flat (VALLEY_F16, 2, 2, 80, 3, 100, 100);
}

/* ---- keys in pages ---- */

typedef struct {
  gsize first, n, n_skipped; /* rows that come, and how many of them ask nothing */
  gsize most_rows;           /* 0: as many as there are */
  ValleyCudaRole role;
} Step;

typedef struct {
  ValleyCudaKv kv;
  gpointer *pages, table, first;
  gsize n_pages;
} Pages;

/* Pages in random order in memory, with other layers' rows around the ones meant; rows from @end
 * on are NaN, and pages without rows are nowhere. */
static Pages
pages_new (const Case *c, gsize end)
{
  gsize page_rows = 64 * (gsize) g_rand_int_range (rng, 1, 4);
  gsize cols = c->kv_heads * c->dim, plane = page_rows * cols, size = valley_dtype_bytes (c->type);
  gsize before = (gsize) g_rand_int_range (rng, 0, 3) * plane;
  Pages p = { .n_pages = (end + page_rows - 1) / page_rows };
  g_autofree char *rows = g_malloc (plane * size);
  gsize start = (gsize) g_rand_int_range (rng, 0, (gint) p.n_pages);

  p.pages = g_new0 (gpointer, p.n_pages + 1);
  for (gsize i = 0; i < p.n_pages; i++) {
    gsize page = (i + start) % p.n_pages, n = MIN (page_rows, end - page * page_rows);
    char *memory = p.pages[page] = device_new ((before + 2 * plane) * size);

    to_type (rows, c->type, c->k + page * plane, n * cols);
    device_write (memory + before * size, rows, n * cols * size);
    to_type (rows, c->type, c->v + page * plane, n * cols);
    device_write (memory + (before + plane) * size, rows, n * cols * size);
  }
  p.table = device_new ((p.n_pages + 1) * sizeof (gpointer));
  device_write (p.table, p.pages, p.n_pages * sizeof (gpointer));
  p.first = device_new (sizeof (gint32));
  p.kv = (ValleyCudaKv){ p.table, (ValleyCudaType) c->type, page_rows, cols,
                         before,  before + plane,           SIZE_MAX,  p.first,
                         end };
  return p;
}

static void
pages_clear (Pages *p)
{
  for (gsize i = 0; i < p->n_pages; i++)
    CHECK (cudaFree (p->pages[i]));
  CHECK (cudaFree (p->table));
  CHECK (cudaFree (p->first));
  g_free (p->pages);
}

static void
pages_set_first (const Pages *p, gsize first)
{
  gint32 value = (gint32) first;

  device_write (p->first, &value, sizeof value);
}

/* The case's queries are those of rows 0 ... k_rows - 1. */
static char *
run_paged (const Case *c, const Step *s)
{
  gsize cols = c->heads * c->dim, end = s->first + s->n, n = s->n - s->n_skipped;
  ValleyCudaMatrix q = matrix_new (c->type, n, cols, c->q + (s->first + s->n_skipped) * cols);
  ValleyCudaMatrix out = matrix_new (c->type, n, cols, NULL);
  ValleyCudaAttention a = shape_of (c);
  Pages p = pages_new (c, end);
  gpointer workspace = NULL;
  gsize bytes;

  a.n_skipped = s->n_skipped;
  p.kv.most_rows = MAX (s->most_rows, end);
  pages_set_first (&p, s->first);
  bytes = valley_cuda_attend_bytes (&q, &p.kv, &a, s->role);
  if (bytes > 0)
    workspace = device_new (bytes);
  CHECK (valley_cuda_attend (&out, &q, &p.kv, &a, s->role, workspace, stream));
  CHECK (cudaStreamSynchronize (stream));
  CHECK (cudaFree (workspace));
  CHECK (cudaFree (q.data));
  pages_clear (&p);
  return matrix_take (&out);
}

static void
assert_same_rows (const Case *c, const Step *s, const char *part, const char *all)
{
  gsize row = c->heads * c->dim * valley_dtype_bytes (c->type), first = s->first + s->n_skipped;

  for (gsize i = 0; i < s->n - s->n_skipped; i++)
    if (memcmp (part + i * row, all + (first + i) * row, row) != 0)
      g_error ("type %d, %zu/%zu heads of %zu, role %d: row %zu has other bits when rows %zu ... "
               "%zu come, %zu of them without a query",
               c->type, c->heads, c->kv_heads, c->dim, s->role, first + i, s->first,
               s->first + s->n - 1, s->n_skipped);
}

/* All rows at once against the definition, then cuts of them against that, bit for bit. */
static void
check_paged (ValleyDType type, gsize heads, gsize kv_heads, gsize dim, gsize rows,
             ValleyCudaRole role, gsize n_cuts)
{
  Case c = case_new (type, heads, kv_heads, dim, rows, rows);
  Step whole = { 0, rows, 0, 0, role };
  g_autofree char *all = run_paged (&c, &whole);

  c.causal = TRUE;
  assert_near (&c, role == VALLEY_CUDA_PROMPT ? "prompt" : "generated", all);
  for (gsize i = 0; i < n_cuts; i++) {
    gint most = i % 2 ? 8 : (gint) rows;
    Step s = { .first = (gsize) g_rand_int_range (rng, 0, (gint) rows), .role = role };
    g_autofree char *part = NULL;

    s.n = (gsize) g_rand_int_range (rng, 1, MIN ((gint) (rows - s.first), most) + 1);
    s.n_skipped = i % 3 == 0 ? (gsize) g_rand_int_range (rng, 0, (gint) s.n) : 0;
    s.most_rows = i % 4 == 0 ? s.first + s.n + (gsize) g_rand_int_range (rng, 0, 900) : 0;
    part = run_paged (&c, &s);
    assert_same_rows (&c, &s, part, all);
  }
  case_clear (&c);
}

static void
check_role (ValleyCudaRole role)
{
  static const gsize dims[] = { 32, 64, 72, 80, 128, 24, 20 };

  for (guint i = 0; i < 3 * G_N_ELEMENTS (dims); i++) {
    gsize kv_heads = (gsize) g_rand_int_range (rng, 1, 3);

    check_paged (i % 3, kv_heads * (gsize) g_rand_int_range (rng, 1, 5), kv_heads,
                 dims[i % G_N_ELEMENTS (dims)], (gsize) g_rand_int_range (rng, 1, 100), role, 4);
  }
  /* the 7 B model's groups, over several splits and pages */
  check_paged (VALLEY_BF16, 7, 1, 128, 300, role, 12);
  check_paged (VALLEY_F16, 18, 1, 32, 150, role, 8); /* a row's heads fill more than a tile */
}

static void
test_prompt (void)
{
  check_role (VALLEY_CUDA_PROMPT);
}

static void
test_generated (void)
{
  check_role (VALLEY_CUDA_GENERATED);
}

/* ---- what a recorded graph rests on ---- */

/* One recorded launch serves every position: the first row and the table are read when it runs. */
static void
test_graph (void)
{
  Case c = case_new (VALLEY_BF16, 4, 2, 32, 200, 200);
  gsize cols = c.heads * c.dim, row = cols * valley_dtype_bytes (c.type);
  Step whole = { 0, 200, 0, 0, VALLEY_CUDA_GENERATED };
  g_autofree char *all = run_paged (&c, &whole), *element = g_malloc (row);
  Pages p = pages_new (&c, 200);
  ValleyCudaMatrix q = matrix_new (c.type, 1, cols, NULL), out = matrix_new (c.type, 1, cols, NULL);
  ValleyCudaAttention a = shape_of (&c);
  gpointer workspace;
  cudaGraph_t graph;
  cudaGraphExec_t exec;

  p.kv.most_rows = 256;
  workspace = device_new (MAX (1, valley_cuda_attend_bytes (&q, &p.kv, &a, whole.role)));
  CHECK (cudaStreamBeginCapture (stream, cudaStreamCaptureModeThreadLocal));
  CHECK (valley_cuda_attend (&out, &q, &p.kv, &a, whole.role, workspace, stream));
  CHECK (cudaStreamEndCapture (stream, &graph));
  CHECK (cudaGraphInstantiate (&exec, graph, 0));
  for (gsize i = 0; i < 200; i += 37) {
    pages_set_first (&p, i);
    to_type (element, c.type, c.q + i * cols, cols);
    device_write (q.data, element, row);
    CHECK (cudaGraphLaunch (exec, stream));
    CHECK (cudaMemcpyAsync (element, out.data, row, cudaMemcpyDeviceToHost, stream));
    CHECK (cudaStreamSynchronize (stream));
    g_assert_true (memcmp (element, all + i * row, row) == 0);
  }
  CHECK (cudaGraphExecDestroy (exec));
  CHECK (cudaGraphDestroy (graph));
  CHECK (cudaFree (workspace));
  CHECK (cudaFree (q.data));
  CHECK (cudaFree (out.data));
  pages_clear (&p);
  case_clear (&c);
}

/* ---- what is refused ---- */

static void
check_refused_pages (const Case *c, const ValleyCudaMatrix *q, const ValleyCudaMatrix *out)
{
  ValleyCudaAttention a = shape_of (c);
  Pages p = pages_new (c, c->k_rows);
  ValleyCudaKv kv[6];

  for (gsize i = 0; i < G_N_ELEMENTS (kv); i++)
    kv[i] = p.kv;
  kv[0].keys++;
  kv[1].values += 4;
  kv[2].page_rows = 96; /* a block of keys would lie in two */
  kv[3].cols *= 2;
  kv[4].type = VALLEY_CUDA_F32;
  kv[5].most_rows = q->rows - 1;
  for (gsize i = 0; i < G_N_ELEMENTS (kv); i++)
    g_assert_cmpint (valley_cuda_attend (out, q, &kv[i], &a, VALLEY_CUDA_PROMPT, NULL, stream), ==,
                     cudaErrorInvalidValue);
  CHECK (cudaStreamSynchronize (stream));
  pages_clear (&p);
}

static void
test_refusals (void)
{
  Case c = case_new (VALLEY_BF16, 2, 1, 64, 3, 3);
  ValleyCudaMatrix q = matrix_new (c.type, 3, 128, c.q), out = matrix_new (c.type, 3, 128, NULL);
  ValleyCudaMatrix k = matrix_new (c.type, 3, 64, c.k), wrong = k, none = q;
  ValleyCudaAttention a = shape_of (&c), odd = a;

  none.rows = 0;
  CHECK (valley_cuda_attention (&none, &none, &k, &k, &a, stream));
  wrong.type = VALLEY_CUDA_F16;
  g_assert_cmpint (valley_cuda_attention (&out, &q, &wrong, &k, &a, stream), ==,
                   cudaErrorInvalidValue);
  wrong = k;
  wrong.rows = 2;
  g_assert_cmpint (valley_cuda_attention (&out, &q, &k, &wrong, &a, stream), ==,
                   cudaErrorInvalidValue);
  wrong = k;
  wrong.data = (char *) k.data + 2;
  wrong.rows = k.rows = 2;
  g_assert_cmpint (valley_cuda_attention (&out, &q, &wrong, &k, &a, stream), ==,
                   cudaErrorInvalidValue);
  wrong.data = k.data;
  wrong.stride = 65;
  g_assert_cmpint (valley_cuda_attention (&out, &q, &k, &wrong, &a, stream), ==,
                   cudaErrorInvalidValue);
  odd.n_heads = 3;
  g_assert_cmpint (valley_cuda_attention (&out, &q, &k, &k, &odd, stream), ==,
                   cudaErrorInvalidValue);
  odd = a;
  odd.n_sequences = 2;
  g_assert_cmpint (valley_cuda_attention (&out, &q, &k, &k, &odd, stream), ==,
                   cudaErrorInvalidValue);
  CHECK (cudaFree (k.data));
  check_refused_pages (&c, &q, &out);
  CHECK (cudaFree (q.data));
  CHECK (cudaFree (out.data));
  case_clear (&c);
}

int
main (int argc, char **argv)
{
  int status;

  g_test_init (&argc, &argv, NULL);
  compare_init ("cuda-attention");
#ifdef VALLEY_CUDA_EMU
  emu_set_seed (g_rand_int (rng));
#endif
  CHECK (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  g_test_add_func ("/cuda-attention/flat", test_flat);
  g_test_add_func ("/cuda-attention/towers", test_towers);
  g_test_add_func ("/cuda-attention/prompt", test_prompt);
  g_test_add_func ("/cuda-attention/generated", test_generated);
  g_test_add_func ("/cuda-attention/graph", test_graph);
  g_test_add_func ("/cuda-attention/refusals", test_refusals);
  status = g_test_run ();
  CHECK (cudaStreamDestroy (stream));
  return status;
}
