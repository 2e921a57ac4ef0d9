/* test-reduction.c - the budget's arithmetic over many sizes and budgets: never above the budget
 * where it can be met, as near to it as the rule allows, never a coarser grid for a larger one.
 * SPDX-License-Identifier: Apache-2.0 */
#include "image.h"
#include "reduction.h"

/* The release's towers, or those of a small model: @cells Eagle tokens a frame at most. */
static ValleyConfig
make_config (gsize side, gsize cells)
{
  ValleyConfig config = { .has_siglip = side > 0, .has_eagle = cells > 0 };

  config.siglip.image_size = 384;
  config.connector.n_tokens = side * side;
  config.eagle = (ValleyEagleConfig){ .patch_size = 14,
                                      .spatial_merge_size = 2,
                                      .min_pixels = MIN (4, cells) * 784,
                                      .max_pixels = cells * 784,
                                      .frame_max_pixels = cells * 784 };
  return config;
}

static ValleyInputSizes
full_sizes (const ValleyConfig *config, guint width, guint height)
{
  ValleyInputSizes sizes = { 0 };
  GError *error = NULL;

  if (config->has_eagle)
    valley_smart_resize (&config->eagle, width, height, config->eagle.frame_max_pixels,
                         &sizes.eagle_width, &sizes.eagle_height, &error);
  g_assert_no_error (error);
  return sizes;
}

static ValleyInputSizes
reduce (const ValleyConfig *config, const ValleyReduction *reduction, guint width, guint height)
{
  ValleyInputSizes sizes = full_sizes (config, width, height);
  GError *error = NULL;

  g_assert_true (valley_reduction_check (reduction, &error));
  g_assert_true (valley_reduction_apply (config, reduction, width, height, &sizes, &error));
  g_assert_no_error (error);
  return sizes;
}

static guint
eagle_cells (const ValleyInputSizes *sizes)
{
  g_assert_cmpuint (sizes->eagle_width % 28, ==, 0);
  g_assert_cmpuint (sizes->eagle_height % 28, ==, 0);
  return sizes->eagle_width / 28 * (sizes->eagle_height / 28);
}

/* ---- the release's proportions, by hand ---- */

static void
test_release (void)
{
  const ValleyConfig config = make_config (14, 196);
  /* 1920 x 1080: 18 x 10 = 180 Eagle tokens, 376 in all */
  const struct {
    guint budget, side, eagle;
  } cases[] = { { 400, 0, 180 },  { 376, 0, 180 },  { 375, 10, 180 },
                { 280, 10, 180 }, { 279, 10, 170 }, /* 17 x 10 */
                { 192, 10, 91 }, /* 13 x 7: half of 180, as 10 x 10 is of 14 x 14 */
                { 191, 7, 120 }, /* 15 x 8 */
                { 94, 7, 45 },   /* 9 x 5: a quarter */
                { 93, 5, 66 },   /* 11 x 6 */
                { 50, 5, 21 },   /* 7 x 3 */
                { 26, 5, 1 },     { 25, 5, 1 },     { 1, 5, 1 } };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    for (guint frames = 1; frames <= 16; frames += 5) {
      ValleyReduction reduction = { .max_vision_tokens = cases[i].budget * frames + frames - 1,
                                    .max_frames = frames,
                                    .pool = TRUE,
                                    .eagle = TRUE };
      ValleyInputSizes sizes = reduce (&config, &reduction, 1920, 1080);
      guint side = cases[i].side > 0 ? cases[i].side : 14;

      g_assert_cmpuint (sizes.siglip_side, ==, cases[i].side);
      g_assert_cmpuint (eagle_cells (&sizes), ==, cases[i].eagle);
      g_assert_cmpuint (sizes.n_tokens, ==, side * side + cases[i].eagle);
      g_assert_cmpuint (sizes.n_tokens_before, ==, 376);
    }
}

static void
test_small_grids (void)
{
  /* The sides that a grid of each side goes through. */
  const guint wanted[][5] = { { 1 },          { 2, 1 },         { 3, 2, 1 },       { 4, 3, 2, 1 },
                              { 8, 6, 4, 3 }, { 14, 10, 7, 5 }, { 27, 19, 14, 10 } };

  for (guint i = 0; i < G_N_ELEMENTS (wanted); i++) {
    const ValleyConfig config = make_config (wanted[i][0], 0);

    for (guint k = 0; k < 4 && wanted[i][k] > 0; k++) {
      ValleyReduction reduction = { .max_vision_tokens = wanted[i][k] * wanted[i][k],
                                    .max_frames = 1,
                                    .pool = TRUE,
                                    .eagle = TRUE };
      ValleyInputSizes sizes = reduce (&config, &reduction, 640, 480);

      g_assert_cmpuint (sizes.siglip_side, ==, k == 0 ? 0 : wanted[i][k]);
      g_assert_cmpuint (sizes.eagle_width, ==, 0);
    }
  }
}

/* ---- every budget ---- */

/* The least that @reduction's reducers can make of a frame. */
static guint
least (const ValleyConfig *config, const ValleyReduction *reduction, guint width, guint height)
{
  ValleyReduction none_left = *reduction;

  none_left.max_vision_tokens = none_left.max_frames = 1;
  return reduce (config, &none_left, width, height).n_tokens;
}

/* The next finer grid would leave the Eagle picture less than its share, or not all of it where it
 * must be whole; unless both are as small as they get, Eagle keeps at least the grid's share. */
static void
check_finer_grid (const ValleyConfig *config, const ValleyReduction *reduction, guint budget,
                  const ValleyInputSizes *sizes, guint n_eagle)
{
  const guint sides[] = { 14, 10, 7, 5 };

  if (!reduction->pool || config->connector.n_tokens != 196)
    return;
  for (guint i = 1; i < G_N_ELEMENTS (sides); i++)
    if (sides[i] == sizes->siglip_side) {
      guint finer = sides[i - 1] * sides[i - 1];

      if (budget >= finer)
        g_assert_cmpuint ((budget - finer) * 196, <, (reduction->eagle ? finer : 196) * n_eagle);
      if (i < 3 && reduction->eagle)
        g_assert_cmpuint ((budget - sides[i] * sides[i]) * 196, >=, sides[i] * sides[i] * n_eagle);
    }
}

/* Nothing larger of what the rule may choose from would have fitted. */
static void
check_near (const ValleyConfig *config, const ValleyReduction *reduction, guint width, guint height,
            const ValleyInputSizes *sizes, const ValleyInputSizes *full)
{
  guint budget = reduction->max_vision_tokens / reduction->max_frames;
  guint cells = eagle_cells (sizes), n_siglip = sizes->n_tokens - cells, larger_w, larger_h;

  if (reduction->eagle && cells < eagle_cells (full)) {
    /* any larger picture that smart_resize can give */
    for (gsize pixels = cells * 784; pixels <= eagle_cells (full) * 784; pixels += 97) {
      g_assert_true (
          valley_smart_resize (&config->eagle, width, height, pixels, &larger_w, &larger_h, NULL));
      if (larger_w / 28 * (larger_h / 28) > cells)
        g_assert_cmpuint (n_siglip + larger_w / 28 * (larger_h / 28), >, budget);
    }
  }
  check_finer_grid (config, reduction, budget, sizes, eagle_cells (full));
}

/* A larger budget never gives a coarser grid, nor beside the same grid fewer Eagle tokens. */
static void
check_larger (const ValleyConfig *config, const ValleyInputSizes *less,
              const ValleyInputSizes *more)
{
  gsize before = valley_reduction_siglip_tokens (config, less->siglip_side);
  gsize after = valley_reduction_siglip_tokens (config, more->siglip_side);

  if (less->n_tokens == 0)
    return; /* the first */
  g_assert_cmpuint (after, >=, before);
  if (after == before)
    g_assert_cmpuint (more->n_tokens, >=, less->n_tokens);
}

static void
check_budgets (const ValleyConfig *config, gboolean pool, gboolean eagle, guint width, guint height)
{
  ValleyInputSizes full = full_sizes (config, width, height);
  ValleyReduction reduction
      = { .max_frames = (guint) g_test_rand_int_range (1, 20), .pool = pool, .eagle = eagle };
  guint floor = least (config, &reduction, width, height);
  ValleyInputSizes previous = { 0 };

  for (guint budget = 1; budget < 420; budget++) {
    ValleyInputSizes sizes;
    ValleyInputSizes again;

    reduction.max_vision_tokens = budget * reduction.max_frames
                                  + (guint) g_test_rand_int_range (0, (gint) reduction.max_frames);
    sizes = reduce (config, &reduction, width, height);
    again = reduce (config, &reduction, width, height);
    g_assert_cmpmem (&sizes, sizeof sizes, &again, sizeof again);
    g_assert_cmpuint (sizes.n_tokens, ==,
                      valley_reduction_siglip_tokens (config, sizes.siglip_side)
                          + eagle_cells (&sizes));
    g_assert_cmpuint (sizes.n_tokens, <=, MAX (budget, floor));
    check_larger (config, &previous, &sizes);
    g_assert_cmpuint (sizes.n_tokens, <=, sizes.n_tokens_before);
    if (!pool)
      g_assert_cmpuint (sizes.siglip_side, ==, 0);
    if (!eagle)
      g_assert_cmpuint (eagle_cells (&sizes), ==, eagle_cells (&full));
    if (budget >= sizes.n_tokens_before)
      g_assert_cmpuint (sizes.n_tokens, ==, sizes.n_tokens_before);
    if (budget >= floor)
      check_near (config, &reduction, width, height, &sizes, &full);
    previous = sizes;
  }
}

static void
test_budgets (void)
{
  const guint sizes[][2] = { { 1920, 1080 }, { 1080, 1920 }, { 640, 480 },  { 1, 1 },
                             { 20, 20 },     { 4000, 10 },   { 10, 65535 }, { 65535, 65535 } };
  const ValleyConfig configs[] = { make_config (14, 196), make_config (4, 16), make_config (0, 196),
                                   make_config (14, 0), make_config (9, 1) };

  for (guint c = 0; c < G_N_ELEMENTS (configs); c++)
    for (guint reducers = 0; reducers < 4; reducers++) {
      for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
        check_budgets (&configs[c], reducers & 1, reducers & 2, sizes[i][0], sizes[i][1]);
      for (guint i = 0; i < 20; i++)
        check_budgets (&configs[c], reducers & 1, reducers & 2,
                       (guint) g_test_rand_int_range (1, 3000),
                       (guint) g_test_rand_int_range (1, 3000));
    }
}

/* ---- what is no grid, what is no reduction ---- */

static void
test_no_grid (void)
{
  ValleyCompressorConfig evo = { .type = VALLEY_COMPRESSOR_EVO, .keep_ratio = 0.25 };
  ValleyConfig config = make_config (14, 196);
  const ValleyReduction reduction
      = { .max_vision_tokens = 60, .max_frames = 1, .pool = TRUE, .eagle = TRUE };
  ValleyInputSizes sizes;

  config.compressors = &evo; /* 49 tokens: a square number, in the order of their scores */
  config.n_compressors = 1;
  sizes = reduce (&config, &reduction, 640, 480);
  g_assert_cmpuint (sizes.siglip_side, ==, 0);
  g_assert_cmpuint (sizes.n_tokens, <=, 60);
  config.n_compressors = 0;
  config.connector.n_tokens = 197; /* a copy of patch 0 in front */
  sizes = reduce (&config, &reduction, 640, 480);
  g_assert_cmpuint (sizes.siglip_side, ==, 0);
  g_assert_cmpuint (sizes.n_tokens, ==, 198);
}

static void
test_none (void)
{
  const ValleyConfig config = make_config (14, 196);
  const ValleyReduction off = { .pool = TRUE, .eagle = TRUE }, drop = { .drop = TRUE },
                        own = { .drop = TRUE, .drop_threshold = 0.5 };
  ValleyInputSizes sizes = full_sizes (&config, 640, 480), full = sizes;

  g_assert_true (valley_reduction_apply (&config, NULL, 640, 480, &sizes, NULL));
  g_assert_cmpuint (sizes.n_tokens, ==, 196 + eagle_cells (&full));
  g_assert_cmpuint (sizes.n_tokens_before, ==, sizes.n_tokens);
  g_assert_cmpuint (sizes.siglip_side, ==, 0);
  g_assert_cmpfloat (sizes.drop_threshold, ==, 0);
  full = sizes;
  sizes = reduce (&config, &off, 640, 480);
  g_assert_cmpmem (&sizes, sizeof sizes, &full, sizeof full);
  g_assert_cmpfloat (reduce (&config, &drop, 640, 480).drop_threshold, ==, VALLEY_DROP_THRESHOLD);
  g_assert_cmpfloat (reduce (&config, &own, 640, 480).drop_threshold, ==, 0.5);
}

static void
test_refused (void)
{
  const ValleyReduction bad[] = { { .max_vision_tokens = 100 },
                                  { .drop = TRUE, .drop_threshold = -0.1 },
                                  { .drop = TRUE, .drop_threshold = 1.1 },
                                  { .drop_threshold = __builtin_nan ("") } };

  g_assert_true (valley_reduction_check (NULL, NULL));
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    GError *error = NULL;

    g_assert_false (valley_reduction_check (&bad[i], &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
    g_clear_error (&error);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/reduction/release", test_release);
  g_test_add_func ("/reduction/small-grids", test_small_grids);
  g_test_add_func ("/reduction/budgets", test_budgets);
  g_test_add_func ("/reduction/no-grid", test_no_grid);
  g_test_add_func ("/reduction/none", test_none);
  g_test_add_func ("/reduction/refused", test_refused);
  return g_test_run ();
}
