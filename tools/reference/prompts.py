# SPDX-License-Identifier: Apache-2.0
"""The release's prompt as ids, tokenised in the pieces its processor uses."""

SLOT = -200  # stands for one picture's tokens


def build(tokenizer, system: str, question: str, pictures: int):
    """Segments are tokenised apart, and within one the text on either side of a slot."""
    slots = " ".join(["<im_start><image><im_end>"] * pictures)
    segments = [
        f"<|im_start|>system\n{system}<|im_end|>\n",
        f"<|im_start|>user\n{slots}\n{question}<|im_end|>\n",
        "<|im_start|>assistant\n",
    ]
    ids = []
    for segment in segments:
        for i, text in enumerate(segment.split("<image>")):
            ids += ([SLOT] if i else []) + tokenizer.encode(text, add_special_tokens=False).ids
    return ids
