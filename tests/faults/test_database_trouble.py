"""A database that is slow, silent or full: transfers go on, callers are told, and it mends by itself."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from xmlrpc.client import Fault

import pytest

from tests.faults.cluster import UNAVAILABLE, Cluster, running
from tests.faults.work import MIB, Work
from tests.servers import postgres
from tests.servers.path import path_to
from tests.waiting import wait_until


def test_slow_and_silent(open_directory: Path) -> None:
    """A database that takes its time for each word costs nobody a lease; one that is silent costs leases only."""
    databases = postgres.shared()
    with (
        path_to(databases.server.port) as path,
        running(open_directory, lease="4s", databases=databases, path=path) as cluster,
    ):
        work = Work(cluster)
        engine = cluster.engine()
        big = work.big()
        work.midway(big, done=8 * MIB)
        path.slow(0.05)
        work.midway(big, done=20 * MIB)
        work.one(MIB, "archive")
        work.ended(work.asked[-1])
        renewed = _renewals(cluster)
        wait_until(lambda: _renewals(cluster) > renewed, "a renewal")
        assert not engine.lost()

        path.stand()
        wait_until(lambda: len(engine.lost("not be renewed in time")) == len(big), "the leases' end")
        assert not any(asked.targets[0].exists() for asked in big)
        path.slow(0)
        path.go_on()
        cluster.open_gate()
        work.tiny()
        work.check()
        for asked in big:
            assert work.events(asked, "resumed")


def _renewals(cluster: Cluster) -> float:
    """Return when the first lease ends, by the database's clock."""
    ((end,),) = cluster.sql("SELECT extract(epoch FROM min(lease_until)) FROM transfers WHERE node IS NOT NULL")
    return float(end)


@pytest.fixture
def small_server() -> Iterator[postgres.TestDatabases]:
    """A database server on a disk of its own that is soon full."""
    with postgres.running("128m") as server:
        yield postgres.TestDatabases(server)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_full(open_directory: Path, small_server: postgres.TestDatabases) -> None:
    """While its disk is full calls say so, with UNAVAILABLE, and what moves goes on; afterwards so does all else."""
    server = small_server.server
    with running(open_directory, lease="60s", databases=small_server) as cluster:
        work = Work(cluster)
        engine = cluster.engine()
        big = work.big()
        work.midway(big, done=8 * MIB)
        ballast = server.directory.parent / "ballast"
        _fill(ballast)
        _ask_until_refused(cluster)
        cluster.gate(36 * MIB)
        wait_until(lambda: sum(part.stat().st_size >= 32 * MIB for part in cluster.parts()) == len(big), "more of each")

        ballast.unlink()
        if server.process is None or server.process.poll() is not None:
            server.start()
        cluster.open_gate()
        work.tiny()
        work.check()
        assert not engine.lost()
        for asked in big:
            assert len(work.events(asked, "started")) == 1


def _fill(ballast: Path) -> None:
    """Leave nothing free on the disk that ``ballast`` is to be on."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(MIB)):
            pass


def _ask_until_refused(cluster: Cluster) -> None:
    """Ask for something that needs room in the database, until that is refused for the reason that it is."""

    def refused() -> str | None:
        try:
            cluster.mover.jobs.submit({"files": files, "label": "x" * 200})
        except Fault as fault:
            return str(fault.faultString) if fault.faultCode == UNAVAILABLE else None
        return None

    there = {"destination": "archive", "path": "is not there"}
    files = [{"source": there, "destination": "small", "path": f"{number}"} for number in range(500)]
    assert "the disk of the database is full" in wait_until(refused, "a refusal")
