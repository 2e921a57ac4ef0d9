#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plot what `valley bench windows --csv FILE` measured: plot_windows.py FILE.csv docs/windows.png [--hop H]."""

import argparse
import csv

POLICIES = ("tumbling", "sliding", "anchored", "streaming")
PANELS = (
    ("prefill_ratio", "frame rows prefilled: times fewer"),
    ("first_token_ratio", "last frame to first token: times sooner"),
    ("hops_ratio", "windows a second: times more"),
)


def read(path: str, hop: int) -> dict:
    """(policy, window) -> figures, with every saving on a scene that moves."""
    rows = {}
    with open(path, newline="") as f:
        table = csv.DictReader(f)
        missing = {"window", "hop", "policy", "savings", "scene"} - set(table.fieldnames or ())
        if missing:
            raise SystemExit(f"{path}: no column {sorted(missing)[0]}; expected valley bench windows --csv")
        for row in table:
            if int(row["hop"]) != hop or row["scene"] != "moving" or row["savings"] != "cache+arrival+draft":
                continue
            row["hops_ratio"] = float(row["naive_hop_ms"]) / float(row["hop_ms"])
            rows[row["policy"], int(row["window"])] = row
    return rows


def draw(rows: dict, hop: int, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    windows = sorted({window for _, window in rows})
    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(12, 4))
    for axes, (key, title) in zip(panels, PANELS):
        for policy in POLICIES:
            at = [w for w in windows if (policy, w) in rows]
            axes.plot(at, [float(rows[policy, w][key]) for w in at], marker="o", label=policy)
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set(title=title, xlabel=f"frames of a window, {hop} apart", xscale="log", yscale="log", xticks=windows)
        axes.set_xticks(windows, [str(w) for w in windows])
        axes.minorticks_off()
        ticks = [1, 2, 4, 8, 16, 32, 64]
        axes.set_yticks(ticks, [f"{t}×" for t in ticks])
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(title="beside recomputing the same frames", fontsize=8, title_fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("csv")
    p.add_argument("png")
    p.add_argument("--hop", type=int, default=1)
    args = p.parse_args()
    rows = read(args.csv, args.hop)
    if not rows:
        raise SystemExit(f"{args.csv}: no row of hop {args.hop} with every saving; expected valley bench windows --csv")
    draw(rows, args.hop, args.png)


if __name__ == "__main__":
    main()
