"""The control connection of FTP: commands leave in order, and replies come back in that order (RFC 959, chapter 5)."""

# ruff: noqa: N802 - the names of what is overridden are Twisted's

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from socket import MSG_PEEK
from typing import Any

from OpenSSL.SSL import Error as OpenSSLError
from OpenSSL.SSL import SysCallError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from datamover import errors
from datamover.bounds.servers import LONGEST_REPLY_LINE
from datamover.errors import DataMoverError
from datamover.protocols.ftp.client.replies import TELLING, FtpRefusal, MalformedReply, Reply, ReplyReader
from datamover.protocols.tls.verified import VerifiedTLS

_IAC = b"\xff"
"""Telnet's escape byte; in a name it is sent twice (RFC 854; RFC 959, section 5.3)."""
_UNUSABLE = (b"\r", b"\n", b"\0")
LEAST_TIMEOUT = 1.0


class UnusableName(Exception):
    """A name that the control connection cannot carry."""


@dataclass(slots=True)
class _Command:
    line: bytes
    shown: str
    """Its name in messages, without the argument, which may be secret."""
    answer: Deferred[Reply]
    began: Callable[[Reply], None] | None = None
    """Called with a preliminary reply."""
    due: bool = True
    """Whether its reply must come within the idle timeout; it need not while data is transferred."""
    within: float = inf
    """Seconds within which its reply must come, if that is sooner."""
    dropped: bool = False
    sent: bool = field(default=False)


def again(error: DataMoverError) -> DataMoverError:
    """Return a copy of an error, so that each who meets it raises one of its own."""
    return error.saying(error.message, full=error.full)


class Control(LineReceiver):
    """One control connection. Without ``pipelining`` a command is sent only after the one before it was answered.

    When the connection ends, pending and later commands fail with an error of the family.
    """

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = LONGEST_REPLY_LINE

    def __init__(self, clock: Any, host: str, idle_timeout: float, tls: VerifiedTLS | None = None) -> None:
        """Prepare; ``tls`` where it is there from the first byte."""
        self._clock = clock
        self._host = host
        self._idle_timeout = max(idle_timeout, LEAST_TIMEOUT)
        self._reader = ReplyReader()
        self._commands: deque[_Command] = deque()
        self._silence: Any = None
        self._tls = tls
        self.pipelining = False
        self.telnet = True
        """Whether the server takes a byte 255 that comes twice for one, as it should."""
        self.heard_at = clock.seconds()
        """When the server said something last."""
        self.established = False
        """Whether the login is done: what breaks TLS from then on is no fault of its settings."""
        self.failure: DataMoverError | None = None
        """What ended it; None while it is usable."""
        self.gone: Deferred[None] = Deferred()
        """Fires when its socket is closed."""

    # Asking -------------------------------------------------------------------------------------------------------

    def greeting(self) -> Deferred[Reply]:
        """Fire with what the server says first; call it before the connection is made."""
        command = _Command(b"", "the greeting", Deferred(), sent=True)
        self._commands.append(command)
        return command.answer

    def ask(
        self,
        verb: str,
        argument: bytes | None = None,
        *,
        began: Callable[[Reply], None] | None = None,
    ) -> Deferred[Reply]:
        """Send a command; fire with its final reply, positive or not. Cancelling discards the reply.

        ``began`` is for commands that transfer data: it is called with the preliminary reply, after which the final
        one has no time limit until ``expect`` is called. Fails with UnusableName for an argument with a line break.
        """
        command = _Command(b"", verb, Deferred(self._forget), began)
        if self.failure is not None:
            command.answer.errback(again(self.failure))
            return command.answer
        line = verb.encode("ascii")
        if argument is not None:
            if any(byte in argument for byte in _UNUSABLE):
                command.answer.errback(UnusableName(verb))
                return command.answer
            line += b" " + (argument.replace(_IAC, _IAC + _IAC) if self.telnet else argument)
        command.line = line + b"\r\n"
        self._commands.append(command)
        self._send()
        return command.answer

    def move(self) -> None:
        """Have the reply that is under way not be due: data moves, though the server has not said so."""
        if self._commands:
            self._commands[0].due = False
            self._watch()

    def expect(self, within: float = inf) -> None:
        """Limit the time of the pending reply from now on: to the idle timeout, and to ``within`` seconds."""
        if self._commands:
            self._commands[0].due, self._commands[0].within = True, within
            self._watch()

    @property
    def quiet(self) -> bool:
        """Whether no reply is pending."""
        return not self._commands

    @property
    def spoken(self) -> bool:
        """Whether the socket has something to read, such as the connection's end."""
        lowest: Any = self.transport
        if isinstance(lowest, TLSMemoryBIOProtocol):
            lowest = lowest.transport
        try:
            lowest.socket.recv(1, MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    # The connection -----------------------------------------------------------------------------------------------

    def secure(self, tls: VerifiedTLS, creator: IOpenSSLClientConnectionCreator) -> None:
        """Speak TLS from now on; errors say why it failed."""
        self._tls = tls
        if self.clearLineBuffer():  # type: ignore[no-untyped-call]
            # Whatever stands before TLS begins may be anybody's (RFC 4217; as CVE-2011-0411 was for SMTP).
            self.fail(errors.TLSFailed(f"no secure connection to {self._host}: it sent text in clear after AUTH TLS"))
            return
        self.transport.startTLS(creator)

    def fail(self, error: DataMoverError) -> None:
        """End it at once, with a reason."""
        self._end(error)
        if self.transport is not None:
            self.transport.abortConnection()

    def leave(self) -> None:
        """Say QUIT, and close; who still waits gets ConnectionLost."""
        if self.failure is None and self.transport is not None:
            self.transport.write(b"QUIT\r\n")
            self.transport.loseConnection()
        self._end(errors.ConnectionLost("it was closed while it was in use; the service is stopping"))

    def connectionMade(self) -> None:
        self.transport.setTcpKeepAlive(True)
        self.transport.setTcpNoDelay(True)
        self._watch()

    def lineReceived(self, line: bytes) -> None:
        if self.failure is not None:
            return
        self.heard_at = self._clock.seconds()
        try:
            reply = self._reader.read(line.removesuffix(b"\r"))
        except MalformedReply as error:
            self.fail(errors.ServerError(f"{self._host} does not answer as an FTP server: {error}"))
            return
        self._watch()
        if reply is not None:
            self._replied(reply)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.fail(
            errors.ServerError(
                f"{self._host} does not answer as an FTP server: "
                f"it sends a line of more than {LONGEST_REPLY_LINE} bytes"
            )
        )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(self._lost(reason.value))
        self.gone.callback(None)

    def _lost(self, reason: BaseException | None) -> DataMoverError:
        if isinstance(reason, DataMoverError):
            return reason
        tls = None if self.established else self._tls
        if tls is not None and isinstance(reason, OpenSSLError) and not isinstance(reason, SysCallError):
            return tls.refused(self._host, reason)
        how = "closed" if isinstance(reason, ConnectionDone) else "broke"
        while_ = f" while {self._commands[0].shown} was under way" if self._commands else ""
        return errors.ConnectionLost(f"the connection to {self._host} {how}{while_}")

    # ------------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        lines = []
        for number, command in enumerate(self._commands):
            if number and not self.pipelining:
                break
            if not command.sent:
                command.sent = True
                lines.append(command.line)
        if lines:
            self.transport.write(b"".join(lines))
            self._watch()

    def _replied(self, reply: Reply) -> None:
        if reply.code == 421 and (not self._commands or self._commands[0].began is None):
            self.fail(busy(self._host, reply) or errors.ConnectionLost(f"{self._host} closes: {reply.words}"))
            return
        if not self._commands:
            return  # Some servers say a second time that a transfer ended.
        command = self._commands[0]
        if reply.of_a_transfer and command.shown in TELLING:
            return  # The same, while something else is asked already.
        if not reply.fits(command.shown):
            self.fail(
                errors.ServerError(
                    f"{self._host} answers {command.shown} with {reply.code} {reply.words}, which is the answer to "
                    "something else"
                )
            )
            return
        if not reply.final:
            if command.began is not None and command.line:
                command.due = False
                self._watch()
                command.began(reply)
            return
        self._commands.popleft()
        if reply.code == 421:
            # First of all: who gets the reply may ask for something at once, of another connection.
            self.fail(errors.ConnectionLost(f"{self._host} closes: {reply.words}"))
        if not command.dropped and not command.answer.called:
            command.answer.callback(reply)  # Who gets it may want nothing more of what was to follow.
        self._send()
        self._watch()

    def _forget(self, answer: Deferred[Reply]) -> None:
        for command in tuple(self._commands):
            if command.answer is answer:
                command.dropped = True
                if not command.sent:
                    self._commands.remove(command)

    def _watch(self) -> None:
        """Have the time run while a reply is due, and from now on."""
        due = self.failure is None and bool(self._commands) and self._commands[0].due
        if self._silence is not None and self._silence.active():
            if due:
                self._silence.reset(self._patience)
                return
            self._silence.cancel()
        self._silence = self._clock.callLater(self._patience, self._silent) if due else None

    @property
    def _patience(self) -> float:
        """Seconds for which the server may say nothing while the first reply is due."""
        return min(self._idle_timeout, self._commands[0].within)

    def _silent(self) -> None:
        what = self._commands[0].shown
        self.fail(errors.Stalled(f"{self._host} does not answer {what} within {self._patience:g} s"))

    def _end(self, error: DataMoverError) -> None:
        if self.failure is not None:
            return
        self.failure = error
        if self._silence is not None and self._silence.active():
            self._silence.cancel()
        commands, self._commands = self._commands, deque()
        for command in commands:
            if not command.dropped and not command.answer.called:
                command.answer.errback(again(error))


_MANY = re.compile(
    r"too many|maximum|limit|try again later|connections|busy|only \d+ (session|user|login)|no more than \d+"
    r"|concurrent|simultaneous|same time|already (connected|logged in)"
)
"""What servers say that have enough connections, in small letters: RFC 959 has no code for it."""


def busy(host: str, reply: Reply) -> DataMoverError | None:
    """Return RateLimited where a server says in words that it has enough connections."""
    words = reply.words.lower()
    if reply.code in (421, 530) and _MANY.search(words) and "login incorrect" not in words:
        return errors.RateLimited(f"{host} takes no further connection now: {reply.words}")
    return None


def checked(reply: Reply, command: str) -> Reply:
    """Return a positive reply; raises FtpRefusal for a negative one."""
    if not reply.positive:
        raise FtpRefusal(reply, command)
    return reply
