# SPDX-License-Identifier: Apache-2.0
"""Valley2's connectors, written from their description, for one tile at a time.

In: the tower's patches [side * side, D], row-major. Out: [tokens, H].
State-dict names are the checkpoint's, less `model.mm_projector.`.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Connector(nn.Module):
    def __init__(self, options: dict, side: int, width: int, hidden: int):
        super().__init__()
        self.kind, self.side, self.options = options["mm_projector_type"], side, options
        self.closest = math.inf  # smallest lead of a chosen word over the next, of all calls
        inner = options["mlp_hidden_dim"]
        if self.kind == "ovis_conv_adapter":
            self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)
            self.mlp = nn.Sequential(nn.Linear(width, inner, bias=False), nn.LayerNorm(inner))
            self.embedding = nn.Embedding(inner, hidden)
        elif self.kind == "conv_adapter":
            self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, hidden))
            self.conv = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        elif self.kind == "mlp_pixel_shuffle":
            fan_in = width * options["pixelshuffle_downsample_ratio"] ** 2
            self.mlp = nn.Sequential(nn.Linear(fan_in, inner), nn.GELU(), nn.Linear(inner, hidden))
        else:
            raise ValueError(f"no reference for connector {self.kind}")

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        planes = x.T.reshape(1, -1, self.side, self.side)
        return self.conv(planes).flatten(2)[0].T

    def _shuffle(self, x: torch.Tensor) -> torch.Tensor:
        """Space to depth. The grid's first axis is called w in the description."""
        s, r, c = self.side, self.options["pixelshuffle_downsample_ratio"], x.shape[1]
        x = x.reshape(1, s, s // r, c * r).permute(0, 2, 1, 3)
        x = x.reshape(1, s // r, s // r, c * r * r).permute(0, 2, 1, 3)
        return x.reshape((s // r) ** 2, c * r * r)

    def _tokens(self, scores: torch.Tensor) -> torch.Tensor:
        """A row's place in the visual vocabulary: shares of all words, or the first best alone."""
        if self.options["tokenize_function"] == "st_argmax":
            best = scores.topk(2, dim=-1).values
            self.closest = min(self.closest, float((best[:, 0] - best[:, 1]).min()))
            return F.one_hot(scores.argmax(-1), scores.shape[-1]).float()
        return scores.softmax(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "ovis_conv_adapter":
            return self._tokens(self.mlp(self._convolve(x))) @ self.embedding.weight
        if self.kind == "conv_adapter":
            return self._convolve(self.mlp(x))
        return self.mlp(self._shuffle(x))
