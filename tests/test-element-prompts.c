/* test-element-prompts.c - several questions about one window: `prompts`, prompt_id, and the
 * request pads that show one of them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

static void
set_prompts (GstElement *element, const char *const *prompts)
{
  GValue list = G_VALUE_INIT;

  gst_value_array_init (&list, 3);
  for (guint i = 0; prompts[i]; i++) {
    GValue item = G_VALUE_INIT;

    g_value_init (&item, G_TYPE_STRING);
    g_value_set_string (&item, prompts[i]);
    gst_value_array_append_and_take_value (&list, &item);
  }
  g_object_set_property (G_OBJECT (element), "prompts", &list);
  g_value_unset (&list);
}

#define PROMPTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Line @n of the JSON is the answer @result to prompt @prompt_id of window @chunk_id. */
static void
check_line (Rig *rig, guint n, gint chunk_id, gint prompt_id, const char *result)
{
  g_autoptr (JsonObject) line = rig_json (rig, n);

  g_assert_cmpint (json_object_get_int_member (line, "chunk_id"), ==, chunk_id);
  g_assert_cmpint (json_object_get_int_member (line, "prompt_id"), ==, prompt_id);
  if (result)
    g_assert_cmpstr (json_object_get_string_member (line, "result"), ==, result);
  else
    g_assert_true (json_object_has_member (line, "error"));
}

/* One result a window and prompt, window by window, and the same on the bus. */
static void
test_every_prompt (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "echo", NULL);

  set_prompts (rig->element, PROMPTS ("Who?", "{num_frames} from {start}", "Why?"));
  rig_push_span (rig, 0, 4100 * MS, 50);
  for (gint window = 0; window < 2; window++) {
    check_line (rig, 3 * window, window, 0, "Who?");
    check_line (rig, 3 * window + 1, window, 1, window == 0 ? "4 from 0.0" : "4 from 2.0");
    check_line (rig, 3 * window + 2, window, 2, "Why?");
  }
  for (guint i = 0; i < 6; i++) {
    g_autoptr (GstMessage) message = bus_wait_element (rig->bus, "valleyinfer/result");
    guint id = 99;

    gst_structure_get_uint (gst_message_get_structure (message), "prompt_id", &id);
    g_assert_cmpuint (id, ==, i % 3);
  }
  {
    g_autofree char *caption = rig_caption (rig, 1);

    g_assert_cmpstr (caption, ==, "Who?");
  }
}

/* A text pad may show another prompt's answers, and one that nobody asked shows nothing but lets
 * its sink go on. */
static void
test_pads_choose (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "echo", NULL);
  static const char *const shown[] = { "Who?", "Why?", NULL };
  GstPad *pads[3];
  GstHarness *sinks[3];

  set_prompts (rig->element, PROMPTS ("Who?", "Why?"));
  for (guint i = 0; i < 3; i++) {
    pads[i] = gst_element_request_pad_simple (rig->element, "text_src_%u");
    g_object_set (pads[i], "prompt-id", i, NULL);
    sinks[i] = gst_harness_new_empty ();
    gst_harness_add_element_src_pad (sinks[i], pads[i]);
  }
  rig_push_span (rig, 0, 4100 * MS, 50);
  rig_push_eos (rig);
  check_line (rig, 5, 2, 1, "Why?"); /* the last there is */
  for (guint i = 0; i < 3; i++) {
    GstEvent *event;

    for (gboolean eos = FALSE; !eos; gst_event_unref (event)) {
      event = gst_harness_pull_event (sinks[i]);
      g_assert_nonnull (event);
      eos = GST_EVENT_TYPE (event) == GST_EVENT_EOS;
    }
    g_assert_cmpuint (gst_harness_buffers_received (sinks[i]), ==, shown[i] ? 3 : 0);
    if (shown[i]) {
      g_autoptr (GstBuffer) buffer = gst_harness_pull (sinks[i]);
      g_autofree char *text = NULL;
      gsize size = 0;

      gst_buffer_extract_dup (buffer, 0, G_MAXSIZE, (gpointer *) &text, &size);
      g_assert_cmpuint (size, ==, strlen (shown[i]));
      g_assert_cmpint (memcmp (text, shown[i], size), ==, 0);
    }
    gst_pad_unlink (pads[i], sinks[i]->sinkpad);
    gst_harness_teardown (sinks[i]);
    gst_element_release_request_pad (rig->element, pads[i]);
    gst_object_unref (pads[i]);
  }
}

/* The first answer is shown while the second is still being thought about. */
static void
test_answers_come_singly (void)
{
  g_autofree char *gate = test_path ("gate");
  g_autofree char *script = g_strdup_printf ("echo,gate-slot=1,gate=%s", gate);
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, script, NULL);
  g_autofree char *caption = NULL;

  set_prompts (rig->element, PROMPTS ("Who?", "Why?"));
  rig_push_span (rig, 0, 2100 * MS, 50);
  caption = rig_caption (rig, 0);
  g_assert_cmpstr (caption, ==, "Who?");
  /* Its pad waits for nothing more: the gap behind it reaches the end of the window. */
  log_gap_at (rig->log, "text_src", 2 * S);
  check_line (rig, 0, 0, 0, "Who?");
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 1);
  g_assert_true (g_file_set_contents (gate, "", 0, NULL));
  check_line (rig, 1, 0, 1, "Why?");
}

static void
test_one_fails (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_TEXT | RIG_JSON, "echo,fail-slot=1", NULL);
  guint64 failed = 0, answered = 0;
  g_autoptr (GstStructure) stats = NULL;
  g_autoptr (GstMessage) warning = NULL;

  set_prompts (rig->element, PROMPTS ("Who?", "Why?", "When?"));
  rig_push_span (rig, 0, 2100 * MS, 50);
  check_line (rig, 0, 0, 0, "Who?");
  check_line (rig, 1, 0, 1, NULL);
  check_line (rig, 2, 0, 2, "When?");
  warning = bus_wait (rig->bus, GST_MESSAGE_WARNING);
  g_object_get (rig->element, "stats", &stats, NULL);
  gst_structure_get_uint64 (stats, "windows", &answered);
  gst_structure_get_uint64 (stats, "failed", &failed);
  g_assert_cmpuint (answered, ==, 0);
  g_assert_cmpuint (failed, ==, 1);
}

/* A window that is dropped has a line for every prompt. */
static void
test_dropped (void)
{
  g_autofree char *gate = test_path ("gate-drop");
  g_autofree char *script = g_strdup_printf ("echo,gate=%s", gate);
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_LIVE, script, "queue-max-windows", 1, NULL);
  guint dropped = 0;

  set_prompts (rig->element, PROMPTS ("Who?", "Why?"));
  rig_push_span (rig, 0, 8100 * MS, 50);
  g_assert_true (g_file_set_contents (gate, "", 0, NULL));
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), ==, 10);
  for (guint i = 0; i < 10; i++) {
    g_autoptr (JsonObject) line = rig_json (rig, i);

    g_assert_cmpint (json_object_get_int_member (line, "chunk_id"), ==, i / 2);
    g_assert_cmpint (json_object_get_int_member (line, "prompt_id"), ==, i % 2);
    dropped += json_object_has_member (line, "dropped");
  }
  g_assert_cmpuint (dropped, >=, 4);
  g_assert_cmpuint (dropped % 2, ==, 0);
}

/* Prompts changed while playing hold from the next window; a lone prompt goes on counting. */
static void
test_change (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "echo", "prompt", "One?", NULL);

  rig_push_span (rig, 0, 500 * MS, 50);
  g_object_set (rig->element, "prompt", NULL, NULL);
  set_prompts (rig->element, PROMPTS ("Who?", "Why?"));
  rig_push_span (rig, 500 * MS, 2500 * MS, 50);
  check_line (rig, 0, 0, 0, "One?");
  set_prompts (rig->element, (const char *const[]){ NULL });
  g_object_set (rig->element, "prompt", "Two?", NULL);
  rig_push_span (rig, 2500 * MS, 6100 * MS, 50);
  check_line (rig, 1, 1, 0, "Who?");
  check_line (rig, 2, 1, 1, "Why?");
  check_line (rig, 3, 2, 1, "Two?");
}

/* What cannot be asked is refused before anything plays. */
static void
test_refused (void)
{
  static const struct {
    const char *properties, *named;
  } cases[] = {
    { "prompts=\"<\\\"Who?\\\">\" prompt=What?", "prompt and prompts" },
    { "prompts=\"<\\\"Who?\\\">\" prompt-path=/dev/null", "prompt-path and prompts" },
    { "prompts=\"<\\\"Who?\\\",\\\"\\\">\"", "entry 1" },
    { "system-prompt=\"It is {start}.\"", "system-prompt" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    GstElement *pipeline = pipe_new ("videotestsrc ! valleyinfer model-path=fake: %s ! fakesink",
                                     cases[i].properties);
    g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
    g_autoptr (GstMessage) message = NULL;
    g_autoptr (GError) error = NULL;

    g_assert_cmpint (gst_element_set_state (pipeline, GST_STATE_PAUSED), ==,
                     GST_STATE_CHANGE_FAILURE);
    message = bus_wait (bus, GST_MESSAGE_ERROR);
    gst_message_parse_error (message, &error, NULL);
    g_test_message ("%s", error->message);
    g_assert_error (error, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS);
    g_assert_nonnull (strstr (error->message, cases[i].named));
    g_clear_pointer (&message, gst_message_unref);
    pipe_free (pipeline);
  }
}

/* One question leaves room for every frame and another does not: what did not fit is the same in
 * each window, and said once. */
static void
test_room (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "echo,room=13", NULL);
  g_autoptr (JsonObject) line = NULL;

  set_prompts (rig->element, PROMPTS ("Why?", "Why though?"));
  rig_push_span (rig, 0, 6100 * MS, 50);
  check_line (rig, 5, 2, 1, "Why though?");
  line = rig_json (rig, 5);
  g_assert_cmpint (json_object_get_int_member (line, "frames_dropped"), ==, 2);
  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_WARNING));
  g_assert_cmpuint (bus_count (rig->bus, GST_MESSAGE_WARNING), ==, 0);
}

/* As users write them. */
static void
test_launch_syntax (void)
{
  g_autofree char *path = test_path ("prompts.json");
  g_autofree char *text = NULL;
  GstElement *pipeline
      = pipe_new ("videotestsrc num-buffers=20 ! video/x-raw,width=64,height=48,framerate=10/1 "
                  "! valleyinfer name=v model-path=fake:echo "
                  "prompts=\"<\\\"Who is there?\\\",\\\"One, or two?\\\">\" ! fakesink "
                  "v.json_src ! filesink buffer-mode=unbuffered location=%s",
                  path);

  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  pipe_free (pipeline);
  text = test_read (path);
  g_assert_nonnull (strstr (text, "\"result\":\"Who is there?\""));
  g_assert_nonnull (strstr (text, "\"result\":\"One, or two?\""));
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/prompts/every-prompt", test_every_prompt);
  g_test_add_func ("/element/prompts/pads-choose", test_pads_choose);
  g_test_add_func ("/element/prompts/answers-come-singly", test_answers_come_singly);
  g_test_add_func ("/element/prompts/one-fails", test_one_fails);
  g_test_add_func ("/element/prompts/dropped", test_dropped);
  g_test_add_func ("/element/prompts/change", test_change);
  g_test_add_func ("/element/prompts/refused", test_refused);
  g_test_add_func ("/element/prompts/room", test_room);
  g_test_add_func ("/element/prompts/launch-syntax", test_launch_syntax);
  return test_finish ();
}
