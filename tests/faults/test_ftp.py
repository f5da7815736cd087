"""Engines that are killed at every step of an upload over FTP: the next one mends it, and nothing is left over."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, running, until
from tests.faults.process import command
from tests.faults.work import MIB, Work, write_noise
from tests.servers.certificates import Authority
from tests.servers.ftp import FtpServer, ProftpdByDefault, Vsftpd

LARGE = 20 * MIB
SMALL = 10_000
OLD = b"what was there"


@dataclass(frozen=True, slots=True)
class Crash:
    """What moves when an engine dies, and where it is then."""

    point: str
    size: int = LARGE
    replaces: bool = True
    aside: bool = False
    """It goes to a server that renames onto no file."""
    cancelled: bool = False
    """The job is cancelled after that; nothing of it may stay."""

    def __str__(self) -> str:
        told = [name for name in ("replaces", "aside", "cancelled") if getattr(self, name)]
        return ", ".join([f"{self.size} bytes", self.point, *told])


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
    directory = tmp_path_factory.mktemp("ftp-cluster")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    tables = ""
    for number, crash in enumerate(CRASHES):
        server = servers[crash.aside]
        table = "".join(f'{key} = "{value}"\n' for key, value in server.options.items())
        tables += f'[destinations.crash-{number}]\nurl = "{server.url}/crash-{number}"\n{table}'
    with running(directory, tables=tables) as cluster:
        yield cluster


def test_killed_at_every_point(cluster: Cluster, servers: dict[bool, FtpServer]) -> None:
    """Wherever an engine dies, its file is there in the end, whole and alone, or what was there still is."""
    for name, size in (("large", LARGE), ("small", SMALL)):
        write_noise(cluster.web.directory / name, size)
    roots: list[Path] = []
    jobs: list[int] = []
    for number, crash in enumerate(CRASHES):
        roots.append(servers[crash.aside].root / f"crash-{number}")
        roots[-1].mkdir()
        if crash.replaces:
            (roots[-1] / "f").write_bytes(OLD)
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
    for crash, root in zip(CRASHES, roots, strict=True):
        name = "small" if crash.size == SMALL else "large"
        assert (root / "f").read_bytes() == (OLD if crash.cancelled else (cluster.web.directory / name).read_bytes()), (
            crash
        )
        assert [path.name for path in root.iterdir()] == ["f"], crash


def _ask(cluster: Cluster, destination: str, name: str) -> int:
    request = {"source": f"{cluster.web.url}/{name}", "destination": destination, "path": "f", "overwrite": "always"}
    return int(cluster.mover.jobs.submit(request)["id"])


def _ended(cluster: Cluster, job: int) -> str | None:
    status = str(cluster.mover.jobs.status(job)["status"])
    return status if status in ("COMPLETED", "FAILED", "CANCELLED", "PARTIAL") else None
