/* config.h - config.json (and generation_config.json) as checked plain numbers.
 * Every value is range-checked here, so that no later file meets an absurd one.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "valley.h"

typedef enum {
  VALLEY_CONNECTOR_OVIS_CONV_ADAPTER, /* conv, then the visual vocabulary */
  VALLEY_CONNECTOR_CONV_ADAPTER,      /* mlp, then conv */
  VALLEY_CONNECTOR_MLP_PIXEL_SHUFFLE,
  VALLEY_CONNECTOR_MLP,               /* linear, mlpNx_gelu */
  VALLEY_CONNECTOR_POOL_ADAPTER,      /* means of a coarser grid, then mlp */
  VALLEY_CONNECTOR_ADAPT_POOLER,      /* mlp, then means */
  VALLEY_CONNECTOR_ADAPT_PYRAPOOLER,  /* mlp, then maxima of four grids */
  VALLEY_CONNECTOR_IDENTITY
} ValleyConnectorType;

/* adapt_pyrapooler's: grids of 2, 3, 5 and 8 a side */
#define VALLEY_PYRAMID_TOKENS (4 + 9 + 25 + 64)

typedef enum {
  VALLEY_COMPRESSOR_AVGPOOL,
  VALLEY_COMPRESSOR_ROIPOOL,
  VALLEY_COMPRESSOR_EVO,
  VALLEY_COMPRESSOR_LAVIT,
  VALLEY_COMPRESSOR_MINICPM_RESAMPLER
} ValleyCompressorType;

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
  char *name;         /* mm_projector_type */
  gboolean keeps_cls; /* the official code's copy of patch 0 stays in front */
  gsize in_size;      /* mm_hidden_size */
  gsize mlp_hidden;   /* mlp_hidden_dim: the visual vocabulary's size for ovis */
  gsize n_layers;     /* linear layers of its mlp, a GELU between each two */
  gsize ratio;        /* pixelshuffle_downsample_ratio */
  gsize pool_side;    /* pool_out_size */
  gboolean hard;      /* tokenize_function st_argmax */
  gsize n_tokens;     /* of one tile that leave the connector */
} ValleyConnectorConfig;

/* One of token_compressor_config's list. */
typedef struct {
  ValleyCompressorType type;
  const char *name;
  gsize scale;         /* avgpool */
  gsize max_tokens;    /* roipool, of a tile or of all tiles together */
  gboolean all_tiles;
  double keep_ratio;   /* evo: its prune_ratio is what stays */
  gsize inner_size;    /* evo, lavit */
  gsize n_queries;     /* minicpm_resampler */
} ValleyCompressorConfig;

typedef struct {
  char *dir;
  gboolean has_siglip, has_eagle;
  ValleySiglipConfig siglip;
  ValleyEagleConfig eagle;
  ValleyConnectorConfig connector;
  ValleyCompressorConfig *compressors;
  gsize n_compressors;
  gboolean tokens_vary; /* a compressor keeps what it likes of each tile */
  ValleyLlmConfig llm;
  gboolean anyres, use_special_start_end_token;
  gsize max_vision_token;
  gsize patches_per_side; /* num_patches_per_side: of a tile's token grid; 0 when not given */
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

/* What @compressor leaves of a tile's @n_tokens (lavit: at most) in a picture of @n_tiles;
 * 0 when it cannot take so many. */
gsize valley_compressor_tokens (const ValleyCompressorConfig *compressor, gsize n_tokens,
                                gsize n_tiles);
/* The tokens of one tile after connector and compressors (with tokens_vary: at most), and
 * the side of the square grid that they are; 0 when they are none. */
gsize valley_config_tile_tokens (const ValleyConfig *config, gsize n_tiles);
gsize valley_config_tile_side (const ValleyConfig *config, gsize n_tiles);
/* The side of a square of @n; 0 unless @n is one. */
gsize valley_square_side (gsize n);
