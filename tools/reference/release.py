# SPDX-License-Identifier: Apache-2.0
"""The releases as data: config.json, the sizes that are not in it, the added tokens."""

CONFIG = {
    "model_type": "valley",
    "architectures": ["ValleyQwen2ForCausalLM"],
    "anyres": True,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eagle_vision_tower": "Qwen/Qwen2-VL-7B-Instruct",
    "eos_token_id": 151645,
    "frame_max_pixels": 153664,
    "grid_pinpoints": "(1x1),...,(3x3)",
    "hidden_act": "silu",
    "hidden_size": 3584,
    "image_aspect_ratio": None,
    "image_grid_pinpoints": None,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "language": "english",
    "llm_name": "qwen2",
    "max_pixels": 571536,
    "max_position_embeddings": 32768,
    "max_tile_num": 9,
    "max_vision_token": 100000,
    "max_window_layers": 28,
    "min_tile_num": 1,
    "mlp_hidden_dim": 32000,
    "mm_hidden_size": 1152,
    "mm_projector_type": "ovis_conv_adapter",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "cls_patch",
    "mm_vision_select_layer": -2,
    "mm_vision_siglip_select_layer": -1,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "num_patches_per_side": 14,
    "only_crop_single_image": True,
    "pixelshuffle_downsample_ratio": 3,
    "pool_out_size": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "tokenize_function": "softmax",
    "torch_dtype": "bfloat16",
    "training_stage": "stage2",
    "use_cache": True,
    "use_sliding_window": False,
    "use_special_start_end_token": True,
    "vit_crop_size": 384,
    "vit_patch_size": 14,
    "vocab_size": 151679,
}

# Valley2.5, as far as its authors' code and report tell: their file was not at hand.
CONFIG_25 = {
    **{k: CONFIG[k] for k in CONFIG if k not in ("language", "llm_name", "training_stage")},
    "architectures": ["ValleyQwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "max_window_layers": 36,
    "navit_merger_hidden_dim": 65536,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "only_navit": True,
    "vocab_size": 151936,
}

# The towers' sizes; config.json only names the towers.
SIGLIP = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
              image_size=384, patch_size=14, layer_norm_eps=1e-6)
EAGLE = dict(depth=32, embed_dim=1280, num_heads=16, mlp_ratio=4, patch_size=14, temporal_patch_size=2,
             spatial_merge_size=2, min_pixels=3136, max_pixels=12845056)

# After 151,643 tokens of the byte-level vocabulary: Qwen2.5's, then Valley's.
ADDED = """
<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>
<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
<im_start> <im_end> <vi_start> <vi_end> <cor> <\\cor> <SUMMARY> </SUMMARY> <CAPTION> </CAPTION>
<REASONING> </REASONING> <CONCLUSION> </CONCLUSION>
""".split()
