/* test-window.c - frame slots, windows and the drop policy, on bare numbers.
 * SPDX-License-Identifier: Apache-2.0 */
#include "backlog.h"

#define MS G_GUINT64_CONSTANT (1000000)
#define S (1000 * MS)

typedef struct {
  ValleyWindow window;
  guint64 beyond; /* a box may be larger than a window */
} Box;

typedef struct {
  ValleyWindows windows;
  GQueue boxes;  /* every window ever opened */
  GQueue closed; /* those that ended, in order */
} Rig;

static void
unref_box (gpointer box)
{
  g_atomic_rc_box_release_full (box, (GDestroyNotify) valley_window_clear);
}

static Rig *
rig_new (guint duration_ms, guint overlap_ms, guint size)
{
  Rig *rig = g_new0 (Rig, 1);
  ValleyWindowConfig config = { 2, 1, duration_ms * MS, overlap_ms * MS, size, 0 };

  valley_windows_init (&rig->windows, sizeof (Box));
  valley_windows_configure (&rig->windows, &config);
  return rig;
}

static void
rig_free (Rig *rig)
{
  valley_windows_clear (&rig->windows);
  g_queue_clear (&rig->closed);
  g_queue_clear_full (&rig->boxes, unref_box);
  g_free (rig);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Rig, rig_free)

static void
append (GQueue *to, GQueue *from)
{
  gpointer item;

  while ((item = g_queue_pop_head (from)) != NULL)
    g_queue_push_tail (to, item);
}

/* One frame of 100 ms; takes it if it is due, as the element does. */
static ValleyWindowStep
frame (Rig *rig, guint64 pts)
{
  ValleyWindowStep step;
  ValleyWindowFrame taken;

  valley_windows_frame (&rig->windows, pts, pts + 100 * MS, &step);
  append (&rig->closed, &step.closed);
  if (step.opened != NULL)
    g_queue_push_tail (&rig->boxes, step.opened);
  if (step.due)
    g_assert_true (valley_windows_take (&rig->windows, pts, &taken));
  return step;
}

static void
span (Rig *rig, guint64 from, guint64 to)
{
  for (guint64 pts = from; pts < to; pts += 100 * MS)
    frame (rig, pts);
}

static void
cut (Rig *rig)
{
  GQueue closed = G_QUEUE_INIT;

  valley_windows_cut (&rig->windows, &closed);
  append (&rig->closed, &closed);
}

/* Asserts the next closed window; frames in ms, ended by -1. */
static void
expect (Rig *rig, guint64 start, guint64 end, guint64 caption_start, const gint *frames_ms)
{
  const ValleyWindow *window = g_queue_pop_head (&rig->closed);

  g_assert_nonnull (window);
  g_assert_cmpuint (window->start, ==, start);
  g_assert_cmpuint (window->end, ==, end);
  g_assert_cmpuint (window->caption_start, ==, caption_start);
  for (guint i = 0; i < window->frames->len; i++)
    g_assert_cmpint ((gint) (g_array_index (window->frames, guint64, i) / MS), ==, frames_ms[i]);
  g_assert_cmpint (frames_ms[window->frames->len], ==, -1);
}

#define FRAMES(...) ((const gint[]){ __VA_ARGS__, -1 })
#define NO_FRAMES ((const gint[]){ -1 })

static void
test_tumbling (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);

  span (rig, 700 * MS, 4800 * MS); /* the grid starts with the first frame, not with 0 */
  expect (rig, 700 * MS, 2700 * MS, 700 * MS, FRAMES (700, 1200, 1700, 2200));
  expect (rig, 2700 * MS, 4700 * MS, 2700 * MS, FRAMES (2700, 3200, 3700, 4200));
  g_assert_null (g_queue_pop_head (&rig->closed));
  cut (rig);
  expect (rig, 4700 * MS, 4800 * MS, 4700 * MS, FRAMES (4700));
}

/* The first frame at or past a slot is taken; a slot without one is not made up for. */
static void
test_slots (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);

  g_assert_true (frame (rig, 0).due);
  g_assert_false (frame (rig, 499 * MS).due);
  g_assert_true (frame (rig, 501 * MS).due);
  g_assert_false (frame (rig, 999 * MS).due);
  g_assert_true (frame (rig, 1700 * MS).due); /* the slots at 1000 and 1500 */
  g_assert_false (frame (rig, 1800 * MS).due);
  g_assert_true (frame (rig, 2000 * MS).due);
}

/* A slot is used once even where its time is not a whole number of nanoseconds. */
static void
test_rounded_slots (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);
  ValleyWindowConfig config = { 30000, 1001, 2 * S, 0, 0, 0 };
  guint due = 0;

  valley_windows_configure (&rig->windows, &config);
  for (guint i = 0; i < 3000; i++) {
    due += frame (rig, (guint64) i * S * 1001 / 30000).due;
    due += frame (rig, (guint64) i * S * 1001 / 30000 + 1).due;
  }
  g_assert_cmpuint (due, ==, 3000);
}

static void
test_overlap (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 1000, 0);

  span (rig, 0, 3500 * MS);
  expect (rig, 0, 2 * S, 0, FRAMES (0, 500, 1000, 1500));
  expect (rig, 1 * S, 3 * S, 2 * S, FRAMES (1000, 1500, 2000, 2500));
  cut (rig);
  expect (rig, 2 * S, 3500 * MS, 3 * S, FRAMES (2000, 2500, 3000));
  g_assert_true (((ValleyWindow *) rig->closed.head->data)->covered);
}

/* An overlap as long as the window, or longer, still moves on by a slot. */
static void
test_absurd_overlap (void)
{
  ValleyWindowConfig config = { 2, 1, 2 * S, 5 * S, 0, 0 };

  g_assert_cmpuint (valley_window_config_hop_ns (&config), ==, 500 * MS);
  config.overlap_ns = G_MAXUINT64 / 4;
  g_assert_cmpuint (valley_window_config_hop_ns (&config), ==, 500 * MS);
  config.duration_ns = 100 * MS; /* shorter than a slot */
  g_assert_cmpuint (valley_window_config_hop_ns (&config), ==, 100 * MS);
}

static void
test_size (void)
{
  g_autoptr (Rig) rig = rig_new (60000, 0, 3);

  span (rig, 0, 3100 * MS);
  expect (rig, 0, 1500 * MS, 0, FRAMES (0, 500, 1000));
  expect (rig, 1500 * MS, 3 * S, 1500 * MS, FRAMES (1500, 2000, 2500));
}

static void
test_backwards (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);
  ValleyWindowStep step;

  span (rig, 10 * S, 11 * S);
  step = frame (rig, 5 * S);
  g_assert_true (step.reset && step.backwards && step.due);
  expect (rig, 10 * S, 11 * S, 10 * S, FRAMES (10000, 10500));
  span (rig, 5100 * MS, 7100 * MS);
  expect (rig, 5 * S, 7 * S, 5 * S, FRAMES (5000, 5500, 6000, 6500));
}

/* Forward by more than a window: one new window, on a grid of its own. */
static void
test_jump (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 1500, 0);
  guint before;
  ValleyWindowStep step;

  span (rig, 0, 300 * MS);
  before = rig->boxes.length;
  step = frame (rig, 90300 * MS);
  g_assert_true (step.reset && !step.backwards && step.due);
  g_assert_cmpuint (rig->boxes.length, ==, before + 1);
  expect (rig, 0, 300 * MS, 0, FRAMES (0));
  cut (rig);
  expect (rig, 90300 * MS, 90400 * MS, 90300 * MS, FRAMES (90300));
}

/* Forward by less than a window stays on the grid and opens one window, not one a step. */
static void
test_gap_within (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 1500, 0);
  guint before;

  span (rig, 0, 200 * MS);
  before = rig->boxes.length;
  g_assert_false (frame (rig, 1900 * MS).reset);
  g_assert_cmpuint (rig->boxes.length, ==, before + 1);
}

static void
test_epochs (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);
  const ValleyWindow *first, *second;

  frame (rig, 0);
  frame (rig, 50 * S);
  first = rig->boxes.head->data;
  second = rig->boxes.head->next->data;
  g_assert_cmpuint (first->epoch, !=, second->epoch);
  g_assert_cmpuint (first->id + 1, ==, second->id);
  g_assert_cmpuint (second->first_frame, ==, 1);
}

static void
test_limit (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);

  rig->windows.limit = 2500 * MS;
  span (rig, 0, 2500 * MS);
  expect (rig, 0, 2 * S, 0, FRAMES (0, 500, 1000, 1500));
  cut (rig);
  expect (rig, 2 * S, 2500 * MS, 2 * S, FRAMES (2000));
}

/* The clock or a gap closes a window; frames that come too late for it are not taken. */
static void
test_advance (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);
  GQueue closed = G_QUEUE_INIT;

  span (rig, 0, 600 * MS);
  valley_windows_advance (&rig->windows, 1999 * MS, &closed);
  g_assert_cmpuint (closed.length, ==, 0);
  valley_windows_advance (&rig->windows, 2000 * MS, &closed);
  append (&rig->closed, &closed);
  expect (rig, 0, 2 * S, 0, FRAMES (0, 500));
  g_assert_false (frame (rig, 1700 * MS).due);
  g_assert_true (frame (rig, 2100 * MS).due);
  cut (rig);
  expect (rig, 2 * S, 2200 * MS, 2 * S, FRAMES (2100));
}

static void
test_reconfigure (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);
  ValleyWindowConfig config = { 1, 1, 1 * S, 0, 0, 0 };

  span (rig, 0, 1 * S);
  valley_windows_configure (&rig->windows, &config);
  span (rig, 1 * S, 3100 * MS);
  expect (rig, 0, 2 * S, 0, FRAMES (0, 500, 1000, 1500)); /* the open window keeps its rate */
  expect (rig, 2 * S, 3 * S, 2 * S, FRAMES (2000));
}

/* With overlap a new grid begins while old windows are open: captions still do not overlap. */
static void
test_reconfigure_overlap (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 1000, 0);
  ValleyWindowConfig config = { 2, 1, 3 * S, 0, 0, 0 };

  span (rig, 0, 1500 * MS);
  valley_windows_configure (&rig->windows, &config);
  span (rig, 1500 * MS, 5100 * MS);
  expect (rig, 0, 2 * S, 0, FRAMES (0, 500, 1000, 1500));
  expect (rig, 1 * S, 3 * S, 2 * S, FRAMES (1000, 1500, 2000, 2500));
  expect (rig, 2 * S, 5 * S, 3 * S, FRAMES (2000, 2500, 3000, 3500, 4000, 4500));
}

/* Times near the end of the scale do not wrap. */
static void
test_huge_times (void)
{
  g_autoptr (Rig) rig = rig_new (2000, 0, 0);
  guint64 base = G_MAXUINT64 - 3 * S;

  frame (rig, base);
  frame (rig, base + S);
  frame (rig, base + 2 * S);
  expect (rig, base, base + 2 * S, base, FRAMES ((gint) (base / MS), (gint) ((base + S) / MS)));
}

/* Of a window of too many slots only some are used; where it begins and ends stays the same. */
static void
test_stride (void)
{
  g_autoptr (Rig) rig = rig_new (4000, 3000, 0);
  ValleyWindowConfig config = { 2, 1, 4000 * MS, 3000 * MS, 0, 3 };
  guint window, hop;

  valley_windows_configure (&rig->windows, &config);
  span (rig, 0, 2200 * MS);
  span (rig, 3300 * MS, 6100 * MS); /* the slot at 3 s is taken late, the next is not moved */
  expect (rig, 0, 4000 * MS, 0, FRAMES (0, 1500, 3300));
  expect (rig, 1000 * MS, 5000 * MS, 4000 * MS, FRAMES (1500, 3300, 4500));
  expect (rig, 2000 * MS, 6000 * MS, 5000 * MS, FRAMES (3300, 4500));
  valley_window_config_frames (&config, &window, &hop);
  g_assert_cmpuint (window, ==, 3);
  g_assert_cmpuint (hop, ==, 1);
}

/* The first frame of every window is marked, and no other. */
static void
test_begins (void)
{
  static const gboolean expected[] = { TRUE, FALSE, TRUE, FALSE, TRUE, FALSE };
  g_autoptr (Rig) rig = rig_new (2000, 1000, 0);

  for (guint i = 0; i < G_N_ELEMENTS (expected); i++) {
    ValleyWindowStep step;
    ValleyWindowFrame taken;

    valley_windows_frame (&rig->windows, i * 500 * MS, (i + 1) * 500 * MS, &step);
    append (&rig->closed, &step.closed);
    if (step.opened != NULL)
      g_queue_push_tail (&rig->boxes, step.opened);
    g_assert_true (step.due);
    g_assert_true (valley_windows_take (&rig->windows, i * 500 * MS, &taken));
    g_assert_cmpuint (taken.number, ==, i);
    g_assert_cmpint (taken.begins, ==, expected[i]);
  }
}

/* What the model has to have room for, against what windows then really have. */
static void
test_config_frames (void)
{
  static const struct {
    ValleyWindowConfig config;
    guint window, hop;
  } cases[] = {
    { { 2, 1, 2000 * MS, 0, 0, 0 }, 4, 4 },
    { { 2, 1, 2000 * MS, 1500 * MS, 0, 0 }, 4, 1 },
    { { 2, 1, 2000 * MS, 60000 * MS, 0, 0 }, 4, 1 }, /* one slot is the least hop */
    { { 2, 1, 2000 * MS, 1250 * MS, 0, 0 }, 5, 1 },  /* 750 ms: windows begin between slots */
    { { 2, 1, 100 * MS, 0, 0, 0 }, 2, 1 }, /* shorter than a slot, around whose edge it may lie */
    { { 30, 1, 2000 * MS, 1500 * MS, 3, 0 }, 3, 1 }, /* 33.3 ms are no whole nanoseconds */
    { { 30, 1, 100 * MS, 0, 0, 0 }, 3, 3 },
    { { 30000, 1001, 0, 0, 1800, 0 }, 1800, 1800 },
    { { 2, 1, 8000 * MS, 7500 * MS, 16, 0 }, 16, 1 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    guint window, hop;

    valley_window_config_frames (&cases[i].config, &window, &hop);
    g_test_message ("case %u", i);
    g_assert_cmpuint (hop, ==, cases[i].hop);
    g_assert_cmpuint (window, ==, cases[i].window);
  }
}

/* ---- backlog -------------------------------------------------------------- */

static guint n_freed_pictures;

static void
free_picture (gpointer picture)
{
  n_freed_pictures++;
}

static ValleyWindow *
box_new (guint64 id, guint64 first_frame, guint n_frames)
{
  ValleyWindow *window = g_atomic_rc_box_alloc0 (sizeof (Box));

  window->id = id;
  window->first_frame = first_frame;
  window->frames = g_array_new (FALSE, TRUE, sizeof (guint64));
  g_array_set_size (window->frames, n_frames);
  return window;
}

static void
backlog_begin (ValleyBacklog *backlog, gsize max_bytes, guint max_windows)
{
  n_freed_pictures = 0;
  valley_backlog_init (backlog, free_picture, unref_box);
  backlog->max_bytes = max_bytes;
  backlog->max_windows = max_windows;
}

static void
add_frames (ValleyBacklog *backlog, guint64 from, guint64 to)
{
  for (guint64 i = from; i < to; i++) {
    ValleyWindowFrame frame = { .number = i };
    ValleyBacklogSetup setup = { .change_threshold = 0 };

    valley_backlog_add_frame (backlog, GUINT_TO_POINTER (i + 1), 10, &frame, &setup);
  }
}

static void
test_backlog_order (void)
{
  ValleyBacklog backlog;
  ValleyBacklogItem item;

  backlog_begin (&backlog, 1000, 10);
  add_frames (&backlog, 0, 2);
  valley_backlog_add_window (&backlog, box_new (7, 0, 2));
  add_frames (&backlog, 2, 3);
  g_assert_cmpuint (backlog.bytes, ==, 30);
  for (guint i = 0; i < 4; i++) {
    g_assert_true (valley_backlog_pop (&backlog, &item));
    g_assert_cmpint (item.window != NULL, ==, i == 2);
    if (item.window != NULL) {
      g_assert_cmpuint (item.window->id, ==, 7);
      unref_box (item.window);
    }
  }
  g_assert_false (valley_backlog_pop (&backlog, &item));
  g_assert_cmpuint (backlog.bytes + backlog.n_windows, ==, 0);
}

static void
test_backlog_bounds (void)
{
  ValleyBacklog backlog;

  backlog_begin (&backlog, 35, 2);
  add_frames (&backlog, 0, 3);
  g_assert_true (valley_backlog_has_room (&backlog));
  add_frames (&backlog, 3, 4);
  g_assert_false (valley_backlog_has_room (&backlog));
  g_assert_true (valley_backlog_is_over (&backlog));
  valley_backlog_clear (&backlog);
  g_assert_cmpuint (n_freed_pictures, ==, 4);

  valley_backlog_add_window (&backlog, box_new (0, 0, 1));
  valley_backlog_add_window (&backlog, box_new (1, 1, 1));
  g_assert_false (valley_backlog_has_room (&backlog));
  g_assert_false (valley_backlog_is_over (&backlog));
  valley_backlog_add_window (&backlog, box_new (2, 2, 1));
  g_assert_true (valley_backlog_is_over (&backlog));
  valley_backlog_clear (&backlog);

  backlog.max_bytes = 1; /* one picture is let through all the same */
  add_frames (&backlog, 0, 1);
  g_assert_false (valley_backlog_is_over (&backlog));
  valley_backlog_clear (&backlog);
}

static void
test_backlog_drop (void)
{
  ValleyBacklog backlog;
  ValleyWindow *dropped;

  backlog_begin (&backlog, 1000, 10);
  add_frames (&backlog, 0, 4);
  valley_backlog_add_window (&backlog, box_new (0, 0, 4));
  add_frames (&backlog, 4, 6);
  valley_backlog_add_window (&backlog, box_new (1, 2, 4)); /* shares frames 2 and 3 */
  add_frames (&backlog, 6, 7);

  dropped = valley_backlog_drop_window (&backlog, 6);
  g_assert_cmpuint (dropped->id, ==, 0);
  unref_box (dropped);
  g_assert_cmpuint (n_freed_pictures, ==, 2);
  dropped = valley_backlog_drop_window (&backlog, 6); /* the open window has 6 on */
  g_assert_cmpuint (dropped->id, ==, 1);
  unref_box (dropped);
  g_assert_cmpuint (n_freed_pictures, ==, 6);
  g_assert_null (valley_backlog_drop_window (&backlog, 6));
  valley_backlog_trim (&backlog, 7);
  g_assert_cmpuint (n_freed_pictures, ==, 7);
  g_assert_cmpuint (backlog.bytes, ==, 0);
}

/* A queue, a grid and random input: captions never overlap, frames belong to their windows. */
static void
test_random (void)
{
  guint32 seed = g_test_rand_int ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);

  g_test_message ("seed %u", seed);
  for (guint round = 0; round < 300; round++) {
    g_autoptr (Rig) rig
        = rig_new (g_rand_int_range (rand, 1, 4000), g_rand_int_range (rand, 0, 5000),
                   g_rand_boolean (rand) ? g_rand_int_range (rand, 1, 9) : 0);
    guint64 pts = g_rand_int_range (rand, 0, 5000) * MS, caption_end = 0, epoch = G_MAXUINT64;
    ValleyWindow *window;

    for (guint i = 0; i < 200; i++) {
      frame (rig, pts);
      pts += g_rand_int_range (rand, 0, 40) > 0 ? g_rand_int_range (rand, 0, 600) * MS
                                                : g_rand_int_range (rand, 0, 9000) * MS;
    }
    cut (rig);
    while ((window = g_queue_pop_head (&rig->closed)) != NULL) {
      g_assert_cmpuint (window->start, <=, window->caption_start);
      g_assert_cmpuint (window->caption_start, <=, window->end);
      if (!window->covered && window->epoch == epoch)
        g_assert_cmpuint (window->caption_start, >=, caption_end);
      for (guint i = 0; i < window->frames->len; i++) {
        guint64 time = g_array_index (window->frames, guint64, i);

        g_assert_true (time >= window->start && time < window->end);
      }
      if (!window->covered)
        caption_end = window->end;
      epoch = window->epoch;
    }
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/window/tumbling", test_tumbling);
  g_test_add_func ("/window/slots", test_slots);
  g_test_add_func ("/window/rounded-slots", test_rounded_slots);
  g_test_add_func ("/window/overlap", test_overlap);
  g_test_add_func ("/window/absurd-overlap", test_absurd_overlap);
  g_test_add_func ("/window/size", test_size);
  g_test_add_func ("/window/backwards", test_backwards);
  g_test_add_func ("/window/jump", test_jump);
  g_test_add_func ("/window/gap-within", test_gap_within);
  g_test_add_func ("/window/epochs", test_epochs);
  g_test_add_func ("/window/limit", test_limit);
  g_test_add_func ("/window/advance", test_advance);
  g_test_add_func ("/window/reconfigure", test_reconfigure);
  g_test_add_func ("/window/reconfigure-overlap", test_reconfigure_overlap);
  g_test_add_func ("/window/huge-times", test_huge_times);
  g_test_add_func ("/window/random", test_random);
  g_test_add_func ("/window/stride", test_stride);
  g_test_add_func ("/window/begins", test_begins);
  g_test_add_func ("/window/config-frames", test_config_frames);
  g_test_add_func ("/backlog/order", test_backlog_order);
  g_test_add_func ("/backlog/bounds", test_backlog_bounds);
  g_test_add_func ("/backlog/drop", test_backlog_drop);
  return g_test_run ();
}
