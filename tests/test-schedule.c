/* test-schedule.c - the window policies' arithmetic, driven by a model that only counts: what
 * every sequence holds, how many frames that cost, and what it is when a window asks.
 * SPDX-License-Identifier: Apache-2.0 */
#include "schedule.h"

#define WINDOWING(policy_, window, hop, ...)                                                       \
  {                                                                                                \
    .policy = policy_, .window_frames = window, .hop_frames = hop, ##__VA_ARGS__                   \
  }

/* What the rows of one sequence would be: the frames that are in it, and whether an evicted
 * frame has left its mark on them. */
typedef struct {
  GArray *frames; /* guint64 */
  gboolean marked;
} Rows;

typedef struct {
  ValleySchedule *schedule;
  GHashTable *rows; /* id -> Rows */
  guint64 *seen;    /* how often each frame was appended, by number; NULL: not counted */
  guint64 shown;    /* frames that windows showed, in all: what recomputing them would prefill */
  guint64 n_frames;
  guint most_sequences;
} Driver;

static void
rows_free (gpointer data)
{
  Rows *rows = data;

  g_array_unref (rows->frames);
  g_free (rows);
}

static Rows *
driver_rows (Driver *driver, guint64 id)
{
  Rows *rows = g_hash_table_lookup (driver->rows, &id);

  if (rows == NULL) {
    rows = g_new0 (Rows, 1);
    rows->frames = g_array_new (FALSE, FALSE, sizeof (guint64));
    g_hash_table_insert (driver->rows, g_memdup2 (&id, sizeof id), rows);
  }
  return rows;
}

static void
driver_init (Driver *driver, const ValleyWindowing *windowing)
{
  *driver = (Driver){ .schedule = valley_schedule_new (windowing) };
  driver->rows = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, rows_free);
}

static void
driver_clear (Driver *driver)
{
  valley_schedule_free (driver->schedule);
  g_hash_table_unref (driver->rows);
  g_free (driver->seen);
}

/* Rows of ended sequences are freed; those of live ones are what the schedule takes them for. */
static void
driver_check (Driver *driver)
{
  GHashTableIter iter;
  gpointer key, value;
  guint64 id;

  while ((id = valley_schedule_take_ended (driver->schedule)) != 0) {
    g_assert_null (valley_schedule_find (driver->schedule, id));
    g_hash_table_remove (driver->rows, &id);
  }
  g_hash_table_iter_init (&iter, driver->rows);
  while (g_hash_table_iter_next (&iter, &key, &value)) {
    const ValleyScheduleSequence *sequence
        = valley_schedule_find (driver->schedule, *(guint64 *) key);
    const Rows *rows = value;

    g_assert_nonnull (sequence);
    g_assert_cmpuint (rows->frames->len, ==, sequence->next - sequence->first);
    for (guint i = 0; i < rows->frames->len; i++)
      g_assert_cmpuint (g_array_index (rows->frames, guint64, i), ==, sequence->first + i);
  }
  for (guint i = 0; i < valley_schedule_n_sequences (driver->schedule); i++) {
    const ValleyScheduleSequence *sequence = valley_schedule_nth (driver->schedule, i);

    if (i > 0) /* a sequence and the one that replaces it begin together at last */
      g_assert_cmpuint (sequence->first, >=, valley_schedule_nth (driver->schedule, i - 1)->first);
  }
  driver->most_sequences
      = MAX (driver->most_sequences, valley_schedule_n_sequences (driver->schedule));
}

static void
driver_do (Driver *driver, const ValleyScheduleUnit *unit)
{
  Rows *rows = driver_rows (driver, unit->sequence);

  g_assert_cmpuint (unit->n_frames, >, 0);
  g_assert_cmpuint (unit->frame, >=, valley_schedule_keep_from (driver->schedule));
  g_assert_cmpuint (unit->frame + unit->n_frames, <=, driver->n_frames);
  g_assert_cmpuint (unit->n_evict, <=, rows->frames->len);
  if (unit->n_evict > 0) {
    g_array_remove_range (rows->frames, 0, unit->n_evict);
    rows->marked = rows->frames->len > 0;
  }
  for (guint i = 0; i < unit->n_frames; i++) {
    guint64 frame = unit->frame + i;

    g_array_append_val (rows->frames, frame);
    if (driver->seen != NULL)
      driver->seen[frame]++;
  }
  valley_schedule_done (driver->schedule, unit);
}

static gboolean
driver_work (Driver *driver)
{
  ValleyScheduleUnit unit;
  gboolean more = valley_schedule_next_unit (driver->schedule, &unit);

  driver_check (driver);
  if (more)
    driver_do (driver, &unit);
  return more;
}

static void
driver_push (Driver *driver, gboolean begins)
{
  g_assert_cmpuint (valley_schedule_push (driver->schedule, begins), ==, driver->n_frames);
  driver->n_frames++;
  driver_check (driver);
}

static void
driver_complete (Driver *driver, guint64 id)
{
  ValleyScheduleUnit unit;

  while (valley_schedule_sequence_unit (driver->schedule, id, &unit)) {
    g_assert_cmpuint (unit.sequence, ==, id);
    driver_do (driver, &unit);
  }
}

/* Asks about [first, newest]; @answer says what was shown. */
static void
driver_ask (Driver *driver, guint64 first, ValleyScheduleAnswer *answer)
{
  const Rows *rows;

  g_assert_true (valley_schedule_ask (driver->schedule, first, answer));
  driver_check (driver);
  driver_complete (driver, answer->sequence);
  driver_check (driver);
  rows = driver_rows (driver, answer->sequence);
  g_assert_cmpuint (rows->frames->len, ==, driver->n_frames - answer->first);
  g_assert_true (answer->exact == !rows->marked);
  if (answer->drifted != 0) {
    driver_complete (driver, answer->drifted);
    g_assert_cmpuint (driver_rows (driver, answer->drifted)->frames->len, ==, rows->frames->len);
    g_assert_true (driver_rows (driver, answer->drifted)->marked);
    g_assert_true (answer->exact);
  }
  driver->shown += rows->frames->len;
}

/* ---- a regular stream ---- */

/* @n_windows windows of W frames, H apart; the work is done as frames come. */
static void
run_regular (Driver *driver, const ValleyWindowing *windowing, guint n_windows)
{
  const guint window = windowing->window_frames, hop = windowing->hop_frames;
  guint64 first = 0; /* of the next window to ask */

  for (guint n = 0; n < n_windows;) {
    ValleyScheduleAnswer answer;

    valley_schedule_drop_before (driver->schedule, first);
    driver_push (driver, driver->n_frames % hop == 0);
    if (driver->n_frames == first + window) {
      driver_ask (driver, first, &answer);
      first += hop;
      n++;
    }
    while (driver_work (driver))
      ;
  }
}

typedef struct {
  const char *name;
  ValleyWindowing windowing;
  double at_least; /* frames shown over frames prefilled */
  guint most_sequences;
} Bar;

#define REGULAR_WINDOWS 512

static const Bar bars[] = {
  { "anchored", WINDOWING (VALLEY_WINDOWS_ANCHORED, 16, 1), 11, 2 },
  { "streaming", WINDOWING (VALLEY_WINDOWS_STREAMING, 16, 1), 12, 2 },
  { "sliding", WINDOWING (VALLEY_WINDOWS_SLIDING, 16, 1), 0.95, 16 },
  { "tumbling", WINDOWING (VALLEY_WINDOWS_TUMBLING, 16, 1), 0.95, 1 },
  { "tumbling-apart", WINDOWING (VALLEY_WINDOWS_TUMBLING, 16, 16), 1, 1 },
  { "sliding-4", WINDOWING (VALLEY_WINDOWS_SLIDING, 16, 4), 0.95, 4 },
  { "anchored-4", WINDOWING (VALLEY_WINDOWS_ANCHORED, 16, 4), 2.8, 2 },
  { "streaming-4", WINDOWING (VALLEY_WINDOWS_STREAMING, 16, 4), 3.5, 2 },
};

static void
test_bar (gconstpointer data)
{
  const Bar *bar = data;
  Driver driver;
  ValleyScheduleCounts counts;
  ValleyWindowingCounts public;
  double ratio, against_fixed;
  GError *error = NULL;

  driver_init (&driver, &bar->windowing);
  run_regular (&driver, &bar->windowing, REGULAR_WINDOWS);
  valley_schedule_counts (driver.schedule, &counts);
  g_assert_cmpuint (counts.asked, ==, REGULAR_WINDOWS);
  g_assert_cmpuint (counts.frames, ==, driver.n_frames);
  ratio = (double) driver.shown / counts.prefilled;
  against_fixed = (double) REGULAR_WINDOWS * bar->windowing.window_frames / counts.prefilled;
  g_test_message ("%s: %.2f frames prefilled a frame, %.2f times fewer than recomputing what it "
                  "showed, %.2f than recomputing W frames each time; %u sequences",
                  bar->name, (double) counts.prefilled / counts.frames, ratio, against_fixed,
                  driver.most_sequences);
  g_assert_cmpfloat (ratio, >=, bar->at_least);
  g_assert_cmpuint (driver.most_sequences, ==, bar->most_sequences);
  g_assert_cmpuint (counts.restarted, ==, 0);
  g_assert_true (valley_windowing_count (&bar->windowing, REGULAR_WINDOWS, &public, &error));
  g_assert_no_error (error);
  g_assert_cmpuint (public.frames_pushed, ==, counts.frames);
  g_assert_cmpuint (public.frames_shown, ==, driver.shown);
  g_assert_cmpuint (public.frames_prefilled, ==, counts.prefilled);
  g_assert_cmpuint (public.exact_restarts, ==, counts.reanchored);
  g_assert_cmpuint (public.most_sequences, ==, driver.most_sequences);
  if (bar->windowing.policy == VALLEY_WINDOWS_STREAMING)
    g_assert_cmpuint (counts.reanchored, ==, (REGULAR_WINDOWS - 1) / 64);
  driver_clear (&driver);
}

/* In a regular stream of overlapping windows the contents are what the policy's name says. */
static void
test_contents (void)
{
  const guint W = 8;

  for (guint hop = 1; hop <= W; hop++)
    for (guint policy = 0; policy <= VALLEY_WINDOWS_STREAMING; policy++) {
      ValleyWindowing windowing = WINDOWING (policy, W, hop, .reanchor_hops = 5);
      guint64 first = 0, fewest = G_MAXUINT64, most = 0;
      guint n_drifted = 0, n_approximate = 0;
      ValleyScheduleCounts counts;
      Driver driver;

      driver_init (&driver, &windowing);
      for (guint n = 0; n < 100;) {
        ValleyScheduleAnswer answer;

        valley_schedule_drop_before (driver.schedule, first);
        driver_push (&driver, driver.n_frames % hop == 0);
        while (driver_work (&driver))
          ;
        if (driver.n_frames < first + W)
          continue;
        driver_ask (&driver, first, &answer);
        g_assert_cmpuint (answer.first, <=, first);
        fewest = MIN (fewest, driver.n_frames - answer.first);
        most = MAX (most, driver.n_frames - answer.first);
        n_drifted += answer.drifted != 0;
        n_approximate += !answer.exact;
        first += hop;
        n++;
      }
      valley_schedule_counts (driver.schedule, &counts);
      g_assert_cmpuint (fewest, ==, W);
      if (policy == VALLEY_WINDOWS_ANCHORED) {
        g_assert_cmpuint (most, <=, 2 * W);
        g_assert_cmpuint (most, >, 2 * W - hop);
      } else {
        g_assert_cmpuint (most, ==, W);
      }
      /* Windows that share nothing are all exact. */
      if (policy == VALLEY_WINDOWS_STREAMING && hop < W) {
        g_assert_cmpuint (n_drifted, ==, 99 / 5);
        g_assert_cmpuint (counts.reanchored, ==, 99 / 5);
        g_assert_cmpuint (n_approximate, ==, 100 - 1 - 99 / 5);
      } else {
        g_assert_cmpuint (n_drifted, ==, 0);
        g_assert_cmpuint (n_approximate, ==, 0);
      }
      driver_clear (&driver);
    }
}

static void
test_each_frame_once (void)
{
  const guint n_windows = 300, W = 16;

  /* Tumbling, anchored and streaming know beforehand how often a frame is prefilled. */
  static const ValleyWindowing windowings[]
      = { WINDOWING (VALLEY_WINDOWS_TUMBLING, 16, 16), WINDOWING (VALLEY_WINDOWS_ANCHORED, 16, 1),
          WINDOWING (VALLEY_WINDOWS_SLIDING, 16, 4), WINDOWING (VALLEY_WINDOWS_STREAMING, 16, 1) };
  static const guint most[] = { 1, 2, 4, 2 };

  for (gsize i = 0; i < G_N_ELEMENTS (windowings); i++) {
    Driver driver;

    driver_init (&driver, &windowings[i]);
    driver.seen = g_new0 (guint64, (n_windows + 1) * W);
    run_regular (&driver, &windowings[i], n_windows);
    for (guint64 frame = 0; frame < driver.n_frames; frame++) {
      g_assert_cmpuint (driver.seen[frame], >=, 1);
      g_assert_cmpuint (driver.seen[frame], <=, most[i]);
    }
    driver_clear (&driver);
  }
}

/* ---- the order of work ---- */

static void
test_urgent_first (void)
{
  ValleyWindowing windowing = WINDOWING (VALLEY_WINDOWS_SLIDING, 4, 1);
  Driver driver;
  ValleyScheduleAnswer answer;
  guint64 last = 0;

  driver_init (&driver, &windowing);
  for (guint i = 0; i < 4; i++)
    driver_push (&driver, TRUE);
  /* Windows at 0, 1, 2, 3 wait with 4 + 3 + 2 + 1 frames: the closing one is served alone. */
  driver_ask (&driver, 0, &answer);
  g_assert_cmpuint (answer.first, ==, 0);
  g_assert_cmpuint (valley_schedule_n_sequences (driver.schedule), ==, 4);
  for (guint i = 1; i < 4; i++)
    g_assert_cmpuint (valley_schedule_nth (driver.schedule, i)->next, ==, i);
  /* The others catch up, the next one to close first. */
  for (guint n = 0; n < 6; n++) {
    ValleyScheduleUnit unit;

    g_assert_true (valley_schedule_next_unit (driver.schedule, &unit));
    g_assert_cmpuint (unit.sequence, >=, last);
    g_assert_cmpuint (unit.n_frames, ==, 1);
    last = unit.sequence;
    driver_check (&driver);
    driver_do (&driver, &unit);
  }
  g_assert_false (driver_work (&driver));
  driver_clear (&driver);
}

/* Several questions about one window meet one sequence, with nothing left to prefill. */
static void
test_several_questions (void)
{
  for (guint policy = 0; policy <= VALLEY_WINDOWS_STREAMING; policy++) {
    ValleyWindowing windowing = WINDOWING (policy, 3, 1, .reanchor_hops = 2);
    Driver driver;

    driver_init (&driver, &windowing);
    for (guint n = 0; n < 20; n++) {
      ValleyScheduleAnswer answer, again;
      ValleyScheduleUnit unit;
      ValleyScheduleCounts counts;
      guint64 first = n < 3 ? 0 : n - 2;

      valley_schedule_drop_before (driver.schedule, first);
      driver_push (&driver, TRUE);
      if (n < 2)
        continue;
      driver_ask (&driver, first, &answer);
      for (guint i = 0; i < 3; i++) {
        g_assert_true (valley_schedule_ask (driver.schedule, first, &again));
        g_assert_cmpuint (again.sequence, ==, answer.sequence);
        g_assert_cmpuint (again.first, ==, answer.first);
        g_assert_cmpuint (again.drifted, ==, 0); /* one sample a window */
        g_assert_false (valley_schedule_sequence_unit (driver.schedule, again.sequence, &unit));
      }
      valley_schedule_counts (driver.schedule, &counts);
      g_assert_cmpuint (counts.asked, ==, n - 1);
    }
    driver_clear (&driver);
  }
}

/* Without any mark, a window that is asked again and again as it grows is only added to. */
static void
test_growing (void)
{
  for (guint policy = 0; policy <= VALLEY_WINDOWS_SLIDING; policy++) {
    ValleyWindowing windowing = WINDOWING (policy, 20, 20);
    ValleyScheduleCounts counts;
    Driver driver;

    driver_init (&driver, &windowing);
    for (guint n = 0; n < 20; n++) {
      ValleyScheduleAnswer answer;

      driver_push (&driver, FALSE);
      driver_ask (&driver, 0, &answer);
      g_assert_cmpuint (answer.first, ==, 0);
    }
    valley_schedule_counts (driver.schedule, &counts);
    g_assert_cmpuint (counts.prefilled, ==, 20);
    driver_clear (&driver);
  }
}

/* ---- breaks ---- */

/* Where windows overlap, one that needs no older frame tells that the stream broke off. */
static void
test_break (void)
{
  for (guint policy = 0; policy <= VALLEY_WINDOWS_STREAMING; policy++) {
    ValleyWindowing windowing = WINDOWING (policy, 4, 2);
    ValleyScheduleAnswer answer;
    Driver driver;

    driver_init (&driver, &windowing);
    for (guint i = 0; i < 7; i++)
      driver_push (&driver, i % 2 == 0);
    valley_schedule_drop_before (driver.schedule, 7);
    driver_check (&driver);
    g_assert_cmpuint (valley_schedule_n_sequences (driver.schedule), ==, 0);
    g_assert_cmpuint (valley_schedule_keep_from (driver.schedule), ==, 7);
    g_assert_false (valley_schedule_ask (driver.schedule, 6, &answer));
    driver_push (&driver, TRUE);
    driver_ask (&driver, 7, &answer);
    g_assert_cmpuint (answer.first, ==, 7);
    driver_clear (&driver);
  }
}

static void
test_reset (void)
{
  for (guint policy = 0; policy <= VALLEY_WINDOWS_STREAMING; policy++) {
    ValleyWindowing windowing = WINDOWING (policy, 4, 2);
    ValleyScheduleAnswer answer;
    ValleyScheduleUnit unit;
    Driver driver;

    driver_init (&driver, &windowing);
    g_assert_false (valley_schedule_ask (driver.schedule, 0, &answer));
    g_assert_false (valley_schedule_next_unit (driver.schedule, &unit));
    for (guint i = 0; i < 7; i++)
      driver_push (&driver, i % 2 == 0);
    driver_ask (&driver, 4, &answer);
    valley_schedule_reset (driver.schedule);
    driver_check (&driver);
    g_assert_false (valley_schedule_next_unit (driver.schedule, &unit));
    g_assert_false (valley_schedule_ask (driver.schedule, 6, &answer));
    g_assert_cmpuint (valley_schedule_keep_from (driver.schedule), ==, 7);
    driver_push (&driver, FALSE); /* not marked: it begins a window all the same */
    g_assert_true (valley_schedule_next_unit (driver.schedule, &unit));
    driver_clear (&driver);
  }
}

/* ---- rows that are lost ---- */

static void
test_victims (void)
{
  ValleyWindowing windowing = WINDOWING (VALLEY_WINDOWS_SLIDING, 3, 1);
  ValleyScheduleAnswer answer;
  guint64 victim, kept;
  Driver driver;

  driver_init (&driver, &windowing);
  g_assert_cmpuint (valley_schedule_next_victim (driver.schedule), ==, 0);
  for (guint i = 0; i < 3; i++)
    driver_push (&driver, TRUE);
  while (driver_work (&driver))
    ;
  driver_ask (&driver, 0, &answer);
  kept = answer.sequence;
  for (guint i = 2; i > 0; i--) {
    victim = valley_schedule_next_victim (driver.schedule);
    g_assert_cmpuint (victim, ==, valley_schedule_nth (driver.schedule, i)->id);
    g_array_set_size (driver_rows (&driver, victim)->frames, 0);
    valley_schedule_park (driver.schedule, victim);
    driver_check (&driver);
  }
  g_assert_cmpuint (valley_schedule_next_victim (driver.schedule), ==, 0);
  g_assert_nonnull (valley_schedule_find (driver.schedule, kept));
  /* Idle work leads to the next sequence now that the first is over, but not to the one after
   * it: memory has just been found too short for that. */
  valley_schedule_drop_before (driver.schedule, 1);
  while (driver_work (&driver))
    ;
  g_assert_cmpuint (valley_schedule_next_victim (driver.schedule), ==, 0); /* needed first */
  g_assert_cmpuint (valley_schedule_n_sequences (driver.schedule), ==, 2);
  g_assert_cmpuint (valley_schedule_nth (driver.schedule, 0)->next, ==, 3);
  g_assert_cmpuint (valley_schedule_nth (driver.schedule, 1)->next, ==, 2);
  driver_clear (&driver);
}

static void
test_give_up (void)
{
  ValleyWindowing windowing = WINDOWING (VALLEY_WINDOWS_TUMBLING, 0, 0);
  ValleyScheduleAnswer answer;
  Driver driver;

  driver_init (&driver, &windowing);
  driver_push (&driver, TRUE);
  g_assert_true (driver_work (&driver));
  valley_schedule_give_up (driver.schedule, valley_schedule_nth (driver.schedule, 0)->id);
  g_hash_table_remove_all (driver.rows);
  driver_push (&driver, FALSE);
  g_assert_true (valley_schedule_ask (driver.schedule, 0, &answer));
  g_assert_true (answer.given_up);
  g_assert_cmpuint (answer.first, ==, 0);
  g_assert_false (driver_work (&driver));
  /* The next window is another sequence. */
  valley_schedule_drop_before (driver.schedule, 2);
  driver_push (&driver, TRUE);
  driver_ask (&driver, 2, &answer);
  g_assert_false (answer.given_up);
  driver_clear (&driver);
}

/* ---- random schedules ---- */

static void
lose_one (Driver *driver, GRand *rand)
{
  guint n = valley_schedule_n_sequences (driver->schedule);
  guint64 id;

  if (n == 0)
    return;
  id = valley_schedule_nth (driver->schedule, g_rand_int_range (rand, 0, n))->id;
  if (g_rand_boolean (rand))
    valley_schedule_park (driver->schedule, id);
  else
    valley_schedule_restart (driver->schedule, id);
  g_hash_table_remove (driver->rows, &id);
  driver_check (driver);
}

/* One driver works whenever it can, the other only when it must and loses rows now and then:
 * every window shows the same frames in both. */
static void
run_random (GRand *rand)
{
  ValleyWindowing windowing = { .policy = g_rand_int_range (rand, 0, 4),
                                .window_frames = g_rand_int_range (rand, 1, 10),
                                .reanchor_hops = g_rand_int_range (rand, 1, 20) };
  Driver eager, lazy;
  GQueue open = G_QUEUE_INIT; /* first frames of windows */
  guint until_next = 0, gap = 0;

  windowing.hop_frames = g_rand_int_range (rand, 1, windowing.window_frames + 1);
  driver_init (&eager, &windowing);
  driver_init (&lazy, &windowing);
  for (guint n = 0; n < 300; n++) {
    gboolean begins = until_next == 0;
    guint64 oldest;
    ValleyScheduleAnswer a, b;

    if (begins) {
      g_queue_push_tail (&open, GUINT_TO_POINTER ((guint) eager.n_frames));
      until_next = windowing.hop_frames;
    }
    oldest = GPOINTER_TO_UINT (g_queue_peek_head (&open));
    valley_schedule_drop_before (eager.schedule, oldest);
    valley_schedule_drop_before (lazy.schedule, oldest);
    driver_push (&eager, begins);
    driver_push (&lazy, begins);
    until_next--;
    while (driver_work (&eager))
      ;
    for (guint i = g_rand_int_range (rand, 0, 4); i > 0; i--)
      driver_work (&lazy);
    if (g_rand_int_range (rand, 0, 8) == 0)
      lose_one (&lazy, rand);
    /* A gap, an end or a lost frame makes windows shorter; overload drops some unasked. */
    gap = g_rand_int_range (rand, 0, 40) == 0 ? g_rand_int_range (rand, 1, 4) : 0;
    while (!g_queue_is_empty (&open) && eager.n_frames + gap >= oldest + windowing.window_frames) {
      if (g_rand_int_range (rand, 0, 10) > 0) {
        driver_ask (&eager, oldest, &a);
        driver_ask (&lazy, oldest, &b);
        g_assert_cmpuint (a.first, ==, b.first);
        if (windowing.policy == VALLEY_WINDOWS_STREAMING)
          g_assert_cmpuint (eager.n_frames - a.first, <=, windowing.window_frames);
        else
          g_assert_true (a.exact && b.exact && a.first <= oldest);
        if (windowing.policy == VALLEY_WINDOWS_TUMBLING
            || windowing.policy == VALLEY_WINDOWS_SLIDING)
          g_assert_cmpuint (a.first, ==, oldest);
        if (windowing.policy == VALLEY_WINDOWS_ANCHORED)
          g_assert_cmpuint (eager.n_frames - a.first, <=, 2 * windowing.window_frames);
      }
      g_queue_pop_head (&open);
      oldest = GPOINTER_TO_UINT (g_queue_peek_head (&open));
    }
    if (g_queue_is_empty (&open))
      until_next = 0;
    if (g_rand_int_range (rand, 0, 60) == 0) {
      windowing.policy = g_rand_int_range (rand, 0, 4);
      valley_schedule_set_windowing (eager.schedule, &windowing);
      valley_schedule_set_windowing (lazy.schedule, &windowing);
    }
    if (g_rand_int_range (rand, 0, 100) == 0) {
      valley_schedule_reset (eager.schedule);
      valley_schedule_reset (lazy.schedule);
      g_queue_clear (&open);
      until_next = 0;
    }
    driver_check (&eager);
    driver_check (&lazy);
  }
  g_queue_clear (&open);
  driver_clear (&eager);
  driver_clear (&lazy);
}

static void
test_random (void)
{
  for (guint i = 0; i < 1000; i++) { /* g_test_init prints the seed; --seed repeats it */
    g_autoptr (GRand) rand = g_rand_new_with_seed (g_test_rand_int ());

    run_random (rand);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (bars); i++) {
    g_autofree char *path = g_strconcat ("/schedule/bar/", bars[i].name, NULL);

    g_test_add_data_func (path, &bars[i], test_bar);
  }
  g_test_add_func ("/schedule/contents", test_contents);
  g_test_add_func ("/schedule/each-frame-once", test_each_frame_once);
  g_test_add_func ("/schedule/urgent-first", test_urgent_first);
  g_test_add_func ("/schedule/several-questions", test_several_questions);
  g_test_add_func ("/schedule/growing", test_growing);
  g_test_add_func ("/schedule/break", test_break);
  g_test_add_func ("/schedule/reset", test_reset);
  g_test_add_func ("/schedule/victims", test_victims);
  g_test_add_func ("/schedule/give-up", test_give_up);
  g_test_add_func ("/schedule/random", test_random);
  return g_test_run ();
}
