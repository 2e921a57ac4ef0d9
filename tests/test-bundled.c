/* test-bundled.c - the bundled model on 60 fixed H.264 clips, through the real element.
 *
 * The clips are held out from training (tests/clips/labels.json says what each shows).  The
 * floors lie 5 points under what the model card promises: below them something broke.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

#define DESCRIBE "Describe the video."
#define SIGNAL "What is the signal? Answer picture, bars, black or snow."

/* The answer about a clip's first window. */
static char *
ask (const char *clip, const char *prompt)
{
  GstElement *pipeline = pipe_new ("filesrc location=\"%s\" ! decodebin ! valleyinfer name=v "
                                   "! fakesink",
                                   clip);
  g_autoptr (GstElement) v = gst_bin_get_by_name (GST_BIN (pipeline), "v");
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  g_autoptr (GstMessage) message = NULL;
  char *answer;

  g_object_set (v, "prompt", prompt, NULL);
  pipe_state (pipeline, GST_STATE_PLAYING);
  message = bus_wait_element (bus, "valleyinfer/result");
  answer = g_strdup (gst_structure_get_string (gst_message_get_structure (message), "result"));
  g_clear_pointer (&message, gst_message_unref);
  pipe_free (pipeline);
  return answer;
}

typedef struct {
  guint right, asked;
} Score;

typedef struct {
  Score signal, no_object, with_object;
} Scores;

static gboolean
shows_no_object (const char *kind)
{
  static const char *const kinds[] = { "bars", "black", "snow", "plain", NULL };

  return g_strv_contains (kinds, kind);
}

static void
score (Score *s, const char *clip, const char *wanted, const char *answer)
{
  gboolean right = g_strcmp0 (wanted, answer) == 0;

  s->asked++;
  s->right += right;
  if (!right)
    g_test_message ("%s: \"%s\", not \"%s\"", clip, answer, wanted);
}

static void
ask_clip (const char *dir, const char *name, JsonObject *label, Scores *scores)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  JsonObject *answers = json_object_get_object_member (label, "answers");
  g_autofree char *signal_answer = ask (path, SIGNAL);
  g_autofree char *description = ask (path, DESCRIBE);

  score (&scores->signal, name, json_object_get_string_member (answers, SIGNAL), signal_answer);
  score (shows_no_object (json_object_get_string_member (label, "kind")) ? &scores->no_object
                                                                         : &scores->with_object,
         name, json_object_get_string_member (answers, DESCRIBE), description);
}

static void
check_floor (const char *what, const Score *s, guint floor_percent)
{
  g_test_message ("%s: %u of %u", what, s->right, s->asked);
  g_assert_cmpuint (s->asked, >, 0);
  g_assert_cmpuint (s->right * 100, >=, s->asked * floor_percent);
}

static void
test_clips (void)
{
  const char *dir = g_getenv ("VALLEY_TEST_CLIPS");
  g_autofree char *labels = g_build_filename (dir, "labels.json", NULL);
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_autoptr (GError) error = NULL;
  Scores scores = { 0 };
  JsonObjectIter iter;
  const char *name;
  JsonNode *label;

  json_parser_load_from_file (parser, labels, &error);
  g_assert_no_error (error);
  json_object_iter_init (&iter, json_node_get_object (json_parser_get_root (parser)));
  while (json_object_iter_next (&iter, &name, &label))
    ask_clip (dir, name, json_node_get_object (label), &scores);
  g_assert_cmpuint (scores.signal.asked, ==, 60);
  g_test_message ("sentences about objects: %u of %u", scores.with_object.right,
                  scores.with_object.asked);
  check_floor ("signal", &scores.signal, 90);
  check_floor ("sentences without objects", &scores.no_object, 85);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/bundled/clips", test_clips);
  return test_finish ();
}
