/* test-element-live.c - live input: dropped windows, latency, windows closed by the clock
 * (rules 4, 7 and 15).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

/* A window that was dropped is a line without an answer. */
static gboolean
is_dropped (Rig *rig, guint n)
{
  g_autoptr (JsonObject) line = rig_json (rig, n);

  return json_object_get_boolean_member_with_default (line, "dropped", FALSE);
}

static guint
count_qos (Rig *rig)
{
  return bus_count (rig->bus, GST_MESSAGE_QOS);
}

/* Rule 4: what is newest is worth most; each lost window is told on bus and in JSON. */
static void
test_drops_oldest (void)
{
  g_autofree char *gate = test_path ("drops-oldest");
  g_autofree char *model = g_strdup_printf ("gate=%s", gate);
  g_autoptr (Rig) rig
      = rig_new (RIG_JSON | RIG_TEXT | RIG_LIVE, model, "queue-max-windows", 2, NULL);
  guint dropped = 0;
  gboolean seen[10] = { FALSE };

  rig_push_span (rig, 0, 20 * S, 50);
  rig_push_eos (rig);
  g_assert_true (g_file_set_contents (gate, "", 0, NULL));
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 10);
  for (guint i = 0; i < 10; i++) {
    g_autoptr (JsonObject) line = rig_json (rig, i);
    guint window = json_object_get_double_member (line, "start_time") / 2.0 + 0.5;

    g_assert_cmpuint (window, <, 10);
    g_assert_false (seen[window]);
    seen[window] = TRUE;
    dropped += is_dropped (rig, i);
    if (window >= 8) /* the two newest were in the queue at the end */
      g_assert_false (is_dropped (rig, i));
  }
  /* All but the two queued and the one that the engine may have had in hand. */
  g_assert_cmpuint (dropped, >=, 7);
  g_assert_cmpuint (dropped, <=, 8);
  g_assert_cmpuint (count_qos (rig), ==, dropped);
  log_check_order (rig->log, "text_src");
}

static void
test_drops_by_bytes (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_JSON | RIG_LIVE, "delay=600000", "queue-max-bytes", (guint64) 1, NULL);

  rig_push_span (rig, 0, 20 * S, 50);
  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_QOS));
}

typedef struct {
  gboolean live;
  GstClockTime min, max;
} Upstream;

static GstPadProbeReturn
answer_latency (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  const Upstream *upstream = data;
  GstQuery *query = GST_PAD_PROBE_INFO_QUERY (info);

  if (GST_QUERY_TYPE (query) != GST_QUERY_LATENCY)
    return GST_PAD_PROBE_OK;
  gst_query_set_latency (query, upstream->live, upstream->min, upstream->max);
  return GST_PAD_PROBE_HANDLED;
}

static void
check_latency (GstHarness *h, gboolean live, GstClockTime min, GstClockTime max)
{
  g_autoptr (GstQuery) query = gst_query_new_latency ();
  gboolean got_live;
  GstClockTime got_min, got_max;

  g_assert_true (gst_pad_peer_query (h->sinkpad, query));
  gst_query_parse_latency (query, &got_live, &got_min, &got_max);
  g_assert_cmpint (got_live, ==, live);
  g_assert_cmpuint (got_min, ==, min);
  g_assert_cmpuint (got_max, ==, max);
}

static Rig *
latency_rig (Upstream *upstream, guint latency)
{
  Rig *rig
      = rig_new (RIG_JSON | RIG_TEXT | RIG_LIVE | RIG_NO_CAPS, "", "live-edge-offset", 500, NULL);

  if (latency > 0)
    g_object_set (rig->element, "latency", latency, NULL);
  gst_pad_add_probe (rig->video->srcpad, GST_PAD_PROBE_TYPE_QUERY_UPSTREAM, answer_latency,
                     upstream, NULL);
  gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
  rig_push (rig, 0, 100 * MS, 50);
  return rig;
}

/* window + one frame + live-edge-offset + latency, on text_src only */
static void
test_latency (void)
{
  Upstream upstream = { TRUE, 40 * MS, 70 * MS };
  g_autoptr (Rig) rig = latency_rig (&upstream, 1000);
  GstClockTime own = 2000 * MS + 100 * MS + 500 * MS + 1000 * MS;

  check_latency (rig->video, TRUE, 40 * MS, 70 * MS);
  check_latency (rig->json, TRUE, 40 * MS, 70 * MS);
  check_latency (rig->text, TRUE, 40 * MS + own, 70 * MS + own);
  upstream.max = GST_CLOCK_TIME_NONE;
  check_latency (rig->text, TRUE, 40 * MS + own, GST_CLOCK_TIME_NONE);
}

static void
test_no_latency (void)
{
  Upstream upstream = { TRUE, 40 * MS, 70 * MS };
  g_autoptr (Rig) rig = latency_rig (&upstream, 0);

  check_latency (rig->video, TRUE, 40 * MS, 70 * MS);
  check_latency (rig->text, TRUE, 40 * MS, 70 * MS);
  check_latency (rig->json, TRUE, 40 * MS, 70 * MS);
}

static void
test_not_live_latency (void)
{
  Upstream upstream = { FALSE, 0, GST_CLOCK_TIME_NONE };
  g_autoptr (Rig) rig = latency_rig (&upstream, 1000);

  check_latency (rig->text, FALSE, 0, GST_CLOCK_TIME_NONE);
}

static void
test_latency_message (void)
{
  Upstream upstream = { TRUE, 0, GST_CLOCK_TIME_NONE };
  g_autoptr (Rig) rig = latency_rig (&upstream, 1000);

  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_LATENCY));
  bus_count (rig->bus, GST_MESSAGE_LATENCY);
  g_object_set (rig->element, "latency", 1500, NULL);
  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_LATENCY));
  /* The same figure again is no change. */
  bus_count (rig->bus, GST_MESSAGE_LATENCY);
  g_object_set (rig->element, "latency", 1500, NULL);
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_LATENCY), ==, 0);
}

/* When the clock will close the open window. */
static GstClockTime
closing_time (Rig *rig)
{
  GstClockID id;
  GstClockTime time;

  gst_test_clock_wait_for_next_pending_id (rig->clock, &id);
  time = gst_clock_id_get_time (id);
  gst_clock_id_unref (id);
  return time;
}

/* A camera that stalls must not keep the caption of what it has shown. */
static void
test_clock_closes (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT | RIG_LIVE, "", NULL);

  rig_push_span (rig, 0, 1200 * MS, 50);
  g_assert_cmpuint (closing_time (rig), ==, 2 * S);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 0);
  g_assert_true (gst_harness_crank_single_clock_wait (rig->video));
  rig_check_window (rig, 0, 0, 2 * S);
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, 1000 * MS, GST_CLOCK_TIME_NONE);
  log_buffer (rig->log, "text_src", 0);
  /* What comes late after all belongs to no window; the next one is whole. */
  rig_push_span (rig, 1200 * MS, 4100 * MS, 50);
  rig_check_window (rig, 1, 2 * S, 4 * S);
}

/* Frames that are still under way when the window ends belong to it. */
static void
test_clock_waits_for_latency (void)
{
  Upstream upstream = { TRUE, 1000 * MS, GST_CLOCK_TIME_NONE };
  g_autoptr (Rig) rig = latency_rig (&upstream, 0);

  rig_push_span (rig, 100 * MS, 1200 * MS, 50);
  g_assert_cmpuint (closing_time (rig), ==, 3 * S);
  /* Frames close the window as well, and the clock turns to the next one. */
  rig_push_span (rig, 1200 * MS, 2100 * MS, 50);
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, 1000 * MS, 1500 * MS, GST_CLOCK_TIME_NONE);
  g_assert_cmpuint (closing_time (rig), ==, 5 * S);
}

/* Frames that are always late (a slow decoder, a sink that does not mind) are seen all the
 * same: the clock waits as long as they have lately taken. */
static void
test_clock_waits_for_late_frames (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_LIVE, "", NULL);

  for (GstClockTime pts = 0; pts < 4100 * MS; pts += 100 * MS) {
    GstClockID id;

    gst_harness_set_time (rig->video, pts + 1500 * MS);
    while ((id = gst_test_clock_process_next_clock_id (rig->clock)) != NULL)
      gst_clock_id_unref (id);
    rig_push (rig, pts, 100 * MS, 50);
  }
  rig_check_frames (rig, 0, 0 * MS, 500 * MS, 1000 * MS, 1500 * MS, GST_CLOCK_TIME_NONE);
  rig_check_frames (rig, 1, 2000 * MS, 2500 * MS, 3000 * MS, 3500 * MS, GST_CLOCK_TIME_NONE);
}

static void
test_clock_closes_no_file (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1200 * MS, 50);
  g_assert_cmpuint (gst_test_clock_peek_id_count (rig->clock), ==, 0);
}

/* In PAUSED time stands still: nothing may be closed by it. */
static void
test_clock_stops_in_paused (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_LIVE, "", NULL);

  rig_push_span (rig, 0, 1200 * MS, 50);
  closing_time (rig);
  gst_element_set_state (rig->element, GST_STATE_PAUSED);
  g_assert_cmpuint (gst_test_clock_peek_id_count (rig->clock), ==, 0);
}

/* One frame a second from a real clock: every window gets its caption, nobody complains. */
static void
test_slow_source (void)
{
  GstElement *pipeline = pipe_new (
      "videotestsrc is-live=true num-buffers=5 ! video/x-raw,width=64,height=48,framerate=1/1 "
      "! valleyinfer name=v model-path=fake: chunk-duration=1000 ! fakesink sync=true "
      "v.text_src ! fakesink sync=true");
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  g_autoptr (GstMessage) message = NULL;
  guint results = 0;

  pipe_state (pipeline, GST_STATE_PLAYING);
  while (!message || GST_MESSAGE_TYPE (message) != GST_MESSAGE_EOS) {
    g_clear_pointer (&message, gst_message_unref);
    message = bus_wait (bus, GST_MESSAGE_EOS | GST_MESSAGE_ELEMENT | GST_MESSAGE_WARNING);
    g_assert_cmpint (GST_MESSAGE_TYPE (message), !=, GST_MESSAGE_WARNING);
    results += gst_message_has_name (message, "valleyinfer/result");
  }
  g_assert_cmpuint (results, ==, 5);
  pipe_free (pipeline);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/live/drops-oldest", test_drops_oldest);
  g_test_add_func ("/element/live/drops-by-bytes", test_drops_by_bytes);
  g_test_add_func ("/element/live/latency", test_latency);
  g_test_add_func ("/element/live/no-latency", test_no_latency);
  g_test_add_func ("/element/live/not-live-latency", test_not_live_latency);
  g_test_add_func ("/element/live/latency-message", test_latency_message);
  g_test_add_func ("/element/live/clock-closes", test_clock_closes);
  g_test_add_func ("/element/live/clock-waits-for-latency", test_clock_waits_for_latency);
  g_test_add_func ("/element/live/clock-waits-for-late-frames", test_clock_waits_for_late_frames);
  g_test_add_func ("/element/live/clock-closes-no-file", test_clock_closes_no_file);
  g_test_add_func ("/element/live/clock-stops-in-paused", test_clock_stops_in_paused);
  g_test_add_func ("/element/live/slow-source", test_slow_source);
  return test_finish ();
}
