#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write a random checkpoint of Valley2's full size, to see what the real one will cost:

    full_size.py DIR [--model valley2.5] [--layers N] [--tokenizer tokenizer.json] [--seed N]

8.9 billion bf16 parameters under the release's config, names and shapes, in four shards
with their index: 17.8 GB. Valley2.5 has 9.4 billion; with --layers its decoder has fewer
layers, all else is as large as it is. Numbers are drawn and written a block at a time, so that
2 GB of memory are plenty. Without --tokenizer a made-up one of the same size and
layout is written; its words mean nothing, nor does what the model says.
"""

import argparse
import json
import math
import os
import random
import shutil
import sys

import torch

import checkpoint
import tiny_tokenizer
from qwen_tokenizer import ADDED
from release import CONFIG, CONFIG_25, EAGLE, SIGLIP
from specs import Spec

LEAST = 20_000_000_000      # bytes that must be free whatever is written
SPARE = 2_000_000_000       # bytes free beside what will be written
SHARD = 5_000_000_000       # transformers' own limit for a file
BLOCK = 1 << 24             # numbers drawn at a time
HERE = os.path.dirname(os.path.abspath(__file__))


def shapes(config: dict) -> dict:
    """Tensor name -> shape, from the modules themselves, which hold no memory here."""
    keys = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size", "num_hidden_layers",
            "head_dim", "attention_bias")
    spec = Spec("release", 0, {} if config.get("only_navit") else SIGLIP, EAGLE,
                {k: config[k] for k in keys if k in config}, config, [],
                decoder="Qwen3" if "Qwen3" in config["architectures"][0] else "Qwen2",
                merger=config.get("navit_merger_hidden_dim", 0),
                image=(1, 1))  # for the pooling head, which the released files hold and nobody uses
    with torch.device("meta"):
        parts = checkpoint.modules(spec, config["vocab_size"])
    return {checkpoint.PREFIX[part] + name: list(tensor.shape)
            for part in ("llm", "siglip", "connector", "eagle") if part in parts
            for name, tensor in parts[part].state_dict().items()}


def distribution(name: str, shape):
    """Mean and deviation that keep activations of ordinary size through every layer."""
    if name.endswith("bias"):
        return 0.0, 0.2
    if len(shape) == 1:
        return 1.0, 0.2
    if "embed_tokens" in name or "position_embedding" in name or name.endswith("mm_projector.embedding.weight"):
        return 0.0, 0.7
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))


def assign(tensors: dict):
    """Shards as lists of names, in order, none above the limit."""
    shards, room = [], 0
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        if size > room:
            shards.append([])
            room = SHARD
        shards[-1].append(name)
        room -= size
    return shards


def header(tensors: dict, names) -> bytes:
    entries, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        end = offset + 2 * math.prod(tensors[name])
        entries[name] = {"dtype": "BF16", "shape": tensors[name], "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_shard(path: str, tensors: dict, names, rng) -> None:
    with open(path, "wb") as f:
        f.write(header(tensors, names))
        for name in names:
            mean, deviation = distribution(name, tensors[name])
            left = math.prod(tensors[name])
            while left > 0:
                block = torch.randn(min(left, BLOCK), generator=rng).mul_(deviation).add_(mean)
                f.write(memoryview(block.to(torch.bfloat16).view(torch.uint8).numpy()))
                left -= block.numel()


def made_up_tokenizer(path: str, size: int, seed: int) -> None:
    """The small tokenizer with merges of random syllables up to the release's count."""
    data = json.loads(tiny_tokenizer.build().to_str())
    rng = random.Random(seed)
    vocabulary = {t: i for t, i in data["model"]["vocab"].items() if t not in ADDED}
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    words = [t for t in vocabulary if t.lstrip("\u0120").isalpha() and t.isascii() or t == "\u0120"]
    while len(vocabulary) < size - len(ADDED):
        left, right = rng.choice(words), rng.choice(words)
        if "\u0120" in right or len(left + right) > 12 or left + right in vocabulary:
            continue
        vocabulary[left + right] = len(vocabulary)
        words.append(left + right)
        merges.append(f"{left} {right}")
    data["model"].update(vocab=vocabulary, merges=merges)
    data["added_tokens"] = [
        dict(id=len(vocabulary) + i, content=token, single_word=False, lstrip=False, rstrip=False,
             normalized=False, special=True) for i, token in enumerate(ADDED)]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False)


def write_json(folder: str, name: str, data) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(data, f, indent=2)
        f.write("\n")


def check_place(folder: str, size: int) -> None:
    """Gigabytes do not belong into the repository, nor onto a disk without room for them."""
    top = os.path.dirname(os.path.dirname(HERE))
    if os.path.commonpath([top, os.path.realpath(folder)]) == top:
        sys.exit(f"{folder} lies inside the repository; expected a folder outside of it")
    os.makedirs(folder, exist_ok=True)
    free = shutil.disk_usage(folder).free
    wanted = max(LEAST, size + SPARE)
    if free < wanted:
        sys.exit(f"{folder}: {free / 1e9:.1f} GB are free; expected at least {wanted / 1e9:.1f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", choices=("valley2", "valley2.5"), default="valley2")
    parser.add_argument("--layers", type=int, help="of the decoder, instead of all")
    parser.add_argument("--tokenizer", help="a tokenizer.json of the release's size")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    config = dict(CONFIG_25 if args.model == "valley2.5" else CONFIG)
    config["num_hidden_layers"] = args.layers or config["num_hidden_layers"]
    tensors = shapes(config)
    total = sum(math.prod(shape) for shape in tensors.values())
    check_place(args.folder, 2 * total)
    shards = assign(tensors)
    rng, home = torch.Generator().manual_seed(args.seed), {}
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(os.path.join(args.folder, file), tensors, names, rng)
        home.update({name: file for name in names})
        print(f"{file}: {len(names)} tensors", flush=True)
    write_json(args.folder, "model.safetensors.index.json", {"metadata": {"total_size": 2 * total}, "weight_map": home})
    write_json(args.folder, "config.json", config)
    target = os.path.join(args.folder, "tokenizer.json")
    if args.tokenizer:
        shutil.copyfile(args.tokenizer, target)
    else:
        made_up_tokenizer(target, config["vocab_size"], args.seed)
    print(f"{total:,} parameters, {2 * total:,} bytes")


if __name__ == "__main__":
    main()
