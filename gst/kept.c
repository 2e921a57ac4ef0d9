/* kept.c - see kept.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kept.h"

static void
free_frame (gpointer data)
{
  ValleyKeptFrame *frame = data;

  valley_picture_unref (frame->picture);
  g_free (frame);
}

void
valley_kept_init (ValleyKept *kept)
{
  g_queue_init (&kept->frames);
}

void
valley_kept_clear (ValleyKept *kept)
{
  g_queue_clear_full (&kept->frames, free_frame);
}

const ValleyKeptFrame *
valley_kept_add (ValleyKept *kept, ValleyPicture *picture, const ValleyWindowFrame *frame,
                 const ValleyBacklogSetup *setup)
{
  ValleyKeptFrame *added = g_new (ValleyKeptFrame, 1);

  *added = (ValleyKeptFrame){ picture, *frame, *setup };
  g_queue_push_tail (&kept->frames, added);
  return added;
}

void
valley_kept_drop_before (ValleyKept *kept, guint64 pts_ns)
{
  const ValleyKeptFrame *first;

  while ((first = g_queue_peek_head (&kept->frames)) != NULL
         && valley_picture_pts_ns (first->picture) < pts_ns)
    free_frame (g_queue_pop_head (&kept->frames));
}
