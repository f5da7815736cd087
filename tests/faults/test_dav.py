"""Engines that are killed at every step of an upload over WebDAV: the file is there, and nothing hidden stays."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from tests.faults.cluster import Cluster, running, until
from tests.faults.process import command
from tests.faults.work import MIB, Work, write_noise
from tests.protocols.dav import DavDisk
from tests.servers.cloud import Cloud
from tests.servers.dav import Apache, DavServer, give
from tests.servers.dav import running as serving

LARGE = 12 * MIB
SMALL = 10_000
OLD = b"what was there before"


@dataclass(frozen=True, slots=True)
class Crash:
    """What moves when an engine dies, and where it is then."""

    point: str
    size: int = LARGE
    overwrite: str = "never"
    """"always": there is a file that it replaces."""
    cancelled: bool = False
    """The job is cancelled after that; nothing of it may stay."""

    def __str__(self) -> str:
        return f"{self.size} bytes, {self.point}, overwrite {self.overwrite}, cancelled {self.cancelled}"


WHOLE = [
    Crash("server tried"),
    *[Crash("whole sent", cancelled=cancelled) for cancelled in (False, True)],
    *[Crash(point, overwrite=how) for point in ("about to be moved", "moved") for how in ("never", "always")],
    *[Crash("about to be moved", size=SMALL, cancelled=cancelled) for cancelled in (False, True)],
    Crash("moved", size=SMALL, overwrite="always"),
]
CHUNKED = [
    Crash("chunks about to be begun"),
    Crash("chunks begun"),
    *[Crash("chunk sent", cancelled=cancelled) for cancelled in (False, True)],
    *[Crash(p, overwrite=how) for p in ("about to be put together", "put together") for how in ("never", "always")],
]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[DavServer, Cloud]]:
    """An Apache, and a server that takes chunks."""
    with ExitStack() as stack:
        apache, cloud = stack.enter_context(serving(Apache)), stack.enter_context(serving(Cloud))
        assert isinstance(cloud, Cloud)
        yield apache, cloud


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_killed_at_every_point(
    servers: tuple[DavServer, Cloud], chunked: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Wherever an engine dies, its file is there in the end, or the old one, and no part file nor chunk is too many."""
    server, crashes = servers[chunked], CHUNKED if chunked else WHOLE
    directory = tmp_path_factory.mktemp("dav-cluster")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    options = {**server.options, **({"chunk_size": "5MiB"} if chunked else {})}
    table = "".join(f'{key} = "{value}"\n' for key, value in options.items())
    tables = ""
    for number, crash in enumerate(crashes):
        tables += f'[destinations.crash-{number}]\nurl = "{server.url}/crash-{number}"\n{table}'
        root = server.root / f"crash-{number}"
        if crash.overwrite == "always":
            root.mkdir()
            give(root)
            DavDisk(root, hides=False).lay("f", OLD)
    with running(directory, tables=tables) as cluster:
        _crash(cluster, crashes, server)
        for number, crash in enumerate(crashes):
            there = DavDisk(server.root / f"crash-{number}", hides=False)
            assert there.names() == ([] if crash.cancelled else ["f"]), crash
            if not crash.cancelled:
                assert there.read("f") == (cluster.web.directory / _name(crash)).read_bytes(), crash
        assert not chunked or os.listdir(servers[1].uploads) == []


def _crash(cluster: Cluster, crashes: list[Crash], server: DavServer) -> None:
    """Have an engine die for each, and another go on with all of them."""
    for name, size in (("large", LARGE), ("small", SMALL)):
        write_noise(cluster.web.directory / name, size)
    jobs: list[int] = []
    for number, crash in enumerate(crashes):
        jobs.append(_ask(cluster, f"crash-{number}", crash))
        engine = cluster.engine(command=command(crash.point), lease="1m")
        assert until(partial(getattr, engine, "returncode"), f"death: {crash}") == -signal.SIGKILL
        # Nobody goes on with it before all have died.
        cluster.mover.destinations.hold(f"crash-{number}", "")
        if crash.cancelled:
            cluster.mover.jobs.cancel(jobs[-1])
        # Its lease is over, as if a minute had passed.
        cluster.sql("UPDATE transfers SET lease_until = now() WHERE node IS NOT NULL")
    tried = [path for path in server.root.rglob("*datamover-probe-*") if path.is_dir()]
    assert len(tried) == sum(crash.point == "server tried" for crash in crashes)
    for path in (each for directory in tried for each in (directory, *directory.iterdir())):
        os.utime(path, (0.0, time.time() - 3700))  # As if an hour had passed.
    for number in range(len(crashes)):
        cluster.mover.destinations.release(f"crash-{number}")
    cluster.engine()
    for crash, job in zip(crashes, jobs, strict=True):
        status = until(partial(_ended, cluster, job), f"the end: {crash}")
        assert status == ("CANCELLED" if crash.cancelled else "COMPLETED"), crash
    until(lambda: not any(path.exists() for path in tried), "the removal of what was tried")
    Work(cluster).check_clean()


def _name(crash: Crash) -> str:
    return "small" if crash.size == SMALL else "large"


def _ask(cluster: Cluster, destination: str, crash: Crash) -> int:
    source = f"{cluster.web.url}/{_name(crash)}"
    request = {"source": source, "destination": destination, "path": "f", "overwrite": crash.overwrite}
    return int(cluster.mover.jobs.submit(request)["id"])


def _ended(cluster: Cluster, job: int) -> str | None:
    status = str(cluster.mover.jobs.status(job)["status"])
    return status if status in ("COMPLETED", "FAILED", "CANCELLED", "PARTIAL") else None
