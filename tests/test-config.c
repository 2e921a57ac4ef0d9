/* test-config.c - config.json: the release's keys become the release's numbers, and a table of
 * absurd values, each of which must be refused by name.
 * SPDX-License-Identifier: Apache-2.0 */
#include <json-glib/json-glib.h>
#include <string.h>

#include "config.h"
#include "scratch.h"

/* The keys of the released 7B checkpoint that are read; the towers are the built-in constants. */
static const char release[]
    = "{\"model_type\":\"valley\",\"anyres\":true,\"eagle_vision_tower\":\"Qwen/Qwen2-VL-7B\","
      "\"eos_token_id\":151645,\"frame_max_pixels\":153664,\"grid_pinpoints\":\"(1x1),...,(3x3)\","
      "\"hidden_act\":\"silu\",\"hidden_size\":3584,\"intermediate_size\":18944,"
      "\"max_pixels\":571536,\"max_position_embeddings\":32768,\"max_vision_token\":100000,"
      "\"mlp_hidden_dim\":32000,\"mm_hidden_size\":1152,"
      "\"mm_projector_type\":\"ovis_conv_adapter\",\"mm_vision_tower\":\"google/siglip\","
      "\"num_attention_heads\":28,\"num_hidden_layers\":28,\"num_key_value_heads\":4,"
      "\"only_crop_single_image\":true,\"pixelshuffle_downsample_ratio\":3,"
      "\"rms_norm_eps\":1e-06,\"rope_scaling\":null,\"rope_theta\":1000000.0,"
      "\"sliding_window\":null,\"tie_word_embeddings\":false,\"tokenize_function\":\"softmax\","
      "\"use_sliding_window\":false,\"use_special_start_end_token\":true,"
      "\"vit_crop_size\":384,\"vocab_size\":151679}";

static void
write_text (const char *dir, const char *name, const char *text)
{
  scratch_write (dir, name, text, strlen (text));
}

static void
test_release (void)
{
  char *dir = scratch_new ();
  GError *error = NULL;
  ValleyConfig *c;

  write_text (dir, "config.json", release);
  c = valley_config_read (dir, &error);
  g_assert_no_error (error);
  g_assert_true (c->has_siglip && c->has_eagle && c->anyres && c->use_special_start_end_token);
  g_assert_cmpuint (c->siglip.hidden_size, ==, 1152);
  g_assert_cmpuint (c->siglip.n_layers, ==, 27);
  g_assert_cmpuint (c->siglip.side, ==, 27);
  g_assert_cmpuint (c->connector.n_tokens, ==, 196);
  g_assert_cmpuint (c->connector.mlp_hidden, ==, 32000);
  g_assert_cmpuint (c->eagle.depth, ==, 32);
  g_assert_cmpuint (c->eagle.mlp_dim, ==, 5120);
  g_assert_cmpuint (c->eagle.max_pixels, ==, 571536);
  g_assert_cmpuint (c->eagle.frame_max_pixels, ==, 153664);
  g_assert_cmpuint (c->llm.head_dim, ==, 128);
  g_assert_cmpuint (c->llm.n_kv_heads, ==, 4);
  g_assert_cmpfloat (c->llm.rope_theta, ==, 1e6);
  g_assert_cmpuint (c->grid_max_rows, ==, 3);
  g_assert_cmpuint (c->n_stop_ids, ==, 1);
  g_assert_cmpint (c->stop_ids[0], ==, 151645);
  g_assert_cmpfloat (c->repetition_penalty, ==, 1);
  for (guint i = 0; i < 2; i++)
    valley_config_add_stop_id (c, 151643);
  valley_config_add_stop_id (c, -1); /* a tokenizer without the token */
  g_assert_cmpuint (c->n_stop_ids, ==, 2);
  g_assert_cmpint (c->stop_ids[1], ==, 151643);
  valley_config_free (c);

  write_text (dir, "generation_config.json",
              "{\"eos_token_id\":[151645,151643],\"repetition_penalty\":1.05}");
  c = valley_config_read (dir, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (c->n_stop_ids, ==, 2);
  g_assert_cmpint (c->stop_ids[1], ==, 151643);
  g_assert_cmpfloat (c->repetition_penalty, ==, 1.05);
  valley_config_add_stop_id (c, 7);
  g_assert_cmpuint (c->n_stop_ids, ==, 2);
  valley_config_free (c);
  scratch_remove (dir);
}

typedef struct {
  const char *key;   /* "object.key" inside one of our own objects */
  const char *value; /* JSON; NULL takes the key out */
} Absurd;

static const Absurd absurd[] = {
  { "model_type", "\"llava\"" },
  { "model_type", NULL },
  { "model_type", "\"valley_omni\"" },
  { "model_type", "\"qwen3_vl\"" },
  { "architectures", "[\"ValleyMistralForCausalLM\"]" },
  { "architectures", "[]" },
  { "architectures", "[3]" },
  { "architectures", "\"ValleyQwen3ForCausalLM\"" },
  { "only_navit", "1" },
  { "navit_merger_hidden_dim", "0" },
  { "navit_merger_hidden_dim", "-65536" },
  { "navit_merger_hidden_dim", "1e30" },
  { "head_dim", "127" },
  { "head_dim", "0" },
  { "hidden_size", NULL },
  { "hidden_size", "null" },
  { "hidden_size", "1e30" },
  { "hidden_size", "-3584" },
  { "hidden_size", "0" },
  { "hidden_size", "\"3584\"" },
  { "hidden_size", "[3584]" },
  { "hidden_size", "9223372036854775807" },
  { "hidden_size", "99999999999999999999999" },
  { "hidden_size", "3584.5" },
  { "hidden_size", "true" },
  { "intermediate_size", "{}" },
  { "num_hidden_layers", "1000000000" },
  { "num_attention_heads", "27" },
  { "num_attention_heads", "0" },
  { "num_key_value_heads", "5" },
  { "vocab_size", "-1" },
  { "max_position_embeddings", "0" },
  { "rms_norm_eps", "-1" },
  { "rms_norm_eps", "\"1e-6\"" },
  { "rope_theta", "0" },
  { "rope_theta", "1e300" },
  { "rope_scaling", "{\"type\":\"yarn\"}" },
  { "use_sliding_window", "true" },
  { "tie_word_embeddings", "1" },
  { "hidden_act", "\"relu\"" },
  { "mm_projector_type", "\"perceiver\"" },
  { "mm_projector_type", "null" },
  { "mm_projector_type", "3" },
  { "tokenize_function", "\"gumbel_argmax\"" },
  { "mm_hidden_size", "1024" },
  { "mlp_hidden_dim", "-32000" },
  { "mm_vision_tower", "7" },
  { "vit_crop_size", "336" },
  { "grid_pinpoints", "\"(1x1),...,(0x3)\"" },
  { "grid_pinpoints", "\"(1x1),...,(999x3)\"" },
  { "grid_pinpoints", "\"anything\"" },
  { "grid_pinpoints", "[[1,1]]" },
  { "max_vision_token", "0" },
  { "max_pixels", "1" },
  { "frame_max_pixels", "1" },
  { "anyres", "\"yes\"" },
  { "eos_token_id", "151679" },
  { "eos_token_id", "-1" },
  { "eos_token_id", "[151645, \"x\"]" },
  { "vision_config", "[]" },
  { "vision_config.hidden_size", "-1" },
  { "vision_config.patch_size", "0" },
  { "vision_config.patch_size", "385" },
  { "vision_config.image_size", "1000000" },
  { "vision_config.num_attention_heads", "7" },
  { "eagle_config.num_heads", "7" },
  { "eagle_config.embed_dim", "1e30" },
  { "eagle_config.mlp_ratio", "1e30" },
  { "eagle_config.hidden_size", "4096" },
  { "eagle_config.min_pixels", "20000000" },
  { "eagle_config.spatial_merge_size", "0" },
};

/* The release's file with one key changed. */
static char *
with_value (const Absurd *test)
{
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_auto (GStrv) path = g_strsplit (test->key, ".", 2);
  JsonObject *object;

  g_assert_true (json_parser_load_from_data (parser, release, -1, NULL));
  object = json_node_get_object (json_parser_get_root (parser));
  if (path[1] != NULL) {
    json_object_set_object_member (object, path[0], json_object_new ());
    object = json_object_get_object_member (object, path[0]);
  }
  json_object_remove_member (object, path[path[1] != NULL]);
  if (test->value != NULL) {
    /* a marker, so that the value stays as it is written here */
    g_autofree char *text = NULL;
    g_auto (GStrv) parts = NULL;

    json_object_set_string_member (object, path[path[1] != NULL], "@VALUE@");
    text = json_to_string (json_parser_get_root (parser), FALSE);
    parts = g_strsplit (text, "\"@VALUE@\"", 2);
    return g_strconcat (parts[0], test->value, parts[1], NULL);
  }
  return json_to_string (json_parser_get_root (parser), FALSE);
}

static void
test_absurd (gconstpointer data)
{
  const Absurd *test = data;
  g_autofree char *text = with_value (test);
  g_autofree char *quoted = g_strdup_printf ("\"%s\"", test->key);
  g_autoptr (GError) error = NULL;
  char *dir = scratch_new ();

  write_text (dir, "config.json", text);
  g_assert_null (valley_config_read (dir, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG);
  g_test_message ("%s", error->message);
  g_assert_nonnull (strstr (error->message, "config.json"));
  g_assert_nonnull (strstr (error->message, "; expected "));
  g_assert_nonnull (strstr (error->message, quoted));
  scratch_remove (dir);
}

static void
test_files (void)
{
  g_autoptr (GError) error = NULL;
  char *dir = scratch_new ();

  g_assert_null (valley_config_read ("/nonexistent/folder", &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND);
  g_clear_error (&error);
  g_assert_null (valley_config_read (dir, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND);
  g_clear_error (&error);
  write_text (dir, "config.json", "{\"model_type\": ");
  g_assert_null (valley_config_read (dir, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_READ);
  g_clear_error (&error);
  write_text (dir, "config.json", release);
  write_text (dir, "generation_config.json", "{\"repetition_penalty\":-1}");
  g_assert_null (valley_config_read (dir, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_CONFIG);
  g_assert_nonnull (strstr (error->message, "generation_config.json"));
  g_clear_error (&error);
  write_text (dir, "generation_config.json", "[]");
  g_assert_null (valley_config_read (dir, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_READ);
  scratch_remove (dir);
}

/* Without a tower its keys need not make sense. */
static void
test_one_tower (void)
{
  static const Absurd no_siglip = { "mm_vision_tower", NULL },
                      no_eagle = { "eagle_vision_tower", "null" };
  g_autofree char *eagle_only = with_value (&no_siglip);
  g_autofree char *siglip_only = with_value (&no_eagle);
  GError *error = NULL;
  char *dir = scratch_new ();
  ValleyConfig *c;

  write_text (dir, "config.json", eagle_only);
  c = valley_config_read (dir, &error);
  g_assert_no_error (error);
  g_assert_true (!c->has_siglip && c->has_eagle);
  valley_config_free (c);
  write_text (dir, "config.json", siglip_only);
  c = valley_config_read (dir, &error);
  g_assert_no_error (error);
  g_assert_true (c->has_siglip && !c->has_eagle);
  valley_config_free (c);
  scratch_remove (dir);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/config/release", test_release);
  g_test_add_func ("/config/files", test_files);
  g_test_add_func ("/config/one-tower", test_one_tower);
  for (gsize i = 0; i < G_N_ELEMENTS (absurd); i++) {
    g_autofree char *path
        = g_strdup_printf ("/config/absurd/%" G_GSIZE_FORMAT "-%s", i, absurd[i].key);

    g_test_add_data_func (path, &absurd[i], test_absurd);
  }
  return g_test_run ();
}
