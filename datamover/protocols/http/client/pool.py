"""Connections to web servers: made within a time, kept alive for the next request, dropped for certain.

A connection is kept for the scheme, host and port that it was made for, and serves their requests alone. So the
``[sources]`` rules hold on a kept one as on a new one: every URL is judged before it is asked for, which where its host
is an address judges that too, and what a name's addresses are judged by is the same for all URLs of one scheme, host
and port.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint

from datamover.protocols.http.client.connection import Connection, Connections

KEPT_PER_HOST = 128
KEPT_FOR = 30.0
"""Seconds that an idle connection is kept; servers close theirs after 5 to 75."""


class NoConnection(Exception):
    """The connection was not made in time; ``args[0]`` is that time in seconds."""


class Pool:
    """The connections of a process to web servers."""

    def __init__(self, clock: IReactorTime, *, connect_timeout: float) -> None:
        """Begin with none; ``connect_timeout`` (seconds) is what making one may take, with the tunnel to it."""
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._connecting: dict[Deferred[Any], Hashable] = {}
        """What is being made -> its key."""
        self._connections: set[Connection] = set()
        self._kept: dict[Hashable, deque[tuple[float, Connection]]] = {}
        """By key, those that wait for a request and since when, the longest first."""
        self._sweep: IDelayedCall | None = None

    async def connection(
        self, key: Hashable, endpoint: Callable[[], IStreamClientEndpoint], *, new: bool = False
    ) -> Connection:
        """Return the kept connection for ``key`` that was used last, or else a ``new`` one that ``endpoint`` makes.

        Raises NoConnection, and what the endpoint raises. Cancelling gives up a connection that is being made.
        """
        kept = None if new else self._kept.get(key)
        if kept:
            return kept.pop()[1]
        connecting: Deferred[Any] = endpoint().connect(Connections(self, key))
        connecting.addTimeout(self._connect_timeout, self._clock, onTimeoutCancel=_not_connected)
        self._connecting[connecting] = key
        try:
            made: Connection = await connecting
        except ConnectingCancelledError:
            raise CancelledError from None
        else:
            return made
        finally:
            del self._connecting[connecting]

    def busy(self, key: Hashable) -> int:
        """Return how many of the connections for ``key`` serve a request, or are being made for one."""
        made = sum(connection.key == key for connection in self._connections)
        return made - len(self._kept.get(key, ())) + sum(wanted == key for wanted in self._connecting.values())

    async def close(self) -> None:
        """Give up what is being connected, and drop every connection, busy ones too; completes when they are gone."""
        for connecting in list(self._connecting):
            connecting.cancel()
        for connection in list(self._connections):
            gone: Deferred[None] = Deferred()
            connection.gone.chainDeferred(gone)
            connection.give_up()
            await gone
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    # For the connections ------------------------------------------------------------------------------------------

    def made(self, connection: Connection) -> None:
        """Count a connection in."""
        self._connections.add(connection)

    def free(self, connection: Connection) -> None:
        """Keep a connection whose answer is here to its end."""
        kept = self._kept.setdefault(connection.key, deque())
        kept.append((self._clock.seconds(), connection))
        if len(kept) > KEPT_PER_HOST:
            kept.popleft()[1].leave()
        if self._sweep is None:
            self._sweep = self._clock.callLater(KEPT_FOR, self._drop_idle)

    def lost(self, connection: Connection) -> None:
        """Count a connection out that has ended."""
        self._connections.discard(connection)
        kept = self._kept.get(connection.key)
        if kept is not None:
            left = deque(entry for entry in kept if entry[1] is not connection)
            self._kept[connection.key] = left
            if not left:
                del self._kept[connection.key]

    def _drop_idle(self) -> None:
        self._sweep = None
        now = self._clock.seconds()
        for kept in list(self._kept.values()):
            while kept and kept[0][0] + KEPT_FOR <= now:
                kept.popleft()[1].leave()
        oldest = min((kept[0][0] for kept in self._kept.values() if kept), default=None)
        if oldest is not None:
            self._sweep = self._clock.callLater(oldest + KEPT_FOR - now, self._drop_idle)


def _not_connected(_: object, seconds: float) -> None:
    raise NoConnection(seconds)
