/* context.h - which part of a window fits max_position_embeddings, and how long its answer may
 * become.  Arithmetic only.
 *
 * The rule: the answer is given room for what was asked for, or for a quarter of all positions
 * if that is less.  While prompt and that room are too long together, pictures are left out,
 * evenly: the first and the last stay, of one the last.  The answer may then fill what is left.
 * Text is never shortened.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <glib.h>

typedef struct {
  gsize max_positions;
  gsize n_text;        /* the prompt's text tokens with one picture at most */
  gsize n_text_more;   /* and what every further picture adds to them */
  const gsize *n_rows; /* the tokens of each picture, without text */
  guint n_pictures;
  guint max_pictures;   /* 0: as many as fit */
  guint max_new_tokens; /* asked for */
} ValleyContext;

/* Sets how many pictures can be shown (at least one, if there is any) and how many tokens the
 * answer may have.  FALSE: not even that fits; then *n_tokens is what the shortest prompt has. */
gboolean valley_context_fit (const ValleyContext *context, guint *n_shown, guint *max_new_tokens,
                             gsize *n_tokens);
/* Of @n_pictures, the number of the @i-th that is shown. */
guint valley_context_nth_shown (guint i, guint n_shown, guint n_pictures);
/* The room that an answer is given at least. */
guint valley_context_reserve (gsize max_positions, guint max_new_tokens);
