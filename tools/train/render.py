"""Draws a clip's frames (scenes.py) as uint8 arrays [height, width, 3]."""

import io

import numpy as np
from PIL import Image, ImageFilter

import patterns


def cover(shape, cx, cy, side, width, height):
    """Antialiased mask of a shape and the rows and columns it touches."""
    half = side / 2
    x0, x1 = max(0, int(cx - half - 1)), min(width, int(cx + half + 2))
    y0, y1 = max(0, int(cy - half - 1)), min(height, int(cy + half + 2))
    x = np.arange(x0, x1, dtype=np.float32) + 0.5 - cx
    y = (np.arange(y0, y1, dtype=np.float32) + 0.5 - cy)[:, None]
    if shape == "circle":
        inside = half - np.hypot(x, y)
    elif shape == "square":
        inside = half - np.maximum(np.abs(x), np.abs(y))
    else:
        # point up: two flanks and the base; a flank's distance is measured across it
        flank = (half + y - 2 * np.abs(x)) / 5**0.5
        inside = np.minimum(flank, half - y)
    return np.clip(inside + 0.5, 0, 1)[..., None], slice(y0, y1), slice(x0, x1)


def level(value, nuisance):
    """Brightness and contrast; a color and a picture alike."""
    return np.clip((np.asarray(value, np.float32) - 128) * nuisance.contrast + 128 + 255 * nuisance.brightness, 0, 255)


class Painter:
    """Paints a clip's moments one after the other; what does not change is painted once."""

    def __init__(self, clip):
        self.clip = clip
        self.rng = np.random.default_rng(clip.nuisance.seed)
        self.base = {}
        self.grain = None

    def background(self, t):
        clip = self.clip
        _, _, w, h = clip.content()
        state = clip.after if clip.after is not None and t >= clip.cut else clip.state
        if id(state) not in self.base or state.pattern in patterns.MOVING:
            drawn = level(patterns.draw(state, w, h, self.rng), clip.nuisance)
            self.base[id(state)] = (drawn + 0.5).astype(np.uint8)
        return self.base[id(state)]

    def content(self, t):
        """The picture inside letterbox bars."""
        clip = self.clip
        _, _, w, h = clip.content()
        out = self.background(t).copy()
        for o in clip.objects:
            x, y = o.at(t)
            mask, rows, cols = cover(o.shape, x * w, y * h, o.side * min(w, h), w, h)
            part = out[rows, cols].astype(np.float32)
            out[rows, cols] = part + (level(o.rgb, clip.nuisance) - part) * mask + 0.5
        return out

    def noisy(self, out, strength):
        """Sensor noise; one field of it, shifted from frame to frame, is as good as new and far cheaper."""
        if self.grain is None:
            self.grain = (self.rng.standard_normal(out.shape, np.float32) * strength).astype(np.int16)
        shift = tuple(int(self.rng.integers(n)) for n in out.shape[:2])
        return np.clip(out + np.roll(self.grain, shift, (0, 1)), 0, 255).astype(np.uint8)

    def frame(self, t):
        clip, n = self.clip, self.clip.nuisance
        left, top, w, h = clip.content()
        out = self.content(t)
        if (w, h) != (clip.width, clip.height):
            whole = np.zeros((clip.height, clip.width, 3), np.uint8)
            whole[top : top + h, left : left + w] = out
            out = whole
        if n.noise:
            out = self.noisy(out, n.noise)
        if n.blur:
            scale = min(clip.width, clip.height) / 240
            out = np.asarray(Image.fromarray(out).filter(ImageFilter.GaussianBlur(n.blur * scale)))
        # The quality wanders as a codec's does: frames too much alike would give stillness away
        return jpeg(out, int(n.jpeg * self.rng.uniform(0.6, 1.1))) if n.jpeg else out


def frames(clip, times):
    """One uint8 array per time."""
    painter = Painter(clip)
    for t in times:
        yield painter.frame(t)


def jpeg(array, quality):
    """Block and color artefacts in the manner of a video codec, a hundred times cheaper."""
    box = io.BytesIO()
    Image.fromarray(array).save(box, "jpeg", quality=quality, subsampling=2)
    return np.asarray(Image.open(box))
