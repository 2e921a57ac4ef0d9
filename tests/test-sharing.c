/* test-sharing.c - overlapping windows with the bundled model, through the real element: exact
 * policies agree, several questions share their frames.
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

  for (guint i = 0; i < G_N_ELEMENTS (clips); i++) {
    g_autofree char *source = clip_source (clips[i]);
    g_autoptr (GPtrArray) tumbling = run (source, OVERLAP "window-policy=tumbling", NULL);
    g_autoptr (GPtrArray) sliding = run (source, OVERLAP "window-policy=sliding", NULL);
    g_autoptr (GPtrArray) undrafted
        = run (source, OVERLAP "window-policy=sliding draft=false", NULL);

    g_assert_cmpuint (tumbling->len, >, 4);
    check_same_lines (tumbling, sliding);
    check_same_lines (tumbling, undrafted);
  }
}

/* `auto` shows up to twice the window, tells so, and computes every frame twice at most. */
static void
test_anchored (void)
{
  g_autofree char *source = clip_source ("017.mp4");
  g_autoptr (GstStructure) stats = NULL, naive = NULL;
  g_autoptr (GPtrArray) lines = run (source, OVERLAP, &stats);
  g_autoptr (GPtrArray) tumbling = run (source, OVERLAP "window-policy=tumbling", &naive);
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
  g_assert_cmpint (most, >, 4);
  g_assert_cmpint (most, <=, 8);
  g_assert_cmpuint (count_of (stats, "frames-encoded"), ==, count_of (stats, "frames"));
  g_assert_cmpuint (2 * count_of (stats, "frame-rows"), <, count_of (naive, "frame-rows"));
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

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/sharing/sliding-is-tumbling", test_sliding_is_tumbling);
  g_test_add_func ("/sharing/anchored", test_anchored);
  g_test_add_func ("/sharing/prompts", test_prompts);
  return test_finish ();
}
