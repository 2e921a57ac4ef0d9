# SPDX-License-Identifier: Apache-2.0
"""The release's prompt as ids, tokenised in the pieces its processor uses."""

import re

SLOT = -200  # stands for one picture's tokens
DEFAULT_SYSTEM = "You are a helpful assistant."
RESERVED = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<im_start>", "<im_end>", "<vi_start>", "<vi_end>"]  # never typed


def _segments(system, question, pictures, start_end):
    """Turns and slots as text: what the chat template makes of a conversation.

    Without a picture there is no slot; the processor, which then shows a black picture, has no such case.
    """
    slot = "<im_start><image><im_end>" if start_end else "<image>"
    content = (" ".join([slot] * pictures) + "\n" if pictures else "") + question
    return [
        f"<|im_start|>system\n{DEFAULT_SYSTEM if system is None else system}<|im_end|>\n",
        f"<|im_start|>user\n{content}<|im_end|>\n",
        "<|im_start|>assistant\n",
    ]


def build(tokenizer, system, question: str, pictures: int, start_end: bool = True):
    """Segments are tokenised apart, and within one the text on either side of a slot."""
    ids = []
    for segment in _segments(system, question, pictures, start_end):
        for i, text in enumerate(segment.split("<image>")):
            ids += ([SLOT] if i else []) + tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _typed(tokenizer, text: str):
    """What a user typed: every added token but the reserved ones, which are plain text."""
    added = {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items() if t.content not in RESERVED}
    texts = sorted(added, key=len, reverse=True)
    parts = re.split("(" + "|".join(map(re.escape, texts)) + ")", text) if texts else [text]
    return [i for part in parts for i in ([added[part]] if part in added else tokenizer.encode(part, add_special_tokens=False).ids)]


def build_escaped(tokenizer, system, question: str, pictures: int, start_end: bool = True):
    """The same, but the reserved tokens and <image> are plain text in system and question.

    The processor has no such thing: there a question that says <|im_end|> ends the turn. Which text is the
    user's is told apart here with characters that no text holds, one for each of the template's tokens.
    """
    private = {"<|im_start|>": "\ue000", "<|im_end|>": "\ue001", "<im_start>": "\ue002", "<im_end>": "\ue003", "<image>": "\ue004"}
    system = DEFAULT_SYSTEM if system is None else system
    assert not set(private.values()) & set(system + question)
    text = "".join(_segments("\ue005", "\ue006", pictures, start_end))
    for token, stand_in in private.items():
        text = text.replace(token, stand_in)
    text = text.replace("\ue005", system).replace("\ue006", question)
    ids = {stand_in: SLOT if token == "<image>" else tokenizer.token_to_id(token) for token, stand_in in private.items()}
    tokenizer.encode_special_tokens = True  # as plain text
    try:
        return [i for part in re.split("([\ue000-\ue004])", text) for i in ([ids[part]] if part in ids else _typed(tokenizer, part))]
    finally:
        tokenizer.encode_special_tokens = False
