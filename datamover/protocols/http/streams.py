"""How many connections one file may be read over: what is configured, less what serves others of its host.

A connection that a file was given counts as its own while it waits for its turn in the file, and serves nobody.

A host that did not give out a range, or another's, is not asked for ranges again for a while: its files come as one
stream, which it had nothing against.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from datamover.web.url import WebUrl

FORGIVEN = 3600.0
"""Seconds after which a host is asked again."""
REMEMBERED = 1024
"""Hosts that are remembered for it."""


@dataclass(frozen=True)
class StreamShare:
    """What one file has of its host's connections."""

    room: Callable[[], int]
    """Tells how many more it may be read over."""
    leave: Callable[[], None]


Join = Callable[[Callable[[], int]], StreamShare]
"""Asks for a file's share; is told what tells how many connections were given to the file that serve it not now."""


class Streams:
    """Of one process; remembers the hosts of which a range was asked in vain."""

    def __init__(self, clock: IReactorTime, most: int, busy: Callable[[WebUrl], int]) -> None:
        """Allow ``most`` connections to a host; ``busy`` tells how many serve a request now."""
        self._clock = clock
        self._most = most
        self._busy = busy
        self._refusing: dict[Hashable, float] = {}
        """Host -> when it refused, the longest ago first."""
        self._files: dict[Hashable, list[Callable[[], int]]] = {}
        """Host -> what tells, for each file with a share, how many of its connections serve it not now."""

    def join(self, url: WebUrl, unused: Callable[[], int]) -> StreamShare:
        """Return a share for the file at ``url``, to be left when that is read."""
        files = self._files.setdefault(url.origin, [])
        files.append(unused)

        def leave() -> None:
            if unused in files:
                files.remove(unused)
            if not files and self._files.get(url.origin) is files:
                del self._files[url.origin]

        return StreamShare(lambda: self._room(url), leave)

    def _room(self, url: WebUrl) -> int:
        if self._clock.seconds() - self._refusing.get(url.origin, -FORGIVEN) < FORGIVEN:
            return 0
        return self._most - self._busy(url) - sum(unused() for unused in self._files.get(url.origin, ()))

    def refused(self, url: WebUrl) -> None:
        """Remember that a range was asked for in vain."""
        self._refusing.pop(url.origin, None)
        self._refusing[url.origin] = self._clock.seconds()
        if len(self._refusing) > REMEMBERED:
            del self._refusing[next(iter(self._refusing))]
