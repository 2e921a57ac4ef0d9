"""The last stages' clips: encoded, decoded and resized once, kept as small shards outside the repository.

python codec_cache.py --out DIR --layout assets/valley-tiny --count N --seed S
"""

import argparse
import pathlib
import pickle
import tempfile

import numpy as np
import torch

import checkpoint
import codec
import language
import preprocess
import scenes

SHARD = 32
RATES = (2, 1, 4)  # frames a second: windows of 4, 2 and 8 frames out of one file


def views(rng, config, folder, kind):
    """One encoded clip at each rate as (clip, times, squares, pictures), without those where the codec left no snow."""
    s = codec.settings(rng, h265=0.2)
    clip = codec.draw(rng, s, kind)
    path = pathlib.Path(folder) / "clip.mp4"
    codec.encode(clip, s, path)
    for rate in RATES:
        times = codec.slot_times(s, clip.duration, rate)
        pairs = [preprocess.pictures(f, config) for f in codec.decode(path, s, times)]
        squares, pictures = map(np.stack, zip(*pairs))
        if codec.snow_survives(clip, times, squares) and codec.both_sides_seen(clip, times):
            yield clip, times, squares, pictures


class Batches:
    """Draws training batches from the shards there are, new ones included as they appear."""

    def __init__(self, folder, size, questions):
        """`size`: clips a batch, by the number of frames."""
        self.folder, self.size, self.questions = pathlib.Path(folder), size, questions
        self.groups, self.known, self.calls = {}, set(), 0

    def refresh(self):
        for path in sorted(self.folder.glob("*.pkl")):
            if path not in self.known:
                self.known.add(path)
                for item in pickle.loads(path.read_bytes()):
                    self.groups.setdefault((len(item[1]), item[3].shape[1:]), []).append(item)

    def __call__(self, rng):
        from helpers import truth

        if self.calls % 100 == 0:
            self.refresh()
        self.calls += 1
        if not self.groups:
            raise SystemExit(f"{self.folder}: no encoded clips here; codec_cache.py makes them")
        least = min(8, max(map(len, self.groups.values())))  # a batch of few would be seen too often
        groups = [g for g in self.groups.values() if len(g) >= least]
        group = groups[rng.choice(len(groups), p=np.array([len(g) for g in groups]) / sum(map(len, groups)))]
        size = min(self.size(len(group[0][1])), len(group))
        items = [group[i] for i in rng.choice(len(group), size, replace=False)]
        clips, times, squares, pictures = zip(*items)
        return {
            "frames": len(times[0]),
            "siglip": torch.from_numpy(np.concatenate(squares)),
            "eagle": torch.from_numpy(np.concatenate(pictures)),
            "turns": self.questions(rng, clips),
            "truth": torch.from_numpy(np.stack([truth(c, t) for c, t in zip(clips, times)])),
            "kinds": [language.kind(c) for c in clips],
        }


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True)
    p.add_argument("--layout", required=True)
    p.add_argument("--count", type=int, default=2000)
    p.add_argument("--seed", type=int, default=100)
    p.add_argument("--weights", nargs="*", default=[], help="how often kinds are drawn, such as two=60 (see scenes.py)")
    p.add_argument("--kind", help="only this kind of clip (a key of scenes.WEIGHTS), for what a model confuses")
    args = p.parse_args()
    scenes.reweigh(args.weights)
    config = checkpoint.configuration.load(args.layout)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for shard in range(-(-args.count // SHARD)):
            path = out / f"{args.seed}-{shard:05d}.pkl"
            if path.exists():
                continue
            rng = np.random.default_rng((args.seed, shard))
            items = [view for _ in range(SHARD) for view in views(rng, config, folder, args.kind)]
            half = path.with_suffix(".part")
            half.write_bytes(pickle.dumps(items))
            half.rename(path)
            print(f"{path}: {len(items)} windows", flush=True)


if __name__ == "__main__":
    main()
