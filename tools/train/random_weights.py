"""Writes a checkpoint of the bundled model's layout with random weights: python random_weights.py DIR [SEED]."""

import sys

import torch

import checkpoint
from model import Valley


def main(folder, seed=0):
    torch.manual_seed(seed)
    config = checkpoint.write_surroundings(folder)
    model = Valley(config)
    checkpoint.write_weights(model, folder)
    print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, seed {seed}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
