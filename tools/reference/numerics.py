#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure how far 16-bit arithmetic leads away from f32, the engine's and torch's own:

    numerics.py VALLEY FOLDER [--seeds N ...] [--weights f32 bf16 f16]

VALLEY is the engine's command line. For every seed and type of weights a random
checkpoint of 177 M parameters in the release's proportions is written to FOLDER
(not in the repository: 710 MB in f32) and asked about the same two pictures by torch in
f32 and in bf16 and by the engine in both precisions. The table's figures are
distances from torch's f32: the largest one as a share of the stage's largest
magnitude, and the root mean square as a share of the stage's.

Exits with 1 where the engine's bf16 logits lie further off than torch's, or its f32
logits by more than 1e-4.
"""

import argparse
import math
import os
import subprocess
import sys

import numpy as np
import torch
from PIL import Image

import activations
import check_model
import checkpoint
import prompts
import release
import specs
import tiny_tokenizer

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
WAYS = ("engine f32", "engine bf16", "torch bf16")
VOCABULARY = 16384   # rows of the embedding; the small tokenizer uses the first few
PICTURES = ((336, 252), (280, 364))
STEPS = 12
QUESTION = "Describe the video."


def medium(seed: int, dtype) -> specs.Spec:
    """Half to a quarter of the release's widths, with its head sizes (72, 80, 128), seven query
    heads to a key head, and its ratios of inner width to width."""
    tower, eagle, config = release.SIGLIP, release.EAGLE, release.CONFIG
    hidden = config["hidden_size"] // 4
    return specs.Spec(
        "medium", seed,
        {**tower, "hidden_size": 576, "num_attention_heads": 8, "num_hidden_layers": 4,
         "intermediate_size": tower["intermediate_size"] // 2},
        {**eagle, "embed_dim": 640, "num_heads": 8, "depth": 4, "max_pixels": config["frame_max_pixels"]},
        dict(hidden_size=hidden, num_attention_heads=7, num_key_value_heads=1, num_hidden_layers=6,
             intermediate_size=config["intermediate_size"] // 4, rope_theta=config["rope_theta"],
             rms_norm_eps=config["rms_norm_eps"]),
        dict(mm_projector_type="ovis_conv_adapter", mlp_hidden_dim=8000, tokenize_function="softmax"),
        frames=[], dtype=dtype)


class Distance:
    """Of one way from the reference, over every tensor of a stage."""

    def __init__(self):
        self.worst = self.squares = self.reference = 0.0

    def add(self, got: torch.Tensor, want: torch.Tensor) -> None:
        if got.shape != want.shape or not got.isfinite().all():
            raise SystemExit(f"expected finite {tuple(want.shape)}, found {tuple(got.shape)}")
        off = got.double() - want.double()
        self.worst = max(self.worst, float(off.abs().max() / want.abs().max()))
        self.squares += float((off ** 2).sum())
        self.reference += float((want.double() ** 2).sum())

    def rms(self) -> float:
        return math.sqrt(self.squares / self.reference)


def score(parts, prompt: torch.Tensor, tokens, recorder) -> torch.Tensor:
    """The logits of each of `tokens`, given the prompt's rows and the tokens before it."""
    llm = parts["llm"]
    rows = torch.cat([prompt, llm.model.embed_tokens(torch.tensor(tokens[:-1], dtype=torch.long))])

    def keep(name):
        return lambda _module, _inputs, output: recorder.put(name, output[0][0, :len(prompt)])

    hooks = [layer.register_forward_hook(keep(f"llm.layer.{i}"))
             for i, layer in enumerate(llm.model.layers) if recorder]
    logits = llm(inputs_embeds=rows[None]).logits[0, len(prompt) - 1:]
    for hook in hooks:
        hook.remove()
    return logits


def run_torch(parts, spec, config, ids, paths):
    """The stages up to the prompt's rows, and those rows."""
    recorder = activations.Recorder()
    slots = check_model.encode(parts, recorder, spec, config, paths)
    prompt = activations.fill(parts, ids, slots)
    recorder.put("llm.embeddings", prompt)
    return recorder, prompt


def run_engine(valley: str, folder: str, paths, precision: str):
    """What the engine dumps; its logits apart."""
    dump = os.path.join(folder, "dump-" + precision)
    os.makedirs(dump, exist_ok=True)
    logits = os.path.join(dump, "logits.npy")
    subprocess.run([valley, "run", "--model", folder, "--precision", precision, "--prompt", QUESTION,
                    "--max-new-tokens", str(STEPS), "--dump", dump, "--logits", logits, "--frames", *paths],
                   check=True, stdout=subprocess.DEVNULL)
    return (lambda name: torch.from_numpy(np.load(os.path.join(dump, name + ".npy")))), torch.from_numpy(np.load(logits))


def stage_of(name: str) -> str:
    """Pictures are counted together."""
    return name.split(".", 2)[2] if name.startswith("frame.") else name


def measure(table, way: str, stages: dict, get) -> None:
    for name, want in stages.items():
        table.setdefault(stage_of(name), {}).setdefault(way, Distance()).add(get(name).float(), want)


def write(folder: str, seed: int, dtype):
    """A checkpoint and pictures to ask it about; what torch needs of them."""
    spec, tokenizer = medium(seed, dtype), tiny_tokenizer.build()
    parts = checkpoint.modules(spec, VOCABULARY)
    checkpoint.set_weights(parts, spec, None, seed)
    config = checkpoint.config(spec, tokenizer, VOCABULARY)
    checkpoint.save(folder, parts, spec, config, [VOCABULARY - 1])
    tiny_tokenizer.save(tokenizer, os.path.join(folder, "tokenizer.json"), True)
    rng, paths = np.random.default_rng(seed), []
    for i, size in enumerate(PICTURES):
        paths.append(os.path.join(folder, f"{i}.png"))
        Image.fromarray(activations.picture(rng, *size)).save(paths[-1])
    ids = prompts.build(tokenizer, "You are a helpful assistant.", QUESTION, len(paths))
    return parts, spec, config, ids, paths


def add_seed(table, valley: str, folder: str, seed: int, dtype) -> None:
    """Everything about one checkpoint into the table."""
    parts, spec, config, ids, paths = write(folder, seed, dtype)
    engine = {precision: run_engine(valley, folder, paths, precision) for precision in ("f32", "bf16")}
    exact, prompt = run_torch(parts, spec, config, ids, paths)
    tokens = engine["f32"][1].argmax(-1).tolist()
    logits = score(parts, prompt, tokens, exact)
    for precision, (get, own) in engine.items():
        measure(table, f"engine {precision}", exact.stages, get)
        # where two words score alike the answers may part: torch then scores the other one too
        taken = own.argmax(-1).tolist()
        want = logits if taken == tokens else score(parts, prompt, taken, None)
        measure(table, f"engine {precision}", {"logits": want}, {"logits": own}.get)

    rounded = {name: part.bfloat16() for name, part in parts.items()}
    recorder, prompt = run_torch(rounded, spec, config, ids, paths)
    own = score(rounded, prompt, tokens, recorder)
    measure(table, "torch bf16", exact.stages, recorder.stages.get)
    measure(table, "torch bf16", {"logits": logits}, {"logits": own}.get)


def interesting(stage: str, stages) -> bool:
    """Of a tower's blocks the first and the last."""
    head, _, number = stage.rpartition(".")
    return not number.isdigit() or number == "0" or f"{head}.{int(number) + 1}" not in stages


def report(kind: str, table: dict) -> None:
    print(f"\nWeights in {kind}:\n")
    print("| stage | " + " | ".join(f"{way}: max | rms" for way in WAYS) + " |")
    print("|---|" + "---|" * (2 * len(WAYS)))
    for stage, ways in table.items():
        if interesting(stage, table):
            cells = [f"{ways[way].worst:.1e} | {ways[way].rms():.1e}" for way in WAYS]
            print(f"| {stage} | " + " | ".join(cells) + " |", flush=True)


def near_enough(table: dict) -> bool:
    ours, theirs, same = (table["logits"][way] for way in ("engine bf16", "torch bf16", "engine f32"))
    return ours.rms() <= theirs.rms() and ours.worst <= theirs.worst and same.worst <= check_model.TOLERANCE


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("valley")
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--weights", choices=TYPES, nargs="+", default=list(TYPES))
    args = parser.parse_args()
    fine = True
    for kind in args.weights:
        table = {}
        for seed in args.seeds:
            folder = os.path.join(args.folder, kind)
            os.makedirs(folder, exist_ok=True)
            add_seed(table, args.valley, folder, seed, TYPES[kind])
        report(kind, table)
        fine &= near_enough(table)
    sys.exit(0 if fine else "the engine's logits are too far from torch's in f32")


if __name__ == "__main__":
    main()
