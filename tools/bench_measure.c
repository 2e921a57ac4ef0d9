/* bench_measure.c - one window policy on a made-up stream, beside naive recomputation.
 *
 * A window of each in turn, so that whatever else the machine does slows both.  Naive begins
 * when the last frame has come: it encodes and prefills all that the policy showed.
 * SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <string.h>

/* Frames that comparing more windows may take. */
#define MORE_FRAMES 96

typedef struct {
  const Bench *bench;
  const BenchCase *what;
  ValleySession *mine, *naive;
  guint end, first; /* frames pushed; the first frame of the next window to ask */

  /* Of the compared windows, arrays of double: */
  GArray *first_ms, *naive_first_ms, *naive_ms, *first_ratios;
  double ms; /* of all measured hops */
  guint n_hops;
  gboolean exact;
} Run;

static double
milliseconds_since (gint64 start_us)
{
  return (double) (g_get_monotonic_time () - start_us) / 1000.0;
}

static gboolean
push (Run *run, ValleySession *session, guint number, gboolean begins, GError **error)
{
  ValleyPicture *picture = bench_frames_get (run->bench->frames, number, run->what->still, error);
  gboolean ok = picture != NULL && valley_session_push (session, picture, begins, error);

  valley_picture_unref (picture);
  return ok;
}

/* The whole answer; *first_ms: from @start to its first token. */
static gboolean
answer (Run *run, ValleySession *session, gint64 start, double *first_ms, GError **error)
{
  const BenchCase *what = run->what;
  const gboolean drawn = what->still && !what->unchanged;
  const ValleyRequest request = { .prompt = run->bench->prompt,
                                  .max_new_tokens = run->bench->max_new_tokens,
                                  /* The likeliest token, but drawn: equal windows are then not
                                   * taken to have equal answers. */
                                  .temperature = drawn ? 1 : 0,
                                  .top_k = drawn ? 1 : 0 };
  ValleyStep step;

  if (!valley_session_begin (session, &request, error))
    return FALSE;
  *first_ms = -1;
  do {
    step = valley_session_next (session, error);
    if (*first_ms < 0)
      *first_ms = milliseconds_since (start);
  } while (step == VALLEY_STEP_TOKEN);
  return step == VALLEY_STEP_DONE;
}

static gboolean
work (Run *run, GError **error)
{
  gboolean more = run->what->arrival;

  while (more)
    if (!valley_session_work (run->mine, &more, error))
      return FALSE;
  return TRUE;
}

/* The next frame comes; *asked: and it was a window's last, which is answered. */
static gboolean
take_frame (Run *run, gboolean may_ask, gboolean *asked, double *first_ms, GError **error)
{
  const BenchCase *what = run->what;
  gint64 start = g_get_monotonic_time ();

  valley_session_drop_before (run->mine, bench_frames_pts_ns (run->first));
  if (!push (run, run->mine, run->end, run->end % what->hop == 0, error))
    return FALSE;
  run->end++;
  *asked = run->end == run->first + what->window;
  if (*asked) {
    run->first += what->hop;
    if (may_ask && !answer (run, run->mine, start, first_ms, error))
      return FALSE;
  }
  return work (run, error);
}

/* The frames of the answer just given, recomputed. */
static gboolean
ask_naive (Run *run, double *first_ms, double *ms, GError **error)
{
  const ValleyResult *result = valley_session_result (run->mine);
  guint n = result->n_frames;
  guint first = bench_frames_number (result->frame_pts_ns[0]);
  gint64 start = g_get_monotonic_time ();

  valley_session_reset (run->naive);
  for (guint i = 0; i < n; i++)
    if (!push (run, run->naive, first + i, i == 0, error))
      return FALSE;
  if (!answer (run, run->naive, start, first_ms, error))
    return FALSE;
  *ms = milliseconds_since (start);
  return TRUE;
}

static gboolean
same_logits (ValleySession *a, ValleySession *b)
{
  gsize steps[2], size[2];
  const float *x = valley_session_logits (a, &steps[0], &size[0]);
  const float *y = valley_session_logits (b, &steps[1], &size[1]);

  return x != NULL && y != NULL && steps[0] == steps[1]
         && memcmp (x, y, steps[0] * size[0] * sizeof (float)) == 0;
}

static gboolean
compare (Run *run, double first_ms, GError **error)
{
  double naive_first_ms, naive_ms, first_ratio;

  g_array_append_val (run->first_ms, first_ms);
  if (run->what->still)
    return TRUE;
  if (!ask_naive (run, &naive_first_ms, &naive_ms, error))
    return FALSE;
  first_ratio = naive_first_ms / first_ms;
  g_array_append_val (run->first_ratios, first_ratio);
  g_array_append_val (run->naive_first_ms, naive_first_ms);
  g_array_append_val (run->naive_ms, naive_ms);
  run->exact = run->exact && same_logits (run->mine, run->naive);
  return TRUE;
}

/* Pictures cost the same to make in every case and are no part of any. */
static gboolean
make_pictures (Run *run, guint n, GError **error)
{
  for (guint i = 0; i < n; i++) {
    ValleyPicture *moving = bench_frames_get (run->bench->frames, i, FALSE, error);
    ValleyPicture *still = run->what->still && moving != NULL
                               ? bench_frames_get (run->bench->frames, i, TRUE, error)
                               : NULL;
    gboolean ok = moving != NULL && (still != NULL || !run->what->still);

    valley_picture_unref (moving);
    valley_picture_unref (still);
    if (!ok)
      return FALSE;
  }
  return TRUE;
}

/* Of the measured windows, so many between two that are compared: all together they span W
 * frames, which is anchored's period, or the 64 that are streaming's. */
static guint
stride_of (const Run *run)
{
  const BenchCase *what = run->what;
  guint frames = what->policy == VALLEY_WINDOWS_STREAMING ? MAX (what->window, 64) : what->window;

  return MAX (frames / what->hop / run->bench->n_windows, 1);
}

/* Windows to compare where there is time: a few more calm a busy machine's figures. */
static guint
most_windows (const Run *run)
{
  const Bench *bench = run->bench;
  guint frames = stride_of (run) * run->what->hop;

  return bench->n_windows + (bench->more_ms > 0 ? MIN (24, MORE_FRAMES / frames) : 0);
}

/* Whether enough windows have been compared. */
static gboolean
is_enough (const Run *run, gint64 start_us)
{
  guint n = run->n_hops / stride_of (run);

  if (run->n_hops % stride_of (run) != 0 || n < run->bench->n_windows)
    return FALSE;
  return n >= most_windows (run) || milliseconds_since (start_us) >= run->bench->more_ms;
}

/* First 2 W frames, until every policy is in its stride. */
static gboolean
run_stream (Run *run, GError **error)
{
  const guint window = run->what->window, hop = run->what->hop, stride = stride_of (run);
  const guint warm_up = 2 * window, last = warm_up + (most_windows (run) * stride + 1) * hop;
  gint64 run_start = g_get_monotonic_time ();
  double first_ms = 0, hop_ms = 0;
  gboolean asked;

  if (!make_pictures (run, last + 1, error))
    return FALSE;
  while (!is_enough (run, run_start)) {
    const gboolean warm = run->end >= warm_up;
    gint64 start = g_get_monotonic_time ();

    /* An answer or two before what is measured, to draft from. */
    if (!take_frame (run, run->end + 2 * hop >= warm_up, &asked, &first_ms, error))
      return FALSE;
    hop_ms += milliseconds_since (start);
    if (!asked)
      continue;
    if (warm) {
      run->ms += hop_ms;
      run->n_hops++;
      if (run->n_hops % stride == 0 && !compare (run, first_ms, error))
        return FALSE;
    }
    hop_ms = 0;
  }
  return TRUE;
}

/* ---- figures ---- */

static gint
compare_doubles (gconstpointer a, gconstpointer b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static double
median (GArray *values)
{
  if (values->len == 0)
    return 0;
  g_array_sort (values, compare_doubles);
  return (g_array_index (values, double, (values->len - 1) / 2)
          + g_array_index (values, double, values->len / 2))
         / 2;
}

static double
mean (const GArray *values)
{
  double sum = 0;

  for (guint i = 0; i < values->len; i++)
    sum += g_array_index (values, double, i);
  return values->len > 0 ? sum / values->len : 0;
}

static void
describe (Run *run, BenchFigures *figures)
{
  ValleySessionStats stats, naive;

  valley_session_stats (run->mine, &stats);
  valley_session_stats (run->naive, &naive);
  *figures = (BenchFigures){ .first_token_ms = median (run->first_ms),
                             .naive_first_token_ms = median (run->naive_first_ms),
                             .first_token_ratio = median (run->first_ratios),
                             .hop_ms = run->ms / run->n_hops,
                             .naive_hop_ms = mean (run->naive_ms),
                             .kv_bytes = stats.kv_bytes_peak,
                             .encoding_bytes = stats.encoding_bytes_peak,
                             .naive_kv_bytes = naive.kv_bytes_peak,
                             .naive_encoding_bytes = naive.encoding_bytes_peak,
                             .frames_pushed = stats.frames_pushed,
                             .frames_encoded = stats.frames_encoded,
                             .drafted = stats.drafted,
                             .accepted = stats.accepted,
                             .drift_samples = stats.drift_samples,
                             .drift_agreements = stats.drift_agreements,
                             .drift_mean = stats.drift_mean,
                             .compared = run->first_ratios->len > 0,
                             .exact = run->exact };
}

gboolean
bench_measure (const Bench *bench, const BenchCase *what, BenchFigures *figures, GError **error)
{
  const ValleyWindowing windowing
      = { .policy = what->policy, .window_frames = what->window, .hop_frames = what->hop };
  const ValleySessionOptions options = { .keep_logits = TRUE, .no_draft = !what->draft };
  const ValleySessionOptions naive_options = { .keep_logits = TRUE, .no_draft = TRUE };
  Run run = { .bench = bench, .what = what, .exact = TRUE };
  gboolean ok;

  run.first_ms = g_array_new (FALSE, FALSE, sizeof (double));
  run.naive_first_ms = g_array_new (FALSE, FALSE, sizeof (double));
  run.naive_ms = g_array_new (FALSE, FALSE, sizeof (double));
  run.first_ratios = g_array_new (FALSE, FALSE, sizeof (double));
  run.mine = valley_session_new (bench->model, &options, error);
  run.naive = run.mine != NULL ? valley_session_new (bench->model, &naive_options, error) : NULL;
  ok = run.naive != NULL && valley_session_set_windowing (run.mine, &windowing, error)
       && run_stream (&run, error);
  if (ok)
    describe (&run, figures);
  valley_session_free (run.mine);
  valley_session_free (run.naive);
  g_array_unref (run.first_ms);
  g_array_unref (run.naive_first_ms);
  g_array_unref (run.naive_ms);
  g_array_unref (run.first_ratios);
  return ok;
}
