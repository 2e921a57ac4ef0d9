/* bench-draft.c - what generating several rows at a time costs: the ground on which drafting
 * decides how much to draft.  Not a test:
 * `ninja -C build tests/bench-draft && build/tests/bench-draft FOLDER [threads] [keys]`, where a
 * folder without weights gets random ones, and so does every folder with VALLEY_BENCH_RANDOM=1.
 *
 * Then what drafting makes of whole answers: such as say the same again and again, and such as
 * have nothing in common, where all it can do is harm.
 *
 * Every count of rows is measured in turn, many rounds over, and the best of each counts, so that
 * other work on the machine disturbs all alike.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "alloc.h"
#include "engine.h"

#define ROUNDS 30
#define MAX_SECONDS 20
#define N_ANSWERS 12
#define N_TOKENS 30

static const gsize counts[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 24, 25, 32, 33 };
#define MOST_ROWS 33

typedef struct {
  ValleyModel *model;
  ValleyStream *stream;
  ValleyKvPool *pool;
  ValleyKvCache cache;
  ValleyDecoderRun run;
  float *logits;
  gint32 ids[MOST_ROWS];
} Bench;

static void
fail (GError *error)
{
  fprintf (stderr, "%s\n", error->message);
  exit (1);
}

static void
open_model (Bench *b, const char *dir, guint threads)
{
  g_autofree char *file = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *index = g_build_filename (dir, "model.safetensors.index.json", NULL);
  gboolean real = g_file_test (file, G_FILE_TEST_EXISTS) || g_file_test (index, G_FILE_TEST_EXISTS);
  ValleyModelOptions options = { .threads = threads };
  GError *error = NULL;

  real = real && g_getenv ("VALLEY_BENCH_RANDOM") == NULL;
  options.random_seed = real ? 0 : 1;
  b->model = valley_model_open (dir, &options, &error);
  if (b->model == NULL || !valley_model_load (b->model, NULL, &error))
    fail (error);
  setvbuf (stdout, NULL, _IOLBF, 0);
  printf ("%s, %s weights, %s\n", dir, real ? "its own" : "random",
          b->model->backend->precision == VALLEY_PRECISION_BF16 ? "bf16" : "f32");
}

/* Seconds for @rows rows with their logits, over the keys that are there. */
static double
generate (Bench *b, gsize rows)
{
  gsize length = b->cache.length;
  gint64 start = g_get_monotonic_time ();
  GError *error = NULL;
  ValleyTensor logits = valley_decoder_step (&b->model->stages.llm, b->stream, &b->run, &b->cache,
                                             b->ids, rows, NULL);

  if (!b->stream->ops->download (b->stream, &logits, b->logits, &error))
    fail (error);
  valley_kv_cache_set_length (&b->cache, length);
  return (double) (g_get_monotonic_time () - start) * 1e-6;
}

/* Keys to attend to; what they are does not matter. */
static void
fill_cache (Bench *b, gsize keys)
{
  const ValleyLlmConfig *c = &b->model->stages.llm.config;
  gsize cols = c->n_kv_heads * c->head_dim;
  g_autofree float *zeros = VALLEY_NEW0 (float, keys *cols);
  ValleyTensor rows;

  if (keys == 0)
    return;
  valley_kv_cache_reserve (&b->cache, b->stream, keys + MOST_ROWS);
  valley_tensor_init (b->stream, &rows, VALLEY_F32, keys, cols);
  b->stream->ops->upload (b->stream, &rows, zeros);
  for (gsize i = 0; i < c->n_layers; i++)
    for (ValleyKvPlane plane = VALLEY_KV_KEYS; plane <= VALLEY_KV_VALUES; plane++)
      valley_kv_cache_write (&b->cache, b->stream, i, plane, 0, &rows);
  valley_tensor_clear (b->stream->backend, &rows);
  valley_kv_cache_set_length (&b->cache, keys);
}

static void
measure (Bench *b)
{
  double best[G_N_ELEMENTS (counts)];
  gint64 start = g_get_monotonic_time ();

  for (gsize i = 0; i < G_N_ELEMENTS (counts); i++)
    best[i] = G_MAXDOUBLE;
  for (guint round = 0; round < ROUNDS; round++)
    for (gsize i = 0; i < G_N_ELEMENTS (counts); i++)
      if (round < 3 || g_get_monotonic_time () - start < MAX_SECONDS * G_USEC_PER_SEC)
        best[i] = MIN (best[i], generate (b, counts[i]));
  printf ("%6s %10s %14s %20s\n", "rows", "ms", "times one row", "each more, of one");
  for (gsize i = 0; i < G_N_ELEMENTS (counts); i++)
    printf ("%6zu %10.3f %14.3f %20.3f\n", counts[i], best[i] * 1e3, best[i] / best[0],
            i > 0 ? (best[i] / best[0] - 1) / (double) (counts[i] - 1) : 0.0);
}

/* ---- whole answers ---- */

typedef struct {
  double ms[N_ANSWERS]; /* of decoding, the best of all rounds */
  guint n_tokens, n_drafted, n_accepted;
} Run;

static ValleySession *
open_session (ValleyModel *model, gboolean no_draft)
{
  const ValleySessionOptions options = { .no_draft = no_draft };
  GError *error = NULL;
  ValleySession *session = valley_session_new (model, &options, &error);

  if (session == NULL)
    fail (error);
  return session;
}

static void
answer (ValleySession *session, guint i, gboolean alike, Run *run)
{
  g_autofree char *prompt
      = g_strdup_printf ("%u What is it that happens in these pictures?", alike ? 0 : i * 7919);
  ValleyRequest request
      = { .prompt = prompt, .max_new_tokens = N_TOKENS, .repetition_penalty = alike ? 1 : 2 };
  const ValleyResult *result = valley_session_result (session);
  ValleyStep step = VALLEY_STEP_TOKEN;
  GError *error = NULL;

  if (!valley_session_begin (session, &request, &error))
    fail (error);
  while (step == VALLEY_STEP_TOKEN)
    step = valley_session_next (session, &error);
  if (step == VALLEY_STEP_ERROR)
    fail (error);
  run->ms[i] = MIN (run->ms[i], result->decode_ms);
  run->n_tokens += result->n_output_tokens;
  run->n_drafted += result->n_drafted;
  run->n_accepted += result->n_accepted;
}

/* N_ANSWERS questions to a session that drafts and one that does not, in turn.  With @alike all
 * are the same; else the answers are kept from repeating themselves too. */
static void
run_both (Bench *b, gboolean alike, Run runs[2])
{
  ValleySession *sessions[] = { open_session (b->model, TRUE), open_session (b->model, FALSE) };

  for (guint i = 0; i < 2; i++)
    runs[i].n_tokens = runs[i].n_drafted = runs[i].n_accepted = 0;
  for (guint i = 0; i < N_ANSWERS; i++)
    for (guint j = 0; j < 2; j++)
      answer (sessions[j], i, alike, &runs[j]);
  for (guint i = 0; i < 2; i++)
    valley_session_free (sessions[i]);
}

static void
compare_answers (Bench *b, gboolean alike)
{
  Run runs[2];
  double ms[2] = { 0 };
  gint64 start = g_get_monotonic_time ();

  for (guint i = 0; i < N_ANSWERS; i++)
    runs[0].ms[i] = runs[1].ms[i] = G_MAXDOUBLE;
  for (guint round = 0; round < ROUNDS; round++)
    if (round < 1 || g_get_monotonic_time () - start < MAX_SECONDS * G_USEC_PER_SEC)
      run_both (b, alike, runs);
  for (guint i = 0; i < N_ANSWERS; i++)
    for (guint j = 0; j < 2; j++)
      ms[j] += runs[j].ms[i];
  printf ("%u answers %s: %u tokens, %u drafted, %u accepted; %.3f ms a token with drafts, "
          "%.3f without, ratio %.3f\n",
          N_ANSWERS, alike ? "alike" : "unlike", runs[1].n_tokens, runs[1].n_drafted,
          runs[1].n_accepted, ms[1] / runs[1].n_tokens, ms[0] / runs[0].n_tokens, ms[1] / ms[0]);
}

int
main (int argc, char **argv)
{
  Bench b = { 0 };
  gsize keys = argc > 3 ? (gsize) g_ascii_strtoull (argv[3], NULL, 10) : 500;
  const ValleyLlmConfig *c;
  GError *error = NULL;

  if (argc < 2) {
    fprintf (stderr, "usage: %s FOLDER [threads] [keys]\n", argv[0]);
    return 2;
  }
  open_model (&b, argv[1], argc > 2 ? (guint) g_ascii_strtoull (argv[2], NULL, 10) : 0);
  c = &b.model->stages.llm.config;
  b.stream = b.model->backend->ops->stream_new (b.model->backend, &error);
  if (b.stream == NULL)
    fail (error);
  b.pool = valley_kv_pool_new (b.model->backend, c->n_layers, c->n_kv_heads * c->head_dim, 0);
  valley_kv_cache_init (&b.cache, b.pool);
  valley_decoder_run_init (&b.run, b.model->backend, &b.model->stages.llm.config,
                           b.model->stages.llm.frequencies);
  b.logits = VALLEY_NEW (float, MOST_ROWS * c->vocab_size);
  for (gsize i = 0; i < MOST_ROWS; i++)
    b.ids[i] = (gint32) (i * 7 % c->vocab_size);
  fill_cache (&b, keys);
  printf ("over %zu keys\n", keys);
  measure (&b);
  compare_answers (&b, TRUE);
  compare_answers (&b, FALSE);
  valley_decoder_run_clear (&b.run);
  valley_kv_cache_clear (&b.cache);
  valley_kv_pool_free (b.pool);
  b.stream->ops->stream_free (b.stream);
  g_free (b.logits);
  valley_model_unref (b.model);
  return 0;
}
