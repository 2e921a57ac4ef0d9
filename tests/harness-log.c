/* harness-log.c - the log of everything some pads send (see harness.h).
 *
 * Probes on the element's own pads write it, so that one order covers all pads: the rules
 * speak about what is queued before what.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

struct _Log {
  GMutex lock;
  GCond cond;
  GPtrArray *items;   /* LogItem */
  GPtrArray *retired; /* cleared ones: a test may still hold a pointer */
  GPtrArray *pads;    /* LogPad */
};

typedef struct {
  Log *log;
  GstPad *pad;
  gulong probe;
  const char *name;
  GstSegment segment;
} LogPad;

static void
item_free (gpointer data)
{
  LogItem *item = data;

  gst_clear_buffer (&item->buffer);
  gst_clear_event (&item->event);
  g_free (item);
}

Log *
log_new (void)
{
  Log *log = g_new0 (Log, 1);

  g_mutex_init (&log->lock);
  g_cond_init (&log->cond);
  log->items = g_ptr_array_new_with_free_func (item_free);
  log->retired = g_ptr_array_new_with_free_func (item_free);
  log->pads = g_ptr_array_new ();
  return log;
}

/* The pads must have stopped: a probe that runs now would write into freed memory. */
void
log_free (Log *log)
{
  for (guint i = 0; i < log->pads->len; i++) {
    LogPad *p = log->pads->pdata[i];

    gst_pad_remove_probe (p->pad, p->probe);
    gst_object_unref (p->pad);
    g_free (p);
  }
  g_ptr_array_unref (log->pads);
  g_ptr_array_unref (log->items);
  g_ptr_array_unref (log->retired);
  g_mutex_clear (&log->lock);
  g_cond_clear (&log->cond);
  g_free (log);
}

static void
log_add (LogPad *p, GstBuffer *buffer, GstEvent *event)
{
  Log *log = p->log;
  LogItem *item = g_new0 (LogItem, 1);

  item->pad = p->name;
  item->buffer = buffer ? gst_buffer_ref (buffer) : NULL;
  item->event = event ? gst_event_ref (event) : NULL;
  item->at_us = g_get_monotonic_time ();
  g_mutex_lock (&log->lock);
  if (event && GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT)
    gst_event_copy_segment (event, &p->segment);
  item->segment = p->segment;
  g_ptr_array_add (log->items, item);
  g_cond_broadcast (&log->cond);
  g_mutex_unlock (&log->lock);
}

static GstPadProbeReturn
log_probe (GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
  if (GST_PAD_PROBE_INFO_TYPE (info) & GST_PAD_PROBE_TYPE_BUFFER)
    log_add (data, GST_PAD_PROBE_INFO_BUFFER (info), NULL);
  else
    log_add (data, NULL, GST_PAD_PROBE_INFO_EVENT (info));
  return GST_PAD_PROBE_OK;
}

void
log_pad (Log *log, GstPad *pad)
{
  LogPad *p = g_new0 (LogPad, 1);
  g_autofree char *name = gst_pad_get_name (pad);

  /* text_src_0 is logged as text_src: the tests rarely have two. */
  if (g_str_has_prefix (name, "text_src"))
    p->name = "text_src";
  else if (g_str_has_prefix (name, "json_src"))
    p->name = "json_src";
  else
    p->name = g_intern_string (name);
  p->log = log;
  p->pad = gst_object_ref (pad);
  gst_segment_init (&p->segment, GST_FORMAT_TIME);
  p->probe = gst_pad_add_probe (pad,
                                GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM
                                    | GST_PAD_PROBE_TYPE_EVENT_FLUSH,
                                log_probe, p, NULL);
  g_ptr_array_add (log->pads, p);
}

static gboolean
matches (const LogItem *item, const char *pad, GstEventType type)
{
  if (strcmp (item->pad, pad) != 0)
    return FALSE;
  if (type == GST_EVENT_UNKNOWN)
    return item->buffer != NULL;
  return item->event && GST_EVENT_TYPE (item->event) == type;
}

typedef struct {
  const char *pad;
  GstEventType type;
  gboolean any;  /* whatever the type */
  guint from, n; /* the n-th at or behind this position */
} Search;

static const LogItem *
find_locked (Log *log, const Search *search, guint *index)
{
  guint n = search->n;

  for (guint i = search->from; i < log->items->len; i++) {
    const LogItem *item = log->items->pdata[i];

    if (search->any ? strcmp (item->pad, search->pad) == 0
                    : matches (item, search->pad, search->type)) {
      *index = i;
      if (n-- == 0)
        return item;
    }
  }
  return NULL;
}

static const LogItem *
wait_item (Log *log, const Search *search, guint *index)
{
  gint64 deadline = g_get_monotonic_time () + test_wait_s () * G_TIME_SPAN_SECOND;
  const LogItem *item;

  g_mutex_lock (&log->lock);
  while (!(item = find_locked (log, search, index))) {
    if (g_cond_wait_until (&log->cond, &log->lock, deadline))
      continue;
    g_mutex_unlock (&log->lock);
    log_print (log);
    g_error ("%s %u of %s (from item %u on) did not come within %u s",
             search->any                         ? "item"
             : search->type == GST_EVENT_UNKNOWN ? "buffer"
                                                 : gst_event_type_get_name (search->type),
             search->n, search->pad, search->from, test_wait_s ());
  }
  g_mutex_unlock (&log->lock);
  return item;
}

const LogItem *
log_buffer (Log *log, const char *pad, guint n)
{
  return log_event (log, pad, GST_EVENT_UNKNOWN, n);
}

const LogItem *
log_event (Log *log, const char *pad, GstEventType type, guint n)
{
  Search search = { .pad = pad, .type = type, .n = n };
  guint index;

  return wait_item (log, &search, &index);
}

const LogItem *
log_next (Log *log, const char *pad, guint *index)
{
  Search search = { .pad = pad, .any = TRUE, .from = *index };
  const LogItem *item = wait_item (log, &search, index);

  (*index)++;
  return item;
}

const LogItem *
log_gap_at (Log *log, const char *pad, GstClockTime running_time)
{
  for (guint n = 0;; n++) {
    const LogItem *gap = log_event (log, pad, GST_EVENT_GAP, n);

    if (log_end (gap) >= running_time)
      return gap;
  }
}

static guint
count (Log *log, const char *pad, GstEventType type)
{
  guint n = 0;

  g_mutex_lock (&log->lock);
  for (guint i = 0; i < log->items->len; i++)
    n += matches (log->items->pdata[i], pad, type);
  g_mutex_unlock (&log->lock);
  return n;
}

guint
log_n_buffers (Log *log, const char *pad)
{
  return count (log, pad, GST_EVENT_UNKNOWN);
}

guint
log_n_events (Log *log, const char *pad, GstEventType type)
{
  return count (log, pad, type);
}

guint
log_index (Log *log, const LogItem *item)
{
  guint index;
  gboolean found;

  g_mutex_lock (&log->lock);
  found = g_ptr_array_find (log->items, item, &index);
  g_mutex_unlock (&log->lock);
  g_assert_true (found);
  return index;
}

guint
log_length (Log *log)
{
  guint n;

  g_mutex_lock (&log->lock);
  n = log->items->len;
  g_mutex_unlock (&log->lock);
  return n;
}

const LogItem *
log_item (Log *log, guint index)
{
  const LogItem *item;

  g_mutex_lock (&log->lock);
  item = log->items->pdata[index];
  g_mutex_unlock (&log->lock);
  return item;
}

void
log_clear (Log *log)
{
  g_mutex_lock (&log->lock);
  while (log->items->len > 0)
    g_ptr_array_add (log->retired, g_ptr_array_steal_index (log->items, 0));
  g_mutex_unlock (&log->lock);
}

static void
item_range (const LogItem *item, GstClockTime *start, GstClockTime *end)
{
  GstClockTime pts, duration;

  if (item->buffer) {
    pts = GST_BUFFER_PTS (item->buffer);
    duration = GST_BUFFER_DURATION (item->buffer);
  } else {
    gst_event_parse_gap (item->event, &pts, &duration);
  }
  *start = pts;
  *end = GST_CLOCK_TIME_IS_VALID (duration) ? pts + duration : pts;
}

GstClockTime
log_start (const LogItem *item)
{
  GstClockTime start, end;

  item_range (item, &start, &end);
  return gst_segment_to_running_time (&item->segment, GST_FORMAT_TIME, start);
}

GstClockTime
log_end (const LogItem *item)
{
  GstClockTime start, end;

  item_range (item, &start, &end);
  return gst_segment_to_running_time (&item->segment, GST_FORMAT_TIME, end);
}

void
log_check_order (Log *log, const char *pad)
{
  GstClockTime position = 0, spoken = 0;

  for (guint i = 0; i < log_length (log); i++) {
    const LogItem *item = log_item (log, i);

    if (strcmp (item->pad, pad) != 0)
      continue;
    if (item->event && GST_EVENT_TYPE (item->event) == GST_EVENT_FLUSH_STOP)
      position = spoken = 0;
    if (item->event && GST_EVENT_TYPE (item->event) != GST_EVENT_GAP)
      continue;
    if (log_start (item) < (item->buffer ? MAX (position, spoken) : position)) {
      log_print (log);
      g_error ("item %u of %s starts before the pad's position", i, pad);
    }
    position = item->buffer ? log_start (item) : log_end (item);
    if (item->buffer)
      spoken = log_end (item);
  }
}

void
log_print (Log *log)
{
  g_mutex_lock (&log->lock);
  for (guint i = 0; i < log->items->len; i++) {
    const LogItem *item = log->items->pdata[i];

    if (item->buffer)
      g_printerr ("%3u %-8s buffer %" GST_TIME_FORMAT " + %" GST_TIME_FORMAT "\n", i, item->pad,
                  GST_TIME_ARGS (GST_BUFFER_PTS (item->buffer)),
                  GST_TIME_ARGS (GST_BUFFER_DURATION (item->buffer)));
    else if (GST_EVENT_TYPE (item->event) == GST_EVENT_GAP)
      g_printerr ("%3u %-8s gap running %" GST_TIME_FORMAT " .. %" GST_TIME_FORMAT "\n", i,
                  item->pad, GST_TIME_ARGS (log_start (item)), GST_TIME_ARGS (log_end (item)));
    else
      g_printerr ("%3u %-8s %s\n", i, item->pad, GST_EVENT_TYPE_NAME (item->event));
  }
  g_mutex_unlock (&log->lock);
}
