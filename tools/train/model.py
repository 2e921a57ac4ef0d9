"""The whole model: vision (vision.py), Qwen2 decoder, and the joining of both.

state_dict() has exactly the tensor names of the released checkpoints.
"""

import torch
from torch import nn
from torch.nn import functional as F

from vision import EagleVision, OvisConvAdapter, VisionTower, attend, rotate


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, self.heads, self.groups = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
        self.head = width // self.heads
        self.q_proj = nn.Linear(width, self.heads * self.head)
        self.k_proj = nn.Linear(width, self.groups * self.head)
        self.v_proj = nn.Linear(width, self.groups * self.head)
        self.o_proj = nn.Linear(self.heads * self.head, width, bias=False)

    def forward(self, x, cos, sin, mask):
        n, t, _ = x.shape
        q = self.q_proj(x).view(n, t, self.heads, self.head).transpose(1, 2)
        k = self.k_proj(x).view(n, t, self.groups, self.head).transpose(1, 2)
        v = self.v_proj(x).view(n, t, self.groups, self.head).transpose(1, 2)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        share = self.heads // self.groups
        k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        x = attend(q, k, v, mask)
        return self.o_proj(x.transpose(1, 2).reshape(n, t, -1))


class MLP(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, eps = c["hidden_size"], c["rms_norm_eps"]
        self.input_layernorm = nn.RMSNorm(width, eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = nn.RMSNorm(width, eps)
        self.mlp = MLP(width, c["intermediate_size"])

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.vision_tower = VisionTower(c["vision_config"])
        self.mm_projector = OvisConvAdapter(c["mm_hidden_size"], c["mlp_hidden_dim"], c["hidden_size"])
        self.qwen2vl_vision_tower = EagleVision(c["eagle_config"])


class Valley(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Body(config)
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)
        self.apply(self._init)
        nn.init.normal_(self.model.mm_projector.embedding.weight, std=1.0)
        self.place_patches(0.7)

    def place_patches(self, strength):
        """Adds waves to SigLIP's position table: left at random values, places stayed unknown for 50,000 frames."""
        table = self.model.vision_tower.vision_tower.vision_model.embeddings.position_embedding.weight
        side, width = int(len(table) ** 0.5), table.shape[1]
        f = torch.pi * torch.arange(1, width // 4 + 1) / (width // 8)
        at = (torch.arange(side) + 0.5) / side
        wave = torch.cat(((at[:, None] * f).sin(), (at[:, None] * f).cos()), 1)
        rows = torch.cat((wave.repeat_interleave(side, 0), wave.repeat(side, 1)), 1)
        with torch.no_grad():
            table += strength * rows

    @staticmethod
    def _init(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.04)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def see(self, siglip, eagle):
        """Visual rows [frames, tokens, hidden]: SigLIP's, then Eagle's."""
        first = self.model.mm_projector(self.model.vision_tower(siglip))
        second = self.model.qwen2vl_vision_tower(eagle)
        return torch.cat((first.float(), second.float()), 1)

    def decode(self, rows, position, mask, keep=0):
        """Decoder over embedded rows [n, t, hidden].

        Returns the hidden states after `keep` layers, and those before lm_head.
        """
        head = self.config["hidden_size"] // self.config["num_attention_heads"]
        f = self.config["rope_theta"] ** (-torch.arange(0, head, 2).float() / head)
        angle = (position[..., None] * f).repeat(1, 1, 2)[:, None]
        cos, sin = angle.cos(), angle.sin()
        middle = rows
        for i, layer in enumerate(self.model.layers):
            rows = layer(rows, cos, sin, mask)
            if i + 1 == keep:
                middle = rows
        return middle, self.model.norm(rows)
