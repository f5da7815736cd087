"""One file over several connections: when that begins, what it must not do, and that the file arrives whole."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from datamover.concurrency.buffer_budgets import Buffers
from datamover.errors import ConnectionLost, DataMoverError, ServerError, SourceChanged
from datamover.protocols.http import ranges, steady
from tests.protocols.reading import content_of, reading, rest_of, serving, soon, until_broken
from tests.servers.nginx import Nginx
from tests.servers.web import Exchange, File, Handler, Web, redirect

CONTENT = os.urandom(4 * 2**20 + 12_345)
PACE = 0.01
"""Seconds: some 6 MB a second for each connection."""
GIVEN = [("Accept-Ranges", "bytes")]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split small files, early, and look at none again at its end."""
    monkeypatch.setattr(steady, "QUICK", math.inf)
    monkeypatch.setattr(steady, "LARGE", math.inf)
    monkeypatch.setattr(ranges, "WORTH", 2**20)
    monkeypatch.setattr("datamover.protocols.http.origin.WORTH", 2**20)
    monkeypatch.setattr(ranges, "PERIOD", 0.03)
    monkeypatch.setattr(ranges, "LEAST", 2**15)
    monkeypatch.setattr(ranges, "SEGMENTS", Buffers(2**20, least=2**15, most=2**18))


def slow_file(**told: object) -> File:
    return File(CONTENT, **{"etag": '"1"', "headers": GIVEN, "pace": PACE, **told})  # type: ignore[arg-type]


class Ranges:
    """Serves a file; ``first`` may answer the requests for ranges with an end itself."""

    def __init__(self, file: File, first: Callable[[Exchange, int], bool]) -> None:
        """``first`` gets the request and its number among those for ranges, and tells whether it has answered."""
        self._file = file
        self._first = first
        self.asked = 0
        self.together = 0
        """Requests being answered."""

    async def __call__(self, exchange: Exchange) -> None:
        self.together += 1
        try:
            if not exchange.request.headers.get("range", "-").endswith("-"):
                self.asked += 1
                if self._first(exchange, self.asked):
                    return
            code, headers, body = self._file._part(exchange.request)
            exchange.write(exchange.head(code, [*headers, ("Content-Length", str(len(body)))]))
            await self._file._send_slowly(exchange, body, PACE)
        finally:
            self.together -= 1


async def read(handler: Handler, *, streams: int = 4) -> tuple[bytes, DataMoverError | None, Web]:
    """Read a file to its end or its error."""
    async with serving() as web, reading(streams=streams) as client:
        web.route("/f", handler)
        source = await client.origin(f"{web.url}/f").open()
        received, error = await until_broken(source)
        return received, error, web


@pytest_twisted.ensureDeferred
async def test_a_slow_stream_becomes_several() -> None:
    """A file that is slow over one connection is read over as many as are allowed, in order, each with its range."""
    serve = Ranges(slow_file(), lambda *_: False)
    received, error, web = await read(serve)
    assert (received == CONTENT, error) == (True, None)
    # The first connection ends with the file's beginning; no more than four are used at a time.
    assert len({request.connection for request in web.requests}) <= 1 + 4
    assert all(request.headers["if-range"] == '"1"' for request in web.requests[1:])
    asked = [request.headers["range"] for request in web.requests[1:]]
    assert 1 < len(asked) == len(set(asked)) == serve.asked


@pytest_twisted.ensureDeferred
async def test_nginx(tmp_path: Path) -> None:
    """nginx, which limits the rate of each connection, sends a file faster over several, and whole."""
    (tmp_path / "f").write_bytes(CONTENT)
    os.utime(tmp_path / "f", (1_700_000_000, 1_700_000_000))
    config = "location / { limit_rate 1m; }"
    with Nginx(tmp_path, config=config) as nginx:
        async with reading() as client:
            source = await client.origin(f"{nginx.url}/f").open()
            assert await rest_of(source) == CONTENT
            assert len([line for line in nginx.requests() if "GET /f " in line and " 206 " in line]) > 1


@pytest_twisted.ensureDeferred
async def test_a_file_that_wants_a_cookie() -> None:
    """The further connections send the cookie that the first request got, and get no other."""
    file = slow_file()

    def guarded(exchange: Exchange) -> None:
        if exchange.request.headers.get("cookie") == "session=1":
            file(exchange)
        else:
            exchange.answer(302, [("Location", "/f"), ("Set-Cookie", "session=1; Path=/")])

    received, error, web = await read(guarded)
    assert (received == CONTENT, error) == (True, None)
    cookies = [request.headers.get("cookie") for request in web.requests]
    assert cookies == [None, *["session=1"] * (len(cookies) - 1)]
    assert len([request for request in web.requests if "range" in request.headers]) > 1


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"headers": []}, id="the server does not say that it gives out ranges"),
        pytest.param({"headers": [("Accept-Ranges", "none")]}, id="it says that it does not"),
        pytest.param({"etag": None}, id="nothing tells a changed file"),
        pytest.param({"etag": 'W/"1"'}, id="not for certain"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_split(told: dict[str, object]) -> None:
    """A file is read by one request if ranges of it might not fit together."""
    received, error, web = await read(slow_file(**told))
    assert (received == CONTENT, error, len(web.requests)) == (True, None, 1)


@pytest_twisted.ensureDeferred
async def test_one_stream_is_all_that_is_allowed() -> None:
    """``streams = 1``: never more than one connection."""
    received, error, web = await read(slow_file(), streams=1)
    assert (received == CONTENT, error, len(web.requests)) == (True, None, 1)


@pytest_twisted.ensureDeferred
async def test_from_where_an_earlier_read_ended() -> None:
    """The rest of a resumed file is read over several connections, too."""
    async with serving() as web, reading() as client:
        web.route("/f", slow_file())
        origin = client.origin(f"{web.url}/f")
        identity = (await origin.inspect()).identity
        source = await origin.open(12_345, identity)
        assert source.offset == 12_345
        assert await rest_of(source) == CONTENT[12_345:]
        assert len(web.requests) > 4


@pytest_twisted.ensureDeferred
async def test_a_busy_host_is_left_alone() -> None:
    """Several files of one host share its connections."""
    serve = Ranges(slow_file(), lambda *_: False)
    async with serving() as web, reading(streams=3) as client:
        web.route("/f", serve)
        reads = [Deferred.fromCoroutine(content_of(client, f"{web.url}/f")) for _ in range(3)]
        await DeferredList(reads, fireOnOneCallback=True)
        assert len(web.requests) == 3
        for one in reads:
            assert (await one) == CONTENT


@pytest.mark.parametrize("status", [403, 429, 503])
@pytest_twisted.ensureDeferred
async def test_no_second_connection_is_given(status: int) -> None:
    """If a server refuses a range, no other is requested, and the stream is read to its end."""

    def refuse(exchange: Exchange, number: int) -> bool:
        exchange.answer(status)
        return True

    serve = Ranges(slow_file(), refuse)
    received, error, _ = await read(serve)
    assert (received == CONTENT, error) == (True, None)
    assert serve.asked == 1


@pytest_twisted.ensureDeferred
async def test_fewer_connections_are_given() -> None:
    """A range that is refused while another one is received is requested again when it is its turn."""

    def refuse(exchange: Exchange, number: int) -> bool:
        if number == 3:
            exchange.answer(503)
        return number == 3

    serve = Ranges(slow_file(), refuse)
    received, error, _ = await read(serve)
    assert (received == CONTENT, error) == (True, None)


@pytest_twisted.ensureDeferred
async def test_changed_meanwhile() -> None:
    """A range of another file never becomes part of this one."""
    changed = slow_file(etag='"2"')

    def change(exchange: Exchange, number: int) -> bool:
        if number < 4:
            return False
        changed(exchange)
        return True

    received, error, _ = await read(Ranges(slow_file(), change))
    assert isinstance(error, SourceChanged)
    assert CONTENT.startswith(received)
    assert len(received) < len(CONTENT)


@pytest_twisted.ensureDeferred
async def test_a_host_is_not_tried_twice() -> None:
    """After ranges that did not fit together the next attempt reads the file as one stream."""
    broken = Ranges(slow_file(), lambda exchange, number: number > 3 and _reset(exchange))
    async with serving() as web, reading() as client:
        web.route("/f", broken)
        origin = client.origin(f"{web.url}/f")
        _, error = await until_broken(await origin.open())
        assert isinstance(error, ConnectionLost)
        asked = len(web.requests)
        assert await rest_of(await origin.open()) == CONTENT
        assert len(web.requests) == asked + 1


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_followed_once() -> None:
    """A redirected file is read as one stream: the next request may be redirected elsewhere."""
    async with serving() as web, reading() as client:
        web.route("/f", redirect("/g"))
        web.route("/g", slow_file())
        assert await content_of(client, f"{web.url}/f") == CONTENT
        assert [request.path for request in web.requests] == ["/f", "/g"]


@pytest.mark.parametrize("whose", ["offset", "total", "etag"])
@pytest_twisted.ensureDeferred
async def test_another_range_than_was_asked_for(whose: str) -> None:
    """A range is used only if its Content-Range is the requested one."""

    def lie(exchange: Exchange, number: int) -> bool:
        if number < 4:
            return False
        first = int(exchange.request.headers["range"].removeprefix("bytes=").partition("-")[0])
        first += whose == "offset"
        last, total = first + 2**17 - 1, len(CONTENT) + (whose == "total")
        headers = [("Content-Range", f"bytes {first}-{last}/{total}"), ("ETag", '"2"' if whose == "etag" else '"1"')]
        exchange.answer(206, headers, CONTENT[first : last + 1])
        return True

    received, error, _ = await read(Ranges(slow_file(), lie))
    assert isinstance(error, ServerError if whose == "offset" else SourceChanged)
    assert CONTENT.startswith(received)


@pytest.mark.parametrize("block", [1000, 2**17, 2**20])
@pytest_twisted.ensureDeferred
async def test_ranges_that_begin_behind(block: int) -> None:
    """If a server rounds up to whole blocks, the range is requested again from further before, without a gap."""
    file = slow_file()

    def rounds(exchange: Exchange, number: int) -> bool:
        begin, _, end = exchange.request.headers["range"].removeprefix("bytes=").partition("-")
        first, last = -(-int(begin) // block) * block, int(end)
        if first > last:
            exchange.answer(416, [("Content-Range", f"bytes */{len(CONTENT)}")])
        else:
            headers = [("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}"), ("ETag", '"1"')]
            exchange.answer(206, headers, CONTENT[first : last + 1])
        return True

    serve = Ranges(file, rounds)
    received, error, _ = await read(serve)
    assert (received == CONTENT, error) == (True, None)
    assert serve.asked > 1


@pytest_twisted.ensureDeferred
async def test_a_range_that_breaks_off() -> None:
    """The missing rest of a range is requested once more; after that its error is raised."""
    cut = slow_file(pace=None, cut=70_000)

    def broken(exchange: Exchange, number: int, *, to: int) -> bool:
        if 4 <= number < to:
            cut(exchange)
        return 4 <= number < to

    received, error, web = await read(Ranges(slow_file(), lambda *what: broken(*what, to=6)))
    assert (received == CONTENT, error) == (True, None)
    starts = [int(request.headers["range"][6:].partition("-")[0]) for request in web.requests[1:]]
    assert len(starts) == len(set(starts))

    received, error, _ = await read(Ranges(slow_file(), lambda exchange, number: number > 3 and _reset(exchange)))
    assert isinstance(error, ConnectionLost)
    assert CONTENT.startswith(received)


def _reset(exchange: Exchange) -> bool:
    exchange.reset()
    return True


@pytest.mark.parametrize("how", ["closed", "cancelled"])
@pytest_twisted.ensureDeferred
async def test_letting_go(how: str) -> None:
    """Closing or cancelling releases every connection."""
    serve = Ranges(slow_file(), lambda *_: False)
    async with serving() as web, reading() as client:
        web.route("/f", serve)
        source = await client.origin(f"{web.url}/f").open()
        received = b""
        while len(web.requests) < 3 and len(received) < len(CONTENT):
            received += await source.read()
        assert len(received) < len(CONTENT)
        if how == "cancelled":
            waiting = Deferred.fromCoroutine(rest_of(source))
            waiting.addErrback(lambda _: None)
            waiting.cancel()
            await waiting
        else:
            await source.close()
        assert await soon(lambda: not serve.together)
        assert CONTENT.startswith(received)
        assert not ranges.SEGMENTS._streams
