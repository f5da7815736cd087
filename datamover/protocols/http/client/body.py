"""The body of one answer, received no faster than it is read.

All bodies together buffer a bounded number of bytes (and what one read of the socket adds); beyond it a body pauses its
connection.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from datamover.bounds.servers import IGNORED_BODY, IGNORED_BODY_SECONDS, MOST_BODY_PIECES
from datamover.concurrency.buffer_budgets import Buffers
from datamover.errors import ConnectionLost, DataMoverError, Scope, ServerError, SizeMismatch, Stalled, TimedOut
from datamover.protocols.http.client.connection import BodyEnd, HttpConnection
from datamover.protocols.slices import next_turn
from datamover.text.quantities import count
from datamover.web.url import WebUrl

ROOMS = Buffers(8 * 2**20, least=2**16, most=2**20)
"""Bytes that a body buffers, and that one read of the socket may bring; shared among all bodies."""
JOINED = 2**17
"""Bytes; smaller pieces are joined before they are returned."""


class BodyStream(Protocol):
    """The bytes of one answer, as received or decoded."""

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end."""

    async def turn(self) -> None:
        """Wait for a turn of the reactor for costly work on these bytes."""

    async def discard(self) -> None:
        """Read a short rest, so that the connection can serve again; close the connection of a long one."""

    async def close(self) -> None:
        """Drop the rest; closes the connection if there is one. Completes when that is done."""


class Body:
    """Receives the bytes of one answer from a connection, and returns them in order."""

    def __init__(self, clock: IReactorTime, idle_timeout: float, url: WebUrl) -> None:
        self._clock = clock
        self._idle_timeout = idle_timeout
        self._url = url
        self._connection: HttpConnection
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._waiting: Deferred[None] | None = None
        self._ended = False
        self._dropped = False
        self._error: DataMoverError | None = None
        self._gone: Deferred[None] = Deferred()
        self._leave: Callable[[], None]
        self._until = math.inf
        self.received = 0
        """Bytes received, read or not."""

    def begin(self, connection: HttpConnection) -> None:
        """Begin to receive; the connection calls this, ``take`` and ``end``."""
        self._connection = connection
        self._leave = ROOMS.join()

    def take(self, data: bytes) -> None:
        if self._dropped:
            return
        self._pieces.append(data)
        self._held += len(data)
        self.received += len(data)
        room = ROOMS.size
        self._connection.receive(room)
        if self._held >= room or len(self._pieces) >= MOST_BODY_PIECES:
            self._paused = True
            self._connection.pause()
        self._wake()

    def end(self, ending: BodyEnd, reason: str = "") -> None:
        self._ended = True
        self._leave()
        shown = self._url.told if ending is not BodyEnd.WHOLE else ""
        if reason:
            self._error = ServerError(
                f"{shown} cannot be read on after {count(self.received, 'byte')}: {reason}",
                scope=Scope.SOURCE,
                retryable=ending is not BodyEnd.BEYOND,
            )
        elif ending is BodyEnd.BROKEN:
            self._error = ConnectionLost(
                f"the connection to {shown} broke after {count(self.received, 'byte')}", scope=Scope.SOURCE
            )
        elif ending is BodyEnd.EXCESS:
            self._error = SizeMismatch(
                f"{shown} sent more than the {count(self.received, 'byte')} that it had announced", scope=Scope.SOURCE
            )
        self._wake()
        self._gone.callback(None)

    def hurry(self, seconds: float) -> None:
        """Have ``read`` raise TimedOut once so much time has passed, however little comes at a time."""
        self._until = self._clock.seconds() + seconds

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end; small pieces are joined.

        After the last bytes, raises ConnectionLost for a body that ended early, SizeMismatch for one longer than
        announced, and ServerError for malformed chunks. Raises Stalled if nothing arrives for the idle timeout.
        Cancelling leaves the body fit only for ``close``.
        """
        if self._clock.seconds() > self._until:
            raise TimedOut(
                f"{self._url.told} did not come to the end of its answer in time, after {count(self.received, 'byte')}",
                scope=Scope.SOURCE,
            )
        if not self._pieces and not self._ended:
            await self._wait()
        if self._pieces:
            return self._next()
        if self._error is not None:
            raise self._error
        return b""

    async def turn(self) -> None:
        """Wait for a turn of the reactor for costly work on these bytes. May be cancelled."""
        await next_turn(self._clock)

    async def discard(self) -> None:
        """Read a short rest, so that the connection can serve again; close the connection of a long or slow one."""
        start = self._clock.seconds()
        self._idle_timeout = min(self._idle_timeout, IGNORED_BODY_SECONDS)
        try:
            while self.received <= IGNORED_BODY and self._clock.seconds() - start < IGNORED_BODY_SECONDS:
                if not await self.read():
                    return
        except DataMoverError:  # The head says what counts.
            pass
        finally:
            self._drop()
        await self.close()

    async def close(self) -> None:
        """Drop the rest; closes the connection if there is one. Completes when that is done."""
        self._drop()
        if not self._ended:
            gone: Deferred[None] = Deferred()
            self._gone.chainDeferred(gone)
            await gone

    def _drop(self) -> None:
        self._dropped = True
        self._pieces.clear()
        self._held = 0
        if not self._ended:
            self._connection.abort()

    def _next(self) -> bytes:
        data = self._pieces.popleft()
        if self._pieces and len(data) < JOINED:
            taken, size = [data], len(data)
            while self._pieces and size < JOINED:
                piece = self._pieces.popleft()
                taken.append(piece)
                size += len(piece)
            data = b"".join(taken)
        self._held -= len(data)
        if self._paused and not self._ended and self._held < ROOMS.size // 2:
            self._paused = False
            self._connection.resume()
        return data

    async def _wait(self) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        try:
            await waiting.addTimeout(self._idle_timeout, self._clock, onTimeoutCancel=self._stalled)
        finally:
            self._waiting = None

    def _stalled(self, _: object, seconds: float) -> None:
        raise Stalled(
            f"{self._url.told} sent nothing for {seconds:g} s, after {count(self.received, 'byte')}", scope=Scope.SOURCE
        )

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
