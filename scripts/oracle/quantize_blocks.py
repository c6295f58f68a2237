"""Blocks of values as ggml's reference quantizers encode them, for the tests of the kernels.

usage: quantize_blocks.py LLAMA_CPP_BIN OUT_FOLDER

Writes values.f32 (float32, rows of 256) and, for each type, NAME.blocks. The rows are what weights look like and what
they can look like at worst: zeros of both signs, constants, denormals, outliers, ties, parts of very different size.

Writes importance.f32 (float32, one for each value) and, for each type that heeds it, NAME.weighted: the same values in
rows of WEIGHTED_COLS, each row encoded with its own importance of the columns.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np

# Name: number in GGUF, values in a block, bytes of a block.
TYPES = {
    "f16": (1, 1, 2),
    "bf16": (30, 1, 2),
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
    "iq4_nl": (20, 32, 18),
    "iq4_xs": (23, 256, 136),
    "mxfp4": (39, 32, 17),
    "nvfp4": (40, 64, 36),
    "tq1_0": (34, 256, 54),
    "tq2_0": (35, 256, 66),
}

# Columns of a row with importance: no multiple of 256 where the block is smaller. Both divide the number of values.
WEIGHTED_COLS = {32: 1312, 256: 512}


def rows() -> np.ndarray:
    """float32 [n, 256], none of them too large for any type."""
    random = np.random.default_rng(20)
    normal = lambda: random.standard_normal(256) * 0.02
    sub_blocks = lambda sizes: np.repeat(np.array(sizes), 256 // len(sizes))
    outlier = normal()
    outlier[77] = -3000.0
    half_empty = normal()
    half_empty[:128] = 0
    found = [
        *(normal() for _ in range(6)),
        normal().astype(np.float16),
        random.uniform(-1, 1, 256),
        random.standard_cauchy(256).clip(-100, 100),
        np.abs(normal()),
        -np.abs(normal()),
        np.zeros(256),
        np.where(random.random(256) < 0.5, -0.0, 0.0),
        np.full(256, 0.75),
        np.full(256, -0.3),
        outlier,
        half_empty,
        np.where(random.random(256) < 0.9, 0, normal()),
        random.choice([-1.0, 0.0, 1.0], 256) * 0.01,
        random.integers(-127, 128, 256) / 2,
        (random.integers(-8, 8, 256) + 0.5) * 0.125,
        np.round(normal() * 50) / 50,
        normal() * 1e6,
        normal() * 1e-6,
        normal() * 1e-20,
        normal() * 1e-38,
        normal() * 1e-42,
        np.sign(normal()) * 1e-45,
        -5000 + normal() * 1e-3,
        5000 + normal(),
        normal() * sub_blocks([1e-30, 1e5, 1, 1e-10, 1e-3, 10, 1e-40, 1e-6]),
        normal() * sub_blocks([10.0**k for k in range(-12, 4)]),
        normal() * sub_blocks([1e-3, 1, 1e-6, 1e2] * 2) + sub_blocks([-1e4, 10, 1e-5, -1e-3, 0, 1, -3e4, 5]),
        sub_blocks([-2e4, 3e-4, -1e-9, 0, 7, -7, 1e-3, -1]),
        # Enough of the usual for every step of every search to win somewhere.
        *(random.uniform(-1, 1, 256) for _ in range(16)),
        *(random.laplace(0, 0.02, 256) for _ in range(8)),
        *(random.uniform(-0.2, 1, 256) for _ in range(8)),
        *(random.beta(0.3, 0.3, 256) - 0.5 for _ in range(16)),
    ]
    return np.array(found).astype(np.float32)


def importances(n: int) -> np.ndarray:
    """float32 [n, 256]: means of squares as they are, and zeros, constants, sizes far apart."""
    random = np.random.default_rng(21)
    usual = lambda spread: np.exp(random.standard_normal(256) * spread)
    kinds = [
        lambda: usual(1.0),
        lambda: usual(1.5) * 1e-4,
        lambda: np.full(256, 0.37),
        lambda: usual(2.5) * 1e4,
        lambda: random.standard_normal(256) ** 2,
        lambda: usual(1.0) * np.repeat(random.random(16) < 0.7, 16),
        lambda: np.where(random.random(256) < 0.5, 0, usual(1.0)),
        lambda: np.repeat(10.0 ** random.integers(-12, 7, 16), 16) * usual(0.5),
        lambda: np.where(np.arange(256) == 99, 1e8, usual(0.3)),
        lambda: usual(4.0),
        lambda: np.zeros(256),
    ]
    return np.array([kinds[i % len(kinds)]() for i in range(n)]).astype(np.float32)


def main() -> None:
    library, folder = Path(sys.argv[1]) / "libggml-base.so", Path(sys.argv[2])
    ggml = ctypes.CDLL(str(library))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    ggml.ggml_validate_row_data.restype = ctypes.c_bool
    ggml.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]

    def encode(number: int, values: np.ndarray, size: int, importance: np.ndarray | None) -> np.ndarray:
        """Blocks of `size` bytes in all of rows of values."""
        out = np.zeros(size, np.uint8)
        weights = None if importance is None else importance.ctypes.data
        written = ggml.ggml_quantize_chunk(number, values.ctypes.data, out.ctypes.data, 0, *values.shape, weights)
        if written != size or not ggml.ggml_validate_row_data(number, out.ctypes.data, size):
            raise SystemExit(f"type {number}: ggml refuses these values")
        return out

    values = rows()
    importance = importances(len(values))
    folder.mkdir(parents=True, exist_ok=True)
    values.astype("<f4").tofile(folder / "values.f32")
    importance.astype("<f4").tofile(folder / "importance.f32")
    for name, (number, block, size) in TYPES.items():
        encode(number, values, values.size // block * size, None).tofile(folder / f"{name}.blocks")
        if block not in WEIGHTED_COLS:
            continue
        cols = WEIGHTED_COLS[block]
        parts = list(zip(values.reshape(-1, 1, cols), importance.reshape(-1, cols)))
        row = cols // block * size
        weighted, plain = (
            np.concatenate([encode(number, part, row, by if heeded else None) for part, by in parts])
            for heeded in (True, False)
        )
        if (weighted != plain).any():
            weighted.tofile(folder / f"{name}.weighted")


main()
