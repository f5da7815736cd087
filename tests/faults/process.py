"""A process of datamover that is prepared to break: ``process.py FAULTS CONFIG``, what ``twistd`` would run.

FAULTS is JSON: ``points`` has the points and signals of ``points``, ``gate`` is the file of a ``gate``. The protocol
``broken`` is there always, and what was left behind is swept soon. Nothing else of the service is replaced.
"""

import json
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.faults import broken
from tests.servers.preloaded import Program
from tests.servers.service import Command

SOON = 1.0
"""Seconds until what was left at a destination that was away is looked for."""
SWEEPING = 5.0
"""Seconds that one attempt to remove it may take."""


def command(
    point: str | None = None, number: int = signal.SIGKILL, *, then: str | None = None, gate: Path | None = None
) -> Command:
    """Return what runs an engine that sends itself a signal at ``point`` and moves no further than ``gate`` lets it.

    If it goes on after that signal, it kills itself at the point ``then``.
    """
    points = [(each, int(sent)) for each, sent in ((point, number), (then, signal.SIGKILL)) if each is not None]
    faults = json.dumps({"points": points, "gate": None if gate is None else str(gate)})
    return lambda config: Program(__name__, (sys.executable, "-m", __name__), (faults, str(config)))


def prepare() -> None:
    """Have the protocol ``broken``; before the registry is imported."""
    broken.install()


def run() -> None:
    """Run datamover with the faults that the command line names."""
    faults, config = json.loads(sys.argv[1]), sys.argv[2]
    # These import the registry.
    maintenance: Any = import_module("datamover.engine.maintenance")
    work: Any = import_module("datamover.jobs.work")
    points: Any = import_module("tests.faults.points")
    gate: Any = import_module("tests.faults.gate")
    maintenance.LOOKING, work.SWEEPING = SOON, SWEEPING
    for point, number in faults["points"]:
        points.install(point, number)
    if faults["gate"] is not None:
        gate.install(Path(faults["gate"]))
    twistd: Any = import_module("twisted.scripts.twistd")
    sys.argv = ["twistd", "-n", "--pidfile=", "datamover", "--config", config]
    twistd.run()


if __name__ == "__main__":
    prepare()
    run()
