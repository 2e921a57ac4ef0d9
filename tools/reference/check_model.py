#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare the engine with transformers on any checkpoint, the bundled one or your own:

    valley run --model DIR --frames A.png B.png --prompt TEXT --precision f32 --dump DUMP
    check_model.py DIR --frames A.png B.png --prompt TEXT --dump DUMP

Prints how far each stage is off, as a share of its largest magnitude, and exits
with 1 when a stage is missing or off by more than 1e-4. Everything is computed in
f32 on the CPU: the released 8.9 B parameters want 36 GB of memory.
"""

import argparse
import glob
import json
import os
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

import activations
import checkpoint
import prompts
from release import EAGLE, SIGLIP
from specs import Spec

TOLERANCE = 1e-4
LLM_KEYS = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size",
            "num_hidden_layers", "rope_theta", "rms_norm_eps", "head_dim", "attention_bias")
CONNECTOR_KEYS = ("mm_projector_type", "mlp_hidden_dim", "tokenize_function", "pixelshuffle_downsample_ratio",
                  "pool_out_size", "token_compressor_config")


def load(folder: str):
    """The checkpoint's parts with their weights, its towers' sizes and its config."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    eagle = {**EAGLE, **config.get("eagle_config", {})}
    eagle.pop("hidden_size", None)  # the language model's
    siglip = {} if config.get("only_navit") else {**SIGLIP, **config.get("vision_config", {})}
    decoder = "Qwen3" if config.get("architectures") == ["ValleyQwen3ForCausalLM"] else "Qwen2"
    spec = Spec("checkpoint", 0, siglip, eagle, {k: config[k] for k in LLM_KEYS if k in config},
                {k: config[k] for k in CONNECTOR_KEYS if k in config}, [], decoder=decoder,
                tied=config.get("tie_word_embeddings", False), merger=config.get("navit_merger_hidden_dim") or 0)
    parts = checkpoint.modules(spec, config["vocab_size"])
    weights = {}
    for file in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        weights.update({k: v.float() for k, v in load_file(file).items()})
    for part, module in parts.items():
        prefix = checkpoint.PREFIX[part]
        names = [name for name in module.state_dict() if not (spec.tied and name == "lm_head.weight")]
        module.load_state_dict({name: weights[prefix + name] for name in names}, strict=not spec.tied)
        module.eval()
    return parts, spec, config


def encode(parts, recorder, spec, config, paths):
    """Each picture's rows, resized as for a frame of a window."""
    slots, factor = [], spec.eagle["patch_size"] * spec.eagle["spatial_merge_size"]
    for i, path in enumerate(paths):
        image = Image.open(path).convert("RGB")
        height, width = smart_resize(image.height, image.width, factor=factor, min_pixels=spec.eagle["min_pixels"],
                                     max_pixels=config.get("frame_max_pixels", 153664))
        rows = []
        if spec.siglip:
            square = np.asarray(image.resize((spec.siglip["image_size"],) * 2, Image.BICUBIC))
            rows.append(activations.run_siglip(parts, recorder, f"frame.{i}", square))
        whole = np.asarray(image.resize((width, height), Image.BICUBIC))
        rows.append(activations.run_eagle(parts, recorder, f"frame.{i}", whole, spec.eagle))
        slots.append(torch.cat(rows))
    return slots


def compare(stages, dump: str) -> bool:
    """Print a line for each stage; the logits are not in a dump."""
    fine = True
    for name, want in stages.items():
        path = os.path.join(dump, name + ".npy")
        if name == "logits":
            continue
        if not os.path.exists(path):
            fine = False
            print(f"{name:32} missing")
            continue
        got = torch.from_numpy(np.load(path))
        same = got.shape == want.shape and bool(got.isfinite().all())
        off = float((got - want).abs().max() / want.abs().max()) if same else float("inf")
        fine &= off <= TOLERANCE
        print(f"{name:32} {str(tuple(want.shape)):>14}  {off:.2e}{'' if off <= TOLERANCE else '  WRONG'}")
    return fine


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--frames", nargs="+", required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--system", default="You are a helpful assistant.")
    parser.add_argument("--max-new-tokens", type=int, default=100)
    parser.add_argument("--dump", help="what the engine wrote; without it only the answer is printed")
    args = parser.parse_args()

    parts, spec, config = load(args.model)
    tokenizer = Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
    recorder = activations.Recorder()
    slots = encode(parts, recorder, spec, config, args.frames)
    ids = prompts.build(tokenizer, args.system, args.prompt, len(slots))
    stop = [tokenizer.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>")]
    tokens = activations.answer(parts, recorder, activations.fill(parts, ids, slots), args.max_new_tokens, stop)
    print(tokenizer.decode(tokens, skip_special_tokens=True))
    if args.dump and not compare(recorder.stages, args.dump):
        sys.exit(1)


if __name__ == "__main__":
    main()
