"""Blocks of the types with a codebook as ggml's reference quantizers encode them, for the tests of the kernels.

usage: quantize_grid_blocks.py LLAMA_CPP_BIN OUT_FOLDER

Reads values.f32 and importance.f32 of quantize_blocks.py in OUT_FOLDER as rows of 512. Writes for each type NAME.weighted and,
where the reference needs no importance, NAME.blocks. Rows that the reference aborts on are listed, and their blocks are 0.
"""

import ctypes
import os
import sys
from pathlib import Path

import numpy as np

# Name: number in GGUF, bytes of a block of 256 values, whether it can do without importance.
TYPES = {
    "iq1_s": (19, 50, False),
    "iq1_m": (29, 56, True),
    "iq2_xxs": (16, 66, False),
    "iq2_xs": (17, 74, False),
    "iq2_s": (22, 82, True),
    "iq3_xxs": (18, 98, True),
    "iq3_s": (21, 110, True),
}
COLS = 512


def with_gaps(blocks: np.ndarray, values: np.ndarray) -> None:
    """Puts entries and signs of IQ3_S where they belong: the reference writes nothing for 32 zeros, and what follows moves up."""
    for block, subs in zip(blocks, (values.reshape(-1, 8, 32) != 0).any(axis=2)):
        entries, signs = block[2:66].reshape(8, 8).copy(), block[74:106].reshape(8, 4).copy()
        block[2:66], block[74:106] = 0, 0
        block[2:66].reshape(8, 8)[subs] = entries[: subs.sum()]
        block[74:106].reshape(8, 4)[subs] = signs[: subs.sum()]


def survives(work) -> bool:
    """Whether work does not abort, which a process of its own tells."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    library, folder = Path(sys.argv[1]) / "libggml-base.so", Path(sys.argv[2])
    ggml = ctypes.CDLL(str(library))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    values, importance = (np.fromfile(folder / f"{name}.f32", "<f4").reshape(-1, COLS) for name in ("values", "importance"))
    for name, (number, size, plain) in TYPES.items():
        ggml.ggml_quantize_init(number)
        for weighted, file in [(True, f"{name}.weighted")] + [(False, f"{name}.blocks")] * plain:
            out = np.zeros((len(values), COLS // 256, size), np.uint8)
            for i, (row, columns, blocks) in enumerate(zip(values, importance, out)):
                by = columns.ctypes.data if weighted else None
                encode = lambda: ggml.ggml_quantize_chunk(number, row.ctypes.data, blocks.ctypes.data, 0, 1, COLS, by)
                if survives(encode):
                    encode()
                    if name == "iq3_s":
                        with_gaps(blocks, row)
                else:
                    print(f"{file}: the reference aborts on row {i}")
            out.tofile(folder / file)


main()
