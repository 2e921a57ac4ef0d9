"""Answers from this folder's own model, optionally with one branch of vision blinded.

The expected answer is fed and each next token compared, which is right exactly
when the greedy answer is; a wrong answer's text may differ from the greedy one
after its first wrong word.
"""

import torch

import answer
import checkpoint
import codec
from captions import answer_loss, forward
from sequences import Packer


class Torch:
    def __init__(self, model, rate=2, blind=None):
        torch.set_num_threads(1)
        self.model, self.tok = checkpoint.read(model)
        self.packer, self.rate, self.blind = Packer(self.tok), rate, blind
        self.siglip_tokens = (self.model.config["vit_crop_size"] // self.model.config["vit_patch_size"] // 2) ** 2

    @torch.no_grad()
    def __call__(self, path, label, prompts):
        s = label["settings"]
        times = codec.slot_times(s, label["duration"], self.rate)
        rows = answer.see(self.model, codec.decode(path, s, times))
        if self.blind == "siglip":
            rows[:, : self.siglip_tokens] = 0
        elif self.blind == "eagle":
            rows[:, self.siglip_tokens :] = 0
        turns = [[(q, label["answers"][q]) for q in prompts]]
        _, _, end, packed = forward(self.model, self.packer, {"rows": rows, "frames": len(times), "turns": turns})
        _, right, answered = answer_loss(self.model, end, packed)
        guess = self.model.lm_head(end[0]).argmax(-1)
        out = []
        for branch, (_, expected) in enumerate(turns[0]):
            mine = (packed.branch[0] == branch) & answered[0]
            text = self.tok.decode(guess[mine].tolist(), skip_special_tokens=True)
            if right[0][mine].all():
                text = expected
            elif text == expected:
                text += " (more)"  # said the sentence and did not stop
            out.append((text, None))
        return out
