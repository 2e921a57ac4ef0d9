/* test-cuda-frames.c - frames in CUDA memory through the real element, with GStreamer's own CUDA
 * elements over the stand-in for the driver (tests/cuda-emu/driver): what the model is shown is
 * what it is shown of the same frames in the host's memory, wherever it runs.
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime.h>
#include <string.h>

#include "emu.h"
#include "harness.h"

/* Answers cross to the host, and what is counted of pictures: less than any picture has bytes. */
#define LARGEST_DOWNLOAD 1024

#define VIDEO "video/x-raw,format=%s,width=322,height=242,framerate=4/1"
/* Left to choose, cudaupload passes the host's memory on. */
#define ON_GPU "video/x-raw(memory:CUDAMemory)"

/* What an answer says, and how sure it was: one bit of a picture shows there. */
static void
append_result (GString *results, const GstStructure *result)
{
  g_autofree char *value = NULL;

  for (guint i = 0; i < 3; i++) {
    const char *names[] = { "result", "confidence", "frame_times" };
    const GValue *field = gst_structure_get_value (result, names[i]);

    g_assert_nonnull (field);
    g_free (value);
    value = gst_value_serialize (field);
    g_string_append_printf (results, "%s ", value);
  }
  g_string_append_c (results, '\n');
}

/* Every answer about a stream, and how many of its frames were encoded. */
static char *
watch (const char *source, const char *device)
{
  GstElement *pipeline = pipe_new ("%s ! valleyinfer name=v device=%s model-path=%s/ovis-softmax "
                                   "chunk-duration=1000 max-new-tokens=3 ! "
                                   "fakesink v.json_src ! fakesink",
                                   source, device, g_getenv ("VALLEY_TEST_GOLDEN"));
  g_autoptr (GstElement) element = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  GString *results = g_string_new (NULL);
  GstMessage *message = NULL;
  GstStructure *stats = NULL;
  gboolean done = FALSE;
  guint64 encoded = 0;

  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  while (!done) {
    message = bus_wait (bus, GST_MESSAGE_EOS | GST_MESSAGE_ELEMENT);
    done = GST_MESSAGE_TYPE (message) == GST_MESSAGE_EOS;
    if (!done && gst_message_has_name (message, "valleyinfer/result"))
      append_result (results, gst_message_get_structure (message));
    gst_message_unref (message);
  }
  g_object_get (element, "stats", &stats, NULL);
  g_assert_true (gst_structure_get_uint64 (stats, "frames-encoded", &encoded));
  g_string_append_printf (results, "%" G_GUINT64_FORMAT " encoded", encoded);
  gst_structure_free (stats);
  g_clear_object (&element);
  pipe_free (pipeline);
  g_assert_cmpuint (results->len, >, 40);
  return g_string_free (results, FALSE);
}

static char *
source_of (const char *format, const char *before, const char *after)
{
  return g_strdup_printf ("videotestsrc num-buffers=4 pattern=ball ! " VIDEO " %s %s", format,
                          before, after);
}

/* The same with the frames uploaded first. */
static void
check_upload (const char *format, const char *before, const char *device)
{
  g_autofree char *host = source_of (format, before, "");
  g_autofree char *uploaded = source_of (format, before, "! cudaupload ! " ON_GPU);
  g_autofree char *want = watch (host, device), *got = watch (uploaded, device);

  g_test_message ("%s %s: %s", format, before, got);
  g_assert_cmpstr (got, ==, want);
}

/* Whoever has a decoder that leaves frames on the GPU may still run the model on the CPU. */
static void
test_cpu (void)
{
  const char *formats[] = { "NV12", "P010_10LE", "I420", "BGRx" };

  if (test_lacks ("cudaupload"))
    return;
  for (guint i = 0; i < G_N_ELEMENTS (formats); i++)
    check_upload (formats[i], "", "cpu");
}

/* The frames never come down to the host. */
static void
check_stays (const char *format, const char *before)
{
  emu_take_largest_copy (cudaMemcpyDeviceToHost);
  check_upload (format, before, "cuda");
  g_assert_cmpuint (emu_take_largest_copy (cudaMemcpyDeviceToHost), <, LARGEST_DOWNLOAD);
}

static void
test_stays (void)
{
  const char *formats[] = { "NV12", "P010_10LE", "I420", "YUY2", "BGRx" };

  if (test_lacks ("cudaupload"))
    return;
  for (guint i = 0; i < G_N_ELEMENTS (formats); i++)
    check_stays (formats[i], "");
}

static void
test_turned (void)
{
  const char *turns[] = { "rotate-90", "rotate-180", "flip-rotate-270" }; /* cuda-picture has all */

  if (test_lacks ("cudaupload"))
    return;
  for (guint i = 0; i < G_N_ELEMENTS (turns); i++) {
    g_autofree char *tag = g_strdup_printf ("! taginject tags=image-orientation=%s", turns[i]);

    check_stays (i % 2 ? "NV12" : "RGBA", tag);
  }
}

/* What the kernels do not read is mapped to the host, and seen all the same. */
static void
test_odd_packing (void)
{
  if (test_lacks ("cudaupload"))
    return;
  check_upload ("RGB10A2_LE", "", "cuda");
}

/* Neighbours may ask an element's pads for its context. */
static void
check_answers_query (GstElement *element, const char *pad_name)
{
  g_autoptr (GstPad) pad = gst_element_get_static_pad (element, pad_name);
  g_autoptr (GstQuery) query = gst_query_new_context ("gst.cuda.context");
  GstContext *context = NULL;

  g_assert_true (gst_pad_query (pad, query));
  gst_query_parse_context (query, &context);
  g_assert_nonnull (context);
}

/* The element may be there before whoever makes frames, as in front of it a decoder comes last. */
static void
test_first (void)
{
  GstElement *pipeline;
  g_autoptr (GstElement) element = NULL;

  if (test_lacks ("cudaupload"))
    return;
  pipeline = pipe_new ("videotestsrc num-buffers=4 ! " VIDEO " ! cudaupload ! " ON_GPU " ! "
                       "valleyinfer name=v device=cuda model-path=%s/ovis-softmax "
                       "chunk-duration=1000 max-new-tokens=3 ! fakesink v.json_src ! fakesink",
                       "NV12", g_getenv ("VALLEY_TEST_GOLDEN"));
  element = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  gst_element_set_state (element, GST_STATE_PAUSED);
  check_answers_query (element, "sink");
  check_answers_query (element, "src");
  emu_take_largest_copy (cudaMemcpyDeviceToHost);
  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  g_assert_cmpuint (emu_take_largest_copy (cudaMemcpyDeviceToHost), <, LARGEST_DOWNLOAD);
  g_clear_object (&element);
  pipe_free (pipeline);
}

/* Each frame and model on its own GPU, or the same: seen all the same. */
static void
test_other_device (void)
{
  g_autofree char *host = source_of ("NV12", "", "");
  g_autofree char *second = source_of ("NV12", "", "! cudaupload cuda-device-id=1 ! " ON_GPU);
  g_autofree char *want = NULL, *same = NULL, *other = NULL;

  if (test_lacks ("cudaupload"))
    return;
  want = watch (host, "cuda:0");
  same = watch (second, "cuda:1");
  g_assert_cmpstr (same, ==, want);
  other = watch (second, "cuda:0");
  g_assert_cmpstr (other, ==, want);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/cuda-frames/cpu", test_cpu);
  g_test_add_func ("/cuda-frames/stays", test_stays);
  g_test_add_func ("/cuda-frames/turned", test_turned);
  g_test_add_func ("/cuda-frames/odd-packing", test_odd_packing);
  g_test_add_func ("/cuda-frames/first", test_first);
  g_test_add_func ("/cuda-frames/other-device", test_other_device);
  return test_finish ();
}
