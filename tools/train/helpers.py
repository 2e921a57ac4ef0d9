"""Helper heads: they exist only during training and make motion and binding come several times sooner.

Each frame's <im_end> is asked for both objects' place, look and way; each
visual token for its object's way so far, as the decoder's middle sees it; each
color word of a question or an answer for the object that has this color.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import language
from language import COLORS, MOTIONS, SHAPES
from pretrain import owners

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
        self.drift = nn.Linear(hidden, sum(WAY))
        # of the object that has a color word's color: what it is by the middle, where it goes by the end
        self.told = nn.Linear(hidden, 1 + len(SHAPES))
        self.goes = nn.Linear(hidden, sum(WAY))


def color_words(tok):
    """For each token id the color it names, or -1."""
    table = torch.full((tok.get_vocab_size(),), -1)
    for i, color in enumerate(COLOR_NAMES):
        for text in (color, " " + color):
            ids = tok.encode(text, add_special_tokens=False).ids
            if len(ids) == 1:
                table[ids[0]] = i
    return table


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


def way_loss(guess, facts):
    word, shift = guess.float().split(WAY, -1)
    far = F.smooth_l1_loss(shift * 0.25, facts[:, 6:8], beta=0.02)
    return F.cross_entropy(word, facts[:, 5].long()) + 8 * far


def told_loss(helpers, middle, end, packed, facts, words):
    """What the decoder knows, at a color word, of the object with that color: without it two motions get mixed up."""
    color = torch.where(packed.image | (packed.branch < 0), -1, words[packed.ids])
    at = torch.nonzero(color >= 0, as_tuple=True)
    last = facts[at[0], -1]  # [words, 2, 11]
    match = (last[..., 8] > 0) & (last[..., 3].long() == color[at][:, None])
    has, slot = match.any(1), match.float().argmax(1)
    mine = last[torch.arange(len(slot)), slot]
    kind = helpers.told(middle[at]).float()
    loss = F.cross_entropy(kind, torch.where(has, mine[:, 2].long(), 0))
    if has.any() and facts.shape[1] > 1:
        loss = loss + way_loss(helpers.goes(end[at][has]), mine[has])
    return loss


def token_owners(facts, batch, config):
    """Per branch of vision: its number of tokens and which object owns each, [clips * frames, tokens] or -1."""
    facts = facts.flatten(0, 1)
    kind = torch.where(facts[..., 8] > 0, 0.0, -1.0)
    objects = torch.cat((facts[..., :2], facts[..., 9:11], kind[..., None]), -1)
    block = 2 * config["vit_patch_size"]
    side = batch["siglip"].shape[1] // block
    grids = (side, side), (batch["eagle"].shape[1] // block, batch["eagle"].shape[2] // block)
    return [owners(objects, r, c)[0] for r, c in grids]


def drift_loss(helpers, middle, packed, batch, config):
    """Each visual token's idea of how far its object has come: tracking learned densely, not through one word."""
    facts = batch["truth"]
    if facts.shape[1] == 1:
        return torch.zeros(())
    owner = torch.cat(token_owners(facts, batch, config), 1).unflatten(0, facts.shape[:2])
    owner[:, 0] = -1
    at = torch.nonzero(owner >= 0, as_tuple=True)
    if not len(at[0]):
        return torch.zeros(())
    seen = middle[:, packed.image].unflatten(1, owner.shape[1:])
    return way_loss(helpers.drift(seen[at]), facts[at[0], at[1], owner[at]])


def spot_loss(helpers, rows, batch, config):
    """How far the visual tokens' idea of their object's center is off, both branches."""
    centers = batch["truth"].flatten(0, 1)[..., :2]
    owned = token_owners(batch["truth"], batch, config)
    loss = torch.zeros(())
    for head, part, owner in zip(helpers.spot, rows.split([o.shape[1] for o in owned], 1), owned):
        has = owner >= 0
        if has.any():
            mine = torch.gather(centers, 1, owner.clamp(min=0)[..., None].expand(-1, -1, 2))
            wrong = head(part)[has].float() * 0.25 - (mine[has] - 0.5)
            loss = loss + 4 * F.smooth_l1_loss(wrong, torch.zeros_like(wrong), beta=0.02)
    return loss
