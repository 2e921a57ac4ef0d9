/* test-redundancy.c - the redundancy drop against its rule written out here in double precision,
 * over random sequences of frames on the strict backend.
 * SPDX-License-Identifier: Apache-2.0 */
#include "redundancy.h"

#include "device.h"

#define WIDTH 48

static const ValleyInputSizes sizes
    = { .siglip_side = 2, .eagle_width = 84, .eagle_height = 56, .drop_threshold = 0.9 };

/* A sequence's state, and what the rule says that it is: the rows last kept. */
typedef struct {
  Device d;
  ValleyRedundancy redundancy;
  gsize n_tokens;
  float *kept;
} Sequence;

static Sequence
sequence_new (gsize n_tokens)
{
  return (Sequence){ .d = device_new (VALLEY_PRECISION_F32, 2, TRUE), .n_tokens = n_tokens };
}

static void
sequence_free (Sequence *s)
{
  valley_redundancy_clear (&s->redundancy, s->d.backend);
  device_clear (&s->d);
  g_free (s->kept);
}

/* Shows a frame; returns how many tokens stay, their numbers in @chosen. */
static gsize
show (Sequence *s, const float *tokens, const ValleyInputSizes *of, gint32 *chosen)
{
  Guarded g = guarded_new (&s->d, VALLEY_F32, s->n_tokens, WIDTH, tokens);
  gsize n = valley_redundancy_choose (&s->redundancy, s->d.stream, &g.view, of, chosen);
  GError *error = NULL;

  g_assert_true (OPS (s->d)->stream_wait (s->d.stream, &error));
  g_assert_no_error (error);
  guarded_clear (&s->d, &g);
  return n;
}

static double
likeness (const float *a, const float *b)
{
  double ab = 0, aa = 0, bb = 0;

  for (guint i = 0; i < WIDTH; i++) {
    ab += (double) a[i] * b[i];
    aa += (double) a[i] * a[i];
    bb += (double) b[i] * b[i];
  }
  return aa > 0 && bb > 0 ? ab / sqrt (aa) / sqrt (bb) : 0;
}

/* The rule itself; FALSE when a token is too near the threshold for rounding not to matter. */
static gboolean
expect (Sequence *s, const float *tokens, double threshold, GArray *wanted)
{
  gboolean is_clear = TRUE;

  g_array_set_size (wanted, 0);
  for (gint32 i = 0; i < (gint32) s->n_tokens; i++) {
    const float *token = tokens + (gsize) i * WIDTH;
    double like = s->kept != NULL ? likeness (token, s->kept + (gsize) i * WIDTH) : -1;

    is_clear = is_clear && fabs (like - threshold) > 1e-6;
    if (like <= threshold)
      g_array_append_val (wanted, i);
  }
  if (s->kept == NULL)
    s->kept = g_new (float, s->n_tokens *WIDTH);
  for (guint i = 0; i < wanted->len; i++) {
    gsize at = (gsize) g_array_index (wanted, gint32, i) * WIDTH;

    memcpy (s->kept + at, tokens + at, WIDTH * sizeof (float));
  }
  return is_clear;
}

/* Some tokens of a picture move a little, some change altogether. */
static void
change (float *tokens, gsize n_tokens)
{
  double much = g_rand_double (rng);

  for (gsize i = 0; i < n_tokens; i++) {
    double by = g_rand_double (rng) < much * much ? 2 : g_rand_double (rng) < 0.5 ? 0.3 : 0;

    for (gsize j = 0; j < WIDTH; j++)
      tokens[i * WIDTH + j] += (float) (by * g_rand_double_range (rng, -1, 1));
  }
}

static void
test_rule (void)
{
  g_autoptr (GArray) wanted = g_array_new (FALSE, FALSE, sizeof (gint32));
  gsize n_dropped = 0, n_kept_later = 0;

  for (guint run = 0; run < 12; run++) {
    Sequence s = sequence_new ((gsize) g_rand_int_range (rng, 1, 60));
    g_autofree float *tokens = random_floats (s.n_tokens * WIDTH, 1);
    g_autofree gint32 *chosen = g_new (gint32, s.n_tokens);

    for (guint frame = 0; frame < 20; frame++) {
      gsize n;

      if (!expect (&s, tokens, sizes.drop_threshold, wanted))
        break;
      n = show (&s, tokens, &sizes, chosen);
      g_assert_cmpmem (chosen, n * sizeof *chosen, wanted->data, wanted->len * sizeof *chosen);
      n_dropped += s.n_tokens - n;
      n_kept_later += frame > 0 ? n : 0;
      change (tokens, s.n_tokens);
    }
    sequence_free (&s);
  }
  g_assert_cmpuint (n_dropped, >, 200); /* the pictures do both */
  g_assert_cmpuint (n_kept_later, >, 200);
}

/* Each step is small, but the sum of them is not: the token must come back. */
static void
test_drift (void)
{
  Sequence s = sequence_new (1);
  gint32 chosen;
  guint n_kept = 0;

  for (guint i = 0; i <= 90; i++) {
    float token[WIDTH]
        = { cosf ((float) i * 3.14159265f / 180), sinf ((float) i * 3.14159265f / 180) };

    n_kept += show (&s, token, &sizes, &chosen);
  }
  /* a cosine of 0.9 is 25.84 degrees: at 0, 26, 52 and 78 */
  g_assert_cmpuint (n_kept, ==, 4);
  sequence_free (&s);
}

/* Other places, a sequence that starts over, and frames of which nothing is dropped. */
static void
test_restarts (void)
{
  Sequence s = sequence_new (10);
  g_autofree float *tokens = random_floats (10 * WIDTH, 1);
  ValleyInputSizes wide = sizes, whole = sizes, never = sizes;
  gint32 chosen[10];

  wide.eagle_width = 56;
  wide.eagle_height = 84;
  whole.drop_threshold = 0;
  never.drop_threshold = 1;
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 10);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 0);
  g_assert_cmpuint (show (&s, tokens, &never, chosen), ==, 10);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 0);
  g_assert_cmpuint (show (&s, tokens, &wide, chosen), ==, 10);
  g_assert_cmpuint (show (&s, tokens, &wide, chosen), ==, 0);
  g_assert_cmpuint (show (&s, tokens, &whole, chosen), ==, 10);
  g_assert_cmpuint (show (&s, tokens, &whole, chosen), ==, 10);
  g_assert_cmpint (chosen[9], ==, 9);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 10);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 0);
  valley_redundancy_clear (&s.redundancy, s.d.backend);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 10);
  sequence_free (&s);
}

/* What was shown in a frame that is gone is shown again, even if it never changed. */
static void
test_evicted (void)
{
  Sequence s = sequence_new (4);
  g_autofree float *tokens = random_floats (4 * WIDTH, 1);
  gint32 chosen[4];

  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 4);
  for (guint j = 0; j < WIDTH; j++)
    tokens[2 * WIDTH + j] *= -1;
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 1);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 0);
  valley_redundancy_evict (&s.redundancy, 1); /* the frame that all but one were kept in */
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 3);
  g_assert_cmpint (chosen[2], ==, 3);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 0);
  valley_redundancy_evict (&s.redundancy, 1);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 1);
  g_assert_cmpint (chosen[0], ==, 2);
  valley_redundancy_evict (&s.redundancy, 1); /* nothing was kept in it */
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 0);
  valley_redundancy_evict (&s.redundancy, 3);
  g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 4);
  sequence_free (&s);
}

/* What is not a number resembles nothing; nor do zeros. */
static void
test_odd_values (void)
{
  const float odd[] = { 0, NAN, INFINITY };

  for (guint i = 0; i < G_N_ELEMENTS (odd); i++) {
    Sequence s = sequence_new (3);
    g_autofree float *tokens = random_floats (3 * WIDTH, 1);
    gint32 chosen[3];

    for (guint j = 0; j < WIDTH; j++)
      tokens[WIDTH + j] = odd[i];
    g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 3);
    g_assert_cmpuint (show (&s, tokens, &sizes, chosen), ==, 1);
    g_assert_cmpint (chosen[0], ==, 1);
    sequence_free (&s);
  }
}

/* A cancelled stream chooses nothing, and its state can be cleared. */
static void
test_cancelled (void)
{
  Sequence s = sequence_new (5);
  g_autofree float *tokens = random_floats (5 * WIDTH, 1);
  Guarded g = guarded_new (&s.d, VALLEY_F32, 5, WIDTH, tokens);
  gint32 chosen[5];
  GError *error = NULL;

  g_assert_cmpuint (valley_redundancy_choose (&s.redundancy, s.d.stream, &g.view, &sizes, chosen),
                    ==, 5);
  g_atomic_int_set (&s.d.stream->cancelled, TRUE);
  g_assert_cmpuint (valley_redundancy_choose (&s.redundancy, s.d.stream, &g.view, &sizes, chosen),
                    ==, 0);
  g_assert_false (OPS (s.d)->stream_wait (s.d.stream, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED);
  g_clear_error (&error);
  guarded_clear (&s.d, &g);
  sequence_free (&s);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  compare_init ("cpu");
  g_test_add_func ("/redundancy/rule", test_rule);
  g_test_add_func ("/redundancy/drift", test_drift);
  g_test_add_func ("/redundancy/restarts", test_restarts);
  g_test_add_func ("/redundancy/evicted", test_evicted);
  g_test_add_func ("/redundancy/odd-values", test_odd_values);
  g_test_add_func ("/redundancy/cancelled", test_cancelled);
  return g_test_run ();
}
