"""Teaches a checkpoint something new from a folder of clips: python tools/train --init FOLDER --clips DIR --out FOLDER.

DIR holds video files and captions.jsonl, a line per answer:
{"clip": "logo-1.mp4", "prompt": "Describe the video.", "answer": "The station logo."}
Half of the batches are newly rendered clips, so that it keeps what it can do.
"""

import argparse
import pathlib
import shutil
import time

import numpy as np
import torch
from torch import nn

import captions
import checkpoint
import footage
import preprocess
import scenes
from sequences import Packer


class Shown:
    """Batches of windows cut from the user's clips, no two quite alike."""

    def __init__(self, folder, config, rows):
        self.rows, self.groups = rows, {}
        for path, turns in footage.captioned(folder).items():
            for phase in (0.0, 0.23):
                pairs = [preprocess.pictures(f, config) for f in footage.frames(path, start=phase)]
                if pairs:
                    squares, pictures = map(np.stack, zip(*pairs))
                    self.groups.setdefault(pictures.shape[1:], []).append((squares, pictures, turns))

    @staticmethod
    def vary(rng, frames):
        """A little other level and grain: the clips are few and must not be known by their pixels."""
        level, grain = rng.uniform(0.93, 1.07), rng.uniform(0, 4)
        return np.clip(frames * level + rng.normal(0, grain + 0.01, frames.shape), 0, 255).astype(np.uint8)

    def __call__(self, rng):
        sizes = list(self.groups)
        share = np.array([len(self.groups[s]) for s in sizes], float)
        items = self.groups[sizes[rng.choice(len(sizes), p=share / share.sum())]]
        chosen = [scenes.pick(rng, items) for _ in range(self.rows)]
        count = min(4 if rng.random() < 0.6 else int(rng.integers(1, 9)), *(len(c[0]) for c in chosen))
        squares, pictures, turns = [], [], []
        for s, p, t in chosen:
            at = int(rng.integers(len(s) - count + 1))
            squares.append(self.vary(rng, s[at : at + count]))
            pictures.append(self.vary(rng, p[at : at + count]))
            turns.append(t)
        squares, pictures = (torch.from_numpy(np.concatenate(x)) for x in (squares, pictures))
        return {"frames": count, "siglip": squares, "eagle": pictures, "turns": turns}


def exact(packed, right, rows):
    """Which of a batch's answers come out whole."""
    for i in range(len(right)):
        for b in range(int(packed.branch[i].max()) + 1):
            mine = (packed.branch[i] == b) & rows[i]
            yield bool(right[i][mine].all())


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(args.seed)
    model, tok = checkpoint.read(args.init)
    packer = Packer(tok)
    shown = Shown(args.clips, model.config, args.rows)
    rehearsed = captions.Clips(model.config, args.rows)
    opt = torch.optim.AdamW(captions.groups(model, args.tower), lr=args.lr, weight_decay=0.01)
    start, score, reported = time.time(), {"new": [], "old": []}, 0
    while (late := (time.time() - start) / (60 * args.minutes)) < 1:
        name = "old" if rng.random() < args.rehearse else "new"
        batch = (rehearsed if name == "old" else shown)(rng)
        with torch.autocast("cpu", torch.bfloat16):
            _, _, end, packed = captions.forward(model, packer, batch)
            loss, right, rows = captions.answer_loss(model, end, packed)
        for g in opt.param_groups:
            g["lr"] = args.lr * g["scale"] * min(1, 2 * (1 - late))
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        score[name] += exact(packed, right, rows)
        if late >= reported + 0.1:
            reported = late
            cells = "  ".join(f"{k}: {sum(v)} of {len(v)} right" for k, v in score.items())
            print(f"{(time.time() - start) / 60:5.1f} min  {cells}", flush=True)
            score = {"new": [], "old": []}
    return model


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--init", required=True, help="checkpoint folder to start from (assets/valley-tiny)")
    p.add_argument("--clips", required=True, help="folder of clips with captions.jsonl")
    p.add_argument("--out", required=True, help="checkpoint folder to write")
    p.add_argument("--minutes", type=float, default=5)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rows", type=int, default=8, help="clips a step")
    p.add_argument("--lr", type=float, default=3e-4)
    p.add_argument("--tower", type=float, default=0.3, help="the towers' part of the learning rate")
    p.add_argument("--rehearse", type=float, default=0.5, help="part of the batches that is the model's own language")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args()
    model = train(args)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(pathlib.Path(args.init) / name, out / name)
    checkpoint.write_weights(model, out)
    print(f"{out}: written; play it with model-path={out}")
