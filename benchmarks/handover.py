"""Rows of delays: until work is taken over from a process that has ended, and until a running transfer is cancelled.

Two engine processes and an API process run on one PostgreSQL. They move a file from SFTP to the local disk, with a
bandwidth limit so that it moves for as long as a row needs. The state is polled every few hundredths of a second.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.results import OURS, Goal, Result
from benchmarks.scale import Scale
from tests.faults.cluster import Cluster, Engine, running
from tests.faults.work import MIB, Asked, Work
from tests.servers.service import twistd
from tests.waiting import wait_until

LEASE = 6.0
"""Seconds; the default is 30, with which a row would only take longer."""
LARGE = 256 * MIB
BANDWIDTH = "4MB/s"


def killed(scale: Scale) -> Result:
    """Seconds from SIGKILL to the beginning of the next attempt, minus the lease."""
    values = [seconds - LEASE for seconds in _hand_over(scale, Engine.kill)]
    title = "taken over after kill -9, beyond the lease"
    return Result("killed", title, "s", {OURS: values}, [Goal(None, at_most=2.0)], f"lease of {LEASE:.0f} s")


def drained(scale: Scale) -> Result:
    """Seconds from SIGTERM to the beginning of the next attempt, including the grace time."""
    values = _hand_over(scale, Engine.drain)
    return Result("drained", "taken over after SIGTERM", "s", {OURS: values}, [Goal(None, at_most=1.0)])


def cancelled(scale: Scale) -> Result:
    """Seconds from the call of ``jobs.cancel`` to the end of the job, with its part file removed."""
    values: list[float] = []
    with _cluster() as cluster:
        cluster.engine(command=twistd)
        for _ in range(scale.rounds):
            asked = _under_way(cluster)
            start = time.perf_counter()
            cluster.mover.jobs.cancel(asked.job)
            status = cluster.mover.jobs.wait(asked.job, 30)
            assert status["status"] == "CANCELLED", status
            assert not cluster.parts()
            values.append(time.perf_counter() - start)
    return Result("cancelled", "a running transfer cancelled", "s", {OURS: values}, [Goal(None, at_most=1.0)])


def _hand_over(scale: Scale, end: Callable[[Engine], None]) -> list[float]:
    """Return the seconds from the end of one engine until the other resumes its file."""
    values: list[float] = []
    with _cluster() as cluster:
        engines = [cluster.engine(command=twistd) for _ in range(2)]
        for _ in range(scale.rounds):
            asked = _under_way(cluster)
            ((name,),) = cluster.sql("SELECT n.name FROM transfers t JOIN nodes n ON n.id = t.node")
            (holder,) = [engine for engine in engines if name.endswith(f":{engine.pid}")]
            start = time.perf_counter()
            end(holder)
            wait_until(partial(_has_begun_again, cluster, asked), "the other's turn")
            values.append(time.perf_counter() - start)
            cluster.mover.jobs.cancel(asked.job)
            wait_until(partial(_has_ended, holder), "its end")
            cluster.start_engine(holder)
    return values


def _has_begun_again(cluster: Cluster, asked: Asked) -> bool:
    return len(Work(cluster).events(asked, "started")) == 2


def _has_ended(engine: Engine) -> bool:
    return not engine.alive


def _under_way(cluster: Cluster) -> Asked:
    """Submit a large file; return when a part of it has arrived."""
    work = Work(cluster)
    asked = work.between(LARGE, "visualiser", "archive-too")
    wait_until(lambda: work.status(asked).get("bytes_done"), "some of it")
    return asked


@contextmanager
def _cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="datamover-bench-", dir=os.environ.get("BENCH_DIRECTORY")) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with running(directory, lease=f"{LEASE:.0f}s", bandwidth=BANDWIDTH, command=twistd) as cluster:
            yield cluster
