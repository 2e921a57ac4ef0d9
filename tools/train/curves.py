"""Learning curves from the logs of captions.py: python curves.py LOG ... [--csv FILE] [--plot FILE.png].

The CSV has a line per 50 steps (log, clips seen, kind, accuracy in per cent);
the plot shows chosen kinds, smoothed over five lines.
"""

import argparse
import csv
import pathlib
import re
import sys

LINE = re.compile(r"^ *([\d.]+) min +(\d+) clips +loss [\d.]+ +helpers [\d.]+ +(.*)$")
SHOWN = ("one object", "- shape", "- motion", "two objects", "cut", "json", "yes/no")


def points(path):
    for line in pathlib.Path(path).read_text().splitlines():
        found = LINE.match(line)
        if found:
            for cell in found[3].split("  "):
                kind, value = cell.rsplit(" ", 1)
                yield int(found[2]), kind, float(value)


def plot(rows, path, wide=5):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for kind in SHOWN:
        at = sorted((clips, value) for _, clips, k, value in rows if k == kind)
        mean = [sum(v for _, v in at[max(0, i - wide + 1) : i + 1]) / min(i + 1, wide) for i in range(len(at))]
        axes.plot([c for c, _ in at], mean, label=kind.removeprefix("- "))
    axes.set(xlabel="clips seen", ylabel="right, %", ylim=(0, 101))
    axes.legend(ncol=2, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("logs", nargs="+")
    p.add_argument("--csv", help="write the points here instead of standard output")
    p.add_argument("--plot")
    args = p.parse_args()
    rows = [(pathlib.Path(log).stem, *point) for log in args.logs for point in points(log)]
    if not rows:
        raise SystemExit("no line of captions.py in these logs")
    with open(args.csv, "w") if args.csv else sys.stdout as out:
        csv.writer(out, lineterminator="\n").writerows([("log", "clips", "kind", "percent"), *rows])
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
