"""A disk of this machine whose calls fail: the protocol ``broken``, as in ``broken:///srv?call=write&error=EIO&at=4096``.

It is ``file`` in everything; what fails is the system's call for a file below that directory: ``write`` (at byte
``at`` or behind), ``read`` (likewise), ``sync`` or ``rename``; with ``error``, an errno's name; ``times`` times
(1), or until the process ends (0).
"""

import errno
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import datamover.protocols
from datamover.protocols.place import DestinationPool, PlaceSettings
from tests.protocols.over_local import OverLocal


@dataclass(slots=True)
class Plan:
    """What is to fail."""

    root: str
    call: str
    error: int
    at: int
    times: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failed: int = 0

    def check(self, call: str, path: str, offset: int) -> None:
        """Raise OSError where it is time for that."""
        if call != self.call or not path.startswith(f"{self.root}/") or offset < self.at:
            return
        with self._lock:
            self._failed += 1
            if self.times and self._failed > self.times:
                return
        raise OSError(self.error, os.strerror(self.error))


class Broken(OverLocal):
    """``protocols.place.PlaceProtocol`` of ``broken:///…``."""

    name = "broken"
    schemes: ClassVar[tuple[str, ...]] = ("broken",)

    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        told = {key: value for key, (value,) in parse_qs(urlsplit(settings.url).query).items()}
        error = getattr(errno, told["error"])
        at, times = int(told.get("at", 0)), int(told.get("times", 1))
        self.plans.append(Plan(self.root(settings.url), told["call"], error, at, times))
        return super().open(settings, options, reactor)

    def check(self, call: str, path: str, offset: int = 0) -> None:
        for plan in self.plans:
            plan.check(call, path, offset)


def install() -> None:
    """Have the protocol in this process, and calls that fail where it says so; before the registry is imported."""
    assert "datamover.registry.destinations" not in sys.modules
    broken = Broken()
    datamover.protocols.PLACES = (*datamover.protocols.PLACES, broken)
    pwrite, pwritev, pread, fsync, rename = os.pwrite, os.pwritev, os.pread, os.fsync, os.rename

    def failing(call: str, original: Callable[[int, Any, int], Any]) -> Callable[[int, Any, int], Any]:
        def checked(descriptor: int, data: Any, offset: int) -> Any:
            broken.check(call, _path(descriptor), offset + _size(data))
            return original(descriptor, data, offset)

        return checked

    def checked_fsync(descriptor: int) -> None:
        broken.check("sync", _path(descriptor))
        fsync(descriptor)

    def checked_rename(old: Any, new: Any, **directories: Any) -> None:
        if "dst_dir_fd" in directories:
            broken.check("rename", f"{_path(directories['dst_dir_fd'])}/{os.fsdecode(new)}")
        rename(old, new, **directories)

    calls = {
        "pwrite": failing("write", pwrite),
        "pwritev": failing("write", pwritev),
        "pread": failing("read", pread),
        "fsync": checked_fsync,
        "rename": checked_rename,
    }
    for name, call in calls.items():
        setattr(os, name, call)


def _size(data: Any) -> int:
    """Return the bytes that a call moves: a number of them, one buffer, or several."""
    if isinstance(data, int):
        return data
    return sum(map(len, data)) if isinstance(data, list) else len(data)


def _path(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())
