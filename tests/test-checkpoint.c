/* test-checkpoint.c - whole checkpoint folders: what is missing, misshapen or damaged is one
 * clear error, what is complete is reported so, and the released layout is the one we ask for.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* memmem */
#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

#include "engine-fixture.h"
#include "scratch.h"

/* A copy of a golden whose model.safetensors has @from replaced by @to, equally long. */
static char *
damaged (const char *from, const char *to)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  char *at;
  gsize length;

  scratch_copy (dir, golden);
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  at = g_strstr_len (bytes + 8, (gssize) length - 8, from);
  g_assert_nonnull (at);
  g_assert_cmpuint (strlen (from), ==, strlen (to));
  memcpy (at, to, strlen (to));
  scratch_write (dir, "model.safetensors", bytes, length);
  return dir;
}

/* Where a tensor lies in the folder's model.safetensors. */
static gsize
first_byte (const char *dir, const char *name)
{
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  ValleySafetensors *files = valley_safetensors_open (dir, NULL);
  const ValleySafetensor *tensor;
  const char *at;
  gsize length, place;

  g_assert_nonnull (files);
  tensor = valley_safetensors_find (files, name);
  g_assert_nonnull (tensor);
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  at = memmem (bytes, length, tensor->data, tensor->bytes);
  g_assert_nonnull (at);
  place = (gsize) (at - bytes);
  valley_safetensors_free (files);
  return place;
}

static void
assert_load_fails (const char *dir, int code, const char *name, const char *expected)
{
  ValleyModel *model = open_model (dir, VALLEY_PRECISION_F32);
  g_autoptr (GError) error = NULL;

  for (guint i = 0; i < 2; i++) { /* a failed load can be tried again */
    g_clear_error (&error);
    g_assert_false (valley_model_load (model, NULL, &error));
    g_assert_error (error, VALLEY_ERROR, code);
    g_assert_nonnull (strstr (error->message, name));
    g_assert_nonnull (strstr (error->message, expected));
  }
  g_test_message ("%s", error->message);
  valley_model_unref (model);
}

static JsonObject *
inspect (const char *dir, gboolean *complete)
{
  g_autoptr (JsonParser) parser = json_parser_new ();
  GError *error = NULL;
  g_autofree char *json = valley_inspect (dir, TRUE, complete, &error);
  g_autofree char *text = NULL;
  gboolean same;

  g_assert_no_error (error);
  json_parser_load_from_data (parser, json, -1, &error);
  g_assert_no_error (error);
  text = valley_inspect (dir, FALSE, &same, &error);
  g_assert_no_error (error);
  g_assert_true (same == *complete);
  g_assert_nonnull (strstr (text, same ? "Complete" : "Incomplete"));
  return json_object_ref (json_node_get_object (json_parser_get_root (parser)));
}

static guint
list_length (JsonObject *report, const char *key)
{
  return json_array_get_length (json_object_get_array_member (report, key));
}

static void
test_missing (void)
{
  char *dir = damaged ("model.norm.weight", "model.nope.weight");
  gboolean complete;
  JsonObject *report = inspect (dir, &complete);

  g_assert_false (complete);
  g_assert_cmpuint (list_length (report, "missing"), ==, 1);
  g_assert_cmpuint (list_length (report, "unused"), ==, 1);
  assert_load_fails (dir, VALLEY_ERROR_TENSOR, "model.norm.weight", "is missing; expected [48]");
  json_object_unref (report);
  scratch_remove (dir);
}

static void
test_misshapen (void)
{
  char *dir = damaged ("[340,48]", "[48,340]");
  gboolean complete;
  JsonObject *report = inspect (dir, &complete);

  g_assert_false (complete);
  g_assert_cmpuint (list_length (report, "misshapen"), ==, 1);
  assert_load_fails (dir, VALLEY_ERROR_TENSOR, "is [48, 340] in F32", "expected [340, 48]");
  json_object_unref (report);
  scratch_remove (dir);
}

/* As many bytes, and the same first size: rows of another length, or one row of all. */
static void
test_misshapen_rows (void)
{
  static const char *const cases[][3] = {
    { "\"F32\",\"shape\":[340,48]", "\"F16\",\"shape\":[340,96]", "is [340, 96] in F16" },
    { "[340,48]", "[16320 ]", "is [16320] in F32" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    char *dir = damaged (cases[i][0], cases[i][1]);

    assert_load_fails (dir, VALLEY_ERROR_TENSOR, cases[i][2], "expected [340, 48]");
    scratch_remove (dir);
  }
}

static void
test_wrong_type (void)
{
  char *dir = damaged ("\"F32\"", "\"I32\"");

  assert_load_fails (dir, VALLEY_ERROR_TENSOR, "in I32", "BF16, F16 or F32");
  scratch_remove (dir);
}

static void
test_truncated (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  gboolean complete;
  JsonObject *report;
  gsize length;

  scratch_copy (dir, golden);
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  scratch_write (dir, "model.safetensors", bytes, length / 2);
  report = inspect (dir, &complete);
  g_assert_false (complete);
  g_assert_cmpuint (list_length (report, "problems"), ==, 1);
  assert_load_fails (dir, VALLEY_ERROR_READ, "model.safetensors", "expected");
  json_object_unref (report);
  scratch_remove (dir);
}

/* Where @tensor's bytes lie in the file @bytes. */
static char *
find_data (char *bytes, const ValleySafetensors *files, const ValleySafetensor *tensor)
{
  const guint8 *first = tensor->data;
  guint64 header;

  memcpy (&header, bytes, sizeof header);
  for (gsize i = 0; i < valley_safetensors_n_tensors (files); i++)
    first = MIN (first, valley_safetensors_get (files, i)->data);
  return bytes + 8 + GUINT64_FROM_LE (header) + (tensor->data - first);
}

/* Weights that are no numbers end in an error, never in words. */
static void
test_nan (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  ValleySafetensors *files;
  const ValleySafetensor *norm;
  g_autoptr (GError) error = NULL;
  ValleyRequest request = { .prompt = QUESTION };
  gsize length;
  Fixture f;

  scratch_copy (dir, golden);
  files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  norm = valley_safetensors_find (files, "model.norm.weight");
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  memset (find_data (bytes, files, norm), 0xff, norm->bytes);
  valley_safetensors_free (files);
  scratch_write (dir, "model.safetensors", bytes, length);

  fixture_open (&f, dir, VALLEY_PRECISION_F32);
  fixture_push_frames (&f, 0, 0);
  g_assert_false (fixture_run (&f, &request, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_assert_cmpint (valley_session_next (f.session, NULL), ==, VALLEY_STEP_ERROR);
  g_assert_cmpuint (valley_session_result (f.session)->n_output_tokens, ==, 0);
  g_assert_cmpstr (valley_session_result (f.session)->text, ==, "");
  fixture_close (&f);
  scratch_remove (dir);
}

static void
replace_in_file (const char *dir, const char *name, const char *from, const char *to)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  g_autofree char *text = NULL;
  g_auto (GStrv) parts = NULL;
  g_autofree char *changed = NULL;

  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  parts = g_strsplit (text, from, -1);
  g_assert_cmpuint (g_strv_length (parts), >, 1);
  changed = g_strjoinv (to, parts);
  scratch_write (dir, name, changed, strlen (changed));
}

static void
test_tokenizer_without_id (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();

  scratch_copy (dir, golden);
  replace_in_file (dir, "tokenizer.json", "<im_start>", "<im_other>");
  assert_load_fails (dir, VALLEY_ERROR_CONFIG, "tokenizer.json", "<im_start>");
  scratch_remove (dir);
}

static void
answer_from (const char *dir, Answer *answer)
{
  Fixture f;

  fixture_open (&f, dir, VALLEY_PRECISION_F32);
  fixture_push_frames (&f, 0, 0);
  fixture_ask (&f, 6, answer);
  fixture_close (&f);
}

/* Tied: the embedding table is the output head, as if lm_head were a copy of it. */
static void
test_tied (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  const ValleySafetensor *embeddings, *head;
  ValleySafetensors *files;
  GError *error = NULL;
  Answer copied, tied;
  gsize length;

  scratch_copy (dir, golden);
  files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  embeddings = valley_safetensors_find (files, "model.embed_tokens.weight");
  head = valley_safetensors_find (files, "lm_head.weight");
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  memcpy (find_data (bytes, files, head), embeddings->data, embeddings->bytes);
  valley_safetensors_free (files);
  scratch_write (dir, "model.safetensors", bytes, length);
  answer_from (dir, &copied);

  replace_in_file (dir, "config.json", "\"tie_word_embeddings\": false",
                   "\"tie_word_embeddings\": true");
  answer_from (dir, &tied);
  answer_assert_same (&copied, &tied);
  answer_clear (&copied);
  answer_clear (&tied);
  scratch_remove (dir);
}

/* ---- inspecting ---- */

static void
test_inspect (void)
{
  static const char *const names[]
      = { "ovis-softmax", "ovis-argmax", "conv-adapter", "pixel-shuffle", "image-tiled" };

  for (gsize i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autofree char *dir = golden_dir (names[i]);
    gboolean complete;
    JsonObject *report = inspect (dir, &complete);
    JsonObject *memory = json_object_get_object_member (report, "memory");

    g_assert_true (complete);
    g_assert_true (json_object_get_boolean_member (report, "complete"));
    g_assert_cmpuint (list_length (report, "tensors"), >, 50);
    g_assert_cmpuint (list_length (report, "missing"), ==, 0);
    g_assert_cmpuint (list_length (report, "misshapen"), ==, 0);
    g_assert_cmpuint (list_length (report, "problems"), ==, 0);
    g_assert_cmpint (json_object_get_int_member (memory, "weights_bytes"), >, 1000);
    json_object_unref (report);
  }
}

static void
test_inspect_garbage (void)
{
  char *dir = scratch_new ();
  g_autoptr (GError) error = NULL;
  gboolean complete;
  JsonObject *report = inspect (dir, &complete);

  g_assert_false (complete);
  g_assert_cmpuint (list_length (report, "problems"), ==, 2);
  json_object_unref (report);
  scratch_write (dir, "config.json", "\0\1\2{", 4);
  scratch_write (dir, "model.safetensors", "garbage garbage", 15);
  report = inspect (dir, &complete);
  g_assert_false (complete);
  json_object_unref (report);
  g_assert_null (valley_inspect ("/nonexistent", TRUE, &complete, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND);
  scratch_remove (dir);
}

/* The walk over the released 7B layout asks for what its files hold: 8.88 billion parameters
 * with the SigLIP tower's unused head, which alone is subtracted here. */
static void
test_release_layout (void)
{
  static const char config[]
      = "{\"model_type\":\"valley\",\"hidden_size\":3584,\"intermediate_size\":18944,"
        "\"num_hidden_layers\":28,\"num_attention_heads\":28,\"num_key_value_heads\":4,"
        "\"vocab_size\":151679,\"mm_projector_type\":\"ovis_conv_adapter\","
        "\"mlp_hidden_dim\":32000,\"mm_vision_tower\":\"s\",\"eagle_vision_tower\":\"e\"}";
  const double width = 1152, inner = 4304; /* of the head: probe, attention, norm, MLP */
  const double head
      = width + 4 * width * width + 4 * width + 2 * width + 2 * width * inner + width + inner;
  char *dir = scratch_new ();
  GError *error = NULL;
  double parameters = 0;

  scratch_write (dir, "config.json", config, strlen (config));
  scratch_safetensors (dir, "model.safetensors", "{}", G_MAXUINT64, 0);

  ValleyConfig *c = valley_config_read (dir, &error);
  g_assert_no_error (error);
  ValleySafetensors *files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  ValleyWeights *weights = valley_weights_new (files, NULL, NULL);
  ValleyStages stages;
  valley_stages_init (&stages, c, weights);
  const GPtrArray *missing = valley_weights_problems (weights);
  for (guint i = 0; i < missing->len; i++) {
    const ValleyWeightProblem *problem = g_ptr_array_index (missing, i);
    double n = 1;

    for (char *at = problem->expected; *at != ']';)
      n *= (double) g_ascii_strtoull (at + 1, &at, 10);
    parameters += n;
  }
  g_assert_cmpfloat_with_epsilon ((parameters + head) * 2, 17.76e9, 0.005e9);
  valley_stages_clear (&stages);
  valley_weights_free (weights);
  valley_safetensors_free (files);
  valley_config_free (c);
  scratch_remove (dir);
}

/* ---- values ---- */

/* A weight that is no number is not refused when a file is opened (17 GB would have to be read),
 * but it is an error of the first token, never text. */
static void
test_infinite_weight (void)
{
  static const guint16 odd[] = { 0x7c00, 0xfe01 };        /* infinity, a NaN */
  g_autofree char *golden = golden_dir ("pixel-shuffle"); /* f16 */
  g_autofree char *path = g_build_filename (golden, "model.safetensors", NULL);
  g_autofree char *bytes = NULL;
  gsize length;

  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  for (guint i = 0; i < 2 * G_N_ELEMENTS (odd); i++) {
    ValleyRequest request = { .prompt = QUESTION, .max_new_tokens = 2 };
    ValleyPrecision precision = i & 1 ? VALLEY_PRECISION_BF16 : VALLEY_PRECISION_F32;
    char *dir = scratch_new ();
    g_autoptr (GError) error = NULL;
    Fixture f;

    scratch_copy (dir, golden);
    memcpy (bytes + first_byte (dir, "model.norm.weight"), &odd[i / 2], 2);
    scratch_write (dir, "model.safetensors", bytes, length);
    fixture_open (&f, dir, precision);
    fixture_push_frames (&f, 0, 1);
    g_assert_false (fixture_run (&f, &request, &error));
    g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
    fixture_close (&f);
    scratch_remove (dir);
  }
}

/* ---- stop tokens ---- */

/* Two rows of the head change places in a folder's model.safetensors: one token's score becomes
 * the other's. */
static void
swap_scores (const char *dir, gsize row_bytes, gsize a, gsize b)
{
  g_autofree char *path = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *bytes = NULL, *row = NULL;
  gsize length, head = first_byte (dir, "lm_head.weight");

  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  row = g_memdup2 (bytes + head + a * row_bytes, row_bytes);
  memcpy (bytes + head + a * row_bytes, bytes + head + b * row_bytes, row_bytes);
  memcpy (bytes + head + b * row_bytes, row, row_bytes);
  scratch_write (dir, "model.safetensors", bytes, length);
}

static void
assert_stops (const char *dir, const char *generation, const char *reason, guint n_tokens)
{
  Answer answer;
  Fixture f;

  scratch_write (dir, "generation_config.json", generation, strlen (generation));
  fixture_open (&f, dir, VALLEY_PRECISION_F32);
  fixture_push_frames (&f, 0, 1);
  fixture_ask (&f, 8, &answer);
  g_assert_cmpstr (valley_session_result (f.session)->finish_reason, ==, reason);
  g_assert_cmpuint (answer.n_ids, ==, n_tokens);
  answer_clear (&answer);
  fixture_close (&f);
}

/* The release's config.json names one stop token; <|endoftext|> is another unless
 * generation_config.json says otherwise. */
static void
test_end_of_text (void)
{
  g_autofree char *golden = golden_dir ("ovis-softmax");
  char *dir = scratch_new ();
  gint32 end, chosen;
  guint place = 1;
  Answer answer;
  Fixture f;

  fixture_open (&f, golden, VALLEY_PRECISION_F32);
  fixture_push_frames (&f, 0, 1);
  fixture_ask (&f, 8, &answer);
  g_assert_cmpuint (answer.n_ids, ==, 8);
  while (place < 7 && answer.ids[place] == answer.ids[place - 1])
    place++;
  for (guint i = 0; i < place; i++)
    g_assert_cmpint (answer.ids[i], !=, answer.ids[place]);
  chosen = answer.ids[place];
  end = valley_tokenizer_lookup (f.model->tokenizer, "<|endoftext|>");
  scratch_copy (dir, golden);
  swap_scores (dir, f.model->config->llm.hidden_size * sizeof (float), (gsize) chosen, (gsize) end);
  answer_clear (&answer);
  fixture_close (&f);

  assert_stops (dir, "{}", "stop", place + 1);
  assert_stops (dir, "{\"eos_token_id\":[0]}", "length", 8);
  scratch_remove (dir);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("GOLDEN_DIR"));
  g_test_add_func ("/checkpoint/missing", test_missing);
  g_test_add_func ("/checkpoint/misshapen", test_misshapen);
  g_test_add_func ("/checkpoint/misshapen-rows", test_misshapen_rows);
  g_test_add_func ("/checkpoint/wrong-type", test_wrong_type);
  g_test_add_func ("/checkpoint/truncated", test_truncated);
  g_test_add_func ("/checkpoint/tokenizer-without-id", test_tokenizer_without_id);
  g_test_add_func ("/checkpoint/nan", test_nan);
  g_test_add_func ("/checkpoint/tied", test_tied);
  g_test_add_func ("/checkpoint/release-layout", test_release_layout);
  g_test_add_func ("/checkpoint/inspect", test_inspect);
  g_test_add_func ("/checkpoint/inspect-garbage", test_inspect_garbage);
  g_test_add_func ("/checkpoint/infinite-weight", test_infinite_weight);
  g_test_add_func ("/checkpoint/end-of-text", test_end_of_text);
  return g_test_run ();
}
