/* test-family.c - the models beside Valley2: which keys of config.json decide what, a model
 * without the SigLIP tower, and the Qwen3 decoder.  Numbers against other people's code are
 * test-golden.c's.
 * SPDX-License-Identifier: Apache-2.0 */
#include <json-glib/json-glib.h>
#include <string.h>

#include "engine-fixture.h"
#include "scratch.h"

/* What Valley2.5's file says as far as it is known: no sizes of towers, and SigLIP's name still
 * in it. */
static const char valley25[]
    = "{\"model_type\":\"valley\",\"architectures\":[\"ValleyQwen3ForCausalLM\"],"
      "\"hidden_size\":4096,\"intermediate_size\":12288,\"num_hidden_layers\":36,"
      "\"num_attention_heads\":32,\"num_key_value_heads\":8,\"vocab_size\":151936,"
      "\"rope_theta\":1000000,\"mm_vision_tower\":\"google/siglip-so400m-patch14-384\","
      "\"mm_projector_type\":\"a stale name\",\"eagle_vision_tower\":\"Qwen/Qwen2-VL-7B-Instruct\","
      "\"only_navit\":true,\"navit_merger_hidden_dim\":65536}";

/* That file with the members of @changes, which is JSON without the braces, in place of its own. */
static char *
valley25_with (const char *changes)
{
  g_autofree char *text = g_strdup_printf ("{%s}", changes);
  g_autoptr (JsonParser) base = json_parser_new (), more = json_parser_new ();
  JsonObject *object, *from;
  GList *names;

  g_assert_true (json_parser_load_from_data (base, valley25, -1, NULL));
  g_assert_true (json_parser_load_from_data (more, text, -1, NULL));
  object = json_node_get_object (json_parser_get_root (base));
  from = json_node_get_object (json_parser_get_root (more));
  names = json_object_get_members (from);
  for (GList *name = names; name != NULL; name = name->next)
    json_object_set_member (object, name->data, json_object_dup_member (from, name->data));
  g_list_free (names);
  return json_to_string (json_parser_get_root (base), FALSE);
}

static ValleyConfig *
read_config (const char *changes, GError **error)
{
  g_autofree char *text = valley25_with (changes);
  char *dir = scratch_new ();
  ValleyConfig *config;

  scratch_write (dir, "config.json", text, strlen (text));
  config = valley_config_read (dir, error);
  scratch_remove (dir);
  return config;
}

static ValleyConfig *
read_good (const char *changes)
{
  GError *error = NULL;
  ValleyConfig *config = read_config (changes, &error);

  g_assert_no_error (error);
  return config;
}

/* ---- config.json decides ---- */

static void
test_valley25 (void)
{
  ValleyConfig *c = read_good ("");

  g_assert_false (c->has_siglip);
  g_assert_true (c->has_eagle);
  g_assert_cmpint (c->llm.type, ==, VALLEY_LLM_QWEN3);
  g_assert_true (c->llm.qk_norm);
  g_assert_false (c->llm.qkv_bias || c->llm.o_bias);
  g_assert_cmpuint (c->llm.head_dim, ==, 128);
  g_assert_cmpuint (c->eagle.merger_dim, ==, 65536);
  g_assert_cmpuint (c->eagle.hidden_size, ==, 4096);
  g_assert_cmpuint (c->eagle.embed_dim, ==, 1280);
  g_assert_true (c->use_special_start_end_token);
  valley_config_free (c);
}

static void
test_decisions (void)
{
  ValleyConfig *c = read_good ("\"attention_bias\":true,\"head_dim\":64");

  g_assert_true (c->llm.qkv_bias && c->llm.o_bias && c->llm.qk_norm);
  g_assert_cmpuint (c->llm.head_dim, ==, 64);
  valley_config_free (c);

  /* 5 heads do not divide the width, and need not */
  c = read_good ("\"num_attention_heads\":5,\"num_key_value_heads\":1");
  g_assert_cmpuint (c->llm.head_dim, ==, 128);
  valley_config_free (c);

  /* Qwen2: always biases on q, k and v, whatever another family's key says */
  c = read_good ("\"architectures\":[\"ValleyQwen2ForCausalLM\"],"
                 "\"attention_bias\":true");
  g_assert_cmpint (c->llm.type, ==, VALLEY_LLM_QWEN2);
  g_assert_true (c->llm.qkv_bias);
  g_assert_false (c->llm.o_bias || c->llm.qk_norm);
  valley_config_free (c);

  /* Newer transformers write both: the base is there to be read */
  c = read_good ("\"rope_parameters\":{\"rope_theta\":1000000,\"rope_type\":\"default\"},"
                 "\"layer_types\":[\"full_attention\",\"full_attention\"]");
  g_assert_cmpfloat (c->llm.rope_theta, ==, 1000000);
  valley_config_free (c);

  /* Both towers before a Qwen3 decoder, and Qwen2-VL's own merger */
  c = read_good ("\"only_navit\":false,\"navit_merger_hidden_dim\":null,"
                 "\"mm_projector_type\":\"conv_adapter\","
                 "\"eagle_config\":{\"hidden_size\":4096}");
  g_assert_true (c->has_siglip && c->has_eagle);
  g_assert_cmpuint (c->eagle.merger_dim, ==, 5120);
  valley_config_free (c);
}

typedef struct {
  const char *name, *changes;
  const char *named[2]; /* in the error */
} Refusal;

static const Refusal refusals[] = {
  { "no-tower-left", "\"eagle_vision_tower\":null", { "only_navit" } },
  { "narrow-merger-output", /* Valley2's own merger writes 3584 */
    "\"navit_merger_hidden_dim\":null",
    { "eagle_config.hidden_size", "4096" } },
  { "odd-head", "\"head_dim\":127", { "\"head_dim\"", "127" } },
  { "bias-no-boolean", "\"attention_bias\":1", { "attention_bias" } },
  { "sliding-window", "\"use_sliding_window\":true", { "use_sliding_window" } },
  { "sliding-layer",
    "\"layer_types\":[\"full_attention\",\"sliding_attention\"]",
    { "layer_types" } },
  { "layers-no-names", "\"layer_types\":[1]", { "layer_types" } },
  { "layers-no-list", "\"layer_types\":\"full_attention\"", { "layer_types" } },
  { "scaled-rotation",
    "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}",
    { "rope_scaling" } },
  { "base-elsewhere",
    "\"rope_theta\":null,\"rope_parameters\":{\"rope_theta\":1000000}",
    { "rope_parameters" } },
  { "mixture-of-experts",
    "\"architectures\":[\"ValleyQwen3MoeForCausalLM\"]",
    { "architectures", "ValleyQwen3ForCausalLM" } },
  /* Valley3 and its relatives keep everything in objects of their own */
  { "valley3",
    "\"model_type\":\"valley_omni\",\"text_config\":{},\"vision_config\":{}",
    { "valley_omni", "Valley2.5" } },
  { "qwen3-vl", "\"model_type\":\"qwen3_vl\",\"text_config\":{}", { "qwen3_vl", "Valley2.5" } },
};

static void
test_refusal (gconstpointer data)
{
  const Refusal *refusal = data;
  g_autoptr (GError) error = NULL;

  g_assert_null (read_config (refusal->changes, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG);
  g_test_message ("%s", error->message);
  for (gsize i = 0; i < G_N_ELEMENTS (refusal->named) && refusal->named[i] != NULL; i++)
    g_assert_nonnull (strstr (error->message, refusal->named[i]));
}

/* ---- what is asked of a checkpoint ---- */

/* The parameters that the walk over a checkpoint of this config asks for. */
static guint64
count_parameters (const char *changes)
{
  ValleyConfig *config = read_good (changes);
  char *dir = scratch_new ();
  GError *error = NULL;
  guint64 parameters = 0;
  ValleySafetensors *files;
  ValleyWeights *weights;
  ValleyStages stages;

  scratch_safetensors (dir, "model.safetensors", "{}", G_MAXUINT64, 0);
  files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  weights = valley_weights_new (files, NULL, NULL);
  valley_stages_init (&stages, config, weights);
  for (guint i = 0; i < valley_weights_problems (weights)->len; i++) {
    const ValleyWeightProblem *problem = g_ptr_array_index (valley_weights_problems (weights), i);
    guint64 n = 1;

    for (char *at = problem->expected; *at != ']';)
      n *= g_ascii_strtoull (at + 1, &at, 10);
    parameters += n;
  }
  valley_stages_clear (&stages);
  valley_weights_free (weights);
  valley_safetensors_free (files);
  valley_config_free (config);
  scratch_remove (dir);
  return parameters;
}

/* Qwen3-8B, as its authors count it (8.2 billion, 6.95 without the two tables), and a tower of
 * 32 blocks 1280 wide. */
static void
test_full_size (void)
{
  const guint64 tables = 2 * 151936 * G_GUINT64_CONSTANT (4096);
  const guint64 layers = G_GUINT64_CONSTANT (6946071552) + 4096;
  const guint64 block = 4 * 1280 + 3 * 1280 * 1281 + 1280 * 1281 + 5120 * 1281 + 1280 * 5121;
  const guint64 tower = 32 * block + 1280 * 3 * 2 * 14 * 14;
  const guint64 merger = 2 * 1280 + 65536 * 5121 + 4096 * G_GUINT64_CONSTANT (65537);

  g_assert_cmpuint (count_parameters (""), ==, tables + layers + tower + merger);
  g_assert_cmpuint (count_parameters ("\"tie_word_embeddings\":true"), ==,
                    tables / 2 + layers + tower + merger);
  g_assert_cmpuint (count_parameters ("\"attention_bias\":true"), ==,
                    tables + layers + tower + merger + 36 * (4096 + 2 * 1024 + 4096));
}

static JsonObject *
inspect (JsonParser *parser, const char *name)
{
  g_autofree char *dir = golden_dir (name);
  GError *error = NULL;
  gboolean complete;
  g_autofree char *json = valley_inspect (dir, TRUE, &complete, &error);
  JsonObject *report;

  g_assert_no_error (error);
  g_assert_true (complete);
  json_parser_load_from_data (parser, json, -1, &error);
  g_assert_no_error (error);
  report = json_node_get_object (json_parser_get_root (parser));
  g_assert_cmpuint (json_array_get_length (json_object_get_array_member (report, "unused")), ==, 0);
  return json_object_get_object_member (report, "architecture");
}

static void
test_inspect (void)
{
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_autofree char *dir = golden_dir ("qwen3-navit");
  g_autofree char *text = valley_inspect (dir, FALSE, NULL, NULL);
  JsonObject *a = inspect (parser, "qwen3-navit");

  g_assert_cmpstr (json_object_get_string_member (a, "llm"), ==, "Qwen3");
  g_assert_cmpint (json_object_get_int_member (a, "head_dim"), ==, 10);
  g_assert_cmpint (json_object_get_int_member (a, "eagle_merger_width"), ==, 70);
  g_assert_false (json_object_has_member (a, "siglip_layers"));
  g_assert_false (json_object_has_member (a, "connector"));
  g_assert_nonnull (strstr (text, "Qwen3, 2 layers"));
  g_assert_nonnull (strstr (text, "merger 70"));
  g_assert_null (strstr (text, "SigLIP"));

  a = inspect (parser, "qwen3-bias");
  g_assert_cmpstr (json_object_get_string_member (a, "llm"), ==, "Qwen3");
  g_assert_cmpint (json_object_get_int_member (a, "siglip_layers"), ==, 1);
  a = inspect (parser, "pixel-shuffle");
  g_assert_cmpstr (json_object_get_string_member (a, "llm"), ==, "Qwen2");
  g_assert_cmpint (json_object_get_int_member (a, "head_dim"), ==, 8);
}

/* ---- without the SigLIP tower ---- */

static void
test_no_siglip (Fixture *f, gconstpointer data)
{
  g_autofree guint8 *rgb = g_malloc0 (3 * 64 * 64);
  ValleyInputSizes sizes;
  g_autoptr (GError) error = NULL;
  ValleyPicture *picture;

  g_assert_true (valley_model_input_sizes (f->model, 64, 48, NULL, &sizes, &error));
  g_assert_cmpuint (sizes.siglip_width, ==, 0);
  g_assert_cmpuint (sizes.siglip_height, ==, 0);
  g_assert_cmpuint (sizes.eagle_width, >, 0);
  picture = valley_picture_new (f->model, 0, &sizes, NULL, rgb, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (valley_picture_bytes (picture), <, 3 * 64 * 64);
  valley_picture_unref (picture);
  sizes.siglip_width = sizes.siglip_height = 64; /* for a tower that is not there */
  g_assert_null (valley_picture_new (f->model, 0, &sizes, rgb, rgb, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
}

/* Neither takes the other's pictures. */
static void
test_foreign_pictures (Fixture *f, gconstpointer data)
{
  Fixture both;
  g_autoptr (GError) error = NULL;
  ValleyPicture *mine = make_picture (f->model, 0), *theirs;

  fixture_setup (&both, "qwen3-bias");
  theirs = make_picture (both.model, 0);
  g_assert_false (valley_session_push (f->session, theirs, FALSE, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  g_clear_error (&error);
  g_assert_false (valley_session_push (both.session, mine, FALSE, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT);
  valley_picture_unref (mine);
  valley_picture_unref (theirs);
  fixture_close (&both);
}

/* A lone still picture has nothing to be cut for: it is seen whole, at the still's own bound. */
static void
test_still (Fixture *f, gconstpointer data)
{
  g_autofree guint8 *rgb = g_malloc (3 * 100 * 60);
  GError *error = NULL;
  ValleyPicture *picture;
  Answer answer;

  for (guint i = 0; i < 3 * 100 * 60; i++)
    rgb[i] = (guint8) (i * 7 + i / 300);
  picture = valley_picture_new_tiled (f->model, rgb, 3 * 100, 100, 60, &error);
  g_assert_no_error (error);
  g_assert_true (valley_session_push (f->session, picture, FALSE, &error));
  g_assert_no_error (error);
  fixture_ask (f, 4, &answer);
  g_assert_cmpuint (valley_session_result (f->session)->n_vision_tokens, ==,
                    picture->sizes.eagle_width / 8 * (picture->sizes.eagle_height / 8));
  answer_clear (&answer);
  valley_picture_unref (picture);
}

typedef struct {
  const char *name, *from, *to; /* what changes in ovis-softmax's config.json */
  gboolean siglip, eagle;
} Mixture;

static const Mixture mixtures[] = {
  { "navit", "\"mm_vision_tower\"", "\"only_navit\": true, \"mm_vision_tower\"", FALSE, TRUE },
  { "siglip", "\"eagle_vision_tower\"", "\"no_such_tower\"", TRUE, FALSE },
};

/* Qwen2 behind either tower alone: the other's tensors are left over, and its tokens missing. */
static void
test_mixture (gconstpointer data)
{
  const Mixture *mixture = data;
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "config.json", NULL);
  g_autofree char *text = NULL;
  g_autoptr (GString) config = NULL;
  Answer answer;
  Fixture f;

  scratch_copy (dir, golden);
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  config = g_string_new (text);
  g_assert_cmpuint (g_string_replace (config, mixture->from, mixture->to, 0), ==, 1);
  scratch_write (dir, "config.json", config->str, config->len);
  fixture_open (&f, dir, VALLEY_PRECISION_F32);
  g_assert_true (f.model->config->has_siglip == mixture->siglip);
  g_assert_true (f.model->config->has_eagle == mixture->eagle);
  fixture_push_frames (&f, 0, 1);
  fixture_ask (&f, 4, &answer);
  /* 3 x 3 each; or of 60 x 48 and 72 x 48 pixels, 12 x 12 to a token */
  g_assert_cmpuint (valley_session_result (f.session)->n_vision_tokens, ==,
                    mixture->siglip ? 2 * 9 : 5 * 4 + 6 * 4);
  answer_clear (&answer);
  fixture_close (&f);
  scratch_remove (dir);
}

/* ---- no bit depends on how the rows were cut ---- */

typedef struct {
  const char *golden;
  ValleyPrecision precision;
} Mode;

static const Mode modes[] = {
  { "qwen3-navit", VALLEY_PRECISION_F32 },
  { "qwen3-navit", VALLEY_PRECISION_BF16 },
  { "qwen3-bias", VALLEY_PRECISION_F32 },
  { "qwen3-bias", VALLEY_PRECISION_BF16 },
};

static void
test_cuts (gconstpointer data)
{
  static const gsize rows[] = { 1, 2, 5, 17, 64 };
  const Mode *mode = data;
  g_autofree char *dir = golden_dir (mode->golden);
  Answer first, other;
  Fixture f;

  fixture_open (&f, dir, mode->precision);
  fixture_push_frames (&f, 0, 2);
  fixture_ask (&f, 6, &first);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    valley_session_set_prefill_rows (f.session, rows[i]);
    fixture_ask (&f, 6, &other);
    answer_assert_same (&first, &other);
    answer_clear (&other);

    /* the same pictures again, with other portions through the merger */
    f.model->stages.eagle.merge_rows = rows[i];
    valley_session_reset (f.session);
    fixture_push_frames (&f, 0, 2);
    fixture_ask (&f, 6, &other);
    answer_assert_same (&first, &other);
    answer_clear (&other);
  }
  answer_clear (&first);
  fixture_close (&f);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  g_test_add_func ("/family/valley2.5", test_valley25);
  g_test_add_func ("/family/decisions", test_decisions);
  for (gsize i = 0; i < G_N_ELEMENTS (refusals); i++) {
    g_autofree char *path = g_strconcat ("/family/refusal/", refusals[i].name, NULL);

    g_test_add_data_func (path, &refusals[i], test_refusal);
  }
  g_test_add_func ("/family/full-size", test_full_size);
  g_test_add_func ("/family/inspect", test_inspect);
  g_test_add ("/family/no-siglip", Fixture, "qwen3-navit", fixture_setup, test_no_siglip,
              fixture_teardown);
  g_test_add ("/family/foreign-pictures", Fixture, "qwen3-navit", fixture_setup,
              test_foreign_pictures, fixture_teardown);
  g_test_add ("/family/still", Fixture, "qwen3-navit", fixture_setup, test_still, fixture_teardown);
  for (gsize i = 0; i < G_N_ELEMENTS (mixtures); i++) {
    g_autofree char *path = g_strconcat ("/family/mixture/", mixtures[i].name, NULL);

    g_test_add_data_func (path, &mixtures[i], test_mixture);
  }
  for (gsize i = 0; i < G_N_ELEMENTS (modes); i++) {
    g_autofree char *path
        = g_strdup_printf ("/family/cuts/%s-%s", modes[i].golden,
                           modes[i].precision == VALLEY_PRECISION_F32 ? "f32" : "bf16");

    g_test_add_data_func (path, &modes[i], test_cuts);
  }
  return g_test_run ();
}
