"""The state that all channels of a wayward server share, and a parsed request."""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.wayward.misbehaviour import Misbehaviour, Way
from tests.servers.wayward.packets import NUMBER, STATUS, string

Ways = dict[Way, Misbehaviour]
"""The misbehaviour that applies to one request."""
Answer = tuple[int, bytes]
"""Kind and body."""


def status(code: int, words: str = "") -> Answer:
    return STATUS, NUMBER.pack(code) + string(words.encode()) + string(b"")


OK = status(0)
EOF = 1


class Refused(Exception):
    """A request is answered by a status other than OK."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.answer = status(code, words)

    @classmethod
    def by(cls, way: Misbehaviour) -> "Refused":
        return cls(way.code, way.words)


@dataclass(slots=True)
class Asked:
    """One request."""

    request: str
    paths: list[str]
    act: Callable[[Ways], Answer | None]
    """Handles it; None is OK. Raises Refused and OSError."""
    tags: set[str] = field(default_factory=set)
    """The properties that ``Misbehaviour.having`` may name."""
    told: dict[str, Any] = field(default_factory=dict)
    """Further details, for ``Wayward.asked``."""
    otherwise: Callable[[], None] = lambda: None
    """What happens even if the request is not executed."""

    def __post_init__(self) -> None:
        if self.paths:
            self.tags = self.tags | {"there" if os.path.lexists(self.paths[0]) else "missing"}


class World:
    """The files, the misbehaviours, and the requests received."""

    def __init__(self, root: Path, spools: Path) -> None:
        self.root = str(root)
        self.spools = spools
        """The directory of files that appear only when they are closed."""
        self.opened: dict[tuple[int, bytes], str] = {}
        """Channel and handle -> open file."""
        self.writers: dict[str, bytes] = {}
        """A file's path -> the handle that writes it in order."""
        self._misbehaviours: defaultdict[str, list[tuple[int, Misbehaviour]]] = defaultdict(list)
        self._fitted: list[int] = []
        """How often each misbehaviour has matched, in their order."""
        self.met: list[int] = []
        """How often each was applied, in their order."""
        self._asked: list[dict[str, Any]] = []

    def misbehave(self, misbehaviours: list[Misbehaviour]) -> None:
        self._misbehaviours = defaultdict(list)
        for index, each in enumerate(misbehaviours):
            self._misbehaviours[each.request].append((index, each))
        self._fitted = [0] * len(misbehaviours)
        self.met = [0] * len(misbehaviours)

    def ways(self, asked: Asked, user: str) -> Ways:
        """Record a user's request, and return the misbehaviour that applies to it."""
        paths = [self._relative(path) for path in asked.paths]
        self._asked.append({"request": asked.request, "path": paths[0], **asked.told})
        found: Ways = {}
        for index, each in self._misbehaviours[asked.request]:
            if each.fits(user, asked.request, paths, asked.tags):
                self._fitted[index] += 1
                if each.nth in (None, self._fitted[index]):
                    self.met[index] += 1
                    found.setdefault(each.way, each)
        return found

    def take_asked(self) -> list[dict[str, Any]]:
        """Return the requests since the last call."""
        asked, self._asked = self._asked, []
        return asked

    def open_files(self) -> list[str]:
        """Return the paths of open files, relative to the root."""
        return [self._relative(path) for path in self.opened.values()]

    def _relative(self, path: str) -> str:
        return path.rstrip("/").removeprefix(self.root).lstrip("/")
