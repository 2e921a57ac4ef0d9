"""Packs a batch's questions and answers behind one shared run of frames.

A clip's frames are the costly part of a sequence, so all its questions follow
the same frames, each blind to the others: positions restart and the mask
hides them, which makes it the same arithmetic as asking them one by one.
"""

from dataclasses import dataclass

import torch

import tokenizer

IGNORE = -100


@dataclass
class Packed:
    ids: torch.Tensor  # [clips, length], 0 in image rows
    image: torch.Tensor  # [length] bool: rows that vision fills, the same in every clip
    frame_end: torch.Tensor  # [frames]: index of each frame's <im_end>
    position: torch.Tensor  # [clips, length]
    mask: torch.Tensor  # [clips, 1, length, length], 0 or -inf
    target: torch.Tensor  # [clips, length], IGNORE outside answers
    branch: torch.Tensor  # [clips, length], which question a row belongs to, -1 for none


class Packer:
    def __init__(self, tok):
        self.tok = tok
        self.stop = tok.token_to_id(tokenizer.TURN_END)
        self.known = {}

    def turn(self, frames, question):
        """Prompt ids split after the last image slot."""
        key = frames, question
        if key not in self.known:
            ids = tokenizer.prompt_ids(self.tok, frames, question)
            last = len(ids) - ids[::-1].index(None)
            self.known[key] = ids[:last], ids[last:]
        return self.known[key]

    def answer(self, text):
        if text not in self.known:
            self.known[text] = self.tok.encode(text, add_special_tokens=False).ids + [self.stop]
        return self.known[text]

    def __call__(self, frames, rows_per_frame, turns):
        """`turns`: for each clip a list of (question, answer)."""
        shared, first = self.turn(frames, turns[0][0][0])
        prefix, image, ends = [], [], []
        for token in shared:
            if token is None:
                prefix += [0] * rows_per_frame
                image += [True] * rows_per_frame
                ends.append(len(prefix))  # the next id is this frame's <im_end>
            else:
                prefix.append(token)
                image.append(False)
        start = len(prefix)
        rows = [self.branches(frames, clip, prefix, start) for clip in turns]
        length = max(len(r[0]) for r in rows)
        ids, position, target, branch = (
            torch.tensor([r[i] + [fill] * (length - len(r[0])) for r in rows])
            for i, fill in ((0, 0), (1, 0), (2, IGNORE), (3, -2))
        )
        seen = (branch[:, None] == -1) | (branch[:, None] == branch[..., None])
        seen &= torch.ones(length, length, dtype=torch.bool).tril()
        mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[:, None]
        image = torch.tensor(image + [False] * (length - start))
        # a lone <im_end> opens every branch, so the last frame's end is the first branch's first row
        return Packed(ids, image, torch.tensor(ends), position, mask, target, branch)

    def branches(self, frames, clip, prefix, start):
        ids, position = list(prefix), list(range(start))
        target, branch = [IGNORE] * start, [-1] * start
        for i, (question, answer) in enumerate(clip):
            _, tail = self.turn(frames, question)
            reply = self.answer(answer)
            ids += tail + reply[:-1]
            target += [IGNORE] * (len(tail) - 1) + reply
            count = len(tail) + len(reply) - 1
            position += range(start, start + count)
            branch += [i] * count
        return ids, position, target, branch
