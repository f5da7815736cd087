"""A place for files that are memory: what is written there often takes a fifth of a disk's time."""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM = 2 * 2**30
"""Bytes that must be free; containers often have less."""


def prefix(what: str) -> str:
    """Return how the names of this process's directories of some kind begin."""
    return f"datamover-{what}-{os.getpid()}-"


def place(what: str) -> Path | None:
    """Return where directories named by ``prefix`` may be made; None: not in memory.

    Those that killed processes left there are removed. A PostgreSQL whose directory is gone ends by itself.
    """
    if not _MEMORY.is_dir():
        return None
    for left in _MEMORY.glob(f"datamover-{what}-*-*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)  # Another process may be at it too.
    return _MEMORY if shutil.disk_usage(_MEMORY).free >= _ROOM else None
