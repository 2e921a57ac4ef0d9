/* valleyinfer.h - the element's type and what its source files share.
 *
 * valleyinfer.c  the class: templates, properties, states
 * stream.c       the sink pad: buffers, events, queries on the streaming thread
 * analysis.c     windows: from due frames to answers
 * policy.c       how they share what was computed
 * closing.c      windows that end by the clock
 * deliver.c      from answers to texts on the request pads
 * pads.c         the source pads
 * messages.c     the bus
 * watchdog.c     notices a pipeline that waits for itself
 *
 * Locks, outer first: `lock`, then the worker's, a request pad's, or the object lock.  Nothing is
 * pushed and no message posted with any of them held: messages go to the outbox first.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/gst.h>

#include "cudaframes.h"
#include "picture.h"
#include "settings.h"
#include "textpad.h"
#include "worker.h"

G_BEGIN_DECLS

#define GST_TYPE_VALLEY_INFER (gst_valley_infer_get_type ())
G_DECLARE_FINAL_TYPE (GstValleyInfer, gst_valley_infer, GST, VALLEY_INFER, GstElement)

GST_DEBUG_CATEGORY_EXTERN (gst_valley_infer_debug);

struct _GstValleyInfer {
  GstElement parent;
  GstPad *sink, *src;
  ValleyModel *model; /* opened in READY->PAUSED, kept until NULL; while the worker runs it may be
                         exchanged under `lock` */
  gchar *model_key;   /* what `model` was opened with */
  GstValleyWorker *worker;
  GstValleyCuda cuda; /* has a lock of its own */

  /* Object lock: */
  GstValleySettings settings;
  GstClockTime frame_duration;   /* of the video, for the latency */
  GstClockTime pipeline_latency; /* from the LATENCY event */
  guint32 seek_seqnum;           /* of the last seek sent upstream */
  gboolean seek_result;
  gint settings_serial; /* atomic; raised by every change ... */
  gint request_serial;  /* ... and by those of what is asked of the model */

  GMutex lock; /* all that follows, up to the next comment */
  ValleyWindows windows;
  GQueue chunks;    /* GstValleyChunk, not yet delivered, by id */
  GList *text_pads; /* GstValleyTextPad, owned */
  GstSegment segment;
  gboolean have_segment, live, playing, loading, failed, flushing, eos;
  gboolean warned_lateness; /* of the lateness that is set now */
  guint warned_frames;      /* so many were left out of the last window shown to the model */
  gboolean warned_answer;   /* there was less room for its answer than asked for */
  GstClockTime upstream_latency;
  GstClockTime arrival_delay; /* of the last frame, beyond that latency */
  guint64 newest_start;       /* of the last frame in this segment; NONE: none yet */
  guint64 newest_end;         /* of the video, in the segment's time */
  gint applied_serial, applied_request_serial;
  GstValleySettings applied; /* the settings as of the last window opened */
  ValleyReduction reduction; /* of the frames since then */
  GstValleyRequest *request;
  ValleyWindowing windowing; /* of the windows that open now ... */
  gboolean have_windowing;   /* ... once the first one has */
  gchar *refused;            /* why there is no memory for the policy asked for */
  guint stride;              /* of the slots, as last warned of; 0: all are used */
  gint configured_serial;    /* the windows were configured for these settings ... */
  guint configured_width, configured_height; /* ... and frames of this size */
  GstEvent *stream_start;                    /* the sink's */
  gchar *stream_id;
  guint64 n_answered, n_failed, n_dropped;
  guint max_delay_ms;
  GstClockID close_id; /* closes the oldest open window by the clock */
  guint64 close_at;    /* that window's end */
  GQueue outbox;       /* GstMessage, posted once the lock is free */

  /* Watchdog, under `lock` too: */
  GstClockID watchdog_id;
  gint64 push_since_us; /* 0: no push on `src` is going on */
  GstClockTime push_running_time;
  guint watchdog_barked; /* how loud so far; see watchdog.c */

  /* The streaming thread's own: */
  GstValleyPainter *painter;
  GstVideoInfo info;
  gboolean have_info, warned_unusable, warned_frame;
  guint warned_budget;               /* the one that could not be met; 0: none */
  guint aspect_width, aspect_height; /* as last seen; 0: none yet */
  GstClockTime last_pts, last_interval;
};

/* valleyinfer.c; lock not held: takes over @model. */
void gst_valley_infer_set_model (GstValleyInfer *self, ValleyModel *model);

/* stream.c */
void gst_valley_infer_init_stream (GstValleyInfer *self);
void gst_valley_infer_reset_stream (GstValleyInfer *self);
/* The LATENCY query upstream; lock not held. */
void gst_valley_infer_ask_latency (GstValleyInfer *self, gboolean *live, GstClockTime *min);
/* Gives a request pad what every stream begins with.  Lock held. */
void gst_valley_infer_begin_text_pad (GstValleyInfer *self, GstValleyTextPad *pad);

/* analysis.c; lock held. */
extern const GstValleyWorkerCalls gst_valley_infer_worker_calls;
/* Takes over changed settings for the windows that open from now on. */
void gst_valley_infer_apply_settings (GstValleyInfer *self);
/* A frame [pts, end) is about to be pushed.  TRUE: it is due. */
gboolean gst_valley_infer_see_frame (GstValleyInfer *self, guint64 pts, guint64 end);
void gst_valley_infer_take_picture (GstValleyInfer *self, ValleyPicture *picture, guint64 pts,
                                    GstClockTime unix_ns);
/* No frame will come within [start, end). */
void gst_valley_infer_gap (GstValleyInfer *self, guint64 start, guint64 end);
/* Closes what has ended at @time. */
void gst_valley_infer_advance (GstValleyInfer *self, guint64 time);
/* Closes every open window at the last frame seen. */
void gst_valley_infer_cut (GstValleyInfer *self);
/* Forgets every window and what the worker does with them. */
void gst_valley_infer_discard (GstValleyInfer *self);

/* policy.c; lock held. */
/* The windows that the settings ask for, of frames of this display size. */
void gst_valley_infer_configure_windows (GstValleyInfer *self, guint width, guint height);
/* A window opens whose frames have this display size.  FALSE: it cannot be described, and an error
 * says so. */
gboolean gst_valley_infer_choose_policy (GstValleyInfer *self, guint width, guint height);

/* deliver.c; lock held. */
/* A segment for one request pad or all, with their shifts, behind the texts before @before. */
void gst_valley_infer_queue_segment (GstValleyInfer *self, GstValleyTextPad *pad, guint64 before);
void gst_valley_infer_queue_segments (GstValleyInfer *self, guint64 before);
/* Pads whose timing was changed get a segment with the new shift. */
void gst_valley_infer_update_shifts (GstValleyInfer *self);
void gst_valley_infer_check_lateness (GstValleyInfer *self);
/* Tells the request pads that the video comes to [start, end). */
void gst_valley_infer_move_pads (GstValleyInfer *self, guint64 start, guint64 end);
/* Tells a pad that came late where the video stands: paused, no frame will come to say so. */
void gst_valley_infer_place_pad (GstValleyInfer *self, GstValleyTextPad *pad);
/* Hands over, in order, what is finished, and lets the pads move on. */
void gst_valley_infer_deliver (GstValleyInfer *self);

/* messages.c */
/* Lock held: keeps the message for send_outbox, which is called without it. */
void gst_valley_infer_post (GstValleyInfer *self, GstMessage *message);
void gst_valley_infer_send_outbox (GstValleyInfer *self);
GstMessage *gst_valley_infer_new_message (GstValleyInfer *self, GstMessageType type,
                                          const GError *error);
/* No lock held. */
void gst_valley_infer_post_error (GstValleyInfer *self, GstMessageType type, const GError *error);

/* closing.c; lock held. */
void gst_valley_infer_note_arrival (GstValleyInfer *self, guint64 pts);
void gst_valley_infer_arm_clock (GstValleyInfer *self);
void gst_valley_infer_disarm_clock (GstValleyInfer *self);

/* pads.c */
GstPad *gst_valley_infer_request_pad (GstElement *element, GstPadTemplate *templ, const gchar *name,
                                      const GstCaps *caps);
void gst_valley_infer_release_pad (GstElement *element, GstPad *pad);
void gst_valley_infer_child_proxy_init (gpointer iface, gpointer data);
gboolean gst_valley_infer_src_event (GstPad *pad, GstObject *parent, GstEvent *event);
gboolean gst_valley_infer_src_query (GstPad *pad, GstObject *parent, GstQuery *query);
GstIterator *gst_valley_infer_internal_links (GstPad *pad, GstObject *parent);

/* watchdog.c; lock not held. */
/* Calls @callback with a GWeakRef to @self: an alarm that is still in the clock's list must not
 * keep the element alive. */
void gst_valley_infer_set_alarm (GstValleyInfer *self, GstClockID id, GstClockCallback callback);
void gst_valley_infer_watchdog_start (GstValleyInfer *self);
void gst_valley_infer_watchdog_stop (GstValleyInfer *self);
GstFlowReturn gst_valley_infer_watched_push (GstValleyInfer *self, GstBuffer *buffer);

G_END_DECLS
