"""Files that servers send with a content coding, or only declare so."""

import gzip
import random
import zlib

import pytest
import pytest_twisted

from datamover.bounds.servers import GZIP_MEMBERS_IN_TURN
from datamover.errors import ConnectionLost, ServerError
from datamover.protocols.http.client.codings import Inflater
from datamover.protocols.http.client.decoding import PIECE
from tests.protocols.reading import content_of, reading, rest_of, serving, until_broken
from tests.servers.web import Exchange, File, Handler

CONTENT = b"a,b\n" + b"1,2\n" * 500
RANDOM = random.Random(1).randbytes(300_000)


def gzipped(data: bytes) -> bytes:
    """Return the same bytes each time, since they are part of the tests' names."""
    return gzip.compress(data, mtime=0)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def sending(body: bytes, *headers: tuple[str, str], status: int = 200) -> Handler:
    return lambda exchange: exchange.answer(status, headers, body)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "codings",
    [
        ["identity"],
        ["identity, identity"],
        ["identity", "Identity"],
        ["binary"],
        ["none"],
        ["UTF-8"],
        ["utf8"],
        ["ISO-8859-1"],
        ["7bit"],
        ["8bit", "utf-8"],
        ["aws-chunked"],
        [""],
        [" , ,"],
        ["base64"],
        ["x-something-nobody-knows;q=1"],
        ["text/csv"],
    ],
)
async def test_codings_that_are_none(codings: list[str]) -> None:
    """A coding that changes nothing, or is unknown, is ignored: size, identity and digest are the file's."""
    headers = [("Content-Encoding", coding) for coding in codings]
    async with serving() as web, reading() as client:
        web.route("/f.csv", File(CONTENT, etag='"1"', headers=[*headers, ("Content-MD5", "")]))
        found = await client.origin(f"{web.url}/f.csv").inspect()
        assert (found.size, found.identity) == (len(CONTENT), 'tag "1"')
        assert await content_of(client, f"{web.url}/f.csv") == CONTENT
        source = await client.origin(f"{web.url}/f.csv").open(1000, 'tag "1"')
        assert source.offset == 1000
        assert await rest_of(source) == CONTENT[1000:]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "content", [CONTENT, RANDOM, b"x" * 10_000_000, b"", b"x"], ids=["csv", "random", "x", "0", "1"]
)
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("gzip", gzipped),
        ("X-GZip", gzipped),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("utf-8, gzip, aws-chunked", gzipped),
        ("deflate, gzip", lambda data: gzipped(zlib.compress(data))),
        ("gzip", lambda data: gzipped(data[:5]) + gzipped(data[5:7]) + gzipped(data[7:])),
    ],
    ids=["gzip", "x-gzip", "deflate", "raw deflate", "among others", "two", "members"],
)
async def test_codings_that_are_undone(content: bytes, name: str, code: object) -> None:
    """A body that was compressed unasked is decompressed, in pieces of a bounded size."""
    assert callable(code)
    coded = code(content)
    headers = [("Content-Encoding", name), ("ETag", '"1"'), ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")]
    async with serving() as web, reading() as client:
        web.route("/f.csv", sending(coded, *headers))
        found = await client.origin(f"{web.url}/f.csv").inspect()
        assert (found.name, found.size, found.identity, found.digests) == ("f.csv", None, None, {})
        source = await client.origin(f"{web.url}/f.csv").open()
        assert source.inspection == found
        pieces = []
        while piece := await source.read():
            pieces.append(piece)
        await source.close()
        assert max(map(len, pieces), default=0) <= PIECE
        assert b"".join(pieces) == content


@pytest_twisted.ensureDeferred
async def test_nothing_is_nothing() -> None:
    """An empty body is an empty file with any coding."""
    async with serving() as web, reading() as client:
        web.route("/f.csv", sending(b"", ("Content-Encoding", "gzip")))
        assert (await client.origin(f"{web.url}/f.csv").inspect()).name == "f.csv"
        assert await content_of(client, f"{web.url}/f.csv") == b""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("cut", [1, 7, 1000])
async def test_a_coding_in_chunks(cut: int) -> None:
    """A coded body may come in pieces of any size, and be coded by Transfer-Encoding."""
    coded = gzipped(RANDOM[:20_000])
    pieces = [coded[start : start + cut] for start in range(0, len(coded), cut)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    for headers in (b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked"):
        answer = b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + chunks
        async with serving() as web, reading() as client:
            web.route("/f", lambda exchange, answer=answer: exchange.write(answer))  # type: ignore[misc]
            assert await content_of(client, f"{web.url}/f") == RANDOM[:20_000]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("path", "coding", "headers"),
    [
        ("/data.tar.gz", "x-gzip", []),
        ("/data.TGZ", "gzip", []),
        ("/data.svgz", "gzip", [("Content-Type", "image/svg+xml")]),
        ("/data.tar.bz2", "x-bzip2", []),
        ("/data.tar.Z", "x-compress", []),
        ("/data.zst", "zstd", []),
        ("/data.br", "br", []),
        ("/data.xz", "x-xz", []),
        ("/download", "gzip", [("Content-Disposition", "attachment; filename=data.csv.gz")]),
        ("/download", "gzip", [("Content-Type", "application/gzip; charset=binary")]),
        ("/download", "x-gzip", [("Content-Type", "Application/X-GZip")]),
    ],
)
async def test_compressed_files_are_not_coded(path: str, coding: str, headers: list[tuple[str, str]]) -> None:
    """A compressed file that its server, by its name or type, also declares as coded is not decompressed."""
    stored = gzipped(CONTENT)
    async with serving() as web, reading() as client:
        web.route(path, File(stored, etag='"1"', headers=[*headers, ("Content-Encoding", coding)]))
        found = await client.origin(web.url + path).inspect()
        assert (found.size, found.identity) == (len(stored), 'tag "1"')
        assert await content_of(client, web.url + path) == stored


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("coding", "words"),
    [
        ("br", "was sent br-compressed although the file itself was asked for"),
        ("ZSTD", "was sent zstd-compressed"),
        ("compress", "was sent compress-compressed"),
        ("x-bzip2", "was sent bzip2-compressed"),
        ("xz", "was sent xz-compressed"),
        ("gzip, br", "was sent br-compressed"),
        ("gzip, gzip, gzip, gzip", "at most 3 codings are decoded"),
    ],
)
async def test_codings_that_are_refused(coding: str, words: str) -> None:
    """A coding that is not supported is refused by ``inspect`` and ``open``; the error says what to do."""
    async with serving() as web, reading() as client:
        web.route("/f.csv", sending(b"whatever", ("Content-Encoding", coding)))
        origin = client.origin(f"{web.url}/f.csv?token=s3cr3t")
        for asking in (origin.inspect, origin.open):
            with pytest.raises(ServerError, match=words) as raised:
                await asking()
            assert "s3cr3t" not in raised.value.message


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        ("gzip", gzipped(CONTENT)[:-1], "ends too early"),
        ("gzip", gzipped(CONTENT)[:-9], "ends too early"),
        ("gzip", gzipped(CONTENT)[:5], "ends too early"),
        ("gzip", b"\x1f", "ends too early"),
        ("gzip", gzipped(CONTENT) + b"garbage", "incorrect header check"),
        ("gzip", gzipped(CONTENT) + b"\n", "more comes after its end"),
        ("gzip", gzipped(CONTENT) + gzipped(CONTENT)[:-4], "ends too early"),
        ("gzip", gzipped(CONTENT)[:-8] + bytes(8), "incorrect data check"),
        ("gzip", CONTENT, "incorrect header check"),
        ("deflate", zlib.compress(CONTENT)[:-1], "ends too early"),
        ("deflate", zlib.compress(CONTENT) + b"garbage", "more comes after its end"),
        ("deflate", raw_deflate(CONTENT)[:-3], "ends too early"),
        ("gzip, gzip", gzipped(CONTENT), "incorrect header check"),
    ],
)
async def test_codings_that_do_not_hold(coding: str, body: bytes, words: str) -> None:
    """A body that does not fit its coding, ends too early or goes on after its end is an error."""
    async with serving() as web, reading() as client:
        web.route("/f.csv", sending(body, ("Content-Encoding", coding)))
        received, error = await until_broken(await client.origin(f"{web.url}/f.csv?token=s3cr3t").open())
        assert isinstance(error, ServerError)
        assert words in error.message
        assert "s3cr3t" not in error.message
        assert CONTENT.startswith(received[: len(CONTENT)])


@pytest_twisted.ensureDeferred
async def test_a_coded_body_that_is_cut() -> None:
    """A connection that breaks within a coded body raises ConnectionLost."""
    async with serving() as web, reading() as client:
        coded = gzipped(RANDOM)
        headers = [("Content-Encoding", "gzip")]

        def cut(exchange: Exchange) -> None:
            exchange.write(exchange.head(200, [*headers, ("Content-Length", str(len(coded)))]) + coded[:1000])
            exchange.close()

        web.route("/f.csv", cut)
        _, error = await until_broken(await client.origin(f"{web.url}/f.csv").open())
        assert isinstance(error, ConnectionLost)


@pytest_twisted.ensureDeferred
async def test_a_coded_part_is_no_part_of_the_file() -> None:
    """If the server resumes a read with a range of the coded bytes, the file is read from its beginning."""
    coded = gzipped(CONTENT)

    def handler(exchange: Exchange) -> None:
        headers = [("Content-Encoding", "gzip"), ("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")]
        if "range" in exchange.request.headers:
            size = len(CONTENT)
            exchange.answer(
                206,
                [("Content-Encoding", "gzip"), ("Content-Range", f"bytes 10-{size - 1}/{size}")],
                b"?" * (size - 10),
            )
        else:
            exchange.answer(200, headers, coded)

    async with serving() as web, reading() as client:
        web.route("/f.csv", handler)
        for identity in ('tag "1"', f"date Tue, 14 Nov 2023 22:13:20 GMT {len(CONTENT)}"):
            source = await client.origin(f"{web.url}/f.csv").open(10, identity)
            assert source.offset == 0
            assert await rest_of(source) == CONTENT


@pytest_twisted.ensureDeferred
async def test_a_coded_file_that_comes_as_a_whole_part() -> None:
    """A 206 with all of the coded bytes, unasked for, is the file as well."""
    coded = gzipped(CONTENT)
    headers = [("Content-Encoding", "gzip"), ("Content-Range", f"bytes 0-{len(coded) - 1}/{len(coded)}")]
    async with serving() as web, reading() as client:
        web.route("/f.csv", sending(coded, *headers, status=206))
        assert await content_of(client, f"{web.url}/f.csv") == CONTENT


def test_tiny_members() -> None:
    """Thousands of gzip members of a byte each are read whole, a few of them in each turn."""
    inflater = Inflater("gzip")
    inflater.feed(gzip.compress(b"a") * 3000 + gzip.compress(bytes(100_000)))
    pieces, turns = [], 0
    while (piece := inflater.read(2**16)) or inflater.tired:
        pieces.append(piece)
        if inflater.tired:
            inflater.rested()
            turns += 1
    inflater.end()
    assert b"".join(pieces) == b"a" * 3000 + bytes(100_000)
    assert turns == 3001 // GZIP_MEMBERS_IN_TURN
