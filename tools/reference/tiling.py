"""How a lone picture is cut into tiles, and what is left of their tokens ("anyres").

Pillow does the resizing; the arithmetic follows the release's description.
Sizes are (width, height) throughout.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F


def choose_grid(size, crop: int, columns: int = 3, rows: int = 3):
    """The (columns, rows) that keep most of the picture's area, then waste least."""
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


def cut(rgb: np.ndarray, crop: int):
    """The whole picture squashed, then the grid's tiles row by row; and the grid."""
    picture = Image.fromarray(rgb)
    width, height = picture.size
    columns, rows = choose_grid(picture.size, crop)
    across, down = columns * crop, rows * crop
    if across / width < down / height:
        fitted = (across, min(math.ceil(height * (across / width)), down))
    else:
        fitted = (min(math.ceil(width * (down / height)), across), down)
    canvas = Image.new("RGB", (across, down))
    canvas.paste(picture.resize(fitted, Image.BICUBIC), ((across - fitted[0]) // 2, (down - fitted[1]) // 2))
    tiles = [picture.resize((crop, crop), Image.BICUBIC)]
    for y in range(0, down, crop):
        tiles += [canvas.crop((x, y, x + crop, y + crop)) for x in range(0, across, crop)]
    return [np.asarray(t) for t in tiles], (columns, rows)


def assemble(tokens, grid, size, limit: int) -> torch.Tensor:
    """tokens[0] whole, then the grid without its padding, pooled to the limit: [n, H]."""
    columns, rows = grid
    side = math.isqrt(tokens[0].shape[0])
    field = torch.stack(tokens[1:]).reshape(rows, columns, side, side, -1)
    field = field.permute(0, 2, 1, 3, 4).reshape(rows * side, columns * side, -1)
    down, across = field.shape[:2]
    width, height = size
    if width / height > across / down:
        cut_off = (down - int(height * (across / width))) // 2
        field = field[cut_off:down - cut_off]
    else:
        cut_off = (across - int(width * (down / height))) // 2
        field = field[:, cut_off:across - cut_off]
    left = limit - side * side
    if field.shape[0] * field.shape[1] > left:
        ratio = field.shape[0] / field.shape[1]
        target = (int(math.sqrt(left / ratio) * ratio), int(math.sqrt(left / ratio)))
        field = F.adaptive_avg_pool2d(field.permute(2, 0, 1), target).permute(1, 2, 0)
    return torch.cat([tokens[0], field.reshape(-1, field.shape[-1])])
