/* result.h - a window on its way from its first frame to its answers (one to each prompt), and
 * what is said of them: the caption, the JSON line, the bus message.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/gst.h>

#include "request.h"
#include "window.h"

typedef enum {
  GST_VALLEY_CHUNK_OPEN,      /* collects frames */
  GST_VALLEY_CHUNK_CLOSED,    /* waits for the model, is with it, or has its answers */
  GST_VALLEY_CHUNK_DROPPED,   /* the model was behind */
  GST_VALLEY_CHUNK_DISCARDED, /* nothing to say: no frame, flushed away */
} GstValleyChunkState;

typedef enum {
  GST_VALLEY_ANSWER_AWAITED,
  GST_VALLEY_ANSWER_GIVEN,
  GST_VALLEY_ANSWER_FAILED, /* `error` says why */
} GstValleyAnswerState;

/* Parts of a reasoning model's answer that are not its result. */
typedef enum {
  GST_VALLEY_SECTION_REASONING,
  GST_VALLEY_SECTION_SUMMARY,
  GST_VALLEY_SECTION_CAPTION,
  GST_VALLEY_SECTION_CONCLUSION,
  GST_VALLEY_N_SECTIONS
} GstValleySection;

/* The answer to one prompt.  Written by the worker, read once `state` says so. */
typedef struct {
  GstValleyAnswerState state;
  gboolean announced; /* its bus message is posted */
  gchar *text, *finish_reason, *error;
  gchar *sections[GST_VALLEY_N_SECTIONS]; /* NULL: the answer has none, or is not split */
  gdouble confidence;
  GArray *frames;         /* guint64: PTS of those that the model was shown; NULL: not known */
  guint n_frames_dropped; /* for want of room in the model's context */
  guint max_new_tokens;   /* what room there was for the answer, if less than asked for; else 0 */
  gboolean unchanged;     /* nothing had changed: the previous answer again */
  guint n_input_tokens, n_vision_tokens, n_vision_tokens_before, n_reused_tokens;
  guint n_output_tokens, n_drafted, n_accepted;
  gdouble encode_ms, prefill_ms, decode_ms, queue_ms, latency_ms;
} GstValleyAnswer;

typedef struct {
  ValleyWindow window; /* first: window.c allocates these */
  GstSegment segment;  /* the one its frames came in */
  GstValleyRequest *request;
  gchar *stream_id;
  gboolean metrics;
  GstClockTime unix_ns; /* wall-clock time of the first frame, or NONE */
  GstValleyChunkState state;
  gint64 closed_us;         /* g_get_monotonic_time when it was closed */
  GstValleyAnswer *answers; /* one to each of the request's prompts */
  guint n_delivered;        /* of them, to the request pads */
} GstValleyChunk;

GstValleyChunk *gst_valley_chunk_ref (GstValleyChunk *chunk);
void gst_valley_chunk_unref (GstValleyChunk *chunk);

/* What a new window is asked; takes a reference of @request. */
void gst_valley_chunk_set_request (GstValleyChunk *chunk, GstValleyRequest *request);

/* Prompt @index of this window, its placeholders filled in for @frames (guint64, PTS). */
gchar *gst_valley_chunk_prompt (const GstValleyChunk *chunk, guint index, const GArray *frames);

/* Text as subtitle formats can bear it: valid UTF-8, no NUL or other control character, no
 * blank line, no "-->", no newline at either end, at most 65,535 bytes.  NULL: nothing left. */
gchar *gst_valley_caption_text (const gchar *text, gssize length);

/* What became of prompt @index: one compact JSON object and a newline. */
gchar *gst_valley_chunk_to_json (const GstValleyChunk *chunk, guint index);
/* The same fields, for the element message "valleyinfer/result". */
GstStructure *gst_valley_chunk_to_structure (const GstValleyChunk *chunk, guint index);
