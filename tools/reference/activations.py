# SPDX-License-Identifier: Apache-2.0
"""Run a checkpoint's modules and keep every stage's output under the engine's names."""

import math

import numpy as np
import torch
from PIL import Image
from transformers import SiglipImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize

import prompts
import tiling


class Recorder:
    """Stage name -> tensor; `watch` records what a module returns."""

    def __init__(self):
        self.stages = {}

    def put(self, name: str, value: torch.Tensor) -> None:
        assert name not in self.stages
        self.stages[name] = value.detach().reshape(-1, value.shape[-1]).clone(memory_format=torch.contiguous_format)

    def watch(self, module, name: str):
        def hook(_module, _inputs, output):
            self.put(name, output[0] if isinstance(output, tuple) else output)
        return module.register_forward_hook(hook)


def _with_hooks(recorder, watched, run):
    hooks = [recorder.watch(module, name) for module, name in watched]
    try:
        return run()
    finally:
        for hook in hooks:
            hook.remove()


def run_siglip(parts, recorder, prefix: str, pixels: np.ndarray) -> torch.Tensor:
    """One square picture through the SigLIP tower, the connector and the token compressors."""
    model = parts["siglip"].vision_model
    values = SiglipImageProcessor(do_resize=False)(pixels, input_data_format="channels_last", return_tensors="pt").pixel_values
    watched = [(model.embeddings, f"{prefix}.siglip.embeddings")]
    watched += [(block, f"{prefix}.siglip.block.{i}") for i, block in enumerate(model.encoder.layers)]
    output = _with_hooks(recorder, watched, lambda: model(values)).last_hidden_state[0]
    recorder.put(f"{prefix}.siglip.output", output)
    tokens = parts["connector"](output)
    recorder.put(f"{prefix}.connector", tokens)
    for i, compressor in enumerate(parts["compressors"].compressor_list):
        tokens, = compressor([tokens])
        recorder.put(f"{prefix}.compressor.{i}", tokens)
    return tokens


def run_eagle(parts, recorder, prefix: str, pixels: np.ndarray, options: dict) -> torch.Tensor:
    """One picture through the Qwen2-VL tower."""
    model = parts["eagle"]
    processor = Qwen2VLImageProcessor(do_resize=False, patch_size=options["patch_size"],
                                      temporal_patch_size=options["temporal_patch_size"],
                                      merge_size=options["spatial_merge_size"])
    batch = processor(pixels, input_data_format="channels_last", return_tensors="pt")
    watched = [(model.patch_embed, f"{prefix}.eagle.embeddings"), (model.merger, f"{prefix}.eagle.output")]
    watched += [(block, f"{prefix}.eagle.block.{i}") for i, block in enumerate(model.blocks)]
    return _with_hooks(recorder, watched, lambda: model(batch.pixel_values, batch.image_grid_thw))


def picture(rng, width: int, height: int) -> np.ndarray:
    """Soft shapes with noise: neither flat nor pure noise."""
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    noise = rng.integers(-40, 41, (height, width, 3))
    return np.clip(np.asarray(coarse).astype(int) + noise, 0, 255).astype(np.uint8)


def _frames(parts, recorder, spec, rng, pixels):
    slots = []
    for i, (width, height) in enumerate(spec.frames):
        name, rows = f"frame.{i}", []
        if spec.siglip:
            square = spec.siglip["image_size"]
            pixels[f"{name}.siglip.pixels"] = picture(rng, square, square)
        pixels[f"{name}.eagle.pixels"] = picture(rng, width, height)
        if spec.siglip:
            rows.append(run_siglip(parts, recorder, name, pixels[f"{name}.siglip.pixels"]))
        rows.append(run_eagle(parts, recorder, name, pixels[f"{name}.eagle.pixels"], spec.eagle))
        slots.append(torch.cat(rows))
    return slots


def _image(parts, recorder, spec, rng, pixels):
    rgb = pixels["image.rgb"] = picture(rng, *spec.image)
    tiles, grid = tiling.cut(rgb, spec.siglip["image_size"])
    tokens = []
    for i, tile in enumerate(tiles):
        pixels[f"tile.{i}.pixels"] = tile
        tokens.append(run_siglip(parts, recorder, f"frame.{i}", tile))
    part = tiling.assemble(tokens, grid, spec.image, spec.extra["max_vision_token"])
    recorder.put("image.tokens", part)
    factor = spec.eagle["patch_size"] * spec.eagle["spatial_merge_size"]
    height, width = smart_resize(spec.image[1], spec.image[0], factor=factor, min_pixels=spec.eagle["min_pixels"],
                                 max_pixels=spec.eagle["max_pixels"])
    whole = np.asarray(Image.fromarray(rgb).resize((width, height), Image.BICUBIC))
    pixels["frame.0.eagle.pixels"] = whole
    print(f"  {spec.image[0]}x{spec.image[1]}: grid {grid[0]}x{grid[1]}, {part.shape[0]} SigLIP tokens, Eagle {width}x{height}")
    return [torch.cat([part, run_eagle(parts, recorder, "frame.0", whole, spec.eagle)])]


def fill(parts, ids, slots) -> torch.Tensor:
    """The prompt's rows: embedded tokens, and in each slot its picture's."""
    embed, waiting = parts["llm"].model.embed_tokens, iter(slots)
    return torch.cat([next(waiting) if i == prompts.SLOT else embed(torch.tensor([i])) for i in ids])


def answer(parts, recorder, embeddings, steps: int, stop_ids=()):
    """Greedy decoding without a cache: every step computes everything anew."""
    llm = parts["llm"]
    recorder.put("llm.embeddings", embeddings)
    watched = [(layer, f"llm.layer.{i}") for i, layer in enumerate(llm.model.layers)]
    run = lambda: llm(inputs_embeds=embeddings[None]).logits[0, -1]
    tokens, logits = [], [_with_hooks(recorder, watched, run)]
    while True:
        tokens.append(int(logits[-1].argmax()))
        if len(tokens) == steps or tokens[-1] in stop_ids:
            break
        embeddings = torch.cat([embeddings, llm.model.embed_tokens(torch.tensor(tokens[-1:]))])
        logits.append(run())
    recorder.put("logits", torch.stack(logits))
    return tokens


@torch.no_grad()
def run(parts, spec, tokenizer, steps: int):
    """All stages, the uint8 inputs, the prompt's ids and the greedy tokens."""
    recorder, pixels, rng = Recorder(), {}, np.random.default_rng(spec.seed)
    slots = (_image if spec.image else _frames)(parts, recorder, spec, rng, pixels)
    ids = prompts.build(tokenizer, spec.system, spec.prompt, len(slots))
    tokens = answer(parts, recorder, fill(parts, ids, slots), spec.stop_at or steps)
    assert all(math.isfinite(float(t.sum())) for t in recorder.stages.values())
    return recorder.stages, pixels, ids, tokens
