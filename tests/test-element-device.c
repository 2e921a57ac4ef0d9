/* test-element-device.c - `device`: what the engine says of it, and a device that is lost while the
 * stream goes on.  Every script is used by one test: how often it has lost the device is counted
 * over all of its models.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

static GstStructure *
get_stats (Rig *rig)
{
  GstStructure *stats = NULL;

  g_object_get (rig->element, "stats", &stats, NULL);
  return stats;
}

static guint64
count_encoded (Rig *rig)
{
  g_autoptr (GstStructure) stats = get_stats (rig);
  guint64 n = 0;

  g_assert_true (gst_structure_get_uint64 (stats, "frames-encoded", &n));
  return n;
}

static void
check_losses (Rig *rig, guint64 expected)
{
  g_autoptr (GstStructure) stats = get_stats (rig);
  guint64 losses = G_MAXUINT64;

  g_assert_cmpstr (gst_structure_get_string (stats, "device"), ==, "fake");
  g_assert_true (gst_structure_get_uint64 (stats, "device-losses", &losses));
  g_assert_cmpuint (losses, ==, expected);
}

/* Line @n is the answer @result, or an error that names the device. */
static void
check_line (Rig *rig, guint n, const char *result)
{
  g_autoptr (JsonObject) line = rig_json (rig, n);

  if (result != NULL)
    g_assert_cmpstr (json_object_get_string_member (line, "result"), ==, result);
  else
    g_assert_nonnull (strstr (json_object_get_string_member (line, "error"), "device"));
}

/* The warnings so far that tell of a model loaded again. */
static guint
count_warnings (Rig *rig)
{
  guint n = 0;
  GstMessage *message;

  while ((message = gst_bus_pop_filtered (rig->bus, GST_MESSAGE_WARNING)) != NULL) {
    g_autoptr (GError) error = NULL;

    gst_message_parse_warning (message, &error, NULL);
    g_test_message ("%s", error->message);
    n += strstr (error->message, "device=fake") != NULL
         && strstr (error->message, "loaded there again") != NULL;
    gst_message_unref (message);
  }
  return n;
}

static void
test_lost_window (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "lose-window=1", NULL);

  rig_push_span (rig, 0, 8100 * MS, 50);
  for (guint i = 0; i < 4; i++)
    check_line (rig, i, i == 1 ? NULL : "f4 40,40,40,40");
  check_losses (rig, 1);
  g_assert_cmpuint (count_warnings (rig), ==, 1);
  log_check_order (rig->log, "text_src");
  /* the new session was shown window 1's frames and what came later, perhaps the last one */
  g_assert_cmpuint (count_encoded (rig), >=, 12);
  g_assert_cmpuint (count_encoded (rig), <=, 13);
}

/* Its frames belong to the windows behind it, too, which have them all. */
static void
test_overlap (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-window=1,show=pts", "chunk-overlap", 1500,
                                 "window-policy", 1, NULL);

  rig_push_span (rig, 0, 3600 * MS, 50);
  check_line (rig, 0, "f4 0,500,1000,1500");
  check_line (rig, 1, NULL);
  check_line (rig, 2, "f4 1000,1500,2000,2500");
  check_line (rig, 3, "f4 1500,2000,2500,3000");
  check_losses (rig, 1);
}

/* The session that takes over is told what the old one was. */
static void
test_settings_stay (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-window=1,windowing", "window-policy", 3,
                                 "change-threshold", 0.25, NULL);
  const char *told = "sliding 4 4 8589934592 0.5 0.25 yes work 0";

  rig_push_span (rig, 0, 6100 * MS, 50);
  check_line (rig, 0, told);
  check_line (rig, 1, NULL);
  check_line (rig, 2, told);
}

/* No answer was in hand, so none is missing. */
static void
test_lost_frame (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-frame=6", NULL);

  rig_push_span (rig, 0, 6100 * MS, 50);
  for (guint i = 0; i < 3; i++)
    check_line (rig, i, "f4 40,40,40,40");
  check_losses (rig, 1);
  g_assert_cmpuint (count_warnings (rig), ==, 1);
}

/* One answer of a window may be lost; the other questions are answered. */
static void
test_lost_question (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-window=1,echo", NULL);
  GValue list = G_VALUE_INIT, item = G_VALUE_INIT;

  gst_value_array_init (&list, 3);
  g_value_init (&item, G_TYPE_STRING);
  for (guint i = 0; i < 3; i++) {
    g_value_set_static_string (&item, i == 0 ? "Who?" : i == 1 ? "Where?" : "Why?");
    gst_value_array_append_value (&list, &item);
  }
  g_object_set_property (G_OBJECT (rig->element), "prompts", &list);
  g_value_unset (&item);
  g_value_unset (&list);
  rig_push_span (rig, 0, 2100 * MS, 50);
  check_line (rig, 0, "Who?");
  check_line (rig, 1, NULL);
  check_line (rig, 2, "Why?");
}

/* Twice in a row is still worth a try, the frames of the third window are not lost. */
static void
test_lost_twice (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-window=1,lose-times=2", NULL);

  rig_push_span (rig, 0, 8100 * MS, 50);
  for (guint i = 0; i < 4; i++)
    check_line (rig, i, i == 1 || i == 2 ? NULL : "f4 40,40,40,40");
  check_losses (rig, 2);
  g_assert_cmpuint (count_warnings (rig), ==, 2);
}

/* Any number of times, if there are answers in between. */
static void
test_lost_often (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-window=1,lose-every=2,lose-times=6", NULL);

  rig_push_span (rig, 0, 26100 * MS, 50);
  for (guint i = 0; i < 13; i++)
    check_line (rig, i, i % 2 == 1 ? NULL : "f4 40,40,40,40");
  check_losses (rig, 6);
}

static void
check_error (Rig *rig, const char *named)
{
  g_autoptr (GstMessage) message = bus_wait (rig->bus, GST_MESSAGE_ERROR);
  g_autoptr (GError) error = NULL;

  gst_message_parse_error (message, &error, NULL);
  g_test_message ("%s", error->message);
  if (strstr (error->message, named) == NULL)
    g_error ("the error does not name %s: %s", named, error->message);
}

/* A device that does nothing but fail ends the stream with an error; whoever starts the element
 * again tries the device again. */
static void
test_given_up (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-frame=2,lose-times=4", NULL);

  rig_push_span (rig, 0, 2100 * MS, 50);
  check_error (rig, "device=fake failed 4 times");
  gst_element_set_state (rig->element, GST_STATE_READY);
  bus_count (rig->bus, GST_MESSAGE_ANY);
  gst_element_set_state (rig->element, GST_STATE_PLAYING);
  gst_harness_push_event (rig->video, gst_event_new_stream_start ("again"));
  gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
  rig_push_span (rig, 0, 2100 * MS, 50);
  check_line (rig, 0, "f4 40,40,40,40");
  check_losses (rig, 0);
}

static void
test_not_loaded_again (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-window=0,lose-load", NULL);

  rig_push_span (rig, 0, 2100 * MS, 50);
  check_line (rig, 0, NULL);
  check_error (rig, "no device is left");
}

/* Whoever else had the model gives its memory back a little later. */
static void
test_memory_comes (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "lose-frame=2,full=2", NULL);

  rig_push_span (rig, 0, 2100 * MS, 50);
  check_line (rig, 0, "f4 40,40,40,40");
  check_losses (rig, 1);
}

static void
wait_for_loss (Rig *rig)
{
  gint64 end = g_get_monotonic_time () + test_wait_s () * G_TIME_SPAN_SECOND;
  guint64 losses = 0;

  while (losses == 0) {
    g_autoptr (GstStructure) stats = get_stats (rig);

    g_assert_cmpint (g_get_monotonic_time (), <, end);
    g_assert_true (gst_structure_get_uint64 (stats, "device-losses", &losses));
    g_usleep (1000);
  }
}

/* A flush while the model is loaded again: what was before it is forgotten. */
static void
test_flush (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_LIVE, "lose-frame=2,reload=300,show=pts", NULL);

  rig_push_span (rig, 0, 1600 * MS, 50);
  wait_for_loss (rig);
  rig_seek_done (rig, 10 * S);
  rig_push_span (rig, 10 * S, 12100 * MS, 80);
  check_line (rig, 0, "f4 10000,10500,11000,11500");
}

static void
test_stop (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_LIVE, "lose-frame=2,reload=600000", NULL);

  rig_push_span (rig, 0, 1600 * MS, 50);
  wait_for_loss (rig);
  g_assert_cmpint (gst_element_set_state (rig->element, GST_STATE_READY), ==,
                   GST_STATE_CHANGE_SUCCESS);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/device/lost-window", test_lost_window);
  g_test_add_func ("/element/device/overlap", test_overlap);
  g_test_add_func ("/element/device/settings-stay", test_settings_stay);
  g_test_add_func ("/element/device/lost-frame", test_lost_frame);
  g_test_add_func ("/element/device/lost-question", test_lost_question);
  g_test_add_func ("/element/device/lost-twice", test_lost_twice);
  g_test_add_func ("/element/device/lost-often", test_lost_often);
  g_test_add_func ("/element/device/given-up", test_given_up);
  g_test_add_func ("/element/device/not-loaded-again", test_not_loaded_again);
  g_test_add_func ("/element/device/memory-comes", test_memory_comes);
  g_test_add_func ("/element/device/flush", test_flush);
  g_test_add_func ("/element/device/stop", test_stop);
  return test_finish ();
}
