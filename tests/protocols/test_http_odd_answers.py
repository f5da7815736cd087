"""Answers that are not HTTP/1.1 to the letter, and that curl, wget and browsers read all the same."""

import pytest
import pytest_twisted
from twisted.internet.utils import getProcessOutput

from datamover.errors import ConnectionLost, ServerError
from tests.protocols.reading import content_of, reading, serving, until_broken
from tests.servers.web import Exchange, Handler

CONTENT = b"a,b\n" + b"1,2\n" * 500
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(CONTENT)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)
CHUNKED = b"Transfer-Encoding: chunked\r\n"

ANSWERS = {
    "plain": OK + LENGTH + b"\r\n" + CONTENT,
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n" + CONTENT,
    "two spaces": b"HTTP/1.1  200 OK\r\n" + LENGTH + b"\r\n" + CONTENT,
    "the same length twice": OK + LENGTH + LENGTH + b"\r\n" + CONTENT,
    "the same length in a list": OK + b"Content-Length: %d, %d\r\n\r\n" % (len(CONTENT), len(CONTENT)) + CONTENT,
    "a length with a sign": OK + b"Content-Length: +%d\r\n\r\n" % len(CONTENT) + CONTENT,
    "a length and chunks": OK + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "another length and chunks": OK + CHUNKED + b"Content-Length: 7\r\n\r\n" + CHUNKS,
    "chunked twice": OK + CHUNKED + CHUNKED + b"\r\n" + CHUNKS,
    "identity": OK + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + CONTENT,
    "chunked by HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "folded": OK + b"X-Long: one\r\n two\r\n" + LENGTH + b"\r\n" + CONTENT,
    "bare line feeds": (OK + LENGTH + b"\r\n").replace(b"\r", b"") + CONTENT,
    "doubled carriage returns": (OK + LENGTH + b"\r\n").replace(b"\r", b"\r\r") + CONTENT,
    "a space before the colon": OK + b"Content-Length : %d\r\n\r\n" % len(CONTENT) + CONTENT,
    "an odd name": OK + b"X Cache Key: a\r\n" + LENGTH + b"\r\n" + CONTENT,
    "a control character": OK + b"X-Debug: a\x01b\r\n" + LENGTH + b"\r\n" + CONTENT,
    "a padded size": OK + CHUNKED + b"\r\n%-6x\r\n%b\r\n0\r\n\r\n" % (len(CONTENT), CONTENT),
    "a size with zeros": OK + CHUNKED + b"\r\n%08x\r\n%b\r\n0000\r\n\r\n" % (len(CONTENT), CONTENT),
    "extensions and trailers": OK + CHUNKED + b"\r\n%x;a=b\r\n%b\r\n0;c\r\nX: y\r\n\r\n" % (len(CONTENT), CONTENT),
    "chunks with bare line feeds": OK + CHUNKED + b"\r\n%x\n%b\n0\n\n" % (len(CONTENT), CONTENT),
    "until the connection ends": b"HTTP/1.0 200 OK\n\n" + CONTENT,
}
KEPT = {"plain", "no reason", "a padded size", "a size with zeros", "extensions and trailers"}
"""The answers that are unambiguous, so that the connection is used again."""


def raw(answer: bytes, *, close: bool = False) -> Handler:
    """Send these bytes, without the body for HEAD, and close, or wait for what comes next."""

    def handler(exchange: Exchange) -> None:
        sent = answer
        if exchange.request.method == "HEAD":
            ends = [place for end in (b"\n\n", b"\n\r\n", b"\n\r\r\n") if (place := answer.find(end)) >= 0]
            sent = answer[: answer.index(b"\n", min(ends) + 1) + 1]
        exchange.write(sent)
        if close:
            exchange.close()

    return handler


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ANSWERS)
async def test_what_curl_reads(name: str) -> None:
    """``inspect`` and ``open`` find the same file as curl."""
    async with serving() as web, reading() as client:
        web.route("/data.csv", raw(ANSWERS[name], close=True))
        url = f"{web.url}/data.csv"
        assert await getProcessOutput("curl", ["-sS", "-m", "9", url]) == CONTENT  # type: ignore[no-untyped-call]
        assert await content_of(client, url) == CONTENT
        found = await client.origin(url).inspect()
        assert found.name == "data.csv"
        assert found.size in (len(CONTENT), None)
        assert found.size is not None or not ANSWERS[name].startswith(OK + LENGTH + b"\r\n")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "until the connection ends"])
async def test_the_connection_after_it(name: str) -> None:
    """After an ambiguous answer the next request uses another connection, without delay."""
    async with serving() as web, reading() as client:
        web.route("/data.csv", raw(ANSWERS[name]))
        for _ in range(2):
            assert await content_of(client, f"{web.url}/data.csv") == CONTENT
        assert [request.connection for request in web.requests] == ([1, 1] if name in KEPT else [1, 2])


@pytest_twisted.ensureDeferred
async def test_what_is_read_otherwise_may_still_break() -> None:
    """An odd answer that ends too early is not taken for the file."""
    async with serving() as web, reading() as client:
        for name in ("the same length twice", "bare line feeds", "length and chunks", "chunks with bare line feeds"):
            answer = ANSWERS.get(name, ANSWERS["a length and chunks"])
            web.route("/data.csv", raw(answer[:-20], close=True))
            _, error = await until_broken(await client.origin(f"{web.url}/data.csv").open())
            assert isinstance(error, ConnectionLost)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((b"5", b"7"), "comes twice with different values, 5 and 7"),
        ((b"5, 7",), "comes twice with different values, 5 and 7"),
        ((b"?token=s3cr3t",), "is '…', no number of bytes"),
    ],
)
async def test_lengths_that_are_refused(values: tuple[bytes, ...], told: str) -> None:
    """Contradictory and malformed lengths are refused; the error has the header's name and value."""
    async with serving() as web, reading() as client:
        web.route("/f", raw(OK + b"".join(b"Content-Length: %b\r\n" % value for value in values) + b"\r\nabcdefg"))
        for asking in (client.origin(f"{web.url}/f").open, client.origin(f"{web.url}/f").inspect):
            with pytest.raises(ServerError, match="the answer's header 'Content-Length' ") as raised:
                await asking()
            assert told in raised.value.message


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("given", "size"),
    [("bytes 0-7/8", 8), ("Bytes=0-7/8", 8), ("0 - 7 / 8", 8)],
)
@pytest.mark.parametrize("by_chunks", [False, True])
async def test_a_whole_file_as_a_part(given: str, size: int, by_chunks: bool) -> None:
    """An unasked 206 is the file if its Content-Range says that it holds all of it."""
    content = b"a,b\n1,2\n"
    headers = [("Content-Range", given)]
    body = b"8\r\n%b\r\n0\r\n\r\n" % content if by_chunks else content

    def handler(exchange: Exchange) -> None:
        framing = ("Transfer-Encoding", "chunked") if by_chunks else ("Content-Length", "8")
        exchange.write(exchange.head(206, [*headers, framing]))
        exchange.write(b"" if exchange.request.method == "HEAD" else body)

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        assert (await client.origin(f"{web.url}/f").inspect()).size == size
        source = await client.origin(f"{web.url}/f").open()
        assert (source.inspection.size, source.offset) == (size, 0)
        await source.close()
        assert await content_of(client, f"{web.url}/f") == content


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([("Content-Range", "bytes 0-3/8")], "it holds the bytes 0 to 3 of 8, not the whole file"),
        ([("Content-Range", "bytes 4-7/8")], "it holds the bytes 4 to 7 of 8, not the whole file"),
        ([("Content-Range", "bytes 0-3/*")], "it holds the bytes 0 to 3 of a length that it does not tell"),
        (
            [("Content-Range", "bytes 0-7/8")],
            "its header 'Content-Range' is 'bytes 0-7/8', which does not describe",
        ),
        ([("Content-Range", "all")], "its header 'Content-Range' is 'all', which does not describe"),
        ([], "it has no header 'Content-Range'"),
    ],
)
async def test_a_part_as_a_file(headers: list[tuple[str, str]], words: str) -> None:
    """An unasked 206 that does not hold the whole file is refused; the error says what it holds."""
    async with serving() as web, reading() as client:
        web.route("/f", lambda exchange: exchange.answer(206, headers, b"abcd"))
        for asking in (client.origin(f"{web.url}/f").open, client.origin(f"{web.url}/f").inspect):
            with pytest.raises(ServerError, match="answered 206 Partial Content though no part was asked") as raised:
                await asking()
            assert words in raised.value.message
