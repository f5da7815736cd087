"""An engine that kills or stops itself at a named point of a file's story: ``points.py POINT SIGNAL CONFIG``.

Nothing of the service is replaced; where the point is reached, the process is gone, as by kill -9.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

STORY = {
    "claimed": ("datamover.jobs.queue", "Queue.claim", "after"),
    "source opened": ("datamover.engine.transfer", "_Story._open", "after"),
    "part file opened": ("datamover.engine.pipe", "Pipe.pump", "before"),
    "all sent": ("datamover.engine.pipe", "Pipe.pump", "after"),
    "verified": ("datamover.engine.transfer", "_Story._verify", "after"),
    "about to be placed": ("datamover.engine.transfer", "place", "before"),
    "placed": ("datamover.engine.transfer", "place", "after"),
    "about to be written down": ("datamover.jobs.queue", "Queue.settle", "before"),
    "written down": ("datamover.jobs.queue", "Queue.settle", "after"),
    "archive made": ("datamover.engine.group", "GroupAttempt._archive", "after"),
    "placement written down": ("datamover.jobs.queue", "Queue.placing", "after"),
    "archive placed": ("datamover.engine.group", "GroupAttempt._place", "after"),
}
"""Name -> module, function, whether before or after it."""
POINTS = {**STORY, "claiming": ("datamover.jobs.queue", "Queue._members", "before")}


def command(point: str, number: int = signal.SIGKILL) -> Callable[[Path], list[str]]:
    """Return what runs an engine that sends itself a signal at ``point``."""
    return lambda config: [sys.executable, __file__, point, str(int(number)), str(config)]


def _end_at(point: str, number: int) -> None:
    module, path, when = POINTS[point]
    holder: Any = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    original = getattr(holder, name)

    @wraps(original)
    async def ending(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), number)
        result = await original(*arguments, **named)
        if result or name != "claim":
            os.kill(os.getpid(), number)
        return result

    setattr(holder, name, ending)


def _main(point: str, number: str, config: str) -> None:
    twistd: Any = import_module("twisted.scripts.twistd")
    _end_at(point, int(number))
    sys.argv = ["twistd", "-n", "--pidfile=", "datamover", "--config", config]
    twistd.run()


if __name__ == "__main__":
    _main(*sys.argv[1:])
