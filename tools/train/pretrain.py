"""Stage 1: both towers and their connectors learn shape, then color, place and pattern, on single frames.

End to end from nothing the captions never leave chance on color, shape and
motion. Dense heads on every patch and token make the towers learn them within
minutes; the heads are dropped afterwards.
"""

import argparse
import sys
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


def phase(model, heads, args, shape_only, minutes, frames, log):
    parameters = [*model.model.vision_tower.parameters(), *model.model.mm_projector.parameters(),
                  *model.model.qwen2vl_vision_tower.parameters(), *heads.parameters()]  # fmt: skip
    opt = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=0.01, betas=(0.9, 0.98))
    stream = data.batches(Frames(model.config, args.batch, shape_only), args.seed + shape_only, args.workers)
    start, seen, means, count = time.time(), 0, {}, 0
    steps = frames // args.batch
    for i in range(steps):
        late = max(i / steps, (time.time() - start) / (60 * minutes))
        if late >= 1:
            break
        rate = args.lr * min(1, (i + 1) / 100) * min(1, max(0.05, (1 - late) / 0.3))
        for group in opt.param_groups:
            group["lr"] = rate
        loss, score = step(model, heads, next(stream), shape_only)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        opt.step()
        seen += args.batch
        for k, v in {**score, "loss": loss.item()}.items():
            means[k] = means.get(k, 0) + v
        count += 1
        if count == 50:
            line = "  ".join(f"{k} {v / count:.3f}" for k, v in sorted(means.items()))
            print(f"{time.time() - start:6.0f} s {seen:7d} frames  {line}", file=log, flush=True)
            means, count = {}, 0


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True, help="checkpoint file to write, outside the repository")
    p.add_argument("--layout", required=True, help="folder with config.json (assets/valley-tiny)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--batch", type=int, default=96)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--shape-frames", type=int, default=100_000)
    p.add_argument("--all-frames", type=int, default=100_000)
    p.add_argument("--minutes", type=float, nargs=2, default=(6, 6), help="at most, of each phase")
    p.add_argument("--init", help="checkpoint file to start from")
    p.add_argument("--weights", nargs="*", default=[], help="how often kinds of clips are drawn, such as two=60 (see scenes.py)")
    args = p.parse_args()
    scenes.reweigh(args.weights)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    model = Valley(checkpoint.configuration.load(args.layout))
    heads = Heads(model.config)
    if args.init:
        saved = torch.load(args.init)
        model.load_state_dict(saved["model"])
        if "heads" in saved:
            heads.load_state_dict(saved["heads"])

    for shape_only, minutes, frames in ((True, args.minutes[0], args.shape_frames), (False, args.minutes[1], args.all_frames)):
        if minutes:
            phase(model, heads, args, shape_only, minutes, frames, sys.stdout)
        torch.save({"model": model.state_dict(), "heads": heads.state_dict()}, args.out)


if __name__ == "__main__":
    main()
