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
        self._offset = offset
        self._mode = mode
        self._path = path
        self._refusals = refusals
        self._gathered: deque[memoryview] = deque()
        self._held = 0
        self._unacknowledged: dict[int, int] = {}
        """Offset and size of what is sent, or waits for its channel, in the order of the file."""
        self._under_way = 0
        self._whole_until = offset
        """Up to here everything is sent as soon as it can be; beyond, requests are filled first."""
        self._failure: Failure | None = None
        self._waiting: list[Deferred[None]] = []
        self._closed = False
        UNDER_WAY.join()

    async def write(self, data: Octets) -> None:
        """Take the next bytes; waits while too much is unacknowledged. Raises what an earlier write met."""
        assert not self._closed, "the sink is closed"
        with self._refusals.about(self._path):
            self._gathered.append(memoryview(data))
            self._held += len(data)
            self._send_what_fits()
            if self._held >= self._session.write_size:
                self._lanes.widen(self._held, UNDER_WAY.part // LANE)
            most = min((len(self._lanes) + 1) * LANE, UNDER_WAY.part)
            await self._until(lambda: self._held + self._under_way <= most)

    async def flush(self) -> int:
        """Wait until every byte taken is acknowledged, and on disk where the server can be asked for that.

        More may be written meanwhile; it is not waited for.
        """
        with self._refusals.about(self._path):
            offset = await self._drain()
            await self._sync()
            return offset

    async def finish(self, *, modified: float | None) -> int:
        """Write what is held, cut what a longer predecessor left, set mode and time, fsync; return the size."""
        with self._refusals.about(self._path):
            await self._drain()
            seconds = int(modified) if modified is not None and 0 <= modified <= _LATEST else None
            asked: list[Deferred[Any]] = []
            with self._session.together():
                asked.append(self._session.set(self._handle, Attributes(self._offset, self._mode, seconds)))
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
        UNDER_WAY.leave()
        await self._lanes.close()

    def _send_what_fits(self) -> None:
        """Give the lanes as much as they may have under way, in whole requests where nobody waits for the rest."""
        whole = self._session.write_size
        while self._failure is None and (self._held >= whole or self._offset < self._whole_until):
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
        self._under_way += size
        lane.unacknowledged += size
        offset, self._offset = self._offset, self._offset + size
        self._unacknowledged[offset] = size
        answer = lane.session.write(lane.handle, offset, pieces, size)
        answer.addCallbacks(self._acknowledged, self._refused, callbackArgs=(lane, offset))

    def _acknowledged(self, _: object, lane: Lane, offset: int) -> None:
        size = self._unacknowledged.pop(offset)
        lane.unacknowledged -= size
        self._under_way -= size
        self._send_what_fits()
        self._wake()

    def _refused(self, failure: Failure) -> None:
        self._failure = self._failure or failure
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Wait until an answer brings about what is waited for; raise what a write met."""
        while self._failure is None and not reached():
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter
        if self._failure is not None:
            await self._raise(self._failure.value)

    async def _raise(self, error: BaseException | None) -> NoReturn:
        """Raise what a write met; OpenSSH says "Failure" of a full disk, so that one has to look."""
        if isinstance(error, Status) and error.code == messages.FAILURE:
            left = await self._session.free(self._real)
            if left is not None and left < _NEARLY_NOTHING:
                raise self._refusals.full(self._path)
            raise self._refusals.of(error, self._path)
        assert error is not None
        raise error

    async def _drain(self) -> int:
        """Wait until all that is taken by now is acknowledged; return the offset behind it."""
        end = self._whole_until = self._offset + self._held
        self._send_what_fits()
        await self._until(lambda: self._offset >= end and next(iter(self._unacknowledged), end) >= end)
        return end

    async def _sync(self) -> None:
        """Have the file written to disk: one handle's fsync is for what every handle wrote."""
        if not self._session.can(messages.FSYNC):
            return
        try:
            await self._session.sync(self._handle)
        except Status as refusal:
            # The kernel forgets what it could not write: a second fsync would succeed, and lie.
            self._failure = self._failure or Failure()  # type: ignore[no-untyped-call]
            await self._raise(refusal)
