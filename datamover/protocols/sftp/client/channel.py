"""One SFTP channel of an SSH connection: requests out, answers in, any number under way.

conch's channel buffers without limit and copies what it buffers again and again; here pieces wait in a queue as they
are and leave as the server's window allows. What is in them, and how much may be under way, its users decide.
"""

# ruff: noqa: N802, N803 - the names of what is overridden are conch's

import math
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from twisted.conch.ssh.channel import SSHChannel
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from datamover import errors
from datamover.errors import DataMoverError
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.answers import Answers
from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.ssh.ciphers import Piece
from datamover.protocols.sftp.ssh.wire import MalformedMessage, number, string, words

WINDOW = 64 * 2**20
"""Bytes that the server may send before they are taken; the bytes asked for are what bounds them."""
PACKET = 2**17
"""Bytes of the largest message of data that the server may send; OpenSSH fills it when it gets ahead of the socket."""
FAR = 0.005
"""Seconds there and back from which on a server's window (2 MiB for OpenSSH) bounds the speed."""

_CHANNEL_DATA = 94
_FIRST = 200
"""Bytes of what comes first that are kept until SFTP has begun, to be shown if it does not."""
_TEXT = re.compile(rb"[\t\n\r -~\x80-\xff]*")
_EXPECTED = {
    messages.INIT: messages.ANSWER_VERSION,
    messages.OPEN: messages.HANDLE,
    messages.OPENDIR: messages.HANDLE,
    messages.READ: messages.DATA,
    messages.READDIR: messages.NAME,
    messages.REALPATH: messages.NAME,
    messages.STAT: messages.ATTRS,
    messages.LSTAT: messages.ATTRS,
    messages.FSTAT: messages.ATTRS,
}
_OPENED = (messages.OPEN, messages.OPENDIR)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A request that is to be answered."""

    kind: int
    expected: int
    into: memoryview | None
    """Where the bytes that it reads belong."""
    answer: Deferred[Any]
    at: float


class SftpChannel(SSHChannel):
    """Requests and answers. ``opened`` fires with what the server announces, or fails with why there is no channel."""

    name = b"session"
    _log = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # conch tells every step at "info"

    def __init__(self, clock: Any, idle_timeout: float) -> None:
        super().__init__(localWindow=WINDOW, localMaxPacket=PACKET)
        self.opened: Deferred[dict[bytes, bytes]] = Deferred()
        self.failure: DataMoverError | None = None
        self.clock = clock
        self._idle_timeout = idle_timeout
        self._queue: deque[Piece] = deque()
        self._waiting: dict[int, _Waiting] = {}
        self._quickest = math.inf
        """Seconds of the quickest answer: little more than the way there and back."""
        self._next = 0
        self._together = 0
        self._answers = Answers(self._room, self._deliver)
        self._timer: Any = None
        self._heard = 0.0
        self._packets = 0
        self._first = b""
        """What came before SFTP began, or while it did."""

    @property
    def distance(self) -> float:
        """Seconds there and back, as the quickest answer took; 0 before the first."""
        return 0.0 if math.isinf(self._quickest) else self._quickest

    @property
    def software(self) -> bytes:
        """What the server calls its SSH software (RFC 4253, section 4.2)."""
        told: bytes = getattr(self.conn.transport, "otherVersionString", b"")  # type: ignore[union-attr]
        return told.removeprefix(b"SSH-2.0-").removeprefix(b"SSH-1.99-")

    @property
    def far(self) -> bool:
        """Tell whether the server is so far away that its window tells on the speed."""
        return self.distance > FAR

    # Asking -------------------------------------------------------------------------------------------------

    def request(
        self, kind: int, *pieces: Piece, expect: int | None = None, into: memoryview | None = None
    ) -> Deferred[Any]:
        """Send one request; fires with the answer's value: None for a plain "OK", for READ the bytes put ``into``.

        Fails with SftpError where the server refuses, with ConnectionLost or Stalled where it does not answer.
        Cancelling lets go of the answer; a handle that comes nevertheless is closed.
        """
        answer: Deferred[Any] = Deferred(lambda _: None)
        if self.failure is not None:
            answer.errback(again(self.failure))
            return answer
        if not self._waiting:
            self._mark()
        self._next = self._next % (2**32 - 1) + 1
        expected = _EXPECTED.get(kind, messages.STATUS) if expect is None else expect
        self._waiting[self._next] = _Waiting(kind, expected, into, answer, self.clock.seconds())
        self._post(kind, (number(self._next), *pieces))
        if self._timer is None:
            self._timer = self.clock.callLater(self._idle_timeout, self._check)
        return answer

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let what is asked within leave at its end, in as few packets as it fits into."""
        self._together += 1
        try:
            yield
        finally:
            self._together -= 1
            self.pump()

    def _post(self, kind: int, pieces: tuple[Piece, ...]) -> None:
        self._queue.append(number(1 + sum(map(len, pieces))) + kind.to_bytes(1, "big"))
        self._queue.extend(pieces)
        self.pump()

    def pump(self) -> None:
        """Send what waits, as far as the server's window and the connection allow, unless more is about to come."""
        connection: Any = self.conn
        while self._queue and self.remoteWindowLeft > 0 and not self.localClosed:
            if self._together or connection.hold(self):
                return
            room = min(self.remoteWindowLeft, self.remoteMaxPacket)
            taken: list[Piece] = []
            size = 0
            while self._queue and size < room:
                piece = self._queue.popleft()
                if len(piece) > room - size:
                    view = memoryview(piece)
                    self._queue.appendleft(view[room - size :])
                    piece = view[: room - size]
                taken.append(piece)
                size += len(piece)
            self.remoteWindowLeft -= size
            remote: int = connection.channelsToRemoteChannel[self]
            connection.transport.send(_CHANNEL_DATA, (number(remote) + number(size), *taken))

    def addWindowBytes(self, data: int) -> None:
        self.remoteWindowLeft += data
        self._mark()
        self.pump()

    # What comes back ----------------------------------------------------------------------------------------

    def dataReceived(self, data: memoryview) -> None:
        """Put bytes where they belong; ``data`` is not kept."""
        self._mark()
        if not self.opened.called:
            self._first += bytes(data[: _FIRST - len(self._first)])
        try:
            while data and self.failure is None:
                data = self._answers.take(data)
        except MalformedMessage as error:
            self.fail(errors.ServerError(self._not_understood(error)))

    def _not_understood(self, error: MalformedMessage) -> str:
        if self.opened.called:
            return f"the server's SFTP is not understood: {error}"
        text = _TEXT.match(self._first)
        assert text is not None, "it matches nothing too"
        return (
            f"the server writes text before SFTP begins: {words(text[0]).strip()!r}; have the account's start-up "
            "files (.bashrc, .profile and the like) write nothing where there is no terminal"
        )

    def _room(self, key: int, size: int) -> memoryview | None:
        """Return where data belongs, None where nobody wants it any more."""
        asked = self._waiting.get(key)
        if asked is None or asked.into is None:
            raise MalformedMessage("data that was not asked for")
        if size > len(asked.into):
            raise MalformedMessage("more data than was asked for")
        return None if asked.answer.called else asked.into[:size]

    def _deliver(self, kind: int, key: int, value: Any) -> None:
        asked = self._waiting.pop(key, None)
        if asked is None:
            raise MalformedMessage("an answer to nothing that was asked")
        answer = asked.answer
        self._quickest = min(self._quickest, self.clock.seconds() - asked.at)
        if answer.called:
            if asked.kind in _OPENED and kind == messages.HANDLE:
                self.request(messages.CLOSE, string(value)).addErrback(lambda _: None)
        elif isinstance(value, SftpError):
            answer.errback(value)
        elif kind != asked.expected:
            answer.errback(SftpError(messages.FAILURE, "an answer of another kind than was asked for"))
        else:
            answer.callback(value)

    # Its beginning and its end ------------------------------------------------------------------------------

    def channelOpen(self, specificData: bytes) -> None:
        if self.failure is not None:
            self.conn.sendClose(self)  # type: ignore[union-attr]
            return
        asked = self.conn.sendRequest(self, b"subsystem", string(b"sftp"), wantReply=1)  # type: ignore[union-attr]
        asked.addErrback(self._no_subsystem)
        # Without waiting for that answer: a server that refuses lets go of what comes behind.
        now = self.clock.seconds()
        self._waiting[0] = _Waiting(messages.INIT, messages.ANSWER_VERSION, None, self.opened, now)
        self._post(messages.INIT, (number(messages.VERSION),))

    def _no_subsystem(self, _: object) -> None:
        lost = self.conn.transport.failure  # type: ignore[union-attr]
        self.fail(lost or errors.ServerError("the server has no SFTP; enable the sftp subsystem in its sshd_config"))

    def openFailed(self, reason: Any) -> None:
        told = getattr(reason, "desc", None) or getattr(reason, "value", None) or b""
        said = words(told) if isinstance(told, bytes) else str(told)
        lost = self.conn.transport.failure  # type: ignore[union-attr]
        self.fail(lost or errors.ServerError(f"the server opens no further channel: {said}"))

    def extReceived(self, dataType: int, data: bytes) -> None:
        """Leave aside what the server's SFTP writes to its standard error."""

    def eofReceived(self) -> None:
        self.fail(errors.ConnectionLost("the server ended SFTP"))

    def closed(self) -> None:
        self.fail(self.conn.transport.failure or errors.ConnectionLost("the server closed the SFTP channel"))  # type: ignore[union-attr]

    def fail(self, error: DataMoverError) -> None:
        """End the channel; what is under way and what is asked later fails with ``error``."""
        if self.failure is not None:
            return
        self.failure = error
        self._stop_timer()
        self._queue.clear()
        waiting, self._waiting = self._waiting, {}
        if not self.opened.called:
            self.opened.errback(again(error))
        for asked in waiting.values():
            if not asked.answer.called:
                asked.answer.errback(again(error))
        if self in self.conn.channelsToRemoteChannel:  # type: ignore[union-attr]
            self.conn.sendClose(self)  # type: ignore[union-attr]

    # Silence ------------------------------------------------------------------------------------------------

    def _mark(self) -> None:
        self._heard = self.clock.seconds()
        self._packets = self.conn.transport.received  # type: ignore[union-attr]

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        if not self._waiting:
            self._timer = None
            return
        left = self._heard + self._idle_timeout - self.clock.seconds()
        if left > 0:
            self._timer = self.clock.callLater(left, self._check)
            return
        self._timer = None
        transport: Any = self.conn.transport  # type: ignore[union-attr]
        silent = transport.received == self._packets
        self.fail(errors.Stalled(f"the server did not answer for {self._idle_timeout:g} s"))
        if silent:
            transport.fail(errors.Stalled(f"the server did not answer for {self._idle_timeout:g} s"))


def again(error: DataMoverError) -> DataMoverError:
    """Return an error of its own for one more who waits: a traceback is not to be shared."""
    return error.saying(error.message, full=error.full)
