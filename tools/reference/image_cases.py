# SPDX-License-Identifier: Apache-2.0
"""Pictures with Pillow's bicubic result, and the sizes that preprocessing chooses.

One safetensors file: `NAME.input` and `NAME.output` are uint8 [height, width, 3];
`smart_resize` and `tiling` are int32 [cases, columns], the columns named in the
file's metadata. smart_resize's answers are transformers' own. `pool.SIDE` is a grid of
float32 tokens, `pool.SIDE.TO` PyTorch's adaptive means of it.
"""

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import save_file
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

import tiling

# From 13 on Pillow resizes vertically first where the height shrinks more than the width; the
# release and the transformers of its time saw the horizontal pass first, always.
if int(PIL.__version__.split(".")[0]) >= 13:
    raise SystemExit(f"Pillow {PIL.__version__}: expected a version below 13 (pillow==11.3.0)")

# name, source width x height, target width x height
RESIZES = [
    ("noise-shrink", (97, 61), (28, 28)),
    ("noise-grow", (13, 7), (56, 42)),
    ("noise-mixed", (9, 120), (40, 31)),
    ("noise-same", (17, 19), (17, 19)),
    ("noise-one-axis", (64, 33), (64, 21)),
    ("noise-pixel", (1, 1), (14, 14)),
    ("noise-line", (1, 90), (12, 30)),
    ("noise-to-pixel", (31, 23), (1, 1)),
    ("gradient-shrink", (160, 90), (56, 28)),
    ("gradient-grow", (20, 11), (61, 35)),
    ("checker-shrink", (101, 67), (38, 38)),     # overshoots: clipping between the passes shows
    ("checker-grow", (12, 12), (53, 53)),
    ("edge-shrink", (113, 45), (38, 38)),
    ("edge-grow", (23, 31), (84, 56)),
]

MIN, RELEASE_MAX = 56 * 56, 12845056
SIZES = [
    (1920, 1080), (1280, 720), (640, 360), (640, 480), (320, 240), (160, 120), (1080, 1920), (720, 1280),
    (3840, 2160), (7680, 4320), (12000, 9000), (28, 28), (29, 28), (28, 41), (42, 42), (41, 43), (56, 56), (55, 57),
    (70, 70), (98, 126), (100, 100), (999, 333), (333, 999), (1000, 29), (29, 1000), (5600, 28), (28, 5600), (392, 392),
    (393, 391), (400, 300), (300, 400), (1001, 77), (640, 641), (2048, 858),
]
SIZE_COLUMNS = "width height min_pixels max_pixels out_width out_height"
# the release's, the default for frames, the bundled model's, and what budgets of so many tokens leave
CAPS = [RELEASE_MAX, 571536, 153664, 12544, *(28 * 28 * tokens for tokens in (91, 45, 21, 4))]
# sides that a frame's SigLIP tokens are pooled to, of the release's grid and the bundled model's
POOLS = {14: (10, 7, 5), 4: (3, 2, 1)}


# a tile's pixels and tokens a side, and the limit on all tokens
TILINGS = [(384, 14, 100000), (384, 14, 729), (112, 4, 60), (22, 3, 37)]
TILING_COLUMNS = (
    "width height crop side max_vision_token columns rows scaled_width scaled_height pad_left pad_top "
    "first_row n_rows first_column n_columns pooled_rows pooled_columns"
)


def picture(name: str, size, rng) -> np.ndarray:
    width, height = size
    if name.startswith("noise"):
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[0:height, 0:width]
    if name.startswith("gradient"):
        planes = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 256]
    elif name.startswith("checker"):
        planes = [((x // 3 + y // 3) % 2) * 255, ((x + y) % 2) * 255, ((x // 5) % 2) * 255]
    else:
        planes = [(x > width // 3) * 255, (x * 2 > y) * 255, (y > height // 2) * 255]
    return np.stack(planes, -1).astype(np.uint8)


def resize_sizes():
    rows = []
    for width, height in SIZES:
        for cap in CAPS:
            h, w = smart_resize(height, width, min_pixels=MIN, max_pixels=cap)
            # Else the cap is low, and the picture long and thin or hardly larger than the minimum,
            # to which it is rounded up, beyond the cap: no reference answer.
            if 0 < h * w <= cap:
                rows.append((width, height, MIN, cap, w, h))
    return np.array(rows, dtype=np.int32)


def tiling_sizes():
    rows = []
    for size in SIZES:
        for crop, side, limit in TILINGS:
            grid = tiling.choose_grid(size, crop)
            scaled, corner = tiling.fit(size, grid, crop)
            down, across = tiling.unpad(size, grid, side)
            target = tiling.pooled(len(down), len(across), limit - side * side)
            if min(target) > 0 and min(len(down), len(across)) > 0:  # else the release has no answer
                rows.append((*size, crop, side, limit, *grid, *scaled, *corner,
                             down.start, len(down), across.start, len(across), *target))
    return np.array(rows, dtype=np.int32)


def pools():
    """Grids of 3 channels, row-major, and PyTorch's means of them."""
    rng = np.random.default_rng(11)
    tensors = {}
    for side, sides in POOLS.items():
        grid = torch.from_numpy(rng.standard_normal((side * side, 3), dtype=np.float32))
        tensors[f"pool.{side}"] = grid.numpy()
        for to in sides:
            field = F.adaptive_avg_pool2d(grid.T.reshape(3, side, side), to)
            tensors[f"pool.{side}.{to}"] = field.reshape(3, -1).T.numpy()
    return tensors


def write(path: str) -> None:
    rng = np.random.default_rng(7)
    tensors = {}
    for name, size, target in RESIZES:
        source = picture(name, size, rng)
        tensors[name + ".input"] = source
        tensors[name + ".output"] = np.asarray(Image.fromarray(source).resize(target, Image.BICUBIC))
    tensors["smart_resize"] = resize_sizes()
    tensors["tiling"] = tiling_sizes()
    tensors.update(pools())
    # One key: several would come in an order that changes from run to run.
    columns = {"columns": f"smart_resize: {SIZE_COLUMNS}; tiling: {TILING_COLUMNS}"}
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata=columns)
    print(f"{path}: {len(RESIZES)} pictures, {len(tensors['smart_resize'])} smart_resize sizes, "
          f"{len(tensors['tiling'])} tilings")
