"""Endless seeded batches of rendered frames (for the towers) and clips (for captions).

One batch has one picture size, so that Eagle's grid is the same all through it.
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

import preprocess
import render
import scenes

# Small sources: the model's own resize makes larger ones look the same. Eagle's grids all occur.
SIZES = ((160, 120), (320, 240), (320, 180), (214, 120), (240, 240), (120, 160), (180, 320), (240, 180), (320, 180))


class Stream(IterableDataset):
    """Calls make(rng) for ever; each worker has a stream of its own."""

    def __init__(self, make, seed):
        self.make, self.seed = make, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        torch.set_num_threads(1)
        while True:
            yield self.make(rng)


def batches(make, seed, workers=1):
    loader = DataLoader(Stream(make, seed), batch_size=None, num_workers=workers, prefetch_factor=6)
    return iter(loader)


def stack(clips, times, config):
    """Both towers' inputs of each clip at its times, uint8 [frames in all, h, w, 3]."""
    pairs = [preprocess.pictures(f, config) for c, ts in zip(clips, times) for f in render.frames(c, ts)]
    squares, pictures = zip(*pairs)
    return torch.from_numpy(np.stack(squares)), torch.from_numpy(np.stack(pictures))
