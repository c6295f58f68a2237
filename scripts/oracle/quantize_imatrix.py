"""Importance matrices of arbitrary numbers, and hashes of what llama-quantize makes with them, for the tests of quantizing.

usage: quantize_imatrix.py LLAMA_CPP_BIN SmolLM2-135M-Instruct.Q4_1.gguf OUT_FOLDER [MODEL …]

Writes imatrix-NAME.json for each model: by file type, sha256 of the file, the commonest type of matrices, those that have
another, and sha256 of each matrix in each type. SmolLM2 starts from its values as F16, and is made in few types, with hashes
of matrices in those with a codebook alone. The matrices of importance are made from integers, in steps without rounding, so
that the tests make the same ones (crates/pipeline/tests/quantize/weighed.rs).
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import gguf
import numpy as np

import quantize_models

GRIDS = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M"]
FEW = ["IQ1_S", "IQ2_XXS", "IQ2_M", "IQ3_XXS"]
OTHERS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q2_K_S", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS"]


def write_imatrix(source: Path, target: Path) -> None:
    """The importance of all matrices of the layers."""
    writer = gguf.GGUFWriter(target, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["integers"])
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    matrices = [t for t in gguf.GGUFReader(source).tensors if t.name.startswith("blk.") and len(t.shape) > 1]
    for seed, tensor in enumerate(sorted(matrices, key=lambda t: t.name)):
        experts, cols = int(np.prod(tensor.shape[2:])), int(tensor.shape[0])
        roots = quantize_models.mixed(1000 + seed, experts * cols) >> np.uint64(52)
        sums = (roots * roots).astype(np.float32)
        sums[np.arange(sums.size) % 37 == 5] = 0
        # The first of several experts saw nothing.
        counts = np.array([(expert + (experts == 1)) * 100 for expert in range(experts)], np.float32)
        writer.add_tensor(f"{tensor.name}.in_sum2", sums.reshape(experts, cols))
        writer.add_tensor(f"{tensor.name}.counts", counts.reshape(experts, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sha256(data) -> str:
    return hashlib.sha256(data).hexdigest()


def quantize(program: Path, *arguments) -> None:
    subprocess.run([program, *arguments, "2"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    program, smollm2, out = Path(sys.argv[1], "llama-quantize").resolve(), Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    for name in sys.argv[4:] or ["dense", "experts", "smollm2"]:
        with tempfile.TemporaryDirectory() as folder:
            # The files' names stand in the result.
            os.chdir(folder)
            source, target = Path("source.gguf"), Path("target.gguf")
            if name == "smollm2":
                quantize(program, "--allow-requantize", smollm2, source, "F16")
            else:
                quantize_models.write(name, source)
            write_imatrix(source, Path("imatrix.gguf"))
            found = {"source": sha256(source.read_bytes()), "runs": {}, "tensors": {}}
            for file_type in FEW if name == "smollm2" else GRIDS + OTHERS:
                quantize(program, "--imatrix", "imatrix.gguf", source, target, file_type)
                matrices = [t for t in gguf.GGUFReader(target).tensors if t.name.endswith(".weight") and "_norm" not in t.name]
                commonest = Counter(t.tensor_type.name for t in matrices).most_common(1)[0][0]
                others = {t.name: t.tensor_type.name for t in matrices if t.tensor_type.name != commonest}
                found["runs"][file_type] = {"file": sha256(target.read_bytes()), "dtype": commonest, "others": others}
                for t in matrices:
                    kind = t.tensor_type.name
                    if name != "smollm2" or kind[:3] in ("IQ1", "IQ2", "IQ3"):
                        known = found["tensors"].setdefault(t.name, {}).setdefault(kind, sha256(t.data))
                        if known != sha256(t.data):
                            raise SystemExit(f"{t.name} has two forms of {kind}")
            os.chdir("/")
        (out / f"imatrix-{name}.json").write_text(json.dumps(found, indent=0) + "\n")


main()
