"""The two vision branches and the connector, under the released checkpoints' tensor names.

Inputs are normalised patches (preprocess.py); outputs are rows of the language
model's width. Attributes are named after the tensors, not after our taste.
"""

import torch
from torch import nn
from torch.nn import functional as F


def attend(q, k, v, mask=None):
    """Attention written out: at these lengths PyTorch's fused one takes five times as long backwards in bf16."""
    score = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        score = score + mask
    return torch.softmax(score.float(), -1).to(v.dtype) @ v


class SiglipAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (p(x).view(n, t, self.heads, -1).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        x = attend(q, k, v)
        return self.out_proj(x.transpose(1, 2).reshape(n, t, d))


class SiglipMLP(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class SiglipBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, eps = c["hidden_size"], c["layer_norm_eps"]
        self.layer_norm1 = nn.LayerNorm(width, eps)
        self.self_attn = SiglipAttention(width, c["num_attention_heads"])
        self.layer_norm2 = nn.LayerNorm(width, eps)
        self.mlp = SiglipMLP(width, c["intermediate_size"])

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class SiglipVision(nn.Module):
    """Pixels [n, 3, side, side] to the last hidden state after post_layernorm."""

    def __init__(self, c):
        super().__init__()
        width = c["hidden_size"]
        self.embeddings = nn.Module()
        self.embeddings.patch_embedding = nn.Conv2d(3, width, c["patch_size"], c["patch_size"])
        patches = (c["image_size"] // c["patch_size"]) ** 2
        self.embeddings.position_embedding = nn.Embedding(patches, width)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(SiglipBlock(c) for _ in range(c["num_hidden_layers"]))
        self.post_layernorm = nn.LayerNorm(width, c["layer_norm_eps"])

    def forward(self, pixels):
        x = self.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        x = x + self.embeddings.position_embedding.weight
        for block in self.encoder.layers:
            x = block(x)
        return self.post_layernorm(x)


class VisionTower(nn.Module):
    """Only here for the release's doubled prefix vision_tower.vision_tower.vision_model."""

    def __init__(self, c):
        super().__init__()
        self.vision_tower = nn.Module()
        self.vision_tower.vision_model = SiglipVision(c)

    def forward(self, pixels):
        return self.vision_tower.vision_model(pixels)


class OvisConvAdapter(nn.Module):
    """A quarter of the patches, each a mixture of visual words."""

    def __init__(self, width, words, hidden):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.mlp = nn.Sequential(nn.Linear(width, words, bias=False), nn.LayerNorm(words))
        self.embedding = nn.Embedding(words, hidden)
        # A softmax over LayerNorm's unit rows is nearly flat: the words would all be the same word.
        nn.init.constant_(self.mlp[1].weight, 5.0)

    def forward(self, x):
        n, t, d = x.shape
        side = int(t**0.5)
        x = self.conv(x.transpose(1, 2).reshape(n, d, side, side)).flatten(2).transpose(1, 2)
        return torch.softmax(self.mlp(x).float(), -1) @ self.embedding.weight


class EagleAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, cos, sin):
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        x = attend(q.to(v.dtype), k.to(v.dtype), v)
        return self.proj(x.transpose(1, 2).reshape(n, t, d))


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class EagleMLP(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class EagleBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c["embed_dim"]
        self.norm1 = nn.LayerNorm(width, 1e-6)
        self.attn = EagleAttention(width, c["num_heads"])
        self.norm2 = nn.LayerNorm(width, 1e-6)
        self.mlp = EagleMLP(width, width * c["mlp_ratio"])

    def forward(self, x, cos, sin):
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class EagleMerger(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c["embed_dim"]
        self.joined = width * c["spatial_merge_size"] ** 2
        self.ln_q = nn.LayerNorm(width, 1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(self.joined, self.joined), nn.GELU(), nn.Linear(self.joined, c["hidden_size"])
        )

    def forward(self, x):
        return self.mlp(self.ln_q(x).view(len(x), -1, self.joined))


class EagleVision(nn.Module):
    """Pixels [n, 3, h, w], all frames of one size, to [n, h*w/28², hidden]."""

    def __init__(self, c):
        super().__init__()
        self.merge = c["spatial_merge_size"]
        self.patch = c["patch_size"]
        self.head = c["embed_dim"] // c["num_heads"]
        self.patch_embed = nn.Module()
        # Same arithmetic as Conv3d over (temporal, patch, patch); a still frame fills both moments.
        self.patch_embed.proj = nn.Conv3d(
            3, c["embed_dim"], (c["temporal_patch_size"], self.patch, self.patch), bias=False
        )
        self.blocks = nn.ModuleList(EagleBlock(c) for _ in range(c["depth"]))
        self.merger = EagleMerger(c)

    def merge_order(self, rows, columns):
        """Row and column of each patch, 2x2 merge block by merge block."""
        m = self.merge
        grid = torch.arange(rows * columns).view(rows // m, m, columns // m, m)
        order = grid.permute(0, 2, 1, 3).flatten()
        return order, order // columns, order % columns

    def patches(self, pixels):
        """Every patch's last hidden state, in merge order."""
        _, _, h, w = pixels.shape
        p = self.patch
        order, row, column = self.merge_order(h // p, w // p)
        kernel = self.patch_embed.proj.weight.sum(2)
        x = F.conv2d(pixels, kernel, stride=p).flatten(2).transpose(1, 2)[:, order]
        f = 10000.0 ** (-torch.arange(0, self.head // 2, 2).float() / (self.head // 2))
        angle = torch.cat((row[:, None] * f, column[:, None] * f), -1).repeat(1, 2)
        cos, sin = angle.cos(), angle.sin()
        for block in self.blocks:
            x = block(x, cos, sin)
        return x

    def forward(self, pixels):
        return self.merger(self.patches(pixels))
