"""Engines that die, each at a point of an upload of its own, and one that goes on with all that they did."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.faults.cluster import Cluster, running
from tests.faults.process import command
from tests.faults.work import MIB, Work, write_noise
from tests.waiting import wait_until

LARGE = 12 * MIB
SMALL = 10_000


@dataclass(frozen=True, slots=True)
class Crash:
    """What moves when an engine dies, and where it is then."""

    point: str
    size: int = LARGE
    cancelled: bool = False
    """The job is cancelled after that; nothing of it may stay."""

    @property
    def file(self) -> str:
        """What the file that moves is called at its source."""
        return "small" if self.size == SMALL else "large"

    def request(self, web: str) -> dict[str, Any]:
        """Return what is asked of the engine, but for the destination; ``web`` is where the files come from."""
        return {"source": f"{web}/{self.file}", "path": "f"}

    def moved(self, cluster: Cluster) -> bytes:
        return (cluster.web.directory / self.file).read_bytes()


@contextmanager
def cluster_to(
    destinations: Mapping[str, tuple[str, Mapping[str, Any]]], factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Give a cluster with destinations: name -> URL and options."""
    directory = factory.mktemp("cluster")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    tables = ""
    for name, (url, options) in destinations.items():
        table = "".join(f'{key} = "{value}"\n' for key, value in options.items())
        tables += f'[destinations.{name}]\nurl = "{url}"\n{table}'
    with running(directory, tables=tables) as cluster:
        yield cluster


def crash(cluster: Cluster, crashes: Sequence[Crash], *, between: Callable[[], None] = lambda: None) -> None:
    """Have an engine die of each, on the way to a destination "crash-NUMBER", and another go on with all of them.

    ``between`` is called when all have died.
    """
    for file, size in {each.file: each.size for each in crashes}.items():
        write_noise(cluster.web.directory / file, size)
    jobs: list[int] = []
    for number, each in enumerate(crashes):
        jobs.append(asked(cluster, f"crash-{number}", each.request(cluster.web.url)))
        engine = cluster.engine(command=command(each.point), lease="1m")
        assert wait_until(partial(getattr, engine, "returncode"), f"death: {each}") == -signal.SIGKILL
        # Nobody goes on with it before all have died.
        cluster.mover.destinations.hold(f"crash-{number}", "")
        if each.cancelled:
            cluster.mover.jobs.cancel(jobs[-1])
        # Its lease is over, as if a minute had passed.
        cluster.sql("UPDATE transfers SET lease_until = now() WHERE node IS NOT NULL")
    between()
    for number in range(len(crashes)):
        cluster.mover.destinations.release(f"crash-{number}")
    cluster.engine()
    for each, job in zip(crashes, jobs, strict=True):
        status = wait_until(partial(ended, cluster, job), f"the end: {each}")
        assert status == ("CANCELLED" if each.cancelled else "COMPLETED"), each
    Work(cluster).check_clean()


def asked(cluster: Cluster, destination: str, request: Mapping[str, Any]) -> int:
    """Submit a job; return its number."""
    return int(cluster.mover.jobs.submit({**request, "destination": destination})["id"])


def ended(cluster: Cluster, job: int) -> str | None:
    """Return how a job ended, None while it has not."""
    status = str(cluster.mover.jobs.status(job)["status"])
    return status if status in ("COMPLETED", "FAILED", "CANCELLED", "PARTIAL") else None
