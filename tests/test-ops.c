/* test-ops.c - every operation of the CPU backend against arithmetic written out in double
 * precision here, on odd sizes, in views of wider tensors whose other elements must not
 * change.  Runs on the strict backend, so that every read and write outside a tensor's memory
 * faults.  What must hold between runs (bits, threads, errors) is in test-exact.c.
 *
 * VALLEY_CPU chooses the instruction set; meson runs this program once for each.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include "compare.h"
#include "device.h"
#include "gemm.h"
#include "pages.h"

/* ---- moving ---- */

static void
test_copy (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, TRUE);

  for (guint i = 0; i < 27; i++) {
    gsize rows = g_rand_int_range (rng, 1, 60), cols = g_rand_int_range (rng, 1, 700);
    g_autofree float *x = random_floats (rows * cols, 1), *stored = NULL, *got = NULL;
    Guarded from = guarded_new (&d, i % 3, rows, cols, x);
    Guarded to = guarded_new (&d, i / 3 % 3, rows, cols, NULL);
    g_autofree double *want = g_new (double, rows *cols);
    double tolerance = i % 3 == VALLEY_F32 && i / 3 % 3 == VALLEY_F32 ? 0 : 1.0 / 256;

    stored = guarded_read (&d, &from);
    for (gsize j = 0; j < rows * cols; j++)
      want[j] = x[j];
    assert_close ("upload", stored, want, rows * cols, i % 3 == VALLEY_F32 ? 0 : 1.0 / 256, 1);
    OPS (d)->copy (d.stream, &to.view, &from.view);
    got = guarded_read (&d, &to);
    assert_close ("copy", got, want, rows * cols, tolerance * 2, 1);
    guarded_clear (&d, &from);
    guarded_clear (&d, &to);
  }
  device_clear (&d);
}

static void
test_gather (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, TRUE);

  for (guint i = 0; i < 12; i++) {
    gsize rows = g_rand_int_range (rng, 1, 50), cols = g_rand_int_range (rng, 1, 300), n = 70;
    g_autofree float *x = random_floats (rows * cols, 1);
    g_autofree gint32 *ids = g_new (gint32, n);
    Guarded table = guarded_new (&d, i % 3, rows, cols, x);
    Guarded y = guarded_new (&d, VALLEY_F32, n, cols, NULL);
    ValleyTensor numbers;
    g_autofree float *stored = guarded_read (&d, &table), *got = NULL;

    for (gsize j = 0; j < n; j++)
      ids[j] = g_rand_int_range (rng, 0, (gint32) rows);
    valley_tensor_init_ids (d.stream, &numbers, ids, n);
    OPS (d)->gather (d.stream, &y.view, &table.view, &numbers);
    valley_tensor_clear (d.backend, &numbers);
    got = guarded_read (&d, &y);
    for (gsize j = 0; j < n; j++)
      assert_same_bits ("a chosen row", got + j * cols, stored + (gsize) ids[j] * cols, cols);
    guarded_clear (&d, &table);
    guarded_clear (&d, &y);
  }
  device_clear (&d);
}

static void
check_im2col (Device *d, gsize side, gsize channels)
{
  gsize out = (side + 1) / 2;
  g_autofree float *x = random_floats (side * side * channels, 1), *got = NULL;
  Guarded gx = guarded_new (d, VALLEY_F32, side * side, channels, x);
  Guarded gy = guarded_new (d, VALLEY_F32, out * out, channels * 9, NULL);

  OPS (*d)->im2col (d->stream, &gy.view, &gx.view, side);
  got = guarded_read (d, &gy);
  for (gsize i = 0; i < out * out; i++)
    for (gsize c = 0; c < channels; c++)
      for (gint ky = 0; ky < 3; ky++)
        for (gint kx = 0; kx < 3; kx++) {
          gint row = 2 * (gint) (i / out) + ky - 1, col = 2 * (gint) (i % out) + kx - 1;
          gboolean inside = row >= 0 && row < (gint) side && col >= 0 && col < (gint) side;
          float want = inside ? x[((gsize) row * side + (gsize) col) * channels + c] : 0;

          g_assert_cmpfloat (got[i * channels * 9 + c * 9 + (gsize) (ky * 3 + kx)], ==, want);
        }
  guarded_clear (d, &gx);
  guarded_clear (d, &gy);
}

static void
check_pixel_shuffle (Device *d, gsize ratio, gsize out, gsize channels)
{
  gsize side = ratio * out, width = channels * ratio * ratio;
  g_autofree float *x = random_floats (side * side * channels, 1), *got = NULL;
  Guarded gx = guarded_new (d, VALLEY_F32, side * side, channels, x);
  Guarded gy = guarded_new (d, VALLEY_F32, out * out, width, NULL);

  OPS (*d)->pixel_shuffle (d->stream, &gy.view, &gx.view, side, ratio);
  got = guarded_read (d, &gy);
  /* the model's own words: two views and two permutations of [w, h, c] */
  for (gsize w = 0; w < side; w++)
    for (gsize h = 0; h < side; h++)
      for (gsize c = 0; c < channels; c++) {
        gsize column = h % ratio * channels + c;     /* view (w, h/r, c r) */
        gsize flat = w * channels * ratio + column;  /* permuted: (h/r, w, c r) */
        gsize a = flat / width, rest = flat % width; /* view (h/r, w/r, c r r) */
        gsize row = a * out + h / ratio;             /* permuted: (w/r, h/r, c r r) */

        g_assert_cmpfloat (got[row * width + rest], ==, x[(w * side + h) * channels + c]);
      }
  guarded_clear (d, &gx);
  guarded_clear (d, &gy);
}

/* The mean or the maximum of one bin. */
static double
pool_bin (const float *x, gsize h, gsize w, gsize out_h, gsize out_w, gsize row, gsize col,
          gsize channels, gboolean largest)
{
  double sum = 0, max = -INFINITY;
  gsize n = 0;

  for (gsize r = (gsize) floor ((double) row * h / out_h); r < ceil ((row + 1.0) * h / out_h); r++)
    for (gsize c = (gsize) floor ((double) col * w / out_w); c < ceil ((col + 1.0) * w / out_w);
         c++, n++) {
      sum += x[(r * w + c) * channels];
      max = MAX (max, x[(r * w + c) * channels]);
    }
  return largest ? max : sum / (double) n;
}

static void
check_pool (Device *d, gsize h, gsize w, gsize out_h, gsize out_w, gsize channels, gboolean largest)
{
  g_autofree float *x = random_floats (h * w * channels, 1), *got = NULL;
  g_autofree double *want = g_new0 (double, out_h *out_w *channels);
  Guarded gx = guarded_new (d, VALLEY_F32, h * w, channels, x);
  Guarded gy = guarded_new (d, VALLEY_F32, out_h * out_w, channels, NULL);

  for (gsize i = 0; i < out_h * out_w * channels; i++)
    want[i] = pool_bin (x + i % channels, h, w, out_h, out_w, i / channels / out_w,
                        i / channels % out_w, channels, largest);
  if (largest)
    OPS (*d)->max_pool (d->stream, &gy.view, &gx.view, h, w, out_h, out_w);
  else
    OPS (*d)->average_pool (d->stream, &gy.view, &gx.view, h, w, out_h, out_w);
  got = guarded_read (d, &gy);
  assert_close (largest ? "max_pool" : "average_pool", got, want, out_h * out_w * channels,
                largest ? 0 : 1e-6, 1);
  guarded_clear (d, &gx);
  guarded_clear (d, &gy);
}

static void
test_grids (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, TRUE);

  for (guint i = 0; i < 12; i++) {
    check_im2col (&d, i + 1, g_rand_int_range (rng, 1, 40));
    check_pixel_shuffle (&d, 1 + i % 3, g_rand_int_range (rng, 1, 6),
                         g_rand_int_range (rng, 1, 30));
    check_pool (&d, g_rand_int_range (rng, 1, 28), g_rand_int_range (rng, 1, 28),
                g_rand_int_range (rng, 1, 20), g_rand_int_range (rng, 1, 20),
                g_rand_int_range (rng, 1, 40), i & 1);
  }
  check_pool (&d, 27, 27, 14, 14, 8, FALSE);
  check_pool (&d, 3, 3, 8, 8, 8, TRUE);
  device_clear (&d);
}

/* ---- rows ---- */

static void
check_add (Device *d, gsize rows, gsize cols, gboolean one_row)
{
  gsize x_rows = one_row ? 1 : rows;
  g_autofree float *y = random_floats (rows * cols, 1), *x = random_floats (x_rows * cols, 1);
  g_autofree double *want = g_new (double, rows *cols);
  g_autofree float *got = NULL;
  Guarded gy = guarded_new (d, VALLEY_F32, rows, cols, y),
          gx = guarded_new (d, VALLEY_F32, x_rows, cols, x);

  for (gsize i = 0; i < rows * cols; i++)
    want[i] = (double) y[i] + x[one_row ? i % cols : i];
  OPS (*d)->add (d->stream, &gy.view, &gx.view);
  got = guarded_read (d, &gy);
  assert_close ("add", got, want, rows * cols, 1e-7, 1);
  guarded_clear (d, &gy);
  guarded_clear (d, &gx);
}

/* Returns the largest magnitude on the way: where a row's numbers lie close together, what is left
 * of them after their mean is far smaller than what was rounded. */
static double
norm_in_double (double *want, const float *x, const float *w, const float *b, gsize rows,
                gsize cols, gboolean centred)
{
  double largest = 0;

  for (gsize i = 0; i < rows; i++, x += cols, want += cols) {
    double mean = 0, squares = 0;

    for (gsize j = 0; centred && j < cols; j++)
      mean += x[j] / (double) cols;
    for (gsize j = 0; j < cols; j++)
      squares += (x[j] - mean) * (x[j] - mean) / (double) cols;
    for (gsize j = 0; j < cols; j++) {
      want[j] = (x[j] - mean) / sqrt (squares + 1e-3) * w[j] + (b != NULL ? b[j] : 0);
      largest = MAX (largest, fabs (x[j] / sqrt (squares + 1e-3) * w[j]));
    }
  }
  return largest;
}

static void
check_norms (Device *d, gsize rows, gsize cols, gboolean in_place, gboolean with_bias,
             gboolean with_delta)
{
  g_autofree float *x = random_floats (rows * cols, 3), *w = random_floats (cols, 1);
  g_autofree float *b = random_floats (cols, 1), *delta = random_floats (rows * cols, 1);
  g_autofree float *sum = g_new (float, rows *cols);
  g_autofree double *want = g_new (double, rows *cols);
  Guarded gw = guarded_new (d, VALLEY_F32, 1, cols, w),
          gb = guarded_new (d, VALLEY_F32, 1, cols, b);

  for (gsize i = 0; i < rows * cols; i++)
    sum[i] = with_delta ? x[i] + delta[i] : x[i];
  for (guint layer = 0; layer < 2; layer++) {
    Guarded gx = guarded_new (d, VALLEY_F32, rows, cols, x);
    Guarded gy = guarded_new (d, VALLEY_F32, rows, cols, NULL);
    Guarded gd = guarded_new (d, VALLEY_F32, rows, cols, delta);
    const ValleyTensor *added = with_delta ? &gd.view : NULL;
    const ValleyTensor *y = in_place ? &gx.view : &gy.view;
    g_autofree float *got = NULL, *after = NULL;
    double largest;

    largest = norm_in_double (want, sum, w, layer && with_bias ? b : NULL, rows, cols, layer);
    if (layer)
      OPS (*d)->layer_norm (d->stream, y, &gx.view, added, &gw.view, with_bias ? &gb.view : NULL,
                            1e-3f);
    else
      OPS (*d)->rms_norm (d->stream, y, &gx.view, added, &gw.view, 1e-3f);
    got = guarded_read (d, in_place ? &gx : &gy);
    assert_close (layer ? "layer_norm" : "rms_norm", got, want, rows * cols, 1e-6,
                  MAX (largest, 1));
    after = guarded_read (d, &gx);
    if (!in_place)
      assert_same_bits ("the rows with what was added", after, sum, rows * cols);
    guarded_clear (d, &gx);
    guarded_clear (d, &gy);
    guarded_clear (d, &gd);
  }
  guarded_clear (d, &gw);
  guarded_clear (d, &gb);
}

/* @positions: NULL, or the tables' row for each of x's. */
static void
rotate_in_double (double *want, const float *x, const float *c, const float *s,
                  const gint32 *positions, gsize rows, gsize cols, gsize half)
{
  for (gsize i = 0; i < rows * cols; i++) {
    gsize row = i / cols, at = i % (2 * half);
    gsize angle = (positions != NULL ? (gsize) positions[row] : row) * half + at % half;
    double other = at < half ? -(double) x[i + half] : (double) x[i - half];

    want[i] = (double) x[i] * c[angle] + other * s[angle];
  }
}

static gint32 *
random_positions (gsize n, gsize limit)
{
  gint32 *positions = g_new (gint32, n);

  for (gsize i = 0; i < n; i++)
    positions[i] = g_rand_int_range (rng, 0, (gint32) limit);
  return positions;
}

static void
check_rope (Device *d, gsize rows, gsize heads, gsize half, gboolean placed)
{
  gsize dim = 2 * half, cols = heads * dim, angles = rows + 5;
  g_autofree float *x = random_floats (rows * cols, 1), *c = random_floats (angles * half, 1);
  g_autofree float *s = random_floats (angles * half, 1), *got = NULL;
  g_autofree double *want = g_new (double, rows *cols);
  g_autofree gint32 *positions = placed ? random_positions (rows, angles) : NULL;
  Guarded gx = guarded_new (d, VALLEY_F32, rows, cols, x);
  Guarded gc = guarded_new (d, VALLEY_F32, angles, half, c),
          gs = guarded_new (d, VALLEY_F32, angles, half, s);
  ValleyTensor p = { 0 };

  if (placed)
    valley_tensor_init_ids (d->stream, &p, positions, rows);
  rotate_in_double (want, x, c, s, positions, rows, cols, half);
  OPS (*d)->rope (d->stream, &gx.view, &gc.view, &gs.view, &p, dim);
  got = guarded_read (d, &gx);
  assert_close ("rope", got, want, rows * cols, 1e-6, 1);
  valley_tensor_clear (d->backend, &p);
  guarded_clear (d, &gx);
  guarded_clear (d, &gc);
  guarded_clear (d, &gs);
}

/* One plane's rows @first ... of the pages. */
static float *
read_plane (Device *d, const Pages *p, gsize plane, gsize first, gsize n)
{
  const ValleyKv *kv = &p->kv;
  float *out = g_new (float, n * kv->cols);
  Guarded read = guarded_new (d, VALLEY_F32, n, kv->cols, NULL);
  g_autofree float *at_once = NULL;

  OPS (*d)->read_pages (d->stream, &read.view, kv, plane, first);
  at_once = guarded_read (d, &read);
  guarded_clear (d, &read);
  for (gsize i = 0; i < n; i++) {
    gsize row = first + i;
    ValleyTensor tensor = { .memory = p->memories[row / kv->page_rows],
                            .dtype = kv->dtype,
                            .offset = plane + row % kv->page_rows * kv->cols,
                            .rows = 1,
                            .cols = kv->cols,
                            .stride = kv->cols };

    g_assert_true (OPS (*d)->download (d->stream, &tensor, out + i * kv->cols, NULL));
  }
  assert_same_bits ("rows read from pages", at_once, out, n * kv->cols);
  return out;
}

/* @n rows enter pages whose rows before and behind stay as they are; @n_q queries are turned. */
static void
check_rotate_append (Device *d, ValleyDType type, gsize first, gsize n, gsize n_q, gsize heads,
                     gsize half)
{
  gsize dim = 2 * half, cols = heads * dim, q_cols = 2 * cols, all = first + n + 3;
  g_autofree float *k = random_floats (n * cols, 1), *v = random_floats (n * cols, 1);
  g_autofree float *q = random_floats (n_q * q_cols, 1), *old = random_floats (all * cols, 1);
  g_autofree float *c = random_floats (50 * half, 1), *s = random_floats (50 * half, 1);
  g_autofree double *want = g_new (double, MAX (n, n_q) * q_cols);
  g_autofree gint32 *positions = random_positions (n, 50);
  Guarded gk = guarded_new (d, VALLEY_F32, n, cols, k),
          gv = guarded_new (d, VALLEY_F32, n, cols, v);
  Guarded gq = guarded_new (d, VALLEY_F32, n_q, q_cols, q);
  Guarded gc = guarded_new (d, VALLEY_F32, 50, half, c),
          gs = guarded_new (d, VALLEY_F32, 50, half, s);
  Pages pages = pages_new (d, type, 64, cols, old, old, all);
  gsize planes[] = { pages.kv.keys, pages.kv.values };
  double tolerance = type == VALLEY_F32 ? 1e-6 : type == VALLEY_F16 ? 1.0 / 1024 : 1.0 / 128;
  ValleyTensor p;
  float *got;

  pages.kv.first_row = first;
  valley_tensor_init_ids (d->stream, &p, positions, n);
  OPS (*d)->rotate_append (d->stream, n_q > 0 ? &gq.view : NULL, &gk.view, &gv.view, &gc.view,
                           &gs.view, &p, dim, &pages.kv);
  rotate_in_double (want, k, c, s, positions, n, cols, half);
  for (guint plane = 0; plane < 2; plane++) {
    for (gsize i = 0; plane == 1 && i < n * cols; i++)
      want[i] = v[i];
    got = read_plane (d, &pages, planes[plane], first, n);
    assert_close (plane ? "appended values" : "appended keys", got, want, n * cols, tolerance, 1.5);
    g_free (got);
    for (gsize row = 0; row < all; row += row + 1 == first ? n + 1 : 1) {
      g_autofree float *kept = read_plane (d, &pages, planes[plane], row, 1);

      for (gsize i = 0; i < cols; i++)
        want[i] = old[row * cols + i];
      assert_close ("a row that was there", kept, want, cols, type == VALLEY_F32 ? 0 : tolerance,
                    1);
    }
  }
  rotate_in_double (want, q, c, s, positions + n - n_q, n_q, q_cols, half);
  got = guarded_read (d, &gq);
  assert_close ("turned queries", got, want, n_q * q_cols, 1e-6, 1);
  g_free (got);
  valley_tensor_clear (d->backend, &p);
  pages_clear (d, &pages);
  guarded_clear (d, &gk);
  guarded_clear (d, &gv);
  guarded_clear (d, &gq);
  guarded_clear (d, &gc);
  guarded_clear (d, &gs);
}

static void
test_rotate_append (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, TRUE);

  for (guint i = 0; i < 18; i++) {
    gsize n = (gsize) g_rand_int_range (rng, 1, 90);

    check_rotate_append (&d, i % 3, (gsize) g_rand_int_range (rng, 1, 200), n,
                         (gsize) g_rand_int_range (rng, 0, (gint32) n + 1),
                         (gsize) g_rand_int_range (rng, 1, 4),
                         (gsize) g_rand_int_range (rng, 1, 40));
  }
  device_clear (&d);
}

static void
check_swiglu (Device *d, gsize rows, gsize cols, gboolean in_place)
{
  g_autofree float *g = random_floats (rows * cols, 4), *u = random_floats (rows * cols, 1),
                   *got = NULL;
  g_autofree double *want = g_new (double, rows *cols);
  Guarded gg = guarded_new (d, VALLEY_F32, rows, cols, g),
          gu = guarded_new (d, VALLEY_F32, rows, cols, u);
  Guarded gy = guarded_new (d, VALLEY_F32, rows, cols, NULL);

  for (gsize i = 0; i < rows * cols; i++)
    want[i] = g[i] / (1 + exp (-(double) g[i])) * u[i];
  OPS (*d)->swiglu (d->stream, in_place ? &gg.view : &gy.view, &gg.view, &gu.view);
  got = guarded_read (d, in_place ? &gg : &gy);
  assert_close ("swiglu", got, want, rows * cols, 1e-6, 1);
  guarded_clear (d, &gg);
  guarded_clear (d, &gu);
  guarded_clear (d, &gy);
}

/* Any two rows; rows that differ by a little; the same row twice; none but zeros. */
static void
check_cosine (Device *d, gsize rows, gsize cols)
{
  g_autofree float *x = random_floats (rows * cols, 1), *z = random_floats (rows * cols, 3);
  g_autofree double *want = g_new (double, rows);
  g_autofree float *got = NULL;
  Guarded gx, gy, gz;

  for (gsize i = 0; i < rows; i++) {
    double xz = 0, xx = 0, zz = 0;

    for (gsize j = 0; j < cols; j++) {
      float *a = &x[i * cols + j], *b = &z[i * cols + j];

      if (i % 4 == 1)
        *b = 2 * *a + *b / 1000;
      else if (i % 4 == 2)
        *b = *a;
      else if (i % 8 == 7)
        *b = 0;
      xz += (double) *a * *b;
      xx += (double) *a * *a;
      zz += (double) *b * *b;
    }
    want[i] = zz > 0 ? xz / sqrt (xx) / sqrt (zz) : 0;
  }
  gx = guarded_new (d, VALLEY_F32, rows, cols, x);
  gz = guarded_new (d, VALLEY_F32, rows, cols, z);
  gy = guarded_new (d, VALLEY_F32, rows, 1, NULL);
  OPS (*d)->cosine (d->stream, &gy.view, &gx.view, &gz.view);
  got = guarded_read (d, &gy);
  assert_close ("cosine", got, want, rows, 1e-7, 1);
  for (gsize i = 0; i < rows; i++) {
    g_assert_cmpfloat (got[i], <=, 1);
    g_assert_cmpfloat (got[i], >=, -1);
    if (i % 4 == 2)
      g_assert_cmpfloat (got[i], ==, 1);
  }
  guarded_clear (d, &gx);
  guarded_clear (d, &gy);
  guarded_clear (d, &gz);
}

static void
test_cosine (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, TRUE);

  for (guint i = 0; i < 20; i++)
    check_cosine (&d, (gsize) g_rand_int_range (rng, 1, 90),
                  (gsize) g_rand_int_range (rng, 1, 700));
  device_clear (&d);
}

static void
check_softmax_and_one_hot (Device *d, gsize rows, gsize cols)
{
  g_autofree float *x = random_floats (rows * cols, 4), *got = NULL, *hot = NULL;
  g_autofree double *want = g_new (double, rows *cols);
  Guarded gx = guarded_new (d, VALLEY_F32, rows, cols, x),
          gh = guarded_new (d, VALLEY_F32, rows, cols, NULL);

  x[cols - 1] = x[cols / 2]; /* the first of two equal ones must win, if they are largest */
  guarded_clear (d, &gx);
  gx = guarded_new (d, VALLEY_F32, rows, cols, x);
  OPS (*d)->copy (d->stream, &gh.view, &gx.view);
  for (gsize i = 0; i < rows; i++) {
    double sum = 0;

    for (gsize j = 0; j < cols; j++)
      sum += want[i * cols + j] = exp ((double) x[i * cols + j]);
    for (gsize j = 0; j < cols; j++)
      want[i * cols + j] /= sum;
  }
  OPS (*d)->softmax (d->stream, &gx.view);
  got = guarded_read (d, &gx);
  assert_close ("softmax", got, want, rows * cols, 2e-6, 0);

  OPS (*d)->one_hot (d->stream, &gh.view);
  hot = guarded_read (d, &gh);
  for (gsize i = 0; i < rows; i++) {
    gsize best = 0;

    for (gsize j = 1; j < cols; j++)
      best = x[i * cols + j] > x[i * cols + best] ? j : best;
    for (gsize j = 0; j < cols; j++)
      g_assert_cmpfloat (hot[i * cols + j], ==, j == best ? 1 : 0);
  }
  guarded_clear (d, &gx);
  guarded_clear (d, &gh);
}

static void
test_rows (void)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, TRUE);

  for (guint i = 0; i < 40; i++) {
    gsize rows = g_rand_int_range (rng, 1, 70),
          cols = g_rand_int_range (rng, 1, i % 8 == 0 ? 5000 : 200);

    check_add (&d, rows, cols, i & 1);
    check_norms (&d, rows, cols, i & 1, i & 2, !(i & 1) && i & 4);
    check_rope (&d, rows, g_rand_int_range (rng, 1, 8), g_rand_int_range (rng, 1, 70), i & 1);
    check_swiglu (&d, rows, cols, i & 1);
    check_softmax_and_one_hot (&d, rows, cols);
  }
  device_clear (&d);
}

/* ---- products ---- */

/* Whether a product rounds its factors: f16 weights only where bf16 is faster.  A GPU's are rounded
 * before: here they are f32. */
static gboolean
rounds (ValleyPrecision precision, ValleyDType type, ValleyRole role)
{
  return test_on_cpu () && precision == VALLEY_PRECISION_BF16
         && (type == VALLEY_BF16
             || (type == VALLEY_F16 && role == VALLEY_ROWS_PROMPT && valley_gemm_has_bf16 ()));
}

/* What a product multiplies. */
static float *
factors (const float *x, gsize n, gboolean rounded)
{
  float *out = g_memdup2 (x, n * sizeof *x);

  if (rounded) {
    g_autofree guint16 *half = g_new (guint16, n);

    valley_kernels_c.bf16_from_f32 (half, out, n);
    valley_kernels_c.f32_from_bf16 (out, half, n);
  }
  return out;
}

static void
check_linear (ValleyPrecision precision, ValleyDType type, ValleyRole role, ValleyActivation act,
              gboolean with_bias, gsize m, gsize n, gsize k)
{
  Device d = device_new (precision, 2, TRUE);
  g_autofree float *x = random_floats (m * k, 1), *w = random_floats (n * k, 1);
  g_autofree float *b = random_floats (n, 1), *got = NULL;
  gboolean rounded = rounds (precision, type, role);
  g_autofree float *xf = factors (x, m * k, rounded);
  g_autofree double *want = g_new (double, m *n);
  Guarded gx = guarded_new (&d, VALLEY_F32, m, k, x), gw = guarded_new (&d, type, n, k, w);
  Guarded gb = guarded_new (&d, VALLEY_F32, 1, n, b), gy = guarded_new (&d, VALLEY_F32, m, n, NULL);
  g_autofree float *read = guarded_read (&d, &gw), *stored = factors (read, n * k, rounded);

  for (gsize i = 0; i < m; i++)
    for (gsize j = 0; j < n; j++) {
      double sum = with_bias ? b[j] : 0;

      for (gsize l = 0; l < k; l++)
        sum += xf[i * k + l] * (double) stored[j * k + l];
      want[i * n + j] = reference_activation (sum, act);
    }
  OPS (d)->linear (d.stream, &gy.view, &gx.view, &gw.view, with_bias ? &gb.view : NULL, act, role);
  got = guarded_read (&d, &gy);
  assert_close ("linear", got, want, m * n, 5e-6, sqrt ((double) k));
  guarded_clear (&d, &gx);
  guarded_clear (&d, &gw);
  guarded_clear (&d, &gb);
  guarded_clear (&d, &gy);
  device_clear (&d);
}

static void
test_linear (void)
{
  for (guint i = 0; i < 60; i++) {
    gsize m = g_rand_int_range (rng, 1, i % 10 == 0 ? 1100 : 90),
          n = g_rand_int_range (rng, 1, 150);
    gsize k = g_rand_int_range (rng, 1, i % 10 == 5 ? 5000 : 300);
    ValleyRole role = i & 1 ? VALLEY_ROWS_GENERATED : VALLEY_ROWS_PROMPT;
    ValleyActivation act = i % 5;

    check_linear (VALLEY_PRECISION_F32, i % 3, role, act, i & 2, m, n, k);
    check_linear (VALLEY_PRECISION_BF16, i % 3, role, act, i & 2, m, n, k);
  }
}

static void
check_mix (ValleyPrecision precision, ValleyDType type, gsize m, gsize n, gsize k)
{
  Device d = device_new (precision, 2, TRUE);
  g_autofree float *x = random_floats (m * k, 1), *w = random_floats (n * k, 1), *got = NULL;
  gboolean rounded = rounds (precision, type, VALLEY_ROWS_PROMPT);
  g_autofree float *xf = factors (x, m * k, rounded);
  g_autofree double *want = g_new0 (double, m *n);
  Guarded gx = guarded_new (&d, VALLEY_F32, m, k, x), gw = guarded_new (&d, type, k, n, w);
  Guarded gy = guarded_new (&d, VALLEY_F32, m, n, NULL);
  g_autofree float *read = guarded_read (&d, &gw), *stored = factors (read, n * k, rounded);

  for (gsize i = 0; i < m; i++)
    for (gsize l = 0; l < k; l++)
      for (gsize j = 0; j < n; j++)
        want[i * n + j] += xf[i * k + l] * (double) stored[l * n + j];
  OPS (d)->mix (d.stream, &gy.view, &gx.view, &gw.view);
  got = guarded_read (&d, &gy);
  assert_close ("mix", got, want, m * n, 5e-6, sqrt ((double) k));
  guarded_clear (&d, &gx);
  guarded_clear (&d, &gw);
  guarded_clear (&d, &gy);
  device_clear (&d);
}

static void
test_mix (void)
{
  for (guint i = 0; i < 18; i++)
    check_mix (i % 2 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32, i % 3,
               g_rand_int_range (rng, 1, 90), g_rand_int_range (rng, 1, 150),
               g_rand_int_range (rng, 1, i % 6 == 5 ? 5000 : 300));
}

/* ---- attention ---- */

static void
check_attention (ValleyDType kv_type, gsize rows, gsize keys, gsize heads, gsize kv_heads,
                 gsize dim, gsize sequences, gboolean causal)
{
  Device d = device_new (VALLEY_PRECISION_F32, 2, TRUE);
  ValleyAttention a = { .n_heads = heads,
                        .n_kv_heads = kv_heads,
                        .head_dim = dim,
                        .scale = 1 / sqrtf ((float) dim),
                        .n_sequences = sequences,
                        .n_skipped = causal ? (keys - rows) / 3 : 0 };
  gsize q_cols = heads * dim, k_cols = kv_heads * dim, group = heads / kv_heads;
  g_autofree float *q = random_floats (sequences * rows * q_cols, 2);
  g_autofree float *k = random_floats (sequences * keys * k_cols, 2);
  g_autofree float *v = random_floats (sequences * keys * k_cols, 1);
  g_autofree double *want = g_new0 (double, sequences *rows *q_cols), *p = g_new (double, keys);
  Guarded gq = guarded_new (&d, VALLEY_F32, sequences * rows, q_cols, q);
  Guarded gk = guarded_new (&d, kv_type, sequences * keys, k_cols, k);
  Guarded gv = guarded_new (&d, kv_type, sequences * keys, k_cols, v);
  Guarded go = guarded_new (&d, VALLEY_F32, sequences * rows, q_cols, NULL);
  g_autofree float *sk = guarded_read (&d, &gk), *sv = guarded_read (&d, &gv), *got = NULL;

  for (gsize i = 0; i < sequences * rows * heads; i++) {
    gsize row = i / heads, column = i % heads / group * dim;
    gsize seen = causal ? keys - rows + row + 1 : keys;
    double sum = 0;

    for (gsize j = 0; j < seen; j++) {
      const float *key = sk + (row / rows * keys + j) * k_cols + column;
      double s = 0;

      for (gsize l = 0; l < dim; l++)
        s += (double) q[i * dim + l] * key[l];
      sum += p[j] = exp (s / sqrt ((double) dim));
    }
    for (gsize j = 0; j < seen; j++)
      for (gsize l = 0; l < dim; l++)
        want[i * dim + l] += p[j] / sum * sv[(row / rows * keys + j) * k_cols + column + l];
  }
  if (causal) {
    Pages pages
        = pages_new (&d, kv_type, 64 * (gsize) g_rand_int_range (rng, 1, 4), k_cols, k, v, keys);

    pages.kv.first_row = keys - rows - a.n_skipped;
    OPS (d)->attend (d.stream, &go.view, &gq.view, &pages.kv, &a);
    pages_clear (&d, &pages);
  } else {
    OPS (d)->attention (d.stream, &go.view, &gq.view, &gk.view, &gv.view, &a);
  }
  got = guarded_read (&d, &go);
  assert_close ("attention", got, want, sequences * rows * q_cols, 3e-6, 1);
  guarded_clear (&d, &gq);
  guarded_clear (&d, &gk);
  guarded_clear (&d, &gv);
  guarded_clear (&d, &go);
  device_clear (&d);
}

static void
test_attention (void)
{
  check_attention (VALLEY_F32, 1, 1, 1, 1, 1, 1, TRUE);
  check_attention (VALLEY_F32, 130, 130, 4, 4, 72, 1, FALSE);
  check_attention (VALLEY_F32, 49, 49, 2, 2, 80, 3, FALSE);
  check_attention (VALLEY_BF16, 100, 177, 14, 2, 64, 1, TRUE);
  check_attention (VALLEY_BF16, 1, 300, 28, 4, 128, 1, TRUE);
  for (guint i = 0; i < 20; i++) {
    gsize rows = g_rand_int_range (rng, 1, 80), kv = g_rand_int_range (rng, 1, 4);
    gboolean causal = g_rand_boolean (rng);

    check_attention (i % 3, rows, rows + g_rand_int_range (rng, 0, 90),
                     kv * g_rand_int_range (rng, 1, 5), kv, g_rand_int_range (rng, 1, 140),
                     causal ? 1 : g_rand_int_range (rng, 1, 4), causal);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init (valley_kernels_get ()->name);
  g_test_add_func ("/ops/copy", test_copy);
  g_test_add_func ("/ops/gather", test_gather);
  g_test_add_func ("/ops/cosine", test_cosine);
  g_test_add_func ("/ops/grids", test_grids);
  g_test_add_func ("/ops/rows", test_rows);
  g_test_add_func ("/ops/linear", test_linear);
  g_test_add_func ("/ops/mix", test_mix);
  /* These pages lie anywhere and have no table: test-cuda-ops and test-cuda-attention have a
   * GPU's. */
  if (test_on_cpu ()) {
    g_test_add_func ("/ops/rotate-append", test_rotate_append);
    g_test_add_func ("/ops/attention", test_attention);
  }
  return g_test_run ();
}
