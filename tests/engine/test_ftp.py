"""The engine over a real FTP server, with TLS: large files and small ones, broken off and gone on with, and groups."""

import os
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.engine.transfer.pipe import CHECKPOINT_BYTES
from datamover.jobs.values import Overwrite, State
from tests.engine.rig import Rig, file, large, place, random_bytes, url
from tests.engine.test_groups import NAMES, Letters, files
from tests.engine.test_object_store import die_midway
from tests.servers.certificates import Authority
from tests.servers.ftp import FtpServer, Vsftpd
from tests.servers.web import File, Web
from tests.waiting import until

MIB = 2**20
big = partial(large, 40 * MIB)
middle = partial(large, 24 * MIB)
"""Long enough for a checkpoint, and for something to happen after it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpServer]:
    """A vsftpd for all tests of this module."""
    directory = tmp_path_factory.mktemp("ftp")
    server = Vsftpd(directory, Authority(directory))
    server.start()
    yield server
    server.stop()


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, server: FtpServer) -> Any:
    base = f"{server.url}/{tmp_path.name}"
    rig = await Rig(reactor, tmp_path).open(
        {
            "ftp": {"url": f"{base}/in", **server.options},
            "slow": {"url": f"{base}/slow", "bandwidth": "10MB/s", **server.options},
            "checked": {"url": f"{base}/checked", "verify": "read-back", **server.options},
            "archive": {"url": f"{base}/archive", **server.options},
            "disk": {"url": (tmp_path / "disk").as_uri()},
        },
        transfers={"max_attempts": 3, "idle_timeout": "20s"},
    )
    yield rig
    await rig.close()


@pytest.fixture
def root(tmp_path: Path, server: FtpServer) -> Path:
    """Where the destinations' roots are on this machine."""
    return server.root / tmp_path.name


def hidden(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".datamover-*")]


@pytest_twisted.ensureDeferred
async def test_there_and_back(rig: Rig, web: Web, root: Path, tmp_path: Path) -> None:
    """A large file goes to the server with its time, is read back there, and goes from there to a disk."""
    web.route("/f", File(big(), etag='"1"', modified=1_700_000_000.0))
    await rig.engine()
    job, told = await rig.moved(file(url(f"{web.url}/f"), "checked", "dir/f"))
    assert job.state is State.COMPLETED, told
    assert (root / "checked/dir/f").read_bytes() == big()
    assert (root / "checked/dir/f").stat().st_mtime == 1_700_000_000.0
    assert hidden(root) == []

    job, told = await rig.moved(file(place("checked", "dir/f"), "disk", "f"))
    assert job.state is State.COMPLETED, told
    assert (tmp_path / "disk/f").read_bytes() == big()
    assert (tmp_path / "disk/f").stat().st_mtime == 1_700_000_000.0


@pytest_twisted.ensureDeferred
async def test_resumed_by_another_node(rig: Rig, web: Web, root: Path) -> None:
    """A node that dies midway is followed by one that goes on with what the server has."""
    web.route("/f", File(big(), etag='"1"'))

    async def ask() -> int:
        return await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    job = await die_midway(rig, ask, rig.saved)
    await rig.engine()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert (root / "slow/f").read_bytes() == big()
    [resumed] = [event.details for event in await rig.store.events(job=job) if event.kind == "resumed"]
    assert resumed["from"] >= CHECKPOINT_BYTES
    assert hidden(root) == []


@pytest.mark.parametrize("size", [5, 3 * MIB])
@pytest_twisted.ensureDeferred
async def test_overwrite(rig: Rig, web: Web, root: Path, size: int) -> None:
    """What is there is left where nothing may be replaced, and replaced where that was asked for."""
    new = random_bytes(size)
    (root / "in").mkdir(parents=True)
    (root / "in/f").write_bytes(b"old")
    web.route("/f", File(new, etag='"1"'))
    await rig.engine()
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "ftp", "f"), overwrite=Overwrite.NEVER)
    assert (told.error and told.error["code"]) == "DESTINATION_EXISTS"
    assert (root / "in/f").read_bytes() == b"old"
    job, [told] = await rig.moved(file(url(f"{web.url}/f"), "ftp", "f"), overwrite=Overwrite.ALWAYS)
    assert job.state is State.COMPLETED, told.error
    assert (root / "in/f").read_bytes() == new
    assert os.listdir(root / "in") == ["f"]


@pytest_twisted.ensureDeferred
async def test_cancelled(rig: Rig, web: Web, root: Path) -> None:
    """A transfer that is cancelled midway leaves nothing."""
    web.route("/f", File(middle(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    await until(rig.saved)
    await rig.store.cancel(job)
    assert (await rig.ended(job)).state is State.CANCELLED
    assert os.listdir(root / "slow") == []


@pytest_twisted.ensureDeferred
async def test_connections_broken(rig: Rig, web: Web, root: Path, server: FtpServer) -> None:
    """When every connection breaks midway, the next attempt goes on, and the file is whole."""
    web.route("/f", File(middle(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    await until(rig.saved)
    server.disconnect()
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert (root / "slow/f").read_bytes() == middle()
    assert hidden(root) == []


@pytest_twisted.ensureDeferred
async def test_many(rig: Rig, web: Web, root: Path) -> None:
    """Many small files of one job arrive, several at a time."""
    contents = {f"d{number % 3}/f{number}": random_bytes(3000 + number) for number in range(40)}
    for name, data in contents.items():
        web.route(f"/{name}", File(data, etag=f'"{name}"'))
    await rig.engine()
    files = [file(url(f"{web.url}/{name}"), "ftp", name) for name in contents]
    job, told = await rig.moved(*files)
    assert job.state is State.COMPLETED, told
    for name, data in contents.items():
        assert (root / "in" / name).read_bytes() == data
    assert hidden(root) == []


@pytest_twisted.ensureDeferred
async def test_paused(rig: Rig, web: Web, root: Path) -> None:
    """A transfer that is paused midway goes on, when it is resumed, with what the server has."""
    web.route("/f", File(middle(), etag='"1"'))
    await rig.engine()
    job = await rig.ask(file(url(f"{web.url}/f"), "slow", "f"))

    await until(rig.saved)
    await rig.store.pause(job)

    async def let_go() -> bool:
        [record] = await rig.store.files(job)
        return record.state is State.PENDING

    await until(let_go)
    assert len(hidden(root)) == 1
    await rig.store.resume(job)
    record = await rig.ended(job)
    assert record.state is State.COMPLETED, record.error
    assert (root / "slow/f").read_bytes() == middle()
    assert "resumed" in await rig.kinds(job)


@pytest_twisted.ensureDeferred
async def test_archive(rig: Rig, web: Web, root: Path) -> None:
    """The files of a job arrive as one zip, read back from the server."""
    contents = {f"f{number}.bin": random_bytes(100_000 * number) for number in range(3)}
    for name, data in contents.items():
        web.route(f"/{name}", File(data, etag='"1"'))
    await rig.engine()
    files = [file(url(f"{web.url}/{name}"), "checked", "out/all.zip") for name in contents]
    job, told = await rig.moved(*files, archive="zip")
    assert job.state is State.COMPLETED, told
    with zipfile.ZipFile(root / "checked/out/all.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
    assert hidden(root) == []


@pytest_twisted.ensureDeferred
async def test_dataset(rig: Rig, web: Web, root: Path) -> None:
    """A dataset's files get their names together; where one cannot have its name, none has."""
    web.route("/letters", File(b"abc", etag='"1"'))
    rig.datasets["letters"] = Letters(rig, web)
    target = root / "archive/set"
    target.mkdir(parents=True)
    (target / NAMES[-1]).mkdir()
    await rig.engine()
    job, told = await rig.moved(*files())
    assert job.state is State.FAILED, told
    assert not [path for path in target.iterdir() if path.is_file()]

    (target / NAMES[-1]).rmdir()
    job, told = await rig.moved(*files())
    assert job.state is State.COMPLETED, told
    assert sorted(os.listdir(target)) == sorted(NAMES)
    assert (target / NAMES[0]).read_bytes() == b"abc"
