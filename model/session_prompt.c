/* session_prompt.c - see session_prompt.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "session_prompt.h"

#include "context.h"

#define DEFAULT_NEW_TOKENS 100

static void
encode_header (ValleySessionPrompt *prompt, const char *system)
{
  g_array_set_size (prompt->header, 0);
  valley_prompt_header (prompt->model->prompt, system, prompt->header);
}

void
valley_session_prompt_init (ValleySessionPrompt *prompt, const ValleyModel *model,
                            const char *system)
{
  *prompt = (ValleySessionPrompt){ .model = model };
  prompt->header = g_array_new (FALSE, TRUE, sizeof (gint32));
  prompt->tail = g_array_new (FALSE, TRUE, sizeof (gint32));
  prompt->ids = g_array_new (FALSE, TRUE, sizeof (gint32));
  prompt->shown = g_array_new (FALSE, TRUE, sizeof (ValleyWindowFrame));
  prompt->shown_pts = g_array_new (FALSE, TRUE, sizeof (guint64));
  encode_header (prompt, system);
}

void
valley_session_prompt_clear (ValleySessionPrompt *prompt)
{
  g_array_unref (prompt->header);
  g_array_unref (prompt->tail);
  g_array_unref (prompt->ids);
  g_array_unref (prompt->shown);
  g_array_unref (prompt->shown_pts);
  g_free (prompt->question);
}

void
valley_session_prompt_forget (ValleySessionPrompt *prompt)
{
  g_array_set_size (prompt->ids, 0);
  g_array_set_size (prompt->shown, 0);
}

/* The prompt's texts as ids: what was encoded for the last prompt is not encoded again. */
static void
encode_texts (ValleySessionPrompt *prompt, const ValleyRequest *request)
{
  encode_header (prompt, request->system_prompt);
  if (g_strcmp0 (prompt->question, request->prompt) == 0)
    return;
  g_free (prompt->question);
  prompt->question = g_strdup (request->prompt);
  g_array_set_size (prompt->tail, 0);
  valley_prompt_tail (prompt->model->prompt, request->prompt, prompt->tail);
}

/* The ids of the prompt over @n frames. */
static void
join_texts (ValleySessionPrompt *prompt, const ValleyRequest *request, guint n)
{
  const ValleyPrompt *parts = prompt->model->prompt;
  GArray *ids = prompt->ids;

  if (n == 0) {
    g_array_unref (ids);
    prompt->ids = valley_prompt_build (parts, request->system_prompt, request->prompt, 0);
    return;
  }
  g_array_set_size (ids, 0);
  g_array_append_vals (ids, prompt->header->data, prompt->header->len);
  for (guint i = 0; i < n; i++)
    valley_prompt_frame (parts, i == 0, ids);
  g_array_append_vals (ids, prompt->tail->data, prompt->tail->len);
}

/* Fits as many of @frames as it can, evenly chosen, into the prompt. */
static gboolean
fit_frames (ValleySessionPrompt *prompt, const ValleyRequest *request, const GArray *frames,
            GError **error)
{
  guint n = frames->len, n_shown = 0;
  g_autofree gsize *n_rows = g_new (gsize, n);
  ValleyContext context = { .max_positions = prompt->model->config->llm.max_position_embeddings,
                            .n_rows = n_rows,
                            .n_pictures = n,
                            .max_pictures = request->max_frames,
                            .n_text_more = valley_prompt_slot_text (prompt->model->prompt) };
  gsize n_tokens;

  join_texts (prompt, request, MIN (n, 1));
  context.n_text = prompt->ids->len - MIN (n, 1);
  context.max_new_tokens
      = request->max_new_tokens != 0 ? request->max_new_tokens : DEFAULT_NEW_TOKENS;
  for (guint i = 0; i < n; i++)
    n_rows[i] = g_array_index (frames, ValleyWindowFrame, i).frame->n_rows;
  if (!valley_context_fit (&context, &n_shown, &prompt->max_new_tokens, &n_tokens)) {
    g_set_error (
        error, VALLEY_ERROR, VALLEY_ERROR_CONTEXT,
        "the prompt has %" G_GSIZE_FORMAT " tokens, %" G_GSIZE_FORMAT
        " of them text, and its answer needs room for %u; expected at most %" G_GSIZE_FORMAT
        " together (config.json: max_position_embeddings)",
        n_tokens, context.n_text,
        valley_context_reserve (context.max_positions, context.max_new_tokens),
        context.max_positions);
    return FALSE;
  }
  join_texts (prompt, request, n_shown);
  g_array_set_size (prompt->shown, 0);
  for (guint i = 0; i < n_shown; i++)
    g_array_append_val (prompt->shown, g_array_index (frames, ValleyWindowFrame,
                                                      valley_context_nth_shown (i, n_shown, n)));
  return TRUE;
}

/* Of the frames that the answer is about. */
static void
note_frames (ValleySessionPrompt *prompt, const GArray *frames)
{
  guint n = frames->len;

  g_array_set_size (prompt->shown_pts, 0);
  for (guint i = 0; i < prompt->shown->len; i++)
    g_array_append_val (prompt->shown_pts,
                        g_array_index (prompt->shown, ValleyWindowFrame, i).pts_ns);
  prompt->n_left_out = n - prompt->shown->len;
  prompt->start_ns = n > 0 ? g_array_index (frames, ValleyWindowFrame, 0).pts_ns : 0;
  prompt->end_ns = n > 0 ? g_array_index (frames, ValleyWindowFrame, n - 1).pts_ns : 0;
}

gboolean
valley_session_prompt_build (ValleySessionPrompt *prompt, ValleyWindows *windows,
                             const ValleyRequest *request, GError **error)
{
  g_autoptr (GArray) frames = g_array_new (FALSE, FALSE, sizeof (ValleyWindowFrame));
  guint n;

  encode_texts (prompt, request);
  valley_windows_contents (windows, FALSE, frames);
  n = frames->len;
  if (!fit_frames (prompt, request, frames, error))
    return FALSE;
  prompt->is_contents = n > 0 && prompt->shown->len == n;
  if (n > 0 && !prompt->is_contents) {
    g_array_set_size (frames, 0);
    valley_windows_contents (windows, TRUE, frames);
    if (frames->len < n && !fit_frames (prompt, request, frames, error))
      return FALSE;
  }
  note_frames (prompt, frames);
  return TRUE;
}

void
valley_session_prompt_describe (const ValleySessionPrompt *prompt, ValleyResult *result)
{
  result->frame_pts_ns = (const guint64 *) prompt->shown_pts->data;
  result->n_frames = prompt->shown->len;
  result->n_frames_dropped = prompt->n_left_out;
  result->start_ns = prompt->start_ns;
  result->end_ns = prompt->end_ns;
  result->max_new_tokens = prompt->max_new_tokens;
  result->input_ids = (const gint32 *) prompt->ids->data;
  result->n_input_ids = prompt->ids->len;
}
