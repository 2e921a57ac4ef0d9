"""Test patterns as arrays: GStreamer's videotestsrc as users see it, and renderings of our own.

Each function takes a size and a generator and returns uint8 [height, width, 3].
Only snow (and the snow corner of SMPTE bars) changes from frame to frame.
"""

import numpy as np

BARS = np.array([(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)], np.float32)


def columns(width, height, colors):
    """Equal vertical bars."""
    index = np.arange(width) * len(colors) // width
    return np.broadcast_to(np.asarray(colors, np.float32)[index], (height, width, 3)).copy()


def smpte(w, h, level, rng):
    """videotestsrc's smpte: seven bars, a strip of reversed blues, and a row ending in snow."""
    out = columns(w, h, BARS[:7] * level)
    y1, y2 = h * 2 // 3, h * 3 // 4
    strip = [BARS[6], BARS[7], BARS[4], BARS[7], BARS[2], BARS[7], BARS[0]]
    out[y1:y2] = columns(w, y2 - y1, np.array(strip) * level)
    x1, x2, x3 = w // 6, w // 3, w // 2
    out[y2:, :x1] = (0, 56, 139)
    out[y2:, x1:x2] = 253
    out[y2:, x2:x3] = (110, 0, 214)
    out[y2:, x3:] = 0
    out[y2:, w * 2 // 3 : w * 3 // 4] = 16
    corner = (h - y2, w - w * 3 // 4, 1)
    out[y2:, w * 3 // 4 :] = rng.integers(0, 256, corner)
    return out


def bars(w, h, look, rng):
    """`look` chooses the kind and stays the same through a clip; `rng` moves the snow."""
    kind = look.random()
    level = (253.0, 191.0)[int(look.integers(2))]
    if kind < 0.5:
        return smpte(w, h, 253.0 if look.random() < 0.7 else 191.0, rng)
    if kind < 0.7:
        return columns(w, h, BARS[:7] * level)
    if kind < 0.85:
        # EBU: eight bars, white at full level above 75 % colors
        colors = BARS * level
        colors[0] = 253
        return columns(w, h, colors)
    # bars above a gray ramp, as many generators have it
    out = columns(w, h, BARS * level)
    y = int(h * look.uniform(0.65, 0.85))
    out[y:] = np.linspace(0, 255, w)[None, :, None]
    return out


def snow(w, h, look, rng):
    """Noise, made weaker and coarser at random: codecs do both to it."""
    kind, grain = look.random(), int(look.integers(1, 4))
    size = (-(-h // grain), -(-w // grain))
    if kind < 0.7:
        luma = rng.integers(0, 256, size, np.uint8).astype(np.float32)
    elif kind < 0.85:
        luma = rng.integers(0, 2, size, np.uint8) * np.float32(255)
    else:
        luma = np.clip(128 + 60 * rng.standard_normal(size, np.float32), 0, 255)
    luma = luma.repeat(grain, 0).repeat(grain, 1)[:h, :w]
    if look.random() < 0.5:
        luma = 126 + (luma - 126) * np.float32(look.uniform(0.3, 1.0))
    return np.repeat(luma[..., None], 3, 2)


def two_colors(look):
    while True:
        a, b = look.integers(0, 256, (2, 3))
        if np.abs(a - b).sum() >= 300:
            return a.astype(np.float32), b.astype(np.float32)


def checkerboard(w, h, look):
    short = min(w, h)
    kind = look.random()
    cell = short * look.uniform(1 / 24, 1 / 4)
    a, b = (np.zeros(3), np.full(3, 253.0)) if kind < 0.4 else two_colors(look)
    if 0.4 <= kind < 0.6:
        a, b = np.array((253.0, 0, 0)), np.array((0, 250.0, 0))
        cell = max(8, short / 24)
    odd = ((np.arange(h) / cell).astype(int)[:, None] + (np.arange(w) / cell).astype(int)) % 2
    return np.where(odd[..., None], a, b)


def gradient(w, h, look):
    t = np.broadcast_to(np.linspace(0, 1, h)[:, None], (h, w))
    if look.random() < 0.4:
        t = np.broadcast_to(np.linspace(0, 1, w), (h, w))
    a, b = (np.zeros(3), np.full(3, 255.0)) if look.random() < 0.6 else two_colors(look)
    if look.random() < 0.3:
        a, b = b, a
    return a + (b - a) * t[..., None]


def circles(w, h, look):
    ring = min(w, h) * look.uniform(1 / 24, 1 / 8)
    y, x = np.mgrid[:h, :w]
    r = np.hypot(x - w / 2 + 0.5, y - h / 2 + 0.5)
    a, b = (np.zeros(3), np.full(3, 253.0)) if look.random() < 0.5 else two_colors(look)
    wave = 0.5 + 0.5 * np.cos(np.pi * r / ring) if look.random() < 0.3 else (r / ring).astype(int) % 2
    return a + (b - a) * wave[..., None]


def draw(state, w, h, rng):
    """A state's picture at one moment, float or uint8 [h, w, 3]."""
    look = np.random.default_rng(state.seed)
    if state.pattern == "bars":
        return bars(w, h, look, rng)
    if state.pattern == "snow":
        return snow(w, h, look, rng)
    if state.pattern == "checkerboard":
        return checkerboard(w, h, look)
    if state.pattern == "gradient":
        return gradient(w, h, look)
    if state.pattern == "circles":
        return circles(w, h, look)
    return np.broadcast_to(np.array(state.rgb, np.float32), (h, w, 3)).copy()


MOVING = ("bars", "snow")
