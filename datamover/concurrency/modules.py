"""How a module of ours is run in a process of its own: by this very Python, however this process was started."""

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent


def command(module: str) -> list[str]:
    """Return what runs a module; nothing that lies in the working directory is imported (-P)."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Return the environment in which the module is found and talks UTF-8."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
