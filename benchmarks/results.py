"""The results of a run: the figures, the ratios, and whether a goal is reached; as JSON and as a table."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datamover
from tests.servers.rclone import CURRENT
from tests.servers.s3 import SCRIPTS

OURS = "datamover"
S5CMD = str(SCRIPTS / "s5cmd")
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Goal:
    """The ratio of datamover's figure to one peer's, or an absolute figure if the peer is None."""

    against: str | None
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    @property
    def text(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(slots=True)
class Result:
    """One row: the values of each way, in the order of measurement."""

    row: str
    title: str
    unit: str
    values: dict[str, list[float]]
    goals: list[Goal]
    notes: str = ""
    at: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M"))

    def median(self, way: str) -> float:
        return statistics.median(self.values[way])

    def judged(self, goal: Goal) -> float:
        """Return the figure to which a goal applies."""
        ours = self.median(OURS)
        return ours if goal.against is None else ours / self.median(goal.against)


def save(result: Result, machine: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**asdict(result), "machine": machine}, indent=1, ensure_ascii=False)
    (RESULTS / f"{result.row}.json").write_text(text + "\n")


def load() -> tuple[list[Result], dict[str, Any]]:
    """Return the stored result of each row, and the machine of the latest."""
    results, machine = [], {}
    for path in sorted(RESULTS.glob("*.json"), key=lambda path: path.stat().st_mtime):
        read = json.loads(path.read_text())
        machine = read.pop("machine")
        results.append(Result(**{**read, "goals": [Goal(**goal) for goal in read["goals"]]}))
    return results, machine


def table(results: Sequence[Result]) -> str:
    """Return the results in Markdown."""
    lines = [
        "| row | | median (min–max) | n | ratio | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for way, values in result.values.items():
            goal = next((goal for goal in result.goals if goal.against == (None if way == OURS else way)), None)
            judged = ("", "", "")
            if goal is not None:
                value = result.judged(goal)
                judged = (
                    f"{value:.2f}" if goal.against else "",
                    goal.text,
                    "reached" if goal.reached(value) else "**not reached**",
                )
            elif way != OURS:
                judged = (f"{result.judged(Goal(way)):.2f}", "", "")
            span = f"{_figure(result.median(way))} ({_figure(min(values))}–{_figure(max(values))}) {result.unit}"
            lines.append(
                f"| {result.title if way == OURS else ''} | {way} | {span} | {len(values)} | {' | '.join(judged)} |"
            )
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def this_machine() -> dict[str, Any]:
    """Return the cores, the system, and the versions of everything that is measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu[1] if cpu else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "datamover": datamover.__version__,
        "openssh": _said("ssh", "-V"),
        "rclone": _said(CURRENT, "version"),
        "s5cmd": _said(S5CMD, "version"),
        "aria2": _said("aria2c", "--version"),
        "curl": _said("curl", "--version"),
        "nginx": _said("nginx", "-v"),
    }


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+\w*", done.stdout + done.stderr)
    return found[0] if found else f"unknown ({sys.platform})"
