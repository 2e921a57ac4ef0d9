/* request.h - what is asked of a window: prompt, system prompt and sampling, checked once and
 * then immutable, so that windows can share it while the properties change.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef struct {
  gchar *prompt; /* with its placeholders */
  gchar *system_prompt;
  guint prompt_id; /* counts the prompts this element has used */
  guint max_new_tokens;
  gdouble temperature, top_p, repetition_penalty;
  guint top_k;
  guint64 seed;
  GPtrArray *stop; /* NULL-terminated strings */
  ValleyMarkers markers;
} GstValleyRequest;

/* @generation_config: "KEY=VALUE,KEY=VALUE" or NULL; what it names wins over @max_new_tokens. */
GstValleyRequest *gst_valley_request_new (const gchar *prompt, const gchar *system_prompt,
                                          guint max_new_tokens, const gchar *generation_config,
                                          GError **error);
GstValleyRequest *gst_valley_request_ref (GstValleyRequest *request);
void gst_valley_request_unref (GstValleyRequest *request);

/* The prompt with {num_frames} {start} {end} {timestamps} {stream_id} filled in; times are
 * nanoseconds of stream time.  Any other text in braces stays as it is. */
gchar *gst_valley_request_expand (const GstValleyRequest *request, guint64 start_ns, guint64 end_ns,
                                  const guint64 *frames_ns, guint n_frames, const gchar *stream_id);
/* The engine's view of it; strings stay owned by @request and @prompt. */
ValleyRequest gst_valley_request_engine (const GstValleyRequest *request, const gchar *prompt);

/* Seconds with up to three decimals and at least one: "6.0", "0.033". */
void gst_valley_append_seconds (GString *out, guint64 ns);
