"""How many connections one file may be read over: what is configured, less what serves others of its host.

A host that did not give out a range, or another's, is not asked for ranges again for a while: its files come as one
stream, which it had nothing against.
"""

from collections.abc import Callable, Hashable

from twisted.internet.interfaces import IReactorTime

from datamover.registry.urls import WebUrl

FORGIVEN = 3600.0
"""Seconds after which a host is asked again."""
REMEMBERED = 1024
"""Hosts that are remembered for it."""


class Streams:
    """Of one process; remembers the hosts of which a range was asked in vain."""

    def __init__(self, clock: IReactorTime, most: int, busy: Callable[[WebUrl], int]) -> None:
        """Allow ``most`` connections to a host; ``busy`` tells how many serve a request now."""
        self._clock = clock
        self._most = most
        self._busy = busy
        self._refusing: dict[Hashable, float] = {}
        """Host -> when it refused, the longest ago first."""

    def room(self, url: WebUrl) -> int:
        """Return how many more connections the file at ``url`` may be read over."""
        if self._clock.seconds() - self._refusing.get(url.origin, -FORGIVEN) < FORGIVEN:
            return 0
        return self._most - self._busy(url)

    def refused(self, url: WebUrl) -> None:
        """Remember that a range was asked for in vain."""
        self._refusing.pop(url.origin, None)
        self._refusing[url.origin] = self._clock.seconds()
        if len(self._refusing) > REMEMBERED:
            del self._refusing[next(iter(self._refusing))]
