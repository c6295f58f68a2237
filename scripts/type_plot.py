#!/usr/bin/env python3
"""The plot of docs/types.json: a row for each type, with the divergence of each of its files.

usage: type_plot.py docs/types.json OUT.svg
"""

import json
import math
import sys
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, NAME, FIGURES, TOP, ROW, BOTTOM = 960, 110, 120, 96, 24, 52
LEFT, RIGHT = NAME + 14, WIDTH - FIGURES - 26
TICKS = [m * 10**e for e in range(-4, 2) for m in (1, 2, 5)]


class Way(NamedTuple):
    """A way to make a file of a type."""

    style: str
    text: str
    ending: str
    """How its files' names end."""


WAYS = [
    Way("plain", "no importance matrix", ""),
    Way("weighed", "with an importance matrix", "-imatrix"),
    Way("own", "--effort high", "-high"),
    Way("searched", "--effort high, with an importance matrix", "-imatrix-high"),
]
STYLE = """
.ground{fill:#fff}.stripe{fill:#f6f8fa}.grid{stroke:#d8dee4}.span{stroke:#afb8c1;stroke-width:2}
text{fill:#1f2328;font-family:system-ui,sans-serif;font-size:13px}.faint{fill:#59636e;font-size:12px}.title{font-size:16px;font-weight:600}
.plain{fill:#1f6fb5;stroke:#1f6fb5}.weighed{fill:#cc6600;stroke:#cc6600}.own{fill:#7a4fc4;stroke:#7a4fc4}.searched{fill:#1a8240;stroke:#1a8240}
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}.stripe{fill:#161b22}.grid{stroke:#2b323b}.span{stroke:#57606a}
text{fill:#e6edf3}.faint{fill:#9198a1}.plain{fill:#58a6ff;stroke:#58a6ff}.weighed{fill:#f0a04b;stroke:#f0a04b}
.own{fill:#b692f6;stroke:#b692f6}.searched{fill:#4ac26b;stroke:#4ac26b}}
.dot{stroke:none}.ring{fill:none;stroke-width:1.5}
"""


def split(name: str) -> tuple[str, int]:
    """A file's type, and the place of its way among WAYS."""
    way = max((i for i in range(len(WAYS)) if name.endswith(WAYS[i].ending)), key=lambda i: len(WAYS[i].ending))
    return name.removesuffix(WAYS[way].ending), way


def text(x: float, y: float, what: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(what)}</text>'


def marks(kind: str, x: float, y: float, peer: float | None) -> list[str]:
    """A dot for this program, a ring for llama.cpp."""
    out = [f'<circle class="{kind} dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>']
    if peer is not None:
        out.append(f'<circle class="{kind} ring" cx="{peer:.1f}" cy="{y:.1f}" r="7"/>')
    return out


def legend(ways: list[int]) -> list[str]:
    out, x = [], float(LEFT)
    for way in (WAYS[i] for i in ways):
        out += marks(way.style, x + 5, TOP - 48, None) + [text(x + 15, TOP - 44, way.text, "faint")]
        x += 34 + 6.5 * len(way.text)
    y = 20
    out += marks("plain", WIDTH - 276, y, None) + [text(WIDTH - 266, y + 4, "run here", "faint")]
    out += marks("plain", WIDTH - 182, y, WIDTH - 182)[1:] + [text(WIDTH - 166, y + 4, "the same file in llama.cpp", "faint")]
    return out


def plot(rows: list[dict]) -> str:
    types: dict[str, list[tuple[int, dict]]] = {}
    for row in sorted(rows, key=lambda row: -row["bytes"]):
        name, way = split(row["name"])
        types.setdefault(name, []).append((way, row))
    values = [v for row in rows for v in (row["kl_mean"], row.get("peer", row)["kl_mean"])]
    low, high = (math.log10(f(values)) for f in (min, max))
    low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    at = lambda value: LEFT + (math.log10(value) - low) / (high - low) * (RIGHT - LEFT)
    end = TOP + ROW * len(types)
    body = [text(LEFT, 25, "Divergence from F16 in each type", "title")]
    body += legend(sorted({split(row["name"])[1] for row in rows}))
    for i in range(0, len(types), 2):
        body.append(f'<rect class="stripe" x="0" y="{TOP + ROW * i}" width="{WIDTH}" height="{ROW}"/>')
    for tick in TICKS:
        if low <= math.log10(tick) <= high:
            x = at(tick)
            body.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{end}"/>')
            body.append(text(x, end + 18, f"{tick:g}", "faint", "middle"))
    body.append(text((LEFT + RIGHT) / 2, end + 40, "KL divergence, mean, nats (further left is better)", "", "middle"))
    body.append(text(WIDTH - 72, TOP - 8, "bits/weight", "faint", "end"))
    body.append(text(WIDTH - 14, TOP - 8, "MB", "faint", "end"))
    for i, (name, files) in enumerate(types.items()):
        y, (_, first) = TOP + ROW * (i + 0.5), min(files, key=lambda file: file[0])
        body.append(text(NAME, y + 4.5, name.upper(), "", "end"))
        body.append(text(WIDTH - 72, y + 4.5, f"{first['bits_per_weight']:.2f}", "faint", "end"))
        body.append(text(WIDTH - 14, y + 4.5, f"{first['bytes'] / 1e6:.1f}", "faint", "end"))
        places = [at(row["kl_mean"]) for _, row in files]
        if len(files) > 1:
            body.append(f'<line class="span" x1="{min(places):.1f}" y1="{y}" x2="{max(places):.1f}" y2="{y}"/>')
        for (way, row), x in zip(files, places):
            body += marks(WAYS[way].style, x, y, at(row["peer"]["kl_mean"]) if "peer" in row else None)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{end + BOTTOM}" viewBox="0 0 {WIDTH} {end + BOTTOM}">'
    return "\n".join([head, f"<style>{STYLE}</style>", '<rect class="ground" width="100%" height="100%"/>', *body, "</svg>", ""])


if __name__ == "__main__":
    shown = [row for row in json.loads(Path(sys.argv[1]).read_text())["rows"] if row["plotted"]]
    Path(sys.argv[2]).write_text(plot(shown))
