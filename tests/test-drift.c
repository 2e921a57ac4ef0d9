/* test-drift.c - the streaming policy over whole sessions: exact until something is evicted and
 * whenever an exact sequence takes over, and what it tells of its drift is what two sessions,
 * one exact and one that never starts anew, say when they are compared here.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "compare.h"
#include "drift.h"
#include "engine-fixture.h"
#include "scratch.h"

enum { WINDOW = 4, REANCHOR = 6, TICKS = 24, MOST_TOKENS = 5 };

typedef struct {
  ValleyModel *model;
  ValleyReduction reduction;
  ValleyPicture *pictures[TICKS];
} Film;

/* The golden's model with @layers layers (0: as it is). */
static ValleyModel *
film_model (const char *golden, ValleyPrecision precision, guint layers)
{
  g_autofree char *dir = golden_dir (golden), *path = NULL, *text = NULL, *wanted = NULL;
  char *scratch;
  g_autoptr (GString) config = NULL;
  ValleyModel *model;

  if (layers == 0) {
    model = open_model (dir, precision);
    g_assert_true (valley_model_load (model, NULL, NULL));
    return model;
  }
  scratch = scratch_new ();
  scratch_copy (scratch, dir);
  path = g_build_filename (dir, "config.json", NULL);
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  config = g_string_new (text);
  wanted = g_strdup_printf ("\"num_hidden_layers\": %u,", layers);
  g_assert_cmpuint (g_string_replace (config, "\"num_hidden_layers\": 2,", wanted, 0), ==, 1);
  scratch_write (scratch, "config.json", config->str, config->len);
  model = open_model (scratch, precision);
  g_assert_true (valley_model_load (model, NULL, NULL));
  scratch_remove (scratch);
  return model;
}

/* With @drop half of the picture hardly changes. */
static Film
film_new (ValleyModel *model, gboolean drop, gboolean close)
{
  Film film
      = { .model = model, .reduction = { .drop = drop, .drop_threshold = 0.6, .close = close } };
  g_autoptr (GError) error = NULL;

  for (guint i = 0; i < TICKS; i++) {
    guint8 rgb[3 * 64 * 48];
    gint32 shade = g_rand_int_range (rng, 0, 200), noise = i % 3 == 0 ? 40 : 3;

    for (gsize j = 0; j < sizeof rgb; j++)
      rgb[j]
          = (guint8) (drop && j < sizeof rgb / 2 ? 90 : shade + g_rand_int_range (rng, 0, noise));
    film.pictures[i] = valley_picture_new_from_rgb (film.model, i * FRAME_NS, rgb, 3 * 64, 64, 48,
                                                    drop ? &film.reduction : NULL, &error);
    g_assert_no_error (error);
  }
  return film;
}

/* Every third picture is wider, and more tokens. */
static void
film_vary (Film *film)
{
  guint n_wide = 0;

  for (guint i = 0; i < TICKS; i += 3) {
    guint8 rgb[3 * 128 * 48];

    for (gsize j = 0; j < sizeof rgb; j++)
      rgb[j] = (guint8) (j * (i + 3) + j / 97);
    valley_picture_unref (film->pictures[i]);
    film->pictures[i] = valley_picture_new_from_rgb (film->model, i * FRAME_NS, rgb, 3 * 128, 128,
                                                     48, NULL, NULL);
    n_wide += valley_picture_bytes (film->pictures[i]) > valley_picture_bytes (film->pictures[1]);
  }
  g_assert_cmpuint (n_wide, ==, TICKS / 3);
}

static void
film_clear (Film *film)
{
  for (guint i = 0; i < TICKS; i++)
    valley_picture_unref (film->pictures[i]);
  valley_model_unref (film->model);
}

static Fixture
show (const Film *film, const ValleyWindowing *windowing)
{
  ValleySessionOptions options = { .keep_logits = TRUE };
  g_autoptr (GError) error = NULL;
  Fixture f = { .model = film->model };

  f.session = valley_session_new (film->model, &options, &error);
  g_assert_no_error (error);
  if (windowing != NULL)
    g_assert_true (valley_session_set_windowing (f.session, windowing, &error));
  g_assert_no_error (error);
  return f;
}

static void
push (Fixture *f, ValleyPicture *picture)
{
  g_autoptr (GError) error = NULL;

  g_assert_true (valley_session_push (f->session, picture, TRUE, &error));
  g_assert_no_error (error);
}

/* At most @n units of what waits. */
static void
work (Fixture *f, guint n)
{
  g_autoptr (GError) error = NULL;
  gboolean more = TRUE;

  for (guint i = 0; more && i < n; i++) {
    valley_session_work (f->session, &more, &error);
    g_assert_no_error (error);
  }
}

/* What a session answers that never saw anything but these frames. */
static void
ask_afresh (const Film *film, const guint64 *pts_ns, guint n, Answer *answer)
{
  Fixture f = show (film, NULL);

  for (guint i = 0; i < n; i++)
    push (&f, film->pictures[pts_ns[i] / FRAME_NS]);
  fixture_ask (&f, MOST_TOKENS, answer);
  valley_session_free (f.session);
}

static gboolean
same_ids (const Answer *a, const Answer *b)
{
  return a->n_ids == b->n_ids && memcmp (a->ids, b->ids, a->n_ids * sizeof *a->ids) == 0;
}

static ValleySessionStats
stats_of (Fixture *f)
{
  ValleySessionStats stats;

  valley_session_stats (f->session, &stats);
  return stats;
}

/* The next frame, and the window that it ends. */
static void
tick (Fixture *f, const Film *film, guint number, guint idle_units, Answer *answer)
{
  push (f, film->pictures[number]);
  work (f, idle_units);
  if (number < WINDOW - 1)
    return;
  fixture_ask (f, MOST_TOKENS, answer);
  valley_session_drop_before (f->session, (number - WINDOW + 2) * FRAME_NS);
}

static void
assert_shown (Fixture *f, guint number)
{
  const ValleyResult *result = valley_session_result (f->session);

  g_assert_cmpuint (result->n_frames, ==, WINDOW);
  for (guint i = 0; i < WINDOW; i++)
    g_assert_cmpuint (result->frame_pts_ns[i], ==, (number - WINDOW + 1 + i) * FRAME_NS);
}

/* Of one window: @a by the session in question, @b by the one that never starts anew. */
static void
check_window (const Film *film, guint number, const Answer *a, const Answer *b, gboolean is_exact,
              ValleyDrift *expected)
{
  gsize n = 0;
  guint64 pts_ns[WINDOW];
  Answer exact;

  for (guint i = 0; i < WINDOW; i++)
    pts_ns[i] = (number - WINDOW + 1 + i) * FRAME_NS;
  ask_afresh (film, pts_ns, WINDOW, &exact);
  n = exact.n_logits / MAX (exact.n_ids, 1);
  if (is_exact)
    answer_assert_same (a, &exact);
  else
    g_assert_cmpint (memcmp (a->logits, exact.logits, n * sizeof (float)), !=, 0);
  if (is_exact && number >= WINDOW && expected->n_samples == 0)
    valley_drift_add (expected, valley_drift_divergence (exact.logits, b->logits, n),
                      same_ids (b, &exact));
  answer_clear (&exact);
}

static void
check_film (const char *golden, ValleyPrecision precision, gboolean drop, gboolean close,
            guint idle_units)
{
  Film film = film_new (film_model (golden, precision, 0), drop, close);
  ValleyWindowing often = { VALLEY_WINDOWS_STREAMING, WINDOW, 1, 0, REANCHOR, 0 };
  ValleyWindowing never = { VALLEY_WINDOWS_STREAMING, WINDOW, 1, 0, 100000, 0 };
  Fixture a = show (&film, &often), b = show (&film, &never);
  ValleyDrift expected = { 0 };
  guint64 samples = 0, n_dropped = 0;

  for (guint i = 0; i < TICKS; i++) {
    Answer of_a = { .n_ids = 0 }, of_b = { .n_ids = 0 };
    gboolean is_exact;

    /* what is compared is run at the latest before the next frame */
    tick (&a, &film, i, idle_units, &of_a);
    tick (&b, &film, i, g_rand_int_range (rng, 0, 3), &of_b);
    work (&a, idle_units > 0 ? 1000 : 0);
    if (i < WINDOW - 1)
      continue;
    assert_shown (&a, i);
    n_dropped += valley_session_result (a.session)->n_vision_tokens_before
                 - valley_session_result (a.session)->n_vision_tokens;
    /* one starts with every REANCHOR-th window, and answers once it has WINDOW frames */
    is_exact = i < WINDOW || (i + 1 - WINDOW) % REANCHOR == 0;
    check_window (&film, i, &of_a, &of_b, is_exact, &expected);
    if (i < WINDOW - 1 + REANCHOR) /* when the work was done makes no difference */
      answer_assert_same (&of_a, &of_b);
    if (idle_units > 0)
      g_assert_cmpuint (stats_of (&a).drift_samples - samples, ==, i >= WINDOW && is_exact);
    samples = stats_of (&a).drift_samples;
    if (expected.n_samples == 1 && samples == 1) {
      ValleySessionStats stats = stats_of (&a);

      g_assert_cmpfloat (stats.drift_last, ==, expected.last);
      g_assert_cmpfloat (stats.drift_mean, ==, expected.last);
      g_assert_cmpfloat (stats.drift_max, ==, expected.last);
      g_assert_cmpuint (stats.drift_agreements, ==, expected.n_agreements);
    }
    answer_clear (&of_a);
    answer_clear (&of_b);
  }
  g_assert_cmpuint (samples, ==, (TICKS - WINDOW) / REANCHOR);
  g_assert_cmpint (n_dropped > 0, ==, drop);
  g_assert_cmpuint (stats_of (&a).policy, ==, VALLEY_WINDOWS_STREAMING);
  g_assert_cmpuint (stats_of (&b).drift_samples, ==, 0);
  g_test_message ("drift %g, %u of %u agree", stats_of (&a).drift_mean,
                  (guint) stats_of (&a).drift_agreements, (guint) samples);
  valley_session_free (a.session);
  valley_session_free (b.session);
  film_clear (&film);
}

static void
test_streaming (void)
{
  check_film ("ovis-softmax", VALLEY_PRECISION_F32, FALSE, FALSE, 1000);
  check_film ("ovis-softmax", VALLEY_PRECISION_F32, FALSE, FALSE, 0);
  check_film ("qwen3-navit", VALLEY_PRECISION_F32, FALSE, FALSE, 1);
  check_film ("ovis-softmax", VALLEY_PRECISION_BF16, FALSE, FALSE, 1);
}

/* Dropped tokens leave gaps behind, which move up with the rest, or none. */
static void
test_dropped_tokens (void)
{
  check_film ("ovis-softmax", VALLEY_PRECISION_F32, TRUE, FALSE, 1000);
  check_film ("ovis-softmax", VALLEY_PRECISION_F32, TRUE, FALSE, 0);
  check_film ("ovis-softmax", VALLEY_PRECISION_F32, TRUE, TRUE, 1);
}

/* What never changes is shown once in every window, however long ago it was first. */
static void
test_still_tokens (void)
{
  Film film = film_new (film_model ("ovis-softmax", VALLEY_PRECISION_F32, 0), FALSE, FALSE);
  ValleyWindowing windowing = { VALLEY_WINDOWS_STREAMING, WINDOW, 1, 0, 100000, 0 };
  ValleyReduction reduction = { .drop = TRUE, .drop_threshold = 0.6 };
  Fixture f = show (&film, &windowing);
  ValleyInputSizes sizes;

  g_assert_true (valley_model_input_sizes (film.model, 64, 48, &reduction, &sizes, NULL));
  for (guint i = 0; i < TICKS; i++) {
    guint8 rgb[3 * 64 * 48];
    Answer answer = { .n_ids = 0 };

    memset (rgb, 90, sizeof rgb);
    rgb[0] = (guint8) (8 * i); /* no two are equal */
    valley_picture_unref (film.pictures[i]);
    film.pictures[i] = valley_picture_new_from_rgb (film.model, i * FRAME_NS, rgb, 3 * 64, 64, 48,
                                                    &reduction, NULL);
    tick (&f, &film, i, 3, &answer);
    answer_clear (&answer);
    if (i < WINDOW - 1)
      continue;
    g_assert_cmpuint (valley_session_result (f.session)->n_vision_tokens, >=, sizes.n_tokens);
    g_assert_cmpuint (valley_session_result (f.session)->n_vision_tokens, <, 2 * sizes.n_tokens);
  }
  valley_session_free (f.session);
  film_clear (&film);
}

/* In a model of one layer the keys and values of a row depend on nothing but its own token and
 * position: there eviction is exact, and every mistake in what goes and where the rest moves
 * shows in the bits. */
static void
test_one_layer (void)
{
  for (guint idle_units = 0; idle_units < 3; idle_units++) {
    Film film = film_new (film_model ("ovis-softmax", VALLEY_PRECISION_F32, 1), FALSE, FALSE);
    ValleyWindowing windowing = { VALLEY_WINDOWS_STREAMING, WINDOW, 1, 0, 9, 0 };
    Fixture f = show (&film, &windowing);

    film_vary (&film);
    for (guint i = 0; i < TICKS; i++) {
      const ValleyResult *result = valley_session_result (f.session);
      Answer answer = { .n_ids = 0 }, exact;

      tick (&f, &film, i, idle_units, &answer);
      if (i < WINDOW - 1)
        continue;
      ask_afresh (&film, result->frame_pts_ns, result->n_frames, &exact);
      answer_assert_same (&answer, &exact);
      answer_clear (&answer);
      answer_clear (&exact);
    }
    g_assert_cmpuint (stats_of (&f).drift_samples, ==, 2);
    g_assert_cmpuint (stats_of (&f).drift_agreements, ==, 2);
    g_assert_cmpfloat (stats_of (&f).drift_max, ==, 0);
    valley_session_free (f.session);
    film_clear (&film);
  }
}

static guint64
need_of (const Film *film, ValleyWindowPolicy policy)
{
  ValleyWindowing windowing = { policy, WINDOW, 1, 0, REANCHOR, 0 };
  ValleyInputSizes sizes;
  guint64 bytes;

  g_assert_true (valley_model_input_sizes (film->model, 64, 48, NULL, &sizes, NULL));
  g_assert_true (valley_model_admits (film->model, &windowing, &sizes, &bytes, NULL));
  return bytes;
}

/* Any drift is too much: from then on an exact policy answers, what memory allows of them. */
static void
check_fall_back (guint64 max_bytes, ValleyWindowPolicy to)
{
  Film film = film_new (film_model ("ovis-softmax", VALLEY_PRECISION_F32, 0), FALSE, FALSE);
  ValleyWindowing windowing = { VALLEY_WINDOWS_STREAMING, WINDOW, 1, max_bytes, REANCHOR, 1e-300 };
  Fixture f = show (&film, &windowing);

  for (guint i = 0; i < TICKS; i++) {
    gboolean over = stats_of (&f).fallen_back;
    Answer answer = { .n_ids = 0 }, exact;
    const ValleyResult *result = valley_session_result (f.session);

    g_assert_cmpint (over, ==, i > WINDOW + REANCHOR - 1);
    g_assert_cmpuint (stats_of (&f).policy, ==, over ? to : VALLEY_WINDOWS_STREAMING);
    tick (&f, &film, i, 3, &answer);
    if (over) {
      ask_afresh (&film, result->frame_pts_ns, result->n_frames, &exact);
      answer_assert_same (&answer, &exact);
      answer_clear (&exact);
    }
    answer_clear (&answer);
    work (&f, 1000);
    /* the same settings again are no other ones */
    g_assert_true (valley_session_set_windowing (f.session, &windowing, NULL));
  }
  g_assert_cmpuint (stats_of (&f).drift_samples, ==, 1);
  windowing.max_drift = 1e9;
  g_assert_true (valley_session_set_windowing (f.session, &windowing, NULL));
  g_assert_cmpuint (stats_of (&f).policy, ==, VALLEY_WINDOWS_STREAMING);
  g_assert_false (stats_of (&f).fallen_back);
  valley_session_free (f.session);
  film_clear (&film);
}

static void
test_fall_back (void)
{
  Film film = film_new (film_model ("ovis-softmax", VALLEY_PRECISION_F32, 0), FALSE, FALSE);

  check_fall_back (0, VALLEY_WINDOWS_ANCHORED);
  check_fall_back (need_of (&film, VALLEY_WINDOWS_ANCHORED), VALLEY_WINDOWS_ANCHORED);
  check_fall_back (need_of (&film, VALLEY_WINDOWS_ANCHORED) - 1, VALLEY_WINDOWS_TUMBLING);
  film_clear (&film);
}

/* An answer that is in progress when the next frame comes is not disturbed by the comparison that
 * was waiting. */
static void
test_answer_in_progress (void)
{
  enum { SWITCH = WINDOW - 1 + REANCHOR };
  Film film = film_new (film_model ("ovis-softmax", VALLEY_PRECISION_F32, 0), FALSE, FALSE);
  ValleyWindowing windowing = { VALLEY_WINDOWS_STREAMING, WINDOW, 1, 0, REANCHOR, 1e-300 };
  ValleyRequest other = { .prompt = "What else?", .max_new_tokens = MOST_TOKENS, .slot = 1 };
  Fixture f = show (&film, &windowing), fresh = show (&film, NULL);
  g_autoptr (GError) error = NULL;
  Answer answer, exact;

  for (guint i = 0; i < SWITCH; i++) {
    tick (&f, &film, i, 3, &answer);
    if (i >= WINDOW - 1)
      answer_clear (&answer);
  }
  push (&f, film.pictures[SWITCH]);
  fixture_ask (&f, MOST_TOKENS, &answer);
  answer_clear (&answer);
  g_assert_true (valley_session_begin (f.session, &other, &error));
  g_assert_cmpint (valley_session_next (f.session, &error), ==, VALLEY_STEP_TOKEN);
  push (&f, film.pictures[SWITCH + 1]);
  g_assert_false (stats_of (&f).fallen_back);
  while (valley_session_next (f.session, &error) == VALLEY_STEP_TOKEN)
    ;
  g_assert_no_error (error);
  answer_take (&f, &answer);
  for (guint i = SWITCH + 1 - WINDOW; i <= SWITCH; i++)
    push (&fresh, film.pictures[i]);
  g_assert_true (fixture_run (&fresh, &other, &error));
  answer_take (&fresh, &exact);
  answer_assert_same (&answer, &exact);
  answer_clear (&answer);
  answer_clear (&exact);
  push (&f, film.pictures[SWITCH + 2]);
  g_assert_true (stats_of (&f).fallen_back);
  valley_session_free (f.session);
  valley_session_free (fresh.session);
  film_clear (&film);
}

/* With hardly any memory the sequences are made anew all the time; it still answers. */
static void
test_little_memory (void)
{
  Film film = film_new (film_model ("ovis-softmax", VALLEY_PRECISION_F32, 0), FALSE, FALSE);
  guint64 need = need_of (&film, VALLEY_WINDOWS_STREAMING);
  ValleyWindowing windowing = { VALLEY_WINDOWS_STREAMING, WINDOW, 1, need / 4, REANCHOR, 0 };
  Fixture f = show (&film, &windowing);

  for (guint i = 0; i < TICKS; i++) {
    Answer answer = { .n_ids = 0 };

    tick (&f, &film, i, 3, &answer);
    if (i >= WINDOW - 1)
      assert_shown (&f, i);
    answer_clear (&answer);
    work (&f, 1000);
    g_assert_cmpuint (stats_of (&f).kv_bytes, <=, need / 4);
  }
  g_assert_cmpuint (stats_of (&f).sequences_evicted + stats_of (&f).encodings_evicted, >, 0);
  valley_session_free (f.session);
  film_clear (&film);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init ("drift");
  g_test_add_func ("/drift/streaming", test_streaming);
  g_test_add_func ("/drift/dropped-tokens", test_dropped_tokens);
  g_test_add_func ("/drift/still-tokens", test_still_tokens);
  g_test_add_func ("/drift/one-layer", test_one_layer);
  g_test_add_func ("/drift/fall-back", test_fall_back);
  g_test_add_func ("/drift/answer-in-progress", test_answer_in_progress);
  g_test_add_func ("/drift/little-memory", test_little_memory);
  return g_test_run ();
}
