"""Files that are written in place while they are read."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from datamover.errors import SourceChanged
from datamover.protocols.http import steady
from tests.protocols.reading import reading, rest_of, serving, until_broken
from tests.servers.nginx import Nginx
from tests.servers.web import Exchange, File, redirect

LONG_AGO, FAR = 1_700_000_000.0, 4_000_000_000.0
OLD, NEW = b"old" * steady.LARGE, b"new" * steady.LARGE
RANGES = [("Accept-Ranges", "bytes")]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("offset", [0, 2**20])
async def test_nginx(tmp_path: Path, offset: int) -> None:
    """A file on nginx that is written in place while it is read, whole or from an offset, raises SourceChanged."""
    file = tmp_path / "f"
    file.write_bytes(8 * OLD)
    os.utime(file, (LONG_AGO, LONG_AGO))
    with Nginx(tmp_path) as nginx:
        async with reading() as client:
            origin = client.origin(f"{nginx.url}/f")
            source = await origin.open(offset, (await origin.inspect()).identity)
            assert source.offset == offset
            assert await source.read()
            with file.open("r+b") as opened:
                opened.write(8 * NEW)
            received, error = await until_broken(source)
            assert isinstance(error, SourceChanged), (len(received), b"new" in received)
            assert await rest_of(await origin.open()) == 8 * NEW


class _Seldom(File):
    """Sends the first ETag in one of the answers to HEAD, as one of several servers behind a name may."""

    asked = 0

    def __call__(self, exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            self.asked += 1
            File(OLD, etag='"1"' if self.asked == 2 else f'"{self.asked + 1}"')(exchange)
        else:
            File.__call__(self, exchange)


class _Generated(File):
    """Is made anew for each request."""

    def __call__(self, exchange: Exchange) -> None:
        self.modified = time.time() + (1 if exchange.request.method == "HEAD" else 0)
        File.__call__(self, exchange)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("file", "then", "changed"),
    [
        (File(OLD, etag='"1"'), {"etag": '"2"'}, True),
        (File(OLD, modified=LONG_AGO), {"modified": LONG_AGO + 1}, True),
        (File(OLD, modified=LONG_AGO), {"modified": FAR}, True),
        (File(OLD, modified=FAR), {"modified": LONG_AGO}, True),
        (File(OLD, etag='W/"1"', modified=LONG_AGO), {"etag": 'W/"2"', "modified": LONG_AGO + 9}, True),
        (File(OLD, modified=FAR, headers=RANGES), {"modified": FAR + 1}, True),
        (File(OLD, etag='"1"', modified=FAR, headers=RANGES), {"etag": '"2"'}, True),
        (File(OLD, etag='W/"1"', modified=LONG_AGO), {"content": OLD + NEW}, True),
        (File(OLD, etag='"1"', modified=LONG_AGO), {}, False),
        (File(OLD, etag='"1"', modified=LONG_AGO), {"etag": '"2"'}, False),
        (File(OLD, etag='"1"', modified=LONG_AGO), {"content": b""}, False),
        (File(OLD, etag='"1"'), {"etag": '"2"', "head": 403}, False),
        (File(OLD, etag='"1"'), {"etag": '"2"', "head": 503}, False),
        (File(OLD, etag='"1"'), {"etag": None}, False),
        (File(OLD, modified=LONG_AGO), {"modified": None, "content": b"please log in"}, False),
        (_Seldom(OLD, etag='"1"'), {}, False),
        (_Generated(OLD), {}, False),
        (File(OLD), {"content": NEW + NEW}, False),
        (File(OLD, etag='"1"', headers=[("Content-MD5", "ZhSjP0s9bVs3pMFs8/VgJw==")]), {"etag": '"2"'}, False),
    ],
)
async def test_what_is_told_at_the_end(file: File, then: dict[str, Any], changed: bool) -> None:
    """Another time, tag or size at the end is a change, unless the server sends them for an unchanged file, too."""
    async with serving() as web, reading() as client:
        web.route("/f", file)
        source = await client.origin(f"{web.url}/f").open()
        received = await source.read()
        for name, value in then.items():
            setattr(file, name, value)
        rest, error = await until_broken(source)
        assert received + rest == OLD
        assert isinstance(error, SourceChanged) if changed else error is None


@pytest_twisted.ensureDeferred
async def test_redirected_at_the_end() -> None:
    """A HEAD that is redirected, as when a login has expired, says nothing of the file."""
    file, moved = File(OLD, etag='"1"'), redirect("/login")

    async with serving() as web, reading() as client:
        web.route("/f", lambda exchange: (file if exchange.request.method == "GET" else moved)(exchange))
        web.route("/login", File(b"please log in", etag='"2"'))
        assert await rest_of(await client.origin(f"{web.url}/f").open()) == OLD
        assert web.asked("/login")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("hangs", [True, False])
async def test_a_server_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    """A server that never answers a HEAD, or hangs up, delays the end of a file by a bounded time only."""
    monkeypatch.setattr(steady, "PATIENCE", 0.1)
    file = File(OLD, etag='"1"')

    async def serve(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            file(exchange)
        elif hangs:
            await exchange.until_gone()
        else:
            exchange.reset()

    async with serving() as web, reading() as client:
        web.route("/f", serve)
        assert await rest_of(await client.origin(f"{web.url}/f").open()) == OLD


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("size", "quick", "looks"), [(steady.LARGE, 60.0, 1), (1000, 60.0, 0), (1000, -1.0, 1)])
async def test_small_files_cost_one_request(
    monkeypatch: pytest.MonkeyPatch, size: int, quick: float, looks: int
) -> None:
    """Only a large file, or one that took long, is looked at again."""
    monkeypatch.setattr(steady, "QUICK", quick)
    async with serving() as web, reading() as client:
        web.route("/f", File(bytes(size), etag='"1"'))
        await rest_of(await client.origin(f"{web.url}/f").open())
        assert [request.method for request in web.requests] == ["GET"] + looks * ["HEAD"]
