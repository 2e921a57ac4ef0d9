# SPDX-License-Identifier: Apache-2.0
"""How fast the engine's tokenizer is against Hugging Face's `tokenizers`, one thread each.

    python bench_tokenizer.py CHECKPOINT [--build build] [--rounds 9]

Both encode the same texts in turns, round by round, in processes that stay
alive, so that both keep what they remember of earlier rounds; the first round
of each is the cold one. What is counted is processor time.
`tokenizers` is asked through encode_batch_fast, which leaves out offsets: its
fastest way. A ratio above 1 means that the engine is faster.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer  # noqa: E402  (it reads the environment)

import tokenizer_texts as texts  # noqa: E402

PROMPTS = [
    "Describe the video.", "What is happening now?", "Is there a person at the door? Answer yes or no.",
    "You are a helpful assistant.", "List the objects in the picture as JSON.", "描述这个视频。", "¿Qué se ve en la imagen?",
    "<|im_start|>user\nWhat is the signal? Answer picture, bars, black or snow.<|im_end|>\n",
    "Count the cars that pass from left to right, and tell me the colour of the last one.",
]


def workloads() -> dict:
    asian = [t for language in ("zh_CN", "zh_TW", "ja", "ko") for t in texts.catalogues(language)]
    return {
        "long prose": ["\n".join(texts.prose(2_000_000))],
        "short prompts": PROMPTS * 1000,
        "code": texts.code(2_000_000),
        "CJK": ["\n".join(asian)[:600_000]],
        "messages in all languages": texts.catalogues()[:40_000],
    }


class Engine:
    """tokenizer-probe, which encodes all texts once for every line that it is sent."""

    def __init__(self, probe: str, folder: str, vocabulary: int, batch: list):
        self.file = tempfile.NamedTemporaryFile()
        for text in batch:
            self.file.write(texts.record(text.encode()))
        self.file.flush()
        self.process = subprocess.Popen([probe, folder, str(vocabulary), "time", self.file.name],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def round(self) -> tuple:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        ns, n_ids = self.process.stdout.readline().split()
        return int(ns) / 1e9, int(n_ids)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(engine: Engine, reference: Tokenizer, batch: list, rounds: int) -> list:
    """(their seconds, ours) of each round, in turns."""
    pairs = []
    for _ in range(rounds):
        start = time.process_time()
        encodings = reference.encode_batch_fast(batch, add_special_tokens=False)
        theirs = time.process_time() - start
        ours, n_ids = engine.round()
        if n_ids != sum(len(e.ids) for e in encodings):
            raise SystemExit("the two count different ids: run compare_tokenizer.py")
        pairs.append((theirs, ours))
    return pairs


def opening(probe: str, folder: str, path: str, rounds: int) -> str:
    theirs, ours = [], []
    for _ in range(rounds):
        start = time.process_time()
        vocabulary = Tokenizer.from_file(path).get_vocab_size()
        theirs.append(time.process_time() - start)
        ours.append(int(subprocess.check_output([probe, folder, str(vocabulary), "open"])) / 1e9)
    ratio = statistics.median(a / b for a, b in zip(theirs, ours))
    return f"{min(ours) * 1e3:.0f} ms, theirs {min(theirs) * 1e3:.0f} ms at best; {ratio:.2f} in the median"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", help="folder with tokenizer.json")
    parser.add_argument("--build", default="build", help="meson's build folder")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    probe = os.path.join(args.build, "tests", "tokenizer-probe")
    path = os.path.join(args.checkpoint, "tokenizer.json")
    print("opening: " + opening(probe, args.checkpoint, path, args.rounds))
    print(f"{'texts':26} {'MB':>5} {'cold':>6} {'warm':>6}   engine MB/s   (ratios: theirs / ours)")
    for name, batch in workloads().items():
        reference = Tokenizer.from_file(path)  # anew: it remembers words
        engine = Engine(probe, args.checkpoint, reference.get_vocab_size(), batch)
        pairs = measure(engine, reference, batch, args.rounds)
        engine.close()
        megabytes = sum(len(t.encode()) for t in batch) / 1e6
        warm = statistics.median(theirs / ours for theirs, ours in pairs[1:])
        speed = megabytes / statistics.median(ours for _, ours in pairs[1:])
        print(f"{name:26} {megabytes:5.2f} {pairs[0][0] / pairs[0][1]:6.2f} {warm:6.2f}   {speed:11.1f}")


if __name__ == "__main__":
    main()
