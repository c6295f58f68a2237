"""Importance matrices by llama-imatrix.

usage: imatrix.py LLAMA_CPP_BIN tiny tests/data/checkpoints tests/data/imatrix
       imatrix.py LLAMA_CPP_BIN smollm2 smollm2-135m-f32.gguf english.txt tests/data/llama_cpp/imatrix.json

All in F32, the keys and values too.

tiny: NAME.gguf of each tiny checkpoint listed here, of the text beside them; of one also in the older form, NAME.dat.
smollm2: of the first bytes of a text, for each tensor how many inputs it was given, the sum over all columns, and the first
columns' sums.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

# One of each kind: plain, biases, windows, inputs of layers, fused matrices, mixtures with and without a shared
# expert, short convolutions, delta nets.
TINY = [
    "llama", "qwen2", "gemma2", "gemma4", "longrope", "granitemoeshared", "qwen2moe", "qwen3moe", "lfm2", "qwen35",
]
LEGACY = "llama"
# Tokens of a window.
TINY_CONTEXT = 64
CONTEXT, BYTES = 128, 3000
COLUMNS = 8


def run(program: Path, folder: Path, model: Path, text: Path, out: str, context: int, *more: str) -> Path:
    """Runs in a folder of its own, so that files name no paths."""
    (folder / "text.txt").write_bytes(text.read_bytes())
    exact = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    arguments = [*exact, "-m", model.resolve(), "-f", "text.txt", "-o", out, "-c", str(context), "--no-ppl", "-t", "2", *more]
    subprocess.run([program.resolve(), *arguments], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return folder / out


def tiny(program: Path, checkpoints: Path, out: Path) -> None:
    for name in TINY:
        with tempfile.TemporaryDirectory() as work:
            # In other types the program rounds activations too, and the sums of models this small are not the same.
            text, folder, model = out / "text.txt", Path(work), Path(work) / "model.gguf"
            quantize = [program.resolve().with_name("llama-quantize"), checkpoints / name / "model.gguf", model, "F32"]
            subprocess.run(quantize, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            (out / f"{name}.gguf").write_bytes(run(program, folder, model, text, "out.gguf", TINY_CONTEXT).read_bytes())
            if name == LEGACY:
                made = run(program, folder, model, text, "out.dat", TINY_CONTEXT, "--output-format", "dat")
                (out / f"{name}.dat").write_bytes(made.read_bytes())


def smollm2(program: Path, model: Path, text: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        short = Path(work) / "text.txt"
        short.write_bytes(text.read_bytes()[:BYTES])
        reader = gguf.GGUFReader(run(program, Path(work), model, short, "out.gguf", CONTEXT))
        data = {t.name: np.array(t.data, dtype=np.float64).ravel() for t in reader.tensors}
    sums = {name.removesuffix(".in_sum2"): x for name, x in data.items() if name.endswith(".in_sum2")}
    tensors = {
        name: {
            "count": int(data[f"{name}.counts"][0]),
            "columns": x.size,
            "sum": float(x.sum()),
            "first": [float(v) for v in x[:COLUMNS]],
        }
        for name, x in sums.items()
    }
    chunks = int(reader.fields["imatrix.chunk_count"].contents())
    out.write_text(json.dumps({"context": CONTEXT, "bytes": BYTES, "chunks": chunks, "tensors": tensors}, indent=0) + "\n")


program, kind, *paths = Path(sys.argv[1]) / "llama-imatrix", sys.argv[2], *map(Path, sys.argv[3:])
{"tiny": tiny, "smollm2": smollm2}[kind](program, *paths)
