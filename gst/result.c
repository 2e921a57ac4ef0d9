/* result.c - captions, JSON lines and bus messages out of a finished window.
 *
 * The JSON is written here rather than by json-glib because that prints 32.4 as
 * 32.399999999999999, and people read these lines.
 * SPDX-License-Identifier: Apache-2.0 */
#include "result.h"

#include <math.h>
#include <string.h>

#define CAPTION_MAX_BYTES 65535 /* tx3g counts in 16 bits */

static const gchar *const section_names[GST_VALLEY_N_SECTIONS] = {
  [GST_VALLEY_SECTION_REASONING] = "reasoning",
  [GST_VALLEY_SECTION_SUMMARY] = "summary",
  [GST_VALLEY_SECTION_CAPTION] = "caption",
  [GST_VALLEY_SECTION_CONCLUSION] = "conclusion",
};

static void
answer_clear (GstValleyAnswer *answer)
{
  g_free (answer->text);
  g_free (answer->finish_reason);
  g_free (answer->error);
  for (guint i = 0; i < GST_VALLEY_N_SECTIONS; i++)
    g_free (answer->sections[i]);
  g_clear_pointer (&answer->frames, g_array_unref);
}

static void
chunk_clear (gpointer data)
{
  GstValleyChunk *chunk = data;

  for (guint i = 0; chunk->request != NULL && i < chunk->request->n_prompts; i++)
    answer_clear (&chunk->answers[i]);
  g_free (chunk->answers);
  valley_window_clear (&chunk->window);
  g_clear_pointer (&chunk->request, gst_valley_request_unref);
  g_free (chunk->stream_id);
}

GstValleyChunk *
gst_valley_chunk_ref (GstValleyChunk *chunk)
{
  return g_atomic_rc_box_acquire (chunk);
}

void
gst_valley_chunk_unref (GstValleyChunk *chunk)
{
  g_atomic_rc_box_release_full (chunk, chunk_clear);
}

void
gst_valley_chunk_set_request (GstValleyChunk *chunk, GstValleyRequest *request)
{
  chunk->request = gst_valley_request_ref (request);
  chunk->answers = g_new0 (GstValleyAnswer, request->n_prompts);
}

/* What the model was shown, which some window policies let begin before the window. */
static const GArray *
frames_of (const GstValleyChunk *chunk, const GstValleyAnswer *answer)
{
  return answer->frames != NULL ? answer->frames : chunk->window.frames;
}

static guint64
start_of (const GstValleyChunk *chunk, const GArray *frames)
{
  return frames->len > 0 ? MIN (chunk->window.start, g_array_index (frames, guint64, 0))
                         : chunk->window.start;
}

static guint64
stream_time (const GstValleyChunk *chunk, guint64 pts)
{
  return gst_segment_to_stream_time (&chunk->segment, GST_FORMAT_TIME, pts);
}

static GArray *
frame_times (const GstValleyChunk *chunk, const GArray *frames)
{
  GArray *times = g_array_sized_new (FALSE, FALSE, sizeof (guint64), frames->len);

  for (guint i = 0; i < frames->len; i++) {
    guint64 time = stream_time (chunk, g_array_index (frames, guint64, i));

    g_array_append_val (times, time);
  }
  return times;
}

gchar *
gst_valley_chunk_prompt (const GstValleyChunk *chunk, guint index, const GArray *frames)
{
  g_autoptr (GArray) times = frame_times (chunk, frames);

  return gst_valley_request_expand (
      chunk->request, index, stream_time (chunk, start_of (chunk, frames)),
      stream_time (chunk, chunk->window.end), (const guint64 *) (gpointer) times->data, times->len,
      chunk->stream_id);
}

/* ---- captions ------------------------------------------------------------ */

/* Appends a line without control characters and trailing blanks. */
static void
append_line (GString *out, const gchar *line)
{
  gsize before = out->len;

  for (const gchar *p = line; *p != '\0'; p = g_utf8_next_char (p)) {
    gunichar c = g_utf8_get_char (p);

    if (c == '\t')
      g_string_append_c (out, ' ');
    else if (!g_unichar_iscntrl (c))
      g_string_append_unichar (out, c);
  }
  while (out->len > before && out->str[out->len - 1] == ' ')
    g_string_truncate (out, out->len - 1);
}

static void
cut_at_character (GString *out, gsize max_bytes)
{
  if (out->len <= max_bytes)
    return;
  while (max_bytes > 0 && ((guchar) out->str[max_bytes] & 0xc0) == 0x80)
    max_bytes--;
  g_string_truncate (out, max_bytes);
}

gchar *
gst_valley_caption_text (const gchar *text, gssize length)
{
  g_autofree gchar *valid = g_utf8_make_valid (text, length);
  g_auto (GStrv) lines = NULL;
  GString *out = g_string_new (NULL);

  g_strdelimit (valid, "\r", '\n');
  lines = g_strsplit (valid, "\n", -1);
  for (guint i = 0; lines[i] != NULL; i++) {
    gsize before = out->len, start;

    if (before > 0)
      g_string_append_c (out, '\n');
    start = out->len;
    append_line (out, lines[i]);
    if (out->len == start)
      g_string_truncate (out, before);
  }
  /* "-->" ends a cue's time line; as an arrow it is harmless. */
  g_string_replace (out, "-->", "\342\206\222", 0);
  cut_at_character (out, CAPTION_MAX_BYTES);
  g_strstrip (out->str);
  if (*out->str == '\0') {
    g_string_free (out, TRUE);
    return NULL;
  }
  return g_string_free (out, FALSE);
}

/* ---- JSON ---------------------------------------------------------------- */

static void
json_key (GString *out, const gchar *key)
{
  if (out->str[out->len - 1] != '{')
    g_string_append_c (out, ',');
  g_string_append_printf (out, "\"%s\":", key);
}

static void
json_string (GString *out, const gchar *key, const gchar *text)
{
  g_autofree gchar *valid = g_utf8_make_valid (text, -1);

  json_key (out, key);
  g_string_append_c (out, '"');
  for (const gchar *p = valid; *p != '\0'; p++) {
    if (*p == '"' || *p == '\\')
      g_string_append_printf (out, "\\%c", *p);
    else if (*p == '\n')
      g_string_append (out, "\\n");
    else if ((guchar) *p < 0x20 || *p == 0x7f)
      g_string_append_printf (out, "\\u%04x", (guchar) *p);
    else
      g_string_append_c (out, *p);
  }
  g_string_append_c (out, '"');
}

static void
json_count (GString *out, const gchar *key, guint64 value)
{
  json_key (out, key);
  g_string_append_printf (out, "%" G_GUINT64_FORMAT, value);
}

static void
json_number (GString *out, const gchar *key, gdouble value, const gchar *format)
{
  gchar buffer[G_ASCII_DTOSTR_BUF_SIZE];

  json_key (out, key);
  /* JSON has no NaN and no infinity. */
  g_string_append (out, isfinite (value) ? g_ascii_formatd (buffer, sizeof (buffer), format, value)
                                         : "null");
}

static void
json_seconds (GString *out, const gchar *key, guint64 ns)
{
  json_key (out, key);
  if (GST_CLOCK_TIME_IS_VALID (ns))
    gst_valley_append_seconds (out, ns);
  else
    g_string_append (out, "null");
}

static gchar *
wall_clock_text (GstClockTime unix_ns)
{
  g_autoptr (GDateTime) seconds = g_date_time_new_from_unix_utc (unix_ns / GST_SECOND);
  g_autofree gchar *text = NULL;

  if (seconds == NULL)
    return NULL;
  text = g_date_time_format (seconds, "%Y-%m-%dT%H:%M:%S");
  return g_strdup_printf ("%s.%03uZ", text, (guint) (unix_ns % GST_SECOND / GST_MSECOND));
}

static void
json_outcome (GString *out, const GstValleyChunk *chunk, const GstValleyAnswer *answer)
{
  if (answer->state == GST_VALLEY_ANSWER_GIVEN) {
    json_string (out, "result", answer->text);
    for (guint i = 0; i < GST_VALLEY_N_SECTIONS; i++)
      if (answer->sections[i] != NULL)
        json_string (out, section_names[i], answer->sections[i]);
    if (answer->n_frames_dropped > 0)
      json_count (out, "frames_dropped", answer->n_frames_dropped);
    if (answer->max_new_tokens > 0)
      json_count (out, "max_new_tokens", answer->max_new_tokens);
    json_number (out, "confidence", answer->confidence, "%.4g");
    if (answer->unchanged) {
      json_key (out, "unchanged");
      g_string_append (out, "true");
    }
  } else {
    json_key (out, "result");
    g_string_append (out, "null");
    if (chunk->state == GST_VALLEY_CHUNK_DROPPED) {
      json_key (out, "dropped");
      g_string_append (out, "true");
    }
    if (answer->error != NULL)
      json_string (out, "error", answer->error);
  }
}

static void
json_metrics (GString *out, const GstValleyAnswer *answer)
{
  json_key (out, "metrics");
  g_string_append_c (out, '{');
  json_count (out, "num_input_tokens", answer->n_input_tokens);
  json_count (out, "vision_tokens", answer->n_vision_tokens);
  json_count (out, "vision_tokens_before", answer->n_vision_tokens_before);
  json_count (out, "reused_tokens", answer->n_reused_tokens);
  json_count (out, "output_tokens", answer->n_output_tokens);
  json_count (out, "drafted_tokens", answer->n_drafted);
  json_count (out, "accepted_tokens", answer->n_accepted);
  json_number (out, "queue_time_ms", answer->queue_ms, "%.1f");
  json_number (out, "encode_ms", answer->encode_ms, "%.1f");
  json_number (out, "prefill_ms", answer->prefill_ms, "%.1f");
  json_number (out, "decode_ms", answer->decode_ms, "%.1f");
  json_number (out, "latency_ms", answer->latency_ms, "%.1f");
  g_string_append_c (out, '}');
}

gchar *
gst_valley_chunk_to_json (const GstValleyChunk *chunk, guint index)
{
  const ValleyWindow *window = &chunk->window;
  const GstValleyAnswer *answer = &chunk->answers[index];
  const GArray *frames = frames_of (chunk, answer);
  g_autoptr (GArray) times = frame_times (chunk, frames);
  g_autofree gchar *ntp
      = GST_CLOCK_TIME_IS_VALID (chunk->unix_ns) ? wall_clock_text (chunk->unix_ns) : NULL;
  GString *out = g_string_new ("{");

  json_outcome (out, chunk, answer);
  json_count (out, "chunk_id", window->id);
  if (chunk->stream_id != NULL)
    json_string (out, "stream_id", chunk->stream_id);
  json_seconds (out, "start_time", stream_time (chunk, start_of (chunk, frames)));
  json_seconds (out, "end_time", stream_time (chunk, window->end));
  json_count (out, "timestamp", window->start);
  if (ntp != NULL)
    json_string (out, "ntp_time", ntp);
  json_count (out, "frame_count", times->len);
  json_key (out, "frame_times");
  g_string_append_c (out, '[');
  for (guint i = 0; i < times->len; i++) {
    g_string_append (out, i > 0 ? "," : "");
    gst_valley_append_seconds (out, g_array_index (times, guint64, i));
  }
  g_string_append_c (out, ']');
  json_count (out, "prompt_id", chunk->request->prompt_id + index);
  if (answer->finish_reason != NULL)
    json_string (out, "finish_reason", answer->finish_reason);
  if (chunk->metrics && answer->state == GST_VALLEY_ANSWER_GIVEN)
    json_metrics (out, answer);
  g_string_append (out, "}\n");
  return g_string_free (out, FALSE);
}

/* ---- bus message --------------------------------------------------------- */

static gdouble
seconds (guint64 ns)
{
  return GST_CLOCK_TIME_IS_VALID (ns) ? ns / (gdouble) GST_SECOND : -1;
}

static void
set_frame_times (GstStructure *structure, const GstValleyChunk *chunk, const GArray *frames)
{
  g_autoptr (GArray) times = frame_times (chunk, frames);
  GValue list = G_VALUE_INIT, item = G_VALUE_INIT;

  gst_value_array_init (&list, times->len);
  g_value_init (&item, G_TYPE_DOUBLE);
  for (guint i = 0; i < times->len; i++) {
    g_value_set_double (&item, seconds (g_array_index (times, guint64, i)));
    gst_value_array_append_value (&list, &item);
  }
  gst_structure_take_value (structure, "frame_times", &list);
}

static void
set_metrics (GstStructure *structure, const GstValleyAnswer *answer)
{
  g_autoptr (GstStructure) metrics = gst_structure_new (
      "valleyinfer/metrics", "num_input_tokens", G_TYPE_UINT, answer->n_input_tokens,
      "vision_tokens", G_TYPE_UINT, answer->n_vision_tokens, "vision_tokens_before", G_TYPE_UINT,
      answer->n_vision_tokens_before, "reused_tokens", G_TYPE_UINT, answer->n_reused_tokens,
      "output_tokens", G_TYPE_UINT, answer->n_output_tokens, "drafted_tokens", G_TYPE_UINT,
      answer->n_drafted, "accepted_tokens", G_TYPE_UINT, answer->n_accepted, "queue_time_ms",
      G_TYPE_DOUBLE, answer->queue_ms, "encode_ms", G_TYPE_DOUBLE, answer->encode_ms, "prefill_ms",
      G_TYPE_DOUBLE, answer->prefill_ms, "decode_ms", G_TYPE_DOUBLE, answer->decode_ms,
      "latency_ms", G_TYPE_DOUBLE, answer->latency_ms, NULL);

  gst_structure_set (structure, "metrics", GST_TYPE_STRUCTURE, metrics, NULL);
}

GstStructure *
gst_valley_chunk_to_structure (const GstValleyChunk *chunk, guint index)
{
  const ValleyWindow *window = &chunk->window;
  const GstValleyAnswer *answer = &chunk->answers[index];
  const GArray *frames = frames_of (chunk, answer);
  GstStructure *structure = gst_structure_new (
      "valleyinfer/result", "chunk_id", G_TYPE_UINT64, window->id, "start_time", G_TYPE_DOUBLE,
      seconds (stream_time (chunk, start_of (chunk, frames))), "end_time", G_TYPE_DOUBLE,
      seconds (stream_time (chunk, window->end)), "timestamp", G_TYPE_UINT64, window->start,
      "frame_count", G_TYPE_UINT, frames->len, "prompt_id", G_TYPE_UINT,
      chunk->request->prompt_id + index, NULL);

  set_frame_times (structure, chunk, frames);
  if (chunk->stream_id != NULL)
    gst_structure_set (structure, "stream_id", G_TYPE_STRING, chunk->stream_id, NULL);
  if (GST_CLOCK_TIME_IS_VALID (chunk->unix_ns)) {
    g_autofree gchar *ntp = wall_clock_text (chunk->unix_ns);

    gst_structure_set (structure, "ntp_time", G_TYPE_STRING, ntp, NULL);
  }
  if (answer->finish_reason != NULL)
    gst_structure_set (structure, "finish_reason", G_TYPE_STRING, answer->finish_reason, NULL);
  if (answer->state == GST_VALLEY_ANSWER_GIVEN) {
    gst_structure_set (structure, "result", G_TYPE_STRING, answer->text, "confidence",
                       G_TYPE_DOUBLE, answer->confidence, NULL);
    for (guint i = 0; i < GST_VALLEY_N_SECTIONS; i++)
      if (answer->sections[i] != NULL)
        gst_structure_set (structure, section_names[i], G_TYPE_STRING, answer->sections[i], NULL);
    if (answer->unchanged)
      gst_structure_set (structure, "unchanged", G_TYPE_BOOLEAN, TRUE, NULL);
    if (answer->n_frames_dropped > 0)
      gst_structure_set (structure, "frames_dropped", G_TYPE_UINT, answer->n_frames_dropped, NULL);
    if (answer->max_new_tokens > 0)
      gst_structure_set (structure, "max_new_tokens", G_TYPE_UINT, answer->max_new_tokens, NULL);
    set_metrics (structure, answer);
  } else if (answer->error != NULL) {
    gst_structure_set (structure, "error", G_TYPE_STRING, answer->error, NULL);
  }
  return structure;
}
