"""Reads and writes the Hugging Face layout (config.json, model.safetensors, tokenizer, generation config); saves a training run."""

import json
import pathlib

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import configuration
import tokenizer
from model import Valley


def write_surroundings(folder, config=None):
    """Everything but the weights, with sizes of one's own or the usual ones; returns the config."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tok = tokenizer.save(folder)
    stop, end = tok.token_to_id(tokenizer.TURN_END), tok.token_to_id(tokenizer.END_OF_TEXT)
    config = config or configuration.make(tok.get_vocab_size(), end, stop)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"do_sample": False, "eos_token_id": [stop, end], "pad_token_id": end, "repetition_penalty": 1.0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    return config


def write_weights(model, folder):
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    path = pathlib.Path(folder) / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it readable by the owner alone


def read(folder):
    """A checkpoint folder's model (float32) and tokenizer."""
    folder = pathlib.Path(folder)
    model = Valley(configuration.load(folder))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({k: v.float() for k, v in tensors.items()})
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def save(state, path):
    """A training checkpoint, whole or not at all: being stopped in the middle must not cost the run."""
    half = pathlib.Path(f"{path}.part")
    torch.save(state, half)
    half.rename(path)
