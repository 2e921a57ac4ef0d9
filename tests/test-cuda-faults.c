/* test-cuda-faults.c - a device that runs out of memory or fails, under the whole engine: what was
 * going on ends in one clear error, and what comes after has the bits that it would have had.
 *
 * Needs the emulator, which fails where it is told to.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "emu.h"
#include "engine-fixture.h"

enum { WINDOW = 3, FRAMES = 5, MOST_ANSWERS = FRAMES - WINDOW + 1 };

#define PLENTY ((size_t) 1 << 30)

typedef struct {
  Fixture f;
  Answer answers[MOST_ANSWERS];
  guint n_answers, n_errors;
  int code; /* that every error has */
  gboolean retries;
} Run;

static ValleyModel *
load (const char *device)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyModelOptions options = { .device = device, .precision = VALLEY_PRECISION_BF16 };
  g_autoptr (GError) error = NULL;
  ValleyModel *model = valley_model_open (dir, &options, &error);

  g_assert_no_error (error);
  valley_model_load (model, NULL, &error);
  g_assert_no_error (error);
  return model;
}

/* After a call: FALSE when it failed as it may, and is to be made again. */
static gboolean
succeeded (Run *run, gboolean ok, GError **error)
{
  if (ok)
    return TRUE;
  run->n_errors++;
  g_assert_error (*error, VALLEY_ERROR, run->code);
  if (run->n_errors == 1)
    g_test_message ("%s", (*error)->message);
  g_clear_error (error);
  return !run->retries;
}

static void
ask (Run *run)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 3 };
  GError *error = NULL;
  gboolean ok;

  do
    ok = fixture_run (&run->f, &request, &error);
  while (!succeeded (run, ok, &error));
  if (ok)
    answer_take (&run->f, &run->answers[run->n_answers++]);
}

/* Overlapping windows in a session of its own. */
static void
run_windows (Run *run, ValleyModel *model)
{
  const ValleyWindowing windowing = { VALLEY_WINDOWS_ANCHORED, WINDOW, 1, 0, 0, 0 };
  GError *error = NULL;

  run->f.model = valley_model_ref (model);
  do
    run->f.session
        = valley_session_new (model, &(ValleySessionOptions){ .keep_logits = TRUE }, &error);
  while (!succeeded (run, run->f.session != NULL, &error));
  if (run->f.session == NULL)
    return;
  g_assert_true (valley_session_set_windowing (run->f.session, &windowing, &error));
  for (guint i = 0; i < FRAMES; i++) {
    gboolean ok;

    if (i >= WINDOW)
      valley_session_drop_before (run->f.session, (i - WINDOW + 1) * FRAME_NS);
    do
      ok = fixture_push (&run->f, i, &error);
    while (!succeeded (run, ok, &error));
    if (ok && i >= WINDOW - 1)
      ask (run);
  }
}

static void
run_clear (Run *run)
{
  fixture_close (&run->f);
  for (guint i = 0; i < run->n_answers; i++)
    answer_clear (&run->answers[i]);
}

static void
check_same (const Run *run, const Run *good)
{
  g_assert_cmpuint (run->n_answers, ==, good->n_answers);
  for (guint i = 0; i < run->n_answers; i++)
    answer_assert_same (&run->answers[i], &good->answers[i]);
}

/* ---- memory ---- */

/* One allocation that fails finds memory in what the backend keeps for later. */
static void
test_allocations (void)
{
  ValleyModel *model = load ("cuda");
  Run good = { .code = VALLEY_ERROR_MEMORY };

  run_windows (&good, model);
  g_assert_cmpuint (good.n_errors, ==, 0);
  for (guint n = 1; n < 80; n += 1 + n / 3) {
    Run run = { .code = VALLEY_ERROR_MEMORY, .retries = TRUE };

    emu_fail_allocation_at (n);
    run_windows (&run, model);
    emu_fail_allocation_at (0);
    g_assert_cmpuint (run.n_errors, <=, 1);
    check_same (&run, &good);
    run_clear (&run);
  }
  run_clear (&good);
  valley_model_unref (model);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
}

/* The least memory that all windows are answered in: there what is needed last was given up, and
 * computed again to the same bits. */
static void
test_tight (void)
{
  ValleyModel *model = load ("cuda");
  gsize less = 0, enough = 64 << 20;
  guint64 n_evicted = 0;
  Run good = { 0 };

  run_windows (&good, model);
  while (enough - less > 20000) {
    gsize middle = less + (enough - less) / 2;
    Run run = { .code = VALLEY_ERROR_MEMORY };
    ValleySessionStats stats = { 0 };

    emu_set_device_bytes (middle);
    run_windows (&run, model);
    if (run.f.session != NULL)
      valley_session_stats (run.f.session, &stats);
    if (run.n_errors == 0) {
      check_same (&run, &good);
      n_evicted = stats.sequences_evicted + stats.encodings_evicted;
    }
    *(run.n_errors == 0 ? &enough : &less) = middle;
    run_clear (&run);
  }
  emu_set_device_bytes (PLENTY);
  g_test_message ("%" G_GSIZE_FORMAT " bytes are enough, with %" G_GUINT64_FORMAT " evictions",
                  enough, n_evicted);
  g_assert_cmpuint (n_evicted, >, 0);
  run_clear (&good);
  valley_model_unref (model);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
}

/* A device that is full fails what needs more, and nothing else. */
static void
test_full (void)
{
  ValleyModel *model = load ("cuda");
  Run before = { 0 }, full = { .code = VALLEY_ERROR_MEMORY }, after = { 0 };

  run_windows (&before, model);
  emu_set_device_bytes (1);
  run_windows (&full, model);
  g_assert_cmpuint (full.n_errors, >, 0);
  emu_set_device_bytes (PLENTY);
  run_windows (&after, model);
  check_same (&after, &before);
  run_clear (&full);
  run_clear (&before);
  run_clear (&after);
  valley_model_unref (model);
}

/* The weights do not fit: how much they need, how much there is, what needs less. */
static void
test_full_at_load (void)
{
  static const char *const words[]
      = { "need 18 MiB on device \"cuda:1\"", " of 5 MiB free", "precision=bf16", "device=cpu" };
  const char *dir = g_getenv ("VALLEY_TEST_MODEL");
  ValleyModelOptions options = { .device = "cuda:1", .precision = VALLEY_PRECISION_F32 };
  g_autoptr (GError) error = NULL;
  ValleyModel *model = valley_model_open (dir, &options, &error);

  g_assert_no_error (error);
  emu_set_device_bytes (5 << 20);
  g_assert_false (valley_model_load (model, NULL, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
  g_test_message ("%s", error->message);
  for (guint i = 0; i < G_N_ELEMENTS (words); i++)
    if (strstr (error->message, words[i]) == NULL)
      g_error ("expected '%s' in: %s", words[i], error->message);
  g_clear_error (&error);
  emu_set_device_bytes (PLENTY);
  g_assert_true (valley_model_load (model, NULL, &error));
  valley_model_unref (model);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
}

/* Nor do keys, values and encodings, whatever the settings allow. */
static void
test_full_policy (void)
{
  ValleyWindowing windowing = { .policy = VALLEY_WINDOWS_SLIDING,
                                .window_frames = 4,
                                .hop_frames = 1,
                                .cache_max_bytes = (guint64) 8 << 30 };
  ValleyModel *model = load ("cuda");
  g_autoptr (GError) error = NULL;
  ValleyInputSizes sizes;
  guint64 need;

  g_assert_true (valley_model_input_sizes (model, 64, 48, NULL, &sizes, NULL));
  g_assert_true (valley_model_admits (model, &windowing, &sizes, &need, NULL));
  for (guint i = 0; i < 2; i++) {
    emu_set_device_bytes (need + 1000); /* and the weights */
    g_assert_false (valley_model_admits (model, &windowing, &sizes, &need, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
    g_test_message ("%s", error->message);
    g_assert_nonnull (strstr (error->message, "the device's memory"));
    g_clear_error (&error);
    emu_set_device_bytes (PLENTY);
    windowing.cache_max_bytes = 0; /* nor without a bound */
  }
  g_assert_true (valley_model_admits (model, &windowing, &sizes, &need, NULL));
  valley_model_unref (model);
}

/* ---- a device that fails for good ---- */

/* The @n-th kernel of a run takes the device with it; TRUE: there was one. */
static gboolean
check_lost (guint n, const Run *good)
{
  ValleyModel *model = load ("cuda"), *again;
  Run other = { .code = VALLEY_ERROR_DEVICE }, run = { .code = VALLEY_ERROR_DEVICE }, next = { 0 };
  g_autoptr (GError) error = NULL;
  gboolean lost;

  emu_fail_kernel_at (n);
  run_windows (&run, model);
  emu_fail_kernel_at (0);
  lost = valley_model_is_lost (model);
  g_assert_true (lost == (run.n_errors > 0));
  if (lost) { /* so do others that have it */
    run_windows (&other, model);
    g_assert_cmpuint (other.n_errors, >, 0);
    g_assert_cmpuint (other.n_answers, ==, 0);
    run_clear (&other);
  }
  again = valley_model_open_again (model, NULL, NULL, &error);
  g_assert_no_error (error);
  g_assert_true ((again != model) == lost);
  run_clear (&run);
  valley_model_unref (model);
  valley_model_load (again, NULL, &error);
  g_assert_no_error (error);
  run_windows (&next, again);
  check_same (&next, good);
  run_clear (&next);
  valley_model_unref (again);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
  return lost;
}

/* While the weights are copied to it: that is no want of memory. */
static void
test_lost_at_load (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyModelOptions options = { .device = "cuda", .precision = VALLEY_PRECISION_BF16 };
  g_autoptr (GError) error = NULL;
  ValleyModel *model = valley_model_open (dir, &options, &error);

  g_assert_no_error (error);
  emu_fail_kernel_at (1);
  g_assert_false (valley_model_load (model, NULL, &error));
  emu_fail_kernel_at (0);
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_test_message ("%s", error->message);
  g_assert_true (valley_model_is_lost (model));
  valley_model_unref (model);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
}

static void
test_lost (void)
{
  ValleyModel *model = load ("cuda");
  Run good = { 0 };
  guint n = 1;

  run_windows (&good, model);
  valley_model_unref (model);
  while (check_lost (n, &good))
    n += 1 + n / 2;
  g_assert_cmpuint (n, >, 100); /* that many kernels there are */
  run_clear (&good);
}

/* ---- two devices ---- */

static gpointer
run_thread (gpointer data)
{
  Run *run = data;

  run_windows (run, run->f.model);
  return NULL;
}

/* At once, and one of them fails: the other takes no notice. */
static void
test_two_devices (void)
{
  ValleyModel *models[] = { load ("cuda:0"), load ("cuda:1") };
  Run runs[2] = { { .f.model = models[0] }, { .f.model = models[1] } };
  Run failing = { .code = VALLEY_ERROR_DEVICE }, after = { 0 };
  GThread *threads[2];

  for (guint i = 0; i < 2; i++)
    threads[i] = g_thread_new ("device", run_thread, &runs[i]);
  for (guint i = 0; i < 2; i++)
    g_thread_join (threads[i]);
  check_same (&runs[0], &runs[1]);
  emu_fail_kernel_at (10);
  run_windows (&failing, models[1]);
  g_assert_true (valley_model_is_lost (models[1]));
  g_assert_false (valley_model_is_lost (models[0]));
  run_windows (&after, models[0]);
  check_same (&after, &runs[0]);
  run_clear (&failing);
  run_clear (&after);
  for (guint i = 0; i < 2; i++) {
    run_clear (&runs[i]);
    valley_model_unref (models[i]);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  g_test_add_func ("/cuda-faults/allocations", test_allocations);
  g_test_add_func ("/cuda-faults/tight", test_tight);
  g_test_add_func ("/cuda-faults/full", test_full);
  g_test_add_func ("/cuda-faults/full-at-load", test_full_at_load);
  g_test_add_func ("/cuda-faults/full-policy", test_full_policy);
  g_test_add_func ("/cuda-faults/lost", test_lost);
  g_test_add_func ("/cuda-faults/lost-at-load", test_lost_at_load);
  g_test_add_func ("/cuda-faults/two-devices", test_two_devices);
  return g_test_run ();
}
