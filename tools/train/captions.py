"""Stages 2 to 4: the whole model learns to answer, on rendered clips and then on encoded ones too.

Every rendered clip is new, so the printed accuracies are held-out ones. Stopped
and started again with the same --out, it goes on where it was.
"""

import argparse
import itertools
import pathlib
import time
from collections import defaultdict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import checkpoint
import data
import language
import preprocess
import questions
import scenes
from helpers import Helpers, color_words, drift_loss, helper_loss, spot_loss, told_loss, truth
from model import Valley
from sequences import IGNORE, Packer


# Frames and frames a second of training windows: mostly 4 at 2/s, as deployed; the rest is any of 2 to 8 at 1 to 5
WINDOWS = ((0.45, 4, 2.0), (0.15, 2, 1.0), (0.15, 8, 4.0), (0.03, 1, 2.0))


def window(rng):
    chance = rng.random()
    for part, count, rate in WINDOWS:
        chance -= part
        if chance < 0:
            return count, rate
    return int(rng.integers(2, 9)), float(rng.integers(1, 6))


def clips_a_step(rows, count):
    """Equal work a step, whatever the number of frames."""
    return max(6, round(rows * 4 / (count + 1)))


class Clips:
    """Makes batches of rendered clips with their questions."""

    def __init__(self, config, rows):
        self.config, self.rows = config, rows

    def __call__(self, rng):
        w, h = scenes.pick(rng, data.SIZES)
        count, rate = window(rng)
        size = clips_a_step(self.rows, count)
        times = [i / rate for i in range(count)]
        clips = []
        for _ in range(size):
            clip = scenes.clip(rng, w, h, count / rate)
            if clip.after is not None and count > 1:
                clip.cut = min(clip.cut, times[-1] * rng.uniform(0.9, 1.0))
            clips.append(scenes.as_still(clip) if count == 1 else clip)
        siglip, eagle = data.stack(clips, [times] * size, self.config)
        return {
            "frames": count,
            "siglip": siglip,
            "eagle": eagle,
            "turns": questions.draw(rng, clips),
            "truth": torch.from_numpy(np.stack([truth(c, times) for c in clips])),
            "kinds": [language.kind(c) for c in clips],
        }


def see(model, batch):
    return model.see(preprocess.siglip(batch["siglip"]), preprocess.eagle(batch["eagle"]))


def replay(model, stream, rng, times, pool=24):
    """With frozen towers: each batch is seen once and used `times` times, in mixed order."""
    held = []
    while True:
        batch = next(stream)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            batch["rows"] = see(model, batch)
        yield batch
        held = [*held[-pool + 1 :], {**batch, "used": True}]
        for _ in range(times - 1):
            yield scenes.pick(rng, held)


def forward(model, packer, batch):
    """Visual rows, hidden states in the middle and at the end, and the packing."""
    rows = batch["rows"] if "rows" in batch else see(model, batch)
    packed = packer(batch["frames"], rows.shape[1], batch["turns"])
    x = model.model.embed_tokens(packed.ids)
    clips, _, hidden = x.shape
    place = torch.nonzero(packed.image)[:, 0]
    x = x.index_copy(1, place, rows.reshape(clips, -1, hidden))
    middle, end = model.decode(x, packed.position, packed.mask, keep=model.config["num_hidden_layers"] // 2)
    return rows, middle, end, packed


def answer_loss(model, end, packed):
    """Cross entropy per answer, and which rows were right."""
    rows = packed.target != IGNORE
    logits = model.lm_head(end[rows]).float()
    target = packed.target[rows]
    right = torch.zeros_like(packed.target, dtype=torch.bool)
    right[rows] = logits.argmax(-1) == target
    answers = sum(int(b.max()) + 1 for b in packed.branch)
    return F.cross_entropy(logits, target, reduction="sum") / answers, right, rows


# Where words stand among a sentence's tokens
ATTRIBUTES = {
    "one object": {1: "size", 2: "color", 3: "shape", 5: "motion", 8: "background"},
    "two objects": {1: "2 color", 2: "2 shape", 4: "2 motion", 8: "2' color", 9: "2' shape", 11: "2' motion"},
}  # fmt: skip


def tally(score, batch, packed, right, rows):
    """Exact answers by kind; under teacher forcing all tokens right = the greedy answer right."""
    for i, (turns, kind) in enumerate(zip(batch["turns"], batch["kinds"])):
        for b, (question, _) in enumerate(turns):
            mine = (packed.branch[i] == b) & rows[i]
            hits = right[i][mine]
            name = {language.DESCRIBE: kind, language.SIGNAL: "signal", language.LIST: "json"}.get(question, "yes/no")
            score[name].append(bool(hits.all()))
            if batch["frames"] == 4:
                for at, attribute in ATTRIBUTES.get(name, {}).items():
                    score["- " + attribute].append(bool(hits[at]))


def groups(model, tower, *others):
    """Parameters for an optimiser: the towers and their connectors learn at a part of the rate."""
    towers = [*model.model.vision_tower.parameters(), *model.model.mm_projector.parameters(),
              *model.model.qwen2vl_vision_tower.parameters()]  # fmt: skip
    ids = {id(p) for p in towers}
    rest = [p for m in (model, *others) for p in m.parameters() if id(p) not in ids]
    return [{"params": rest, "scale": 1.0}, {"params": towers, "scale": tower}]


def mixed(args, config):
    """Rendered batches and, with --codec, batches from encoded clips at the given rate."""
    rendered = data.batches(Clips(config, args.rows), args.stream, args.workers)
    if not args.codec:
        yield from rendered
    import codec_cache

    encoded = codec_cache.Batches(args.codec, lambda count: clips_a_step(args.rows, count), questions.draw)
    rng = np.random.default_rng(args.stream)
    while True:
        yield encoded(rng) if rng.random() < args.codec_share else next(rendered)


def report(score, start, seen, loss, extra):
    cells = "  ".join(f"{k} {100 * np.mean(v):.0f}" for k, v in sorted(score.items()))
    print(f"{(time.time() - start) / 60:6.1f} min {seen:7d} clips  loss {loss:.3f}  helpers {extra:.2f}  {cells}", flush=True)


def adopt(model, state):
    """Loads weights; decoder layers that the checkpoint did not have yet begin as no change at all."""
    missing, unknown = model.load_state_dict(state, strict=False)
    if unknown or any(not k.startswith("model.layers.") for k in missing):
        raise SystemExit(f"--init: unknown tensors {unknown}, missing tensors {missing}")
    for name in missing:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(model.get_parameter(name))


class Run:
    """Model, helper heads and optimiser, from a checkpoint or anew."""

    def __init__(self, args):
        self.args, self.seen, self.begun = args, 0, 0
        self.config = checkpoint.configuration.load(args.layout)
        self.model, self.helpers = Valley(self.config), Helpers(self.config)
        parts = groups(self.model, args.tower, self.helpers)
        self.parameters = [p for g in parts for p in g["params"]]
        self.opt = torch.optim.AdamW(parts, lr=args.lr, weight_decay=0.02, betas=(0.9, 0.98))
        tok = checkpoint.Tokenizer.from_file(str(pathlib.Path(args.layout) / "tokenizer.json"))
        self.packer, self.words = Packer(tok), color_words(tok)
        if pathlib.Path(args.out).exists():
            self.resume(torch.load(args.out))
        elif args.init:
            self.load(torch.load(args.init))

    def load(self, saved):
        adopt(self.model, saved["model"])
        if "helpers" in saved:
            self.helpers.load_state_dict(saved["helpers"], strict=not self.args.fresh)
            self.seen = self.begun = saved["seen"]
            if not self.args.fresh:
                self.opt.load_state_dict(saved["opt"])

    def resume(self, saved):
        self.model.load_state_dict(saved["model"])
        self.helpers.load_state_dict(saved["helpers"])
        self.opt.load_state_dict(saved["opt"])
        self.seen, self.begun = saved["seen"], saved["begun"]

    def save(self):
        state = {"model": self.model.state_dict(), "helpers": self.helpers.state_dict(), "config": self.config,
                 "opt": self.opt.state_dict(), "seen": self.seen, "begun": self.begun}  # fmt: skip
        checkpoint.save(state, self.args.out)

    def late(self):
        """How much of this stage is done."""
        return (self.seen - self.begun) / self.args.clips

    def batches(self):
        self.args.stream = self.args.seed * 1_000_003 + self.seen
        stream = mixed(self.args, self.config)
        if not self.args.freeze:
            return stream
        body = self.model.model
        for part in (body.vision_tower, body.mm_projector, body.qwen2vl_vision_tower):
            part.requires_grad_(False)
        return replay(self.model, stream, np.random.default_rng(self.args.stream), self.args.freeze)

    def losses(self, batch):
        """Loss of the answers, of the helpers, and which rows were right."""
        with torch.autocast("cpu", torch.bfloat16):
            rows_seen, middle, end, packed = forward(self.model, self.packer, batch)
            loss, right, rows = answer_loss(self.model, end, packed)
            extra = helper_loss(self.helpers, middle, end, packed, batch["truth"])
            extra = extra + told_loss(self.helpers, middle, end, packed, batch["truth"], self.words)
            extra = extra + drift_loss(self.helpers, middle, packed, batch, self.config)
            if not self.args.freeze:
                extra = extra + spot_loss(self.helpers, rows_seen, batch, self.config)
        return loss, extra, (packed, right, rows)

    def step(self, batch, rate):
        for g in self.opt.param_groups:
            g["lr"] = rate * g["scale"]
        loss, extra, outcome = self.losses(batch)
        self.opt.zero_grad()
        (loss + self.args.help * extra).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.opt.step()
        self.seen += len(batch["turns"])
        return loss.item(), extra.item(), outcome


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    scenes.reweigh(args.weights)
    run = Run(args)
    start = saved_at = time.time()
    score, losses = defaultdict(list), []
    batches = run.batches()
    for i in itertools.count(1):
        if run.late() >= 1:
            break
        rate = args.lr * min(1, i / 100) * min(1, max(0.03, (1 - run.late()) / args.decay))
        batch = next(batches)
        *loss, outcome = run.step(batch, rate)
        losses.append(loss)
        if "used" not in batch:
            tally(score, batch, *outcome)
        if len(losses) == 50:
            report(score, start, run.seen, *np.mean(losses, 0))
            score, losses = defaultdict(list), []
        if time.time() - saved_at > 120:
            run.save()
            saved_at = time.time()
    run.save()
    print(f"{run.seen - run.begun} clips, {run.seen} in all, {(time.time() - start) / 60:.1f} minutes in this sitting")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True, help="checkpoint file, outside the repository; gone on from if it exists")
    p.add_argument("--layout", required=True, help="folder with config.json and tokenizer.json (assets/valley-tiny)")
    p.add_argument("--init", help="checkpoint file of pretrain.py or of this program")
    p.add_argument("--fresh", action="store_true", help="start the optimiser anew")
    p.add_argument("--clips", type=int, required=True, help="clips of this stage, repeats counted")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rows", type=int, default=24, help="clips a step, at 4 frames each")
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--tower", type=float, default=0.33, help="the towers' part of the learning rate")
    p.add_argument("--decay", type=float, default=0.25, help="last part of the clips, in which the rate falls to zero")
    p.add_argument("--help-weight", dest="help", type=float, default=0.3)
    p.add_argument("--freeze", type=int, default=0, help="leave the towers as they are and use each batch so many times")
    p.add_argument("--weights", nargs="*", default=[], help="how often kinds of clips are drawn, such as two=60 (see scenes.py)")
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--codec", help="folder of encoded clips, cached by codec_cache.py")
    p.add_argument("--codec-share", type=float, default=0.5)
    train(p.parse_args())


if __name__ == "__main__":
    main()
