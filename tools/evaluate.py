#!/usr/bin/env python3
"""Prints what a model is right about on a folder of labelled clips (tools/train/clips.py).

By default through the element, as users run it; --everything adds windows of 2
and 8 frames and, in PyTorch, each branch of vision blinded.

    tools/evaluate.py CLIPS [--model DIR | --checkpoint FILE.pt] [--everything]
"""

import argparse
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "train"))

import figures  # noqa: E402
import language  # noqa: E402
from ask_element import Element  # noqa: E402

BUNDLED = pathlib.Path(__file__).resolve().parents[1] / "assets/valley-tiny"
RATES = {2: 1, 4: 2, 8: 4}  # frames of a window of 2 s: frames a second


def prompts(label, wanted):
    if wanted == ["all"]:
        return list(label["answers"])
    return [q for q in wanted or (language.DESCRIBE, language.SIGNAL) if q in label["answers"]]


def cut_unseen(label, rate):
    """Whether the window's last frame is still before the cut: its label is then not what it shows."""
    return label.get("cut") is not None and label["cut"] > 2 - 1 / rate


def ask(engine, clips, args, rate=2):
    rows = []
    for path, label in clips:
        if cut_unseen(label, rate):
            continue
        asked = prompts(label, args.prompt)
        for prompt, (answer, sure) in zip(asked, engine(path, label, asked)):
            expected = label["answers"][prompt]
            codec = label.get("settings", {}).get("codec", "libx264").replace("libx", "H.")
            rows.append({"clip": path.name, "prompt": prompt, "group": figures.group(prompt, label), "codec": codec,
                         "expected": expected, "answer": answer, "right": answer == expected,
                         "confidence": sure})  # fmt: skip
            if args.wrong and answer != expected:
                print(f"{path.name}: {expected!r} expected, {answer!r} said")
    return rows


def windows(args, clips):
    for frames in (2, 8):
        print(f"\n{frames} frames in a window")
        figures.table(ask(Element(args.model, RATES[frames], args.timeout), clips, args, RATES[frames]))


def blinded(args, clips):
    from ask_torch import Torch

    for blind in (None, "siglip", "eagle"):
        print(f"\nin PyTorch, {f'{blind} tokens set to zero' if blind else 'nothing blinded'}, {len(clips)} clips")
        figures.table(ask(Torch(args.model or BUNDLED, blind=blind), clips, args))


def engine_of(args):
    if not args.torch:
        return Element(args.model, RATES[args.frames], args.timeout)
    from ask_torch import Torch

    return Torch(args.model or BUNDLED, RATES[args.frames])


def report(args):
    folder = pathlib.Path(args.clips)
    labels = json.loads((folder / "labels.json").read_text())
    clips = [(folder / name, label) for name, label in labels.items()][: args.only]
    rows = ask(engine_of(args), clips, args, RATES[args.frames])
    score = figures.table(rows)
    figures.attributes(rows)
    if not args.torch:
        figures.confidence(rows)
    if args.rows:
        pathlib.Path(args.rows).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if args.everything:
        windows(args, clips)
        blinded(args, clips[:: max(1, len(clips) // args.blinded)])
    if args.floors:
        floors = json.loads(pathlib.Path(args.floors).read_text())
        low = [f"{k}: {score.get(k, 0):.1f} < {v}" for k, v in floors.items() if score.get(k, 0) < v]
        if low:
            raise SystemExit("below the floor: " + "; ".join(low))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("clips")
    p.add_argument("--model", help="checkpoint folder; default the bundled one")
    p.add_argument("--checkpoint", help="a .pt file of tools/train/captions.py instead of a folder")
    p.add_argument("--layout", help="with --checkpoint: the folder it was trained with, if the file does not say")
    p.add_argument("--prompt", action="append", help="default: describe and signal; 'all' for every labelled prompt")
    p.add_argument("--torch", action="store_true", help="in PyTorch instead of through the element")
    p.add_argument("--frames", type=int, choices=RATES, default=4, help="frames in a window of 2 s")
    p.add_argument("--everything", action="store_true", help="all prompts, windows of 2 and 8 frames, blinded branches")
    p.add_argument("--blinded", type=int, default=200, help="clips for the blinded branches")
    p.add_argument("--wrong", action="store_true", help="print every wrong answer")
    p.add_argument("--rows", help="write every answer to this JSONL file")
    p.add_argument("--only", type=int, help="the first so many clips")
    p.add_argument("--timeout", type=float, default=60)
    p.add_argument("--floors", help="JSON of row -> least per cent; exit 1 below any of them")
    args = p.parse_args()
    if args.everything:
        args.prompt = ["all"]
    if not args.checkpoint:
        return report(args)
    import export

    with tempfile.TemporaryDirectory() as folder:
        export.main(args.checkpoint, folder, args.layout)
        args.model = folder
        return report(args)


if __name__ == "__main__":
    main()
