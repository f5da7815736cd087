"""Reading from web servers that behave: a real nginx, and a scripted server where the answer must be just so."""

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred

from datamover import __version__
from datamover.errors import ConnectionLost, SourceForbidden, SourceNotFound
from datamover.protocols.http.client import body as bodies
from tests.protocols.reading import content_of, reading, rest_of, serving, soon
from tests.servers.nginx import Nginx
from tests.servers.web import Exchange, File, redirect, silent, trickle

LONG_AGO = 1_700_000_000
CONTENT = bytes(range(256)) * 40
LARGE = 120 * 2**20


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("served")
    for name, content in (("file.csv", CONTENT), ("empty", b""), ("data.csv.gz", CONTENT)):
        (directory / name).write_bytes(content)
        os.utime(directory / name, (LONG_AGO, LONG_AGO))
    with (directory / "large").open("wb") as file:
        file.truncate(LARGE)
        for place in range(0, LARGE, 2**20):
            file.seek(place)
            file.write(b"%d" % place)
    os.utime(directory / "large", (LONG_AGO, LONG_AGO))
    with Nginx(directory, config="location /secret { return 403; }") as server:
        yield server


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest_twisted.ensureDeferred
async def test_inspect_tells_what_nginx_knows(nginx: Nginx) -> None:
    """``inspect`` returns a file's name, size, time and identity, and reads no content."""
    async with reading() as client:
        found = await client.origin(f"{nginx.url}/file.csv?key=1").inspect()
    assert (found.name, found.size, found.modified) == ("file.csv", len(CONTENT), LONG_AGO)
    assert found.identity is not None
    assert found.identity.startswith('tag "')


@pytest_twisted.ensureDeferred
async def test_a_large_file_arrives_whole(nginx: Nginx) -> None:
    """Over a hundred MiB come with the digest of the file served."""
    digest, total = hashlib.sha256(), 0
    async with reading() as client:
        source = await client.origin(f"{nginx.url}/large").open()
        while piece := await source.read():
            digest.update(piece)
            total += len(piece)
        await source.close()
    assert (total, digest.hexdigest()) == (LARGE, sha256(nginx.directory / "large"))


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_is_waited_for(nginx: Nginx) -> None:
    """While nobody reads, no more is received than one body may buffer, plus what one read of the socket adds."""
    async with reading() as client:
        source = await client.origin(f"{nginx.url}/large").open()
        body, room = source._source._stream._body, bodies.ROOMS.size  # type: ignore[attr-defined]
        assert await soon(lambda: body.received >= room)
        for _ in range(20):
            await task.deferLater(reactor, 0, lambda: None)
        assert room <= body.received <= 2 * room
        while await source.read():
            assert body._held <= 2 * room
        await source.close()
    assert body.received == LARGE


@pytest_twisted.ensureDeferred
async def test_an_empty_file_is_a_file(nginx: Nginx) -> None:
    """Nothing is read from an empty file, and that is its right size."""
    async with reading() as client:
        origin = client.origin(f"{nginx.url}/empty")
        assert (await origin.inspect()).size == 0
        source = await origin.open()
        assert source.inspection.size == 0
        assert await rest_of(source) == b""


@pytest_twisted.ensureDeferred
async def test_what_is_not_there_or_forbidden(nginx: Nginx) -> None:
    """nginx's 404 and 403 raise different errors, from ``inspect`` and from ``open``."""
    async with reading() as client:
        for path, expected in (("/nowhere", SourceNotFound), ("/secret", SourceForbidden)):
            with pytest.raises(expected):
                await client.origin(nginx.url + path).inspect()
            with pytest.raises(expected):
                await client.origin(nginx.url + path).open()


@pytest_twisted.ensureDeferred
async def test_what_is_sent() -> None:
    """A request names datamover and its version, asks for the file itself, and keeps the query."""
    async with serving() as web, reading() as client:
        web.route("/a b", File(CONTENT))
        web.route("/a%20b", File(CONTENT))
        await content_of(client, f"{web.url}/a b?signature=x%2Fy")
        (request,) = web.requests
    assert request.target == "/a%20b?signature=x%2Fy"
    assert request.headers["user-agent"] == f"datamover/{__version__}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["host"] == f"127.0.0.1:{web.port}"
    assert "range" not in request.headers


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("refusal", [400, 403, 404, 405, 500, 501])
async def test_where_head_is_refused_get_is_tried(refusal: int) -> None:
    """A server without HEAD is inspected by a GET, which is given up before a large file has come."""
    async with serving() as web, reading() as client:
        web.route("/f", File(b"x" * 10**7, etag='"1"', head=refusal))
        found = await client.origin(f"{web.url}/f").inspect()
        assert (found.size, found.identity) == (10**7, 'tag "1"')
        assert [request.method for request in web.requests] == ["HEAD", "GET"]
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_head_is_not_believed_when_it_says_nothing_or_hangs_up() -> None:
    """A HEAD that is answered with the length 0, or breaks the connection, is followed by a GET."""

    def hang_up(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.reset()
        else:
            exchange.answer(200, [], CONTENT)

    def zero(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.answer(200, [], length=0)
        else:
            exchange.answer(200, [], CONTENT)

    async with serving() as web, reading() as client:
        web.route("/hang-up", hang_up)
        web.route("/zero", zero)
        for path in ("/hang-up", "/zero"):
            assert (await client.origin(web.url + path).inspect()).size == len(CONTENT)


@pytest_twisted.ensureDeferred
async def test_without_a_length() -> None:
    """Chunks, and a body that ends with its connection, are read whole though no size is known before."""
    async with serving() as web, reading() as client:
        for path, file in (("/chunked", File(CONTENT, chunked=True)), ("/close", File(CONTENT, until_close=True))):
            web.route(path, file)
            source = await client.origin(web.url + path).open()
            assert source.inspection.size is None
            assert await rest_of(source) == CONTENT


@pytest_twisted.ensureDeferred
async def test_connections_are_kept() -> None:
    """Successive requests share a connection, also those that are redirected or refused."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT))
        web.route("/moved", redirect("/f"))
        await content_of(client, f"{web.url}/moved")
        with pytest.raises(SourceNotFound):
            await client.origin(f"{web.url}/nowhere").open()
        await client.origin(f"{web.url}/f").inspect()
        assert {request.connection for request in web.requests} == {1}


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    """A request that meets a connection the server has just given up is sent again on a new one."""

    def once(exchange: Exchange) -> None:
        if exchange.request.turn > 1:
            exchange.close()
        else:
            exchange.answer(200, [], CONTENT)

    async with serving() as web, reading() as client:
        web.route("/f", once)
        assert await content_of(client, f"{web.url}/f") == CONTENT
        assert await content_of(client, f"{web.url}/f") == CONTENT
        assert [request.connection for request in web.requests] == [1, 1, 2]


@pytest_twisted.ensureDeferred
async def test_a_file_in_its_own_compression_is_left_as_it_is() -> None:
    """A .gz file that its server also declares as gzip-coded is not decompressed."""
    async with serving() as web, reading() as client:
        web.route("/data.csv.gz", File(CONTENT, headers=[("Content-Encoding", "gzip")]))
        assert await content_of(client, f"{web.url}/data.csv.gz") == CONTENT


@pytest_twisted.ensureDeferred
async def test_over_ipv6() -> None:
    """An address in brackets is connected to, and named so in Host."""
    async with serving(interface="::1") as web, reading() as client:
        web.route("/f", File(CONTENT))
        assert await content_of(client, f"{web.url}/f") == CONTENT
        assert web.requests[0].headers["host"] == f"[::1]:{web.port}"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("when", ["waiting for an answer", "waiting for bytes", "putting a redirect aside"])
async def test_cancelling(when: str) -> None:
    """Whatever is awaited can be cancelled; that closes the connection and leaves nothing behind."""
    async with serving() as web, reading() as client:
        web.route("/silent", silent)
        web.route("/slow", trickle(b"xy", seconds=0, stop_after=1))
        web.route(
            "/moved", lambda exchange: exchange.write(exchange.head(302, [("Location", "/"), ("Content-Length", "9")]))
        )
        if when == "waiting for bytes":
            source = await client.origin(f"{web.url}/slow").open()
            assert await source.read() == b"x"
            running: Deferred[object] = Deferred.fromCoroutine(source.read())
        else:
            source = None
            path = "/silent" if when == "waiting for an answer" else "/moved"
            running = Deferred.fromCoroutine(client.origin(web.url + path).open())
            assert await soon(lambda: len(web.requests) == 1)
        running.cancel()
        with pytest.raises(CancelledError):
            await running
        if source is not None:
            await source.close()
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_closing_the_client() -> None:
    """When ``close`` completes, every socket is closed: those kept, being read, or waiting for an answer."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT))
        web.route("/slow", trickle(b"xy", seconds=0, stop_after=1))
        web.route("/silent", silent)
        await content_of(client, f"{web.url}/f")
        source = await client.origin(f"{web.url}/slow").open()
        await source.read()
        waiting = Deferred.fromCoroutine(client.origin(f"{web.url}/silent").open())
        assert await soon(lambda: web.open_connections == 2)
        await client.close()
        with pytest.raises(CancelledError):
            await waiting
        await source.close()
        await source.close()
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_closed_client_asks_nothing_more() -> None:
    """A redirect that arrives while the client is closed is not followed, nor is anything else asked."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT))
        head = [("Location", "/f"), ("Content-Length", "9")]
        web.route("/moved", lambda exchange: exchange.write(exchange.head(302, head)))
        moved = Deferred.fromCoroutine(client.origin(f"{web.url}/moved").open())
        assert await soon(lambda: len(web.requests) == 1)
        await client.close()
        for asking in (moved, Deferred.fromCoroutine(client.origin(f"{web.url}/f").open())):
            with pytest.raises((CancelledError, ConnectionLost)):
                await asking
        assert web.asked("/f") == []


@pytest_twisted.ensureDeferred
async def test_closing_a_source_early() -> None:
    """A source closed before its end drops its connection rather than reading on."""
    async with serving() as web, reading() as client:
        web.route("/f", File(b"x" * 10**7))
        source = await client.origin(f"{web.url}/f").open()
        await source.read()
        await source.close()
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_published_digests() -> None:
    """``inspect`` returns the digests that a server publishes."""
    raw = hashlib.sha256(CONTENT)
    async with serving() as web, reading() as client:
        web.route(
            "/f", File(CONTENT, headers=[("Repr-Digest", f"sha-256=:{base64.b64encode(raw.digest()).decode()}:")])
        )
        assert (await client.origin(f"{web.url}/f").inspect()).digests == {"sha256": raw.hexdigest()}
        assert (await client.origin(f"{web.url}/f").open()).inspection.digests == {"sha256": raw.hexdigest()}
