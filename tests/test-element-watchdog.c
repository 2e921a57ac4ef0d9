/* test-element-watchdog.c - the one warning a hanging pipeline gets, and when there is none
 * (rule 10).
 *
 * All pipelines run side by side: silence can only be shown by waiting.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <string.h>

#define QUIET_S 8 /* more than twice what the watchdog waits for */

#define SOURCE "videotestsrc ! video/x-raw,width=64,height=48,framerate=10/1 "
#define INFER "! valleyinfer name=v model-path=fake: "

static const struct {
  const char *name, *description;
  GstState state;
  guint warnings, infos;
} cases[] = {
  { "no queue before the overlay, PLAYING wanted",
    SOURCE INFER "! o.video_sink v.text_src ! o.text_sink textoverlay name=o ! fakesink sync=true",
    GST_STATE_PLAYING, 1, 0 },
  /* No warning there; but gst-launch-1.0 waits in just that state, and its user has to know. */
  { "the same in a wanted PAUSED",
    SOURCE INFER "! o.video_sink v.text_src ! o.text_sink textoverlay name=o ! fakesink sync=true",
    GST_STATE_PAUSED, 0, 1 },
  { "prerolled and left in PAUSED", SOURCE INFER "! fakesink sync=true v.text_src ! fakesink",
    GST_STATE_PAUSED, 0, 0 },
  { "a file of one frame every five seconds",
    "videotestsrc ! video/x-raw,width=64,height=48,framerate=1/5 " INFER
    "! fakesink sync=true v.text_src ! fakesink",
    GST_STATE_PLAYING, 0, 0 },
  { "a camera of one frame every five seconds",
    "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=1/5 " INFER
    "! fakesink sync=true v.text_src ! fakesink",
    GST_STATE_PLAYING, 0, 0 },
  { "a healthy camera",
    "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=10/1 " INFER
    "! fakesink sync=true v.text_src ! fakesink",
    GST_STATE_PLAYING, 0, 0 },
  { "no text pad linked, sink blocked", SOURCE INFER "! fakesink sync=true ts-offset=60000000000",
    GST_STATE_PLAYING, 0, 0 },
  { "text linked, sink blocked while a camera runs",
    "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=10/1 " INFER
    "! fakesink sync=true ts-offset=60000000000 async=false v.text_src ! fakesink async=false",
    GST_STATE_PLAYING, 1, 0 },
};

/* The first frame needs to wait 2.1 s for its window to end; a second is margin. */
#define CURE "queue max-size-time=3100000000 max-size-bytes=0 max-size-buffers=0"

/* Warnings or infos; the other of the two must not come. */
static guint
count_advice (GstElement *pipeline, GstMessageType type, const char *name)
{
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  guint n = 0;

  for (;;) {
    g_autoptr (GstMessage) message = gst_bus_pop (bus);
    g_autoptr (GError) error = NULL;
    g_autofree char *debug = NULL;

    if (message == NULL)
      return n;
    if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_WARNING)
      gst_message_parse_warning (message, &error, NULL);
    else if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_INFO)
      gst_message_parse_info (message, &error, &debug);
    else
      continue;
    g_test_message ("%s: %s", name, error->message);
    /* The cure, ready to be copied. */
    if (strstr (error->message, CURE) == NULL)
      g_error ("%s: not the cure: %s", name, error->message);
    /* Of an info gst-launch-1.0 prints nothing else. */
    g_assert_true (debug == NULL || strstr (debug, CURE) != NULL);
    n += GST_MESSAGE_TYPE (message) == type;
    if (GST_MESSAGE_TYPE (message) != type)
      g_error ("%s: %s: a message of the other kind", name, error->message);
  }
}

static void
test_watchdog (void)
{
  GstElement *pipelines[G_N_ELEMENTS (cases)];

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    pipelines[i] = pipe_new ("%s", cases[i].description);
    gst_element_set_state (pipelines[i], cases[i].state);
  }
  g_usleep (QUIET_S * G_USEC_PER_SEC);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    GstMessageType type = cases[i].infos > 0 ? GST_MESSAGE_INFO : GST_MESSAGE_WARNING;
    guint n = count_advice (pipelines[i], type, cases[i].name);

    if (n != cases[i].warnings + cases[i].infos)
      g_error ("%s: %u messages, not %u", cases[i].name, n, cases[i].warnings + cases[i].infos);
    pipe_free (pipelines[i]);
  }
}

/* The cure that the warning names does cure. */
static void
test_cure (void)
{
  GstElement *pipeline = pipe_new (
      SOURCE INFER "! " CURE " "
                   "! o.video_sink v.text_src ! o.text_sink textoverlay name=o ! fakesink");

  pipe_state (pipeline, GST_STATE_PLAYING);
  pipe_free (pipeline);
}

int
main (int argc, char **argv)
{
  test_init (&argc, &argv);
  g_test_add_func ("/element/watchdog/cases", test_watchdog);
  g_test_add_func ("/element/watchdog/cure", test_cure);
  return test_finish ();
}
