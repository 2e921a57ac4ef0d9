/* test-engine.c - the engine as a caller sees it: sessions that can be reset, cancelled and
 * reused, windows that forget, damaged checkpoints, shared models.  What must equal
 * something computed another way is compared in bits.  Numbers against other people's code
 * are test-golden.c's.
 *
 * GOLDEN_DIR: tests/golden.
 * SPDX-License-Identifier: Apache-2.0 */
#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

#include "engine.h"
#include "scratch.h"

#define FRAME_NS (500 * G_GUINT64_CONSTANT (1000000))
#define QUESTION "What is the signal? Answer picture, bars, black or snow."

typedef struct {
  ValleyModel *model;
  ValleySession *session;
} Fixture;

typedef struct {
  gint32 ids[64];
  guint n_ids;
  char *text;
  float *logits;
  gsize n_logits;
} Answer;

static char *
golden_dir (const char *name)
{
  return g_build_filename (g_getenv ("GOLDEN_DIR"), name, NULL);
}

static ValleyModel *
open_model (const char *dir, ValleyPrecision precision)
{
  ValleyModelOptions options = { .device = "cpu", .precision = precision, .threads = 2 };
  GError *error = NULL;
  ValleyModel *model = valley_model_open (dir, &options, &error);

  g_assert_no_error (error);
  return model;
}

static void
fixture_open (Fixture *f, const char *dir, ValleyPrecision precision)
{
  GError *error = NULL;

  f->model = open_model (dir, precision);
  valley_model_load (f->model, NULL, &error);
  g_assert_no_error (error);
  f->session
      = valley_session_new (f->model, &(ValleySessionOptions){ .keep_logits = TRUE }, &error);
  g_assert_no_error (error);
}

static void
fixture_close (Fixture *f)
{
  valley_session_free (f->session);
  valley_model_unref (f->model);
}

static void
setup (Fixture *f, gconstpointer data)
{
  g_autofree char *dir = golden_dir (data != NULL ? data : "ovis-softmax");

  fixture_open (f, dir, VALLEY_PRECISION_F32);
}

static void
teardown (Fixture *f, gconstpointer data)
{
  fixture_close (f);
}

/* A picture of its own for every number. */
static ValleyPicture *
make_picture (ValleyModel *model, guint number)
{
  guint width = 64 + 8 * number, height = 48;
  g_autofree guint8 *rgb = g_malloc (3 * width * height);
  GError *error = NULL;
  ValleyPicture *picture;

  for (guint i = 0; i < 3 * width * height; i++)
    rgb[i] = (guint8)(i * (number + 3) + i / 97);
  picture = valley_picture_new_from_rgb (model, number * FRAME_NS, rgb, 3 * width, width, height,
                                         &error);
  g_assert_no_error (error);
  return picture;
}

static gboolean
push (Fixture *f, guint number, GError **error)
{
  ValleyPicture *picture = make_picture (f->model, number);
  gboolean ok = valley_session_push (f->session, picture, error);

  valley_picture_unref (picture);
  return ok;
}

static void
push_frames (Fixture *f, guint first, guint last)
{
  GError *error = NULL;

  for (guint i = first; i <= last; i++) {
    g_assert_true (push (f, i, &error));
    g_assert_no_error (error);
  }
}

/* Begins and steps to the end; FALSE with the first error. */
static gboolean
run (Fixture *f, const ValleyRequest *request, GError **error)
{
  ValleyStep step = VALLEY_STEP_TOKEN;

  if (!valley_session_begin (f->session, request, error))
    return FALSE;
  while (step == VALLEY_STEP_TOKEN)
    step = valley_session_next (f->session, error);
  return step == VALLEY_STEP_DONE;
}

static void
answer_take (Fixture *f, Answer *answer)
{
  const ValleyResult *result = valley_session_result (f->session);
  gsize n_steps, n_vocabulary;
  const float *logits = valley_session_logits (f->session, &n_steps, &n_vocabulary);

  answer->n_ids = MIN (result->n_output_tokens, G_N_ELEMENTS (answer->ids));
  memcpy (answer->ids, result->output_ids, answer->n_ids * sizeof *answer->ids);
  answer->text = g_strdup (result->text);
  answer->n_logits = n_steps * n_vocabulary;
  answer->logits = g_memdup2 (logits, answer->n_logits * sizeof *logits);
}

static void
answer_clear (Answer *answer)
{
  g_free (answer->text);
  g_free (answer->logits);
}

static void
ask (Fixture *f, guint max_new_tokens, Answer *answer)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = max_new_tokens };
  GError *error = NULL;

  g_assert_true (run (f, &request, &error));
  g_assert_no_error (error);
  answer_take (f, answer);
}

static void
assert_same (const Answer *a, const Answer *b)
{
  g_assert_cmpuint (a->n_ids, >, 0);
  g_assert_cmpuint (a->n_ids, ==, b->n_ids);
  g_assert_cmpmem (a->ids, a->n_ids * sizeof *a->ids, b->ids, b->n_ids * sizeof *b->ids);
  g_assert_cmpmem (a->logits, a->n_logits * sizeof (float), b->logits,
                   b->n_logits * sizeof (float));
  g_assert_cmpstr (a->text, ==, b->text);
}

/* ---- sessions ---- */

static void
test_reset (Fixture *f, gconstpointer data)
{
  Answer first, second, text_only;

  push_frames (f, 0, 2);
  ask (f, 8, &first);
  valley_session_reset (f->session);
  g_assert_cmpuint (valley_session_n_pictures (f->session), ==, 0);
  ask (f, 8, &text_only);
  push_frames (f, 0, 2);
  ask (f, 8, &second);
  assert_same (&first, &second);
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

  push_frames (f, 1, 2);
  ask (f, 8, &answer);
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
      total += exp ((double)logits[j] - logits[answer.ids[i]]);
    sum -= log (total);
  }
  g_assert_cmpfloat_with_epsilon (r->confidence, exp (sum / 8), 1e-9);
  answer_clear (&answer);
}

static void
test_drop_before (Fixture *f, gconstpointer data)
{
  Answer fresh, slid;

  push_frames (f, 1, 2);
  ask (f, 8, &fresh);
  valley_session_reset (f->session);
  push_frames (f, 0, 2);
  valley_session_drop_before (f->session, FRAME_NS);
  g_assert_cmpuint (valley_session_n_pictures (f->session), ==, 2);
  ask (f, 8, &slid);
  assert_same (&fresh, &slid);
  valley_session_drop_before (f->session, 100 * FRAME_NS);
  g_assert_cmpuint (valley_session_n_pictures (f->session), ==, 0);
  answer_clear (&fresh);
  answer_clear (&slid);
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
  push_frames (&f, 0, 2);
  ask (&f, 4, &first);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    valley_session_set_prefill_rows (f.session, rows[i]);
    ask (&f, 4, &other);
    assert_same (&first, &other);
    answer_clear (&other);
  }
  answer_clear (&first);
  fixture_close (&f);
}

static void
test_context (Fixture *f, gconstpointer data)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 1000000 };
  g_autoptr (GError) error = NULL;
  Answer before, after;

  push_frames (f, 0, 0);
  ask (f, 4, &before);
  g_assert_false (valley_session_begin (f->session, &request, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CONTEXT);
  g_assert_nonnull (strstr (error->message, "1000000"));
  g_assert_nonnull (strstr (error->message, "1024"));
  ask (f, 4, &after);
  assert_same (&before, &after);
  answer_clear (&before);
  answer_clear (&after);
}

/* A long answer outgrows the room that was made for it; asked again, the room is there. */
static void
test_long_answer (Fixture *f, gconstpointer data)
{
  Answer growing, roomy;

  push_frames (f, 0, 0);
  ask (f, 600, &growing);
  g_assert_cmpuint (growing.n_logits, >, 400 * 340); /* it did not stop before growing */
  ask (f, 600, &roomy);
  assert_same (&growing, &roomy);
  answer_clear (&growing);
  answer_clear (&roomy);
}

static void
test_misuse (Fixture *f, gconstpointer data)
{
  static const guint8 rgb[3 * 8 * 8] = { 0 };
  ValleyRequest nothing = { 0 };
  ValleyInputSizes sizes = { 1, 1, 1, 1 };
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

  push_frames (f, 2, 2);
  g_assert_false (push (f, 1, &error)); /* an earlier time */
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  tiled = valley_picture_new_tiled (f->model, rgb, 24, 8, 8, &error);
  g_assert_no_error (error);
  g_assert_false (valley_session_push (f->session, tiled, &error));
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

  g_assert_false (valley_session_push (f->session, picture, &error));
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
  scratch_write (dir, "config.json", config->str, config->len);
  other = open_model (dir, VALLEY_PRECISION_F32);
  picture = valley_picture_new_tiled (other, rgb, 3 * 64, 64, 40, &error);
  g_assert_no_error (error);
  g_assert_false (valley_session_push (f->session, picture, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  valley_picture_unref (picture);
  valley_model_unref (other);
  scratch_remove (dir);
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

  push_frames (f, 0, 1);
  ask (f, 12, &whole);
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
  g_assert_cmpuint (strlen (result->text), ==, (gsize)(strstr (whole.text, middle) - whole.text));
  answer_clear (&whole);
}

static void
test_seed (Fixture *f, gconstpointer data)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 30, .temperature = 2, .seed = 7 };
  GError *error = NULL;
  Answer a, b, c;

  push_frames (f, 0, 0);
  g_assert_true (run (f, &request, &error));
  answer_take (f, &a);
  g_assert_true (run (f, &request, &error));
  answer_take (f, &b);
  request.seed = 8;
  g_assert_true (run (f, &request, &error));
  answer_take (f, &c);
  assert_same (&a, &b);
  g_assert_true (a.n_ids != c.n_ids || memcmp (a.ids, c.ids, sizeof *a.ids * a.n_ids) != 0);
  answer_clear (&a);
  answer_clear (&b);
  answer_clear (&c);
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
  g_usleep ((gulong)g_random_int_range (0, 3000));
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
    push (f, 0, error);
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

  push_frames (f, 0, 1);
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

  push_frames (f, 0, 1);
  ask (f, 8, &before);
  for (guint i = 0; i < 10 * N_PHASES; i++) {
    g_autoptr (GError) error = NULL;

    valley_session_reset (f->session);
    cancel_once (f, i % N_PHASES);
    g_assert_false (push (f, 5, &error)); /* until reset */
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
  }
  valley_session_reset (f->session);
  push_frames (f, 0, 1);
  ask (f, 8, &after);
  assert_same (&before, &after);
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

/* ---- damaged checkpoints ---- */

/* A copy of a golden whose model.safetensors has @from replaced by @to, equally long. */
static char *
damaged (const char *from, const char *to)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  char *at;
  gsize length;

  scratch_copy (dir, golden);
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  at = g_strstr_len (bytes + 8, (gssize)length - 8, from);
  g_assert_nonnull (at);
  g_assert_cmpuint (strlen (from), ==, strlen (to));
  memcpy (at, to, strlen (to));
  scratch_write (dir, "model.safetensors", bytes, length);
  return dir;
}

static void
assert_load_fails (const char *dir, int code, const char *name, const char *expected)
{
  ValleyModel *model = open_model (dir, VALLEY_PRECISION_F32);
  g_autoptr (GError) error = NULL;

  for (guint i = 0; i < 2; i++) { /* a failed load can be tried again */
    g_clear_error (&error);
    g_assert_false (valley_model_load (model, NULL, &error));
    g_assert_error (error, VALLEY_ERROR, code);
    g_assert_nonnull (strstr (error->message, name));
    g_assert_nonnull (strstr (error->message, expected));
  }
  g_test_message ("%s", error->message);
  valley_model_unref (model);
}

static JsonObject *
inspect (const char *dir, gboolean *complete)
{
  g_autoptr (JsonParser) parser = json_parser_new ();
  GError *error = NULL;
  g_autofree char *json = valley_inspect (dir, TRUE, complete, &error);
  g_autofree char *text = NULL;
  gboolean same;

  g_assert_no_error (error);
  json_parser_load_from_data (parser, json, -1, &error);
  g_assert_no_error (error);
  text = valley_inspect (dir, FALSE, &same, &error);
  g_assert_no_error (error);
  g_assert_true (same == *complete);
  g_assert_nonnull (strstr (text, same ? "Complete" : "Incomplete"));
  return json_object_ref (json_node_get_object (json_parser_get_root (parser)));
}

static guint
list_length (JsonObject *report, const char *key)
{
  return json_array_get_length (json_object_get_array_member (report, key));
}

static void
test_missing (void)
{
  char *dir = damaged ("model.norm.weight", "model.nope.weight");
  gboolean complete;
  JsonObject *report = inspect (dir, &complete);

  g_assert_false (complete);
  g_assert_cmpuint (list_length (report, "missing"), ==, 1);
  g_assert_cmpuint (list_length (report, "unused"), ==, 1);
  assert_load_fails (dir, VALLEY_ERROR_TENSOR, "model.norm.weight", "is missing; expected [48]");
  json_object_unref (report);
  scratch_remove (dir);
}

static void
test_misshapen (void)
{
  char *dir = damaged ("[340,48]", "[48,340]");
  gboolean complete;
  JsonObject *report = inspect (dir, &complete);

  g_assert_false (complete);
  g_assert_cmpuint (list_length (report, "misshapen"), ==, 1);
  assert_load_fails (dir, VALLEY_ERROR_TENSOR, "is [48, 340] in F32", "expected [340, 48]");
  json_object_unref (report);
  scratch_remove (dir);
}

static void
test_wrong_type (void)
{
  char *dir = damaged ("\"F32\"", "\"I32\"");

  assert_load_fails (dir, VALLEY_ERROR_TENSOR, "in I32", "BF16, F16 or F32");
  scratch_remove (dir);
}

static void
test_truncated (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  gboolean complete;
  JsonObject *report;
  gsize length;

  scratch_copy (dir, golden);
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  scratch_write (dir, "model.safetensors", bytes, length / 2);
  report = inspect (dir, &complete);
  g_assert_false (complete);
  g_assert_cmpuint (list_length (report, "problems"), ==, 1);
  assert_load_fails (dir, VALLEY_ERROR_READ, "model.safetensors", "expected");
  json_object_unref (report);
  scratch_remove (dir);
}

/* Where @tensor's bytes lie in the file @bytes. */
static char *
find_data (char *bytes, const ValleySafetensors *files, const ValleySafetensor *tensor)
{
  const guint8 *first = tensor->data;
  guint64 header;

  memcpy (&header, bytes, sizeof header);
  for (gsize i = 0; i < valley_safetensors_n_tensors (files); i++)
    first = MIN (first, valley_safetensors_get (files, i)->data);
  return bytes + 8 + GUINT64_FROM_LE (header) + (tensor->data - first);
}

/* Weights that are no numbers end in an error, never in words. */
static void
test_nan (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  ValleySafetensors *files;
  const ValleySafetensor *norm;
  g_autoptr (GError) error = NULL;
  ValleyRequest request = { .prompt = QUESTION };
  gsize length;
  Fixture f;

  scratch_copy (dir, golden);
  files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  norm = valley_safetensors_find (files, "model.norm.weight");
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  memset (find_data (bytes, files, norm), 0xff, norm->bytes);
  valley_safetensors_free (files);
  scratch_write (dir, "model.safetensors", bytes, length);

  fixture_open (&f, dir, VALLEY_PRECISION_F32);
  push_frames (&f, 0, 0);
  g_assert_false (run (&f, &request, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_assert_cmpint (valley_session_next (f.session, NULL), ==, VALLEY_STEP_ERROR);
  g_assert_cmpuint (valley_session_result (f.session)->n_output_tokens, ==, 0);
  g_assert_cmpstr (valley_session_result (f.session)->text, ==, "");
  fixture_close (&f);
  scratch_remove (dir);
}

static void
replace_in_file (const char *dir, const char *name, const char *from, const char *to)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  g_autofree char *text = NULL;
  g_auto (GStrv) parts = NULL;
  g_autofree char *changed = NULL;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  parts = g_strsplit (text, from, -1);
  g_assert_cmpuint (g_strv_length (parts), >, 1);
  changed = g_strjoinv (to, parts);
  scratch_write (dir, name, changed, strlen (changed));
}

static void
test_tokenizer_without_id (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();

  scratch_copy (dir, golden);
  replace_in_file (dir, "tokenizer.json", "<im_start>", "<im_other>");
  assert_load_fails (dir, VALLEY_ERROR_CONFIG, "tokenizer.json", "<im_start>");
  scratch_remove (dir);
}

static void
answer_from (const char *dir, Answer *answer)
{
  Fixture f;

  fixture_open (&f, dir, VALLEY_PRECISION_F32);
  push_frames (&f, 0, 0);
  ask (&f, 6, answer);
  fixture_close (&f);
}

/* Tied: the embedding table is the output head, as if lm_head were a copy of it. */
static void
test_tied (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  const ValleySafetensor *embeddings, *head;
  ValleySafetensors *files;
  GError *error = NULL;
  Answer copied, tied;
  gsize length;

  scratch_copy (dir, golden);
  files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  embeddings = valley_safetensors_find (files, "model.embed_tokens.weight");
  head = valley_safetensors_find (files, "lm_head.weight");
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  memcpy (find_data (bytes, files, head), embeddings->data, embeddings->bytes);
  valley_safetensors_free (files);
  scratch_write (dir, "model.safetensors", bytes, length);
  answer_from (dir, &copied);

  replace_in_file (dir, "config.json", "\"tie_word_embeddings\": false",
                   "\"tie_word_embeddings\": true");
  answer_from (dir, &tied);
  assert_same (&copied, &tied);
  answer_clear (&copied);
  answer_clear (&tied);
  scratch_remove (dir);
}

/* ---- inspecting ---- */

static void
test_inspect (void)
{
  static const char *const names[]
      = { "ovis-softmax", "ovis-argmax", "conv-adapter", "pixel-shuffle", "image-tiled" };

  for (gsize i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autofree char *dir = golden_dir (names[i]);
    gboolean complete;
    JsonObject *report = inspect (dir, &complete);
    JsonObject *memory = json_object_get_object_member (report, "memory");

    g_assert_true (complete);
    g_assert_true (json_object_get_boolean_member (report, "complete"));
    g_assert_cmpuint (list_length (report, "tensors"), >, 50);
    g_assert_cmpuint (list_length (report, "missing"), ==, 0);
    g_assert_cmpuint (list_length (report, "misshapen"), ==, 0);
    g_assert_cmpuint (list_length (report, "problems"), ==, 0);
    g_assert_cmpint (json_object_get_int_member (memory, "weights_bytes"), >, 1000);
    json_object_unref (report);
  }
}

static void
test_inspect_garbage (void)
{
  char *dir = scratch_new ();
  g_autoptr (GError) error = NULL;
  gboolean complete;
  JsonObject *report = inspect (dir, &complete);

  g_assert_false (complete);
  g_assert_cmpuint (list_length (report, "problems"), ==, 2);
  json_object_unref (report);
  scratch_write (dir, "config.json", "\0\1\2{", 4);
  scratch_write (dir, "model.safetensors", "garbage garbage", 15);
  report = inspect (dir, &complete);
  g_assert_false (complete);
  json_object_unref (report);
  g_assert_null (valley_inspect ("/nonexistent", TRUE, &complete, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND);
  scratch_remove (dir);
}

/* The walk over the released 7B layout asks for what its files hold: 8.88 billion parameters
 * with the SigLIP tower's unused head, which alone is subtracted here. */
static void
test_release_layout (void)
{
  static const char config[]
      = "{\"model_type\":\"valley\",\"hidden_size\":3584,\"intermediate_size\":18944,"
        "\"num_hidden_layers\":28,\"num_attention_heads\":28,\"num_key_value_heads\":4,"
        "\"vocab_size\":151679,\"mm_projector_type\":\"ovis_conv_adapter\","
        "\"mlp_hidden_dim\":32000,\"mm_vision_tower\":\"s\",\"eagle_vision_tower\":\"e\"}";
  const double width = 1152, inner = 4304; /* of the head: probe, attention, norm, MLP */
  const double head
      = width + 4 * width * width + 4 * width + 2 * width + 2 * width * inner + width + inner;
  char *dir = scratch_new ();
  GError *error = NULL;
  double parameters = 0;

  scratch_write (dir, "config.json", config, strlen (config));
  scratch_safetensors (dir, "model.safetensors", "{}", G_MAXUINT64, 0);

  ValleyConfig *c = valley_config_read (dir, &error);
  g_assert_no_error (error);
  ValleySafetensors *files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  ValleyWeights *weights = valley_weights_new (files, NULL, NULL);
  ValleyStages stages;
  valley_stages_init (&stages, c, weights);
  const GPtrArray *missing = valley_weights_problems (weights);
  for (guint i = 0; i < missing->len; i++) {
    const ValleyWeightProblem *problem = g_ptr_array_index (missing, i);
    double n = 1;

    for (char *at = problem->expected; *at != ']';)
      n *= (double)g_ascii_strtoull (at + 1, &at, 10);
    parameters += n;
  }
  g_assert_cmpfloat_with_epsilon ((parameters + head) * 2, 17.76e9, 0.005e9);
  valley_stages_clear (&stages);
  valley_weights_free (weights);
  valley_safetensors_free (files);
  valley_config_free (c);
  scratch_remove (dir);
}

#define SESSION_TEST(name, function)                                                               \
  g_test_add ("/engine/" name, Fixture, NULL, setup, function, teardown)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  SESSION_TEST ("reset", test_reset);
  SESSION_TEST ("result", test_result);
  SESSION_TEST ("drop-before", test_drop_before);
  SESSION_TEST ("context", test_context);
  SESSION_TEST ("long-answer", test_long_answer);
  SESSION_TEST ("misuse", test_misuse);
  SESSION_TEST ("foreign-picture", test_foreign_picture);
  g_test_add ("/engine/foreign-tiles", Fixture, "image-tiled", setup, test_foreign_tiles, teardown);
  SESSION_TEST ("stop-string", test_stop_string);
  SESSION_TEST ("seed", test_seed);
  SESSION_TEST ("cancel", test_cancel);
  g_test_add_data_func ("/engine/chunks/f32", GINT_TO_POINTER (VALLEY_PRECISION_F32), test_chunks);
  g_test_add_data_func ("/engine/chunks/bf16", GINT_TO_POINTER (VALLEY_PRECISION_BF16),
                        test_chunks);
  g_test_add_func ("/engine/sharing", test_sharing);
  g_test_add_func ("/engine/load", test_load);
  g_test_add_func ("/engine/no-model", test_no_model);
  g_test_add_func ("/engine/missing", test_missing);
  g_test_add_func ("/engine/misshapen", test_misshapen);
  g_test_add_func ("/engine/wrong-type", test_wrong_type);
  g_test_add_func ("/engine/truncated", test_truncated);
  g_test_add_func ("/engine/tokenizer-without-id", test_tokenizer_without_id);
  g_test_add_func ("/engine/nan", test_nan);
  g_test_add_func ("/engine/tied", test_tied);
  g_test_add_func ("/engine/release-layout", test_release_layout);
  g_test_add_func ("/engine/inspect", test_inspect);
  g_test_add_func ("/engine/inspect-garbage", test_inspect_garbage);
  return g_test_run ();
}
