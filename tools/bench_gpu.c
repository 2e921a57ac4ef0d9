/* bench_gpu.c - `valley bench gpu`: how long each stage takes on a device, and whether a stream
 * of 25 frames a second can be kept up with, as JSON.
 *
 * What to compare the times with (the library's own products, the memory's rate) is not the
 * engine's to know: tests/gpu.sh measures that beside it, in the same minute.
 * SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <stdio.h>

enum {
  BATCH = 5,
  BATCHES = 5,         /* of frames encoded */
  CONTEXT_FRAMES = 24, /* before the question */
  FRAMES_PER_SECOND = 25,
  WINDOW = 32,
  WARM_HOPS = 4,
  HOPS = 4,
  ANSWER_TOKENS = 30
};

typedef struct {
  ValleyModel *model;
  BenchFrames *frames;
  ValleySession *session;
  guint next; /* frame */
  guint window, hop, answer_tokens;
  const char *prompt;
} Gpu;

static double
milliseconds_since (gint64 start_us)
{
  return (double) (g_get_monotonic_time () - start_us) / 1000.0;
}

static gint
compare_doubles (gconstpointer a, gconstpointer b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static double
median (double *values, gsize n)
{
  qsort (values, n, sizeof *values, compare_doubles);
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

static gboolean
renew (Gpu *gpu, GError **error)
{
  const ValleySessionOptions options = { .no_draft = TRUE };

  valley_session_free (gpu->session);
  gpu->session = valley_session_new (gpu->model, &options, error);
  gpu->next = 0;
  return gpu->session != NULL;
}

static gboolean
push (Gpu *gpu, gboolean begins_window, GError **error)
{
  ValleyPicture *picture = bench_frames_get (gpu->frames, gpu->next, FALSE, error);
  gboolean ok
      = picture != NULL && valley_session_push (gpu->session, picture, begins_window, error);

  valley_picture_unref (picture);
  gpu->next++;
  return ok;
}

static gboolean
work (Gpu *gpu, GError **error)
{
  gboolean more = TRUE;

  while (more)
    if (!valley_session_work (gpu->session, &more, error))
      return FALSE;
  return TRUE;
}

/* Pictures are made before anything is timed. */
static gboolean
make_pictures (Gpu *gpu, guint n, GError **error)
{
  for (guint i = 0; i < n; i++) {
    ValleyPicture *picture = bench_frames_get (gpu->frames, i, FALSE, error);

    if (picture == NULL)
      return FALSE;
    valley_picture_unref (picture);
  }
  return TRUE;
}

static guint64
rows_so_far (Gpu *gpu)
{
  ValleySessionStats stats;

  valley_session_stats (gpu->session, &stats);
  return stats.frame_rows + stats.text_rows;
}

/* ---- stages ---- */

static gboolean
measure_frames (Gpu *gpu, GError **error)
{
  const guint n = MIN (BATCH, gpu->window);
  double ms[BATCHES];

  if (!renew (gpu, error))
    return FALSE;
  for (gint batch = -1; batch < BATCHES; batch++) { /* the first one warms up */
    gint64 start = g_get_monotonic_time ();

    for (guint i = 0; i < n; i++)
      if (!push (gpu, FALSE, error))
        return FALSE;
    if (!valley_session_wait (gpu->session, error))
      return FALSE;
    if (batch >= 0)
      ms[batch] = milliseconds_since (start) / n;
  }
  printf (", \"frame_ms\": %.4f", median (ms, BATCHES));
  return TRUE;
}

/* Frame after frame into one sequence; the first half warms up. */
static gboolean
measure_appends (Gpu *gpu, GError **error)
{
  const guint n = MAX (MIN (CONTEXT_FRAMES, gpu->window), 2);
  double ms[CONTEXT_FRAMES];
  guint64 before = 0;

  if (!renew (gpu, error))
    return FALSE;
  for (guint i = 0; i < n; i++) {
    gint64 start;

    if (!push (gpu, i == 0, error) || !valley_session_wait (gpu->session, error))
      return FALSE;
    before = rows_so_far (gpu);
    start = g_get_monotonic_time ();
    if (!work (gpu, error) || !valley_session_wait (gpu->session, error))
      return FALSE;
    ms[i] = milliseconds_since (start);
  }
  printf (", \"append_ms\": %.4f, \"append_rows\": %" G_GUINT64_FORMAT
          ", \"append_context\": %" G_GUINT64_FORMAT,
          median (ms + n / 2, n - n / 2), rows_so_far (gpu) - before, before);
  return TRUE;
}

/* Of what measure_appends left.  The second question finds every kernel used once. */
static gboolean
measure_answer (Gpu *gpu, GError **error)
{
  const ValleyRequest request = { .prompt = gpu->prompt, .max_new_tokens = gpu->answer_tokens };
  g_autofree double *ms = g_new (double, gpu->answer_tokens + 1);
  double question_ms = 0;
  guint n = 0;

  for (guint i = 0; i < 2; i++) {
    gint64 start = g_get_monotonic_time ();
    ValleyStep step;

    if (!valley_session_begin (gpu->session, &request, error)
        || !valley_session_wait (gpu->session, error))
      return FALSE;
    question_ms = milliseconds_since (start);
    n = 0;
    do {
      start = g_get_monotonic_time ();
      step = valley_session_next (gpu->session, error);
      ms[n] = milliseconds_since (start);
      n += step == VALLEY_STEP_TOKEN && n < gpu->answer_tokens;
    } while (step == VALLEY_STEP_TOKEN);
    if (step == VALLEY_STEP_ERROR)
      return FALSE;
  }
  printf (", \"question_ms\": %.4f, \"context\": %u, \"answer_tokens\": %u, \"token_ms\": %.4f",
          question_ms, valley_session_result (gpu->session)->n_input_tokens, n,
          n > 0 ? median (ms, n) : 0);
  return TRUE;
}

/* ---- a stream ---- */

static gboolean
answer (Gpu *gpu, double *first_ms, gint64 start, GError **error)
{
  const ValleyRequest request = { .prompt = gpu->prompt, .max_new_tokens = gpu->answer_tokens };
  ValleyStep step;

  if (!valley_session_begin (gpu->session, &request, error))
    return FALSE;
  *first_ms = -1;
  do {
    step = valley_session_next (gpu->session, error);
    if (*first_ms < 0)
      *first_ms = milliseconds_since (start);
  } while (step == VALLEY_STEP_TOKEN);
  return step == VALLEY_STEP_DONE;
}

/* All frames of a hop and its answer, as fast as they go. */
static gboolean
run_hop (Gpu *gpu, guint hop, double *first_ms, GError **error)
{
  gint64 start = 0;

  while (gpu->next < gpu->window + hop * gpu->hop) {
    start = g_get_monotonic_time ();
    if (!push (gpu, gpu->next % gpu->hop == 0, error))
      return FALSE;
    if (gpu->next < gpu->window + hop * gpu->hop && !work (gpu, error))
      return FALSE;
  }
  if (!answer (gpu, first_ms, start, error))
    return FALSE;
  valley_session_drop_before (gpu->session, bench_frames_pts_ns ((hop + 1) * gpu->hop));
  return work (gpu, error) && valley_session_wait (gpu->session, error);
}

/* seconds_per_second: of work for a second of the stream; it is kept up with below 1. */
static gboolean
measure_stream (Gpu *gpu, GError **error)
{
  const ValleyWindowing windowing
      = { .policy = VALLEY_WINDOWS_ANCHORED, .window_frames = gpu->window, .hop_frames = gpu->hop };
  double first_ms[HOPS], ms[HOPS], mean = 0, most = 0, scale;

  if (!renew (gpu, error) || !valley_session_set_windowing (gpu->session, &windowing, error))
    return FALSE;
  for (guint hop = 0; hop < WARM_HOPS + HOPS; hop++) {
    gint64 start = g_get_monotonic_time ();
    guint at = hop < WARM_HOPS ? 0 : hop - WARM_HOPS;

    if (!run_hop (gpu, hop, &first_ms[at], error))
      return FALSE;
    ms[at] = milliseconds_since (start);
  }
  for (guint i = 0; i < HOPS; i++) {
    mean += ms[i] / HOPS;
    most = MAX (most, ms[i]);
  }
  scale = (double) FRAMES_PER_SECOND / gpu->hop / 1000;
  printf (", \"stream\": {\"policy\": \"anchored\", \"window\": %u, \"hop\": %u, "
          "\"frames_per_second\": %d, \"answer_tokens\": %u, \"seconds_per_second\": %.4f, "
          "\"worst\": %.4f, \"first_token_ms\": %.4f}",
          gpu->window, gpu->hop, FRAMES_PER_SECOND, gpu->answer_tokens, mean * scale, most * scale,
          median (first_ms, HOPS));
  return TRUE;
}

gboolean
bench_gpu_command (const Options *options, GError **error)
{
  gint64 start = g_get_monotonic_time ();
  Gpu gpu
      = { .model = bench_model_open (options, error),
          .window = options->window != 0 ? options->window : WINDOW,
          .hop = options->hop != 0 ? options->hop : FRAMES_PER_SECOND,
          .answer_tokens = options->max_new_tokens != 0 ? options->max_new_tokens : ANSWER_TOKENS,
          .prompt = options->prompt != NULL ? options->prompt : "Describe the video." };
  gboolean ok;

  if (gpu.model == NULL)
    return FALSE;
  gpu.frames = bench_frames_new (gpu.model);
  printf ("{\"device\": \"%s\", \"open_ms\": %.1f", valley_model_device (gpu.model),
          milliseconds_since (start));
  ok = make_pictures (&gpu, MAX (gpu.window + (WARM_HOPS + HOPS) * gpu.hop, (BATCHES + 1) * BATCH),
                      error)
       && measure_frames (&gpu, error) && measure_appends (&gpu, error)
       && measure_answer (&gpu, error) && measure_stream (&gpu, error);
  printf ("}\n");
  valley_session_free (gpu.session);
  bench_frames_free (gpu.frames);
  valley_model_unref (gpu.model);
  return ok;
}
