#!/usr/bin/env python3
"""Accuracy per kind of sentence on a folder of labelled clips (tools/train/clips.py).

By default through the element, as users run it (gst-launch-1.0, JSON out);
with --torch through the training code's own model, to tell the two apart.

    tools/evaluate.py CLIPS [--model DIR] [--prompt TEXT ...] [--torch] [--floors FILE]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict

DESCRIBE = "Describe the video."
SIGNAL = "What is the signal? Answer picture, bars, black or snow."


def through_element(path, prompts, args):
    """The first window's answers from valleyinfer, one process per prompt."""
    for prompt in prompts:
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as out:
            command = ["gst-launch-1.0", "-q", "filesrc", f"location={path}", "!", "decodebin", "!",
                       "valleyinfer", "name=v", f"prompt={prompt}",
                       *([f"model-path={args.model}"] if args.model else []),
                       "v.src", "!", "fakesink", "v.json_src", "!", "filesink", f"location={out.name}"]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout)
            lines = pathlib.Path(out.name).read_text().splitlines()
            if done.returncode or not lines:
                raise SystemExit(f"{path}: gst-launch-1.0 gave {done.returncode}, no result\n{done.stderr}")
            yield json.loads(lines[0]).get("result", "")


class Torch:
    """The same answers from the training code's model."""

    def __init__(self, args):
        here = pathlib.Path(__file__).resolve().parent
        sys.path.insert(0, str(here / "train"))
        import torch

        import checkpoint

        torch.set_num_threads(1)
        self.model, self.tok = checkpoint.read(args.model or here.parent / "assets/valley-tiny")

    def __call__(self, path, prompts, label):
        import answer
        import codec

        s = label["settings"]
        times = codec.slot_times(s, label["duration"])
        rows = answer.see(self.model, codec.decode(path, s, times)).detach()
        return [answer.greedy(self.model, self.tok, rows, p) for p in prompts]


def group(prompt, label):
    """The row of the table an answer counts in."""
    if prompt == SIGNAL:
        return "signal word"
    if prompt == DESCRIBE:
        return label["kind"]
    return "JSON" if "JSON" in prompt else "yes/no"


NO_OBJECT = ("bars", "snow", "black", "plain")


def table(rows):
    score = defaultdict(list)
    for row in rows:
        score[row["group"]].append(row["right"])
        if row["group"] in NO_OBJECT:
            score["no-object sentence"].append(row["right"])
    for name, hits in sorted(score.items()):
        print(f"{name:20} {100 * sum(hits) / len(hits):6.1f} %  {sum(hits):4d} of {len(hits)}")
    return {name: 100 * sum(hits) / len(hits) for name, hits in score.items()}


def attributes(rows):
    """Word by word, for sentences about one object."""
    places = ((1, "size"), (2, "color"), (3, "shape"), (5, "motion"), (8, "background"))
    right, count, confused = Counter(), 0, Counter()
    for row in rows:
        if row["group"] != "one object":
            continue
        want, got = row["expected"].rstrip(".").split(), row["answer"].rstrip(".").split()
        count += 1
        for at, name in places:
            word = got[at] if at < len(got) else ""
            right[name] += word == want[at]
            if word != want[at]:
                confused[f"{name}: {want[at]} said {word}"] += 1
    for _, name in places:
        if count:
            print(f"  one object, {name:11} {100 * right[name] / count:6.1f} %")
    for what, n in confused.most_common(8):
        print(f"    {n:3d} x {what}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("clips")
    p.add_argument("--model", help="checkpoint folder; default the bundled one")
    p.add_argument("--prompt", action="append", help="default: describe and signal; 'all' for every labelled prompt")
    p.add_argument("--torch", action="store_true")
    p.add_argument("--wrong", action="store_true", help="print every wrong answer")
    p.add_argument("--only", type=int, help="the first so many clips")
    p.add_argument("--timeout", type=float, default=60)
    p.add_argument("--floors", help="JSON of row -> least per cent; exit 1 below any of them")
    args = p.parse_args()
    folder = pathlib.Path(args.clips)
    labels = json.loads((folder / "labels.json").read_text())
    engine = Torch(args) if args.torch else None
    rows = []
    for name, label in list(labels.items())[: args.only]:
        prompts = list(label["answers"]) if args.prompt == ["all"] else args.prompt or [DESCRIBE, SIGNAL]
        prompts = [q for q in prompts if q in label["answers"]]
        said = engine(folder / name, prompts, label) if engine else through_element(folder / name, prompts, args)
        for prompt, answer in zip(prompts, said):
            expected = label["answers"][prompt]
            rows.append({"group": group(prompt, label), "answer": answer,
                         "expected": expected, "right": answer == expected})  # fmt: skip
            if args.wrong and answer != expected:
                print(f"{name}: {expected!r} expected, {answer!r} said")
    score = table(rows)
    attributes(rows)
    if args.floors:
        floors = json.loads(pathlib.Path(args.floors).read_text())
        low = [f"{k}: {score.get(k, 0):.1f} < {v}" for k, v in floors.items() if score.get(k, 0) < v]
        if low:
            raise SystemExit("below the floor: " + "; ".join(low))


if __name__ == "__main__":
    main()
