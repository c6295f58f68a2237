"""Hashes of what llama-quantize makes of small random models and of SmolLM2, for the tests of quantizing.

usage: quantize_hashes.py LLAMA_CPP_BIN SmolLM2-135M-Instruct.Q4_1.gguf OUT_FOLDER [MODEL …]

Writes for each model NAME.json, and NAME-imatrix.json of runs with the importance matrices of quantize_imatrix.py:
    source   sha256 of the source file
    runs     arguments of llama-quantize without files; `from`: the run whose result was the source, if not the source
             itself; `file`: sha256 of the result; `dtype`: the commonest type of matrices; `others`: matrices that have
             another; `tensors`: sha256 of each matrix, where it is not in the list below
    tensors  sha256 of each matrix in each type that it got from the source (of SmolLM2: from its F16 file)
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import gguf

import quantize_imatrix
import quantize_models

Run = list[str]

FILE_TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"]
# Of these, the digests of SmolLM2's tensors are left out, to keep the list short: that of the file stands for them.
NEWER = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ4_NL", "IQ4_XS", "MXFP4_MOE", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0"]
PURE = [["--pure", t] for t in ["Q4_0", "Q8_0", "Q4_K_S", "Q5_K_S", "Q6_K", "Q2_K", "Q3_K_S", "IQ4_XS", "MXFP4_MOE", "TQ1_0"]]
# Rows that these do not fit, and no other type stands in.
REFUSED = [("narrow", "Q1_0"), ("smollm2", "Q1_0")]
OVERRIDES = [
    ["--output-tensor-type", "q8_0", "--token-embedding-type", "q4_0", "Q4_K_M"],
    ["--output-tensor-type", "q5_1", "Q4_K_S"],
    ["--output-tensor-type", "f32", "--token-embedding-type", "bf16", "F16"],
    ["--tensor-type", "attn_v=q8_0", "--tensor-type", r"blk\.[01]\.ffn_(down|up)=f16", "--pure", "Q5_K_M"],
    ["--tensor-type", "blk.0.attn=q6_k", "--tensor-type", "attn_k=q4_1", "Q4_K_M"],
]
# With an importance matrix. Types that weigh columns, some that do not, both forms, and mixes for which it must be there.
WEIGHED = FILE_TYPES[3:] + ["Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ4_NL", "IQ4_XS", "MXFP4_MOE", "TQ2_0"]
WEIGHED += ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M"]
WEIGHED_OTHERWISE = [
    ["--imatrix", "imatrix.dat", "Q4_K_M"],
    ["--imatrix", "imatrix.dat", "Q4_0"],
    ["--imatrix", "imatrix.gguf", "--pure", "Q4_0"],
    ["--imatrix", "imatrix.gguf", "--tensor-type", "attn_q=q5_1", "--tensor-type", "ffn_up=iq4_nl", "Q3_K_M"],
]
# The model with so many layers that an eighth of them are some.
ONLY_WEIGHED = ["deep"]
# The results to start from, and what to make of them.
AGAIN = [(["Q8_0"], ["--allow-requantize", "Q4_K_M"]), (["Q4_K_M"], ["--allow-requantize", "Q6_K"])]


def sha256(data) -> str:
    return hashlib.sha256(data).hexdigest()


def quantize(program: Path, source: Path, target: Path, arguments: list[str]) -> None:
    *options, file_type = arguments
    # The importance matrix is named by its path from there.
    command = [program.resolve(), *options, source.resolve(), target.resolve(), file_type, "2"]
    subprocess.run(command, cwd=target.parent, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def hashes(program: Path, source: Path, work: Path, base: Run | None, runs: list[tuple[Run | None, Run]]) -> dict:
    found = {"source": sha256(source.read_bytes()), "runs": [], "tensors": {}}
    results = {}
    for start, arguments in runs:
        target = work / f"{len(results)}.gguf"
        try:
            quantize(program, results[tuple(start)] if start else source, target, arguments)
        except subprocess.CalledProcessError:
            # Rows that no type fits, or a matrix whose importance a type cannot do without.
            if "--imatrix" not in arguments:
                raise
            continue
        results[tuple(arguments)] = target
        matrices = [t for t in gguf.GGUFReader(target).tensors if t.name.endswith(".weight") and "_norm" not in t.name]
        commonest = Counter(t.tensor_type.name for t in matrices).most_common(1)[0][0]
        run = {"arguments": arguments, "file": sha256(target.read_bytes()), "dtype": commonest}
        run["others"] = {t.name: t.tensor_type.name for t in matrices if t.tensor_type.name != commonest}
        if start:
            run["from"] = start
        if "--imatrix" in arguments:
            if len(matrices) < 50:
                run["tensors"] = {t.name: sha256(t.data) for t in matrices}
        elif start == base or arguments == base:
            for t in matrices if len(found["tensors"]) < 100 or arguments[-1] not in NEWER else []:
                known = found["tensors"].setdefault(t.name, {}).setdefault(t.tensor_type.name, sha256(t.data))
                if known != sha256(t.data):
                    raise SystemExit(f"{t.name} has two forms of {t.tensor_type.name}")
        else:
            run["tensors"] = {t.name: sha256(t.data) for t in matrices}
        found["runs"].append(run)
    return found


def main() -> None:
    program, smollm2, out = Path(sys.argv[1]) / "llama-quantize", Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[4:] or [*quantize_models.MODELS, "smollm2"]:
        plain = [(None, [t]) for t in FILE_TYPES + NEWER if (name, t) not in REFUSED]
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            if name == "smollm2":
                # Published as Q4_1; all else starts from its values as F16.
                first = ["--allow-requantize", "F16"]
                runs = [(None, first)]
                runs += [(first, run) for _, run in plain if run != ["F16"]] + [(first, run) for run in PURE]
                source, base = smollm2, first
            else:
                source, base = work / "source.gguf", None
                quantize_models.write(name, source)
                overrides = [run for run in OVERRIDES if name != "narrow" or "Q5_K_M" in run]
                runs = plain + [(None, run) for run in PURE + overrides] + AGAIN
            found = None if name in ONLY_WEIGHED else hashes(program, source, work, base, runs)
            quantize_imatrix.write(source, work / "imatrix.gguf")
            quantize_imatrix.write_legacy(source, work / "imatrix.dat")
            weighed = [["--imatrix", "imatrix.gguf", t] for t in WEIGHED] + WEIGHED_OTHERWISE
            runs = ([(None, base)] if base else []) + [(base, run) for run in weighed]
            runs_weighed = hashes(program, source, work, base, runs)
        (out / f"{name}-imatrix.json").write_text(json.dumps(runs_weighed, indent=0) + "\n")
        if found:
            (out / f"{name}.json").write_text(json.dumps(found, indent=0) + "\n")


main()
