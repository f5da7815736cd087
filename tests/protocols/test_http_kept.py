"""When a connection serves the next request, and when it does not."""

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall

from datamover.protocols.http.client import body as bodies
from datamover.protocols.http.client.pool import KEPT_FOR, KEPT_PER_HOST
from tests.protocols.reading import content_of, reading, rest_of, serving, soon
from tests.servers.web import Exchange, File, Handler

CONTENT = b"once more" * 100
FAST = 20.0
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


class Hurry:
    """The reactor, with a clock that is FAST times as fast."""

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def seconds(self) -> float:
        return float(reactor.seconds() * FAST)

    def callLater(self, delay: float, call: Any, *args: Any, **kwargs: Any) -> IDelayedCall:  # noqa: N802
        return reactor.callLater(delay / FAST, call, *args, **kwargs)


def raw(answer: bytes) -> Handler:
    """Send these bytes and wait."""
    return lambda exchange: exchange.write(answer)


def chunked(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(content), content)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood",
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, x\r\nContent-Length: 4\r\n\r\ngood",
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 4\r\n\r\ngood",
        chunked(b"good") + b"\r\n",
        chunked(b"good") + b"X-Trailer: 1\r\n\r\n",
    ],
)
async def test_a_connection_serves_again(answer: bytes) -> None:
    """After an answer with a clear end the next request goes by the same connection."""
    async with serving() as web, reading() as client:
        web.route("/f", raw(answer))
        for _ in range(2):
            assert await content_of(client, f"{web.url}/f") == b"good"
        assert [request.connection for request in web.requests] == [1, 1]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 4\r\n\r\ngood",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood",
        chunked(b"good") + b"\r\n" + EVIL,
        chunked(b"good") + b"\r\nrubbish",
    ],
    ids=["close", "1.0", "an answer nobody asked for", "rubbish"],
)
async def test_a_connection_serves_no_more(answer: bytes) -> None:
    """If the server closes the connection, or sends too much, it is not used again; the answer is valid."""
    async with serving() as web, reading() as client:
        web.route("/f", raw(answer))
        for _ in range(2):
            assert await content_of(client, f"{web.url}/f") == b"good"
        assert [request.connection for request in web.requests] == [1, 2]
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_what_nobody_asked_for() -> None:
    """Bytes that come on an idle connection close it, and are never taken for the next answer."""

    async def handler(exchange: Exchange) -> None:
        exchange.answer(200, [], CONTENT)
        await exchange.pause(0.05)
        exchange.write(EVIL)

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        web.route("/g", File(b"good"))
        assert await content_of(client, f"{web.url}/f") == CONTENT
        assert await soon(lambda: web.open_connections == 0)
        assert await content_of(client, f"{web.url}/g") == b"good"


@pytest_twisted.ensureDeferred
async def test_an_answer_in_single_bytes() -> None:
    """An answer, and the hint before it, arrive byte by byte."""

    async def handler(exchange: Exchange) -> None:
        for byte in exchange.head(103, [("Link", "</a>")]) + chunked(b"0123456789") + b"\r\n":
            exchange.write(bytes([byte]))
            await exchange.pause(0)

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        for _ in range(2):
            assert await content_of(client, f"{web.url}/f") == b"0123456789"
        assert {request.connection for request in web.requests} == {1}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("by_chunks", [False, True])
async def test_a_connection_that_was_paused(by_chunks: bool) -> None:
    """A connection that was paused for a slow reader is used again."""
    content = b"x" * (3 * bodies.ROOMS.size)
    async with serving() as web, reading() as client:
        web.route("/f", File(content, chunked=by_chunks))
        for _ in range(2):
            source = await client.origin(f"{web.url}/f").open()
            body = source._source._body  # type: ignore[attr-defined]
            assert await soon(lambda body=body: body._paused)  # type: ignore[misc]
            assert await rest_of(source) == content
        assert {request.connection for request in web.requests} == {1}


@pytest_twisted.ensureDeferred
async def test_how_many_are_kept() -> None:
    """Idle connections beyond the number that is kept for a host are closed."""
    release: Deferred[None] = Deferred()

    async def handler(exchange: Exchange) -> None:
        mine: Deferred[None] = Deferred()
        release.chainDeferred(mine)
        await mine
        exchange.answer(200, [], CONTENT)

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        reads = [Deferred.fromCoroutine(content_of(client, f"{web.url}/f")) for _ in range(KEPT_PER_HOST + 3)]
        assert await soon(lambda: web.open_connections == KEPT_PER_HOST + 3)
        assert await soon(lambda: len(web.requests) == KEPT_PER_HOST + 3)
        release.callback(None)
        assert await gatherResults(reads) == [CONTENT] * (KEPT_PER_HOST + 3)
        assert await soon(lambda: web.open_connections == KEPT_PER_HOST)


@pytest_twisted.ensureDeferred
async def test_how_long_they_are_kept() -> None:
    """An idle connection is closed after ``KEPT_FOR``; one that is used meanwhile stays."""
    clock = Hurry()
    async with serving() as web, reading(clock=clock, connect_timeout=5 * FAST, idle_timeout=5 * FAST) as client:
        web.route("/f", File(CONTENT))
        begun = clock.seconds()
        await gatherResults([Deferred.fromCoroutine(content_of(client, f"{web.url}/f")) for _ in range(2)])
        assert web.open_connections == 2
        while web.open_connections == 2 and clock.seconds() - begun < 5 * FAST:
            await content_of(client, f"{web.url}/f")
            await task.deferLater(reactor, 0.02, lambda: None)
        assert clock.seconds() - begun >= KEPT_FOR
        assert web.open_connections == 1
        assert await soon(lambda: web.open_connections == 0)
