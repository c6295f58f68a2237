"""The codebooks of the IQ types, packed.

usage: quantize_grids.py LLAMA_CPP_SOURCE crates/kernels/src/quant/grids

An entry is 16 bits, little-endian: eight places of two bits among three values, or four places of four bits among eight.
"""

import re
import sys
from pathlib import Path

# Name in ggml-common.h: file, values in an entry, what the places stand for.
GRIDS = {
    "iq1s_grid": ("iq1", 8, [0xFF, 0x00, 0x01]),
    "iq2xxs_grid": ("iq2_xxs", 8, [0x08, 0x19, 0x2B]),
    "iq2xs_grid": ("iq2_xs", 8, [0x08, 0x19, 0x2B]),
    "iq2s_grid": ("iq2_s", 8, [0x08, 0x19, 0x2B]),
    "iq3xxs_grid": ("iq3_xxs", 4, [0x04, 0x0C, 0x14, 0x1C, 0x24, 0x2C, 0x34, 0x3E]),
    "iq3s_grid": ("iq3_s", 4, [0x01, 0x03, 0x05, 0x07, 0x09, 0x0B, 0x0D, 0x0F]),
}


def main() -> None:
    source = (Path(sys.argv[1]) / "ggml/src/ggml-common.h").read_text()
    for name, (file, values, places) in GRIDS.items():
        # IQ1 has another table for GPUs before it.
        table = re.findall(rf"GGML_TABLE_BEGIN\(uint\d+_t, {name}, [^)]*\)(.*?)GGML_TABLE_END", source, re.S)[0]
        entries = [int(entry, 16) for entry in re.findall(r"0x[0-9a-fA-F]+", table)]
        out = bytearray()
        for entry in entries:
            numbers = entry.to_bytes(values, "little")
            code = sum(places.index(number) << (16 // values * i) for i, number in enumerate(numbers))
            out += code.to_bytes(2, "little")
        (Path(sys.argv[2]) / f"{file}.bin").write_bytes(out)


main()
