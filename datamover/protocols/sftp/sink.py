"""One part file of a file server being written: many requests under way, each saying where its bytes belong."""

from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from datamover.protocols.base import Octets
from datamover.protocols.sftp import messages
from datamover.protocols.sftp.lanes import LANE, Lane, Lanes
from datamover.protocols.sftp.messages import Attributes, Status
from datamover.protocols.sftp.refusals import Refusals
from datamover.protocols.sftp.session import Session
from datamover.protocols.sftp.window import UNDER_WAY

_NEARLY_NOTHING = 2**20
_LATEST = 2**32 - 1
"""POSIX seconds; SFTP has 32 bits for them."""


class SftpSink:
    """``protocols.base.Sink`` of a part file on a server; holds its lanes' channels and handles until it is closed."""

    def __init__(self, lane: Lane, real: bytes, offset: int, mode: int, path: str, refusals: Refusals) -> None:
        self._lanes = Lanes(lane, real, self._send_what_fits)
        self._session = lane.session
        self._handle = lane.handle
        self._real = real
        self._start = self._offset = offset
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
        self._draining = 0
        """Who waits for all that was taken so far."""
        self._closed = False
        self._leave = UNDER_WAY.join()

    async def write(self, data: Octets) -> None:
        """Take the next bytes; waits while too much is unacknowledged. Raises what an earlier write met."""
        assert not self._closed, "the sink is closed"
        with self._refusals.about(self._path):
            self._gathered.append(memoryview(data))
            self._held += len(data)
            self._send_what_fits()
            if self._held >= self._session.write_size:
                self._lanes.widen(self._held, UNDER_WAY.size // LANE, self._offset - self._start)
            await self._until(lambda: self._held + self._unacknowledged <= self._room)

    @property
    def _room(self) -> int:
        """Bytes that may be held or unacknowledged."""
        return min((len(self._lanes) + 1) * LANE, UNDER_WAY.size)

    async def flush(self) -> int:
        """Wait until every byte taken so far is acknowledged, and on disk where the server can be asked for that.

        Writing may go on meanwhile, beside it where a further channel can be had.
        """
        with self._refusals.about(self._path):
            offset = await self._drain()
            await self._sync(await self._lanes.aside())
            return offset

    async def finish(self, *, modified: float | None) -> int:
        """Write what is held, cut what a longer predecessor left, set mode and time, fsync; return the size."""
        with self._refusals.about(self._path):
            await self._drain()
            attributes = Attributes(self._offset, self._mode, whole_seconds(modified))
            asked: list[Deferred[Any]] = []
            with self._session.together():
                asked.append(self._session.set(self._handle, attributes))
                if self._session.can(messages.FSYNC):
                    asked.append(self._session.sync(self._handle))
                asked.append(self._session.look(self._handle))
                closing = Deferred.fromCoroutine(self.close())
            answers = await DeferredList([*asked, closing], consumeErrors=True)
            for came, answer in answers:
                if not came:
                    self._failure = self._failure or answer
                    await self._raise(answer.value)
            size: int | None = answers[-2][1].size
            return self._offset if size is None else size

    async def close(self) -> None:
        """Close the part file; what was only gathered is dropped. Completes when the server has answered, or cannot."""
        if self._closed:
            return
        self._closed = True
        self._gathered.clear()
        self._held = 0
        self._leave()
        await self._lanes.close()

    def _send_what_fits(self) -> None:
        """Give the lanes as much as they may have under way; what is less than a whole request only when draining."""
        whole = self._session.write_size
        while self._failure is None and (self._held >= whole or (self._draining and self._held)):
            lane, size = self._lanes.emptiest(), min(whole, self._held)
            if lane.unacknowledged and lane.unacknowledged + size > LANE:
                break
            self._send(lane, size)

    def _send(self, lane: Lane, size: int) -> None:
        pieces, left = [], size
        while left:
            piece = self._gathered.popleft()
            if len(piece) > left:
                self._gathered.appendleft(piece[left:])
                piece = piece[:left]
            pieces.append(piece)
            left -= len(piece)
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
        self._send_what_fits()
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

    async def _drain(self) -> int:
        """Wait until all that was taken so far is acknowledged; return the offset after it."""
        end = self._offset + self._held
        self._draining += 1
        try:
            self._send_what_fits()
            await self._until(lambda: next(iter(self._outstanding), self._offset) >= end)
        finally:
            self._draining -= 1
        return end

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
