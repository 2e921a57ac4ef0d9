/* config_llm.c - the language model's keys of config.json: which decoder it is, what of its
 * attention that decides, and its sizes.
 * SPDX-License-Identifier: Apache-2.0 */
#include "config_llm.h"

#include <string.h>

/* What transformers' Qwen3 falls back to, whatever the width. */
#define QWEN3_HEAD_DIM 128

static ValleyLlmType
read_type (ValleyReader *r)
{
  JsonNode *node = valley_reader_member (r, "architectures");
  JsonNode *first = NULL;
  const char *name = "";

  if (node == NULL)
    return VALLEY_LLM_QWEN2; /* the release's, where a file does not say */
  if (JSON_NODE_HOLDS_ARRAY (node) && json_array_get_length (json_node_get_array (node)) > 0)
    first = json_array_get_element (json_node_get_array (node), 0);
  if (first != NULL && valley_reader_is_type (first, G_TYPE_STRING))
    name = json_node_get_string (first);
  if (strcmp (name, "ValleyQwen3ForCausalLM") == 0)
    return VALLEY_LLM_QWEN3;
  if (strcmp (name, "ValleyQwen2ForCausalLM") != 0)
    valley_reader_complain (r, "architectures",
                            "[\"ValleyQwen2ForCausalLM\"] (Valley2) or "
                            "[\"ValleyQwen3ForCausalLM\"] (Valley2.5)");
  return VALLEY_LLM_QWEN2;
}

/* Qwen3's heads have a size of their own; Qwen2's share the width, unless a file says more. */
static void
read_heads (ValleyReader *r, ValleyLlmConfig *llm)
{
  gboolean shared = llm->type == VALLEY_LLM_QWEN2 && valley_reader_member (r, "head_dim") == NULL;

  llm->n_heads
      = valley_reader_size (r, "num_attention_heads", VALLEY_REQUIRED, 1, VALLEY_MAX_COUNT);
  llm->n_kv_heads
      = valley_reader_size (r, "num_key_value_heads", llm->n_heads, 1, VALLEY_MAX_COUNT);
  llm->head_dim = valley_reader_size (r, "head_dim",
                                      shared ? llm->hidden_size / llm->n_heads : QWEN3_HEAD_DIM, 1,
                                      VALLEY_MAX_WIDTH);
  if (shared && llm->hidden_size % llm->n_heads != 0)
    valley_reader_complain (r, "num_attention_heads", "a divisor of hidden_size %" G_GSIZE_FORMAT,
                            llm->hidden_size);
  else if (llm->head_dim == 0 || llm->head_dim % 2 != 0)
    valley_reader_complain (
        r, shared ? "num_attention_heads" : "head_dim",
        "a number that leaves each head an even size (rotary pairs), not %" G_GSIZE_FORMAT,
        llm->head_dim);
  if (llm->n_heads % llm->n_kv_heads != 0)
    valley_reader_complain (r, "num_key_value_heads",
                            "a divisor of num_attention_heads %" G_GSIZE_FORMAT, llm->n_heads);
}

/* Later transformers say it for each layer. */
static gboolean
is_full_everywhere (JsonNode *types)
{
  JsonArray *array = JSON_NODE_HOLDS_ARRAY (types) ? json_node_get_array (types) : NULL;

  for (guint i = 0; array != NULL && i < json_array_get_length (array); i++) {
    JsonNode *type = json_array_get_element (array, i);

    if (!valley_reader_is_type (type, G_TYPE_STRING)
        || strcmp (json_node_get_string (type), "full_attention") != 0)
      return FALSE;
  }
  return array != NULL;
}

static void
read_attention (ValleyReader *r, ValleyLlmConfig *llm)
{
  JsonNode *types = valley_reader_member (r, "layer_types");

  read_heads (r, llm);
  llm->qk_norm = llm->type == VALLEY_LLM_QWEN3;
  /* Qwen3's key is about all four projections; Qwen2 has no such key. */
  llm->o_bias = llm->type == VALLEY_LLM_QWEN3 && valley_reader_boolean (r, "attention_bias", FALSE);
  llm->qkv_bias = llm->type == VALLEY_LLM_QWEN2 || llm->o_bias;
  if (valley_reader_boolean (r, "use_sliding_window", FALSE))
    valley_reader_complain (r, "use_sliding_window",
                            "false (sliding-window attention is not supported)");
  if (types != NULL && !is_full_everywhere (types))
    valley_reader_complain (r, "layer_types", "\"full_attention\" for every layer");
}

static void
read_rope (ValleyReader *r, ValleyLlmConfig *llm)
{
  llm->rope_theta = valley_reader_double (r, "rope_theta", 10000, 1, 1e12);
  if (valley_reader_member (r, "rope_scaling") != NULL)
    valley_reader_complain (r, "rope_scaling", "null (scaled rotary embeddings are not supported)");
  /* Later transformers move the base in there: no default may stand in for it. */
  if (valley_reader_member (r, "rope_parameters") != NULL
      && valley_reader_member (r, "rope_theta") == NULL)
    valley_reader_complain (r, "rope_parameters", "none, but rope_theta as the releases have it");
}

void
valley_config_read_llm (ValleyReader *r, ValleyLlmConfig *llm)
{
  const char *activation = valley_reader_string (r, "hidden_act");

  llm->type = read_type (r);
  llm->hidden_size = valley_reader_size (r, "hidden_size", VALLEY_REQUIRED, 1, VALLEY_MAX_WIDTH);
  llm->intermediate_size
      = valley_reader_size (r, "intermediate_size", VALLEY_REQUIRED, 1, VALLEY_MAX_WIDTH);
  llm->n_layers = valley_reader_size (r, "num_hidden_layers", VALLEY_REQUIRED, 1, VALLEY_MAX_COUNT);
  llm->vocab_size = valley_reader_size (r, "vocab_size", VALLEY_REQUIRED, 1, VALLEY_MAX_VOCABULARY);
  llm->max_position_embeddings
      = valley_reader_size (r, "max_position_embeddings", 32768, 1, (gsize) 1 << 24);
  llm->rms_norm_eps = (float) valley_reader_double (r, "rms_norm_eps", 1e-6, 0, 1);
  llm->tie_word_embeddings = valley_reader_boolean (r, "tie_word_embeddings", FALSE);
  read_attention (r, llm);
  read_rope (r, llm);
  if (activation != NULL && strcmp (activation, "silu") != 0)
    valley_reader_complain (r, "hidden_act", "\"silu\"");
}
