/* test-element-states.c - starting, stopping and flushing in every phase (rules 5 and 8).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

/* The rules allow 200 ms; the rest is for a machine that runs other tests too. */
#define PROMPTLY_US (1000 * 1000)

static void
test_cycling (void)
{
  guint seed = g_test_rand_int ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  GstElement *pipeline = pipe_new (
      "videotestsrc is-live=true ! " RIG_CAPS " ! valleyinfer name=v chunk-duration=200 "
      "model-path=fake:load=20,delay=20 ! fakesink v.text_src ! fakesink v.json_src ! fakesink");

  g_test_message ("seed %u", seed);
  for (guint i = 0; i < 20; i++) {
    GstState state = GST_STATE_READY + g_rand_int_range (rand, 0, 3);

    gst_element_set_state (pipeline, state);
    g_usleep (g_rand_int_range (rand, 0, 150 * 1000));
    gst_element_set_state (pipeline, i % 2 ? GST_STATE_NULL : GST_STATE_READY);
  }
  /* It still works afterwards. */
  pipe_state (pipeline, GST_STATE_PLAYING);
  {
    g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);

    gst_bus_set_flushing (bus, TRUE);
    gst_bus_set_flushing (bus, FALSE);
    gst_message_unref (bus_wait_element (bus, "valleyinfer/result"));
  }
  pipe_free (pipeline);
}

static void
wait_loading (Rig *rig, GstProgressType wanted)
{
  GstProgressType type = GST_PROGRESS_TYPE_ERROR;

  while (type != wanted) {
    g_autoptr (GstMessage) message = bus_wait (rig->bus, GST_MESSAGE_PROGRESS);
    g_autofree char *code = NULL;

    gst_message_parse_progress (message, &type, &code, NULL);
    g_assert_cmpstr (code, ==, "loading");
  }
}

/* Brings the worker into the phase that @model makes endless. */
static Rig *
busy_rig (const char *model, gboolean loading)
{
  Rig *rig = rig_new (RIG_TEXT | RIG_JSON | RIG_LIVE, model, NULL);

  rig_push_span (rig, 0, 3 * S, 50);
  wait_loading (rig, loading ? GST_PROGRESS_TYPE_START : GST_PROGRESS_TYPE_COMPLETE);
  g_usleep (100 * 1000);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 0);
  return rig;
}

static void
check_stop (const char *model, gboolean loading)
{
  g_autoptr (Rig) rig = busy_rig (model, loading);
  gint64 before = g_get_monotonic_time ();

  g_assert_cmpint (gst_element_set_state (rig->element, GST_STATE_READY), ==,
                   GST_STATE_CHANGE_SUCCESS);
  g_assert_cmpint (g_get_monotonic_time () - before, <, PROMPTLY_US);
}

static void
test_stop (void)
{
  check_stop ("load=600000", TRUE);
  check_stop ("encode=600000", FALSE);
  check_stop ("prefill=600000", FALSE);
  check_stop ("delay=600000", FALSE);
}

/* What a stop cancels is no failure: nothing is said about it. */
static void
test_stop_is_silent (void)
{
  for (guint i = 0; i < 20; i++) {
    g_autoptr (Rig) rig = busy_rig ("delay=600000", FALSE);

    gst_element_set_state (rig->element, GST_STATE_READY);
    g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
  }
}

/* After a flush the same element answers for the new position, and only for that. */
static void
check_flush (const char *model, gboolean loading)
{
  g_autoptr (Rig) rig = busy_rig (model, loading);
  gint64 before = g_get_monotonic_time ();

  rig_seek_done (rig, 50 * S);
  g_assert_cmpint (g_get_monotonic_time () - before, <, PROMPTLY_US);
  log_clear (rig->log);
  rig_push_span (rig, 50 * S, 52100 * MS, 50);
  rig_check_window (rig, 0, 50 * S, 52 * S);
  log_buffer (rig->log, "text_src", 0);
}

static void
test_flush (void)
{
  check_flush ("load=3000", TRUE);
  check_flush ("encode=1000", FALSE);
  check_flush ("prefill=5000", FALSE);
  check_flush ("delay=5000", FALSE);
}

/* The loading is told, from start to end, and captions come once it is done. */
static void
test_progress (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "load=200", NULL);

  wait_loading (rig, GST_PROGRESS_TYPE_START);
  wait_loading (rig, GST_PROGRESS_TYPE_COMPLETE);
  rig_push_span (rig, 0, 2100 * MS, 50);
  log_buffer (rig->log, "text_src", 0);
}

/* Whoever saw it begin sees it end, whatever the end is. */
static void
test_progress_without_success (void)
{
  g_autoptr (Rig) stopped = rig_new (RIG_TEXT, "load=600000", NULL);
  g_autoptr (Rig) failed = rig_new (RIG_TEXT, "load=50,fail-load", NULL);
  g_autoptr (GstMessage) message = NULL;
  GstProgressType type;

  wait_loading (stopped, GST_PROGRESS_TYPE_START);
  gst_element_set_state (stopped->element, GST_STATE_READY);
  wait_loading (stopped, GST_PROGRESS_TYPE_CANCELED);

  wait_loading (failed, GST_PROGRESS_TYPE_START);
  message = bus_wait (failed->bus, GST_MESSAGE_PROGRESS);
  gst_message_parse_progress (message, &type, NULL, NULL);
  g_assert_cmpint (type, ==, GST_PROGRESS_TYPE_ERROR);
}

/* Nothing of the last run is left in the next. */
static void
test_restart (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1500 * MS, 50);
  gst_element_set_state (rig->element, GST_STATE_READY);
  gst_element_set_state (rig->element, GST_STATE_PLAYING);
  log_clear (rig->log);
  gst_harness_push_event (rig->video, gst_event_new_stream_start ("again"));
  gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
  rig_push_span (rig, 1500 * MS, 3600 * MS, 50);
  rig_check_window (rig, 0, 1500 * MS, 3500 * MS);
  log_buffer (rig->log, "text_src", 0);
}

static void
test_pause_and_play (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  for (guint i = 0; i < 20; i++) {
    gst_element_set_state (rig->element, GST_STATE_PAUSED);
    gst_element_set_state (rig->element, GST_STATE_PLAYING);
  }
  rig_push_span (rig, 1 * S, 2100 * MS, 50);
  rig_check_window (rig, 0, 0, 2 * S);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/states/cycling", test_cycling);
  g_test_add_func ("/element/states/stop", test_stop);
  g_test_add_func ("/element/states/stop-is-silent", test_stop_is_silent);
  g_test_add_func ("/element/states/flush", test_flush);
  g_test_add_func ("/element/states/progress", test_progress);
  g_test_add_func ("/element/states/progress-without-success", test_progress_without_success);
  g_test_add_func ("/element/states/restart", test_restart);
  g_test_add_func ("/element/states/pause-and-play", test_pause_and_play);
  return test_finish ();
}
