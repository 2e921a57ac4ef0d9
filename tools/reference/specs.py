# SPDX-License-Identifier: Apache-2.0
"""The goldens: one small random checkpoint each, chosen so that together they
meet every connector, weight type, file layout and head size of the release.

Widths are what the size limit of tests/golden allows. The release's head sizes
(72 in SigLIP, 80 in Qwen2-VL) sit in `conv-adapter`, whose bf16 halves them;
the other head sizes are small and odd on purpose.
"""

from dataclasses import dataclass, field

import torch

BARS = "What is the signal? Answer picture, bars, black or snow."


@dataclass
class Spec:
    name: str
    seed: int
    siglip: dict                    # empty: only_navit, as Valley2.5, and no connector either
    eagle: dict
    llm: dict
    connector: dict
    frames: list                    # (SigLIP's square comes from the config) Eagle's (width, height) of each
    dtype: torch.dtype = torch.float32
    shards: int = 1
    merges_as_strings: bool = True  # the two ways in which tokenizer.json writes a merge
    system: str = "You are a helpful assistant."
    prompt: str = "Describe the video."
    image: tuple = ()               # a lone picture (width, height) instead of frames
    extra: dict = field(default_factory=dict)
    stop_at: int = 0                # make the token of this step the checkpoint's stop token
    decoder: str = "Qwen2"          # or "Qwen3"
    tied: bool = False              # the embedding table is the output head
    merger: int = 0                 # navit_merger_hidden_dim; 0: Qwen2-VL's own width
    steps: int = 12                 # of the answer
    quiet: tuple = ()               # weights so small that the norm after them shows its epsilon


def siglip(hidden, heads, inner, layers, side, patch, spare, eps=1e-6):
    """`spare` pixels beyond the last whole patch: the release has 6 of them."""
    return dict(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
                image_size=side * patch + spare, patch_size=patch, layer_norm_eps=eps)


def eagle(embed, heads, ratio, depth, patch):
    area = (2 * patch) ** 2
    return dict(depth=depth, embed_dim=embed, num_heads=heads, mlp_ratio=ratio, patch_size=patch,
                temporal_patch_size=2, spatial_merge_size=2, min_pixels=4 * area, max_pixels=24 * area)


def llm(hidden, heads, kv_heads, inner, layers, theta=1e6, eps=1e-6, **more):
    return dict(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads,
                intermediate_size=inner, num_hidden_layers=layers, rope_theta=theta, rms_norm_eps=eps, **more)


SPECS = [
    Spec("ovis-softmax", 1,
         siglip(72, 1, 44, 1, side=5, patch=7, spare=3), eagle(36, 3, 2, 2, patch=6), llm(48, 4, 1, 84, 2),
         dict(mm_projector_type="ovis_conv_adapter", mlp_hidden_dim=90, tokenize_function="softmax"),
         frames=[(48, 36)] * 2, prompt=BARS, quiet=("connector.mlp.0",)),
    Spec("ovis-argmax", 2,
         siglip(32, 2, 56, 1, side=4, patch=5, spare=0), eagle(32, 2, 2, 1, patch=4), llm(32, 4, 2, 72, 2, 1e4),
         dict(mm_projector_type="ovis_conv_adapter", mlp_hidden_dim=33, tokenize_function="st_argmax"),
         frames=[(24, 16), (16, 32)], dtype=torch.bfloat16, merges_as_strings=False,
         system="You are Valley, developed by ByteDance. Your are a helpfull Assistant."),
    Spec("conv-adapter", 3,
         siglip(144, 2, 72, 2, side=5, patch=4, spare=1, eps=2e-3), eagle(80, 1, 1, 2, patch=4),
         llm(32, 4, 1, 88, 2, eps=1e-3),
         dict(mm_projector_type="conv_adapter", mlp_hidden_dim=40),
         frames=[(24, 16)], dtype=torch.bfloat16, shards=2,
         # starts with a line end, so that it joins the one before it in the template
         prompt="\n It's 12:34 -- what's   shown,\n\nand where? Один кадр: 你好 👩‍👩‍👧\n"),
    Spec("pixel-shuffle", 4,
         siglip(36, 3, 50, 2, side=6, patch=4, spare=2), eagle(32, 4, 2, 2, patch=4), llm(40, 5, 1, 64, 2, 5e5),
         dict(mm_projector_type="mlp_pixel_shuffle", mlp_hidden_dim=44, pixelshuffle_downsample_ratio=3),
         frames=[(32, 16), (40, 24)], dtype=torch.float16, stop_at=8,
         quiet=("eagle.patch_embed", "eagle.blocks.0.attn.proj", "eagle.blocks.0.mlp.fc2",
                "eagle.blocks.1.attn.proj", "eagle.blocks.1.mlp.fc2")),
    Spec("image-tiled", 5,
         siglip(32, 2, 48, 1, side=5, patch=4, spare=2), eagle(32, 1, 2, 1, patch=4), llm(32, 2, 1, 72, 2),
         dict(mm_projector_type="ovis_conv_adapter", mlp_hidden_dim=40, tokenize_function="softmax"),
         frames=[], dtype=torch.bfloat16, image=(50, 118), prompt="Describe the picture.",
         extra=dict(max_vision_token=37)),
    Spec("qwen3-navit", 6,
         {}, eagle(16, 2, 2, 1, patch=4), llm(24, 3, 1, 32, 2, eps=1e-3, head_dim=10), {},
         frames=[(24, 16), (16, 24)], dtype=torch.bfloat16, decoder="Qwen3", tied=True, merger=70, steps=6,
         prompt=BARS, quiet=("llm.model.embed_tokens", "llm.model.layers.0.self_attn.q_proj",
                             "llm.model.layers.1.self_attn.k_proj")),
    Spec("qwen3-bias", 7,
         siglip(16, 2, 20, 1, side=4, patch=3, spare=1), eagle(16, 2, 2, 1, patch=4),
         llm(16, 4, 2, 28, 1, 5e6, head_dim=12, attention_bias=True),
         dict(mm_projector_type="mlp_pixel_shuffle", mlp_hidden_dim=20, pixelshuffle_downsample_ratio=2),
         frames=[(24, 16)], dtype=torch.float16, decoder="Qwen3", merger=28, steps=6),
]
