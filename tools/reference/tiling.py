# SPDX-License-Identifier: Apache-2.0
"""How a lone picture is cut into tiles, and what is left of their tokens ("anyres").

Pillow does the resizing; the arithmetic follows the release's description.
Sizes are (width, height), grids (columns, rows) throughout.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F


def choose_grid(size, crop: int, columns: int = 3, rows: int = 3):
    """The grid that keeps most of the picture's area, then wastes least."""
    width, height = size
    best, best_key = None, None
    for i in range(1, columns + 1):
        for j in range(1, rows + 1):
            scale = min(i * crop / width, j * crop / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            key = (kept, kept - i * j * crop * crop)
            if best_key is None or key > best_key:
                best, best_key = (i, j), key
    return best


def fit(size, grid, crop: int):
    """The picture's size inside the grid, and where its left top corner comes to lie."""
    (width, height), across, down = size, grid[0] * crop, grid[1] * crop
    if across / width < down / height:
        fitted = (across, min(math.ceil(height * (across / width)), down))
    else:
        fitted = (min(math.ceil(width * (down / height)), across), down)
    return fitted, ((across - fitted[0]) // 2, (down - fitted[1]) // 2)


def cut(rgb: np.ndarray, crop: int):
    """The whole picture squashed, then the grid's tiles row by row; and the grid."""
    picture = Image.fromarray(rgb)
    grid = choose_grid(picture.size, crop)
    fitted, corner = fit(picture.size, grid, crop)
    canvas = Image.new("RGB", (grid[0] * crop, grid[1] * crop))
    canvas.paste(picture.resize(fitted, Image.BICUBIC), corner)
    tiles = [picture.resize((crop, crop), Image.BICUBIC)]
    for y in range(0, canvas.height, crop):
        tiles += [canvas.crop((x, y, x + crop, y + crop)) for x in range(0, canvas.width, crop)]
    return [np.asarray(t) for t in tiles], grid


def unpad(size, grid, side: int):
    """The ranges of the grid's token rows and columns that show the picture."""
    (width, height), across, down = size, grid[0] * side, grid[1] * side
    if width / height > across / down:
        off = (down - int(height * (across / width))) // 2
        return range(off, down - off), range(across)
    off = (across - int(width * (down / height))) // 2
    return range(down), range(off, across - off)


def pooled(rows: int, columns: int, limit: int):
    """The size that so many rows and columns are averaged to; `limit` is for the grid alone."""
    if rows * columns <= limit:
        return rows, columns
    ratio = rows / columns
    return int(math.sqrt(limit / ratio) * ratio), int(math.sqrt(limit / ratio))


def assemble(tokens, grid, size, limit: int) -> torch.Tensor:
    """tokens[0] whole, then the grid without its padding, pooled to the limit: [n, H]."""
    columns, rows = grid
    side = math.isqrt(tokens[0].shape[0])
    field = torch.stack(tokens[1:]).reshape(rows, columns, side, side, -1)
    field = field.permute(0, 2, 1, 3, 4).reshape(rows * side, columns * side, -1)
    down, across = unpad(size, grid, side)
    field = field[down.start:down.stop, across.start:across.stop]
    target = pooled(len(down), len(across), limit - side * side)
    if target != (len(down), len(across)):
        field = F.adaptive_avg_pool2d(field.permute(2, 0, 1), target).permute(1, 2, 0)
    return torch.cat([tokens[0], field.reshape(-1, field.shape[-1])])
