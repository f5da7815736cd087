"""Connections that are cut, servers and databases that go away, disks that are full: work waits, and goes on."""

import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.work import BIG, MIB, Work, sha256
from tests.servers.nginx import Nginx
from tests.servers.service import Service
from tests.waiting import wait_until


def test_connections_cut(cluster: Cluster) -> None:
    """Transfers whose connections are cut go on from where they were, and no attempt is used up."""
    work = Work(cluster)
    cluster.engine()
    big = work.big()
    for done in (12 * MIB, 36 * MIB):
        work.midway(big, done=done)
        cluster.sshd.cut()
        cluster.web.stop()
        cluster.web.start()
    cluster.open_gate()
    work.check()

    for asked in big:
        assert work.events(asked, "resumed")
        for retrying in work.events(asked, "retrying"):
            assert retrying["error"]["code"] in ("CONNECTION_LOST", "CONNECT_FAILED")


def test_sources_changed(cluster: Cluster) -> None:
    """A file of a disk or an SFTP server that has another size or time by the next attempt is read from its start."""
    work = Work(cluster)
    cluster.gate(36 * MIB)
    cluster.engine()
    ways = (("visualiser", "archive-too"), ("archive", "visualiser-too"))
    changed = [work.between(BIG, *way) for way in ways for _ in range(2)]
    same = [work.between(BIG, *way) for way in ways]
    work.midway(work.asked)
    for asked in work.asked:
        cluster.mover.jobs.pause(asked.job)
    wait_until(lambda: not cluster.sql("SELECT id FROM transfers WHERE node IS NOT NULL"), "all at rest")
    for number, asked in enumerate(changed):
        (source,) = asked.sources
        # Its time and not its size, and the other way round.
        modified = source.stat().st_mtime + (10 if number % 2 else 0)
        source.write_bytes(os.urandom(BIG if number % 2 else BIG + 1))
        os.utime(source, (modified, modified))
    for asked in work.asked:
        cluster.mover.jobs.resume(asked.job)
    cluster.open_gate()
    work.check()

    for asked in changed:
        assert [event["from"] for event in work.events(asked, "resumed")] == [0]
    for asked in same:
        assert [event["from"] >= 36 * MIB for event in work.events(asked, "resumed")] == [True]


def test_ssh_server_away(cluster: Cluster) -> None:
    """While a destination's server is away its transfers wait, and are whole once it is back."""
    work = Work(cluster)
    cluster.engine()
    big = work.big()
    work.midway(big, done=8 * MIB)
    cluster.sshd.stop()
    cluster.open_gate()
    for asked in big[1:]:
        wait_until(partial(work.events, asked, "retrying"), "an attempt that fails")
    cluster.sshd.start()
    work.check()


def test_database_restarted(cluster: Cluster) -> None:
    """Transfers go on while the database is restarted, or drops every connection: none is begun again."""
    work = Work(cluster)
    cluster.engine(lease="60s")
    big = work.big()
    work.midway(big, done=8 * MIB)
    cluster.cut_database()
    work.midway(big, done=24 * MIB)
    cluster.database.restart()
    cluster.open_gate()
    work.tiny()
    work.check()

    for asked in big:
        assert len(work.events(asked, "started")) == 1
        assert not work.events(asked, "resumed")


def test_database_away(cluster: Cluster) -> None:
    """While the database is away calls are UNAVAILABLE and leases end; when it is back everything goes on by itself."""
    work = Work(cluster)
    engine = cluster.engine()
    big = work.big()
    work.midway(big, done=8 * MIB)

    cluster.database.kill()
    try:
        wait_until(lambda: not work.status(big[0]), "an answer that it is away")
        wait_until(lambda: len(engine.lost("not be renewed in time")) == len(big), "the leases' end")
        cluster.open_gate()
        assert not any(asked.targets[0].exists() for asked in big)
    finally:
        cluster.database.start()
    work.tiny()
    work.check()


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[Path]:
    """A disk of 24 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(cluster.small)], check=True)
    yield cluster.small
    subprocess.run(["umount", "-l", str(cluster.small)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_full_disk(cluster: Cluster, small_disk: Path) -> None:
    """A file for which there is no room waits for it, the reason told, and holds up nothing else."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(16 * MIB))
    work = Work(cluster)
    cluster.engine()
    asked = work.one(20 * MIB, "small")
    wait_until(lambda: work.status(asked).get("error", {}).get("code") == "NO_SPACE", "NO_SPACE")
    work.tiny()
    work.ended(work.asked[-1])
    assert work.status(asked)["status"] not in ("FAILED", "COMPLETED")

    ballast.unlink()
    work.check()


def test_embedded_database_killed(open_directory: Path) -> None:
    """A service whose own database is killed starts it again, and what it was moving arrives."""
    (open_directory / "web").mkdir()
    content = os.urandom(40 * MIB)
    (open_directory / "web/big").write_bytes(content)
    tables = f"""
[destinations.archive]
url = "file://{open_directory}/archive"
bandwidth = "15MB/s"
[sources]
allow = ["http://127.0.0.1:*/"]
"""
    service = Service(open_directory, tables)
    with Nginx(open_directory / "web") as web:
        service.start()
        try:
            jobs = service.proxy.jobs
            job = jobs.submit({"source": f"{web.url}/big", "destination": "archive", "path": "big"})["id"]
            wait_until(lambda: jobs.status(job)["bytes_done"] > 8 * MIB, "some of it")
            pid_file = open_directory / "data/postgresql/cluster/postmaster.pid"
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
            wait_until(lambda: (open_directory / "archive/big").exists(), "the file")
            wait_until(lambda: _is_completed(service, job), "the end of the job")
            assert sha256(open_directory / "archive/big") == sha256(open_directory / "web/big")
            assert not list((open_directory / "archive").rglob(".datamover-*"))
        finally:
            service.stop()


def _is_completed(service: Service, job: int) -> bool:
    if not service.proxy.service.status()["ready"]:
        return False
    status = service.proxy.jobs.status(job)
    assert status["status"] in ("IN_PROGRESS", "PENDING", "COMPLETED"), status
    return bool(status["status"] == "COMPLETED")
