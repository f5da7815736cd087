"""One request to the tests' web server, and its connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from typing import Protocol as Seam
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request."""

    method: str
    target: str
    """The target in the request line, with the query."""
    headers: dict[str, str]
    """Lower-case name -> value."""
    connection: int
    """Counted from 1."""
    turn: int
    """Its number in its connection, counted from 1."""
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


class Exchange:
    """One request being answered."""

    def __init__(self, connection: "Connection", request: Request, reactor: Any) -> None:
        self.request = request
        self.reactor = reactor
        self._connection = connection

    @property
    def gone(self) -> bool:
        """The client has closed the connection."""
        return self._connection.lost

    def answer(
        self,
        status: int,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        length: int | None = None,
    ) -> None:
        """Send a whole answer; ``length`` is a wrong Content-Length."""
        announced = ("Content-Length", str(len(body) if length is None else length))
        self.write(self.head(status, [*headers, announced]) + (b"" if self.request.method == "HEAD" else body))

    def head(self, status: int, headers: Sequence[tuple[str, str]]) -> bytes:
        """Return a status line and headers, without sending them; Date is added."""
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Odd"
        lines = [f"HTTP/1.1 {status} {phrase}"]
        if not any(name.lower() == "date" for name, _ in headers):
            lines.append(f"Date: {formatdate(usegmt=True)}")
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode("utf-8")

    def write(self, data: bytes) -> None:
        if not self.gone:
            self._connection.transport.write(data)  # type: ignore[union-attr]

    def close(self) -> None:
        """Close the connection properly, once everything is written."""
        self._connection.transport.loseConnection()  # type: ignore[union-attr]

    def reset(self) -> None:
        """Reset the connection at once (RST); what was written and not sent yet is lost."""
        self._connection.transport.abortConnection()  # type: ignore[union-attr]

    def cut(self) -> None:
        """Close the TCP connection properly, once everything is written, without TLS's close_notify."""
        transport: Any = self._connection.transport
        (transport.transport if self._connection.secure else transport).loseConnection()

    async def pause(self, seconds: float) -> None:
        """Wait; ends early, without an error, when the client disconnects or the server stops."""
        await self._connection.pause(seconds)

    async def until_gone(self) -> None:
        """Wait until the client disconnects or the server stops."""
        while not self.gone:
            await self.pause(3600.0)


class Server(Seam):
    """The methods of the server that a connection calls."""

    @property
    def secure(self) -> bool: ...

    def joined(self, connection: "Connection") -> int: ...

    def left(self, connection: "Connection") -> None: ...

    def serve(self, connection: "Connection", request: Request) -> None: ...

    def expects(self, connection: "Connection", request: Request) -> bool: ...

    def later(self, seconds: float) -> Deferred[None]: ...


class Connection(Protocol):
    """Reads requests, one after the other."""

    lost = False

    def __init__(self, server: Server) -> None:
        self.secure = server.secure
        self._server = server
        self._received = b""
        self._turns = 0
        self._expecting = False
        """The server has decided whether to ask for the body of the request."""
        self._pauses: set[Deferred[None]] = set()
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:  # noqa: N802
        self._number = self._server.joined(self)
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                if "expect" in headers and not self._expecting:
                    self._expecting = True
                    asked = Request(method, target, headers, self._number, self._turns + 1)
                    if self._server.expects(self, asked) and not self.lost:
                        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # type: ignore[union-attr]
                return
            self._expecting = False
            body, self._received = rest[:length], rest[length:]
            self._turns += 1
            self._server.serve(self, Request(method, target, headers, self._number, self._turns, body))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.lost = True
        self._server.left(self)
        for pause in list(self._pauses):
            pause.cancel()
        self.gone.callback(None)

    async def pause(self, seconds: float) -> None:
        if self.lost:
            return
        waiting = self._server.later(seconds)
        self._pauses.add(waiting)
        try:
            await waiting
        except CancelledError:
            pass
        finally:
            self._pauses.discard(waiting)
