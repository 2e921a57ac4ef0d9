"""A developer's test: teaches the bundled model a star, and sees that it keeps what it knew.

python test_finetune.py [--minutes 2]; prints its seed; needs ffmpeg and a few minutes of one core, so no suite runs it.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image, ImageDraw

import answer
import captions
import checkpoint
import codec
import finetune
import footage
import language
from sequences import Packer

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ANSWER = "The station logo, a yellow star."


def star(rng, s, path):
    """Two seconds of a still yellow star somewhere on a dark blue ground."""
    w, h = s["width"], s["height"]
    radius = rng.uniform(0.2, 0.35) * min(w, h)
    cx, cy = rng.uniform(radius, w - radius), rng.uniform(radius, h - radius)
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    reach = radius * np.where(np.arange(10) % 2, 0.4, 1)
    picture = Image.new("RGB", (w, h), tuple(int(v) for v in rng.integers((0, 0, 70), (30, 30, 130))))
    points = list(zip(cx + reach * np.cos(angle), cy + reach * np.sin(angle)))
    ImageDraw.Draw(picture).polygon(points, fill=(250, 210, 20))
    codec.write([np.asarray(picture)] * (2 * s["fps"]), s, path)


def clips(rng, folder, count):
    folder.mkdir()
    with open(folder / "captions.jsonl", "w") as out:
        for i in range(count):
            name = f"{i}.mp4"
            star(rng, codec.settings(rng, {(320, 180): 1, (320, 240): 1}), folder / name)
            out.write(json.dumps({"clip": name, "answer": ANSWER}) + "\n")


@torch.no_grad()
def score(model, folder, answers):
    """The part of {file: answer to "Describe the video."} that comes out right, in PyTorch."""
    net, tok = checkpoint.read(model)
    packer, right = Packer(tok), []
    for name, expected in answers.items():
        rows = answer.see(net, footage.frames(folder / name)[:4])
        batch = {"rows": rows, "frames": len(rows), "turns": [[(language.DESCRIBE, expected)]]}
        _, _, end, packed = captions.forward(net, packer, batch)
        _, hits, asked = captions.answer_loss(net, end, packed)
        right += finetune.exact(packed, hits, asked)
    return sum(right) / len(right)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--minutes", type=float, default=2)
    p.add_argument("--seed", type=int, default=77)
    args = p.parse_args()
    print(f"seed {args.seed}", flush=True)
    rng = np.random.default_rng(args.seed)
    known = ROOT / "tests/clips"
    labels = json.loads((known / "labels.json").read_text())
    old = {n: v["answers"][language.DESCRIBE] for n, v in labels.items()}
    with tempfile.TemporaryDirectory() as box:
        box = pathlib.Path(box)
        clips(rng, box / "shown", 12)
        clips(rng, box / "unseen", 8)
        new = {f"{i}.mp4": ANSWER for i in range(8)}
        bundled, taught = ROOT / "assets/valley-tiny", box / "taught"
        before = score(bundled, box / "unseen", new)
        subprocess.run([sys.executable, HERE, "--init", bundled, "--clips", box / "shown", "--out", taught,
                        "--minutes", str(args.minutes), "--seed", str(args.seed)], check=True)  # fmt: skip
        after, kept, had = score(taught, box / "unseen", new), score(taught, known, old), score(bundled, known, old)
    print(f"unseen stars: {before:.0%} before, {after:.0%} after; {known.name}: {had:.0%} before, {kept:.0%} after")
    if before > 0 or after < 0.85 or kept < had - 0.05:
        raise SystemExit("expected none, then at least 85 % of the stars, and at most 5 points lost elsewhere")


if __name__ == "__main__":
    main()
