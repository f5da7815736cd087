"""Engines that are killed at every step of an upload to S3: it is gone on with, and nothing is left to be paid for."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from datamover.protocols.object_store.trials import is_trial
from tests.faults.cluster import Cluster, running, until
from tests.faults.process import command
from tests.faults.work import BIG, MIB, RESENT, Work, write_noise
from tests.protocols.s3 import BucketOutside
from tests.servers.path import Path, path_to
from tests.servers.s3 import BUCKET, S3Server, Swift

LARGE = 12 * MIB
SMALL = 10_000
LATE = 104 * MIB
"""Bytes that have moved when an engine dies late: sent all over again, they would be more than may be sent again."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What moves when an engine dies, and where it is then."""

    point: str
    size: int = LARGE
    archive: bool = False
    cancelled: bool = False
    """The job is cancelled after that; nothing of it may stay."""

    def __str__(self) -> str:
        what = "an archive" if self.archive else f"{self.size} bytes"
        return f"{what}, {self.point}{', cancelled then' if self.cancelled else ''}"


CRASHES = [
    Crash("upload about to be made"),
    *[Crash(point, cancelled=cancelled) for point in ("upload made", "part sent") for cancelled in (False, True)],
    *[Crash(point) for point in ("all sent", "about to be completed", "completed", "placed")],
    *[Crash(point, size=SMALL) for point in ("service tried out", "about to be put", "put")],
    *[Crash(point, archive=True) for point in ("placement written down", "completed")],
]


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = Swift(tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def path(swift: S3Server) -> Iterator[Path]:
    """What lies between the engines and the service."""
    with path_to(swift.port) as path:
        yield path


@pytest.fixture
def cluster(swift: S3Server, path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a destination in the bucket for each crash, and one for a large file."""
    BucketOutside(swift, "").clear()
    directory = tmp_path_factory.mktemp("s3")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    options = {**swift.options, "endpoint": f"http://127.0.0.1:{path.port}", "part_size": "5MiB"}
    table = "".join(f'{key} = "{value}"\n' for key, value in options.items())
    names = ["late", *(f"crash-{number}" for number in range(len(CRASHES)))]
    tables = "".join(f'[destinations.{name}]\nurl = "s3://{BUCKET}/{name}"\n{table}' for name in names)
    with running(directory, tables=tables) as cluster:
        yield cluster


def test_killed_at_every_point(cluster: Cluster, swift: S3Server) -> None:
    """Wherever an engine dies, its file is there in the end, whole and once, or gone, and no upload stays."""
    files = [f"{number}.bin" for number in range(3)]
    for name, size in [*((file, LARGE) for file in files), ("small", SMALL)]:
        write_noise(cluster.web.directory / name, size)
    jobs: list[int] = []
    for number, crash in enumerate(CRASHES):
        destination = f"crash-{number}"
        jobs.append(_ask(cluster, crash, destination, files))
        engine = cluster.engine(command=command(crash.point), lease="1m")
        assert until(partial(getattr, engine, "returncode"), f"death: {crash}") == -signal.SIGKILL
        # Nobody goes on with it before all have died.
        cluster.mover.destinations.hold(destination, "")
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
        outside = BucketOutside(swift, f"crash-{number}")
        assert outside.uploads() == 0, crash
        # An object of a trial goes when it is an hour old.
        trials = [name for name in outside.names() if is_trial(name)]
        assert len(trials) == (crash.point == "service tried out"), crash
        assert outside.names() == ([] if crash.cancelled else [*trials, "f"]), crash
        found = outside.read("f")
        if crash.cancelled:
            assert found is None, crash
        elif crash.archive:
            assert found is not None
            assert found[:2] == b"PK"
            assert len(found) > len(files) * LARGE
        else:
            assert found == (cluster.web.directory / ("small" if crash.size == SMALL else files[0])).read_bytes(), crash


def test_killed_late(cluster: Cluster, swift: S3Server, path: Path) -> None:
    """Of a large file no more is sent again than may be, counted between the engines and the service."""
    size = LATE + BIG
    write_noise(cluster.web.directory / "f", size)
    first = cluster.engine()
    cluster.gate(LATE)
    job = cluster.mover.jobs.submit({"source": f"{cluster.web.url}/f", "destination": "late", "path": "f"})["id"]
    until(lambda: cluster.mover.jobs.status(job)["bytes_done"] >= LATE, "it is late")
    first.kill()
    cluster.open_gate()
    cluster.engine()
    until(lambda: _ended(cluster, job) == "COMPLETED", "its end")
    outside = BucketOutside(swift, "late")
    assert outside.read("f") == (cluster.web.directory / "f").read_bytes()
    assert outside.uploads() == 0
    [resumed] = [
        event
        for event in cluster.mover.jobs.events({"job": job, "limit": 1000})["events"]
        if event["kind"] == "resumed"
    ]
    assert resumed["resent"] <= RESENT
    assert size <= path.sent <= size + RESENT + MIB


def test_killed_before_the_abort(cluster: Cluster, swift: S3Server) -> None:
    """An upload that an engine died of aborting, when its job was cancelled, is aborted by the next."""
    write_noise(cluster.web.directory / "f", LARGE)
    gate = cluster.directory / "gate"
    cluster.gate(6 * MIB)
    engine = cluster.engine(command=command("about to be aborted", gate=gate))
    job = cluster.mover.jobs.submit({"source": f"{cluster.web.url}/f", "destination": "late", "path": "g"})["id"]
    until(BucketOutside(swift, "late").uploads, "it is under way")
    cluster.mover.jobs.cancel(job)
    assert until(lambda: engine.returncode, "death") == -signal.SIGKILL
    assert BucketOutside(swift, "late").uploads() == 1
    cluster.engine()
    until(lambda: _ended(cluster, job) == "CANCELLED", "its end")
    Work(cluster).check_clean()
    assert BucketOutside(swift, "late").uploads() == 0


def _ask(cluster: Cluster, crash: Crash, destination: str, files: list[str]) -> int:
    request: dict[str, Any] = {"destination": destination, "path": "f"}
    if crash.archive:
        request |= {"archive": "zip", "files": [{"source": f"{cluster.web.url}/{name}"} for name in files]}
    else:
        request["source"] = f"{cluster.web.url}/{'small' if crash.size == SMALL else files[0]}"
    return int(cluster.mover.jobs.submit(request)["id"])


def _ended(cluster: Cluster, job: int) -> str | None:
    status = str(cluster.mover.jobs.status(job)["status"])
    return status if status in ("COMPLETED", "FAILED", "CANCELLED", "PARTIAL") else None
