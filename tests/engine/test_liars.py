"""Servers that tell numbers which cannot be: their files end with the reason, at once, and nobody else is concerned."""

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import NewFile, State
from tests.engine.rig import Rig, file, place, random_bytes, url
from tests.servers.exchange import Exchange
from tests.servers.wayward.misbehaviour import FSTAT, LIMITS, LSTAT, STAT, STATVFS, Misbehaviour, Way
from tests.servers.wayward.server import Wayward
from tests.servers.web import File, Web

MOST = 2**53
LIES = (MOST + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
NO_NUMBERS = (2**64, 10**30)
"""What HTTP has digits for, and no program counts to."""
GOOD = 20
CONTENT = random_bytes(300_000)


@dataclass(frozen=True, slots=True)
class Liar:
    """A file of which more is told than there can be."""

    file: NewFile
    said: str
    """What the error tells."""


def announced(lie: int) -> str:
    return f"announces {lie} bytes, more than {MOST} can be moved"


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = await Rig(reactor, tmp_path).open({"archive": {"url": (tmp_path / "archive").as_uri(), "max_active": 32}})
    await rig.engine(max_active=32)
    yield rig
    await rig.close()


async def judge(rig: Rig, web: Web, tmp_path: Path, *liars: Liar) -> None:
    """Move the files of liars beside good ones, in one job; assert that each ends as it must, after one attempt."""
    web.route("/good", File(CONTENT, etag='"1"'))
    good = [file(url(f"{web.url}/good"), "archive", f"good-{number}") for number in range(GOOD)]
    job, files = await rig.moved(*(liar.file for liar in liars), *good, max_attempts=5)

    assert job.state is State.PARTIAL
    for found, liar in zip(files, liars, strict=False):
        assert found.state is State.FAILED, liar
        assert found.error is not None
        assert (found.error["code"], found.error["retryable"]) == ("SERVER_ERROR", False), found.error
        assert found.error["scope"] == "SOURCE", found.error
        assert liar.said in found.error["message"], (found.error, liar)
        assert found.attempt == 1
    assert [found.state for found in files[len(liars) :]] == [State.COMPLETED] * GOOD
    for number in range(GOOD):
        assert (tmp_path / f"archive/good-{number}").read_bytes() == CONTENT
    assert not [path for path in (tmp_path / "archive").rglob("*") if not path.name.startswith("good-")]


def chunk(lie: int, before: bytes) -> Callable[[Exchange], None]:
    """Answer in chunks: one as it should be, then one that is said to be so large."""

    def handler(exchange: Exchange) -> None:
        exchange.write(exchange.head(200, [("Transfer-Encoding", "chunked")]))
        exchange.write(b"%x\r\n%b\r\n%x\r\nmore of it" % (len(before), before, lie) if before else b"%x\r\nx" % lie)

    return handler


def part(lie: int) -> Callable[[Exchange], None]:
    """Answer with a part that is said to be of so much."""

    def handler(exchange: Exchange) -> None:
        exchange.answer(206, [("Content-Range", f"bytes 0-{lie - 1}/{lie}"), ("ETag", '"1"')], length=lie)

    return handler


@pytest_twisted.ensureDeferred
async def test_web_servers(rig: Rig, web: Web, tmp_path: Path) -> None:
    """A web server that announces too much, by a length, a range, or a chunk."""
    liars = []
    for number, lie in enumerate(LIES):
        ways: dict[str, tuple[Any, str]] = {
            "length": (File(b"x" * 1000, etag='"1"', length=lie), announced(lie)),
            "no-head": (File(b"x" * 1000, length=lie, head=405), announced(lie)),
            "gzip": (File(b"x" * 1000, length=lie, gzip=True), announced(lie)),
            "part": (part(lie), announced(lie)),
            "chunk": (chunk(lie, b""), f"a chunk of {lie} bytes is announced, more than {MOST} can be moved"),
            "later": (chunk(lie, CONTENT), f"a chunk of {lie} bytes is announced, more than {MOST} can be moved"),
        }
        for way, (handler, said) in ways.items():
            path = f"/{way}-{number}"
            web.route(path, handler)
            liars.append(Liar(file(url(f"{web.url}{path}"), "archive", path[1:]), said))
    for lie in NO_NUMBERS:
        web.route(f"/length-{lie}", File(b"x" * 1000, etag='"1"', length=lie))
        web.route(f"/chunk-{lie}", chunk(lie, CONTENT))
        for way, said in (("length", f"is '{lie}', no number of bytes"), ("chunk", "expected the size of a chunk")):
            liars.append(Liar(file(url(f"{web.url}/{way}-{lie}"), "archive", f"{way}-{lie}"), said))
    await judge(rig, web, tmp_path, *liars)


@pytest_twisted.ensureDeferred
async def test_archives(rig: Rig, web: Web, tmp_path: Path) -> None:
    """An archive of which a file is said to be too large ends likewise, and tells which."""
    web.route("/huge", File(b"x", etag='"1"', length=2**62))
    web.route("/good", File(CONTENT, etag='"1"'))
    files = [file(url(f"{web.url}/{name}"), "archive", "all.zip") for name in ("good", "huge")]
    job, _ = await rig.moved(*files, archive="zip", max_attempts=5)
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["retryable"]) == ("SERVER_ERROR", False)
    assert job.error["message"].startswith("files[1]: ")
    assert announced(2**62) in job.error["message"]


@pytest.fixture
def wayward(open_directory: Path) -> Iterator[Wayward]:
    server = Wayward(open_directory / "sftp")
    server.start()
    yield server
    server.stop()


@pytest_twisted.ensureDeferred
async def test_file_servers(web: Web, tmp_path: Path, wayward: Wayward) -> None:
    """A file server that tells too large a size; whose limits and free room it tells, they do no harm."""
    table: dict[str, Any] = {
        "url": wayward.url,
        "private_key_file": str(wayward.private_key),
        "known_hosts_file": str(wayward.known_hosts),
        "max_active": 32,
    }
    archive: dict[str, Any] = {"url": (tmp_path / "archive").as_uri(), "max_active": 32}
    rig = await Rig(reactor, tmp_path).open({"archive": archive, "liar": table})
    await rig.engine(max_active=32)
    try:
        liars, ways = [], [Misbehaviour(request, Way.TELLS, amount=2**64 - 1) for request in (LIMITS, STATVFS)]
        for number, lie in enumerate(LIES):
            (wayward.root / f"lie-{number}").write_bytes(CONTENT)
            ways += [Misbehaviour(look, Way.TELLS, amount=lie, name=f"lie-{number}") for look in (STAT, LSTAT, FSTAT)]
            liars.append(Liar(file(place("liar", f"lie-{number}"), "archive", f"sftp-{number}"), announced(lie)))
        wayward.misbehave(*ways)
        await judge(rig, web, tmp_path, *liars)

        job, _ = await rig.moved(file(url(f"{web.url}/good"), "liar", "arrived"))
        assert job.state is State.COMPLETED, job.error
        assert (wayward.root / "arrived").read_bytes() == CONTENT
    finally:
        await rig.close()


@pytest.fixture
def holes(tmp_path: Path) -> Iterator[Path]:
    """A disk on which files may be as long as there are numbers, since nothing is in them."""
    at = tmp_path / "holes"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", at], check=True)
    yield at
    subprocess.run(["umount", at], check=True)


@pytest_twisted.ensureDeferred
async def test_disks(web: Web, tmp_path: Path, holes: Path) -> None:
    """A file of a local disk that is longer than anything that can be moved."""
    places: dict[str, dict[str, Any]] = {
        "archive": {"url": (tmp_path / "archive").as_uri(), "max_active": 32},
        "holes": {"url": holes.as_uri()},
    }
    rig = await Rig(reactor, tmp_path).open(places)
    await rig.engine(max_active=32)
    try:
        liars = []
        for lie in (MOST + 1, 2**62, 2**63 - 1):
            with (holes / str(lie)).open("wb") as long:
                long.truncate(lie)
            liars.append(Liar(file(place("holes", str(lie)), "archive", f"disk-{lie}"), announced(lie)))
        await judge(rig, web, tmp_path, *liars)
    finally:
        await rig.close()
