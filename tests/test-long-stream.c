/* test-long-stream.c - two hours of stream time through the real element under every window
 * policy, with a tiny model: nothing grows.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <gst/app/gstappsrc.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FRAMES_PER_SECOND 2
#define N_FRAMES (2 * 60 * 60 * FRAMES_PER_SECOND)
#define WINDOW_FRAMES 6
#define HOP_FRAMES 2

typedef struct {
  guint64 live, resident; /* bytes of the whole process */
  guint64 kv, kv_peak, encodings_peak;
  guint64 windows, failed, frames, encoded, reencoded;
} Figures;

static guint64
resident_bytes (void)
{
  g_autofree char *text = test_read ("/proc/self/statm");
  unsigned long size = 0, resident = 0;

  g_assert_cmpint (sscanf (text, "%lu %lu", &size, &resident), ==, 2);
  return (guint64) resident * (guint64) sysconf (_SC_PAGESIZE);
}

/* With one arena (see main) this is all that is allocated and not freed; 0 where a sanitizer has
 * an allocator of its own. */
static guint64
live_bytes (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

static guint64
count_of (const GstStructure *stats, const char *name)
{
  guint64 value = 0;

  g_assert_true (gst_structure_get_uint64 (stats, name, &value));
  return value;
}

static Figures
measure (GstElement *v, const char *when)
{
  g_autoptr (GstStructure) stats = NULL;
  Figures f;

  g_object_get (v, "stats", &stats, NULL);
  f = (Figures){ .live = live_bytes (),
                 .resident = resident_bytes (),
                 .kv = count_of (stats, "kv-bytes"),
                 .kv_peak = count_of (stats, "kv-bytes-peak"),
                 .encodings_peak = count_of (stats, "encoding-bytes-peak"),
                 .windows = count_of (stats, "windows"),
                 .failed = count_of (stats, "failed"),
                 .frames = count_of (stats, "frames"),
                 .encoded = count_of (stats, "frames-encoded"),
                 .reencoded = count_of (stats, "frames-reencoded") };
  g_test_message ("%s: %" G_GUINT64_FORMAT " windows, live %" G_GUINT64_FORMAT
                  ", resident %" G_GUINT64_FORMAT ", keys and values at most %" G_GUINT64_FORMAT
                  ", encodings at most %" G_GUINT64_FORMAT,
                  when, f.windows, f.live, f.resident, f.kv_peak, f.encodings_peak);
  return f;
}

/* Frames differ from their neighbours, so that each has to be encoded. */
static void
push_frames (GstElement *source, guint from, guint to)
{
  for (guint i = from; i < to; i++) {
    GstBuffer *frame = frame_new (64, 48, i * S / FRAMES_PER_SECOND, S / FRAMES_PER_SECOND,
                                  (guint8) (16 + i * 37 % 200));

    g_assert_cmpint (gst_app_src_push_buffer (GST_APP_SRC (source), frame), ==, GST_FLOW_OK);
  }
}

/* Lets the model come up with what was pushed, but for the windows that are still open. */
static void
settle (GstElement *v, guint64 n_frames)
{
  gint64 end = g_get_monotonic_time () + test_wait_s () * G_TIME_SPAN_SECOND;
  guint64 windows = (n_frames - WINDOW_FRAMES - 1) / HOP_FRAMES;

  while (TRUE) {
    g_autoptr (GstStructure) stats = NULL;

    g_object_get (v, "stats", &stats, NULL);
    if (count_of (stats, "windows") + count_of (stats, "failed") >= windows)
      return;
    g_assert_cmpint (g_get_monotonic_time (), <, end);
    g_usleep (1000);
  }
}

static void
check (const Figures *warm, const Figures *end, guint n_frames)
{
  g_assert_cmpuint (end->failed, ==, 0);
  g_assert_cmpuint (end->windows, >, n_frames / HOP_FRAMES - WINDOW_FRAMES);
  /* Each once; the last may be counted on one side only. */
  g_assert_cmpuint (end->encoded, <=, end->frames);
  g_assert_cmpuint (end->encoded + 1, >=, end->frames);
  g_assert_cmpuint (end->reencoded, ==, 0);
  /* How far the worker is ahead differs; what grows with the stream would be ten times as much. */
  g_assert_cmpuint (end->kv_peak, <, 2 * warm->kv_peak);
  g_assert_cmpuint (end->encodings_peak, <, 2 * warm->encodings_peak);
  if (end->live == 0)
    return; /* a sanitizer's allocator keeps what is freed */
  g_assert_cmpuint (end->live, <, warm->live + 512 * 1024);
  g_assert_cmpuint (end->resident, <, warm->resident + 8 * 1024 * 1024);
}

static void
check_policy (GstElement *v, const char *policy)
{
  g_autoptr (GstStructure) stats = NULL;

  g_object_get (v, "stats", &stats, NULL);
  g_assert_cmpstr (gst_structure_get_string (stats, "window-policy"), ==, policy);
}

/* Nobody reads the bus: what is not an error is dropped at once. */
static GstBusSyncReply
drop_message (GstBus *bus, GstMessage *message, gpointer data)
{
  if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR) {
    g_autoptr (GError) error = NULL;

    gst_message_parse_error (message, &error, NULL);
    g_error ("%s: %s", GST_MESSAGE_SRC_NAME (message), error->message);
  }
  gst_message_unref (message);
  return GST_BUS_DROP;
}

static void
test_two_hours (gconstpointer policy)
{
  g_autofree char *dir = g_build_filename (g_getenv ("VALLEY_TEST_GOLDEN"), "qwen3-bias", NULL);
  GstElement *pipeline = pipe_new (
      "appsrc name=in block=true max-buffers=4 format=time "
      "caps=\"video/x-raw,format=I420,width=64,height=48,framerate=2/1\" "
      "! valleyinfer name=v model-path=%s window-policy=%s chunk-size=%u chunk-overlap=%u "
      "max-new-tokens=2 prompts=\"<\\\"What?\\\",\\\"{start}?\\\">\" ! fakesink "
      "v.text_src ! fakesink v.json_src ! fakesink",
      dir, (const char *) policy, WINDOW_FRAMES,
      (WINDOW_FRAMES - HOP_FRAMES) * 1000 / FRAMES_PER_SECOND);
  g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  g_autoptr (GstElement) source = gst_bin_get_by_name (GST_BIN (pipeline), "in");
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  /* Under a sanitizer, which finds leaks in its own way, six minutes must do. */
  guint n_frames = live_bytes () == 0 ? N_FRAMES / 20 : N_FRAMES, n_warm_up = n_frames / 10;
  Figures warm, end;

  gst_bus_set_sync_handler (bus, drop_message, NULL, NULL);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  push_frames (source, 0, n_warm_up);
  settle (v, n_warm_up);
  warm = measure (v, "warm");
  push_frames (source, n_warm_up, n_frames);
  settle (v, n_frames);
  end = measure (v, "end");
  check (&warm, &end, n_frames);
  check_policy (v, policy);
  pipe_free (pipeline);
}

/* Windows of an hour, of which the model can be shown a few dozen frames: no more are kept than
 * leave a choice, and both hours are described. */
static void
test_hours (void)
{
  g_autofree char *dir = g_build_filename (g_getenv ("VALLEY_TEST_GOLDEN"), "qwen3-bias", NULL);
  GstElement *pipeline = pipe_new (
      "appsrc name=in block=true max-buffers=4 format=time "
      "caps=\"video/x-raw,format=I420,width=64,height=48,framerate=2/1\" "
      "! valleyinfer name=v model-path=%s chunk-duration=3600000 max-new-tokens=2 ! fakesink "
      "v.json_src ! fakesink",
      dir);
  g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  g_autoptr (GstElement) source = gst_bin_get_by_name (GST_BIN (pipeline), "in");
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  guint64 before;
  Figures end;

  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  push_frames (source, 0, 100);
  before = live_bytes ();
  push_frames (source, 100, N_FRAMES);
  g_assert_cmpint (gst_app_src_end_of_stream (GST_APP_SRC (source)), ==, GST_FLOW_OK);
  pipe_eos (pipeline);
  end = measure (v, "end");
  g_assert_cmpuint (end.windows, ==, 2);
  g_assert_cmpuint (end.failed, ==, 0);
  g_assert_cmpuint (end.frames, <, N_FRAMES / 20);
  g_assert_cmpuint (end.encoded, <=, end.frames);
  if (end.live > 0)
    g_assert_cmpuint (end.live, <, before + 4 * 1024 * 1024);
  pipe_free (pipeline);
}

int
main (int argc, char **argv)
{
  mallopt (M_ARENA_MAX, 1);
  test_init (&argc, &argv);
  g_test_add_data_func ("/long-stream/tumbling", "tumbling", test_two_hours);
  g_test_add_data_func ("/long-stream/anchored", "anchored", test_two_hours);
  g_test_add_data_func ("/long-stream/sliding", "sliding", test_two_hours);
  g_test_add_data_func ("/long-stream/streaming", "streaming", test_two_hours);
  g_test_add_func ("/long-stream/hours", test_hours);
  return test_finish ();
}
