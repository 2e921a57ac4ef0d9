#!/usr/bin/env python3
"""Write tests/golden: reference answers computed by other people's code.

    make_goldens.py [DIR]        (default: tests/golden of this repository)

Seeded; running it twice with the versions in README.md gives the same bytes.
"""

import os
import sys

import image_cases
import tiny_tokenizer
import tokenizer_cases

HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> None:
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.dirname(HERE)), "tests", "golden")
    os.makedirs(os.path.join(out, "ovis-softmax"), exist_ok=True)
    tok = tiny_tokenizer.build()
    tiny_tokenizer.save(tok, os.path.join(out, "ovis-softmax", "tokenizer.json"), merges_as_strings=True)
    tokenizer_cases.write(tok, os.path.join(out, "tokenizer-cases.json"))
    image_cases.write(os.path.join(out, "images.safetensors"))


if __name__ == "__main__":
    main()
