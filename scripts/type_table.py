#!/usr/bin/env python3
"""Every type on one model: size, quality, memory and encoding time, with llama.cpp beside where it is there.

usage: type_table.py EDGELING MODEL-f16.gguf CALIBRATION.txt TEXT.txt FOLDER [--peer BIN] [--repeat N] [--threads N] [--only NAME,…]

Writes docs/types.json, docs/types.svg and the tables of docs/types.md. Each file is made by this program, with an importance
matrix of CALIBRATION.txt where its name says so, and evaluated on TEXT.txt against the F16 model. With --peer, a folder of
llama.cpp's tools, llama-quantize makes it too (the bytes must be the same), and llama-perplexity evaluates it against its own
F16 logits on the same tokens. FOLDER keeps the files and what was measured: a run that was stopped goes on where it was.
Seconds are CPU seconds of all threads, the least of --repeat runs, in turn.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts/oracle"))
from llama_cpp_perplexity import COMMIT, CONTEXT, perplexity_of_base, perplexity_with_base

DOCS = ROOT / "docs"
# From many bits to few.
PLAIN = """BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS MXFP4 NVFP4 Q3_K_L Q3_K_M Q3_K_S IQ3_M IQ3_S
Q2_K TQ2_0 TQ1_0 Q2_0 Q1_0""".split()
WEIGHED = """Q6_K Q5_K_M Q4_K_M Q4_K_S Q4_0 IQ4_NL IQ4_XS Q3_K_M IQ3_M IQ3_S IQ3_XS IQ3_XXS Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS IQ2_XXS
IQ1_M IQ1_S""".split()
# Not quantized, or made for models of ternary and binary weights: they would leave the others little room in the plot.
BESIDE = ["bf16", "tq1_0", "tq2_0", "q2_0", "q1_0"]
# Types that no mix of a model without experts has: how this program and llama-quantize are asked for them.
ASKED = {
    "MXFP4": (["MXFP4_MOE", "--pure"], ["--pure"], "MXFP4_MOE"),
    "NVFP4": (["Q8_0", "--tensor-type", r"^blk\..*=NVFP4"], None, None),
}


def run(*args: str | Path | int) -> dict:
    """Runs to the end; CPU seconds and the most memory."""
    with open(os.devnull, "wb") as null:
        child = subprocess.Popen([str(arg) for arg in args], stdout=null, stderr=subprocess.PIPE)
        said = child.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(map(str, args))}: status {child.returncode}\n{said[-2000:]}")
    return {"cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2), "memory_bytes": usage.ru_maxrss * 1024}


def least(runs: list[dict]) -> dict:
    return {key: min(run[key] for run in runs) for key in runs[0]}


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Table:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.folder = args, args.folder
        self.imatrix = self.folder / "imatrix.gguf"

    def path(self, name: str) -> Path:
        return self.folder / f"{self.args.model.stem.removesuffix('-f16')}-{name}.gguf"

    def quantize(self, name: str) -> dict:
        """Makes the file by both programs, or tells what an earlier run measured."""
        kept, path, other = self.folder / f"{name}.made.json", self.path(name), self.folder / "peer.tmp"
        if kept.exists() and path.exists():
            return json.loads(kept.read_text())
        kind, weighed = name.removesuffix("-imatrix").upper(), name.endswith("-imatrix")
        own, peer, peer_kind = ASKED.get(kind, ([kind], [], kind))
        matrix = ["--imatrix", self.imatrix] if weighed else []
        target = ["--out", path, "--threads", self.args.threads, "--force", "--json"]
        ours, theirs = [], []
        for _ in range(self.args.repeat):
            ours.append(run(self.args.edgeling, "quantize", self.args.model, *own, *matrix, *target))
            if self.args.peer and peer is not None:
                tool = self.args.peer / "llama-quantize"
                theirs.append(run(tool, *peer, *matrix, self.args.model, other, peer_kind, self.args.threads))
        made = least(ours)
        if theirs:
            made["peer"] = least(theirs) | {"same_bytes": sha256(path) == sha256(other)}
            other.unlink()
        kept.write_text(json.dumps(made))
        return made

    def peer(self, name: str | None) -> dict:
        """What llama-perplexity finds of a file, or of the base, whose logits it keeps."""
        base = self.folder / "base.logits"
        kept = self.folder / f"{name or 'base'}.perplexity.txt"
        if not kept.exists() or not base.exists():
            path, more = (self.path(name), ["--kl-divergence"]) if name else (self.args.model, [])
            common = ["-f", self.args.text, "-c", CONTEXT, "-b", CONTEXT, "-t", self.args.threads, "--kl-divergence-base", base]
            command = [self.args.peer / "llama-perplexity", "-m", path, *common, *more]
            done = subprocess.run([str(arg) for arg in command], capture_output=True, text=True, check=True)
            kept.write_text(done.stdout + done.stderr)
        found = (perplexity_with_base if name else perplexity_of_base)(kept.read_text())
        del found["running_perplexity"]
        if name:
            found["top1_agreement"] = round(found.pop("top1_agreement_percent") / 100, 5)
        return found

    def compare(self, names: list[str]) -> list[dict]:
        """Size, quality and memory of the files as this program finds them, and the plot."""
        plotted = [name for name in names if name not in BESIDE]
        others = [name for name in names if name in BESIDE]
        rows = []
        for group, more in ((plotted, ["--svg", DOCS / "types.svg"]), (others, [])):
            files = [self.path(name) for name in group]
            if files:
                on = ["--base", self.args.model, "--text", self.args.text, "--prompt", 512, "--generate", 8, "--repeat", 1]
                command = [self.args.edgeling, "compare", *files, *on, "--threads", self.args.threads, "--json", *more]
                done = subprocess.run([str(arg) for arg in command], stdout=subprocess.PIPE, text=True, check=True)
                rows += zip(group, json.loads(done.stdout))
        return [row for name in names for of, row in rows if of == name]


def fields(row: dict) -> dict:
    wanted = ("type", "bytes", "bits_per_weight", "imatrix", "kl_mean", "kl_p99", "top1_agreement", "perplexity")
    return {name: row[name] for name in wanted} | {"run_memory_bytes": row["memory_bytes"]}


def markdown(rows: list[dict]) -> str:
    """Quality, then what making and running takes; a dash where there is no peer's figure."""

    def shown(row: dict, *keys: str, form: str = "{}", factor: float = 1) -> str:
        for key in keys:
            row = row.get(key) if row else None
        return "–" if row is None else form.format(row * factor)

    quality, cost = [], []
    for row in rows:
        name = f"| {row['name'].removesuffix('-imatrix').upper()} | {'yes' if row['imatrix'] else ''} "
        size = [shown(row, "bytes", form="{:.1f}", factor=1e-6), shown(row, "bits_per_weight", form="{:.2f}")]
        for side in ((), ("peer",)):
            size.append(shown(row, *side, "kl_mean", form="{:.5f}"))
            size.append(shown(row, *side, "top1_agreement", form="{:.2f}", factor=100))
            size.append(shown(row, *side, "perplexity", form="{:.3f}"))
        made = row["made"]
        takes = [shown(made, *side, "cpu_seconds", form="{:.2f}") for side in ((), ("peer",))]
        takes += [shown(made, *side, "memory_bytes", form="{:.0f}", factor=1e-6) for side in ((), ("peer",))]
        takes.append(shown(row, "run_memory_bytes", form="{:.0f}", factor=1e-6))
        quality.append(name + "| " + " | ".join(size) + " |")
        cost.append(name + "| " + " | ".join(takes) + " |")
    first = ["file", "imatrix", "MB", "bits/weight"] + [f"{v}{w}" for w in ("", ", llama.cpp") for v in ("KL", "top-1 %", "perplexity")]
    second = ["file", "imatrix", "encoding, CPU s", "llama-quantize", "its memory, MB", "llama-quantize", "memory to run, MB"]
    head = lambda names: ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join(head(first) + quality + [""] + head(second) + cost)


def broken(rows: list[dict]) -> list[str]:
    """Where this program is further from its base than 1.02 times what llama.cpp is, and 1e-4."""
    out = []
    for row in rows:
        if not (peer := row.get("peer")):
            continue
        pairs = {
            "KL": (row["kl_mean"], peer["kl_mean"]),
            "top-1 apart": (1 - row["top1_agreement"], 1 - peer["top1_agreement"]),
            "perplexity": (row["perplexity"], peer["perplexity"]),
        }
        out += [f"{row['name']}: {what} {a:.6f} beside {b:.6f}" for what, (a, b) in pairs.items() if a > 1.02 * b + 1e-4]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("edgeling", "model", "calibration", "text", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    table = Table(args)
    if not table.imatrix.exists():
        run(args.edgeling, "calibrate", args.model, "--text", args.calibration, "--out", table.imatrix)
    names = [name.lower() for name in PLAIN] + [f"{name.lower()}-imatrix" for name in WEIGHED]
    if args.only:
        names = [name for name in names if name in args.only.split(",")]
    made = {}
    for name in names:
        made[name] = table.quantize(name)
        print(name, made[name], flush=True)
    base = table.peer(None) if args.peer else None
    rows = []
    for name, row in zip(names, table.compare(names)):
        rows.append({"name": name, **fields(row), "made": made[name]})
        if args.peer:
            rows[-1]["peer"] = table.peer(name)
            print(name, row["kl_mean"], rows[-1]["peer"], flush=True)
    rows.sort(key=lambda row: (-row["bits_per_weight"], row["name"]))
    head = {"model_sha256": sha256(args.model), "text_sha256": sha256(args.text), "text_bytes": args.text.stat().st_size}
    head |= {"calibration_sha256": sha256(args.calibration), "context": CONTEXT}
    if base:
        head["peer"] = {"tool": "llama.cpp", "commit": COMMIT, "base": base}
    (DOCS / "types.json").write_text(json.dumps(head | {"rows": rows}, indent=1) + "\n")
    page = DOCS / "types.md"
    begin, rest = page.read_text().split("<!-- begin of the tables -->")
    _, end = rest.split("<!-- end of the tables -->")
    tables = f"<!-- begin of the tables -->\n\n{markdown(rows)}\n\n<!-- end of the tables -->"
    page.write_text(begin + tables + end)
    for line in broken(rows):
        print(line, file=sys.stderr)
    if different := [row["name"] for row in rows if row["made"].get("peer", {}).get("same_bytes") is False]:
        sys.exit(f"not the bytes of llama-quantize: {', '.join(different)}")


if __name__ == "__main__":
    main()
