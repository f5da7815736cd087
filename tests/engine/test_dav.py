"""The engine over real WebDAV servers: large and small files, groups, sources, and chunks that are gone on with."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import Overwrite, State
from tests.engine.rig import Rig, file, large, place, random_bytes, url
from tests.engine.test_groups import NAMES, Letters, files
from tests.engine.test_object_store import die_midway
from tests.protocols.dav import DavDisk
from tests.servers.cloud import Cloud
from tests.servers.dav import Apache, DavServer, give, running
from tests.servers.web import File, Web
from tests.waiting import until

MIB = 2**20
big = partial(large, 48 * MIB)


@pytest.fixture(scope="module")
def apache() -> Iterator[DavServer]:
    """An Apache for all tests of this module."""
    with running(Apache) as server:
        yield server


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A server that speaks Nextcloud's protocol, for all tests of this module."""
    with running(Cloud) as server:
        assert isinstance(server, Cloud)
        yield server


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, apache: DavServer, cloud: Cloud) -> Any:
    for server in (apache, cloud):
        for name in os.listdir(server.root):
            shutil.rmtree(server.root / name)
        for name in ("in", "slow", "checked"):
            (server.root / name).mkdir()
            give(server.root / name)
    chunked = {**cloud.options, "chunk_size": "5MiB"}
    rig = await Rig(reactor, tmp_path).open(
        {
            "dav": {"url": f"{apache.url}/in", **apache.options},
            "slow": {"url": f"{apache.url}/slow", "bandwidth": "8MB/s", **apache.options},
            "checked": {"url": f"{apache.url}/checked", "verify": "read-back", **apache.options},
            "cloud": {"url": f"{cloud.url}/in", "bandwidth": "8MB/s", **chunked},
            "archive": {"url": f"{apache.url}/in", **apache.options},
            "disk": {"url": (tmp_path / "disk").as_uri()},
        },
        transfers={"max_attempts": 3, "idle_timeout": "20s"},
    )
    yield rig
    await rig.close()


def outside(server: DavServer, name: str = "in") -> DavDisk:
    return DavDisk(server.root / name, hides=False, chunked=getattr(server, "uploads", None))


@pytest_twisted.ensureDeferred
async def test_there_and_back(rig: Rig, web: Web, apache: DavServer, tmp_path: Path) -> None:
    """A large file goes to a server, is read back, and goes from there to a disk; what it went without is told."""
    web.route("/f", File(big(), etag='"1"', modified=1_700_000_000.0))
    await rig.engine()
    job, told = await rig.moved(file(url(f"{web.url}/f"), "checked", "dir/f"))
    assert job.state is State.COMPLETED, told
    assert outside(apache, "checked").read("dir/f") == big()
    assert outside(apache, "checked").uploads() == 0
    [without] = [event.details for event in await rig.store.events(job=job.id) if event.kind == "without"]
    assert "X-OC-Mtime" in str(without)

    job, told = await rig.moved(file(place("checked", "dir/f"), "disk", "f"))
    assert job.state is State.COMPLETED, told
    assert (tmp_path / "disk/f").read_bytes() == big()


@pytest_twisted.ensureDeferred
async def test_resumed_by_another_node(rig: Rig, web: Web, cloud: Cloud) -> None:
    """A node that dies midway is followed by one that goes on with the chunks that a cloud has."""
    web.route("/f", File(big(), etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "cloud", "f"))

    job = await die_midway(rig, ask, rig.saved)
    await rig.engine()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert outside(cloud).read("f") == big()
    [resumed] = [event.details for event in await rig.store.events(job=job) if event.kind == "resumed"]
    assert resumed["from"] >= 5 * MIB
    assert cloud.chunks() == []


@pytest.mark.parametrize("size", [5, MIB])
@pytest_twisted.ensureDeferred
async def test_overwrite(rig: Rig, web: Web, apache: DavServer, size: int) -> None:
    """What is there is left where nothing may be replaced, and replaced where that was asked for."""
    there, new = outside(apache), random_bytes(size)
    there.lay("f", b"old")
    web.route("/f", File(new, etag='"1"'))
    await rig.engine()
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "dav", "f"), overwrite=Overwrite.NEVER)
    assert (told.error and told.error["code"]) == "DESTINATION_EXISTS"
    assert there.read("f") == b"old"
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "dav", "f"), overwrite=Overwrite.ALWAYS)
    assert job.state is State.COMPLETED, told.error
    assert there.read("f") == new
    assert there.names() == ["f"]


@pytest.mark.parametrize("name", ["slow", "cloud"])
@pytest_twisted.ensureDeferred
async def test_cancelled(rig: Rig, web: Web, apache: DavServer, cloud: Cloud, name: str) -> None:
    """A transfer that is cancelled midway leaves nothing, whether it goes whole or in chunks."""
    web.route("/f", File(big(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), name, "f"))

    async def under_way() -> bool:
        [row] = await rig.database.fetch("SELECT bytes_done FROM transfers")
        return bool(row["bytes_done"])

    await until(under_way)
    await rig.store.cancel(job)
    assert (await rig.ended(job)).state is State.CANCELLED
    there = outside(apache, "slow") if name == "slow" else outside(cloud)
    assert (there.uploads(), there.names()) == (0, [])


@pytest_twisted.ensureDeferred
async def test_left_by_a_node_that_told_nobody(rig: Rig, web: Web, cloud: Cloud) -> None:
    """Chunks that a node sent and died over, before it told of them, are swept, and nobody else's."""
    foreign = cloud.uploads / "another-client"
    foreign.mkdir()
    give(foreign)
    web.route("/f", File(big(), etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "cloud", "f"))

    job = await die_midway(rig, ask, lambda: len(list(cloud.uploads.iterdir())) == 2)
    web.route("/f", File(b"another", etag='"2"'))
    await rig.engine()
    assert (await rig.ended(job)).state is State.COMPLETED
    assert outside(cloud).read("f") == b"another"
    assert cloud.chunks() == ["another-client"]
    foreign.rmdir()


@pytest_twisted.ensureDeferred
async def test_a_group(rig: Rig, web: Web, apache: DavServer) -> None:
    """The files of a dataset become visible together, at a server that takes files whole."""
    web.route("/letters", File(b"abc", etag='"1"'))
    rig.datasets["letters"] = Letters(rig, web)
    await rig.engine()
    job, told = await rig.moved(*files())
    assert job.state is State.COMPLETED, told
    assert outside(apache).names("set") == sorted(NAMES)
    assert outside(apache).uploads() == 0
