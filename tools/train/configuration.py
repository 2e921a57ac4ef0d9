"""The bundled model's sizes, as the config.json of its checkpoint.

Keys are those of the released Valley2 checkpoints; `vision_config` and
`eagle_config` are ours, because a small model cannot use the release's constants.
"""

import json
import pathlib


def make(vocabulary, end_id, stop_id):
    hidden = 192
    return {
        "model_type": "valley",
        "architectures": ["ValleyQwen2ForCausalLM"],
        "anyres": True,
        "attention_dropout": 0.0,
        "bos_token_id": end_id,
        "eagle_vision_tower": "valley-tiny/eagle",
        "eos_token_id": stop_id,
        "frame_max_pixels": 12544,
        "grid_pinpoints": "(1x1),...,(3x3)",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "image_aspect_ratio": None,
        "image_grid_pinpoints": None,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "language": "english",
        "llm_name": "qwen2",
        "max_pixels": 12544,
        "max_position_embeddings": 4096,
        "max_tile_num": 9,
        "max_vision_token": 4096,
        "min_tile_num": 1,
        "mlp_hidden_dim": 512,
        "mm_hidden_size": 128,
        "mm_projector_type": "ovis_conv_adapter",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "cls_patch",
        "mm_vision_select_layer": -2,
        "mm_vision_siglip_select_layer": -1,
        "mm_vision_tower": "valley-tiny/siglip",
        "num_attention_heads": 6,
        "num_hidden_layers": 6,
        "num_key_value_heads": 2,
        "num_patches_per_side": 4,
        "only_crop_single_image": True,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "tokenize_function": "softmax",
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "use_special_start_end_token": True,
        "vit_crop_size": 112,
        "vit_patch_size": 14,
        "vocab_size": vocabulary,
        "vision_config": {
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": 112,
            "patch_size": 14,
            "layer_norm_eps": 1e-06,
        },
        "eagle_config": {
            "depth": 3,
            "embed_dim": 128,
            "num_heads": 4,
            "mlp_ratio": 4,
            "hidden_size": hidden,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "min_pixels": 3136,
            "max_pixels": 12544,
        },
    }


def load(folder):
    return json.loads((pathlib.Path(folder) / "config.json").read_text())
