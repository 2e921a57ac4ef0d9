# SPDX-License-Identifier: Apache-2.0
"""Texts for comparing tokenizers: what a Linux machine has anyway, and what nobody writes.

Real strings come from the message catalogues under /usr/share/locale (a hundred
languages), from headers, Python sources and licences; generated ones are
seeded. A record is a 32-bit count and as many bytes, as tokenizer-probe reads.
"""

import glob
import gzip
import os
import random
import struct
import sys
import sysconfig
import unicodedata

from qwen_tokenizer import ADDED

# ---- real ----


def catalogue(path: str) -> list:
    """The translations in one gettext .mo file."""
    with open(path, "rb") as f:
        data = f.read()
    order = "<" if data[:4] == b"\xde\x12\x04\x95" else ">"
    count, _, start = struct.unpack(order + "3I", data[8:20])
    texts = []
    for i in range(count):
        length, offset = struct.unpack(order + "2I", data[start + 8 * i:start + 8 * i + 8])
        texts += data[offset:offset + length].decode("utf-8", "replace").split("\0")
    return [t for t in texts if t]


def catalogues(languages: str = "*") -> list:
    """Translations into `languages`, a pattern; each text once, in the order of the files."""
    paths = sorted(glob.glob(f"/usr/share/locale/{languages}/LC_MESSAGES/*.mo"))
    return list(dict.fromkeys(t for path in paths for t in catalogue(path)))


def files(patterns: list, most_bytes: int) -> list:
    """The contents of files that match, up to so many bytes in all."""
    texts, total = [], 0
    for path in sorted(p for pattern in patterns for p in glob.glob(pattern, recursive=True)):
        if total >= most_bytes or not os.path.isfile(path):
            continue
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
            text = f.read().replace(b"\0", b"").decode("utf-8", "replace")
        total += len(text.encode())
        texts.append(text)
    return texts


def code(most_bytes: int) -> list:
    library = sysconfig.get_paths()["stdlib"]
    half = most_bytes // 2
    return files(["/usr/include/*.h", "/usr/include/glib-2.0/**/*.h"], half) + files([f"{library}/*.py"], half)


def prose(most_bytes: int) -> list:
    return files(["/usr/share/common-licenses/*", "/usr/share/doc/**/README*", "/usr/share/perl/**/*.pod"], most_bytes)


def pieces(texts: list, longest: int) -> list:
    """Cut after line ends into pieces of about `longest` characters."""
    out = []
    for text in texts:
        part = ""
        for line in text.splitlines(keepends=True):
            part += line
            if len(part) >= longest:
                out.append(part)
                part = ""
        if part:
            out.append(part)
    return out


# ---- generated ----

JOINERS = ["\u200d", "\ufe0f", "\ufe0e", "\u20e3", "\U0001f3fb", "\U0001f3ff", "\U000e0067", "\U000e007f"]
EMOJI = [chr(c) for c in range(0x1F300, 0x1FB00)] + [chr(c) for c in range(0x2600, 0x27C0)]
FLAGS = [chr(c) for c in range(0x1F1E6, 0x1F200)]
MARKS = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.combining(chr(c))]
SPACES = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isspace()] + ["\u200b", "\u180e", "\ufeff", "\u2060"]
NUMBERS = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c))[0] == "N"]
CONTROLS = [chr(c) for c in list(range(1, 32)) + list(range(127, 160)) + list(range(0x200B, 0x2010))]
CONTRACTIONS = ["'s", "'S", "'t", "'re", "'RE", "'ve", "'m", "'ll", "'LL", "'d", "'\u017f", "\u2019s", "'", "''"]
WORDS = ["the", "video", "Describe", "return", "été", "привет", "你好", "日本語", "한국어", "नमस्ते", "שלום", "x", "I", "iPhone"]
HANGUL = [chr(c) for c in list(range(0x1100, 0x1200)) + list(range(0xAC00, 0xAC40)) + list(range(0xA960, 0xA980))]


def any_character(rng: random.Random) -> str:
    while True:
        c = rng.randrange(1, sys.maxunicode + 1)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def assigned(rng: random.Random) -> str:
    """Most of the code space is empty: a character that has a name, near the others in its block."""
    while True:
        c = chr(rng.choice([rng.randrange(0x80, 0x3000), rng.randrange(0xA000, 0xD7A4), rng.randrange(0xF900, 0x10000),
                            rng.randrange(0x10000, 0x12000), rng.randrange(0x16000, 0x17000), rng.randrange(0x1B000, 0x20000),
                            rng.randrange(0x20000, 0x33000)]))
        if unicodedata.category(c) != "Cn":
            return c


def block(rng: random.Random) -> str:
    """A few characters of one script, as words with spaces."""
    start = ord(assigned(rng)) & ~0x3F
    letters = [chr(c) for c in range(max(start, 1), start + 64) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    return " ".join("".join(rng.choices(letters, k=rng.randint(1, 8))) for _ in range(rng.randint(1, 4)))


def decomposed(rng: random.Random) -> str:
    text = rng.choice(WORDS) + "".join(assigned(rng) for _ in range(rng.randint(1, 6)))
    form = rng.choice(["NFD", "NFKD", "NFC"])
    return unicodedata.normalize(form, text) + "".join(rng.choices(MARKS, k=rng.randint(0, 3)))


def emoji(rng: random.Random) -> str:
    return "".join(rng.choice(EMOJI) + rng.choice(JOINERS + ["", "", " "]) for _ in range(rng.randint(1, 5)))


def invalid(rng: random.Random) -> bytes:
    """Text whose bytes were cut, flipped, doubled or made up."""
    data = bytearray("".join(rng.choice(WORDS + [assigned(rng), " "]) for _ in range(rng.randint(1, 8))).encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        change = rng.randrange(4)
        if change == 0:
            del data[at:at + 1]
        elif change == 1:
            data[at:at] = bytes(rng.choices([0x80, 0xBF, 0xC0, 0xC1, 0xE0, 0xED, 0xF0, 0xF4, 0xF5, 0xFF], k=rng.randint(1, 3)))
        elif change == 2:
            data[at:at + 1] = bytes([rng.randrange(1, 256)])
        else:
            data[at:at] = data[max(0, at - 2):at]
    return bytes(data)


def mixture(rng: random.Random) -> str:
    make = [
        lambda: rng.choice(WORDS), lambda: " ", lambda: " ", lambda: rng.choice(SPACES), lambda: " " * rng.randint(1, 40),
        lambda: rng.choice(["\n", "\r\n", "\r", "\n\n", " \r\n", "\t"]), lambda: str(rng.randrange(10 ** rng.randint(1, 30))),
        lambda: "".join(rng.choices(NUMBERS, k=3)), lambda: rng.choice(CONTRACTIONS), lambda: rng.choice(ADDED),
        lambda: rng.choice(ADDED)[:rng.randint(1, 8)], lambda: assigned(rng), lambda: any_character(rng),
        lambda: rng.choice(MARKS), lambda: rng.choice(CONTROLS), lambda: emoji(rng), lambda: rng.choice(FLAGS),
        lambda: "".join(rng.choices(".,;:!?-_/\\()[]{}<>|\"'`~@#$%^&*+=", k=rng.randint(1, 5))),
        lambda: "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFG", k=rng.randint(1, 20))),
    ]
    return "".join(rng.choice(make)() for _ in range(rng.randint(2, 16)))


def runs(rng: random.Random) -> str:
    unit = rng.choice(SPACES + NUMBERS[:200] + ["\n", "\r\n", "a", "ab", "!", "-", "=", "你", "\u0301", " \n"])
    return rng.choice(["", "a", "\n"]) + unit * rng.randint(1, 200) + rng.choice(["", "b", "1", "\n", "."])


def hangul(rng: random.Random) -> str:
    return "".join(rng.choices(HANGUL + [" "], k=rng.randint(1, 10)))


def added_tokens(rng: random.Random) -> str:
    near = ["", " ", "\n", "a", "\u0301", "é", "你", "'", "<", "|", ">", "1", "\r\n", "  "]
    return "".join(rng.choice(near) + rng.choice(ADDED) for _ in range(rng.randint(1, 5))) + rng.choice(near)


KINDS = {
    "mixture": mixture, "script": block, "decomposed": decomposed, "emoji": emoji, "invalid": invalid, "runs": runs,
    "hangul": hangul, "added": added_tokens, "any": lambda rng: "".join(any_character(rng) for _ in range(rng.randint(1, 8))),
}


def every_code_point() -> list:
    """Those of the planes that Unicode uses: between them all are unassigned."""
    return [chr(c) for c in [*range(1, 0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE0200), *range(0x10FF00, 0x110000)]]


def generated(rng: random.Random, count: int) -> list:
    """(kind, bytes) of every kind in turn."""
    out = []
    for i in range(count):
        kind = list(KINDS)[i % len(KINDS)]
        text = KINDS[kind](rng)
        out.append((kind, text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")))
    return out


# ---- records ----


def record(data: bytes) -> bytes:
    return struct.pack("=I", len(data)) + data


def read_records(data: bytes, size: int) -> list:
    """The records of `size`-byte elements in `data`, as bytes."""
    out, at = [], 0
    while at < len(data):
        end = at + 4 + size * struct.unpack_from("=I", data, at)[0]
        out.append(data[at + 4:end])
        at = end
    return out
