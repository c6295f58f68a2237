#!/usr/bin/env python3
"""Shares of the roof by type, this program's and its peers', from the results that run.sh wrote.

usage: plot.py RESULTS_FOLDER OUT.svg
"""

import json
import sys
from html import escape
from pathlib import Path

BAR, GAP, NAME, WIDTH, VALUE, TOP = 14, 10, 190, 420, 120, 40
COLOURS = ["#1b6ca8", "#d98c3f", "#7a9e5f", "#9467bd"]
TITLES = {"pp": "prefill: share of the arithmetic peak", "tg": "decode: share of the read bandwidth"}


def text(x: float, y: float, what: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(what)}</text>'


def panel(left: int, kind: str, results: dict) -> tuple[list[str], int]:
    out, y = [text(left + NAME, 22, TITLES[kind], size=15)], TOP
    for name, rows in results.items():
        row = next(row for row in rows if row["test"].startswith(kind))
        bars = [("edgeling", row, "")] + [(p["command"], p, f", {p['ratio']:.2f} ×") for p in row["against"]]
        out.append(text(left + NAME - 8, y + BAR * len(bars) / 2 + 4, name, "end"))
        for i, (program, rates, ratio) in enumerate(bars):
            length = min(rates["share"], 1.0) * WIDTH
            label = f"{rates['share'] * 100:.0f} %, {rates['tps_median']:.0f} t/s{ratio}"
            out.append(f'<rect x="{left + NAME}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLOURS[i]}"/>')
            out.append(text(left + NAME + length + 5, y + BAR - 4, label, size=10))
            y += BAR
        y += GAP
    return out, y


def main() -> None:
    results = {path.stem: json.loads(path.read_text()) for path in sorted(Path(sys.argv[1]).glob("*.json"))}
    if not results:
        sys.exit(f"{sys.argv[1]} holds no results")
    step = NAME + WIDTH + VALUE
    (prefill, bottom), (decode, _) = panel(0, "pp", results), panel(step, "tg", results)
    programs = ["edgeling"] + [peer["command"] for peer in next(iter(results.values()))[0]["against"]]
    legend = []
    for i, program in enumerate(programs):
        legend.append(f'<rect x="{NAME + i * 160}" y="{bottom + 6}" width="12" height="12" fill="{COLOURS[i]}"/>')
        legend.append(text(NAME + i * 160 + 18, bottom + 16, program))
    size = f'width="{2 * step}" height="{bottom + 30}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
    body = ['<rect width="100%" height="100%" fill="white"/>', *prefill, *decode, *legend]
    Path(sys.argv[2]).write_text("\n".join([head, *body, "</svg>\n"]))


main()
