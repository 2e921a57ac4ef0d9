/* windowcount.c - what a window policy computes, counted on its schedule without a model.
 * SPDX-License-Identifier: Apache-2.0 */
#include "admission.h"
#include "schedule.h"

static void
work (ValleySchedule *schedule)
{
  ValleyScheduleUnit unit;

  while (valley_schedule_next_unit (schedule, &unit))
    valley_schedule_done (schedule, &unit);
}

static void
answer (ValleySchedule *schedule, guint64 first, guint64 end, ValleyWindowingCounts *counts)
{
  ValleyScheduleAnswer who;
  ValleyScheduleUnit unit;

  valley_schedule_ask (schedule, first, &who);
  while (valley_schedule_sequence_unit (schedule, who.sequence, &unit)
         || valley_schedule_sequence_unit (schedule, who.drifted, &unit))
    valley_schedule_done (schedule, &unit);
  counts->frames_shown += end - who.first;
}

gboolean
valley_windowing_count (const ValleyWindowing *windowing, guint n_windows,
                        ValleyWindowingCounts *counts, GError **error)
{
  ValleyScheduleCounts total;
  ValleySchedule *schedule;
  guint64 first = 0;

  *counts = (ValleyWindowingCounts){ .windows = n_windows };
  if (!valley_windowing_check (windowing, error))
    return FALSE;
  if (windowing->hop_frames == 0 || windowing->hop_frames > windowing->window_frames) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "windows of %u frames, %u apart; expected a hop from 1 to the window's length",
                 windowing->window_frames, windowing->hop_frames);
    return FALSE;
  }
  schedule = valley_schedule_new (windowing);
  for (guint n = 0; n < n_windows;) {
    guint64 end;

    valley_schedule_drop_before (schedule, first);
    valley_schedule_counts (schedule, &total);
    end = valley_schedule_push (schedule, total.frames % windowing->hop_frames == 0) + 1;
    counts->most_sequences = MAX (counts->most_sequences, valley_schedule_n_sequences (schedule));
    if (end == first + windowing->window_frames) {
      answer (schedule, first, end, counts);
      first += windowing->hop_frames;
      n++;
    }
    work (schedule);
    counts->most_sequences = MAX (counts->most_sequences, valley_schedule_n_sequences (schedule));
  }
  valley_schedule_counts (schedule, &total);
  counts->frames_pushed = total.frames;
  counts->frames_prefilled = total.prefilled;
  counts->exact_restarts = total.reanchored;
  valley_schedule_free (schedule);
  return TRUE;
}
