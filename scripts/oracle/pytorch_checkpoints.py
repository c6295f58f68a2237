#!/usr/bin/env python3
"""PyTorch checkpoints with the weights of a tiny safetensors one.

usage: pytorch_checkpoints.py CHECKPOINTS_FOLDER OUT_FOLDER        (tests/data/checkpoints, tests/data/pytorch)

OUT_FOLDER/single has pytorch_model.bin as a module's state_dict is saved, OUT_FOLDER/sharded two files with an index, one
of plain tensors and one of parameters. OUT_FOLDER/hostile has pickles that call functions.
"""

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

CASE = "llama3-rope"


class Call:
    """Unpickles to the result of a call."""

    def __init__(self, function: object, *arguments: object):
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def archive(path: Path, content: object) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        for name, data in [("data.pkl", pickle.dumps(content, protocol=2)), ("byteorder", b"little"), ("version", b"3\n")]:
            out.writestr(zipfile.ZipInfo(f"archive/{name}"), data)


def main() -> None:
    source, out = Path(sys.argv[1]) / CASE, Path(sys.argv[2])
    weights = load_file(source / "model.safetensors")
    for name in ["single", "sharded", "hostile"]:
        (out / name).mkdir(parents=True, exist_ok=True)
    for name in ["single", "sharded"]:
        shutil.copyfile(source / "config.json", out / name / "config.json")

    state = OrderedDict(weights)
    state._metadata = OrderedDict({"": {"version": 1}})
    # A tied head is the same storage again.
    torch.save(state, out / "single/pytorch_model.bin")

    names = list(weights)
    half = len(names) // 2
    files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    torch.save({n: weights[n] for n in names[:half]}, out / "sharded" / files[0])
    torch.save({n: torch.nn.Parameter(weights[n]) for n in names[half:]}, out / "sharded" / files[1])
    index = {"metadata": {}, "weight_map": {n: files[i >= half] for i, n in enumerate(names)}}
    (out / "sharded/pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")

    archive(out / "hostile/system.bin", {"weight": Call(os.system, "touch /tmp/owned")})
    archive(out / "hostile/eval.bin", Call(eval, "1 + 1"))
    torch.save({"steps": torch.arange(3)}, out / "hostile/integers.bin")
    torch.save({"weight": torch.ones(4, 3).t()}, out / "hostile/transposed.bin")
    torch.save({"optimizer": {"lr": 1.0}}, out / "hostile/training.bin")
    torch.save({"weight": torch.ones(2)}, out / "hostile/legacy.bin", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(out / "hostile/deflated.bin", "w", zipfile.ZIP_DEFLATED) as packed:
        with zipfile.ZipFile(out / "single/pytorch_model.bin") as plain:
            for member in plain.namelist()[:3]:
                packed.writestr(zipfile.ZipInfo(member), plain.read(member), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
