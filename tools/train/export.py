"""Writes a training checkpoint as a Hugging Face folder: python export.py CHECKPOINT.pt FOLDER [LAYOUT].

LAYOUT is the folder it was trained with; without it the sizes are those of configuration.py.
"""

import sys

import torch

import checkpoint
from model import Valley


def main(source, folder, layout=None):
    config = checkpoint.write_surroundings(folder, layout and checkpoint.configuration.load(layout))
    model = Valley(config)
    saved = torch.load(source)
    model.load_state_dict(saved["model"])
    checkpoint.write_weights(model, folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, {saved.get('seen', 0)} clips seen")


if __name__ == "__main__":
    main(*sys.argv[1:])
