"""Whether mlx-lm and edgeling read what the other writes, and compute the same.

usage: mlx_check.py EDGELING tests/data/checkpoints [CASE …]

For each small checkpoint: `edgeling convert --to mlx`, which mlx-lm must load and give `logits.npy`; then quantized by both in
each way, whose tensors must be the same bytes, and whose logits by both must agree. Differences are those of the largest
logit; those by edgeling have activations of 8 bits, so a third figure is of the same weights decoded to float32.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm.convert import convert
from mlx_lm.utils import load_model

mx.set_default_device(mx.cpu)
# Positions that all layers see: mlx-lm has no sliding windows in Gemma 2 and Mistral.
WINDOW = 32
LAYOUTS = [("affine", bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64)]
LAYOUTS += [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]


def run(*arguments: object) -> None:
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())


def of_mlx(folder: Path, tokens: list[int]) -> np.ndarray:
    model, _ = load_model(folder)
    wide = lambda v: v.astype(mx.float32) if mx.issubdtype(v.dtype, mx.floating) else v
    model.update(tree_map(wide, model.parameters()))
    return np.array(model(mx.array([tokens]))[0].astype(mx.float32))


def of_edgeling(edgeling: str, folder: Path, tokens: list[int], work: Path) -> np.ndarray:
    out = work / "logits.npy"
    run(edgeling, "logits", folder, "--tokens", ",".join(map(str, tokens)), "--kv", "f32", "--out", out)
    return np.load(out)


def tensors(folder: Path) -> dict:
    found = {}
    for file in folder.glob("model*.safetensors"):
        found |= mx.load(str(file))
    return found


def check(edgeling: str, case: Path, work: Path) -> None:
    tokens = json.loads((case / "tokens.json").read_text())[:WINDOW]
    expected = np.load(case / "logits.npy")[:WINDOW]
    difference = lambda a, b: np.abs(a - b).max()
    plain = work / "plain"
    run(edgeling, "convert", case, "--to", "mlx", "--out", plain)
    print(f"{case.name}: not quantized {difference(of_mlx(plain, tokens), expected):.1e}", flush=True)
    config = json.loads((plain / "config.json").read_text())
    dtype = {"float16": "f16", "bfloat16": "bf16", "float32": "f32"}[config["dtype"]]
    for mode, bits, group in LAYOUTS:
        ours, theirs, wide = work / "ours", work / "theirs", work / "wide"
        for folder in (ours, theirs, wide):
            shutil.rmtree(folder, ignore_errors=True)
        layout = ("--mode", mode, "--bits", bits, "--group", group, "--dtype", dtype)
        run(edgeling, "convert", case, "--to", "mlx", *layout, "--out", ours)
        convert(str(case), str(theirs), quantize=True, q_mode=mode, q_bits=bits, q_group_size=group)
        a, b = tensors(ours), tensors(theirs)
        equal = lambda name: a[name].dtype == b[name].dtype and mx.array_equal(a[name], b[name]).item()
        same = a.keys() == b.keys() and all(equal(name) for name in a)
        reference = of_mlx(theirs, tokens)
        figures = [difference(of_mlx(ours, tokens), reference)]
        try:
            run(edgeling, "convert", theirs, "--to", "hf", "--dtype", "f32", "--out", wide)
            figures += [difference(of_edgeling(edgeling, folder, tokens, work), reference) for folder in (theirs, wide)]
            said = "mlx-lm on ours {:.1e}, edgeling on theirs {:.1e}, decoded {:.1e}".format(*figures)
        except RuntimeError as error:
            said = str(error)
        print(f"{case.name}: {mode} {bits}/{group}: {'same bytes' if same else 'OTHER BYTES'}, {said}", flush=True)


def main() -> None:
    edgeling, root, *names = sys.argv[1:]
    for case in sorted(Path(root).iterdir()):
        if names and case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                check(edgeling, case, Path(work))
            except (Exception, SystemExit) as error:  # What mlx-lm does not know, too.
                print(f"{case.name}: {type(error).__name__}: {error}"[:300], flush=True)


main()
