/* test-draft.c - drafting: what is guessed, and that guessing changes no answer, not by a bit.
 * SPDX-License-Identifier: Apache-2.0 */
#include "draft.h"

#include <string.h>

#include "alloc.h"
#include "engine-fixture.h"
#include "which-device.h"

/* ---- guesses ---- */

typedef struct {
  guint proposed, accepted, passes;
} Count;

/* An answer as the engine would take it: every pass gives one token and the guesses that were
 * right. */
static Count
answer_with (ValleyDraft *draft, const gint32 *ids, gsize n)
{
  gint32 guesses[VALLEY_MAX_DRAFT];
  Count count = { 0 };

  valley_draft_begin (draft);
  for (gsize i = 0; i < n;) {
    gsize n_guesses = i > 0 ? valley_draft_propose (draft, guesses, n - i - 1) : 0, right = 0;

    while (right < n_guesses && guesses[right] == ids[i + right])
      right++;
    count.proposed += n_guesses;
    count.accepted += right;
    count.passes++;
    for (gsize end = i + right + 1; i < end; i++)
      valley_draft_add (draft, ids[i]);
  }
  valley_draft_keep (draft);
  return count;
}

/* Letters as token ids. */
static Count
answer_letters (ValleyDraft *draft, const char *letters)
{
  gint32 ids[256];
  gsize n = strlen (letters);

  for (gsize i = 0; i < n; i++)
    ids[i] = letters[i];
  return answer_with (draft, ids, n);
}

static void
assert_proposes (ValleyDraft *draft, const char *answer, const char *expected)
{
  gint32 guesses[VALLEY_MAX_DRAFT];
  gsize n;

  valley_draft_begin (draft);
  for (gsize i = 0; answer[i] != '\0'; i++)
    valley_draft_add (draft, answer[i]);
  n = valley_draft_propose (draft, guesses, strlen (expected));
  g_assert_cmpuint (n, ==, strlen (expected));
  for (gsize i = 0; i < n; i++)
    g_assert_cmpint (guesses[i], ==, expected[i]);
}

static void
test_first (void)
{
  ValleyDraft *draft = valley_draft_new ();
  Count count = answer_letters (draft, "there is nothing to guess from yet");

  g_assert_cmpuint (count.proposed, ==, 0);
  valley_draft_free (draft);
}

static void
test_same (void)
{
  const char *answer = "{\"moving\": \"left\", \"shape\": \"circle\"}";
  ValleyDraft *draft = valley_draft_new ();
  Count count;

  answer_letters (draft, answer);
  count = answer_letters (draft, answer);
  g_assert_cmpuint (count.accepted, ==, count.proposed);
  g_assert_cmpuint (count.passes, <, 10);
  for (guint i = 0; i < 20; i++)
    count = answer_letters (draft, answer);
  /* the longest draft from the first pass after the prompt's on */
  g_assert_cmpuint (count.passes, ==,
                    1 + (strlen (answer) - 1 + VALLEY_MAX_DRAFT) / (VALLEY_MAX_DRAFT + 1));
  valley_draft_free (draft);
}

static void
test_places (void)
{
  ValleyDraft *draft = valley_draft_new ();

  for (guint i = 0; i < 5; i++) /* until it is sure of itself */
    answer_letters (draft, "abcdefghijk");
  assert_proposes (draft, "", "abc");
  assert_proposes (draft, "ab", "cd");
  assert_proposes (draft, "abX", "d");        /* another word in c's place */
  assert_proposes (draft, "abde", "f");       /* c is gone */
  assert_proposes (draft, "abXYde", "fg");    /* c became two */
  assert_proposes (draft, "abXYZcd", "e");    /* more words before c */
  assert_proposes (draft, "abcdefghijk", ""); /* as long as the previous one, or longer */
  assert_proposes (draft, "abcdefghijkl", "");
  valley_draft_free (draft);
}

/* Of several places that agree alike the one nearest to where the answers parted. */
static void
test_nearest (void)
{
  ValleyDraft *draft = valley_draft_new ();

  for (guint i = 0; i < 5; i++)
    answer_letters (draft, "1:ab 2:cd 3:ef");
  assert_proposes (draft, "1:ab 2:cX 3", ":e");
  assert_proposes (draft, "1:ab X:", "cd");
  valley_draft_free (draft);
}

/* Answers that have nothing in common: few rows are spent on finding out, and none later. */
static void
test_unlike (void)
{
  ValleyDraft *draft = valley_draft_new ();
  guint n_tokens = 0, early = 0, late = 0;

  for (guint i = 0; i < 200; i++) {
    gint32 ids[40];
    guint proposed;

    for (guint j = 0; j < G_N_ELEMENTS (ids); j++)
      ids[j] = g_test_rand_int_range (0, 150000);
    proposed = answer_with (draft, ids, G_N_ELEMENTS (ids)).proposed;
    *(i < 5 ? &early : &late) += proposed;
    n_tokens += G_N_ELEMENTS (ids);
  }
  g_test_message ("%u tokens proposed in 5 answers, %u in 195 more", early, late);
  g_assert_cmpuint (early, <=, 15);
  g_assert_cmpuint (late, <=, n_tokens / 100);
  valley_draft_free (draft);
}

/* Whatever the answers, what is proposed stands so in the previous one. */
static void
test_proposals (void)
{
  ValleyDraft *draft = valley_draft_new ();
  gint32 previous[64], ids[64], guesses[VALLEY_MAX_DRAFT];
  gsize n_previous = 0;
  guint n_proposals = 0;

  for (guint round = 0; round < 300; round++) {
    gsize n = (gsize) g_test_rand_int_range (0, 64);

    valley_draft_begin (draft);
    for (gsize i = 0; i < n; i++) {
      gsize most = (gsize) g_test_rand_int_range (0, 20);
      gsize n_guesses = valley_draft_propose (draft, guesses, MIN (most, VALLEY_MAX_DRAFT));
      gboolean found = n_guesses == 0;

      g_assert_cmpuint (n_guesses, <=, most);
      for (gsize at = 0; !found && at + n_guesses <= n_previous; at++)
        found = memcmp (previous + at, guesses, n_guesses * sizeof *ids) == 0;
      g_assert_true (found);
      n_proposals += n_guesses > 0;
      ids[i] = g_test_rand_int_range (0, 4) > 0 && i < n_previous ? previous[i]
                                                                  : g_test_rand_int_range (0, 10);
      valley_draft_add (draft, ids[i]);
    }
    if (round % 5 == 4)
      continue; /* given up: the answer before stays the previous one */
    valley_draft_keep (draft);
    memcpy (previous, ids, sizeof ids);
    n_previous = n;
  }
  g_assert_cmpuint (n_proposals, >, 100);
  valley_draft_free (draft);
}

/* ---- answers ---- */

/* Two sessions that are told the same, one of which drafts. */
typedef struct {
  Fixture plain, drafting;
  guint next_frame;
  guint n_tokens, n_drafted, n_accepted;
} Pair;

static ValleySession *
open_session (ValleyModel *model, gboolean no_draft)
{
  ValleySessionOptions options = { .keep_logits = TRUE, .no_draft = no_draft };
  GError *error = NULL;
  ValleySession *session = valley_session_new (model, &options, &error);

  g_assert_no_error (error);
  return session;
}

static void
pair_open (Pair *pair, const char *dir, ValleyPrecision precision, guint64 random_seed)
{
  ValleyModelOptions options = {
    .device = test_device (), .precision = precision, .threads = 2, .random_seed = random_seed
  };
  GError *error = NULL;
  ValleyModel *model = valley_model_open (dir, &options, &error);

  g_assert_no_error (error);
  g_assert_true (valley_model_load (model, NULL, &error));
  g_assert_no_error (error);
  *pair = (Pair){ .plain = { model, open_session (model, TRUE) },
                  .drafting = { valley_model_ref (model), open_session (model, FALSE) } };
}

static void
pair_close (Pair *pair)
{
  fixture_close (&pair->plain);
  fixture_close (&pair->drafting);
}

static void
slide (Pair *pair, guint n_frames)
{
  guint first = pair->next_frame, last = first + 1;

  for (guint i = first; i < last; i++) {
    fixture_push_frames (&pair->plain, i, i);
    fixture_push_frames (&pair->drafting, i, i);
  }
  pair->next_frame = last;
  if (last > n_frames) {
    valley_session_drop_before (pair->plain.session, (last - n_frames) * FRAME_NS);
    valley_session_drop_before (pair->drafting.session, (last - n_frames) * FRAME_NS);
  }
}

static void
assert_same_so_far (const ValleyResult *a, const ValleyResult *b)
{
  g_assert_cmpstr (a->text, ==, b->text);
  g_assert_cmpstr (a->finish_reason, ==, b->finish_reason);
  g_assert_cmpmem (a->output_ids, a->n_output_tokens * sizeof (gint32), b->output_ids,
                   b->n_output_tokens * sizeof (gint32));
  g_assert_cmpmem (&a->confidence, sizeof (double), &b->confidence, sizeof (double));
  g_assert_cmpstr (a->reasoning, ==, b->reasoning);
  g_assert_cmpstr (a->summary, ==, b->summary);
  g_assert_cmpstr (a->caption, ==, b->caption);
  g_assert_cmpstr (a->conclusion, ==, b->conclusion);
}

static void
assert_same_logits (Pair *pair)
{
  gsize steps, other_steps, n;
  const float *logits = valley_session_logits (pair->plain.session, &steps, &n);
  const float *other = valley_session_logits (pair->drafting.session, &other_steps, &n);

  g_assert_cmpmem (logits, steps * n * sizeof *logits, other, other_steps * n * sizeof *other);
}

/* Both answer, token by token. */
static void
ask_both (Pair *pair, const ValleyRequest *request)
{
  const ValleyResult *plain = valley_session_result (pair->plain.session);
  const ValleyResult *drafting = valley_session_result (pair->drafting.session);
  ValleyStep step = VALLEY_STEP_TOKEN;
  GError *error = NULL;

  g_assert_true (valley_session_begin (pair->plain.session, request, &error));
  g_assert_true (valley_session_begin (pair->drafting.session, request, &error));
  while (step == VALLEY_STEP_TOKEN) {
    step = valley_session_next (pair->plain.session, &error);
    g_assert_no_error (error);
    g_assert_cmpint (valley_session_next (pair->drafting.session, &error), ==, step);
    g_assert_no_error (error);
    assert_same_so_far (plain, drafting);
  }
  assert_same_logits (pair);
  g_assert_cmpuint (plain->n_drafted, ==, 0);
  g_assert_cmpuint (drafting->n_accepted, <=, drafting->n_drafted);
  g_assert_cmpuint (drafting->n_accepted, <, drafting->n_output_tokens);
  pair->n_tokens += drafting->n_output_tokens;
  pair->n_drafted += drafting->n_drafted;
  pair->n_accepted += drafting->n_accepted;
}

static void
check_counts (Pair *pair)
{
  ValleySessionStats stats;

  g_test_message ("%u tokens, %u drafted, %u accepted", pair->n_tokens, pair->n_drafted,
                  pair->n_accepted);
  valley_session_stats (pair->drafting.session, &stats);
  g_assert_cmpuint (stats.drafted, ==, pair->n_drafted);
  g_assert_cmpuint (stats.accepted, ==, pair->n_accepted);
  valley_session_stats (pair->plain.session, &stats);
  g_assert_cmpuint (stats.drafted, ==, 0);
}

/* A stop string out of the last answer's middle, so that it does end answers. */
static char *
some_stop (Pair *pair)
{
  const char *text = valley_session_result (pair->plain.session)->text;
  glong n = g_utf8_strlen (text, -1);
  glong first = n > 4 ? g_test_rand_int_range ((gint32) n / 2, (gint32) n - 2) : 0;

  return g_utf8_substring (text, first, MIN (n, first + 2));
}

static void
ask_at_random (Pair *pair)
{
  static const double penalties[] = { 0, 1, 1.1, 1.5 };
  static const char *const questions[] = { QUESTION, "What moves? Answer in JSON." };
  g_autofree char *stop = some_stop (pair);
  const char *const stops[] = { stop, NULL };
  guint slot = (guint) g_test_rand_int_range (0, 2);
  ValleyRequest request = { .prompt = questions[slot],
                            .slot = slot,
                            .max_new_tokens = (guint) g_test_rand_int_range (1, 80),
                            .repetition_penalty = penalties[g_test_rand_int_range (0, 4)],
                            .markers = (ValleyMarkers) g_test_rand_int_range (0, 3),
                            .stop = g_test_rand_int_range (0, 3) == 0 ? stops : NULL,
                            .temperature = g_test_rand_int_range (0, 10) == 0 ? 0.7 : 0,
                            .seed = (guint64) g_test_rand_int () };

  ask_both (pair, &request);
}

typedef struct {
  const char *name;
  ValleyPrecision precision;
  gboolean random; /* weights */
} Model;

static const Model models[] = {
  { "ovis-softmax", VALLEY_PRECISION_F32, FALSE },
  { "ovis-softmax", VALLEY_PRECISION_BF16, FALSE },
  { "qwen3-navit", VALLEY_PRECISION_F32, TRUE },
  { "qwen3-bias", VALLEY_PRECISION_BF16, TRUE },
};

static void
test_random (gconstpointer data)
{
  const Model *m = data;
  g_autofree char *dir = golden_dir (m->name);
  const guint n = test_on_cpu () ? 25 : 6; /* an emulated device takes its time */
  guint64 seed = m->random ? 1 + (guint32) g_test_rand_int () : 0;
  Pair pair;

  g_test_message ("weights' seed %" G_GUINT64_FORMAT, seed);
  pair_open (&pair, dir, m->precision, seed);
  for (guint i = 0; i < n; i++) {
    slide (&pair, 3);
    ask_at_random (&pair);
    if (g_test_rand_int_range (0, 3) == 0) /* the same window again */
      ask_at_random (&pair);
  }
  check_counts (&pair);
  g_assert_cmpuint (pair.n_accepted, >, 0);
  g_assert_cmpuint (pair.n_accepted, <, pair.n_drafted);
  pair_close (&pair);
}

/* What the bundled model says of made-up frames. */
static void
test_bundled (void)
{
  static const char *const questions[]
      = { "Describe the video.", QUESTION, "Describe the video in JSON.",
          "What moves, and where to? Answer with JSON." };
  static const char *const stops[] = { ".", "}", NULL };
  Pair pair;

  pair_open (&pair, g_getenv ("VALLEY_TEST_MODEL"), VALLEY_PRECISION_AUTO, 0);
  for (guint i = 0; i < 6; i++) {
    slide (&pair, 4);
    for (guint slot = 0; slot < G_N_ELEMENTS (questions); slot++) {
      ValleyRequest request
          = { .prompt = questions[slot], .slot = slot, .max_new_tokens = 20 + 10 * i };

      ask_both (&pair, &request);
      request.stop = stops;
      request.markers = VALLEY_MARKERS_SPLIT;
      ask_both (&pair, &request);
    }
  }
  check_counts (&pair);
  /* Every question was asked of every window twice. */
  g_assert_cmpuint (pair.n_accepted, >, pair.n_tokens / 3);
  pair_close (&pair);
}

/* Answers that fill the context to its last position, and many pages of the cache. */
static void
test_long (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  Pair pair;

  pair_open (&pair, dir, VALLEY_PRECISION_F32, 0);
  slide (&pair, 1);
  for (guint i = 0; i < 2; i++) {
    ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 100000 };

    ask_both (&pair, &request);
  }
  check_counts (&pair);
  g_assert_cmpuint (pair.n_accepted, >, 100);
  pair_close (&pair);
}

/* What was given up leaves nothing behind: neither a canceled answer nor a forgotten one. */
static void
test_given_up (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 30 };
  GError *error = NULL;
  Pair pair;

  pair_open (&pair, dir, VALLEY_PRECISION_F32, 0);
  slide (&pair, 3);
  ask_both (&pair, &request);
  for (guint stop_after = 1; stop_after < 12; stop_after++) {
    slide (&pair, 3);
    g_assert_true (valley_session_begin (pair.drafting.session, &request, &error));
    for (guint i = 0; i < stop_after; i++)
      valley_session_next (pair.drafting.session, &error);
    pair.n_drafted += valley_session_result (pair.drafting.session)->n_drafted;
    pair.n_accepted += valley_session_result (pair.drafting.session)->n_accepted;
    ask_both (&pair, &request);
  }
  valley_session_reset (pair.drafting.session);
  valley_session_reset (pair.plain.session);
  pair.next_frame = 0;
  slide (&pair, 3);
  ask_both (&pair, &request);
  g_assert_cmpuint (valley_session_result (pair.drafting.session)->n_drafted, ==, 0);
  check_counts (&pair);
  pair_close (&pair);
}

/* FALSE when there was not room enough. */
static gboolean
answer_within (Fixture *f, guint64 max_bytes, const ValleyRequest *request)
{
  ValleyWindowing windowing = { .policy = VALLEY_WINDOWS_TUMBLING, .cache_max_bytes = max_bytes };
  g_autoptr (GError) error = NULL;

  g_assert_true (valley_session_set_windowing (f->session, &windowing, &error));
  g_assert_no_error (error);
  if (fixture_run (f, request, &error))
    return TRUE;
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
  return FALSE;
}

/* Guesses take no memory that the answer needs: whatever the bound, both sessions can answer or
 * neither can.  A stop string ends the answer before what was guessed, so that near a page's end
 * guesses would ask for a page that the answer does not. */
static void
test_bound (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyRequest whole = { .prompt = QUESTION, .max_new_tokens = 200 };
  ValleySessionStats stats;
  guint n_right = 0, n_failed = 0;
  Pair pair;

  pair_open (&pair, dir, VALLEY_PRECISION_F32, 0);
  slide (&pair, 1);
  ask_both (&pair, &whole);
  valley_session_stats (pair.plain.session, &stats);
  for (guint i = 0; i < 30; i++) {
    g_autofree char *stop = some_stop (&pair);
    const char *const stops[] = { stop, NULL };
    ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 200, .stop = stops };
    gboolean ok = FALSE;

    /* from bounds that are too tight for the prompt up to the first that is not for the answer */
    for (guint64 bytes = stats.kv_bytes_peak / 4; !ok; bytes += stats.kv_bytes_peak / 24) {
      ok = answer_within (&pair.plain, bytes, &request);
      g_assert_true (answer_within (&pair.drafting, bytes, &request) == ok);
      n_failed += !ok;
    }
    assert_same_so_far (valley_session_result (pair.plain.session),
                        valley_session_result (pair.drafting.session));
    assert_same_logits (&pair);
    n_right += valley_session_result (pair.drafting.session)->n_accepted;
    g_assert_true (answer_within (&pair.plain, 0, &whole));
    g_assert_true (answer_within (&pair.drafting, 0, &whole));
  }
  g_test_message ("%u guesses were right, %u bounds too tight", n_right, n_failed);
  g_assert_cmpuint (n_right, >, 0);
  g_assert_cmpuint (n_failed, >, 30);
  pair_close (&pair);
}

/* No room for more than one row's logits: the answer comes all the same. */
static void
test_no_room (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 30 };
  GError *error = NULL;
  guint n_right = 0;
  Pair pair;

  pair_open (&pair, dir, VALLEY_PRECISION_F32, 0);
  slide (&pair, 3);
  ask_both (&pair, &request);
  for (guint n = 1;; n++) {
    gboolean ok;

    /* a session of its own: room that one has it keeps */
    valley_session_free (pair.drafting.session);
    pair.drafting.session = open_session (pair.drafting.model, FALSE);
    fixture_push_frames (&pair.drafting, 0, 0);
    g_assert_true (fixture_run (&pair.drafting, &request, &error));
    g_assert_true (valley_session_begin (pair.drafting.session, &request, &error));
    valley_alloc_fail_at (n);
    do
      ok = valley_session_next (pair.drafting.session, &error) == VALLEY_STEP_TOKEN;
    while (ok);
    if (!valley_alloc_has_failed ())
      break;
    if (error == NULL) {
      assert_same_so_far (valley_session_result (pair.plain.session),
                          valley_session_result (pair.drafting.session));
      n_right++;
    } else {
      g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
      g_clear_error (&error);
    }
  }
  valley_alloc_fail_at (0);
  g_assert_no_error (error);
  g_assert_cmpuint (n_right, >, 0);
  pair_close (&pair);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/draft/first", test_first);
  g_test_add_func ("/draft/same", test_same);
  g_test_add_func ("/draft/places", test_places);
  g_test_add_func ("/draft/nearest", test_nearest);
  g_test_add_func ("/draft/unlike", test_unlike);
  g_test_add_func ("/draft/proposals", test_proposals);
  for (gsize i = 0; i < G_N_ELEMENTS (models); i++) {
    g_autofree char *path
        = g_strdup_printf ("/draft/answers/%s-%d", models[i].name, models[i].precision);

    g_test_add_data_func (path, &models[i], test_random);
  }
  g_test_add_func ("/draft/answers/bundled", test_bundled);
  g_test_add_func ("/draft/answers/long", test_long);
  g_test_add_func ("/draft/answers/given-up", test_given_up);
  g_test_add_func ("/draft/answers/bound", test_bound);
  g_test_add_func ("/draft/answers/no-room", test_no_room);
  return g_test_run ();
}
