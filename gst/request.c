/* request.c - parses generation-config and fills in the prompt's placeholders.
 * SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <errno.h>
#include <string.h>

static gboolean
parse_number (const gchar *key, const gchar *text, gdouble low, gdouble high, gdouble *value,
              GError **error)
{
  gchar *rest = NULL;

  errno = 0;
  *value = g_ascii_strtod (text, &rest);
  /* Written so that a NaN fails it. */
  if (rest != text && *rest == '\0' && errno == 0 && *value >= low && *value <= high)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
               "generation-config: %s=\"%s\": expected a number from %g to %g", key, text, low,
               high);
  return FALSE;
}

static gboolean
parse_count (const gchar *key, const gchar *text, guint64 low, guint64 high, guint64 *value,
             GError **error)
{
  if (g_ascii_string_to_unsigned (text, 10, low, high, value, NULL))
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
               "generation-config: %s=\"%s\": expected a whole number from %" G_GUINT64_FORMAT
               " to %" G_GUINT64_FORMAT,
               key, text, low, high);
  return FALSE;
}

static gboolean
apply (GstValleyRequest *request, const gchar *key, const gchar *value, GError **error)
{
  guint64 count = 0;
  gboolean ok = TRUE;

  if (g_str_equal (key, "max_new_tokens")) {
    ok = parse_count (key, value, 1, G_MAXINT, &count, error);
    request->max_new_tokens = (guint) count;
  } else if (g_str_equal (key, "temperature")) {
    ok = parse_number (key, value, 0, 100, &request->temperature, error);
  } else if (g_str_equal (key, "top_k")) {
    ok = parse_count (key, value, 0, G_MAXINT, &count, error);
    request->top_k = (guint) count;
  } else if (g_str_equal (key, "top_p")) {
    ok = parse_number (key, value, 0, 1, &request->top_p, error);
  } else if (g_str_equal (key, "seed")) {
    ok = parse_count (key, value, 0, G_MAXUINT64, &request->seed, error);
  } else if (g_str_equal (key, "repetition_penalty")) {
    ok = parse_number (key, value, 0.01, 100, &request->repetition_penalty, error);
  } else if (g_str_equal (key, "stop")) {
    g_ptr_array_insert (request->stop, request->stop->len - 1, g_strdup (value));
  } else {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "generation-config: unknown key \"%s\": expected max_new_tokens, temperature, "
                 "top_k, top_p, seed, repetition_penalty or stop",
                 key);
    ok = FALSE;
  }
  return ok;
}

static gboolean
parse_generation_config (GstValleyRequest *request, const gchar *text, GError **error)
{
  g_auto (GStrv) pairs = g_strsplit (text, ",", -1);

  for (guint i = 0; pairs[i] != NULL; i++) {
    gchar *key = g_strchug (pairs[i]), *value = strchr (key, '=');

    if (*key == '\0')
      continue;
    if (value == NULL || value[1] == '\0') {
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                   "generation-config: \"%s\": expected KEY=VALUE", key);
      return FALSE;
    }
    *value++ = '\0';
    if (!apply (request, g_strchomp (key), value, error))
      return FALSE;
  }
  return TRUE;
}

static void
request_clear (gpointer data)
{
  GstValleyRequest *request = data;

  g_strfreev (request->prompts);
  g_free (request->system_prompt);
  g_ptr_array_unref (request->stop);
}

GstValleyRequest *
gst_valley_request_new (const gchar *const *prompts, const gchar *system_prompt,
                        guint max_new_tokens, const gchar *generation_config, GError **error)
{
  GstValleyRequest *request = g_atomic_rc_box_new0 (GstValleyRequest);

  request->prompts = g_strdupv ((gchar **) prompts);
  request->n_prompts = g_strv_length (request->prompts);
  request->system_prompt = g_strdup (system_prompt);
  request->max_new_tokens = max_new_tokens;
  request->stop = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (request->stop, NULL);
  if (generation_config != NULL && !parse_generation_config (request, generation_config, error))
    g_clear_pointer (&request, gst_valley_request_unref);
  return request;
}

GstValleyRequest *
gst_valley_request_ref (GstValleyRequest *request)
{
  return g_atomic_rc_box_acquire (request);
}

void
gst_valley_request_unref (GstValleyRequest *request)
{
  if (request != NULL)
    g_atomic_rc_box_release_full (request, request_clear);
}

void
gst_valley_append_seconds (GString *out, guint64 ns)
{
  guint64 ms = ns / 1000000 + (ns % 1000000 >= 500000);
  gsize end;

  g_string_append_printf (out, "%" G_GUINT64_FORMAT ".%03u", ms / 1000, (guint) (ms % 1000));
  for (end = out->len; out->str[end - 1] == '0' && out->str[end - 2] != '.'; end--)
    ;
  g_string_truncate (out, end);
}

gboolean
gst_valley_has_placeholder (const gchar *text)
{
  static const gchar *const names[]
      = { "{num_frames}", "{start}", "{end}", "{timestamps}", "{stream_id}" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    if (strstr (text, names[i]) != NULL)
      return TRUE;
  return FALSE;
}

gchar *
gst_valley_request_expand (const GstValleyRequest *request, guint index, guint64 start_ns,
                           guint64 end_ns, const guint64 *frames_ns, guint n_frames,
                           const gchar *stream_id)
{
  GString *out = g_string_new (NULL);

  for (const gchar *p = request->prompts[index]; *p != '\0';) {
    if (g_str_has_prefix (p, "{num_frames}")) {
      g_string_append_printf (out, "%u", n_frames);
    } else if (g_str_has_prefix (p, "{start}")) {
      gst_valley_append_seconds (out, start_ns);
    } else if (g_str_has_prefix (p, "{end}")) {
      gst_valley_append_seconds (out, end_ns);
    } else if (g_str_has_prefix (p, "{timestamps}")) {
      for (guint i = 0; i < n_frames; i++) {
        g_string_append (out, i > 0 ? ", " : "");
        gst_valley_append_seconds (out, frames_ns[i]);
      }
    } else if (g_str_has_prefix (p, "{stream_id}")) {
      g_string_append (out, stream_id != NULL ? stream_id : "");
    } else {
      g_string_append_c (out, *p++);
      continue;
    }
    p = strchr (p, '}') + 1;
  }
  return g_string_free (out, FALSE);
}

ValleyRequest
gst_valley_request_engine (const GstValleyRequest *request, const gchar *prompt)
{
  return (ValleyRequest){
    .prompt = prompt,
    .system_prompt = request->system_prompt,
    .max_new_tokens = request->max_new_tokens,
    .temperature = request->temperature,
    .top_k = request->top_k,
    .top_p = request->top_p,
    .seed = request->seed,
    .repetition_penalty = request->repetition_penalty,
    .stop = request->stop->len > 1 ? (const char *const *) request->stop->pdata : NULL,
    .markers = request->markers,
    .no_draft = !request->draft,
  };
}
