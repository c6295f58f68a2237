"""A model like one that was quantized to SmolLM2's published Q4_1 file, whose own values are all on that type's grid.

usage: spread.py SMOLLM2-F16.gguf PUBLISHED-Q4_1.gguf OUT.gguf

Each value of a matrix moves by up to half a step of the block that it was decoded from, at random (the seed is fixed), and is
rounded to F16. So no type has an advantage over the others that it would not have with a model as it was trained.
"""

import shutil
import sys

import numpy as np
from gguf import GGUFReader

BLOCK = 32


def steps(data: np.ndarray) -> np.ndarray:
    """`[blocks, 1]`, of Q4_1 or Q8_0, whose blocks begin with the step in F16; `data` has 32 values in each."""
    return np.abs(data[:, :2].copy().view(np.float16).astype(np.float32))


def main() -> None:
    source, published, out = sys.argv[1:]
    shutil.copy(source, out)
    grids = {tensor.name: tensor for tensor in GGUFReader(published).tensors}
    random = np.random.default_rng(7)
    for tensor in GGUFReader(out, "r+").tensors:
        if tensor.tensor_type.name != "F16":
            continue
        values = tensor.data.reshape(-1, BLOCK).astype(np.float32)
        blocks = np.ascontiguousarray(grids[tensor.name].data).view(np.uint8).reshape(len(values), -1)
        noise = (random.random(values.shape, dtype=np.float32) - 0.5) * steps(blocks)
        tensor.data[...] = (values + noise).astype(np.float16).reshape(tensor.data.shape)


if __name__ == "__main__":
    main()
