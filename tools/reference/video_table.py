# SPDX-License-Identifier: Apache-2.0
"""What the element makes of video frames, against numpy and Pillow.

  video_table.py BUILD/tests/frame-inputs

For sizes, formats, matrices and ranges: planes with known samples go in; the reference resizes each
plane with Pillow in floating point, applies the matrix in double precision and rounds. Prints the largest
and the mean difference over both towers' pictures (of 255), and exits with 1 where one is over 1 or
a mean is 0.1 or more. The last column is for information: the mean difference from the way around,
a whole RGB frame in 8 bits that is then resized by Pillow, which rounds three times and clips earlier.
"""

import json
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from PIL import Image

from image_table import CONFIG, picture

warnings.simplefilter("ignore", DeprecationWarning)  # Image.fromarray's mode
MATRICES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
FULL = {"bt601": "1:4:0:0", "bt709": "1:3:0:0", "bt2020": "1:6:0:0"}
SIZES = [(1920, 1080), (1280, 720), (640, 480), (720, 576), (1080, 1920), (320, 240), (3840, 2160), (96, 64)]
# format: bits, chroma subsampling
FORMATS = {"I420": (8, 2, 2), "NV12": (8, 2, 2), "P010_10LE": (10, 2, 2), "YUY2": (8, 2, 1), "Y444": (8, 1, 1)}


def to_planes(rgb, name, full, bits, sub):
    """Y, U, V as integers: chroma is the mean of the pixels that share it."""
    kr, kb = MATRICES[name]
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    one, top = 1 << (bits - 8), (1 << bits) - 1
    chroma = []
    for value in ((b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)):
        mean = value.reshape(value.shape[0] // sub[1], sub[1], -1, sub[0]).mean((1, 3))
        chroma.append(128 * one + mean * (top if full else 224 * one))
    luma = y * top if full else 16 * one + y * 219 * one
    return [np.clip(np.rint(p), 0, top).astype(np.uint16) for p in (luma, *chroma)]


def to_rgb(planes, name, full, bits):
    kr, kb = MATRICES[name]
    one, top = 1 << (bits - 8), (1 << bits) - 1
    y = planes[0] / top if full else (planes[0] - 16 * one) / (219 * one)
    u, v = [(p - 128 * one) / (top if full else 224 * one) for p in planes[1:]]
    r, b = y + (2 - 2 * kr) * v, y + (2 - 2 * kb) * u
    return np.clip(255 * np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b], -1), 0, 255)


def pack(planes, name):
    y, u, v = planes
    if name == "YUY2":
        out = np.empty((y.shape[0], 2 * y.shape[1]), np.uint8)
        out[:, 0::2], out[:, 1::4], out[:, 3::4] = y, u, v
        return out.tobytes()
    if name == "P010_10LE":
        return b"".join(p.tobytes() for p in (y << 6, np.stack([u, v], -1) << 6))
    if name == "NV12":
        return b"".join(p.astype(np.uint8).tobytes() for p in (y, np.stack([u, v], -1)))
    return b"".join(p.astype(np.uint8).tobytes() for p in planes)


def resize(plane, size):
    return np.asarray(Image.fromarray(plane.astype(np.float32), "F").resize(size, Image.BICUBIC), np.float64)


def ours(program, model, caps, data):
    done = subprocess.run([program, model, caps], input=data, capture_output=True, check=True)
    line, pixels = done.stdout.split(b"\n", 1)
    sizes = np.array(line.split(), int).reshape(2, 2)
    first = 3 * sizes[0].prod()
    parts = (pixels[:first], pixels[first:])
    return [(tuple(int(n) for n in s), np.frombuffer(p, np.uint8).reshape(s[1], s[0], 3).astype(float))
            for s, p in zip(sizes, parts)]


def check(program, model, size, form, name, full, rng):
    """Largest and mean difference, and the mean one from the way around."""
    bits, *sub = FORMATS[form]
    planes = to_planes(np.asarray(picture(*size, rng)), name, full, bits, sub)
    caps = (f"video/x-raw,format={form},width={size[0]},height={size[1]},framerate=25/1,chroma-site=jpeg,"
            f"colorimetry={FULL[name] if full else name}")
    # Chroma repeated for every pixel: what resizing it directly comes closest to.
    wide = [p.repeat(planes[0].shape[0] // p.shape[0], 0).repeat(planes[0].shape[1] // p.shape[1], 1) for p in planes]
    whole = Image.fromarray(np.rint(to_rgb([p.astype(float) for p in wide], name, full, bits)).astype(np.uint8))
    exact, around = [], []
    for target, got in ours(program, model, caps, pack(planes, form)):
        exact.append(np.abs(got - np.rint(to_rgb([resize(p, target) for p in planes], name, full, bits))).ravel())
        around.append(np.abs(got - np.asarray(whole.resize(target, Image.BICUBIC))).ravel())
    exact, around = np.concatenate(exact), np.concatenate(around)
    return exact.max(), exact.mean(), around.mean()


def main() -> int:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    rng, failed, n, worst = np.random.default_rng(5), 0, 0, np.zeros(3)
    with tempfile.TemporaryDirectory() as model:
        with open(f"{model}/config.json", "w") as file:
            json.dump(CONFIG, file)
        for size in SIZES:
            for form in FORMATS:
                # Every matrix and range at the smallest size, one of them at the others.
                cases = [(m, f) for m in MATRICES for f in (False, True)]
                for name, full in cases if size == SIZES[-1] else [cases[n % len(cases)]]:
                    row = check(sys.argv[1], model, size, form, name, full, rng)
                    ok = row[0] <= 1 and row[1] < 0.1
                    failed, n, worst = failed + (not ok), n + 1, np.maximum(worst, row)
                    print(f"{size[0]:5}x{size[1]:<5} {form:9} {name:6} {'full' if full else 'limited':7}  max {row[0]:.0f}  "
                          f"mean {row[1]:.4f}   way around {row[2]:.3f}{'' if ok else '  FAILED'}", flush=True)
    print(f"worst: max {worst[0]:.0f}  mean {worst[1]:.4f}   way around {worst[2]:.3f}; {n} frames, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
