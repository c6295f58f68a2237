"""Digests of the values that blocks of arbitrary bytes stand for, for the tests of the kernels.

usage: dequantize_blocks.py LLAMA_CPP_BIN OUT_FOLDER

Writes NAME.values for each type: of each of 256 blocks, 64-bit FNV-1a of its values as float32, all NaN alike. The blocks
are made from integers, as the tests make them (crates/kernels/tests/quant_decode.rs). The values come from gguf.quants;
where it has the type, ggml must agree, and where it has not, they come from ggml.
"""

import ctypes
import sys
from pathlib import Path

import gguf
import numpy as np

BLOCKS = 256
# Blocks of one byte come first: all bits, signs, infinite scales, one.
PATTERNS = [0x00, 0xFF, 0x7F, 0x80, 0x01, 0x7C, 0x3C, 0xAA]
# Name: number in GGUF, values in a block, bytes of a block.
TYPES = {
    "q1_0": (41, 128, 18),
    "q2_0": (42, 64, 18),
    "q4_0": (2, 32, 18),
    "q4_1": (3, 32, 20),
    "q5_0": (6, 32, 22),
    "q5_1": (7, 32, 24),
    "q8_0": (8, 32, 34),
    "q2_k": (10, 256, 84),
    "q3_k": (11, 256, 110),
    "q4_k": (12, 256, 144),
    "q5_k": (13, 256, 176),
    "q6_k": (14, 256, 210),
    "iq1_s": (19, 256, 50),
    "iq1_m": (29, 256, 56),
    "iq2_xxs": (16, 256, 66),
    "iq2_xs": (17, 256, 74),
    "iq2_s": (22, 256, 82),
    "iq3_xxs": (18, 256, 98),
    "iq3_s": (21, 256, 110),
    "iq4_nl": (20, 32, 18),
    "iq4_xs": (23, 256, 136),
    "mxfp4": (39, 32, 17),
    "nvfp4": (40, 64, 36),
    "tq1_0": (34, 256, 54),
    "tq2_0": (35, 256, 66),
}


def splitmix64(seed: int, count: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def blocks(number: int, size: int) -> np.ndarray:
    """uint8 [BLOCKS, size]."""
    out = splitmix64(number, BLOCKS * size).astype(np.uint8).reshape(BLOCKS, size)
    for i, byte in enumerate(PATTERNS):
        out[i] = byte
    return out


def fnv(values: np.ndarray) -> np.ndarray:
    """uint64 [BLOCKS] of float32 [BLOCKS, n]."""
    bits = np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32)).astype("<u4")
    data = bits.view(np.uint8).astype(np.uint64)
    hashes = np.full(len(values), 0xCBF29CE484222325, np.uint64)
    with np.errstate(over="ignore"):
        for i in range(data.shape[1]):
            hashes = (hashes ^ data[:, i]) * np.uint64(0x100000001B3)
    return hashes


def main() -> None:
    ggml, folder = ctypes.CDLL(str(Path(sys.argv[1]) / "libggml-base.so")), Path(sys.argv[2])
    # Names of functions end as `q4_K` and `q8_0` do.
    function = lambda name: f"dequantize_row_{name[:-1]}K" if name.endswith("_k") else f"dequantize_row_{name}"
    for name, (number, block, size) in TYPES.items():
        data = blocks(number, size)
        of_ggml = np.zeros((BLOCKS, block), np.float32)
        dequantize = getattr(ggml, function(name))
        dequantize.argtypes, dequantize.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
        dequantize(data.ctypes.data, of_ggml.ctypes.data, BLOCKS * block)
        hashes = fnv(of_ggml)
        try:
            with np.errstate(all="ignore"):
                values = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(number)).astype(np.float32)
        except (NotImplementedError, ValueError):
            print(f"{name}: ggml alone")
        else:
            of_gguf = fnv(np.ascontiguousarray(values).reshape(BLOCKS, block))
            if (hashes != of_gguf).any():
                print(f"{name}: gguf.quants and ggml differ in blocks {np.flatnonzero(hashes != of_gguf)}")
            hashes = of_gguf
        hashes.astype("<u8").tofile(folder / f"{name}.values")


main()
