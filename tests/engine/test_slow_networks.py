"""Destinations behind networks that are slow, which is no fault, or that stand still, which is one."""

import pathlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import State
from tests.engine.rig import Rig, file, large, place, url
from tests.engine.there import between, digest
from tests.protocols.s3 import BucketOutside
from tests.servers.path import Path, path_to
from tests.servers.s3 import BUCKET, RcloneS3, S3Server
from tests.servers.sshd import Sshd
from tests.servers.web import File, Web
from tests.waiting import until

MIB = 2**20
content = partial(large, 17 * MIB)
"""Its first part is what a checkpoint cuts off, of 16 MiB."""
IDLE = 4.0
"""Seconds without a byte that a connection is given."""
PIECE_EVERY = 0.025
"""Seconds in which a connection passes 64 KiB: the first part takes more than IDLE, however fast the machine is."""


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 service."""
    server = RcloneS3(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def path(server: S3Server) -> Iterator[Path]:
    """What lies between the engine and the service."""
    with path_to(server.port) as path:
        yield path


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: pathlib.Path, server: S3Server, path: Path) -> Any:
    far = {**server.options, "endpoint": f"http://127.0.0.1:{path.port}", "part_size": "32MiB"}
    rig = await Rig(reactor, tmp_path).open(
        {"far": {"url": f"s3://{BUCKET}/far", **far}}, transfers={"max_attempts": 3, "idle_timeout": f"{IDLE:g}s"}
    )
    yield rig
    await rig.close()


@pytest_twisted.ensureDeferred
async def test_a_part_takes_long(rig: Rig, web: Web, server: S3Server, path: Path) -> None:
    """A part may be on its way for longer than a connection may stand still."""
    web.route("/f", File(content(), etag='"1"'))
    path.slow(PIECE_EVERY)
    await rig.engine()
    began = reactor.seconds()
    job, told = await rig.moved(file(url(f"{web.url}/f"), "far", "f"))
    assert job.state is State.COMPLETED, told
    assert reactor.seconds() - began > IDLE
    assert BucketOutside(server, "far").read("f") == content()
    assert [event.kind for event in await rig.store.events(job=job.id) if event.kind == "retrying"] == []


@pytest_twisted.ensureDeferred
async def test_a_part_stands_still(rig: Rig, web: Web, server: S3Server, path: Path) -> None:
    """A network that takes nothing any more ends the attempt; another one goes on when it does."""
    web.route("/f", File(content(), etag='"1"'))
    path.slow(PIECE_EVERY)
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "far", "f"))
    await until(lambda: path.sent > MIB)
    path.stand()

    async def retrying() -> list[Any]:
        return [event for event in await rig.store.events(job=job) if event.kind == "retrying"]

    await until(retrying)
    path.slow(0.0)
    path.go_on()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert next(event.details["error"]["code"] for event in await retrying()) == "STALLED"
    assert BucketOutside(server, "far").read("f") == content()


@pytest_twisted.ensureDeferred
async def test_a_file_server(tmp_path: pathlib.Path, open_directory: pathlib.Path) -> None:
    """Requests to a file server may be on their way for longer; where nothing moves any more, the attempt ends."""
    server = Sshd(open_directory)
    server.start()
    try:
        with path_to(server.port) as path:
            async with between(
                tmp_path, server, port=path.port, transfers={"idle_timeout": "2s", "connect_timeout": "3s"}
            ) as ends:
                ends.made(ends.here, "first", 1)
                await ends.rig.moved(file(place("here", "first"), "there", "first"))
                sent, before = ends.made(ends.here, "f", 24 * MIB), path.sent
                path.slow(0.6)
                job = await ends.rig.ask(file(place("here", "f"), "there", "f"))
                await until(lambda: path.sent - before > MIB // 2)
                assert await ends.told(job, "retrying") == []
                path.stand()
                await until(lambda: ends.told(job, "retrying"))
                path.slow(0.0)
                path.go_on()
                record = await ends.rig.ended(job)
                assert record.state is State.COMPLETED, record.error
                assert [each["error"]["code"] for each in await ends.told(job, "retrying")] == ["STALLED"]
                assert digest(ends.there / "f") == sent
    finally:
        server.stop()
