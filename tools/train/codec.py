"""Real encoded files: writes a clip through x264 or x265 and reads its frames back as the element takes them."""

import math
import subprocess

import numpy as np

import render
import scenes

# Chosen as users' sources are; larger frames cost so much more that training sees fewer of them.
SIZES = {
    (160, 120): 12, (320, 240): 12, (320, 180): 12, (426, 240): 8, (640, 360): 18, (640, 480): 8,
    (1280, 720): 5, (1920, 1080): 2, (120, 160): 3, (180, 320): 5, (360, 640): 5, (720, 1280): 1,
}  # fmt: skip
RATES = (5, 10, 15, 24, 25, 30, 30, 50, 60)
PRESETS = ("ultrafast", "veryfast", "veryfast", "medium")

# Held-out figures are about other sources, not only about other lots: all of these presets, most of
# the sizes and half of the rates are none of the above.
HELD_OUT_SIZES = {
    (160, 120): 8, (176, 144): 8, (352, 288): 12, (480, 270): 12, (640, 360): 12, (720, 576): 6, (854, 480): 10,
    (960, 540): 5, (1280, 720): 5, (1920, 1080): 3, (144, 176): 4, (240, 320): 6, (270, 480): 4, (540, 960): 3,
}  # fmt: skip
HELD_OUT_RATES = (5, 8, 12, 20, 24, 25, 30, 48, 60)
HELD_OUT_PRESETS = ("superfast", "faster", "fast")


def kbits(width, height, rng):
    """300 kbit/s to 2 Mbit/s, growing with the frame."""
    low, high = math.log(160 * 120), math.log(1920 * 1080)
    part = (math.log(width * height) - low) / (high - low)
    middle = 300 * (2000 / 300) ** part
    return int(min(2000, max(300, middle * rng.uniform(0.7, 1.4))))


def settings(rng, sizes=None, h265=0.0, held_out=False):
    sizes = sizes or (HELD_OUT_SIZES if held_out else SIZES)
    rates, presets = (HELD_OUT_RATES, HELD_OUT_PRESETS) if held_out else (RATES, PRESETS)
    weights = np.array(list(sizes.values()), float)
    width, height = list(sizes)[rng.choice(len(sizes), p=weights / weights.sum())]
    fps = rates[int(rng.integers(len(rates)))]
    if width * height > 500_000:
        fps = min(fps, 30)
    return {
        "width": width, "height": height, "fps": fps, "kbits": kbits(width, height, rng),
        "codec": "libx265" if rng.random() < h265 else "libx264",
        "matrix": "bt709" if rng.random() < (0.9 if height >= 720 else 0.2) else "smpte170m",
        "preset": presets[int(rng.integers(len(presets)))],
        "keyframes": int(rng.integers(12, 250)),
    }  # fmt: skip


def encode(clip, s, path):
    """Renders `clip` and writes it as an MP4."""
    count = max(1, round(clip.duration * s["fps"]))
    write(render.frames(clip, (i / s["fps"] for i in range(count))), s, path)


def write(frames, s, path):
    """Frames (uint8 [height, width, 3]) as an MP4."""
    command = [
        "ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{s['width']}x{s['height']}", "-r", str(s["fps"]), "-i", "-",
        "-vf", f"scale=out_color_matrix={s['matrix']}:out_range=tv,format=yuv420p",
        "-color_range", "tv", "-colorspace", s["matrix"], "-color_primaries", s["matrix"], "-color_trc", s["matrix"],
        "-c:v", s["codec"], "-preset", s["preset"], "-b:v", f"{s['kbits']}k",
        "-maxrate", f"{s['kbits']}k", "-bufsize", f"{s['kbits']}k", "-g", str(s["keyframes"]), "-threads", "1",
        *(["-x265-params", "log-level=none:pools=none", "-tag:v", "hvc1"] if s["codec"] == "libx265" else []),
        "-movflags", "+faststart", str(path),
    ]  # fmt: skip
    pipe = subprocess.Popen(command, stdin=subprocess.PIPE)
    for frame in frames:
        pipe.stdin.write(frame.tobytes())
    pipe.stdin.close()
    if pipe.wait():
        raise RuntimeError(f"{path}: ffmpeg failed: {' '.join(command)}")


def slot_times(s, duration, rate=2, window=2.0):
    """When the element takes frames in the first window: the first frame at or past each slot."""
    times = []
    for k in range(round(min(window, duration) * rate)):
        index = math.ceil(k / rate * s["fps"] - 1e-9)
        if index < round(duration * s["fps"]):
            times.append(index / s["fps"])
    return times


def decode(path, s, times):
    """The frames at `times` (multiples of 1/fps), uint8 [h, w, 3]."""
    wanted = "+".join(f"eq(n,{round(t * s['fps'])})" for t in times)
    command = [
        "ffmpeg", "-v", "error", "-threads", "1", "-i", str(path),
        "-vf", f"select='{wanted}',scale=in_color_matrix={s['matrix']}:in_range=tv,format=rgb24",
        "-vsync", "0", "-frames:v", str(len(times)), "-f", "rawvideo", "-",
    ]  # fmt: skip
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, s["height"], s["width"], 3)
    if len(frames) != len(times):
        raise RuntimeError(f"{path}: {len(frames)} frames decoded, {len(times)} wanted")
    return frames


LUMA = np.array((0.299, 0.587, 0.114), np.float32)


def snow_survives(clip, times, squares):
    """Whether every frame of snow still deviates by 5 in luma at the model's input: flatter is not snow."""
    for t, square in zip(times, squares):
        state = clip.after if clip.after is not None and t >= clip.cut else clip.state
        if state.pattern == "snow" and (square @ LUMA).std() < 5:
            return False
    return True


def both_sides_seen(clip, times):
    return clip.after is None or times[0] < clip.cut <= times[-1]


def draw(rng, s, kind=None):
    """A clip for these settings, without the codec's stand-in, 2 s long or a little more."""
    duration = 2.0 + (rng.uniform(0, 0.45) if rng.random() < 0.5 else 0.0)
    duration = round(duration * s["fps"]) / s["fps"]
    clip = scenes.clip(rng, s["width"], s["height"], duration, kind, codec=False)
    if clip.after is not None:
        clip.cut = rng.uniform(0.5, 1.5)
    return clip
