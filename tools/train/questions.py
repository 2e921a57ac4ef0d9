"""Which questions a training clip is asked, and their answers."""

import language
import scenes
from language import COLORS, SHAPES

SIGNAL, LIST, ASK = 0.2, 0.45, 0.8  # parts of the batches


def draw(rng, clips):
    """Each clip's questions; all clips of a batch get the same, so that none pads the others' rows."""
    extra = rng.random(3) < (SIGNAL, LIST, ASK)
    return [list(turns(rng, c, *extra)) for c in clips]


def turns(rng, clip, signal, listing, asking):
    yield language.DESCRIBE, language.describe(clip)
    if signal:
        yield language.SIGNAL, language.signal(clip)
    if listing:
        yield language.LIST, language.list_json(clip)
    if asking:
        for color, shape in (asked(rng, clip) for _ in range(3)):
            yield language.is_there(color, shape), language.yes_no(clip, color, shape)


def asked(rng, clip):
    """A color and a shape: with objects half are there, and most of the others nearly."""
    if not clip.objects:
        return scenes.pick(rng, list(COLORS)), scenes.pick(rng, SHAPES)
    o = scenes.pick(rng, clip.objects)
    if rng.random() < 0.5:
        return o.color, o.shape
    return near_miss(rng, clip, o)


def near_miss(rng, clip, o):
    """What is not there: mostly the object's color with another shape (the other object's, if that is one)."""
    while True:
        other, chance = scenes.pick(rng, clip.objects), rng.random()
        color, shape = scenes.pick(rng, list(COLORS)), scenes.pick(rng, SHAPES)
        asked = (o.color, other.shape) if chance < 0.3 else (o.color, shape) if chance < 0.7 else (color, o.shape)
        if language.yes_no(clip, *asked) == "no":
            return asked
