/* window.c - the grid of frame slots and the windows over it (rules: only the PTS decides
 * continuity; a jump opens one window; captions of overlapping windows never overlap).
 * SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

#define SECOND_NS G_GUINT64_CONSTANT (1000000000)

/* a * b / c without overflow in between; the results here always fit. */
static guint64
scale (guint64 a, guint64 b, guint64 c)
{
  unsigned __int128 value = (unsigned __int128) a * b / c;

  return value > G_MAXUINT64 - 1 ? G_MAXUINT64 - 1 : (guint64) value;
}

static guint64
add (guint64 a, guint64 b)
{
  return a > G_MAXUINT64 - 1 - b ? G_MAXUINT64 - 1 : a + b;
}

static guint64
slots_ns (const ValleyWindowConfig *config, guint64 n)
{
  return scale (n, SECOND_NS * config->rate_d, config->rate_n);
}

guint64
valley_window_config_step_ns (const ValleyWindowConfig *config)
{
  return MAX (slots_ns (config, 1), 1);
}

guint64
valley_window_config_duration_ns (const ValleyWindowConfig *config)
{
  return MAX (config->size > 0 ? slots_ns (config, config->size) : config->duration_ns, 1);
}

guint64
valley_window_config_hop_ns (const ValleyWindowConfig *config)
{
  guint64 duration = valley_window_config_duration_ns (config);
  guint64 shortest = MIN (valley_window_config_step_ns (config), duration);

  /* An overlap as long as the window would never move on: one slot is the least hop. */
  return config->overlap_ns + shortest > duration ? shortest : duration - config->overlap_ns;
}

void
valley_window_config_frames (const ValleyWindowConfig *config, guint *window_frames,
                             guint *hop_frames)
{
  /* What rounding to nanoseconds may have taken off, in a window of the longest size. */
  const guint64 slack_ns = 4096;
  guint64 per = SECOND_NS * config->rate_d;
  guint64 duration = valley_window_config_duration_ns (config);
  guint64 hop = valley_window_config_hop_ns (config);
  guint64 slots = scale (hop + slack_ns, config->rate_n, per);
  guint64 frames = scale (duration - MIN (duration, slack_ns), config->rate_n, per) + 1;

  /* Windows that do not all begin on a slot have a part of one more at their edges. */
  if (slots == 0 || slots_ns (config, slots) + slack_ns < hop)
    frames++;
  if (config->stride > 1) {
    frames = frames / config->stride + 1;
    slots /= config->stride;
  }
  *window_frames = (guint) MIN (frames, G_MAXUINT);
  *hop_frames = (guint) CLAMP (slots, 1, *window_frames);
}

gboolean
valley_window_config_equal (const ValleyWindowConfig *a, const ValleyWindowConfig *b)
{
  return a->rate_n == b->rate_n && a->rate_d == b->rate_d && a->duration_ns == b->duration_ns
         && a->overlap_ns == b->overlap_ns && a->size == b->size && a->stride == b->stride;
}

void
valley_window_clear (ValleyWindow *window)
{
  g_clear_pointer (&window->frames, g_array_unref);
}

void
valley_windows_init (ValleyWindows *windows, gsize box_size)
{
  g_return_if_fail (box_size >= sizeof (ValleyWindow));

  *windows = (ValleyWindows){ .box_size = box_size, .limit = VALLEY_TIME_NONE };
  windows->config = (ValleyWindowConfig){ 2, 1, 2 * SECOND_NS, 0, 0, 0 };
  g_queue_init (&windows->open);
}

void
valley_windows_clear (ValleyWindows *windows)
{
  g_queue_clear (&windows->open);
}

void
valley_windows_configure (ValleyWindows *windows, const ValleyWindowConfig *config)
{
  windows->next_config = *config;
  windows->config_changed = TRUE;
}

static void
lay_grid (ValleyWindows *windows, guint64 base)
{
  if (windows->config_changed)
    windows->config = windows->next_config;
  windows->config_changed = FALSE;
  windows->base = base;
  windows->next_slot = windows->next_step = 0;
  windows->running = TRUE;
}

static ValleyWindow *
open_window (ValleyWindows *windows, guint64 step)
{
  guint64 hop = valley_window_config_hop_ns (&windows->config);
  ValleyWindow *window = g_atomic_rc_box_alloc0 (windows->box_size);

  window->id = windows->next_id++;
  window->epoch = windows->epoch;
  window->start = add (windows->base, scale (step, hop, 1));
  window->end = add (window->start, valley_window_config_duration_ns (&windows->config));
  window->caption_start = window->start;
  if (windows->covered_until > 0) {
    window->caption_start = MAX (window->caption_start, window->end - hop);
    window->caption_start = MAX (window->caption_start, windows->covered_until);
  }
  window->end = MIN (window->end, windows->limit);
  window->caption_start = MIN (window->caption_start, window->end);
  window->first_frame = windows->next_frame;
  window->frames = g_array_new (FALSE, FALSE, sizeof (guint64));
  windows->covered_until = MAX (windows->covered_until, window->end);
  windows->next_step = step + 1;
  g_queue_push_tail (&windows->open, window);
  return window;
}

static gboolean
slot_is_due (ValleyWindows *windows, guint64 pts)
{
  const ValleyWindowConfig *config = &windows->config;
  guint64 stride = MAX (config->stride, 1), passed;

  if (pts < add (windows->base, slots_ns (config, windows->next_slot)))
    return FALSE;
  /* Slots that went by without a frame are not made up for.  Rounding may put `passed` one
   * too low; a slot is still never used twice. */
  passed = scale (pts - windows->base, config->rate_n, SECOND_NS * config->rate_d);
  windows->next_slot = (MAX (windows->next_slot, passed) / stride + 1) * stride;
  return TRUE;
}

static gboolean
is_jump (const ValleyWindows *windows, guint64 pts)
{
  return pts < windows->last_pts
         || pts - windows->last_pts > valley_window_config_duration_ns (&windows->config);
}

void
valley_windows_frame (ValleyWindows *windows, guint64 pts, guint64 end, ValleyWindowStep *step)
{
  guint64 index;

  *step = (ValleyWindowStep){ .closed = G_QUEUE_INIT };
  if (windows->running && is_jump (windows, pts)) {
    step->reset = TRUE;
    step->backwards = pts < windows->last_pts;
    valley_windows_cut (windows, &step->closed);
  }
  valley_windows_advance (windows, pts, &step->closed);
  if (!windows->running)
    lay_grid (windows, pts);
  windows->last_pts = pts;
  windows->last_end = MAX (end, add (pts, 1));

  index = (pts - windows->base) / valley_window_config_hop_ns (&windows->config);
  if (index >= windows->next_step) {
    if (windows->config_changed) {
      lay_grid (windows, pts);
      index = 0;
    }
    step->opened = open_window (windows, index);
  }
  step->due = slot_is_due (windows, pts) && windows->open.length > 0;
}

gboolean
valley_windows_take (ValleyWindows *windows, guint64 pts, ValleyWindowFrame *frame)
{
  ValleyWindow *oldest = NULL;

  *frame = (ValleyWindowFrame){ .epoch = windows->epoch };
  for (GList *l = windows->open.head; l != NULL; l = l->next) {
    ValleyWindow *window = l->data;

    if (window->frames->len == 0) {
      window->first_frame = windows->next_frame;
      frame->begins = TRUE;
    }
    g_array_append_val (window->frames, pts);
    if (oldest == NULL)
      oldest = window;
  }
  if (oldest == NULL)
    return FALSE;
  frame->number = windows->next_frame++;
  frame->keep_from = g_array_index (oldest->frames, guint64, 0);
  return TRUE;
}

void
valley_windows_advance (ValleyWindows *windows, guint64 time, GQueue *closed)
{
  ValleyWindow *window;

  while ((window = g_queue_peek_head (&windows->open)) != NULL && window->end <= time)
    g_queue_push_tail (closed, g_queue_pop_head (&windows->open));
}

void
valley_windows_cut (ValleyWindows *windows, GQueue *closed)
{
  gboolean first = TRUE;
  ValleyWindow *window;

  while ((window = g_queue_pop_head (&windows->open)) != NULL) {
    window->cut = TRUE;
    window->end = CLAMP (windows->last_end, window->start, window->end);
    window->caption_start = MIN (window->caption_start, window->end);
    /* All of them end here, so the oldest one holds the others' frames. */
    window->covered = !first;
    first = first && window->frames->len == 0;
    g_queue_push_tail (closed, window);
  }
  valley_windows_reset (windows);
}

ValleyWindow *
valley_windows_abandon (ValleyWindows *windows)
{
  return g_queue_pop_head (&windows->open);
}

guint64
valley_windows_first_needed (const ValleyWindows *windows)
{
  const ValleyWindow *oldest = windows->open.head != NULL ? windows->open.head->data : NULL;

  return oldest != NULL && oldest->frames->len > 0 ? oldest->first_frame : windows->next_frame;
}

void
valley_windows_reset (ValleyWindows *windows)
{
  g_queue_clear (&windows->open);
  windows->running = FALSE;
  windows->covered_until = 0;
  windows->epoch++;
}
