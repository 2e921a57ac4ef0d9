"""Stage 2 and 3: the whole model learns to answer, on rendered clips and then on encoded ones too.

Helper heads on each frame's <im_end> ask for the object's place, look and way;
they exist only during training and make motion come several times sooner.
Every rendered clip is new, so the printed accuracies are held-out ones.
"""

import argparse
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
import scenes
from language import COLORS, MOTIONS, SHAPES
from model import Valley
from sequences import IGNORE, Packer

COLOR_NAMES = list(COLORS)
LOOK = (1 + len(SHAPES), len(COLOR_NAMES), 2)  # of one object in one frame, place first
WAY = (len(MOTIONS), 2)  # of one object over the frames so far: word and displacement


class Helpers(nn.Module):
    """Two objects' look in the middle of the decoder, their way at its end."""

    def __init__(self, config):
        super().__init__()
        hidden = config["hidden_size"]
        self.look = nn.Linear(hidden, 2 * (2 + sum(LOOK)))
        self.way = nn.Linear(hidden, 2 * sum(WAY))


def window(rng):
    """Frame times of one training window: mostly 4 at 2/s, as deployed."""
    chance = rng.random()
    if chance < 0.6:
        return 4, 2.0
    if chance < 0.65:
        return 1, 2.0
    return int(rng.integers(2, 9)), float(rng.integers(1, 6))


def questions(rng, clip):
    out = [(language.DESCRIBE, language.describe(clip))]
    if rng.random() < 0.35 or clip.after is not None:
        out.append((language.SIGNAL, language.signal(clip)))
    if rng.random() < 0.12:
        out.append((language.LIST, language.list_json(clip)))
    if rng.random() < 0.1:
        color, shape = scenes.pick(rng, COLOR_NAMES), scenes.pick(rng, SHAPES)
        if clip.objects and rng.random() < 0.7:
            o = scenes.pick(rng, clip.objects)
            color, shape = o.color, (o.shape if rng.random() < 0.6 else shape)
        out.append((language.is_there(color, shape), language.yes_no(clip, color, shape)))
    return out


def truth(clip, times):
    """[frames, 2, 9] per object: x, y, shape, color, size, motion, dx, dy, exists; in color order."""
    out = np.zeros((len(times), 2, 9), np.float32)
    left, top, w, h = clip.content()
    for slot, o in enumerate(language.in_order(clip.objects)):
        for i, t in enumerate(times):
            x, y = o.at(t)
            out[i, slot] = ((left + x * w) / clip.width, (top + y * h) / clip.height,
                            SHAPES.index(o.shape) + 1, COLOR_NAMES.index(o.color), o.size == "large",
                            MOTIONS.index(o.motion), o.vx * t * w / clip.width, o.vy * t * h / clip.height, 1)  # fmt: skip
    return out


class Clips:
    """Makes batches of rendered clips with their questions."""

    def __init__(self, config, rows, only_frames=None):
        self.config, self.rows, self.fixed = config, rows, only_frames

    def __call__(self, rng):
        w, h = scenes.pick(rng, data.SIZES)
        count, rate = self.fixed or window(rng)
        # equal work per batch, whatever the number of frames
        size = max(8, round(self.rows * 4 / (count + 1)))
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
            "turns": [questions(rng, c) for c in clips],
            "truth": torch.from_numpy(np.stack([truth(c, times) for c in clips])),
            "kinds": [language.kind(c) for c in clips],
        }


def forward(model, packer, batch):
    """Hidden states in the middle and at the end, and the packing."""
    rows = model.see(preprocess.siglip(batch["siglip"]), preprocess.eagle(batch["eagle"]))
    packed = packer(batch["frames"], rows.shape[1], batch["turns"])
    x = model.model.embed_tokens(packed.ids)
    clips, _, hidden = x.shape
    place = torch.nonzero(packed.image)[:, 0]
    x = x.index_copy(1, place, rows.reshape(clips, -1, hidden))
    middle, end = model.decode(x, packed.position, packed.mask, keep=model.config["num_hidden_layers"] // 2)
    return middle, end, packed


def helper_loss(helpers, middle, end, packed, facts):
    """`facts` as from truth(), [clips, frames, 2, 9]."""
    at = packed.frame_end
    look = helpers.look(middle[:, at]).float().unflatten(-1, (2, -1))
    way = helpers.way(end[:, at]).float().unflatten(-1, (2, -1))
    place, kind, color, size = look.split((2, *LOOK), -1)
    word, shift = way.split(WAY, -1)
    there = facts[..., 8] > 0
    loss = F.cross_entropy(kind.flatten(0, 2), facts[..., 2].long().flatten())
    if there.any():
        f = facts[there]
        loss = loss + F.smooth_l1_loss(place[there] * 0.25, f[:, :2] - 0.5, beta=0.02) * 8
        loss = loss + F.cross_entropy(color[there], f[:, 3].long()) + 0.5 * F.cross_entropy(size[there], f[:, 4].long())
        loss = loss + F.smooth_l1_loss(shift[there] * 0.25, f[:, 6:8], beta=0.02) * 8
    later = there.clone()
    later[:, 0] = False
    if later.any():
        loss = loss + F.cross_entropy(word[later], facts[later][:, 5].long())
    return loss


def answer_loss(model, end, packed):
    """Cross entropy per answer, and which rows were right."""
    rows = packed.target != IGNORE
    logits = model.lm_head(end[rows]).float()
    target = packed.target[rows]
    right = torch.zeros_like(packed.target, dtype=torch.bool)
    right[rows] = logits.argmax(-1) == target
    answers = sum(int(b.max()) + 1 for b in packed.branch)
    return F.cross_entropy(logits, target, reduction="sum") / answers, right, rows


ATTRIBUTES = {1: "size", 2: "color", 3: "shape", 5: "motion", 8: "background"}


def tally(score, batch, packed, right, rows):
    """Exact answers by kind; under teacher forcing all tokens right = the greedy answer right."""
    for i, (turns, kind) in enumerate(zip(batch["turns"], batch["kinds"])):
        for b, (question, _) in enumerate(turns):
            mine = (packed.branch[i] == b) & rows[i]
            hits = right[i][mine]
            name = {language.DESCRIBE: kind, language.SIGNAL: "signal", language.LIST: "json"}.get(question, "yes/no")
            score[name].append(bool(hits.all()))
            if name == "one object" and batch["frames"] == 4:
                for at, attribute in ATTRIBUTES.items():
                    score["- " + attribute].append(bool(hits[at]))


def groups(model, helpers, args):
    towers = [*model.model.vision_tower.parameters(), *model.model.mm_projector.parameters(),
              *model.model.qwen2vl_vision_tower.parameters()]  # fmt: skip
    ids = {id(p) for p in towers}
    rest = [p for p in [*model.parameters(), *helpers.parameters()] if id(p) not in ids]
    return [{"params": rest, "scale": 1.0}, {"params": towers, "scale": args.tower}]


def mixed(args, config):
    """Rendered batches and, with --codec, batches from encoded clips at the given rate."""
    rendered = data.batches(Clips(config, args.rows), args.stream, args.workers)
    if not args.codec:
        yield from rendered
    import codec_cache

    encoded = codec_cache.Batches(args.codec, args.rows, questions)
    rng = np.random.default_rng(args.stream)
    while True:
        yield encoded(rng) if rng.random() < args.codec_share else next(rendered)


def report(score, start, seen, loss):
    cells = "  ".join(f"{k} {100 * np.mean(v):.0f}" for k, v in sorted(score.items()))
    print(f"{(time.time() - start) / 60:6.1f} min {seen:7d} clips  loss {loss:.3f}  {cells}", flush=True)


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    config = checkpoint.configuration.load(args.layout)
    model, helpers = Valley(config), Helpers(config)
    packer = Packer(checkpoint.Tokenizer.from_file(str(pathlib.Path(args.layout) / "tokenizer.json")))
    parameters = groups(model, helpers, args)
    opt = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=0.02, betas=(0.9, 0.98))
    seen = 0
    if args.init:
        saved = torch.load(args.init)
        model.load_state_dict(saved["model"])
        if "helpers" in saved:
            helpers.load_state_dict(saved["helpers"])
            seen = saved["seen"]
            if not args.fresh:
                opt.load_state_dict(saved["opt"])
    args.stream = args.seed * 1_000_003 + seen
    begun, start, saved_at = seen, time.time(), time.time()
    score, losses = defaultdict(list), []
    everything = [p for g in parameters for p in g["params"]]
    for i, batch in enumerate(mixed(args, config)):
        late = (time.time() - start) / (60 * args.minutes)
        rate = args.lr * min(1, (i + 1) / 100) * min(1, max(0.03, (1 - late) / args.decay))
        for g in opt.param_groups:
            g["lr"] = rate * g["scale"]
        with torch.autocast("cpu", torch.bfloat16):
            middle, end, packed = forward(model, packer, batch)
            loss, right, rows = answer_loss(model, end, packed)
            extra = helper_loss(helpers, middle, end, packed, batch["truth"]) if "truth" in batch else 0
        opt.zero_grad()
        (loss + args.help * extra).backward()
        nn.utils.clip_grad_norm_(everything, 1.0)
        opt.step()
        seen += len(batch["turns"])
        losses.append(loss.item())
        tally(score, batch, packed, right, rows)
        if len(losses) == 50:
            report(score, start, seen, np.mean(losses))
            score, losses = defaultdict(list), []
        if late >= 1 or time.time() - saved_at > 120:
            torch.save({"model": model.state_dict(), "helpers": helpers.state_dict(),
                        "opt": opt.state_dict(), "seen": seen}, args.out)  # fmt: skip
            saved_at = time.time()
        if late >= 1:
            print(f"{seen - begun} clips in {(time.time() - start) / 60:.1f} minutes, {seen} in all")
            return


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", required=True, help="checkpoint file, outside the repository")
    p.add_argument("--layout", required=True, help="folder with config.json and tokenizer.json (assets/valley-tiny)")
    p.add_argument("--init", help="checkpoint file of pretrain.py or of this program")
    p.add_argument("--fresh", action="store_true", help="start the optimiser anew")
    p.add_argument("--minutes", type=float, required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rows", type=int, default=24, help="clips a step, at 4 frames each")
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--tower", type=float, default=0.33, help="the towers' part of the learning rate")
    p.add_argument("--decay", type=float, default=0.25, help="last part of the time, in which the rate falls to zero")
    p.add_argument("--help-weight", dest="help", type=float, default=0.3)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--codec", help="folder of encoded clips, cached by codec_cache.py")
    p.add_argument("--codec-share", type=float, default=0.5)
    train(p.parse_args())


if __name__ == "__main__":
    main()
