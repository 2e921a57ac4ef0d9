/* backlog.c - the bounded queue in front of the model.
 * SPDX-License-Identifier: Apache-2.0 */
#include "backlog.h"

void
valley_backlog_init (ValleyBacklog *backlog, GDestroyNotify free_picture,
                     GDestroyNotify free_window)
{
  *backlog = (ValleyBacklog){ .max_bytes = G_MAXSIZE,
                              .max_windows = G_MAXUINT,
                              .free_picture = free_picture,
                              .free_window = free_window };
  g_queue_init (&backlog->items);
}

static void
drop_item (ValleyBacklog *backlog, ValleyBacklogItem *item)
{
  if (item->picture != NULL)
    backlog->free_picture (item->picture);
  if (item->window != NULL)
    backlog->free_window (item->window);
}

void
valley_backlog_clear (ValleyBacklog *backlog)
{
  ValleyBacklogItem item;

  while (valley_backlog_pop (backlog, &item))
    drop_item (backlog, &item);
}

void
valley_backlog_add_frame (ValleyBacklog *backlog, gpointer picture, gsize bytes,
                          const ValleyWindowFrame *frame, const ValleyBacklogSetup *setup)
{
  ValleyBacklogItem *item = g_new0 (ValleyBacklogItem, 1);

  *item
      = (ValleyBacklogItem){ .picture = picture, .bytes = bytes, .frame = *frame, .setup = *setup };
  backlog->bytes += bytes;
  g_queue_push_tail (&backlog->items, item);
}

void
valley_backlog_add_window (ValleyBacklog *backlog, ValleyWindow *window)
{
  ValleyBacklogItem *item = g_new0 (ValleyBacklogItem, 1);

  item->window = window;
  backlog->n_windows++;
  g_queue_push_tail (&backlog->items, item);
}

static void
unlink_item (ValleyBacklog *backlog, GList *link, ValleyBacklogItem *out)
{
  ValleyBacklogItem *item = link->data;

  *out = *item;
  if (item->window != NULL)
    backlog->n_windows--;
  backlog->bytes -= item->bytes;
  g_queue_delete_link (&backlog->items, link);
  g_free (item);
}

gboolean
valley_backlog_pop (ValleyBacklog *backlog, ValleyBacklogItem *item)
{
  if (backlog->items.head == NULL)
    return FALSE;
  unlink_item (backlog, backlog->items.head, item);
  return TRUE;
}

gboolean
valley_backlog_has_room (const ValleyBacklog *backlog)
{
  return backlog->n_windows < backlog->max_windows && backlog->bytes < backlog->max_bytes;
}

gboolean
valley_backlog_is_over (const ValleyBacklog *backlog)
{
  /* One picture may always wait, however small the bound: else nothing would ever be seen. */
  return backlog->n_windows > backlog->max_windows
         || (backlog->bytes > backlog->max_bytes && backlog->items.length > 1);
}

void
valley_backlog_trim (ValleyBacklog *backlog, guint64 first_needed)
{
  GList *next;

  for (GList *l = backlog->items.head; l != NULL; l = l->next) {
    const ValleyBacklogItem *item = l->data;

    if (item->window != NULL) {
      first_needed = MIN (first_needed, item->window->first_frame);
      break; /* windows wait in order: later ones need later frames */
    }
  }
  for (GList *l = backlog->items.head; l != NULL; l = next) {
    const ValleyBacklogItem *item = l->data;
    ValleyBacklogItem dropped;

    next = l->next;
    if (item->window == NULL && item->frame.number < first_needed) {
      unlink_item (backlog, l, &dropped);
      drop_item (backlog, &dropped);
    }
  }
}

ValleyWindow *
valley_backlog_drop_window (ValleyBacklog *backlog, guint64 first_needed)
{
  for (GList *l = backlog->items.head; l != NULL; l = l->next) {
    const ValleyBacklogItem *item = l->data;
    ValleyBacklogItem dropped;

    if (item->window != NULL) {
      unlink_item (backlog, l, &dropped);
      valley_backlog_trim (backlog, first_needed);
      return dropped.window;
    }
  }
  return NULL;
}
