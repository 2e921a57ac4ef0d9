/* test-allocation.c - every file-sized allocation fails once, from opening a checkpoint to its
 * answer: what was going on ends in VALLEY_ERROR_MEMORY, and when it is tried again the answer
 * is the one that came without a failure, bit by bit.  Leaks are the sanitizer's to find.
 *
 * Each run has a thread of its own, since what a thread keeps for its next operation is
 * allocated but once; the engine gets one thread, so that the n-th is always the same.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "alloc.h"
#include "engine-fixture.h"
#include "mapfile.h"

#define MAX_ALLOCATIONS 20000 /* a run that fails more often never ends */

enum { WINDOW = 3, MOST_ANSWERS = 4 };

typedef struct {
  const char *golden;
  ValleyPrecision precision;
  gboolean strict, tiled;
  const char *policy; /* or NULL: a session as it is, asked once */
  ValleyWindowing windowing;
  ValleyReduction reduction;
} Case;

typedef struct {
  const Case *c;
  guint fail_at; /* 0: never */
  guint n_errors;
  guint64 n_evicted; /* sequences and encodings */
  GString *messages; /* the kinds of them, for the log */
  Fixture f;
  Answer answers[MOST_ANSWERS];
  guint n_answers;
} Run;

/* After a call: TRUE when it succeeded; otherwise notes the one error that may be, and the call
 * is to be made again. */
static gboolean
succeeded (Run *run, gboolean ok, GError **error)
{
  if (ok) {
    g_assert_no_error (*error);
    return TRUE;
  }
  g_assert_true (valley_alloc_has_failed ());
  g_assert_error (*error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
  g_assert_nonnull (strstr ((*error)->message, "memory"));
  g_assert_cmpuint (++run->n_errors, ==, 1);
  g_string_assign (run->messages, (*error)->message);
  g_clear_error (error);
  return FALSE;
}

static void
open_and_load (Run *run)
{
  g_autofree char *dir = golden_dir (run->c->golden);
  ValleyModelOptions options
      = { .device = "cpu", .precision = run->c->precision, .threads = 1, .strict = run->c->strict };
  ValleySessionOptions session = { .keep_logits = TRUE };
  GError *error = NULL;

  do
    run->f.model = valley_model_open (dir, &options, &error);
  while (!succeeded (run, run->f.model != NULL, &error));
  while (!succeeded (run, valley_model_load (run->f.model, NULL, &error), &error))
    ;
  do
    run->f.session = valley_session_new (run->f.model, &session, &error);
  while (!succeeded (run, run->f.session != NULL, &error));
}

static ValleyPicture *
new_picture (Run *run, guint number, GError **error)
{
  guint8 rgb[3 * 60 * 44];

  for (guint i = 0; i < sizeof rgb; i++)
    rgb[i] = (guint8) (i * (number + 3) + i / 97);
  return run->c->tiled ? valley_picture_new_tiled (run->f.model, rgb, 3 * 60, 60, 44, error)
                       : valley_picture_new_from_rgb (run->f.model, number * FRAME_NS, rgb, 3 * 60,
                                                      60, 44, &run->c->reduction, error);
}

static void
push (Run *run, guint number, gboolean begins_window)
{
  GError *error = NULL;
  ValleyPicture *picture;
  guint n_errors;

  do
    picture = new_picture (run, number, &error);
  while (!succeeded (run, picture != NULL, &error));
  n_errors = run->n_errors;
  while (!succeeded (run, valley_session_push (run->f.session, picture, begins_window, &error),
                     &error))
    ;
  if (number > 0) /* an earlier frame's encoding can always be given up */
    g_assert_cmpuint (run->n_errors, ==, n_errors);
  valley_picture_unref (picture);
}

static void
ask (Run *run)
{
  ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 3 };
  ValleySessionStats stats;
  GError *error = NULL;

  while (!succeeded (run, fixture_run (&run->f, &request, &error), &error))
    ;
  answer_take (&run->f, &run->answers[run->n_answers++]);
  valley_session_stats (run->f.session, &stats);
  run->n_evicted = stats.sequences_evicted + stats.encodings_evicted;
}

/* Windows one frame apart, prefilled as frames come. */
static void
run_windows (Run *run)
{
  GError *error = NULL;

  g_assert_true (valley_session_set_windowing (run->f.session, &run->c->windowing, &error));
  for (guint i = 0; i < WINDOW - 1 + MOST_ANSWERS; i++) {
    gboolean more = TRUE;

    if (i >= WINDOW)
      valley_session_drop_before (run->f.session, (i - WINDOW + 1) * FRAME_NS);
    push (run, i, TRUE);
    if (i >= WINDOW - 1)
      ask (run);
    while (more)
      if (!succeeded (run, valley_session_work (run->f.session, &more, &error), &error))
        more = TRUE;
  }
}

static gpointer
run_thread (gpointer data)
{
  Run *run = data;

  valley_alloc_fail_at (run->c->policy == NULL ? run->fail_at : 0);
  open_and_load (run);
  if (run->c->policy != NULL) {
    valley_alloc_fail_at (run->fail_at); /* other cases open */
    run_windows (run);
  } else {
    for (guint i = 0; i < (run->c->tiled ? 1 : 2); i++)
      push (run, i, FALSE);
    ask (run);
  }
  fixture_close (&run->f);
  return NULL;
}

static void
run_once (Run *run, const Case *c, guint fail_at)
{
  *run = (Run){ .c = c, .fail_at = fail_at, .messages = g_string_new (NULL) };
  g_thread_join (g_thread_new ("run", run_thread, run));
}

static void
run_clear (Run *run)
{
  for (guint i = 0; i < run->n_answers; i++)
    answer_clear (&run->answers[i]);
  g_string_free (run->messages, TRUE);
}

/* Short of memory, a session first gives up what it can compute again; a streaming one may then
 * begin anew, nearer to the truth. */
static void
check_run (const Run *run, const Run *good, gboolean failed)
{
  gboolean streams = run->c->windowing.policy == VALLEY_WINDOWS_STREAMING;

  if (run->c->policy == NULL)
    g_assert_cmpuint (run->n_errors + (run->n_evicted > 0), ==, failed);
  g_assert_cmpuint (run->n_errors, <=, failed);
  g_assert_cmpuint (run->n_answers, ==, good->n_answers);
  for (guint i = 0; i < run->n_answers; i++)
    if (!streams || i == 0)
      answer_assert_same (&good->answers[i], &run->answers[i]);
}

static void
test_every (gconstpointer data)
{
  const Case *c = data;
  GHashTable *messages = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  Run good, run;
  guint n;

  run_once (&good, c, 0);
  g_assert_cmpuint (good.n_errors, ==, 0);
  for (n = 1; n < MAX_ALLOCATIONS; n++) {
    gboolean failed;

    run_once (&run, c, n);
    failed = valley_alloc_has_failed ();
    check_run (&run, &good, failed);
    if (failed && g_hash_table_add (messages, g_strdup (run.messages->str)))
      g_test_message ("allocation %u: %s", n, run.messages->str);
    run_clear (&run);
    if (!failed)
      break;
  }
  valley_alloc_fail_at (0);
  g_test_message ("%u allocations, %u messages", n - 1, g_hash_table_size (messages));
  g_assert_cmpuint (n, >, 50);
  g_assert_cmpuint (n, <, MAX_ALLOCATIONS);
  g_hash_table_unref (messages);
  run_clear (&good);
}

/* The report on a folder cannot be had in parts: it says what was short. */
static void
test_inspect (void)
{
  g_autofree char *dir = golden_dir ("ovis-softmax");
  gboolean failed = TRUE;
  guint n;

  for (n = 1; failed; n++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *report = NULL;
    gboolean complete;

    valley_alloc_fail_at (n);
    report = valley_inspect (dir, FALSE, &complete, &error);
    failed = valley_alloc_has_failed ();
    g_assert_no_error (error);
    g_assert_true (complete == !failed);
    g_assert_true ((strstr (report, "not enough memory") != NULL) == failed);
  }
  valley_alloc_fail_at (0);
  g_assert_cmpuint (n, >, 10);
}

/* Each of the files that opening maps, as if the system would not. */
static void
test_mapping (void)
{
  g_autofree char *dir = golden_dir ("conv-adapter"); /* two shards and an index */
  gboolean failed = TRUE;
  guint n;

  for (n = 1; failed; n++) {
    GError *error = NULL;
    ValleyModel *model;
    gboolean ok;

    valley_map_fail_at (n);
    model = valley_model_open (dir, NULL, &error);
    ok = model != NULL && valley_model_load (model, NULL, &error);
    failed = valley_map_has_failed ();
    g_assert_true (ok == !failed);
    if (failed) {
      g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_READ);
      g_test_message ("mapping %u: %s", n, error->message);
      g_assert_nonnull (strstr (error->message, "conv-adapter"));
      g_clear_error (&error);
      if (model != NULL)
        g_assert_true (valley_model_load (model, NULL, &error));
      g_assert_no_error (error);
    }
    valley_model_unref (model);
  }
  valley_map_fail_at (0);
  g_assert_cmpuint (n, ==, 8); /* two configurations, a tokenizer, an index, two shards; none */
}

/* Tables of coefficients are kept from one picture to the next: every attempt has a new width. */
static void
test_resize (void)
{
  g_autofree guint8 *from = g_malloc0 (3 * 500 * 4);
  guint8 to[3 * 10 * 3];
  gboolean failed = TRUE;
  guint n;

  for (n = 1; failed; n++) {
    gboolean ok;

    valley_alloc_fail_at (n);
    ok = valley_image_resize (from, 3 * 500, 300 + n, 4, 3, to, 3 * 10, 10, 3);
    failed = valley_alloc_has_failed ();
    g_assert_true (ok == !failed);
  }
  valley_alloc_fail_at (0);
  g_assert_cmpuint (n, >, 5);
}

/* Nobody adds up sizes without looking. */
static void
test_overflow (void)
{
  g_autoptr (GString) text = g_string_new ("abc");

  g_assert_null (valley_alloc (G_MAXSIZE / 4, 8));
  g_assert_null (valley_alloc0 (G_MAXSIZE / 4, 8));
  g_assert_null (valley_alloc (0, 8));
  g_assert_false (valley_alloc_string (text, G_MAXSIZE));
  g_assert_false (valley_alloc_string (text, G_MAXSIZE / 2));
  g_assert_true (valley_alloc_string (text, 100000));
  g_assert_cmpuint (text->allocated_len, >, 100003);
  g_assert_cmpstr (text->str, ==, "abc");
}

static const Case cases[] = {
  { .golden = "ovis-softmax", .precision = VALLEY_PRECISION_F32 },
  { .golden = "ovis-argmax", .precision = VALLEY_PRECISION_BF16 },
  { .golden = "image-tiled", .precision = VALLEY_PRECISION_BF16, .tiled = TRUE },
  { .golden = "conv-adapter", .precision = VALLEY_PRECISION_F32, .strict = TRUE },
  { .golden = "ovis-softmax",
    .policy = "sliding",
    .windowing = { VALLEY_WINDOWS_SLIDING, WINDOW, 1, 0, 0, 0 },
    .reduction = { .drop = TRUE, .drop_threshold = 0.5 } },
  { .golden = "ovis-softmax",
    .policy = "anchored",
    .windowing = { VALLEY_WINDOWS_ANCHORED, WINDOW, 1, 0, 0, 0 } },
  { .golden = "ovis-softmax",
    .policy = "streaming",
    .windowing = { VALLEY_WINDOWS_STREAMING, WINDOW, 1, 0, 3, 1e9 } },
};

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *path = g_strdup_printf (
        "/allocation/%s", cases[i].policy != NULL ? cases[i].policy : cases[i].golden);

    g_test_add_data_func (path, &cases[i], test_every);
  }
  g_test_add_func ("/allocation/inspect", test_inspect);
  g_test_add_func ("/allocation/mapping", test_mapping);
  g_test_add_func ("/allocation/resize", test_resize);
  g_test_add_func ("/allocation/overflow", test_overflow);
  return g_test_run ();
}
