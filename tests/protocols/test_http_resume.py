"""Reads that are resumed at an offset, and those that must begin anew."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from datamover.errors import ConnectFailed, ConnectionLost, ServerError
from tests.protocols.reading import reading, rest_of, serving, until_broken
from tests.servers.nginx import Nginx
from tests.servers.web import Exchange, File, Handler

LONG_AGO = 1_700_000_000
CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("served")
    (directory / "file.csv").write_bytes(CONTENT)
    os.utime(directory / "file.csv", (LONG_AGO, LONG_AGO))
    with Nginx(directory) as server:
        yield server


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("offset", [1, 4096, len(CONTENT) - 1, len(CONTENT)])
async def test_nginx_is_resumed(nginx: Nginx, offset: int) -> None:
    """A read is resumed at any offset, also at the end, if the file is the same."""
    async with reading() as client:
        origin = client.origin(f"{nginx.url}/file.csv")
        found = await origin.inspect()
        source = await origin.open(offset, found.identity)
        assert (source.offset, source.inspection.identity) == (offset, found.identity)
        assert source.inspection.size == len(CONTENT)
        assert await rest_of(source) == CONTENT[offset:]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("offset", "identity"),
    [(100, 'tag "of another file"'), (100, None), (10**9, "the same"), (0, "the same")],
)
async def test_what_cannot_be_resumed_begins_anew(nginx: Nginx, offset: int, identity: str | None) -> None:
    """Another identity, none, or an offset beyond the end gives the whole file."""
    async with reading() as client:
        origin = client.origin(f"{nginx.url}/file.csv")
        if identity == "the same":
            identity = (await origin.inspect()).identity
        source = await origin.open(offset, identity)
        assert source.offset == 0
        assert await rest_of(source) == CONTENT


@pytest.mark.parametrize(("etag", "resumed"), [('"1"', True), ('W/"1"', False)])
@pytest_twisted.ensureDeferred
async def test_a_server_that_caps_ranges(etag: str, resumed: bool) -> None:
    """A server that sends short ranges is read by as many as needed, if a changed file would be noticed."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT, etag=etag, cap=700))
        origin = client.origin(f"{web.url}/f")
        source = await origin.open(1000, (await origin.inspect()).identity or "unknown")
        assert source.offset == (1000 if resumed else 0)
        assert await rest_of(source) == CONTENT[source.offset :]


@pytest_twisted.ensureDeferred
async def test_a_resumed_read_asks_under_a_condition() -> None:
    """Range goes with If-Range, so that a file that changed is sent whole."""
    file = File(CONTENT, etag='"1"')
    async with serving() as web, reading() as client:
        web.route("/f", file)
        origin = client.origin(f"{web.url}/f")
        assert (await origin.open(10, 'tag "1"')).offset == 10
        request = web.requests[-1]
        assert (request.headers["range"], request.headers["if-range"]) == ("bytes=10-", '"1"')
        file.etag, file.content = '"2"', b"other"
        source = await origin.open(10, 'tag "1"')
        assert (source.offset, source.inspection.identity) == (0, 'tag "2"')
        assert await rest_of(source) == b"other"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("file", "resumed"),
    [
        (File(CONTENT, modified=LONG_AGO), True),
        (File(CONTENT, etag='W/"1"', modified=LONG_AGO), True),
        (File(CONTENT, etag='"1"'), True),
        (File(CONTENT, etag='"1"', chunked=True), True),
        (File(CONTENT, etag='"1"', ranges=False), False),
    ],
    ids=["time and size", "weak tag, time and size", "tag", "no length", "ranges ignored"],
)
async def test_which_identities_resume(file: File, resumed: bool) -> None:
    """A file is resumed by its tag, or by its time and size, where the server sends ranges."""
    async with serving() as web, reading() as client:
        web.route("/f", file)
        origin = client.origin(f"{web.url}/f")
        identity = (await origin.inspect()).identity
        if file.chunked:
            assert (await origin.inspect()).size is None
        assert identity is not None
        source = await origin.open(1000, identity)
        assert source.offset == (1000 if resumed else 0)
        assert await rest_of(source) == CONTENT[source.offset :]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Content-Range", "bytes 11-99/100")],
        [("Content-Range", "bytes 10-49/100")],
        [("Content-Range", "bytes 10-99/*")],
        [("Content-Range", "bytes 99-10/100")],
        [("Content-Range", "lines 10-99/100")],
    ],
)
async def test_a_part_that_is_not_the_one_asked_for(headers: list[tuple[str, str]]) -> None:
    """A 206 that holds other bytes, or does not say which, is dropped, and the file is read from its beginning."""

    def handler(exchange: Exchange) -> None:
        if "range" in exchange.request.headers:
            exchange.answer(206, [("ETag", '"1"'), *headers], b"x" * 90)
        else:
            exchange.answer(200, [("ETag", '"1"')], b"y" * 100)

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        source = await client.origin(f"{web.url}/f").open(10, 'tag "1"')
        assert source.offset == 0
        assert await rest_of(source) == b"y" * 100


def blocks(block: int, *, up: bool, asked: list[str], tag: str = '"1"') -> Handler:
    """Serve CONTENT; ranges begin with a whole block, the one before or behind what is asked for."""

    def handler(exchange: Exchange) -> None:
        wanted = exchange.request.headers.get("range")
        if wanted is None:
            exchange.answer(200, [("ETag", tag)], CONTENT)
            return
        asked.append(wanted)
        begin = int(wanted.removeprefix("bytes=").partition("-")[0])
        first = (begin + (block - 1) * up) // block * block
        told = f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"
        exchange.answer(206, [("ETag", tag), ("Content-Range", told)], CONTENT[first:])

    return handler


@pytest.mark.parametrize("up", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("offset", [1, 4095, 4096, 4097, 8191])
@pytest_twisted.ensureDeferred
async def test_a_server_that_gives_whole_blocks(offset: int, up: bool) -> None:
    """Bytes before the offset are dropped; a block that begins behind it is requested again from further before."""
    asked: list[str] = []
    async with serving() as web, reading() as client:
        web.route("/f", blocks(4096, up=up, asked=asked))
        source = await client.origin(f"{web.url}/f").open(offset, 'tag "1"')
        assert source.offset == offset
        assert await rest_of(source) == CONTENT[offset:]
    missed = up and offset % 4096
    assert asked == ([f"bytes={offset}-", "bytes=0-"] if missed else [f"bytes={offset}-"])


@pytest_twisted.ensureDeferred
async def test_a_server_that_always_begins_behind() -> None:
    """If no range holds the offset, the file is read from its beginning in the same attempt."""

    def handler(exchange: Exchange) -> None:
        if "range" in exchange.request.headers:
            told = f"bytes 9000-{len(CONTENT) - 1}/{len(CONTENT)}"
            exchange.answer(206, [("ETag", '"1"'), ("Content-Range", told)], CONTENT[9000:])
        else:
            exchange.answer(200, [("ETag", '"1"')], CONTENT)

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        source = await client.origin(f"{web.url}/f").open(5000, 'tag "1"')
        assert (source.offset, await rest_of(source)) == (0, CONTENT)


@pytest_twisted.ensureDeferred
async def test_blocks_of_another_file() -> None:
    """A block that begins before the offset is not used if it is of another file."""
    async with serving() as web, reading() as client:
        web.route("/f", blocks(4096, up=False, asked=[], tag='"2"'))
        source = await client.origin(f"{web.url}/f").open(5000, 'tag "1"')
        assert (source.offset, source.inspection.identity) == (0, 'tag "2"')
        assert await rest_of(source) == CONTENT


@pytest_twisted.ensureDeferred
async def test_a_block_that_breaks_off_before_the_offset() -> None:
    """A body that ends within the bytes to drop is an error, not the end of the file."""

    def handler(exchange: Exchange) -> None:
        told = [("ETag", '"1"'), ("Content-Range", f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")]
        exchange.write(exchange.head(206, [*told, ("Content-Length", str(len(CONTENT)))]))
        exchange.write(CONTENT[:3000])
        exchange.close()

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        source = await client.origin(f"{web.url}/f").open(5000, 'tag "1"')
        assert source.offset == 5000
        received, error = await until_broken(source)
        assert received == b""
        assert isinstance(error, ConnectionLost)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("status", [400, 403, 404, 412, 501, 500, 503, 504])
async def test_a_range_that_is_refused(status: int) -> None:
    """If a server refuses the range, the file is read from its beginning; a temporary refusal is raised."""

    def handler(exchange: Exchange) -> None:
        if "range" in exchange.request.headers:
            exchange.answer(status)
        else:
            exchange.answer(200, [("ETag", '"1"')], b"y" * 100)

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        opening = client.origin(f"{web.url}/f").open(10, 'tag "1"')
        if status in (500, 503, 504):
            with pytest.raises(ServerError):
                await opening
        else:
            source = await opening
            assert (source.offset, await rest_of(source)) == (0, b"y" * 100)


@pytest_twisted.ensureDeferred
async def test_a_part_of_a_changed_file_is_put_aside() -> None:
    """A server that ignores If-Range and sends a part of another file is noticed, and the file is read anew."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT, etag='"2"', heed_if_range=False))
        source = await client.origin(f"{web.url}/f").open(10, 'tag "1"')
        assert (source.offset, source.inspection.identity) == (0, 'tag "2"')
        assert await rest_of(source) == CONTENT


@pytest_twisted.ensureDeferred
async def test_a_short_answer_to_a_condition_is_believed() -> None:
    """A 206 to If-Range with a date may leave out the date: it continues the file if the size is the same."""

    def handler(exchange: Exchange) -> None:
        content_range = ("Content-Range", f"bytes 10-{len(CONTENT) - 1}/{len(CONTENT)}")
        exchange.answer(206, [content_range], CONTENT[10:])

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        same = f"date Tue, 14 Nov 2023 22:13:20 GMT {len(CONTENT)}"
        source = await client.origin(f"{web.url}/f").open(10, same)
        assert (source.offset, source.inspection.identity) == (10, same)
        assert await rest_of(source) == CONTENT[10:]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("etag", "offset"), [('"1"', len(CONTENT)), ('"2"', 0)])
async def test_an_offset_at_the_end(etag: str, offset: int) -> None:
    """After a 416 at the file's size nothing is left to read if it is the same file; another one is read anew."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT, etag=etag, heed_if_range=False))
        source = await client.origin(f"{web.url}/f").open(len(CONTENT), 'tag "1"')
        assert source.offset == offset
        assert await rest_of(source) == CONTENT[offset:]


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_restarted_underneath(tmp_path: Path) -> None:
    """A read that a stop of nginx broke off is resumed after its restart, and both parts together are the file."""
    content = os.urandom(2**20) * 32
    (tmp_path / "f").write_bytes(content)
    with Nginx(tmp_path) as nginx:
        async with reading() as client:
            origin = client.origin(f"{nginx.url}/f")
            source = await origin.open()
            received = await source.read()
            nginx.stop()
            more, error = await until_broken(source)
            received += more
            assert isinstance(error, ConnectionLost)
            assert 0 < len(received) < len(content)
            with pytest.raises(ConnectFailed):
                await origin.open(len(received), source.inspection.identity)
            nginx.start()
            rest = await origin.open(len(received), source.inspection.identity)
            assert rest.offset == len(received)
            received += await rest_of(rest)
    assert received == content


@pytest_twisted.ensureDeferred
async def test_many_reads_at_once(nginx: Nginx) -> None:
    """Reads at the same time, whole and from offsets, do not disturb each other."""
    async with reading() as client:
        origin = client.origin(f"{nginx.url}/file.csv")
        identity = (await origin.inspect()).identity
        offsets = range(0, len(CONTENT), 100)

        async def read(offset: int) -> bool:
            return await rest_of(await origin.open(offset, identity)) == CONTENT[offset:]

        results = await gatherResults([Deferred.fromCoroutine(read(offset)) for offset in offsets])
    assert results == [True] * len(offsets)
