/* test-context.c - which pictures fit the context, and how long the answer may become.
 * SPDX-License-Identifier: Apache-2.0 */
#include "context.h"

static void
test_which_are_shown (void)
{
  static const struct {
    guint n_shown, n_pictures, shown[6];
  } cases[] = {
    { 1, 1, { 0 } },           { 1, 4, { 3 } },
    { 2, 4, { 0, 3 } },        { 3, 4, { 0, 2, 3 } },
    { 4, 4, { 0, 1, 2, 3 } },  { 3, 5, { 0, 2, 4 } },
    { 4, 10, { 0, 3, 6, 9 } }, { 6, 8, { 0, 1, 3, 4, 6, 7 } },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    for (guint j = 0; j < cases[i].n_shown; j++)
      g_assert_cmpuint (valley_context_nth_shown (j, cases[i].n_shown, cases[i].n_pictures), ==,
                        cases[i].shown[j]);
}

/* First and last are in, none twice, and no two gaps differ by more than one. */
static void
test_evenly (void)
{
  for (guint n = 2; n <= 60; n++)
    for (guint k = 2; k <= n; k++) {
      guint narrow = G_MAXUINT, wide = 0;

      g_assert_cmpuint (valley_context_nth_shown (0, k, n), ==, 0);
      g_assert_cmpuint (valley_context_nth_shown (k - 1, k, n), ==, n - 1);
      for (guint i = 1; i < k; i++) {
        guint gap = valley_context_nth_shown (i, k, n) - valley_context_nth_shown (i - 1, k, n);

        narrow = MIN (narrow, gap);
        wide = MAX (wide, gap);
      }
      g_assert_cmpuint (narrow, >=, 1);
      g_assert_cmpuint (wide, <=, narrow + 1);
    }
}

typedef struct {
  const char *label;
  gsize max_positions, n_text, n_rows[4];
  guint n_pictures, max_new_tokens;
  guint n_shown; /* 0 with pictures: refused */
  guint room;
} Case;

/* Every picture after the first brings 3 tokens of text. */
static const Case cases[] = {
  { "all", 100, 20, { 10, 10, 10, 10 }, 4, 10, 4, 10 },
  { "exactly", 79, 20, { 10, 10, 10, 10 }, 4, 10, 4, 10 },
  { "one-short", 78, 20, { 10, 10, 10, 10 }, 4, 10, 3, 10 },
  { "quarter", 80, 20, { 10, 10, 10, 10 }, 4, 1000, 3, 24 }, /* 20 for the answer at least */
  { "one", 45, 20, { 10, 10, 10, 10 }, 4, 11, 1, 11 },
  { "none", 38, 20, { 10, 10, 10, 10 }, 4, 11, 0, 0 },
  { "large-ones-in-the-middle", 60, 20, { 1, 30, 30, 1 }, 4, 10, 2, 10 },
  { "large-last", 60, 20, { 1, 1, 1, 60 }, 4, 10, 0, 0 },
  { "text-only", 40, 20, { 0 }, 0, 100, 0, 20 },
  { "tiny", 3, 1, { 1 }, 1, 5, 1, 1 },
};

static void
test_case (gconstpointer data)
{
  const Case *test = data;
  ValleyContext context = { .max_positions = test->max_positions,
                            .n_text = test->n_text,
                            .n_text_more = 3,
                            .n_rows = test->n_rows,
                            .n_pictures = test->n_pictures,
                            .max_new_tokens = test->max_new_tokens };
  guint n_shown = 99, room = 99;
  gsize n_tokens = 0;

  if (test->room == 0) {
    g_assert_false (valley_context_fit (&context, &n_shown, &room, &n_tokens));
    g_assert_cmpuint (n_tokens, ==, test->n_text + test->n_rows[test->n_pictures - 1]);
    return;
  }
  g_assert_true (valley_context_fit (&context, &n_shown, &room, &n_tokens));
  g_assert_cmpuint (n_shown, ==, test->n_shown);
  g_assert_cmpuint (room, ==, test->room);
  g_assert_cmpuint (n_tokens + room, <=, test->max_positions);
}

/* The most pictures whose rows and texts fit, found by trying; 0: not even one. */
static guint
most_by_trying (const ValleyContext *context)
{
  gsize room = context->max_positions
               - valley_context_reserve (context->max_positions, context->max_new_tokens);
  guint most = context->max_pictures > 0 ? MIN (context->max_pictures, context->n_pictures)
                                         : context->n_pictures;

  for (guint n = most; n > 0; n--) {
    gsize sum = context->n_text + (n - 1) * context->n_text_more;

    for (guint i = 0; i < n; i++)
      sum += context->n_rows[valley_context_nth_shown (i, n, context->n_pictures)];
    if (sum <= room)
      return n;
  }
  return 0;
}

static void
test_random (void)
{
  guint32 seed = g_test_rand_int ();
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);

  g_test_message ("seed %u", seed);
  for (guint round = 0; round < 20000; round++) {
    gsize n_rows[12], n_tokens;
    gboolean equal = g_rand_boolean (rand);
    ValleyContext context = { .max_positions = (gsize) g_rand_int_range (rand, 1, 200),
                              .n_text = (gsize) g_rand_int_range (rand, 0, 60),
                              .n_text_more = (gsize) g_rand_int_range (rand, 0, 4),
                              .n_rows = n_rows,
                              .n_pictures = (guint) g_rand_int_range (rand, 1, 13),
                              .max_pictures = (guint) g_rand_int_range (rand, 0, 14),
                              .max_new_tokens = (guint) g_rand_int_range (rand, 1, 100) };
    guint n_shown = 0, room, want;

    for (guint i = 0; i < G_N_ELEMENTS (n_rows); i++)
      n_rows[i] = equal && i > 0 ? n_rows[0] : (gsize) g_rand_int_range (rand, 0, 40);
    want = most_by_trying (&context);
    g_assert_true (valley_context_fit (&context, &n_shown, &room, &n_tokens) == (want > 0));
    g_assert_cmpuint (n_shown, ==, want);
    if (want == 0)
      g_assert_cmpuint (n_tokens, ==, context.n_text + n_rows[context.n_pictures - 1]);
  }
}

/* Text alone that is too long. */
static void
test_long_text (void)
{
  ValleyContext context = { .max_positions = 40, .n_text = 31, .max_new_tokens = 10 };
  guint n_shown, room;
  gsize n_tokens;

  g_assert_false (valley_context_fit (&context, &n_shown, &room, &n_tokens));
  g_assert_cmpuint (n_tokens, ==, 31);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/context/which-are-shown", test_which_are_shown);
  g_test_add_func ("/context/evenly", test_evenly);
  g_test_add_func ("/context/random", test_random);
  g_test_add_func ("/context/long-text", test_long_text);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    g_autofree char *path = g_strconcat ("/context/", cases[i].label, NULL);

    g_test_add_data_func (path, &cases[i], test_case);
  }
  return g_test_run ();
}
