#!/usr/bin/env python3
"""Instructions of the matmul kernels, so that a change that makes them longer is seen.

usage: instructions.py [--write]

Without an option, fails if a count has risen by more than 5 % over crates/kernels/instructions.json; where another compiler
than the recorded one is at work, it only tells. --write records the counts.

Scalar and AVX2: callgrind counts what a product of 64 rows and 512 columns executes, for 1, 4 and 32 tokens. AVX-512, which
callgrind cannot run: the instructions per `vpdpbusd` (quantized types) or `vfmadd` (floats) of the innermost loop with the
most of them, from the disassembly.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "crates/kernels/instructions.json"
MOST = 1.05


def run(*args: str, **more) -> str:
    return subprocess.run(args, check=True, capture_output=True, text=True, **more).stdout


def build() -> Path:
    target = ROOT / "target/instructions"
    # Names with their type parameters.
    flags = {"RUSTFLAGS": "-Csymbol-mangling-version=v0", "CARGO_TARGET_DIR": str(target)}
    command = ["cargo", "build", "--release", "-p", "edgeling-kernels", "--example", "instructions"]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | flags)
    return target / "release/examples/instructions"


def executed(program: Path, tier: str) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        options = [f"--callgrind-out-file={out}", "--toggle-collect=measured", "--dump-after=measured"]
        command = ["valgrind", "--tool=callgrind", *options, str(program)]
        names = run(*command, env=os.environ | {"EDGELING_CPU": tier}).split("\n")
        counts = {}
        for i, name in enumerate(filter(None, names)):
            dump = Path(f"{out}.{i + 1}").read_text()
            counts[name] = int(re.search(r"^(?:totals|summary): (\d+)", dump, re.M)[1])
        return counts


def per_multiply(program: Path) -> dict[str, float]:
    """Instructions per multiply in each type's AVX-512 kernel."""
    name = re.compile(r"^[0-9a-f]+ <<kernels::simd::avx512::Avx512.*::run::inner::<kernels::ops::(?:matmul|float)::\w+<kernels::quant::(\w+)::")
    counts: dict[str, float] = {}
    for function in run("objdump", "-d", "-C", "--no-show-raw-insn", str(program)).split("\n\n"):
        if not (found := name.match(function)):
            continue
        code = re.findall(r"^ *([0-9a-f]+):\s+(\S+)(?: +([0-9a-f]+))?", function, re.M)
        at = {int(address, 16): i for i, (address, _, _) in enumerate(code)}
        jumps = [(at.get(int(to, 16)), i) for i, (_, op, to) in enumerate(code) if op.startswith("j") and to]
        loops = [(start, end) for start, end in jumps if start is not None and start <= end]
        inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
        multiply = "vfmadd" if found[1] in ("f16", "bf16", "f32") else "vpdpbusd"
        of = lambda loop: sum(op.startswith(multiply) for _, op, _ in code[loop[0] : loop[1] + 1])
        best = max(inner, key=of, default=None)
        if best and of(best):
            # Of the types in one file, the one with the most.
            counts[found[1]] = max(counts.get(found[1], 0), round((best[1] - best[0] + 1) / of(best), 3))
    return counts


def measure() -> dict:
    program = build()
    counts = {tier: executed(program, tier) for tier in ("scalar", "avx2")}
    return {"compiler": run("rustc", "--version").strip(), **counts, "avx512": per_multiply(program)}


def main() -> None:
    found = measure()
    if "--write" in sys.argv[1:]:
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
        return
    recorded = json.loads(RECORD.read_text())
    same = found["compiler"] == recorded["compiler"]
    worse = 0
    for tier in ("scalar", "avx2", "avx512"):
        for name in sorted(recorded[tier].keys() | found[tier].keys()):
            before, now = recorded[tier].get(name), found[tier].get(name)
            if before is None or now is None or now > before * MOST:
                worse += 1
                print(f"{tier} {name}: {before} recorded, {now} found", file=sys.stderr)
    if worse and not same:
        print(f"recorded with {recorded['compiler']}, found with {found['compiler']}", file=sys.stderr)
    elif worse:
        sys.exit(f"{worse} counts have risen by more than 5 %; where that is wanted, scripts/instructions.py --write")
    print(f"{sum(len(found[tier]) for tier in ('scalar', 'avx2', 'avx512'))} counts of instructions are as recorded")


main()
