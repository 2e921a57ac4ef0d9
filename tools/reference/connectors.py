# SPDX-License-Identifier: Apache-2.0
"""Valley2's connectors, written from their description, for one tile at a time.

In: the tower's patches [side * side, D], row-major. Out: [tokens, H].
State-dict names are the checkpoint's, less `model.mm_projector.`.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

PYRAMID = (2, 3, 5, 8)


def to_planes(x: torch.Tensor) -> torch.Tensor:
    """A square of rows as [1, columns, side, side]."""
    side = math.isqrt(x.shape[0])
    assert side * side == x.shape[0]
    return x.T.reshape(1, -1, side, side)


def to_rows(planes: torch.Tensor) -> torch.Tensor:
    return planes.flatten(2)[0].T


def _mlp(*widths: int) -> nn.Sequential:
    layers = [nn.Linear(widths[0], widths[1])]
    for a, b in zip(widths[1:], widths[2:]):
        layers += [nn.GELU(), nn.Linear(a, b)]
    return nn.Sequential(*layers)


class Connector(nn.Module):
    def __init__(self, options: dict, side: int, width: int, hidden: int):
        super().__init__()
        self.kind, self.side, self.options = options["mm_projector_type"], side, options
        self.closest = math.inf  # smallest lead of a chosen word over the next, of all calls
        inner = options.get("mlp_hidden_dim")
        if self.kind == "ovis_conv_adapter":
            words = inner or 32000
            self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)
            self.mlp = nn.Sequential(nn.Linear(width, words, bias=False), nn.LayerNorm(words))
            self.embedding = nn.Embedding(words, hidden)
        elif self.kind == "conv_adapter":
            self.mlp = _mlp(width, inner or hidden, hidden)
            self.conv = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        elif self.kind == "mlp_pixel_shuffle":
            self.mlp = _mlp(width * options["pixelshuffle_downsample_ratio"] ** 2, inner or hidden, hidden)
        elif self.kind == "linear":
            self._adopt(nn.Linear(width, hidden))
        elif self.kind.startswith("mlp") and self.kind.endswith("x_gelu"):
            self._adopt(_mlp(width, *[hidden] * int(self.kind[3:-6])))
        elif "pool" in self.kind:
            self.mlp = _mlp(width, hidden, hidden)
        elif not self.kind.startswith("identity"):
            raise ValueError(f"no reference for connector {self.kind}")

    def _adopt(self, module: nn.Module) -> None:
        """The module's own tensors under its own names: in the checkpoint it is the connector itself."""
        self.__dict__["whole"] = module
        for name, child in module.named_children():
            self.add_module(name, child)
        for name, parameter in module.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        return to_rows(self.conv(to_planes(x)))

    def _shuffle(self, x: torch.Tensor) -> torch.Tensor:
        """Space to depth. The grid's first axis is called w in the description."""
        s, r, c = self.side, self.options["pixelshuffle_downsample_ratio"], x.shape[1]
        x = x.reshape(1, s, s // r, c * r).permute(0, 2, 1, 3)
        x = x.reshape(1, s // r, s // r, c * r * r).permute(0, 2, 1, 3)
        return x.reshape((s // r) ** 2, c * r * r)

    def _tokens(self, scores: torch.Tensor) -> torch.Tensor:
        """A row's place in the visual vocabulary: shares of all words, or the first best alone."""
        if self.options.get("tokenize_function") == "st_argmax":
            best = scores.topk(2, dim=-1).values
            self.closest = min(self.closest, float((best[:, 0] - best[:, 1]).min()))
            return F.one_hot(scores.argmax(-1), scores.shape[-1]).float()
        return scores.softmax(-1)

    def _pool(self, x: torch.Tensor) -> torch.Tensor:
        """Behind x[0], the class token, a coarser grid."""
        step = self.side // self.options["pool_out_size"]
        return torch.cat([x[:1], to_rows(nn.AvgPool2d(step)(to_planes(x[1:])))])

    def _pyramid(self, x: torch.Tensor) -> torch.Tensor:
        planes = to_planes(x)
        return torch.cat([to_rows(nn.AdaptiveMaxPool2d(p)(planes)) for p in PYRAMID])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = self.kind
        if kind == "ovis_conv_adapter":
            return self._tokens(self.mlp(self._convolve(x))) @ self.embedding.weight
        if kind == "conv_adapter":
            return self._convolve(self.mlp(x))
        if kind == "mlp_pixel_shuffle":
            return self.mlp(self._shuffle(x))
        if kind == "adapt_pyrapooler":
            return self._pyramid(self.mlp(x))
        x = torch.cat([x[:1], x])  # the made-up class token
        if kind.startswith("identity"):
            return x[1:] if kind == "identity_patch" else x
        if kind.startswith("pool_adapter"):
            x = self.mlp(self._pool(x))
        elif kind.startswith("adapt_pooler"):
            x = self._pool(self.mlp(x))
        else:
            return self.whole(x)
        return x if kind.endswith("_w_cls") else x[1:]
