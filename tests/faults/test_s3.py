"""Engines that are killed at every step of an upload to S3: it is gone on with, and nothing is left to be paid for."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from datamover.protocols.object_store.trials import is_trial
from tests.faults import crashes
from tests.faults.cluster import Cluster
from tests.faults.crashes import LARGE, SMALL, cluster_to, crash, ended
from tests.faults.process import command
from tests.faults.work import BIG, MIB, RESENT, Work, write_noise
from tests.protocols.s3 import BucketOutside
from tests.servers.path import Path, path_to
from tests.servers.s3 import BUCKET, S3Account
from tests.servers.swift import SwiftServer
from tests.waiting import wait_until

LATE = 104 * MIB
"""Bytes that have moved when an engine dies late: sent all over again, they would be more than may be sent again."""
ARCHIVED = ["large", "second", "third"]
"""Files of an archive."""


@dataclass(frozen=True, slots=True)
class Crash(crashes.Crash):
    """One on the way to S3."""

    archive: bool = False

    def request(self, web: str) -> dict[str, Any]:
        if self.archive:
            return {"path": "f", "archive": "zip", "files": [{"source": f"{web}/{name}"} for name in ARCHIVED]}
        return crashes.Crash.request(self, web)


CRASHES = [
    Crash("upload about to be made"),
    *[Crash(point, cancelled=cancelled) for point in ("upload made", "part sent") for cancelled in (False, True)],
    *[Crash(point) for point in ("all sent", "about to be completed", "completed", "placed")],
    *[Crash(point, size=SMALL) for point in ("service tried out", "about to be put", "put")],
    *[Crash(point, archive=True) for point in ("placement written down", "completed")],
]


@pytest.fixture(scope="module")
def swift(swift: SwiftServer) -> S3Account:
    return swift.s3


@pytest.fixture
def path(swift: S3Account) -> Iterator[Path]:
    """What lies between the engines and the service."""
    with path_to(swift.port) as path:
        yield path


@pytest.fixture
def cluster(swift: S3Account, path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a destination in the bucket for each crash, and one for a large file."""
    BucketOutside(swift, "").clear()
    options = {**swift.options, "endpoint": f"http://127.0.0.1:{path.port}", "part_size": "5MiB"}
    names = ["late", *(f"crash-{number}" for number in range(len(CRASHES)))]
    with cluster_to({name: (f"s3://{BUCKET}/{name}", options) for name in names}, tmp_path_factory) as cluster:
        yield cluster


def test_killed_at_every_point(cluster: Cluster, swift: S3Account) -> None:
    """Wherever an engine dies, its file is there in the end, whole and once, or gone, and no upload stays."""
    for name in ARCHIVED[1:]:
        write_noise(cluster.web.directory / name, LARGE)
    crash(cluster, CRASHES)
    for number, each in enumerate(CRASHES):
        outside = BucketOutside(swift, f"crash-{number}")
        assert outside.uploads() == 0, each
        # An object of a trial goes when it is an hour old.
        trials = [name for name in outside.names() if is_trial(name)]
        assert len(trials) == (each.point == "service tried out"), each
        assert outside.names() == ([] if each.cancelled else [*trials, "f"]), each
        found = outside.read("f")
        if each.archive:
            assert found is not None
            assert found[:2] == b"PK"
            assert len(found) > len(ARCHIVED) * LARGE
        else:
            assert found == (None if each.cancelled else each.moved(cluster)), each


def test_killed_late(cluster: Cluster, swift: S3Account, path: Path) -> None:
    """Of a large file no more is sent again than may be, counted between the engines and the service."""
    size = LATE + BIG
    write_noise(cluster.web.directory / "f", size)
    first = cluster.engine()
    cluster.gate(LATE)
    job = cluster.mover.jobs.submit({"source": f"{cluster.web.url}/f", "destination": "late", "path": "f"})["id"]
    wait_until(lambda: cluster.mover.jobs.status(job)["bytes_done"] >= LATE, "it is late")
    first.kill()
    cluster.open_gate()
    cluster.engine()
    wait_until(lambda: ended(cluster, job) == "COMPLETED", "its end")
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


def test_killed_before_the_abort(cluster: Cluster, swift: S3Account) -> None:
    """An upload that an engine died of aborting, when its job was cancelled, is aborted by the next."""
    write_noise(cluster.web.directory / "f", LARGE)
    gate = cluster.directory / "gate"
    cluster.gate(6 * MIB)
    engine = cluster.engine(command=command("about to be aborted", gate=gate))
    job = cluster.mover.jobs.submit({"source": f"{cluster.web.url}/f", "destination": "late", "path": "g"})["id"]
    wait_until(BucketOutside(swift, "late").uploads, "it is under way")
    cluster.mover.jobs.cancel(job)
    assert wait_until(lambda: engine.returncode, "death") == -signal.SIGKILL
    assert BucketOutside(swift, "late").uploads() == 1
    cluster.engine()
    wait_until(lambda: ended(cluster, job) == "CANCELLED", "its end")
    Work(cluster).check_clean()
    assert BucketOutside(swift, "late").uploads() == 0
