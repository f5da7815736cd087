"""Room that stays free at places of every kind that tells it: over WebDAV, over FTP, and by Swift's quotas."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import State
from tests.engine import test_keep_free
from tests.engine.rig import Rig, file, url
from tests.engine.test_keep_free import DISK, KEEP, MIB, became, waits
from tests.servers.dav import WsgiDav, give
from tests.servers.ftp import RoomyFtp
from tests.servers.swift import CONTAINER, SwiftServer
from tests.servers.web import File, Web

disk = test_keep_free.disk


class Kind(NamedTuple):
    """A place with 64 MiB of room."""

    table: dict[str, Any]
    use: Callable[[int], None]
    """Has another program use so many bytes instead of those it used before."""
    there: Callable[[], list[str]]
    """What is there, segments and what is hidden included."""


def _on(disk: Path, table: dict[str, Any]) -> Kind:
    def use(size: int) -> None:
        (disk / "filler").write_bytes(bytes(size))

    def there() -> list[str]:
        return sorted(path.name for path in (disk / "in").rglob("*"))

    give(disk)  # The root is yet to be made.
    return Kind({**table, "keep_free": KEEP}, use, there)


@contextmanager
def mounted(disk: Path, at: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", disk, at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)


@contextmanager
def served(made: type[WsgiDav] | type[RoomyFtp], disk: Path) -> Iterator[Kind]:
    """Serve the disk by a server."""
    with tempfile.TemporaryDirectory(prefix="datamover-test-") as directory:
        server = made(Path(directory))
        with mounted(disk, server.root):
            server.start()
            try:
                yield _on(disk, {"url": f"{server.url}/in", **server.options})
            finally:
                server.stop()


@contextmanager
def swift(disk: Path) -> Iterator[Kind]:
    directory = tempfile.TemporaryDirectory(prefix="datamover-swift-")
    server = SwiftServer(Path(directory.name))
    server.start()

    def use(size: int) -> None:
        server.ask("POST", CONTAINER, headers={"X-Container-Meta-Quota-Bytes": str(DISK - size)})

    def there() -> list[str]:
        return [*server.names(), *server.names(f"{CONTAINER}_segments")]

    try:
        use(0)
        yield Kind({"url": f"swift://{CONTAINER}/in", "keep_free": KEEP, **server.options}, use, there)
    finally:
        server.stop()
        directory.cleanup()


@pytest.mark.parametrize(
    "kind", [partial(served, WsgiDav), partial(served, RoomyFtp), swift], ids=["dav", "ftp", "swift"]
)
@pytest_twisted.ensureDeferred
async def test_waits_and_goes_on(tmp_path: Path, disk: Path, web: Web, kind: Any) -> None:
    """What would not fit waits with nothing of it there, smaller files go past, and it moves once there is room."""
    web.route("/f", File(os.urandom(30 * MIB), etag='"1"'))
    web.route("/small", File(os.urandom(MIB), etag='"2"'))
    with kind(disk) as at:
        rig = await Rig(reactor, tmp_path).open({"place": at.table})
        try:
            at.use(20 * MIB)
            await rig.engine()
            job = await rig.ask(file(url(f"{web.url}/f"), "place", "f"))
            told = await became(rig, job, waits)
            assert f"room for {30 * MIB} bytes: {44 * MIB} are free, keep_free is {KEEP}" in str(told.waiting_for)
            assert at.there() == []
            small, _ = await rig.moved(file(url(f"{web.url}/small"), "place", "small"))
            assert small.state is State.COMPLETED
            tested = await rig.registry.test("place")
            assert tested["ok"], tested
            assert tested["keep_free"] == KEEP
            assert 43 * MIB - 8192 <= tested["free"] <= 44 * MIB
            at.use(0)
            assert (await rig.ended(job)).state is State.COMPLETED
            assert [name.rpartition("/")[2] for name in at.there()] == ["f", "small"]
        finally:
            await rig.close()
