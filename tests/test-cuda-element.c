/* test-cuda-element.c - `device=cuda` through the real element and the bundled model, on whatever
 * wing VALLEY_CUDA_WING names: captions of real files, several devices, streams and questions, and
 * every way of having no device.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

#include "emu.h"

/* A clip whose caption no rounding changes. */
#define CLIP "041.mp4"
#define CAPTION "A small red triangle moves left on a green background."

static char *
clip_source (const char *name)
{
  return g_strdup_printf ("filesrc location=%s/%s ! decodebin", g_getenv ("VALLEY_TEST_CLIPS"),
                          name);
}

static GPtrArray *
read_lines (const char *path)
{
  GPtrArray *lines = g_ptr_array_new_with_free_func ((GDestroyNotify) json_object_unref);
  g_autofree char *text = test_read (path);
  g_auto (GStrv) split = g_strsplit (text, "\n", -1);

  for (guint i = 0; split[i] != NULL && *split[i] != '\0'; i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (JsonNode) node = json_from_string (split[i], &error);

    g_assert_no_error (error);
    g_test_message ("%s", split[i]);
    g_ptr_array_add (lines, json_node_dup_object (node));
  }
  return lines;
}

/* All results of one clip under @properties; @stats: what the element says of them, or NULL. */
static GPtrArray *
run_for_stats (const char *properties, GstStructure **stats)
{
  g_autofree char *path = test_path ("lines.json"), *source = clip_source (CLIP);
  GstElement *pipeline = pipe_new ("%s ! valleyinfer name=v %s ! fakesink v.json_src "
                                   "! filesink buffer-mode=unbuffered location=%s",
                                   source, properties, path);

  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  if (stats != NULL) {
    g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipeline), "v");

    g_object_get (v, "stats", stats, NULL);
  }
  pipe_free (pipeline);
  return read_lines (path);
}

static GPtrArray *
run (const char *properties)
{
  return run_for_stats (properties, NULL);
}

static const char *
result_of (GPtrArray *lines, guint n)
{
  g_assert_cmpuint (lines->len, >, n);
  return json_object_get_string_member (lines->pdata[n], "result");
}

/* Text, confidence and frames: what a difference of a bit would show in. */
static void
check_same_line (JsonObject *a, JsonObject *b)
{
  static const char *const members[]
      = { "result", "confidence", "start_time", "frame_times", "prompt_id" };

  for (guint m = 0; m < G_N_ELEMENTS (members); m++) {
    JsonNode *one = json_object_get_member (a, members[m]);
    JsonNode *other = json_object_get_member (b, members[m]);

    if (one == NULL || other == NULL || !json_node_equal (one, other))
      g_error ("line of %g s: %s differs", json_object_get_double_member (a, "start_time"),
               members[m]);
  }
}

static void
check_same_lines (GPtrArray *a, GPtrArray *b)
{
  g_assert_cmpuint (a->len, ==, b->len);
  for (guint i = 0; i < a->len; i++)
    check_same_line (a->pdata[i], b->pdata[i]);
}

/* ---- captions ------------------------------------------------------------------- */

static void
test_caption (gconstpointer precision)
{
  g_autofree char *properties = g_strdup_printf ("device=cuda precision=%s", (char *) precision);
  g_autoptr (GPtrArray) lines = run (properties);

  g_assert_cmpstr (result_of (lines, 0), ==, CAPTION);
}

/* The same confidence, too, as far as f32 goes: what differs is the order of sums. */
static void
test_as_on_cpu (void)
{
  g_autoptr (GPtrArray) cpu = run ("device=cpu precision=f32");
  g_autoptr (GPtrArray) cuda = run ("device=cuda precision=f32");

  g_assert_cmpuint (cpu->len, ==, cuda->len);
  for (guint i = 0; i < cpu->len; i++) {
    g_assert_cmpstr (result_of (cpu, i), ==, result_of (cuda, i));
    g_assert_cmpfloat_with_epsilon (json_object_get_double_member (cpu->pdata[i], "confidence"),
                                    json_object_get_double_member (cuda->pdata[i], "confidence"),
                                    1e-3);
  }
}

/* Two pipelines at once, on two devices or both on one, whose model they share. */
static void
check_two (const char *first, const char *second)
{
  g_autofree char *source = clip_source (CLIP);
  g_autofree char *first_path = test_path ("first.json");
  g_autofree char *second_path = test_path ("second.json");
  const char *paths[] = { first_path, second_path };
  g_autoptr (GPtrArray) alone = run ("device=cuda frame-rate=1 chunk-duration=1000");
  const char *devices[] = { first, second };
  GstElement *pipelines[2];

  for (guint i = 0; i < 2; i++) {
    pipelines[i] = pipe_new ("%s ! valleyinfer name=v device=%s frame-rate=1 chunk-duration=1000 "
                             "! fakesink v.json_src ! filesink buffer-mode=unbuffered location=%s",
                             source, devices[i], paths[i]);
    gst_element_set_state (pipelines[i], GST_STATE_PLAYING);
  }
  for (guint i = 0; i < 2; i++) {
    g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipelines[i]), "v");
    g_autoptr (GstStructure) stats = NULL;
    g_autoptr (GPtrArray) lines = NULL;

    pipe_eos (pipelines[i]);
    g_object_get (v, "stats", &stats, NULL);
    g_assert_cmpstr (gst_structure_get_string (stats, "device"), ==, devices[i]);
    lines = read_lines (paths[i]);
    check_same_lines (lines, alone);
  }
  for (guint i = 0; i < 2; i++)
    pipe_free (pipelines[i]);
}

static void
test_two_devices (void)
{
  check_two ("cuda:0", "cuda:1");
}

static void
test_shared_model (void)
{
  check_two ("cuda:0", "cuda:0");
}

#define OVERLAP "device=cuda frame-rate=2/1 chunk-duration=1000 chunk-overlap=500 max-new-tokens=2 "

/* Whatever a policy keeps: an answer has the bits of one computed from nothing. */
static void
test_policies (void)
{
  g_autoptr (GPtrArray) tumbling = run (OVERLAP "window-policy=tumbling draft=false");
  g_autoptr (GPtrArray) sliding = run (OVERLAP "window-policy=sliding");
  g_autoptr (GPtrArray) anchored = run (OVERLAP "window-policy=anchored");
  g_autoptr (GPtrArray) streaming = run (OVERLAP "window-policy=streaming");

  g_assert_cmpuint (tumbling->len, >, 2);
  check_same_lines (tumbling, sliding);
  g_assert_cmpuint (anchored->len, ==, tumbling->len);
  g_assert_cmpuint (streaming->len, ==, tumbling->len);
}

/* Several questions share the frames; each is answered as if it were alone. */
static void
test_questions (void)
{
  g_autoptr (GPtrArray) both
      = run ("device=cuda prompts=\"<\\\"Describe the video.\\\",\\\"Is there a red triangle? "
             "Answer yes or no.\\\">\"");
  g_autoptr (GPtrArray) second
      = run ("device=cuda prompt=\"Is there a red triangle? Answer yes or no.\"");

  g_assert_cmpstr (result_of (both, 0), ==, CAPTION);
  g_assert_cmpstr (result_of (both, 1), ==, result_of (second, 0));
}

/* ---- a device that fails ------------------------------------------------------------ */

/* The device is lost at some kernel: at most the answer in hand is missing, and the others are those
 * of a device that was not. */
static void
test_lost (void)
{
  const char *properties = OVERLAP "window-policy=sliding";
  guint64 before = emu_kernels_run (), n_kernels;
  g_autoptr (GPtrArray) good = run (properties);
  guint n_missing = 0;

  n_kernels = emu_kernels_run () - before;
  g_assert_cmpuint (good->len, >, 2);
  for (guint quarter = 1; quarter < 4; quarter++) {
    g_autoptr (GstStructure) stats = NULL;
    g_autoptr (GPtrArray) lines = NULL;
    guint64 n_losses = 0;
    guint n_errors = 0;

    emu_fail_kernel_at (n_kernels * quarter / 4);
    lines = run_for_stats (properties, &stats);
    g_assert_true (gst_structure_get_uint64 (stats, "device-losses", &n_losses));
    g_assert_cmpuint (n_losses, ==, 1);
    g_assert_cmpuint (lines->len, ==, good->len);
    for (guint i = 0; i < lines->len; i++)
      if (json_object_has_member (lines->pdata[i], "error"))
        n_errors++;
      else
        check_same_line (lines->pdata[i], good->pdata[i]);
    g_assert_cmpuint (n_errors, <=, 1);
    n_missing += n_errors;
  }
  g_test_message ("%u answers were in hand", n_missing);
}

/* ---- no device ------------------------------------------------------------------- */

/* The pipeline fails with an error that has these words. */
static void
check_fails (const char *properties, const char *words)
{
  GstElement *pipeline
      = pipe_new ("videotestsrc ! " RIG_CAPS " ! valleyinfer %s ! fakesink", properties);
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  g_autoptr (GstMessage) message = NULL;
  g_autoptr (GError) error = NULL;

  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  message = bus_wait (bus, GST_MESSAGE_ERROR);
  gst_message_parse_error (message, &error, NULL);
  g_test_message ("%s", error->message);
  if (error->domain != GST_RESOURCE_ERROR || strstr (error->message, words) == NULL)
    g_error ("the error lacks \"%s\": %s", words, error->message);
  g_clear_pointer (&message, gst_message_unref);
  pipe_free (pipeline);
}

static void
test_no_such_device (void)
{
  check_fails ("device=cuda:9", "cuda:9");
  check_fails ("device=cuda:9", "cuda:0 ... cuda:1"); /* those that there are */
  check_fails ("device=abacus", "abacus");
}

/* Without a wing `auto` is the CPU. */
static void
test_no_wing (void)
{
  g_autofree char *wing = g_strdup (g_getenv ("VALLEY_CUDA_WING"));
  g_autoptr (GPtrArray) lines = NULL;

  g_setenv ("VALLEY_CUDA_WING", "/nowhere/wing.so", TRUE);
  check_fails ("device=cuda", "/nowhere/wing.so");
  lines = run ("device=auto");
  g_assert_cmpstr (result_of (lines, 0), ==, CAPTION);
  g_setenv ("VALLEY_CUDA_WING", wing, TRUE);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_assert_nonnull (g_getenv ("VALLEY_CUDA_WING"));
  g_test_add_data_func ("/cuda-element/caption/bf16", "bf16", test_caption);
  g_test_add_data_func ("/cuda-element/caption/f16", "f16", test_caption);
  g_test_add_func ("/cuda-element/as-on-cpu", test_as_on_cpu);
  g_test_add_func ("/cuda-element/two-devices", test_two_devices);
  g_test_add_func ("/cuda-element/shared-model", test_shared_model);
  g_test_add_func ("/cuda-element/policies", test_policies);
  g_test_add_func ("/cuda-element/questions", test_questions);
  g_test_add_func ("/cuda-element/lost", test_lost);
  g_test_add_func ("/cuda-element/no-such-device", test_no_such_device);
  g_test_add_func ("/cuda-element/no-wing", test_no_wing);
  return test_finish ();
}
