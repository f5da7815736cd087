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

from datamover.concurrency.threads import Threads
from datamover.engine.groups import room
from datamover.errors import Scope, StartError
from datamover.protocols.base import Origin
from datamover.protocols.local import LOCAL
from datamover.protocols.local.refusals import DiskRefusals
from datamover.protocols.place import Options, Place, PlaceSettings

log = Logger()


class Stage:
    """One attempt's directory; made when something is put into it."""

    def __init__(self, root: Path, directory: Path, reactor: Any, threads: Threads) -> None:
        """``directory`` stands in that of a node, below ``root``."""
        self.directory = directory
        self._root = root
        self._threads = threads
        settings = PlaceSettings(
            name="staging",
            url=directory.as_uri(),
            file_mode=0o600,
            directory_mode=0o700,
            connect_timeout=30.0,
            idle_timeout=60.0,
        )
        self._pool = LOCAL.open(settings, Options(), reactor)

    @property
    def place(self) -> Place:
        """The directory as a place to write to."""
        return self._pool.at(Scope.DESTINATION)

    def origin(self, path: str) -> Origin:
        """Return what was made, to be read."""
        return self._pool.at(Scope.SOURCE).origin(path)

    async def reserve(self, size: int) -> None:
        """Set aside room for ``size`` bytes until it is closed.

        Raises NoSpace where the disk has not that much beyond what is set aside for others at work on this machine.
        """
        # To its end: a promise that is made after this was closed would never be taken back.
        with DiskRefusals("staging", Scope.SERVICE).about(self.directory.name):
            await self._threads.finish(_kept, room.promise, self._root, self.directory, size, _lives)

    async def make(self, directory: str) -> None:
        """Make a directory below it, and those above."""
        await self._threads.run(_make, self.directory / directory)

    async def close(self) -> None:
        """Remove it; completes when it is gone, and nothing that was cancelled can bring it back."""
        await self._pool.close()
        await self._threads.run(_remove, self.directory)


class Staging:
    """The staging directory of one node: ``root``/``node``."""

    def __init__(self, root: Path, node: str, reactor: Any, threads: Threads) -> None:
        self._root = root
        self._own = root / node
        self._lock: int | None = None
        self._reactor = reactor
        self._threads = threads

    def stage(self, name: str) -> Stage:
        """Return the directory of one attempt, by a name that no other has."""
        return Stage(self._root, self._own / name, self._reactor, self._threads)

    async def open(self) -> None:
        """Make the directory and sweep those whose node is gone; raises StartError."""
        try:
            self._lock = await self._threads.run(_open, self._root, self._own)
        except OSError as error:
            raise StartError(
                f"the staging directory {self._root} cannot be used: {error.strerror}: "
                "set [service] data_directory to one that this user may write"
            ) from None

    async def close(self) -> None:
        """Remove the directory; completes when it is gone."""
        lock, self._lock = self._lock, None
        if lock is not None:
            await self._threads.run(_close, self._own, lock)


def _open(root: Path, own: Path) -> int:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One at a time: who sweeps must not find a lock that is made and not held yet.
    with room.turn(root):
        _sweep(root)
        lock = os.open(_lock_path(own), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        own.mkdir(mode=0o700)
    return lock


def _lives(own: Path) -> bool:
    """Tell whether the process of a node's directory runs."""
    try:
        lock = os.open(_lock_path(own), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    room.forget(directory)


def _kept(_: None) -> None:
    """Keep a promise whose caller was cancelled: ``close`` takes it back."""


def _make(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True)


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
