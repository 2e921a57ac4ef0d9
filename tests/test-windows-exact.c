/* test-windows-exact.c - whatever a window policy kept, shared, gave up and rebuilt: every answer
 * has the bits of a fresh session that is shown the same frames.
 *
 * Each round is a made-up stream: arrivals, gaps, losses, repeated pictures, changes of size,
 * policy, prompts and bound, cancellations.  VALLEY_TEST_ROUNDS: how many (500);
 * VALLEY_TEST_SEED: the first round's.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine-fixture.h"
#include "kvcache.h"
#include "scratch.h"

#define ROUNDS 500
#define MOST_TICKS 24
#define MOST_WINDOW 6
#define LEAST_WIDTH 48 /* of pictures, in steps of 16 */
#define MOST_WIDTH 96
#define HEIGHT 48
#define TEXT_ROWS 128 /* about, of header, question and answer */

typedef struct {
  const char *golden;
  ValleyPrecision precision;
  const char *max_positions; /* in place of the golden's; NULL: as it is */
  guint share;               /* of the rounds, in percent */
} Case;

/* What all rounds did together. */
typedef struct {
  guint64 answers, reused, evicted_sequences, evicted_encodings, reencoded, shared, cancelled,
      left_out, dropped, unchanged, rounds;
} Totals;

static Totals totals;

typedef struct {
  guint seed; /* of this round */
  GRand *rand;
  ValleyModel *model;
  ValleySession *session;
  ValleyWindowing windowing;
  ValleyReduction reduction;
  guint n_ticks, n_asked; /* windows 0 ... n_asked - 1 are over */
  guint64 pts[MOST_TICKS];
  ValleyPicture *pictures[MOST_TICKS]; /* NULL: the frame was lost */
  guint first_tick;                    /* what came before was forgotten */
  guint system;
  gboolean has_gaps;          /* between its windows */
  gboolean cancels, is_still; /* a still scene, and mostly one question */
} Round;

static gboolean
chance (Round *r, double probability)
{
  return g_rand_double (r->rand) < probability;
}

static guint
below (Round *r, guint n)
{
  return (guint) g_rand_int_range (r->rand, 0, (gint32) n);
}

#define check(r, condition)                                                                        \
  G_STMT_START                                                                                     \
  {                                                                                                \
    if (!(condition))                                                                              \
      g_error ("round with VALLEY_TEST_SEED=%u: %s does not hold", (r)->seed, #condition);         \
  }                                                                                                \
  G_STMT_END

static void
check_error (Round *r, GError *error)
{
  if (error != NULL)
    g_error ("round with VALLEY_TEST_SEED=%u: %s", r->seed, error->message);
}

/* ---- frames ---- */

/* One of a few contents and sizes, so that frames repeat; or one that differs in a corner. */
static ValleyPicture *
new_picture (Round *r, guint tick)
{
  guint content = r->is_still ? 1 : below (r, 4);
  guint height = HEIGHT;
  guint width = r->is_still || chance (r, 0.8)
                    ? 64
                    : LEAST_WIDTH + 16 * below (r, (MOST_WIDTH - LEAST_WIDTH) / 16 + 1);
  g_autofree guint8 *rgb = g_malloc (3 * width * height);
  GError *error = NULL;
  ValleyPicture *picture;

  for (guint i = 0; i < 3 * width * height; i++)
    rgb[i] = (guint8) (i * (content + 3) + i / 97);
  if (chance (r, r->is_still ? 0.05 : 0.5))
    for (guint i = 0; i < 3 * width * 8; i++)
      rgb[i] = (guint8) g_rand_int (r->rand);
  picture = valley_picture_new_from_rgb (r->model, r->pts[tick], rgb, 3 * width, width, height,
                                         &r->reduction, &error);
  check_error (r, error);
  return picture;
}

/* Frames of a window may be reduced in several ways: the property can change at any time. */
static void
change_reduction (Round *r)
{
  r->reduction = (ValleyReduction){ .drop = chance (r, 0.5), .close = chance (r, 0.5) };
  if (chance (r, 0.5))
    return;
  r->reduction.max_frames = 1 + below (r, 2 * MOST_WINDOW);
  r->reduction.max_vision_tokens = r->reduction.max_frames * (1 + below (r, 20));
  r->reduction.pool = chance (r, 0.7);
  r->reduction.eagle = chance (r, 0.7);
}

static guint
window_start (const Round *r, guint k)
{
  return k * r->windowing.hop_frames;
}

static gboolean
window_has_frames (const Round *r, guint k, guint end)
{
  guint start = MAX (window_start (r, k), r->first_tick);

  for (guint i = start; i < MIN (end, window_start (r, k) + r->windowing.window_frames); i++)
    if (r->pictures[i] != NULL)
      return TRUE;
  return FALSE;
}

static gboolean
begins_window (const Round *r, guint tick)
{
  for (guint k = r->n_asked; window_start (r, k) <= tick; k++)
    if (tick < window_start (r, k) + r->windowing.window_frames && !window_has_frames (r, k, tick))
      return TRUE;
  return FALSE;
}

/* ---- cancelling ---- */

static gpointer
cancel_soon (gpointer data)
{
  Round *r = data;

  g_usleep (r->seed % 7 * 150);
  valley_session_cancel (r->session);
  return NULL;
}

/* After a failure by cancellation the stream starts anew behind @tick. */
static gboolean
forgive (Round *r, guint tick, gboolean ok, GError *error)
{
  if (ok) {
    check_error (r, error);
    return TRUE;
  }
  if (!r->cancels || !g_error_matches (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED))
    check_error (r, error);
  g_clear_error (&error);
  totals.cancelled++;
  valley_session_reset (r->session);
  r->first_tick = tick + 1;
  return FALSE;
}

/* ---- answers ---- */

static ValleyRequest
new_request (Round *r)
{
  static const char *const prompts[] = { QUESTION, "What is it?", "And now, in three words?" };
  static const char *const systems[] = { NULL, "Be brief." };

  if (chance (r, 0.05))
    r->system = !r->system;
  if (r->is_still && chance (r, 0.9))
    return (ValleyRequest){ .prompt = QUESTION, .max_new_tokens = 3 };
  return (ValleyRequest){ .prompt = prompts[below (r, G_N_ELEMENTS (prompts))],
                          .system_prompt = systems[r->system],
                          .max_new_tokens = 1 + below (r, 4),
                          .temperature = chance (r, 0.1) ? 0.9 : 0,
                          .seed = 7,
                          .repetition_penalty = chance (r, 0.2) ? 1.2 : 0,
                          .max_frames = chance (r, 0.1) ? 1 + below (r, 4) : 0,
                          .slot = below (r, 2) };
}

/* With @works other sequences go on while this one answers. */
static gboolean
run_request (ValleySession *session, const ValleyRequest *request, gboolean works, GError **error)
{
  ValleyStep step = VALLEY_STEP_TOKEN;
  gboolean more;

  if (!valley_session_begin (session, request, error))
    return FALSE;
  while (step == VALLEY_STEP_TOKEN) {
    step = valley_session_next (session, error);
    if (step == VALLEY_STEP_TOKEN && works && !valley_session_work (session, &more, error))
      return FALSE;
  }
  return step == VALLEY_STEP_DONE;
}

static ValleyPicture *
picture_at (Round *r, guint64 pts)
{
  for (guint i = 0; i < r->n_ticks; i++)
    if (r->pts[i] == pts && r->pictures[i] != NULL)
      return r->pictures[i];
  return NULL;
}

/* What the policy promises to show of a window. */
static void
check_contents (Round *r, const ValleyResult *result, guint start, guint n_frames)
{
  const guint64 *pts = result->frame_pts_ns;
  guint n = result->n_frames + result->n_frames_dropped;

  for (guint i = 1; i < result->n_frames; i++)
    check (r, pts[i - 1] < pts[i]);
  if (r->windowing.policy == VALLEY_WINDOWS_ANCHORED) {
    check (r, n >= n_frames);
    check (r, n <= 2 * r->windowing.window_frames);
  } else {
    check (r, n == n_frames);
    check (r, pts[0] >= r->pts[start]);
  }
}

/* The same of a session that knows nothing else. */
static void
check_same (Round *r, const ValleyRequest *request)
{
  const ValleyResult *got = valley_session_result (r->session), *want;
  ValleySessionOptions options = { .keep_logits = TRUE, .no_draft = TRUE };
  const float *got_logits, *want_logits;
  gsize n_got, n_want, n_vocabulary;
  GError *error = NULL;
  ValleySession *fresh = valley_session_new (r->model, &options, &error);

  check_error (r, error);
  for (guint i = 0; i < got->n_frames; i++) {
    valley_session_push (fresh, picture_at (r, got->frame_pts_ns[i]), FALSE, &error);
    check_error (r, error);
  }
  run_request (fresh, request, FALSE, &error);
  check_error (r, error);
  want = valley_session_result (fresh);
  check (r, want->n_frames == got->n_frames && want->n_frames_dropped == 0);
  check (r, want->n_input_tokens == got->n_input_tokens);
  check (r, want->n_vision_tokens == got->n_vision_tokens);
  check (r, want->n_input_ids == got->n_input_ids);
  check (r, memcmp (want->input_ids, got->input_ids, want->n_input_ids * sizeof (gint32)) == 0);
  check (r, want->n_output_tokens == got->n_output_tokens && want->n_output_tokens > 0);
  check (r,
         memcmp (want->output_ids, got->output_ids, want->n_output_tokens * sizeof (gint32)) == 0);
  check (r, strcmp (want->text, got->text) == 0);
  check (r, want->confidence == got->confidence);
  got_logits = valley_session_logits (r->session, &n_got, &n_vocabulary);
  want_logits = valley_session_logits (fresh, &n_want, &n_vocabulary);
  check (r, n_got == n_want && n_want > 0);
  check (r, memcmp (got_logits, want_logits, n_want * n_vocabulary * sizeof (float)) == 0);
  totals.answers++;
  totals.reused += got->n_reused_tokens;
  totals.unchanged += got->unchanged;
  totals.left_out += got->n_frames_dropped;
  totals.dropped += got->n_vision_tokens_before - got->n_vision_tokens;
  valley_session_free (fresh);
}

static void
ask_window (Round *r, guint k, guint tick)
{
  guint start = MAX (window_start (r, k), r->first_tick), n_frames = 0;

  for (guint i = start; i < tick; i++)
    n_frames += r->pictures[i] != NULL;
  valley_session_drop_before (r->session, r->pts[start]);
  for (guint i = below (r, 2); i < 2; i++) {
    ValleyRequest request = new_request (r);
    g_autoptr (GArray) fit = g_array_new (FALSE, FALSE, sizeof (guint64));
    gboolean fits = chance (r, 0.3);
    /* under a bound it may take the room that the answer needs */
    gboolean works = r->windowing.cache_max_bytes == 0 && chance (r, 0.5);
    GThread *canceller
        = r->cancels && chance (r, 0.2) ? g_thread_new ("cancel", cancel_soon, r) : NULL;
    GError *error = NULL;
    gboolean ok = (!fits || valley_session_fit (r->session, &request, fit, &error))
                  && run_request (r->session, &request, works, &error);
    const ValleyResult *result = valley_session_result (r->session);

    if (canceller != NULL)
      g_thread_join (canceller);
    if (canceller != NULL && ok) { /* too late: the next call would find out */
      check_same (r, &request);
      ok = FALSE;
      g_set_error_literal (&error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED, "too late");
    }
    if (!forgive (r, tick - 1, ok, error))
      return;
    check_contents (r, result, start, n_frames);
    if (fits) {
      check (r, fit->len == result->n_frames);
      check (r, memcmp (fit->data, result->frame_pts_ns, fit->len * sizeof (guint64)) == 0);
    }
    check_same (r, &request);
  }
}

/* Windows that end before @tick. */
static void
close_windows (Round *r, guint tick)
{
  for (; window_start (r, r->n_asked) + r->windowing.window_frames <= tick; r->n_asked++) {
    guint k = r->n_asked;

    if (window_has_frames (r, k, tick) && chance (r, 0.9))
      ask_window (r, k, window_start (r, k) + r->windowing.window_frames);
  }
}

/* ---- a round ---- */

/* Room for the sequence that answers and its answer, little more or much. */
static guint64
new_bound (Round *r)
{
  const ValleyLlmConfig *llm = &r->model->config->llm;
  guint n_frames
      = r->windowing.window_frames * (r->windowing.policy == VALLEY_WINDOWS_ANCHORED ? 2 : 1);
  guint64 page_bytes = VALLEY_KV_PAGE_ROWS * 2 * llm->n_layers * llm->n_kv_heads * llm->head_dim
                       * (r->model->precision == VALLEY_PRECISION_BF16 ? 2 : 4);
  ValleyInputSizes sizes;
  guint pages, n_tokens = 0;

  for (guint width = LEAST_WIDTH; width <= MOST_WIDTH; width += 16) {
    check (r, valley_model_input_sizes (r->model, width, HEIGHT, NULL, &sizes, NULL));
    n_tokens = MAX (n_tokens, sizes.n_tokens);
  }
  pages = (n_frames * (n_tokens + 4) + TEXT_ROWS) / VALLEY_KV_PAGE_ROWS + 4;
  /* and a frame that the next one's tokens are compared with */
  return n_tokens * llm->hidden_size * sizeof (float)
         + page_bytes * (pages + (chance (r, 0.7) ? 0 : below (r, 2 * pages)));
}

static void
set_windowing (Round *r)
{
  ValleyWindowing told;
  GError *error = NULL;

  r->windowing.policy = r->has_gaps ? VALLEY_WINDOWS_TUMBLING : below (r, 3);
  r->windowing.cache_max_bytes = chance (r, 0.6) ? new_bound (r) : 0;
  told = r->windowing;
  if (told.policy == VALLEY_WINDOWS_TUMBLING && chance (r, 0.3))
    told.window_frames = told.hop_frames = 0;
  valley_session_set_windowing (r->session, &told, &error);
  check_error (r, error);
}

static gboolean
work (Round *r, guint tick)
{
  gboolean more = TRUE;
  GError *error = NULL;

  for (guint i = below (r, 4); more && i > 0; i--)
    if (!forgive (r, tick, valley_session_work (r->session, &more, &error), error))
      return FALSE;
  return TRUE;
}

static void
run_tick (Round *r, guint tick)
{
  GError *error = NULL;
  ValleyPicture *picture;
  gboolean begins;

  close_windows (r, tick);
  if (chance (r, 0.05))
    set_windowing (r);
  if (chance (r, 0.1))
    change_reduction (r);
  if (chance (r, 0.1))
    return;
  begins = begins_window (r, tick);
  picture = new_picture (r, tick);
  if (window_start (r, r->n_asked) <= tick)
    valley_session_drop_before (r->session,
                                r->pts[MAX (window_start (r, r->n_asked), r->first_tick)]);
  else
    valley_session_drop_before (r->session, r->pts[tick]);
  if (r->cancels && chance (r, 0.05))
    valley_session_cancel (r->session);
  r->pictures[tick] = picture;
  if (forgive (r, tick, valley_session_push (r->session, picture, begins, &error), error))
    work (r, tick);
}

static void
check_counts (Round *r)
{
  ValleySessionStats stats;

  valley_session_stats (r->session, &stats);
  if (stats.encodings_evicted == 0) {
    check (r, stats.frames_encoded + stats.frames_unchanged == stats.frames_pushed);
    check (r, stats.frames_reencoded == 0);
  }
  totals.evicted_sequences += stats.sequences_evicted;
  totals.evicted_encodings += stats.encodings_evicted;
  totals.reencoded += stats.frames_reencoded;
  totals.shared += stats.frames_unchanged;
}

static void
run_round (ValleyModel *model, guint seed)
{
  ValleySessionOptions options = { .keep_logits = TRUE };
  Round r = { .seed = seed, .rand = g_rand_new_with_seed (seed), .model = model };
  GError *error = NULL;

  r.session = valley_session_new (model, &options, &error);
  check_error (&r, error);
  valley_session_set_prefill_rows (r.session, 1 + below (&r, 200));
  r.windowing.window_frames = 1 + below (&r, MOST_WINDOW);
  r.has_gaps = chance (&r, 0.1);
  r.windowing.hop_frames = r.has_gaps ? r.windowing.window_frames + 1 + below (&r, 4)
                                      : 1 + below (&r, r.windowing.window_frames);
  r.reduction = (ValleyReduction){ .drop = chance (&r, 0.3), .drop_threshold = 0.9 };
  r.cancels = chance (&r, 0.2);
  r.is_still = chance (&r, 0.2);
  set_windowing (&r);
  r.n_ticks = 4 + below (&r, MOST_TICKS - 3);
  for (guint i = 0; i < r.n_ticks; i++)
    r.pts[i] = (i > 0 ? r.pts[i - 1] : 0) + FRAME_NS * (chance (&r, 0.05) ? 20 : 1);
  for (guint i = 0; i < r.n_ticks; i++)
    run_tick (&r, i);
  close_windows (&r, r.n_ticks);
  check_counts (&r);
  valley_session_free (r.session);
  for (guint i = 0; i < r.n_ticks; i++)
    valley_picture_unref (r.pictures[i]);
  g_rand_free (r.rand);
}

static guint
number_of (const char *variable, guint otherwise)
{
  const char *text = g_getenv (variable);

  return text != NULL ? (guint) g_ascii_strtoull (text, NULL, 10) : otherwise;
}

/* The model's folder, with another context if the case wants one. */
static char *
model_dir (const Case *c)
{
  g_autofree char *golden = golden_dir (c->golden), *path = NULL, *text = NULL;
  g_autoptr (GString) config = NULL;
  char *dir;

  if (c->max_positions == NULL)
    return g_steal_pointer (&golden);
  path = g_build_filename (golden, "config.json", NULL);
  dir = scratch_new ();
  scratch_copy (dir, golden);
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  config = g_string_new (text);
  g_assert_cmpuint (
      g_string_replace (config, "\"max_position_embeddings\": 1024", c->max_positions, 0), ==, 1);
  scratch_write (dir, "config.json", config->str, config->len);
  return dir;
}

static void
test_rounds (gconstpointer data)
{
  const Case *c = data;
  guint n = (number_of ("VALLEY_TEST_ROUNDS", ROUNDS) * c->share + 99) / 100;
  guint seed = number_of ("VALLEY_TEST_SEED", g_random_int () & 0x7fffffff);
  g_autofree char *dir = model_dir (c);
  Fixture f;

  g_test_message ("%u rounds from VALLEY_TEST_SEED=%u", n, seed);
  fixture_open (&f, dir, c->precision);
  for (guint i = 0; i < n; i++)
    run_round (f.model, seed + i);
  totals.rounds += n;
  fixture_close (&f);
  if (c->max_positions != NULL)
    scratch_remove (g_steal_pointer (&dir));
  g_test_message ("so far %" G_GUINT64_FORMAT " answers, %" G_GUINT64_FORMAT
                  " prompt tokens reused, given up: %" G_GUINT64_FORMAT
                  " sequences, %" G_GUINT64_FORMAT " encodings; encoded again %" G_GUINT64_FORMAT
                  ", shared %" G_GUINT64_FORMAT ", cancelled %" G_GUINT64_FORMAT
                  ", frames left out %" G_GUINT64_FORMAT ", tokens saved %" G_GUINT64_FORMAT
                  ", unchanged %" G_GUINT64_FORMAT,
                  totals.answers, totals.reused, totals.evicted_sequences, totals.evicted_encodings,
                  totals.reencoded, totals.shared, totals.cancelled, totals.left_out,
                  totals.dropped, totals.unchanged);
}

/* The rounds of all cases together were worth it. */
static void
test_coverage (void)
{
  g_assert_cmpuint (totals.answers, >, totals.rounds);
  g_assert_cmpuint (totals.reused, >, 0);
  g_assert_cmpuint (totals.shared, >, 0);
  g_assert_cmpuint (totals.evicted_sequences, >, 0);
  g_assert_cmpuint (totals.evicted_encodings, >, 0);
  g_assert_cmpuint (totals.reencoded, >, 0);
  g_assert_cmpuint (totals.cancelled, >, 0);
  g_assert_cmpuint (totals.left_out, >, 0);
  g_assert_cmpuint (totals.dropped, >, 0);
  g_assert_cmpuint (totals.unchanged, >, 0);
}

int
main (int argc, char **argv)
{
  static const Case cases[] = {
    { "ovis-softmax", VALLEY_PRECISION_F32, NULL, 50 },
    { "ovis-argmax", VALLEY_PRECISION_BF16, NULL, 25 },
    { "pixel-shuffle", VALLEY_PRECISION_F32, "\"max_position_embeddings\": 256", 15 },
    { "qwen3-bias", VALLEY_PRECISION_BF16, NULL, 10 },
  };

  g_test_init (&argc, &argv, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *name = g_strdup_printf ("/windows-exact/%s", cases[i].golden);

    g_test_add_data_func (name, &cases[i], test_rounds);
  }
  if (number_of ("VALLEY_TEST_ROUNDS", ROUNDS) >= 100) /* fewer need not have met everything */
    g_test_add_func ("/windows-exact/coverage", test_coverage);
  return g_test_run ();
}
