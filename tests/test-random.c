/* test-random.c - models of random weights: a config.json and a tokenizer are enough, and a seed
 * always makes the same model.
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include <glib/gstdio.h>

#include "alloc.h"
#include "engine-fixture.h"
#include "randomweights.h"
#include "scratch.h"
#include "which-device.h"

/* A golden's folder without its weights. */
static char *
folder_without_weights (const char *name)
{
  g_autofree char *golden = golden_dir (name);
  char *dir = scratch_new ();
  g_autoptr (GDir) files = NULL;
  const char *file;
  guint n_removed = 0;

  scratch_copy (dir, golden);
  files = g_dir_open (dir, 0, NULL);
  while ((file = g_dir_read_name (files)) != NULL)
    if (strstr (file, ".safetensors") != NULL) {
      g_autofree char *path = g_build_filename (dir, file, NULL);

      g_assert_cmpint (g_unlink (path), ==, 0);
      n_removed++;
    }
  g_assert_cmpuint (n_removed, >, 0);
  return dir;
}

static ValleyModel *
open_random (const char *dir, guint64 seed)
{
  ValleyModelOptions options = {
    .device = test_device (), .precision = VALLEY_PRECISION_F32, .threads = 2, .random_seed = seed
  };
  GError *error = NULL;
  ValleyModel *model = valley_model_open (dir, &options, &error);

  g_assert_no_error (error);
  return model;
}

static void
ask_random (const char *dir, guint64 seed, Answer *answer)
{
  ValleySessionOptions options = { .keep_logits = TRUE };
  Fixture f = { .model = open_random (dir, seed) };
  GError *error = NULL;

  valley_model_load (f.model, NULL, &error);
  g_assert_no_error (error);
  f.session = valley_session_new (f.model, &options, &error);
  g_assert_no_error (error);
  fixture_push_frames (&f, 0, 1);
  fixture_ask (&f, 8, answer);
  fixture_close (&f);
}

static void
test_seeds (gconstpointer data)
{
  char *dir = folder_without_weights (data);
  guint64 seed = (guint64) (guint32) g_test_rand_int () + 1;
  Answer first, same, other;
  gsize n;

  g_test_message ("seed %" G_GUINT64_FORMAT, seed);
  ask_random (dir, seed, &first);
  ask_random (dir, seed, &same);
  ask_random (dir, seed + 1, &other);
  for (gsize i = 0; i < first.n_logits; i++)
    g_assert_true (isfinite (first.logits[i]) && fabsf (first.logits[i]) < 1000);
  answer_assert_same (&first, &same);
  n = MIN (first.n_logits, other.n_logits) * sizeof (float);
  g_assert_cmpint (memcmp (first.logits, other.logits, n), !=, 0);
  answer_clear (&first);
  answer_clear (&same);
  answer_clear (&other);
  scratch_remove (dir);
}

/* The registry keeps seeds apart, and a folder without weights is none without a seed. */
static void
test_opening (void)
{
  char *dir = folder_without_weights ("ovis-softmax");
  ValleyModel *one = open_random (dir, 1), *again = open_random (dir, 1),
              *two = open_random (dir, 2), *real = open_random (dir, 0);
  g_autoptr (GError) error = NULL;

  g_assert_true (one == again);
  g_assert_true (one != two);
  g_assert_true (one != real);
  g_assert_false (valley_model_load (real, NULL, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND);
  valley_model_unref (one);
  valley_model_unref (again);
  valley_model_unref (two);
  valley_model_unref (real);
  scratch_remove (dir);
}

static float
value_of (const ValleySafetensor *tensor, gsize i)
{
  guint32 bits = (guint32) ((const guint16 *) tensor->data)[i] << 16;
  float value;

  memcpy (&value, &bits, sizeof value);
  return value;
}

/* Even between the bounds: mean 0, variance a third of the bound's square. */
static void
test_values (void)
{
  ValleyRandomWeights *weights = valley_random_weights_new (7);
  const ValleySafetensor *matrix
      = valley_random_weights_make (weights, "a.weight", (gsize[]){ 300, 100 }, 2);
  const ValleySafetensor *norm
      = valley_random_weights_make (weights, "a.weight", (gsize[]){ 9 }, 1);
  const ValleySafetensor *bias = valley_random_weights_make (weights, "a.bias", (gsize[]){ 25 }, 1);
  const ValleySafetensor *other
      = valley_random_weights_make (weights, "b.weight", (gsize[]){ 300, 100 }, 2);
  double sum = 0, squares = 0, products = 0;

  for (gsize i = 0; i < 30000; i++) {
    double value = value_of (matrix, i);

    g_assert_true (fabs (value) <= 0.1);
    sum += value;
    squares += value * value;
    products += value * value_of (other, i);
  }
  /* Five standard errors of each figure. */
  g_assert_true (fabs (sum / 30000) < 5 * 0.0577 / sqrt (30000));
  g_assert_true (fabs (squares / 30000 - 0.01 / 3) < 5 * 0.003 / sqrt (30000));
  g_assert_true (fabs (products / 30000) < 5 * 0.0033 / sqrt (30000));
  for (gsize i = 0; i < 9; i++)
    g_assert_cmpfloat (value_of (norm, i), ==, 1);
  for (gsize i = 0; i < 25; i++)
    g_assert_true (fabsf (value_of (bias, i)) <= 0.2f);
  valley_random_weights_free (weights);
}

static void
test_too_large (void)
{
  ValleyRandomWeights *weights = valley_random_weights_new (7);

  g_assert_null (
      valley_random_weights_make (weights, "a.weight", (gsize[]){ G_MAXSIZE / 2, 16 }, 2));
  g_assert_null (
      valley_random_weights_make (weights, "a.weight", (gsize[]){ G_MAXSIZE / 2 + 1 }, 1));
  valley_random_weights_free (weights);
}

/* Whichever allocation fails, loading says so, and works once there is room. */
static void
test_no_memory (void)
{
  char *dir = folder_without_weights ("ovis-softmax");
  ValleyModel *model = open_random (dir, 3);
  guint n_failed = 0;

  for (guint n = 1;; n += 1 + n / 16) {
    g_autoptr (GError) error = NULL;
    gboolean ok;

    valley_alloc_fail_at (n);
    ok = valley_model_load (model, NULL, &error);
    if (!valley_alloc_has_failed ()) {
      valley_alloc_fail_at (0);
      g_assert_no_error (error);
      g_assert_true (ok);
      break;
    }
    g_assert_false (ok);
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
    n_failed++;
  }
  g_assert_cmpuint (n_failed, >, 10);
  valley_model_unref (model);
  scratch_remove (dir);
}

static void
test_cancelled (void)
{
  char *dir = folder_without_weights ("ovis-softmax");
  ValleyModel *model = open_random (dir, 3);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;

  g_cancellable_cancel (cancellable);
  g_assert_false (valley_model_load (model, cancellable, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
  valley_model_unref (model);
  scratch_remove (dir);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_data_func ("/random/seeds/ovis-softmax", "ovis-softmax", test_seeds);
  g_test_add_data_func ("/random/seeds/ovis-argmax", "ovis-argmax", test_seeds);
  g_test_add_data_func ("/random/seeds/conv-adapter", "conv-adapter", test_seeds);
  g_test_add_data_func ("/random/seeds/pixel-shuffle", "pixel-shuffle", test_seeds);
  g_test_add_data_func ("/random/seeds/qwen3-bias", "qwen3-bias", test_seeds);
  g_test_add_data_func ("/random/seeds/qwen3-navit", "qwen3-navit", test_seeds);
  g_test_add_func ("/random/opening", test_opening);
  g_test_add_func ("/random/values", test_values);
  g_test_add_func ("/random/too-large", test_too_large);
  g_test_add_func ("/random/no-memory", test_no_memory);
  g_test_add_func ("/random/cancelled", test_cancelled);
  return g_test_run ();
}
