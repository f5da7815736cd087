"""Find where paths of this machine lead, and how two of them relate, as the file system sees it.

Names are compared by the files that they lead to: links, ``..``, bind mounts, spelling and case make no difference
where the file system makes none. What does not exist yet is compared by its name. Everything here blocks.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from threading import Thread
from time import monotonic

PATIENCE = 2.0
"""Seconds that paths are waited for: a network file system whose server is away never answers."""
_LINKS = 40
"""Symbolic links that are followed in one path; the kernel has the same limit."""

Identity = tuple[int, int] | str


@dataclass(frozen=True, slots=True)
class Location:
    """The location that a path leads to."""

    path: str
    """Without links and ``..``, as far as it exists."""
    identity: Identity
    above: tuple[Identity, ...]
    """The identities of the directories above, the root directory first."""
    way: frozenset[Identity]
    """The identities of everything on the way here, links and this included."""

    def is_way_to(self, other: "Location") -> bool:
        """Tell whether the other path leads here or through here, so that changes below here may change it."""
        return self.identity in other.way

    def below(self, other: "Location") -> list[str] | None:
        """Return the names from ``other`` down to here, [] for the same location; None where this is not below it."""
        names = self.path.split("/")[1:] if self.above else []
        for depth, identity in enumerate((*self.above, self.identity)):
            if identity == other.identity:
                return names[depth:]
        return None


def find(path: str) -> Location:
    """Return where an absolute path leads."""
    here, todo = "/", path.split("/")[::-1]
    way, links = {_identity(here)}, 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        passed = os.path.join(here, name)
        way.add(_identity(passed))
        link = _link(passed) if links < _LINKS else None
        if link is None:
            here = passed
            continue
        links += 1
        here = "/" if link.startswith("/") else here
        todo += link.split("/")[::-1]
    parents = []
    above = here
    while above != "/":
        above = os.path.dirname(above)
        parents.append(_identity(above))
    return Location(here, _identity(here), tuple(reversed(parents)), frozenset(way))


def find_all(paths: Collection[str]) -> dict[str, Location]:
    """Return where paths lead; those that do not answer in time are left out."""
    found: dict[str, Location] = {}

    def look(path: str) -> None:
        found[path] = find(path)

    # Not the reactor's threads: one that hangs would keep the process from ending.
    threads = [Thread(target=look, args=(path,), daemon=True) for path in set(paths)]
    deadline = monotonic() + PATIENCE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    return dict(found)


def _identity(path: str) -> Identity:
    try:
        status = os.lstat(path)
    except (OSError, ValueError):  # ValueError: a NUL in it
        return path
    return status.st_dev, status.st_ino


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except (OSError, ValueError):
        return None
