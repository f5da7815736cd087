"""A web server that misbehaves as configured, over real sockets, for faults that no real server produces on request.

    web = Web(reactor)
    web.route("/file.csv", File(b"…", etag='"1"'))
    web.route("/moved", redirect("/file.csv"))
    web.route("/broken", lambda exchange: exchange.reset())
    await web.start()
    … f"{web.url}/file.csv" …, web.requests …
    await web.stop()

A route is a path without its query; the query is in ``request.target``. The route's handler is a function or a
coroutine function, and may write any bytes to its ``Exchange``.
"""

import gzip
import inspect
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from tests.servers.certificates import ServerTLS
from tests.servers.exchange import Connection, Exchange, Request
from tests.servers.ports import reserved

__all__ = ["Exchange", "File", "Handler", "Request", "Web", "redirect", "silent", "status", "trickle"]

Handler = Callable[[Exchange], Awaitable[None] | None]


class Web:
    """The server; listens on 127.0.0.1 (or ``interface``), on a free port."""

    def __init__(self, reactor: Any, *, tls: ServerTLS | None = None, interface: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        """All requests, oldest first."""
        self.port = 0
        self._reactor = reactor
        self._tls = tls
        self._interface = interface
        self._routes: dict[str, Handler] = {}
        self.otherwise: Handler = status(404)
        """Answers requests for any other path."""
        self.refuses: Handler | None = None
        """Answers the head of a request that expects "100 Continue", in place of that; may answer nothing at all."""
        self._listener: Any = None
        self._reserved: socket.socket | None = None
        self._connections: set[Connection] = set()
        self._counted = 0

    @property
    def url(self) -> str:
        """The server's URL, without a "/" at its end."""
        return self.url_of(f"[{self._interface}]" if ":" in self._interface else self._interface)

    def url_of(self, host: str) -> str:
        """Return the server's URL with another of its names, such as "localhost"."""
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"

    @property
    def secure(self) -> bool:
        return self._tls is not None

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def route(self, path: str, handler: Handler) -> None:
        """Answer requests for ``path`` by this handler; any other path is answered 404."""
        self._routes[path] = handler

    def asked(self, path: str) -> list[Request]:
        """Return the requests for ``path``, oldest first."""
        return [request for request in self.requests if request.path == path]

    async def start(self) -> None:
        """Listen, always on the same port; ``port`` and ``url`` are valid from the first call on."""
        factory = Factory.forProtocol(lambda: Connection(self))
        factory.noisy = False
        reservation, self._reserved = self._reserved, None
        if self._tls is None:
            self._listener = self._reactor.listenTCP(self.port, factory, interface=self._interface)
        else:
            self._listener = self._reactor.listenSSL(self.port, factory, self._tls, interface=self._interface)
        self.port = self._listener.getHost().port
        if reservation is not None:
            reservation.close()

    async def stop(self, *, for_a_while: bool = False) -> None:
        """Stop listening and break every connection; completes when all are closed.

        The port is reserved for the next ``start``, which must follow.
        """
        if self._listener is not None:
            await maybeDeferred(self._listener.stopListening)
            self._listener = None
            if for_a_while:
                self._reserved = reserved(self.port, self._interface)
        await self.drop()

    async def drop(self) -> None:
        """Break every connection, and keep listening; completes when they are closed."""
        connections = list(self._connections)
        for connection in connections:
            connection.transport.abortConnection()  # type: ignore[union-attr]
        await gatherResults([connection.gone for connection in connections])

    # For its connections ------------------------------------------------------------------------------------------

    def joined(self, connection: Connection) -> int:
        self._connections.add(connection)
        self._counted += 1
        return self._counted

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def serve(self, connection: Connection, request: Request) -> None:
        self.requests.append(request)
        result = self._routes.get(request.path, self.otherwise)(Exchange(connection, request, self._reactor))
        if inspect.iscoroutine(result):
            Deferred.fromCoroutine(result)

    def expects(self, connection: Connection, request: Request) -> bool:
        """Tell whether to answer 100 Continue; if not, ``refuses`` has answered."""
        if self.refuses is None:
            return True
        self.requests.append(request)
        self.refuses(Exchange(connection, request, self._reactor))
        return False

    def later(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds, lambda: None)


@dataclass(slots=True)
class File:
    """A file that is served properly by default; its fields may be changed at any time."""

    content: bytes
    etag: str | None = None
    modified: float | None = None
    """POSIX seconds."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Further headers, such as Content-Disposition."""
    ranges: bool = True
    """False: Range is ignored, and the whole file sent."""
    cap: int | None = None
    """Bytes of a range that are sent at most."""
    heed_if_range: bool = True
    """False: a range of the current file is sent, whatever If-Range says."""
    head: int | None = None
    """The status that answers HEAD, None: a proper answer."""
    length: int | None = None
    """A wrong Content-Length; None: the true one."""
    chunked: bool = False
    """No Content-Length: chunks."""
    until_close: bool = False
    """No Content-Length: the body ends with the connection."""
    gzip: bool = False
    """Send it compressed, whatever the request accepts."""
    cut: int | None = None
    """Break the connection after this many bytes of the body."""
    cuts: int | None = None
    """How many times to do so; None: always."""
    pace: float | None = None
    """Seconds between two pieces of 64 KiB, None: all at once."""

    def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "HEAD" and self.head is not None:
            exchange.answer(self.head)
            return
        code, headers, body = self._part(request)
        if self.gzip:
            headers.append(("Content-Encoding", "gzip"))
            body = gzip.compress(body)
        if self.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
            pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        elif self.until_close:
            headers.append(("Connection", "close"))
        else:
            headers.append(("Content-Length", str(len(body) if self.length is None else self.length)))
        exchange.write(exchange.head(code, headers))
        if request.method != "HEAD":
            self._send(exchange, body)
        elif self.until_close:
            exchange.close()

    def _send(self, exchange: Exchange, body: bytes) -> None:
        if self.cut is not None and self.cut < len(body) and self.cuts != 0:
            self.cuts = None if self.cuts is None else self.cuts - 1
            exchange.write(body[: self.cut])
            exchange.close()
            return
        if self.pace is not None:
            Deferred.fromCoroutine(self._send_slowly(exchange, body, self.pace))
            return
        exchange.write(body)
        if self.until_close or (self.length is not None and len(body) < self.length):
            exchange.close()

    async def _send_slowly(self, exchange: Exchange, body: bytes, pace: float) -> None:
        for start in range(0, len(body), 65536):
            if exchange.gone:
                return
            exchange.write(body[start : start + 65536])
            await exchange.pause(pace)

    def _part(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = list(self.headers)
        modified = None if self.modified is None else formatdate(self.modified, usegmt=True)
        if self.etag is not None:
            headers.append(("ETag", self.etag))
        if modified is not None:
            headers.append(("Last-Modified", modified))
        wanted = request.headers.get("range")
        condition = request.headers.get("if-range")
        stale = self.heed_if_range and condition is not None and condition not in (self.etag, modified)
        if wanted is None or not self.ranges or stale or request.method == "HEAD":
            return 200, headers, self.content
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        size, start = len(self.content), int(first)
        end = min(int(last) + 1, size) if last else size
        end = end if self.cap is None else min(end, start + self.cap)
        if start >= size:
            return 416, [("Content-Range", f"bytes */{size}")], b""
        return 206, [*headers, ("Content-Range", f"bytes {start}-{end - 1}/{size}")], self.content[start:end]


def status(code: int, headers: Sequence[tuple[str, str]] = (), body: bytes = b"no file here") -> Handler:
    """Return a handler that always gives this answer."""
    return lambda exchange: exchange.answer(code, headers, body)


def redirect(target: str, code: int = 302) -> Handler:
    """Return a handler that redirects."""
    return status(code, [("Location", target)], b"elsewhere")


async def silent(exchange: Exchange) -> None:
    """Accept the request and never answer."""
    await exchange.until_gone()


def trickle(content: bytes, *, seconds: float, piece: int = 1, stop_after: int | None = None) -> Handler:
    """Send ``piece`` bytes every ``seconds``; after ``stop_after`` bytes send no more but stay connected."""

    async def handler(exchange: Exchange) -> None:
        exchange.write(exchange.head(200, [("Content-Length", str(len(content)))]))
        if exchange.request.method == "HEAD":
            return
        for start in range(0, len(content), piece):
            if exchange.gone:
                return
            if stop_after is not None and start >= stop_after:
                await exchange.until_gone()
                return
            exchange.write(content[start : start + piece])
            await exchange.pause(seconds)

    return handler
