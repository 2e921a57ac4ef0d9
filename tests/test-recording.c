/* test-recording.c - passes through the decoder on a device that records them: answers' steps and
 * frames' rows have the bits that they have when every operation runs directly, whatever happens
 * in between to sequences, pages, tables and scratch memory.
 * SPDX-License-Identifier: Apache-2.0 */
#include "decoder-fixture.h"
#include "recording.h"
#include "streaming.h"

#define SIZE SMALL_HIDDEN

enum { SEQUENCES = 3, DIRECT = 0, RECORDED = 1 };

/* The same sequences twice: computed directly, and by a device that records. */
typedef struct {
  SmallDecoder *small;
  const ValleyOps *ops[2];
  ValleyDecoderRun runs[2];
  ValleyKvPool *pools[2];
  ValleyKvCache caches[2][SEQUENCES];
} Twins;

/* All operations from now on are of that kind. */
static void
use (Twins *t, guint which)
{
  t->small->device.backend->ops = t->small->device.stream->ops = t->ops[which];
}

static Twins *
twins_new (ValleyPrecision precision, gboolean qwen3, gboolean unrotated)
{
  Twins *t = g_new0 (Twins, 1);
  const ValleyLlmConfig *c;

  t->small = small_decoder_new (rng, precision, 2, FALSE, qwen3);
  c = &t->small->llm.config;
  t->ops[DIRECT] = OPS (t->small->device);
  t->ops[RECORDED] = recording_ops (t->small->device.backend);
  for (guint i = 0; i < 2; i++) {
    use (t, i);
    valley_decoder_run_init (&t->runs[i], t->small->device.backend, c, t->small->llm.frequencies);
    t->pools[i] = valley_kv_pool_new (t->small->device.backend, c->n_layers,
                                      c->n_kv_heads * c->head_dim, 0);
    g_assert_true (valley_kv_pool_set_unrotated (t->pools[i], unrotated));
    for (guint j = 0; j < SEQUENCES; j++)
      valley_kv_cache_init (&t->caches[i][j], t->pools[i]);
  }
  return t;
}

static void
twins_free (Twins *t)
{
  for (guint i = 0; i < 2; i++) {
    use (t, i);
    for (guint j = 0; j < SEQUENCES; j++)
      valley_kv_cache_clear (&t->caches[i][j]);
    valley_decoder_run_clear (&t->runs[i]);
    valley_kv_pool_free (t->pools[i]);
  }
  use (t, DIRECT);
  recording_end (t->small->device.backend);
  small_decoder_free (t->small);
  g_free (t);
}

/* ---- what happens to a sequence ---- */

static void
step (Twins *t, guint sequence, gsize n)
{
  ValleyStream *stream = t->small->device.stream;
  gint32 ids[8];
  g_autofree float *got[2] = { NULL };

  for (gsize i = 0; i < n; i++)
    ids[i] = g_rand_int_range (rng, 0, SMALL_VOCABULARY);
  for (guint i = 0; i < 2; i++) {
    guint n_uploads = recording_counts.n_id_uploads;
    ValleyTensor logits;

    use (t, i);
    logits = valley_decoder_step (&t->small->llm, stream, &t->runs[i], &t->caches[i][sequence], ids,
                                  n, NULL);
    got[i] = g_new (float, n *SMALL_VOCABULARY);
    g_assert_true (stream->ops->download (stream, &logits, got[i], NULL));
    g_assert_cmpuint (recording_counts.n_id_uploads - n_uploads, ==, i);
  }
  assert_same_bits ("a step's logits", got[RECORDED], got[DIRECT], n * SMALL_VOCABULARY);
  g_free (got[1]); /* got[0] goes by itself */
}

/* Rows of a frame or a prompt, some positions left out. */
static void
append (Twins *t, guint sequence, gsize n, gsize at_once, gboolean all_rows, gboolean gapped)
{
  ValleyStream *stream = t->small->device.stream;
  g_autofree float *x = random_floats (n * SIZE, 1), *direct = NULL, *recorded = NULL;
  g_autofree gint32 *positions = g_new (gint32, n);
  const ValleyKvCache *before = &t->caches[DIRECT][sequence];
  gint32 next = (gint32) (before->length + before->gap);

  for (gsize i = 0; i < n; i++) {
    next += gapped && g_rand_int_range (rng, 0, 4) == 0 ? g_rand_int_range (rng, 1, 60) : 0;
    positions[i] = next++;
  }
  for (guint i = 0; i < 2; i++) {
    ValleyForward forward = { .cache = &t->caches[i][sequence],
                              .run = &t->runs[i],
                              .positions = gapped ? positions : NULL,
                              .role = VALLEY_ROWS_PROMPT,
                              .rows_at_once = at_once,
                              .all_rows = all_rows };
    float *out = g_new (float, n *SIZE);
    ValleyTensor rows;

    use (t, i);
    valley_tensor_init (stream, &rows, VALLEY_F32, n, SIZE);
    stream->ops->upload (stream, &rows, x);
    valley_decoder_forward (&t->small->llm, stream, &forward, &rows);
    g_assert_true (stream->ops->download (stream, &rows, out, NULL));
    valley_tensor_clear (stream->backend, &rows);
    *(i == DIRECT ? &direct : &recorded) = out;
  }
  if (all_rows)
    assert_same_bits ("a prompt's rows", recorded, direct, n * SIZE);
  else
    assert_same_bits ("a prompt's last row", recorded + (n - 1) * SIZE, direct + (n - 1) * SIZE,
                      SIZE);
}

static void
fork_sequence (Twins *t, guint to, guint from)
{
  for (guint i = 0; i < 2; i++) {
    use (t, i);
    valley_kv_cache_clear (&t->caches[i][to]);
    valley_kv_cache_fork (&t->caches[i][to], &t->caches[i][from], t->small->device.stream);
  }
}

static void
roll_back (Twins *t, guint sequence)
{
  gsize length = t->caches[DIRECT][sequence].length;
  gsize to = (gsize) g_rand_int_range (rng, 0, (gint32) length + 1);

  for (guint i = 0; i < 2; i++) {
    use (t, i);
    valley_kv_cache_set_length (&t->caches[i][sequence], to);
    if (g_rand_boolean (rng)) /* others may take the pages, or the machine */
      valley_kv_pool_trim (t->pools[i]);
  }
}

static void
evict (Twins *t, guint sequence)
{
  gsize length = t->caches[DIRECT][sequence].length;
  gsize first = (gsize) g_rand_int_range (rng, 0, (gint32) length + 1);
  gsize n = (gsize) g_rand_int_range (rng, 0, (gint32) (length - first) + 1);

  for (guint i = 0; i < 2; i++) {
    use (t, i);
    valley_streaming_evict (&t->caches[i][sequence], t->small->device.stream, &t->runs[i], first, n,
                            NULL);
    g_assert_true (OPS (t->small->device)->stream_wait (t->small->device.stream, NULL));
  }
}

/* ---- tests ---- */

static void
check_stream (guint round)
{
  gboolean unrotated = round & 2;
  Twins *t
      = twins_new (round & 1 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32, round & 4, unrotated);

  for (guint i = 0; i < 150; i++) {
    guint one = (guint) g_rand_int_range (rng, 0, SEQUENCES);
    guint other = (guint) g_rand_int_range (rng, 0, SEQUENCES);
    gint action = g_rand_int_range (rng, 0, 20);

    if (action < 9)
      step (t, one, g_rand_int_range (rng, 0, 3) ? 1 : (gsize) g_rand_int_range (rng, 2, 6));
    else if (action < 13)
      append (t, one, 12, 64, FALSE, action == 9); /* a frame */
    else if (action < 15)
      append (t, one, (gsize) g_rand_int_range (rng, 1, 130),
              (gsize) g_rand_int_range (rng, 1, 140), action == 13, g_rand_boolean (rng));
    else if (action < 17 && one != other)
      fork_sequence (t, one, other);
    else if (action == 17)
      roll_back (t, one);
    else if (action == 18 && unrotated)
      evict (t, one);
    else if (action == 19)
      recording_fault = (RecordingFault) g_rand_int_range (rng, 1, 3);
  }
  g_assert_cmpuint (recording_counts.n_graphs, >, 2);
  g_assert_cmpuint (recording_counts.n_runs, >, recording_counts.n_graphs);
  recording_fault = RECORDING_WORKS;
  twins_free (t);
}

static void
test_streams (void)
{
  for (guint i = 0; i < 8; i++)
    check_stream (i);
}

/* An answer of one length after the other: what is recorded, and what crosses the bus. */
static void
test_answer (void)
{
  Twins *t = twins_new (VALLEY_PRECISION_F32, FALSE, FALSE);
  RecordingCounts before;

  append (t, 0, 70, 512, FALSE, FALSE);
  step (t, 0, 1);
  g_assert_cmpuint (recording_counts.n_graphs, ==, 0); /* the first of its kind runs directly */
  step (t, 0, 1);
  g_assert_cmpuint (recording_counts.n_graphs, ==, 1);
  g_assert_cmpuint (recording_counts.n_runs, ==, 1);
  before = recording_counts;
  for (guint i = 0; i < 100; i++)
    step (t, 0, 1);
  g_assert_cmpuint (recording_counts.n_graphs, ==, before.n_graphs);
  g_assert_cmpuint (recording_counts.n_runs, ==, before.n_runs + 100);
  g_assert_cmpuint (recording_counts.n_page_uploads, ==, before.n_page_uploads + 1);
  for (guint i = 0; i < 100; i++) /* past the 256 rows that the recording is for */
    step (t, 0, 1);
  g_assert_cmpuint (recording_counts.n_graphs, ==, before.n_graphs + 1);
  twins_free (t);
}

/* More kinds of passes than are remembered. */
static void
test_many_kinds (void)
{
  Twins *t = twins_new (VALLEY_PRECISION_F32, FALSE, FALSE);

  append (t, 0, 60, 60, TRUE, FALSE);
  for (guint round = 0; round < 3; round++)
    for (gsize n = 1; n < 45; n++) {
      append (t, 1, n, 60, FALSE, FALSE);
      append (t, 1, n, 60, FALSE, FALSE);
      roll_back (t, 1);
    }
  g_assert_cmpuint (recording_counts.n_graphs, >, 60);
  twins_free (t);
}

/* Cancelled at any moment, a pass leaves nothing half recorded behind. */
static void
test_cancelled (void)
{
  Twins *t = twins_new (VALLEY_PRECISION_F32, FALSE, FALSE);
  ValleyStream *stream = t->small->device.stream;
  gint32 id = 3;

  append (t, 0, 20, 64, FALSE, FALSE);
  step (t, 0, 1);
  use (t, RECORDED);
  g_atomic_int_set (&stream->cancelled, 1);
  valley_decoder_step (&t->small->llm, stream, &t->runs[RECORDED], &t->caches[RECORDED][0], &id, 1,
                       NULL);
  g_assert_false (stream->ops->stream_wait (stream, NULL));
  g_atomic_int_set (&stream->cancelled, 0);
  g_assert_cmpuint (t->caches[RECORDED][0].length, ==, t->caches[DIRECT][0].length);
  for (guint i = 0; i < 4; i++)
    step (t, 0, 1);
  g_assert_cmpuint (recording_counts.n_runs, ==, 4);
  twins_free (t);
}

/* Cancelled while the new page's address was on its way: it is sent again. */
static void
test_pages_cancelled (void)
{
  Twins *t = twins_new (VALLEY_PRECISION_F32, FALSE, FALSE);
  ValleyStream *stream = t->small->device.stream;
  gint32 id = 3;

  append (t, 0, VALLEY_KV_PAGE_ROWS - 3, 64, FALSE, FALSE);
  for (guint i = 0; i < 3; i++)
    step (t, 0, 1);
  use (t, RECORDED);
  recording_fault = RECORDING_CANCELLED;
  valley_decoder_step (&t->small->llm, stream, &t->runs[RECORDED], &t->caches[RECORDED][0], &id, 1,
                       NULL);
  g_assert_cmpint (recording_fault, ==, RECORDING_WORKS);
  g_assert_false (stream->ops->stream_wait (stream, NULL));
  g_atomic_int_set (&stream->cancelled, 0);
  for (guint i = 0; i < 4; i++)
    step (t, 0, 1);
  twins_free (t);
}

/* The table of pages grows under one sequence: what was recorded for another has its old place. */
static void
test_table_grows (void)
{
  Twins *t = twins_new (VALLEY_PRECISION_F32, FALSE, FALSE);
  guint n_graphs;

  for (guint i = 0; i < 2; i++) /* everything else has grown before: the angles ... */
    t->caches[i][2].gap = 8000;
  append (t, 2, 1, 512, FALSE, FALSE);
  append (t, 0, 512, 512, FALSE, FALSE); /* ... scratch memory and numbers */
  for (guint i = 0; i < 3; i++)
    step (t, 0, 1);
  n_graphs = recording_counts.n_graphs;
  append (t, 1, 64 * VALLEY_KV_PAGE_ROWS + 1, 512, FALSE, FALSE);
  for (guint i = 0; i < 3; i++)
    step (t, 0, 1);
  g_assert_cmpuint (recording_counts.n_graphs, >, n_graphs);
  twins_free (t);
}

/* Pages have another layout from now on. */
static void
test_layout (void)
{
  Twins *t = twins_new (VALLEY_PRECISION_F32, FALSE, FALSE);

  for (guint round = 0; round < 4; round++) {
    append (t, 0, 70, 512, FALSE, FALSE);
    for (guint i = 0; i < 3; i++)
      step (t, 0, 1);
    for (guint i = 0; i < 2; i++) {
      use (t, i);
      valley_kv_cache_clear (&t->caches[i][0]);
      g_assert_true (valley_kv_pool_set_unrotated (t->pools[i], round % 2 == 0));
    }
  }
  twins_free (t);
}

typedef struct {
  ValleyStream *stream;
  gboolean cancels;
  guint n_calls;
} Pass;

static void
run_pass (gpointer data)
{
  Pass *pass = data;

  pass->n_calls++;
  if (pass->cancels)
    g_atomic_int_set (&pass->stream->cancelled, 1);
}

/* A pass whose first run was cancelled halfway has not run: the next of its kind runs directly,
 * as the device may not have met all its shapes yet. */
static void
test_first_cancelled (void)
{
  Twins *t = twins_new (VALLEY_PRECISION_F32, FALSE, FALSE);
  ValleyStream *stream = t->small->device.stream;
  ValleyPassKey key = { .rows = 1, .role = VALLEY_ROWS_GENERATED, .most_rows = 256 };
  Pass pass = { .stream = stream, .cancels = TRUE };
  guint n_graphs[] = { 0, 0, 1, 1 }, n_runs[] = { 0, 0, 1, 2 };

  use (t, RECORDED);
  for (guint i = 0; i < G_N_ELEMENTS (n_runs); i++) {
    valley_decoder_run_pass (&t->runs[RECORDED], stream, &key, run_pass, &pass);
    g_assert_cmpuint (recording_counts.n_graphs, ==, n_graphs[i]);
    g_assert_cmpuint (recording_counts.n_runs, ==, n_runs[i]);
    pass.cancels = FALSE;
    g_atomic_int_set (&stream->cancelled, 0);
  }
  g_assert_cmpuint (pass.n_calls, ==, 3); /* cancelled, direct, recorded */
  twins_free (t);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init ("recording");
  g_test_add_func ("/recording/streams", test_streams);
  g_test_add_func ("/recording/answer", test_answer);
  g_test_add_func ("/recording/many-kinds", test_many_kinds);
  g_test_add_func ("/recording/cancelled", test_cancelled);
  g_test_add_func ("/recording/pages-cancelled", test_pages_cancelled);
  g_test_add_func ("/recording/table-grows", test_table_grows);
  g_test_add_func ("/recording/layout", test_layout);
  g_test_add_func ("/recording/first-cancelled", test_first_cancelled);
  return g_test_run ();
}
