# SPDX-License-Identifier: Apache-2.0
"""A tokenizer of Valley2's construction with a very small vocabulary.

Normaliser, pre-tokenizer, decoder and added tokens are those of the release
(byte-level BPE after Qwen2); only the merges are few, so that a checkpoint
with it stays small. Trained here on a few lines of text, deterministically.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# In the order of the release: Qwen2's own, then Valley's.
ADDED = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<im_start>", "<im_end>", "<vi_start>", "<vi_end>", "<cor>", "<\\cor>",
    "<SUMMARY>", "</SUMMARY>", "<CAPTION>", "</CAPTION>",
    "<REASONING>", "</REASONING>", "<CONCLUSION>", "</CONCLUSION>",
]

# Repetition weighs a line: what the prompts need becomes one or two tokens,
# and some merges cross UTF-8 bytes, runs of spaces and line ends.
CORPUS = (
    ["system\nuser\nassistant\nYou are a helpful assistant."] * 12
    + ["Describe the video. What is the signal? Answer picture, bars, black or snow."] * 12
    + ["the quick brown fox isn't here; they're gone, we'll see, I'd say it's fine"] * 3
    + ["int main (void)\r\n{\r\n        return 0;\r\n}\n\n\n"] * 4
    + ["fine\n\nFine.\n\n"] * 8
    + ["été naïve café привет, привет мир 你好，世界 👩‍👩‍👧 …"] * 4
)


def build(vocabulary: int = 340) -> Tokenizer:
    """Train the tokenizer; `vocabulary` counts the added tokens too."""
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(ADDED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(CORPUS, trainer)
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ADDED])
    assert tok.get_vocab_size() == vocabulary
    return tok


def save(tok: Tokenizer, path: str, merges_as_strings: bool) -> None:
    """Write tokenizer.json. Older files, the release's among them, hold a
    merge as "a b"; newer libraries write ["a", "b"]. Goldens use both."""
    data = json.loads(tok.to_str())
    if merges_as_strings:
        data["model"]["merges"] = [
            m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]
        ]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
