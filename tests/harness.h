/* harness.h - what the element tests share: a rig around one valleyinfer (GstHarness on
 * every pad), a log of everything its pads send, bus waiting, and real pipelines.
 *
 * Tests wait for events, never for time to pass; a wait longer than test_wait_s() ends the
 * program and prints the log.  The plugin is loaded from $VALLEY_TEST_PLUGIN: for most tests the
 * build with the scripted engine (tests/fake-engine.c), for a few the real one.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/check/gstharness.h>
#include <gst/check/gsttestclock.h>
#include <gst/gst.h>
#include <json-glib/json-glib.h>

#define MS ((GstClockTime) 1000000)
#define S ((GstClockTime) 1000000000)

/* ---- log: everything some pads send, in one order --------------------------- */

typedef struct _Log Log;

typedef struct {
  const char *pad;   /* "src", "text_src" or "json_src": the pad's template */
  GstBuffer *buffer; /* one of these two, held by the log */
  GstEvent *event;
  GstSegment segment; /* the pad's segment when it was sent */
  gint64 at_us;       /* monotonic time */
} LogItem;

Log *log_new (void);
void log_free (Log *log);
void log_pad (Log *log, GstPad *pad);
/* The @n-th (from 0) buffer of a pad, or event of a type; waits for it.  The item stays
 * valid until log_clear. */
const LogItem *log_buffer (Log *log, const char *pad, guint n);
const LogItem *log_event (Log *log, const char *pad, GstEventType type, guint n);
/* Waits for a GAP of the pad that reaches at least this running time. */
const LogItem *log_gap_at (Log *log, const char *pad, GstClockTime running_time);
/* How many there are now. */
guint log_n_buffers (Log *log, const char *pad);
guint log_n_events (Log *log, const char *pad, GstEventType type);
/* The first item of the pad at or behind *@index, which moves behind it; waits for it. */
const LogItem *log_next (Log *log, const char *pad, guint *index);
/* Position in the common order, to compare two items. */
guint log_index (Log *log, const LogItem *item);
guint log_length (Log *log);
const LogItem *log_item (Log *log, guint index);
void log_clear (Log *log);
void log_print (Log *log);
/* Running time at which an item's buffer or GAP starts or ends. */
GstClockTime log_start (const LogItem *item);
GstClockTime log_end (const LogItem *item);
/* Asserts that a text pad never went back: no buffer starts before the end of an earlier
 * buffer, and nothing starts before an earlier GAP or an earlier buffer's start. */
void log_check_order (Log *log, const char *pad);

/* ---- rig: one element between harnesses -------------------------------------- */

typedef enum {
  RIG_TEXT = 1 << 0,   /* request text_src and link it */
  RIG_JSON = 1 << 1,   /* request json_src and link it */
  RIG_LIVE = 1 << 2,   /* upstream answers the LATENCY query with live */
  RIG_NO_CAPS = 1 << 3 /* the test sends caps and segment itself */
} RigFlags;

typedef struct {
  GstElement *element;
  GstHarness *video, *text, *json;
  GstPad *text_pad, *json_pad;
  GstTestClock *clock;
  GstBus *bus;
  Log *log;
} Rig;

#define RIG_CAPS "video/x-raw,format=I420,width=64,height=48,framerate=10/1"

/* @model: what follows "fake:" in model-path.  Properties as for g_object_set. */
Rig *rig_new (RigFlags flags, const char *model, ...) G_GNUC_NULL_TERMINATED;
void rig_free (Rig *rig);
/* A grey frame in I420 (any even size that the caps say); GST_CLOCK_TIME_NONE is allowed. */
GstBuffer *frame_new (guint width, guint height, GstClockTime pts, GstClockTime duration,
                      guint8 luma);
/* Pushes one 64x48 frame and asserts GST_FLOW_OK. */
void rig_push (Rig *rig, GstClockTime pts, GstClockTime duration, guint8 luma);
/* Pushes 10 frames a second in [from, to), each of 100 ms. */
void rig_push_span (Rig *rig, GstClockTime from, GstClockTime to, guint8 luma);
void rig_push_caps (Rig *rig, const char *caps);
void rig_push_segment (Rig *rig, const GstSegment *segment);
void rig_push_eos (Rig *rig);
void rig_flush (Rig *rig, gboolean start, gboolean stop);
void rig_seek_done (Rig *rig, GstClockTime start); /* flush and a new segment from @start */

/* The @n-th caption of a text pad, NUL-terminated; free it. */
char *rig_caption (Rig *rig, guint n);
/* The @n-th line of json_src, checked to be one compact object and a newline. */
JsonObject *rig_json (Rig *rig, guint n);
/* Asserts the window of the @n-th line, in ns of stream time. */
void rig_check_window (Rig *rig, guint n, GstClockTime start, GstClockTime end);
/* Asserts the frames of the @n-th line; GST_CLOCK_TIME_NONE ends the list. */
void rig_check_frames (Rig *rig, guint n, GstClockTime first, ...);

/* ---- bus ----------------------------------------------------------------------- */

/* The next message of these types; others are dropped.  Unexpected ERRORs end the test. */
GstMessage *bus_wait (GstBus *bus, GstMessageType types);
/* The next element message whose structure has this name. */
GstMessage *bus_wait_element (GstBus *bus, const char *name);
/* How many messages of the type are queued now; drops all that are queued. */
guint bus_count (GstBus *bus, GstMessageType type);
void bus_check_error (GstBus *bus, GQuark domain, int code);

/* ---- pipelines ------------------------------------------------------------------- */

/* gst_parse_launch that ends the test on any error. */
GstElement *pipe_new (const char *format, ...) G_GNUC_PRINTF (1, 2);
/* Sets the state and waits until it is reached. */
void pipe_state (GstElement *pipeline, GstState state);
/* Waits for EOS; an ERROR ends the test. */
void pipe_eos (GstElement *pipeline);
void pipe_free (GstElement *pipeline);
/* A fresh folder under $TMPDIR, emptied and removed by test_finish. */
const char *test_dir (void);
/* test_dir () / name, to free. */
char *test_path (const char *name);
char *test_read (const char *path);

/* ---- programs -------------------------------------------------------------------- */

void test_init (int *argc, char ***argv);
/* How long a test waits while nothing happens: 40 s, or $VALLEY_TEST_WAIT_S. */
guint test_wait_s (void);
/* g_test_run, then asserts that no GStreamer object is left (GST_TRACERS=leaks). */
int test_finish (void);
/* Skips the test and returns TRUE when an element is not installed. */
gboolean test_lacks (const char *element);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Rig, rig_free)
