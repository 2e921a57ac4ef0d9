#!/usr/bin/env python3
"""What Valley2's stages cost on GPUs that were not at hand: computed, not measured.

    tools/gpu_roofline.py count BUILD CONFIG > docs/gpu-counts.json     five minutes of a core, no GPU
    tools/gpu_roofline.py table docs/gpu-counts.json > docs/gpu-roofline.md

`count` runs the engine with the release's widths on the counting stand-in (tests/gpu/count-valley.c)
with a few layers and a small vocabulary, once more with one layer more of each kind, and continues
the lines: what a stage moves and multiplies is a constant and a share for each layer, word and, in
attention, row of context.  `table` puts those counts beside datasheets.
"""
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile

# Datasheets: dense bf16 TFLOP/s, GB/s, GB.
GPUS = [
    ("A10", 125, 600, 24, "A10 datasheet"),
    ("L4", 121, 300, 24, "L4 datasheet"),
    ("L40S", 362, 864, 48, "L40S datasheet"),
    ("A100", 312, 2039, 80, "A100 80GB SXM datasheet"),
    ("H100", 989, 3350, 80, "H100 SXM datasheet"),
    ("H200", 989, 4800, 141, "H200 SXM datasheet"),
]
EFFICIENCY = 0.6
ANSWER_TOKENS = 30
FRAMES_PER_SECOND = 25
TOKEN_CONTEXTS = [1024, 8192, 24576]

# ---- counting -----------------------------------------------------------------------------------

# Two families of runs, each once as its base and once more for each kind of layer: towers at
# their widths, shown one frame (-1: and no question); the decoder behind towers of no size, asked
# after one frame and after three.
TOWERS = {"siglip": 2, "eagle": 2, "llm": 1, "vocabulary": 8192, "small_towers": False}
DECODER = dict(TOWERS, small_towers=True)
FAMILIES = {
    "towers": (TOWERS, {"siglip": 1, "eagle": 1}, ["-1"]),
    "decoder": (DECODER, {"llm": 1}, ["1", "3"]),
}
# Of each stage, two with their own contexts; a question's first time tries out algorithms.
PHASES = {"frame": ("towers", (0, 0)), "append": ("decoder", (1, 2)), "question": ("decoder", (1, 1)), "token": ("decoder", (0, 1))}
# After a question's layers these run over the vocabulary alone, so they grow with it.
WORD_KERNELS = {"few_product", "read_pieces", "join_pieces"}
# A product's first use: cuda/blas.c tries the library's algorithms out.
TRIAL_KERNELS = {"fill_rows", "count_different_rows"}
TRIAL_ROWS = {200, 1, 2, 9, 16, 33, 64, 100}
SUMS = ["launches", "read_distinct", "written_distinct", "tensor_flops"]


def full_sizes(config):
    return {
        "siglip": config.get("vision_config", {}).get("num_hidden_layers", 27),
        "eagle": config.get("eagle_config", {}).get("depth", 32),
        "llm": config["num_hidden_layers"],
        "vocabulary": config["vocab_size"],
    }


SMALL_TOWERS = {
    "vision_config": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2},
    "eagle_config": {"embed_dim": 64, "num_heads": 2},
    "mm_hidden_size": 64,
    "mlp_hidden_dim": 64,
}


def write_folder(folder, config, sizes, tokenizer_from):
    config = dict(config, **(SMALL_TOWERS if sizes.get("small_towers") else {}))
    config["vision_config"] = dict(config.get("vision_config", {}), num_hidden_layers=sizes["siglip"])
    config["eagle_config"] = dict(config.get("eagle_config", {}), depth=sizes["eagle"])
    config["num_hidden_layers"] = sizes["llm"]
    config.update(vocab_size=sizes["vocabulary"], eos_token_id=1, bos_token_id=0)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(tokenizer_from, name), folder)


def run_count(build, config, sizes, frames):
    environment = dict(
        os.environ,
        VALLEY_CUDA_WING=os.path.join(build, "tests/cuda-emu/libvalley-cuda-watched.so"),
        VALLEY_EMU_COUNTS="1",
        VALLEY_EMU_COUNTS_ONLY="1",
    )
    tokenizer = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../assets/valley-tiny")
    with tempfile.TemporaryDirectory() as folder:
        write_folder(folder, config, sizes, tokenizer)
        command = [os.path.join(build, "tests/gpu/count-valley"), folder] + frames
        print("counting", sizes, file=sys.stderr)
        return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def kernel_name(name):
    """Without a template's arguments, which nothing is known of."""
    return name.strip("()").split("<")[0]


def flat(counts, tried):
    """{what: {sum: number}}: kernels by name, products by shape.  @tried: without what trying
    algorithms out took."""
    kernels = ((kernel_name(k["name"]), k) for k in counts["kernels"])
    entries = combine(
        (1, {name: {key: k[key] for key in SUMS}}) for name, k in kernels if not (tried and name in TRIAL_KERNELS)
    )
    for p in counts["products"]:
        m, k, n = p["m"], p["k"], p["n"]
        if tried and m in TRIAL_ROWS:
            continue
        size = f"{m} x {k} x {n}"
        bytes_in = (m * k + n * k) * p["element_bytes"]
        entries["product " + size] = {
            "launches": p["calls"],
            "read_distinct": p["calls"] * bytes_in,
            "written_distinct": p["calls"] * m * n * p["out_bytes"],
            "tensor_flops": p["calls"] * 2 * m * n * k,
        }
    return entries


def combine(terms):
    """The sum of factor * entries."""
    total = {}
    for factor, entries in terms:
        for what, sums in entries.items():
            target = total.setdefault(what, dict.fromkeys(SUMS, 0))
            for key in SUMS:
                target[key] += factor * sums[key]
    return {what: sums for what, sums in total.items() if any(sums.values())}


def extend(runs, name, index, full):
    """The phase of that name and number, of the whole model."""
    family = PHASES[name][0]
    sizes, steps, _ = FAMILIES[family]
    base = numbered(runs[family], name, index)
    base_entries = flat(base["counts"], name == "frame")
    terms = [(1, base_entries)]
    for kind, step in steps.items():
        other = numbered(runs[kind], name, index)
        factor = (full[kind] - sizes[kind]) / step
        terms += [(factor, flat(other["counts"], name == "frame")), (-factor, base_entries)]
    if name in ("question", "token"):
        terms.append((full["vocabulary"] / sizes["vocabulary"] - 1, words(runs[family])))
    entries = combine(terms)
    if any(value < -0.5 for sums in entries.values() for value in sums.values()):
        raise SystemExit(f"{name}: counts do not grow with the model: {entries}")
    counts = {what: {key: round(value) for key, value in sums.items()} for what, sums in entries.items()}
    return {"rows": base["rows"], "context": base["context"], "counts": counts}


def words(run):
    """What a token's scores and its choice take; launches are the same for any vocabulary."""
    entries = flat(numbered(run, "question", 1)["counts"], False)
    return {what: dict(sums, launches=0) for what, sums in entries.items() if what in WORD_KERNELS}


def numbered(run, name, index):
    return [phase for phase in run["phases"] if phase["phase"] == name][index]


def count(build, config_path):
    with open(config_path) as file:
        config = json.load(file)
    full = full_sizes(config)
    runs = {}
    for family, (sizes, steps, frames) in FAMILIES.items():
        runs[family] = run_count(build, config, sizes, frames)
        for kind, step in steps.items():
            runs[kind] = run_count(build, config, dict(sizes, **{kind: sizes[kind] + step}), frames)
    result = {
        "stages": {name: [extend(runs, name, i, full) for i in pair] for name, (_, pair) in PHASES.items()},
        "windows": run_count(build, config, full, []),
        "parameter_bytes": parameter_bytes(config),
    }
    json.dump(result, sys.stdout, indent=1, sort_keys=True)
    print()


def parameter_bytes(config):
    """Of everything in bf16, from the shapes (docs/full-size.md counts the same tensors)."""
    h, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = h // config["num_attention_heads"] * config["num_key_value_heads"]
    layer = 2 * h * h + 2 * h * kv + h + 2 * kv + 3 * h * f + 2 * h
    llm = config["num_hidden_layers"] * layer + 2 * v * h + h
    s, sf = 1152, 4304
    siglip = 27 * (4 * s * s + 4 * s + 2 * s * sf + s + sf + 4 * s) + s * (3 * 14 * 14 + 1) + 729 * s + 2 * s
    e = 1280
    eagle = 32 * (4 * e * e + 4 * e + 8 * e * e + 5 * e + 4 * e) + e * 3 * 2 * 14 * 14
    merger = 2 * e + (4 * e) * (4 * e) + 4 * e + 4 * e * h + h
    words = config["mlp_hidden_dim"]
    connector = 9 * s * s + s + s * words + 2 * words + words * h
    return 2 * (llm + siglip + eagle + merger + connector)


# ---- from counts to times -----------------------------------------------------------------------


def at_context(pair, context):
    """Counts between and beyond two contexts: a straight line."""
    first, last = pair
    if first["context"] == last["context"]:
        return last["counts"]
    share = (context - first["context"]) / (last["context"] - first["context"])
    return combine([(1 - share, first["counts"]), (share, last["counts"])])


def total(counts, key):
    return sum(sums[key] for sums in counts.values())


def moved(counts):
    return total(counts, "read_distinct") + total(counts, "written_distinct")


def bound(counts, gpu):
    """Seconds: each kernel's larger one of arithmetic and memory; and the share of arithmetic."""
    _, tflops, gbps, _, _ = gpu
    seconds = by_arithmetic = 0
    for sums in counts.values():
        arithmetic = sums["tensor_flops"] / (tflops * 1e12)
        memory = (sums["read_distinct"] + sums["written_distinct"]) / (gbps * 1e9)
        seconds += max(arithmetic, memory)
        by_arithmetic += arithmetic if arithmetic > memory else 0
    return seconds, by_arithmetic / seconds


class Work:
    """What is asked of a GPU, from the counts."""

    def __init__(self, data):
        stages, self.windows = data["stages"], data["windows"]
        self.parameters = data["parameter_bytes"]
        window_rows = self.windows["window"] * self.windows["tokens"]
        # The sequence that answers shows W to 2 W frames; the one that grows beside it has 0 to W.
        self.context = round(1.5 * window_rows)
        self.mean_append = at_context(stages["append"], window_rows)
        self.stages = [("a frame, both towers and connector", stages["frame"][1]["counts"])]
        self.rows = stages["append"][1]["rows"]
        self.stages.append((f"its append, {self.rows} rows at {self.context:,} of context", at_context(stages["append"], self.context)))
        self.stages.append((f"a question, {stages['question'][1]['rows']} rows, counted at {stages['question'][1]['context']:,} of context", at_context(stages["question"], self.context)))
        self.tokens = [(c, at_context(stages["token"], c)) for c in TOKEN_CONTEXTS]
        self.stages += [(f"a token at {c:,}", counts) for c, counts in self.tokens]
        self.token = at_context(stages["token"], self.context)
        self.counted = {name: [run["context"] for run in pair] for name, pair in stages.items()}

    def stream_second(self, gpu):
        """Seconds of bound for a second of the stream."""
        frame, _, question = (bound(counts, gpu)[0] for _, counts in self.stages[:3])
        append = bound(self.mean_append, gpu)[0]
        frames = FRAMES_PER_SECOND * (frame + self.windows["appends_per_frame"] * append)
        return frames + question + ANSWER_TOKENS * bound(self.token, gpu)[0]

    def hop_latency(self, gpu):
        """From the window's last frame to the first token."""
        return sum(bound(counts, gpu)[0] for _, counts in self.stages[:3])

    def streams_by_memory(self, gpu):
        room = gpu[3] * 1e9 * 0.95 - self.parameters - 1e9
        return max(0, math.floor(room / self.windows["bytes"]))


# ---- the document -------------------------------------------------------------------------------


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def head(*cells):
    row(*cells)
    print("|" + "---|" * len(cells))


def number(x):
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"


def basis(work):
    """Where counting ends and scaling begins."""
    appends, tokens = work.counted["append"], work.counted["token"]
    return {
        "siglip": TOWERS["siglip"],
        "eagle": TOWERS["eagle"],
        "words": TOWERS["vocabulary"],
        "first_append": appends[0],
        "last_append": appends[1],
        "first_token": tokens[0],
        "last_token": tokens[1],
        "question": work.counted["question"][1],
        "append_label": work.context,
        "token_label": TOKEN_CONTEXTS[-1],
    }


def print_machines():
    head("GPU (vendor figures)", "bf16, dense", "memory", "of it", "source")
    for name, tflops, gbps, gigabytes, source in GPUS:
        row(name, f"{tflops} TFLOP/s", f"{gbps:,} GB/s", f"{gigabytes} GB", f"NVIDIA {source}")


def print_counts(work):
    head("", "launches", "tensor cores' GFLOP", "GB moved", "FLOP a byte")
    for name, counts in work.stages:
        flops, gigabytes = total(counts, "tensor_flops") / 1e9, moved(counts) / 1e9
        row(name, f"{total(counts, 'launches'):.0f}", number(flops), number(gigabytes), number(flops / gigabytes))


def print_bounds(work):
    head("", *[gpu[0] for gpu in GPUS])
    for name, counts in work.stages:
        cells = []
        for gpu in GPUS:
            seconds, share = bound(counts, gpu)
            cells.append(f"{number(seconds * 1e3)} {'A' if share > 0.5 else 'M'}")
        row(name, *cells)


def print_expected(work):
    head("at 60 % of the bounds", *[gpu[0] for gpu in GPUS])
    for name, counts in work.stages:
        row(name + ", ms", *[number(bound(counts, gpu)[0] / EFFICIENCY * 1e3) for gpu in GPUS])
    row("last frame to first token, ms", *[number(work.hop_latency(gpu) / EFFICIENCY * 1e3) for gpu in GPUS])
    seconds = [work.stream_second(gpu) / EFFICIENCY for gpu in GPUS]
    row("a second of the stream, s", *[number(s) for s in seconds])
    row("streams by time", *[math.floor(1 / s) for s in seconds])
    row("streams by memory", *[work.streams_by_memory(gpu) for gpu in GPUS])
    row("frames a second of one stream", *[number(FRAMES_PER_SECOND * frame_rate(work, gpu)) for gpu in GPUS])


def frame_rate(work, gpu):
    """The factor on 25 frames a second that a lone stream can keep up with."""
    answer = bound(work.stages[2][1], gpu)[0] + ANSWER_TOKENS * bound(work.token, gpu)[0]
    frames = work.stream_second(gpu) - answer
    return max(0, (EFFICIENCY - answer) / frames)


def print_kernels(work):
    for name, counts in (work.stages[0], work.stages[1], work.stages[3]):
        print(f"\n### {name[0].upper()}{name[1:]}\n")
        head("kernel or product (rows x K x N)", "launches", "GFLOP", "MB moved")
        ordered = sorted(counts.items(), key=lambda item: -item[1]["read_distinct"] - item[1]["written_distinct"])
        for what, sums in ordered:
            megabytes = (sums["read_distinct"] + sums["written_distinct"]) / 1e6
            row(f"`{what}`", f"{sums['launches']:.0f}", number(sums["tensor_flops"] / 1e9), number(megabytes))


def table(path):
    with open(path) as file:
        work = Work(json.load(file))
    windows = work.windows
    print(INTRODUCTION)
    print(BASIS.format(**basis(work)))
    print_machines()
    print(COUNTS.format(rows=work.rows))
    print_counts(work)
    print(BOUNDS)
    print_bounds(work)
    print(
        EXPECTED.format(
            window=windows["window"],
            most=2 * windows["window"],
            hop=windows["hop"],
            tokens=windows["tokens"],
            appends=windows["appends_per_frame"],
            answer=ANSWER_TOKENS,
            gigabytes=work.parameters / 1e9,
            stream=windows["bytes"] / 1e9,
        )
    )
    print_expected(work)
    print(KERNELS)
    print_kernels(work)


INTRODUCTION = """# What GPUs should do with it: computed, not measured

**No figure on this page was measured on a GPU.** Bytes and operations are counted by running the real
engine and the real kernels on the emulator of `tests/cuda-emu`; times are those counts over what
datasheets promise. Written by

    tools/gpu_roofline.py count build tests/gpu/valley2-7b.json > docs/gpu-counts.json     # the release's config.json; five minutes of one core
    tools/gpu_roofline.py table docs/gpu-counts.json > docs/gpu-roofline.md
"""

BASIS = """
## What is counted, what is scaled, what is quoted

- **Counted**, at the release's widths: launches, bytes and operations of one frame in towers of
  {siglip} and {eagle} layers, and of appends, a question and tokens in a decoder of one layer with a
  vocabulary of {words:,}; each again with one layer more. Nothing is timed, and the arithmetic is left out.
- **Scaled**: to all layers by the difference that one layer makes; the head from {words:,} words to the
  whole vocabulary, in proportion.
- **Extrapolated** along straight lines through two counts: appends from {first_append:,} and {last_append:,} rows of
  context to {append_label:,}, tokens from {first_token:,} and {last_token:,} to as many as {token_label:,}. Attention is the
  only part that grows with the context, and what it reads is linear in it; tiles make steps in that,
  which the lines do not show. The question is no such line: it was counted once, at {question:,} rows,
  is given as that, and stands for the question of a fuller window in the sums below, which is
  too little by what attention reads of the rest.
- **Quoted**, and not checked by anyone here: rates and sizes of the GPUs, vendor figures from the
  datasheets named beside them, for dense bf16 and without a loss to clocks or power.
- **Assumed**: 60 % of the bounds.
"""

COUNTS = """
## What is moved and multiplied

Valley2 7 B in bf16, frames of 1080p (196 SigLIP and 180 Eagle tokens; {rows} rows with their markers).
Bytes: every sector of 32 bytes that a kernel reads or writes counts once a launch, so a tensor that a
later kernel finds in the cache still counts again. Products count each factor and result once.
Operations: of matrix products and attention, on tensor cores; all else is bound by memory.
"""

BOUNDS = """
## Bounds, in milliseconds

No GPU can be faster than the larger one of arithmetic (A) and memory (M), taken kernel by kernel and
added up; the letter tells which makes up more of it.
"""

EXPECTED = """
## What to expect

At 60 % of the bounds, the least that `tests/gpu.sh` asks of prefill; the cost of launches is left out, as graphs
hide most of it. The stream: 25 frames a second, all of them shown, `anchored` windows of {window}
frames, asked every {hop}, an answer of {answer} tokens every second. Each frame is appended to the sequence
that answers and to the one that will ({appends:.2f} appends a frame), which have none to {most} frames, {window} in
the mean; the table's append is one to the former.
Streams share weights but are not batched. Memory: {gigabytes:.2f} GB of weights, {stream:.2f} GB of
keys, values and encodings a stream at most, a gigabyte of scratch; 5 % stay free.
"""

KERNELS = """
## Kernel by kernel"""


def main():
    if sys.argv[1:2] == ["count"] and len(sys.argv) == 4:
        count(os.path.abspath(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["table"] and len(sys.argv) == 3:
        table(sys.argv[2])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
