"""The bundled model's closed language: every prompt and every answer it can be asked for.

Answers are scored by equality, so this file is the only place that spells them.
What a clip shows comes from scenes.py; nothing here draws or draws lots.
"""

import json

COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
}
SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")
MOTIONS = ("left", "right", "up", "down", "still")

DESCRIBE = "Describe the video."
SIGNAL = "What is the signal? Answer picture, bars, black or snow."
LIST = "List the objects as JSON."


def is_there(color, shape):
    return f"Is there a {color} {shape}? Answer yes or no."


# The states of a picture without objects, as they read inside a sentence.
# "plain" needs a color and is spelled by state_phrase().
PATTERN_PHRASES = {
    "bars": "color bars",
    "snow": "snow",
    "black": "a black screen",
    "checkerboard": "a checkerboard",
    "gradient": "a gradient",
    "circles": "concentric circles",
}


def state_phrase(state):
    """A no-object state inside a sentence: 'color bars', 'a plain blue screen'."""
    if state.pattern == "plain":
        return f"a plain {state.color} screen"
    return PATTERN_PHRASES[state.pattern]


def state_sentence(state):
    if state.pattern == "snow":
        return "Snow, no signal."
    phrase = state_phrase(state)
    return phrase[0].upper() + phrase[1:] + "."


def motion_phrase(motion):
    return "stays still" if motion == "still" else f"moves {motion}"


def in_order(objects):
    order = list(COLORS)
    return sorted(objects, key=lambda o: order.index(o.color))


def describe(clip):
    if clip.after is not None:
        return f"The picture cuts from {state_phrase(clip.state)} to {state_phrase(clip.after)}."
    if not clip.objects:
        return state_sentence(clip.state)
    ground = f"on a {clip.state.color} background."
    parts = in_order(clip.objects)
    if len(parts) == 1:
        o = parts[0]
        return f"A {o.size} {o.color} {o.shape} {motion_phrase(o.motion)} {ground}"
    text = " and ".join(f"a {o.color} {o.shape} {motion_phrase(o.motion)}" for o in parts)
    return text[0].upper() + text[1:] + " " + ground


def signal(clip):
    """One word for the LAST frame."""
    last = clip.after if clip.after is not None else clip.state
    if clip.objects or last.pattern not in ("bars", "snow", "black"):
        return "picture"
    return last.pattern


def list_json(clip):
    rows = [
        {"shape": o.shape, "color": o.color, "size": o.size, "motion": o.motion}
        for o in in_order(clip.objects)
    ]
    return json.dumps({"objects": rows}, separators=(",", ":"))


def yes_no(clip, color, shape):
    return "yes" if any(o.color == color and o.shape == shape for o in clip.objects) else "no"


def kind(clip):
    """The rows of the accuracy table."""
    if clip.after is not None:
        return "cut"
    if clip.objects:
        return "one object" if len(clip.objects) == 1 else "two objects"
    return clip.state.pattern


def every_sentence():
    """One of each sentence and prompt: what the tokenizer's merges are learned from."""
    from itertools import product
    from types import SimpleNamespace as Thing

    states = [Thing(pattern=p, color=None) for p in PATTERN_PHRASES]
    states += [Thing(pattern="plain", color=c) for c in COLORS if c != "black"]
    clips = [Thing(state=s, after=None, objects=[]) for s in states]
    clips += [Thing(state=a, after=b, objects=[]) for a, b in product(states, states) if a is not b]
    for size, color, shape, motion in product(SIZES, COLORS, SHAPES, MOTIONS):
        thing = Thing(size=size, color=color, shape=shape, motion=motion)
        for ground in COLORS:
            clips.append(Thing(state=Thing(pattern="plain", color=ground), after=None, objects=[thing]))
    for clip in clips:
        yield describe(clip)
        if clip.objects or clip.state.pattern == "bars":
            yield list_json(clip)
        yield signal(clip)
    for color, shape in product(COLORS, SHAPES):
        yield is_there(color, shape)
    for _ in range(50):
        yield from (DESCRIBE, SIGNAL, LIST, "yes", "no")
