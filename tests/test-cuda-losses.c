/* test-cuda-losses.c - a device that fails or is full under the real element: GStreamer's own CUDA
 * context goes with it and another one takes its place, its memory comes back, whoever shared the
 * model goes on too, and only the answer in hand is missing.
 *
 * Needs the emulator, which fails where it is told to.
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime.h>
#include <string.h>

#include "emu.h"
#include "harness.h"

/* Left to choose, cudaupload passes the host's memory on. */
#define UPLOAD "! cudaupload ! video/x-raw(memory:CUDAMemory)"

#define PLENTY ((gsize) 1 << 30)
#define WINDOWS 5

#define SOURCE                                                                                     \
  "videotestsrc num-buffers=20 pattern=ball ! "                                                    \
  "video/x-raw,format=NV12,width=322,height=242,framerate=4/1 "

/* One pipeline and what became of it. */
typedef struct {
  GstElement *pipeline, *element;
  GstBus *bus;
  GPtrArray *answers; /* of strings; an error's is "failed: ..." */
  guint n_failed, n_warnings;
  char *error; /* that ended it, or NULL */
} Watched;

static Watched *
watched_new (const char *before)
{
  Watched *w = g_new0 (Watched, 1);

  w->pipeline = pipe_new (SOURCE "%s ! valleyinfer name=v device=cuda model-path=%s/ovis-softmax "
                                 "chunk-duration=1000 max-new-tokens=3 ! fakesink v.json_src "
                                 "! fakesink",
                          before, g_getenv ("VALLEY_TEST_GOLDEN"));
  w->element = gst_bin_get_by_name (GST_BIN (w->pipeline), "v");
  w->bus = gst_element_get_bus (w->pipeline);
  w->answers = g_ptr_array_new_with_free_func (g_free);
  return w;
}

/* What it answered stays. */
static void
watched_stop (Watched *w)
{
  if (w->pipeline == NULL)
    return;
  g_clear_object (&w->bus);
  g_clear_object (&w->element);
  pipe_free (g_steal_pointer (&w->pipeline));
}

/* Also what an element that stopped had still to say. */
static void
watched_forget (Watched *w)
{
  gst_bus_set_flushing (w->bus, TRUE);
  gst_bus_set_flushing (w->bus, FALSE);
  g_ptr_array_set_size (w->answers, 0);
  g_clear_pointer (&w->error, g_free);
  w->n_failed = w->n_warnings = 0;
}

static void
watched_free (Watched *w)
{
  watched_stop (w);
  g_ptr_array_unref (w->answers);
  g_free (w->error);
  g_free (w);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Watched, watched_free)

/* What an answer says, and how sure it was: one bit shows there. */
static void
take_result (Watched *w, const GstStructure *result)
{
  const char *error = gst_structure_get_string (result, "error");
  g_autofree char *confidence = NULL;

  if (error != NULL) {
    g_test_message ("%s", error);
    g_ptr_array_add (w->answers, g_strconcat ("failed: ", error, NULL));
    w->n_failed++;
    return;
  }
  confidence = gst_value_serialize (gst_structure_get_value (result, "confidence"));
  g_ptr_array_add (
      w->answers,
      g_strdup_printf ("%s %s", gst_structure_get_string (result, "result"), confidence));
}

/* FALSE: that was the last message. */
static gboolean
take_message (Watched *w, GstMessage *message)
{
  g_autoptr (GError) error = NULL;

  switch (GST_MESSAGE_TYPE (message)) {
  case GST_MESSAGE_ELEMENT:
    if (gst_message_has_name (message, "valleyinfer/result"))
      take_result (w, gst_message_get_structure (message));
    return TRUE;
  case GST_MESSAGE_WARNING:
    gst_message_parse_warning (message, &error, NULL);
    g_test_message ("warning: %s", error->message);
    w->n_warnings += strstr (error->message, "loaded there again") != NULL;
    return TRUE;
  case GST_MESSAGE_ERROR:
    gst_message_parse_error (message, &error, NULL);
    w->error = g_strdup_printf ("%s: %s", GST_MESSAGE_SRC_NAME (message), error->message);
    g_test_message ("error: %s", w->error);
    return FALSE;
  default:
    return GST_MESSAGE_TYPE (message) != GST_MESSAGE_EOS;
  }
}

static void
play (Watched *w)
{
  gst_element_set_state (w->pipeline, GST_STATE_PLAYING);
}

static void
watch (Watched *w)
{
  gboolean more = TRUE;

  while (more) {
    GstMessage *message = bus_wait (w->bus, GST_MESSAGE_EOS | GST_MESSAGE_ELEMENT
                                                | GST_MESSAGE_WARNING | GST_MESSAGE_ERROR);

    more = take_message (w, message);
    gst_message_unref (message);
  }
}

static guint64
losses (Watched *w)
{
  g_autoptr (GstStructure) stats = NULL;
  guint64 n = 0;

  g_object_get (w->element, "stats", &stats, NULL);
  g_assert_true (gst_structure_get_uint64 (stats, "device-losses", &n));
  return n;
}

/* Every answer is as it was, or says what was wrong with the device. */
static void
check_answered (Watched *w, Watched *good)
{
  g_assert_cmpuint (w->answers->len, <=, WINDOWS);
  for (guint i = 0; i < w->answers->len; i++)
    if (!g_str_has_prefix (w->answers->pdata[i], "failed: "))
      g_assert_cmpstr (w->answers->pdata[i], ==, good->answers->pdata[i]);
    else
      g_assert_true (strstr (w->answers->pdata[i], "cuda:0") != NULL
                     || strstr (w->answers->pdata[i], "not enough memory") != NULL);
}

/* And all but @most windows were answered. */
static void
check_answers (Watched *w, Watched *good, guint most)
{
  g_assert_cmpstr (w->error, ==, NULL);
  g_assert_cmpuint (w->answers->len, ==, WINDOWS);
  g_assert_cmpuint (w->n_failed, <=, most);
  check_answered (w, good);
}

static gsize
bytes_used (void)
{
  gsize available, total;

  /* whoever looks for plugins may leave another context current */
  g_assert_cmpint (cudaSetDevice (0), ==, cudaSuccess);
  g_assert_cmpint (cudaMemGetInfo (&available, &total), ==, cudaSuccess);
  return total - available;
}

/* A run without a fault; the kernels that it takes, loading too, and its memory at the end. */
static Watched *
run_good (guint64 *n_kernels, gsize *bytes)
{
  guint64 first = emu_kernels_run ();
  Watched *good = watched_new ("");

  play (good);
  watch (good);
  *n_kernels = emu_kernels_run () - first;
  *bytes = bytes_used ();
  check_answers (good, good, 0);
  watched_stop (good); /* what shares its context would keep that alive */
  g_assert_cmpuint (bytes_used (), ==, 0);
  return good;
}

/* ---- the device fails ------------------------------------------------------------ */

/* At any time, in loading too; and what the failed context had is free again. */
static void
test_lost (void)
{
  guint64 n_kernels;
  gsize bytes;
  g_autoptr (Watched) good = run_good (&n_kernels, &bytes);

  for (guint tenth = 0; tenth < 10; tenth += 3) {
    g_autoptr (Watched) w = watched_new ("");

    emu_fail_kernel_at (1 + n_kernels * tenth / 10);
    play (w);
    watch (w);
    emu_fail_kernel_at (0);
    check_answers (w, good, 1);
    g_assert_cmpuint (losses (w), ==, 1);
    g_assert_cmpuint (w->n_warnings, ==, 1);
    g_assert_cmpuint (bytes_used (), <, bytes + bytes / 4);
  }
}

/* Two pipelines with one model lose it both, a window each, and share the next one. */
static void
test_shared (void)
{
  guint64 n_kernels;
  gsize bytes;
  g_autoptr (Watched) good = run_good (&n_kernels, &bytes);
  g_autoptr (Watched) a = watched_new (""), b = watched_new ("");

  emu_fail_kernel_at (n_kernels);
  play (a);
  play (b);
  watch (a);
  watch (b);
  emu_fail_kernel_at (0);
  check_answers (a, good, 1);
  check_answers (b, good, 1);
  g_assert_cmpuint (losses (a), ==, 1);
  g_assert_cmpuint (losses (b), ==, 1);
  g_assert_nonnull (strstr (emu_leaks (), " 1 contexts")); /* the one that they share */
}

/* Neither what a pipeline has, nor what it is offered, is the context that failed. */
static void
test_next_pipeline (void)
{
  guint64 n_kernels;
  gsize bytes;
  g_autoptr (Watched) good = run_good (&n_kernels, &bytes);
  g_autoptr (Watched) old = watched_new (""), w = watched_new (""), next = NULL;

  play (old);
  watch (old); /* keeps the context for as long as it knows no better */
  emu_fail_kernel_at (n_kernels / 2);
  play (w);
  watch (w);
  emu_fail_kernel_at (0);
  check_answers (w, good, 1);
  g_assert_cmpuint (losses (old), ==, 0);
  next = watched_new ("");
  play (next);
  watch (next);
  check_answers (next, good, 0);
  gst_element_set_state (old->pipeline, GST_STATE_NULL);
  watched_forget (old);
  play (old);
  watch (old);
  check_answers (old, good, 0);
}

/* On the worker's thread: every model that is loaded again is lost, too. */
static GstBusSyncReply
fail_again (GstBus *bus, GstMessage *message, gpointer data)
{
  if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_WARNING)
    emu_fail_kernel_at (1);
  return GST_BUS_PASS;
}

/* An element that gave the device up, in READY and back, has another context. */
static void
test_given_up (void)
{
  guint64 n_kernels;
  gsize bytes;
  g_autoptr (Watched) good = run_good (&n_kernels, &bytes), w = watched_new ("");

  gst_bus_set_sync_handler (w->bus, fail_again, NULL, NULL);
  emu_fail_kernel_at (n_kernels / 2);
  play (w);
  watch (w);
  g_assert_nonnull (strstr (w->error, "device=cuda:0 failed 4 times"));
  g_assert_cmpuint (w->n_warnings, ==, 3);
  gst_bus_set_sync_handler (w->bus, NULL, NULL, NULL);
  gst_element_set_state (w->pipeline, GST_STATE_READY);
  emu_fail_kernel_at (0);
  watched_forget (w);
  play (w);
  watch (w);
  check_answers (w, good, 0);
  g_assert_cmpuint (bytes_used (), <, bytes + bytes / 4);
}

/* Two elements in a row ask each other for a context while both look for one. */
static void
test_chained (void)
{
  guint64 n_kernels;
  gsize bytes;
  g_autoptr (Watched) good = run_good (&n_kernels, &bytes);
  g_autofree char *first = g_strdup_printf ("! valleyinfer name=u device=cuda chunk-duration=1000 "
                                            "model-path=%s/ovis-softmax max-new-tokens=3 "
                                            "u.json_src ! fakesink u.src ",
                                            g_getenv ("VALLEY_TEST_GOLDEN"));
  g_autoptr (Watched) w = watched_new (first);

  emu_fail_kernel_at (n_kernels);
  play (w);
  watch (w);
  emu_fail_kernel_at (0);
  g_assert_cmpstr (w->error, ==, NULL);
  g_assert_cmpuint (w->answers->len, ==, 2 * WINDOWS);
  g_assert_cmpuint (w->n_failed, <=, 2);
  g_assert_cmpuint (w->n_warnings, ==, 2);
}

/* ---- the device is full ------------------------------------------------------------ */

/* On the worker's thread: there is no memory from the first answer until one fails for want of it.
 */
static GstBusSyncReply
fill_device (GstBus *bus, GstMessage *message, gpointer data)
{
  const GstStructure *result = gst_message_get_structure (message);
  guint *n_answers = data;

  if (gst_message_has_name (message, "valleyinfer/result")) {
    if (gst_structure_has_field (result, "error"))
      emu_set_device_bytes (PLENTY);
    else if ((*n_answers)++ == 0)
      emu_set_device_bytes (1);
  }
  return GST_BUS_PASS;
}

/* What needs memory fails; the model stays, and what comes later is answered. */
static void
test_full (void)
{
  guint64 n_kernels;
  gsize bytes;
  guint n_answers = 0;
  g_autoptr (Watched) good = run_good (&n_kernels, &bytes), w = watched_new ("");

  gst_bus_set_sync_handler (w->bus, fill_device, &n_answers, NULL);
  play (w);
  watch (w);
  g_test_message ("%u failed", w->n_failed);
  emu_set_device_bytes (PLENTY);
  g_assert_cmpuint (w->n_failed, ==, 1);
  check_answers (w, good, 1);
  g_assert_cmpuint (losses (w), ==, 0);
}

/* ---- frames in CUDA memory --------------------------------------------------------- */

/* They go with their context, as do the elements that made them: the pipeline ends in an error, or
 * in windows that failed.  Started again, it works in another context, where frames stay. */
static void
test_cuda_frames (void)
{
  guint64 n_kernels;
  gsize bytes;
  g_autoptr (Watched) good = run_good (&n_kernels, &bytes);

  if (test_lacks ("cudaupload"))
    return;
  for (guint part = 1; part < 4; part += 2) {
    g_autoptr (Watched) w = watched_new (UPLOAD);

    emu_fail_kernel_at (n_kernels * (part + 1) / 5);
    play (w);
    watch (w);
    emu_fail_kernel_at (0);
    g_test_message ("%u answers, %u failed, %s", w->answers->len, w->n_failed, w->error);
    check_answered (w, good);
    g_assert_true (w->error != NULL || w->n_failed > 0);
    gst_element_set_state (w->pipeline, GST_STATE_NULL);
    watched_forget (w);
    emu_take_largest_copy (cudaMemcpyDeviceToHost);
    play (w);
    watch (w);
    check_answers (w, good, 0);
    g_assert_cmpuint (losses (w), ==, 0);
    g_assert_cmpuint (emu_take_largest_copy (cudaMemcpyDeviceToHost), <, 1024);
  }
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/cuda-losses/lost", test_lost);
  g_test_add_func ("/cuda-losses/shared", test_shared);
  g_test_add_func ("/cuda-losses/next-pipeline", test_next_pipeline);
  g_test_add_func ("/cuda-losses/given-up", test_given_up);
  g_test_add_func ("/cuda-losses/chained", test_chained);
  g_test_add_func ("/cuda-losses/full", test_full);
  g_test_add_func ("/cuda-losses/cuda-frames", test_cuda_frames);
  return test_finish ();
}
