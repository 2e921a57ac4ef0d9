/* result.h - a window on its way from its first frame to its answer, and what is said of it:
 * the caption, the JSON line, the bus message.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <gst/gst.h>

#include "request.h"
#include "window.h"

typedef enum {
  GST_VALLEY_CHUNK_OPEN,   /* collects frames */
  GST_VALLEY_CHUNK_CLOSED, /* waits for the model, or is with it */
  GST_VALLEY_CHUNK_ANSWERED,
  GST_VALLEY_CHUNK_FAILED,    /* `error` says why */
  GST_VALLEY_CHUNK_DROPPED,   /* the model was behind */
  GST_VALLEY_CHUNK_DISCARDED, /* nothing to say: no frame, flushed away */
} GstValleyChunkState;

/* Parts of a reasoning model's answer that are not its result. */
typedef enum {
  GST_VALLEY_SECTION_REASONING,
  GST_VALLEY_SECTION_SUMMARY,
  GST_VALLEY_SECTION_CAPTION,
  GST_VALLEY_SECTION_CONCLUSION,
  GST_VALLEY_N_SECTIONS
} GstValleySection;

typedef struct {
  ValleyWindow window; /* first: window.c allocates these */
  GstSegment segment;  /* the one its frames came in */
  GstValleyRequest *request;
  gchar *stream_id;
  gboolean metrics;
  GstClockTime unix_ns; /* wall-clock time of the first frame, or NONE */
  GstValleyChunkState state;
  gboolean announced; /* an answered or failed window's bus message is posted */

  /* The answer.  Written by the worker, read once `state` says so. */
  gchar *text, *finish_reason, *error;
  gchar *sections[GST_VALLEY_N_SECTIONS]; /* NULL: the answer has none, or is not split */
  gdouble confidence;
  guint n_frames_dropped; /* of the window's, for want of room in the model's context */
  guint max_new_tokens;   /* what room there was for the answer, if less than asked for; else 0 */
  guint n_input_tokens, n_vision_tokens, n_reused_tokens, n_output_tokens;
  gdouble encode_ms, prefill_ms, decode_ms, queue_ms, latency_ms;
  gint64 closed_us; /* g_get_monotonic_time when it was closed */
} GstValleyChunk;

GstValleyChunk *gst_valley_chunk_ref (GstValleyChunk *chunk);
void gst_valley_chunk_unref (GstValleyChunk *chunk);

/* The prompt of this window, its placeholders filled in for @frames (guint64, PTS). */
gchar *gst_valley_chunk_prompt (const GstValleyChunk *chunk, const GArray *frames);

/* Text as subtitle formats can bear it: valid UTF-8, no NUL or other control character, no
 * blank line, no "-->", no newline at either end, at most 65,535 bytes.  NULL: nothing left. */
gchar *gst_valley_caption_text (const gchar *text, gssize length);

/* One compact JSON object and a newline. */
gchar *gst_valley_chunk_to_json (const GstValleyChunk *chunk);
/* The same fields, for the element message "valleyinfer/result". */
GstStructure *gst_valley_chunk_to_structure (const GstValleyChunk *chunk);
