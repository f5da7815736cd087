"""One part file of a file server being written: many requests under way, each saying where its bytes belong."""

from collections import deque
from collections.abc import Callable
from typing import NoReturn

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover.protocols.sftp import messages
from datamover.protocols.sftp.lanes import Lane, Lanes
from datamover.protocols.sftp.messages import Attributes, Status
from datamover.protocols.sftp.refusals import Refusals
from datamover.protocols.sftp.session import Session

BUDGET = 8 * 2**20
"""Bytes sent, or waiting to be, and not yet acknowledged."""
_NEARLY_NOTHING = 2**20
_LATEST = 2**32 - 1
"""POSIX seconds; SFTP has 32 bits for them."""


class SftpSink:
    """``protocols.base.Sink`` of a part file on a server; holds its lanes' channels and handles until it is closed."""

    def __init__(self, lane: Lane, real: bytes, offset: int, mode: int, path: str, refusals: Refusals) -> None:
        self._lanes = Lanes(lane, real)
        self._session = lane.session
        self._handle = lane.handle
        self._real = real
        self._offset = offset
        self._mode = mode
        self._path = path
        self._refusals = refusals
        self._gathered: deque[memoryview] = deque()
        self._held = 0
        self._unacknowledged = 0
        self._outstanding: dict[int, int] = {}
        """Offset -> bytes of what was sent and is not acknowledged, in the order of the file."""
        self._failure: Failure | None = None
        self._waiters: list[Deferred[None]] = []
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Take the next bytes; waits while too much is unacknowledged. Raises what an earlier write met."""
        with self._refusals.about(self._path):
            self._gathered.append(memoryview(data))
            self._held += len(data)
            while self._held >= self._session.write_size:
                self._send(self._session.write_size)
            if self._unacknowledged > BUDGET:
                self._lanes.widen()
            await self._until(lambda: self._unacknowledged <= BUDGET)

    async def flush(self) -> int:
        """Wait until every byte taken so far is acknowledged, and on disk where the server can be asked for that.

        Writing may go on meanwhile, beside it where a further channel can be had.
        """
        with self._refusals.about(self._path):
            self._send_all()
            offset = self._offset
            await self._until(lambda: next(iter(self._outstanding), self._offset) >= offset)
            await self._sync(await self._lanes.aside())
            return offset

    async def finish(self, *, modified: float | None) -> int:
        """Write what is held, cut what a longer predecessor left, set mode and time, fsync; return the size."""
        with self._refusals.about(self._path):
            self._send_all()
            await self._until(lambda: not self._unacknowledged)
            try:
                attributes = Attributes(self._offset, self._mode, whole_seconds(modified))
                await self._session.set(self._handle, attributes)
            except Status as refusal:
                await self._raise(refusal)
            await self._sync(self._lanes.first)
            found = await self._session.look(self._handle)
            return self._offset if found.size is None else found.size

    async def close(self) -> None:
        """Close the part file; what was only gathered is dropped. Completes when the server has answered, or cannot."""
        if self._closed:
            return
        self._closed = True
        self._gathered.clear()
        self._held = 0
        await self._lanes.close()

    def _send(self, size: int) -> None:
        assert not self._closed, "the sink is closed"
        pieces, left = [], size
        while left:
            piece = self._gathered.popleft()
            if len(piece) > left:
                self._gathered.appendleft(piece[left:])
                piece = piece[:left]
            pieces.append(piece)
            left -= len(piece)
        lane = self._lanes.emptiest()
        self._held -= size
        self._unacknowledged += size
        lane.unacknowledged += size
        answer = lane.session.write(lane.handle, self._offset, pieces, size)
        self._outstanding[self._offset] = size
        answer.addCallbacks(self._acknowledged, self._refused, callbackArgs=(lane, self._offset))
        self._offset += size

    def _acknowledged(self, _: object, lane: Lane, offset: int) -> None:
        size = self._outstanding.pop(offset)
        lane.unacknowledged -= size
        self._unacknowledged -= size
        self._wake()

    def _refused(self, failure: Failure) -> None:
        self._failure = self._failure or failure
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)

    async def _until(self, enough: Callable[[], bool]) -> None:
        """Wait until enough is acknowledged; raise what a write met."""
        while self._failure is None and not enough():
            waiter: Deferred[None] = Deferred()
            self._waiters.append(waiter)
            await waiter
        if self._failure is not None:
            await self._raise(self._failure.value)

    async def _raise(self, error: BaseException | None) -> NoReturn:
        await raise_refused(error, self._session, self._real, self._refusals, self._path)

    def _send_all(self) -> None:
        while self._held:
            self._send(min(self._held, self._session.write_size))

    async def _sync(self, lane: Lane) -> None:
        """Have the file written to disk: one handle's fsync is for what every handle wrote."""
        if not self._session.can(messages.FSYNC):
            return
        try:
            await lane.session.sync(lane.handle)
        except Status as refusal:
            # The kernel forgets what it could not write: a second fsync would succeed, and lie.
            self._failure = self._failure or Failure()  # type: ignore[no-untyped-call]
            await self._raise(refusal)


def whole_seconds(modified: float | None) -> int | None:
    """Return POSIX seconds as SFTP can hold them, None for what it cannot."""
    return int(modified) if modified is not None and 0 <= modified <= _LATEST else None


async def raise_refused(
    error: BaseException | None, session: Session, real: bytes, refusals: Refusals, path: str
) -> NoReturn:
    """Raise what a write met; OpenSSH says "Failure" of a full disk, so that one has to look."""
    if isinstance(error, Status) and error.code == messages.FAILURE:
        left = await session.free(real)
        if left is not None and left < _NEARLY_NOTHING:
            raise refusals.full(path)
        raise refusals.of(error, path)
    assert error is not None
    raise error
