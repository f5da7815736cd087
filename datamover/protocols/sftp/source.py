"""One file of a file server being read: many requests under way, the bytes handed over in order."""

from collections import deque

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover.protocols.base import Inspection
from datamover.protocols.sftp import messages
from datamover.protocols.sftp.lanes import Lane
from datamover.protocols.sftp.link import Lease
from datamover.protocols.sftp.messages import Attributes, Status
from datamover.protocols.sftp.refusals import Refusals
from datamover.protocols.sftp.session import Session

BUDGET = 8 * 2**20
"""Bytes asked for, or come and not yet taken."""


class _Piece:
    """A range of the file that was asked for; ``whole`` fires when all of it has come."""

    def __init__(self, session: Session, handle: bytes, offset: int, length: int) -> None:
        self._session = session
        self._handle = handle
        self._offset = offset
        self._left = length
        self._parts: list[bytes] = []
        self.short = False
        """It came in several answers, some asked for later."""
        self.whole: Deferred[bytes] = Deferred()
        self._ask()

    def _ask(self) -> None:
        self._session.read(self._handle, self._offset, self._left).addCallbacks(self._came, self._failed)

    def _came(self, data: bytes) -> None:
        if self.whole.called:
            return
        self._parts.append(data)
        self._offset += len(data)
        self._left -= len(data)
        if self._left > 0 and data:
            self.short = True
            self._ask()
        elif self._left:
            self._failed(Failure(Status(messages.FAILURE, "an answer of no bytes, or of too many")))  # type: ignore[no-untyped-call]
        else:
            parts, self._parts = self._parts, []
            self.whole.callback(parts[0] if len(parts) == 1 else b"".join(parts))

    def _failed(self, failure: Failure) -> None:
        if not self.whole.called:
            self.whole.errback(failure)

    def forget(self) -> None:
        self.whole.addErrback(lambda _: None)
        self.whole.cancel()


class SftpSource:
    """``protocols.base.Source`` of a file on a server; holds a channel's lease and a handle until it is closed."""

    def __init__(
        self, lease: Lease, session: Session, handle: bytes, found: Attributes, name: str, offset: int, path: str,
        refusals: Refusals,
    ) -> None:  # fmt: skip
        self._lease = lease
        self._session = session
        self._handle: bytes | None = handle
        self._found = found
        self._size = found.size or 0
        self._inspection = Inspection(name, self._size, found.identity, found.modified)
        self._offset = self._position = self._asked = offset
        self._path = path
        self._refusals = refusals
        self._pieces: deque[_Piece] = deque()
        self._look: Deferred[Attributes] | None = None
        self._beyond: Deferred[bytes] | None = None
        self._checked = False
        self._ask()

    @property
    def inspection(self) -> Inspection:
        return self._inspection

    @property
    def offset(self) -> int:
        return self._offset

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises SourceChanged where the file is not what it was when opened."""
        with self._refusals.about(self._path):
            data = b""
            if self._pieces:
                data = await self._first()
                self._position += len(data)
                self._ask()
            if self._position == self._size and not self._checked:
                await self._check_unchanged()
            return data

    async def close(self) -> None:
        """Close the file; completes when the server has answered, or cannot."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        for piece in self._pieces:
            piece.forget()
        self._pieces.clear()
        for pending in (self._look, self._beyond):
            if pending is not None:
                pending.addErrback(lambda _: None)
                pending.cancel()
        await Lane(self._lease, self._session, handle).close()

    async def _first(self) -> bytes:
        piece = self._pieces[0]
        try:
            data = await piece.whole
        except Status as refusal:
            if refusal.code != messages.EOF or self._handle is None:
                raise
            now = await self._session.look(self._handle)
            if now.identity != self._found.identity:
                raise self._refusals.changed(self._path) from None
            raise self._refusals.ended(self._path, self._size, self._position) from None
        self._pieces.popleft()
        if piece.short:
            # What was asked for later may have been read after the look at the file.
            self._look = None
        return data

    def _ask(self) -> None:
        """Keep the budget's worth under way, and behind the last bytes a look at whether the file is still the same."""
        if self._handle is None:
            return
        while self._asked < self._size and self._asked - self._position < BUDGET:
            length = min(self._session.read_size, self._size - self._asked)
            self._pieces.append(_Piece(self._session, self._handle, self._asked, length))
            self._asked += length
        if self._asked == self._size and self._beyond is None:
            self._look = self._session.look(self._handle)
            self._beyond = self._session.read(self._handle, self._size, 1)

    async def _check_unchanged(self) -> None:
        assert self._handle is not None
        assert self._beyond is not None
        now = await (self._look or self._session.look(self._handle))
        try:
            await self._beyond
        except Status as refusal:
            if refusal.code != messages.EOF:
                raise
        else:
            raise self._refusals.changed(self._path)
        if now.identity != self._found.identity:
            raise self._refusals.changed(self._path)
        self._checked = True
