#!/usr/bin/env python3
"""Prove the tiny GGUF files: llama.cpp's logits for each must agree with those of transformers in logits.npy.

usage: llama_cpp_check_tiny.py CHECKPOINTS_FOLDER

F16 and BF16 matrices are also tried widened to F32, since llama.cpp multiplies them with activations rounded to that type:
this leaves only the order of float32 sums to differ. convert_check.py does so for the families that llama.cpp's converter
wrote.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from llama_cpp_model import Model
from tiny_gguf import PLAIN, convert

BOUNDS = {"F32": 1e-4, "F16": 5e-2, "BF16": 3e-1}
FILE_TYPES = {"0": "F32", "1": "F16", "32": "BF16"}


def agrees(label: str, path: Path, tokens: list[int], reference: np.ndarray) -> bool:
    model = Model(path, context=128, kv="f32")
    kind = FILE_TYPES[model.metadata("general.file_type")]
    worst = float(np.abs(model.append(tokens) - reference).max())
    print(f"{label} {kind}: max |Δ| {worst:.1e}, bound {BOUNDS[kind]:.0e}")
    return worst <= BOUNDS[kind]


def main() -> None:
    good = True
    with tempfile.TemporaryDirectory() as tmp:
        for path in sorted(Path(sys.argv[1]).glob("*/model.gguf")):
            case = path.parent
            tokens, reference = json.loads((case / "tokens.json").read_text()), np.load(case / "logits.npy")
            good &= agrees(case.name, path, tokens, reference)
            if case.name in PLAIN:
                widened = Path(tmp) / f"{case.name}.gguf"
                convert(case, widened, widen=True)
                good &= agrees(f"{case.name}, widened to", widened, tokens, reference)
    sys.exit(not good)


if __name__ == "__main__":
    main()
