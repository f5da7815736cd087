"""Draw the ratios as SVG: a bar for each peer, and a mark at the goal."""

from collections.abc import Sequence
from html import escape
from math import log2
from typing import Any

from benchmarks.results import OURS, Goal, Result

WIDTH, LEFT, RIGHT = 900, 400, 90
LINE, GAP = 18, 12
LEAST, MOST = 0.25, 16.0
STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.goal{stroke:#222;stroke-width:2}"
    ".reached{fill:#3b7dd8}.missed{fill:#d88a3b}.one{stroke:#888;stroke-dasharray:3 3}.small{font-size:11px;fill:#555}"
)


def draw(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """Return an SVG of datamover's speed in relation to each peer's, on a logarithmic scale."""
    shapes: list[str] = []
    y = 50
    for result in results:
        compared = [way for way in result.values if way != OURS and all(goal.at_most is None for goal in result.goals)]
        if not compared:
            continue
        shapes.append(f'<text class="title" x="10" y="{y + 13}">{escape(result.title.replace("`", ""))}</text>')
        y += LINE + 2
        for way in compared:
            goal = next((goal for goal in result.goals if goal.against == way), Goal(way))
            value = result.judged(goal)
            kind = "reached" if goal.reached(value) else "missed"
            shapes.append(f'<text x="{LEFT - 10}" y="{y + 12}" text-anchor="end">{escape(way)}</text>')
            shapes.append(
                f'<rect class="{kind}" x="{LEFT}" y="{y + 1}" width="{_x(value) - LEFT:.0f}" height="{LINE - 4}"/>'
            )
            shapes.append(f'<text x="{_x(value) + 5:.0f}" y="{y + 12}">{value:.2f}</text>')
            if goal.at_least is not None:
                x = _x(goal.at_least)
                shapes.append(f'<line class="goal" x1="{x:.0f}" x2="{x:.0f}" y1="{y - 1}" y2="{y + LINE - 1}"/>')
            y += LINE
        y += GAP
    dates = sorted(result.at for result in results)
    subtitle = f"{dates[0]} – {dates[-1]}, {machine['cores']} cores, {machine['cpu']}, Linux {machine['kernel']}"
    versions = ", ".join(
        f"{name} {machine[name]}"
        for name in ("python", "openssh", "rclone", "aria2", "curl", "nginx")
        if name in machine
    )
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 50}" viewBox="0 0 {WIDTH} {y + 50}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{y + 50}" fill="#fff"/>',
        '<text class="title" x="10" y="20">Throughput of datamover over that of others (a black mark: the goal)</text>',
        f'<line class="one" x1="{_x(1):.0f}" x2="{_x(1):.0f}" y1="34" y2="{y}"/>',
        f'<text class="small" x="{_x(1):.0f}" y="32" text-anchor="middle">1 ×</text>',
    ]
    foot = [
        f'<text class="small" x="10" y="{y + 18}">{escape(subtitle)}</text>',
        f'<text class="small" x="10" y="{y + 36}">{escape(versions)}</text>',
        "</svg>",
    ]
    return "\n".join([*head, *shapes, *foot]) + "\n"


def _x(ratio: float) -> float:
    share = log2(min(max(ratio, LEAST), MOST) / LEAST) / log2(MOST / LEAST)
    return LEFT + share * (WIDTH - LEFT - RIGHT)
