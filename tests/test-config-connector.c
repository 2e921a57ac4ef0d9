/* test-config-connector.c - config.json's connector and token compressors: how many tokens each
 * setting leaves, and which settings cannot work and are refused by name.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "config.h"
#include "scratch.h"

/* The release but for what follows: 27 patches a side, 10 tiles at most. */
static const char release[]
    = "{\"model_type\":\"valley\",\"anyres\":true,\"grid_pinpoints\":\"(1x1),...,(3x3)\","
      "\"intermediate_size\":18944,\"num_attention_heads\":28,\"head_dim\":128,"
      "\"num_hidden_layers\":28,\"mm_vision_tower\":\"google/siglip\",\"vocab_size\":151679,"
      "\"hidden_size\":%u,\"mm_projector_type\":%s}";

static ValleyConfig *
read_config (guint hidden_size, const char *settings, GError **error)
{
  g_autofree char *text = g_strdup_printf (release, hidden_size, settings);
  char *dir = scratch_new ();
  ValleyConfig *config;

  scratch_write (dir, "config.json", text, strlen (text));
  config = valley_config_read (dir, error);
  scratch_remove (dir);
  return config;
}

typedef struct {
  guint hidden_size;
  const char *settings; /* the connector's name, then whatever else */
  const char *list;     /* token_compressor_config, NULL without one */
  guint n_tokens;       /* of a frame's one tile */
  guint tile_side;      /* of one of ten tiles; 0: they cannot be put together */
} Good;

#define OVIS "\"ovis_conv_adapter\""
#define PATCH "\"identity_patch\""
#define ONE(type, params) "[{\"type\":\"" type "\",\"params\":{" params "}}]"
#define TWO(type, params, then, more)                                                              \
  "[{\"type\":\"" type "\",\"params\":{" params "}},{\"type\":\"" then "\",\"params\":{" more "}}" \
  "]"
#define SHUFFLE "\"mlp_pixel_shuffle\",\"pixelshuffle_downsample_ratio\":"
#define QUERIES "\"num_queries\":64"

static const Good good[] = {
  { 3584, OVIS, NULL, 196, 14 },
  { 3584, OVIS, "null", 196, 14 },
  { 3584, OVIS, "[]", 196, 14 },
  { 3584, "\"conv_adapter\"", NULL, 196, 14 },
  { 3584, SHUFFLE "3", NULL, 81, 9 },
  { 3584, SHUFFLE "27", NULL, 1, 1 },
  { 3584, "\"linear\"", NULL, 730, 0 },
  { 3584, "\"mlp2x_gelu\"", NULL, 730, 0 },
  { 3584, "\"mlp64x_gelu\"", NULL, 730, 0 },
  { 3584, "\"pool_adapter\",\"pool_out_size\":9", NULL, 81, 9 },
  { 3584, "\"pool_adapter_w_cls\",\"pool_out_size\":9", NULL, 82, 0 },
  { 3584, "\"adapt_pooler\",\"pool_out_size\":1", NULL, 1, 1 },
  { 3584, "\"adapt_pooler_w_cls\",\"pool_out_size\":27", NULL, 730, 0 },
  { 3584, "\"adapt_pyrapooler\"", NULL, 102, 0 },
  { 1152, "\"identity\"", NULL, 730, 0 },
  { 1152, PATCH, NULL, 729, 27 },
  { 3584, OVIS, ONE ("avgpool", "\"scale\":7"), 4, 2 },
  { 3584, OVIS, ONE ("roipool", "\"max_vision_token\":196"), 196, 14 },
  { 3584, OVIS, ONE ("roipool", "\"max_vision_token\":195"), 169, 13 },
  { 3584, OVIS, ONE ("roipool", "\"max_vision_token\":\" 4 * 16\""), 64, 8 },
  { 3584, OVIS, ONE ("roipool", "\"max_vision_token\":64,\"mode\":\"multiple\""), 64, 2 },
  { 3584, OVIS, ONE ("roipool", "\"max_vision_token\":\"10*196\",\"mode\":\"multiple\""), 196, 14 },
  { 3584, OVIS, ONE ("roipool", "\"max_vision_token\":10,\"mode\":\"multiple\""), 9, 1 },
  { 3584, "\"linear\"", ONE ("roipool", "\"max_vision_token\":730"), 730, 0 },
  { 3584, OVIS, ONE ("evo", ""), 49, 7 },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":0.29"), 56, 0 },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":\"3/4\",\"inner_dim\":32"), 147, 0 },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":1"), 196, 14 },
  { 3584, OVIS, ONE ("lavit", "\"inner_dim\":32"), 196, 0 },
  { 3584, OVIS, TWO ("lavit", "", "evo", "\"prune_ratio\":0.5"), 98, 0 },
  { 3584, OVIS, TWO ("evo", "", "avgpool", "\"scale\":7"), 1, 1 },
  { 3584, PATCH, ONE ("minicpm_resampler", QUERIES), 64, 8 },
  { 3584, PATCH, ONE ("minicpm_resampler", QUERIES ",\"adaptive\":true,\"max_size\":[70,70]"), 64,
    8 },
  { 3584, PATCH, TWO ("avgpool", "\"scale\":3", "minicpm_resampler", QUERIES), 64, 8 },
  { 3584, PATCH, TWO ("minicpm_resampler", QUERIES, "evo", ""), 16, 4 },
  { 1152, PATCH, TWO ("minicpm_resampler", QUERIES, "minicpm_resampler", QUERIES), 64, 8 },
};

static char *
join (const char *settings, const char *list)
{
  return g_strconcat (settings, list != NULL ? ",\"token_compressor_config\":" : "", list, NULL);
}

static void
test_good (void)
{
  for (gsize i = 0; i < G_N_ELEMENTS (good); i++) {
    g_autofree char *settings = join (good[i].settings, good[i].list);
    GError *error = NULL;
    ValleyConfig *config = read_config (good[i].hidden_size, settings, &error);

    g_test_message ("%s", settings);
    g_assert_no_error (error);
    g_assert_cmpuint (valley_config_tile_tokens (config, 1), ==, good[i].n_tokens);
    g_assert_cmpuint (valley_config_tile_side (config, 10), ==, good[i].tile_side);
    valley_config_free (config);
  }
}

typedef struct {
  guint hidden_size;
  const char *settings, *list;
  const char *expected[2]; /* parts of the message */
} Bad;

#define LIST "\"token_compressor_config\""
#define TYPE "\"token_compressor_config[0].type\""
#define SECOND "\"token_compressor_config[1].type\""
#define PARAM(name) "\"token_compressor_config[0].params." name "\""
#define PROJECTOR "\"mm_projector_type\""

static const Bad bad[] = {
  { 3584, "\"mlp1x_gelu\"", NULL, { PROJECTOR, "N from 2" } },
  { 3584, "\"mlp65x_gelu\"", NULL, { PROJECTOR, "N from 2 to 64" } },
  { 3584, "\"mlpx_gelu\"", NULL, { PROJECTOR, "\"adapt_pyrapooler\"" } },
  { 3584, "\"mlp2x_gelu2\"", NULL, { PROJECTOR, "" } },
  { 3584, "\"mlp-2x_gelu\"", NULL, { PROJECTOR, "" } },
  { 3584, "\"mlp18446744073709551618x_gelu\"", NULL, { PROJECTOR, "" } },
  { 3584, "\"Linear\"", NULL, { PROJECTOR, "\"linear\"" } },
  { 3584,
    OVIS ",\"tokenize_function\":\"gumbel_argmax\"",
    NULL,
    { "\"tokenize_function\"", "training" } },
  { 3584, SHUFFLE "2", NULL, { "\"pixelshuffle_downsample_ratio\"", "divisor of the tower's 27" } },
  { 3584, "\"pool_adapter\"", NULL, { "\"pool_out_size\" is missing", "an integer" } },
  { 3584, "\"pool_adapter\",\"pool_out_size\":0", NULL, { "\"pool_out_size\"", "from 1" } },
  { 3584, "\"adapt_pooler\",\"pool_out_size\":8", NULL, { "\"pool_out_size\"", "divisor" } },
  { 3584, "\"adapt_pooler_w_cls\",\"pool_out_size\":81", NULL, { "\"pool_out_size\"", "divisor" } },
  { 3584, "\"identity\"", NULL, { PROJECTOR, "hidden_size 3584, not mm_hidden_size 1152" } },
  { 3584, PATCH, ONE ("avgpool", "\"scale\":3"), { PROJECTOR, "hidden_size 3584" } },

  { 3584, OVIS, "\"avgpool\"", { LIST, "null or a list" } },
  { 3584, OVIS, "{\"type\":\"avgpool\"}", { LIST, "null or a list" } },
  { 3584, OVIS, "[\"avgpool\"]", { LIST, "objects" } },
  { 3584, OVIS, "[null]", { LIST, "objects" } },
  { 3584, OVIS, "[{\"params\":{}}]", { TYPE, "\"avgpool\"" } },
  { 3584, OVIS, "[{\"type\":7}]", { TYPE, "a string" } },
  { 3584, OVIS, ONE ("gumbel", ""), { TYPE, "\"lavit\"" } },
  { 3584,
    OVIS,
    "[{\"type\":\"evo\",\"params\":[]}]",
    { "\"token_compressor_config[0].params\"", "an object" } },
  { 3584, OVIS, "[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]", { LIST, "at most 16" } },

  { 3584, OVIS, ONE ("avgpool", ""), { PARAM ("scale") " is missing", "an integer" } },
  { 3584, OVIS, ONE ("avgpool", "\"scale\":0"), { PARAM ("scale"), "from 1" } },
  { 3584, OVIS, ONE ("avgpool", "\"scale\":3"), { PARAM ("scale"), "divisor of the 14" } },
  { 3584,
    OVIS,
    ONE ("avgpool", "\"scale\":2,\"stride\":2"),
    { PARAM ("stride"), "only \"scale\"" } },
  { 3584, "\"linear\"", ONE ("avgpool", "\"scale\":2"), { TYPE, "not 730 tokens" } },

  { 3584, OVIS, ONE ("roipool", ""), { PARAM ("max_vision_token") " is missing", "" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":0"),
    { PARAM ("max_vision_token"), "from 1" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":64.5"),
    { PARAM ("max_vision_token"), "integer" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"4*0\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"4*\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"4**2\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"4*-4\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"4+4\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"exit()\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"65536*65536\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"4294967296*4294967296*1\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":\"99999999999999999999\""),
    { PARAM ("max_vision_token"), "product" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":64,\"mode\":\"both\""),
    { PARAM ("mode"), "\"multiple\"" } },
  { 3584,
    OVIS,
    ONE ("roipool", "\"max_vision_token\":9,\"mode\":\"multiple\""),
    { PARAM ("max_vision_token"), "at least 10" } },
  { 3584, "\"linear\"", ONE ("roipool", "\"max_vision_token\":729"), { TYPE, "not 730 tokens" } },

  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":0"), { PARAM ("prune_ratio"), "above 0" } },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":-0.5"), { PARAM ("prune_ratio"), "from 0 to 1" } },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":1.01"), { PARAM ("prune_ratio"), "from 0 to 1" } },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":true"), { PARAM ("prune_ratio"), "number" } },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":\"\""), { PARAM ("prune_ratio"), "quotient" } },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":\"1/0\""), { PARAM ("prune_ratio"), "quotient" } },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":\"1/4/2\""), { PARAM ("prune_ratio"), "quotient" } },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":\"3/2\""), { PARAM ("prune_ratio"), "at most 1" } },
  { 3584, OVIS, ONE ("evo", "\"prune_ratio\":\"half\""), { PARAM ("prune_ratio"), "quotient" } },
  { 3584,
    OVIS,
    ONE ("evo", "\"prune_ratio\":0.005"),
    { PARAM ("prune_ratio"), "one of 196 tokens" } },
  { 3584, OVIS, ONE ("evo", "\"inner_dim\":0"), { PARAM ("inner_dim"), "from 1" } },
  { 3584, /* two faults, one error */
    PATCH,
    ONE ("evo", "\"prune_ratio\":0.001"),
    { TYPE, "hidden_size 3584 before it, not 1152" } },
  { 3584, PATCH, ONE ("evo", ""), { TYPE, "hidden_size 3584 before it, not 1152" } },

  { 3584, OVIS, ONE ("lavit", "\"tau\":1"), { PARAM ("tau"), "only \"inner_dim\"" } },
  { 3584, OVIS, TWO ("lavit", "", "lavit", ""), { SECOND, "follow lavit" } },
  { 3584, OVIS, TWO ("lavit", "", "avgpool", "\"scale\":1"), { SECOND, "follow lavit" } },
  { 3584,
    OVIS,
    TWO ("lavit", "", "roipool", "\"max_vision_token\":195"),
    { SECOND, "follow lavit" } },
  { 7, OVIS, ONE ("lavit", ""), { TYPE, "an even hidden_size" } },

  { 3584, OVIS, ONE ("minicpm_resampler", QUERIES), { TYPE, "\"identity_patch\" before it" } },
  { 1152,
    "\"identity\"",
    ONE ("minicpm_resampler", QUERIES),
    { TYPE, "\"identity_patch\" before it" } },
  { 3584, PATCH, ONE ("minicpm_resampler", ""), { PARAM ("num_queries") " is missing", "" } },
  { 3584,
    PATCH,
    ONE ("minicpm_resampler", "\"num_queries\":0"),
    { PARAM ("num_queries"), "from 1" } },
  { 127, PATCH, ONE ("minicpm_resampler", QUERIES), { TYPE, "at least 128" } },
  { 386, PATCH, ONE ("minicpm_resampler", QUERIES), { TYPE, "3 heads" } },
  { 130, PATCH, ONE ("minicpm_resampler", QUERIES), { TYPE, "a multiple of 4" } },
  { 3584,
    PATCH,
    TWO ("minicpm_resampler", QUERIES, "minicpm_resampler", QUERIES),
    { SECOND, "mm_hidden_size 1152 before it, not 3584" } },
  { 1152,
    PATCH,
    TWO ("evo", "\"prune_ratio\":0.5", "minicpm_resampler", QUERIES),
    { SECOND, "not 364 tokens" } },
};

static void
test_bad (gconstpointer data)
{
  const Bad *test = data;
  g_autofree char *settings = join (test->settings, test->list);
  g_autoptr (GError) error = NULL;

  g_assert_null (read_config (test->hidden_size, settings, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG);
  g_test_message ("%s", error->message);
  g_assert_nonnull (strstr (error->message, "config.json: "));
  g_assert_nonnull (strstr (error->message, "; expected "));
  g_assert_nonnull (strstr (error->message, test->expected[0]));
  g_assert_nonnull (strstr (error->message, test->expected[1]));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/config-connector/good", test_good);
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autofree char *path = g_strdup_printf ("/config-connector/bad/%" G_GSIZE_FORMAT, i);

    g_test_add_data_func (path, &bad[i], test_bad);
  }
  return g_test_run ();
}
