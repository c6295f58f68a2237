"""Digests of what MLX makes of rows in values.f32, for the tests of the kernels.

usage: mlx_types.py crates/kernels/tests/data/quant

Takes rows without numbers below 1e-30. Writes mlx.digests: for each type and each type of the values that were encoded, a line with both names and two digests, of
all blocks (the scale of a group, its bias, its values; those of four bits as GGUF files have them) and of the float32 that
MLX makes of them again.
"""

import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
FLOATS = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


def fnv1a(data: bytes) -> int:
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest


def raw(array: mx.array) -> np.ndarray:
    """The bytes of each row."""
    return np.array(array.view(mx.uint8))


def halves_apart(packed: np.ndarray) -> np.ndarray:
    """Of nibbles in order, the first half of each row in the low ones and the second in the high ones."""
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    low, high = np.split(nibbles, 2, axis=1)
    return low | high << 4


def digests(values: mx.array, mode: str, group: int, bits: int, whole: bool = True) -> str:
    packed, scales, *biases = mx.quantize(values, group_size=group, bits=bits, mode=mode)
    groups = values.size // group
    parts = [raw(part).reshape(groups, -1) for part in (scales, *biases, packed)]
    if mode in ("mxfp4", "nvfp4"):
        parts[1] = halves_apart(parts[1])
    if mode == "nvfp4" and whole:
        # Four groups are a block, their scales first.
        parts = [part.reshape(groups // 4, -1) for part in parts]
    wide = [part if part.dtype == mx.uint8 else part.astype(mx.float32) for part in (scales, *biases)]
    again = mx.dequantize(packed, *wide, group_size=group, bits=bits, mode=mode, dtype=mx.float32)
    found = (np.concatenate(parts, axis=1).tobytes(), np.array(again).astype("<f4").tobytes())
    return " ".join(f"{fnv1a(data):016x}" for data in found)


def main() -> None:
    folder = Path(sys.argv[1])
    rows = np.fromfile(folder / "values.f32", "<f4").reshape(-1, 256)
    # What becomes of numbers near the denormal ones depends on the thread that computes them.
    rows = mx.array(rows[((rows == 0) | (np.abs(rows) >= 1e-30)).all(axis=1)])
    lines = []
    for name, dtype in FLOATS.items():
        values = rows.astype(dtype)
        for bits in (2, 3, 4, 5, 6, 8):
            for group in (32, 64, 128):
                lines.append(f"AFFINE{bits}_G{group}_{name} {name} {digests(values, 'affine', group, bits)}")
        for mode, group, bits in (("mxfp4", 32, 4), ("mxfp8", 32, 8), ("nvfp4", 16, 4)):
            lines.append(f"{mode.upper()} {name} {digests(values, mode, group, bits)}")
        # As in rows that are no whole blocks.
        lines.append(f"NVFP4_G16 {name} {digests(values, 'nvfp4', 16, 4, whole=False)}")
    (folder / "mlx.digests").write_text("\n".join(lines) + "\n")


main()
