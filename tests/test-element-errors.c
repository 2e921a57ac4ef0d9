/* test-element-errors.c - what a user can get wrong: one clear error, and the pipeline can
 * be stopped (rule 8, "Bad input").
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

/* Runs a pipeline that must fail, and checks that the error names what it should. */
static void
check_fails (int code, const char *named, const char *format, ...)
{
  g_autofree char *properties = NULL;
  GstElement *pipeline;
  g_autoptr (GstBus) bus = NULL;
  g_autoptr (GstMessage) message = NULL;
  g_autoptr (GError) error = NULL;
  g_autofree char *debug = NULL;
  va_list args;

  va_start (args, format);
  properties = g_strdup_vprintf (format, args);
  va_end (args);
  pipeline = pipe_new ("videotestsrc ! " RIG_CAPS " ! valleyinfer name=v %s ! fakesink "
                       "v.text_src ! fakesink",
                       properties);
  bus = gst_element_get_bus (pipeline);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  message = bus_wait (bus, GST_MESSAGE_ERROR);
  gst_message_parse_error (message, &error, &debug);
  g_test_message ("%s (%s)", error->message, debug);
  g_assert_error (error, GST_RESOURCE_ERROR, code);
  if (!strstr (error->message, named) && !(debug && strstr (debug, named)))
    g_error ("the error does not name %s: %s (%s)", named, error->message, debug);
  g_clear_pointer (&message, gst_message_unref);
  pipe_free (pipeline);
}

static void
test_no_folder (void)
{
  check_fails (GST_RESOURCE_ERROR_NOT_FOUND, "/nowhere/at/all", "model-path=/nowhere/at/all");
}

static void
test_empty_folder_name (void)
{
  check_fails (GST_RESOURCE_ERROR_NOT_FOUND, "model-path is empty", "model-path=\"\"");
}

static void
test_bad_config (void)
{
  check_fails (GST_RESOURCE_ERROR_SETTINGS, "fake:fail-open", "model-path=fake:fail-open");
}

static void
test_bad_weights (void)
{
  check_fails (GST_RESOURCE_ERROR_READ, "model.safetensors", "model-path=fake:fail-load,load=50");
}

static void
test_two_prompts (void)
{
  g_autofree char *path = test_path ("prompt.txt");

  g_assert_true (g_file_set_contents (path, "From a file?", -1, NULL));
  check_fails (GST_RESOURCE_ERROR_SETTINGS, "prompt-path",
               "model-path=fake: prompt=\"From a property?\" prompt-path=%s", path);
}

static void
test_no_prompt_file (void)
{
  check_fails (GST_RESOURCE_ERROR_NOT_FOUND, "/nowhere/prompt.txt",
               "model-path=fake: prompt-path=/nowhere/prompt.txt");
}

static void
test_bad_generation_config (void)
{
  check_fails (GST_RESOURCE_ERROR_SETTINGS, "no_such_key",
               "model-path=fake: generation-config=no_such_key=1");
  check_fails (GST_RESOURCE_ERROR_SETTINGS, "top_p",
               "model-path=fake: generation-config=top_p=warm");
}

/* After a failure the same element can be given a good folder. */
static void
test_repaired (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "fail-load", NULL);

  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_ERROR));
  gst_element_set_state (rig->element, GST_STATE_READY);
  bus_count (rig->bus, GST_MESSAGE_ANY);
  g_object_set (rig->element, "model-path", "fake:", NULL);
  gst_element_set_state (rig->element, GST_STATE_PLAYING);
  gst_harness_push_event (rig->video, gst_event_new_stream_start ("again"));
  gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
  rig_push_span (rig, 0, 2100 * MS, 50);
  rig_check_window (rig, 0, 0, 2 * S);
}

/* The pipeline outlives a window that fails; its error is no caption. */
static void
test_failed_window (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON | RIG_TEXT, "fail-window=1", NULL);

  rig_push_span (rig, 0, 6100 * MS, 50);
  for (guint i = 0; i < 3; i++) {
    g_autoptr (JsonObject) line = rig_json (rig, i);

    g_assert_cmpint (json_object_has_member (line, "error"), ==, i == 1);
    rig_check_window (rig, i, i * 2 * S, (i + 1) * 2 * S);
  }
  gst_message_unref (bus_wait (rig->bus, GST_MESSAGE_WARNING));
  g_assert_cmpuint (GST_BUFFER_PTS (log_buffer (rig->log, "text_src", 0)->buffer), ==, 0);
  g_assert_cmpuint (GST_BUFFER_PTS (log_buffer (rig->log, "text_src", 1)->buffer), ==, 4 * S);
  log_check_order (rig->log, "text_src");
}

/* Corrupt caps or a short buffer are refused or passed, never read past their end. */
static void
test_short_buffer (void)
{
  g_autoptr (Rig) rig = rig_new (RIG_JSON, "", NULL);
  GstBuffer *buffer = gst_buffer_new_allocate (NULL, 16, NULL);

  GST_BUFFER_PTS (buffer) = 0;
  gst_harness_push (rig->video, buffer);
  rig_push_span (rig, 100 * MS, 2200 * MS, 50);
  rig_push_eos (rig);
  log_event (rig->log, "json_src", GST_EVENT_EOS, 0);
  g_assert_cmpuint (log_n_buffers (rig->log, "json_src"), >=, 1);
}

static void
test_empty_stream (void)
{
  GstElement *pipeline = pipe_new ("videotestsrc num-buffers=0 ! " RIG_CAPS
                                   " ! valleyinfer name=v model-path=fake: ! fakesink "
                                   "v.text_src ! fakesink v.json_src ! fakesink");

  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_eos (pipeline);
  pipe_free (pipeline);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/errors/no-folder", test_no_folder);
  g_test_add_func ("/element/errors/empty-folder-name", test_empty_folder_name);
  g_test_add_func ("/element/errors/bad-config", test_bad_config);
  g_test_add_func ("/element/errors/bad-weights", test_bad_weights);
  g_test_add_func ("/element/errors/two-prompts", test_two_prompts);
  g_test_add_func ("/element/errors/no-prompt-file", test_no_prompt_file);
  g_test_add_func ("/element/errors/bad-generation-config", test_bad_generation_config);
  g_test_add_func ("/element/errors/repaired", test_repaired);
  g_test_add_func ("/element/errors/failed-window", test_failed_window);
  g_test_add_func ("/element/errors/short-buffer", test_short_buffer);
  g_test_add_func ("/element/errors/empty-stream", test_empty_stream);
  return test_finish ();
}
