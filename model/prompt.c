/* prompt.c - the released processor's prompt:
 *
 *   <|im_start|>system\n{system}<|im_end|>\n
 *   <|im_start|>user\n<im_start>SLOT<im_end> <im_start>SLOT<im_end>\n{question}<|im_end|>\n
 *   <|im_start|>assistant\n
 *
 * The template's tokens are put in by id and each run of text between two of them is encoded as
 * one, which gives the ids of the processor, who encodes the whole.  It differs on purpose in one
 * thing: such a token, or a literal <image>, that a user typed stays plain text, so that nobody
 * closes a turn or conjures up an image slot from inside a question.  Every other added token is
 * one there as everywhere: prompts ask for <REASONING> or <tool_call> by name.
 * SPDX-License-Identifier: Apache-2.0 */
#include "prompt.h"

#include "added.h"

#include <string.h>

#define DEFAULT_SYSTEM "You are a helpful assistant."

struct _ValleyPrompt {
  const ValleyTokenizer *tokenizer; /* borrowed: the model owns both */
  gint32 turn_start, turn_end;
  gint32 image_start, image_end; /* -1: slots stand alone */
  ValleyAddedSet typed;          /* tokens that users may type */
};

static gboolean
find_marker (const ValleyTokenizer *tokenizer, const char *text, gint32 *id, GError **error)
{
  *id = valley_tokenizer_lookup (tokenizer, text);
  if (*id >= 0)
    return TRUE;
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG,
               "tokenizer.json: added_tokens: expected the token %s, which the prompt needs", text);
  return FALSE;
}

/* What ends a turn or a text, or stands around pictures and video. */
static gboolean
is_reserved (const char *text)
{
  static const char *const reserved[]
      = { "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<im_start>", "<im_end>",
          "<image>",      "<vi_start>", "<vi_end>",      NULL };

  return g_strv_contains (reserved, text);
}

/* Matched in the text as it was typed, as Qwen's added tokens all are. */
static void
allow_added (ValleyPrompt *prompt)
{
  gsize n = valley_tokenizer_size (prompt->tokenizer);
  g_autoptr (GString) text = g_string_new (NULL);

  valley_added_init (&prompt->typed);
  for (gsize id = 0; id < n; id++) {
    if (!valley_tokenizer_is_added (prompt->tokenizer, (gint32) id))
      continue;
    g_string_truncate (text, 0);
    valley_tokenizer_decode (prompt->tokenizer, (gint32) id, text);
    if (text->len > 0 && !is_reserved (text->str))
      valley_added_add (&prompt->typed, text->str, (gint32) id);
  }
  valley_added_sort (&prompt->typed);
}

ValleyPrompt *
valley_prompt_new (const ValleyTokenizer *tokenizer, gboolean start_end_tokens, GError **error)
{
  g_autofree ValleyPrompt *prompt = g_new0 (ValleyPrompt, 1);

  prompt->tokenizer = tokenizer;
  prompt->image_start = prompt->image_end = -1;
  if (!find_marker (tokenizer, "<|im_start|>", &prompt->turn_start, error)
      || !find_marker (tokenizer, "<|im_end|>", &prompt->turn_end, error))
    return NULL;
  if (start_end_tokens
      && (!find_marker (tokenizer, "<im_start>", &prompt->image_start, error)
          || !find_marker (tokenizer, "<im_end>", &prompt->image_end, error)))
    return NULL;
  allow_added (prompt);
  return g_steal_pointer (&prompt);
}

void
valley_prompt_free (ValleyPrompt *prompt)
{
  if (prompt == NULL)
    return;
  valley_added_clear (&prompt->typed);
  g_free (prompt);
}

static void
append_id (GArray *ids, gint32 id)
{
  if (id != -1)
    g_array_append_val (ids, id);
}

static void
append_plain (const ValleyPrompt *prompt, const char *text, const char *end, GArray *ids)
{
  g_autofree char *plain = g_strndup (text, (gsize) (end - text));

  valley_tokenizer_encode_plain (prompt->tokenizer, plain, ids);
}

static void
append_text (const ValleyPrompt *prompt, const char *before, const char *text, GArray *ids)
{
  g_autofree char *run = g_strconcat (before, text, NULL);
  const char *p = run, *end = run + strlen (run), *start;
  const ValleyAddedToken *token;

  while ((token = valley_added_find (&prompt->typed, p, end, &start)) != NULL) {
    append_plain (prompt, p, start, ids);
    append_id (ids, token->id);
    p = start + token->length;
  }
  append_plain (prompt, p, end, ids);
}

void
valley_prompt_frame (const ValleyPrompt *prompt, gboolean is_first, GArray *ids)
{
  if (!is_first)
    append_text (prompt, " ", "", ids);
  append_id (ids, prompt->image_start);
  append_id (ids, VALLEY_IMAGE_SLOT);
  append_id (ids, prompt->image_end);
}

gsize
valley_prompt_slot_text (const ValleyPrompt *prompt)
{
  g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (gint32));

  valley_prompt_frame (prompt, FALSE, ids);
  return ids->len - 1;
}

static void
end_turn (const ValleyPrompt *prompt, GArray *ids)
{
  append_id (ids, prompt->turn_end);
  append_text (prompt, "\n", "", ids);
}

static void
append_system (const ValleyPrompt *prompt, const char *system, GArray *ids)
{
  append_id (ids, prompt->turn_start);
  append_text (prompt, "system\n", system != NULL ? system : DEFAULT_SYSTEM, ids);
  end_turn (prompt, ids);
  append_id (ids, prompt->turn_start);
}

static void
append_question (const ValleyPrompt *prompt, const char *before, const char *question, GArray *ids)
{
  append_text (prompt, before, question, ids);
  end_turn (prompt, ids);
  append_id (ids, prompt->turn_start);
  append_text (prompt, "assistant\n", "", ids);
}

void
valley_prompt_header (const ValleyPrompt *prompt, const char *system, GArray *ids)
{
  append_system (prompt, system, ids);
  append_text (prompt, "user\n", "", ids);
}

void
valley_prompt_tail (const ValleyPrompt *prompt, const char *question, GArray *ids)
{
  append_question (prompt, "\n", question, ids);
}

GArray *
valley_prompt_build (const ValleyPrompt *prompt, const char *system, const char *question,
                     guint n_images)
{
  GArray *ids = g_array_new (FALSE, FALSE, sizeof (gint32));

  if (n_images == 0) { /* the turn's first word and the question are one run of text */
    append_system (prompt, system, ids);
    append_question (prompt, "user\n", question, ids);
    return ids;
  }
  valley_prompt_header (prompt, system, ids);
  for (guint i = 0; i < n_images; i++)
    valley_prompt_frame (prompt, i == 0, ids);
  valley_prompt_tail (prompt, question, ids);
  return ids;
}
