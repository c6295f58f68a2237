"""The type of each tensor in each file type, of real models, as llama.cpp's tests keep them.

usage: quantize_types.py LLAMA_CPP_SOURCE OUT.json

Per model: what the first lines of its snapshot say of its shape, and for each file type the tensors that do not have its
default type, by type and kind; a kind stands for its tensor in the layers listed.
"""

import json
import re
import sys
from pathlib import Path

MODELS = ["qwen3-0.6b", "qwen3-14b", "meta-llama-3.1-70b-instruct", "gemma-3-4b-it", "qwen3.6-27b"]
FILE_TYPES = [
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L"),
    *("Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4_MOE", "TQ1_0", "TQ2_0"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M"),
]


def extract(snapshot: Path) -> dict:
    found = {"shape": {}, "types": {}}
    current = None
    for line in snapshot.read_text().splitlines():
        if line.startswith("#"):
            found["shape"] |= {key: int(value) for key, value in re.findall(r"n_(\w+)=(\d+)", line)}
        elif line.startswith("["):
            name, _ = line[1:].split("] ")
            current = found["types"].setdefault(name, {}) if name in FILE_TYPES else None
        elif line and current is not None:
            tensor, kind = line.split()
            by_kind = current.setdefault(kind.upper(), {})
            if match := re.fullmatch(r"blk\.(\d+)\.(.*)", tensor):
                by_kind.setdefault(match[2], []).append(int(match[1]))
            else:
                by_kind[tensor] = []
    assert list(found["types"]) and len(found["types"]) == len(FILE_TYPES)
    return found


def main() -> None:
    folder = Path(sys.argv[1]) / "tests" / "snapshots"
    found = {name: extract(folder / f"{name}.schema") for name in MODELS}
    Path(sys.argv[2]).write_text(json.dumps(found) + "\n")


main()
