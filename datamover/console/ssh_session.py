"""A session over SSH after the login: a terminal with the prompt, or one line that is run and answered."""

# ruff: noqa: N802, N803 - the names of what is overridden are conch's

import struct
from functools import partial
from typing import Any

from twisted.conch.avatar import ConchUser
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.connection import EXTENDED_DATA_STDERR
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.bounds.console import LARGEST_TERMINAL, LARGEST_TYPED_PACKET, LONGEST_VARIABLE, MOST_VARIABLES
from datamover.console.backend import ConsoleBackend
from datamover.console.outlet import Outlet
from datamover.console.shell import Shell
from datamover.console.tables import PLAIN, Page, Screen, render
from datamover.console.terminal.display import USUAL
from datamover.console.terminal.keys import ConsoleTerminal
from datamover.console.terminal.session import ConsoleSession
from datamover.console.visitor import Visitor

log = Logger()

CTRL_C = b"\x03"
_QUIET = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # conch tells every step at "info"


class ConsoleUser(ConchUser):
    """A visitor, who may open sessions and nothing else."""

    def __init__(self, backend: ConsoleBackend, visitor: Visitor) -> None:
        super().__init__()
        self.backend = backend
        self.visitor = visitor
        self.channelLookup[b"session"] = _Channel


class _Channel(SSHChannel):
    """One session."""

    name = b"session"
    _log = _QUIET
    avatar: ConsoleUser

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **{"localMaxPacket": LARGEST_TYPED_PACKET, **keywords})
        self._size = USUAL
        self._kind: str | None = None
        """The terminal's type (TERM); None: there is no terminal."""
        self._environment: dict[str, str] = {}
        self._terminal: Any = None
        self._line: _Line | None = None
        self._ended = False
        self.outlet = Outlet(self.write, self._waits)
        self.errors = Outlet(partial(self.writeExtended, EXTENDED_DATA_STDERR), self._waits)

    def _waits(self) -> bool:
        connection: Any = self.conn
        return bool(self.buf or self.extBuf or connection.transport.unread)

    @property
    def busy(self) -> bool:
        """Whether keys wait that will be taken in the next turns of the event loop."""
        return self._terminal is not None and bool(self._terminal.busy)

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        """Do what a client asks for; return False where that is not known, or cannot be read."""
        try:
            return bool(super().requestReceived(requestType, data))
        except (struct.error, UnicodeDecodeError):
            return False

    def request_pty_req(self, data: bytes) -> bool:
        kind, size = getNS(data)  # The terminal modes that follow are not used.
        columns, rows = struct.unpack(">2L", size[:8])
        self._kind = kind[:LONGEST_VARIABLE].decode("ascii", "replace")
        self._resize(columns, rows)
        return True

    def request_env(self, data: bytes) -> bool:
        name, value, _ = getNS(data, 2)
        if len(self._environment) < MOST_VARIABLES and len(name) + len(value) <= LONGEST_VARIABLE:
            self._environment[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        return True

    def request_window_change(self, data: bytes) -> bool:
        self._resize(*struct.unpack(">2L", data[:8]))
        return True

    def _resize(self, columns: int, rows: int) -> None:
        columns, rows = min(columns, LARGEST_TERMINAL), min(rows, LARGEST_TERMINAL)
        self._size = (columns, rows)
        if self._terminal is not None:
            self._terminal.terminalProtocol.terminalSize(columns, rows)

    def request_shell(self, data: bytes) -> bool:
        if self._terminal is not None or self._line is not None:
            return False
        user = self.avatar
        self._terminal = ConsoleTerminal(
            ConsoleSession, user.backend, user.visitor, self._size, self._kind or "", self._environment
        )
        self._terminal.makeConnection(_Screen(self))
        return True

    def request_exec(self, data: bytes) -> bool:
        line = getNS(data)[0].decode("utf-8", "replace")
        if self._terminal is not None or self._line is not None:
            return False
        self._line = _Line(self, None if self._kind is None else self._size[0])
        self._line.run(self.avatar.backend.shell(self.avatar.visitor, self._line), line)
        return True

    def leave(self, status: int) -> None:
        """End the session, with an exit status."""
        if not self._ended:
            self._ended = True
            self.outlet.tell()
            self.errors.tell()
            connection: Any = self.conn
            connection.sendRequest(self, b"exit-status", struct.pack(">L", status))
            self.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._terminal is not None:
            self._terminal.dataReceived(data)
        elif self._line is not None and self._kind is not None and CTRL_C in data:
            self._line.stop()

    def eofReceived(self) -> None:
        if self._terminal is not None:
            self._terminal.terminalProtocol.hangUp()

    def closed(self) -> None:
        self._ended = True
        leaving, self._terminal = self._terminal, None
        if leaving is not None:
            leaving.connectionLost(Failure(ConnectionResetError("the session is over")))
        if self._line is not None:
            self._line.stop()


class _Screen:
    """What a terminal is connected to."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def write(self, data: bytes) -> None:
        self._channel.outlet.write(data)

    def loseConnection(self) -> None:
        """End the session: the visitor has left the prompt."""
        self._channel.leave(0)


class _Line:
    """One line that is run: its answers as they come, errors apart. Satisfies ``visitor.View``."""

    def __init__(self, channel: _Channel, columns: int | None) -> None:
        """``columns`` are those of the terminal, None where there is none."""
        self._channel = channel
        self._columns = columns
        self._running: Deferred[None] | None = None

    @property
    def screen(self) -> Screen:
        return PLAIN if self._columns is None else Screen(self._columns or USUAL[0])

    def write(self, text: str, *, error: bool = False) -> None:
        if self._channel.localClosed:
            return
        data = text.encode("utf-8", "replace")
        if self._columns is not None:
            self._channel.outlet.write(data.replace(b"\n", b"\r\n"))
        elif error:
            self._channel.errors.write(data)
        else:
            self._channel.outlet.write(data)

    def show(self, page: Page) -> None:
        self.write(render(page, self.screen) + "\n")

    redraw = show

    def run(self, shell: Shell, line: str) -> None:
        self._running = Deferred.fromCoroutine(self._run(shell, line))
        self._running.addErrback(lambda failure: log.failure("a line of the console", failure))

    async def _run(self, shell: Shell, line: str) -> None:
        try:
            more = await shell.enter(line.strip(), remember=False)
        except CancelledError:
            self._channel.leave(130)
            return
        if more:
            self.write("the line is not whole: something is still to be closed\n", error=True)
        self._channel.leave(1 if shell.failed or more else 0)

    def stop(self) -> None:
        """End what is running."""
        if self._running is not None:
            self._running.cancel()
