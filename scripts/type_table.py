#!/usr/bin/env python3
"""Every type on one model: size, quality, memory and encoding time, with llama.cpp beside where it is there.

usage: type_table.py EDGELING MODEL-f16.gguf CALIBRATION.txt TEXT.txt FOLDER [--peer BIN] [--repeat N] [--threads N] [--only NAME,…]
           [--measured]

Writes docs/types.json, the plots docs/types.svg and docs/types-size.svg, and the tables of docs/types.md. Each file is made by
this program, with an importance matrix of CALIBRATION.txt where its name says so, and evaluated on TEXT.txt against the F16
model. With --peer, a folder of llama.cpp's tools, llama-quantize makes it too (the bytes must be the same; it has no
--effort high), and llama-perplexity evaluates it against its own F16 logits on the same tokens. FOLDER keeps the files and what
was measured: a run that was stopped goes on where it was. Seconds are CPU seconds of all threads, the least of --repeat runs, of
one where a run is long.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts/oracle"))
from llama_cpp_perplexity import COMMIT, CONTEXT, NUMBER, find, perplexity_with_base
from type_plot import WAYS, plot, split

DOCS = ROOT / "docs"
# Positions of a window that are scored.
POSITIONS = CONTEXT - 1 - CONTEXT // 2
# From many bits to few.
PLAIN = """BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS MXFP4 NVFP4 Q3_K_L Q3_K_M Q3_K_S IQ3_M IQ3_S
Q2_K TQ2_0 TQ1_0 Q2_0""".split()
WEIGHED = """Q6_K Q5_K_M Q4_K_M Q4_K_S Q4_0 IQ4_NL IQ4_XS Q3_K_M IQ3_M IQ3_S IQ3_XS IQ3_XXS Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS IQ2_XXS
IQ1_M IQ1_S""".split()
# What --effort high makes of them, with products of columns from CALIBRATION.txt, or from what the model writes.
HIGH = "Q4_K_M-imatrix Q4_0-imatrix Q3_K_M-imatrix Q2_K-imatrix Q4_K_M Q4_0 Q3_K_M".split()
# Not quantized, or made for models of ternary and binary weights: they would leave the others little room in the plots.
BESIDE = ["bf16", "tq1_0", "tq2_0", "q2_0"]
# A program that takes as many CPU seconds is not run again: what differs from run to run is small beside it.
LONG = 10.0
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


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Table:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.folder = args, args.folder
        self.compared = self.folder / "compared.json"
        self.imatrix, self.products = self.folder / "imatrix.gguf", self.folder / "products.gguf"

    def calibrate(self) -> None:
        for path, more in ((self.imatrix, []), (self.products, ["--products"])):
            if not path.exists():
                run(self.args.edgeling, "calibrate", self.args.model, "--text", self.args.calibration, "--out", path, *more)

    def path(self, name: str) -> Path:
        return self.folder / f"{self.args.model.stem.removesuffix('-f16')}-{name}.gguf"

    def asked(self, name: str) -> tuple[list, list | None]:
        """The arguments of both programs that make a file, but for where it goes to; none for what the other one does not make."""
        kind, _ = split(name)
        own, peer, peer_kind = ASKED.get(kind.upper(), ([kind.upper()], [], kind.upper()))
        if "high" in name:
            own, peer = [*own, "--effort", "high"], None
        matrix = ["--imatrix", self.products if "high" in name else self.imatrix] if "imatrix" in name else []
        return [*own, *matrix], None if peer is None else [*peer, *matrix, self.args.model, peer_kind]

    def wanted(self, name: str, kind: str) -> bool:
        """Whether a file's figures of a kind are there, or to be measured."""
        return not self.args.measured or (self.folder / f"{name}.{kind}").exists()

    def repeated(self, name: str, program: str, command: list) -> dict:
        """What the runs took at least, or what an earlier call found."""
        kept = self.folder / f"{name}.{program}.json"
        runs: list[dict] = []
        while not kept.exists() and len(runs) < self.args.repeat and all(run["cpu_seconds"] < LONG for run in runs):
            runs.append(run(*command))
        if runs:
            kept.write_text(json.dumps({key: min(run[key] for run in runs) for key in runs[0]}))
        return json.loads(kept.read_text())

    def quantize(self, name: str) -> dict:
        own, _ = self.asked(name)
        target = ["--out", self.path(name), "--threads", self.args.threads, "--force", "--json"]
        return self.repeated(name, "made", [self.args.edgeling, "quantize", self.args.model, *own, *target])

    def peer_quantize(self, name: str) -> dict | None:
        """llama-quantize makes the same file, which has to have the same bytes."""
        _, peer = self.asked(name)
        if peer is None or not self.wanted(name, "peer.json"):
            return None
        *options, kind = peer
        other = self.folder / f"{name}.peer.gguf"
        made = self.repeated(name, "peer", [self.args.peer / "llama-quantize", *options, other, kind, self.args.threads])
        if other.exists():
            if sha256(self.path(name)) != sha256(other):
                sys.exit(f"{other}: not the bytes of {self.path(name)}")
            other.unlink()
        return made

    def evaluate_by_peer(self, name: str) -> dict | None:
        """What llama-perplexity finds of a file; of the base it keeps the logits."""
        if not self.wanted(name, "perplexity.txt"):
            return None
        base = self.folder / "base.logits"
        kept = self.folder / f"{name}.perplexity.txt"
        common = ["-f", self.args.text, "-c", CONTEXT, "-b", CONTEXT, "-t", self.args.threads, "--kl-divergence-base", base]
        if not base.exists():
            self.perplexity(self.args.model, *common)
        if not kept.exists():
            kept.write_text(self.perplexity(self.path(name), *common, "--kl-divergence"))
        said = kept.read_text()
        found = perplexity_with_base(said)
        del found["running_perplexity"]
        found["base_perplexity"] = float(find(rf"Mean PPL\(base\)\s+:\s+{NUMBER}", said))
        found["top1_agreement"] = round(found.pop("top1_agreement_percent") / 100, 5)
        return found

    def perplexity(self, model: Path, *options: str | Path | int) -> str:
        command = [self.args.peer / "llama-perplexity", "-m", model, *options]
        done = subprocess.run([str(arg) for arg in command], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def compare(self, names: list[str]) -> list[dict]:
        """Size, quality and memory of the files as this program finds them, and the plot."""
        plotted = [name for name in names if split(name)[0] not in BESIDE]
        # The one plot is of the types, and the other of what can be made of them, too.
        first = [name for name in plotted if not name.endswith("-high")]
        rows = json.loads(self.compared.read_text()) if self.compared.exists() else {}
        on = ["--base", self.args.model, "--text", self.args.text, "--prompt", 512, "--generate", 8, "--repeat", 1]
        for group, more in ((first, ["--svg", DOCS / "types-size.svg"]), ([name for name in names if name not in first], [])):
            if not rows.keys() >= set(group):
                command = [self.args.edgeling, "compare", *map(self.path, group), *on, "--threads", self.args.threads, "--json", *more]
                done = subprocess.run([str(arg) for arg in command], stdout=subprocess.PIPE, text=True, check=True)
                rows |= zip(group, json.loads(done.stdout))
                self.compared.write_text(json.dumps(rows))
        return [fields(rows[name]) | {"plotted": name in plotted} for name in names]


def fields(row: dict) -> dict:
    wanted = ("type", "bytes", "bits_per_weight", "imatrix", "kl_mean", "kl_p99", "top1_agreement", "perplexity", "perplexity_error")
    return {name: row[name] for name in wanted} | {"run_memory_bytes": row["memory_bytes"]}


def markdown(rows: list[dict]) -> str:
    """Quality, then what making and running takes; a dash where there is no peer's figure."""

    def shown(row: dict, *keys: str, form: str = "{}", factor: float = 1) -> str:
        for key in keys:
            row = row.get(key) if row else None
        return "–" if row is None else form.format(row * factor)

    quality, cost = [], []
    for row in rows:
        kind, way = split(row["name"])
        name = f"| {kind.upper()} | {' + '.join(WAYS[way].ending.split('-')[1:])} "
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
    first = ["type", "with", "MB", "bits/weight"] + [f"{v}{w}" for w in ("", ", llama.cpp") for v in ("KL", "top-1 %", "perplexity")]
    second = ["type", "with", "encoding, CPU s", "llama-quantize", "its memory, MB", "llama-quantize", "memory to run, MB"]
    head = lambda names: ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join(head(first) + quality + [""] + head(second) + cost)


def bounds(rows: list[dict]) -> list[str]:
    """Where this program is further from its base than 1.02 times what llama.cpp is from its own and 1e-4, and by how much at most.

    Of first choices that differ there are so few that chance decides between the two programs: they may differ by two standard
    errors of llama.cpp's share more.
    """
    out = []
    figures = {"KL": lambda r: r["kl_mean"], "top-1 apart": lambda r: 1 - r["top1_agreement"], "perplexity": lambda r: r["perplexity"]}
    rows = [row for row in rows if "peer" in row]
    windows = rows[0]["peer"]["windows"]
    for what, of in figures.items():
        pairs = [(of(row), of(row["peer"]), row["name"]) for row in rows]
        ratios = sorted((a / b, name) for a, b, name in pairs)
        total = sum(a for a, _, _ in pairs) / sum(b for _, b, _ in pairs)
        (least, small), (most, large) = ratios[0], ratios[-1]
        out.append(f"{what}: ratio {least:.4f} ({small}) to {most:.4f} ({large}), of the sums {total:.4f}")
        for a, b, name in pairs:
            chance = 2 * math.sqrt(b * (1 - b) / POSITIONS / windows) if what.startswith("top") else 0
            if a > 1.02 * b + 1e-4:
                verdict = "within chance" if a <= 1.02 * b + 1e-4 + chance else "TOO FAR"
                out.append(f"  {name}: {a:.6f} beside {b:.6f}: {verdict}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("edgeling", "model", "calibration", "text", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only")
    parser.add_argument("--measured", action="store_true", help="show what is measured already")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    table = Table(args)
    table.calibrate()
    names = [name.lower() for name in PLAIN] + [f"{name.lower()}-imatrix" for name in WEIGHED] + [name.lower() + "-high" for name in HIGH]
    if args.only:
        names = [name for name in names if name in args.only.split(",")]
    made, peers = {}, {}
    for name in (name for name in names if table.wanted(name, "made.json")):
        made[name] = table.quantize(name)
        if args.peer:
            made[name] |= {"peer": theirs} if (theirs := table.peer_quantize(name)) else {}
            peers[name] = table.evaluate_by_peer(name)
        print(name, made[name], peers.get(name), flush=True)
    rows = []
    for name, row in zip(made, table.compare(list(made))):
        rows.append({"name": name, **row, "made": made[name]} | ({"peer": peers[name]} if peers.get(name) else {}))
    rows.sort(key=lambda row: (-row["bytes"], row["name"]))
    head = {"model_sha256": sha256(args.model), "text_sha256": sha256(args.text), "text_bytes": args.text.stat().st_size}
    head |= {"calibration_sha256": sha256(args.calibration), "context": CONTEXT}
    if args.peer:
        head["peer"] = {"tool": "llama.cpp", "commit": COMMIT}
    (DOCS / "types.json").write_text(json.dumps(head | {"rows": rows}, indent=1) + "\n")
    (DOCS / "types.svg").write_text(plot([row for row in rows if row["plotted"]]))
    page = DOCS / "types.md"
    begin, rest = page.read_text().split("<!-- begin of the tables -->")
    _, end = rest.split("<!-- end of the tables -->")
    tables = f"<!-- begin of the tables -->\n\n{markdown(rows)}\n\n<!-- end of the tables -->"
    page.write_text(begin + tables + end)
    if args.peer:
        print("\n".join(bounds(rows)))


if __name__ == "__main__":
    main()
