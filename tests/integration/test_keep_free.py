"""A whole service whose destination keeps room free: what its clients are told, kills, and reloads."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import postgres
from tests.servers.nginx import Nginx
from tests.servers.service import PATIENCE, Service
from tests.waiting import wait_until

MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB, of which 20 MiB are used."""
    at = tmp_path / "disk"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={64 * MIB}", "none", at], check=True)
    (at / "filler").write_bytes(bytes(20 * MIB))
    yield at
    subprocess.run(["umount", at], check=True)


@pytest.fixture
def service(tmp_path: Path, disk: Path) -> Iterator[Service]:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/big").write_bytes(os.urandom(30 * MIB))
    (tmp_path / "store/small").write_bytes(b"small")
    service = Service(
        tmp_path,
        f"""
lease = "3s"
[database]
url = "{postgres.shared().fresh()}"
[limits]
room_interval = "500ms"
[destinations.store]
url = "file://{tmp_path}/store"
[destinations.full]
url = "file://{disk}"
keep_free = "24MiB"
""",
    )
    service.start()
    yield service
    service.stop()


class Processes(Service):
    """A service of two engine processes, each of which moves one file at a time."""

    def __init__(self, directory: Path, disk: Path, web: Nginx) -> None:
        self.web = web
        database = postgres.shared().fresh()
        self._database = database.rpartition("/")[2]
        tables = f"""
lease = "3s"
engine_processes = 2
max_active = 2
[database]
url = "{database}"
[limits]
room_interval = "200ms"
[sources]
allow = ["{web.url}/"]
[destinations.store]
url = "file://{directory}/store"
[destinations.full]
url = "file://{disk}"
keep_free = "24MiB"
"""
        super().__init__(directory, tables)

    def holders(self) -> list[int]:
        """Return the process of each transfer that is worked on."""
        query = "SELECT n.name FROM transfers t JOIN nodes n ON n.id = t.node"
        found = postgres.shared().server.run(query, database=self._database)
        return [int(name.rpartition(":")[2]) for (name,) in found]


@pytest.fixture
def processes(open_directory: Path, disk: Path) -> Iterator[Processes]:
    """Such a service, and files for it, one of them from a web server that is slow."""
    for name in ("web/slow", "store/a", "store/b"):
        (open_directory / name).parent.mkdir(exist_ok=True)
        (open_directory / name).write_bytes(os.urandom(11 * MIB))
    with Nginx(open_directory / "web", config="limit_rate 100000;") as web:
        service = Processes(open_directory, disk, web)
        service.start()
        yield service
        service.stop()


def copy(mover: Any, name: str) -> int:
    request = {"source": {"destination": "store", "path": name}, "destination": "full", "path": name}
    job: int = mover.jobs.submit(request)["id"]
    return job


def test_of_a_service(service: Service, disk: Path) -> None:
    """What would not fit waits and says so, over a kill; a reload that keeps less free lets it go on."""
    mover = service.proxy
    request = {"source": {"destination": "store", "path": "big"}, "destination": "full", "path": "big"}
    [checked] = mover.jobs.check(request)["files"]
    assert checked["problems"] == [
        f"destination 'full': the file's {30 * MIB} bytes have to wait for room: {44 * MIB} are free, and keep_free is "
        f"{24 * MIB}"
    ]
    job = copy(mover, "big")
    wait_until(lambda: "room for" in mover.jobs.status(job).get("waiting_for", ""))
    told = f"destination full: room for {30 * MIB} bytes: {44 * MIB} are free, keep_free is {24 * MIB}"
    assert mover.jobs.status(job)["waiting_for"] == told
    described = mover.destinations.describe("full")
    assert (described["keep_free"], described["free"]) == (24.0 * MIB, 44.0 * MIB)
    assert (described["active"], described["queued"]) == (0, 1)
    tested = mover.destinations.test("full")
    assert (tested["keep_free"], tested["free"]) == (24.0 * MIB, 44.0 * MIB)
    assert "keep_free" not in mover.destinations.describe("store")

    service.kill()
    service.start()
    mover = service.proxy
    wait_until(lambda: mover.jobs.status(job)["waiting_for"] == told)
    assert service.ended(copy(mover, "small"))["status"] == "COMPLETED"

    service.config.write_text(service.config.read_text().replace('"24MiB"', '"8MiB"'))
    assert mover.service.reload()["changed"] == ["destinations.full"]
    status = service.ended(job)
    assert (status["status"], status["attempt"]) == ("COMPLETED", 1)
    assert (disk / "big").stat().st_size == 30 * MIB


def test_of_two_processes(processes: Processes, disk: Path) -> None:
    """What one process has reserved is no room to the other, until it is killed and its lease has run out."""
    mover = processes.proxy
    request = {"source": f"{processes.web.url}/slow", "destination": "full", "path": "slow"}
    slow = mover.jobs.submit(request)["id"]
    wait_until(lambda: mover.jobs.status(slow)["bytes_done"])
    [holder] = processes.holders()
    waiting = {name: copy(mover, name) for name in "ab"}
    for job in waiting.values():  # The process that moves the first file takes no other: the second one has asked.
        wait_until(lambda job=job: "transfers under way need" in mover.jobs.status(job).get("waiting_for", ""))  # type: ignore[misc]

    os.kill(holder, signal.SIGKILL)
    mover.jobs.cancel(slow)

    left = dict(waiting)
    deadline = time.monotonic() + PATIENCE
    while left:
        assert time.monotonic() < deadline, [mover.jobs.status(job) for job in left.values()]
        status = os.statvfs(disk)
        assert status.f_bavail * status.f_frsize >= 24 * MIB
        for name in [name for name, job in left.items() if mover.jobs.status(job)["status"] == "COMPLETED"]:
            (disk / name).unlink()
            del left[name]
    assert mover.jobs.status(slow)["status"] == "CANCELLED"
    wait_until(lambda: os.listdir(disk) == ["filler"])
