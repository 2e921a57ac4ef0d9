"""Stage 1: both towers and their connectors learn shape, then color, place and pattern, on single frames.

End to end from nothing the captions never leave chance on color, shape and
motion. Dense heads on every patch and token make the towers learn them within
minutes; the heads are dropped afterwards. Stopped and started again with the
same --out, it goes on where it was.
"""

import argparse
import itertools
import pathlib
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import checkpoint
import data
import preprocess
import scenes
from language import COLORS, SHAPES
from model import Valley

COLOR_NAMES = list(COLORS)
PATTERNS = ["bars", "snow", "black", "plain", "checkerboard", "gradient", "circles", "objects"]
# A token's answer: nothing or a shape, its color, its size, and its center from here
PARTS = (1 + len(SHAPES), len(COLOR_NAMES), 2, 2)


class Heads(nn.Module):
    def __init__(self, config):
        super().__init__()
        vision, eagle, hidden = config["mm_hidden_size"], config["eagle_config"]["embed_dim"], config["hidden_size"]
        self.dense = nn.ModuleDict({
            "siglip patches": nn.Linear(vision, sum(PARTS)),
            "eagle patches": nn.Linear(eagle, sum(PARTS)),
            "siglip tokens": nn.Linear(hidden, sum(PARTS)),
            "eagle tokens": nn.Linear(hidden, sum(PARTS)),
        })
        # Where in the whole picture: without it the decoder cannot tell places, hence motion, for long
        self.spot = nn.ModuleDict({k: nn.Linear(hidden, 2) for k in ("siglip tokens", "eagle tokens")})
        self.whole = nn.ModuleDict({
            "siglip tokens": nn.Linear(hidden, len(PATTERNS) + len(COLOR_NAMES)),
            "eagle tokens": nn.Linear(hidden, len(PATTERNS) + len(COLOR_NAMES)),
        })


def describe(clip):
    """A frame's truth as numbers: objects in whole-frame fractions, pattern, background color."""
    left, top, w, h = clip.content()
    rows = np.full((2, 7), -1, np.float32)
    for row, o in zip(rows, clip.objects):
        side = o.side * min(w, h)
        row[:] = ((left + o.x * w) / clip.width, (top + o.y * h) / clip.height,
                  side / clip.width, side / clip.height,
                  SHAPES.index(o.shape), COLOR_NAMES.index(o.color), o.size == "large")  # fmt: skip
    pattern = "objects" if clip.objects else clip.state.pattern
    color = COLOR_NAMES.index(clip.state.color) if clip.state.color else -100
    return rows, PATTERNS.index(pattern), color


class Frames:
    """Makes batches of single frames. With `shape_only`, one object of any size in each."""

    def __init__(self, config, size, shape_only):
        self.config, self.size, self.shape_only = config, size, shape_only

    def draw(self, rng, w, h):
        if self.shape_only:
            clip = scenes.clip(rng, w, h, 1.0, "one", still=1.0)
            o = clip.objects[0]
            o.side = rng.uniform(0.15, 0.5)
            scenes.place(rng, o, clip)
            return clip
        clip = scenes.clip(rng, w, h, 1.0, still=1.0)
        return scenes.as_still(clip)

    def __call__(self, rng):
        w, h = scenes.pick(rng, data.SIZES)
        clips = [self.draw(rng, w, h) for _ in range(self.size)]
        siglip, eagle = data.stack(clips, [[0.0]] * self.size, self.config)
        objects, pattern, color = zip(*map(describe, clips))
        return siglip, eagle, torch.from_numpy(np.stack(objects)), torch.tensor(pattern), torch.tensor(color)


def owners(objects, rows, columns):
    """For each cell of a grid the object that owns it, or -1; and the cells' centers."""
    x = (torch.arange(columns) + 0.5) / columns
    y = (torch.arange(rows) + 0.5) / rows
    cx, cy = x.repeat(rows), y.repeat_interleave(columns)
    ox, oy, ow, oh = (objects[:, :, i, None] for i in range(4))

    def overlap(center, size, cell, extent):
        low = torch.maximum(center - extent / 2, cell - size / 2)
        high = torch.minimum(center + extent / 2, cell + size / 2)
        return (high - low).clamp(min=0) / size

    share = overlap(ox, 1 / columns, cx, ow) * overlap(oy, 1 / rows, cy, oh)
    holds = ((ox - cx).abs() <= 0.5 / columns) & ((oy - cy).abs() <= 0.5 / rows)
    share = torch.where(objects[:, :, 4, None] >= 0, torch.maximum(share, holds.float()), torch.zeros(()))
    best, owner = share.max(1)
    return torch.where(best >= 0.3, owner, -1), torch.stack((cx, cy), -1)


def dense_loss(out, spot, objects, rows, columns, order, shape_only, score, name):
    owner, centers = owners(objects, rows, columns)
    if order is not None:
        owner, centers = owner[:, order], centers[order]
    has = owner >= 0
    mine = torch.gather(objects, 1, owner.clamp(min=0)[..., None].expand(-1, -1, 7))
    kind, color, size, place = out.float().split(PARTS, -1)
    target = torch.where(has, mine[..., 4].long() + 1, 0)
    each = F.cross_entropy(kind.transpose(1, 2), target, reduction="none")
    loss = each[has].mean() + 0.5 * each[~has].mean()
    guess = kind[has][:, 1:].argmax(-1) == mine[has][:, 4].long()
    score[name + " shape"] = guess.float().mean().item()
    if shape_only:
        return loss
    loss = loss + F.cross_entropy(color[has], mine[has][:, 5].long())
    loss = loss + 0.5 * F.cross_entropy(size[has], mine[has][:, 6].long())
    offset = (mine[..., :2] - centers)[has] * 8
    loss = loss + F.smooth_l1_loss(place[has], offset, beta=0.1)
    if spot is not None:
        wrong = spot.float()[has] * 0.25 - (mine[has][:, :2] - 0.5)
        loss = loss + 16 * F.smooth_l1_loss(wrong, torch.zeros_like(wrong), beta=0.02)
        score[name + " spot"] = wrong.abs().mean().item()
    score[name + " color"] = (color[has].argmax(-1) == mine[has][:, 5].long()).float().mean().item()
    score[name + " place"] = (place[has] - offset).abs().mean().item() / 8
    return loss


def step(model, heads, batch, shape_only):
    siglip, eagle, objects, pattern, color = batch
    body, score = model.model, {}
    with torch.autocast("cpu", torch.bfloat16):
        s = body.vision_tower(preprocess.siglip(siglip))
        e = body.qwen2vl_vision_tower.patches(preprocess.eagle(eagle))
        st, et = body.mm_projector(s), body.qwen2vl_vision_tower.merger(e)
        found = {"siglip patches": s, "eagle patches": e, "siglip tokens": st, "eagle tokens": et}
        out = {k: heads.dense[k](v) for k, v in found.items()}
        spot = {k: heads.spot[k](found[k]) for k in heads.spot}
        whole = {k: heads.whole[k](found[k].mean(1)) for k in heads.whole}
    patch = model.config["vit_patch_size"]
    side = siglip.shape[1] // patch
    rows, columns = eagle.shape[1] // patch, eagle.shape[2] // patch
    order = body.qwen2vl_vision_tower.merge_order(rows, columns)[0]
    grids = {
        "siglip patches": (side, side, None),
        "eagle patches": (rows, columns, order),
        "siglip tokens": (side // 2, side // 2, None),
        "eagle tokens": (rows // 2, columns // 2, None),
    }
    loss = sum(dense_loss(out[k], spot.get(k), objects, *grids[k], shape_only, score, k) for k in grids)
    if not shape_only:
        for k, v in whole.items():
            kind, ground = v.float().split((len(PATTERNS), len(COLOR_NAMES)), -1)
            loss = loss + F.cross_entropy(kind, pattern) + F.cross_entropy(ground, color, ignore_index=-100)
            score[k + " pattern"] = (kind.argmax(-1) == pattern).float().mean().item()
    return loss, score


def report(means, count, seconds, seen):
    line = "  ".join(f"{k} {v / count:.3f}" for k, v in sorted(means.items()))
    print(f"{seconds:6.0f} s {seen:7d} frames  {line}", flush=True)


class Run:
    """Towers, heads and optimiser, and how far they are: which phase, and its frames so far."""

    def __init__(self, args):
        self.args, self.phase, self.seen = args, 0, 0
        self.model = Valley(checkpoint.configuration.load(args.layout))
        self.heads = Heads(self.model.config)
        body = self.model.model
        self.parameters = [*body.vision_tower.parameters(), *body.mm_projector.parameters(),
                           *body.qwen2vl_vision_tower.parameters(), *self.heads.parameters()]  # fmt: skip
        self.begin(0)
        if pathlib.Path(args.out).exists():
            self.load(torch.load(args.out))

    def begin(self, phase):
        self.phase, self.seen = phase, 0
        self.opt = torch.optim.AdamW(self.parameters, lr=self.args.lr, weight_decay=0.01, betas=(0.9, 0.98))

    def load(self, saved):
        self.model.load_state_dict(saved["model"])
        self.heads.load_state_dict(saved["heads"])
        self.opt.load_state_dict(saved["opt"])
        self.phase, self.seen = saved["phase"], saved["seen"]

    def save(self):
        checkpoint.save({"model": self.model.state_dict(), "heads": self.heads.state_dict(),
                         "opt": self.opt.state_dict(), "phase": self.phase, "seen": self.seen}, self.args.out)  # fmt: skip

    def train(self, shape_only, frames):
        args = self.args
        seed = args.seed + 1000 * self.phase + self.seen
        stream = data.batches(Frames(self.model.config, args.batch, shape_only), seed, args.workers)
        start = saved_at = time.time()
        means, count = {}, 0
        for i in itertools.count(1):
            late = self.seen / frames
            if late >= 1:
                return self.save()
            for group in self.opt.param_groups:
                group["lr"] = args.lr * min(1, i / 100) * min(1, max(0.05, (1 - late) / 0.3))
            loss, score = step(self.model, self.heads, next(stream), shape_only)
            self.opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.opt.step()
            self.seen += args.batch
            count += 1
            for k, v in {**score, "loss": loss.item()}.items():
                means[k] = means.get(k, 0) + v
            if count == 50:
                report(means, count, time.time() - start, self.seen)
                means, count = {}, 0
            if time.time() - saved_at > 120:
                self.save()
                saved_at = time.time()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True, help="checkpoint file, outside the repository; gone on from if it exists")
    p.add_argument("--layout", required=True, help="folder with config.json (assets/valley-tiny)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--batch", type=int, default=96)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--shape-frames", type=int, default=70_000, help="first: one object of any size, only its shape is asked")
    p.add_argument("--all-frames", type=int, default=110_000, help="then: everything")
    p.add_argument("--weights", nargs="*", default=[], help="how often kinds of clips are drawn, such as two=60 (see scenes.py)")
    args = p.parse_args()
    scenes.reweigh(args.weights)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    run = Run(args)
    for phase, frames in enumerate((args.shape_frames, args.all_frames)):
        if run.phase < phase:
            run.begin(phase)
        if run.phase == phase:
            run.train(phase == 0, frames)


if __name__ == "__main__":
    main()
