/* test-engine.c - the engine as a caller sees it: sessions that can be reset, cancelled and
 * reused, windows that forget, shared models.  What must equal something computed another way
 * is compared in bits.  Numbers against other people's code are test-golden.c's, damaged
 * checkpoints test-checkpoint.c's.
 * SPDX-License-Identifier: Apache-2.0 */
#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

#include "engine-fixture.h"
#include "markers.h"
#include "scratch.h"
#include "which-device.h"

/* ---- sessions ---- */

static void
test_reset (Fixture *f, gconstpointer data)
{
  Answer first, second, text_only;

  fixture_push_frames (f, 0, 2);
  fixture_ask (f, 8, &first);
  valley_session_reset (f->session);
  g_assert_cmpuint (valley_session_n_pictures (f->session), ==, 0);
  fixture_ask (f, 8, &text_only);
  fixture_push_frames (f, 0, 2);
  fixture_ask (f, 8, &second);
  answer_assert_same (&first, &second);
  g_assert_cmpuint (valley_session_result (f->session)->n_frames, ==, 3);
  answer_clear (&first);
  answer_clear (&second);
  answer_clear (&text_only);
}

static void
test_result (Fixture *f, gconstpointer data)
{
  const ValleyResult *r = valley_session_result (f->session);
  Answer answer;
  double sum = 0;

  fixture_push_frames (f, 1, 2);
  fixture_ask (f, 8, &answer);
  g_assert_cmpstr (r->finish_reason, ==, "length");
  g_assert_cmpuint (r->n_output_tokens, ==, 8);
  g_assert_cmpuint (r->start_ns, ==, FRAME_NS);
  g_assert_cmpuint (r->end_ns, ==, 2 * FRAME_NS);
  g_assert_cmpuint (r->n_input_tokens, ==, r->n_input_ids - r->n_frames + r->n_vision_tokens);
  g_assert_cmpuint (r->n_reused_tokens, ==, 0);
  g_assert_true (r->encode_ms > 0 && r->prefill_ms > 0 && r->decode_ms > 0);
  for (guint i = 0; i < 8; i++) {
    const float *logits = answer.logits + i * (answer.n_logits / 8);
    double total = 0;

    for (gsize j = 0; j < answer.n_logits / 8; j++)
      total += exp ((double) logits[j] - logits[answer.ids[i]]);
    sum -= log (total);
  }
  g_assert_cmpfloat_with_epsilon (r->confidence, exp (sum / 8), 1e-9);
  answer_clear (&answer);
}

static void
test_drop_before (Fixture *f, gconstpointer data)
{
  Answer fresh, slid;

  fixture_push_frames (f, 1, 2);
  fixture_ask (f, 8, &fresh);
  valley_session_reset (f->session);
  fixture_push_frames (f, 0, 2);
  valley_session_drop_before (f->session, FRAME_NS);
  g_assert_cmpuint (valley_session_n_pictures (f->session), ==, 2);
  fixture_ask (f, 8, &slid);
  answer_assert_same (&fresh, &slid);
  valley_session_drop_before (f->session, 100 * FRAME_NS);
  g_assert_cmpuint (valley_session_n_pictures (f->session), ==, 0);
  answer_clear (&fresh);
  answer_clear (&slid);
}

static void
test_stats (Fixture *f, gconstpointer data)
{
  ValleySessionStats stats;
  const ValleyResult *result = valley_session_result (f->session);
  Answer answer;

  fixture_push_frames (f, 0, 2);
  valley_session_drop_before (f->session, FRAME_NS);
  fixture_ask (f, 1, &answer);
  valley_session_stats (f->session, &stats);
  g_assert_cmpint (stats.policy, ==, VALLEY_WINDOWS_TUMBLING);
  g_assert_cmpuint (stats.frames_pushed, ==, 3);
  g_assert_cmpuint (stats.frames_encoded, ==, 3);
  g_assert_cmpuint (stats.frame_rows, ==, result->n_vision_tokens);
  g_assert_cmpuint (stats.text_rows, ==, result->n_input_tokens - result->n_vision_tokens);
  g_assert_cmpuint (stats.hops, ==, 1);
  g_assert_cmpuint (stats.encoding_bytes, <, stats.encoding_bytes_peak);
  g_assert_cmpuint (result->n_frames, ==, 2);
  g_assert_cmpuint (result->frame_pts_ns[0], ==, FRAME_NS);
  g_assert_cmpuint (result->frame_pts_ns[1], ==, 2 * FRAME_NS);
  valley_session_reset (f->session);
  valley_session_stats (f->session, &stats);
  g_assert_cmpuint (stats.encoding_bytes, ==, 0);
  answer_clear (&answer);
}

/* The chunks that a prompt is cut into change no bits, in either precision. */
static void
test_chunks (gconstpointer data)
{
  static const gsize rows[] = { 1, 7, 64, 100, 512 };
  ValleyPrecision precision = GPOINTER_TO_INT (data);
  g_autofree char *dir = golden_dir ("ovis-softmax");
  Answer first, other;
  Fixture f;

  fixture_open (&f, dir, precision);
  fixture_push_frames (&f, 0, 2);
  fixture_ask (&f, 4, &first);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    valley_session_set_prefill_rows (f.session, rows[i]);
    fixture_ask (&f, 4, &other);
    answer_assert_same (&first, &other);
    answer_clear (&other);
  }
  answer_clear (&first);
  fixture_close (&f);
}

/* The same model with another context. */
static void
open_short (Fixture *f, const char *max_positions, char **dir)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  g_autofree char *path = g_build_filename (golden, "config.json", NULL);
  g_autofree char *text = NULL;
  g_autoptr (GString) config = NULL;

  *dir = scratch_new ();
  scratch_copy (*dir, golden);
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  config = g_string_new (text);
  g_assert_cmpuint (
      g_string_replace (config, "\"max_position_embeddings\": 1024", max_positions, 0), ==, 1);
  scratch_write (*dir, "config.json", config->str, config->len);
  fixture_open (f, *dir, VALLEY_PRECISION_F32);
}

/* 0, 2 and 4 of five frames fit; fewer are shown on request, more are not. */
static void
check_fit (Fixture *f)
{
  static const guint most[] = { 0, 2, 9 }, shown[][3] = { { 0, 2, 4 }, { 0, 4 }, { 0, 2, 4 } };

  for (guint i = 0; i < G_N_ELEMENTS (most); i++) {
    ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 8, .max_frames = most[i] };
    g_autoptr (GArray) pts = g_array_new (FALSE, FALSE, sizeof (guint64));
    GError *error = NULL;

    g_assert_true (valley_session_fit (f->session, &request, pts, &error));
    g_assert_no_error (error);
    g_assert_cmpuint (pts->len, ==, most[i] == 2 ? 2 : 3);
    for (guint j = 0; j < pts->len; j++)
      g_assert_cmpuint (g_array_index (pts, guint64, j), ==, shown[i][j] * FRAME_NS);
    g_assert_true (valley_session_begin (f->session, &request, &error));
    g_assert_cmpuint (valley_session_result (f->session)->n_frames, ==, pts->len);
  }
}

/* A window that is too long is answered like the shorter one that is left of it. */
static void
test_context_frames (Fixture *f, gconstpointer data)
{
  static const guint kept[] = { 0, 2, 4 };
  const ValleyResult *result;
  char *dir;
  Fixture tight;
  Answer want, got;
  g_autofree char *limit = NULL;

  for (guint i = 0; i < G_N_ELEMENTS (kept); i++)
    fixture_push_frames (f, kept[i], kept[i]);
  fixture_ask (f, 8, &want);
  result = valley_session_result (f->session);
  g_assert_cmpuint (result->n_frames_dropped, ==, 0);
  /* Room for these three and half of another one. */
  limit = g_strdup_printf ("\"max_position_embeddings\": %u",
                           result->n_input_tokens + 8 + result->n_vision_tokens / 6);

  open_short (&tight, limit, &dir);
  fixture_push_frames (&tight, 0, 4);
  fixture_ask (&tight, 8, &got);
  result = valley_session_result (tight.session);
  g_assert_cmpuint (result->n_frames, ==, 3);
  g_assert_cmpuint (result->n_frames_dropped, ==, 2);
  g_assert_cmpuint (result->max_new_tokens, ==, 8);
  g_assert_cmpuint (result->start_ns, ==, 0);
  g_assert_cmpuint (result->end_ns, ==, 4 * FRAME_NS);
  answer_assert_same (&want, &got);
  answer_clear (&got);
  check_fit (&tight);

  /* They were left out of one answer, not forgotten: 2, 3 and 4 fit. */
  g_assert_cmpuint (valley_session_n_pictures (tight.session), ==, 5);
  valley_session_drop_before (tight.session, 2 * FRAME_NS);
  fixture_ask (&tight, 8, &got);
  g_assert_cmpuint (result->n_frames, ==, 3);
  g_assert_cmpuint (result->n_frames_dropped, ==, 0);
  answer_clear (&want);
  valley_session_reset (f->session);
  fixture_push_frames (f, 2, 4);
  fixture_ask (f, 8, &want);
  answer_assert_same (&want, &got);
  answer_clear (&want);
  answer_clear (&got);
  fixture_close (&tight);
  scratch_remove (dir);
}

/* More tokens asked for than there is room: the answer ends where the positions do. */
static void
test_context_answer (Fixture *f, gconstpointer data)
{
  const ValleyResult *result = valley_session_result (f->session);
  Answer whole, clipped;
  char *dir;
  Fixture tight;

  fixture_push_frames (f, 0, 0);
  fixture_ask (f, 60, &whole);
  g_assert_cmpuint (whole.n_ids, ==, 60); /* it does not stop by itself */
  g_assert_cmpuint (result->n_input_tokens, <, 96);
  open_short (&tight, "\"max_position_embeddings\": 128", &dir);
  fixture_push_frames (&tight, 0, 0);
  fixture_ask (&tight, 1000000, &clipped);
  result = valley_session_result (tight.session);
  g_assert_cmpuint (result->n_input_tokens + result->max_new_tokens, ==, 128);
  g_assert_cmpuint (result->n_output_tokens, ==, result->max_new_tokens);
  g_assert_cmpstr (result->finish_reason, ==, "length");
  g_assert_cmpmem (clipped.ids, clipped.n_ids * sizeof *clipped.ids, whole.ids,
                   clipped.n_ids * sizeof *clipped.ids);
  answer_clear (&whole);
  answer_clear (&clipped);
  fixture_close (&tight);
  scratch_remove (dir);
}

/* Text is never shortened; what it says, and that the session goes on. */
static void
test_context_text (Fixture *f, gconstpointer data)
{
  g_autofree char *text = g_strnfill (3000, 'x');
  ValleyRequest request = { .prompt = text };
  g_autoptr (GError) error = NULL;
  Answer before, after;

  fixture_push_frames (f, 0, 1);
  fixture_ask (f, 4, &before);
  g_assert_false (valley_session_begin (f->session, &request, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CONTEXT);
  g_assert_nonnull (strstr (error->message, "1024"));
  g_assert_nonnull (strstr (error->message, "max_position_embeddings"));
  fixture_ask (f, 4, &after);
  answer_assert_same (&before, &after);
  answer_clear (&before);
  answer_clear (&after);
}

/* A long answer outgrows the room that was made for it; asked again, the room is there. */
static void
test_long_answer (Fixture *f, gconstpointer data)
{
  Answer growing, roomy;

  fixture_push_frames (f, 0, 0);
  fixture_ask (f, 600, &growing);
  g_assert_cmpuint (growing.n_logits, >, 400 * 340); /* it did not stop before growing */
  fixture_ask (f, 600, &roomy);
  answer_assert_same (&growing, &roomy);
  answer_clear (&growing);
  answer_clear (&roomy);
}

static void
test_misuse (Fixture *f, gconstpointer data)
{
  static const guint8 rgb[3 * 8 * 8] = { 0 };
  ValleyRequest nothing = { 0 };
  ValleyInputSizes sizes
      = { .siglip_width = 1, .siglip_height = 1, .eagle_width = 1, .eagle_height = 1 };
  g_autoptr (GError) error = NULL;
  ValleyPicture *tiled;

  g_assert_cmpint (valley_session_next (f->session, &error), ==, VALLEY_STEP_ERROR);
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  g_assert_false (valley_session_begin (f->session, &nothing, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  g_assert_null (valley_picture_new (f->model, 0, &sizes, rgb, rgb, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);

  fixture_push_frames (f, 2, 2);
  g_assert_false (fixture_push (f, 1, &error)); /* an earlier time */
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  tiled = valley_picture_new_tiled (f->model, rgb, 24, 8, 8, &error);
  g_assert_no_error (error);
  g_assert_false (valley_session_push (f->session, tiled, FALSE, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_assert_cmpuint (valley_session_n_pictures (f->session), ==, 1);
  valley_picture_unref (tiled);
}

/* A picture made for another model's towers. */
static void
test_foreign_picture (Fixture *f, gconstpointer data)
{
  g_autofree char *dir = golden_dir ("pixel-shuffle");
  ValleyModel *other = open_model (dir, VALLEY_PRECISION_F32);
  ValleyPicture *picture = make_picture (other, 0);
  g_autoptr (GError) error = NULL;

  g_assert_false (valley_session_push (f->session, picture, FALSE, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  valley_picture_unref (picture);
  valley_model_unref (other);
}

/* Tiles of the right size, but cut for a connector that makes more tokens of each. */
static void
test_foreign_tiles (Fixture *f, gconstpointer data)
{
  g_autofree char *path = g_build_filename (f->model->config->dir, "config.json", NULL);
  g_autofree char *text = NULL;
  g_autoptr (GString) config = NULL;
  guint8 rgb[3 * 64 * 40] = { 0 };
  char *dir = scratch_new ();
  g_autoptr (GError) error = NULL;
  ValleyPicture *picture;
  ValleyModel *other;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  config = g_string_new (text);
  g_assert_cmpuint (g_string_replace (config, "\"ovis_conv_adapter\"",
                                      "\"mlp_pixel_shuffle\",\"pixelshuffle_downsample_ratio\":1",
                                      0),
                    ==, 1);
  g_assert_cmpuint (
      g_string_replace (config, "\"num_patches_per_side\": 3", "\"num_patches_per_side\": 5", 0),
      ==, 1);
  scratch_write (dir, "config.json", config->str, config->len);
  other = open_model (dir, VALLEY_PRECISION_F32);
  picture = valley_picture_new_tiled (other, rgb, 3 * 64, 64, 40, &error);
  g_assert_no_error (error);
  g_assert_false (valley_session_push (f->session, picture, FALSE, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  valley_picture_unref (picture);
  valley_model_unref (other);
  scratch_remove (dir);
}

/* Of a picture thinner than a token nothing is left of the tiles: tile 0 stands for it. */
static void
test_thin_tiles (Fixture *f, gconstpointer data)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 2 };
  guint8 rgb[3 * 900] = { 0 };
  GError *error = NULL;
  ValleyPicture *picture = valley_picture_new_tiled (f->model, rgb, sizeof rgb, 900, 1, &error);

  g_assert_no_error (error);
  g_assert_cmpuint ((gsize) picture->unpad.n_rows * picture->unpad.n_cols, ==, 0);
  g_assert_true (valley_session_push (f->session, picture, FALSE, &error));
  g_assert_no_error (error);
  g_assert_true (fixture_run (f, &request, &error));
  g_assert_no_error (error);
  valley_picture_unref (picture);
}

static void
test_stop_string (Fixture *f, gconstpointer data)
{
  const char *stop[] = { NULL, NULL, NULL };
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 12, .stop = stop };
  g_autofree char *middle = NULL;
  const ValleyResult *result = valley_session_result (f->session);
  GError *error = NULL;
  Answer whole;
  glong n;

  fixture_push_frames (f, 0, 1);
  fixture_ask (f, 12, &whole);
  n = g_utf8_strlen (whole.text, -1);
  g_assert_cmpint (n, >=, 4);
  middle = g_utf8_substring (whole.text, n / 2, n / 2 + 2);
  stop[0] = "never to be found in it";
  stop[1] = middle;
  g_assert_true (valley_session_begin (f->session, &request, &error));
  while (valley_session_next (f->session, &error) == VALLEY_STEP_TOKEN) {
    g_assert_true (g_str_has_prefix (whole.text, result->text));
    g_assert_null (strstr (result->text, middle));
  }
  g_assert_no_error (error);
  g_assert_cmpstr (result->finish_reason, ==, "stop");
  g_assert_true (g_str_has_prefix (whole.text, result->text));
  g_assert_cmpuint (strlen (result->text), ==, (gsize) (strstr (whole.text, middle) - whole.text));
  answer_clear (&whole);
}

static void
test_seed (Fixture *f, gconstpointer data)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 30, .temperature = 2, .seed = 7 };
  GError *error = NULL;
  Answer a, b, c;

  fixture_push_frames (f, 0, 0);
  g_assert_true (fixture_run (f, &request, &error));
  answer_take (f, &a);
  g_assert_true (fixture_run (f, &request, &error));
  answer_take (f, &b);
  request.seed = 8;
  g_assert_true (fixture_run (f, &request, &error));
  answer_take (f, &c);
  answer_assert_same (&a, &b);
  g_assert_true (a.n_ids != c.n_ids || memcmp (a.ids, c.ids, sizeof *a.ids * a.n_ids) != 0);
  answer_clear (&a);
  answer_clear (&b);
  answer_clear (&c);
}

/* ---- markers ---- */

static void
assert_field (const char *found, const GString *wanted)
{
  g_assert_cmpstr (found, ==, wanted->len > 0 ? wanted->str : NULL);
}

/* Nearly random tokens, the release's markers among them: the fields are the sections of what
 * the same seed gives with markers kept, and the answer grows without ever showing one. */
static guint
split_babble (Fixture *f, guint64 seed)
{
  ValleyRequest request
      = { .prompt = QUESTION, .max_new_tokens = 150, .temperature = 100, .seed = seed };
  const ValleyResult *result = valley_session_result (f->session);
  g_autofree char *before = g_strdup ("");
  ValleySections sections;
  GError *error = NULL;
  guint n_sections = 0;

  g_assert_true (fixture_run (f, &request, &error));
  valley_sections_init (&sections);
  valley_sections_add (&sections, result->text);
  valley_sections_finish (&sections, strcmp (result->finish_reason, "stop") != 0);
  request.markers = VALLEY_MARKERS_SPLIT;
  g_assert_true (valley_session_begin (f->session, &request, &error));
  while (valley_session_next (f->session, &error) == VALLEY_STEP_TOKEN) {
    g_assert_true (g_str_has_prefix (result->text, before));
    g_assert_null (strstr (result->text, "<SUMMARY>"));
    g_free (before);
    before = g_strdup (result->text);
  }
  g_assert_no_error (error);
  g_assert_cmpstr (result->text, ==, sections.fields[VALLEY_FIELD_RESULT]->str);
  assert_field (result->reasoning, sections.fields[VALLEY_FIELD_REASONING]);
  assert_field (result->summary, sections.fields[VALLEY_FIELD_SUMMARY]);
  assert_field (result->caption, sections.fields[VALLEY_FIELD_CAPTION]);
  assert_field (result->conclusion, sections.fields[VALLEY_FIELD_CONCLUSION]);
  for (guint i = VALLEY_FIELD_REASONING; i < VALLEY_N_FIELDS; i++)
    n_sections += sections.fields[i]->len > 0;
  valley_sections_clear (&sections);
  return n_sections;
}

static void
test_markers (Fixture *f, gconstpointer data)
{
  guint32 seed = g_test_rand_int ();
  guint n_sections = 0;

  g_test_message ("seed %u", seed);
  fixture_push_frames (f, 0, 0);
  /* by chance an answer may have none */
  for (guint i = 0; i < 2 * test_rounds (5) || (n_sections == 0 && i < 50); i++)
    n_sections += split_babble (f, (guint64) seed + i);
  g_assert_cmpuint (n_sections, >, 0);
}

/* ---- cancelling ---- */

typedef enum { IN_PUSH, IN_BEGIN, IN_NEXT, N_PHASES } Phase;

typedef struct {
  ValleySession *session;
  gint started;
} Canceller;

/* A moment after the phase has begun: which moment is chance, and any must do. */
static gpointer
cancel_later (gpointer data)
{
  Canceller *canceller = data;

  while (!g_atomic_int_get (&canceller->started))
    g_thread_yield ();
  g_usleep ((gulong) g_random_int_range (0, 3000));
  valley_session_cancel (canceller->session);
  return NULL;
}

/* Repeats one kind of call until it fails. */
static void
work_until_cancelled (Fixture *f, Phase phase, GError **error)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 800 };

  while (*error == NULL && phase == IN_PUSH) {
    valley_session_drop_before (f->session, G_MAXUINT64);
    fixture_push (f, 0, error);
  }
  while (*error == NULL && phase == IN_BEGIN)
    valley_session_begin (f->session, &request, error);
  while (*error == NULL && phase == IN_NEXT)
    if (valley_session_next (f->session, error) == VALLEY_STEP_DONE)
      valley_session_begin (f->session, &request, error);
}

static void
cancel_once (Fixture *f, Phase phase)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 800 };
  Canceller canceller = { f->session, FALSE };
  GThread *thread = g_thread_new ("cancel", cancel_later, &canceller);
  g_autoptr (GError) error = NULL;

  fixture_push_frames (f, 0, 1);
  g_assert_true (valley_session_begin (f->session, &request, &error));
  g_atomic_int_set (&canceller.started, TRUE);
  work_until_cancelled (f, phase, &error);
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
  if (phase == IN_NEXT && valley_session_result (f->session)->n_output_tokens > 0)
    g_assert_cmpstr (valley_session_result (f->session)->finish_reason, ==, "cancelled");
  g_thread_join (thread);
}

static void
test_cancel (Fixture *f, gconstpointer data)
{
  Answer before, after;

  fixture_push_frames (f, 0, 1);
  fixture_ask (f, 8, &before);
  for (guint i = 0; i < test_rounds (10) * N_PHASES; i++) {
    ValleyRequest request = { .prompt = QUESTION };
    g_autoptr (GArray) shown = g_array_new (FALSE, FALSE, sizeof (guint64));
    g_autoptr (GError) error = NULL;

    valley_session_reset (f->session);
    cancel_once (f, i % N_PHASES);
    g_assert_false (valley_session_fit (f->session, &request, shown, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
    g_clear_error (&error);
    g_assert_false (fixture_push (f, 5, &error)); /* until reset */
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
  }
  valley_session_reset (f->session);
  fixture_push_frames (f, 0, 1);
  fixture_ask (f, 8, &after);
  answer_assert_same (&before, &after);
  answer_clear (&before);
  answer_clear (&after);
}

/* ---- models ---- */

static void
test_sharing (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  g_autofree char *detour = g_build_filename (dir, "..", "ovis-softmax", NULL);
  ValleyModel *a = open_model (dir, VALLEY_PRECISION_F32);
  ValleyModel *b = open_model (detour, VALLEY_PRECISION_F32);
  ValleyModel *c = open_model (dir, VALLEY_PRECISION_BF16);
  g_autoptr (GError) error = NULL;

  g_assert_true (a == b);
  g_assert_true (a != c);
  g_assert_null (valley_session_new (a, NULL, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  valley_model_unref (a);
  valley_model_unref (b);
  valley_model_unref (c);
  valley_model_unref (NULL);
}

static gpointer
load_thread (gpointer data)
{
  return GINT_TO_POINTER (valley_model_load (data, NULL, NULL));
}

static void
test_load (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyModel *model = open_model (dir, VALLEY_PRECISION_F32);
  g_autoptr (GCancellable) cancelled = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  GThread *threads[4];

  g_cancellable_cancel (cancelled);
  g_assert_false (valley_model_load (model, cancelled, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
  for (gsize i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("load", load_thread, model);
  for (gsize i = 0; i < G_N_ELEMENTS (threads); i++)
    g_assert_true (GPOINTER_TO_INT (g_thread_join (threads[i])));
  valley_model_unref (model);
}

static void
test_no_model (void)
{
  ValleyModelOptions odd = { .device = "abacus" };
  g_autoptr (GError) error = NULL;

  g_assert_null (valley_model_open ("/nonexistent", NULL, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND);
  g_clear_error (&error);
  g_assert_null (valley_model_open (NULL, NULL, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  g_assert_null (valley_model_open ("/", &odd, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_assert_nonnull (strstr (error->message, "abacus"));
}

/* While a model's device is being opened, which may take long, models are opened and shared: it
 * would stand still here. */
static void
test_opening (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyModel *opening = open_model (dir, VALLEY_PRECISION_F32), *shared;

  g_mutex_lock (&opening->backend_lock);
  shared = open_model (dir, VALLEY_PRECISION_F32);
  g_assert_true (shared == opening);
  g_assert_false (valley_model_is_lost (shared));
  g_mutex_unlock (&opening->backend_lock);
  valley_model_unref (shared);
  valley_model_unref (opening);
}

/* A model whose device was lost is not shared with who opens it next, and does not take its
 * successor out of the registry. */
static void
test_lost (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  ValleyModel *lost = open_model (dir, VALLEY_PRECISION_F32), *again, *third;
  g_autoptr (GError) error = NULL;

  g_assert_false (valley_model_is_lost (lost)); /* nor is one that was not loaded */
  valley_model_load (lost, NULL, &error);
  g_assert_no_error (error);
  g_assert_false (valley_model_is_lost (lost));
  g_atomic_int_set (&lost->backend->lost, TRUE);
  g_assert_true (valley_model_is_lost (lost));
  again = valley_model_open_again (lost, NULL, NULL, &error);
  g_assert_no_error (error);
  g_assert_true (again != lost);
  valley_model_unref (lost);
  third = open_model (dir, VALLEY_PRECISION_F32);
  g_assert_true (third == again);
  g_assert_false (valley_model_is_lost (again));
  valley_model_load (again, NULL, &error);
  g_assert_no_error (error);
  /* the other way around: the successor goes first */
  g_atomic_int_set (&again->backend->lost, TRUE);
  lost = again;
  again = valley_model_open_again (lost, NULL, NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (valley_model_device (again), ==, valley_model_device (lost));
  valley_model_unref (again);
  valley_model_unref (third);
  valley_model_unref (lost);
}

#define SESSION_TEST(name, function)                                                               \
  g_test_add ("/engine/" name, Fixture, NULL, fixture_setup, function, fixture_teardown)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  SESSION_TEST ("reset", test_reset);
  SESSION_TEST ("result", test_result);
  SESSION_TEST ("drop-before", test_drop_before);
  SESSION_TEST ("stats", test_stats);
  SESSION_TEST ("context/frames", test_context_frames);
  SESSION_TEST ("context/answer", test_context_answer);
  SESSION_TEST ("context/text", test_context_text);
  SESSION_TEST ("long-answer", test_long_answer);
  SESSION_TEST ("misuse", test_misuse);
  SESSION_TEST ("foreign-picture", test_foreign_picture);
  g_test_add ("/engine/foreign-tiles", Fixture, "image-tiled", fixture_setup, test_foreign_tiles,
              fixture_teardown);
  g_test_add ("/engine/thin-tiles", Fixture, "pixel-shuffle", fixture_setup, test_thin_tiles,
              fixture_teardown);
  SESSION_TEST ("stop-string", test_stop_string);
  SESSION_TEST ("seed", test_seed);
  SESSION_TEST ("markers", test_markers);
  SESSION_TEST ("cancel", test_cancel);
  g_test_add_data_func ("/engine/chunks/f32", GINT_TO_POINTER (VALLEY_PRECISION_F32), test_chunks);
  g_test_add_data_func ("/engine/chunks/bf16", GINT_TO_POINTER (VALLEY_PRECISION_BF16),
                        test_chunks);
  g_test_add_func ("/engine/sharing", test_sharing);
  g_test_add_func ("/engine/load", test_load);
  g_test_add_func ("/engine/opening", test_opening);
  if (test_on_cpu ()) /* a GPU that works leaves more behind: test-cuda-faults breaks one */
    g_test_add_func ("/engine/lost", test_lost);
  g_test_add_func ("/engine/no-model", test_no_model);
  return g_test_run ();
}
