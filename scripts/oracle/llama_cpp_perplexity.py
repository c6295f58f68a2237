#!/usr/bin/env python3
"""Perplexity and KL divergence of SmolLM2 files as llama-perplexity measures them, one run at a time.

usage: llama_cpp_perplexity.py LLAMA_CPP_BIN MODELS_FOLDER english.txt OUT.json

MODELS_FOLDER is what llama_cpp_models.sh made, english.txt what english_text.py wrote. The F16 file is the base of the KL
divergence; its logits (1.2 GB, rounded to 16 bits by llama-perplexity) lie in a temporary file meanwhile.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT = 512
COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
BASE = "f16"
TYPES = ["published-q4_1", "q8_0", "q4_0", "q4_k_m", "q4_1", "q5_0", "q5_1", "q5_k_m", "q6_k", "bf16", "f32"]
# All in float32: llama-perplexity's usual attention is a fused kernel that rounds to float16 inside, its cache is float16,
# and F16 weights meet activations rounded to F16. So this one is the nearest to the true value.
EXACT = "f32 with float32 cache and unfused attention"
EXACT_OPTIONS = ["-fa", "off", "-ctk", "f32", "-ctv", "f32"]

NUMBER = r"(-?\d+\.\d+)"
KL_LINES = {
    "kl_mean": rf"Mean\s+KLD:\s+{NUMBER}",
    "kl_mean_error": rf"Mean\s+KLD:\s+\S+\s+±\s+{NUMBER}",
    "kl_p99": rf"99\.0%\s+KLD:\s+{NUMBER}",
    "kl_max": rf"Maximum KLD:\s+{NUMBER}",
    "top1_agreement_percent": rf"Same top p:\s+{NUMBER}",
}


def find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        sys.exit(f"llama-perplexity printed nothing that matches {pattern!r}:\n{text[-2000:]}")
    return match[1]


def perplexity_of_base(text: str) -> dict:
    """The fields of a plain run, whose output ends in `Final estimate: PPL = … +/- …` after the running estimates."""
    running = re.findall(r"\[\d+\](\d+\.\d+)", text)
    return {
        "perplexity": float(find(rf"PPL = {NUMBER}", text)),
        "perplexity_error": float(find(rf"PPL = \S+ \+/- {NUMBER}", text)),
        "windows": int(find(r"over (\d+) chunks", text)),
        "running_perplexity": [float(r) for r in running],
    }


def perplexity_with_base(text: str) -> dict:
    """The fields of a run with --kl-divergence, whose output has a table of running estimates and a summary."""
    running = re.findall(rf"^\s*\d+\s+{NUMBER} ±", text, re.MULTILINE)
    return {
        "perplexity": float(find(rf"Mean PPL\(Q\)\s+:\s+{NUMBER}", text)),
        "perplexity_error": float(find(rf"Mean PPL\(Q\)\s+:\s+\S+\s+±\s+{NUMBER}", text)),
        "windows": len(running),
        **{name: float(find(pattern, text)) for name, pattern in KL_LINES.items()},
        "running_perplexity": [float(r) for r in running],
    }


def main() -> None:
    bin_folder, models, text, out = map(Path, sys.argv[1:5])
    results = {}
    with tempfile.TemporaryDirectory() as tmp:
        logits = Path(tmp) / "base.logits"

        def run(kind: str, *options: str) -> str:
            model = models / f"smollm2-135m-{kind}.gguf"
            common = ["-c", str(CONTEXT), "-b", str(CONTEXT), "-t", "2", "--kl-divergence-base", str(logits), *options]
            done = subprocess.run(
                [bin_folder / "llama-perplexity", "-m", model, "-f", text, *common], capture_output=True, text=True, check=True
            )
            return done.stdout + done.stderr

        results[BASE] = perplexity_of_base(run(BASE))
        runs = [(kind, kind, []) for kind in TYPES] + [(EXACT, "f32", EXACT_OPTIONS)]
        for name, kind, options in runs:
            results[name] = perplexity_with_base(run(kind, "--kl-divergence", *options))
            print(name, {k: v for k, v in results[name].items() if k != "running_perplexity"}, flush=True)
    for result in results.values():
        # A window scores the predictions of its second half: positions 256..=510 predict tokens 257..=511.
        result["scored_tokens"] = result["windows"] * (CONTEXT - 1 - CONTEXT // 2)
    head = {
        "tool": "llama-perplexity",
        "commit": COMMIT,
        "command": f"llama-perplexity -m smollm2-135m-TYPE.gguf -f english.txt -c {CONTEXT} -b {CONTEXT} -t 2 "
        "--kl-divergence-base base.logits [--kl-divergence, for all but the base]",
        "exact_options": " ".join(EXACT_OPTIONS),
        "text_sha256": hashlib.sha256(text.read_bytes()).hexdigest(),
        "text_bytes": text.stat().st_size,
        "context": CONTEXT,
        "kl_base": BASE,
    }
    out.write_text(dump(head | {"results": results}))


def dump(value: dict) -> str:
    """Indented JSON with each list of numbers on one line."""
    text = json.dumps(value, indent=2)
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda m: re.sub(r"\s+", " ", m[0]).replace("[ ", "[").replace(" ]", "]"), text) + "\n"


if __name__ == "__main__":
    main()
