# SPDX-License-Identifier: Apache-2.0
"""Do the engine and Hugging Face's `tokenizers` give the same ids, and the same text back?

    python compare_tokenizer.py CHECKPOINT [--build build] [--count 60000] [--seed 1]

Strings are real (message catalogues, code, licences, the suite's own cases),
every code point, and seeded random ones of many kinds (tokenizer_texts.py).
Broken UTF-8 goes to `tokenizers` as Python's errors="replace" mends it.

The two carry Unicode tables of different age. Characters on which they
differ are found one by one and listed; a string that holds one of them is
explained if it gives the same ids once they are taken out. Anything else is a
mismatch, and the exit status says so.
"""

import argparse
import collections
import os
import random
import struct
import subprocess
import sys
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer  # noqa: E402  (it reads the environment)

import tokenizer_cases  # noqa: E402
import tokenizer_texts as texts  # noqa: E402

SHOWN = 20  # mismatches
MARKERS = [f"<{end}{name}>" for name in ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION") for end in ("", "/")]


class Pair:
    """The engine's tokenizer and the reference, for texts as bytes and ids as packed int32."""

    def __init__(self, probe: str, folder: str, reference: str):
        self.reference = Tokenizer.from_file(os.path.join(reference, "tokenizer.json"))
        self.vocabulary = self.reference.get_vocab_size()
        self.command = [probe, folder, str(self.vocabulary)]

    def probe(self, mode: str, records: list) -> bytes:
        return subprocess.run(self.command + [mode], input=b"".join(records), stdout=subprocess.PIPE, check=True).stdout

    def ours(self, batch: list) -> list:
        return texts.read_records(self.probe("ids", map(texts.record, batch)), 4)

    def theirs(self, batch: list) -> list:
        mended = [data.decode("utf-8", "replace") for data in batch]
        encodings = self.reference.encode_batch_fast(mended, add_special_tokens=False)
        return [struct.pack(f"={len(e.ids)}i", *e.ids) for e in encodings]

    def differing(self, batch: list) -> list:
        """Those of `batch` that have other ids here than there."""
        return [data for data, a, b in zip(batch, self.ours(batch), self.theirs(batch), strict=True) if a != b]

    def silent(self) -> set:
        """Special tokens, which answers do not show, less the markers of reasoning, which they do."""
        added = self.reference.get_added_tokens_decoder()
        return {i for i, token in added.items() if token.special and token.content not in MARKERS}

    def wrong_texts(self, sequences: list) -> list:
        """Those of `sequences` of ids that do not give the reference's text back, as a whole or piece by piece."""
        records = [struct.pack(f"={len(ids) + 1}i", len(ids), *ids) for ids in sequences]
        got = [data.decode("utf-8", "replace") for data in texts.read_records(self.probe("text", records), 1)]
        whole = self.reference.decode_batch(sequences, skip_special_tokens=False)
        silent = self.silent()
        shown = self.reference.decode_batch([[i for i in ids if i not in silent] for ids in sequences], skip_special_tokens=False)
        wrong = []
        for i, ids in enumerate(sequences):
            # A C string ends at a NUL: answers show U+FFFD for one.
            if got[2 * i] != whole[i] or got[2 * i + 1] != shown[i].replace("\0", "\ufffd"):
                wrong.append(ids)
        return wrong


def table_differences(pair: Pair) -> dict:
    """Characters on which the two differ, by what shows it: among letters (the pre-tokenizer's
    classes), between the marks that NFC sorts last and first, decomposed into others."""
    points = texts.every_code_point()
    marks = [c for c in points if unicodedata.category(c) in ("Mn", "Mc", "Me", "Cn") and ord(c) < 0x20000]
    tries = {
        # Only where a piece ends shows the class, and only if something merges there: 'm after what
        # is neither letter, number nor space is no contraction.
        "class": {form: c for c in points for form in (f"{c}'m", f"a{c}b {c}", f"  {c}", f"\n {c}\n")},
        "order": {form: c for c in marks for form in (f"\u0429{c}\u0334", f"\u0429\u0345{c}")},
        "composition": {unicodedata.normalize(form, c): c for c in points for form in ("NFD", "NFC")
                        if unicodedata.normalize("NFD", c) != c},
    }
    found = {}
    for name, origin in tries.items():
        found[name] = {origin[data.decode()] for data in pair.differing([text.encode() for text in origin])}
    return found


def ranges(characters: set) -> str:
    """Code points in hexadecimal, neighbours joined."""
    joined = []
    for c in sorted(map(ord, characters)):
        if joined and joined[-1][1] == c - 1:
            joined[-1][1] = c
        else:
            joined.append([c, c])
    return " ".join(f"{a:04X}" if a == b else f"{a:04X}-{b:04X}" for a, b in joined)


def real_texts(rng: random.Random, count: int) -> list:
    """The suite's cases, some code and licences, and `count` messages of the catalogues."""
    messages = texts.catalogues()
    long = texts.pieces(texts.prose(300_000) + texts.code(600_000), 400)
    return tokenizer_cases.texts() + long + rng.sample(messages, min(count, len(messages)))


def report(pair: Pair, labelled: dict, newer: set) -> int:
    """Prints a line for each kind of text; the number of mismatches that nothing explains."""
    differing = pair.differing(list(labelled))
    rests = ["".join(c for c in data.decode("utf-8", "replace") if c not in newer).encode() for data in differing]
    still = set(pair.differing(rests))
    unexplained = [data for data, rest in zip(differing, rests) if rest == data or rest in still]
    for data in unexplained[:SHOWN]:
        print(f"MISMATCH {data!r}\n  ours   {unpack(pair.ours([data])[0])}\n  theirs {unpack(pair.theirs([data])[0])}")
    total = collections.Counter(labelled.values())
    differ = collections.Counter(labelled[data] for data in differing)
    wrong = collections.Counter(labelled[data] for data in unexplained)
    for kind in total:
        print(f"{kind:14} {total[kind]:8} strings, {differ[kind] - wrong[kind]:5} differ by Unicode tables, {wrong[kind]} unexplained")
    return len(unexplained)


def unpack(data: bytes) -> tuple:
    return struct.unpack(f"={len(data) // 4}i", data)


def id_sequences(pair: Pair, rng: random.Random, count: int) -> list:
    """Random ids; half of them from tokens that are not whole characters."""
    halves = [i for i in range(pair.vocabulary) if "\ufffd" in pair.reference.decode([i], skip_special_tokens=False)]
    return [[rng.choice(halves) if rng.random() < 0.5 else rng.randrange(pair.vocabulary) for _ in range(rng.randint(1, 24))]
            for _ in range(count)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", help="folder with the files that the engine reads")
    parser.add_argument("--reference", help="folder with the tokenizer.json for `tokenizers`; default: the same")
    parser.add_argument("--build", default="build", help="meson's build folder")
    parser.add_argument("--count", type=int, default=60_000, help="generated strings, and as many real ones")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    pair = Pair(os.path.join(args.build, "tests", "tokenizer-probe"), args.checkpoint, args.reference or args.checkpoint)
    print(f"seed {args.seed}; {pair.vocabulary} ids")

    differences = table_differences(pair)
    for name, characters in differences.items():
        print(f"{name}: the tables differ on {len(characters)} characters {ranges(characters)}")
    newer = set().union(*differences.values())

    rng = random.Random(args.seed)
    labelled = [("real", t.encode()) for t in real_texts(rng, args.count)] + texts.generated(rng, args.count)
    labelled = {data: kind for kind, data in labelled}
    failures = report(pair, labelled, newer)

    sequences = [unpack(ids) for ids in pair.theirs(list(labelled))] + id_sequences(pair, rng, args.count)
    wrong = pair.wrong_texts([list(ids) for ids in sequences])
    for ids in wrong[:SHOWN]:
        print(f"WRONG TEXT {ids}: {pair.reference.decode(ids, skip_special_tokens=False)!r}")
    print(f"{len(labelled)} strings, {failures} unexplained mismatches; "
          f"{len(sequences)} id sequences decoded, {len(wrong)} wrong")
    return 1 if failures or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
