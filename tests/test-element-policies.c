/* test-element-policies.c - how windows share what was computed, as far as the element decides
 * it: the policy asked for, the memory it may have, idle work, what results and stats say.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

#define END GST_CLOCK_TIME_NONE

static void
set_policy (Rig *rig, const char *nick)
{
  gst_util_set_object_arg (G_OBJECT (rig->element), "window-policy", nick);
}

/* The engine's answer says what it was told: "POLICY W H BYTES DRIFT CHANGE DRAFT work N". */
static void
check_told (Rig *rig, guint n, const char *expected)
{
  g_autofree char *caption = rig_caption (rig, n);

  *strstr (caption, " work") = '\0';
  g_assert_cmpstr (caption, ==, expected);
}

static void
test_defaults (void)
{
  g_autoptr (Rig) alone = rig_new (RIG_TEXT, "windowing", NULL);
  g_autoptr (Rig) overlapping = rig_new (RIG_TEXT, "windowing", "chunk-overlap", 1500, NULL);

  rig_push_span (alone, 0, 2100 * MS, 50);
  check_told (alone, 0, "tumbling 4 4 8589934592 0.5 0 yes");
  rig_push_span (overlapping, 0, 2100 * MS, 50);
  check_told (overlapping, 0, "anchored 4 1 8589934592 0.5 0 yes");
}

/* From the next window on; what was closed before keeps its own. */
static void
test_change_in_playing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing", "chunk-overlap", 1000, "max-drift", 0.75,
                                 "draft", FALSE, "change-threshold", 0.25, NULL);

  set_policy (rig, "streaming");
  rig_push_span (rig, 0, 2100 * MS, 50);
  check_told (rig, 0, "streaming 4 2 8589934592 0.75 0.25 no");
  set_policy (rig, "sliding");
  g_object_set (rig->element, "cache-max-bytes", (guint64) 100000, "change-threshold", 0.5, "draft",
                TRUE, NULL);
  rig_push_span (rig, 2100 * MS, 6100 * MS, 50);
  check_told (rig, 4, "sliding 4 2 100000 0.75 0.5 yes");
}

/* What the model is shown begins before the window, and everything says so: the prompt, the times
 * of the frames, start_time.  `timestamp` stays the window's own. */
static void
test_longer_contents (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "echo", "chunk-overlap", 1500, "prompt",
                                 "{num_frames} from {start} to {end}: {timestamps}", NULL);
  g_autofree char *caption = NULL;
  g_autoptr (JsonObject) line = NULL;

  rig_push_span (rig, 0, 3100 * MS, 50);
  caption = rig_caption (rig, 2);
  g_assert_cmpstr (caption, ==, "6 from 0.0 to 3.0: 0.0, 0.5, 1.0, 1.5, 2.0, 2.5");
  rig_check_window (rig, 2, 0, 3 * S);
  rig_check_frames (rig, 2, 0 * MS, 500 * MS, 1 * S, 1500 * MS, 2 * S, 2500 * MS, END);
  line = rig_json (rig, 2);
  g_assert_cmpint (json_object_get_int_member (line, "timestamp"), ==, 1 * S);
}

/* Frames that do not fit are left out of these contents too, and the prompt tells of the rest. */
static void
test_longer_contents_shortened (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "echo,fit=5", "chunk-overlap", 1500, "prompt",
                                 "{num_frames}: {timestamps}", NULL);
  g_autofree char *caption = NULL;

  rig_push_span (rig, 0, 3100 * MS, 50);
  caption = rig_caption (rig, 2);
  g_assert_cmpstr (caption, ==, "5: 0.0, 0.5, 1.0, 1.5, 2.0");
  rig_check_frames (rig, 2, 0 * MS, 500 * MS, 1 * S, 1500 * MS, 2 * S, END);
}

/* ---- memory --------------------------------------------------------------- */

static char *
next_warning (GstBus *bus)
{
  g_autoptr (GstMessage) message = bus_wait (bus, GST_MESSAGE_WARNING);
  g_autoptr (GError) error = NULL;

  gst_message_parse_warning (message, &error, NULL);
  return g_strdup (error->message);
}

/* A policy that was asked for by name and has no room is an error before anything is computed;
 * the video is not to blame and goes on. */
static void
test_explicit_refused (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_TEXT, "", "chunk-overlap", 1500, "cache-max-bytes", (guint64) 15999, NULL);
  g_autoptr (GstMessage) message = NULL;
  g_autoptr (GError) error = NULL;

  set_policy (rig, "sliding"); /* 4 sequences of 4 frames of 1,000 bytes */
  rig_push_span (rig, 0, 3100 * MS, 50);
  message = bus_wait (rig->bus, GST_MESSAGE_ERROR);
  gst_message_parse_error (message, &error, NULL);
  g_assert_error (error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NO_SPACE_LEFT);
  g_assert_nonnull (strstr (error->message, "window-policy=sliding"));
  g_assert_nonnull (strstr (error->message, "16000"));
  g_assert_nonnull (strstr (error->message, "15999"));
  g_assert_nonnull (strstr (error->message, "larger cache-max-bytes"));
  g_assert_cmpuint (log_n_buffers (rig->log, "src"), ==, 31);
  g_assert_cmpuint (log_n_buffers (rig->log, "text_src"), ==, 0);
}

/* A start is a start: what was had before the stop counts for nothing. */
static void
test_refused_after_restart (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_TEXT, "", "chunk-overlap", 1500, "cache-max-bytes", (guint64) 16000, NULL);

  set_policy (rig, "sliding");
  rig_push_span (rig, 0, 1000 * MS, 50);
  gst_element_set_state (rig->element, GST_STATE_READY);
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_ERROR), ==, 0);
  g_object_set (rig->element, "cache-max-bytes", (guint64) 15999, NULL);
  gst_element_set_state (rig->element, GST_STATE_PLAYING);
  gst_harness_push_event (rig->video, gst_event_new_stream_start ("again"));
  gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
  rig_push_span (rig, 0, 1000 * MS, 50);
  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_ERROR));
}

static void
test_exactly_enough (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing", "chunk-overlap", 1500, "cache-max-bytes",
                                 (guint64) 16000, NULL);

  set_policy (rig, "sliding");
  rig_push_span (rig, 0, 2100 * MS, 50);
  check_told (rig, 0, "sliding 4 1 16000 0.5 0 yes");
}

/* `auto` makes do with less, and says so once. */
static void
test_auto_falls_back (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing", "chunk-overlap", 1500, "cache-max-bytes",
                                 (guint64) 11999, NULL);
  g_autofree char *warning = NULL;

  rig_push_span (rig, 0, 4100 * MS, 50);
  check_told (rig, 0, "tumbling 4 1 11999 0.5 0 yes");
  check_told (rig, 4, "tumbling 4 1 11999 0.5 0 yes");
  warning = next_warning (rig->bus);
  g_assert_nonnull (strstr (warning, "window-policy=anchored"));
  g_assert_nonnull (strstr (warning, "tumbling"));
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

/* When there is nothing less it goes on all the same: the need is an upper limit. */
static void
test_auto_has_nothing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing", "cache-max-bytes", (guint64) 3999, NULL);
  g_autofree char *warning = NULL;

  rig_push_span (rig, 0, 4100 * MS, 50);
  check_told (rig, 1, "tumbling 4 4 3999 0.5 0 yes");
  warning = next_warning (rig->bus);
  g_assert_nonnull (strstr (warning, "window-policy=tumbling"));
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

/* Once it plays, what cannot be had is a warning. */
static void
test_refused_in_playing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing", "chunk-overlap", 1500, "cache-max-bytes",
                                 (guint64) 12000, NULL);
  g_autofree char *warning = NULL;

  set_policy (rig, "anchored");
  rig_push_span (rig, 0, 2100 * MS, 50);
  check_told (rig, 0, "anchored 4 1 12000 0.5 0 yes");
  set_policy (rig, "sliding");
  rig_push_span (rig, 2100 * MS, 6100 * MS, 50);
  check_told (rig, 7, "anchored 4 1 12000 0.5 0 yes");
  warning = next_warning (rig->bus);
  g_assert_nonnull (strstr (warning, "window-policy=sliding"));
  g_assert_nonnull (strstr (warning, "goes on"));
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

/* Windows that grow too large for the policy are asked about all the same. */
static void
test_too_large_in_playing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing", "chunk-overlap", 1000, "cache-max-bytes",
                                 (guint64) 12000, NULL);
  g_autofree char *warning = NULL;

  set_policy (rig, "anchored");
  rig_push_span (rig, 0, 2100 * MS, 50);
  check_told (rig, 0, "anchored 4 2 12000 0.5 0 yes");
  g_object_set (rig->element, "chunk-duration", 4000, NULL);
  rig_push_span (rig, 2100 * MS, 7100 * MS, 50);
  check_told (rig, 3, "anchored 8 6 12000 0.5 0 yes");
  warning = next_warning (rig->bus);
  g_assert_nonnull (strstr (warning, "goes on"));
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

/* A refusal is said again once the policy has been had in between. */
static void
test_refused_again (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing", "chunk-overlap", 1500, "cache-max-bytes",
                                 (guint64) 12000, NULL);
  static const char *const policies[] = { "anchored", "sliding", "anchored", "sliding" };

  for (guint i = 0; i < G_N_ELEMENTS (policies); i++) {
    set_policy (rig, policies[i]);
    rig_push_span (rig, i * 3000 * MS, (i + 1) * 3000 * MS, 50);
  }
  check_told (rig, 19, "anchored 4 1 12000 0.5 0 yes");
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 2);
}

/* Windows of far more frames than the context has room for are thinned out as they fill; one
 * warning says so.  Those that are only too long are not. */
static void
test_thinned (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "most=2", "chunk-duration", 8000, NULL);
  g_autoptr (Rig) whole = rig_new (RIG_JSON, "most=4", "chunk-duration", 8000, NULL);
  g_autofree char *warning = NULL;
  g_autoptr (JsonObject) line = NULL;

  rig_push_span (rig, 0, 16100 * MS, 50);
  rig_check_frames (rig, 0, 0 * MS, 2 * S, 4 * S, 6 * S, END);
  rig_check_window (rig, 1, 8 * S, 16 * S);
  warning = next_warning (rig->bus);
  g_assert_nonnull (strstr (warning, "windows of 16 frames"));
  g_assert_nonnull (strstr (warning, "one in 4"));
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
  rig_push_span (whole, 0, 8100 * MS, 50);
  line = rig_json (whole, 0);
  g_assert_cmpint (json_object_get_int_member (line, "frame_count"), ==, 16);
}

/* The policy is told of the frames that are left. */
static void
test_thinned_policy (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_TEXT, "most=2,windowing", "chunk-duration", 8000, "max-drift", 0.0, NULL);

  rig_push_span (rig, 0, 8100 * MS, 50);
  check_told (rig, 0, "tumbling 5 4 8589934592 0 0 yes");
}

/* What a setting was at the start can be had again. */
static void
test_back_to_the_start (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing", "max-drift", 0.0, NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  g_object_set (rig->element, "change-threshold", 0.25, NULL);
  rig_push_span (rig, 1 * S, 4100 * MS, 50);
  check_told (rig, 1, "tumbling 4 4 8589934592 0 0.25 yes");
  g_object_set (rig->element, "change-threshold", 0.0, NULL);
  rig_push_span (rig, 4100 * MS, 6100 * MS, 50);
  check_told (rig, 2, "tumbling 4 4 8589934592 0 0 yes");
}

/* ---- idle work, stats --------------------------------------------------------- */

static GstStructure *
get_stats (Rig *rig)
{
  GstStructure *stats = NULL;

  g_object_get (rig->element, "stats", &stats, NULL);
  return stats;
}

static guint64
count_of (Rig *rig, const char *name)
{
  g_autoptr (GstStructure) stats = get_stats (rig);
  guint64 value = 0;

  if (!gst_structure_get_uint64 (stats, name, &value))
    g_error ("stats: no %s", name);
  return value;
}

static void
wait_for_count (Rig *rig, const char *name, guint64 least)
{
  gint64 end = g_get_monotonic_time () + test_wait_s () * G_TIME_SPAN_SECOND;

  while (count_of (rig, name) < least) {
    g_assert_cmpint (g_get_monotonic_time (), <, end);
    g_usleep (1000);
  }
}

/* Between frames the worker does what the engine has to do, all of it. */
static void
test_idle_work (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing,work=3", NULL);
  g_autofree char *caption = NULL;

  for (guint i = 0; i < 4; i++) {
    rig_push_span (rig, i * 500 * MS, (i + 1) * 500 * MS, 50);
    wait_for_count (rig, "frame-rows", 3 * (i + 1));
  }
  rig_push (rig, 2 * S, 100 * MS, 50);
  caption = rig_caption (rig, 0);
  g_assert_nonnull (strstr (caption, "work 12"));
}

/* Work that nobody waits for stops as soon as a frame or window comes ... */
static void
test_work_gives_way (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "windowing,work=1000000", NULL);
  g_autofree char *caption = NULL;

  rig_push_span (rig, 0, 2100 * MS, 50);
  caption = rig_caption (rig, 0);
  g_assert_null (strstr (caption, "work 4000000"));
}

/* ... and at once when the element stops or is flushed. */
static void
test_work_is_cancelled (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "work=1,unit=30000", NULL);
  gint64 before;

  rig_push (rig, 0, 100 * MS, 50);
  wait_for_count (rig, "frames-encoded", 1);
  before = g_get_monotonic_time ();
  rig_seek_done (rig, 10 * S);
  rig_push (rig, 10 * S, 100 * MS, 50);
  wait_for_count (rig, "frames-encoded", 2);
  gst_element_set_state (rig->element, GST_STATE_READY);
  g_assert_cmpint (g_get_monotonic_time () - before, <, 10 * G_TIME_SPAN_SECOND);
}

static void
test_fallback_is_said (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_TEXT, "windowing,fall=1", "chunk-overlap", 1500, "max-drift", 0.125, NULL);
  g_autoptr (GstStructure) stats = NULL;
  g_autofree char *warning = NULL;
  gboolean fallen = FALSE;

  set_policy (rig, "streaming");
  rig_push_span (rig, 0, 4100 * MS, 50);
  check_told (rig, 0, "streaming 4 1 8589934592 0.125 0 yes");
  warning = next_warning (rig->bus);
  g_assert_nonnull (strstr (warning, "max-drift=0.125"));
  g_assert_nonnull (strstr (warning, "anchored"));
  check_told (rig, 4, "anchored 4 1 8589934592 0.125 0 yes");
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
  stats = get_stats (rig);
  g_assert_cmpstr (gst_structure_get_string (stats, "window-policy"), ==, "anchored");
  g_assert_true (gst_structure_get_boolean (stats, "fallen-back", &fallen) && fallen);
}

/* An answer given again is marked in JSON, on the bus and in stats. */
static void
test_unchanged (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "still", NULL);
  static const gboolean expected[] = { FALSE, TRUE, FALSE };

  rig_push_span (rig, 0, 4 * S, 50);
  rig_push_span (rig, 4 * S, 6100 * MS, 90);
  for (guint i = 0; i < G_N_ELEMENTS (expected); i++) {
    g_autoptr (JsonObject) line = rig_json (rig, i);
    g_autoptr (GstMessage) message = bus_wait_element (rig->bus, "valleyinfer/result");

    g_assert_cmpint (json_object_has_member (line, "unchanged"), ==, expected[i]);
    g_assert_cmpint (gst_structure_has_field (gst_message_get_structure (message), "unchanged"), ==,
                     expected[i]);
  }
  g_assert_cmpuint (count_of (rig, "questions-unchanged"), ==, 1);
}

/* Every count has its own name, in `stats`, in JSON and on the bus. */
static void
test_every_count (void)
{
  static const char *const counts[]
      = { "frames-encoded",  "frames-unchanged",  "frames-reencoded",    "frame-rows",
          "text-rows",       "questions",         "questions-unchanged", "drafted-tokens",
          "accepted-tokens", "sequences-evicted", "encodings-evicted",   "kv-bytes",
          "kv-bytes-peak",   "encoding-bytes",    "encoding-bytes-peak", "drift-samples",
          "drift-agreements" };
  static const char *const drifts[] = { "drift-last", "drift-mean", "drift-max" };
  static const char *const metrics[] = { "reused_tokens", "accepted_tokens", "drafted_tokens" };
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "tally", NULL);
  g_autoptr (JsonObject) line = NULL;
  g_autoptr (GstMessage) message = NULL;
  g_autoptr (GstStructure) on_bus = NULL, stats = NULL;

  rig_push_span (rig, 0, 2100 * MS, 50);
  line = rig_json (rig, 0);
  message = bus_wait_element (rig->bus, "valleyinfer/result");
  gst_structure_get (gst_message_get_structure (message), "metrics", GST_TYPE_STRUCTURE, &on_bus,
                     NULL);
  for (guint i = 0; i < G_N_ELEMENTS (metrics); i++) {
    JsonObject *in_json = json_object_get_object_member (line, "metrics");
    guint value = 0;

    g_assert_cmpint (json_object_get_int_member (in_json, metrics[i]), ==, i + 1);
    g_assert_true (gst_structure_get_uint (on_bus, metrics[i], &value));
    g_assert_cmpuint (value, ==, i + 1);
  }
  stats = get_stats (rig);
  for (guint i = 0; i < G_N_ELEMENTS (counts); i++)
    g_assert_cmpuint (count_of (rig, counts[i]), ==, i + 2);
  for (guint i = 0; i < G_N_ELEMENTS (drifts); i++) {
    double value = -1;

    g_assert_true (gst_structure_get_double (stats, drifts[i], &value));
    g_assert_cmpfloat (value, ==, 0.25 * (i + 1));
  }
  g_assert_cmpstr (gst_structure_get_string (stats, "window-policy"), ==, "sliding");
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/policies/defaults", test_defaults);
  g_test_add_func ("/element/policies/change-in-playing", test_change_in_playing);
  g_test_add_func ("/element/policies/longer-contents", test_longer_contents);
  g_test_add_func ("/element/policies/longer-contents-shortened", test_longer_contents_shortened);
  g_test_add_func ("/element/policies/explicit-refused", test_explicit_refused);
  g_test_add_func ("/element/policies/refused-after-restart", test_refused_after_restart);
  g_test_add_func ("/element/policies/exactly-enough", test_exactly_enough);
  g_test_add_func ("/element/policies/auto-falls-back", test_auto_falls_back);
  g_test_add_func ("/element/policies/auto-has-nothing", test_auto_has_nothing);
  g_test_add_func ("/element/policies/refused-in-playing", test_refused_in_playing);
  g_test_add_func ("/element/policies/too-large-in-playing", test_too_large_in_playing);
  g_test_add_func ("/element/policies/refused-again", test_refused_again);
  g_test_add_func ("/element/policies/thinned", test_thinned);
  g_test_add_func ("/element/policies/thinned-policy", test_thinned_policy);
  g_test_add_func ("/element/policies/back-to-the-start", test_back_to_the_start);
  g_test_add_func ("/element/policies/idle-work", test_idle_work);
  g_test_add_func ("/element/policies/work-gives-way", test_work_gives_way);
  g_test_add_func ("/element/policies/work-is-cancelled", test_work_is_cancelled);
  g_test_add_func ("/element/policies/fallback-is-said", test_fallback_is_said);
  g_test_add_func ("/element/policies/unchanged", test_unchanged);
  g_test_add_func ("/element/policies/every-count", test_every_count);
  return test_finish ();
}
