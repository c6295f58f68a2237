"""Whether mlx-lm and edgeling read what the other writes, and compute the same. Exits with 1 where they do not.

usage: mlx_check.py EDGELING CHECKPOINTS [CASE …]      (tests/data/checkpoints, or what tiny_checkpoints.py --wide writes)

For each checkpoint: `edgeling convert --to mlx`, which mlx-lm must load and give `logits.npy`; then quantized by both in several
ways: mlx-lm must find the same parameters in both folders, and compute from theirs what edgeling does. Then with layouts by
layer. Two cases are quantized in every way, with scales of each type. A figure is the largest difference of a logit, of those
by edgeling with weights decoded to float32; where its activations have 8 bits, of the largest logit, for information.
"""

import contextlib
import functools
import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map
from mlx_lm import convert as mlx_lm_convert
from mlx_lm.utils import load_model

mx.set_default_device(mx.cpu)
# Positions that all layers see: mlx-lm has no sliding windows in Gemma 2 and Mistral.
WINDOW = 32
CLOSE = 2e-2
BITS, GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)
OTHERS = [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
FEW = [("affine", 3, 32), ("affine", 4, 64), ("mxfp4", 4, 32), ("nvfp4", 4, 16)]
IN_EVERY_WAY = {"llama", "qwen3"}
DTYPES = {"float16": "f16", "bfloat16": "bf16", "float32": "f32"}
# What mlx-lm does not have, or has otherwise than transformers, by case.
OTHERWISE = {
    "bitnet": "it has packed ternary weights alone",
    "bitnet-online": "it has packed ternary weights alone",
    "bitnet-packed": "packed weights are not converted",
    "longrope": "it has the factors of long contexts alone",
    "longrope-partial": "it has the factors of long contexts alone",
    "ministral": "it has no such family",
    "olmo": "it needs another package",
    "olmo-clip": "it needs another package",
    "olmoe-clip": "it does not clip",
    "qwen35-vision": "it has attention in every nth layer alone",
}
# Whose norms it adds 1 to in their own type, so that BF16 is rounded.
IN_FLOAT32 = {"qwen35", "qwen35moe"}


class Report:
    """A line for each comparison; what is not as it should be is counted."""

    def __init__(self) -> None:
        self.failed = self.passed = 0

    def line(self, case: str, what: str, found: str, good: bool) -> None:
        self.passed += good
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {case:20} {what:24} {found}", flush=True)


def embedded(self: nn.QuantizedEmbedding, tokens: mx.array) -> mx.array:
    """As it is, in float32: without scales of a type of floats it would be in BF16, and what it is multiplied by, too."""
    parts = self["weight"][tokens], self["scales"][tokens]
    biases = self["biases"][tokens] if "biases" in self else None
    return mx.dequantize(*parts, biases, group_size=self.group_size, bits=self.bits, mode=self.mode, dtype=mx.float32)


nn.QuantizedEmbedding.__call__ = embedded


def run(*arguments: object) -> None:
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())


def convert(*arguments: object, **options: object) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        mlx_lm_convert(*map(str, arguments), **options)


def of_mlx(folder: Path, tokens: list[int]) -> np.ndarray:
    model, _ = load_model(folder)
    wide = lambda v: v.astype(mx.float32) if mx.issubdtype(v.dtype, mx.floating) else v
    model.update(tree_map(wide, model.parameters()))
    return np.array(model(mx.array([tokens]))[0].astype(mx.float32))


def of_edgeling(edgeling: str, folder: Path, tokens: list[int], work: Path) -> np.ndarray:
    out = work / "logits.npy"
    run(edgeling, "logits", folder, "--tokens", ",".join(map(str, tokens)), "--kv", "f32", "--out", out)
    return np.load(out)


def parameters(folder: Path) -> dict:
    """What mlx-lm makes of the folder's tensors."""
    return dict(tree_flatten(load_model(folder)[0].parameters()))


def different(ours: Path, theirs: Path) -> list[str]:
    a, b = parameters(ours), parameters(theirs)
    equal = lambda name: a[name].dtype == b[name].dtype and mx.array_equal(a[name], b[name]).item()
    return sorted(a.keys() ^ b.keys()) + [name for name in a.keys() & b.keys() if not equal(name)]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


class Case:
    def __init__(self, edgeling: str, folder: Path, work: Path, report: Report) -> None:
        self.edgeling, self.folder, self.work, self.report = edgeling, folder, work, report
        self.name = folder.name
        self.tokens = json.loads((folder / "tokens.json").read_text())[:WINDOW]
        self.plain = work / "plain"

    def fresh(self, name: str) -> Path:
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def not_quantized(self) -> bool:
        """Whether mlx-lm knows the family."""
        found, expected = None, np.load(self.folder / "logits.npy")[:WINDOW]
        reason = OTHERWISE.get(self.name)
        try:
            dtype = ("--dtype", "f32") if self.name in IN_FLOAT32 else ()
            run(self.edgeling, "convert", self.folder, "--to", "mlx", *dtype, "--out", self.plain)
            found = difference(of_mlx(self.plain, self.tokens), expected)
            said = f"{found:.1e}"
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:90]
        good = (found is None or found > CLOSE) if reason else found is not None and found <= CLOSE
        self.report.line(self.name, "not quantized", said + (f" ({reason})" if reason else ""), good)
        if not self.plain.exists():
            return False
        own = difference(of_edgeling(self.edgeling, self.plain, self.tokens, self.work), expected)
        self.report.line(self.name, "not quantized, edgeling", f"{own:.1e}", own <= CLOSE)
        return found is not None and not reason

    @functools.cached_property
    def source(self) -> Path:
        """What mlx-lm can convert: the checkpoint itself, where it knows its spelling of the settings."""
        try:
            known = difference(of_mlx(self.folder, self.tokens), of_mlx(self.plain, self.tokens)) <= CLOSE
        except (Exception, SystemExit):
            known = False
        return self.folder if known else self.plain

    def theirs_is_read(self, what: str, theirs: Path, same: str) -> None:
        reference = of_mlx(theirs, self.tokens)
        wide = self.fresh("wide")
        run(self.edgeling, "convert", theirs, "--to", "hf", "--dtype", "f32", "--out", wide)
        decoded = difference(of_edgeling(self.edgeling, wide, self.tokens, self.work), reference)
        direct = of_edgeling(self.edgeling, theirs, self.tokens, self.work)
        share = difference(direct, reference) / np.abs(reference).max()
        found = f"{same or 'same parameters'}, decoded {decoded:.1e}, run {share:.1%} of the largest"
        self.report.line(self.name, what, found, not same and decoded <= CLOSE)

    def layout(self, mode: str, bits: int, group: int, dtype: str) -> None:
        what = f"{mode} {bits}/{group} {DTYPES[dtype]}"
        ours, theirs = self.fresh("ours"), self.fresh("theirs")
        layout = ("--mode", mode, "--bits", bits, "--group", group, "--dtype", DTYPES[dtype])
        run(self.edgeling, "convert", self.folder, "--to", "mlx", *layout, "--out", ours)
        try:
            convert(self.source, theirs, quantize=True, q_mode=mode, q_bits=bits, q_group_size=group, dtype=dtype)
        except Exception as error:
            # Layers that it wants in 8 bits and groups of 64, though they have fewer columns.
            said = str(error).splitlines()[0]
            self.report.line(self.name, what, f"mlx-lm cannot: {said}"[:110], "divisible by the quantization group" in said)
            return
        other = different(ours, theirs)
        self.theirs_is_read(what, theirs, f"OTHER PARAMETERS {other[:3]}" if other else "")

    def by_layer(self, dtype: str) -> None:
        """Layouts of every mode, one after the other."""
        layouts = [("affine", bits, 32) for bits in BITS] + [("affine", 4, 64)] + OTHERS
        seen = []

        def predicate(_: str, module: nn.Module) -> dict | bool:
            mode, bits, group = layouts[len(seen) % len(layouts)]
            seen.append(module)
            fits = module.weight.shape[-1] % group == 0
            return {"mode": mode, "bits": bits, "group_size": group} if fits else False

        theirs, again = self.fresh("theirs"), self.fresh("again")
        convert(self.source, theirs, quantize=True, q_bits=4, q_group_size=32, dtype=dtype, quant_predicate=predicate)
        run(self.edgeling, "convert", theirs, "--to", "mlx", "--out", again)
        other = different(again, theirs)
        self.theirs_is_read(f"by layer {DTYPES[dtype]}", theirs, f"OTHER PARAMETERS {other[:3]}" if other else "")

    def check(self) -> None:
        if not self.not_quantized():
            return
        dtype = json.loads((self.folder / "config.json").read_text()).get("dtype", "bfloat16")
        every = self.name in IN_EVERY_WAY
        layouts = [("affine", bits, group) for bits in BITS for group in GROUPS] + OTHERS if every else FEW
        for dtype in ("float16", "bfloat16") if every else (dtype,):
            for mode, bits, group in layouts:
                self.layout(mode, bits, group, dtype)
            self.by_layer(dtype)


def main() -> None:
    edgeling, root, *names = sys.argv[1:]
    report = Report()
    for folder in sorted(Path(root).iterdir()):
        if names and folder.name not in names:
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                Case(edgeling, folder, Path(work), report).check()
            except (Exception, SystemExit) as error:
                report.line(folder.name, type(error).__name__, str(error)[:300], False)
    print(f"{report.passed} as they should be, {report.failed} not")
    sys.exit(report.failed > 0)


if __name__ == "__main__":
    main()
