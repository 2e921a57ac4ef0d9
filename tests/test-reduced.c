/* test-reduced.c - windows under a budget through the whole engine: what pooling makes of a
 * frame's rows, what is counted, and that the redundancy drop leaves the rest where it was.
 * SPDX-License-Identifier: Apache-2.0 */
#include "compare.h"
#include "engine-fixture.h"
#include "reftensors.h"

#define WIDTH 72
#define HEIGHT 48

static ValleyPicture *
new_picture (Fixture *f, guint64 pts_ns, guint seed, const ValleyReduction *reduction)
{
  guint8 rgb[3 * WIDTH * HEIGHT];
  GError *error = NULL;
  ValleyPicture *picture;

  for (guint i = 0; i < sizeof rgb; i++)
    rgb[i] = (guint8) (i * (seed + 3) + i / 97);
  picture = valley_picture_new_from_rgb (f->model, pts_ns, rgb, 3 * WIDTH, WIDTH, HEIGHT, reduction,
                                         &error);
  g_assert_no_error (error);
  return picture;
}

static void
push (Fixture *f, guint number, guint seed, const ValleyReduction *reduction)
{
  ValleyPicture *picture = new_picture (f, number * FRAME_NS, seed, reduction);
  GError *error = NULL;

  valley_session_push (f->session, picture, number == 0, &error);
  g_assert_no_error (error);
  valley_picture_unref (picture);
}

/* ---- pooling ---- */

static float *
encode (Fixture *f, ValleyStream *stream, const ValleyReduction *reduction, gsize *rows,
        ValleyInputSizes *sizes)
{
  ValleyPicture *picture = new_picture (f, 0, 5, reduction);
  ValleyTensor tensor;
  GError *error = NULL;
  float *values;

  valley_encode_picture (f->model, stream, picture, 0, NULL, &tensor);
  values = g_new (float, tensor.rows *tensor.cols);
  g_assert_true (stream->ops->download (stream, &tensor, values, &error));
  g_assert_no_error (error);
  *rows = tensor.rows;
  *sizes = picture->sizes;
  valley_tensor_clear (stream->backend, &tensor);
  valley_picture_unref (picture);
  return values;
}

/* The mean of a bin of adaptive pooling, as PyTorch cuts them. */
static double
bin_mean (const float *grid, gsize from, gsize to, gsize row, gsize col, gsize width, gsize j)
{
  gsize top = row * from / to, bottom = ((row + 1) * from + to - 1) / to;
  gsize left = col * from / to, right = ((col + 1) * from + to - 1) / to;
  double sum = 0;

  for (gsize y = top; y < bottom; y++)
    for (gsize x = left; x < right; x++)
      sum += grid[(y * from + x) * width + j];
  return sum / (double) ((bottom - top) * (right - left));
}

static void
test_pooled_rows (Fixture *f, gconstpointer data)
{
  gsize side = valley_config_tile_side (f->model->config, 1), width, n_full, n;
  GError *error = NULL;
  ValleyStream *stream = f->model->backend->ops->stream_new (f->model->backend, &error);
  ValleyInputSizes sizes, full_sizes;
  g_autofree float *full = encode (f, stream, NULL, &n_full, &full_sizes);

  width = f->model->config->llm.hidden_size;
  g_assert_cmpuint (full_sizes.n_tokens, ==, n_full);
  g_assert_cmpuint (side, ==, 3);
  for (gsize to = 2; to >= 1; to--) {
    gsize n_eagle = n_full - side * side;
    ValleyReduction reduction
        = { .max_vision_tokens = (guint) (to * to + n_eagle), .max_frames = 1, .pool = TRUE };
    g_autofree float *pooled = encode (f, stream, &reduction, &n, &sizes);
    g_autofree double *want = g_new (double, to *to *width);

    g_assert_cmpuint (sizes.siglip_side, ==, to);
    g_assert_cmpuint (n, ==, to * to + n_eagle);
    g_assert_cmpuint (sizes.n_tokens, ==, n);
    g_assert_cmpuint (sizes.n_tokens_before, ==, n_full);
    for (gsize i = 0; i < to * to * width; i++)
      want[i] = bin_mean (full, side, to, i / width / to, i / width % to, width, i % width);
    assert_close ("pooled tokens", pooled, want, to * to * width, 1e-6, 1);
    g_assert_cmpmem (pooled + to * to * width, n_eagle * width * sizeof (float),
                     full + side * side * width, n_eagle * width * sizeof (float));
  }
  stream->ops->stream_free (stream);
}

/* The release's grid and the bundled model's, pooled by PyTorch. */
static void
test_pools (Fixture *f, gconstpointer data)
{
  const guint cases[][2] = { { 14, 10 }, { 14, 7 }, { 14, 5 }, { 4, 3 }, { 4, 2 }, { 4, 1 } };
  g_autofree char *path = golden_dir ("images.safetensors");
  GError *error = NULL;
  g_autoptr (RefFile) file = ref_file_read (path, &error);
  ValleyStream *stream = f->model->backend->ops->stream_new (f->model->backend, &error);

  g_assert_no_error (error);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    guint from = cases[i][0], to = cases[i][1], n = 3 * to * to;
    g_autofree char *name = g_strdup_printf ("pool.%u", from);
    g_autofree char *pooled = g_strdup_printf ("pool.%u.%u", from, to);
    const RefTensor *grid = ref_file_get (file, name, REF_F32, 2);
    const RefTensor *want = ref_file_get (file, pooled, REF_F32, 2);
    g_autofree float *host = NULL, *got = g_new (float, n);
    g_autofree double *reference = g_new (double, n);
    ValleyTensor x, y;

    g_assert_true (grid != NULL && want != NULL);
    g_assert_cmpuint (grid->shape[0], ==, from * from);
    g_assert_cmpuint (want->shape[0], ==, to * to);
    host = g_memdup2 (grid->data, grid->bytes);
    for (guint j = 0; j < n; j++) {
      float value;

      memcpy (&value, (const char *) want->data + j * sizeof value, sizeof value);
      reference[j] = value;
    }
    valley_tensor_init (stream, &x, VALLEY_F32, from * from, 3);
    valley_tensor_init (stream, &y, VALLEY_F32, to * to, 3);
    stream->ops->upload (stream, &x, host);
    stream->ops->average_pool (stream, &y, &x, from, from, to, to);
    g_assert_true (stream->ops->download (stream, &y, got, &error));
    assert_close (pooled, got, reference, n, 1e-6, 1);
    valley_tensor_clear (stream->backend, &x);
    valley_tensor_clear (stream->backend, &y);
  }
  stream->ops->stream_free (stream);
}

/* ---- sessions ---- */

static void
test_counts (Fixture *f, gconstpointer data)
{
  const ValleyReduction reduction
      = { .max_vision_tokens = 10, .max_frames = 2, .pool = TRUE, .eagle = TRUE };
  const ValleyResult *result;
  ValleyInputSizes full;
  Answer answer;

  valley_model_input_sizes (f->model, WIDTH, HEIGHT, NULL, &full, NULL);
  g_assert_cmpuint (full.n_tokens, >, 5);
  push (f, 0, 1, &reduction);
  push (f, 1, 2, &reduction);
  fixture_ask (f, 3, &answer);
  result = valley_session_result (f->session);
  g_assert_cmpuint (result->n_frames, ==, 2);
  g_assert_cmpuint (result->n_vision_tokens, >, 0);
  g_assert_cmpuint (result->n_vision_tokens, <=, 10);
  g_assert_cmpuint (result->n_vision_tokens_before, ==, 2 * full.n_tokens);
  answer_clear (&answer);
}

/* Three frames under @reduction; the answer, and how many vision tokens it took. */
static guint
ask (Fixture *f, const guint seeds[3], const ValleyReduction *reduction, Answer *answer)
{
  valley_session_reset (f->session);
  for (guint i = 0; i < 3; i++)
    push (f, i, seeds[i], reduction);
  fixture_ask (f, 6, answer);
  return valley_session_result (f->session)->n_vision_tokens;
}

static void
test_drop (Fixture *f, gconstpointer data)
{
  const ValleyReduction never = { .drop = TRUE, .drop_threshold = 1 }, drop = { .drop = TRUE };
  const guint same[3] = { 4, 4, 4 }, back[3] = { 4, 9, 4 };
  ValleyInputSizes full;
  Answer plain, kept, dropped, again;
  guint n;

  valley_model_input_sizes (f->model, WIDTH, HEIGHT, NULL, &full, NULL);
  g_assert_cmpuint (ask (f, same, NULL, &plain), ==, 3 * full.n_tokens);
  g_assert_cmpuint (ask (f, same, &never, &kept), ==, 3 * full.n_tokens);
  answer_assert_same (&plain, &kept); /* positions given one by one change no bits */

  g_assert_cmpuint (ask (f, same, &drop, &dropped), ==, full.n_tokens);
  g_assert_cmpuint (valley_session_result (f->session)->n_vision_tokens_before, ==,
                    3 * full.n_tokens);
  g_assert_cmpuint (valley_session_result (f->session)->n_input_tokens, ==,
                    valley_session_result (f->session)->n_input_ids - 3 + full.n_tokens);
  for (gsize i = 0; i < dropped.n_logits; i++)
    g_assert_true (isfinite (dropped.logits[i]));
  answer_clear (&kept);
  answer_clear (&plain);
  answer_clear (&dropped);

  n = ask (f, back, &drop, &dropped);
  g_assert_cmpuint (n, ==, ask (f, back, &drop, &again));
  g_assert_cmpuint (n, <=, 3 * full.n_tokens);
  answer_assert_same (&dropped, &again);
  answer_clear (&dropped);
  answer_clear (&again);
}

/* Where nothing is dropped there is no gap to close; where something is, gaps make a difference. */
static void
test_gaps (Fixture *f, gconstpointer data)
{
  const ValleyReduction drop = { .drop = TRUE }, close = { .drop = TRUE, .close = TRUE };
  const ValleyReduction never = { .drop = TRUE, .close = TRUE, .drop_threshold = 1 };
  const guint same[3] = { 4, 4, 4 };
  Answer plain, kept, gaps, closed;

  ask (f, same, NULL, &plain);
  ask (f, same, &never, &kept);
  answer_assert_same (&plain, &kept);
  g_assert_cmpuint (ask (f, same, &drop, &gaps), ==, ask (f, same, &close, &closed));
  g_assert_cmpuint (gaps.n_logits, >, 0);
  g_assert_cmpint (
      memcmp (gaps.logits, closed.logits, MIN (gaps.n_logits, closed.n_logits) * sizeof (float)),
      !=, 0);
  answer_clear (&plain);
  answer_clear (&kept);
  answer_clear (&gaps);
  answer_clear (&closed);
}

static void
test_refused (Fixture *f, gconstpointer data)
{
  ValleyInputSizes sizes, bad[2];
  guint8 *pixels;
  GError *error = NULL;

  valley_model_input_sizes (f->model, WIDTH, HEIGHT, NULL, &sizes, &error);
  g_assert_no_error (error);
  bad[0] = bad[1] = sizes;
  bad[0].siglip_side = 4;
  bad[1].drop_threshold = NAN;
  pixels = g_malloc0 (
      3 * (MAX (sizes.siglip_width * sizes.siglip_height, sizes.eagle_width * sizes.eagle_height)));
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_assert_null (valley_picture_new (f->model, 0, &bad[i], pixels, pixels, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
    g_clear_error (&error);
  }
  g_free (pixels);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/reduced/pooled-rows", Fixture, NULL, fixture_setup, test_pooled_rows,
              fixture_teardown);
  g_test_add ("/reduced/pools", Fixture, NULL, fixture_setup, test_pools, fixture_teardown);
  g_test_add ("/reduced/counts", Fixture, NULL, fixture_setup, test_counts, fixture_teardown);
  g_test_add ("/reduced/drop", Fixture, NULL, fixture_setup, test_drop, fixture_teardown);
  g_test_add ("/reduced/gaps", Fixture, NULL, fixture_setup, test_gaps, fixture_teardown);
  g_test_add ("/reduced/refused", Fixture, NULL, fixture_setup, test_refused, fixture_teardown);
  return g_test_run ();
}
