/* schedule.c - which sequences a window policy keeps, which frame goes into which and when.
 *
 * Every event changes the open windows or the sequences a little; plan () then makes the
 * sequences what the policy wants of them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "schedule.h"

#define DEFAULT_REANCHOR_HOPS 64

typedef ValleyScheduleSequence Sequence;

struct _ValleySchedule {
  ValleyWindowing windowing;
  GArray *sequences; /* Sequence, the most urgent first, which is the oldest first */
  GArray *windows;   /* guint64: the first frames of windows not yet asked, ascending */
  GArray *ended;     /* guint64: ids not yet taken */
  guint64 end;       /* frames pushed */
  guint64 begin;     /* no window starts before it */
  guint64 last_id;
  guint hops; /* streaming: windows begun since the newest sequence's own */

  gboolean asking; /* about the window that begins with asked_first */
  guint64 asked_first, asked_id, drifted_id;
  ValleyScheduleCounts counts;
};

guint
valley_windowing_reanchor_hops (const ValleyWindowing *windowing)
{
  return windowing->reanchor_hops != 0 ? windowing->reanchor_hops : DEFAULT_REANCHOR_HOPS;
}

/* ---- the two lists ---- */

static Sequence *
nth (const ValleySchedule *schedule, guint n)
{
  return &g_array_index (schedule->sequences, Sequence, n);
}

static Sequence *
find (const ValleySchedule *schedule, guint64 id)
{
  for (guint i = 0; i < schedule->sequences->len; i++)
    if (nth (schedule, i)->id == id)
      return nth (schedule, i);
  return NULL;
}

static guint64
window (const ValleySchedule *schedule, guint n)
{
  return g_array_index (schedule->windows, guint64, n);
}

static gboolean
window_begins (const ValleySchedule *schedule, guint64 first)
{
  for (guint i = 0; i < schedule->windows->len; i++)
    if (window (schedule, i) == first)
      return TRUE;
  return FALSE;
}

static gboolean
has_rows (const Sequence *sequence)
{
  return sequence->next > sequence->first;
}

static void
end_sequence (ValleySchedule *schedule, guint n)
{
  g_array_append_val (schedule->ended, nth (schedule, n)->id);
  g_array_remove_index (schedule->sequences, n);
  /* What stood aside for this one's sake is now needed next. */
  if (n == 0 && schedule->sequences->len > 0)
    nth (schedule, 0)->parked = FALSE;
}

static void
start_sequence (ValleySchedule *schedule, guint at, guint64 first)
{
  Sequence sequence = { .id = ++schedule->last_id, .first = first, .next = first, .anchor = first };

  g_array_insert_val (schedule->sequences, at, sequence);
  schedule->counts.started++;
}

static void
forget_windows_before (ValleySchedule *schedule, guint64 first)
{
  while (schedule->windows->len > 0 && window (schedule, 0) < first)
    g_array_remove_index (schedule->windows, 0);
}

/* ---- what each policy wants ---- */

/* One sequence for each of the @n oldest open windows, and no other. */
static void
plan_windows (ValleySchedule *schedule, guint n)
{
  guint n_sequences = 0;

  for (guint i = schedule->sequences->len; i-- > 0;)
    if (n == 0 || nth (schedule, i)->first > window (schedule, n - 1)
        || !window_begins (schedule, nth (schedule, i)->first))
      end_sequence (schedule, i);
  /* Both lists ascend: what is at the same place either matches or is missing. */
  for (guint i = 0; i < n; i++, n_sequences++)
    if (n_sequences == schedule->sequences->len
        || nth (schedule, n_sequences)->first != window (schedule, i))
      start_sequence (schedule, n_sequences, window (schedule, i));
}

/* The oldest sequence answers until it would pass 2 W frames; others begin every W frames. */
static void
plan_anchored (ValleySchedule *schedule)
{
  const guint n_frames = schedule->windowing.window_frames;
  const GArray *sequences = schedule->sequences;

  while (sequences->len > 1 && schedule->end - nth (schedule, 0)->first > 2 * (guint64) n_frames
         && (schedule->windows->len == 0 || nth (schedule, 1)->first <= window (schedule, 0)))
    end_sequence (schedule, 0);
  if (schedule->windows->len > 0
      && (sequences->len == 0 || nth (schedule, 0)->first > window (schedule, 0)))
    start_sequence (schedule, 0, window (schedule, 0));
  while (sequences->len > 0 && schedule->end > nth (schedule, sequences->len - 1)->first + n_frames)
    start_sequence (schedule, sequences->len, nth (schedule, sequences->len - 1)->first + n_frames);
}

/* The first of the newest W frames that a streaming sequence shows once it is complete. */
static guint64
first_shown (const ValleySchedule *schedule, guint64 first)
{
  const guint n_frames = schedule->windowing.window_frames;

  return schedule->end > n_frames ? MAX (first, schedule->end - n_frames) : first;
}

/* The oldest sequence answers, its front evicted, until the next one, which began with a window
 * of its own, has grown to the same frames. */
static void
plan_streaming (ValleySchedule *schedule)
{
  const GArray *sequences = schedule->sequences;

  while (sequences->len > 1
         && first_shown (schedule, nth (schedule, 1)->first) > nth (schedule, 1)->first) {
    end_sequence (schedule, 0);
    schedule->counts.reanchored++;
  }
  if (schedule->windows->len > 0) {
    guint64 first = first_shown (schedule, window (schedule, 0));

    if (sequences->len == 0 || nth (schedule, 0)->first > first) {
      start_sequence (schedule, 0, first);
      schedule->hops = sequences->len == 1 ? 0 : schedule->hops;
    }
  }
  /* Without rows there is nothing to evict: it may as well begin where it will have to. */
  if (sequences->len > 0 && !has_rows (nth (schedule, 0))) {
    Sequence *sequence = nth (schedule, 0);

    sequence->first = sequence->next = sequence->anchor = first_shown (schedule, sequence->first);
  }
}

static void
plan (ValleySchedule *schedule)
{
  switch (schedule->windowing.policy) {
  case VALLEY_WINDOWS_ANCHORED:
    plan_anchored (schedule);
    break;
  case VALLEY_WINDOWS_STREAMING:
    plan_streaming (schedule);
    break;
  case VALLEY_WINDOWS_SLIDING:
    plan_windows (schedule, schedule->windows->len);
    break;
  default:
    plan_windows (schedule, MIN (schedule->windows->len, 1));
    break;
  }
}

/* The window asked last is over, unless nothing comes after it: then it may still grow. */
static void
settle (ValleySchedule *schedule)
{
  if (!schedule->asking)
    return;
  schedule->asking = FALSE;
  if (schedule->drifted_id != 0 && schedule->sequences->len > 1
      && nth (schedule, 0)->id == schedule->drifted_id) {
    end_sequence (schedule, 0);
    schedule->counts.reanchored++;
  }
  schedule->drifted_id = 0;
  if (schedule->windows->len > 1)
    forget_windows_before (schedule, schedule->asked_first + 1);
  plan (schedule);
}

/* ---- public: life ---- */

ValleySchedule *
valley_schedule_new (const ValleyWindowing *windowing)
{
  ValleySchedule *schedule = g_new0 (ValleySchedule, 1);

  schedule->windowing = *windowing;
  schedule->sequences = g_array_new (FALSE, FALSE, sizeof (Sequence));
  schedule->windows = g_array_new (FALSE, FALSE, sizeof (guint64));
  schedule->ended = g_array_new (FALSE, FALSE, sizeof (guint64));
  return schedule;
}

void
valley_schedule_free (ValleySchedule *schedule)
{
  if (schedule == NULL)
    return;
  g_array_unref (schedule->sequences);
  g_array_unref (schedule->windows);
  g_array_unref (schedule->ended);
  g_free (schedule);
}

static void
end_all (ValleySchedule *schedule)
{
  while (schedule->sequences->len > 0)
    end_sequence (schedule, schedule->sequences->len - 1);
}

void
valley_schedule_reset (ValleySchedule *schedule)
{
  end_all (schedule);
  g_array_set_size (schedule->windows, 0);
  schedule->asking = FALSE;
  schedule->drifted_id = 0;
  schedule->begin = schedule->end;
}

void
valley_schedule_set_windowing (ValleySchedule *schedule, const ValleyWindowing *windowing)
{
  gboolean other = windowing->policy != schedule->windowing.policy
                   || windowing->window_frames != schedule->windowing.window_frames;

  settle (schedule);
  schedule->windowing = *windowing;
  if (!other)
    return;
  /* What the next window shows must not depend on what happens to have been computed: it begins
   * where it would begin without any sequence.  Rows that are exactly that are kept. */
  for (guint i = schedule->sequences->len; i-- > 0;) {
    const Sequence *sequence = nth (schedule, i);

    if (i > 0 || schedule->windows->len == 0 || sequence->first != window (schedule, 0)
        || sequence->anchor != sequence->first)
      end_sequence (schedule, i);
  }
  schedule->hops = 0;
  plan (schedule);
}

/* ---- public: what happened ---- */

guint64
valley_schedule_push (ValleySchedule *schedule, gboolean begins_window)
{
  guint64 number = schedule->end++;

  settle (schedule);
  schedule->counts.frames++;
  if (begins_window || schedule->windows->len == 0) {
    g_array_append_val (schedule->windows, number);
    schedule->hops++;
    if (schedule->windowing.policy == VALLEY_WINDOWS_STREAMING && schedule->sequences->len > 0
        && schedule->hops >= valley_windowing_reanchor_hops (&schedule->windowing)) {
      start_sequence (schedule, schedule->sequences->len, number);
      schedule->hops = 0;
    }
  }
  plan (schedule);
  return number;
}

void
valley_schedule_drop_before (ValleySchedule *schedule, guint64 number)
{
  const ValleyWindowing *windowing = &schedule->windowing;

  if (schedule->asking && number > schedule->asked_first)
    settle (schedule);
  forget_windows_before (schedule, number);
  schedule->begin = MAX (schedule->begin, number);
  /* Windows that overlap always need one of the frames: the stream broke off here, and what
   * comes is not shown together with what was.  Streaming shows none of it anyway. */
  if (number >= schedule->end
      && (windowing->hop_frames < windowing->window_frames
          || windowing->policy == VALLEY_WINDOWS_STREAMING))
    end_all (schedule);
  plan (schedule);
}

/* The first frame that @sequence shows once it is complete. */
static guint64
first_needed (const ValleySchedule *schedule, const Sequence *sequence)
{
  if (schedule->windowing.policy == VALLEY_WINDOWS_STREAMING)
    return first_shown (schedule, sequence->first);
  return sequence->first;
}

/* Nothing that an evicted frame has told is left in @sequence once it is complete. */
static gboolean
will_be_exact (const ValleySchedule *schedule, const Sequence *sequence)
{
  guint64 first = first_needed (schedule, sequence);

  return first == sequence->anchor || first >= sequence->next;
}

/* The next sequence takes over as soon as it shows the same frames.  The old one is kept beside
 * it while it has something to tell: how far its answer has drifted. */
static guint64
answer_streaming (ValleySchedule *schedule)
{
  const Sequence *old = nth (schedule, 0);
  guint64 successor;

  if (schedule->sequences->len < 2
      || nth (schedule, 1)->first != first_shown (schedule, old->first))
    return old->id;
  successor = nth (schedule, 1)->id;
  if (has_rows (old) && !old->given_up && !will_be_exact (schedule, old)) {
    schedule->drifted_id = old->id;
  } else {
    end_sequence (schedule, 0);
    schedule->counts.reanchored++;
  }
  return successor;
}

static void
begin_asking (ValleySchedule *schedule, guint64 first)
{
  settle (schedule);
  forget_windows_before (schedule, first);
  if (schedule->windows->len == 0 || window (schedule, 0) != first)
    g_array_prepend_val (schedule->windows, first);
  schedule->begin = MAX (schedule->begin, first);
  plan (schedule);
  schedule->asked_id = schedule->windowing.policy == VALLEY_WINDOWS_STREAMING
                           ? answer_streaming (schedule)
                           : nth (schedule, 0)->id;
  schedule->asked_first = first;
  schedule->asking = TRUE;
  schedule->counts.asked++;
}

gboolean
valley_schedule_ask (ValleySchedule *schedule, guint64 first, ValleyScheduleAnswer *answer)
{
  const Sequence *sequence;
  gboolean again = schedule->asking && first == schedule->asked_first;

  if (first < schedule->begin || first >= schedule->end)
    return FALSE;
  if (!again)
    begin_asking (schedule, first);
  sequence = find (schedule, schedule->asked_id);
  *answer = (ValleyScheduleAnswer){ .sequence = sequence->id,
                                    .first = first_needed (schedule, sequence),
                                    .exact = will_be_exact (schedule, sequence),
                                    .given_up = sequence->given_up,
                                    .drifted = again ? 0 : schedule->drifted_id };
  return TRUE;
}

/* ---- public: what is to do ---- */

/* A streaming sequence evicts one frame for each that it appends once it has W of them: how
 * late the work is done does not change what it computes.  One that is W frames late keeps none
 * of its rows, and is exact again. */
static void
limit_to_window (const ValleySchedule *schedule, const Sequence *sequence, ValleyScheduleUnit *unit)
{
  const guint n_frames = schedule->windowing.window_frames;
  guint64 held = sequence->next - sequence->first;
  guint64 first = first_shown (schedule, sequence->first);

  if (first >= sequence->next) {
    unit->n_evict = (guint) held;
    unit->frame = first;
    unit->n_frames = (guint) (schedule->end - first);
  } else if (held >= n_frames) {
    unit->n_evict = (guint) (held + 1 - n_frames);
    unit->n_frames = 1;
  } else {
    unit->n_frames = (guint) MIN (unit->n_frames, n_frames - held);
  }
}

static gboolean
unit_of (const ValleySchedule *schedule, const Sequence *sequence, ValleyScheduleUnit *unit)
{
  if (sequence->given_up || sequence->next >= schedule->end)
    return FALSE;
  *unit = (ValleyScheduleUnit){ .sequence = sequence->id,
                                .frame = sequence->next,
                                .n_frames = (guint) (schedule->end - sequence->next) };
  if (schedule->windowing.policy == VALLEY_WINDOWS_STREAMING)
    limit_to_window (schedule, sequence, unit);
  return TRUE;
}

gboolean
valley_schedule_next_unit (ValleySchedule *schedule, ValleyScheduleUnit *unit)
{
  settle (schedule);
  for (guint i = 0; i < schedule->sequences->len; i++)
    if (!nth (schedule, i)->parked && unit_of (schedule, nth (schedule, i), unit)) {
      unit->n_frames = 1;
      return TRUE;
    }
  return FALSE;
}

gboolean
valley_schedule_sequence_unit (ValleySchedule *schedule, guint64 id, ValleyScheduleUnit *unit)
{
  const Sequence *sequence = find (schedule, id);

  return sequence != NULL && unit_of (schedule, sequence, unit);
}

void
valley_schedule_done (ValleySchedule *schedule, const ValleyScheduleUnit *unit)
{
  Sequence *sequence = find (schedule, unit->sequence);

  if (sequence == NULL)
    return;
  sequence->first += unit->n_evict;
  if (sequence->first == sequence->next) /* it keeps nothing: computed afresh from here */
    sequence->first = sequence->anchor = unit->frame;
  sequence->next = unit->frame + unit->n_frames;
  sequence->parked = FALSE;
  schedule->counts.evicted += unit->n_evict;
  schedule->counts.prefilled += unit->n_frames;
}

/* ---- public: rows that are gone ---- */

static Sequence *
lose_rows (ValleySchedule *schedule, guint64 id)
{
  Sequence *sequence = find (schedule, id);

  if (sequence == NULL)
    return NULL;
  if (has_rows (sequence))
    schedule->counts.restarted++;
  sequence->next = sequence->anchor = sequence->first;
  return sequence;
}

void
valley_schedule_restart (ValleySchedule *schedule, guint64 id)
{
  if (lose_rows (schedule, id) != NULL)
    plan (schedule);
}

void
valley_schedule_park (ValleySchedule *schedule, guint64 id)
{
  Sequence *sequence = lose_rows (schedule, id);

  if (sequence == NULL)
    return;
  sequence->parked = TRUE;
  plan (schedule);
}

void
valley_schedule_give_up (ValleySchedule *schedule, guint64 id)
{
  Sequence *sequence = lose_rows (schedule, id);

  if (sequence != NULL)
    sequence->given_up = TRUE;
}

guint64
valley_schedule_next_victim (const ValleySchedule *schedule)
{
  for (guint i = schedule->sequences->len; i-- > 1;) {
    const Sequence *sequence = nth (schedule, i);

    if (has_rows (sequence) && !(schedule->asking && sequence->id == schedule->asked_id))
      return sequence->id;
  }
  return 0;
}

guint64
valley_schedule_take_ended (ValleySchedule *schedule)
{
  guint64 id;

  if (schedule->ended->len == 0)
    return 0;
  id = g_array_index (schedule->ended, guint64, 0);
  g_array_remove_index (schedule->ended, 0);
  return id;
}

guint64
valley_schedule_keep_from (const ValleySchedule *schedule)
{
  guint64 from = MIN (schedule->begin, schedule->end);

  for (guint i = 0; i < schedule->sequences->len; i++)
    from = MIN (from, first_needed (schedule, nth (schedule, i)));
  return from;
}

/* ---- public: a look at it ---- */

guint
valley_schedule_n_sequences (const ValleySchedule *schedule)
{
  return schedule->sequences->len;
}

const ValleyScheduleSequence *
valley_schedule_nth (const ValleySchedule *schedule, guint n)
{
  return n < schedule->sequences->len ? nth (schedule, n) : NULL;
}

const ValleyScheduleSequence *
valley_schedule_find (const ValleySchedule *schedule, guint64 id)
{
  return find (schedule, id);
}

void
valley_schedule_counts (const ValleySchedule *schedule, ValleyScheduleCounts *counts)
{
  *counts = schedule->counts;
}
