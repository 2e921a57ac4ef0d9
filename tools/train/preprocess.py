"""One frame to both towers' inputs, exactly as deployed: Pillow's antialiased bicubic on 8 bits."""

import math

import numpy as np
import torch
from PIL import Image

SIGLIP_MEAN, SIGLIP_STD = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)
EAGLE_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
EAGLE_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def smart_resize(width, height, least, most, factor=28):
    """Qwen2-VL's grid: multiples of `factor` with the area between the bounds."""
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if h * w > most:
        beta = math.sqrt(height * width / most)
        h, w = (max(factor, math.floor(v / beta / factor) * factor) for v in (height, width))
    elif h * w < least:
        beta = math.sqrt(least / (height * width))
        h, w = (math.ceil(v * beta / factor) * factor for v in (height, width))
    return w, h


def pictures(frame, config):
    """uint8 frame [h, w, 3] to (SigLIP's square, Eagle's picture), both uint8 [h, w, 3]."""
    image = Image.fromarray(frame)
    side = config["vit_crop_size"]
    e = config["eagle_config"]
    size = smart_resize(*image.size, e["min_pixels"], min(e["max_pixels"], config["frame_max_pixels"]))
    square = image.resize((side, side), Image.BICUBIC)
    return np.asarray(square), np.asarray(image.resize(size, Image.BICUBIC))


def siglip(batch):
    """uint8 [n, h, w, 3] to normalised [n, 3, h, w]."""
    return (batch.permute(0, 3, 1, 2).float() / 255 - SIGLIP_MEAN) / SIGLIP_STD


def eagle(batch):
    return (batch.permute(0, 3, 1, 2).float() / 255 - EAGLE_MEAN) / EAGLE_STD
