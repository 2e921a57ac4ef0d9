"""Writes labelled clips of GStreamer's own videotestsrc through x264enc: what users try first.

python testsrc_clips.py DIR; evaluate.py reads DIR like any folder of clips.py.
Our renderings of these patterns (patterns.py) are only as good as this says.
"""

import json
import pathlib
import subprocess
import sys
from types import SimpleNamespace as Thing

import codec
import language
import preprocess
import configuration

PLAIN = {"white": "white", "red": "red", "green": "green", "blue": "blue"}
# solid-color's foreground as ARGB
SOLID = {"yellow": "0xffffff00", "cyan": "0xff00ffff", "magenta": "0xffff00ff", "gray": "0xff808080"}
SIZES = ((320, 240, 400), (640, 360, 1200), (1280, 720, 2000), (360, 640, 1000))


def cases():
    for pattern in ("smpte", "smpte75", "smpte100"):
        yield [f"pattern={pattern}"], "bars", None
    yield ["pattern=snow"], "snow", None
    yield ["pattern=black"], "black", None
    for pattern, color in PLAIN.items():
        yield [f"pattern={pattern}"], "plain", color
    for color, argb in SOLID.items():
        yield ["pattern=solid-color", f"foreground-color={argb}"], "plain", color
    yield ["pattern=gradient"], "gradient", None


def main(folder):
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    config = configuration.make(0, 0, 0)
    labels = {}
    for width, height, kbits in SIZES:
        for source, pattern, color in cases():
            name = f"{len(labels):03d}.mp4"
            caps = f"video/x-raw,width={width},height={height},framerate=25/1,format=I420"
            subprocess.run(
                ["gst-launch-1.0", "-q", "videotestsrc", "num-buffers=50", *source, "!", caps, "!",
                 "x264enc", f"bitrate={kbits}", "speed-preset=veryfast", "!", "h264parse", "!", "mp4mux", "!",
                 "filesink", f"location={out / name}"], check=True)  # fmt: skip
            # GStreamer calls small pictures BT.601 and large ones BT.709 when nobody says
            s = {"width": width, "height": height, "fps": 25, "kbits": kbits, "codec": "x264enc",
                 "matrix": "bt709" if height > 576 else "smpte170m"}  # fmt: skip
            state = Thing(pattern=pattern, color=color)
            clip = Thing(state=state, after=None, objects=[])
            label = {"kind": pattern, "settings": s, "duration": 2.0, "source": " ".join(source),
                     "answers": {language.DESCRIBE: language.describe(clip), language.SIGNAL: language.signal(clip)}}  # fmt: skip
            times = codec.slot_times(s, 2.0)
            squares = [preprocess.pictures(f, config)[0] for f in codec.decode(out / name, s, times)]
            if pattern == "snow":
                print(name, width, height, "snow's luma deviation:", [round(float((q @ codec.LUMA).std()), 1) for q in squares])
                if not codec.snow_survives(Thing(state=state, after=None, cut=0), times, squares):
                    continue  # too flat to be snow, by the language's own rule
            labels[name] = label
    (out / "labels.json").write_text(json.dumps(labels, indent=1) + "\n")
    print(f"{out}: {len(labels)} clips")


if __name__ == "__main__":
    main(sys.argv[1])
