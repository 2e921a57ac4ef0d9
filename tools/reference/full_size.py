#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write a random checkpoint of Valley2's full size, to see what the real one will cost:

    full_size.py DIR [--tokenizer tokenizer.json] [--seed N]

8.9 billion bf16 parameters under the release's config, names and shapes, in four shards
with their index: 17.8 GB. Numbers are drawn and written a block at a time, so that
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
from release import ADDED, CONFIG, EAGLE, SIGLIP
from specs import Spec

NEEDED = 20_000_000_000     # bytes free before anything is written
SHARD = 5_000_000_000       # transformers' own limit for a file
BLOCK = 1 << 24             # numbers drawn at a time
HERE = os.path.dirname(os.path.abspath(__file__))


def shapes() -> dict:
    """Tensor name -> shape, from the modules themselves, which hold no memory here."""
    keys = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size", "num_hidden_layers")
    spec = Spec("release", 0, SIGLIP, EAGLE, {k: CONFIG[k] for k in keys}, CONFIG, [],
                image=(1, 1))  # for the pooling head, which the released files hold and nobody uses
    with torch.device("meta"):
        parts = checkpoint.modules(spec, CONFIG["vocab_size"])
    return {checkpoint.PREFIX[part] + name: list(tensor.shape)
            for part in ("llm", "siglip", "connector", "eagle")
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


def made_up_tokenizer(path: str, seed: int) -> None:
    """The small tokenizer with merges of random syllables up to the release's count."""
    data = json.loads(tiny_tokenizer.build().to_str())
    rng = random.Random(seed)
    vocabulary = {t: i for t, i in data["model"]["vocab"].items() if t not in ADDED}
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    words = [t for t in vocabulary if t.lstrip("\u0120").isalpha() and t.isascii() or t == "\u0120"]
    while len(vocabulary) < CONFIG["vocab_size"] - len(ADDED):
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


def check_place(folder: str) -> None:
    """Gigabytes do not belong into the repository, nor onto a disk without room for them."""
    top = os.path.dirname(os.path.dirname(HERE))
    if os.path.commonpath([top, os.path.realpath(folder)]) == top:
        sys.exit(f"{folder} lies inside the repository; expected a folder outside of it")
    os.makedirs(folder, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < NEEDED:
        sys.exit(f"{folder}: {free / 1e9:.1f} GB are free; expected at least {NEEDED / 1e9:.0f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--tokenizer", help="a tokenizer.json of the release's size")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    check_place(args.folder)
    tensors = shapes()
    shards = assign(tensors)
    rng, home = torch.Generator().manual_seed(args.seed), {}
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(os.path.join(args.folder, file), tensors, names, rng)
        home.update({name: file for name in names})
        print(f"{file}: {len(names)} tensors", flush=True)
    total = sum(math.prod(shape) for shape in tensors.values())
    write_json(args.folder, "model.safetensors.index.json", {"metadata": {"total_size": 2 * total}, "weight_map": home})
    write_json(args.folder, "config.json", CONFIG)
    target = os.path.join(args.folder, "tokenizer.json")
    if args.tokenizer:
        shutil.copyfile(args.tokenizer, target)
    else:
        made_up_tokenizer(target, args.seed)
    print(f"{total:,} parameters, {2 * total:,} bytes")


if __name__ == "__main__":
    main()
