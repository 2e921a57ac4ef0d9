/* context.c - see context.h for the rule.
 * SPDX-License-Identifier: Apache-2.0 */
#include "context.h"

guint
valley_context_nth_shown (guint i, guint n_shown, guint n_pictures)
{
  if (n_shown < 2)
    return n_pictures - 1;
  return (guint) (((guint64) i * (n_pictures - 1) + (n_shown - 1) / 2) / (n_shown - 1));
}

guint
valley_context_reserve (gsize max_positions, guint max_new_tokens)
{
  return (guint) MIN (max_new_tokens, MAX (max_positions / 4, 1));
}

static gsize
prompt_length (const ValleyContext *context, guint n_shown)
{
  gsize n = context->n_text;

  for (guint i = 0; i < n_shown; i++) {
    n += context->n_rows[valley_context_nth_shown (i, n_shown, context->n_pictures)];
    n += i > 0 ? context->n_text_more : 0;
  }
  return n;
}

/* No more of the @most pictures than if all were as small as the smallest: that spares trying
 * every number of a long window. */
static guint
bound (const ValleyContext *context, guint most, gsize room)
{
  gsize least = G_MAXSIZE, spare;

  for (guint i = 0; i < context->n_pictures; i++)
    least = MIN (least, context->n_rows[i]);
  if (room < context->n_text)
    return MIN (most, 1);
  spare = room - context->n_text;
  if (most < 2 || least + context->n_text_more == 0)
    return most;
  if (spare < least)
    return 1;
  return (guint) MIN (most, 1 + (spare - least) / (least + context->n_text_more));
}

gboolean
valley_context_fit (const ValleyContext *context, guint *n_shown, guint *max_new_tokens,
                    gsize *n_tokens)
{
  gsize max = context->max_positions;
  gsize reserve = valley_context_reserve (max, context->max_new_tokens);
  guint most = context->n_pictures;

  if (context->max_pictures > 0)
    most = MIN (most, context->max_pictures);
  /* Pictures may differ in size, so that fewer of them can be more tokens: try every number. */
  for (guint n = bound (context, most, max - reserve);; n--) {
    *n_tokens = prompt_length (context, n);
    if (*n_tokens + reserve <= max) {
      *n_shown = n;
      *max_new_tokens = (guint) MIN (context->max_new_tokens, max - *n_tokens);
      return TRUE;
    }
    if (n <= 1)
      return FALSE;
  }
}
