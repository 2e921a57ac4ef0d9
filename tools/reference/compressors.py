# SPDX-License-Identifier: Apache-2.0
"""Valley2's token compressors, written from their description, for all tiles of one picture.

In and out: a list of [tokens, columns], one for each tile. State-dict names are the
checkpoint's, less `model.token_compressor.`.
"""

import math

import torch
from torch import nn

from connectors import to_planes, to_rows


def product(text) -> int:
    return math.prod(int(factor) for factor in str(text).split("*"))


class AvgPool(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.pool = nn.AvgPool2d(scale)

    def forward(self, tiles):
        return [to_rows(self.pool(to_planes(x))) for x in tiles]


class RoiPool(nn.Module):
    def __init__(self, max_vision_token, mode="single"):
        super().__init__()
        self.limit, self.together = product(max_vision_token), mode == "multiple"

    def forward(self, tiles):
        share = self.limit / len(tiles) if self.together else self.limit
        pool = nn.AdaptiveAvgPool2d(int(math.sqrt(share)))
        return [to_rows(pool(to_planes(x))) if x.shape[0] > share else x for x in tiles]


class Scorer(nn.Module):
    """What evo and lavit have in common; `closest` is the smallest difference that decided."""

    def __init__(self, hidden, inner_dim, scores):
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.out_conv = nn.Sequential(nn.Linear(hidden, inner_dim), nn.GELU(), nn.Linear(inner_dim, scores))
        self.closest = math.inf

    def decide(self, differences) -> None:
        for difference in differences:
            self.closest = min(self.closest, abs(float(difference)))


class Evo(Scorer):
    def __init__(self, hidden, prune_ratio=0.25, inner_dim=64):
        super().__init__(hidden, inner_dim, 1)
        over, _, under = str(prune_ratio).partition("/")
        self.ratio = float(over) / float(under or 1)

    def forward(self, tiles):
        kept = []
        for x in tiles:
            logits = self.out_conv(self.norm(x))[:, 0]
            self.gaps = logits.max() - logits
            order = logits.softmax(0).argsort(descending=True, stable=True)
            n = int(x.shape[0] * self.ratio)
            ranked = logits[order][:n + 1].double()
            self.decide(ranked[:-1] - ranked[1:])
            kept.append(x[order[:n]])
        return kept


class Lavit(Scorer):
    """The likelier class instead of a sample."""

    def __init__(self, hidden, inner_dim=64):
        super().__init__(hidden, inner_dim, 2)

    def forward(self, tiles):
        kept = []
        for x in tiles:
            local, shared = self.norm(x).chunk(2, dim=1)
            scores = self.out_conv(torch.cat([local, shared.mean(0, keepdim=True).expand_as(local)], dim=1))
            self.decide(scores[:, 0] - scores[:, 1])
            likelier = scores.log_softmax(-1).argmax(-1) == 0
            self.share = float(likelier.float().mean())
            kept.append(x[likelier])
        return kept


def positions(side: int, width: int) -> torch.Tensor:
    """[side * side, width]: sines and cosines of the column, then of the row."""
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angle = torch.arange(side, dtype=torch.float64)[:, None] * frequency
    place = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.cat([place.repeat(side, 1), place.repeat_interleave(side, 0)], dim=1).float()


class Queries(nn.Module):
    def __init__(self, width, hidden, num_queries):
        super().__init__()
        norm = lambda: nn.LayerNorm(hidden, eps=1e-6)
        self.query = nn.Parameter(torch.empty(num_queries, hidden))
        self.kv_proj = nn.Linear(width, hidden, bias=False) if width != hidden else nn.Identity()
        self.attn = nn.MultiheadAttention(hidden, hidden // 128)
        self.ln_q, self.ln_kv, self.ln_post = norm(), norm(), norm()
        self.proj = nn.Parameter(torch.empty(hidden, hidden))

    def forward(self, x):
        values = self.ln_kv(self.kv_proj(x))
        keys = values + positions(math.isqrt(x.shape[0]), values.shape[1])
        return self.ln_post(self.attn(self.ln_q(self.query), keys, values)[0]) @ self.proj


class Resampler(nn.Module):
    def __init__(self, width, hidden, num_queries):
        super().__init__()
        self.resampler = Queries(width, hidden, num_queries)

    def forward(self, tiles):
        return [self.resampler(x) for x in tiles]


def build(item: dict, width: int, hidden: int) -> nn.Module:
    kind, params = item["type"], item["params"]
    if kind == "minicpm_resampler":
        return Resampler(width, hidden, params["num_queries"])
    if kind in ("evo", "lavit"):
        return {"evo": Evo, "lavit": Lavit}[kind](hidden, **params)
    return {"avgpool": AvgPool, "roipool": RoiPool}[kind](**params)


class Compressors(nn.Module):
    def __init__(self, items, width: int, hidden: int):
        super().__init__()
        self.compressor_list = nn.ModuleList(build(item, width, hidden) for item in items or [])

    def closest(self) -> float:
        """The smallest difference of scores that decided which tokens are kept, or in what order."""
        return min((c.closest for c in self.compressor_list if isinstance(c, Scorer)), default=math.inf)

    def forward(self, tiles):
        for compressor in self.compressor_list:
            tiles = compressor(tiles)
        return tiles
