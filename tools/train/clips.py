"""Writes held-out clips as real encoded files: DIR/NNN.mp4 and DIR/labels.json.

labels.json holds, per file, its kind, its encoder settings and prompt -> expected answer.
Seeds of training (below 1,000) are refused, so that held-out stays held-out.
"""

import argparse
import json
import pathlib

import numpy as np

import codec
import configuration
import language
import preprocess
import questions
import scenes

SMALL = {(160, 120): 4, (320, 240): 2, (320, 180): 3, (240, 180): 2, (120, 160): 1, (180, 320): 1}
# Kinds by name, so that a suite can ask for the mix it needs: --kinds bars=10,one=15
MIX = {"bars": 10, "snow": 10, "black": 8, "plain": 12, "one": 25, "two": 15, "cut": 10,
       "checkerboard": 4, "gradient": 3, "circles": 3}  # fmt: skip


def answers(clip, rng):
    """Every prompt's answer; as many yes as no, and a third of the noes about pictures without objects."""
    out = {language.DESCRIBE: language.describe(clip), language.SIGNAL: language.signal(clip),
           language.LIST: language.list_json(clip)}  # fmt: skip
    asked = [pair for o in clip.objects for pair in ((o.color, o.shape), questions.near_miss(rng, clip, o))]
    if not clip.objects and rng.random() < 0.3:
        asked = [questions.asked(rng, clip)]
    for color, shape in asked:
        out[language.is_there(color, shape)] = language.yes_no(clip, color, shape)
    return out


def write(rng, kind, path, args, config):
    """One file; draws again until what it shows survived its codec. Returns its label."""
    while True:
        s = codec.settings(rng, SMALL if args.small else None, args.h265, held_out=not (args.small or args.familiar))
        if args.small:
            s["kbits"] = min(s["kbits"], 300)
        clip = codec.draw(rng, s, kind)
        codec.encode(clip, s, path)
        if args.most_kib and kind != "snow" and path.stat().st_size > args.most_kib * 1024:
            continue
        times = codec.slot_times(s, clip.duration)
        squares = [preprocess.pictures(f, config)[0] for f in codec.decode(path, s, times)]
        if codec.snow_survives(clip, times, squares) and codec.both_sides_seen(clip, times):
            return {"kind": language.kind(clip), "settings": s, "duration": clip.duration,
                    "cut": clip.cut if clip.after is not None else None, "answers": answers(clip, rng)}  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True)
    p.add_argument("--count", type=int, default=300)
    p.add_argument("--seed", type=int, default=2024)
    p.add_argument("--kinds", help="weights, such as bars=10,one=15")
    p.add_argument("--small", action="store_true", help="only frames up to 320x240, at 300 kbit/s")
    p.add_argument("--familiar", action="store_true", help="the picture sizes, frame rates and presets of training")
    p.add_argument("--h265", type=float, default=0.0, help="this part of the clips as H.265")
    p.add_argument("--most-kib", type=int, help="draw again what is larger (not snow): for clips kept in git")
    args = p.parse_args()
    if args.seed < 1000:
        p.error("seeds below 1000 belong to training")
    kinds = MIX
    if args.kinds:
        kinds = {k: float(v) for k, v in (part.split("=") for part in args.kinds.split(","))}
        if set(kinds) - set(scenes.WEIGHTS):
            p.error(f"--kinds: expected names among {', '.join(scenes.WEIGHTS)}")
    total = sum(kinds.values())
    # exact shares: every prefix of the weights' sum gets its clips, the order is shuffled
    edges = np.cumsum([v / total for v in kinds.values()])
    order = [list(kinds)[int(np.searchsorted(edges, (i + 0.5) / args.count))] for i in range(args.count)]
    rng = np.random.default_rng(args.seed)
    rng.shuffle(order)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    config = configuration.make(0, 0, 0)
    labels = {}
    for i, kind in enumerate(order):
        name = f"{i:03d}.mp4"
        labels[name] = write(np.random.default_rng((args.seed, i)), kind, out / name, args, config)
    (out / "labels.json").write_text(json.dumps(labels, indent=1) + "\n")
    print(f"{out}: {args.count} clips, seed {args.seed}")


if __name__ == "__main__":
    main()
