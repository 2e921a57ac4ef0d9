"""Answers from the element, as users run it: one gst-launch-1.0 per clip, one valleyinfer per prompt behind a tee."""

import json
import pathlib
import subprocess
import tempfile


def command(path, prompts, outs, model, rate):
    launch = ["gst-launch-1.0", "-q", "filesrc", f"location={path}", "!", "decodebin", "!", "tee", "name=t"]
    for i, (prompt, out) in enumerate(zip(prompts, outs)):
        launch += ["t.", "!", "queue", "!", "valleyinfer", f"name=v{i}", f"prompt={prompt}", f"frame-rate={rate}/1",
                   *([f"model-path={model}"] if model else []),
                   f"v{i}.src", "!", "fakesink", f"v{i}.json_src", "!", "filesink", f"location={out}"]  # fmt: skip
    return launch


class Element:
    """The first window's answers, each with its confidence."""

    def __init__(self, model=None, rate=2, timeout=60):
        self.model, self.rate, self.timeout = model, rate, timeout

    def __call__(self, path, label, prompts):
        with tempfile.TemporaryDirectory() as folder:
            outs = [pathlib.Path(folder) / f"{i}.jsonl" for i in range(len(prompts))]
            launch = command(path, prompts, outs, self.model, self.rate)
            done = subprocess.run(launch, capture_output=True, text=True, timeout=self.timeout)
            lines = [out.read_text().splitlines() if out.exists() else [] for out in outs]
        if done.returncode or not all(lines):
            raise SystemExit(f"{path}: gst-launch-1.0 gave {done.returncode}, a result is missing\n{done.stderr}")
        results = [json.loads(each[0]) for each in lines]
        return [(r.get("result", ""), r.get("confidence")) for r in results]
