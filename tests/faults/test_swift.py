"""Engines that are killed at every step of an upload to Swift: it is gone on with, and no segment is left over."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.faults import crashes
from tests.faults.cluster import Cluster
from tests.faults.crashes import LARGE, SMALL, asked, cluster_to, crash, ended
from tests.faults.work import write_noise
from tests.protocols.swift import ContainerOutside
from tests.servers.swift import CONTAINER, SwiftServer
from tests.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Crash(crashes.Crash):
    """One on the way to Swift."""

    plain: bool = False
    """It becomes a plain object."""
    replaces: bool = False
    """It replaces a large object of datamover's."""

    def request(self, web: str) -> dict[str, Any]:
        return {**crashes.Crash.request(self, web), "overwrite": "always"}


CRASHES = [
    *[Crash("segment sent", cancelled=cancelled) for cancelled in (False, True)],
    *[Crash(point) for point in ("manifest about to be made", "manifest made")],
    *[Crash(point, plain=True) for point in ("manifest made", "segments about to go")],
    *[Crash(point, replaces=True) for point in ("replaced noted", "manifest made", "segments about to go")],
    Crash("segments about to go", replaces=True, plain=True),
    Crash("object put", size=SMALL),
    Crash("segments about to go", size=SMALL, replaces=True),
]


@pytest.fixture
def cluster(swift: SwiftServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a destination in the container for each crash."""
    destinations = {}
    for number, each in enumerate(CRASHES):
        for name, part in ((f"crash-{number}", "64MiB" if each.plain else "5MiB"), (f"before-{number}", "5MiB")):
            destinations[name] = (f"swift://{CONTAINER}/crash-{number}", {**swift.options, "part_size": part})
    with cluster_to(destinations, tmp_path_factory) as cluster:
        yield cluster


def test_killed_at_every_point(cluster: Cluster, swift: SwiftServer) -> None:
    """Wherever an engine dies, its file is there in the end, whole and once, or gone, and no segment is too many."""
    write_noise(cluster.web.directory / "old", LARGE)
    old = {"source": f"{cluster.web.url}/old", "path": "f"}
    first = cluster.engine()
    for job in [asked(cluster, f"before-{number}", old) for number, each in enumerate(CRASHES) if each.replaces]:
        assert wait_until(partial(ended, cluster, job), "what is there before") == "COMPLETED"
    first.kill()

    crash(cluster, CRASHES)
    for number, each in enumerate(CRASHES):
        found = ContainerOutside(swift, f"crash-{number}").read("f")
        assert found == (None if each.cancelled else each.moved(cluster)), each
    assert ContainerOutside(swift, "crash-").uploads() == 0
