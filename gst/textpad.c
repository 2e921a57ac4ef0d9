/* textpad.c - queue and task of a request pad.
 *
 * Positions are kept in video time, "where the caption appears": for a late pad that is the
 * wire's timestamp plus the shift that its segment's base carries.
 * Two rules keep downstream going.  Gaps follow the video, so that nobody waits for a text that
 * will not come; and no text starts before a gap that was sent, so that a gap can be believed.
 * SPDX-License-Identifier: Apache-2.0 */
#include "textpad.h"

#include <string.h>

#include "window.h"

#define MAX_TEXTS 4096
#define RETRY_US (50 * G_TIME_SPAN_MILLISECOND)
#define MAX_RETRIES 3

typedef enum { ITEM_EVENT, ITEM_TEXT, ITEM_GAP } ItemType;

typedef struct {
  ItemType type;
  /* ITEM_EVENT */
  GstEvent *event;
  guint64 before;
  /* A segment: the task's notion of time changes with it. */
  GstClockTime shift;
  GstSegment segment;
  /* ITEM_TEXT */
  gchar *text;
  guint64 id, start, end;
  /* ITEM_GAP; after a text: where the gap behind it may go */
  guint64 position;
  gboolean forced;
} Item;

struct _GstValleyTextPad {
  GstPad parent;
  gboolean json;
  guint64 first_id;
  gint timing;     /* GstValleyTextTiming, atomic */
  guint prompt_id; /* atomic */

  GMutex lock;
  GCond cond;
  GQueue items;
  guint n_texts;
  gboolean losing;      /* texts are being lost, and that was said */
  gboolean flushing;    /* or not active: nothing is queued */
  gboolean flush_begun; /* FLUSH_START was sent on this pad */
  guint64 settled;      /* windows before this are done */
  gboolean have_segment, need_gap;
  GstClockTime base_shift; /* what was added to the base of the last segment queued ... */
  GstClockTime shift;      /* ... and the same in video time */
  guint64 queued_gap;      /* the furthest gap queued since that segment; NONE before the first */
  guint64 newest_end;      /* of the video; 0 before the first frame */
  guint64 pin;

  /* The task's own. */
  GstSegment sent_segment;
  GstClockTime sent_shift;
  guint64 sent; /* video time that downstream has been promised; NONE: nothing yet */
  gboolean failed;
  guint unheard; /* how often nobody took the last gap; 0: it arrived */
};

G_DEFINE_TYPE (GstValleyTextPad, gst_valley_text_pad, GST_TYPE_PAD)

GST_DEBUG_CATEGORY_EXTERN (gst_valley_infer_debug);
#define GST_CAT_DEFAULT gst_valley_infer_debug

enum { PROP_0, PROP_TEXT_TIMING, PROP_PROMPT_ID };

/* ---- the queue (lock held) ----------------------------------------------- */

static void
item_free (gpointer data)
{
  Item *item = data;

  gst_clear_event (&item->event);
  g_free (item->text);
  g_free (item);
}

static void
forget_items (GstValleyTextPad *pad)
{
  g_queue_clear_full (&pad->items, item_free);
  pad->n_texts = 0;
  pad->losing = FALSE;
}

static void
reset (GstValleyTextPad *pad)
{
  forget_items (pad);
  pad->have_segment = FALSE;
  pad->need_gap = FALSE;
  pad->queued_gap = VALLEY_TIME_NONE;
  pad->newest_end = 0;
  pad->pin = VALLEY_TIME_NONE;
  pad->sent = VALLEY_TIME_NONE;
  pad->sent_shift = 0;
  pad->failed = FALSE;
  pad->unheard = 0;
  gst_segment_init (&pad->sent_segment, GST_FORMAT_TIME);
}

static gboolean
is_ready (const GstValleyTextPad *pad)
{
  const Item *head = g_queue_peek_head ((GQueue *) &pad->items);

  return head != NULL && (head->type != ITEM_EVENT || head->before <= pad->settled);
}

/* Wakes the task only for something to do: this is called for every frame. */
static void
wake_task (GstValleyTextPad *pad)
{
  if (is_ready (pad))
    g_cond_signal (&pad->cond);
}

static void
push_item (GstValleyTextPad *pad, Item *item)
{
  if (pad->flushing) {
    item_free (item);
    return;
  }
  g_queue_push_tail (&pad->items, item);
  wake_task (pad);
}

static void
queue_gap (GstValleyTextPad *pad, guint64 position, gboolean forced)
{
  Item *last = g_queue_peek_tail (&pad->items);

  pad->queued_gap = position;
  if (last != NULL && last->type == ITEM_GAP) {
    last->position = position;
    last->forced |= forced;
    return;
  }
  last = g_new0 (Item, 1);
  *last = (Item){ .type = ITEM_GAP, .position = position, .forced = forced };
  push_item (pad, last);
}

/* Queues a gap if the video has moved on past the last one. */
static void
follow_video (GstValleyTextPad *pad)
{
  guint64 position = pad->newest_end;

  if (!pad->have_segment || pad->queued_gap == VALLEY_TIME_NONE)
    return;
  if (pad->shift == 0)
    position = MIN (position, pad->pin);
  if (position > pad->queued_gap)
    queue_gap (pad, position, FALSE);
}

/* The link before which a text of window @id belongs: the first event that waits for this window,
 * and any gap before that. */
static GList *
place_of_text (GstValleyTextPad *pad, guint64 id)
{
  GList *place = NULL;

  for (GList *l = pad->items.tail; l != NULL; l = l->prev) {
    const Item *item = l->data;

    if (item->type == ITEM_TEXT || (item->type == ITEM_EVENT && item->before <= id))
      break;
    place = l;
  }
  return place;
}

static gboolean
drop_oldest_text (GstValleyTextPad *pad)
{
  for (GList *l = pad->items.head; l != NULL; l = l->next) {
    Item *item = l->data;

    if (item->type == ITEM_TEXT) {
      item_free (item);
      g_queue_delete_link (&pad->items, l);
      pad->n_texts--;
      return TRUE;
    }
  }
  return FALSE;
}

/* ---- the task ------------------------------------------------------------ */

/* The timestamp for video time @position, within the segment sent. */
static GstClockTime
wire_time (const GstValleyTextPad *pad, guint64 position)
{
  const GstSegment *segment = &pad->sent_segment;
  guint64 time = position > pad->sent_shift ? position - pad->sent_shift : 0;

  time = MAX (time, segment->start);
  return GST_CLOCK_TIME_IS_VALID (segment->stop) ? MIN (time, segment->stop) : time;
}

/* An element that is linked before it is started loses what comes in between.  While video runs
 * the next gap makes up for that; in PAUSED none would come, and the element never preroll. */
static void
note_heard (GstValleyTextPad *pad, gboolean heard)
{
  GstPad *peer = heard ? NULL : gst_pad_get_peer (GST_PAD (pad));

  if (peer == NULL)
    pad->unheard = 0; /* whoever links asks for a gap */
  else if (!gst_pad_is_active (peer))
    pad->unheard = 1;
  else
    pad->unheard = (pad->unheard + 1) % MAX_RETRIES;
  g_clear_pointer (&peer, gst_object_unref);
}

static void
send_gap (GstValleyTextPad *pad, guint64 position)
{
  /* A text may have overtaken this gap in the queue: nothing ever goes back. */
  pad->sent = pad->sent == VALLEY_TIME_NONE ? position : MAX (pad->sent, position);
  note_heard (
      pad, gst_pad_push_event (GST_PAD (pad), gst_event_new_gap (wire_time (pad, pad->sent), 0)));
}

/* Where the video stands on a late pad: nobody shows what lies before.  0 when that is unknown,
 * because the video is in a segment that this pad has not sent yet. */
static guint64
video_position (GstValleyTextPad *pad)
{
  guint64 position = 0;

  if (pad->sent_shift == 0)
    return 0;
  g_mutex_lock (&pad->lock);
  position = pad->newest_end;
  for (const GList *l = pad->items.head; l != NULL; l = l->next) {
    const Item *item = l->data;

    if (item->type == ITEM_EVENT && GST_EVENT_TYPE (item->event) == GST_EVENT_SEGMENT)
      position = 0;
  }
  g_mutex_unlock (&pad->lock);
  return position;
}

/* `needed_lateness_ms` is what this caption would have needed. */
static void
post_excessive_delay (GstValleyTextPad *pad, const Item *item, guint64 position)
{
  GstElement *element = gst_pad_get_parent_element (GST_PAD (pad));
  GstStructure *structure;

  if (element == NULL)
    return;
  structure = gst_structure_new (
      "valleyinfer/excessive-delay", "chunk_id", G_TYPE_UINT64, item->id, "timestamp",
      G_TYPE_UINT64, item->start, "lateness_ms", G_TYPE_UINT,
      (guint) (pad->sent_shift / GST_MSECOND), "needed_lateness_ms", G_TYPE_UINT,
      (guint) MIN ((position - item->start + GST_MSECOND - 1) / GST_MSECOND, G_MAXUINT), NULL);
  gst_element_post_message (element, gst_message_new_element (GST_OBJECT (element), structure));
  gst_object_unref (element);
}

static GstFlowReturn
send_text (GstValleyTextPad *pad, Item *item)
{
  guint64 start = item->start + pad->sent_shift, end = item->end + pad->sent_shift;
  GstBuffer *buffer;

  if (pad->sent != VALLEY_TIME_NONE)
    start = MAX (start, pad->sent);
  start = MAX (start, video_position (pad));
  if (start >= end && !pad->json) {
    GST_INFO_OBJECT (pad, "window %" G_GUINT64_FORMAT " is too late to be shown", item->id);
    post_excessive_delay (pad, item, start);
    return GST_FLOW_OK;
  }
  pad->sent = start;
  buffer = gst_buffer_new_wrapped (item->text, strlen (item->text));
  item->text = NULL;
  GST_BUFFER_PTS (buffer) = wire_time (pad, start);
  GST_BUFFER_DURATION (buffer) = end > start ? end - start : 0;
  return gst_pad_push (GST_PAD (pad), buffer);
}

/* A text sets textoverlay's position back to its own start; a gap must follow or it waits. */
static void
send_gap_after_text (GstValleyTextPad *pad, const Item *item)
{
  guint64 position = pad->sent_shift > 0 ? video_position (pad) : item->position;

  if (position >= pad->sent)
    send_gap (pad, position);
}

static void
check_flow (GstValleyTextPad *pad, GstFlowReturn flow)
{
  GstElement *element;

  /* Unlinked, flushing or finished peers just miss their texts. */
  if (flow >= GST_FLOW_EOS || pad->failed)
    return;
  pad->failed = TRUE;
  element = gst_pad_get_parent_element (GST_PAD (pad));
  if (element != NULL) {
    GST_ELEMENT_FLOW_ERROR (element, flow);
    gst_object_unref (element);
  }
}

static void
run_item (GstValleyTextPad *pad, Item *item)
{
  switch (item->type) {
  case ITEM_EVENT:
    if (GST_EVENT_TYPE (item->event) == GST_EVENT_SEGMENT) {
      pad->sent_segment = item->segment;
      pad->sent_shift = item->shift;
      pad->sent = VALLEY_TIME_NONE;
    }
    gst_pad_push_event (GST_PAD (pad), g_steal_pointer (&item->event));
    break;
  case ITEM_GAP:
    if (item->forced || pad->sent == VALLEY_TIME_NONE || item->position > pad->sent)
      send_gap (pad, item->position);
    break;
  case ITEM_TEXT:
    if (!pad->failed) {
      check_flow (pad, send_text (pad, item));
      send_gap_after_text (pad, item);
    }
    break;
  }
}

/* Lock held. */
static void
wait_for_work (GstValleyTextPad *pad)
{
  if (pad->unheard == 0 || pad->queued_gap == VALLEY_TIME_NONE)
    g_cond_wait (&pad->cond, &pad->lock);
  else if (!g_cond_wait_until (&pad->cond, &pad->lock, g_get_monotonic_time () + RETRY_US)
           && pad->queued_gap != VALLEY_TIME_NONE)
    queue_gap (pad, pad->queued_gap, TRUE);
}

static void
task (gpointer data)
{
  GstValleyTextPad *pad = data;
  Item *item;

  g_mutex_lock (&pad->lock);
  while (!pad->flushing && !is_ready (pad))
    wait_for_work (pad);
  if (pad->flushing) {
    g_mutex_unlock (&pad->lock);
    gst_pad_pause_task (GST_PAD (pad));
    return;
  }
  item = g_queue_pop_head (&pad->items);
  if (item->type == ITEM_TEXT)
    pad->n_texts--;
  g_mutex_unlock (&pad->lock);
  run_item (pad, item);
  item_free (item);
}

static gboolean
activate_mode (GstPad *base, GstObject *parent, GstPadMode mode, gboolean active)
{
  GstValleyTextPad *pad = GST_VALLEY_TEXT_PAD (base);

  if (mode != GST_PAD_MODE_PUSH)
    return FALSE;
  g_mutex_lock (&pad->lock);
  if (active)
    reset (pad); /* the task is not running yet: what is its own may be touched */
  else
    forget_items (pad);
  pad->flushing = !active;
  pad->flush_begun = FALSE;
  g_cond_signal (&pad->cond);
  g_mutex_unlock (&pad->lock);
  return active ? gst_pad_start_task (base, task, pad, NULL) : gst_pad_stop_task (base);
}

/* ---- for the element ----------------------------------------------------- */

GstPad *
gst_valley_text_pad_new (GstPadTemplate *templ, const gchar *name, gboolean json, guint64 first_id)
{
  GstValleyTextPad *pad = g_object_new (GST_TYPE_VALLEY_TEXT_PAD, "name", name, "direction",
                                        GST_PAD_SRC, "template", templ, NULL);

  pad->json = json;
  pad->first_id = first_id;
  gst_pad_set_activatemode_function (GST_PAD (pad), activate_mode);
  return GST_PAD (pad);
}

gboolean
gst_valley_text_pad_is_json (GstValleyTextPad *pad)
{
  return pad->json;
}

guint64
gst_valley_text_pad_first_id (GstValleyTextPad *pad)
{
  return pad->first_id;
}

GstValleyTextTiming
gst_valley_text_pad_timing (GstValleyTextPad *pad)
{
  return pad->json ? GST_VALLEY_TEXT_TIMING_WINDOW
                   : (GstValleyTextTiming) g_atomic_int_get (&pad->timing);
}

guint
gst_valley_text_pad_prompt_id (GstValleyTextPad *pad)
{
  return (guint) g_atomic_int_get (&pad->prompt_id);
}

void
gst_valley_text_pad_queue_event (GstValleyTextPad *pad, GstEvent *event, guint64 before)
{
  Item *item = g_new0 (Item, 1);

  *item = (Item){ .type = ITEM_EVENT, .event = event, .before = before };
  g_mutex_lock (&pad->lock);
  push_item (pad, item);
  g_mutex_unlock (&pad->lock);
}

void
gst_valley_text_pad_queue_segment (GstValleyTextPad *pad, const GstSegment *segment,
                                   GstClockTime shift, guint64 before)
{
  Item *item = g_new0 (Item, 1);

  *item = (Item){ .type = ITEM_EVENT, .before = before, .segment = *segment };
  item->shift = (GstClockTime) (shift * ABS (segment->rate)); /* base is running time */
  item->segment.base += shift;
  item->event = gst_event_new_segment (&item->segment);
  g_mutex_lock (&pad->lock);
  pad->have_segment = TRUE;
  pad->need_gap = TRUE;
  pad->base_shift = shift;
  pad->shift = item->shift;
  pad->queued_gap = VALLEY_TIME_NONE;
  pad->newest_end = 0;
  push_item (pad, item);
  g_mutex_unlock (&pad->lock);
}

gboolean
gst_valley_text_pad_get_shift (GstValleyTextPad *pad, GstClockTime *shift)
{
  gboolean have;

  g_mutex_lock (&pad->lock);
  have = pad->have_segment;
  *shift = pad->base_shift;
  g_mutex_unlock (&pad->lock);
  return have;
}

gboolean
gst_valley_text_pad_queue_text (GstValleyTextPad *pad, guint64 id, gchar *text, guint64 start,
                                guint64 end, guint64 pin)
{
  Item *item = g_new0 (Item, 1);
  gboolean lost = FALSE;
  GList *place;

  *item = (Item){ .type = ITEM_TEXT, .id = id, .text = text, .start = start, .end = end };
  g_mutex_lock (&pad->lock);
  if (pad->flushing) {
    item_free (item);
  } else {
    if (pad->n_texts >= MAX_TEXTS) {
      lost = drop_oldest_text (pad) && !pad->losing;
      pad->losing = TRUE;
    } else if (pad->n_texts < MAX_TEXTS / 2) {
      pad->losing = FALSE;
    }
    item->position = MIN (end, pin);
    place = place_of_text (pad, id);
    g_queue_insert_before (&pad->items, place, item);
    pad->n_texts++;
    wake_task (pad);
  }
  g_mutex_unlock (&pad->lock);
  return !lost;
}

void
gst_valley_text_pad_video (GstValleyTextPad *pad, guint64 pts, guint64 end, guint64 pin)
{
  g_mutex_lock (&pad->lock);
  pad->newest_end = MAX (pad->newest_end, end);
  pad->pin = pin;
  if (pad->have_segment && pad->need_gap) {
    pad->need_gap = FALSE;
    queue_gap (pad, pts + pad->shift, TRUE);
  }
  follow_video (pad);
  g_mutex_unlock (&pad->lock);
}

void
gst_valley_text_pad_settle (GstValleyTextPad *pad, guint64 settled, guint64 pin)
{
  g_mutex_lock (&pad->lock);
  pad->settled = settled;
  pad->pin = pin;
  follow_video (pad);
  wake_task (pad);
  g_mutex_unlock (&pad->lock);
}

void
gst_valley_text_pad_start_flush (GstValleyTextPad *pad, GstEvent *event)
{
  g_mutex_lock (&pad->lock);
  forget_items (pad);
  pad->flushing = pad->flush_begun = TRUE;
  g_cond_signal (&pad->cond);
  g_mutex_unlock (&pad->lock);
  /* This frees a push that is blocked downstream; only then can the task be paused. */
  gst_pad_push_event (GST_PAD (pad), event);
  gst_pad_pause_task (GST_PAD (pad));
}

void
gst_valley_text_pad_stop_flush (GstValleyTextPad *pad, GstEvent *event)
{
  gboolean begun;

  g_mutex_lock (&pad->lock);
  begun = pad->flush_begun;
  g_mutex_unlock (&pad->lock);
  if (!begun) {
    /* Requested in the middle of the flush: it has begun its stream already. */
    gst_event_unref (event);
    return;
  }
  gst_pad_push_event (GST_PAD (pad), event);
  g_mutex_lock (&pad->lock);
  /* Deactivated meanwhile: then its task must not start again. */
  if (pad->flush_begun) {
    reset (pad);
    pad->flushing = pad->flush_begun = FALSE;
    gst_pad_start_task (GST_PAD (pad), task, pad, NULL);
  }
  g_mutex_unlock (&pad->lock);
}

void
gst_valley_text_pad_repeat_gap (GstValleyTextPad *pad)
{
  g_mutex_lock (&pad->lock);
  if (pad->queued_gap != VALLEY_TIME_NONE)
    queue_gap (pad, pad->queued_gap, TRUE);
  g_mutex_unlock (&pad->lock);
}

/* ---- object -------------------------------------------------------------- */

static void
set_timing (GstValleyTextPad *pad, GstValleyTextTiming timing)
{
  GstElement *element = gst_pad_get_parent_element (GST_PAD (pad));

  g_atomic_int_set (&pad->timing, timing);
  if (element != NULL) {
    /* Late captions have no latency. */
    gst_element_post_message (element, gst_message_new_latency (GST_OBJECT (element)));
    gst_object_unref (element);
  }
}

static void
set_property (GObject *object, guint id, const GValue *value, GParamSpec *pspec)
{
  GstValleyTextPad *pad = GST_VALLEY_TEXT_PAD (object);

  if (id == PROP_TEXT_TIMING)
    set_timing (pad, g_value_get_enum (value));
  else if (id == PROP_PROMPT_ID)
    g_atomic_int_set (&pad->prompt_id, g_value_get_uint (value));
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

static void
get_property (GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
  if (id == PROP_TEXT_TIMING)
    g_value_set_enum (value, g_atomic_int_get (&GST_VALLEY_TEXT_PAD (object)->timing));
  else if (id == PROP_PROMPT_ID)
    g_value_set_uint (value, gst_valley_text_pad_prompt_id (GST_VALLEY_TEXT_PAD (object)));
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
}

static void
finalize (GObject *object)
{
  GstValleyTextPad *pad = GST_VALLEY_TEXT_PAD (object);

  forget_items (pad);
  g_mutex_clear (&pad->lock);
  g_cond_clear (&pad->cond);
  G_OBJECT_CLASS (gst_valley_text_pad_parent_class)->finalize (object);
}

static void
gst_valley_text_pad_class_init (GstValleyTextPadClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);

  object_class->set_property = set_property;
  object_class->get_property = get_property;
  object_class->finalize = finalize;
  g_object_class_install_property (
      object_class, PROP_TEXT_TIMING,
      g_param_spec_enum ("text-timing", "Text timing",
                         "When this pad's captions are shown; auto: as the element's "
                         "text-timing says (no effect on json_src)",
                         GST_TYPE_VALLEY_TEXT_TIMING, GST_VALLEY_TEXT_TIMING_AUTO,
                         G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING));
  g_object_class_install_property (
      object_class, PROP_PROMPT_ID,
      g_param_spec_uint ("prompt-id", "Prompt ID",
                         "Whose answers this pad shows: a place in the element's prompts, 0 the "
                         "first (no effect on json_src, which has all)",
                         0, G_MAXUINT, 0,
                         G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING));
}

static void
gst_valley_text_pad_init (GstValleyTextPad *pad)
{
  g_mutex_init (&pad->lock);
  g_cond_init (&pad->cond);
  g_queue_init (&pad->items);
  pad->flushing = TRUE; /* until activated */
  reset (pad);
}
