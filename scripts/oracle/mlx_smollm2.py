"""SmolLM2 as an MLX folder in each mode: mlx-lm and edgeling write the same parameters and compute the same from them. Exits
with 1 where they do not.

usage: mlx_smollm2.py EDGELING SMOLLM2.gguf [MODE/BITS …]      (smollm2-135m-f16.gguf, affine/4)

The reference is what mlx-lm computes in float32 for the folder that edgeling wrote. `decoded` is the largest difference of a
logit that edgeling computes from the same weights in float32, and must be at most 2e-2; `KL` and `top-1` are of the folder as
edgeling runs it, with activations of 8 bits.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mlx_check import CLOSE, convert, difference, different, of_edgeling, of_mlx, run

MODES = [("affine", bits, 64) for bits in (2, 3, 4, 5, 6, 8)] + [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
TEXT = """A bicycle stays upright while it rolls because its rider steers, often without noticing, into the side to which it \
begins to fall. The wheels then move back under the weight above them, and the fall ends before it has begun. What makes this \
easier is the angle of the fork: the front wheel touches the road behind the line around which it turns, and so follows it."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def main() -> None:
    edgeling, model, *names = sys.argv[1:]
    failed = 0
    said = subprocess.run([edgeling, "tokenize", model, TEXT, "--json"], capture_output=True, text=True, check=True).stdout
    tokens = json.loads(said)["tokens"]
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        run(edgeling, "convert", model, "--to", "hf", "--out", work / "hf")
        print(f"{'mode':8} {'bits/group':>10} {'parameters':>10} {'decoded':>8} {'KL':>8} {'top-1':>6} {'theirs':>6}")
        for mode, bits, group in MODES:
            if names and f"{mode}/{bits}" not in names:
                continue
            ours, theirs, wide = (work / name for name in ("ours", "theirs", "wide"))
            for folder in (ours, theirs, wide):
                shutil.rmtree(folder, ignore_errors=True)
            run(edgeling, "convert", model, "--to", "mlx", "--mode", mode, "--bits", bits, "--group", group, "--out", ours)
            convert(work / "hf", theirs, quantize=True, q_mode=mode, q_bits=bits, q_group_size=group)
            same = not different(ours, theirs)
            reference = of_mlx(ours, tokens)
            run(edgeling, "convert", ours, "--to", "hf", "--dtype", "f32", "--out", wide)
            decoded = difference(of_edgeling(edgeling, wide, tokens, work), reference)
            found = of_edgeling(edgeling, ours, tokens, work)
            as_theirs = np.array_equal(of_edgeling(edgeling, theirs, tokens, work), found)
            p, q = log_softmax(reference), log_softmax(found)
            kl = float((np.exp(p) * (p - q)).sum(axis=1).mean())
            top = float((p.argmax(axis=1) == q.argmax(axis=1)).mean())
            good = same and as_theirs and decoded <= CLOSE
            failed += not good
            print(
                f"{mode:8} {f'{bits}/{group}':>10} {'same' if same else 'OTHER':>10} {decoded:8.1e} {kl:8.1e} {top:6.1%}"
                f" {'same' if as_theirs else 'OTHER':>6} {'' if good else 'FAIL'}",
                flush=True,
            )
    sys.exit(failed > 0)


main()
