"""One person at the console: a Python prompt with a few names, every line of which is logged.

How the person came in is the business of ``telnet`` and ``ssh``; what the names do, of ``backend``. Whoever is in may
run any Python in the service, as the manhole always could.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.conch.insults.insults import ServerProtocol
from twisted.conch.manhole import Manhole, ManholeInterpreter
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover.errors import DataMoverError
from datamover.text.printable import lines

WELCOME = "datamover: help() lists what there is; Ctrl-D leaves.\n"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is at the console."""

    who: str
    origin: str
    """The way in and the address: "ssh 127.0.0.1"."""


class Desk(Protocol):
    """Where visitors are received."""

    def check(self, username: str, password: str, origin: str) -> Awaitable[bool]:
        """Tell whether a name and a password are the operator's; recorded, whichever they are."""
        ...

    def came(self, who: str, origin: str, *, let_in: bool) -> None:
        """Record that somebody was let in, or was not."""
        ...

    def namespace(self, visitor: Visitor) -> dict[str, Callable[..., Awaitable[str]]]:
        """Return what a visitor may type, and what answers with text."""
        ...

    def typed(self, visitor: Visitor, line: str) -> None:
        """Record a line, before it is run."""
        ...

    async def run(self, visitor: Visitor, line: str) -> tuple[bool, str]:
        """Record a line and run it; return whether that went well, and what to show."""
        ...


def terminal(backend: Desk, visitor: Visitor) -> ServerProtocol:
    """Return the protocol of a visitor's terminal."""
    return ServerProtocol(Console, backend, visitor)


class Interpreter(ManholeInterpreter):
    """Shows the text that a name answers with, once it is there; everything else as Python does."""

    def displayhook(self, obj: Any) -> None:
        if hasattr(obj, "cr_await"):
            Deferred.fromCoroutine(obj).addCallbacks(self._show, self._fail)
        else:
            super().displayhook(obj)

    def _show(self, text: Any) -> None:
        self.handler.addOutput(f"{lines(str(text))}\n".encode(), True)

    def _fail(self, failure: Failure) -> None:
        self._show(told(failure))


def told(failure: Failure) -> str:
    """Return what is shown of an error: its words, or a bug's traceback."""
    error = failure.value
    return error.full if isinstance(error, DataMoverError) else failure.getTraceback()


class Console(Manhole):
    """One session."""

    def __init__(self, backend: Desk, visitor: Visitor) -> None:
        super().__init__(backend.namespace(visitor))
        self._desk = backend
        self._visitor = visitor

    def connectionMade(self) -> None:  # noqa: N802
        super().connectionMade()
        self.interpreter = Interpreter(self, self.namespace)

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        self._desk.typed(self._visitor, line.decode("utf-8", "replace"))
        super().lineReceived(line)

    def initializeScreen(self) -> None:  # noqa: N802
        self.terminal.reset()
        self.terminal.write(WELCOME.encode())
        self.terminal.write(self.ps[self.pn])
        self.setInsertMode()
