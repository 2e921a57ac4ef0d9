/* test-sharing.c - overlapping windows with the bundled model, through the real element: exact
 * policies agree, several questions share their frames, and what does not change is not computed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

/* The lines of a run: JSON objects. */
static GPtrArray *
read_lines (const char *path)
{
  GPtrArray *lines = g_ptr_array_new_with_free_func ((GDestroyNotify) json_object_unref);
  g_autofree char *text = test_read (path);
  g_auto (GStrv) split = g_strsplit (text, "\n", -1);

  for (guint i = 0; split[i] && *split[i]; i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (JsonNode) node = json_from_string (split[i], &error);

    g_assert_no_error (error);
    g_test_message ("%s", split[i]);
    g_ptr_array_add (lines, json_node_dup_object (node));
  }
  return lines;
}

/* All results of @source under @properties, and if wanted the stats at the end. */
static GPtrArray *
run (const char *source, const char *properties, GstStructure **stats)
{
  g_autofree char *path = test_path ("lines.json");
  GstElement *pipeline = pipe_new ("%s ! valleyinfer name=v %s ! fakesink v.json_src "
                                   "! filesink buffer-mode=unbuffered location=%s",
                                   source, properties, path);
  g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipeline), "v");

  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  if (stats)
    g_object_get (v, "stats", stats, NULL);
  pipe_free (pipeline);
  return read_lines (path);
}

static guint64
count_of (const GstStructure *stats, const char *name)
{
  guint64 value = 0;

  g_assert_true (gst_structure_get_uint64 (stats, name, &value));
  return value;
}

static char *
clip_source (const char *name)
{
  return g_strdup_printf ("filesrc location=%s/%s ! decodebin", g_getenv ("VALLEY_TEST_CLIPS"),
                          name);
}

/* Text, confidence and frames: what a difference of a bit would show in. */
static void
check_same_line (JsonObject *a, JsonObject *b)
{
  static const char *const members[]
      = { "result", "confidence", "start_time", "end_time", "frame_times", "prompt_id" };

  for (guint i = 0; i < G_N_ELEMENTS (members); i++) {
    JsonNode *one = json_object_get_member (a, members[i]);
    JsonNode *other = json_object_get_member (b, members[i]);

    if (!one || !other || !json_node_equal (one, other))
      g_error ("%s differs: %s, %s", members[i], one ? json_to_string (one, FALSE) : "none",
               other ? json_to_string (other, FALSE) : "none");
  }
}

static void
check_same_lines (GPtrArray *a, GPtrArray *b)
{
  g_assert_cmpuint (a->len, ==, b->len);
  for (guint i = 0; i < a->len; i++)
    check_same_line (a->pdata[i], b->pdata[i]);
}

#define OVERLAP "frame-rate=4/1 chunk-duration=1000 chunk-overlap=750 "

/* The same frames in every window, however they were computed; and with no room to keep
 * anything. */
static void
test_sliding_is_tumbling (void)
{
  static const char *const clips[] = { "017.mp4", "041.mp4", "006.mp4" };

  guint64 drafted = 0;

  for (guint i = 0; i < G_N_ELEMENTS (clips); i++) {
    g_autoptr (GstStructure) with = NULL, without = NULL;
    g_autofree char *source = clip_source (clips[i]);
    g_autoptr (GPtrArray) tumbling = run (source, OVERLAP "window-policy=tumbling", NULL);
    g_autoptr (GPtrArray) sliding = run (source, OVERLAP "window-policy=sliding", &with);
    g_autoptr (GPtrArray) undrafted
        = run (source, OVERLAP "window-policy=sliding draft=false", &without);

    g_assert_cmpuint (tumbling->len, >, 4);
    check_same_lines (tumbling, sliding);
    check_same_lines (tumbling, undrafted);
    g_assert_cmpuint (count_of (without, "drafted-tokens"), ==, 0);
    drafted += count_of (with, "drafted-tokens");
  }
  g_assert_cmpuint (drafted, >, 0);
}

#define BALL                                                                                       \
  "videotestsrc pattern=ball num-buffers=200 ! video/x-raw,width=160,height=120,framerate=10/1"
#define LONG_OVERLAP "frame-rate=4/1 chunk-duration=2000 chunk-overlap=1750 "

/* `auto` shows up to twice the window, tells so, and computes every frame twice at most. */
static void
test_anchored (void)
{
  g_autoptr (GstStructure) stats = NULL, naive = NULL;
  g_autoptr (GPtrArray) lines = run (BALL, LONG_OVERLAP, &stats);
  g_autoptr (GPtrArray) tumbling = run (BALL, LONG_OVERLAP "window-policy=tumbling", &naive);
  gint64 most = 0;

  g_assert_cmpstr (gst_structure_get_string (stats, "window-policy"), ==, "anchored");
  g_assert_cmpuint (lines->len, ==, tumbling->len);
  check_same_line (lines->pdata[0], tumbling->pdata[0]); /* nothing before it yet */
  for (guint i = 0; i < lines->len; i++) {
    JsonObject *line = lines->pdata[i];
    gint64 n = json_object_get_int_member (line, "frame_count");
    JsonArray *times = json_object_get_array_member (line, "frame_times");

    g_assert_cmpfloat (json_object_get_double_member (line, "start_time"), <=,
                       json_array_get_double_element (times, 0) + 1e-3);
    most = MAX (most, n);
  }
  g_assert_cmpint (most, >, 8);
  g_assert_cmpint (most, <=, 16);
  g_assert_cmpuint (count_of (stats, "frames-encoded"), ==, count_of (stats, "frames"));
  g_assert_cmpuint (3 * count_of (stats, "frame-rows"), <, count_of (naive, "frame-rows"));
}

/* Settings that change on the way: at which frame, to what. */
typedef struct {
  GstElement *element;
  gboolean tumbling_only; /* leave the policy alone */
  guint n_frames;
  GRand *rand;
} Meddler;

static GstPadProbeReturn
meddle (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  static const char *const policies[] = { "tumbling", "sliding" };
  static const guint overlaps[] = { 0, 250, 500, 750 };
  Meddler *m = data;
  guint draw = (guint) g_rand_int_range (m->rand, 0, 8), overlap, policy;

  if (m->n_frames++ % 17 != 16)
    return GST_PAD_PROBE_OK;
  overlap = overlaps[draw % 4];
  policy = draw / 4;
  if (!m->tumbling_only)
    gst_util_set_object_arg (G_OBJECT (m->element), "window-policy", policies[policy]);
  g_object_set (m->element, "chunk-overlap", overlap, "system-prompt",
                draw == 3 ? "Look closely." : NULL, NULL);
  return GST_PAD_PROBE_OK;
}

/* The results of a ball under settings that change at random, with one policy or several. */
static GPtrArray *
run_meddled (guint32 seed, gboolean tumbling_only)
{
  g_autofree char *path = test_path ("meddled.json");
  GstElement *pipeline
      = pipe_new (BALL " ! valleyinfer name=v frame-rate=4/1 chunk-duration=1000 chunk-overlap=500 "
                       "window-policy=tumbling ! fakesink v.json_src "
                       "! filesink buffer-mode=unbuffered location=%s",
                  path);
  g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  g_autoptr (GstPad) sink = gst_element_get_static_pad (v, "sink");
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  Meddler meddler = { v, tumbling_only, 0, rand };

  gst_pad_add_probe (sink, GST_PAD_PROBE_TYPE_BUFFER, meddle, &meddler, NULL);
  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  pipe_free (pipeline);
  return read_lines (path);
}

/* Whatever is changed while playing, and whenever: what is kept never shows in an answer. */
static void
test_changes (void)
{
  guint32 seed = g_test_rand_int ();
  g_autoptr (GPtrArray) plain = NULL, mixed = NULL;

  g_test_message ("seed %u", seed);
  plain = run_meddled (seed, TRUE);
  mixed = run_meddled (seed, FALSE);
  g_assert_cmpuint (plain->len, >, 20);
  check_same_lines (plain, mixed);
}

/* Each question is answered as if it were the only one, and the frames are computed once. */
static void
test_prompts (void)
{
  static const char *const prompts[]
      = { "Describe the video.", "What is the signal? Answer picture, bars, black or snow." };
  g_autofree char *source = clip_source ("030.mp4");
  g_autofree char *both
      = g_strdup_printf (OVERLAP "prompts=\"<\\\"%s\\\",\\\"%s\\\">\"", prompts[0], prompts[1]);
  g_autoptr (GstStructure) stats = NULL, one = NULL;
  g_autoptr (GPtrArray) together = run (source, both, &stats);

  for (guint p = 0; p < G_N_ELEMENTS (prompts); p++) {
    g_autofree char *single = g_strdup_printf (OVERLAP "prompt=\"%s\"", prompts[p]);
    g_autoptr (GPtrArray) alone = run (source, single, p ? NULL : &one);

    g_assert_cmpuint (together->len, ==, 2 * alone->len);
    for (guint i = 0; i < alone->len; i++) {
      JsonObject *line = together->pdata[2 * i + p];

      g_assert_cmpint (json_object_get_int_member (line, "prompt_id"), ==, p);
      g_assert_cmpstr (json_object_get_string_member (line, "result"), ==,
                       json_object_get_string_member (alone->pdata[i], "result"));
      g_assert_cmpfloat (json_object_get_double_member (line, "confidence"), ==,
                         json_object_get_double_member (alone->pdata[i], "confidence"));
    }
  }
  /* What is computed ahead of the end that then comes differs a little. */
  g_assert_cmpuint (2 * count_of (stats, "frame-rows"), <, 3 * count_of (one, "frame-rows"));
  g_assert_cmpuint (count_of (stats, "frames-encoded"), ==, count_of (one, "frames-encoded"));
}

/* Streaming is compared with exact answers now and then; what it is then found to be off by is in
 * stats, and when that is too much it ends, with a warning. */
static void
test_streaming (void)
{
  g_autofree char *path = test_path ("streaming.json");
  GstElement *pipeline = pipe_new (
      "videotestsrc pattern=ball num-buffers=260 ! video/x-raw,width=160,height=120,framerate=10/1 "
      "! valleyinfer name=v frame-rate=4/1 chunk-duration=2000 chunk-overlap=1750 "
      "window-policy=streaming max-drift=1e-30 max-new-tokens=4 ! fakesink "
      "v.json_src ! filesink location=%s",
      path);
  g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  g_autoptr (GstMessage) message = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (GstStructure) stats = NULL;
  g_autofree char *text = NULL;
  gboolean fallen = FALSE;
  double mean = 0;

  pipe_state (pipeline, GST_STATE_PLAYING);
  message = bus_wait (bus, GST_MESSAGE_WARNING);
  gst_message_parse_warning (message, &error, NULL);
  g_test_message ("%s", error->message);
  g_assert_nonnull (strstr (error->message, "max-drift=1e-30"));
  g_clear_pointer (&message, gst_message_unref);
  pipe_eos (pipeline);
  g_object_get (v, "stats", &stats, NULL);
  text = gst_structure_to_string (stats);
  g_test_message ("%s", text);
  g_assert_true (gst_structure_get_boolean (stats, "fallen-back", &fallen) && fallen);
  g_assert_cmpstr (gst_structure_get_string (stats, "window-policy"), ==, "anchored");
  g_assert_cmpuint (count_of (stats, "drift-samples"), >=, 1);
  g_assert_true (gst_structure_get_double (stats, "drift-mean", &mean));
  g_assert_cmpfloat (mean, >, 1e-30);
  g_assert_cmpfloat (mean, <, 100);
  g_assert_cmpuint (count_of (stats, "failed"), ==, 0);
  g_assert_cmpuint (count_of (stats, "frames-encoded"), ==, count_of (stats, "frames"));
  pipe_free (pipeline);
}

static guint
n_unchanged (GPtrArray *lines)
{
  guint n = 0;

  for (guint i = 0; i < lines->len; i++)
    n += json_object_has_member (lines->pdata[i], "unchanged");
  return n;
}

/* A still picture in a real H.264 file: after the encoder has come to rest, answers are given
 * again.  They are what would have been computed. */
static void
test_still_file (void)
{
  g_autofree char *file = test_path ("still.mp4");
  g_autofree char *source = g_strdup_printf ("filesrc location=%s ! decodebin", file);
  g_autoptr (GPtrArray) lines = NULL;
  g_autoptr (GstStructure) stats = NULL;
  GstElement *encode;

  if (test_lacks ("x264enc"))
    return;
  encode = pipe_new ("videotestsrc pattern=smpte75 num-buffers=300 "
                     "! video/x-raw,width=160,height=120,framerate=25/1 "
                     "! x264enc tune=zerolatency key-int-max=1000 ! h264parse ! mp4mux "
                     "! filesink location=%s",
                     file);
  pipe_state (encode, GST_STATE_PLAYING);
  pipe_eos (encode);
  pipe_free (encode);

  lines = run (source, "chunk-duration=2000 chunk-overlap=1000 window-policy=sliding", &stats);
  g_assert_cmpuint (lines->len, >=, 10);
  g_assert_cmpuint (n_unchanged (lines), >=, 5);
  g_assert_cmpuint (count_of (stats, "questions-unchanged"), ==, n_unchanged (lines));
  g_assert_cmpuint (count_of (stats, "frames-unchanged"), >, 5);
  for (guint i = 0; i < lines->len; i++)
    g_assert_cmpstr (json_object_get_string_member (lines->pdata[i], "result"), ==, "Color bars.");
}

#define SIDE 96
#define N_NOISY 160

/* Ten frames a second of what a camera sees of a still scene, which is another one after half
 * the time. */
static char *
noisy_source (void)
{
  guint32 seed = g_test_rand_int ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  g_autoptr (GByteArray) raw = g_byte_array_new ();
  g_autofree char *path = test_path ("noisy.i420");
  g_autoptr (GError) error = NULL;

  g_test_message ("seed %u", seed);
  for (guint i = 0; i < N_NOISY; i++)
    for (guint j = 0; j < SIDE * SIDE * 3 / 2; j++) {
      guint8 level = j >= SIDE * SIDE ? 128 : i < N_NOISY / 2 ? 60 : 180;
      guint8 sample = (guint8) (level + g_rand_int_range (rand, -2, 3));

      g_byte_array_append (raw, &sample, 1);
    }
  g_file_set_contents (path, (const char *) raw->data, raw->len, &error);
  g_assert_no_error (error);
  return g_strdup_printf ("filesrc location=%s ! rawvideoparse format=i420 width=%u height=%u "
                          "framerate=10/1",
                          path, SIDE, SIDE);
}

/* A camera's noise makes all frames differ; with a threshold they count as one, until something
 * happens. */
static void
test_change_threshold (void)
{
  g_autofree char *source = NULL;
  g_autoptr (GPtrArray) exact = NULL, gated = NULL;
  g_autoptr (GstStructure) exact_stats = NULL, stats = NULL;

  if (test_lacks ("rawvideoparse"))
    return;
  source = noisy_source ();
  exact = run (source, "chunk-duration=2000", &exact_stats);
  gated = run (source, "chunk-duration=2000 change-threshold=0.02", &stats);
  g_assert_cmpuint (exact->len, ==, 8);
  g_assert_cmpuint (n_unchanged (exact), ==, 0);
  g_assert_cmpuint (count_of (exact_stats, "frames-encoded"), ==, 32);
  /* One frame before the change and one behind it. */
  g_assert_cmpuint (gated->len, ==, 8);
  g_assert_cmpuint (count_of (stats, "frames-encoded"), ==, 2);
  g_assert_cmpuint (n_unchanged (gated), ==, 6);
  for (guint i = 0; i < gated->len; i++)
    g_assert_cmpint (json_object_has_member (gated->pdata[i], "unchanged"), ==, i != 0 && i != 4);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/sharing/sliding-is-tumbling", test_sliding_is_tumbling);
  g_test_add_func ("/sharing/anchored", test_anchored);
  g_test_add_func ("/sharing/changes", test_changes);
  g_test_add_func ("/sharing/prompts", test_prompts);
  g_test_add_func ("/sharing/streaming", test_streaming);
  g_test_add_func ("/sharing/still-file", test_still_file);
  g_test_add_func ("/sharing/change-threshold", test_change_threshold);
  return test_finish ();
}
