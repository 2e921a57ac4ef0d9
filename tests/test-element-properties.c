/* test-element-properties.c - properties, their defaults, changes in PLAYING, and the fields
 * of a result (rule 9, "A result, as JSON").
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <glib/gstdio.h>

#include <string.h>

static void
check_uint (GstElement *element, const char *name, guint64 expected)
{
  GValue value = G_VALUE_INIT, wide = G_VALUE_INIT;

  g_object_get_property (G_OBJECT (element), name, &value);
  g_value_init (&wide, G_TYPE_UINT64);
  g_assert_true (g_value_transform (&value, &wide));
  g_test_message ("%s", name);
  g_assert_cmpuint (g_value_get_uint64 (&wide), ==, expected);
  g_value_unset (&value);
  g_value_unset (&wide);
}

static void
test_defaults (void)
{
  g_autoptr (GstElement) element = gst_element_factory_make ("valleyinfer", NULL);
  g_autofree char *prompt = NULL;
  int num, den;

  gst_object_ref_sink (element);
  g_object_get (element, "prompt", &prompt, NULL);
  g_assert_cmpstr (prompt, ==, "Describe the video.");
  check_uint (element, "chunk-duration", 2000);
  check_uint (element, "chunk-overlap", 0);
  check_uint (element, "chunk-size", 0);
  check_uint (element, "max-vision-tokens", 0);
  check_uint (element, "max-new-tokens", 100);
  check_uint (element, "max-observed-delay", 0);
  {
    GValue rate = G_VALUE_INIT;

    g_object_get_property (G_OBJECT (element), "frame-rate", &rate);
    num = gst_value_get_fraction_numerator (&rate);
    den = gst_value_get_fraction_denominator (&rate);
    g_value_unset (&rate);
  }
  g_assert_cmpint (num, ==, 2);
  g_assert_cmpint (den, ==, 1);
}

/* Every writable property can be read back and says in its blurb what it is. */
static void
test_every_property (void)
{
  g_autoptr (GstElement) element = gst_element_factory_make ("valleyinfer", NULL);
  g_autofree GParamSpec **specs = NULL;
  guint n;
  static const char *const wanted[] = { "model-path",        "device",
                                        "precision",         "prompt",
                                        "prompt-path",       "system-prompt",
                                        "frame-rate",        "chunk-duration",
                                        "chunk-overlap",     "chunk-size",
                                        "max-new-tokens",    "generation-config",
                                        "markers",           "text-timing",
                                        "lateness",          "latency",
                                        "live-edge-offset",  "max-observed-delay",
                                        "queue-max-bytes",   "queue-max-windows",
                                        "stream-id",         "metrics",
                                        "max-vision-tokens", "reduction" };

  gst_object_ref_sink (element);
  specs = g_object_class_list_properties (G_OBJECT_GET_CLASS (element), &n);
  for (guint i = 0; i < n; i++) {
    GValue value = G_VALUE_INIT;

    if (!g_type_is_a (specs[i]->owner_type, G_OBJECT_TYPE (element)))
      continue;
    g_assert_cmpuint (strlen (g_param_spec_get_blurb (specs[i])), >, 10);
    g_object_get_property (G_OBJECT (element), specs[i]->name, &value);
    if (specs[i]->flags & G_PARAM_WRITABLE)
      g_object_set_property (G_OBJECT (element), specs[i]->name, &value);
    g_value_unset (&value);
  }
  for (guint i = 0; i < G_N_ELEMENTS (wanted); i++)
    if (!g_object_class_find_property (G_OBJECT_GET_CLASS (element), wanted[i]))
      g_error ("no property %s", wanted[i]);
}

static void
check_tokens (Rig *rig, guint window, gint64 tokens, gint64 before)
{
  g_autoptr (JsonObject) line = rig_json (rig, window);
  JsonObject *metrics = json_object_get_object_member (line, "metrics");

  g_assert_cmpint (json_object_get_int_member (metrics, "vision_tokens"), ==, tokens);
  g_assert_cmpint (json_object_get_int_member (metrics, "vision_tokens_before"), ==, before);
}

static guint
budget_warnings (Rig *rig, const char *about)
{
  GstMessage *message;
  guint n = 0;

  while ((message = gst_bus_pop_filtered (rig->bus, GST_MESSAGE_WARNING)) != NULL) {
    g_autoptr (GError) error = NULL;

    gst_message_parse_warning (message, &error, NULL);
    g_test_message ("%s", error->message);
    n += strstr (error->message, about) != NULL;
    gst_message_unref (message);
  }
  return n;
}

/* The fake engine's frames have 8 tokens, and 2 at least.  A new budget is for the frames of the
 * next window; one that cannot be met is exceeded, with one warning. */
static void
test_budget (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", "max-vision-tokens", 22, NULL);

  rig_push_span (rig, 0, 3 * S, 50);
  g_object_set (rig->element, "max-vision-tokens", 5, NULL);
  rig_push_span (rig, 3 * S, 7 * S, 50);
  gst_util_set_object_arg (G_OBJECT (rig->element), "reduction", "none");
  g_object_set (rig->element, "max-vision-tokens", 32, NULL);
  rig_push_span (rig, 7 * S, 9 * S, 50);
  gst_util_set_object_arg (G_OBJECT (rig->element), "reduction", "pool+eagle+drop");
  g_object_set (rig->element, "max-vision-tokens", 0, NULL);
  rig_push_span (rig, 9 * S, 12100 * MS, 50);
  check_tokens (rig, 0, 20, 32);
  check_tokens (rig, 1, 20, 32);
  check_tokens (rig, 2, 8, 32);
  check_tokens (rig, 3, 8, 32);
  check_tokens (rig, 4, 32, 32);
  check_tokens (rig, 5, 32, 32);
  g_assert_cmpuint (budget_warnings (rig, "max-vision-tokens: 5"), ==, 1);
}

/* The next start says it again. */
static void
test_budget_again (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", "max-vision-tokens", 5, NULL);

  for (guint i = 0; i < 2; i++) {
    rig_push_span (rig, 0, 1 * S, 50);
    g_assert_cmpuint (budget_warnings (rig, "max-vision-tokens: 5"), ==, 1);
    gst_element_set_state (rig->element, GST_STATE_READY);
    gst_element_set_state (rig->element, GST_STATE_PLAYING);
    gst_harness_push_event (rig->video, gst_event_new_stream_start ("again"));
    gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
  }
}

/* A budget is shared by the most frames that an answer can be about, so that a frame's tokens never
 * depend on how many others there are. */
static void
test_budget_of_policies (void)
{
  static const struct {
    const char *policy;
    double max_drift;
    gint64 tokens; /* of the first window's 4 frames */
  } cases[] = { { "tumbling", 0, 28 }, { "sliding", 0, 28 },   { "anchored", 0, 12 },
                { "auto", 0, 12 },     { "streaming", 0, 28 }, { "streaming", 0.5, 12 } };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autoptr (Rig) rig = rig_new (RIG_JSON, "", "max-vision-tokens", 28, "chunk-overlap", 1500,
                                   "max-drift", cases[i].max_drift, NULL);

    gst_util_set_object_arg (G_OBJECT (rig->element), "window-policy", cases[i].policy);
    rig_push_span (rig, 0, 2100 * MS, 50);
    check_tokens (rig, 0, cases[i].tokens, 32);
  }
}

/* A new prompt is for the next window; the one being filled keeps its own. */
static void
test_prompt_in_playing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "echo", "prompt", "First?", NULL);
  g_autofree char *first = NULL, *second = NULL;
  g_autoptr (JsonObject) line0 = NULL, line1 = NULL;

  rig_push_span (rig, 0, 2 * S, 50);
  rig_push (rig, 2 * S, 100 * MS, 50);
  first = rig_caption (rig, 0);
  g_assert_cmpstr (first, ==, "First?");
  g_object_set (rig->element, "prompt", "Second?", NULL);
  rig_push_span (rig, 2100 * MS, 6100 * MS, 50);
  second = rig_caption (rig, 2);
  g_assert_cmpstr (second, ==, "Second?");
  line0 = rig_json (rig, 0);
  line1 = rig_json (rig, 2);
  g_assert_cmpint (json_object_get_int_member (line0, "prompt_id"), !=,
                   json_object_get_int_member (line1, "prompt_id"));
}

typedef struct {
  const char *markers;
  const char *result, *summary; /* NULL: no such field */
  const char *caption;          /* what text_src shows; NULL: nothing */
} MarkerCase;

/* %3C and %3E: the fake engine's text is percent-encoded. */
#define THOUGHT                                                                                    \
  "text=%3CSUMMARY%3ES.%3C/SUMMARY%3E%0A%3CCAPTION%3E%22K%22%0Ak%3C/CAPTION%3E%0A"                 \
  "%3CCONCLUSION%3EC.%3C/CONCLUSION%3E"
#define ALL_OF_IT "<SUMMARY>S.</SUMMARY>\n<CAPTION>\"K\"\nk</CAPTION>\n<CONCLUSION>C.</CONCLUSION>"

static const MarkerCase marker_cases[] = {
  { NULL, "C.", "S.", "C." }, /* the default */
  { "keep", ALL_OF_IT, NULL, ALL_OF_IT },
  { "strip", "C.", NULL, "C." },
  { "split", "C.", "S.", "C." },
};

static void
test_markers (gconstpointer data)
{
  const MarkerCase *test = data;
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, THOUGHT, NULL);
  g_autoptr (JsonObject) line = NULL;
  g_autoptr (GstMessage) message = NULL;
  g_autofree char *caption = NULL;
  const GstStructure *structure;

  if (test->markers)
    gst_util_set_object_arg (G_OBJECT (rig->element), "markers", test->markers);
  rig_push_span (rig, 0, 2100 * MS, 50);
  line = rig_json (rig, 0);
  g_assert_cmpstr (json_object_get_string_member (line, "result"), ==, test->result);
  g_assert_cmpstr (json_object_get_string_member_with_default (line, "summary", NULL), ==,
                   test->summary);
  g_assert_cmpstr (json_object_get_string_member_with_default (line, "caption", NULL), ==,
                   test->summary != NULL ? "\"K\"\nk" : NULL);
  g_assert_cmpstr (json_object_get_string_member_with_default (line, "conclusion", NULL), ==,
                   test->summary != NULL ? "C." : NULL);
  g_assert_false (json_object_has_member (line, "reasoning"));
  message = bus_wait_element (rig->bus, "valleyinfer/result");
  structure = gst_message_get_structure (message);
  g_assert_cmpstr (gst_structure_get_string (structure, "result"), ==, test->result);
  g_assert_cmpstr (gst_structure_get_string (structure, "summary"), ==, test->summary);
  g_assert_cmpstr (gst_structure_get_string (structure, "caption"), ==,
                   test->summary != NULL ? "\"K\"\nk" : NULL);
  caption = rig_caption (rig, 0);
  g_assert_cmpstr (caption, ==, test->caption);
}

/* Reasoning that never came to an answer is no caption. */
static void
test_no_answer (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "text=%3Cthink%3EHm", NULL);
  g_autoptr (JsonObject) line = NULL;

  rig_push_span (rig, 0, 2100 * MS, 50);
  rig_push_eos (rig);
  line = rig_json (rig, 0);
  g_assert_cmpstr (json_object_get_string_member (line, "result"), ==, "");
  g_assert_cmpstr (json_object_get_string_member (line, "reasoning"), ==, "Hm");
  log_event (rig->log, "text_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "text_src"), ==, 0);
}

static void
count_warnings (GstBus *bus, guint *n)
{
  GstMessage *message;

  while ((message = gst_bus_pop_filtered (bus, GST_MESSAGE_WARNING)) != NULL) {
    g_autoptr (GError) error = NULL;

    gst_message_parse_warning (message, &error, NULL);
    g_assert_nonnull (strstr (error->message, "2 of the 4 frames"));
    gst_message_unref (message);
    (*n)++;
  }
}

/* The model is not shown every frame: the prompt tells of those that it is, every result says
 * how many are missing, one warning says it once. */
static void
test_frames_dropped (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "echo,fit=2", "prompt",
                                 "{num_frames} from {start}: {timestamps}", NULL);
  g_autofree char *first = NULL, *last = NULL;
  guint warnings = 0;

  rig_push_span (rig, 0, 6100 * MS, 50);
  first = rig_caption (rig, 0);
  last = rig_caption (rig, 2);
  g_assert_cmpstr (first, ==, "2 from 0.0: 0.0, 0.5");
  g_assert_cmpstr (last, ==, "2 from 4.0: 4.0, 4.5");
  for (guint i = 0; i < 3; i++) {
    g_autoptr (JsonObject) line = rig_json (rig, i);

    g_assert_cmpint (json_object_get_int_member (line, "frames_dropped"), ==, 2);
    g_assert_cmpint (json_object_get_int_member (line, "frame_count"), ==, 2);
  }
  count_warnings (rig->bus, &warnings);
  g_assert_cmpuint (warnings, ==, 1);
}

/* Time stamps take room themselves: as many frames are shown as fit beside their own time stamps
 * ("0.0, 0.5" is 8 bytes and 2 frames), whether the whole window's fit in or not. */
static void
test_frames_dropped_for_text (void)
{
  static const struct {
    const char *script, *caption; /* NULL: refused */
  } cases[] = {
    { "echo,room=22", "0.0, 0.5, 1.0, 1.5" }, /* 18 + 4 */
    { "echo,room=20", "0.0, 0.5, 1.0" },      /* 13 + 3, though 18 + 2 would fit too */
    { "echo,room=16", "0.0, 0.5, 1.0" },      /* the whole window's do not fit */
    { "echo,room=15", "0.0, 0.5" },           /* 8 + 2 */
    { "echo,room=4", "0.0" },                 /* 3 + 1 */
    { "echo,room=3", NULL },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autoptr (Rig) rig
        = rig_new (RIG_TEXT | RIG_JSON, cases[i].script, "prompt", "{timestamps}", NULL);
    g_autoptr (JsonObject) line = NULL;

    rig_push_span (rig, 0, 2100 * MS, 50);
    line = rig_json (rig, 0);
    if (cases[i].caption != NULL)
      g_assert_cmpstr (json_object_get_string_member (line, "result"), ==, cases[i].caption);
    else
      g_assert_cmpstr (json_object_get_string_member (line, "error"), ==, "3 bytes of prompt");
  }
}

/* Less room for answers than max-new-tokens: every result says how much, one warning names the
 * property, and a value that fits silences both. */
static void
test_answer_room (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_TEXT | RIG_JSON, "answer=30,text=a", "max-new-tokens", 31, NULL);
  g_autoptr (GstMessage) message = NULL;
  g_autoptr (GError) error = NULL;

  rig_push_span (rig, 0, 4100 * MS, 50);
  for (guint i = 0; i < 2; i++) {
    g_autoptr (JsonObject) line = rig_json (rig, i);

    g_assert_cmpint (json_object_get_int_member (line, "max_new_tokens"), ==, 30);
    g_assert_false (json_object_has_member (line, "frames_dropped"));
  }
  message = gst_bus_timed_pop_filtered (rig->bus, 10 * GST_SECOND, GST_MESSAGE_WARNING);
  g_assert_nonnull (message);
  gst_message_parse_warning (message, &error, NULL);
  g_assert_nonnull (strstr (error->message, "max-new-tokens=31"));
  g_assert_nonnull (strstr (error->message, "30 tokens"));

  g_object_set (rig->element, "max-new-tokens", 30, NULL);
  rig_push_span (rig, 4150 * MS, 8100 * MS, 50);
  {
    g_autoptr (JsonObject) line = rig_json (rig, 3);

    g_assert_false (json_object_has_member (line, "max_new_tokens"));
  }
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

static void
test_placeholders (void)
{
  g_autoptr (Rig) rig = rig_new (
      RIG_TEXT, "echo", "stream-id", "cam-1", "prompt",
      "{num_frames} frames of {stream_id} from {start} to {end} at {timestamps}, {other} {", NULL);
  g_autofree char *text = NULL;

  rig_push_span (rig, 0, 4100 * MS, 50);
  text = rig_caption (rig, 1);
  g_test_message ("%s", text);
  g_assert_true (g_str_has_prefix (text, "4 frames of cam-1 from 2"));
  g_assert_nonnull (strstr (text, " to 4"));
  g_assert_nonnull (strstr (text, "2.5"));
  g_assert_nonnull (strstr (text, "3.5"));
  /* What is no placeholder is text. */
  g_assert_true (g_str_has_suffix (text, ", {other} {"));
}

static void
test_prompt_file (void)
{
  g_autofree char *path = test_path ("question.txt");
  g_autoptr (Rig) rig = NULL;
  g_autofree char *text = NULL;

  g_assert_true (g_file_set_contents (path, "From a file?\n", -1, NULL));
  rig = rig_new (RIG_TEXT, "echo", "prompt-path", path, NULL);
  rig_push_span (rig, 0, 2100 * MS, 50);
  text = rig_caption (rig, 0);
  g_assert_cmpstr (text, ==, "From a file?");
}

/* The file is read for the prompt's sake alone, not whenever something else is set. */
static void
test_prompt_file_gone (void)
{
  g_autofree char *path = test_path ("gone.txt");
  g_autoptr (Rig) rig = NULL;
  g_autofree char *text = NULL;

  g_assert_true (g_file_set_contents (path, "From a file?", -1, NULL));
  rig = rig_new (RIG_TEXT, "echo", "prompt-path", path, NULL);
  g_assert_cmpint (g_remove (path), ==, 0);
  g_object_set (rig->element, "queue-max-windows", 3, NULL);
  rig_push_span (rig, 0, 2100 * MS, 50);
  text = rig_caption (rig, 0);
  g_assert_cmpstr (text, ==, "From a file?");
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

static void
test_system_prompt (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "echo-system", "system-prompt", "Be brief.", NULL);
  g_autofree char *text = NULL;

  rig_push_span (rig, 0, 2100 * MS, 50);
  text = rig_caption (rig, 0);
  g_assert_cmpstr (text, ==, "Be brief.");
}

/* Frames are prefilled behind it before the first question is asked. */
static void
test_system_prompt_first (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "system-first", "system-prompt", "Be brief.", NULL);
  g_autofree char *text = NULL;

  rig_push_span (rig, 0, 2100 * MS, 50);
  text = rig_caption (rig, 0);
  g_assert_cmpstr (text, ==, "Be brief.");
}

/* Lengths changed in PLAYING hold from the next window on. */
static void
test_duration_in_playing (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);

  rig_push_span (rig, 0, 1 * S, 50);
  g_object_set (rig->element, "chunk-duration", 1000, NULL);
  rig_push_span (rig, 1 * S, 4100 * MS, 50);
  rig_check_window (rig, 0, 0, 2 * S);
  rig_check_window (rig, 1, 2 * S, 3 * S);
  rig_check_window (rig, 2, 3 * S, 4 * S);
}

static void
test_json_fields (void)
{
  g_autoptr (Rig) rig
      = rig_new (RIG_JSON, "text=A%20%22red%22%20%5C%20circle.", "stream-id", "cam \"1\"", NULL);

  rig_push_span (rig, 0, 4100 * MS, 50);
  for (guint i = 0; i < 2; i++) {
    g_autoptr (JsonObject) line = rig_json (rig, i);
    JsonObject *metrics = json_object_get_object_member (line, "metrics");

    g_assert_cmpstr (json_object_get_string_member (line, "result"), ==, "A \"red\" \\ circle.");
    g_assert_cmpstr (json_object_get_string_member (line, "stream_id"), ==, "cam \"1\"");
    g_assert_cmpstr (json_object_get_string_member (line, "finish_reason"), ==, "stop");
    g_assert_cmpint (json_object_get_int_member (line, "chunk_id"), ==, i);
    g_assert_cmpint (json_object_get_int_member (line, "timestamp"), ==, i * 2 * S);
    g_assert_cmpint (json_object_get_int_member (line, "frame_count"), ==, 4);
    g_assert_cmpfloat (json_object_get_double_member (line, "confidence"), >=, 0);
    g_assert_cmpfloat (json_object_get_double_member (line, "confidence"), <=, 1);
    g_assert_true (json_object_has_member (line, "prompt_id"));
    g_assert_false (json_object_has_member (line, "error"));
    g_assert_false (json_object_has_member (line, "ntp_time"));
    for (const char **name = (const char *[]){ "num_input_tokens", "vision_tokens", "reused_tokens",
                                               "output_tokens", "queue_time_ms", "encode_ms",
                                               "prefill_ms", "decode_ms", "latency_ms", NULL };
         *name; name++)
      if (!json_object_has_member (metrics, *name))
        g_error ("no metric %s", *name);
  }
}

static void
test_no_metrics (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", "metrics", FALSE, NULL);
  g_autoptr (JsonObject) line = NULL;

  rig_push_span (rig, 0, 2100 * MS, 50);
  line = rig_json (rig, 0);
  g_assert_false (json_object_has_member (line, "metrics"));
}

/* The same fields go to the bus, and they do so without any request pad. */
static void
test_bus_message (void)
{
  g_autoptr (Rig) rig = rig_new (0, "text=Hello.", "stream-id", "cam-7", NULL);
  g_autoptr (GstMessage) message = NULL;
  g_autofree char *line = NULL;
  const GstStructure *s;

  rig_push_span (rig, 0, 2100 * MS, 50);
  message = bus_wait_element (rig->bus, "valleyinfer/result");
  s = gst_message_get_structure (message);
  line = gst_structure_to_string (s);
  g_test_message ("%s", line);
  g_assert_cmpstr (gst_structure_get_string (s, "result"), ==, "Hello.");
  g_assert_cmpstr (gst_structure_get_string (s, "stream_id"), ==, "cam-7");
  g_assert_true (gst_structure_has_field (s, "start_time"));
  g_assert_true (gst_structure_has_field (s, "end_time"));
  g_assert_true (gst_structure_has_field (s, "timestamp"));
}

/* The model sees the frames of its window, in order, black as black and white as white. */
static void
test_pictures (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT, "", NULL);
  g_autofree char *text = NULL;

  rig_push_span (rig, 0, 500 * MS, 16);
  rig_push_span (rig, 500 * MS, 1 * S, 235);
  rig_push_span (rig, 1 * S, 1500 * MS, 16);
  rig_push_span (rig, 1500 * MS, 2100 * MS, 126);
  text = rig_caption (rig, 0);
  g_test_message ("%s", text);
  g_assert_true (g_regex_match_simple ("^f4 0,255,0,12[789]$", text, 0, 0));
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/properties/defaults", test_defaults);
  g_test_add_func ("/element/properties/every-property", test_every_property);
  g_test_add_func ("/element/properties/budget", test_budget);
  g_test_add_func ("/element/properties/budget-again", test_budget_again);
  g_test_add_func ("/element/properties/budget-of-policies", test_budget_of_policies);
  g_test_add_func ("/element/properties/prompt-in-playing", test_prompt_in_playing);
  for (guint i = 0; i < G_N_ELEMENTS (marker_cases); i++) {
    const char *markers = marker_cases[i].markers ? marker_cases[i].markers : "default";
    g_autofree char *name = g_strconcat ("/element/properties/markers/", markers, NULL);

    g_test_add_data_func (name, &marker_cases[i], test_markers);
  }
  g_test_add_func ("/element/properties/no-answer", test_no_answer);
  g_test_add_func ("/element/properties/frames-dropped", test_frames_dropped);
  g_test_add_func ("/element/properties/answer-room", test_answer_room);
  g_test_add_func ("/element/properties/frames-dropped-for-text", test_frames_dropped_for_text);
  g_test_add_func ("/element/properties/placeholders", test_placeholders);
  g_test_add_func ("/element/properties/prompt-file", test_prompt_file);
  g_test_add_func ("/element/properties/prompt-file-gone", test_prompt_file_gone);
  g_test_add_func ("/element/properties/system-prompt", test_system_prompt);
  g_test_add_func ("/element/properties/system-prompt-first", test_system_prompt_first);
  g_test_add_func ("/element/properties/duration-in-playing", test_duration_in_playing);
  g_test_add_func ("/element/properties/json-fields", test_json_fields);
  g_test_add_func ("/element/properties/no-metrics", test_no_metrics);
  g_test_add_func ("/element/properties/bus-message", test_bus_message);
  g_test_add_func ("/element/properties/pictures", test_pictures);
  return test_finish ();
}
