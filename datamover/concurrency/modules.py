"""The command that runs a module of datamover in a process of its own, with the Python of this process."""

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def command(module: str) -> list[str]:
    """Return the command that runs a module; with -P nothing is imported from the working directory."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Return an environment in which datamover is found and its standard streams are UTF-8."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
