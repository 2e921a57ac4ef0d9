/* test-decoder.c - the decoder over sequences: prefilled in any split, through forks and
 * rollbacks, its rows have the bits they have when prefilled at once, and positions with gaps
 * mean what the reference in double precision says.
 *
 * VALLEY_CPU chooses the instruction set; meson runs this program once for each.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include "decoder-fixture.h"

#define SIZE SMALL_HIDDEN

static const char *const precisions[] = { "f32", "bf16" };

static ValleyPrecision
nth_precision (guint i)
{
  return i & 1 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32;
}

/* bf16 keeps 8 bits of every factor; what the engine's logits may be off by at most is in
 * docs/numerics.md. */
static double
tolerance_of (ValleyPrecision precision)
{
  return precision == VALLEY_PRECISION_BF16 ? 0.04 : 2e-5;
}

/* ---- against the reference ---- */

/* Some rows are left out, as a redundancy drop leaves them, the others keep their positions. */
static gint32 *
gapped_positions (gsize n)
{
  gint32 *positions = g_new (gint32, n), next = 0;

  for (gsize i = 0; i < n; i++) {
    if (i > 4 && g_rand_int_range (rng, 0, 3) == 0)
      next += g_rand_int_range (rng, 1, 900);
    positions[i] = next++;
  }
  return positions;
}

static void
check_positions (ValleyPrecision precision, gboolean qwen3, gboolean gapped, double size)
{
  SmallDecoder *small = small_decoder_new (rng, precision, 2, TRUE, qwen3);
  Reference *reference = reference_new (small);
  gsize n = 90, rest = 7; /* the last ones say nothing of their positions: they follow */
  g_autofree float *x = random_floats ((n + rest) * SIZE, size), *got = NULL, *got_rest = NULL;
  g_autofree gint32 *positions = gapped ? gapped_positions (n + rest) : NULL;
  g_autofree double *want = NULL;
  ValleyKvCache cache;

  for (gsize i = n; gapped && i < n + rest; i++)
    positions[i] = positions[i - 1] + 1;
  valley_kv_cache_init (&cache, small->pool);
  want = reference_forward (reference, x, n + rest, positions);
  got = small_decoder_forward (small, &cache, x, n, positions, VALLEY_ROWS_PROMPT, 512);
  got_rest
      = small_decoder_forward (small, &cache, x + n * SIZE, rest, NULL, VALLEY_ROWS_GENERATED, 1);
  for (gsize i = 0; i < (n + rest) * SIZE; i++) { /* what the layers added */
    want[i] -= x[i];
    *(i < n * SIZE ? &got[i] : &got_rest[i - n * SIZE]) -= x[i];
  }
  assert_close (precisions[precision == VALLEY_PRECISION_BF16], got, want, n * SIZE,
                tolerance_of (precision), 1);
  assert_close ("rows that follow", got_rest, want + n * SIZE, rest * SIZE,
                tolerance_of (precision), 1);
  valley_kv_cache_clear (&cache);
  reference_free (reference);
  small_decoder_free (small);
}

static void
test_reference (void)
{
  for (guint i = 0; i < 4; i++) {
    check_positions (nth_precision (i), i & 2, FALSE, 1);
    check_positions (nth_precision (i), i & 2, TRUE, 1);
  }
}

/* Large rows, to which layers add little: between two numbers of 16 bits there is more than that. */
static void
test_residual (void)
{
  check_positions (VALLEY_PRECISION_BF16, FALSE, FALSE, 1000);
}

/* ---- bits ---- */

typedef struct {
  SmallDecoder *small;
  gsize n;
  const float *x;
  const gint32 *positions;
  const float *at_once; /* what the rows become */
} Prompt;

/* Rows cache->length ... @end, in pieces. */
static void
continue_prompt (const Prompt *p, ValleyKvCache *cache, gsize end)
{
  while (cache->length < end) {
    gsize first = cache->length, n = (gsize) g_rand_int_range (rng, 1, first % 2 ? 5 : 120);
    g_autofree float *got = NULL;

    n = MIN (n, end - first);
    got = small_decoder_forward (p->small, cache, p->x + first * SIZE, n, p->positions + first,
                                 VALLEY_ROWS_PROMPT, (gsize) g_rand_int_range (rng, 1, 200));
    assert_same_bits ("rows in pieces", got, p->at_once + first * SIZE, n * SIZE);
  }
}

/* A question's worth of other rows over a fork, thrown away again. */
static void
ask_aside (const Prompt *p, ValleyKvCache *cache)
{
  gsize n = (gsize) g_rand_int_range (rng, 1, 100);
  g_autofree float *x = random_floats (n * SIZE, 1);
  ValleyKvCache fork;

  valley_kv_cache_fork (&fork, cache, p->small->device.stream);
  g_assert_cmpuint (fork.gap, ==, cache->gap);
  g_free (small_decoder_forward (p->small, &fork, x, n, NULL, VALLEY_ROWS_PROMPT, 64));
  valley_kv_cache_set_length (&fork, fork.length - (gsize) g_rand_int_range (rng, 0, (gint32) n));
  g_free (small_decoder_forward (p->small, &fork, x, n, NULL, VALLEY_ROWS_GENERATED, 1));
  valley_kv_cache_clear (&fork);
}

/* The prompt by way of sequences that fork off each other, fall back and go on. */
static void
check_schedule (const Prompt *p)
{
  ValleyKvCache cache[2];

  valley_kv_cache_init (&cache[0], p->small->pool);
  for (guint step = 0; step < 4; step++) {
    continue_prompt (p, &cache[0], (gsize) g_rand_int_range (rng, 0, (gint32) p->n));
    ask_aside (p, &cache[0]);
    valley_kv_cache_fork (&cache[1], &cache[0], p->small->device.stream);
    continue_prompt (p, &cache[1], MIN (p->n, cache[1].length + 70));
    valley_kv_cache_set_length (&cache[0],
                                (gsize) g_rand_int_range (rng, 0, (gint32) cache[0].length + 1));
    continue_prompt (p, &cache[0], p->n);
    continue_prompt (p, &cache[1], p->n);
    valley_kv_cache_clear (&cache[0]);
    cache[0] = cache[1];
    valley_kv_cache_set_length (&cache[0],
                                (gsize) g_rand_int_range (rng, 0, (gint32) cache[0].length + 1));
  }
  valley_kv_cache_clear (&cache[0]);
}

static void
check_splits (ValleyPrecision precision, guint threads, gboolean gapped)
{
  Prompt p = { .small = small_decoder_new (rng, precision, threads, FALSE, gapped), .n = 300 };
  g_autofree float *x = random_floats (p.n * SIZE, 1), *at_once = NULL;
  g_autofree gint32 *positions = gapped_positions (p.n);
  ValleyKvCache cache;

  for (gsize i = 0; !gapped && i < p.n; i++)
    positions[i] = (gint32) i;
  p.x = x;
  p.positions = positions;
  valley_kv_cache_init (&cache, p.small->pool);
  p.at_once = at_once = small_decoder_forward (p.small, &cache, x, p.n, gapped ? positions : NULL,
                                               VALLEY_ROWS_PROMPT, p.n);
  valley_kv_cache_clear (&cache);
  for (guint i = 0; i < test_rounds (3); i++)
    check_schedule (&p);
  g_assert_cmpuint (valley_kv_pool_bytes_used (p.small->pool), ==, 0);
  small_decoder_free (p.small);
}

static void
test_splits (void)
{
  for (guint i = 0; i < (test_on_cpu () ? 8 : 2); i++)
    check_splits (nth_precision (i), 1 + i / 2 % 2, i / 4);
}

/* Generated rows have one arithmetic too: one at a time, as an answer has them, or several, as a
 * draft is verified. */
static void
test_generated (void)
{
  for (guint i = 0; i < 4; i++) {
    SmallDecoder *small = small_decoder_new (rng, nth_precision (i), 1 + i / 2, FALSE, FALSE);
    g_autofree float *x = random_floats (40 * SIZE, 1), *several = NULL;
    ValleyKvCache cache;

    valley_kv_cache_init (&cache, small->pool);
    several = small_decoder_forward (small, &cache, x, 40, NULL, VALLEY_ROWS_GENERATED, 40);
    valley_kv_cache_set_length (&cache, 0);
    for (gsize j = 0; j < 40; j++) {
      g_autofree float *one
          = small_decoder_forward (small, &cache, x + j * SIZE, 1, NULL, VALLEY_ROWS_GENERATED, 1);

      assert_same_bits ("one generated row", one, several + j * SIZE, SIZE);
    }
    valley_kv_cache_clear (&cache);
    small_decoder_free (small);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init (valley_kernels_get ()->name);
  g_test_add_func ("/decoder/reference", test_reference);
  g_test_add_func ("/decoder/residual", test_residual);
  g_test_add_func ("/decoder/splits", test_splits);
  g_test_add_func ("/decoder/generated", test_generated);
  return g_test_run ();
}
