/* test-streaming.c - the approximate policy's cache against the reference, which keeps plain
 * arrays of keys that are turned when they are looked at and takes rows out of them; and its
 * drift's arithmetic.
 *
 * VALLEY_CPU chooses the instruction set; meson runs this program once for each.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include "decoder-fixture.h"
#include "drift.h"
#include "streaming.h"

#define SIZE SMALL_HIDDEN

typedef struct {
  SmallDecoder *small;
  Reference *reference;
  ValleyKvCache cache;
  double tolerance;
} Streaming;

static Streaming
streaming_new (ValleyPrecision precision, gboolean strict, gboolean qwen3)
{
  Streaming s = { .small = small_decoder_new (rng, precision, 2, strict, qwen3),
                  .tolerance = precision == VALLEY_PRECISION_BF16 ? 0.04 : 2e-5 };

  s.reference = reference_new (s.small);
  g_assert_true (valley_kv_pool_set_unrotated (s.small->pool, TRUE));
  valley_kv_cache_init (&s.cache, s.small->pool);
  return s;
}

static void
streaming_clear (Streaming *s)
{
  valley_kv_cache_clear (&s->cache);
  reference_free (s->reference);
  small_decoder_free (s->small);
}

/* @n rows through both. */
static void
append (Streaming *s, gsize n, const gint32 *positions)
{
  g_autofree float *x = random_floats (n * SIZE, 1), *got = NULL;
  g_autofree double *want = reference_forward (s->reference, x, n, positions);

  got = small_decoder_forward (s->small, &s->cache, x, n, positions, VALLEY_ROWS_PROMPT, 512);
  assert_close ("rows over what is left", got, want, n * SIZE, s->tolerance, 1);
}

static void
evict (Streaming *s, gsize first, gsize n, const gint32 *positions)
{
  g_autoptr (GError) error = NULL;

  valley_streaming_evict (&s->cache, s->small->device.stream, &s->small->run, first, n, positions);
  s->small->device.stream->ops->stream_wait (s->small->device.stream, &error);
  g_assert_no_error (error);
  reference_remove (s->reference, first, n);
  g_assert_cmpuint (s->cache.length, ==, s->reference->rows->len);
}

/* A sink and frames of various sizes, the oldest evicted as the next comes, as a window slides. */
static void
check_window (ValleyPrecision precision, gboolean strict, gboolean qwen3)
{
  Streaming s = streaming_new (precision, strict, qwen3);
  gsize sink = (gsize) g_rand_int_range (rng, 1, 80), sizes[12], window = 4;

  append (&s, sink, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (sizes); i++) {
    sizes[i] = (gsize) g_rand_int_range (rng, 1, i % 3 == 0 ? 200 : 50);
    if (i >= window)
      evict (&s, sink, sizes[i - window], NULL);
    append (&s, sizes[i], NULL);
  }
  evict (&s, sink, s.cache.length - sink, NULL); /* all but the sink */
  append (&s, 5, NULL);
  streaming_clear (&s);
}

static void
test_window (void)
{
  for (guint i = 0; i < 8; i++)
    check_window (i & 1 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32, i & 4, i & 2);
}

/* Positions that are not the row numbers: what is behind the evicted rows had lost some. */
static void
test_positions (void)
{
  Streaming s = streaming_new (VALLEY_PRECISION_F32, TRUE, FALSE);
  gint32 positions[100];

  for (gint32 i = 0; i < 100; i++)
    positions[i] = i + i / 7 * 3;
  append (&s, 100, positions);
  reference_remove (s.reference, 10, 30);
  for (gint32 i = 0; i < 60; i++)
    positions[i] = 10 + 2 * i;
  for (guint i = 0; i < 60; i++)
    reference_set_position (s.reference, 10 + i, positions[i]);
  for (gint32 i = 0; i < 10; i++)
    reference_set_position (s.reference, (guint) i, i + i / 7 * 3);
  valley_streaming_evict (&s.cache, s.small->device.stream, &s.small->run, 10, 30, positions);
  g_assert_cmpuint (s.cache.length + s.cache.gap, ==, 10 + 2 * 59 + 1);
  for (gint32 i = 0; i < 8; i++)
    positions[i] = 129 + i;
  {
    g_autofree float *x = random_floats (8 * SIZE, 1), *got = NULL;
    g_autofree double *want = reference_forward (s.reference, x, 8, positions);

    got = small_decoder_forward (s.small, &s.cache, x, 8, NULL, VALLEY_ROWS_PROMPT, 512);
    assert_close ("rows behind a gap", got, want, 8 * SIZE, s.tolerance, 1);
  }
  streaming_clear (&s);
}

/* Keeping unrotated keys changes no bits; nor does a fork notice when rows it shares are moved. */
static void
test_exact (void)
{
  for (guint i = 0; i < 2; i++) {
    Streaming s = streaming_new (i ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32, FALSE, FALSE);
    g_autofree float *x = random_floats (220 * SIZE, 1), *kept = NULL, *plain = NULL, *after = NULL;
    ValleyKvCache fork;

    g_free (small_decoder_forward (s.small, &s.cache, x, 200, NULL, VALLEY_ROWS_PROMPT, 512));
    valley_kv_cache_fork (&fork, &s.cache, s.small->device.stream);
    kept = small_decoder_forward (s.small, &s.cache, x + 200 * SIZE, 20, NULL, VALLEY_ROWS_PROMPT,
                                  512);
    valley_streaming_evict (&s.cache, s.small->device.stream, &s.small->run, 5, 40, NULL);
    g_assert_cmpuint (s.cache.length, ==, 180);
    after
        = small_decoder_forward (s.small, &fork, x + 200 * SIZE, 20, NULL, VALLEY_ROWS_PROMPT, 512);
    assert_same_bits ("a fork of what was evicted from", after, kept, 20 * SIZE);
    valley_kv_cache_clear (&fork);
    valley_kv_cache_clear (&s.cache);

    g_assert_true (valley_kv_pool_set_unrotated (s.small->pool, FALSE));
    g_free (small_decoder_forward (s.small, &s.cache, x, 200, NULL, VALLEY_ROWS_PROMPT, 512));
    g_assert_false (valley_kv_pool_set_unrotated (s.small->pool, TRUE)); /* pages are in use */
    plain = small_decoder_forward (s.small, &s.cache, x + 200 * SIZE, 20, NULL, VALLEY_ROWS_PROMPT,
                                   512);
    assert_same_bits ("with unrotated keys", kept, plain, 20 * SIZE);
    streaming_clear (&s);
  }
}

/* Too little room for pages of its own: the error says so and nothing half moved is left. */
static void
test_failure (void)
{
  Streaming s = streaming_new (VALLEY_PRECISION_F32, TRUE, FALSE);
  ValleyStream *stream = s.small->device.stream;
  g_autoptr (GError) error = NULL;
  ValleyKvCache fork;

  append (&s, 150, NULL);
  valley_kv_cache_fork (&fork, &s.cache, stream);
  valley_kv_pool_set_max_bytes (s.small->pool, valley_kv_pool_bytes_used (s.small->pool));
  valley_streaming_evict (&s.cache, stream, &s.small->run, 5, 20, NULL);
  g_assert_false (stream->ops->stream_wait (stream, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY);
  g_assert_cmpuint (s.cache.length, ==, 0);
  g_assert_cmpuint (fork.length, ==, 150);
  g_clear_error (&error);
  valley_streaming_evict (&fork, stream, &s.small->run, 5, 146, NULL);
  g_assert_false (stream->ops->stream_wait (stream, &error)); /* more than there are */
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_assert_cmpuint (fork.length, ==, 150);
  valley_kv_cache_clear (&fork);
  streaming_clear (&s);
}

static void
test_drift (void)
{
  const float half[] = { 3, 3, -INFINITY }, most[] = { 1 + logf (3), 1, -INFINITY };
  const float bad[] = { NAN, 0, 0 }, other[] = { -INFINITY, 0, 0 };
  ValleyDrift drift = { 0 };

  g_assert_false (valley_drift_is_over (&drift, 1e-9));
  g_assert_cmpfloat (valley_drift_divergence (half, half, 2), ==, 0);
  /* 1/2 log (1/2 / 3/4) + 1/2 log (1/2 / 1/4) */
  g_assert_cmpfloat_with_epsilon (valley_drift_divergence (half, most, 2), 0.5 * log (4.0 / 3),
                                  1e-7);
  g_assert_cmpfloat_with_epsilon (valley_drift_divergence (most, half, 2),
                                  0.75 * log (1.5) + 0.25 * log (0.5), 1e-7);
  g_assert_true (isinf (valley_drift_divergence (bad, half, 2)));
  g_assert_true (isinf (valley_drift_divergence (half, bad, 2)));
  g_assert_true (isinf (valley_drift_divergence (half, other, 2)));
  valley_drift_add (&drift, 0.1, TRUE);
  valley_drift_add (&drift, 0.3, FALSE);
  valley_drift_add (&drift, 0.2, TRUE);
  g_assert_cmpuint (drift.n_samples, ==, 3);
  g_assert_cmpuint (drift.n_agreements, ==, 2);
  g_assert_cmpfloat_with_epsilon (drift.mean, 0.2, 1e-12);
  g_assert_cmpfloat (drift.max, ==, 0.3);
  g_assert_cmpfloat (drift.last, ==, 0.2);
  g_assert_true (valley_drift_is_over (&drift, 0.149)); /* as if a fourth had been 0 */
  g_assert_false (valley_drift_is_over (&drift, 0.151));
  valley_drift_add (&drift, 0.2, TRUE);
  valley_drift_add (&drift, 0.2, TRUE);
  g_assert_true (valley_drift_is_over (&drift, 0.19));
  g_assert_false (valley_drift_is_over (&drift, 0.21));
  g_assert_false (valley_drift_is_over (&drift, 0));
  valley_drift_add (&drift, INFINITY, FALSE);
  g_assert_true (valley_drift_is_over (&drift, 1e9));
  valley_drift_add (&drift, INFINITY, FALSE); /* the mean is NaN by now: over all the same */
  g_assert_true (valley_drift_is_over (&drift, 1e9));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init (valley_kernels_get ()->name);
  g_test_add_func ("/streaming/window", test_window);
  g_test_add_func ("/streaming/positions", test_positions);
  g_test_add_func ("/streaming/exact", test_exact);
  g_test_add_func ("/streaming/failure", test_failure);
  g_test_add_func ("/streaming/drift", test_drift);
  return g_test_run ();
}
