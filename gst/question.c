/* question.c - see question.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "question.h"

#include <string.h>

/* Fills @question in with a prompt that tells of the frames @told, and @shown with those of at
 * most @max_frames (0: of all) that fit beside it. */
static gboolean
try_prompt (GstValleyQuestion *question, ValleySession *session, const GArray *told,
            guint max_frames, GArray *shown, GError **error)
{
  g_free (question->text);
  question->text = gst_valley_chunk_prompt (question->chunk, question->index, told);
  question->request = gst_valley_request_engine (question->chunk->request, question->text);
  question->request.max_frames = max_frames;
  question->request.slot = question->index;
  g_array_set_size (shown, 0);
  return valley_session_fit (session, &question->request, shown, error);
}

/* As many frames as fit beside a prompt that tells of just these: fewer frames make a shorter
 * list of time stamps, which leaves room for more of them. */
static gboolean
shorten_window (GstValleyQuestion *question, ValleySession *session, GError **error)
{
  g_autoptr (GArray) none = g_array_new (FALSE, FALSE, sizeof (guint64));
  g_autoptr (GArray) told = g_array_new (FALSE, FALSE, sizeof (guint64));
  g_autoptr (GArray) shown = g_array_new (FALSE, FALSE, sizeof (guint64));
  guint fit = 0, most;

  if (!try_prompt (question, session, none, 0, told, error))
    return FALSE;
  most = told->len;
  for (guint n = most; fit < most; n = fit + (most - fit + 1) / 2) {
    if (try_prompt (question, session, none, n, told, NULL)
        && try_prompt (question, session, told, n, shown, NULL) && shown->len == n)
      fit = n;
    else
      most = n - 1;
  }
  fit = MAX (fit, 1); /* not even one: the last attempt says why */
  return try_prompt (question, session, none, fit, told, error)
         && try_prompt (question, session, told, fit, shown, error);
}

static gboolean
same_frames (const GArray *a, const GArray *b)
{
  return a->len == b->len && memcmp (a->data, b->data, a->len * sizeof (guint64)) == 0;
}

gboolean
gst_valley_question_prepare (GstValleyQuestion *question, ValleySession *session, GError **error)
{
  g_autoptr (GArray) told = g_array_new (FALSE, FALSE, sizeof (guint64));
  g_autoptr (GArray) shown = g_array_new (FALSE, FALSE, sizeof (guint64));

  if (try_prompt (question, session, question->chunk->window.frames, 0, told, NULL)
      && (same_frames (told, question->chunk->window.frames)
          || (told->len > question->chunk->window.frames->len
              && try_prompt (question, session, told, 0, shown, NULL)
              && same_frames (told, shown))))
    return TRUE;
  return shorten_window (question, session, error);
}

void
gst_valley_question_keep (const GstValleyQuestion *question, const ValleyResult *result)
{
  GstValleyAnswer *answer = &question->chunk->answers[question->index];

  answer->text = g_strdup (result->text != NULL ? result->text : "");
  answer->sections[GST_VALLEY_SECTION_REASONING] = g_strdup (result->reasoning);
  answer->sections[GST_VALLEY_SECTION_SUMMARY] = g_strdup (result->summary);
  answer->sections[GST_VALLEY_SECTION_CAPTION] = g_strdup (result->caption);
  answer->sections[GST_VALLEY_SECTION_CONCLUSION] = g_strdup (result->conclusion);
  answer->finish_reason = g_strdup (result->finish_reason);
  answer->frames = g_array_new (FALSE, FALSE, sizeof (guint64));
  g_array_append_vals (answer->frames, result->frame_pts_ns, result->n_frames);
  answer->n_frames_dropped = result->n_frames_dropped;
  answer->unchanged = result->unchanged;
  if (result->max_new_tokens < question->chunk->request->max_new_tokens)
    answer->max_new_tokens = result->max_new_tokens;
  answer->confidence = result->confidence;
  answer->n_input_tokens = result->n_input_tokens;
  answer->n_vision_tokens = result->n_vision_tokens;
  answer->n_vision_tokens_before = result->n_vision_tokens_before;
  answer->n_reused_tokens = result->n_reused_tokens;
  answer->n_output_tokens = result->n_output_tokens;
  answer->n_drafted = result->n_drafted;
  answer->n_accepted = result->n_accepted;
  answer->encode_ms = result->encode_ms;
  answer->prefill_ms = result->prefill_ms;
  answer->decode_ms = result->decode_ms;
}
