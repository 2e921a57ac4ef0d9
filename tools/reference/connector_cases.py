# SPDX-License-Identifier: Apache-2.0
"""Connectors and token compressors in every setting, without a tower.

Two files. connectors.json starts with the keys that every case's config.json has, then lists the
cases: more keys, the number of tiles, a seed and the tensors as [name, shape, scale, shift].
connectors.safetensors holds what torch gives for them, `CASE/T` for tile T. Weights and inputs
are not stored: both sides make tensor i from seed + i (`fill`), exactly.
"""

import json
import os

import numpy as np
import torch
from safetensors.torch import save_file

from compressors import Compressors, Lavit
from connectors import Connector

# name, patches a side, D, H, connector and settings, compressors, tiles
C, R = "mm_projector_type", "minicpm_resampler"
POOLS = ("pool_adapter", "pool_adapter_w_cls", "adapt_pooler", "adapt_pooler_w_cls")


def avg(scale):
    return {"type": "avgpool", "params": {"scale": scale}}


def roi(limit, **mode):
    return {"type": "roipool", "params": {"max_vision_token": limit, **mode}}


def evo(inner, **ratio):
    return {"type": "evo", "params": {"inner_dim": inner, **ratio}}


def lavit(inner):
    return {"type": "lavit", "params": {"inner_dim": inner}}


def queries(n):
    return {"type": R, "params": {"num_queries": n}}


MANY = dict(mode="multiple")
PATCH = {C: "identity_patch"}
CASES = [
    ("ovis", 5, 6, 8, {C: "ovis_conv_adapter", "mlp_hidden_dim": 11, "tokenize_function": "softmax"}, [], 1),
    ("ovis-even", 4, 6, 8, {C: "ovis_conv_adapter", "mlp_hidden_dim": 11}, [], 1),
    ("ovis-argmax", 5, 6, 8, {C: "ovis_conv_adapter", "mlp_hidden_dim": 9, "tokenize_function": "st_argmax"}, [], 1),
    ("conv", 5, 6, 8, {C: "conv_adapter"}, [], 1),
    ("conv-inner", 6, 6, 8, {C: "conv_adapter", "mlp_hidden_dim": 7}, [], 1),
    ("conv-one-patch", 1, 6, 8, {C: "conv_adapter", "mlp_hidden_dim": None}, [], 1),
    ("shuffle-1", 3, 6, 8, {C: "mlp_pixel_shuffle", "pixelshuffle_downsample_ratio": 1}, [], 1),
    ("shuffle-2", 6, 5, 8, {C: "mlp_pixel_shuffle", "pixelshuffle_downsample_ratio": 2, "mlp_hidden_dim": 9}, [], 1),
    ("shuffle-3", 9, 2, 8, {C: "mlp_pixel_shuffle", "pixelshuffle_downsample_ratio": 3}, [], 1),
    ("shuffle-side", 3, 4, 8, {C: "mlp_pixel_shuffle", "pixelshuffle_downsample_ratio": 3}, [], 1),
    ("linear", 3, 6, 8, {C: "linear", "mlp_hidden_dim": 5}, [], 1),
    ("mlp2x", 3, 6, 8, {C: "mlp2x_gelu"}, [], 1),
    ("mlp3x", 3, 6, 8, {C: "mlp3x_gelu", "mlp_hidden_dim": 5}, [], 1),
    ("mlp12x", 2, 6, 8, {C: "mlp12x_gelu"}, [], 1),
    *[(f"{kind}-{pool}", 6, 5, 8, {C: kind, "pool_out_size": pool, "mlp_hidden_dim": 3}, [], 1)
      for kind in POOLS for pool in (1, 2, 3, 6)],
    ("pyramid", 9, 5, 8, {C: "adapt_pyrapooler"}, [], 1),
    ("pyramid-8", 8, 5, 8, {C: "adapt_pyrapooler"}, [], 1),
    ("pyramid-small", 3, 5, 8, {C: "adapt_pyrapooler"}, [], 1),
    ("identity", 3, 8, 8, {C: "identity"}, [], 1),
    ("identity-patch", 3, 8, 8, PATCH, [], 2),

    ("avgpool-1", 3, 8, 8, PATCH, [avg(1)], 1),
    ("avgpool-3", 6, 5, 8, {C: "conv_adapter"}, [avg(3)], 1),
    ("avgpool-side", 6, 8, 8, PATCH, [avg(6)], 1),
    ("roipool", 5, 8, 8, PATCH, [roi(9)], 2),
    ("roipool-no-square", 7, 8, 8, PATCH, [roi(48)], 1),
    ("roipool-product", 5, 8, 8, PATCH, [roi("2 * 5")], 1),
    ("roipool-few", 3, 6, 8, {C: "linear"}, [roi(10)], 1),  # 10 tokens: no square, and none needed
    ("roipool-one", 4, 8, 8, PATCH, [roi("1*1*1")], 1),
    ("roipool-tiles", 5, 8, 8, PATCH, [roi("4*9", **MANY)], 3),
    ("roipool-tiles-few", 3, 8, 8, PATCH, [roi(27, **MANY)], 3),
    ("roipool-tiles-lone", 5, 8, 8, PATCH, [roi(16, **MANY)], 1),
    ("roipool-single", 5, 8, 8, PATCH, [roi("16", mode="single")], 3),
    ("evo", 4, 8, 8, PATCH, [evo(6)], 2),                                # the default, a quarter
    ("evo-truncated", 10, 8, 8, PATCH, [evo(5, prune_ratio=0.29)], 1),    # 100 * 0.29 = 28.99...
    ("evo-cls", 3, 6, 8, {C: "mlp2x_gelu"}, [evo(6, prune_ratio=0.7)], 1),
    ("evo-quotient", 4, 8, 8, PATCH, [evo(6, prune_ratio="1/3")], 1),
    ("evo-all", 3, 8, 8, PATCH, [evo(1, prune_ratio=1)], 1),
    ("evo-one", 3, 8, 8, PATCH, [evo(6, prune_ratio=0.12)], 1),
    ("evo-ties", 4, 8, 8, PATCH, [evo(6, prune_ratio=0.5)], 1),           # all scores equal
    ("evo-underflow", 4, 8, 8, PATCH, [evo(6, prune_ratio=0.8)], 1),      # most shares are 0
    ("lavit", 5, 8, 8, PATCH, [lavit(6)], 2),
    ("lavit-ties", 3, 8, 8, PATCH, [lavit(6)], 1),                        # equal scores: kept
    ("lavit-none", 3, 8, 8, PATCH, [lavit(6)], 1),                        # nothing is worth keeping
    ("resampler", 4, 24, 256, PATCH, [queries(5)], 2),                    # two heads
    ("resampler-one-head", 3, 8, 192, PATCH, [queries(4)], 1),            # of 192
    ("resampler-same-width", 3, 128, 128, PATCH, [queries(4)], 1),        # no kv_proj
    ("avgpool-resampler", 6, 12, 128, PATCH, [avg(2), queries(3)], 1),
    ("resampler-evo", 3, 12, 128, PATCH, [queries(6), evo(5, prune_ratio=0.5)], 1),
    ("resampler-avgpool", 3, 12, 128, PATCH, [queries(4), avg(2)], 1),
    ("avgpool-evo", 6, 8, 8, PATCH, [avg(2), evo(6, prune_ratio=0.5)], 1),
    ("evo-avgpool", 5, 8, 8, PATCH, [evo(6, prune_ratio=0.36), avg(3)], 1),
    ("lavit-evo", 5, 8, 8, PATCH, [lavit(6), evo(6, prune_ratio=0.5)], 1),
    ("evo-lavit", 5, 8, 8, PATCH, [evo(6, prune_ratio=0.6), lavit(6)], 1),
    ("lavit-roipool", 5, 8, 8, PATCH, [lavit(6), roi(25)], 1),
    ("roipool-avgpool", 7, 8, 8, PATCH, [roi(36), avg(3)], 2),
]


# As small a language model and tower as config.json allows.
COMMON = {"model_type": "valley", "vocab_size": 2, "intermediate_size": 2, "num_hidden_layers": 1,
          "num_attention_heads": 1, "mm_vision_tower": "siglip"}
TOWER = {"intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "patch_size": 1}


def fill(seed: int, n: int, scale: float, shift: float) -> np.ndarray:
    """Evenly spread over shift - scale / 2 ... shift + scale / 2; the test has the same lines.
    With a power of two as scale every step is exact but the last, the rounding to float32."""
    z = np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64) + np.arange(n, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((((z >> np.uint64(40)).astype(np.float64) / 2**24) - 0.5) * scale + shift).astype(np.float32)


def spread(case: str, name: str, shape):
    """How wide, and around what: so that every term of a sum counts."""
    if name.startswith("tile."):
        return 4.0, 0.0
    if "out_conv.2" in name:
        if case.endswith("-ties") or (case == "lavit-none" and name.endswith("weight")):
            return 0.0, 0.0
        if case == "evo-underflow":
            return 2048.0, 0.0
    if name.endswith("bias"):
        return 0.5, 0.0
    if len(shape) == 1:
        return 0.5, 1.0
    if name.endswith("query") or name.endswith("embedding.weight"):
        return 4.0, 0.0
    return 2.0 ** round(float(np.log2(4 / np.prod(shape[1:]) ** 0.5))), 0.0


class Case:
    def __init__(self, row):
        self.name, self.side, self.width, self.hidden, self.settings, self.items, self.n_tiles = row

    def _take(self, name: str, shape) -> torch.Tensor:
        """The next tensor; its number in the case is part of its seed."""
        seed, (scale, shift) = self.seed + len(self.tensors), spread(self.name, name, shape)
        self.tensors.append([name, list(shape), scale, shift])
        return torch.from_numpy(fill(seed, int(np.prod(shape)), scale, shift)).reshape(shape)

    def run(self, seed: int):
        """The tiles' tokens, with all numbers made from `seed` on."""
        self.seed, self.tensors = seed, []
        self.connector = Connector(self.settings, self.side, self.width, self.hidden)
        self.compressors = Compressors(self.items, self.width, self.hidden)
        for prefix, module in (("model.mm_projector.", self.connector), ("model.token_compressor.", self.compressors)):
            for name, tensor in sorted(module.state_dict().items()):
                tensor.copy_(self._take(prefix + name, tensor.shape))
        tiles = [self._take(f"tile.{i}", (self.side ** 2, self.width)) for i in range(self.n_tiles)]
        return self.compressors([self.connector(x) for x in tiles])

    def usable(self, tokens) -> bool:
        """Every choice is clear of rounding, and is one."""
        chosen = self.compressors.compressor_list
        if self.name.endswith("-ties"):
            return True
        if self.name == "evo-underflow":  # shares are either far from 0 or certainly 0
            gaps = chosen[0].gaps
            return bool(((gaps < 75) | (gaps > 115)).all()) and 2 <= int((gaps < 75).sum()) < tokens[0].shape[0] - 3
        if self.name == "lavit-none":
            return tokens[0].shape[0] == 0
        clear = min(self.connector.closest, self.compressors.closest()) > 1e-4
        return clear and all(0.2 < c.share < 0.8 for c in chosen if isinstance(c, Lavit))

    def config(self) -> dict:
        return {
            "hidden_size": self.hidden, "mm_hidden_size": self.width, **self.settings,
            **({"token_compressor_config": self.items} if self.items else {}),
            "vision_config": {**TOWER, "hidden_size": self.width, "image_size": self.side},
        }


@torch.no_grad()
def write(folder: str) -> None:
    cases, tensors = [], {}
    for number, row in enumerate(CASES):
        case = Case(row)
        for seed in range(1000000 * (number + 1), 1000000 * (number + 1) + 400000, 100):
            tokens = case.run(seed)
            if case.usable(tokens):
                break
        else:
            raise SystemExit(f"{case.name}: no seed gives clear choices")
        for i, tile in enumerate(tokens):
            tensors[f"{case.name}/{i}"] = tile.contiguous().clone()
        cases.append({"name": case.name, "tiles": case.n_tiles, "seed": seed, "config": case.config(),
                      "tensors": case.tensors})
    save_file(tensors, os.path.join(folder, "connectors.safetensors"))
    os.chmod(os.path.join(folder, "connectors.safetensors"), 0o644)
    with open(os.path.join(folder, "connectors.json"), "w", encoding="utf-8") as f:
        lines = [json.dumps(line, separators=(",", ":")) for line in [COMMON, *cases]]
        f.write("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"connectors: {len(cases)} cases, {sum(t.numel() for t in tensors.values())} numbers")
