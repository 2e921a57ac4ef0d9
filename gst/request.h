/* request.h - what is asked of a window: prompts, system prompt and sampling, checked once and
 * then immutable, so that windows can share it while the properties change.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef struct {
  gchar **prompts; /* with their placeholders; NULL-terminated */
  guint n_prompts; /* at least one */
  gboolean listed; /* the property `prompts` asks: their ids are their places in it */
  guint prompt_id; /* of the first; a lone prompt's counts those this element has used */
  gchar *system_prompt;
  guint max_new_tokens;
  gdouble temperature, top_p, repetition_penalty;
  guint top_k;
  guint64 seed;
  GPtrArray *stop; /* NULL-terminated strings */
  ValleyMarkers markers;
  gboolean draft;
} GstValleyRequest;

/* @prompts: NULL-terminated, one at least.  @generation_config: "KEY=VALUE,KEY=VALUE" or NULL;
 * what it names wins over @max_new_tokens. */
GstValleyRequest *gst_valley_request_new (const gchar *const *prompts, const gchar *system_prompt,
                                          guint max_new_tokens, const gchar *generation_config,
                                          GError **error);
GstValleyRequest *gst_valley_request_ref (GstValleyRequest *request);
void gst_valley_request_unref (GstValleyRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GstValleyRequest, gst_valley_request_unref)

/* Prompt @index with {num_frames} {start} {end} {timestamps} {stream_id} filled in; times are
 * nanoseconds of stream time.  Any other text in braces stays as it is. */
gchar *gst_valley_request_expand (const GstValleyRequest *request, guint index, guint64 start_ns,
                                  guint64 end_ns, const guint64 *frames_ns, guint n_frames,
                                  const gchar *stream_id);
/* Whether a text has a placeholder: a system prompt cannot. */
gboolean gst_valley_has_placeholder (const gchar *text);
/* The engine's view of it; strings stay owned by @request and @prompt. */
ValleyRequest gst_valley_request_engine (const GstValleyRequest *request, const gchar *prompt);

/* Seconds with up to three decimals and at least one: "6.0", "0.033". */
void gst_valley_append_seconds (GString *out, guint64 ns);
