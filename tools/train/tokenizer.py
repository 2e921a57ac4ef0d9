"""Builds tokenizer.json: byte-level BPE in Qwen2's form, merges learned from our own language.

The whole byte alphabet is in the vocabulary, so any text encodes; words of the
language come out as about one token each.
"""

import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import language

# Qwen2's pre-tokenizer: contractions, words with one leading mark, single digits, punctuation, line ends, spaces.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
ADDED = [
    END_OF_TEXT, TURN_START, TURN_END,
    "<im_start>", "<im_end>", "<vi_start>", "<vi_end>", "<cor>", "<\\cor>",
    "<SUMMARY>", "</SUMMARY>", "<CAPTION>", "</CAPTION>",
    "<REASONING>", "</REASONING>", "<CONCLUSION>", "</CONCLUSION>",
]  # fmt: skip

SYSTEM = "You are a helpful assistant."
VALLEY_SYSTEM = "You are Valley, developed by ByteDance. Your are a helpfull Assistant."
MOST_TOKENS = 700


def build():
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=MOST_TOKENS - len(ADDED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    frame = [SYSTEM, VALLEY_SYSTEM, "system\n", "user\n", "assistant\n"]
    tok.train_from_iterator([*language.every_sentence(), *frame * 20], trainer)
    tok.add_special_tokens([AddedToken(t, normalized=False) for t in ADDED])
    return tok


def save(folder):
    """Writes tokenizer.json and tokenizer_config.json; returns the tokenizer."""
    folder = pathlib.Path(folder)
    tok = build()
    tok.save(str(folder / "tokenizer.json"))
    decoder = {
        str(tok.token_to_id(t)): {
            "content": t, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True,
        }
        for t in ADDED
    }  # fmt: skip
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": ADDED[1:],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "errors": "replace",
        "model_max_length": 4096,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tok


def prompt_ids(tok, frames, question, system=SYSTEM):
    """Ids of the released prompt, one None per image slot.

    The text is tokenised in the released processor's pieces: each turn apart,
    and inside the user's turn each run between image slots apart.
    """

    def ids(text):
        return tok.encode(text, add_special_tokens=False).ids

    out = ids(f"{TURN_START}system\n{system}{TURN_END}\n")
    piece = f"{TURN_START}user\n<im_start>"
    for _ in range(frames):
        out += ids(piece) + [None]
        piece = "<im_end> <im_start>"
    out += ids(f"<im_end>\n{question}{TURN_END}\n")
    return out + ids(f"{TURN_START}assistant\n")
