"""One SFTP channel of an SSH connection: sends requests and receives answers, any number of them concurrently.

conch's channel copies its buffer again and again. This one queues the pieces as they are, and sends them as the
server's window allows. Its users decide what the requests are and how many bytes may be unanswered.
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
"""Bytes of the receive window; the number of bytes requested bounds what the server sends."""
PACKET = 2**17
"""Bytes of the largest CHANNEL_DATA message that the server may send; OpenSSH fills it when the socket is slower."""
FAR = 0.005
"""Round-trip seconds above which a server's window (2 MiB for OpenSSH) bounds the speed."""

_CHANNEL_DATA = 94
_FIRST = 200
"""Bytes received before SFTP begins that are stored, to be shown if it does not begin."""
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
    """A request without an answer yet."""

    kind: int
    expected: int
    into: memoryview | None
    """The buffer for the bytes that it reads."""
    answer: Deferred[Any]
    at: float


class SftpChannel(SSHChannel):
    """Requests and answers. ``opened`` fires with the server's extensions, or fails if there is no channel."""

    name = b"session"
    _log = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # conch tells every step at "info"

    def __init__(self, clock: Any, idle_timeout: float) -> None:
        super().__init__(localWindow=WINDOW, localMaxPacket=PACKET)
        self.opened: Deferred[dict[bytes, bytes]] = Deferred()
        self.failure: DataMoverError | None = None
        self.clock = clock
        self.idle_timeout = idle_timeout
        self.posted = self.sent = 0
        """Bytes of all requests so far, and how many of them the connection has taken."""
        self.drains = 0
        """How often the socket took all that was before it, while this channel waited for that."""
        self._queue: deque[Piece] = deque()
        self._waiting: dict[int, _Waiting] = {}
        self._quickest = math.inf
        """Seconds of the fastest answer: little more than the round trip."""
        self._next = 0
        self._together = 0
        self._answers = Answers(self._room, self._deliver)
        self._timer: Any = None
        self._heard = 0.0
        self._packets = 0
        self._first = b""
        """The bytes received before SFTP began."""

    @property
    def distance(self) -> float:
        """The round trip in seconds, as the fastest answer took; 0 before the first."""
        return 0.0 if math.isinf(self._quickest) else self._quickest

    @property
    def software(self) -> bytes:
        """The software version that the server announces (RFC 4253, section 4.2)."""
        version: bytes = getattr(self.conn.transport, "otherVersionString", b"")  # type: ignore[union-attr]
        return version.removeprefix(b"SSH-2.0-").removeprefix(b"SSH-1.99-")

    @property
    def far(self) -> bool:
        """Tell whether the round trip is so long that the server's window bounds the speed."""
        return self.distance > FAR

    # Requests -----------------------------------------------------------------------------------------------

    def request(
        self, kind: int, *pieces: Piece, expect: int | None = None, into: memoryview | None = None
    ) -> Deferred[Any]:
        """Send one request; fires with the answer's value: None for a plain "OK", for READ the bytes put ``into``.

        Fails with SftpError where the server refuses, with ConnectionLost or Stalled where it does not answer.
        Cancelling discards the answer; if it is a handle, that is closed.
        """
        answer: Deferred[Any] = Deferred(lambda _: None)
        if self.failure is not None:
            answer.errback(self.failure.copy())
            return answer
        if not self._waiting:
            self._mark()
        self._next = self._next % (2**32 - 1) + 1
        expected = _EXPECTED.get(kind, messages.STATUS) if expect is None else expect
        self._waiting[self._next] = _Waiting(kind, expected, into, answer, self.clock.seconds())
        self._post(kind, (number(self._next), *pieces))
        if self._timer is None:
            self._timer = self.clock.callLater(self.idle_timeout, self._check)
        return answer

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send the requests made within at the end of the block, in as few packets as possible."""
        self._together += 1
        try:
            yield
        finally:
            self._together -= 1
            self.pump()

    def _post(self, kind: int, pieces: tuple[Piece, ...]) -> None:
        size = 1 + sum(map(len, pieces))
        self.posted += 4 + size
        self._queue.append(number(size) + kind.to_bytes(1, "big"))
        self._queue.extend(pieces)
        self.pump()

    def pump(self) -> None:
        """Send the queue, as far as the server's window and the connection allow, unless more is about to be queued."""
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
            self.sent += size
            remote: int = connection.channelsToRemoteChannel[self]
            connection.transport.send(_CHANNEL_DATA, (number(remote) + number(size), *taken))

    def drained(self) -> None:
        """Take note that the socket, which this channel waits for, took all that it was given."""
        self.drains += 1
        self._mark()

    def addWindowBytes(self, data: int) -> None:
        self.remoteWindowLeft += data
        self._mark()
        self.pump()

    # Answers ------------------------------------------------------------------------------------------------

    def dataReceived(self, data: memoryview) -> None:
        """Parse received bytes; ``data`` is not used after the call."""
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
        assert text is not None, "the pattern matches the empty string too"
        return (
            f"the server writes text before SFTP begins: {words(text[0]).strip()!r}; have the account's start-up "
            "files (.bashrc, .profile and the like) write nothing where there is no terminal"
        )

    def _room(self, key: int, size: int) -> memoryview | None:
        """Return the buffer for the data of a request, None if the request was cancelled."""
        asked = self._waiting.get(key)
        if asked is None or asked.into is None:
            raise MalformedMessage("data that was not requested")
        if size > len(asked.into):
            raise MalformedMessage("more data than was requested")
        return None if asked.answer.called else asked.into[:size]

    def _deliver(self, kind: int, key: int, value: Any) -> None:
        asked = self._waiting.pop(key, None)
        if asked is None:
            raise MalformedMessage("an answer to no request")
        answer = asked.answer
        self._quickest = min(self._quickest, self.clock.seconds() - asked.at)
        if answer.called:
            if asked.kind in _OPENED and kind == messages.HANDLE:
                self.request(messages.CLOSE, string(value)).addErrback(lambda _: None)
        elif isinstance(value, SftpError):
            answer.errback(value)
        elif kind != asked.expected:
            answer.errback(SftpError(messages.FAILURE, "the answer is of a kind that the request does not have"))
        else:
            answer.callback(value)

    # Start and end ------------------------------------------------------------------------------------------

    def channelOpen(self, specificData: bytes) -> None:
        if self.failure is not None:
            self.conn.sendClose(self)  # type: ignore[union-attr]
            return
        asked = self.conn.sendRequest(self, b"subsystem", string(b"sftp"), wantReply=1)  # type: ignore[union-attr]
        asked.addErrback(self._no_subsystem)
        # Sent before that answer arrives: a server that refuses the subsystem ignores what follows.
        now = self.clock.seconds()
        self._waiting[0] = _Waiting(messages.INIT, messages.ANSWER_VERSION, None, self.opened, now)
        self._post(messages.INIT, (number(messages.VERSION),))

    def _no_subsystem(self, _: object) -> None:
        lost = self.conn.transport.failure  # type: ignore[union-attr]
        self.fail(lost or errors.ServerError("the server has no SFTP; enable the sftp subsystem in its sshd_config"))

    def openFailed(self, reason: Any) -> None:
        why = getattr(reason, "desc", None) or getattr(reason, "value", None) or b""
        said = words(why) if isinstance(why, bytes) else str(why)
        lost = self.conn.transport.failure  # type: ignore[union-attr]
        self.fail(lost or errors.ServerError(f"the server opens no further channel: {said}"))

    def extReceived(self, dataType: int, data: bytes) -> None:
        """Ignore what the server's SFTP process writes to standard error."""

    def eofReceived(self) -> None:
        self.fail(errors.ConnectionLost("the server ended SFTP"))

    def closed(self) -> None:
        self.fail(self.conn.transport.failure or errors.ConnectionLost("the server closed the SFTP channel"))  # type: ignore[union-attr]

    def fail(self, error: DataMoverError) -> None:
        """Close the channel; pending and later requests fail with ``error``."""
        if self.failure is not None:
            return
        self.failure = error
        self._stop_timer()
        self._queue.clear()
        waiting, self._waiting = self._waiting, {}
        if not self.opened.called:
            self.opened.errback(error.copy())
        for asked in waiting.values():
            if not asked.answer.called:
                asked.answer.errback(error.copy())
        if self in self.conn.channelsToRemoteChannel:  # type: ignore[union-attr]
            self.conn.sendClose(self)  # type: ignore[union-attr]

    # Idle timeout -------------------------------------------------------------------------------------------

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
        left = self._heard + self.idle_timeout - self.clock.seconds()
        if left > 0:
            self._timer = self.clock.callLater(left, self._check)
            return
        self._timer = None
        transport: Any = self.conn.transport  # type: ignore[union-attr]
        silent = transport.received == self._packets
        self.fail(self.stalled())
        if silent:
            transport.fail(self.stalled())

    def stalled(self) -> DataMoverError:
        """Return the error for an answer that does not come."""
        return errors.Stalled(f"the server did not answer for {self.idle_timeout:g} s")
