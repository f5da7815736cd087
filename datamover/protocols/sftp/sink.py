"""One part file that is written on a server, with as many requests in flight as the server's ``Order`` allows."""

from collections import deque
from collections.abc import Callable
from typing import NoReturn

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover.concurrency.waiters import Waiters
from datamover.errors import DataMoverError
from datamover.protocols.base import Ability, Lack, Octets
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.client.session import SftpSession, outcomes
from datamover.protocols.sftp.client.window import UNDER_WAY
from datamover.protocols.sftp.client.write_channels import IN_FLIGHT, WriteChannel, WriteChannels
from datamover.protocols.sftp.completing import complete, unflushed
from datamover.protocols.sftp.metadata import SftpMetadata
from datamover.protocols.sftp.orders import Order
from datamover.protocols.sftp.refusals import ServerRefusals

_NEARLY_NOTHING = 2**20
_CHECKS = 4
"""How often within ``idle_timeout`` it is checked whether anything has moved."""


class SftpSink:
    """``part_files.seam.PartFileSink`` of a part file on a server; holds channels and handles until it is closed.

    It raises Stalled if for ``idle_timeout`` the connection has taken none of this file's bytes and the server has
    answered none of its requests, whatever other files on the same channel do.
    """

    watched = True

    def __init__(
        self,
        first: WriteChannel,
        real: bytes,
        offset: int,
        *,
        mode: int,
        order: Order,
        longer: bool,
        path: str,
        refusals: ServerRefusals,
        lacks: Lacks,
        failed: Callable[[BaseException, bool], None],
    ) -> None:
        """Write from ``offset`` on; ``longer`` tells whether the file may already be longer than it will be.

        ``failed`` is called with the error of a write, and with whether several handles wrote.
        """
        self._write_channels = WriteChannels(first, real, self._send_what_fits, wide=order is Order.WIDE)
        self._order = order
        self._longer = longer
        self._lacks = lacks
        self._failed = failed
        self.without: list[Lack] = []
        """What could not be done for the file; complete after ``finish``."""
        self._session = first.session
        self._handle = first.handle
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
        self._answered: Waiters[None] = Waiters()
        self._draining = 0
        """How many calls wait until all bytes taken so far are acknowledged."""
        self._syncing: set[Deferred[None]] = set()
        self._channel = first.session.channel
        self._moved: object = None
        """The progress when it last changed."""
        self._moved_at = 0.0
        self._watch = self._channel.clock.callLater(self._channel.idle_timeout / _CHECKS, self._look)
        self._written_on = False
        """Whether the server has accepted a write."""
        self._closed = False
        self._leave = UNDER_WAY.join()

    async def write(self, data: Octets) -> None:
        """Take the next bytes; waits while too many are unacknowledged. Raises errors of earlier writes."""
        assert not self._closed, "the sink is closed"
        with self._refusals.about(self._path):
            self._gathered.append(memoryview(data))
            self._held += len(data)
            self._send_what_fits()
            if self._held >= self._session.write_size:
                self._write_channels.widen(self._held, UNDER_WAY.size // IN_FLIGHT, self._offset - self._start)
            await self._until(lambda: self._held + self._unacknowledged <= self._room)

    @property
    def _room(self) -> int:
        """Bytes that may be held or unacknowledged."""
        if self._order is Order.ONE_BY_ONE:
            return self._session.write_size
        return min((len(self._write_channels) + 1) * IN_FLIGHT, UNDER_WAY.size)

    async def flush(self) -> int:
        """Wait until all bytes taken so far are acknowledged, and on disk if the server can flush.

        More may be written meanwhile; if there is a further channel, the server does both at the same time.
        """
        with self._refusals.about(self._path):
            offset = await self._drain()
            await self._sync(await self._write_channels.for_flush())
            return offset

    async def finish(self, *, modified: float | None) -> int:
        """Write the rest, cut off what is beyond it, set mode and time, fsync, close; return the size."""
        with self._refusals.about(self._path):
            await self._drain()
            metadata = SftpMetadata(self._mode, modified, self._lacks)
            try:
                self.without += await complete(
                    self._session,
                    self._handle,
                    self._real,
                    metadata=metadata,
                    cut=self._offset if await self._is_longer() else None,
                    close=lambda: Deferred.fromCoroutine(self._close()),
                    lacks=self._lacks,
                )
            except (SftpError, DataMoverError) as error:
                self._failed(error, self._write_channels.were_several)
                await self._raise(error)
            found = await self._session.find(self._real)
            if found is None:
                raise self._refusals.lost(self._path)
            await metadata.check(self._session, self._real, found)
            self.without += metadata.without
            return self._offset if not found.size else found.size

    @property
    def doubtful(self) -> bool:
        """Whether it was continued on a server that is not OpenSSH's: rclone 1.60 with a cache zeroes such files."""
        return bool(self._start) and not self._session.openssh

    async def close(self) -> None:
        """Close the part file and drop bytes that were not sent; completes when the server has answered, or is lost."""
        try:
            await self._close()
        except (SftpError, DataMoverError):
            return  # The file is not needed any more.

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._gathered.clear()
        self._held = 0
        self._leave()
        if self._watch.active():
            self._watch.cancel()
        await self._write_channels.close()

    async def _is_longer(self) -> bool:
        """Tell whether an earlier attempt's bytes follow the last one that was written."""
        if not self._longer:
            return False
        try:
            found = await self._session.look(self._handle, self._real)
        except SftpError:
            return True
        return found.size is None or found.size > self._offset

    def _send_what_fits(self) -> None:
        """Send as much as may be in flight; less than a whole request only while draining."""
        whole = self._session.write_size
        while self._failure is None and (self._held >= whole or (self._draining and self._held)):
            if self._order is Order.ONE_BY_ONE and self._outstanding:
                break
            channel, size = self._write_channels.emptiest(), min(whole, self._held)
            if channel.unacknowledged and channel.unacknowledged + size > IN_FLIGHT:
                break
            self._send(channel, size)

    def _send(self, channel: WriteChannel, size: int) -> None:
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
        answer = channel.write(self._offset, pieces, size)
        self._outstanding[self._offset] = size
        answer.addCallbacks(self._acknowledged, self._refused, callbackArgs=(channel, self._offset))
        self._offset += size

    def _acknowledged(self, _: object, channel: WriteChannel, offset: int) -> None:
        self._written_on = True
        size = self._outstanding.pop(offset)
        channel.unacknowledged -= size
        self._unacknowledged -= size
        self._send_what_fits()
        self._answered.wake(None)

    def _refused(self, failure: Failure) -> None:
        refusal = failure.value
        if (
            isinstance(refusal, SftpError)
            and refusal.code not in messages.FULL
            and self._start
            and not self._written_on
        ):
            # Some servers open a file for continuing, but then refuse every write.
            self._lacks.learn(Ability.RESUME, f"the server refuses it: {refusal}")
            failure = Failure(self._refusals.not_again(self._path, refusal))  # type: ignore[no-untyped-call]
        if self._failure is None and failure.value is not None:
            self._failed(failure.value, self._write_channels.were_several)
        self._failure = self._failure or failure
        self._answered.wake(None)

    def _look(self) -> None:
        """Fail if nothing has moved for ``idle_timeout``."""
        now, idle_timeout = self._channel.clock.seconds(), self._channel.idle_timeout
        waits = bool(self._outstanding or self._syncing)
        moved = (self._offset - self._unacknowledged, self._write_channels.unsent, len(self._syncing))
        if not waits or moved != self._moved:
            self._moved, self._moved_at = moved, now
        elif now - self._moved_at >= idle_timeout:
            self._refused(Failure(self._channel.stalled()))  # type: ignore[no-untyped-call]
            for syncing in tuple(self._syncing):
                syncing.cancel()
            return
        self._watch = self._channel.clock.callLater(idle_timeout / _CHECKS, self._look)

    async def _until(self, enough: Callable[[], bool]) -> None:
        """Wait until ``enough`` returns True; raises errors of writes."""
        while self._failure is None and not enough():
            await self._answered.wait()
        if self._failure is not None:
            await self._raise(self._failure.value)

    async def _raise(self, error: BaseException | None) -> NoReturn:
        await raise_refused(error, self._session, self._real, self._refusals, self._path)

    async def _drain(self) -> int:
        """Wait until all bytes taken so far are acknowledged; return the offset after them."""
        end = self._offset + self._held
        self._draining += 1
        try:
            self._send_what_fits()
            await self._until(lambda: next(iter(self._outstanding), self._offset) >= end)
        finally:
            self._draining -= 1
        return end

    async def _sync(self, channel: WriteChannel) -> None:
        """Have the file written to disk; an fsync of one handle covers what all handles wrote."""
        if not self._session.can(messages.FSYNC) or Ability.FLUSH in self._lacks:
            return
        syncing = channel.sync()
        self._syncing.add(syncing)
        [answer] = await outcomes(syncing)
        self._syncing.remove(syncing)
        if self._failure is not None:
            await self._raise(self._failure.value)
        try:
            unflushed(answer, self._lacks)
        except SftpError as refusal:
            # The kernel reports a failed write-back once; a second fsync would succeed although bytes were lost.
            self._failure = self._failure or Failure()  # type: ignore[no-untyped-call]
            await self._raise(refusal)


async def raise_refused(
    error: BaseException | None, session: SftpSession, real: bytes, refusals: ServerRefusals, path: str
) -> NoReturn:
    """Raise the error of a write. OpenSSH answers just "Failure" if the disk is full, so the free space is checked."""
    if isinstance(error, SftpError) and error.code == messages.FAILURE:
        space = await session.space(real)
        if space is not None and space.left < _NEARLY_NOTHING:
            raise refusals.full(path)
        raise refusals.of(error, path)
    assert error is not None
    raise error
