"""Writes a training checkpoint as a Hugging Face folder: python export.py CHECKPOINT.pt FOLDER [LAYOUT].

LAYOUT is the folder it was trained with, for checkpoints that do not hold their config.
"""

import sys

import torch

import checkpoint
from model import Valley


def main(source, folder, layout=None):
    saved = torch.load(source)
    config = checkpoint.configuration.load(layout) if layout else saved.get("config")
    model = Valley(checkpoint.write_surroundings(folder, config))
    model.load_state_dict(saved["model"])
    checkpoint.write_weights(model, folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, {saved.get('seen', 0)} clips seen")


if __name__ == "__main__":
    main(*sys.argv[1:])
