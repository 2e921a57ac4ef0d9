/* harness.c - the rig, bus waiting, pipelines and program frame of harness.h.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <glib/gstdio.h>
#include <string.h>
#include <time.h>

static GstStaticPadTemplate any_src
    = GST_STATIC_PAD_TEMPLATE ("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);
static GstStaticPadTemplate any_sink
    = GST_STATIC_PAD_TEMPLATE ("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS_ANY);

static char *tmp_dir;
static Rig *current; /* for what is printed when a wait fails */

/* ---- rig --------------------------------------------------------------------- */

static GstHarness *
link_request_pad (Rig *rig, const char *templ, GstPad **pad)
{
  GstHarness *h = gst_harness_new_empty ();

  *pad = gst_element_request_pad_simple (rig->element, templ);
  g_assert_nonnull (*pad);
  log_pad (rig->log, *pad);
  gst_harness_add_element_src_pad (h, *pad);
  return h;
}

static void
rig_start (Rig *rig, RigFlags flags)
{
  g_autoptr (GstPad) src = gst_element_get_static_pad (rig->element, "src");

  rig->log = log_new ();
  log_pad (rig->log, src);
  if (flags & RIG_TEXT)
    rig->text = link_request_pad (rig, "text_src", &rig->text_pad);
  if (flags & RIG_JSON)
    rig->json = link_request_pad (rig, "json_src", &rig->json_pad);
  rig->video = gst_harness_new_empty ();
  gst_harness_set_live (rig->video, (flags & RIG_LIVE) != 0);
  gst_harness_add_element_full (rig->video, rig->element, &any_src, "sink", &any_sink, "src");
  gst_harness_use_testclock (rig->video);
  rig->clock = gst_harness_get_testclock (rig->video);
  if (!(flags & RIG_NO_CAPS))
    gst_harness_set_src_caps_str (rig->video, RIG_CAPS);
}

/* Whoever posts with the object lock held hangs here, as it would in an application. */
static GstBusSyncReply
take_object_lock (GstBus *bus, GstMessage *message, gpointer data)
{
  g_free (gst_object_get_name (GST_MESSAGE_SRC (message)));
  return GST_BUS_PASS;
}

Rig *
rig_new (RigFlags flags, const char *model, ...)
{
  Rig *rig = g_new0 (Rig, 1);
  g_autofree char *path = g_strconcat ("fake:", model, NULL);
  const char *first_property;
  va_list args;

  rig->element = gst_element_factory_make ("valleyinfer", NULL);
  g_assert_nonnull (rig->element);
  gst_object_ref_sink (rig->element);
  rig->bus = gst_bus_new ();
  gst_bus_set_sync_handler (rig->bus, take_object_lock, NULL, NULL);
  gst_element_set_bus (rig->element, rig->bus);
  g_object_set (rig->element, "model-path", path, NULL);
  va_start (args, model);
  if ((first_property = va_arg (args, const char *)))
    g_object_set_valist (G_OBJECT (rig->element), first_property, args);
  va_end (args);
  rig_start (rig, flags);
  current = rig;
  return rig;
}

static void
drop_request_pad (Rig *rig, GstHarness *h, GstPad *pad)
{
  if (h) {
    /* A harness without an element cannot release the pad that it is linked to. */
    gst_pad_unlink (pad, h->sinkpad);
    gst_harness_teardown (h);
  }
  if (pad) {
    gst_element_release_request_pad (rig->element, pad);
    gst_object_unref (pad);
  }
}

void
rig_free (Rig *rig)
{
  current = NULL;
  gst_element_set_state (rig->element, GST_STATE_NULL);
  gst_harness_teardown (rig->video);
  drop_request_pad (rig, rig->text, rig->text_pad);
  drop_request_pad (rig, rig->json, rig->json_pad);
  log_free (rig->log);
  gst_element_set_bus (rig->element, NULL);
  gst_object_unref (rig->clock);
  gst_bus_set_flushing (rig->bus, TRUE);
  gst_object_unref (rig->bus);
  gst_object_unref (rig->element);
  g_free (rig);
}

GstBuffer *
frame_new (guint width, guint height, GstClockTime pts, GstClockTime duration, guint8 luma)
{
  gsize luma_bytes = (gsize) width * height;
  GstBuffer *buffer = gst_buffer_new_allocate (NULL, luma_bytes * 3 / 2, NULL);

  gst_buffer_memset (buffer, 0, luma, luma_bytes);
  gst_buffer_memset (buffer, luma_bytes, 128, luma_bytes / 2);
  GST_BUFFER_PTS (buffer) = pts;
  GST_BUFFER_DURATION (buffer) = duration;
  return buffer;
}

void
rig_push (Rig *rig, GstClockTime pts, GstClockTime duration, guint8 luma)
{
  GstFlowReturn flow = gst_harness_push (rig->video, frame_new (64, 48, pts, duration, luma));

  g_assert_cmpstr (gst_flow_get_name (flow), ==, "ok");
}

void
rig_push_span (Rig *rig, GstClockTime from, GstClockTime to, guint8 luma)
{
  for (GstClockTime pts = from; pts < to; pts += 100 * MS)
    rig_push (rig, pts, 100 * MS, luma);
}

void
rig_push_caps (Rig *rig, const char *text)
{
  g_autoptr (GstCaps) caps = gst_caps_from_string (text);

  g_assert_true (gst_harness_push_event (rig->video, gst_event_new_caps (caps)));
}

void
rig_push_segment (Rig *rig, const GstSegment *segment)
{
  g_assert_true (gst_harness_push_event (rig->video, gst_event_new_segment (segment)));
}

void
rig_push_eos (Rig *rig)
{
  g_assert_true (gst_harness_push_event (rig->video, gst_event_new_eos ()));
}

void
rig_flush (Rig *rig, gboolean start, gboolean stop)
{
  if (start)
    g_assert_true (gst_harness_push_event (rig->video, gst_event_new_flush_start ()));
  if (stop)
    g_assert_true (gst_harness_push_event (rig->video, gst_event_new_flush_stop (TRUE)));
}

void
rig_seek_done (Rig *rig, GstClockTime start)
{
  GstSegment segment;

  gst_segment_init (&segment, GST_FORMAT_TIME);
  segment.start = segment.time = segment.position = start;
  rig_flush (rig, TRUE, TRUE);
  rig_push_segment (rig, &segment);
}

/* ---- what came out -------------------------------------------------------------- */

static char *
buffer_text (GstBuffer *buffer)
{
  GstMapInfo map;
  char *text;

  g_assert_true (gst_buffer_map (buffer, &map, GST_MAP_READ));
  text = g_strndup ((const char *) map.data, map.size);
  g_assert_cmpuint (strlen (text), ==, map.size);
  gst_buffer_unmap (buffer, &map);
  return text;
}

char *
rig_caption (Rig *rig, guint n)
{
  return buffer_text (log_buffer (rig->log, "text_src", n)->buffer);
}

JsonObject *
rig_json (Rig *rig, guint n)
{
  g_autofree char *line = buffer_text (log_buffer (rig->log, "json_src", n)->buffer);
  g_autoptr (JsonNode) node = NULL;
  g_autoptr (GError) error = NULL;
  const char *newline = strchr (line, '\n');

  g_assert_true (newline && newline[1] == '\0');
  node = json_from_string (line, &error);
  g_assert_no_error (error);
  g_assert_true (JSON_NODE_HOLDS_OBJECT (node));
  return json_node_dup_object (node);
}

static GstClockTime
seconds_to_ns (double seconds)
{
  g_assert_true (seconds >= 0);
  return (GstClockTime) (seconds * 1e9 + 0.5);
}

/* JSON seconds are decimal: a microsecond is closer than any frame interval. */
static void
check_time (double seconds, GstClockTime expected, const char *what)
{
  GstClockTime got = seconds_to_ns (seconds);

  if (got + 1000 < expected || got > expected + 1000)
    g_error ("%s is %" GST_TIME_FORMAT ", not %" GST_TIME_FORMAT, what, GST_TIME_ARGS (got),
             GST_TIME_ARGS (expected));
}

void
rig_check_window (Rig *rig, guint n, GstClockTime start, GstClockTime end)
{
  g_autoptr (JsonObject) line = rig_json (rig, n);

  check_time (json_object_get_double_member (line, "start_time"), start, "start_time");
  check_time (json_object_get_double_member (line, "end_time"), end, "end_time");
}

void
rig_check_frames (Rig *rig, guint n, GstClockTime first, ...)
{
  g_autoptr (JsonObject) line = rig_json (rig, n);
  JsonArray *times = json_object_get_array_member (line, "frame_times");
  guint count = 0;
  va_list args;

  va_start (args, first);
  for (GstClockTime t = first; t != GST_CLOCK_TIME_NONE; t = va_arg (args, GstClockTime)) {
    g_assert_cmpuint (count, <, json_array_get_length (times));
    check_time (json_array_get_double_element (times, count++), t, "frame_times");
  }
  va_end (args);
  g_assert_cmpuint (json_array_get_length (times), ==, count);
  g_assert_cmpint (json_object_get_int_member (line, "frame_count"), ==, count);
}

/* ---- waiting ---------------------------------------------------------------------- */

/* Since when next to nothing has been computed. */
typedef struct {
  gint64 since_us, cpu_us;
} Patience;

/* FALSE: the process stands still.  How long a pipeline may compute is meson's to say: an emulated
 * device, a sanitizer and a machine with much to do slow it down by any factor. */
static gboolean
has_patience (Patience *patience)
{
  gint64 now_us = g_get_monotonic_time (), wait_us = test_wait_s () * G_TIME_SPAN_SECOND, cpu_us;
  struct timespec cpu;

  g_assert_cmpint (clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &cpu), ==, 0);
  cpu_us = cpu.tv_sec * G_TIME_SPAN_SECOND + cpu.tv_nsec / 1000;
  if (patience->since_us == 0 || cpu_us - patience->cpu_us > wait_us / 100)
    *patience = (Patience){ now_us, cpu_us };
  return now_us - patience->since_us < wait_us;
}

/* ---- bus -------------------------------------------------------------------------- */

GstMessage *
bus_wait (GstBus *bus, GstMessageType types)
{
  Patience patience = { 0 };
  GstMessage *message;

  do
    message = gst_bus_timed_pop_filtered (bus, GST_SECOND, types | GST_MESSAGE_ERROR);
  while (!message && has_patience (&patience));
  if (!message && current)
    log_print (current->log);
  if (!message)
    g_error ("no message of type 0x%x, and nothing done for %u s", types, test_wait_s ());
  if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR && !(types & GST_MESSAGE_ERROR)) {
    g_autoptr (GError) error = NULL;
    g_autofree char *debug = NULL;

    gst_message_parse_error (message, &error, &debug);
    g_error ("%s: %s (%s)", GST_MESSAGE_SRC_NAME (message), error->message, debug);
  }
  return message;
}

GstMessage *
bus_wait_element (GstBus *bus, const char *name)
{
  while (TRUE) {
    GstMessage *message = bus_wait (bus, GST_MESSAGE_ELEMENT);

    if (gst_message_has_name (message, name))
      return message;
    gst_message_unref (message);
  }
}

guint
bus_count (GstBus *bus, GstMessageType type)
{
  guint n = 0;
  GstMessage *message;

  while ((message = gst_bus_pop (bus))) {
    n += (GST_MESSAGE_TYPE (message) & type) != 0;
    gst_message_unref (message);
  }
  return n;
}

void
bus_check_error (GstBus *bus, GQuark domain, int code)
{
  g_autoptr (GstMessage) message = bus_wait (bus, GST_MESSAGE_ERROR);
  g_autoptr (GError) error = NULL;

  gst_message_parse_error (message, &error, NULL);
  g_assert_error (error, domain, code);
}

/* ---- pipelines ---------------------------------------------------------------------- */

GstElement *
pipe_new (const char *format, ...)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *description = NULL;
  GstElement *pipeline;
  va_list args;

  va_start (args, format);
  description = g_strdup_vprintf (format, args);
  va_end (args);
  pipeline = gst_parse_launch_full (description, NULL, GST_PARSE_FLAG_FATAL_ERRORS, &error);
  if (!pipeline)
    g_error ("%s: %s", description, error->message);
  return gst_object_ref_sink (pipeline);
}

/* Ends the test, with the pipeline's own error if there is one.  Until then the bus is left
 * alone: somebody may wait for what is on it. */
static void
state_failed (GstElement *pipeline, GstState state)
{
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);
  g_autoptr (GstMessage) message = gst_bus_pop_filtered (bus, GST_MESSAGE_ERROR);
  g_autoptr (GError) error = NULL;
  g_autofree char *debug = NULL;

  if (message)
    gst_message_parse_error (message, &error, &debug);
  g_error ("%s was not reached: %s (%s)", gst_element_state_get_name (state),
           error ? error->message : "no error, it just stood still", debug ? debug : "");
}

void
pipe_state (GstElement *pipeline, GstState state)
{
  GstStateChangeReturn ret = gst_element_set_state (pipeline, state);
  Patience patience = { 0 };

  while (ret == GST_STATE_CHANGE_ASYNC && has_patience (&patience))
    ret = gst_element_get_state (pipeline, NULL, NULL, GST_SECOND);
  if (ret == GST_STATE_CHANGE_FAILURE || ret == GST_STATE_CHANGE_ASYNC)
    state_failed (pipeline, state);
}

void
pipe_eos (GstElement *pipeline)
{
  g_autoptr (GstBus) bus = gst_element_get_bus (pipeline);

  gst_message_unref (bus_wait (bus, GST_MESSAGE_EOS));
}

void
pipe_free (GstElement *pipeline)
{
  g_assert_cmpint (gst_element_set_state (pipeline, GST_STATE_NULL), ==, GST_STATE_CHANGE_SUCCESS);
  gst_object_unref (pipeline);
}

/* ---- files ------------------------------------------------------------------------------ */

const char *
test_dir (void)
{
  g_autoptr (GError) error = NULL;

  if (!tmp_dir)
    tmp_dir = g_dir_make_tmp ("valley-test-XXXXXX", &error);
  g_assert_no_error (error);
  return tmp_dir;
}

char *
test_path (const char *name)
{
  return g_build_filename (test_dir (), name, NULL);
}

char *
test_read (const char *path)
{
  g_autoptr (GError) error = NULL;
  char *text;

  g_file_get_contents (path, &text, NULL, &error);
  g_assert_no_error (error);
  return text;
}

static void
remove_test_dir (void)
{
  const char *name;
  GDir *dir = tmp_dir ? g_dir_open (tmp_dir, 0, NULL) : NULL;

  if (!dir)
    return;
  while ((name = g_dir_read_name (dir))) {
    g_autofree char *path = g_build_filename (tmp_dir, name, NULL);

    g_unlink (path);
  }
  g_dir_close (dir);
  g_rmdir (tmp_dir);
  g_clear_pointer (&tmp_dir, g_free);
}

/* ---- program frame ------------------------------------------------------------------------ */

static void
load_plugin (void)
{
  const char *path = g_getenv ("VALLEY_TEST_PLUGIN");
  g_autoptr (GError) error = NULL;
  GstPlugin *plugin;

  if (!path)
    g_error ("VALLEY_TEST_PLUGIN must name the plugin to test (meson test sets it)");
  plugin = gst_plugin_load_file (path, &error);
  g_assert_no_error (error);
  gst_object_unref (plugin);
}

guint
test_wait_s (void)
{
  const char *wanted = g_getenv ("VALLEY_TEST_WAIT_S");

  return wanted ? (guint) g_ascii_strtoull (wanted, NULL, 10) : 40;
}

void
test_init (int *argc, char ***argv)
{
  /* Sinks and muxers of other plugins leak caps and types of their own: only these kinds are
   * the element's doing. */
  g_setenv ("GST_TRACERS",
            "leaks(filters=\"GstElement,GstPad,GstBuffer,GstEvent,GstMessage,GstQuery\")", FALSE);
  g_test_init (argc, argv, NULL);
  gst_init (argc, argv);
  /* Its handler while it loads plugins would take what the emulated device's is for. */
  gst_segtrap_set_enabled (FALSE);
  load_plugin ();
  /* A warning on the log does not end a test: the rules ask for some. */
  g_log_set_always_fatal (G_LOG_LEVEL_CRITICAL | G_LOG_FATAL_MASK);
}

/* TRUE when the leaks tracer sees nothing alive. */
static gboolean
nothing_leaks (void)
{
  gboolean clean = TRUE;
  GList *tracers = gst_tracing_get_active_tracers ();

  for (GList *l = tracers; l; l = l->next) {
    GstStructure *info = NULL;
    const GValue *list;

    if (strcmp (G_OBJECT_TYPE_NAME (l->data), "GstLeaksTracer") != 0)
      continue;
    g_signal_emit_by_name (l->data, "get-live-objects", &info);
    list = gst_structure_get_value (info, "live-objects-list");
    for (guint i = 0; list && i < gst_value_list_get_size (list); i++) {
      g_autofree char *text = g_strdup_value_contents (gst_value_list_get_value (list, i));

      g_printerr ("leaked: %s\n", text);
      clean = FALSE;
    }
    gst_structure_free (info);
  }
  g_list_free_full (tracers, gst_object_unref);
  return clean;
}

int
test_finish (void)
{
  int result = g_test_run ();

  remove_test_dir ();
  gst_task_cleanup_all ();
  if (!nothing_leaks ())
    result = 1;
  return result;
}

gboolean
test_lacks (const char *element)
{
  g_autoptr (GstElementFactory) factory = gst_element_factory_find (element);

  if (factory)
    return FALSE;
  g_test_skip_printf ("no element %s", element);
  return TRUE;
}
