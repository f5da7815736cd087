"""Engines that are killed at every step of an upload over FTP: the next one mends it, and nothing is left over."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults import crashes
from tests.faults.cluster import Cluster
from tests.faults.crashes import SMALL, cluster_to, crash
from tests.faults.work import MIB
from tests.servers.certificates import Authority
from tests.servers.ftp import FtpServer, ProftpdByDefault, Vsftpd

LARGE = 20 * MIB
OLD = b"what was there"


@dataclass(frozen=True, slots=True)
class Crash(crashes.Crash):
    """One on the way to an FTP server."""

    size: int = LARGE
    replaces: bool = True
    aside: bool = False
    """It goes to a server that renames onto no file."""

    def request(self, web: str) -> dict[str, Any]:
        return {**crashes.Crash.request(self, web), "overwrite": "always"}


CRASHES = [
    Crash("file begun"),
    Crash("all sent", cancelled=True),
    Crash("file about to be renamed", replaces=False),
    Crash("file renamed"),
    Crash("file renamed", size=SMALL),
    Crash("file set aside", aside=True),
    Crash("aside about to go", aside=True, size=SMALL),
]


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, FtpServer]]:
    """A server by whether it sets aside what is there."""
    made: dict[bool, FtpServer] = {}
    for aside in (False, True):
        directory = tmp_path_factory.mktemp("ftp")
        made[aside] = ProftpdByDefault(directory) if aside else Vsftpd(directory, Authority(directory))
        made[aside].start()
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture
def cluster(servers: dict[bool, FtpServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a destination for each crash."""
    places = {f"crash-{number}": servers[each.aside] for number, each in enumerate(CRASHES)}
    destinations = {name: (f"{server.url}/{name}", server.options) for name, server in places.items()}
    with cluster_to(destinations, tmp_path_factory) as cluster:
        yield cluster


def test_killed_at_every_point(cluster: Cluster, servers: dict[bool, FtpServer]) -> None:
    """Wherever an engine dies, its file is there in the end, whole and alone, or what was there still is."""
    roots = [servers[each.aside].root / f"crash-{number}" for number, each in enumerate(CRASHES)]
    for each, root in zip(CRASHES, roots, strict=True):
        root.mkdir()
        if each.replaces:
            (root / "f").write_bytes(OLD)
    crash(cluster, CRASHES)
    for each, root in zip(CRASHES, roots, strict=True):
        assert (root / "f").read_bytes() == (OLD if each.cancelled else each.moved(cluster)), each
        assert [path.name for path in root.iterdir()] == ["f"], each
