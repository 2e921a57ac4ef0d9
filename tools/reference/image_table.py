# SPDX-License-Identifier: Apache-2.0
"""What the engine makes of pictures of many sizes, against transformers' slow processors.

  image_table.py BUILD/tests/image-inputs

Prints, for every size, the largest and the mean deviation of both towers' inputs in units of
1/255 of the range of a pixel: of a frame, and of a lone picture with all its tiles. Exits with 1
where one is over 1, or a mean is 0.1 or more. Needs Pillow 11.3 and qwen-vl-utils (see README.md).

As the release does, the Qwen2-VL tower's picture goes through qwen_vl_utils' fetch_image (which
takes sides under 28, as the processor does not) and then through the processor. Beyond an aspect
of 200 both refuse, and the reference is the size that docs/element.md defines.
"""

import json
import subprocess
import sys
import tempfile
import types

import numpy as np
import PIL
from PIL import Image
from transformers import SiglipImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

import tiling

# qwen_vl_utils imports torchvision for its videos alone.
for name in ("torchvision", "torchvision.io", "torchvision.transforms"):
    sys.modules.setdefault(name, types.ModuleType(name))
sys.modules["torchvision"].io = sys.modules["torchvision.io"]
sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
sys.modules["torchvision.transforms"].InterpolationMode = None
from qwen_vl_utils import fetch_image  # noqa: E402

# What of the release's config.json decides on pixels, and what the reader insists on.
CONFIG = {
    "model_type": "valley", "architectures": ["ValleyQwen2ForCausalLM"], "hidden_size": 3584,
    "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "vocab_size": 151679, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "tie_word_embeddings": False, "mm_hidden_size": 1152, "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "eagle_vision_tower": "Qwen/Qwen2-VL-7B-Instruct", "mm_projector_type": "ovis_conv_adapter",
    "mlp_hidden_dim": 32000, "tokenize_function": "softmax", "anyres": True, "only_crop_single_image": True,
    "grid_pinpoints": "(1x1),...,(3x3)", "vit_crop_size": 384, "max_vision_token": 100000,
    "frame_max_pixels": 153664, "max_pixels": 571536, "use_special_start_end_token": True,
}
SIZES = [
    (4, 700), (700, 4), (4, 800), (800, 4), (1, 200), (200, 1), (3, 1000), (2000, 1), (1, 1), (2, 3), (7, 5), (13, 13), (28, 28), (29, 28),
    (28, 41), (55, 57), (97, 61), (61, 97), (112, 112), (160, 90), (176, 144), (240, 320), (320, 240), (333, 999),
    (352, 288), (383, 385), (384, 384), (385, 383), (392, 392), (480, 270), (480, 854), (504, 280), (501, 281),
    (640, 360), (640, 480), (640, 641), (720, 480), (720, 576), (768, 1024), (800, 600), (853, 480), (959, 541),
    (1000, 29), (1001, 77), (1024, 768), (1080, 1080), (1080, 1920), (1279, 719), (1280, 720), (1366, 768),
    (1440, 1080), (1600, 1200), (1920, 800), (1920, 1080), (1921, 1081), (2048, 858), (2160, 3840), (2560, 1440),
    (3840, 1600), (3840, 2160), (4096, 2160),
]


def picture(width: int, height: int, rng) -> Image.Image:
    """Waves up to the finest, hard edges and noise: what makes a bicubic resize overshoot."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 127 * np.sin((x * x / (37 + 20 * c) + y * y / (61 - 10 * c)) / 40) for c in range(3)]
    rgb = np.stack(waves, -1)
    rgb[(x // 9 + y // 7) % 5 == 0] = rng.integers(0, 2, 3) * 255
    noise = (x + y) * 3 < width + height
    rgb[noise] = rng.integers(0, 256, (noise.sum(), 3))
    return Image.fromarray(rgb.astype(np.uint8))


def siglip_rows(processor, image: Image.Image) -> np.ndarray:
    values = processor.preprocess(image, return_tensors="np", input_data_format="channels_last")["pixel_values"][0][:, :378, :378]
    return values.reshape(3, 27, 14, 27, 14).transpose(1, 3, 0, 2, 4).reshape(729, 588)


def eagle_rows(processor, image: Image.Image) -> np.ndarray:
    if max(image.size) > 200 * min(image.size):  # sized as if it were 200 times as long as wide
        width, height = (min(a, 200 * b) for a, b in (image.size, image.size[::-1]))
        image = image.resize(fetch_image({"image": Image.new("RGB", (width, height))}).size, Image.BICUBIC)
    image = fetch_image({"image": image, "min_pixels": processor.min_pixels, "max_pixels": processor.max_pixels})
    return processor.preprocess(image, return_tensors="np", input_data_format="channels_last")["pixel_values"]


def ours(program: str, model: str, kind: str, image: Image.Image):
    done = subprocess.run([program, model, kind, str(image.width), str(image.height)], input=image.tobytes(),
                          capture_output=True, check=True)
    line, data = done.stdout.split(b"\n", 1)
    tiles, rows, columns, _, _, eagle_rows, eagle_columns = map(int, line.split())
    values = np.frombuffer(data, np.float32)
    split = tiles * rows * columns
    return values[:split].reshape(tiles, rows, columns), values[split:].reshape(eagle_rows, eagle_columns)


def deviation(got, want, scale):
    """Largest and mean difference in 1/255 of the pixels' range; infinite for other shapes or NaN."""
    if got.shape != want.shape or not np.isfinite(got).all():
        return float("inf"), float("inf")
    apart = np.abs(got.astype(np.float64) - want) * scale
    return apart.max(), apart.mean()


def main() -> int:
    if len(sys.argv) != 2 or int(PIL.__version__.split(".")[0]) >= 13:
        raise SystemExit(__doc__)
    siglip = SiglipImageProcessor(size={"height": 384, "width": 384}, resample=Image.BICUBIC)
    frames = Qwen2VLImageProcessor(min_pixels=3136, max_pixels=CONFIG["frame_max_pixels"])
    stills = Qwen2VLImageProcessor(min_pixels=3136, max_pixels=CONFIG["max_pixels"])
    # The rows of the Qwen2-VL tower are [patch, channel, time, y, x].
    eagle_scale = np.repeat(255 * np.array(frames.image_std), 2 * 14 * 14)
    rng, failed, worst = np.random.default_rng(11), 0, np.zeros(8)
    print("            |   frame: SigLIP    |   frame: Qwen2-VL  | still: SigLIP tiles      | still: Qwen2-VL")
    print("    size    |    max      mean   |    max      mean   |  grid    max      mean   |    max      mean")
    with tempfile.TemporaryDirectory() as model:
        with open(f"{model}/config.json", "w") as file:
            json.dump(CONFIG, file)
        for width, height in SIZES:
            image = picture(width, height, rng)
            tiles, rows = ours(sys.argv[1], model, "frame", image)
            row = [*deviation(tiles[0], siglip_rows(siglip, image), 127.5),
                   *deviation(rows, eagle_rows(frames, image), eagle_scale)]
            tiles, rows = ours(sys.argv[1], model, "still", image)
            cut, grid = tiling.cut(np.asarray(image), CONFIG["vit_crop_size"])
            want = np.stack([siglip_rows(siglip, Image.fromarray(tile)) for tile in cut])
            row += [*deviation(tiles, want, 127.5),
                    *deviation(rows, eagle_rows(stills, image), eagle_scale)]
            ok = max(row[0::2]) <= 1 and max(row[1::2]) < 0.1
            failed += not ok
            worst = np.maximum(worst, row)
            a, b, c, d = [f"{row[i]:9.2e} {row[i + 1]:9.2e}" for i in range(0, 8, 2)]
            print(f"{width:5}x{height:<5} | {a} | {b} | {grid[0]}x{grid[1]} {c} | {d}{'' if ok else '  FAILED'}",
                  flush=True)
    a, b, c, d = [f"{worst[i]:9.2e} {worst[i + 1]:9.2e}" for i in range(0, 8, 2)]
    print(f"   worst    | {a} | {b} |     {c} | {d}")
    print(f"{len(SIZES)} sizes, {failed} failed; Pillow {PIL.__version__}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
