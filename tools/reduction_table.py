#!/usr/bin/env python3
"""What fewer vision tokens cost a model in right answers, on a folder of labelled clips.

    tools/reduction_table.py measure CLIPS ROWS.jsonl [--build DIR] [--model DIR] [--first N] [--number N] [--ways WAY...]
    tools/reduction_table.py table ROWS.jsonl... [--csv FILE] [--plot FILE]

`measure` shows each clip's first window of 2 s to the engine (tests/reduction-probe.c of
a build, where a WAY is explained) in every way; `table` prints per way the tokens left
and the share of right answers.
"""

import argparse
import csv
import json
import pathlib
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools/train"))

import codec  # noqa: E402
import figures  # noqa: E402
import language  # noqa: E402

SHARES = (75, 50, 25, 10)
WAYS = [
    "none@100",
    *(f"{how}@{share}" for how in ("pool", "eagle", "pool+eagle") for share in SHARES),
    *(f"{how}@100/{t}" for how in ("drop", "drop+close") for t in (0.9999, 0.999, 0.99, 0.95, 0.8, 0.4)),
    *(f"pool+eagle+drop+close@{share}/{t}" for share in SHARES for t in (0.999, 0.95)),
    *(f"grid@{side},{cells}" for side in (0, 3, 2, 1) for cells in (0, 8, 6, 4, 2, 1) if (side, cells) != (0, 0)),
]
COLUMNS = ("sentences", "no object", "one object", "two objects", "signal")
QUESTIONS = (language.DESCRIBE, language.SIGNAL)
RATE = 2


def window(path, label):
    """A window's bytes for the probe."""
    frames = codec.decode(path, label["settings"], codec.slot_times(label["settings"], label["duration"], RATE))
    asked = [q.encode() for q in QUESTIONS]
    height, width = frames[0].shape[:2]
    return b"".join((
        struct.pack("=6I", len(frames), width, height, len(asked), 1000 // RATE, 0),
        *(frame.tobytes() for frame in frames),
        *(struct.pack("=I", len(q)) + q for q in asked),
    ))  # fmt: skip


def measure(args):
    folder = pathlib.Path(args.clips)
    labels = json.loads((folder / "labels.json").read_text())
    clips = [(n, label) for n, label in labels.items() if label.get("cut") is None or label["cut"] <= 2 - 1 / RATE]
    ways = args.ways or WAYS
    probe = subprocess.Popen(
        [pathlib.Path(args.build) / "tests/reduction-probe", args.model, *ways],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    with open(args.rows, "w") as out:
        for name, label in clips[args.first : args.first + args.number]:
            probe.stdin.write(window(folder / name, label))
            probe.stdin.flush()
            for _ in ways:
                for question in QUESTIONS:
                    way, tokens, before, text = probe.stdout.readline().decode().rstrip("\n").split("\t")
                    expected = label["answers"][question]
                    row = {"clip": name, "way": way, "group": figures.group(question, label), "tokens": int(tokens),
                           "before": int(before), "right": text.encode().decode("unicode_escape") == expected}  # fmt: skip
                    out.write(json.dumps(row) + "\n")
            out.flush()
    probe.stdin.close()
    if probe.wait():
        raise SystemExit(f"reduction-probe gave {probe.returncode}")


def column(group):
    """The column of the table that an answer counts in, beside all sentences'."""
    if group == "signal word":
        return "signal"
    return group if "object" in group else "no object"


def tally(paths):
    """Per way, in the order measured: clips, tokens, share of the tokens, per cent right by column."""
    ways = {}
    for path in paths:
        for line in pathlib.Path(path).read_text().splitlines():
            row = json.loads(line)
            way = ways.setdefault(row["way"], {c: [] for c in COLUMNS})
            way.setdefault("tokens", []).append(row["tokens"])
            way.setdefault("before", []).append(row["before"])
            way[column(row["group"])].append(row["right"])
            if row["group"] != "signal word":
                way["sentences"].append(row["right"])
    return [
        {"way": name, "clips": len(way["sentences"]), "tokens": sum(way["tokens"]) / len(way["tokens"]),
         "share": 100 * sum(way["tokens"]) / sum(way["before"]), **{c: figures.percent(way[c]) for c in COLUMNS}}
        for name, way in ways.items()
    ]  # fmt: skip


def plot(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = {}
    for row in rows:
        how, setting = row["way"].split("@")
        share, _, threshold = setting.partition("/")
        if how.startswith("pool+eagle+"):
            how += f", threshold {threshold}"
        lines.setdefault(how, []).append((row["share"], row["sentences"]))
    grid = lines.pop("grid", [])
    start = lines.pop("none")
    figure, axes = plt.subplots(figsize=(8, 5))
    axes.scatter(*zip(*grid), s=14, color="0.75", label="other sizes of both")
    for how, points in lines.items():
        axes.plot(*zip(*sorted(set(points + start))), marker="o", markersize=4, label=how)
    axes.set_xlabel("vision tokens left, per cent")
    axes.set_ylabel("sentences right, per cent")
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def table(args):
    rows = tally(args.rows)
    print(f"{'way':32}{'clips':>6}{'tokens':>8}{'share':>7}" + "".join(f"{c:>13}" for c in COLUMNS))
    for row in rows:
        print(f"{row['way']:32}{row['clips']:6}{row['tokens']:8.1f}{row['share']:6.1f}%"
              + "".join(f"{row[c]:12.1f}%" for c in COLUMNS))  # fmt: skip
    if args.csv:
        with open(args.csv, "w", newline="") as out:
            writer = csv.DictWriter(out, rows[0], lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: f"{v:.1f}" if isinstance(v, float) else v for k, v in row.items()})
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(required=True)
    m = commands.add_parser("measure")
    m.add_argument("clips")
    m.add_argument("rows")
    m.add_argument("--ways", nargs="+", metavar="WAY", help="default: those of docs/reduction.md")
    m.add_argument("--build", default=ROOT / "build")
    m.add_argument("--model", default=ROOT / "assets/valley-tiny")
    m.add_argument("--first", type=int, default=0)
    m.add_argument("--number", type=int, default=400)
    m.set_defaults(run=measure)
    t = commands.add_parser("table")
    t.add_argument("rows", nargs="+")
    t.add_argument("--csv")
    t.add_argument("--plot")
    t.set_defaults(run=table)
    args = p.parse_args()
    args.run(args)
