"""One file that is read from a server: many requests are in flight, and the bytes are returned in order."""

import posixpath
from collections import deque
from dataclasses import replace

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from datamover.protocols.base import Inspection, Octets
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.link import ChannelLease
from datamover.protocols.sftp.client.messages import Attributes, SftpError
from datamover.protocols.sftp.client.session import SftpSession
from datamover.protocols.sftp.client.window import Window
from datamover.protocols.sftp.refusals import ServerRefusals

PIECE = 2**20
"""Bytes that one ``read`` returns, at most: many, because each call of the engine has its cost."""
_PIECES = 4
"""The least number of pieces in a window."""


class _Request:
    """A range of the file that is requested by one READ, and by further ones if the answers are short.

    An answer without bytes means the end of the file, as the status EOF does.
    """

    def __init__(self, piece: "_Piece", offset: int, room: memoryview) -> None:
        self._piece = piece
        self._offset = offset
        self._room = room
        self._ask()

    def _ask(self) -> None:
        self._piece.read(self._offset, self._room).addCallbacks(self._came, self._failed)

    def _failed(self, failure: Failure) -> None:
        refusal = failure.value
        if isinstance(refusal, SftpError) and refusal.code == messages.EOF:
            self._piece.ended(self._offset)
        else:
            self._piece.failed(failure)

    def _came(self, size: int) -> None:
        if self._piece.whole.called:
            return
        self._offset += size
        self._room = self._room[size:]
        if not self._room:
            self._piece.came()
        elif size:
            self._piece.short = True
            self._ask()
        else:
            self._piece.ended(self._offset)


class _Piece:
    """A range of the file that was requested; ``whole`` fires with its bytes when all have come.

    If the file ends within it, ``end`` is the offset where, and the bytes end there.
    """

    def __init__(self, session: SftpSession, handle: bytes, offset: int, length: int) -> None:
        self._offset = offset
        self.end: int | None = None
        self._session = session
        self._handle = handle
        self._data = bytearray(length)
        self.whole: Deferred[bytearray] = Deferred()
        self.short = False
        """Whether some of it was requested later than the rest."""
        size = session.read_size
        self._missing = -(-length // size)
        room = memoryview(self._data)
        with session.together():
            for start in range(0, length, size):
                _Request(self, offset + start, room[start : start + size])

    def read(self, offset: int, room: memoryview) -> Deferred[int]:
        return self._session.read(self._handle, offset, room)

    def came(self) -> None:
        self._missing -= 1
        if not self._missing:
            if self.end is not None:
                self._data = self._data[: self.end - self._offset]
            self.whole.callback(self._data)

    def ended(self, offset: int) -> None:
        if not self.whole.called:
            self.end = offset if self.end is None else min(self.end, offset)
            self.came()

    def failed(self, failure: Failure) -> None:
        if not self.whole.called:
            self.whole.errback(failure)

    def forget(self) -> None:
        self.whole.addErrback(lambda _: None)
        self.whole.cancel()


class SftpSource:
    """``protocols.base.Source`` of a file on a server; holds a channel and a handle until it is closed."""

    def __init__(
        self, lease: ChannelLease, session: SftpSession, handle: bytes, real: bytes, path: str, refusals: ServerRefusals
    ) -> None:
        self._lease = lease
        self._session = session
        self._handle: bytes | None = handle
        self._real = real
        self._window = Window(session.channel)
        self._path = path
        self._refusals = refusals
        self._pieces: deque[_Piece] = deque()
        self._look: Deferred[Attributes] | None = None
        self._beyond: Deferred[int] | None = None

    def begin(self, found: Attributes, offset: int, identity: str | None) -> None:
        """Request the first bytes of a file with the attributes ``found``, from ``offset`` if its identity is as given.

        A further call discards the earlier requests.
        """
        self._forget()
        self._found = found
        # Some servers report a size of 0, or none, for files that are not empty; these are read until they end.
        self._size = found.size or None
        same = identity is not None and found.identity == identity and offset <= (self._size or 0)
        self.offset = self._position = self._asked = offset if same else 0
        self.inspection = self._inspected()
        self._checked = self._begun = False
        self._ask()

    async def learn_size(self) -> None:
        """Learn the size of a small file whose server reported none, by waiting for its first bytes."""
        self._begun = True
        if self._size is None:
            first = self._pieces[0]
            data = await first.whole
            first.whole = succeed(data)
            if first.end is not None:
                await self._ended(first.end)
        self.inspection = self._inspected()
        self._ask()

    def _inspected(self) -> Inspection:
        name = posixpath.basename(self._path.rstrip("/"))
        return replace(self._found.inspection(name, size_is_told=self._found.size == self._size), size=self._size)

    async def read(self) -> Octets:
        """Return the next bytes, b"" at the end. Raises SourceChanged if the file has changed since it was opened."""
        with self._refusals.about(self._path):
            data: Octets = b""
            if self._pieces:
                data = await self._first()
                self._position += len(data)
                self._window.took(len(data))
                self._ask()
            if self._size is not None and self._position == self._size and not self._checked:
                await self._check_unchanged()
            return data

    async def close(self) -> None:
        """Close the file, without waiting for the server's answer, on which nothing depends."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        self._window.close()
        self._forget()
        self._session.close_later(handle)
        self._lease.release()

    def _forget(self) -> None:
        for piece in self._pieces:
            piece.forget()
        self._pieces.clear()
        for pending in (self._look, self._beyond):
            if pending is not None:
                pending.addErrback(lambda _: None)
                pending.cancel()
        self._look = self._beyond = None

    async def _first(self) -> bytearray:
        piece = self._pieces[0]
        data = await piece.whole
        if piece.end is not None:
            await self._ended(piece.end)
        self._pieces.popleft()
        if piece.short:
            # The later requests may have been answered after the look at the file's attributes.
            self._look = None
        return data

    async def _ended(self, end: int) -> None:
        """Record the end of a file whose size is unknown; raises an error if a file of known size ends too early."""
        if self._size is None:
            self._size = self._asked = end
            for piece in tuple(self._pieces)[1:]:
                self._pieces.remove(piece)
                piece.forget()
        elif end < self._size and self._handle is not None:
            now = await self._session.look(self._handle, self._real)
            if now.identity != self._found.identity:
                raise self._refusals.changed(self._path)
            raise self._refusals.ended(self._path, self._size, end)

    def _ask(self) -> None:
        """Keep the window full; after the last bytes, request what shows whether the file is still the same."""
        if self._handle is None:
            return
        window, size = self._window.size, self._session.read_size
        most = max(min(PIECE, window // _PIECES) // size, 1) * size
        while self._size is None or self._asked < self._size:
            length = most if self._size is None else min(most, self._size - self._asked)
            if self._size is None and not self._begun:
                length = size  # It may well be empty.
            if self._pieces and (self._asked + length - self._position > window or not (self._size or self._begun)):
                break
            self._pieces.append(_Piece(self._session, self._handle, self._asked, length))
            self._asked += length
        if self._asked == self._size and self._beyond is None:
            self._look = self._session.look(self._handle, self._real)
            self._beyond = self._session.read(self._handle, self._size, memoryview(bytearray(1)))

    async def _check_unchanged(self) -> None:
        assert self._handle is not None
        assert self._beyond is not None
        now = await (self._look or self._session.look(self._handle, self._real))
        try:
            more = await self._beyond
        except SftpError as refusal:
            if refusal.code != messages.EOF:
                raise
            more = 0
        if more or now.identity != self._found.identity:
            raise self._refusals.changed(self._path)
        self._checked = True
