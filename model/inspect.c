/* inspect.c - a report on a checkpoint folder, for people or as JSON.  It takes the same walk
 * over the tensors as loading does, but reads no weight, and goes on after a problem.
 * SPDX-License-Identifier: Apache-2.0 */
#include <json-glib/json-glib.h>

#include "devices.h"
#include "engine.h"

typedef struct {
  const char *dir;
  ValleyConfig *config;     /* NULL when config.json is bad */
  ValleySafetensors *files; /* NULL when there are none that can be read */
  ValleyWeights *weights;   /* NULL unless both are there */
  GPtrArray *problems;      /* of char: what is wrong besides single tensors */
} Report;

static void
note_problem (Report *report, GError **error)
{
  g_ptr_array_add (report->problems, g_strdup ((*error)->message));
  g_clear_error (error);
}

static void
check_tokenizer (Report *report)
{
  GError *error = NULL;
  ValleyTokenizer *tokenizer
      = valley_tokenizer_open (report->dir, report->config->llm.vocab_size, &error);
  ValleyPrompt *prompt = NULL;

  if (tokenizer != NULL)
    prompt = valley_prompt_new (tokenizer, report->config->use_special_start_end_token, &error);
  if (error != NULL)
    note_problem (report, &error);
  valley_prompt_free (prompt);
  valley_tokenizer_free (tokenizer);
}

static void
examine (Report *report)
{
  GError *error = NULL;
  ValleyStages stages;

  report->config = valley_config_read (report->dir, &error);
  if (report->config == NULL)
    note_problem (report, &error);
  report->files = valley_safetensors_open (report->dir, &error);
  if (report->files == NULL)
    note_problem (report, &error);
  if (report->config == NULL)
    return;
  check_tokenizer (report);
  if (report->files == NULL)
    return;
  report->weights = valley_weights_new (report->files, NULL, NULL);
  valley_stages_init (&stages, report->config, report->weights);
  valley_stages_clear (&stages);
  if (valley_weights_failure (report->weights) != NULL) {
    error = g_error_copy (valley_weights_failure (report->weights));
    note_problem (report, &error);
  }
}

static void
report_clear (Report *report)
{
  valley_weights_free (report->weights);
  valley_safetensors_free (report->files);
  valley_config_free (report->config);
  g_ptr_array_unref (report->problems);
}

/* ---- what both forms say ---- */

static gboolean
is_complete (const Report *report)
{
  return report->weights != NULL && report->problems->len == 0
         && valley_weights_problems (report->weights)->len == 0;
}

static const char *
tensor_status (const Report *report, const ValleySafetensor *tensor)
{
  if (report->weights == NULL)
    return "unknown";
  if (valley_weights_is_misshapen (report->weights, tensor->name))
    return "misshapen";
  if (valley_weights_is_used (report->weights, tensor->name))
    return "used";
  return valley_weights_is_ignored (report->weights, tensor->name) ? "known-unused" : "unused";
}

static gboolean
is_unused (const Report *report, const ValleySafetensor *tensor)
{
  const char *status = tensor_status (report, tensor);

  return g_str_equal (status, "unused") || g_str_equal (status, "known-unused");
}

/* The connector and what follows it: "identity_patch + minicpm_resampler". */
static char *
connector_name (const ValleyConfig *config)
{
  GString *name = g_string_new (config->connector.name);

  if (config->connector.hard)
    g_string_append (name, " (st_argmax)");
  for (gsize i = 0; i < config->n_compressors; i++)
    g_string_append_printf (name, " + %s", config->compressors[i].name);
  return g_string_free (name, FALSE);
}

static const char *
llm_name (const ValleyLlmConfig *llm)
{
  return llm->type == VALLEY_LLM_QWEN3 ? "Qwen3" : "Qwen2";
}

/* One token's keys and values in all layers. */
static gsize
kv_bytes_per_token (const ValleyLlmConfig *llm, ValleyDType dtype)
{
  return 2 * llm->n_layers * llm->n_kv_heads * llm->head_dim * valley_dtype_bytes (dtype);
}

/* What a model opened here with device=auto runs on. */
static ValleyDevice
auto_device (void)
{
  ValleyModelOptions options = { .device = "auto" };
  ValleyDevice device;

  valley_device_resolve (&options, &device, NULL);
  return device;
}

/* ---- JSON ---- */

static void
add_size (JsonBuilder *b, const char *key, gsize value)
{
  json_builder_set_member_name (b, key);
  json_builder_add_int_value (b, (gint64) value);
}

static void
add_string (JsonBuilder *b, const char *key, const char *value)
{
  json_builder_set_member_name (b, key);
  json_builder_add_string_value (b, value);
}

static void
add_architecture (JsonBuilder *b, const ValleyConfig *c)
{
  json_builder_set_member_name (b, "architecture");
  json_builder_begin_object (b);
  if (c != NULL) {
    add_string (b, "model_type", "valley");
    if (c->has_siglip) {
      g_autofree char *connector = connector_name (c);

      add_string (b, "connector", connector);
      add_size (b, "siglip_layers", c->siglip.n_layers);
      add_size (b, "siglip_width", c->siglip.hidden_size);
      add_size (b, "tokens_per_tile", valley_config_tile_tokens (c, 1));
    }
    if (c->has_eagle) {
      add_size (b, "eagle_layers", c->eagle.depth);
      add_size (b, "eagle_width", c->eagle.embed_dim);
      add_size (b, "eagle_merger_width", c->eagle.merger_dim);
    }
    add_string (b, "llm", llm_name (&c->llm));
    add_size (b, "llm_layers", c->llm.n_layers);
    add_size (b, "llm_width", c->llm.hidden_size);
    add_size (b, "heads", c->llm.n_heads);
    add_size (b, "kv_heads", c->llm.n_kv_heads);
    add_size (b, "head_dim", c->llm.head_dim);
    add_size (b, "vocabulary", c->llm.vocab_size);
    add_size (b, "context", c->llm.max_position_embeddings);
  }
  json_builder_end_object (b);
}

static void
add_tensors (JsonBuilder *b, const Report *report)
{
  gsize n = report->files != NULL ? valley_safetensors_n_tensors (report->files) : 0;

  json_builder_set_member_name (b, "tensors");
  json_builder_begin_array (b);
  for (gsize i = 0; i < n; i++) {
    const ValleySafetensor *tensor = valley_safetensors_get (report->files, i);
    g_autofree char *file = g_path_get_basename (tensor->path);

    json_builder_begin_object (b);
    add_string (b, "name", tensor->name);
    add_string (b, "dtype", tensor->type);
    json_builder_set_member_name (b, "shape");
    json_builder_begin_array (b);
    for (gsize d = 0; d < tensor->n_dims; d++)
      json_builder_add_int_value (b, (gint64) tensor->shape[d]);
    json_builder_end_array (b);
    add_string (b, "file", file);
    add_size (b, "bytes", tensor->bytes);
    add_string (b, "status", tensor_status (report, tensor));
    json_builder_end_object (b);
  }
  json_builder_end_array (b);
}

static void
add_missing (JsonBuilder *b, const GPtrArray *problems)
{
  json_builder_set_member_name (b, "missing");
  json_builder_begin_array (b);
  for (guint i = 0; problems != NULL && i < problems->len; i++) {
    const ValleyWeightProblem *problem = g_ptr_array_index (problems, i);

    if (problem->found == NULL)
      json_builder_add_string_value (b, problem->name);
  }
  json_builder_end_array (b);
}

static void
add_misshapen (JsonBuilder *b, const GPtrArray *problems)
{
  json_builder_set_member_name (b, "misshapen");
  json_builder_begin_array (b);
  for (guint i = 0; problems != NULL && i < problems->len; i++) {
    const ValleyWeightProblem *problem = g_ptr_array_index (problems, i);

    if (problem->found == NULL)
      continue;
    json_builder_begin_object (b);
    add_string (b, "name", problem->name);
    add_string (b, "expected", problem->expected);
    add_string (b, "found", problem->found);
    json_builder_end_object (b);
  }
  json_builder_end_array (b);
}

static void
add_unused (JsonBuilder *b, const Report *report)
{
  gsize n = report->weights != NULL ? valley_safetensors_n_tensors (report->files) : 0;

  json_builder_set_member_name (b, "unused");
  json_builder_begin_array (b);
  for (gsize i = 0; i < n; i++) {
    const ValleySafetensor *tensor = valley_safetensors_get (report->files, i);

    if (is_unused (report, tensor))
      json_builder_add_string_value (b, tensor->name);
  }
  json_builder_end_array (b);
}

static void
add_memory (JsonBuilder *b, const Report *report)
{
  json_builder_set_member_name (b, "memory");
  json_builder_begin_object (b);
  if (report->weights != NULL) {
    const ValleyLlmConfig *llm = &report->config->llm;

    add_size (b, "weights_bytes", valley_weights_used_bytes (report->weights));
    add_size (b, "kv_bytes_per_token", kv_bytes_per_token (llm, VALLEY_BF16));
    add_size (b, "kv_bytes_per_token_f32", kv_bytes_per_token (llm, VALLEY_F32));
  }
  json_builder_end_object (b);
}

static char *
report_to_json (const Report *report)
{
  ValleyDevice device = auto_device ();
  const GPtrArray *problems
      = report->weights != NULL ? valley_weights_problems (report->weights) : NULL;
  g_autoptr (JsonBuilder) b = json_builder_new_immutable ();
  g_autoptr (JsonNode) root = NULL;

  json_builder_begin_object (b);
  add_architecture (b, report->config);
  json_builder_set_member_name (b, "complete");
  json_builder_add_boolean_value (b, is_complete (report));
  add_tensors (b, report);
  add_missing (b, problems);
  add_unused (b, report);
  add_misshapen (b, problems);
  add_memory (b, report);
  add_string (b, "auto_device", device.name);
  json_builder_set_member_name (b, "problems");
  json_builder_begin_array (b);
  for (guint i = 0; i < report->problems->len; i++)
    json_builder_add_string_value (b, g_ptr_array_index (report->problems, i));
  json_builder_end_array (b);
  json_builder_end_object (b);
  root = json_builder_get_root (b);
  return json_to_string (root, TRUE);
}

/* ---- text ---- */

static void
print_architecture (GString *out, const ValleyConfig *c)
{
  if (c->has_siglip) {
    g_autofree char *connector = connector_name (c);

    g_string_append_printf (out,
                            "SigLIP tower      %" G_GSIZE_FORMAT " blocks, width %" G_GSIZE_FORMAT
                            ", %" G_GSIZE_FORMAT " x %" G_GSIZE_FORMAT
                            " pixels\nConnector         %s, %s%" G_GSIZE_FORMAT " tokens a tile\n",
                            c->siglip.n_layers, c->siglip.hidden_size, c->siglip.image_size,
                            c->siglip.image_size, connector, c->tokens_vary ? "at most " : "",
                            valley_config_tile_tokens (c, 1));
  }
  if (c->has_eagle)
    g_string_append_printf (
        out,
        "Eagle tower       %" G_GSIZE_FORMAT " blocks, width %" G_GSIZE_FORMAT
        ", merger %" G_GSIZE_FORMAT ", at most %" G_GSIZE_FORMAT " pixels a frame\n",
        c->eagle.depth, c->eagle.embed_dim, c->eagle.merger_dim, c->eagle.frame_max_pixels);
  g_string_append_printf (
      out,
      "Language model    %s, %" G_GSIZE_FORMAT " layers, width %" G_GSIZE_FORMAT
      ", %" G_GSIZE_FORMAT " heads of %" G_GSIZE_FORMAT " (%" G_GSIZE_FORMAT
      " for keys), vocabulary %" G_GSIZE_FORMAT ", context %" G_GSIZE_FORMAT "\n",
      llm_name (&c->llm), c->llm.n_layers, c->llm.hidden_size, c->llm.n_heads, c->llm.head_dim,
      c->llm.n_kv_heads, c->llm.vocab_size, c->llm.max_position_embeddings);
}

static void
print_memory (GString *out, const Report *report)
{
  g_autofree char *size
      = g_format_size_full (valley_weights_used_bytes (report->weights), G_FORMAT_SIZE_LONG_FORMAT);

  g_string_append_printf (out,
                          "Memory            weights %s; a token's keys and values %" G_GSIZE_FORMAT
                          " bytes in bf16, %" G_GSIZE_FORMAT " in f32\n",
                          size, kv_bytes_per_token (&report->config->llm, VALLEY_BF16),
                          kv_bytes_per_token (&report->config->llm, VALLEY_F32));
}

static void
print_tensors (GString *out, const Report *report)
{
  gsize n = valley_safetensors_n_tensors (report->files);

  g_string_append_printf (out, "\nTensors (%" G_GSIZE_FORMAT ")\n", n);
  for (gsize i = 0; i < n; i++) {
    const ValleySafetensor *tensor = valley_safetensors_get (report->files, i);
    g_autofree char *shape = valley_shape_to_string (tensor->shape, tensor->n_dims);
    g_autofree char *file = g_path_get_basename (tensor->path);

    g_string_append_printf (out, "  %-5s %-22s %-12s %s  (%s)\n", tensor->type, shape,
                            tensor_status (report, tensor), tensor->name, file);
  }
}

static void
print_problems (GString *out, const Report *report)
{
  const GPtrArray *problems
      = report->weights != NULL ? valley_weights_problems (report->weights) : NULL;

  for (guint i = 0; i < report->problems->len; i++)
    g_string_append_printf (out, "Problem: %s\n", (char *) g_ptr_array_index (report->problems, i));
  for (guint i = 0; problems != NULL && i < problems->len; i++) {
    const ValleyWeightProblem *problem = g_ptr_array_index (problems, i);

    g_string_append_printf (out, "%s: %s: expected %s%s%s\n",
                            problem->found != NULL ? "Misshapen" : "Missing", problem->name,
                            problem->expected, problem->found != NULL ? ", found " : "",
                            problem->found != NULL ? problem->found : "");
  }
}

static char *
report_to_text (const Report *report)
{
  GString *out = g_string_new (NULL);
  ValleyDevice device = auto_device ();

  g_string_append_printf (out, "%s\n\n", report->dir);
  if (report->config != NULL)
    print_architecture (out, report->config);
  if (report->weights != NULL)
    print_memory (out, report);
  g_string_append_printf (out, "Device            %s, unless told otherwise\n", device.name);
  if (report->files != NULL)
    print_tensors (out, report);
  g_string_append_c (out, '\n');
  print_problems (out, report);
  g_string_append (out, is_complete (report) ? "Complete: this checkpoint can be run.\n"
                                             : "Incomplete: this checkpoint cannot be run.\n");
  return g_string_free (out, FALSE);
}

char *
valley_inspect (const char *dir, gboolean json, gboolean *complete, GError **error)
{
  Report report = { .dir = dir };
  char *text;

  if (dir == NULL || !g_file_test (dir, G_FILE_TEST_IS_DIR)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND,
                 "%s: no such folder; expected one with config.json and model.safetensors",
                 dir != NULL ? dir : "(none)");
    return NULL;
  }
  report.problems = g_ptr_array_new_with_free_func (g_free);
  examine (&report);
  if (complete != NULL)
    *complete = is_complete (&report);
  text = json ? report_to_json (&report) : report_to_text (&report);
  report_clear (&report);
  return text;
}
