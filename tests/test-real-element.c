/* test-real-element.c - the real engine inside the real element where things go wrong or are
 * unusual: checkpoint folders that lie, one without a tower, and stops at any moment.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"
#include "scratch.h"

#include <glib/gstdio.h>
#include <string.h>

#define SOURCE "videotestsrc pattern=smpte ! video/x-raw,width=160,height=120,framerate=10/1 "
#define SINKS "! fakesink v.text_src ! fakesink v.json_src ! fakesink"

typedef struct {
  const char *name;
  const char *file;
  const char *old, *new; /* replaced in the file; NULL: see bytes */
  gssize bytes;          /* the file is cut to this length; -1: it is removed */
  const char *named[2];  /* what the error tells the user */
} Lie;

static const Lie lies[] = {
  { "no-config", "config.json", NULL, NULL, -1, { "config.json" } },
  { "half-a-config", "config.json", NULL, NULL, 300, { "config.json" } },
  { "absurd-size",
    "config.json",
    "\"hidden_size\": 192",
    "\"hidden_size\": -192",
    0,
    { "config.json", "hidden_size" } },
  { "unknown-connector",
    "config.json",
    "ovis_conv_adapter",
    "perceiver",
    0,
    { "config.json", "perceiver" } },
  { "missing-layer",
    "config.json",
    ",\n  \"num_key_value_heads\"", /* behind the number of layers, however many */
    "0,\n  \"num_key_value_heads\"",
    0,
    { "model.layers.", "missing" } },
  { "no-weights", "model.safetensors", NULL, NULL, -1, { "model.safetensors" } },
  { "half-the-weights", "model.safetensors", NULL, NULL, 4000000, { "model.safetensors" } },
  { "no-header", "model.safetensors", NULL, NULL, 5, { "model.safetensors" } },
  { "half-a-tokenizer", "tokenizer.json", NULL, NULL, 9000, { "tokenizer.json" } },
  { "no-image-start", "tokenizer.json", "<im_start>", "<im_sturt>", 0, { "<im_start>" } },
};

static void
tell_lie (const char *dir, const Lie *lie)
{
  g_autofree char *path = g_build_filename (dir, lie->file, NULL);
  g_autofree char *data = NULL;
  g_autoptr (GError) error = NULL;
  gsize length;

  g_file_get_contents (path, &data, &length, &error);
  g_assert_no_error (error);
  if (lie->old) {
    g_autoptr (GString) text = g_string_new (data);

    g_assert_cmpuint (g_string_replace (text, lie->old, lie->new, 0), >, 0);
    scratch_write (dir, lie->file, text->str, text->len);
  } else if (lie->bytes >= 0) {
    g_assert_cmpuint (length, >, lie->bytes);
    scratch_write (dir, lie->file, data, lie->bytes);
  } else {
    g_assert_cmpint (g_remove (path), ==, 0);
  }
}

/* One error that names file and fault; then the pipeline stops like any other. */
static void
test_lie (gconstpointer data)
{
  const Lie *lie = data;
  char *dir = scratch_new ();
  GstElement *pipeline;
  g_autoptr (GstBus) bus = NULL;
  g_autoptr (GstMessage) message = NULL;
  g_autoptr (GError) error = NULL;

  scratch_copy (dir, g_getenv ("VALLEY_TEST_MODEL"));
  tell_lie (dir, lie);
  pipeline = pipe_new (SOURCE "! valleyinfer name=v model-path=%s " SINKS, dir);
  bus = gst_element_get_bus (pipeline);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  message = bus_wait (bus, GST_MESSAGE_ERROR);
  gst_message_parse_error (message, &error, NULL);
  g_test_message ("%s", error->message);
  g_assert_true (error->domain == GST_RESOURCE_ERROR);
  for (guint i = 0; i < G_N_ELEMENTS (lie->named) && lie->named[i]; i++)
    if (!strstr (error->message, lie->named[i]))
      g_error ("the error does not name %s: %s", lie->named[i], error->message);
  g_clear_pointer (&message, gst_message_unref);
  pipe_free (pipeline);
  scratch_remove (dir);
}

/* Stops at random moments of loading, encoding, prefill and decoding; each within a second. */
static void
test_cycling (void)
{
  guint seed = g_test_rand_int ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  GstElement *pipeline = pipe_new (SOURCE "! valleyinfer name=v chunk-duration=1000 " SINKS);
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);

  g_test_message ("seed %u", seed);
  for (guint i = 0; i < 20; i++) {
    gint64 before;

    pipe_state (pipeline, GST_STATE_PLAYING);
    g_usleep (g_rand_int_range (rand, 0, 150 * 1000));
    before = g_get_monotonic_time ();
    pipe_state (pipeline, i % 2 ? GST_STATE_NULL : GST_STATE_READY);
    g_assert_cmpint (g_get_monotonic_time () - before, <, 1000 * 1000);
  }
  gst_bus_set_flushing (bus, TRUE);
  gst_bus_set_flushing (bus, FALSE);
  pipe_state (pipeline, GST_STATE_PLAYING);
  gst_message_unref (bus_wait_element (bus, "valleyinfer/result"));
  pipe_free (pipeline);
}

/* Seeks at any moment: the windows behind them are answered. */
static void
test_seeking (void)
{
  guint seed = g_test_rand_int ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  GstElement *pipeline = pipe_new (SOURCE "! valleyinfer name=v chunk-duration=1000 " SINKS);
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);

  g_test_message ("seed %u", seed);
  pipe_state (pipeline, GST_STATE_PLAYING);
  for (guint i = 1; i <= 20; i++) {
    GstClockTime to = i * 1000 * S;
    double start = -1;

    g_assert_true (gst_element_seek_simple (pipeline, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH, to));
    pipe_state (pipeline, GST_STATE_PLAYING);
    g_usleep (g_rand_int_range (rand, 0, 80 * 1000));
    while (start < 1000.0 * i) {
      g_autoptr (GstMessage) message = bus_wait_element (bus, "valleyinfer/result");

      gst_structure_get_double (gst_message_get_structure (message), "start_time", &start);
      g_assert_cmpfloat (start, <, 1000.0 * (i + 1));
    }
  }
  pipe_free (pipeline);
}

/* A checkpoint without the SigLIP tower (Valley2.5's layout), whatever form the video has. */
static void
test_one_tower (void)
{
  static const char *const caps[]
      = { "format=I420,width=160,height=120", "format=RGB,width=64,height=200",
          "format=NV12,width=321,height=243", "format=ARGB64,width=50,height=50" };
  g_autofree char *dir = g_build_filename (g_getenv ("VALLEY_TEST_GOLDEN"), "qwen3-navit", NULL);

  for (guint i = 0; i < G_N_ELEMENTS (caps); i++) {
    GstElement *pipeline = pipe_new (
        "videotestsrc pattern=smpte num-buffers=30 ! video/x-raw,framerate=10/1,%s "
        "! valleyinfer name=v chunk-duration=1000 model-path=%s max-new-tokens=4 " SINKS,
        caps[i], dir);
    g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
    g_autoptr (GstMessage) message = NULL;
    g_autoptr (GstStructure) metrics = NULL;
    g_autofree char *text = NULL;
    const GstStructure *result;
    guint tokens = 0;

    pipe_state (pipeline, GST_STATE_PLAYING);
    message = bus_wait_element (bus, "valleyinfer/result");
    result = gst_message_get_structure (message);
    text = gst_structure_to_string (result);
    g_test_message ("%s: %s", caps[i], text);
    g_assert_false (gst_structure_has_field (result, "error"));
    g_assert_true (gst_structure_get (result, "metrics", GST_TYPE_STRUCTURE, &metrics, NULL));
    g_assert_true (gst_structure_get_uint (metrics, "vision_tokens", &tokens));
    g_assert_cmpuint (tokens, >, 0);
    pipe_free (pipeline);
  }
}

/* A budget as the real engine keeps it, and as messages tell of it. */
static void
test_budget (void)
{
  GstElement *pipeline = pipe_new (SOURCE "! valleyinfer name=v max-vision-tokens=40 "
                                          "reduction=pool+eagle+drop " SINKS);
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  g_autoptr (GstMessage) message = NULL;
  g_autoptr (GstStructure) metrics = NULL;
  guint tokens = 0, before = 0;

  pipe_state (pipeline, GST_STATE_PLAYING);
  message = bus_wait_element (bus, "valleyinfer/result");
  g_assert_true (gst_structure_get (gst_message_get_structure (message), "metrics",
                                    GST_TYPE_STRUCTURE, &metrics, NULL));
  g_assert_true (gst_structure_get_uint (metrics, "vision_tokens", &tokens));
  g_assert_true (gst_structure_get_uint (metrics, "vision_tokens_before", &before));
  g_assert_cmpuint (tokens, >, 0);
  g_assert_cmpuint (tokens, <=, 40);
  g_assert_cmpuint (before, >, 40);
  pipe_free (pipeline);
}

typedef struct {
  guint results, warnings;
} Heard;

/* Counts until @n results have come; each has left frames out. */
static void
hear (GstBus *bus, guint n, Heard *heard)
{
  while (heard->results < n) {
    g_autoptr (GstMessage) message = gst_bus_timed_pop_filtered (
        bus, 60 * GST_SECOND, GST_MESSAGE_WARNING | GST_MESSAGE_ELEMENT | GST_MESSAGE_ERROR);

    g_assert_nonnull (message);
    g_assert_cmpint (GST_MESSAGE_TYPE (message), !=, GST_MESSAGE_ERROR);
    if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_WARNING) {
      g_autoptr (GError) error = NULL;

      gst_message_parse_warning (message, &error, NULL);
      g_test_message ("%s", error->message);
      g_assert_nonnull (strstr (error->message, "max_position_embeddings"));
      heard->warnings++;
    } else if (gst_message_has_name (message, "valleyinfer/result")) {
      guint found = 0;

      gst_structure_get_uint (gst_message_get_structure (message), "frames_dropped", &found);
      g_assert_cmpuint (found, >, 0);
      heard->results++;
    }
  }
}

/* A context for fewer frames than the windows have: one warning, every result says so.  A prompt
 * that leaves no room at all fails its windows and nothing else. */
static void
test_short_context (void)
{
  const Lie lie = { "short-context",
                    "config.json",
                    "\"max_position_embeddings\": 4096",
                    "\"max_position_embeddings\": 192",
                    0,
                    { NULL } };
  g_autofree char *endless = g_strnfill (400, '?');
  Heard heard = { 0 };
  char *dir = scratch_new ();
  GstElement *pipeline;
  g_autoptr (GstElement) infer = NULL;
  g_autoptr (GstBus) bus = NULL;
  g_autoptr (GstMessage) message = NULL;
  const char *error = NULL;

  scratch_copy (dir, g_getenv ("VALLEY_TEST_MODEL"));
  tell_lie (dir, &lie);
  pipeline = pipe_new (
      SOURCE "! valleyinfer name=v model-path=%s frame-rate=3/1 max-new-tokens=20 " SINKS, dir);
  infer = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  bus = gst_element_get_bus (pipeline);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  hear (bus, 4, &heard);
  g_object_set (infer, "prompt", endless, NULL);
  while (error == NULL) {
    g_clear_pointer (&message, gst_message_unref);
    message = bus_wait_element (bus, "valleyinfer/result");
    error = gst_structure_get_string (gst_message_get_structure (message), "error");
  }
  g_assert_nonnull (strstr (error, "max_position_embeddings"));
  g_assert_cmpuint (heard.warnings, ==, 1);
  pipe_free (pipeline);
  scratch_remove (dir);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  for (guint i = 0; i < G_N_ELEMENTS (lies); i++) {
    g_autofree char *name = g_strconcat ("/real/lie/", lies[i].name, NULL);

    g_test_add_data_func (name, &lies[i], test_lie);
  }
  g_test_add_func ("/real/one-tower", test_one_tower);
  g_test_add_func ("/real/budget", test_budget);
  g_test_add_func ("/real/cycling", test_cycling);
  g_test_add_func ("/real/seeking", test_seeking);
  g_test_add_func ("/real/short-context", test_short_context);
  return test_finish ();
}
