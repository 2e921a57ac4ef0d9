"""Draws lots for clips: what they show, never how it is drawn (render.py) or encoded (codec.py).

Positions are fractions of the picture (inside letterbox bars), so one clip can
be rendered at any size of the same aspect.
"""

from dataclasses import dataclass, field, replace

from language import COLORS, SHAPES

SMALL, LARGE = (0.15, 0.25), (0.35, 0.50)
SPEED = (0.10, 0.40)
DIRECTION = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
# At least four fifths visible: the center keeps this part of the side inside the picture.
INSIDE = 0.32


@dataclass
class Thing:
    shape: str
    color: str
    size: str
    motion: str
    rgb: tuple
    side: float  # of the shorter side
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0

    def at(self, t):
        return self.x + self.vx * t, self.y + self.vy * t


@dataclass
class State:
    """A picture without its objects. `seed` feeds a pattern's own choices."""

    pattern: str
    color: str | None = None
    rgb: tuple = (0, 0, 0)
    seed: int = 0


@dataclass
class Nuisance:
    letterbox: float = 0.0  # part of the height (or, pillarbox, width) that is bars
    pillar: bool = False
    noise: float = 0.0
    blur: float = 0.0
    brightness: float = 0.0
    contrast: float = 1.0
    jpeg: int = 0
    seed: int = 0


@dataclass
class Clip:
    width: int
    height: int
    duration: float
    state: State
    after: State | None = None
    cut: float = 0.0
    objects: list = field(default_factory=list)
    nuisance: Nuisance = field(default_factory=Nuisance)

    def content(self):
        """The picture's box inside letterbox bars: left, top, width, height in pixels."""
        n = self.nuisance
        if n.pillar:
            w = round(self.width * (1 - n.letterbox))
            return (self.width - w) // 2, 0, w, self.height
        h = round(self.height * (1 - n.letterbox))
        return 0, (self.height - h) // 2, self.width, h


# How often each kind of clip is drawn. Objects are the hard part and get most.
WEIGHTS = {
    "one": 50, "two": 10, "cut": 8, "bars": 7, "snow": 6, "black": 4, "plain": 9,
    "checkerboard": 3, "gradient": 4, "circles": 3,
}  # fmt: skip


def reweigh(words):
    """Changes WEIGHTS by words such as two=60."""
    for word in words:
        kind, _, weight = word.partition("=")
        if kind not in WEIGHTS:
            raise SystemExit(f"{word}: expected KIND=WEIGHT with a kind of {', '.join(WEIGHTS)}")
        WEIGHTS[kind] = float(weight)


def shade(rng, color, spread=40):
    return tuple(int(min(255, max(0, v + rng.integers(-spread, spread + 1)))) for v in COLORS[color])


def far(a, b):
    return sum(abs(x - y) for x, y in zip(a, b)) >= 200


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def nearest(rgb):
    return min(COLORS, key=lambda c: sum((a - b) ** 2 for a, b in zip(rgb, COLORS[c])))


def state(rng, pattern):
    seed = int(rng.integers(2**31))
    if pattern == "plain":
        color = pick(rng, [c for c in COLORS if c != "black"])
        return State("plain", color, shade(rng, color, pick(rng, (0, 40))), seed)
    if pattern == "black":
        return State("black", "black", shade(rng, "black", pick(rng, (0, 20))), seed)
    return State(pattern, None, (0, 0, 0), seed)


def place(rng, thing, clip):
    """Gives `thing` a straight path that stays visible for the clip's duration."""
    _, _, w, h = clip.content()
    side = thing.side * min(w, h)
    dx, dy = DIRECTION[thing.motion]
    spot, speed = [], []
    for extent, d in ((w, dx), (h, dy)):
        low = (INSIDE if d else 0.5) * side / extent
        room = 1 - 2 * low
        v = min(rng.uniform(*SPEED), 0.98 * room / clip.duration) if d else 0.0
        start = low + rng.uniform(0, room - v * clip.duration)
        spot.append(start if d >= 0 else 1 - start)
        speed.append(v * d)
    (thing.x, thing.y), (thing.vx, thing.vy) = spot, speed


def apart(a, b, clip, steps=9):
    """Whether two things keep a gap of a tenth of their sides all along."""
    _, _, w, h = clip.content()
    reach = 0.55 * (a.side + b.side) * min(w, h)
    for i in range(steps):
        t = clip.duration * i / (steps - 1)
        (ax, ay), (bx, by) = a.at(t), b.at(t)
        if abs(ax - bx) * w < reach and abs(ay - by) * h < reach:
            return False
    return True


def things(rng, clip, count, still=0.2, sizes=("small", "large")):
    """`count` objects that fit on the clip's background and beside each other."""
    while True:
        out = []
        while len(out) < count:
            color = pick(rng, list(COLORS))
            rgb = shade(rng, color, pick(rng, (0, 40)))
            if not far(rgb, clip.state.rgb) or any(o.color == color for o in out):
                continue
            size = "small" if count == 2 else pick(rng, sizes)
            motion = "still" if rng.random() < still else pick(rng, ("left", "right", "up", "down"))
            thing = Thing(pick(rng, SHAPES), color, size, motion, rgb,
                          rng.uniform(*(SMALL if size == "small" else LARGE)), 0, 0)  # fmt: skip
            place(rng, thing, clip)
            out.append(thing)
        if count == 1 or apart(*out, clip):
            return out


def nuisance(rng, codec):
    n = Nuisance(seed=int(rng.integers(2**31)))
    if rng.random() < 0.06:
        n.letterbox, n.pillar = rng.uniform(0.08, 0.28), bool(rng.integers(2))
    if rng.random() < 0.25:
        n.noise = rng.uniform(1, 6)
    if rng.random() < 0.2:
        n.blur = rng.uniform(0.3, 1.0)
    if rng.random() < 0.35:
        n.brightness, n.contrast = rng.uniform(-0.1, 0.1), rng.uniform(0.9, 1.1)
    if codec and not n.noise and rng.random() < 0.5:
        n.noise = rng.uniform(0.5, 1.5)
    if codec and rng.random() < 0.75:
        n.jpeg = int(rng.integers(12, 92))
    return n


def clip(rng, width, height, duration, kind=None, codec=True, still=0.2):
    """One clip. `codec` stands in for a real codec (JPEG) when none follows."""
    if kind is None:
        kinds = list(WEIGHTS)
        weights = [WEIGHTS[k] for k in kinds]
        kind = kinds[rng.choice(len(kinds), p=[w / sum(weights) for w in weights])]
    out = Clip(width, height, duration, State("black"), nuisance=nuisance(rng, codec))
    if kind in ("one", "two"):
        color = pick(rng, list(COLORS)) if rng.random() < 0.75 else "black"
        out.state = State("plain", color, shade(rng, color, pick(rng, (0, 40))))
        out.objects = things(rng, out, 1 if kind == "one" else 2, still)
    elif kind == "cut":
        out.state = state(rng, pick(rng, NO_OBJECT))
        out.after = out.state
        while same(out.after, out.state):
            out.after = state(rng, pick(rng, NO_OBJECT))
        out.cut = duration * rng.uniform(0.27, 0.73)
    else:
        out.state = state(rng, kind)
    return out


NO_OBJECT = ("bars", "bars", "snow", "black", "black", "plain", "plain", "plain", "checkerboard", "gradient", "circles")


def same(a, b):
    return (a.pattern, a.color) == (b.pattern, b.color)


def as_still(c):
    """The clip as its first frame alone tells it: nothing moves, nothing cuts."""
    return replace(c, after=None, objects=[replace(o, motion="still", vx=0.0, vy=0.0) for o in c.objects])
