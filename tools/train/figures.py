"""Tables from scored answers: per kind, per attribute, confusion matrices, and what confidence is worth.

A row is a dict of clip, prompt, group, codec, expected, answer, right, confidence.
"""

from collections import Counter, defaultdict

import language

NO_OBJECT = ("bars", "snow", "black", "plain", "checkerboard", "gradient", "circles")
# Where words stand in a sentence about one object and about two
ONE = {"size": (1,), "color": (2,), "shape": (3,), "motion": (5,), "background": (8,)}
TWO = {"color": (1, 7), "shape": (2, 8), "motion": (4, 10), "background": (13,)}


def group(prompt, label):
    """The row of the table an answer counts in."""
    kind = label["kind"]
    if prompt == language.DESCRIBE:
        return kind
    if prompt == language.SIGNAL:
        return "signal word"
    if prompt == language.LIST:
        return f"JSON, {kind}" if "object" in kind else "JSON, no object"
    return "yes/no, objects" if "object" in kind else "yes/no, no object"


def totals(row):
    """The issue's bars that a row counts in, beside its own group."""
    if row["group"] in NO_OBJECT:
        yield "no-object sentence"
    if row["group"].startswith("yes/no"):
        yield "yes/no"


def percent(hits):
    return 100 * sum(hits) / len(hits)


def table(rows):
    """Prints the accuracies and returns them: all clips, then by codec."""
    score = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name in (row["group"], *totals(row)):
            score[name]["all"].append(row["right"])
            score[name][row["codec"]].append(row["right"])
    codecs = sorted({row["codec"] for row in rows})
    print(f"{'':20}" + "".join(f"{c:>16}" for c in ("all", *codecs)))
    for name in sorted(score):
        cells = (score[name].get(c) for c in ("all", *codecs))
        print(f"{name:20}" + "".join(f"{percent(h):6.1f} % of{len(h):5d}" if h else f"{'-':>16}" for h in cells))
    return {name: percent(score[name]["all"]) for name in score}


def words(row, places):
    """Pairs of expected and said word at the given places."""
    want, got = (text.rstrip(".").lower().split() for text in (row["expected"], row["answer"]))
    return [(want[i], got[i] if i < len(got) else "-") for i in places]


def attributes(rows, few=3):
    """Word by word, for sentences about one and two objects; a confusion matrix of each attribute but colors."""
    for kind, places in (("one object", ONE), ("two objects", TWO)):
        mine = [row for row in rows if row["group"] == kind]
        if not mine:
            continue
        print(f"\n{kind}, word by word")
        for name, at in places.items():
            pairs = [pair for row in mine for pair in words(row, at)]
            print(f"  {name:11} {percent([w == g for w, g in pairs]):6.1f} %")
            if name in ("shape", "motion", "size"):
                matrix(pairs)
            else:
                wrong = Counter(f"{w} said {g}" for w, g in pairs if w != g)
                for what, n in wrong.most_common(few):
                    print(f"    {n:3d} x {what}")


def matrix(pairs):
    """Rows: what it was; columns: what was said."""
    names = sorted({w for w, _ in pairs})
    count = Counter((w, g if g in names else "other") for w, g in pairs)
    columns = [*names, "other"] if any(g == "other" for _, g in count) else names
    print("    " + " " * 10 + "".join(f"{c:>10}" for c in columns))
    for w in names:
        print(f"    {w:10}" + "".join(f"{count[w, c]:10d}" for c in columns))


def auroc(rows):
    """How often a right answer's confidence is above a wrong one's; a tie counts half. None without both."""
    right = [r["confidence"] for r in rows if r["right"] and r["confidence"] is not None]
    wrong = [r["confidence"] for r in rows if not r["right"] and r["confidence"] is not None]
    if not right or not wrong:
        return None
    order = sorted([(c, 1) for c in right] + [(c, 0) for c in wrong])
    rank, at = 0.0, 0
    while at < len(order):
        end = at
        while end < len(order) and order[end][0] == order[at][0]:
            end += 1
        rank += sum(label for _, label in order[at:end]) * (at + end + 1) / 2
        at = end
    return (rank - len(right) * (len(right) + 1) / 2) / (len(right) * len(wrong))


def confidence(rows):
    """AUROC over all answers and per prompt, so that an easy prompt does not lend its figure to a hard one."""
    parts = {"all answers": rows}
    for row in rows:
        name = row["group"] if row["group"][:4] in ("JSON", "yes/", "sign") else "Describe the video."
        parts.setdefault(name.split(",")[0], []).append(row)
    print("\nconfidence, AUROC of right against wrong")
    for name, mine in parts.items():
        value, wrong = auroc(mine), sum(not r["right"] for r in mine)
        shown = "one of both is missing" if value is None else f"{value:.3f}"
        print(f"  {name:20} {shown}  ({len(mine) - wrong} right, {wrong} wrong)")
    return auroc(rows)
