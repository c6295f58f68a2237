"""Importance matrices for the tests of quantizing; quantize_hashes.py makes them.

They are made from integers, in steps without rounding, so that the tests make the same ones
(crates/pipeline/tests/quantize/imatrices.rs).
"""

import struct
from pathlib import Path

import gguf
import numpy as np

from quantize_models import mixed

# No text has moved it.
MISSING = "blk.1.attn_k.weight"
CHUNKS, CALLS = 7, 3


def sums(seed: int, count: int) -> np.ndarray:
    """float32 [count], some of which are zero, over ten powers of two."""
    z = mixed(seed, count) >> np.uint64(40)
    x = (z & np.uint64(0xFFFF)).astype(np.float32) * np.exp2(((z >> np.uint64(16)) & np.uint64(7)).astype(np.float32) - 16)
    return np.where((z >> np.uint64(19)) == 0, np.float32(0), x)


def entries(source: Path) -> list[tuple[str, int, np.ndarray]]:
    """Names of a model's matrices, how many of them stand in each, and sums."""
    found = []
    for tensor in sorted(gguf.GGUFReader(source).tensors, key=lambda t: t.name):
        cols, rows, *stack = [int(n) for n in tensor.shape] + [1] if len(tensor.shape) == 1 else [int(n) for n in tensor.shape]
        if not tensor.name.startswith("blk.") or rows == 1 or tensor.name == MISSING:
            continue
        experts = stack[0] if stack else 1
        found.append((tensor.name, experts, sums(1000 + len(found), experts * cols)))
    return found


class Writer(gguf.GGUFWriter):
    def add_architecture(self) -> None:
        pass  # There is no model in the file.


def write(source: Path, path: Path) -> None:
    """As llama-imatrix writes it. An expert that is the first of a stack has seen nothing."""
    writer = Writer(path, "")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["text.txt"])
    writer.add_uint32("imatrix.chunk_count", CHUNKS)
    writer.add_uint32("imatrix.chunk_size", 64)
    for name, experts, values in entries(source):
        counts = np.arange(experts, dtype=np.float32) * 7 if experts > 1 else np.array([100], dtype=np.float32)
        writer.add_tensor(name + ".in_sum2", values.reshape(experts, -1))
        writer.add_tensor(name + ".counts", counts.reshape(experts, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_legacy(source: Path, path: Path) -> None:
    found = entries(source)
    out = struct.pack("<i", len(found))
    for name, _, values in found:
        out += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", CALLS, values.size) + values.astype("<f4").tobytes()
    path.write_bytes(out + struct.pack("<ii", CHUNKS, 8) + b"text.txt")
