# SPDX-License-Identifier: Apache-2.0
"""A Spec as modules with seeded weights, and as a folder in Valley2's layout."""

import json
import os

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, SiglipVisionConfig, SiglipVisionModel
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from compressors import Compressors
from connectors import Connector

PREFIX = {
    "siglip": "model.vision_tower.vision_tower.",
    "connector": "model.mm_projector.",
    "compressors": "model.token_compressor.",
    "eagle": "model.qwen2vl_vision_tower.",
    "llm": "",
}


EAGER = dict(attn_implementation="eager")


def _language(spec, vocabulary: int) -> nn.Module:
    config, model = {"Qwen2": (Qwen2Config, Qwen2ForCausalLM), "Qwen3": (Qwen3Config, Qwen3ForCausalLM)}[spec.decoder]
    return model(config(**spec.llm, vocab_size=vocabulary, max_position_embeddings=1024,
                        tie_word_embeddings=spec.tied, use_cache=False, sliding_window=None, **EAGER))


def _eagle(spec) -> nn.Module:
    """Qwen2-VL's tower; Valley2.5's merger is the same with another width between its two layers."""
    hidden = spec.llm["hidden_size"]
    model = Qwen2VisionTransformerPretrainedModel(Qwen2VLVisionConfig(
        **{k: v for k, v in spec.eagle.items() if "pixels" not in k}, hidden_size=hidden, **EAGER))
    if spec.merger:
        merged = model.merger.mlp[0].in_features
        model.merger.mlp = nn.Sequential(nn.Linear(merged, spec.merger), nn.GELU(), nn.Linear(spec.merger, hidden))
    return model


def modules(spec, vocabulary: int) -> dict:
    """The parts, weights not yet set. Attention is the plain one ("eager")."""
    parts = {"eagle": _eagle(spec), "llm": _language(spec, vocabulary)}
    if not spec.siglip:
        return parts
    # The pooling head is in the release's file and unused; one golden carries it too.
    vision = SiglipVisionConfig(**spec.siglip, vision_use_head=bool(spec.image), **EAGER)
    side = spec.siglip["image_size"] // spec.siglip["patch_size"]
    width, hidden = spec.siglip["hidden_size"], spec.llm["hidden_size"]
    return {
        "siglip": SiglipVisionModel(vision),
        "connector": Connector(spec.connector, side, width, hidden),
        "compressors": Compressors(spec.connector.get("token_compressor_config"), width, hidden),
        **parts,
    }


def _values(name: str, tensor: torch.Tensor, rng) -> torch.Tensor:
    """Weights that make every term count: norms off 1, biases off 0, queries and
    keys large enough for attention that is not an average."""
    noise = torch.randn(tensor.shape, generator=rng)
    if name.endswith("bias"):
        return 0.2 * noise
    if tensor.dim() == 1:
        return (1.6 if "q_norm" in name or "k_norm" in name else 1.0) + 0.2 * noise
    if "embed_tokens" in name or "position_embedding" in name or name == "connector.embedding.weight":
        return 0.7 * noise
    gain = 1.6 if any(k in name for k in ("q_proj", "k_proj", "qkv", "lm_head", "connector.mlp.0")) else 1.0
    return gain * noise / (tensor[0].numel() ** 0.5)


def set_weights(parts: dict, spec, tokenizer, seed: int) -> None:
    """Seeded, then rounded to the type of the file: what is computed from is what is stored.
    With a tokenizer, words that cannot be printed are made unlikely."""
    rng = torch.Generator().manual_seed(seed)
    for part, module in parts.items():
        module.eval()
        with torch.no_grad():
            for name, tensor in sorted(module.state_dict().items()):
                scale = 0.02 if f"{part}.{name}".startswith(spec.quiet) else 1.0
                tensor.copy_((scale * _values(f"{part}.{name}", tensor, rng)).to(spec.dtype))
    if tokenizer is None:
        return
    # An answer of printable ASCII: how half a character or a marker is shown is
    # the tokenizer tests' matter.
    head = parts["llm"].lm_head.weight
    with torch.no_grad():
        for i in range(head.shape[0]):
            text = tokenizer.decode([i])
            if not (text.isascii() and text.isprintable() and text):
                head[i] *= 0.25


def _connector_keys(spec) -> dict:
    return {"mm_hidden_size": spec.siglip["hidden_size"], **spec.connector}


def _tile_keys(spec) -> dict:
    side = spec.siglip["image_size"] // spec.siglip["patch_size"]
    shuffle = spec.connector.get("pixelshuffle_downsample_ratio")
    return {
        "vit_crop_size": spec.siglip["image_size"],
        "vit_patch_size": spec.siglip["patch_size"],
        "num_patches_per_side": side // shuffle if shuffle else (side + 1) // 2,
    }


def config(spec, tokenizer, vocabulary: int) -> dict:
    """The release's keys, and the two objects that give the towers' sizes."""
    return {
        "model_type": "valley",
        "architectures": [f"Valley{spec.decoder}ForCausalLM"],
        **spec.llm,
        "vocab_size": vocabulary,
        "max_position_embeddings": 1024,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "tie_word_embeddings": spec.tied,
        "rope_scaling": None,
        "use_sliding_window": False,
        "torch_dtype": str(spec.dtype).split(".")[1],
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "eagle_vision_tower": "Qwen/Qwen2-VL-7B-Instruct",
        **(_connector_keys(spec) if spec.siglip else {"only_navit": True}),
        **({"navit_merger_hidden_dim": spec.merger} if spec.merger else {}),
        "anyres": True,
        "only_crop_single_image": True,
        "grid_pinpoints": "(1x1),...,(3x3)",
        **(_tile_keys(spec) if spec.siglip else {}),
        "max_vision_token": 100000,
        "frame_max_pixels": spec.eagle["max_pixels"],
        "max_pixels": spec.eagle["max_pixels"],
        "use_special_start_end_token": True,
        **spec.extra,
        **({"vision_config": spec.siglip} if spec.siglip else {}),
        "eagle_config": {**spec.eagle, "hidden_size": spec.llm["hidden_size"]},
    }


def _write_json(folder: str, name: str, data) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1, ensure_ascii=False)
        f.write("\n")


def save(folder: str, parts: dict, spec, configuration: dict, stop_ids) -> None:
    tensors = {
        PREFIX[part] + name: tensor.to(spec.dtype).contiguous()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
        if not (spec.tied and name == "lm_head.weight")
    }
    _write_json(folder, "config.json", configuration)
    _write_json(folder, "generation_config.json", {"eos_token_id": stop_ids, "do_sample": False})
    if spec.shards == 1:
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        return
    names = sorted(tensors)
    files = [f"model-{i + 1:05}-of-{spec.shards:05}.safetensors" for i in range(spec.shards)]
    home = {name: files[i * spec.shards // len(names)] for i, name in enumerate(names)}
    for file in files:
        save_file({n: tensors[n] for n in names if home[n] == file}, os.path.join(folder, file), metadata={"format": "pt"})
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    _write_json(folder, "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": home})
