# SPDX-License-Identifier: Apache-2.0
"""Valley2's tokenizer at its full size, from a Qwen rank file.

The released checkpoints cannot always be had; Qwen's rank file can, for PyPI's
`dashscope` carries it (resources/qwen.tiktoken). It lists tokens by rank and
has no merges: the last merge of a token is what byte-pair encoding, limited to
lower ranks, leaves of it, namely two parts. Added tokens follow Qwen2.5's and
Valley's lists. Nothing of this is committed.

    pip download --no-deps --dest scratch dashscope
    python qwen_tokenizer.py scratch/dashscope-*.whl OUT

writes OUT/json/tokenizer.json, which `tokenizers` loads, and the older layout
OUT/files/{vocab.json,merges.txt,added_tokens.json,tokenizer_config.json}.
"""

import argparse
import base64
import json
import os
import zipfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors

from tiny_tokenizer import SPLIT, save

RESOURCE = "dashscope/resources/qwen.tiktoken"

# Qwen2.5's, from id 151643 on, then Valley's up to 151678. Those in PLAIN are
# matched in the text like the others, but decoding does not leave them out.
QWEN = (
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    + [f"<|{part}_{end}|>" for part in ("object_ref", "box", "quad", "vision") for end in ("start", "end")]
    + ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
)
PLAIN = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>",
]
VALLEY = [
    "<im_start>", "<im_end>", "<vi_start>", "<vi_end>", "<cor>", "<\\cor>",
    "<SUMMARY>", "</SUMMARY>", "<CAPTION>", "</CAPTION>",
    "<REASONING>", "</REASONING>", "<CONCLUSION>", "</CONCLUSION>",
]
ADDED = QWEN + PLAIN + VALLEY


def read_ranks(path: str) -> dict:
    """Token bytes to rank, from a wheel that carries the file or from the file itself."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            lines = wheel.read(RESOURCE).splitlines()
    else:
        with open(path, "rb") as f:
            lines = f.read().splitlines()
    ranks = {}
    for number, line in enumerate(lines, 1):
        token, rank = line.split()
        if int(rank) != len(ranks):
            raise SystemExit(f"{path}: line {number}: expected rank {len(ranks)}, found {int(rank)}")
        ranks[base64.b64decode(token)] = int(rank)
    return ranks


def last_merge(ranks: dict, token: bytes) -> tuple:
    """The two parts that `token` is merged from."""
    limit = ranks[token]
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], limit))
        if ranks.get(parts[best] + parts[best + 1], limit) >= limit:
            raise SystemExit(f"rank {limit}: {token!r} cannot be reached by merges of lower ranks")
        parts[best:best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def alphabet() -> list:
    """GPT-2's character for each byte: printable Latin-1 as it is, the others from U+0100 on."""
    kept = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    others = iter(range(256, 324))
    return [chr(byte) if byte in kept else chr(next(others)) for byte in range(256)]


def build(ranks: dict) -> Tokenizer:
    letters = alphabet()
    names = {token: "".join(letters[byte] for byte in token) for token in ranks}
    vocab = {names[token]: rank for token, rank in ranks.items()}
    merges = []
    for token in ranks:  # in the order of ranks
        if len(token) > 1:
            left, right = last_merge(ranks, token)
            merges.append((names[left], names[right]))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.decoder = decoders.ByteLevel()
    # One call for all: the library numbers new tokens in the order in which it meets them.
    tok.add_tokens([AddedToken(t, normalized=False, special=t not in PLAIN) for t in ADDED])
    return tok


def write_json(path: str, value) -> None:
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False)
        f.write("\n")


def write_files(tok: Tokenizer, out: str) -> None:
    """The layout of transformers' slow Qwen2 tokenizer."""
    data = json.loads(tok.to_str())
    keys = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    write_json(os.path.join(out, "vocab.json"), data["model"]["vocab"])
    with open(os.path.join(out, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n")
        for merge in data["model"]["merges"]:
            f.write((merge if isinstance(merge, str) else " ".join(merge)) + "\n")
    write_json(os.path.join(out, "added_tokens.json"), {t["content"]: t["id"] for t in data["added_tokens"]})
    write_json(os.path.join(out, "tokenizer_config.json"), {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {str(t["id"]): {k: t[k] for k in keys} for t in data["added_tokens"]},
    })


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ranks", help="a dashscope wheel, or qwen.tiktoken itself")
    parser.add_argument("out", help="folder for json/ and files/")
    args = parser.parse_args()
    tok = build(read_ranks(args.ranks))
    for layout in ("json", "files"):
        os.makedirs(os.path.join(args.out, layout), exist_ok=True)
    save(tok, os.path.join(args.out, "json", "tokenizer.json"), merges_as_strings=True)
    write_files(tok, os.path.join(args.out, "files"))
    model = json.loads(tok.to_str())["model"]
    print(f"{len(model['vocab'])} tokens, {len(model['merges'])} merges, {len(ADDED)} added tokens: "
          f"{tok.get_vocab_size()} in all")


if __name__ == "__main__":
    main()
