"""Destinations that keep room free and share it: what one is about to write is not promised at the other."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.jobs.values import State
from datamover.protocols.local.protocol import LocalPool
from tests.engine import test_keep_free
from tests.engine.rig import Rig, file, url
from tests.engine.test_keep_free import KEEP, MIB, Gated, became, fill, some_moved, taken_away, waits
from tests.engine.test_keep_free_places import mounted
from tests.servers.cloud import Cloud
from tests.servers.dav import give
from tests.servers.sshd import Sshd
from tests.servers.web import File, Web

disk = test_keep_free.disk


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, disk: Path) -> AsyncIterator[Rig]:
    """Three destinations on a disk of 64 MiB, two of which keep 24 MiB free, and one elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    tables: dict[str, dict[str, Any]] = {
        "one": {"url": f"{disk.as_uri()}/one", "keep_free": KEEP},
        "two": {"url": f"{disk.as_uri()}/two", "keep_free": KEEP},
        "three": {"url": f"{disk.as_uri()}/new/three"},
        "elsewhere": {"url": (tmp_path / "elsewhere").as_uri(), "keep_free": KEEP},
    }
    rig = await Rig(reactor, tmp_path).open(tables)
    yield rig
    await rig.close()


@pytest.fixture
def gate(web: Web) -> Iterator[Gated]:
    """A file of 30 MiB whose second half waits."""
    gate = Gated(os.urandom(30 * MIB))
    web.route("/gated", gate)
    yield gate
    gate.open = True


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("nodes", [1, 2])
async def test_promised_once(rig: Rig, web: Web, disk: Path, gate: Gated, nodes: int) -> None:
    """What is under way to one destination is no room of the other on its disk, on whichever node; elsewhere it is."""
    web.route("/f", File(os.urandom(15 * MIB), etag='"1"'))
    for _ in range(nodes):
        await rig.engine()
    moving = await rig.ask(file(url(f"{web.url}/gated"), "one", "gated"))
    await became(rig, moving, lambda record: record.bytes_done >= 15 * MIB)

    job = await rig.ask(file(url(f"{web.url}/f"), "two", "f"))
    await became(rig, job, lambda record: "transfers under way need" in (record.waiting_for or ""))
    other, _ = await rig.moved(file(url(f"{web.url}/f"), "elsewhere", "f"))
    assert other.state is State.COMPLETED

    gate.open = True
    assert (await rig.ended(moving)).state is State.COMPLETED
    assert not (await rig.store.job(job)).state.terminal
    (disk / "one/gated").unlink()
    assert (await rig.ended(job)).state is State.COMPLETED


async def shared(
    tmp_path: Path, web: Web, gate: Gated, one: dict[str, Any], two: dict[str, Any], make_room: Callable[[], object]
) -> None:
    """Hold that what is under way to one of two destinations with 64 MiB of room is no room of the other.

    ``make_room`` removes what has arrived at the one.
    """
    web.route("/f", File(os.urandom(15 * MIB), etag='"1"'))
    rig = await Rig(reactor, tmp_path).open({"one": {**one, "keep_free": KEEP}, "two": {**two, "keep_free": KEEP}})
    try:
        await rig.engine()
        moving = await rig.ask(file(url(f"{web.url}/gated"), "one", "gated"))
        await became(rig, moving, lambda record: record.bytes_done > 0)
        job = await rig.ask(file(url(f"{web.url}/f"), "two", "f"))
        await became(rig, job, lambda record: "transfers under way need" in (record.waiting_for or ""))
        gate.open = True
        assert (await rig.ended(moving)).state is State.COMPLETED
        make_room()
        assert (await rig.ended(job)).state is State.COMPLETED
    finally:
        await rig.close()


@pytest_twisted.ensureDeferred
async def test_over_sftp(tmp_path: Path, web: Web, disk: Path, gate: Gated) -> None:
    """Two destinations on one file system of an SFTP server share its room."""
    server = Sshd(tmp_path)
    server.start()
    server.root.rmdir()
    server.root.symlink_to(disk)
    keys = {"private_key_file": str(server.private_key), "known_hosts_file": str(server.known_hosts)}
    one, two = ({"url": f"{server.url}/{name}", **keys} for name in ("one", "two"))
    try:
        await shared(tmp_path, web, gate, one, two, (disk / "one/gated").unlink)
    finally:
        server.stop()


@pytest_twisted.ensureDeferred
async def test_over_webdav(tmp_path: Path, web: Web, disk: Path, gate: Gated) -> None:
    """Two destinations of one user of a Nextcloud share the user's quota."""
    with tempfile.TemporaryDirectory(prefix="datamover-dav-") as directory:
        server = Cloud(Path(directory))
        with mounted(disk, server.root):
            server.start()
            give(disk)
            one, two = ({"url": f"{server.url}/{name}", **server.options} for name in ("one", "two"))
            try:
                await shared(tmp_path, web, gate, one, two, (disk / "one/gated").unlink)
            finally:
                server.stop()


@pytest_twisted.ensureDeferred
async def test_half_for_the_one_that_waits_elsewhere(rig: Rig, web: Web, disk: Path) -> None:
    """Small files to one destination leave half of the room to a large one that has waited longest for the other."""
    web.route("/large", File(os.urandom(36 * MIB), etag='"1"'))
    web.route("/small", File(os.urandom(3 * MIB), etag='"1"'))
    filler = fill(disk, 16 * MIB)
    await rig.engine()
    waiting = await rig.ask(file(url(f"{web.url}/large"), "one", "large"))
    await became(rig, waiting, waits)

    jobs = [await rig.ask(file(url(f"{web.url}/small"), "two", f"small-{n}")) for n in range(8)]
    moved = await some_moved(rig, jobs, 4)
    for job in jobs:
        if job not in moved:
            await became(rig, job, waits)

    filler.unlink()
    assert taken_away(disk, "two/small-*") == 4
    assert (await rig.ended(waiting)).state is State.COMPLETED
    (disk / "one/large").unlink()
    for job in jobs:
        assert (await rig.ended(job)).state is State.COMPLETED


@pytest_twisted.ensureDeferred
async def test_neighbour_that_hangs(rig: Rig, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination whose disk does not answer keeps no other one waiting."""
    hung = rig.registry.get("two").pool
    volume = LocalPool.volume
    never: Deferred[str] = Deferred()

    async def told(pool: LocalPool) -> str:
        return await never if pool is hung else await volume(pool)

    monkeypatch.setattr(LocalPool, "volume", told)
    web.route("/f", File(os.urandom(MIB), etag='"1"'))
    await rig.engine()
    job, _ = await rig.moved(file(url(f"{web.url}/f"), "one", "f"))
    assert job.state is State.COMPLETED
    never.callback("1")


@pytest_twisted.ensureDeferred
async def test_reload(rig: Rig, web: Web, disk: Path, gate: Gated) -> None:
    """A destination that keeps room free from a reload on shares that of those on its disk."""
    web.route("/f", File(os.urandom(15 * MIB), etag='"1"'))
    await rig.engine()
    moving = await rig.ask(file(url(f"{web.url}/gated"), "one", "gated"))
    await became(rig, moving, lambda record: record.bytes_done >= 15 * MIB)
    rig.reload(
        {
            "one": {"url": f"{disk.as_uri()}/one", "keep_free": KEEP},
            "three": {"url": f"{disk.as_uri()}/new/three", "keep_free": KEEP},
        }
    )

    job = await rig.ask(file(url(f"{web.url}/f"), "three", "f"))
    await became(rig, job, waits)
    gate.open = True
    assert (await rig.ended(moving)).state is State.COMPLETED
    (disk / "one/gated").unlink()
    assert (await rig.ended(job)).state is State.COMPLETED
