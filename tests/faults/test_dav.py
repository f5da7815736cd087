"""Engines that are killed at every step of an upload over WebDAV: the file is there, and nothing hidden stays."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults import crashes
from tests.faults.crashes import SMALL, cluster_to, crash
from tests.protocols.dav import DavDisk
from tests.servers.cloud import Cloud
from tests.servers.dav import Apache, DavServer, give
from tests.servers.dav import running as serving
from tests.waiting import wait_until

OLD = b"what was there before"


@dataclass(frozen=True, slots=True)
class Crash(crashes.Crash):
    """One on the way to a WebDAV server."""

    overwrite: str = "never"
    """"always": there is a file that it replaces."""

    def request(self, web: str) -> dict[str, Any]:
        return {**crashes.Crash.request(self, web), "overwrite": self.overwrite}


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
    server, kinds = servers[chunked], CHUNKED if chunked else WHOLE
    options = {**server.options, **({"chunk_size": "5MiB"} if chunked else {})}
    destinations = {f"crash-{number}": (f"{server.url}/crash-{number}", options) for number in range(len(kinds))}
    for name, each in zip(destinations, kinds, strict=True):
        root = server.root / name
        if each.overwrite == "always":
            root.mkdir()
            give(root)
            DavDisk(root, hides=False).lay("f", OLD)
    with cluster_to(destinations, tmp_path_factory) as cluster:
        tried: list[Path] = []

        def an_hour_passes() -> None:
            tried.extend(path for path in server.root.rglob("*datamover-probe-*") if path.is_dir())
            for path in (each for directory in tried for each in (directory, *directory.iterdir())):
                os.utime(path, (0.0, time.time() - 3700))

        crash(cluster, kinds, between=an_hour_passes)
        assert len(tried) == sum(each.point == "server tried" for each in kinds)
        wait_until(lambda: not any(path.exists() for path in tried), "the removal of what was tried")
        for name, each in zip(destinations, kinds, strict=True):
            there = DavDisk(server.root / name, hides=False)
            assert there.names() == ([] if each.cancelled else ["f"]), each
            if not each.cancelled:
                assert there.read("f") == each.moved(cluster), each
        assert not chunked or os.listdir(servers[1].uploads) == []
