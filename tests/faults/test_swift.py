"""Engines that are killed at every step of an upload to Swift: it is gone on with, and no segment is left over."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.faults.cluster import Cluster, running, until
from tests.faults.process import command
from tests.faults.work import MIB, Work, write_noise
from tests.protocols.swift import ContainerOutside
from tests.servers.swift import CONTAINER, SwiftServer

LARGE = 12 * MIB
SMALL = 10_000


@dataclass(frozen=True, slots=True)
class Crash:
    """What moves when an engine dies, and where it is then."""

    point: str
    size: int = LARGE
    plain: bool = False
    """It becomes a plain object."""
    replaces: bool = False
    """It replaces a large object of datamover's."""
    cancelled: bool = False
    """The job is cancelled after that; nothing of it may stay."""

    def __str__(self) -> str:
        told = [name for name in ("plain", "replaces", "cancelled") if getattr(self, name)]
        return ", ".join([f"{self.size} bytes", self.point, *told])


CRASHES = [
    *[Crash("segment sent", cancelled=cancelled) for cancelled in (False, True)],
    *[Crash(point) for point in ("manifest about to be made", "manifest made")],
    *[Crash(point, plain=True) for point in ("manifest made", "segments about to go")],
    *[Crash(point, replaces=True) for point in ("replaced noted", "manifest made", "segments about to go")],
    Crash("segments about to go", replaces=True, plain=True),
    Crash("object put", size=SMALL),
    Crash("segments about to go", size=SMALL, replaces=True),
]


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    server = SwiftServer(tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cluster(swift: SwiftServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a destination in the container for each crash."""
    directory = tmp_path_factory.mktemp("swift-cluster")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    tables = ""
    for number, crash in enumerate(CRASHES):
        options = {**swift.options, "part_size": "64MiB" if crash.plain else "5MiB"}
        table = "".join(f'{key} = "{value}"\n' for key, value in options.items())
        tables += f'[destinations.crash-{number}]\nurl = "swift://{CONTAINER}/crash-{number}"\n{table}'
        tables += f'[destinations.before-{number}]\nurl = "swift://{CONTAINER}/crash-{number}"\n{table}'.replace(
            "64MiB", "5MiB"
        )
    with running(directory, tables=tables) as cluster:
        yield cluster


def test_killed_at_every_point(cluster: Cluster, swift: SwiftServer) -> None:
    """Wherever an engine dies, its file is there in the end, whole and once, or gone, and no segment is too many."""
    for name, size in (("large", LARGE), ("small", SMALL), ("old", LARGE)):
        write_noise(cluster.web.directory / name, size)
    first = cluster.engine()
    before = [_ask(cluster, f"before-{number}", "old") for number, crash in enumerate(CRASHES) if crash.replaces]
    for job in before:
        assert until(partial(_ended, cluster, job), "what is there before") == "COMPLETED"
    first.kill()

    jobs: list[int] = []
    for number, crash in enumerate(CRASHES):
        jobs.append(_ask(cluster, f"crash-{number}", "small" if crash.size == SMALL else "large"))
        engine = cluster.engine(command=command(crash.point), lease="1m")
        assert until(partial(getattr, engine, "returncode"), f"death: {crash}") == -signal.SIGKILL
        # Nobody goes on with it before all have died.
        cluster.mover.destinations.hold(f"crash-{number}", "")
        if crash.cancelled:
            cluster.mover.jobs.cancel(jobs[-1])
        # Its lease is over, as if a minute had passed.
        cluster.sql("UPDATE transfers SET lease_until = now() WHERE node IS NOT NULL")
    for number in range(len(CRASHES)):
        cluster.mover.destinations.release(f"crash-{number}")
    cluster.engine()
    for crash, job in zip(CRASHES, jobs, strict=True):
        status = until(partial(_ended, cluster, job), f"the end: {crash}")
        assert status == ("CANCELLED" if crash.cancelled else "COMPLETED"), crash
    Work(cluster).check_clean()
    for number, crash in enumerate(CRASHES):
        found = ContainerOutside(swift, f"crash-{number}").read("f")
        name = "small" if crash.size == SMALL else "large"
        assert found == (None if crash.cancelled else (cluster.web.directory / name).read_bytes()), crash
    assert ContainerOutside(swift, "crash-").uploads() == 0


def _ask(cluster: Cluster, destination: str, name: str) -> int:
    request = {"source": f"{cluster.web.url}/{name}", "destination": destination, "path": "f", "overwrite": "always"}
    return int(cluster.mover.jobs.submit(request)["id"])


def _ended(cluster: Cluster, job: int) -> str | None:
    status = str(cluster.mover.jobs.status(job)["status"])
    return status if status in ("COMPLETED", "FAILED", "CANCELLED", "PARTIAL") else None
