"""Greedy answers in torch, from frames as arrays: what the engine must say too, and the measure before it could."""

import numpy as np
import torch

import preprocess
import tokenizer


def see(model, frames):
    """Visual rows of uint8 frames, [frames, tokens, hidden]."""
    squares, pictures = zip(*(preprocess.pictures(f, model.config) for f in frames))
    squares, pictures = (torch.from_numpy(np.stack(p)) for p in (squares, pictures))
    return model.see(preprocess.siglip(squares), preprocess.eagle(pictures))


@torch.no_grad()
def greedy(model, tok, rows, question, most=64):
    """The answer to `question` about visual rows [frames, tokens, hidden]."""
    ids = tokenizer.prompt_ids(tok, len(rows), question)
    parts, frame = [], 0
    for token in ids:
        if token is None:
            parts.append(rows[frame])
            frame += 1
        else:
            parts.append(model.model.embed_tokens(torch.tensor([token])))
    x = torch.cat(parts)[None]
    stop = {tok.token_to_id(tokenizer.TURN_END), tok.token_to_id(tokenizer.END_OF_TEXT)}
    said = []
    while len(said) < most:
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        _, end = model.decode(x, torch.arange(length)[None], mask)
        token = int(model.lm_head(end[0, -1]).argmax())
        if token in stop:
            break
        said.append(token)
        x = torch.cat((x, model.model.embed_tokens(torch.tensor([[token]]))), 1)
    return tok.decode(said, skip_special_tokens=True)
