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
from pretrain import owners
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
        # and where the object under a visual token is, asked of the token itself
        self.spot = nn.ModuleList(nn.Linear(hidden, 2) for _ in ("siglip", "eagle"))


def window(rng):
    """Frame times of one training window: mostly 4 at 2/s, as deployed."""
    chance = rng.random()
    if chance < 0.6:
        return 4, 2.0
    if chance < 0.65:
        return 1, 2.0
    return int(rng.integers(2, 9)), float(rng.integers(1, 6))


def questions(rng, clips):
    """Each clip's questions; all clips of a batch get the same, so that none pads the others' rows."""
    extra = rng.random(3) < (0.3, 0.1, 0.12)
    return [list(turns(rng, c, *extra)) for c in clips]


def turns(rng, clip, signal, listing, asking):
    yield language.DESCRIBE, language.describe(clip)
    if signal:
        yield language.SIGNAL, language.signal(clip)
    if listing:
        yield language.LIST, language.list_json(clip)
    if asking:
        color, shape = scenes.pick(rng, COLOR_NAMES), scenes.pick(rng, SHAPES)
        if clip.objects and rng.random() < 0.7:
            o = scenes.pick(rng, clip.objects)
            color, shape = o.color, (o.shape if rng.random() < 0.6 else shape)
        yield language.is_there(color, shape), language.yes_no(clip, color, shape)


def truth(clip, times):
    """[frames, 2, 11] per object: x, y, shape, color, size, motion, dx, dy, exists, width, height; in color order."""
    out = np.zeros((len(times), 2, 11), np.float32)
    left, top, w, h = clip.content()
    for slot, o in enumerate(language.in_order(clip.objects)):
        side = o.side * min(w, h)
        for i, t in enumerate(times):
            x, y = o.at(t)
            out[i, slot] = ((left + x * w) / clip.width, (top + y * h) / clip.height,
                            SHAPES.index(o.shape) + 1, COLOR_NAMES.index(o.color), o.size == "large",
                            MOTIONS.index(o.motion), o.vx * t * w / clip.width, o.vy * t * h / clip.height, 1,
                            side / clip.width, side / clip.height)  # fmt: skip
    return out


class Clips:
    """Makes batches of rendered clips with their questions."""

    def __init__(self, config, rows):
        self.config, self.rows = config, rows

    def __call__(self, rng):
        w, h = scenes.pick(rng, data.SIZES)
        count, rate = window(rng)
        # equal work per batch, whatever the number of frames
        size = max(6, round(self.rows * 4 / (count + 1)))
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
            "turns": questions(rng, clips),
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
        held = [*held[-pool + 1 :], batch]
        for _ in range(times):
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


def spot_loss(helpers, rows, batch, config):
    """How far the visual tokens' idea of their object's center is off, both branches."""
    facts = batch["truth"].flatten(0, 1)
    kind = torch.where(facts[..., 8] > 0, 0.0, -1.0)
    objects = torch.cat((facts[..., :2], facts[..., 9:11], kind[..., None]), -1)
    block = 2 * config["vit_patch_size"]
    side = batch["siglip"].shape[1] // block
    grids = (side, side), (batch["eagle"].shape[1] // block, batch["eagle"].shape[2] // block)
    loss = torch.zeros(())
    parts = rows.split([r * c for r, c in grids], 1)
    for head, part, (r, c) in zip(helpers.spot, parts, grids):
        owner, _ = owners(objects, r, c)
        has = owner >= 0
        if has.any():
            mine = torch.gather(objects[..., :2], 1, owner.clamp(min=0)[..., None].expand(-1, -1, 2))
            wrong = head(part)[has].float() * 0.25 - (mine[has] - 0.5)
            loss = loss + 4 * F.smooth_l1_loss(wrong, torch.zeros_like(wrong), beta=0.02)
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


def report(score, start, seen, loss, extra):
    cells = "  ".join(f"{k} {100 * np.mean(v):.0f}" for k, v in sorted(score.items()))
    print(f"{(time.time() - start) / 60:6.1f} min {seen:7d} clips  loss {loss:.3f}  helpers {extra:.2f}  {cells}", flush=True)


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    scenes.WEIGHTS["one"] += args.objects
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
            helpers.load_state_dict(saved["helpers"], strict=not args.fresh)
            seen = saved["seen"]
            if not args.fresh:
                opt.load_state_dict(saved["opt"])
    args.stream = args.seed * 1_000_003 + seen
    begun, start, saved_at = seen, time.time(), time.time()
    score, losses = defaultdict(list), []
    everything = [p for g in parameters for p in g["params"]]
    stream = mixed(args, config)
    if args.freeze:
        model.model.vision_tower.requires_grad_(False)
        model.model.mm_projector.requires_grad_(False)
        model.model.qwen2vl_vision_tower.requires_grad_(False)
        stream = replay(model, stream, np.random.default_rng(args.stream), args.freeze)
    for i, batch in enumerate(stream):
        late = (time.time() - start) / (60 * args.minutes)
        rate = args.lr * min(1, (i + 1) / 100) * min(1, max(0.03, (1 - late) / args.decay))
        for g in opt.param_groups:
            g["lr"] = rate * g["scale"]
        with torch.autocast("cpu", torch.bfloat16):
            rows_seen, middle, end, packed = forward(model, packer, batch)
            loss, right, rows = answer_loss(model, end, packed)
            extra = helper_loss(helpers, middle, end, packed, batch["truth"])
            if not args.freeze:
                extra = extra + spot_loss(helpers, rows_seen, batch, config)
        opt.zero_grad()
        (loss + args.help * extra).backward()
        nn.utils.clip_grad_norm_(everything, 1.0)
        opt.step()
        seen += len(batch["turns"])
        losses.append((loss.item(), extra.item()))
        tally(score, batch, packed, right, rows)
        if len(losses) == 50:
            report(score, start, seen, *np.mean(losses, 0))
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
    p.add_argument("--freeze", type=int, default=0, help="leave the towers as they are and use each batch so many times")
    p.add_argument("--objects", type=int, default=0, help="more weight for clips with one object")
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--codec", help="folder of encoded clips, cached by codec_cache.py")
    p.add_argument("--codec-share", type=float, default=0.5)
    train(p.parse_args())


if __name__ == "__main__":
    main()
