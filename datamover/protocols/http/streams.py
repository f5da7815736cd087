"""How many connections one file may use: the configured number, less those in use for other files of its host.

A connection that a file was given counts as that file's while it is idle between two segments. A host that refused a
range, or sent a wrong one, gets no requests for ranges for a while: its files are read as one stream.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from datamover.web.url import WebUrl

FORGIVEN = 3600.0
"""Seconds until ranges are requested from the host again."""
REMEMBERED = 1024
"""Hosts that are remembered."""


@dataclass(frozen=True)
class StreamShare:
    """One file's share of the connections to its host."""

    room: Callable[[], int]
    """Returns how many more connections the file may use."""
    leave: Callable[[], None]


Join = Callable[[Callable[[], int]], StreamShare]
"""Returns a file's share; its argument returns how many of the file's connections are idle."""


class Streams:
    """The shares of a process; remembers the hosts that refused ranges."""

    def __init__(self, clock: IReactorTime, most: int, busy: Callable[[WebUrl], int]) -> None:
        """Allow ``most`` connections to a host; ``busy`` returns how many are in use."""
        self._clock = clock
        self._most = most
        self._busy = busy
        self._refusing: dict[Hashable, float] = {}
        """Host -> when it refused, the longest ago first."""
        self._files: dict[Hashable, list[Callable[[], int]]] = {}
        """Host -> for each file with a share, what returns how many of its connections are idle."""

    def join(self, url: WebUrl, unused: Callable[[], int]) -> StreamShare:
        """Return a share for the file at ``url``; call its ``leave`` when the file is read."""
        files = self._files.setdefault(url.origin, [])
        files.append(unused)

        def leave() -> None:
            if unused in files:
                files.remove(unused)
            if not files and self._files.get(url.origin) is files:
                del self._files[url.origin]

        return StreamShare(lambda: self._room(url), leave)

    def _room(self, url: WebUrl) -> int:
        if self._refuses(url.origin):
            return 0
        return self._most - self._busy(url) - sum(unused() for unused in self._files.get(url.origin, ()))

    def _refuses(self, host: Hashable) -> bool:
        return self._clock.seconds() - self._refusing.get(host, -FORGIVEN) < FORGIVEN

    @property
    def any_refused(self) -> bool:
        """Whether ranges are not to be requested from one of the hosts, for a while."""
        return any(map(self._refuses, self._refusing))

    def refused(self, url: WebUrl) -> None:
        """Remember that the host of ``url`` refused a range."""
        self._refusing.pop(url.origin, None)
        self._refusing[url.origin] = self._clock.seconds()
        if len(self._refusing) > REMEMBERED:
            del self._refusing[next(iter(self._refusing))]
