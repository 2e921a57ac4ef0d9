/* config.h - config.json (and generation_config.json) as checked plain numbers.
 * Every value is range-checked here, so that no later file meets an absurd one.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef enum {
  VALLEY_CONNECTOR_OVIS_CONV_ADAPTER, /* conv, then the visual vocabulary */
  VALLEY_CONNECTOR_CONV_ADAPTER,      /* mlp, then conv */
  VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE
} ValleyConnectorType;

typedef struct {
  gsize hidden_size, intermediate_size, n_layers, n_heads, image_size, patch_size;
  float layer_norm_eps;
  gsize side; /* patches a side: image_size / patch_size, the rest is never read */
} ValleySiglipConfig;

typedef struct {
  gsize depth, embed_dim, hidden_size /* output */, n_heads, mlp_dim, patch_size,
      temporal_patch_size, spatial_merge_size;
  gsize merger_dim;             /* hidden width of the merger's MLP */
  gsize min_pixels, max_pixels; /* smart_resize's bounds for a still image */
  gsize frame_max_pixels;       /* and for a frame of a window */
} ValleyEagleConfig;

typedef enum {
  VALLEY_LLM_QWEN2, /* Valley2 */
  VALLEY_LLM_QWEN3  /* Valley2.5 */
} ValleyLlmType;

typedef struct {
  ValleyLlmType type;
  gsize hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, head_dim, vocab_size,
      max_position_embeddings;
  gboolean qkv_bias, o_bias; /* which projections of the attention have one */
  gboolean qk_norm;          /* queries and keys are normalised, each head on its own */
  float rms_norm_eps;
  double rope_theta;
  gboolean tie_word_embeddings;
} ValleyLlmConfig;

typedef struct {
  ValleyConnectorType type;
  gsize in_size;       /* mm_hidden_size */
  gsize mlp_hidden;    /* mlp_hidden_dim: the visual vocabulary's size for ovis */
  gsize ratio;         /* pixelshuffle_downsample_ratio */
  gboolean hard;       /* tokenize_function st_argmax */
  gsize out_side;      /* tokens a side that leave the connector */
} ValleyConnectorConfig;

typedef struct {
  char *dir;
  gboolean has_siglip, has_eagle;
  ValleySiglipConfig siglip;
  ValleyEagleConfig eagle;
  ValleyConnectorConfig connector;
  ValleyLlmConfig llm;
  gboolean anyres, use_special_start_end_token;
  gsize max_vision_token;
  gsize crop_size;      /* vit_crop_size: a tile's side */
  gsize grid_max_rows, grid_max_cols; /* grid_pinpoints (1x1),...,(RxC) */
  gint32 *stop_ids;     /* generation_config.json's eos_token_id, else config.json's */
  gsize n_stop_ids;
  gboolean stop_ids_are_final; /* generation_config.json names them */
  double repetition_penalty; /* generation_config.json, else 1 */
} ValleyConfig;

/* Reads @dir/config.json and @dir/generation_config.json (optional).  NULL on error. */
ValleyConfig *valley_config_read (const char *dir, GError **error);
/* One more stop token, unless generation_config.json has decided or @id is negative. */
void valley_config_add_stop_id (ValleyConfig *config, gint32 id);
void valley_config_free (ValleyConfig *config);
