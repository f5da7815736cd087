"""Staging: a directory of this node's own disk, where what must be made is made before it moves.

Each group at work has a directory of its own in it, gone when its attempt ends. A node that dies leaves its
directories behind; they are swept by the next process that starts here, told by a lock that dies with its holder.
"""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from datamover.engine.digest import Offload
from datamover.errors import Scope, StartError
from datamover.protocols.base import Options, Place, PlaceSettings
from datamover.protocols.local import LOCAL

log = Logger()


class Staging:
    """The staging directory of one node: ``root``/``node``."""

    def __init__(self, root: Path, node: str, reactor: Any, offload: Offload) -> None:
        self._root = root
        self._own = root / node
        self._lock: int | None = None
        self._offload = offload
        settings = PlaceSettings(
            name="staging",
            url=self._own.as_uri(),
            file_mode=0o600,
            directory_mode=0o700,
            connect_timeout=30.0,
            idle_timeout=60.0,
        )
        self._pool = LOCAL.open(settings, Options(), reactor)

    @property
    def place(self) -> Place:
        """The directory as what is staged goes into it; its errors are the service's."""
        return self._pool.at(Scope.DESTINATION)

    def origin_place(self) -> Place:
        """The directory as what was made is read from it."""
        return self._pool.at(Scope.SOURCE)

    async def open(self) -> None:
        """Make the directory and sweep those whose node is gone; raises StartError."""
        try:
            self._lock = await self._offload(_open, self._root, self._own)
        except OSError as error:
            raise StartError(
                f"the staging directory {self._root} cannot be used: {error.strerror}: "
                "set [service] data_directory to one that this user may write"
            ) from None

    async def close(self) -> None:
        """Remove the directory; completes when it is gone."""
        await self._pool.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            await self._offload(_close, self._own, lock)

    def path(self, group: str, name: str = "") -> Path:
        """Return where on the disk a file of a group stands."""
        return self._own / group / name

    async def clear(self, group: str) -> None:
        """Remove a group's directory."""
        await self._offload(shutil.rmtree, self._own / group, True)


def _open(root: Path, own: Path) -> int:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(root)
    lock = os.open(_lock_path(own), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    own.mkdir(mode=0o700)
    return lock


def _close(own: Path, lock: int) -> None:
    shutil.rmtree(own, ignore_errors=True)
    _lock_path(own).unlink(missing_ok=True)
    os.close(lock)


def _sweep(root: Path) -> None:
    for path in root.glob("*.lock"):
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)  # Its node lives.
        else:
            _close(path.with_suffix(""), lock)


def _lock_path(own: Path) -> Path:
    return own.with_name(f"{own.name}.lock")
