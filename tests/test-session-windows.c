/* test-session-windows.c - what a session computes for its windows and what it does not: shared
 * encodings, answers given again, rows prefilled when frames come, memory within its bound.
 * (That none of it changes an answer is windows-exact's.)
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "alloc.h"
#include "engine-fixture.h"
#include "kvcache.h"
#include "which-device.h"

#define WIDTH 64
#define HEIGHT 48

/* A frame of one color with a corner of another. */
static void
push_color (Fixture *f, ValleySession *session, guint number, guint8 color, guint8 corner)
{
  guint8 rgb[3 * WIDTH * HEIGHT];
  GError *error = NULL;
  ValleyPicture *picture;

  memset (rgb, color, sizeof rgb);
  rgb[0] = corner;
  picture = valley_picture_new_from_rgb (f->model, number * FRAME_NS, rgb, 3 * WIDTH, WIDTH, HEIGHT,
                                         NULL, &error);
  g_assert_no_error (error);
  g_assert_true (valley_session_push (session, picture, TRUE, &error));
  g_assert_no_error (error);
  valley_picture_unref (picture);
}

static ValleySessionStats
stats_of (ValleySession *session)
{
  ValleySessionStats stats;

  valley_session_stats (session, &stats);
  return stats;
}

static void
set_windowing (ValleySession *session, ValleyWindowPolicy policy, guint n_frames, guint hop,
               guint64 max_bytes)
{
  ValleyWindowing windowing = {
    .policy = policy, .window_frames = n_frames, .hop_frames = hop, .cache_max_bytes = max_bytes
  };
  GError *error = NULL;

  g_assert_true (valley_session_set_windowing (session, &windowing, &error));
  g_assert_no_error (error);
}

static void
work_all (ValleySession *session)
{
  gboolean more = TRUE;
  GError *error = NULL;

  while (more) {
    valley_session_work (session, &more, &error);
    g_assert_no_error (error);
  }
}

static const ValleyResult *
ask (ValleySession *session, const ValleyRequest *request)
{
  ValleyStep step = VALLEY_STEP_TOKEN;
  GError *error = NULL;

  g_assert_true (valley_session_begin (session, request, &error));
  g_assert_no_error (error);
  while (step == VALLEY_STEP_TOKEN)
    step = valley_session_next (session, &error);
  g_assert_no_error (error);
  return valley_session_result (session);
}

static const ValleyRequest question = { .prompt = QUESTION, .max_new_tokens = 4 };

/* ---- frames ---- */

static void
test_equal_frames (Fixture *f, gconstpointer data)
{
  ValleySessionStats stats;

  push_color (f, f->session, 0, 10, 10);
  push_color (f, f->session, 1, 10, 10);
  push_color (f, f->session, 2, 10, 90);
  push_color (f, f->session, 3, 10, 10); /* the first again */
  stats = stats_of (f->session);
  g_assert_cmpuint (stats.frames_pushed, ==, 4);
  g_assert_cmpuint (stats.frames_encoded, ==, 2);
  g_assert_cmpuint (stats.frames_unchanged, ==, 2);
  /* What nobody holds is forgotten, but for the last one. */
  valley_session_drop_before (f->session, 4 * FRAME_NS);
  g_assert_cmpuint (stats_of (f->session).encoding_bytes, <, stats.encoding_bytes);
  push_color (f, f->session, 4, 10, 10);
  push_color (f, f->session, 5, 10, 90);
  g_assert_cmpuint (stats_of (f->session).frames_encoded, ==, 3);
  g_assert_cmpuint (stats_of (f->session).frames_unchanged, ==, 3);
  valley_session_reset (f->session);
  g_assert_cmpuint (stats_of (f->session).encoding_bytes, ==, 0);
}

/* Slow drift counts as a change once it has gone far enough. */
static void
test_change_threshold (Fixture *f, gconstpointer data)
{
  ValleySessionOptions options = { .change_threshold = 2.5 / 255 };
  static const guint8 colors[] = { 100, 102, 101, 103, 104, 106, 105 };
  static const guint encoded[] = { 1, 1, 1, 2, 2, 3, 3 };
  ValleySession *session = valley_session_new (f->model, &options, NULL);

  for (guint i = 0; i < G_N_ELEMENTS (colors); i++) {
    push_color (f, session, i, colors[i], colors[i]);
    g_assert_cmpuint (stats_of (session).frames_encoded, ==, encoded[i]);
  }
  /* 0: only what is equal counts as one again. */
  g_assert_true (valley_session_set_change_threshold (session, 0, NULL));
  push_color (f, session, 7, 107, 107);
  g_assert_cmpuint (stats_of (session).frames_encoded, ==, 4);
  valley_session_free (session);
}

static void
test_bad_threshold (Fixture *f, gconstpointer data)
{
  const double bad[] = { -0.1, 1.1, NAN, INFINITY };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    ValleySessionOptions options = { .change_threshold = bad[i] };
    g_autoptr (GError) error = NULL;

    g_assert_null (valley_session_new (f->model, &options, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
    g_clear_error (&error);
    g_assert_false (valley_session_set_change_threshold (f->session, bad[i], &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  }
}

/* A tiled picture comes alone, whatever a policy would have kept of what was before, and nothing
 * of it is kept for what is next. */
static void
test_tiled (Fixture *f, gconstpointer data)
{
  ValleySession *fresh = valley_session_new (f->model, NULL, NULL);
  guint8 rgb[3 * 60 * 44];
  g_autoptr (GError) error = NULL;
  ValleyPicture *picture;
  g_autofree char *text = NULL;

  for (guint i = 0; i < sizeof rgb; i++)
    rgb[i] = (guint8) (i * 3 + i / 97);
  picture = valley_picture_new_tiled (f->model, rgb, 3 * 60, 60, 44, &error);
  g_assert_no_error (error);
  g_assert_true (valley_session_push (fresh, picture, TRUE, &error));
  text = g_strdup (ask (fresh, &question)->text);
  for (ValleyWindowPolicy policy = 0; policy <= VALLEY_WINDOWS_STREAMING; policy++) {
    set_windowing (f->session, policy, 2, 1, 0);
    push_color (f, f->session, 0, 10, 10);
    push_color (f, f->session, 1, 10, 20);
    ask (f->session, &question);
    work_all (f->session);
    g_assert_false (valley_session_push (f->session, picture, TRUE, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
    g_clear_error (&error);
    valley_session_drop_before (f->session, 2 * FRAME_NS);
    g_assert_true (valley_session_push (f->session, picture, TRUE, &error));
    work_all (f->session);
    g_assert_cmpstr (ask (f->session, &question)->text, ==, text);
    g_assert_cmpuint (valley_session_result (f->session)->n_frames, ==, 1);
    valley_session_drop_before (f->session, 1);
    push_color (f, f->session, 2, 10, 10);
    ask (f->session, &question);
    g_assert_cmpuint (valley_session_result (f->session)->n_frames, ==, 1);
    g_assert_cmpuint (valley_session_result (f->session)->start_ns, ==, 2 * FRAME_NS);
    valley_session_reset (f->session);
  }
  valley_picture_unref (picture);
  valley_session_free (fresh);
}

/* ---- answers given again ---- */

/* The next window, one frame further on. */
static void
next_window (Fixture *f, guint *number, guint8 corner)
{
  valley_session_drop_before (f->session, (*number - 1) * FRAME_NS);
  push_color (f, f->session, (*number)++, 10, corner);
}

static void
assert_changed (Fixture *f, const ValleyRequest *request)
{
  guint64 unchanged = stats_of (f->session).hops_unchanged;

  g_assert_false (ask (f->session, request)->unchanged);
  g_assert_cmpuint (stats_of (f->session).hops_unchanged, ==, unchanged);
}

static void
test_unchanged (Fixture *f, gconstpointer data)
{
  guint number = 2;
  ValleySessionStats before = { 0 }, after;
  Answer first, again;

  push_color (f, f->session, 0, 10, 10);
  push_color (f, f->session, 1, 10, 10);
  assert_changed (f, &question);
  answer_take (f, &first);
  assert_changed (f, &question); /* the same window, asked anew */
  for (guint i = 0; i < 3; i++) {
    next_window (f, &number, 10);
    work_all (f->session);
    if (i == 0) /* later idle moments are quiet */
      before = stats_of (f->session);
    g_assert_true (ask (f->session, &question)->unchanged);
    g_assert_cmpuint (valley_session_result (f->session)->n_frames, ==, 2);
    g_assert_cmpuint (valley_session_result (f->session)->start_ns, ==, (number - 2) * FRAME_NS);
    answer_take (f, &again);
    answer_assert_same (&first, &again);
    answer_clear (&again);
  }
  after = stats_of (f->session);
  g_assert_cmpuint (after.hops_unchanged, ==, before.hops_unchanged + 3);
  g_assert_cmpuint (after.hops, ==, before.hops + 3);
  g_assert_cmpuint (after.text_rows, ==, before.text_rows);
  g_assert_cmpuint (after.frame_rows, ==, before.frame_rows);
  /* A pixel makes a difference, also one window later. */
  next_window (f, &number, 90);
  work_all (f->session);
  g_assert_cmpuint (stats_of (f->session).frame_rows, >, after.frame_rows);
  assert_changed (f, &question);
  next_window (f, &number, 90);
  assert_changed (f, &question);
  next_window (f, &number, 90);
  g_assert_true (ask (f->session, &question)->unchanged);
  answer_clear (&first);
}

/* Whatever else the answer depends on. */
static void
test_changed_request (Fixture *f, gconstpointer data)
{
  static const char *const stop[] = { "x", NULL };
  ValleyRequest requests[]
      = { question, question, question, question, question, question, question, question };
  guint number = 2;

  requests[1].prompt = "Another question?";
  requests[2].system_prompt = "Be brief.";
  requests[3].max_new_tokens = 3;
  requests[4].stop = stop;
  requests[5].markers = VALLEY_MARKERS_SPLIT;
  requests[6].repetition_penalty = 1.5;
  requests[7].max_frames = 1;
  push_color (f, f->session, 0, 10, 10);
  push_color (f, f->session, 1, 10, 10);
  for (guint i = 1; i < G_N_ELEMENTS (requests); i++) {
    assert_changed (f, &question); /* which differs from each in one thing */
    next_window (f, &number, 10);
    assert_changed (f, &requests[i]);
    next_window (f, &number, 10);
    g_assert_true (ask (f->session, &requests[i])->unchanged);
    next_window (f, &number, 10);
  }
}

static void
test_chance (Fixture *f, gconstpointer data)
{
  ValleyRequest request = question;
  guint number = 2;

  push_color (f, f->session, 0, 10, 10);
  push_color (f, f->session, 1, 10, 10);
  assert_changed (f, &question);
  next_window (f, &number, 10);
  request.temperature = 0.5;
  assert_changed (f, &request);
  next_window (f, &number, 10);
  assert_changed (f, &request);
  next_window (f, &number, 10);
  assert_changed (f, &question); /* the last greedy answer was two windows ago */
}

static void
test_slots (Fixture *f, gconstpointer data)
{
  ValleyRequest other = question;
  guint number = 2;

  other.prompt = "Another question?";
  other.slot = 1;
  push_color (f, f->session, 0, 10, 10);
  push_color (f, f->session, 1, 10, 10);
  assert_changed (f, &question);
  assert_changed (f, &other);
  next_window (f, &number, 10);
  g_assert_true (ask (f->session, &question)->unchanged);
  g_assert_true (ask (f->session, &other)->unchanged);
  valley_session_reset (f->session);
  push_color (f, f->session, 0, 10, 10);
  push_color (f, f->session, 1, 10, 10);
  assert_changed (f, &question);
  next_window (f, &number, 10);
}

/* What an approximate policy answered is no exact answer, though frames and question are the
 * same. */
static void
test_exactness (Fixture *f, gconstpointer data)
{
  guint number = 0;

  set_windowing (f->session, VALLEY_WINDOWS_STREAMING, 2, 1, 0);
  for (; number < 5; number++) {
    valley_session_drop_before (f->session, (number > 1 ? number - 1 : 0) * FRAME_NS);
    push_color (f, f->session, number, 10, (guint8) (number < 3 ? number : 3));
    if (number > 0)
      g_assert_cmpint (ask (f->session, &question)->unchanged, ==, FALSE);
  }
  next_window (f, &number, 3);
  g_assert_true (ask (f->session, &question)->unchanged);
  set_windowing (f->session, VALLEY_WINDOWS_SLIDING, 2, 1, 0);
  next_window (f, &number, 3);
  assert_changed (f, &question);
  set_windowing (f->session, VALLEY_WINDOWS_ANCHORED, 2, 1, 0);
  next_window (f, &number, 3);
  g_assert_true (ask (f->session, &question)->unchanged);
}

/* Idle moments are quiet only if no question needs the frames. */
static void
test_one_slot_repeats (Fixture *f, gconstpointer data)
{
  static const char *const prompts[] = { "At 1 s?", "At 2 s?", "At 3 s?", "At 4 s?" };
  ValleyRequest other = question;
  guint number = 2;

  other.slot = 1;
  push_color (f, f->session, 0, 10, 10);
  push_color (f, f->session, 1, 10, 10);
  for (guint i = 0; i < G_N_ELEMENTS (prompts); i++) {
    guint64 frame_rows;

    work_all (f->session);
    frame_rows = stats_of (f->session).frame_rows;
    other.prompt = prompts[i];
    assert_changed (f, &other);
    g_assert_cmpint (ask (f->session, &question)->unchanged, ==, i > 0);
    g_assert_cmpuint (stats_of (f->session).frame_rows, ==, frame_rows);
    next_window (f, &number, 10);
  }
}

/* ---- rows ---- */

/* What is prefilled when it comes need not be prefilled for the answer. */
static void
test_work (Fixture *f, gconstpointer data)
{
  ValleySessionStats before, after;
  const ValleyResult *result;
  gboolean more = TRUE;

  fixture_push_frames (f, 0, 2);
  before = stats_of (f->session);
  g_assert_cmpuint (before.frame_rows, ==, 0);
  work_all (f->session);
  g_assert_true (valley_session_work (f->session, &more, NULL));
  g_assert_false (more);
  before = stats_of (f->session);
  g_assert_cmpuint (before.frame_rows, >, 0);
  result = ask (f->session, &question);
  after = stats_of (f->session);
  g_assert_cmpuint (after.frame_rows, ==, before.frame_rows);
  g_assert_cmpuint (after.frame_rows, ==, result->n_vision_tokens);
  g_assert_cmpuint (after.text_rows + after.frame_rows, ==, result->n_input_tokens);
  g_assert_cmpuint (result->n_reused_tokens, ==, 0); /* there was no answer before */
  /* A second question pays for itself alone. */
  before = after;
  result = ask (f->session, &question);
  after = stats_of (f->session);
  g_assert_cmpuint (after.frame_rows, ==, before.frame_rows);
  g_assert_cmpuint (after.text_rows - before.text_rows, ==,
                    result->n_input_tokens - result->n_reused_tokens);
  g_assert_cmpuint (result->n_reused_tokens, >, result->n_vision_tokens);
}

/* Where answers cannot use what was prefilled, nothing is; until one can. */
static void
test_work_in_vain (Fixture *f, gconstpointer data)
{
  ValleyRequest few = question;
  guint number = 2;

  few.max_frames = 1;
  push_color (f, f->session, 0, 10, 10);
  push_color (f, f->session, 1, 10, 20);
  for (guint i = 0; i < 6; i++) {
    const ValleyRequest *request = i < 3 ? &few : &question;
    guint64 rows = stats_of (f->session).frame_rows, ahead;

    work_all (f->session);
    ahead = stats_of (f->session).frame_rows - rows;
    g_assert_cmpint (ahead > 0, ==, i == 0 || i > 3);
    g_assert_false (ask (f->session, request)->unchanged);
    rows = stats_of (f->session).frame_rows - rows - ahead;
    if (i < 3)
      g_assert_cmpuint (rows, ==, valley_session_result (f->session)->n_vision_tokens);
    else if (i > 3)
      g_assert_cmpuint (rows, ==, 0);
    next_window (f, &number, (guint8) (40 + i));
  }
}

/* Frames of the same size and different contents, a window after each once W have come. */
static void
run_stream (Fixture *f, guint window, guint n_frames, gboolean idle)
{
  for (guint i = 0; i < n_frames; i++) {
    if (i >= window)
      valley_session_drop_before (f->session, (i - window + 1) * FRAME_NS);
    push_color (f, f->session, i, (guint8) i, (guint8) (i * 7));
    if (i + 1 >= window)
      ask (f->session, &question);
    if (idle)
      work_all (f->session);
  }
}

static void
test_rows (Fixture *f, gconstpointer data)
{
  enum { WINDOW = 4 };
  const guint n = test_on_cpu () ? 40 : 3 * WINDOW; /* an emulated device takes its time */
  const struct {
    ValleyWindowPolicy policy;
    guint most; /* times that a frame is prefilled */
  } cases[] = { { VALLEY_WINDOWS_TUMBLING, WINDOW },
                { VALLEY_WINDOWS_SLIDING, WINDOW },
                { VALLEY_WINDOWS_ANCHORED, 2 } };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    ValleySessionStats before = stats_of (f->session), after;
    gsize rows;

    set_windowing (f->session, cases[i].policy, WINDOW, 1, 0);
    run_stream (f, WINDOW, n, TRUE);
    after = stats_of (f->session);
    g_assert_cmpint (after.policy, ==, cases[i].policy);
    rows = valley_session_result (f->session)->n_vision_tokens
           / valley_session_result (f->session)->n_frames;
    g_assert_cmpuint (after.frames_encoded - before.frames_encoded, ==, n);
    g_assert_cmpuint ((after.frame_rows - before.frame_rows) / rows, <=, n * cases[i].most);
    g_assert_cmpuint ((after.frame_rows - before.frame_rows) / rows, >=, n);
    g_assert_cmpuint (after.frames_reencoded, ==, 0);
    valley_session_reset (f->session);
    g_assert_cmpuint (stats_of (f->session).encoding_bytes, ==, 0);
  }
}

/* The closing window pays for its last frame and the question, whatever the others lack. */
static void
test_closing_window (Fixture *f, gconstpointer data)
{
  enum { WINDOW = 6 };
  ValleySessionStats before, after;
  const ValleyResult *result;

  set_windowing (f->session, VALLEY_WINDOWS_SLIDING, WINDOW, 1, 0);
  run_stream (f, WINDOW, 2 * WINDOW, TRUE);
  valley_session_drop_before (f->session, (WINDOW + 1) * FRAME_NS);
  before = stats_of (f->session);
  push_color (f, f->session, 2 * WINDOW, 200, 200);
  result = ask (f->session, &question);
  after = stats_of (f->session);
  g_assert_cmpuint (result->n_frames, ==, WINDOW);
  g_assert_cmpuint (after.frame_rows - before.frame_rows, ==, result->n_vision_tokens / WINDOW);
}

/* ---- memory ---- */

static guint64
page_bytes (const Fixture *f)
{
  const ValleyLlmConfig *llm = &f->model->config->llm;

  return VALLEY_KV_PAGE_ROWS * 2 * llm->n_layers * llm->n_kv_heads * llm->head_dim * sizeof (float);
}

static void
test_bound (Fixture *f, gconstpointer data)
{
  enum { WINDOW = 5 };
  guint64 free_peak, bound;
  ValleySessionStats stats;

  set_windowing (f->session, VALLEY_WINDOWS_SLIDING, WINDOW, 1, 0);
  run_stream (f, WINDOW, 12, TRUE);
  stats = stats_of (f->session);
  free_peak = stats.kv_bytes_peak + stats.encoding_bytes_peak;
  g_assert_cmpuint (stats.sequences_evicted + stats.encodings_evicted, ==, 0);
  valley_session_reset (f->session);
  bound = free_peak / 2;
  set_windowing (f->session, VALLEY_WINDOWS_SLIDING, WINDOW, 1, bound);
  for (guint i = 0; i < 12; i++) {
    if (i >= WINDOW)
      valley_session_drop_before (f->session, (i - WINDOW + 1) * FRAME_NS);
    push_color (f, f->session, i, (guint8) i, (guint8) (i * 7));
    if (i + 1 >= WINDOW)
      ask (f->session, &question);
    work_all (f->session);
    stats = stats_of (f->session);
    g_assert_cmpuint (stats.kv_bytes + stats.encoding_bytes, <=, bound);
  }
  g_assert_cmpuint (stats.sequences_evicted, >, 0);
}

/* Too little for one window is an error that says so; more cures it. */
static void
test_no_room (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL;

  set_windowing (f->session, VALLEY_WINDOWS_TUMBLING, 0, 0, page_bytes (f));
  fixture_push_frames (f, 0, 2);
  g_assert_false (valley_session_begin (f->session, &question, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
  g_assert_nonnull (strstr (error->message, "bound"));
  g_assert_cmpint (valley_session_next (f->session, NULL), ==, VALLEY_STEP_ERROR);
  set_windowing (f->session, VALLEY_WINDOWS_TUMBLING, 0, 0, 0);
  ask (f->session, &question);
  g_assert_cmpuint (valley_session_result (f->session)->n_frames, ==, 3);
}

static guint64
given_up (const Fixture *f)
{
  ValleySessionStats stats = stats_of (f->session);

  return stats.sequences_evicted + stats.encodings_evicted;
}

/* Whatever allocation fails while a prompt's rows are computed: what is kept makes room for it. */
static void
test_short (Fixture *f, gconstpointer data)
{
  enum { WINDOW = 4 };
  gboolean failed = TRUE;
  guint n_cured = 0;
  Answer want, got;

  set_windowing (f->session, VALLEY_WINDOWS_SLIDING, WINDOW, 1, 0);
  for (guint i = 0; i < WINDOW; i++)
    push_color (f, f->session, i, (guint8) i, 7);
  ask (f->session, &question);
  answer_take (f, &want);
  for (guint n = 1; failed; n++) {
    g_autoptr (GError) error = NULL;
    guint64 before = given_up (f);
    gboolean ok;

    valley_alloc_fail_at (n);
    ok = valley_session_begin (f->session, &question, &error);
    failed = valley_alloc_has_failed ();
    valley_alloc_fail_at (0);
    if (!ok) { /* the sampler's, say */
      g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
      g_assert_null (strstr (error->message, "for a prompt"));
      continue;
    }
    n_cured += failed && given_up (f) > before;
    while (valley_session_next (f->session, &error) == VALLEY_STEP_TOKEN)
      ;
    g_assert_no_error (error);
    answer_take (f, &got);
    answer_assert_same (&want, &got);
    answer_clear (&got);
  }
  g_assert_cmpuint (n_cured, >, 1);
  answer_clear (&want);
}

/* A sequence that has outgrown the model's context is not kept. */
static void
test_outgrown (Fixture *f, gconstpointer data)
{
  guint64 most = 0, rows;
  gsize max = f->model->config->llm.max_position_embeddings;

  for (guint i = 0; i < 60; i++) {
    push_color (f, f->session, i, (guint8) (4 * i), 7);
    work_all (f->session);
    most = MAX (most, stats_of (f->session).kv_bytes);
  }
  g_assert_cmpuint (most, <=, (max / VALLEY_KV_PAGE_ROWS + 2) * page_bytes (f));
  g_assert_cmpuint (stats_of (f->session).kv_bytes, <=, 2 * page_bytes (f)); /* the header */
  rows = stats_of (f->session).frame_rows;
  g_assert_cmpuint (ask (f->session, &question)->n_frames_dropped, >, 0);
  g_assert_cmpuint (stats_of (f->session).frame_rows - rows, ==,
                    valley_session_result (f->session)->n_vision_tokens);
}

/* Whether the call worked, or failed for want of memory and says whose. */
static gboolean
had_memory (gboolean ok, GError *error)
{
  if (ok) {
    g_assert_no_error (error);
    return TRUE;
  }
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
  g_assert_nonnull (strstr (error->message, "bound"));
  g_error_free (error);
  return FALSE;
}

static void
work_bounded (ValleySession *session)
{
  gboolean more = TRUE;

  while (more) {
    GError *error = NULL;
    gboolean ok = valley_session_work (session, &more, &error);

    had_memory (ok, error);
  }
}

enum { BOUND_WINDOW = 4, BOUND_FRAMES = 10 };

/* The answer is the one that the window had before, if there was one. */
static void
check_answer (Fixture *f, Answer *exact)
{
  Answer answer;

  if (exact->n_ids == 0) {
    answer_take (f, exact);
    return;
  }
  answer_take (f, &answer);
  answer_assert_same (exact, &answer);
  answer_clear (&answer);
}

static void
check_bound (Fixture *f, guint64 bound)
{
  ValleySessionStats stats = stats_of (f->session);

  if (bound > 0)
    g_assert_cmpuint (stats.kv_bytes + stats.encoding_bytes, <=, bound);
}

/* A stream under @bound: every answer is @exact's, or there is none for want of memory, which
 * more memory cures, at once (@retries) or for the last window.  Returns how many there are. */
static guint
run_bounded (Fixture *f, ValleyWindowPolicy policy, guint64 bound, gboolean retries,
             Answer exact[BOUND_FRAMES])
{
  guint n_answers = 0;

  valley_session_reset (f->session);
  set_windowing (f->session, policy, BOUND_WINDOW, 1, bound);
  for (guint i = 0; i < BOUND_FRAMES; i++) {
    gboolean ok;
    GError *error = NULL;

    if (i >= BOUND_WINDOW)
      valley_session_drop_before (f->session, (i - BOUND_WINDOW + 1) * FRAME_NS);
    push_color (f, f->session, i, (guint8) (20 * i), (guint8) (i * 7));
    check_bound (f, bound);
    if (i < BOUND_WINDOW - 1)
      continue;
    ok = fixture_run (f, &question, &error);
    ok = had_memory (ok, error);
    n_answers += ok;
    if (!ok && (retries || i == BOUND_FRAMES - 1)) {
      set_windowing (f->session, policy, BOUND_WINDOW, 1, 0);
      ok = fixture_run (f, &question, &error);
      g_assert_true (ok);
    }
    if (ok)
      check_answer (f, &exact[i]);
    set_windowing (f->session, policy, BOUND_WINDOW, 1, bound);
    work_bounded (f->session);
    check_bound (f, bound);
  }
  return n_answers;
}

/* From nothing to plenty, by half a page; by three where that takes long. */
static void
test_every_bound (Fixture *f, gconstpointer data)
{
  const guint most = BOUND_FRAMES - BOUND_WINDOW + 1;
  const guint64 step = test_on_cpu () ? page_bytes (f) / 2 : 3 * page_bytes (f);

  for (ValleyWindowPolicy policy = 0; policy < VALLEY_WINDOWS_STREAMING; policy++) {
    Answer exact[BOUND_FRAMES] = { 0 };
    guint n = 0, n_some = 0;

    g_assert_cmpuint (run_bounded (f, policy, 0, FALSE, exact), ==, most);
    g_assert_cmpuint (run_bounded (f, policy, 1, TRUE, exact), ==, 0);
    for (guint64 bound = page_bytes (f); n < most; bound += step) {
      run_bounded (f, policy, bound, TRUE, exact);
      n = run_bounded (f, policy, bound, FALSE, exact);
      n_some += n > 0 && n < most;
    }
    g_test_message ("policy %d: %u bounds were enough for some windows", policy, n_some);
    for (guint i = 0; i < BOUND_FRAMES; i++)
      answer_clear (&exact[i]);
  }
}

static void
test_bad_windowing (Fixture *f, gconstpointer data)
{
  const ValleyWindowing bad[] = { { .policy = VALLEY_WINDOWS_SLIDING },
                                  { .policy = VALLEY_WINDOWS_ANCHORED, .window_frames = 4 },
                                  { .policy = 17 } };

  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;

    g_assert_false (valley_session_set_windowing (f->session, &bad[i], &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  }
  g_assert_cmpint (stats_of (f->session).policy, ==, VALLEY_WINDOWS_TUMBLING);
}

#define SESSION_TEST(name, function)                                                               \
  g_test_add ("/session-windows/" name, Fixture, NULL, fixture_setup, function, fixture_teardown)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  SESSION_TEST ("frames/equal", test_equal_frames);
  SESSION_TEST ("frames/threshold", test_change_threshold);
  SESSION_TEST ("frames/bad-threshold", test_bad_threshold);
  g_test_add ("/session-windows/frames/tiled", Fixture, "image-tiled", fixture_setup, test_tiled,
              fixture_teardown);
  SESSION_TEST ("unchanged/windows", test_unchanged);
  SESSION_TEST ("unchanged/requests", test_changed_request);
  SESSION_TEST ("unchanged/chance", test_chance);
  SESSION_TEST ("unchanged/slots", test_slots);
  SESSION_TEST ("unchanged/exactness", test_exactness);
  SESSION_TEST ("unchanged/one-slot", test_one_slot_repeats);
  SESSION_TEST ("rows/work", test_work);
  SESSION_TEST ("rows/in-vain", test_work_in_vain);
  SESSION_TEST ("rows/policies", test_rows);
  SESSION_TEST ("rows/closing-window", test_closing_window);
  SESSION_TEST ("memory/bound", test_bound);
  SESSION_TEST ("memory/no-room", test_no_room);
  SESSION_TEST ("memory/short", test_short);
  SESSION_TEST ("memory/outgrown", test_outgrown);
  SESSION_TEST ("memory/every-bound", test_every_bound);
  SESSION_TEST ("bad-windowing", test_bad_windowing);
  return g_test_run ();
}
