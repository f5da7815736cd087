"""Servers' faults, and the error that each raises."""

import threading
from collections.abc import Callable

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.app.services import NameResolution
from datamover.concurrency.host_names import AddressInfo, HostNames
from datamover.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    DataMoverError,
    RateLimited,
    Scope,
    ServerError,
    SizeMismatch,
    SourceForbidden,
    SourceNotFound,
    Stalled,
    TimedOut,
)
from datamover.protocols.http.client import reader
from datamover.protocols.http.client.chunks import ChunkParser
from datamover.protocols.http.client.connection import LEAST_READ
from tests.protocols.reading import content_of, reading, rest_of, serving, soon, until_broken
from tests.servers.ports import free_port
from tests.servers.web import Exchange, File, Handler, silent, status, trickle

CONTENT = b"0123456789" * 1000
SECRET = "s3cr3t"


def raw(answer: bytes) -> Handler:
    """Send these bytes and close."""

    def handler(exchange: Exchange) -> None:
        exchange.write(answer)
        exchange.close()

    return handler


def head_too_large(exchange: Exchange) -> None:
    line = b"X-Padding: " + b"x" * 8000 + b"\r\n"
    exchange.write(b"HTTP/1.1 200 OK\r\n" + line * 200)


def excess(content: bytes, announced: int) -> Handler:
    return lambda exchange: exchange.answer(200, [], content, length=announced)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("handler", "expected", "words"),
    [
        (status(401), SourceForbidden, "401 Unauthorized"),
        (status(403), SourceForbidden, "403 Forbidden"),
        (status(404), SourceNotFound, "404 Not Found"),
        (status(410), SourceNotFound, "410 Gone"),
        (status(400), SourceForbidden, "400 Bad Request"),
        (status(407), AuthenticationFailed, "407"),
        (status(408), ConnectionLost, "408"),
        (status(425), ServerError, "425"),
        (status(429), RateLimited, "429 Too Many Requests"),
        (status(500), ServerError, "500 Internal Server Error"),
        (status(503), ServerError, "503 Service Unavailable"),
        (status(503, [("Retry-After", "7")]), RateLimited, "come again in 7 s"),
        (status(204, [], b""), ServerError, "holds no file"),
        (status(302), ServerError, "302 Found without a Location, which holds no file"),
        (status(302, [("Location", " ")]), ServerError, "302 Found without a Location, which holds no file"),
        (status(416), SourceForbidden, "416"),
        (status(799), ServerError, "799"),
        (raw(b""), ConnectionLost, "before an answer"),
        (lambda exchange: exchange.reset(), ConnectionLost, "before an answer"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), ConnectionLost, "before an answer"),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ServerError, "not HTTP"),
        (head_too_large, ServerError, "headers"),
    ],
)
async def test_answers_that_hold_no_file(handler: Handler, expected: type[DataMoverError], words: str) -> None:
    """``inspect`` and ``open`` raise each refusal with the source's URL, without the values of its query."""
    async with serving() as web, reading() as client:
        web.route("/f", handler)
        origin = client.origin(f"{web.url}/f?token={SECRET}")
        for asking in (origin.inspect, origin.open):
            with pytest.raises(expected) as raised:
                await asking()
            assert words in raised.value.message
            assert f"127.0.0.1:{web.port}/f?token=***" in raised.value.message
            assert SECRET not in raised.value.message
            assert raised.value.scope is Scope.SOURCE


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (b"Content-Length: 5\r\nContent-Length: 7", "'Content-Length' comes twice with different values, 5 and 7"),
        (b"Content-Length: two", "'Content-Length' is 'two', no number of bytes"),
        (b"Transfer-Encoding: x-best", "'Transfer-Encoding' is 'x-best', which is not known"),
    ],
)
async def test_a_body_without_a_clear_end(headers: bytes, words: str) -> None:
    """An answer with contradictory lengths or an unknown transfer coding is refused; the error names the header."""
    async with serving() as web, reading() as client:
        web.route("/f", raw(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\nxx"))
        with pytest.raises(ServerError, match=rf"/f cannot be read: the answer's header {words}"):
            await client.origin(f"{web.url}/f").open()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("handler", "arrived", "expected"),
    [
        (File(CONTENT, cut=5000), CONTENT[:5000], ConnectionLost),
        (File(CONTENT, chunked=True, cut=5000), None, ConnectionLost),
        (File(CONTENT, length=len(CONTENT) + 1), CONTENT, ConnectionLost),
        (excess(CONTENT, 9990), CONTENT[:9990], SizeMismatch),
        (excess(CONTENT, 0), b"", SizeMismatch),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx"), b"", ServerError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), b"", ConnectionLost),
    ],
    ids=["cut", "cut in a chunk", "shorter", "longer", "not empty", "not a chunk", "nothing"],
)
async def test_bodies_of_another_length(
    handler: Handler, arrived: bytes | None, expected: type[DataMoverError]
) -> None:
    """A body that ends early or goes on too long is never taken for the whole file."""
    async with serving() as web, reading() as client:
        web.route("/f", handler)
        received, error = await until_broken(await client.origin(f"{web.url}/f").open())
    assert type(error) is expected
    assert arrived is None or received == arrived


@pytest_twisted.ensureDeferred
async def test_chunks_that_are_none() -> None:
    """The error for a malformed chunk says what came in its place, and after how many bytes."""
    async with serving() as web, reading() as client:
        web.route("/f", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0xff\r\n"))
        received, error = await until_broken(await client.origin(f"{web.url}/f").open())
    assert received == b"xy"
    assert error is not None
    assert "/f cannot be read on after 2 bytes: expected the size of a chunk, got '0xff'" in error.message


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"1;a=b\r\nx\r\n"])
async def test_chunks_of_one_byte(chunk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few chunks of one byte are read at a time, so that others are served between; usual chunks are not slowed."""
    read: list[int] = []

    class Watched(ChunkParser):
        def feed(self, data: bytes) -> bytes:
            read.append(len(data))
            return super().feed(data)

    monkeypatch.setattr(reader, "ChunkParser", Watched)
    head, last = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"
    async with serving() as web, reading() as client:
        web.route("/tiny", raw(head + chunk * 50_000 + last))
        web.route("/usual", raw(head + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 500 + last))
        assert await content_of(client, f"{web.url}/tiny") == b"x" * 50_000
        assert max(read[1:]) <= LEAST_READ
        read.clear()
        assert len(await content_of(client, f"{web.url}/usual")) == 500 * 4096
        assert max(read) > 10 * LEAST_READ


@pytest_twisted.ensureDeferred
async def test_a_reset_in_the_middle() -> None:
    """A reset within the body raises ConnectionLost, with the number of bytes that came."""

    async def handler(exchange: Exchange) -> None:
        exchange.write(exchange.head(200, [("Content-Length", "100")]) + b"x" * 10)
        await exchange.pause(0.05)
        exchange.reset()

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        source = await client.origin(f"{web.url}/f?key={SECRET}").open()
        assert await source.read() == b"x" * 10
        with pytest.raises(ConnectionLost, match=r"key=\*\*\* broke after 10 bytes"):
            await source.read()
        await source.close()


@pytest_twisted.ensureDeferred
async def test_a_reset_where_the_connection_is_the_end() -> None:
    """A body without a length that ends with a reset is not complete."""

    async def handler(exchange: Exchange) -> None:
        exchange.write(exchange.head(200, [("Connection", "close")]) + b"x" * 10)
        await exchange.pause(0.05)
        exchange.reset()

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        with pytest.raises(ConnectionLost):
            await content_of(client, f"{web.url}/f")


@pytest_twisted.ensureDeferred
async def test_a_part_of_another_length() -> None:
    """The body of a resumed read without Content-Length is checked against its Content-Range."""

    def handler(exchange: Exchange) -> None:
        headers = [("ETag", '"1"'), ("Content-Range", "bytes 10-99/100"), ("Transfer-Encoding", "chunked")]
        exchange.write(exchange.head(206, headers) + b"5\r\nxxxxx\r\n0\r\n\r\n")

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        source = await client.origin(f"{web.url}/f").open(10, 'tag "1"')
        assert source.offset == 10
        with pytest.raises(SizeMismatch, match="announced 90 bytes and sent only 5"):
            await rest_of(source)


@pytest_twisted.ensureDeferred
async def test_after_excess_the_connection_is_not_used_again() -> None:
    """Bytes after the end of an answer are never taken for the next answer."""
    async with serving() as web, reading() as client:
        web.route("/f", excess(b"x" * 10 + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 10))
        web.route("/g", File(b"good"))
        with pytest.raises(SizeMismatch):
            await content_of(client, f"{web.url}/f")
        assert await content_of(client, f"{web.url}/g") == b"good"
        assert [request.connection for request in web.asked("/g")] == [2]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: silent, "did not answer for 0.3 s"),
        (lambda: trickle(CONTENT, seconds=0, piece=100, stop_after=200), "sent nothing for 0.3 s, after 200 bytes"),
    ],
    ids=["no answer", "no more bytes"],
)
async def test_silence(make: Callable[[], Handler], words: str) -> None:
    """If nothing comes for the idle timeout, Stalled is raised and the connection closed."""
    async with serving() as web, reading(idle_timeout=0.3) as client:
        web.route("/f", make())
        with pytest.raises(Stalled, match=words):
            await content_of(client, f"{web.url}/f")
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_refusal_is_told_without_its_page() -> None:
    """A refusal is raised soon even if its page never comes, never ends or is malformed."""

    async def endless(exchange: Exchange) -> None:
        exchange.write(exchange.head(404, []))
        while not exchange.gone:
            exchange.write(b"no " * 10000)
            await exchange.pause(0.01)

    async with serving() as web, reading(idle_timeout=60) as client:
        web.route("/never", lambda exchange: exchange.answer(404, [], length=9))
        web.route("/endless", endless)
        web.route("/malformed", raw(b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n"))
        for path in ("/never", "/endless", "/malformed"):
            with pytest.raises(SourceNotFound):
                await client.origin(web.url + path).open()


@pytest_twisted.ensureDeferred
async def test_slow_is_not_silent() -> None:
    """A trickle that outlasts the idle timeout, but never pauses for so long, is read to its end."""
    async with serving() as web, reading(idle_timeout=0.3) as client:
        web.route("/f", trickle(b"x" * 10, seconds=0.1))
        assert await content_of(client, f"{web.url}/f") == b"x" * 10


@pytest_twisted.ensureDeferred
async def test_nobody_there() -> None:
    """The errors for a port where nobody listens and for a name without an address say so."""
    async with reading() as client:
        port = free_port()
        with pytest.raises(ConnectFailed, match=rf"cannot connect to 127\.0\.0\.1 port {port}: .*refused"):
            await client.origin(f"http://127.0.0.1:{port}/f?key={SECRET}").inspect()
        with pytest.raises(ConnectFailed, match=r"no address is known for nowhere\.invalid"):
            await client.origin("http://nowhere.invalid/f").inspect()


@pytest_twisted.ensureDeferred
async def test_name_that_is_not_looked_up() -> None:
    """The error for a name server that does not answer says so; other names are looked up meanwhile."""
    answer = threading.Event()

    def look_up(host: str, *_: object) -> AddressInfo:
        if host == "hangs.example":
            answer.wait(30)
        return []

    names = NameResolution(reactor, HostNames(reactor, look_up=look_up))
    names.startService()
    try:
        async with reading(connect_timeout=0.3) as client:
            hanging = Deferred.fromCoroutine(client.origin(f"http://hangs.example/f?key={SECRET}").inspect())
            with pytest.raises(ConnectFailed, match=r"no address is known for other\.example"):
                await client.origin("http://other.example/f").inspect()
            with pytest.raises(TimedOut, match=r"the name hangs\.example was not looked up within 0\.3 s") as told:
                await hanging
            assert told.value.scope is Scope.SOURCE
    finally:
        answer.set()
        names.stopService()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([("Retry-After", "120")], 120.0),
        ([("Retry-After", "Tue, 14 Nov 2023 22:14:20 GMT"), ("Date", "Tue, 14 Nov 2023 22:13:20 GMT")], 60.0),
        ([("Retry-After", "Tue, 14 Nov 2023 22:13:00 GMT"), ("Date", "Tue, 14 Nov 2023 22:13:20 GMT")], 0.0),
        ([("Retry-After", "9" * 400)], 366 * 86_400.0),
        ([("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT")], 366 * 86_400.0),
        ([("Retry-After", "soon")], None),
        ([], None),
    ],
)
async def test_when_to_come_again(headers: list[tuple[str, str]], seconds: float | None) -> None:
    """The pause that a busy server asks for comes with the error."""
    async with serving() as web, reading() as client:
        web.route("/f", status(429, headers))
        with pytest.raises(RateLimited) as raised:
            await client.origin(f"{web.url}/f").open()
        assert raised.value.retry_after == seconds


@pytest_twisted.ensureDeferred
async def test_a_server_without_any_sign_of_change() -> None:
    """A file without ETag and Last-Modified, or changed in the second it was sent, has no identity."""
    async with serving() as web, reading() as client:
        web.route("/none", File(CONTENT))
        web.route("/weak", File(CONTENT, etag='W/"1"'))
        web.route(
            "/now",
            status(
                200, [("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"), ("Date", "Tue, 14 Nov 2023 22:13:20 GMT")]
            ),
        )
        for path in ("/none", "/weak", "/now"):
            assert (await client.origin(web.url + path).inspect()).identity is None


@pytest_twisted.ensureDeferred
async def test_a_part_that_was_cut_is_taken_up_again() -> None:
    """A read that broke off is resumed where it was, and both parts together are the file."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT, etag='"1"', cut=4321, cuts=1))
        origin = client.origin(f"{web.url}/f")
        source = await origin.open()
        received, error = await until_broken(source)
        assert isinstance(error, ConnectionLost)
        source = await origin.open(len(received), source.inspection.identity)
        assert source.offset == 4321
        assert received + await rest_of(source) == CONTENT
