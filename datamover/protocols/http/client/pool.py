"""The connections to web servers: made within a timeout, kept for further requests, closed when idle.

A kept connection serves only requests for the scheme, host and port that it was made for. So the ``[sources]`` rules
hold on it as on a new one: every URL is checked before it is requested, and the check of an address depends only on
scheme, host and port.
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
        """Prepare; ``connect_timeout``, in seconds, bounds connecting, a proxy's tunnel included."""
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._connecting: dict[Deferred[Any], Hashable] = {}
        """Connections being made -> their keys."""
        self._connections: set[Connection] = set()
        self._kept: dict[Hashable, deque[tuple[float, Connection]]] = {}
        """Key -> idle connections and since when, the longest idle first."""
        self._sweep: IDelayedCall | None = None

    async def connection(
        self, key: Hashable, endpoint: Callable[[], IStreamClientEndpoint], *, new: bool = False
    ) -> Connection:
        """Return the most recently used kept connection for ``key``, or one that ``endpoint`` makes; always if ``new``.

        Raises NoConnection, and what the endpoint raises. Cancelling stops connecting.
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
        """Return how many connections for ``key`` are in use or being made."""
        made = sum(connection.key == key for connection in self._connections)
        return made - len(self._kept.get(key, ())) + sum(wanted == key for wanted in self._connecting.values())

    async def close(self) -> None:
        """Cancel connecting, and close every connection, also those in use. Completes when they are closed."""
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
        """Add a connection."""
        self._connections.add(connection)

    def free(self, connection: Connection) -> None:
        """Keep a connection whose answer is complete."""
        kept = self._kept.setdefault(connection.key, deque())
        kept.append((self._clock.seconds(), connection))
        if len(kept) > KEPT_PER_HOST:
            kept.popleft()[1].leave()
        if self._sweep is None:
            self._sweep = self._clock.callLater(KEPT_FOR, self._drop_idle)

    def lost(self, connection: Connection) -> None:
        """Remove a connection that was closed."""
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
