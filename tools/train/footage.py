"""Reads any video file's frames as the element takes them, and a folder of clips with captions."""

import json
import pathlib
import subprocess
from collections import defaultdict

import numpy as np

import language


def probe(path):
    """Displayed width and height, and the matrix of its colors (GStreamer's guess where the file says none)."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height,color_space",
               "-of", "json", str(path)]  # fmt: skip
    streams = json.loads(subprocess.run(command, capture_output=True, check=True).stdout).get("streams")
    if not streams:
        raise SystemExit(f"{path}: expected a file with video")
    stream = streams[0]
    matrix = stream.get("color_space", "unknown")
    if matrix not in ("bt709", "smpte170m", "bt470bg"):
        matrix = "bt709" if stream["height"] >= 720 else "smpte170m"
    return stream["width"], stream["height"], matrix


def frames(path, rate=2, start=0.0):
    """The first frame at or past each slot start + k / rate, uint8 [n, h, w, 3]."""
    width, height, matrix = probe(path)
    slot = f"{start}+(floor((prev_selected_t-{start})*{rate}+0.001)+1)/{rate}"
    chosen = f"if(isnan(prev_selected_t),gte(t,{start}),gte(t+0.001,{slot}))"
    command = [
        "ffmpeg", "-v", "error", "-threads", "1", "-noautorotate", "-i", str(path),
        "-vf", f"setpts=PTS-STARTPTS,select='{chosen}',scale=in_color_matrix={matrix},format=rgb24",
        "-vsync", "0", "-f", "rawvideo", "-",
    ]  # fmt: skip
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def captioned(folder):
    """captions.jsonl of a folder: file -> [(prompt, answer)]."""
    folder = pathlib.Path(folder)
    listing = folder / "captions.jsonl"
    out = defaultdict(list)
    for number, line in enumerate(listing.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            path = folder / row["clip"]
            turn = row.get("prompt", language.DESCRIBE), row["answer"]
        except (ValueError, KeyError, TypeError) as e:
            raise SystemExit(f"{listing}:{number}: expected an object with clip, answer and perhaps prompt ({e!r})") from e
        if not path.is_file():
            raise SystemExit(f"{listing}:{number}: {path}: no such file")
        out[path].append(turn)
    if not out:
        raise SystemExit(f"{listing}: expected at least one line")
    return dict(out)
