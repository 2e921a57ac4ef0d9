/* textpad.h - one request pad: a queue of texts, events and gaps, and the task that pushes them,
 * so that a blocked muxer stalls neither the video nor the model.
 *
 * Times given here are presentation times of the video (the sink pad's segment).  A late pad
 * adds its shift through its segment's base; see textpad.c.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/gst.h>

#include "enums.h"

#define GST_TYPE_VALLEY_TEXT_PAD (gst_valley_text_pad_get_type ())
G_DECLARE_FINAL_TYPE (GstValleyTextPad, gst_valley_text_pad, GST, VALLEY_TEXT_PAD, GstPad)

GstPad *gst_valley_text_pad_new (GstPadTemplate *templ, const gchar *name, gboolean json,
                                 guint64 first_id);
gboolean gst_valley_text_pad_is_json (GstValleyTextPad *pad);
/* The first window that this pad gets a text of. */
guint64 gst_valley_text_pad_first_id (GstValleyTextPad *pad);
/* What the pad's own text-timing property says; always `window` for JSON. */
GstValleyTextTiming gst_valley_text_pad_timing (GstValleyTextPad *pad);

/* Which of the element's prompts this pad shows the answers to; JSON carries them all. */
guint gst_valley_text_pad_prompt_id (GstValleyTextPad *pad);

/* The calls below queue; nothing is pushed from the caller's thread.  Windows before @before have
 * their texts pushed first: an event waits until settle() has let them all go by. */
void gst_valley_text_pad_queue_event (GstValleyTextPad *pad, GstEvent *event, guint64 before);
void gst_valley_text_pad_queue_segment (GstValleyTextPad *pad, const GstSegment *segment,
                                        GstClockTime shift, guint64 before);
/* The shift of the last segment queued; FALSE when there is none. */
gboolean gst_valley_text_pad_get_shift (GstValleyTextPad *pad, GstClockTime *shift);
/* @text of window @id over [start, end); taken over.  The gap behind it stops at @pin.  FALSE:
 * the queue was full and begins to lose its oldest texts. */
gboolean gst_valley_text_pad_queue_text (GstValleyTextPad *pad, guint64 id, gchar *text,
                                         guint64 start, guint64 end, guint64 pin);
/* A frame [pts, end) is about to be pushed on the video pad.  No gap passes @pin. */
void gst_valley_text_pad_video (GstValleyTextPad *pad, guint64 pts, guint64 end, guint64 pin);
/* Every window before @settled has been dealt with and no gap need stop before @pin. */
void gst_valley_text_pad_settle (GstValleyTextPad *pad, guint64 settled, guint64 pin);

/* Between FLUSH_START and FLUSH_STOP the queue is empty and the task sleeps. */
void gst_valley_text_pad_start_flush (GstValleyTextPad *pad, GstEvent *event);
void gst_valley_text_pad_stop_flush (GstValleyTextPad *pad, GstEvent *event);
/* Sends the last gap again, and with it what sticky events are due: somebody linked the pad, or
 * paused and waits to preroll, and no frame may come. */
void gst_valley_text_pad_repeat_gap (GstValleyTextPad *pad);
